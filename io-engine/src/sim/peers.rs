//! The peers' side of the network: connecting and accepting, what they send and read, what befalls them.
//!
//! A peer is called only from here, never while another call of it is on the stack, and what it asks is done after it
//! returned.

use super::clock::Event;
use super::faults::FaultKind;
use super::link::{Item, Link, Owner};
use super::net::{ServerMode, SimNet};
use super::peer::{Act, Peer, PeerEnd, PeerOut, PeerReading};
use super::prng::Prng;
use super::trace::Shown;
use crate::Nanos;
use std::collections::VecDeque;
use std::fmt;

/// One read of a peer brings at most this many bytes.
const READ_BYTES: usize = 64 * 1024;

/// A script may say so much that nobody has read yet.
const WAITING_BYTES_MAX: usize = 256 << 20;

pub(super) struct PeerSlot {
    /// Away while it is called.
    peer: Option<Box<dyn Peer>>,
    pub(super) name: String,
    pub(super) kind: PeerKind,
    /// Its stream and its side of it.
    pub(super) link: Option<(usize, usize)>,
    /// What it said and the stream hasn't taken, each with its earliest time.
    out: VecDeque<(Nanos, Vec<u8>)>,
    /// Bytes in `out`.
    waiting: usize,
    fin_after: bool,
    reading: PeerReading,
    stalled_until: Nanos,
    stay_open: bool,
    pub(super) done: bool,
    reconnecting: bool,
    prng: Prng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerKind {
    /// Of the address with this index.
    Client { address: usize },
    /// A connection of the server with this index.
    Server { server: usize },
}

impl PeerSlot {
    pub(super) fn new(name: String, kind: PeerKind, peer: Box<dyn Peer>, prng: Prng) -> Self {
        Self {
            peer: Some(peer),
            name,
            kind,
            link: None,
            out: VecDeque::new(),
            waiting: 0,
            fin_after: false,
            reading: PeerReading::On,
            stalled_until: 0,
            stay_open: false,
            done: false,
            reconnecting: false,
            prng,
        }
    }

    /// The script itself; `None` only while it is called.
    pub(super) fn script(&self) -> Option<&dyn Peer> {
        self.peer.as_deref()
    }

    pub(super) fn script_mut(&mut self) -> Option<&mut dyn Peer> {
        self.peer.as_deref_mut()
    }
}

impl SimNet {
    // ---- connecting

    pub(super) fn peer_connects(&mut self, peer: usize) {
        let PeerKind::Client { address } = self.peers[peer].kind else { return };
        self.detach(peer, false);
        let slot = &mut self.peers[peer];
        (slot.reconnecting, slot.fin_after, slot.stay_open, slot.done) = (false, false, false, false);
        slot.reading = PeerReading::On;
        let address = self.addresses[address].clone();
        let faults = self.faults_for(&address);
        let now = self.clock.now();
        if self.prng.chance(faults.hang_ppm) || self.mode_of(&address) == ServerMode::Hanging {
            self.count(FaultKind::Hung);
            let at = now + faults.stall_nanos.draw(&mut self.prng);
            return self.clock.schedule(at, Event::PeerRefused { peer });
        }
        if self.prng.chance(faults.refuse_ppm) {
            self.count(FaultKind::Refused);
            return self.clock.schedule(now, Event::PeerRefused { peer });
        }
        let Some(place) = self.choose_listener(&address) else {
            return self.clock.schedule(now, Event::PeerRefused { peer });
        };
        let link = self.links.len();
        self.links.push(Some(Box::new(Link::new([Owner::Peer(peer), Owner::Backlog], faults))));
        self.peers[peer].link = Some((link, 0));
        self.reach(link, place);
        self.call(peer, "connected", |peer, out| peer.on_connect(out));
    }

    pub(super) fn peer_refused(&mut self, peer: usize) {
        self.peers[peer].done = true;
        self.call(peer, "refused", |peer, out| peer.on_close(PeerEnd::Refused, out));
    }

    pub(super) fn peer_accepts(&mut self, link: usize, server: usize) {
        let script = (self.servers[server].factory)();
        let peer = self.peers.len();
        self.servers[server].connections += 1;
        let name = format!("{}#{}", self.servers[server].name, self.servers[server].connections);
        let prng = self.prng.fork();
        let mut slot = PeerSlot::new(name, PeerKind::Server { server }, script, prng);
        slot.link = Some((link, 1));
        self.peers.push(slot);
        if let Some(link) = &mut self.links[link] {
            link.owners[1] = Owner::Peer(peer);
        }
        self.call(peer, "accepted", |peer, out| peer.on_connect(out));
    }

    // ---- sending

