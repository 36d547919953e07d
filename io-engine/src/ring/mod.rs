//! The engine on the kernel's completion ring: one thread, one ring, one call of io_uring_enter per turn.
//!
//! A turn submits what the core asked for since the last, waits (see `batching`), copies the completions out, tells the
//! core of each through `Handler`, and ends with `turn_ended`. This file is the telling half and reads in the order of
//! a turn; `issue` is the asking half, `accept` takes connections in, `buffers` lends what arrived.
//!
//! Invariants: those of `io`; a completion is looked at once; no handler is called while a slot is half changed.
//! Never: an allocation or a lookup by hash per event; a clock read per event.

mod accept;
mod buffers;
mod connections;
mod issue;
mod queue;
#[cfg(test)]
mod tests;
mod token;

pub use issue::RingIo;

use crate::batching::{Batching, Window};
use crate::io::{Conn, ConnectError, Ended, Handler, ListenerId, Nanos, Wait};
use crate::listen::Listener;
use crate::mailbox::Doorbell;
use crate::probe::{SetupError, build_ring};
use accept::{Acceptor, Bell};
use buffers::Buffers;
use connections::{Connections, Phase, Recv};
use io_uring::{cqueue, types::CancelBuilder};
use queue::{Queue, Want};
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use token::{Kind, MAX_SLOTS, Token};

/// A provided-buffer group's size. Untouched buffers cost address space only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferConfig {
    /// How many: a power of two, at most 32768.
    pub count: u16,
    /// Each one's size, which is the most that one `received` brings.
    pub bytes: u32,
}

/// What a ring is made with.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// The submission queue's size; a full one is submitted in the middle of a turn.
    pub entries: u32,
    /// The completion queue's size, several times `entries`; past it the kernel keeps a list.
    pub completion_entries: u32,
    /// Buffers that accepted connections' bytes arrive in.
    pub client_buffers: BufferConfig,
    /// Buffers that made connections' bytes arrive in.
    pub upstream_buffers: BufferConfig,
    /// Connections at once, accepted and made, those still closing included.
    pub max_connections: u32,
    /// Of these, kept for connections we make: accepted ones never take them.
    pub kept_for_upstreams: u32,
    /// Rings `Handler::doorbell`.
    pub doorbell: Option<Doorbell>,
}

impl Default for RingConfig {
    fn default() -> RingConfig {
        let buffers = BufferConfig { count: 512, bytes: 16 << 10 };
        RingConfig {
            entries: 2048,
            completion_entries: 8192,
            client_buffers: buffers,
            upstream_buffers: buffers,
            max_connections: 16384,
            kept_for_upstreams: 0,
            doorbell: None,
        }
    }
}

