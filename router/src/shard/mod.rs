//! One shard: a pinned thread's whole state. Nothing in it is shared or locked, and it never reads a clock or a socket:
//! it is told events by an engine and asks the engine for sends, which is also how the simulator drives it.
//!
//! ```text
//!  accept ──► received ──► parse ──► route ──► enqueue ──► flush        clients.rs, path.rs, servers.rs
//!                                                            │
//!  flush ◄── deliver in order ◄── join ◄── match to FIFO ◄── received   clients.rs, replies.rs, servers.rs
//! ```
//!
//! `path.rs` is the way of a request, top to bottom, `replies.rs` the way back. `clients.rs` owns sessions, `servers.rs` connections upstream,
//! `control.rs` what the control plane says.
//!
//! Invariants: a reply goes only to the request at the head of the FIFO it arrived on; replies leave a session in request
//! order; every list and buffer is bounded by `TableLimits`; after warm-up a request allocates nothing.

mod admin;
mod buffers;
mod clients;
mod control;
mod input;
mod inspect;
mod path;
mod record;
mod replies;
mod request;
mod servers;
mod session;
mod slab;
mod upstream;

use crate::messages::{FromShard, ToShard};
use crate::metrics::{ShardMetrics, StatsSummary};
use crate::table::{Standing, Table, TableLimits};
use buffers::Buffers;
pub use inspect::Inspection;
use keyway_io_engine::mailbox::{Receiver, Sender};
use keyway_io_engine::{Conn, ConnectError, Ended, Handler, Io, ListenerId, Nanos, Wait};
use keyway_policies::{Action, RouteStates, TryId};
use request::{Request, RequestId};
use session::{Session, SessionId};
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use upstream::{Connection, InFlight, Server};

/// Requests of one client handled in one turn; the rest waits for the next, so that no pipeline starves the others.
const REQUESTS_PER_TURN: usize = 512;
/// What a client may hold, in input and replies, without being cut when the shard's budget (`buffered_bytes`) is used up.
pub const UNCHARGED_BYTES: usize = 64 * 1024;
/// Input of one client held back before its connection is no longer read, in bytes.
const HELD_BACK_BYTES: usize = 64 * 1024;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Nobody's (any more).
    None,
    Client(SessionId),
    /// Index into `Shard::connections`.
    Upstream(usize),
}

/// A table in use: the current one, or an older one with requests still on it.
struct TableState {
    table: Arc<Table>,
    /// What the control plane says of each server in its pool, by `ServerId`.
    standings: Vec<Standing>,
    /// Which servers take requests, by `ServerId`.
    health: Vec<u8>,
    /// What the nodes of each tree remember.
    route_states: Vec<RouteStates>,
    /// Requests routed by it that are not answered.
    live: usize,
    /// When it came.
    adopted_at: Nanos,
}

/// One shard's core.
pub struct Shard {
    number: usize,
    now: Nanos,
    tables: Vec<Option<TableState>>,
    current: usize,
    limits: TableLimits,
    /// Keys that begin with `admin::PREFIX` are the router's.
    admin_keys: bool,
    /// Answers made about the router itself in this turn.
    admin_answers: usize,

    sessions: Slab<Session>,
    sessions_made: u32,
    requests: Slab<Request>,
    /// By `ServerKey`.
    servers: Vec<Option<Server>>,
    connections: Vec<Connection>,
    /// Connections of servers that are gone, to be used again.
    free_connections: Vec<Range<usize>>,
    servers_may_be_unused: bool,
    /// By `Conn::index`, with the generation it was given to: what is told of an earlier one goes to nobody.
    roles: Vec<(u32, Role)>,
    buffers: Buffers,
    /// Bytes held for all clients, as charged last: input, replies, and large requests kept for a second try.
    buffered_bytes: usize,

