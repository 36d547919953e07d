//! The issuing half of the engine: what the core asks for becomes entries in the submission queue.
//!
//! Owns the queue, the connection table and the clocks of lingering closes. Calls no handler.
//!
//! Invariants: every entry points only at memory its slot owns (`bytes`, `address`), which stays until the operation's
//! last completion; a descriptor is closed, and its slot freed, only when nothing is in flight on it.

use super::accept::{Acceptor, Bell};
use super::connections::{Connections, Phase, Recv};
use super::queue::Queue;
use super::token::{Kind, Token};
use crate::io::{
    Address, BufferGroup, Closing, Conn, ConnectError, EngineCounters, Io, LINGER_BYTES, LINGER_NANOS, Nanos, Reading,
};
use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::time::Instant;

/// How long a lingering close waits for its send in flight, before the peer counts as gone.
const FLUSH_NANOS: Nanos = 10 * LINGER_NANOS;
/// Largest send given to the kernel at once; it would cut more than 2 GiB anyway. Small in unit tests, to see it cut.
pub(super) const LARGEST_SEND: usize = if cfg!(test) { 100_000 } else { 1 << 30 };

/// The half of `RingEngine` that the core issues with. Not `Send`: a ring belongs to the thread that made it.
pub struct RingIo {
    pub(super) queue: Queue,
    pub(super) connections: Connections,
    pub(super) acceptors: Vec<Acceptor>,
    /// Accepts that pause.
    pub(super) backing_off: usize,
    pub(super) bell: Option<Bell>,
    pub(super) now: Nanos,
    /// Sends pushed since the last wait: their completions are part of its batch.
    pub(super) sends_submitted: u32,
    /// Sends on connections that were gone: given back as events.
    pub(super) refused: Vec<(Conn, Vec<u8>)>,
    /// Reads that met an empty group, armed again at the end of the turn.
    starved: Vec<Conn>,
    /// Cancellations that came between a completion and its re-arming, repeated at the end of the turn.
    missed: Vec<Token>,
    /// Lingering closes by their deadline: waiting for their send, and for the peer.
    flushing: VecDeque<(Nanos, Conn)>,
    lingering: VecDeque<(Nanos, Conn)>,
    buffer_bytes: [u32; 2],
    started: Instant,
    thread: PhantomData<*const ()>,
}

impl RingIo {
    pub(super) fn new(
        queue: Queue,
        connections: Connections,
        acceptors: Vec<Acceptor>,
        buffer_bytes: [u32; 2],
    ) -> RingIo {
        RingIo {
            queue,
            connections,
            acceptors,
            backing_off: 0,
            bell: None,
            now: 0,
            sends_submitted: 0,
            refused: Vec::new(),
            starved: Vec::new(),
            missed: Vec::new(),
            flushing: VecDeque::new(),
            lingering: VecDeque::new(),
            buffer_bytes,
            started: Instant::now(),
            thread: PhantomData,
        }
    }

    /// Connections accepted and made, those still closing or lingering included.
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// Reads the clock, unlike `now`.
    pub(super) fn clock(&self) -> Nanos {
        self.started.elapsed().as_nanos() as Nanos
    }

