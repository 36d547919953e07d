//! Metrics: what shards count, how it is added up, and how it is shown to Prometheus and to memcached's `stats`.
//!
//! Each shard owns a `ShardMetrics` and copies it out when the control plane asks. Everything else here runs on the
//! control plane only: `fold` adds the copies up, `render` writes the exposition text, `StatsSummary` is what shards
//! are handed to answer `stats` from. `list` is the one list of all metrics; docs and tests follow it.

mod fold;
mod histogram;
mod list;
mod render;
mod servers;
mod shard;
mod stats;

pub use fold::{Folded, ShardFold, fold};
pub use histogram::{BUCKETS, Histogram, octave_bounds_ns};
pub use list::{METRICS, Metric, MetricKind};
pub use render::{AsyncLogFacts, PoolFacts, ProcessFacts, ServerFacts, render};
pub use servers::{Latencies, SERVERS_LISTED, ServerLists};
pub use shard::{CloseReason, CommandMetrics, ServerMetrics, ShardMetrics};
pub use stats::{StatsSummary, VERSION_LINE, write_stats};
