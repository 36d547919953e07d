//! All shards' counters added up.

use super::{Histogram, ServerMetrics, ShardMetrics};
use keyway_io_engine::EngineCounters;

/// The sum over the shards, and what is shown for each of them.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// Counters and gauges added up. Its `engine` is empty: those are shown by shard.
    pub total: Box<ShardMetrics>,
    /// One per shard, in their order.
    pub shards: Vec<ShardFold>,
}

impl Folded {
    /// What was counted for a server under all its keys.
    pub fn server(&self, keys: &[usize]) -> ServerMetrics {
        let mut sum = ServerMetrics::default();
        for metrics in keys.iter().filter_map(|key| self.total.servers.get(*key)) {
            sum.merge(metrics);
        }
        sum
    }
}

/// What is shown for each shard.
#[derive(Clone, Debug, Default)]
pub struct ShardFold {
    /// Turn times.
    pub turns: Histogram,
    /// Requests taken in over all turns.
    pub turn_requests: u64,
    /// Connected clients.
    pub clients: u64,
    /// The engine's counters.
    pub engine: EngineCounters,
}

/// Adds up the shards' counters, given in the order of the shards.
pub fn fold<'a>(shards: impl IntoIterator<Item = &'a ShardMetrics>) -> Folded {
    let mut folded = Folded::default();
    for shard in shards {
        folded.total.merge(shard);
        folded.shards.push(ShardFold {
            turns: shard.turns.clone(),
            turn_requests: shard.turn_requests,
            clients: shard.clients,
            engine: shard.engine,
        });
    }
    folded
}