    dirty_sessions: Vec<SessionId>,
    dirty_connections: Vec<usize>,
    /// Sessions with input to go on with in the next turn.
    ready: Vec<SessionId>,
    /// What the plan at hand asked for; empty between requests.
    actions: Vec<Action>,
    scratch: Vec<u8>,
    /// Of the connections that the request at hand was queued on, what the fullest holds.
    queued_bytes: usize,
    /// The entries of the connection lost at hand; empty between losses.
    lost: Vec<InFlight>,

    /// Tries without a reply, upstream of this shard.
    in_flight: usize,
    /// Replies that came after their try was given up.
    late_replies: u64,
    /// Reads asked once more.
    repeats: u64,
    /// No connection needs attention before this time.
    next_deadline: Nanos,
    /// Requests whose deadline comes before their current try times out, as `RequestId::to_bits`.
    late: BinaryHeap<Reverse<(Nanos, u64)>>,
    next_idle_sweep: Nanos,
    /// Frames of plans to be woken: when, the request as `RequestId::to_bits`, the frame.
    wakes: BinaryHeap<Reverse<(Nanos, u64, u16)>>,
    /// Requests that wait for the async log, by ticket.
    spooling: VecDeque<(u64, RequestId, TryId)>,
    next_ticket: u64,
    /// Milliseconds since 1970 when the engine's clock was 0.
    unix_ms_at_zero: u64,

    metrics: ShardMetrics,
    stats: Option<Arc<StatsSummary>>,
    inbox: Receiver<ToShard>,
    outbox: Sender<FromShard>,
    random: u64,
    /// Set while draining: when it must be over.
    draining: Option<Nanos>,
    finished: bool,
    doorbells: u64,
    /// Requests taken in since the last turn was counted.
    turn_requests: usize,
}

impl Shard {
    /// A shard that routes by `table`. `seed` feeds the jitter of its reconnects.
    pub fn new(
        number: usize,
        table: Arc<Table>,
        inbox: Receiver<ToShard>,
        outbox: Sender<FromShard>,
        seed: u64,
    ) -> Shard {
        let limits = table.limits;
        let mut shard = Shard {
            number,
            now: 0,
            tables: Vec::new(),
            current: 0,
            limits,
            admin_keys: false,
            admin_answers: 0,
            sessions: Slab::new(),
            sessions_made: 0,
            requests: Slab::new(),
            servers: Vec::new(),
            connections: Vec::new(),
            free_connections: Vec::new(),
            servers_may_be_unused: false,
            roles: Vec::new(),
            buffers: Buffers::default(),
            buffered_bytes: 0,
            dirty_sessions: Vec::new(),
            dirty_connections: Vec::new(),
            ready: Vec::new(),
            actions: Vec::new(),
            scratch: Vec::new(),
            queued_bytes: 0,
            lost: Vec::new(),
            in_flight: 0,
            late_replies: 0,
            repeats: 0,
            next_deadline: Nanos::MAX,
            late: BinaryHeap::new(),
            next_idle_sweep: 0,
            wakes: BinaryHeap::new(),
            spooling: VecDeque::new(),
            next_ticket: 0,
            unix_ms_at_zero: 0,
            metrics: ShardMetrics::default(),
            stats: None,
            inbox,
            outbox,
            random: seed | 1,
            draining: None,
            finished: false,
            doorbells: 0,
            turn_requests: 0,
        };
        shard.adopt_table(table);
        shard
    }

    /// How long the next turn may wait.
    pub fn wait(&self) -> Wait {
        let mut deadline = self.next_deadline;
        if let Some(Reverse((at, _))) = self.late.peek() {
            deadline = deadline.min(*at);
        }
        if let Some(Reverse((at, ..))) = self.wakes.peek() {
            deadline = deadline.min(*at);
        }
        if !self.limits.client_idle.is_zero() && self.sessions.len() > 0 {
            deadline = deadline.min(self.next_idle_sweep);
        }
        if let Some(at) = self.draining {
            deadline = deadline.min(at);
        }
        Wait {
            deadline: (deadline != Nanos::MAX).then_some(deadline),
            immediate: !self.ready.is_empty() || !self.dirty_connections.is_empty() || self.finished,
            in_flight: self.in_flight,
        }
    }

