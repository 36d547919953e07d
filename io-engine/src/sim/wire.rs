//! What happens between the sides of a stream: connecting, sending, arriving; and a node's side of it. How it ends is in
//! `endings`.
//!
//! Every function here reacts to one `Event` or one `Op` and schedules what follows. None calls a handler.

use super::clock::Event;
use super::faults::FaultKind;
use super::link::{Item, Link, Owner};
use super::net::{Place, ServerMode, SimNet};
use super::node::{Op, Ready, State};
use super::trace::Shown;
use crate::io::LINGER_NANOS;
use crate::{Conn, ConnectError, Ended, ListenerId, Nanos, Reading};

/// One read brings at most this many bytes (a provided buffer).
const READ_BYTES: usize = 16 * 1024;
/// Bytes handed over and not yet told, per node and buffer group; beyond that there is no buffer.
const GROUP_BYTES: usize = 256 * 1024;
/// An accept that found no descriptor is tried again after this long.
const ACCEPT_BACKOFF_NANOS: Nanos = 1_000_000;
/// How long completions that nothing delays take.
pub(super) const COMPLETION_NANOS: u64 = 20_000;

impl SimNet {
    /// Does what the node's core asked for since the last time.
    pub(super) fn perform(&mut self, node: usize) {
        let mut ops = std::mem::take(&mut self.nodes[node].ops);
        for op in ops.drain(..) {
            if !matches!(op, Op::Send { .. }) {
                self.note(format_args!("node{node} > {op:?}"));
            }
            match op {
                Op::Connect { conn, address } => self.begin_connect(node, conn, &address),
                Op::Send { conn } => self.begin_send(node, conn),
                Op::SetReading { conn, reading } => self.change_reading(node, conn, reading),
                Op::Close { conn, closing, was } => self.begin_close(node, conn, closing, was),
                Op::StopAccepting => self.nodes[node].accepting = false,
            }
        }
        let io = &mut self.nodes[node];
        io.ops = ops;
        for _ in 0..std::mem::take(&mut io.no_descriptors) {
            self.faults_seen.count(FaultKind::NoDescriptors);
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { link, from } => self.arrive(link, from),
            Event::Pump { link, from } => self.pump(link, from),
            Event::HandOver { link, from } => self.hand_over(link, from),
            Event::Break { link } => self.break_between(link),
            Event::PeerResets { peer, link } => self.peer_resets(peer, link),
            Event::PeerHangsUp { peer, link } => self.peer_hangs_up(peer, link),
            Event::ConnectArrives { node, conn, address } => self.connect_arrives(node, conn, address),
            Event::Connected { node, conn } => self.finish_connect(node, conn, Ok(())),
            Event::Refused { node, conn, errno } => self.finish_connect(node, conn, Err(ConnectError::Errno(errno))),
            Event::Accept { link, node, listener } => self.accept(link, node, listener),
            Event::Sent { node, conn } => self.nodes[node].ready.push_back(Ready::Sent { conn }),
            Event::Released { node, conn } => {
                if let Some(slot) = self.nodes[node].slot(conn) {
                    slot.released = true;
                }
                self.nodes[node].release(conn);
            }
            Event::LingerOver { node, conn } => {
                let now = self.clock.now();
                if self.nodes[node].slot(conn).is_some_and(|slot| now >= slot.linger_until) {
                    self.linger_over(node, conn);
                }
            }
            Event::Doorbell { node } => self.nodes[node].ready.push_back(Ready::Doorbell),
            Event::PeerConnects { peer } => self.peer_connects(peer),
            Event::PeerRefused { peer } => self.peer_refused(peer),
            Event::PeerResumes { peer } => self.peer_resumes(peer),
            Event::PeerTick { peer } => self.peer_tick(peer),
        }
    }

    // ---- connecting