    /// When the engine itself must run next.
    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        let fronts = [self.flushing.front(), self.lingering.front()];
        fronts.into_iter().flatten().map(|&(at, _)| at).chain(self.accept_deadline()).min()
    }

    /// Brings the read in flight to what the core wants.
    pub(super) fn follow_reading(&mut self, index: u32) {
        let slot = self.connections.at(index);
        if slot.ended {
            return;
        }
        match (slot.recv, slot.reading) {
            (Recv::Idle, Reading::On | Reading::Once) => self.arm_recv(index),
            (Recv::Multishot, Reading::Once | Reading::Off) | (Recv::Once, Reading::Off) => self.cancel_recv(index),
            (Recv::Idle, Reading::Off)
            | (Recv::Multishot, Reading::On)
            | (Recv::Once, Reading::On | Reading::Once)
            | (Recv::Cancelling | Recv::Starved, _) => {}
        }
    }

    fn arm_recv(&mut self, index: u32) {
        let slot = self.connections.at(index);
        let token = Token::new(Kind::Recv, index, slot.generation).pack();
        let group = slot.group as u16;
        let entry = if slot.reading == Reading::On {
            slot.recv = Recv::Multishot;
            opcode::RecvMulti::new(Fd(slot.fd), group).build()
        } else {
            slot.recv = Recv::Once;
            opcode::Recv::new(Fd(slot.fd), std::ptr::null_mut(), self.buffer_bytes[usize::from(group)])
                .buf_group(group)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        };
        // SAFETY: points at nothing; the kernel takes a buffer of the group, which lives as long as the ring.
        unsafe { self.queue.push(entry.user_data(token)) };
    }

    fn cancel_recv(&mut self, index: u32) {
        let slot = self.connections.at(index);
        slot.recv = Recv::Cancelling;
        let token = Token::new(Kind::Recv, index, slot.generation);
        self.cancel(token, Kind::CancelRecv);
    }

    /// Cancels what `target` names. Silent when it worked; told to `missed` when nothing was found.
    pub(super) fn cancel(&mut self, target: Token, kind: Kind) {
        self.queue.counters.cancels += 1;
        let entry = opcode::AsyncCancel::new(target.pack())
            .build()
            .user_data(Token::new(kind, target.index, target.generation).pack())
            .flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: points at nothing.
        unsafe { self.queue.push(entry) };
    }

    /// Nothing was found to cancel. Mostly the operation had just ended; if it is still awaited, try again.
    pub(super) fn cancel_missed(&mut self, token: Token, result: i32) {
        let slot = self.connections.at(token.index);
        if slot.generation != token.generation || result != -libc::ENOENT {
            return;
        }
        let awaited = match token.kind {
            Kind::CancelRecv => slot.recv == Recv::Cancelling,
            Kind::CancelSend => slot.phase == Phase::Closing && slot.send_in_flight,
            Kind::CancelConnect => slot.phase == Phase::Closing && slot.address.is_some(),
            _ => false,
        };
        if awaited {
            self.missed.push(token);
        }
    }

    /// The read found no buffer.
    pub(super) fn starve(&mut self, conn: Conn) {
        self.connections.at(conn.index).recv = Recv::Starved;
        self.starved.push(conn);
    }

    /// The end of a turn's events: repeat what has to wait for it, and act on the engine's own deadlines.
    pub(super) fn settle(&mut self) {
        while let Some(conn) = self.starved.pop() {
            if let Some(slot) = self.connections.named(conn).filter(|slot| slot.recv == Recv::Starved) {
                slot.recv = Recv::Idle;
                self.queue.counters.rearms += 1;
                self.follow_reading(conn.index);
            }
        }
        while let Some(token) = self.missed.pop() {
            let target = match token.kind {
                Kind::CancelSend => Kind::Send,
                Kind::CancelConnect => Kind::Connect,
                _ => Kind::Recv,
            };
            self.cancel(Token::new(target, token.index, token.generation), token.kind);
        }
        self.cut_lingering();
        self.resume_accepting();
    }

    /// Sends what of the slot's bytes is unsent.
    pub(super) fn push_send(&mut self, index: u32) {
        let slot = self.connections.at(index);
        let rest = &slot.bytes[slot.sent..];
        let entry = opcode::Send::new(Fd(slot.fd), rest.as_ptr(), rest.len().min(LARGEST_SEND) as u32)
            // WAITALL lets the kernel go on after a short send by itself.
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(Token::new(Kind::Send, index, slot.generation).pack());
        slot.send_in_flight = true;
        self.sends_submitted += 1;
        // SAFETY: the bytes are the slot's until the send's completion: `send` refuses a second one and `remove` asserts
        // that none is in flight. A moved `Vec` (the table grew) leaves its bytes where they are.
        unsafe { self.queue.push(entry) };
    }

    /// Cancels everything in flight on the slot; the last completion frees it.
    pub(super) fn begin_closing(&mut self, index: u32) {
        let slot = self.connections.at(index);
        slot.phase = Phase::Closing;
        let (generation, send, connect) = (slot.generation, slot.send_in_flight, slot.address.is_some());
        if matches!(slot.recv, Recv::Multishot | Recv::Once) {
            self.cancel_recv(index);
        }
        if send {
            self.cancel(Token::new(Kind::Send, index, generation), Kind::CancelSend);
        }
        if connect {
            self.cancel(Token::new(Kind::Connect, index, generation), Kind::CancelConnect);
        }
        self.free_if_idle(index);
    }

    pub(super) fn free_if_idle(&mut self, index: u32) {
        if !self.connections.at(index).in_flight() {
            let descriptor = self.connections.remove(index);
            self.close_descriptor(descriptor);
        }
    }

    /// Closes with the next submission.
    pub(super) fn close_descriptor(&mut self, descriptor: RawFd) {
        let entry = opcode::Close::new(Fd(descriptor))
            .build()
            .user_data(Token::new(Kind::Ignored, 0, 0).pack())
            .flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: points at nothing, and the descriptor is nobody else's.
        unsafe { self.queue.push(entry) };
    }

    /// The send of a lingering close is over (or there was none): say so to the peer, and read until it has heard.
    pub(super) fn half_close(&mut self, index: u32) {
        let slot = self.connections.at(index);
        // Bytes that came were all read: closing sends no reset. (By call: the ring's shutdown goes to a worker thread.)
        // SAFETY: the slot owns the descriptor.
        if slot.ended || unsafe { libc::shutdown(slot.fd, libc::SHUT_WR) } != 0 {
            return self.begin_closing(index);
        }
        slot.reading = Reading::On;
        let conn = Conn { index, generation: slot.generation };
        self.lingering.push_back((self.now + LINGER_NANOS, conn));
        self.follow_reading(index);
    }

    /// A lingering connection still brings bytes.
    pub(super) fn drop_lingering(&mut self, index: u32, len: usize) {
        let slot = self.connections.at(index);
        slot.linger_bytes += len;
        if slot.linger_bytes > LINGER_BYTES {
            self.queue.counters.linger_cuts += 1;
            self.begin_closing(index);
        }
    }

    fn cut_lingering(&mut self) {
        while let Some(&(at, conn)) = self.flushing.front() {
            let waits = self.is_lingering(conn) && self.connections.at(conn.index).send_in_flight;
            if waits && at > self.now {
                break;
            }
            self.flushing.pop_front();
            if waits {
                self.queue.counters.linger_cuts += 1;
                self.begin_closing(conn.index);
            }
        }
        while let Some(&(at, conn)) = self.lingering.front() {
            let waits = self.is_lingering(conn);
            if waits && at > self.now {
                break;
            }
            self.lingering.pop_front();
            if waits {
                self.queue.counters.linger_cuts += 1;
                self.begin_closing(conn.index);
            }
        }
    }

    fn is_lingering(&mut self, conn: Conn) -> bool {
        self.connections.named(conn).is_some_and(|slot| slot.phase == Phase::Lingering)
    }
}

