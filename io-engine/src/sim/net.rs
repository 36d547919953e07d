//! The simulated network as a test sees it: build it from a seed, add nodes, servers and clients, run, look.
//!
//! Owns everything. One loop (`drive`) does what is due: a turn of a node that has something to do, the choice among several
//! drawn; else the network's next event; else the nearest deadline of a core.

use super::clock::{Clock, Event};
use super::faults::{FaultCounts, FaultKind, Faults};
use super::link::Link;
use super::node::{Ready, SimIo, State};
use super::peer::{Peer, PeerId};
use super::peers::{PeerKind, PeerSlot};
use super::prng::Prng;
use super::trace::{Shown, Trace};
use crate::{Address, Handler, Nanos, Wait};
use std::any::Any;
use std::fmt;

/// Lines of trace kept unless told otherwise.
const TRACE_LINES: usize = 300;
/// A turn takes from 1 us to this long, so a core that always has work doesn't stop time.
const TURN_NANOS_MAX: Nanos = 10_000;
/// So many turns in a row without an event are a core that spins.
const IDLE_TURNS_MAX: u32 = 50_000;

/// Names a node of a net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(usize);

/// Why a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// Nothing will ever happen again.
    Quiet,
    /// Every client is done (`run_clients` only).
    ClientsDone,
    /// The time is up.
    TimeUp,
}

/// How a server answers connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMode {
    /// It accepts.
    Accepting,
    /// It refuses.
    Refusing,
    /// It never answers.
    Hanging,
}

/// What a net has carried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Turns of all nodes.
    pub turns: u64,
    /// Events told to all cores.
    pub events: u64,
    /// Bytes handed to cores.
    pub received_bytes: u64,
    /// Bytes of cores' sends that went well.
    pub sent_bytes: u64,
    /// Reads that found no buffer.
    pub no_buffers: u64,
}

/// A network of cores and scripted peers, in virtual time.
pub struct SimNet {
    seed: u64,
    pub(super) clock: Clock,
    pub(super) prng: Prng,
    pub(super) faults: Faults,
    pub(super) faults_seen: FaultCounts,
    pub(super) totals: Totals,
    pub(super) trace: Trace,
    pub(super) nodes: Vec<SimIo>,
    pub(super) peers: Vec<PeerSlot>,
    pub(super) servers: Vec<Server>,
    pub(super) links: Vec<Option<Box<Link>>>,
    pub(super) addresses: Vec<Address>,
    listeners: Vec<(Address, Place)>,
    manners: Vec<(Address, Faults)>,
    modes: Vec<(Address, ServerMode)>,
}

/// Who listens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Node { node: usize, listener: u16 },
    Server(usize),
}

pub(super) struct Server {
    pub(super) name: String,
    pub(super) factory: Box<dyn FnMut() -> Box<dyn Peer>>,
    pub(super) connections: usize,
}

// ---- building