/// Why a turn failed. The engine is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// io_uring_enter's errno.
    Enter(i32),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Enter(errno) => write!(f, "io_uring_enter: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

impl std::error::Error for EngineError {}

/// The engine. Make it on the thread that runs it, and keep it there.
pub struct RingEngine {
    // Dropped first: the kernel must be done with the buffers before they go.
    io: RingIo,
    groups: [Buffers; 2],
    window: Window,
    min_timeout: bool,
    completions: Vec<cqueue::Entry>,
    refused: Vec<(Conn, Vec<u8>)>,
    worked: Nanos,
}

/// A wait that has a window needs a timeout, or the kernel ends it with the window. As good as for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl RingEngine {
    /// Makes the ring and begins to listen.
    pub fn new(config: RingConfig, listeners: Vec<Listener>, batching: Batching) -> Result<RingEngine, SetupError> {
        check(&config)?;
        let ring = build_ring(config.entries, config.completion_entries)?;
        let min_timeout = ring.params().is_feature_min_timeout();
        let register = |id: u16, group: BufferConfig| {
            Buffers::register(&ring, id, group.count, group.bytes as usize)
                .map_err(|e| SetupError::from_errno("registering buffers", &e))
        };
        let groups = [register(0, config.client_buffers)?, register(1, config.upstream_buffers)?];
        let acceptors: Vec<Acceptor> = listeners.into_iter().map(Acceptor::new).collect();
        let buffer_bytes = [config.client_buffers.bytes, config.upstream_buffers.bytes];
        let connections = Connections::new(config.max_connections, config.kept_for_upstreams);
        let mut io = RingIo::new(Queue::new(ring), connections, acceptors, buffer_bytes);
        (0..io.acceptors.len()).for_each(|index| io.listen(index));
        io.bell = config.doorbell.map(Bell::new);
        let mut engine = RingEngine {
            io,
            groups,
            window: Window::new(batching),
            min_timeout,
            completions: Vec::with_capacity(config.completion_entries as usize),
            refused: Vec::new(),
            worked: 0,
        };
        engine.arm_doorbell();
        Ok(engine)
    }

    /// What the core issues with outside of `turn`, for instance before the first.
    pub fn io(&mut self) -> &mut RingIo {
        &mut self.io
    }

    /// Replaces the batching window, from the next turn on.
    pub fn set_batching(&mut self, batching: Batching) {
        self.window = Window::new(batching);
    }

    /// The listening socket of listener `id`, to hand over. `None` for a shard that is only handed connections.
    pub fn listening_socket(&self, id: ListenerId) -> Option<BorrowedFd<'_>> {
        self.io.listener_at(id).and_then(Listener::socket)
    }

    /// How long the last turn worked, in nanoseconds: from the end of its wait to the end of `turn_ended`.
    pub fn worked(&self) -> Nanos {
        self.worked
    }

    /// One turn: submits, waits as `wait` allows, tells `handler` what happened, then `turn_ended`.
    pub fn turn<H: Handler<RingIo>>(&mut self, handler: &mut H, wait: Wait) -> Result<(), EngineError> {
        self.wait(wait)?;
        self.io.now = self.io.clock();
        // Copied out at once, so that the kernel has the whole queue while the handler works.
        let mut completions = std::mem::take(&mut self.completions);
        self.io.queue.take(&mut completions);
        for completion in completions.drain(..) {
            self.tell(handler, completion.user_data(), completion.result(), completion.flags());
        }
        self.completions = completions;
        self.give_refused_back(handler);
        self.io.settle();
        handler.turn_ended(&mut self.io);
        self.worked = self.io.clock() - self.io.now;
        Ok(())
    }

    fn wait(&mut self, wait: Wait) -> Result<(), EngineError> {
        let sends = std::mem::take(&mut self.io.sends_submitted);
        let deadline = wait.deadline.into_iter().chain(self.io.next_deadline()).min();
        let left = deadline.map(|deadline| Duration::from_nanos(deadline.saturating_sub(self.io.clock())));
        if wait.immediate || left == Some(Duration::ZERO) || !self.io.refused.is_empty() {
            return self.io.queue.enter(Want { timeout: Some(Duration::ZERO), ..Want::default() }).map(drop);
        }
        let left_us = left.map(|left| left.as_micros() as u64);
        let Some(batch) = self.window.wait_for(wait.in_flight, sends, left_us) else {
            return self.io.queue.enter(Want { count: 1, min_wait_us: 0, timeout: left }).map(drop);
        };
        if self.min_timeout {
            let timeout = Some(left.unwrap_or(LONGEST_WAIT));
            return self
                .io
                .queue
                .enter(Want { count: batch.count, min_wait_us: batch.max_delay_us, timeout })
                .map(drop);
        }
        let window = Duration::from_micros(u64::from(batch.max_delay_us));
        let filled = self.io.queue.enter(Want { count: batch.count, min_wait_us: 0, timeout: Some(window) })?;
        if filled || self.io.queue.has_completions() {
            return Ok(());
        }
        let timeout = left.map(|left| left.saturating_sub(window));
        self.io.queue.enter(Want { count: 1, min_wait_us: 0, timeout }).map(drop)
    }

    fn tell<H: Handler<RingIo>>(&mut self, handler: &mut H, user_data: u64, result: i32, flags: u32) {
        let token = Token::unpack(user_data);
        match token.kind {
            Kind::Recv => self.on_recv(handler, token, result, flags),
            Kind::Send => self.on_send(handler, token, result),
            Kind::Connect => self.on_connect(handler, token, result),
            Kind::Accept => {
                let index = token.index as usize;
                if let Some(conn) = self.io.on_accept(index, result, cqueue::more(flags)) {
                    self.tell_accepted(handler, index, conn);
                }
            }
            Kind::Inbox => self.on_inbox(handler, token.index as usize),
            Kind::Doorbell => {
                self.io.queue.counters.doorbells += 1;
                self.arm_doorbell();
                handler.doorbell(&mut self.io);
            }
            Kind::CancelRecv | Kind::CancelSend | Kind::CancelConnect => self.io.cancel_missed(token, result),
            Kind::Ignored => {}
        }
    }

    fn on_recv<H: Handler<RingIo>>(&mut self, handler: &mut H, token: Token, result: i32, flags: u32) {
        let slot = self.io.connections.at(token.index);
        debug_assert_eq!(slot.generation, token.generation);
        let conn = Conn { index: token.index, generation: token.generation };
        let (phase, group, more) = (slot.phase, slot.group as usize, cqueue::more(flags));
        if !more {
            if slot.recv == Recv::Once && slot.reading == crate::io::Reading::Once && result > 0 {
                slot.reading = crate::io::Reading::Off;
            }
            slot.recv = Recv::Idle;
        }
        let buffer = cqueue::buffer_select(flags);
        if let (Some(buffer), 1..) = (buffer, result) {
            match phase {
                Phase::Open => {
                    handler.received(&mut self.io, conn, self.groups[group].lent(buffer, result as usize));
                }
                Phase::Lingering => self.io.drop_lingering(token.index, result as usize),
                Phase::Closing | Phase::Connecting | Phase::Free => {}
            }
        }
        if let Some(buffer) = buffer {
            self.groups[group].give_back(buffer);
        }
        if !more {
            self.recv_ended(handler, conn, result);
        }
    }

    /// No read is in flight any more: read on, or tell why not. The handler may have closed the connection meanwhile.
    fn recv_ended<H: Handler<RingIo>>(&mut self, handler: &mut H, conn: Conn, result: i32) {
        let Some(slot) = self.io.connections.named(conn) else { return };
        if slot.phase == Phase::Closing {
            return self.io.free_if_idle(conn.index);
        }
        let ended = match -result {
            ..0 | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                if slot.recv == Recv::Idle && slot.reading == crate::io::Reading::On {
                    self.io.queue.counters.rearms += 1;
                }
                return self.io.follow_reading(conn.index);
            }
            libc::ENOBUFS => {
                self.io.queue.counters.enobufs += 1;
                self.groups[slot.group as usize].ran_out();
                return self.io.starve(conn);
            }
            0 => Ended::Eof,
            errno => Ended::Errno(errno),
        };
        slot.ended = true;
        if slot.phase == Phase::Lingering {
            // A send still in flight ends it instead.
            if !slot.send_in_flight {
                self.io.begin_closing(conn.index);
            }
            return;
        }
        handler.ended(&mut self.io, conn, ended);
    }

    fn on_send<H: Handler<RingIo>>(&mut self, handler: &mut H, token: Token, result: i32) {
        let slot = self.io.connections.at(token.index);
        debug_assert!(slot.generation == token.generation && slot.send_in_flight);
        let conn = Conn { index: token.index, generation: token.generation };
        let closing = slot.phase == Phase::Closing;
        if result > 0 {
            slot.sent += result as usize;
        }
        let outcome = match -result {
            _ if slot.sent == slot.bytes.len() => Ok(()),
            ..0 | libc::EINTR | libc::EAGAIN if !closing => {
                self.io.queue.counters.short_sends += 1;
                return self.io.push_send(token.index);
            }
            ..0 | libc::EINTR | libc::EAGAIN => Err(libc::ECANCELED),
            0 => Err(libc::EPIPE),
            errno => Err(errno),
        };
        slot.send_in_flight = false;
        let bytes = std::mem::take(&mut slot.bytes);
        handler.sent(&mut self.io, conn, bytes, outcome);
        let Some(slot) = self.io.connections.named(conn) else { return };
        match slot.phase {
            Phase::Closing => self.io.free_if_idle(conn.index),
            Phase::Lingering if slot.send_in_flight => {}
            Phase::Lingering if outcome.is_ok() => self.io.half_close(conn.index),
            Phase::Lingering => self.io.begin_closing(conn.index),
            Phase::Open | Phase::Connecting | Phase::Free => {}
        }
    }

    fn on_connect<H: Handler<RingIo>>(&mut self, handler: &mut H, token: Token, result: i32) {
        let slot = self.io.connections.at(token.index);
        debug_assert!(slot.generation == token.generation && slot.address.is_some());
        let conn = Conn { index: token.index, generation: token.generation };
        slot.address = None;
        if slot.phase == Phase::Closing {
            return self.io.free_if_idle(token.index);
        }
        if result < 0 {
            let descriptor = self.io.connections.remove(token.index);
            self.io.close_descriptor(descriptor);
            return handler.connected(&mut self.io, conn, Err(ConnectError::Errno(-result)));
        }
        slot.phase = Phase::Open;
        handler.connected(&mut self.io, conn, Ok(()));
        self.read_if_alive(conn);
    }

    fn tell_accepted<H: Handler<RingIo>>(&mut self, handler: &mut H, index: usize, conn: Conn) {
        handler.accepted(&mut self.io, ListenerId(index as u16), conn);
        self.read_if_alive(conn);
    }

    /// Reading begins after the handler had its say.
    fn read_if_alive(&mut self, conn: Conn) {
        if self.io.connections.alive(conn).is_some() {
            self.io.follow_reading(conn.index);
        }
    }

    fn on_inbox<H: Handler<RingIo>>(&mut self, handler: &mut H, index: usize) {
        // Armed first: what comes after the last look rings again.
        self.io.listen(index);
        while let Some(descriptor) = self.io.handed_over(index) {
            if let Some(conn) = self.io.adopt(descriptor) {
                self.tell_accepted(handler, index, conn);
            }
        }
    }

    fn arm_doorbell(&mut self) {
        if let Some(bell) = &mut self.io.bell {
            let entry = bell.read(Token::new(Kind::Doorbell, 0, 0));
            // SAFETY: the count read into is boxed and lives as long as the engine.
            unsafe { self.io.queue.push(entry) };
        }
    }

    fn give_refused_back<H: Handler<RingIo>>(&mut self, handler: &mut H) {
        // Those refused while these are told wait for the next turn, which then doesn't sleep.
        std::mem::swap(&mut self.refused, &mut self.io.refused);
        for (conn, bytes) in self.refused.drain(..) {
            handler.sent(&mut self.io, conn, bytes, Err(libc::ENOTCONN));
        }
    }
}

