//! The immutable table a shard routes by: servers, pools and route trees of one configuration.
//!
//! Built by `config`, published by the control plane as an `Arc`, never changed. Requests in flight finish on the table
//! they started with.

use crate::config::About;
use crate::trouble::DownRules;
use keyway_policies::Routes;
use std::sync::Arc;
use std::time::Duration;

/// Names a server for the life of the process: the same address in the same kind of pool keeps its key across reloads,
/// so that its connections, health and counters survive. Dense; given out by the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerKey(pub u32);

/// One server of one pool.
#[derive(Clone, Debug)]
pub struct TableServer {
    /// Its process-wide key.
    pub key: ServerKey,
    /// The configured address, as metrics and logs show it.
    pub host: String,
    /// Index into `Table::pools`.
    pub pool: usize,
}

/// What a pool says about its servers' connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePool {
    /// The configured name.
    pub name: String,
    /// Connections per server and shard: 1 to 64.
    pub connections: u16,
    /// Longest time to make a connection.
    pub connect_timeout: Duration,
    /// Longest time for one try, from being queued to its reply.
    pub timeout: Duration,
    /// Longest time for a request with all its tries.
    pub deadline: Duration,
    /// How many failures take one of its servers out.
    pub down: DownRules,
}

/// What the control plane says of a server in one pool, beside whether it is healthy: a server has one health and may stand
/// differently in each of its pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The share of its keys that it gets while it is healthy, in 255ths.
    pub share: u8,
    /// What becomes of its keys while it isn't.
    pub when_down: WhenDown,
}

/// What a pool does with a server that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenDown {
    /// Its keys go by the pool's `on_down`.
    LeftOut,
    /// It is asked all the same: too many others of the pool are down.
    Asked,
    /// Its keys fail: so many others were ejected that the rest of the pool can't take these too.
    Fails,
}

impl Standing {
    /// All of a server's keys, in 255ths.
    pub const ALL: u8 = 255;

    /// The share of its keys that routes send to it now.
    pub fn share_now(self, healthy: bool) -> u8 {
        match (healthy, self.when_down) {
            (true, _) => self.share,
            (false, WhenDown::LeftOut) => 0,
            (false, WhenDown::Asked | WhenDown::Fails) => Standing::ALL,
        }
    }

    /// True when a request that routes sent to it is to be queued, and not to fail.
    pub fn is_asked(self, healthy: bool) -> bool {
        match self.when_down {
            WhenDown::LeftOut | WhenDown::Fails => healthy,
            WhenDown::Asked => true,
        }
    }
}

impl Default for Standing {
    fn default() -> Standing {
        Standing { share: Standing::ALL, when_down: WhenDown::LeftOut }
    }
}

/// A named route tree.
#[derive(Debug)]
pub struct TableRoute {
    /// The configured name.
    pub name: String,
    /// The tree; its `ServerId`s index `Table::servers`.
    pub routes: Routes,
}

/// Limits on what clients may hold, from the configuration's `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLimits {
    /// Most clients on one shard.
    pub clients_per_shard: usize,
    /// Close a client that sent nothing for this long; zero is never.
    pub client_idle: Duration,
    /// Largest value, in bytes.
    pub value_bytes: usize,
    /// Longest get or gets line, in bytes.
    pub retrieval_line_bytes: usize,
    /// Most keys of one get.
    pub keys_per_get: usize,
    /// Most bytes a shard holds for all clients together: input not whole yet, replies not taken yet, requests kept for a
    /// second try. Beyond it, clients that hold much are cut, and large requests are not kept.
    pub buffered_bytes: usize,
    /// Most requests of one client that wait for an answer; beyond that it isn't read, until half are answered.
    pub requests_per_client: usize,
    /// Most reply bytes held for one client; beyond that it isn't read, until half are sent.
    pub reply_bytes_per_client: usize,
    /// Most request bytes queued on one upstream connection; beyond that requests fail with `queue_full`.
    pub queued_bytes_per_connection: usize,
    /// Most requests in flight on one upstream connection; beyond that requests fail with `queue_full`.
    pub requests_per_connection: usize,
    /// Largest request kept for a second try, in bytes.
    pub max_replay_bytes: usize,
    /// Replies in a row that may fail to come before an upstream connection is closed.
    pub timeouts_per_connection: u32,
}

/// Everything a shard needs to route.
#[derive(Debug)]
pub struct Table {
    /// Counts reloads, from 1.
    pub generation: u64,
    /// What the trees' `ServerId`s index.
    pub servers: Vec<TableServer>,
    /// The pools.
    pub pools: Vec<TablePool>,
    /// The route trees.
    pub routes: Vec<TableRoute>,
    /// The tree of each listener, in the engine's order, as an index into `routes`.
    pub listener_routes: Vec<usize>,
    /// Names this router among others, the same on all shards: what is sticky to the host goes by it.
    pub host_id: u64,
    /// Limits.
    pub limits: TableLimits,
    /// Whether `get __mcrouter__.<command>` is answered here.
    pub admin_keys: bool,
    /// The configuration it was made of, as people are told.
    pub about: Arc<About>,
}