    fn begin_connect(&mut self, node: usize, conn: Conn, address: &crate::Address) {
        let faults = self.faults_for(address);
        if self.prng.chance(faults.hang_ppm) || self.mode_of(address) == ServerMode::Hanging {
            self.count(FaultKind::Hung);
            return;
        }
        let at = self.clock.now() + faults.latency_nanos.draw(&mut self.prng);
        let at = at + self.slowness(&faults);
        if self.prng.chance(faults.refuse_ppm) {
            self.count(FaultKind::Refused);
            return self.clock.schedule(at, Event::Refused { node, conn, errno: libc::ECONNREFUSED });
        }
        let address = self.address_index(address);
        self.clock.schedule(at, Event::ConnectArrives { node, conn, address });
    }

    fn connect_arrives(&mut self, node: usize, conn: Conn, address: usize) {
        if self.nodes[node].slot(conn).is_none_or(|slot| slot.state != State::Connecting) {
            return;
        }
        let address = self.addresses[address].clone();
        let Some(place) = self.choose_listener(&address) else {
            return self.finish_connect(node, conn, Err(ConnectError::Errno(libc::ECONNREFUSED)));
        };
        let faults = self.faults_for(&address);
        let link = self.links.len();
        self.links.push(Some(Box::new(Link::new([Owner::Node { node, conn }, Owner::Backlog], faults))));
        if let Some(slot) = self.nodes[node].slot(conn) {
            slot.link = Some((link, 0));
        }
        let answered = self.clock.now() + faults.latency_nanos.draw(&mut self.prng);
        if let Some(link) = &mut self.links[link] {
            link.pipes[1].last_at = answered;
        }
        self.clock.schedule(answered, Event::Connected { node, conn });
        self.reach(link, place);
    }

    /// The far side of a stream just made: a server's peer, or a node's backlog.
    pub(super) fn reach(&mut self, link: usize, place: Place) {
        match place {
            Place::Server(server) => self.peer_accepts(link, server),
            Place::Node { node, listener } => {
                let at = self.clock.now() + self.prng.below(COMPLETION_NANOS);
                self.clock.schedule(at, Event::Accept { link, node, listener });
            }
        }
    }

    fn finish_connect(&mut self, node: usize, conn: Conn, result: Result<(), ConnectError>) {
        let Some(slot) = self.nodes[node].slot(conn).filter(|slot| slot.state == State::Connecting) else { return };
        if result.is_ok() {
            slot.state = State::Open;
        }
        self.nodes[node].ready.push_back(Ready::Connected { conn, result });
    }

    fn accept(&mut self, l: usize, node: usize, listener: u16) {
        if self.links[l].is_none() {
            return;
        }
        if !self.nodes[node].accepting {
            // A listener that is closed resets what waits in its backlog.
            return self.leave(l, 1, true);
        }
        if self.prng.chance(self.faults.no_descriptors_ppm) {
            self.count(FaultKind::AcceptBackoff);
            self.nodes[node].counters.accept_errors += 1;
            let at = self.clock.now() + ACCEPT_BACKOFF_NANOS;
            return self.clock.schedule(at, Event::Accept { link: l, node, listener });
        }
        let Some(conn) = self.nodes[node].allocate(State::Open, 0) else {
            self.nodes[node].counters.accept_refused += 1;
            return self.leave(l, 1, true);
        };
        if let Some(slot) = self.nodes[node].slot(conn) {
            slot.link = Some((l, 1));
        }
        if let Some(link) = &mut self.links[l] {
            link.owners[1] = Owner::Node { node, conn };
        }
        self.nodes[node].counters.accepted += 1;
        self.nodes[node].ready.push_back(Ready::Accepted { listener: ListenerId(listener), conn });
        self.hand_over(l, 0);
    }

    // ---- sending

    fn begin_send(&mut self, node: usize, conn: Conn) {
        let Some(slot) = self.nodes[node].slot(conn) else { return };
        if let Some(sending) = &slot.sending {
            let line = format!("node{node} > {conn:?} sends {}", Shown(&sending.bytes));
            let link = slot.link;
            self.note(format_args!("{line}"));
            if let Some((link, side)) = link {
                self.pump(link, side);
            }
        }
    }