impl SimNet {
    /// An empty net, all chance drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            clock: Clock::new(),
            prng: Prng::new(seed),
            faults,
            faults_seen: FaultCounts::default(),
            totals: Totals::default(),
            trace: Trace::new(TRACE_LINES),
            nodes: Vec::new(),
            peers: Vec::new(),
            servers: Vec::new(),
            links: Vec::new(),
            addresses: Vec::new(),
            listeners: Vec::new(),
            manners: Vec::new(),
            modes: Vec::new(),
        }
    }

    /// Adds a node that listens on `listeners`: `ListenerId` is the place in this list. Several nodes may listen on one
    /// address; connections are then spread by chance.
    pub fn node(&mut self, listeners: &[Address]) -> NodeId {
        let node = self.nodes.len();
        for (listener, address) in (0u16..).zip(listeners) {
            self.listeners.push((address.clone(), Place::Node { node, listener }));
        }
        let prng = self.prng.fork();
        self.nodes.push(SimIo::new(prng, self.faults.no_descriptors_ppm));
        NodeId(node)
    }

    /// Adds a server: `factory` makes one peer per connection.
    pub fn server<P: Peer>(&mut self, name: &str, address: &Address, mut factory: impl FnMut() -> P + 'static) {
        let server = self.servers.len();
        self.servers.push(Server {
            name: name.to_owned(),
            factory: Box::new(move || Box::new(factory())),
            connections: 0,
        });
        self.listeners.push((address.clone(), Place::Server(server)));
    }

    /// Adds a client that connects to `address` in `start_in` from now.
    pub fn client<P: Peer>(&mut self, name: &str, address: &Address, start_in: Nanos, peer: P) -> PeerId {
        let address = self.address_index(address);
        let id = self.peers.len();
        let prng = self.prng.fork();
        self.peers.push(PeerSlot::new(name.to_owned(), PeerKind::Client { address }, Box::new(peer), prng));
        self.clock.schedule(self.clock.now() + start_in, Event::PeerConnects { peer: id });
        PeerId(id)
    }

    /// Other manners for streams connected to `address` from now on (turns keep the net's own).
    pub fn set_faults(&mut self, address: &Address, faults: Faults) {
        self.manners.retain(|(known, _)| known != address);
        self.manners.push((address.clone(), faults));
    }

    /// At most so many connections at once on `node`, closing ones included.
    pub fn set_connections_max(&mut self, node: NodeId, connections: usize) {
        self.nodes[node.0].connections_max = connections;
    }

    /// Keeps the last `lines` of the trace.
    pub fn set_trace_lines(&mut self, lines: usize) {
        self.trace.set_capacity(lines);
    }
}

// ---- running

impl SimNet {
    /// Runs the only node until nothing is left to happen, at most for `limit_nanos` from now. `wait_of` asks the core how
    /// long its next turn may wait; it is asked after every turn.
    pub fn run<H: Handler<SimIo>>(&mut self, core: &mut H, wait_of: impl FnMut(&mut H) -> Wait, limit: Nanos) -> Ran {
        self.drive(std::slice::from_mut(core), wait_of, limit, false)
    }

    /// As `run`, but also returns when every client is done.
    pub fn run_clients<H: Handler<SimIo>>(
        &mut self,
        core: &mut H,
        wait_of: impl FnMut(&mut H) -> Wait,
        limit: Nanos,
    ) -> Ran {
        self.drive(std::slice::from_mut(core), wait_of, limit, true)
    }

    /// As `run`, for several nodes: `cores[n]` is the core of the node added as number n.
    pub fn run_nodes<H: Handler<SimIo>>(
        &mut self,
        cores: &mut [H],
        wait_of: impl FnMut(&mut H) -> Wait,
        limit: Nanos,
    ) -> Ran {
        self.drive(cores, wait_of, limit, false)
    }

    /// One turn of one node, as the ring's: waits, in virtual time, for an event or the deadline. False, and no turn, when
    /// neither will come.
    pub fn turn<H: Handler<SimIo>>(&mut self, node: NodeId, core: &mut H, wait: Wait) -> bool {
        self.perform_all();
        while !wait.immediate && self.nodes[node.0].ready.is_empty() {
            let limit = wait.deadline.unwrap_or(Nanos::MAX);
            match self.clock.pop(limit) {
                Some(event) => self.happen(event),
                None if wait.deadline.is_none() => return false,
                None => {
                    self.clock.advance(limit);
                    break;
                }
            }
        }
        self.take_turn(node.0, core, wait.immediate);
        true
    }

