//! What one shard counts: plain integers in fixed arrays, written by that shard alone and copied out on request.
//!
//! Owns: the counters and how they add up. Must never lock, hash, allocate or read a clock when recording: these calls
//! are on every request's path. The one growing part, the servers, grows in `ensure_servers` when a table arrives.
//!
//! Memory per shard: `size_of::<ShardMetrics>()` (about 32 KiB: 19 commands and the turns with a histogram of
//! 1.4 KiB each) plus `size_of::<ServerMetrics>()` (about 1.8 KiB) per server key; a snapshot is one copy of that.

use super::Histogram;
use keyway_io_engine::EngineCounters;
use keyway_policies::{Failure, LocalReply, RouteEvents};
use keyway_protocol::memcached::text::{ReplyKind, RequestError};
use keyway_protocol::{Operation, OperationClass};

/// Why a client's connection ended. The name in snake_case is the metric label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// In order: it closed its side or said quit, or was told what it did wrong, and has all its answers.
    Done,
    /// The connection broke.
    Lost,
    /// It took its replies too slowly.
    TooSlow,
    /// It sent nothing for `client_idle_ms`.
    Idle,
    /// The router is being stopped.
    Drained,
}

impl CloseReason {
    /// How many there are; `reason as usize` is below it.
    pub const COUNT: usize = 5;
    /// All of them, in the order of the discriminant.
    pub const ALL: [CloseReason; CloseReason::COUNT] =
        [CloseReason::Done, CloseReason::Lost, CloseReason::TooSlow, CloseReason::Idle, CloseReason::Drained];

    /// The metric label.
    pub const fn name(self) -> &'static str {
        match self {
            CloseReason::Done => "done",
            CloseReason::Lost => "lost",
            CloseReason::TooSlow => "too_slow",
            CloseReason::Idle => "idle",
            CloseReason::Drained => "drained",
        }
    }
}

/// The requests of one operation.
#[derive(Clone, Debug, Default)]
pub struct CommandMetrics {
    /// Answered requests and the time from their arrival to their answer.
    pub latency: Histogram,
    /// What the answers said, by `ReplyKind as usize`.
    pub replies: [u64; ReplyKind::COUNT],
}

/// One server, as this shard saw it.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics {
    /// Replies by operation.
    pub requests: [u64; Operation::COUNT],
    /// Time from being queued to the reply.
    pub latency: Histogram,
    /// get-like replies with a value.
    pub hits: u64,
    /// get-like replies without one.
    pub misses: u64,
    /// What the replies said, by `ReplyKind as usize`.
    pub replies: [u64; ReplyKind::COUNT],
    /// Tries that brought no reply, by `Failure as usize`.
    pub failures: [u64; Failure::COUNT],
    /// Connections made.
    pub connects: u64,
    /// Connections lost or closed.
    pub disconnects: u64,
    /// Requests queued for it and not sent; set when a snapshot is taken.
    pub pending: u64,
    /// Requests sent to it and not answered; set when a snapshot is taken.
    pub in_flight: u64,
    /// Failures since it replied last; set when a snapshot is taken.
    pub failures_in_row: u64,
}

