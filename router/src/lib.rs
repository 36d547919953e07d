//! Keyway, a thread-per-core router for memcached.

pub mod cli;
pub mod config;
pub mod control;
pub mod explain;
pub mod messages;
pub mod metrics;
pub mod table;
pub mod shard;