    fn drive<H: Handler<SimIo>>(
        &mut self,
        cores: &mut [H],
        mut wait_of: impl FnMut(&mut H) -> Wait,
        limit: Nanos,
        stop_when_done: bool,
    ) -> Ran {
        assert_eq!(cores.len(), self.nodes.len(), "one core per node");
        let limit = self.clock.now().saturating_add(limit);
        let mut waits: Vec<Wait> = cores.iter_mut().map(&mut wait_of).collect();
        let mut idle_turns = 0;
        self.perform_all();
        loop {
            if stop_when_done && self.clients_are_done() {
                return Ran::ClientsDone;
            }
            if self.clock.now() >= limit {
                return Ran::TimeUp;
            }
            let able: Vec<usize> = (0..waits.len()).filter(|&node| self.is_able(node, waits[node])).collect();
            if !able.is_empty() {
                let node = able[self.prng.below(able.len() as u64) as usize];
                let told = self.take_turn(node, &mut cores[node], waits[node].immediate);
                idle_turns = if told == 0 { idle_turns + 1 } else { 0 };
                assert!(idle_turns < IDLE_TURNS_MAX, "node{node} spins: {:?} at {}", waits[node], self.clock.now());
                waits[node] = wait_of(&mut cores[node]);
                continue;
            }
            let deadline = waits.iter().filter_map(|wait| wait.deadline).min();
            let due = self.clock.next_at();
            let Some(next) = deadline.into_iter().chain(due).min() else { return Ran::Quiet };
            if next >= limit {
                self.clock.advance(limit);
            } else if let Some(event) = self.clock.pop(next) {
                self.happen(event);
            } else {
                self.clock.advance(next);
            }
        }
    }

    /// Has something to do now.
    fn is_able(&self, node: usize, wait: Wait) -> bool {
        let is_due = wait.deadline.is_some_and(|at| at <= self.clock.now());
        wait.immediate || is_due || !self.nodes[node].ready.is_empty()
    }

    /// Tells a core its events; how many.
    fn take_turn<H: Handler<SimIo>>(&mut self, node: usize, core: &mut H, immediate: bool) -> usize {
        let gather = self.prng.between(0, self.faults.gather_nanos);
        if !immediate {
            let until = self.clock.now() + gather;
            while let Some(event) = self.clock.pop(until) {
                self.happen(event);
            }
            self.clock.advance(until);
        }
        if self.prng.chance(self.faults.doorbell_ppm) {
            self.count(FaultKind::Doorbell);
            let place = self.prng.below(self.nodes[node].ready.len() as u64 + 1) as usize;
            self.nodes[node].ready.insert(place, Ready::Doorbell);
        }
        let mut events = self.nodes[node].ready.len();
        if events > 1 && self.prng.chance(self.faults.split_turn_ppm) {
            self.count(FaultKind::SplitTurn);
            events = self.prng.length(events - 1);
        }
        self.tell(node, core, events);
        if self.prng.chance(self.faults.empty_turn_ppm) {
            self.count(FaultKind::EmptyTurn);
            self.tell(node, core, 0);
        }
        events
    }

    fn tell<H: Handler<SimIo>>(&mut self, node: usize, core: &mut H, events: usize) {
        let now = self.clock.now();
        self.nodes[node].now = now;
        self.totals.turns += 1;
        self.nodes[node].counters.enters += 1;
        let mut heard_of = None;
        let mut batch = false;
        for _ in 0..events {
            let Some(ready) = self.nodes[node].ready.pop_front() else { break };
            if let Ready::Received { conn, .. } = ready {
                batch |= heard_of.replace(conn).is_some_and(|other| other != conn);
            }
            self.totals.events += 1;
            self.nodes[node].counters.completions += 1;
            self.tell_one(node, core, ready);
            self.perform(node);
        }
        if batch {
            self.count(FaultKind::Batch);
        }
        core.turn_ended(&mut self.nodes[node]);
        self.perform(node);
        let cost = self.prng.between(1_000, TURN_NANOS_MAX);
        self.clock.advance(now + cost);
    }

