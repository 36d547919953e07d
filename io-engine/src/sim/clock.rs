//! Virtual time and what is due in it. Time moves only when nothing due earlier is left.

use crate::{Conn, Nanos};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// What happens in the network at a time. `link` and `peer` index the net's tables; neither is used twice.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The head of what side `from` sent reaches the other side.
    Arrive { link: usize, from: usize },
    /// Side `from` goes on sending.
    Pump { link: usize, from: usize },
    /// What arrived from side `from` is offered to its reader again.
    HandOver { link: usize, from: usize },
    /// The fault: the stream breaks between its ends.
    Break { link: usize },
    /// The fault: the peer resets the stream.
    PeerResets { peer: usize, link: usize },
    /// The fault: the peer hangs up in order.
    PeerHangsUp { peer: usize, link: usize },
    /// A core's connect reaches the listener.
    ConnectArrives { node: usize, conn: Conn, address: usize },
    /// A core's connect is answered.
    Connected { node: usize, conn: Conn },
    /// A core's connect is refused.
    Refused { node: usize, conn: Conn, errno: i32 },
    /// A core takes a stream out of its backlog.
    Accept { link: usize, node: usize, listener: u16 },
    /// A core's send is over.
    Sent { node: usize, conn: Conn },
    /// All that was cancelled by a close has come back.
    Released { node: usize, conn: Conn },
    /// A lingering close has lasted long enough.
    LingerOver { node: usize, conn: Conn },
    /// Somebody rang.
    Doorbell { node: usize },
    /// A client connects.
    PeerConnects { peer: usize },
    /// A client's connect was refused.
    PeerRefused { peer: usize },
    /// A peer's stall is over.
    PeerResumes { peer: usize },
    /// A peer asked to be woken.
    PeerTick { peer: usize },
}

pub(super) struct Clock {
    now: Nanos,
    /// Breaks ties: what was scheduled first happens first.
    sequence: u64,
    queue: BinaryHeap<Due>,
}

struct Due {
    at: Nanos,
    sequence: u64,
    event: Event,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { now: 0, sequence: 0, queue: BinaryHeap::new() }
    }

    pub(super) fn now(&self) -> Nanos {
        self.now
    }

    pub(super) fn schedule(&mut self, at: Nanos, event: Event) {
        self.sequence += 1;
        self.queue.push(Due { at: at.max(self.now), sequence: self.sequence, event });
    }

    pub(super) fn next_at(&self) -> Option<Nanos> {
        self.queue.peek().map(|due| due.at)
    }

    /// Takes the next event that is due by `limit` and moves time to it.
    pub(super) fn pop(&mut self, limit: Nanos) -> Option<Event> {
        if self.next_at()? > limit {
            return None;
        }
        let due = self.queue.pop()?;
        self.now = self.now.max(due.at);
        Some(due.event)
    }

    pub(super) fn advance(&mut self, to: Nanos) {
        self.now = self.now.max(to);
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// Earliest is greatest: the heap gives its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}