/// Everything one shard counts.
#[derive(Clone, Debug, Default)]
pub struct ShardMetrics {
    /// By `Operation as usize`.
    pub commands: [CommandMetrics; Operation::COUNT],
    /// By `ServerKey.0`.
    pub servers: Vec<ServerMetrics>,
    /// Refused requests, by `RequestError as usize`.
    pub protocol_errors: [u64; RequestError::COUNT],
    /// Requests answered with an error the router made because every try failed, by `Failure as usize`.
    pub failed: [u64; Failure::COUNT],
    /// Requests answered with an error because no server was up.
    pub no_healthy_server: u64,
    /// Requests answered with an error because their route has no servers and can't answer them itself.
    pub not_local: u64,
    /// Times a request went on to another server.
    pub failovers: u64,
    /// What routes did that no reply tells, by `RouteEvent as usize`.
    pub route_events: RouteEvents,
    /// Clients let in.
    pub clients_accepted: u64,
    /// Clients turned away at the limit.
    pub clients_refused: u64,
    /// Clients gone, by `CloseReason as usize`.
    pub clients_closed: [u64; CloseReason::COUNT],
    /// Bytes received from clients.
    pub client_bytes_in: u64,
    /// Bytes sent to clients.
    pub client_bytes_out: u64,
    /// Bytes received from servers.
    pub upstream_bytes_in: u64,
    /// Bytes sent to servers.
    pub upstream_bytes_out: u64,
    /// How long turns took, without the waiting.
    pub turns: Histogram,
    /// Requests taken in over all turns.
    pub turn_requests: u64,
    /// The engine's own counters; set when a snapshot is taken.
    pub engine: EngineCounters,
    /// Connected clients; set when a snapshot is taken.
    pub clients: u64,
    /// Requests on their way upstream; set when a snapshot is taken.
    pub in_flight: u64,
    /// Reply slots held; set when a snapshot is taken.
    pub slots: u64,
}

impl ShardMetrics {
    /// All zero, with room for `servers` server keys.
    pub fn new(servers: usize) -> ShardMetrics {
        let mut metrics = ShardMetrics::default();
        metrics.ensure_servers(servers);
        metrics
    }

    /// Makes room for server keys below `servers`. Allocates: call it when a table arrives, not per request.
    pub fn ensure_servers(&mut self, servers: usize) {
        if servers > self.servers.len() {
            self.servers.resize_with(servers, ServerMetrics::default);
        }
    }

    /// A client's request was answered, `latency_ns` after it had arrived whole.
    #[inline]
    pub fn request(&mut self, operation: Operation, latency_ns: u64) {
        self.commands[operation as usize].latency.record(latency_ns);
    }

    /// What a client was answered; of a retrieval call it once, with `Value` when at least one item was found. Feeds
    /// the hits and misses of `stats`, which upstream replies can't: one request may ask several servers.
    #[inline]
    pub fn answered(&mut self, operation: Operation, kind: ReplyKind) {
        self.commands[operation as usize].replies[kind as usize] += 1;
    }

    /// A client was answered by the router itself.
    #[inline]
    pub fn answered_locally(&mut self, reply: LocalReply) {
        match reply {
            LocalReply::Router | LocalReply::Null | LocalReply::Said(_) | LocalReply::BadKey => {}
            LocalReply::NotLocal => self.not_local += 1,
            LocalReply::NoHealthyServer => self.no_healthy_server += 1,
            LocalReply::Failed(failure) => self.failed[failure as usize] += 1,
        }
    }

    /// A request was refused for what it says.
    #[inline]
    pub fn protocol_error(&mut self, error: RequestError) {
        self.protocol_errors[error as usize] += 1;
    }

    /// A server replied, `latency_ns` after the request had been queued for it. `server` is `ServerKey.0`.
    #[inline]
    pub fn upstream_reply(&mut self, server: usize, operation: Operation, kind: ReplyKind, latency_ns: u64) {
        debug_assert!(server < self.servers.len(), "ensure_servers comes before a table is used");
        let Some(metrics) = self.servers.get_mut(server) else { return };
        metrics.requests[operation as usize] += 1;
        metrics.latency.record(latency_ns);
        metrics.replies[kind as usize] += 1;
        if operation.class() == OperationClass::GetLike {
            metrics.hits += u64::from(kind == ReplyKind::Value);
            metrics.misses += u64::from(kind == ReplyKind::End);
        }
    }

    /// A try brought no reply. `server` is `ServerKey.0`.
    #[inline]
    pub fn upstream_failure(&mut self, server: usize, failure: Failure) {
        if let Some(metrics) = self.servers.get_mut(server) {
            metrics.failures[failure as usize] += 1;
        }
    }

    /// A connection to a server was made. `server` is `ServerKey.0`.
    pub fn upstream_connected(&mut self, server: usize) {
        if let Some(metrics) = self.servers.get_mut(server) {
            metrics.connects += 1;
        }
    }