    /// One event, unless the core has closed the connection in the meantime. Only `sent` comes always.
    fn tell_one<H: Handler<SimIo>>(&mut self, node: usize, core: &mut H, ready: Ready) {
        match ready {
            Ready::Accepted { listener, conn } => {
                if let Some(slot) = self.nodes[node].open(conn) {
                    slot.announced = true;
                    self.note(format_args!("node{node} < accepted {conn:?} on {listener:?}"));
                    core.accepted(&mut self.nodes[node], listener, conn);
                }
            }
            Ready::Connected { conn, result } => {
                let Some(slot) = self.nodes[node].open(conn) else { return };
                slot.announced = true;
                if result.is_err() {
                    (slot.state, slot.released) = (State::Closing, true);
                    self.nodes[node].release(conn);
                }
                self.note(format_args!("node{node} < connected {conn:?} {result:?}"));
                core.connected(&mut self.nodes[node], conn, result);
            }
            Ready::Received { conn, bytes, group } => {
                self.nodes[node].held_bytes[group] -= bytes.len();
                if self.nodes[node].open(conn).is_some() {
                    self.note(format_args!("node{node} < {conn:?} received {}", Shown(&bytes)));
                    core.received(&mut self.nodes[node], conn, &bytes);
                }
            }
            Ready::Ended { conn, ended } => {
                if self.nodes[node].open(conn).is_some() {
                    self.note(format_args!("node{node} < ended {conn:?} {ended:?}"));
                    core.ended(&mut self.nodes[node], conn, ended);
                }
            }
            Ready::Sent { conn } => {
                let sending = self.nodes[node].slot(conn).and_then(|slot| slot.sending.take());
                let Some((sending, result)) =
                    sending.and_then(|sending| sending.result.map(|result| (sending, result)))
                else {
                    unreachable!("a send on {conn:?} is over twice");
                };
                self.nodes[node].sends_ended += 1;
                self.nodes[node].release(conn);
                self.note(format_args!("node{node} < sent {conn:?} {} bytes {result:?}", sending.bytes.len()));
                core.sent(&mut self.nodes[node], conn, sending.bytes, result);
            }
            Ready::Returned { conn, bytes } => {
                self.nodes[node].sends_ended += 1;
                self.note(format_args!("node{node} < returned {conn:?} {} bytes", bytes.len()));
                core.sent(&mut self.nodes[node], conn, bytes, Err(libc::ENOTCONN));
            }
            Ready::Doorbell => {
                self.note(format_args!("node{node} < doorbell"));
                self.nodes[node].counters.doorbells += 1;
                core.doorbell(&mut self.nodes[node]);
            }
        }
    }
}

// ---- meddling and looking

impl SimNet {
    /// A node's engine, for what a test asks of a core between turns (`core.drain(net.io(node))`).
    pub fn io(&mut self, node: NodeId) -> &mut SimIo {
        self.nodes[node.0].now = self.clock.now();
        &mut self.nodes[node.0]
    }

    /// Rings a node's doorbell.
    pub fn ring(&mut self, node: NodeId) {
        let at = self.clock.now() + self.prng.below(TURN_NANOS_MAX);
        self.clock.schedule(at, Event::Doorbell { node: node.0 });
    }

    /// How connects to `address` are answered from now on.
    pub fn set_mode(&mut self, address: &Address, mode: ServerMode) {
        self.modes.retain(|(known, _)| known != address);
        self.modes.push((address.clone(), mode));
    }

    /// Resets every connection of the servers at `address`, as when they are killed.
    pub fn reset_server(&mut self, address: &Address) {
        for PeerId(peer) in self.server_peers(address) {
            if let Some((link, _)) = self.peers[peer].link {
                self.peer_resets(peer, link);
            }
        }
    }

    /// Makes every connection of the servers at `address` silent and deaf.
    pub fn stall_server(&mut self, address: &Address, nanos: Nanos) {
        for PeerId(peer) in self.server_peers(address) {
            self.stall(peer, nanos);
        }
    }

