//! Keyway, a thread-per-core router for memcached: everything but `main`.
//!
//! `shard` carries requests, `control` looks after everything else, `config` says what both do, `run` puts them
//! together. See `docs/architecture.md`.

pub mod admin;
pub mod async_log;
pub mod cli;
pub mod config;
pub mod control;
pub mod embedded;
pub mod explain;
pub mod import;
pub mod messages;
pub mod metrics;
pub mod moved_keys;
pub mod run;
pub mod shard;
pub mod table;
pub mod trouble;
