//! Each route once, against real servers.

mod failover;
mod fan_out;
mod selectors;