impl Drop for RingEngine {
    /// Ends everything in flight before the memory it points at goes.
    fn drop(&mut self) {
        // Submits the closes that wait; a failure shows below.
        let _ = self.io.queue.enter(Want { timeout: Some(Duration::ZERO), ..Want::default() });
        let cancelled = self.io.queue.ring().submitter().register_sync_cancel(None, CancelBuilder::any());
        let done = match cancelled {
            Ok(()) => true,
            Err(e) => e.raw_os_error() == Some(libc::ENOENT),
        };
        for slot in self.io.connections.iter_mut() {
            if slot.phase == Phase::Free {
                continue;
            }
            // SAFETY: the slot owns the descriptor, and is not used again.
            unsafe { libc::close(slot.fd) };
            if !done {
                // The kernel may still read these.
                std::mem::forget(std::mem::take(&mut slot.bytes));
                std::mem::forget(slot.address.take());
            }
        }
    }
}

fn check(config: &RingConfig) -> Result<(), SetupError> {
    let invalid = |what, value, allowed| Err(SetupError::Invalid { what, value, allowed });
    for group in [config.client_buffers, config.upstream_buffers] {
        if !group.count.is_power_of_two() || group.count > 1 << 15 {
            return invalid("a buffer group's count", u64::from(group.count), "a power of two up to 32768");
        }
        if group.bytes == 0 || group.bytes > 1 << 24 {
            return invalid("a buffer's size", u64::from(group.bytes), "1 to 16777216 bytes");
        }
    }
    if config.max_connections == 0 || config.max_connections > MAX_SLOTS {
        return invalid("the number of connections", u64::from(config.max_connections), "1 to 16777216");
    }
    if config.entries == 0 || config.completion_entries < config.entries || config.completion_entries > 1 << 16 {
        return invalid("the completion queue's size", u64::from(config.completion_entries), "entries to 65536");
    }
    Ok(())
}

/// So that the units can't be mixed up silently: the engine's clock is in nanoseconds.
const _: fn(Nanos) -> Duration = Duration::from_nanos;
