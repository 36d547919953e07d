//! keyway-bench
mod keys;
mod load;
mod pacing;
mod replies;
mod stats;
mod values;
fn main() {}
