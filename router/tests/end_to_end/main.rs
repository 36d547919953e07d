//! The program against real memcached servers and real clients, over real sockets.
//!
//! Needs what `.ci/install` installs: memcached, nutcracker, libmemcached's tools, Python with pymemcache. Every test starts
//! its own servers and its own `keyway`, on free ports, and ends them by their ids.
//!
//! Rules: no fixed sleeps and no fixed ports; whatever is waited for is asked for again until it is so or a deadline far
//! beyond the normal has passed; what a test sends is compared with what memcached itself answers where that can be asked.

mod admin;
mod async_log;
mod clients;
mod examples;
mod failures;
mod gomcrouter;
mod health;
mod hostile;
mod lifecycle;
mod limits;
mod metrics;
mod nutcracker;
mod pipelines;
mod placement;
mod reload;
mod routes;
mod sharded;
mod support;
mod values;
