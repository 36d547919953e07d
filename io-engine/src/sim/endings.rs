//! How a stream ends: resets, closes, the lingering close, and what each side is told of it.
//!
//! As in `wire`, every function reacts to one thing and schedules what follows; none calls a handler.

use super::clock::Event;
use super::faults::FaultKind;
use super::link::{Item, Owner};
use super::net::SimNet;
use super::node::State;
use super::wire::COMPLETION_NANOS;
use crate::io::{LINGER_BYTES, LINGER_NANOS};
use crate::{Closing, Conn, Nanos};

/// A lingering close waits this long for its send in flight, before the linger itself begins.
const FLUSH_NANOS: Nanos = 10 * LINGER_NANOS;

impl SimNet {
    /// Side `from` resets the stream.
    pub(super) fn push_reset(&mut self, l: usize, from: usize) {
        let lost = self.prng.below(2) == 0;
        let Some(link) = &mut self.links[l] else { return };
        let pipe = &mut link.pipes[from];
        if pipe.reset_sent {
            return;
        }
        pipe.reset_sent = true;
        if lost && pipe.transit_bytes > 0 {
            pipe.transit.clear();
            pipe.transit_bytes = 0;
            self.faults_seen.count(FaultKind::LostOnReset);
        }
        self.push_transit(l, from, Item::Reset);
    }

    pub(super) fn arrive_reset(&mut self, l: usize, to: usize) {
        let from = 1 - to;
        let lost = self.prng.below(2) == 0;
        let Some(link) = &mut self.links[l] else { return };
        link.pipes[to].reset_sent = true;
        link.pipes[from].reset_arrived = true;
        link.pipes[from].broken = true;
        if lost && !link.pipes[from].unread.is_empty() {
            link.pipes[from].unread.clear();
            self.faults_seen.count(FaultKind::LostOnReset);
        }
        match link.owners[to] {
            Owner::Node { node, conn } => self.node_reset(l, from, node, conn),
            Owner::Peer(peer) => self.peer_reset(l, to, peer),
            Owner::Backlog | Owner::Gone => {}
        }
    }

    /// The kernel fails the send and the read; which is told first is chance.
    pub(super) fn node_reset(&mut self, l: usize, from: usize, node: usize, conn: Conn) {
        let Some(slot) = self.nodes[node].slot(conn) else { return };
        let sending = slot.sending.as_ref().is_some_and(|sending| sending.result.is_none());
        if !sending {
            return self.hand_over(l, from);
        }
        let gap = 1 + self.prng.below(COMPLETION_NANOS);
        if self.prng.below(2) == 0 {
            self.finish_send(node, conn, Err(libc::ECONNRESET), gap);
            self.hand_over(l, from);
            if self.nodes[node].open(conn).is_some_and(|slot| slot.ended) {
                self.count(FaultKind::EndedBeforeSent);
            }
        } else {
            self.count(FaultKind::SentBeforeEnded);
            self.finish_send(node, conn, Err(libc::ECONNRESET), 0);
            self.hand_over_later(l, from, gap);
        }
    }

    pub(super) fn break_between(&mut self, l: usize) {
        let Some(link) = &self.links[l] else { return };
        if link.pipes.iter().any(|pipe| pipe.reset_sent) {
            return;
        }
        self.count(FaultKind::ResetBetween);
        self.push_reset(l, 0);
        self.push_reset(l, 1);
    }

    pub(super) fn begin_close(&mut self, node: usize, conn: Conn, closing: Closing, was: State) {
        let Some(slot) = self.nodes[node].slot(conn) else { return };
        let in_flight = slot.sending.as_ref().is_some_and(|sending| sending.result.is_none());
        let link = slot.link;
        if let (Closing::Linger, State::Open, Some((link, side))) = (closing, was, link) {
            if !in_flight {
                self.push_fin(link, side);
            }
            self.linger_for(node, conn, if in_flight { FLUSH_NANOS } else { LINGER_NANOS });
            return self.hand_over(link, 1 - side);
        }
        if let Some((link, side)) = link {
            let delay = self.prng.below(COMPLETION_NANOS);
            self.finish_send(node, conn, Err(libc::ECANCELED), delay);
            self.leave(link, side, false);
        }
        let at = self.clock.now() + self.prng.below(COMPLETION_NANOS);
        self.clock.schedule(at, Event::Released { node, conn });
    }

    /// Side `side` closes its descriptor: unread input, or force, makes it a reset.
    pub(super) fn leave(&mut self, l: usize, side: usize, force: bool) {
        let Some(link) = &mut self.links[l] else { return };
        link.closed[side] = true;
        link.owners[side] = Owner::Gone;
        if force || !link.pipes[1 - side].unread.is_empty() {
            link.pipes[1 - side].unread.clear();
            self.push_reset(l, side);
        } else {
            self.push_fin(l, side);
        }
        self.forget_if_over(l);
    }

    /// A lingering close reads and drops, until the peer closes or enough is enough.
    pub(super) fn drop_lingering(&mut self, l: usize, from: usize, node: usize, conn: Conn) {
        let Some(link) = &mut self.links[l] else { return };
        let pipe = &mut link.pipes[from];
        let dropped = pipe.unread.len();
        pipe.unread.clear();
        let over = pipe.reset_arrived || pipe.fin_arrived;
        let Some(slot) = self.nodes[node].slot(conn) else { return };
        slot.lingered += dropped;
        let pending = slot.sending.as_ref().is_some_and(|sending| sending.result.is_none());
        if slot.lingered > LINGER_BYTES || (over && !pending) {
            self.linger_over(node, conn);
        } else if dropped > 0 {
            self.pump(l, from);
        }
    }

    pub(super) fn linger_for(&mut self, node: usize, conn: Conn, nanos: Nanos) {
        let until = self.clock.now() + nanos;
        if let Some(slot) = self.nodes[node].slot(conn) {
            slot.linger_until = until;
            self.clock.schedule(until, Event::LingerOver { node, conn });
        }
    }

    pub(super) fn linger_over(&mut self, node: usize, conn: Conn) {
        let Some(slot) = self.nodes[node].slot(conn).filter(|slot| slot.state == State::Lingering) else { return };
        slot.state = State::Closing;
        let link = slot.link;
        self.finish_send(node, conn, Err(libc::ECANCELED), 0);
        if let Some((link, side)) = link {
            self.leave(link, side, false);
        }
        let at = self.clock.now() + self.prng.below(COMPLETION_NANOS);
        self.clock.schedule(at, Event::Released { node, conn });
    }

    pub(super) fn forget_if_over(&mut self, l: usize) {
        if self.links[l].as_ref().is_some_and(|link| link.is_over()) {
            self.links[l] = None;
        }
    }
}