impl Io for RingIo {
    fn now(&self) -> Nanos {
        self.now
    }

    fn connect(&mut self, address: &Address) -> Result<Conn, ConnectError> {
        if !self.connections.has_room(BufferGroup::Upstreams) {
            return Err(ConnectError::OutOfDescriptors);
        }
        let (socket, address) = socket_for(address).map_err(|e| match e.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => ConnectError::OutOfDescriptors,
            errno => ConnectError::Errno(errno.unwrap_or(libc::EINVAL)),
        })?;
        let descriptor = socket.into_raw_fd();
        let Some(conn) = self.connections.insert(descriptor, Phase::Connecting, BufferGroup::Upstreams) else {
            self.close_descriptor(descriptor);
            return Err(ConnectError::OutOfDescriptors);
        };
        self.queue.counters.connects += 1;
        let address = &**self.connections.at(conn.index).address.insert(Box::new(address));
        let entry = opcode::Connect::new(Fd(descriptor), address.as_ptr().cast(), address.len())
            .build()
            .user_data(Token::new(Kind::Connect, conn.index, conn.generation).pack());
        // SAFETY: the address is boxed in the slot, and stays until the connect's completion.
        unsafe { self.queue.push(entry) };
        Ok(conn)
    }

    fn send(&mut self, conn: Conn, bytes: Vec<u8>) {
        assert!(!bytes.is_empty(), "a send has bytes");
        let Some(slot) = self.connections.alive(conn).filter(|slot| slot.phase == Phase::Open) else {
            self.refused.push((conn, bytes));
            return;
        };
        assert!(!slot.send_in_flight, "one send is in flight per connection");
        slot.bytes = bytes;
        slot.sent = 0;
        self.queue.counters.sends += 1;
        self.push_send(conn.index);
    }

    fn set_reading(&mut self, conn: Conn, reading: Reading) {
        let Some(slot) = self.connections.alive(conn) else { return };
        slot.reading = reading;
        if slot.phase == Phase::Open {
            self.follow_reading(conn.index);
        }
    }

    fn close(&mut self, conn: Conn, closing: Closing) {
        let Some(slot) = self.connections.alive(conn) else { return };
        match (closing, slot.phase) {
            (Closing::Linger, Phase::Open) => {
                slot.phase = Phase::Lingering;
                if slot.send_in_flight {
                    self.flushing.push_back((self.now + FLUSH_NANOS, conn));
                } else {
                    self.half_close(conn.index);
                }
            }
            (Closing::Now | Closing::Linger, _) => self.begin_closing(conn.index),
        }
    }

    fn stop_accepting(&mut self) {
        self.stop_listening();
    }

    fn peer_ip(&mut self, conn: Conn) -> Option<IpAddr> {
        let slot = self.connections.alive(conn).filter(|slot| slot.phase == Phase::Open)?;
        // SAFETY: an open slot's descriptor stays open at least as long as the slot is borrowed.
        let descriptor = unsafe { BorrowedFd::borrow_raw(slot.fd) };
        let peer = SockRef::from(&descriptor).peer_addr().ok()?;
        peer.as_socket().map(|address| address.ip())
    }

    fn counters(&self) -> EngineCounters {
        self.queue.counters
    }
}

fn socket_for(address: &Address) -> io::Result<(Socket, SockAddr)> {
    match address {
        Address::Tcp(address) => {
            let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
            socket.set_tcp_nodelay(true)?;
            // A host that vanished says nothing: the kernel finds out, in hours, by its own settings.
            socket.set_keepalive(true)?;
            Ok((socket, (*address).into()))
        }
        Address::Unix(path) => Ok((Socket::new(Domain::UNIX, Type::STREAM, None)?, SockAddr::unix(path)?)),
    }
}