    /// Moves bytes that wait at side `from` into the stream, as far as there is room.
    pub(super) fn pump(&mut self, l: usize, from: usize) {
        let Some(link) = &self.links[l] else { return };
        if link.pipes[from].pump_at > self.clock.now() {
            return;
        }
        match link.owners[from] {
            Owner::Node { node, conn } => self.pump_node(l, from, node, conn),
            Owner::Peer(peer) => self.pump_peer(l, from, peer),
            Owner::Backlog | Owner::Gone => {}
        }
    }

    fn pump_node(&mut self, l: usize, from: usize, node: usize, conn: Conn) {
        let Some(link) = &self.links[l] else { return };
        let (room, faults) = (link.room(from), link.faults);
        let broken = link.pipes[1 - from].reset_arrived;
        let Some(slot) = self.nodes[node].slot(conn) else { return };
        let Some(sending) = slot.sending.as_mut().filter(|sending| sending.result.is_none()) else { return };
        if broken {
            return self.finish_send(node, conn, Err(libc::EPIPE), 0);
        }
        let left = sending.bytes.len() - sending.offset;
        if room < left && !slot.waited_for_room {
            slot.waited_for_room = true;
            self.faults_seen.count(FaultKind::Backpressure);
        }
        if room == 0 {
            return;
        }
        let bytes = self.send_piece(l, from, left.min(room), &faults);
        let Some(slot) = self.nodes[node].slot(conn) else { return };
        let Some(sending) = &mut slot.sending else { return };
        let piece = sending.bytes[sending.offset..sending.offset + bytes].to_vec();
        sending.offset += bytes;
        let finished = sending.offset == sending.bytes.len();
        self.push_transit(l, from, Item::Bytes(piece));
        if finished {
            let mut delay = self.prng.below(COMPLETION_NANOS);
            if self.prng.chance(faults.late_sent_ppm) {
                self.count(FaultKind::LateSent);
                delay += faults.late_nanos.draw(&mut self.prng);
            }
            self.finish_send(node, conn, Ok(()), delay);
        }
    }

    /// How many of `bytes` enter the stream now; the fault is to take fewer and go on later.
    pub(super) fn send_piece(&mut self, l: usize, from: usize, bytes: usize, faults: &super::Faults) -> usize {
        if bytes < 2 || !self.prng.chance(faults.partial_send_ppm) {
            return bytes;
        }
        self.count(FaultKind::PartialSend);
        let at = self.clock.now() + faults.late_nanos.draw(&mut self.prng);
        if let Some(link) = &mut self.links[l] {
            link.pipes[from].pump_at = at;
        }
        self.clock.schedule(at, Event::Pump { link: l, from });
        self.prng.length(bytes - 1)
    }

    pub(super) fn finish_send(&mut self, node: usize, conn: Conn, result: Result<(), i32>, delay: Nanos) {
        let Some(slot) = self.nodes[node].slot(conn) else { return };
        let lingering = slot.state == State::Lingering;
        let link = slot.link;
        let Some(sending) = slot.sending.as_mut().filter(|sending| sending.result.is_none()) else { return };
        sending.result = Some(result);
        let length = sending.bytes.len() as u64;
        self.clock.schedule(self.clock.now() + delay, Event::Sent { node, conn });
        if result.is_ok() {
            self.totals.sent_bytes += length;
        }
        if lingering && let Some((link, side)) = link {
            self.push_fin(link, side);
            self.linger_for(node, conn, LINGER_NANOS);
            self.hand_over(link, 1 - side);
        }
    }

