//! The engine's connection table: one slot per socket, reused only when nothing is in flight on it.
//!
//! Owns descriptors' numbers, the bytes of sends in flight and the addresses of connects in flight; issues nothing.
//!
//! Invariants: `bytes` and `address` don't move or go while an operation that points at them is in flight; a slot's
//! generation changes when it is freed, so an old `Conn` finds nothing.

use crate::io::{BufferGroup, Conn, Reading};
use socket2::SockAddr;
use std::os::fd::RawFd;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Connecting,
    Open,
    /// Closed by the core: the send in flight goes on, then what the peer still sends is read and dropped.
    Lingering,
    /// Everything in flight was cancelled; its last completions are awaited.
    Closing,
}

/// The read in flight, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recv {
    Idle,
    Multishot,
    Once,
    /// Cancelled; its last completion is awaited.
    Cancelling,
    /// Waits for buffers to come back at the end of the turn. Nothing in flight.
    Starved,
}

pub(super) struct Connection {
    pub(super) fd: RawFd,
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) group: BufferGroup,
    pub(super) recv: Recv,
    /// What the core wants, which `recv` follows.
    pub(super) reading: Reading,
    /// No more bytes come: end of stream or an error was met.
    pub(super) ended: bool,
    pub(super) send_in_flight: bool,
    pub(super) sent: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) address: Option<Box<SockAddr>>,
    pub(super) linger_bytes: usize,
}

impl Connection {
    /// True while the kernel may still use the slot's memory or complete something of it.
    pub(super) fn in_flight(&self) -> bool {
        self.send_in_flight
            || self.address.is_some()
            || matches!(self.recv, Recv::Multishot | Recv::Once | Recv::Cancelling)
    }
}

/// The slots.
pub(super) struct Connections {
    slots: Vec<Connection>,
    free: Vec<u32>,
    limit: u32,
    /// Slots of accepted connections, and most of them: the rest is for those we make.
    accepted: u32,
    accepted_limit: u32,
}

impl Connections {
    pub(super) fn new(limit: u32, kept_for_upstreams: u32) -> Connections {
        let accepted_limit = limit.saturating_sub(kept_for_upstreams);
        Connections { slots: Vec::new(), free: Vec::new(), limit, accepted: 0, accepted_limit }
    }

    /// Slots taken, those still closing included.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn has_room(&self, group: BufferGroup) -> bool {
        let has_slot = !self.free.is_empty() || (self.slots.len() as u32) < self.limit;
        has_slot && (group == BufferGroup::Upstreams || self.accepted < self.accepted_limit)
    }

    /// Takes a slot for `fd`. `None` when the table has no room for one of this group.
    pub(super) fn insert(&mut self, fd: RawFd, phase: Phase, group: BufferGroup) -> Option<Conn> {
        if !self.has_room(group) {
            return None;
        }
        self.accepted += u32::from(group == BufferGroup::Clients);
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Connection {
                    fd: -1,
                    generation: 0,
                    phase: Phase::Free,
                    group,
                    recv: Recv::Idle,
                    reading: Reading::On,
                    ended: false,
                    send_in_flight: false,
                    sent: 0,
                    bytes: Vec::new(),
                    address: None,
                    linger_bytes: 0,
                });
                self.slots.len() as u32 - 1
            }
        };
        let slot = &mut self.slots[index as usize];
        debug_assert_eq!(slot.phase, Phase::Free);
        debug_assert!(!slot.in_flight());
        slot.fd = fd;
        slot.phase = phase;
        slot.group = group;
        slot.recv = Recv::Idle;
        slot.reading = Reading::On;
        slot.ended = false;
        slot.linger_bytes = 0;
        Some(Conn { index, generation: slot.generation })
    }

    /// Frees a slot nothing is in flight on, and returns its descriptor, now the caller's to close.
    pub(super) fn remove(&mut self, index: u32) -> RawFd {
        let slot = &mut self.slots[index as usize];
        assert!(slot.phase != Phase::Free && !slot.in_flight(), "a slot is freed once, with nothing in flight");
        slot.phase = Phase::Free;
        slot.recv = Recv::Idle;
        slot.generation = slot.generation.wrapping_add(1);
        self.accepted -= u32::from(slot.group == BufferGroup::Clients);
        self.free.push(index);
        std::mem::replace(&mut slot.fd, -1)
    }

    /// The slot by its index, whoever uses it.
    pub(super) fn at(&mut self, index: u32) -> &mut Connection {
        &mut self.slots[index as usize]
    }

    /// The connection `conn` names, in whatever phase but freed.
    pub(super) fn named(&mut self, conn: Conn) -> Option<&mut Connection> {
        self.slots
            .get_mut(conn.index as usize)
            .filter(|slot| slot.generation == conn.generation && slot.phase != Phase::Free)
    }

    /// The connection `conn` names, if the core hasn't closed it.
    pub(super) fn alive(&mut self, conn: Conn) -> Option<&mut Connection> {
        self.named(conn).filter(|slot| matches!(slot.phase, Phase::Open | Phase::Connecting))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_find_nothing_and_the_table_is_bounded() {
        let mut table = Connections::new(2, 0);
        let first = table.insert(10, Phase::Open, BufferGroup::Clients).expect("room");
        let second = table.insert(11, Phase::Open, BufferGroup::Clients).expect("room");
        assert!(!table.has_room(BufferGroup::Clients));
        assert!(table.insert(12, Phase::Open, BufferGroup::Clients).is_none());
        assert_eq!(table.remove(first.index), 10);
        assert!(table.named(first).is_none());
        let third = table.insert(13, Phase::Connecting, BufferGroup::Upstreams).expect("room");
        assert_eq!(third.index, first.index);
        assert_ne!(third.generation, first.generation);
        assert!(table.alive(first).is_none());
        assert!(table.alive(third).is_some());
        assert!(table.alive(second).is_some());
    }

    #[test]
    fn accepted_connections_leave_room_for_those_we_make() {
        let mut table = Connections::new(3, 1);
        let client = table.insert(10, Phase::Open, BufferGroup::Clients).expect("room");
        table.insert(11, Phase::Open, BufferGroup::Clients).expect("room");
        assert!(table.insert(12, Phase::Open, BufferGroup::Clients).is_none());
        table.insert(13, Phase::Connecting, BufferGroup::Upstreams).expect("room");
        assert!(!table.has_room(BufferGroup::Upstreams));
        table.remove(client.index);
        table.insert(14, Phase::Connecting, BufferGroup::Upstreams).expect("a client's place is anybody's");
    }
}