    /// A connection that was made is gone. `server` is `ServerKey.0`.
    pub fn upstream_disconnected(&mut self, server: usize) {
        if let Some(metrics) = self.servers.get_mut(server) {
            metrics.disconnects += 1;
        }
    }

    /// Bytes came from a server.
    #[inline]
    pub fn upstream_bytes_in(&mut self, bytes: usize) {
        self.upstream_bytes_in += bytes as u64;
    }

    /// Bytes went to a server.
    #[inline]
    pub fn upstream_bytes_out(&mut self, bytes: usize) {
        self.upstream_bytes_out += bytes as u64;
    }

    /// What routes counted since they told it last.
    pub fn route_events(&mut self, events: &RouteEvents) {
        add(&mut self.route_events, events);
    }

    /// A request went on to another server.
    #[inline]
    pub fn failover(&mut self) {
        self.failovers += 1;
    }

    /// A client was let in.
    #[inline]
    pub fn client_accepted(&mut self) {
        self.clients_accepted += 1;
    }

    /// A client was turned away at the limit.
    #[inline]
    pub fn client_refused(&mut self) {
        self.clients_refused += 1;
    }

    /// A client is gone.
    #[inline]
    pub fn client_closed(&mut self, why: CloseReason) {
        self.clients_closed[why as usize] += 1;
    }

    /// Bytes came from a client.
    #[inline]
    pub fn client_bytes_in(&mut self, bytes: usize) {
        self.client_bytes_in += bytes as u64;
    }

    /// Bytes went to a client.
    #[inline]
    pub fn client_bytes_out(&mut self, bytes: usize) {
        self.client_bytes_out += bytes as u64;
    }

    /// A turn is over: how long it worked and how many requests it took in.
    #[inline]
    pub fn turn(&mut self, duration_ns: u64, requests: usize) {
        self.turns.record(duration_ns);
        self.turn_requests += requests as u64;
    }

    /// Adds another shard's counters and gauges.
    pub fn merge(&mut self, other: &ShardMetrics) {
        self.ensure_servers(other.servers.len());
        for (mine, theirs) in self.commands.iter_mut().zip(&other.commands) {
            mine.latency.merge(&theirs.latency);
            add(&mut mine.replies, &theirs.replies);
        }
        for (mine, theirs) in self.servers.iter_mut().zip(&other.servers) {
            mine.merge(theirs);
        }
        add(&mut self.protocol_errors, &other.protocol_errors);
        add(&mut self.failed, &other.failed);
        add(&mut self.clients_closed, &other.clients_closed);
        add(&mut self.route_events, &other.route_events);
        self.no_healthy_server += other.no_healthy_server;
        self.not_local += other.not_local;
        self.failovers += other.failovers;
        self.clients_accepted += other.clients_accepted;
        self.clients_refused += other.clients_refused;
        self.client_bytes_in += other.client_bytes_in;
        self.client_bytes_out += other.client_bytes_out;
        self.upstream_bytes_in += other.upstream_bytes_in;
        self.upstream_bytes_out += other.upstream_bytes_out;
        self.turns.merge(&other.turns);
        self.turn_requests += other.turn_requests;
        self.clients += other.clients;
        self.in_flight += other.in_flight;
        self.slots += other.slots;
    }
}

impl ServerMetrics {
    /// Open connections.
    pub fn connections(&self) -> u64 {
        self.connects.saturating_sub(self.disconnects)
    }

    pub(super) fn merge(&mut self, other: &ServerMetrics) {
        add(&mut self.requests, &other.requests);
        add(&mut self.replies, &other.replies);
        add(&mut self.failures, &other.failures);
        self.latency.merge(&other.latency);
        self.hits += other.hits;
        self.misses += other.misses;
        self.connects += other.connects;
        self.disconnects += other.disconnects;
        self.pending += other.pending;
        self.in_flight += other.in_flight;
        self.failures_in_row += other.failures_in_row;
    }
}

fn add<const N: usize>(mine: &mut [u64; N], theirs: &[u64; N]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        *mine += theirs;
    }
}
