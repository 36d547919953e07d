//! The bound on memory that follows from a configuration, as a formula and in numbers.
//!
//! A worst case: every client uses every limit at the same moment. It shows which limit to lower; what a process really
//! takes is what its clients really do.

use super::{Config, ServerAddress};
use crate::shard::UNCHARGED_BYTES;
use std::collections::BTreeSet;
use std::fmt;

/// A request's own entry with its plan and what it may keep uncounted, in bytes: `size_of` the shard's entry is a third of
/// it, the rest is for what its small vectors hold.
const REQUEST_BYTES: u64 = 1 << 10;
/// What a shard takes whoever is connected: the ring, its two buffer groups, spare send buffers, its executor.
const SHARD_BYTES: u64 = 64 << 20;
/// An entry in a connection's FIFO, in bytes.
const IN_FLIGHT_BYTES: u64 = 64;

/// The bound and its parts, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBound {
    /// How many shards it is for.
    pub shards: u64,
    /// Most clients of a shard.
    pub clients: u64,
    /// For one client, beside the common budget.
    pub client_bytes: u64,
    /// For all clients of a shard together: `limits.buffered_bytes`.
    pub buffered_bytes: u64,
    /// Connections to servers of a shard.
    pub connections: u64,
    /// For one of them.
    pub connection_bytes: u64,
    /// For all embedded servers.
    pub embedded_bytes: u64,
}

impl Config {
    /// The bound for that many shards.
    pub fn memory_bound(&self, shards: usize) -> MemoryBound {
        let limits = &self.limits;
        let size = |bytes: usize| bytes as u64;
        let value = size(limits.value_bytes);
        // What a client may hold before the shard's common budget counts: nobody is cut for so little.
        let client = size(UNCHARGED_BYTES) + size(limits.requests_per_client) * REQUEST_BYTES;
        // One request may be larger than the queue's limit when the queue is empty; as much again may be on its way out.
        let queued = 2 * size(limits.queued_bytes_per_connection).max(value);
        let fifo = size(limits.requests_per_connection) * IN_FLIGHT_BYTES;
        let identities = self.identities();
        let embedded: BTreeSet<&str> = identities
            .iter()
            .filter_map(|identity| match &identity.address {
                ServerAddress::Embedded(name) => Some(name.as_str()),
                ServerAddress::Ip(_) | ServerAddress::Name(..) | ServerAddress::Unix(_) => None,
            })
            .collect();
        MemoryBound {
            shards: shards as u64,
            clients: size(limits.clients_per_shard),
            client_bytes: client,
            buffered_bytes: size(limits.buffered_bytes),
            connections: identities.iter().map(|identity| u64::from(identity.connection.connections)).sum(),
            connection_bytes: queued + value + fifo,
            embedded_bytes: (embedded.len() as u64).saturating_mul(self.embedded_memory_bytes),
        }
    }
}

impl MemoryBound {
    /// The whole.
    pub fn bytes(&self) -> u64 {
        let shard = self
            .clients
            .saturating_mul(self.client_bytes)
            .saturating_add(self.buffered_bytes)
            .saturating_add(SHARD_BYTES)
            .saturating_add(self.connections.saturating_mul(self.connection_bytes));
        self.shards.saturating_mul(shard).saturating_add(self.embedded_bytes)
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} shards x ({} + {} clients x {} + {} buffered + {} server connections x {}) + {} embedded = {} at most",
            self.shards,
            in_words(SHARD_BYTES),
            self.clients,
            in_words(self.client_bytes),
            in_words(self.buffered_bytes),
            self.connections,
            in_words(self.connection_bytes),
            in_words(self.embedded_bytes),
            in_words(self.bytes()),
        )
    }
}

/// Three digits and a unit.
fn in_words(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            return if unit == "B" || amount >= 100.0 {
                format!("{amount:.0} {unit}")
            } else {
                format!("{amount:.1} {unit}")
            };
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} PiB")
}