    pub(super) fn pump_peer(&mut self, l: usize, from: usize, peer: usize) {
        let now = self.clock.now();
        let Some(link) = &self.links[l] else { return };
        let (room, faults) = (link.room(from), link.faults);
        let slot = &mut self.peers[peer];
        if slot.stalled_until > now {
            return;
        }
        let mut waiting: usize = 0;
        let mut wake_at = None;
        for (not_before, bytes) in &slot.out {
            if *not_before > now {
                wake_at = Some(*not_before);
                break;
            }
            waiting += bytes.len();
        }
        if let Some(at) = wake_at {
            self.clock.schedule(at, Event::Pump { link: l, from });
        }
        if waiting > 0 && room > 0 {
            let bytes = self.send_piece(l, from, waiting.min(room), &faults);
            let piece = self.peers[peer].take(bytes);
            self.push_transit(l, from, Item::Bytes(piece));
        }
        let slot = &mut self.peers[peer];
        if slot.out.is_empty() && slot.fin_after {
            self.push_fin(l, from);
            if self.links[l].as_ref().is_some_and(|link| link.closed[from]) {
                self.detach(peer, false);
            }
        }
    }

    // ---- reading

    /// One read of a peer; true when there may be another.
    pub(super) fn hand_over_peer(&mut self, l: usize, from: usize, peer: usize) -> bool {
        let now = self.clock.now();
        let Some(link) = &mut self.links[l] else { return false };
        let slot = &mut self.peers[peer];
        let pipe = &mut link.pipes[from];
        if slot.stalled_until > now || link.closed[1 - from] || pipe.hand_over_at > now || slot.peer.is_none() {
            return false;
        }
        let limit = match slot.reading {
            PeerReading::On => READ_BYTES,
            PeerReading::UpTo(bytes) => bytes.min(READ_BYTES),
            PeerReading::Off => 0,
        };
        if limit == 0 {
            return false;
        }
        if pipe.unread.is_empty() {
            if pipe.fin_arrived && !pipe.fin_told {
                pipe.fin_told = true;
                self.peer_hears_eof(l, from, peer);
            }
            return false;
        }
        let whole = pipe.unread.len().min(limit);
        let bytes = self.read_piece(l, from, whole);
        let slot = &mut self.peers[peer];
        if let PeerReading::UpTo(left) = slot.reading {
            slot.reading = if left > bytes.len() { PeerReading::UpTo(left - bytes.len()) } else { PeerReading::Off };
        }
        self.pump(l, from);
        self.note_peer(peer, format_args!("< {}", Shown(&bytes)));
        self.call(peer, "received", |peer, out| peer.on_bytes(&bytes, out));
        true
    }

    fn peer_hears_eof(&mut self, l: usize, from: usize, peer: usize) {
        self.peers[peer].done = true;
        self.call(peer, "eof", |peer, out| peer.on_close(PeerEnd::Eof, out));
        if self.peers[peer].link == Some((l, 1 - from)) && !self.peers[peer].stay_open {
            self.close_peer(peer);
        }
    }

    // ---- ending

    /// Reads no more, sends what is left to be sent, then a FIN.
    fn close_peer(&mut self, peer: usize) {
        let Some((l, side)) = self.peers[peer].link else { return };
        let Some(link) = &mut self.links[l] else { return };
        link.closed[side] = true;
        let unread = !link.pipes[1 - side].unread.is_empty();
        self.peers[peer].fin_after = true;
        if unread {
            // As the kernel does it: input that nobody will read is answered with a reset.
            return self.detach(peer, true);
        }
        self.pump(l, side);
    }

    /// The peer has nothing to do with its stream any more: what it still had to say is dropped.
    pub(super) fn detach(&mut self, peer: usize, force: bool) {
        let slot = &mut self.peers[peer];
        slot.unsay();
        if let Some((link, side)) = slot.link.take() {
            self.leave(link, side, force);
        }
    }

    /// A reset reached the peer.
    pub(super) fn peer_reset(&mut self, l: usize, side: usize, peer: usize) {
        if let Some(link) = &mut self.links[l] {
            let closed = std::mem::replace(&mut link.closed[side], true);
            link.owners[side] = Owner::Gone;
            let slot = &mut self.peers[peer];
            slot.link = None;
            slot.unsay();
            slot.done = true;
            if !closed {
                self.call(peer, "reset", |peer, out| peer.on_close(PeerEnd::Reset, out));
            }
        }
    }

    /// The fault: the peer resets its stream.
    pub(super) fn peer_resets(&mut self, peer: usize, l: usize) {
        if !self.is_attached(peer, l) {
            return self.break_between(l);
        }
        self.count(FaultKind::ResetByPeer);
        self.detach(peer, true);
        self.peers[peer].done = true;
        self.call(peer, "resets by fault", |peer, out| peer.on_close(PeerEnd::Fault, out));
    }