    pub(super) fn push_transit(&mut self, l: usize, from: usize, item: Item) {
        let Some(link) = &mut self.links[l] else { return };
        let faults = link.faults;
        let travel = faults.latency_nanos.draw(&mut self.prng) + self.slowness(&faults);
        let now = self.clock.now();
        let Some(link) = &mut self.links[l] else { return };
        let pipe = &mut link.pipes[from];
        let at = pipe.last_at.max(now + travel);
        pipe.last_at = at;
        if let Item::Bytes(bytes) = &item {
            pipe.transit_bytes += bytes.len();
        }
        pipe.transit.push_back((at, item));
        self.clock.schedule(at, Event::Arrive { link: l, from });
    }

    pub(super) fn push_fin(&mut self, l: usize, from: usize) {
        let Some(link) = &mut self.links[l] else { return };
        let pipe = &mut link.pipes[from];
        if !pipe.fin_sent && !pipe.reset_sent {
            pipe.fin_sent = true;
            self.push_transit(l, from, Item::Fin);
        }
    }

    // ---- arriving

    fn arrive(&mut self, l: usize, from: usize) {
        let now = self.clock.now();
        let Some(link) = &mut self.links[l] else { return };
        let to = 1 - from;
        let pipe = &mut link.pipes[from];
        // A reset may have overtaken what this event was scheduled for.
        if pipe.transit.front().is_none_or(|&(at, _)| at > now) {
            return;
        }
        let Some((_, item)) = pipe.transit.pop_front() else { return };
        match item {
            Item::Bytes(bytes) => {
                pipe.transit_bytes -= bytes.len();
                if link.closed[to] {
                    self.push_reset(l, to);
                } else if !pipe.broken {
                    // What was sent behind a reset, by a side that hadn't heard of it, goes nowhere.
                    self.arrive_bytes(l, from, bytes);
                }
            }
            Item::Fin => {
                pipe.fin_arrived |= !pipe.broken;
                self.hand_over(l, from);
            }
            Item::Reset => self.arrive_reset(l, to),
        }
        self.forget_if_over(l);
    }

    fn arrive_bytes(&mut self, l: usize, from: usize, mut bytes: Vec<u8>) {
        let Some(link) = &self.links[l] else { return };
        let (faults, owners) = (link.faults, link.owners);
        let reset = self.prng.chance(faults.reset_ppm);
        let at_once = self.prng.below(2) == 0;
        if reset && at_once {
            let kept = self.prng.below(bytes.len() as u64 + 1) as usize;
            bytes.truncate(kept);
        }
        if let Some(link) = &mut self.links[l] {
            let pipe = &mut link.pipes[from];
            pipe.broken = reset && at_once;
            pipe.unread.extend(bytes);
        }
        let later = self.clock.now() + if at_once { 0 } else { faults.late_nanos.draw(&mut self.prng) };
        let peer = owners.iter().find_map(|owner| if let Owner::Peer(peer) = *owner { Some(peer) } else { None });
        if reset {
            let event = match peer {
                Some(peer) if self.prng.below(2) == 0 => Event::PeerResets { peer, link: l },
                _ => Event::Break { link: l },
            };
            self.clock.schedule(later, event);
        }
        if let Some(peer) = peer {
            if self.prng.chance(faults.hang_up_ppm) {
                self.clock.schedule(later, Event::PeerHangsUp { peer, link: l });
            }
            if self.prng.chance(faults.stall_ppm) {
                let nanos = faults.stall_nanos.draw(&mut self.prng);
                self.stall(peer, nanos);
            }
        }
        self.hand_over(l, from);
    }

    /// Offers what arrived from side `from` to the other side's reader.
    pub(super) fn hand_over(&mut self, l: usize, from: usize) {
        let Some(link) = &self.links[l] else { return };
        match link.owners[1 - from] {
            Owner::Node { node, conn } => while self.hand_over_node(l, from, node, conn) {},
            Owner::Peer(peer) => while self.hand_over_peer(l, from, peer) {},
            Owner::Backlog | Owner::Gone => {}
        }
    }

