//! Keyway, a thread-per-core router for memcached.

pub mod messages;
pub mod metrics;
pub mod table;
pub mod shard;
