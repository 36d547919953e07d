//! What the command line says instead of the file. Applied while the file is read, so that one place knows the result.

use super::address::ListenAddress;

/// Values of the command line; `None` leaves the file's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `-l`: the only listener, for the only route or `main`.
    pub listen: Option<ListenAddress>,
    /// `-L`: the metrics port.
    pub metrics: Option<ListenAddress>,
    /// `-n`: shards.
    pub shards: Option<u64>,
    /// `-C`: every pool's connections.
    pub connections: Option<u64>,
    /// `-r`: every pool's timeout; its deadline becomes twice that.
    pub timeout_ms: Option<u64>,
    /// `-b`: bytes queued per connection.
    pub queued_bytes: Option<u64>,
    /// `-H`: time between health checks.
    pub health_interval_ms: Option<u64>,
    /// `-t`: how long a resolved name is used.
    pub dns_ttl_ms: Option<u64>,
    /// `--config-params`: parameters for the macros of an mcrouter file, by name.
    pub config_params: Vec<(String, String)>,
}