    /// The peers, one per connection so far, that the servers at `address` have had.
    #[must_use]
    pub fn server_peers(&self, address: &Address) -> Vec<PeerId> {
        let is_there = |server: usize| {
            let listens = |(known, place): &(Address, Place)| {
                known == address && matches!(place, Place::Server(there) if *there == server)
            };
            self.listeners.iter().any(listens)
        };
        let peers = self.peers.iter().enumerate();
        peers
            .filter(|(_, slot)| matches!(slot.kind, PeerKind::Server { server } if is_there(server)))
            .map(|(index, _)| PeerId(index))
            .collect()
    }

    /// A peer's script, to look at. Panics if it isn't a `P`.
    #[must_use]
    pub fn peer<P: Peer>(&self, peer: PeerId) -> &P {
        let script = self.peers[peer.0].script().and_then(|script| (script as &dyn Any).downcast_ref());
        script.unwrap_or_else(|| panic!("{} is of another type", self.peers[peer.0].name))
    }

    /// A peer's script, to change. Panics if it isn't a `P`.
    pub fn peer_mut<P: Peer>(&mut self, peer: PeerId) -> &mut P {
        let slot = &mut self.peers[peer.0];
        let name = slot.name.clone();
        let script = slot.script_mut().and_then(|script| (script as &mut dyn Any).downcast_mut());
        script.unwrap_or_else(|| panic!("{name} is of another type"))
    }

    /// True when there are clients and all are done: they said so, closed, or were closed on.
    #[must_use]
    pub fn clients_are_done(&self) -> bool {
        let mut clients = self.peers.iter().filter(|slot| matches!(slot.kind, PeerKind::Client { .. })).peekable();
        clients.peek().is_some() && clients.all(|slot| slot.done)
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// The seed it was made from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Vectors of `node` that the engine still has.
    #[must_use]
    pub fn sends_in_flight(&self, node: NodeId) -> u64 {
        self.nodes[node.0].counters.sends - self.nodes[node.0].sends_ended
    }

    /// Which faults have happened.
    #[must_use]
    pub fn faults_seen(&self) -> &FaultCounts {
        &self.faults_seen
    }

    /// What was carried.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Depends on everything that happened, in its order.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// A line in the trace, for a test's own remarks.
    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        self.trace.push(self.clock.now(), text);
    }
}

impl fmt::Display for SimNet {
    /// The seed and the last lines of the trace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "simulation of seed {}, {:?}, {} earlier lines left out:",
            self.seed,
            self.totals,
            self.trace.dropped()
        )?;
        self.trace.lines().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Drop for SimNet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{self}");
        }
    }
}

// ---- for the other parts of the net

impl SimNet {
    fn perform_all(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.perform(node));
    }

    pub(super) fn count(&mut self, kind: FaultKind) {
        self.faults_seen.count(kind);
    }

    pub(super) fn address_index(&mut self, address: &Address) -> usize {
        let known = self.addresses.iter().position(|known| known == address);
        known.unwrap_or_else(|| {
            self.addresses.push(address.clone());
            self.addresses.len() - 1
        })
    }

    pub(super) fn faults_for(&self, address: &Address) -> Faults {
        self.manners.iter().find(|(known, _)| known == address).map_or(self.faults, |&(_, faults)| faults)
    }

    pub(super) fn mode_of(&self, address: &Address) -> ServerMode {
        self.modes.iter().find(|(known, _)| known == address).map_or(ServerMode::Accepting, |&(_, mode)| mode)
    }

    /// One of those who accept on `address`, by chance.
    pub(super) fn choose_listener(&mut self, address: &Address) -> Option<Place> {
        if self.mode_of(address) != ServerMode::Accepting {
            return None;
        }
        let accepts = |place: Place| match place {
            Place::Node { node, .. } => self.nodes[node].accepting,
            Place::Server(_) => true,
        };
        let places = self.listeners.iter().filter(|(known, place)| known == address && accepts(*place));
        let places: Vec<Place> = places.map(|&(_, place)| place).collect();
        let chosen = self.prng.below(places.len() as u64) as usize;
        places.get(chosen).copied()
    }
}