    /// Tells what time it is, in milliseconds since 1970: routes that go by the date count on from there.
    pub fn set_clock(&mut self, unix_ms: u64) {
        self.unix_ms_at_zero = unix_ms.saturating_sub(self.now / 1_000_000);
    }

    /// True once a drain is over and nothing more will be asked of the engine.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Tells how long the last turn worked, in nanoseconds; the core itself reads no clock.
    pub fn turn_took(&mut self, worked: Nanos) {
        self.metrics.turn(worked, std::mem::take(&mut self.turn_requests));
    }

    /// How often the doorbell rang.
    pub fn doorbells(&self) -> u64 {
        self.doorbells
    }

    /// The counters.
    pub fn metrics_mut(&mut self) -> &mut ShardMetrics {
        &mut self.metrics
    }

    /// Tells the control plane. Its mailbox is only full when it is stuck, and then there is nobody to tell but the log.
    fn report(&mut self, message: FromShard) {
        if let Err(error) = self.outbox.send(message) {
            log::error!("shard {}: the control plane can't be told: {error}", self.number);
        }
    }

    fn role(&self, conn: Conn) -> Role {
        match self.roles.get(conn.index as usize) {
            Some(&(generation, role)) if generation == conn.generation => role,
            Some(_) | None => Role::None,
        }
    }

    fn set_role(&mut self, conn: Conn, role: Role) {
        let index = conn.index as usize;
        if index >= self.roles.len() {
            self.roles.resize(index + 1, (0, Role::None));
        }
        self.roles[index] = (conn.generation, role);
    }

    /// The next 64 bits of a xorshift generator: jitter, nothing else.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl<I: Io> Handler<I> for Shard {
    fn accepted(&mut self, io: &mut I, listener: ListenerId, conn: Conn) {
        self.now = io.now();
        self.accept_client(io, listener, conn);
    }

    fn connected(&mut self, io: &mut I, conn: Conn, result: Result<(), ConnectError>) {
        self.now = io.now();
        if let Role::Upstream(connection) = self.role(conn) {
            self.server_connected(io, connection, result);
        }
    }

    fn received(&mut self, io: &mut I, conn: Conn, bytes: &[u8]) {
        self.now = io.now();
        match self.role(conn) {
            Role::Client(session) => self.client_received(io, session, bytes),
            Role::Upstream(connection) => self.server_received(io, connection, bytes),
            Role::None => {}
        }
    }

    fn ended(&mut self, io: &mut I, conn: Conn, ended: Ended) {
        self.now = io.now();
        match self.role(conn) {
            Role::Client(session) => self.client_ended(io, session, ended),
            Role::Upstream(connection) => self.server_ended(io, connection),
            Role::None => {}
        }
    }

    fn sent(&mut self, io: &mut I, conn: Conn, bytes: Vec<u8>, result: Result<(), i32>) {
        self.now = io.now();
        match self.role(conn) {
            Role::Client(session) => self.client_sent(io, session, result.is_ok()),
            Role::Upstream(connection) => self.server_sent(io, connection, bytes.len(), result.is_ok()),
            Role::None => {}
        }
        self.buffers.give(bytes);
    }

    fn doorbell(&mut self, io: &mut I) {
        self.now = io.now();
        self.doorbells += 1;
        while let Some(message) = self.inbox.take() {
            self.told(io, message);
        }
    }

    fn turn_ended(&mut self, io: &mut I) {
        self.now = io.now();
        self.go_on_with_held_back_input(io);
        self.expire(io);
        self.flush_connections(io);
        self.flush_sessions(io);
        self.finish_drain(io);
        self.admin_answers = 0;
    }
}