    /// One read of a node; true when there may be another.
    fn hand_over_node(&mut self, l: usize, from: usize, node: usize, conn: Conn) -> bool {
        let now = self.clock.now();
        let Some(link) = &mut self.links[l] else { return false };
        let Some(slot) = self.nodes[node].slot(conn) else { return false };
        if slot.state == State::Lingering {
            self.drop_lingering(l, from, node, conn);
            return false;
        }
        let late = slot.reading == Reading::Off;
        let (reads, group) = (!late || now < slot.late_until, slot.group);
        let (ready, pipe) = (slot.state == State::Open && !slot.ended && reads, &mut link.pipes[from]);
        if !ready || pipe.hand_over_at > now {
            return false;
        }
        if pipe.unread.is_empty() {
            let ended = match (pipe.reset_arrived, pipe.fin_arrived) {
                (true, _) => Ended::Errno(libc::ECONNRESET),
                (false, true) => Ended::Eof,
                (false, false) => return false,
            };
            slot.ended = true;
            self.nodes[node].ready.push_back(Ready::Ended { conn, ended });
            return false;
        }
        let faults = link.faults;
        let whole = pipe.unread.len().min(READ_BYTES);
        if self.prng.chance(faults.no_buffers_ppm) || self.nodes[node].held_bytes[group] + whole > GROUP_BYTES {
            self.count(FaultKind::NoBuffers);
            self.totals.no_buffers += 1;
            self.nodes[node].counters.enobufs += 1;
            let delay = faults.late_nanos.draw(&mut self.prng);
            self.hand_over_later(l, from, delay);
            return false;
        }
        let bytes = self.read_piece(l, from, whole);
        if late {
            self.count(FaultKind::LateOff);
        }
        let io = &mut self.nodes[node];
        io.held_bytes[group] += bytes.len();
        self.totals.received_bytes += bytes.len() as u64;
        io.ready.push_back(Ready::Received { conn, bytes, group });
        if let Some(slot) = io.slot(conn)
            && slot.reading == Reading::Once
        {
            slot.reading = Reading::Off;
        }
        self.pump(l, from);
        true
    }

    /// Takes up to `whole` unread bytes; the fault is to take fewer and go on later.
    pub(super) fn read_piece(&mut self, l: usize, from: usize, whole: usize) -> Vec<u8> {
        let Some(link) = &self.links[l] else { return Vec::new() };
        let faults = link.faults;
        let mut bytes = whole;
        if whole > 1 && self.prng.chance(faults.cut_ppm) {
            self.count(FaultKind::Cut);
            bytes = self.prng.length(whole - 1);
            // Mostly at once, so that the rest often comes in the same turn.
            let delay = if self.prng.below(2) == 0 { 0 } else { faults.latency_nanos.draw(&mut self.prng) };
            self.hand_over_later(l, from, delay + 1);
        }
        self.links[l].as_mut().map_or_else(Vec::new, |link| link.pipes[from].unread.drain(..bytes).collect())
    }

    pub(super) fn hand_over_later(&mut self, l: usize, from: usize, delay: Nanos) {
        let at = self.clock.now() + delay;
        if let Some(link) = &mut self.links[l] {
            link.pipes[from].hand_over_at = at;
        }
        self.clock.schedule(at, Event::HandOver { link: l, from });
    }

    fn change_reading(&mut self, node: usize, conn: Conn, reading: Reading) {
        let late = reading == Reading::Off && self.prng.chance(self.faults.late_off_ppm);
        let until = self.clock.now() + self.faults.late_nanos.draw(&mut self.prng);
        let Some(slot) = self.nodes[node].slot(conn) else { return };
        if late {
            slot.late_until = until;
        }
        if let Some((link, side)) = slot.link {
            self.hand_over(link, 1 - side);
        }
    }

    pub(super) fn slowness(&mut self, faults: &super::Faults) -> Nanos {
        if !self.prng.chance(faults.slow_ppm) {
            return 0;
        }
        self.count(FaultKind::Slow);
        faults.slow_nanos.draw(&mut self.prng)
    }
}
