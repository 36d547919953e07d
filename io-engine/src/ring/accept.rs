//! Taking connections in: multishot accepts, backing off when descriptors run out, handing descriptors round.
//!
//! Owns the listeners and what is armed on them. A failed accept leaves its connection on the listener's queue, so
//! trying again at once would spin: it waits a fixed time.

use super::issue::RingIo;
use super::token::{Kind, Token};
use crate::io::{BufferGroup, Conn, ListenerId, Nanos};
use crate::listen::{Listener, Role};
use crate::mailbox::Doorbell;
use io_uring::{opcode, squeue, types::Fd};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// How long accepting pauses after it failed.
const BACK_OFF_NANOS: Nanos = 50_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Armed,
    BackingOff(Nanos),
    Stopped,
}

pub(super) struct Acceptor {
    listener: Listener,
    accepting: Accepting,
    /// Whose turn it is, with a spread listener: 0 is this shard.
    next: usize,
    /// The inbox's doorbell, with its read armed.
    bell: Option<Bell>,
}

/// A doorbell and the eight bytes the kernel reads its count into.
pub(super) struct Bell {
    doorbell: Doorbell,
    count: Box<u64>,
}

impl Bell {
    pub(super) fn new(doorbell: Doorbell) -> Bell {
        Bell { doorbell, count: Box::new(0) }
    }

    pub(super) fn read(&mut self, token: Token) -> squeue::Entry {
        let count: *mut u64 = &mut *self.count;
        opcode::Read::new(Fd(self.doorbell.as_raw_fd()), count.cast(), size_of::<u64>() as u32)
            .build()
            .user_data(token.pack())
    }
}

impl Acceptor {
    pub(super) fn new(listener: Listener) -> Acceptor {
        let bell = match &listener.role {
            Role::Accepts { .. } => None,
            Role::Receives { inbox } => Some(Bell::new(inbox.doorbell())),
        };
        Acceptor { listener, accepting: Accepting::Stopped, next: 0, bell }
    }

    /// Keeps `descriptor` for this shard, or hands it to the one whose turn it is.
    fn route(&mut self, descriptor: RawFd) -> Option<RawFd> {
        let Role::Accepts { others, .. } = &self.listener.role else { return Some(descriptor) };
        if others.is_empty() {
            return Some(descriptor);
        }
        let turn = self.next;
        self.next = (turn + 1) % (others.len() + 1);
        let Some(other) = turn.checked_sub(1).and_then(|other| others.get(other)) else { return Some(descriptor) };
        // SAFETY: just accepted, and nobody else's.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        match other.send(owned) {
            Ok(()) => None,
            // A shard that doesn't look or is gone: better served here than not.
            Err(crate::mailbox::SendError::Full(owned) | crate::mailbox::SendError::Closed(owned)) => {
                Some(std::os::fd::IntoRawFd::into_raw_fd(owned))
            }
        }
    }

    /// A descriptor handed over by the accepting shard.
    pub(super) fn handed_over(&mut self) -> Option<RawFd> {
        match &mut self.listener.role {
            Role::Receives { inbox } => inbox.take().map(std::os::fd::IntoRawFd::into_raw_fd),
            Role::Accepts { .. } => None,
        }
    }
}

impl RingIo {
    /// Arms the accept, or the inbox's doorbell, of listener `index`.
    pub(super) fn listen(&mut self, index: usize) {
        let acceptor = &mut self.acceptors[index];
        let entry = match (&acceptor.listener.role, &mut acceptor.bell) {
            (Role::Accepts { socket, .. }, _) => opcode::AcceptMulti::new(Fd(socket.as_raw_fd()))
                .flags(libc::SOCK_CLOEXEC)
                .build()
                .user_data(Token::new(Kind::Accept, index as u32, 0).pack()),
            (Role::Receives { .. }, Some(bell)) => bell.read(Token::new(Kind::Inbox, index as u32, 0)),
            (Role::Receives { .. }, None) => return,
        };
        acceptor.accepting = Accepting::Armed;
        // SAFETY: an accept points at nothing of ours (no address is asked for); a bell's count is boxed and lives as
        // long as the engine.
        unsafe { self.queue.push(entry) };
    }

    /// An accept's completion: the connection it made, if it is this shard's and there is room.
    pub(super) fn on_accept(&mut self, index: usize, result: i32, more: bool) -> Option<Conn> {
        if !more {
            self.accept_ended(index, result);
        }
        if result < 0 {
            if result != -libc::ECANCELED {
                self.queue.counters.accept_errors += 1;
            }
            return None;
        }
        let descriptor = self.acceptors[index].route(result)?;
        self.adopt(descriptor)
    }

    fn accept_ended(&mut self, index: usize, result: i32) {
        if self.acceptors[index].accepting == Accepting::Stopped {
            return;
        }
        match -result {
            // Ended by the kernel for reasons of its own, or because a client went away before it was taken in.
            ..=0 | libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::ECANCELED => {
                self.queue.counters.rearms += 1;
                self.listen(index);
            }
            // EMFILE, ENFILE, ENOBUFS, ENOMEM, and whatever else would fail again at once.
            _ => {
                self.acceptors[index].accepting = Accepting::BackingOff(self.now + BACK_OFF_NANOS);
                self.backing_off += 1;
            }
        }
    }

    /// Makes a connection of an accepted descriptor. Closes it when the table is full.
    pub(super) fn adopt(&mut self, descriptor: RawFd) -> Option<Conn> {
        let conn = self.connections.insert(descriptor, super::connections::Phase::Open, BufferGroup::Clients);
        if conn.is_none() {
            self.queue.counters.accept_refused += 1;
            self.close_descriptor(descriptor);
            return None;
        }
        self.queue.counters.accepted += 1;
        conn
    }

    pub(super) fn handed_over(&mut self, index: usize) -> Option<RawFd> {
        self.acceptors[index].handed_over()
    }

    /// Tries again the accepts whose pause is over.
    pub(super) fn resume_accepting(&mut self) {
        if self.backing_off == 0 {
            return;
        }
        for index in 0..self.acceptors.len() {
            if let Accepting::BackingOff(until) = self.acceptors[index].accepting
                && until <= self.now
            {
                self.backing_off -= 1;
                self.listen(index);
            }
        }
    }

    /// When the next pause is over.
    pub(super) fn accept_deadline(&self) -> Option<Nanos> {
        if self.backing_off == 0 {
            return None;
        }
        let pauses = self.acceptors.iter().filter_map(|acceptor| match acceptor.accepting {
            Accepting::BackingOff(until) => Some(until),
            Accepting::Armed | Accepting::Stopped => None,
        });
        pauses.min()
    }

    /// Stops the accepts. What another shard still hands over is taken in.
    pub(super) fn stop_listening(&mut self) {
        for index in 0..self.acceptors.len() {
            let acceptor = &mut self.acceptors[index];
            if matches!(acceptor.listener.role, Role::Receives { .. }) {
                continue;
            }
            match std::mem::replace(&mut acceptor.accepting, Accepting::Stopped) {
                Accepting::Armed => self.cancel(Token::new(Kind::Accept, index as u32, 0), Kind::Ignored),
                Accepting::BackingOff(_) => self.backing_off -= 1,
                Accepting::Stopped => {}
            }
        }
    }

    /// The listener `id` names.
    pub(super) fn listener_at(&self, id: ListenerId) -> Option<&Listener> {
        self.acceptors.get(usize::from(id.0)).map(|acceptor| &acceptor.listener)
    }
}
