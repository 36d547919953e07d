//! Each route once, against real servers, and what routes promise about values.

mod failover;
mod fan_out;
mod selectors;
mod values;
