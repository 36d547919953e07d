//! What the control plane and the shards tell each other. Nothing else crosses cores.

use crate::metrics::{ShardMetrics, StatsSummary};
use crate::table::{ServerKey, Standing, Table};
use crate::trouble::{Suspicion, Trouble};
use keyway_io_engine::Address;
use keyway_policies::ServerId;
use std::sync::Arc;
use std::time::Duration;

/// From the control plane to a shard's mailbox.
#[derive(Clone, Debug)]
pub enum ToShard {
    /// Route by this table from the end of this turn on.
    Table(Arc<Table>),
    /// A server's health and resolved address changed (or a shard's suspicion was looked into: always answered).
    Server {
        /// Which.
        key: ServerKey,
        /// True when it takes requests.
        up: bool,
        /// What took it out, when it is down.
        why: Option<Trouble>,
        /// Where it is; `None` until its name is resolved.
        address: Option<Address>,
    },
    /// What became of servers in their pools. What isn't named stays as it was; all of a new table are as `Standing::default`.
    Standings {
        /// `Table::generation` of the table that the ids belong to.
        generation: u64,
        /// Each server that changed.
        changes: Arc<[(ServerId, Standing)]>,
    },
    /// Send a copy of the counters up.
    Snapshot,
    /// All shards' counters added up, once a second: what `stats` is answered from.
    Stats(Arc<StatsSummary>),
    /// Stop accepting, answer what was read, close; report `Drained`, at the latest after this time.
    Drain(Duration),
    /// What became of requests given to the async log. Each ticket is answered once, unless this mailbox is full.
    Spooled {
        /// The tickets of `SpoolRequest`s. True when the entry is durable, as far as `async_log.sync` asks for it; false
        /// when it was not kept: the log is off, full or broken, or knows no such server.
        tickets: Vec<(u64, bool)>,
    },
}

/// From a shard to the control plane's mailbox.
#[derive(Debug)]
pub enum FromShard {
    /// A server failed too often here; the shard treats it as down until told otherwise.
    Suspect {
        /// Which shard says so.
        shard: usize,
        /// Which server.
        key: ServerKey,
        /// By which rule.
        suspicion: Suspicion,
    },
    /// A copy of the counters.
    Snapshot {
        /// Which shard.
        shard: usize,
        /// The counters.
        metrics: Box<ShardMetrics>,
    },
    /// All clients are gone, or the time is up; the shard ends.
    Drained {
        /// Which shard.
        shard: usize,
        /// Clients that were cut because the time was up.
        cut: usize,
    },
    /// An invalidation that its server could not be given: to be kept, and sent once the server is back.
    Spool(Box<SpoolRequest>),
}

/// One entry for the async log. The answer is in `ToShard::Spooled`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolRequest {
    /// The shard that asks, and is to be answered.
    pub shard: usize,
    /// Comes back with the answer; means nothing here.
    pub ticket: u64,
    /// The server that did not get it.
    pub server: ServerKey,
    /// The log's name, which goes into the file: mcrouter's `asynclog_name`, by default the pool's name.
    pub name: String,
    /// The whole command as text, `\r\n` included: `delete key\r\n`.
    pub frame: Vec<u8>,
}