    /// The fault: the peer closes in order, perhaps in the middle of what it had to say.
    pub(super) fn peer_hangs_up(&mut self, peer: usize, l: usize) {
        if !self.is_attached(peer, l) {
            return;
        }
        self.count(FaultKind::HangUp);
        let slot = &mut self.peers[peer];
        let kept = self.prng.below(slot.waiting as u64 + 1) as usize;
        let piece = slot.take(kept);
        slot.unsay();
        if !piece.is_empty() {
            slot.waiting = piece.len();
            slot.out.push_back((self.clock.now(), piece));
        }
        slot.done = true;
        self.close_peer(peer);
        self.call(peer, "hangs up by fault", |peer, out| peer.on_close(PeerEnd::Fault, out));
    }

    /// On this stream, and hasn't closed it.
    fn is_attached(&self, peer: usize, l: usize) -> bool {
        let (slot, link) = (&self.peers[peer], &self.links[l]);
        matches!((slot.link, link), (Some((own, side)), Some(link)) if own == l && !link.closed[side])
    }

    // ---- time

    pub(super) fn stall(&mut self, peer: usize, nanos: Nanos) {
        self.count(FaultKind::Stall);
        let until = self.clock.now() + nanos;
        let slot = &mut self.peers[peer];
        if until > slot.stalled_until {
            slot.stalled_until = until;
            self.clock.schedule(until, Event::PeerResumes { peer });
            self.note_peer(peer, format_args!("stalls for {} us", nanos / 1000));
        }
    }

    pub(super) fn peer_resumes(&mut self, peer: usize) {
        if let Some((l, side)) = self.peers[peer].link {
            self.pump(l, side);
            self.hand_over(l, 1 - side);
        }
    }

    pub(super) fn peer_tick(&mut self, peer: usize) {
        let stalled_until = self.peers[peer].stalled_until;
        if stalled_until > self.clock.now() {
            return self.clock.schedule(stalled_until, Event::PeerTick { peer });
        }
        self.call(peer, "tick", |peer, out| peer.on_tick(out));
    }

    // ---- calling

    fn call(&mut self, peer: usize, what: &str, tell: impl FnOnce(&mut dyn Peer, &mut PeerOut)) {
        let slot = &mut self.peers[peer];
        let Some(mut script) = slot.peer.take() else { return };
        let mut out = PeerOut { now: self.clock.now(), prng: slot.prng.clone(), acts: Vec::new() };
        if what != "received" && what != "tick" {
            self.note_peer(peer, format_args!("{what}"));
        }
        tell(script.as_mut(), &mut out);
        let slot = &mut self.peers[peer];
        slot.prng = out.prng;
        slot.peer = Some(script);
        for act in out.acts {
            self.act(peer, act);
        }
    }

    fn note_peer(&mut self, peer: usize, text: fmt::Arguments<'_>) {
        self.trace.push(self.clock.now(), format_args!("{} {text}", self.peers[peer].name));
    }

    fn act(&mut self, peer: usize, act: Act) {
        let slot = &mut self.peers[peer];
        let link = slot.link;
        match act {
            Act::Send { not_before, bytes } => {
                if let Some((l, side)) = link
                    && !slot.fin_after
                {
                    slot.waiting += bytes.len();
                    assert!(slot.waiting <= WAITING_BYTES_MAX, "{} says more than anybody reads", slot.name);
                    slot.out.push_back((not_before, bytes));
                    self.pump(l, side);
                }
            }
            Act::Finish => {
                slot.fin_after = true;
                if let Some((l, side)) = link {
                    self.pump(l, side);
                }
            }
            Act::Close => {
                slot.done = !slot.reconnecting;
                self.close_peer(peer);
            }
            Act::Reset => {
                slot.done = !slot.reconnecting;
                self.detach(peer, true);
            }
            Act::Tick { at } => self.clock.schedule(at, Event::PeerTick { peer }),
            Act::Read(reading) => {
                slot.reading = reading;
                if let Some((l, side)) = link {
                    self.clock.schedule(self.clock.now(), Event::HandOver { link: l, from: 1 - side });
                }
            }
            Act::StayOpen => slot.stay_open = true,
            Act::Done => slot.done = true,
            Act::Reconnect { at } => {
                if matches!(slot.kind, PeerKind::Client { .. }) && !slot.reconnecting {
                    slot.reconnecting = true;
                    slot.done = false;
                    self.clock.schedule(at, Event::PeerConnects { peer });
                }
            }
        }
    }
}

impl PeerSlot {
    fn unsay(&mut self) {
        self.out.clear();
        self.waiting = 0;
    }

    /// The first `bytes` of what it said.
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut taken = Vec::with_capacity(bytes);
        while taken.len() < bytes {
            let Some((_, front)) = self.out.front_mut() else { break };
            let wanted = bytes - taken.len();
            if front.len() <= wanted {
                taken.append(front);
                self.out.pop_front();
            } else {
                taken.extend(front.drain(..wanted));
            }
        }
        self.waiting -= taken.len();
        taken
    }
}
