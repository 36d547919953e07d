//! The simulated engine keeps what `Io` and `Handler` promise, under every fault, and gives every seed one history.
//!
//! `Ledger` is the judge: cores do their sends and closes through it and tell it every event.

use keyway_io_engine::sim::{
    FaultCounts, FaultKind, Faults, NodeId, Peer, PeerEnd, PeerId, PeerOut, PeerReading, Prng, Ran, Script, ServerMode,
    SimIo, SimNet, Span, address,
};
use keyway_io_engine::{Address, Closing, Conn, ConnectError, Ended, Handler, Io, ListenerId, Nanos, Reading, Wait};
use std::collections::{HashMap, HashSet};

const SEEDS: u64 = 256;
const SECOND: Nanos = 1_000_000_000;
/// A core stops reading with so many unsent bytes, and reads again at half.
const UNSENT_MAX: usize = 2048;

fn patiently<H>(_: &mut H) -> Wait {
    Wait { deadline: None, immediate: false, in_flight: 0 }
}

// ---- the judge

/// Checks the engine's promises from the core's side.
#[derive(Default)]
struct Ledger {
    /// Every name ever seen.
    names: HashSet<Conn>,
    open: HashSet<Conn>,
    ended: HashSet<Conn>,
    /// Where the vector in flight is, and what is in it.
    sends: HashMap<Conn, (usize, Vec<u8>)>,
    /// Sends of gone connections may be several.
    returned: HashMap<Conn, usize>,
}

impl Ledger {
    fn opened(&mut self, conn: Conn) {
        assert!(self.names.insert(conn), "{conn:?} is used twice");
        let same = |other: &Conn| other.index == conn.index;
        assert!(!self.open.iter().any(same), "{conn:?} has the index of an open one");
        assert!(!self.sends.keys().any(same), "{conn:?} has the index of one with a send in flight");
        self.open.insert(conn);
    }

    fn told(&self, conn: Conn) {
        assert!(self.open.contains(&conn), "an event of {conn:?}, which is closed");
    }

    fn received(&self, conn: Conn, bytes: &[u8]) {
        self.told(conn);
        assert!(!bytes.is_empty() && !self.ended.contains(&conn), "{conn:?} received after its end, or nothing");
    }

    fn ended(&mut self, conn: Conn) {
        self.told(conn);
        assert!(self.ended.insert(conn), "{conn:?} ended twice");
    }

    fn send(&mut self, io: &mut SimIo, conn: Conn, bytes: Vec<u8>) {
        if self.open.contains(&conn) {
            self.sends.insert(conn, (bytes.as_ptr() as usize, bytes.clone()));
        } else {
            *self.returned.entry(conn).or_default() += 1;
        }
        io.send(conn, bytes);
    }

    fn sent(&mut self, conn: Conn, bytes: &[u8], result: Result<(), i32>) {
        let place = bytes.as_ptr() as usize;
        if self.sends.get(&conn).is_some_and(|send| send.0 == place) {
            let contents = self.sends.remove(&conn).map(|send| send.1);
            assert!(contents.as_deref() == Some(bytes), "{conn:?} got its vector back changed");
            return;
        }
        let left = self.returned.get_mut(&conn).filter(|left| **left > 0);
        let left = left.unwrap_or_else(|| panic!("{conn:?} gave a vector back twice"));
        *left -= 1;
        assert!(result.is_err());
    }

    fn close(&mut self, io: &mut SimIo, conn: Conn, closing: Closing) {
        self.open.remove(&conn);
        io.close(conn, closing);
    }

    fn is_settled(&self) -> bool {
        self.sends.is_empty() && self.returned.values().all(|left| *left == 0)
    }
}

// ---- a core that relays: each client's bytes to a partner, which is itself (echo) or a connection to a server (proxy)

#[derive(Default)]
struct Relay {
    ledger: Ledger,
    /// Without one, echo.
    upstream: Option<Address>,
    lines: HashMap<Conn, Line>,
    doorbells: usize,
    prng: Option<Prng>,
}

struct Line {
    /// Where what is read here goes.
    partner: Conn,
    /// What is to be sent here.
    unsent: Vec<u8>,
    in_flight: bool,
    connected: bool,
    /// The partner's reading is off until this drains.
    throttled: bool,
    /// Close once all is sent.
    closing: bool,
}

impl Line {
    fn new(partner: Conn, connected: bool) -> Self {
        Self { partner, unsent: Vec::new(), in_flight: false, connected, throttled: false, closing: false }
    }
}

impl Relay {
    fn flush(&mut self, io: &mut SimIo, conn: Conn) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        if line.connected && !line.in_flight && !line.unsent.is_empty() {
            line.in_flight = true;
            let bytes = std::mem::take(&mut line.unsent);
            self.ledger.send(io, conn, bytes);
        } else if line.closing && line.connected && !line.in_flight {
            self.lines.remove(&conn);
            self.ledger.close(io, conn, Closing::Linger);
        }
    }

    fn drop_both(&mut self, io: &mut SimIo, conn: Conn) {
        let Some(line) = self.lines.remove(&conn) else { return };
        self.ledger.close(io, conn, Closing::Now);
        // A send on a connection just closed comes back as failed; so do several.
        self.ledger.send(io, conn, b"too late".to_vec());
        self.ledger.send(io, conn, b"again".to_vec());
        if line.partner != conn {
            self.drop_both(io, line.partner);
        }
    }
}

impl Handler<SimIo> for Relay {
    fn accepted(&mut self, io: &mut SimIo, _: ListenerId, conn: Conn) {
        self.ledger.opened(conn);
        let Some(upstream) = &self.upstream else {
            self.lines.insert(conn, Line::new(conn, true));
            return;
        };
        match io.connect(upstream) {
            Ok(partner) => {
                self.ledger.opened(partner);
                self.lines.insert(conn, Line::new(partner, true));
                self.lines.insert(partner, Line::new(conn, false));
            }
            Err(error) => {
                assert_eq!(error, ConnectError::OutOfDescriptors);
                self.ledger.close(io, conn, Closing::Linger);
            }
        }
    }

    fn connected(&mut self, io: &mut SimIo, conn: Conn, result: Result<(), ConnectError>) {
        self.ledger.told(conn);
        match result {
            Ok(()) => {
                if let Some(line) = self.lines.get_mut(&conn) {
                    line.connected = true;
                }
                self.flush(io, conn);
            }
            Err(_) => {
                self.ledger.open.remove(&conn);
                if let Some(line) = self.lines.remove(&conn) {
                    self.drop_both(io, line.partner);
                }
            }
        }
    }

    fn received(&mut self, io: &mut SimIo, conn: Conn, bytes: &[u8]) {
        self.ledger.received(conn, bytes);
        let Some(partner) = self.lines.get(&conn).map(|line| line.partner) else { return };
        let Some(line) = self.lines.get_mut(&partner) else { return };
        line.unsent.extend_from_slice(bytes);
        if line.unsent.len() > UNSENT_MAX && !line.throttled {
            line.throttled = true;
            io.set_reading(conn, Reading::Off);
        }
    }

    fn ended(&mut self, io: &mut SimIo, conn: Conn, ended: Ended) {
        self.ledger.ended(conn);
        let Some(line) = self.lines.get(&conn) else { return };
        match ended {
            Ended::Eof => {
                let partner = line.partner;
                if let Some(line) = self.lines.get_mut(&partner) {
                    line.closing = true;
                }
                if partner != conn {
                    self.lines.remove(&conn);
                    self.ledger.close(io, conn, Closing::Linger);
                }
                self.flush(io, partner);
            }
            Ended::Errno(_) => self.drop_both(io, conn),
        }
    }

    fn sent(&mut self, io: &mut SimIo, conn: Conn, bytes: Vec<u8>, result: Result<(), i32>) {
        self.ledger.sent(conn, &bytes, result);
        let Some(line) = self.lines.get_mut(&conn) else { return };
        line.in_flight = false;
        if result.is_err() {
            return self.drop_both(io, conn);
        }
        if line.throttled && line.unsent.len() <= UNSENT_MAX / 2 {
            line.throttled = false;
            // One read at a time now and then; the next `sent` or turn puts it right.
            let once = self.prng.get_or_insert_with(|| Prng::new(1)).below(3) == 0;
            let partner = line.partner;
            if once {
                line.throttled = true;
            }
            io.set_reading(partner, if once { Reading::Once } else { Reading::On });
        }
        self.flush(io, conn);
    }

    fn doorbell(&mut self, _: &mut SimIo) {
        self.doorbells += 1;
    }

    fn turn_ended(&mut self, io: &mut SimIo) {
        let mut names: Vec<Conn> = self.lines.keys().copied().collect();
        names.sort_by_key(|conn| conn.index);
        for conn in names {
            self.flush(io, conn);
            // A line left at `Once` with nothing more to send would sleep for ever.
            if let Some(line) = self.lines.get_mut(&conn)
                && line.throttled
                && !line.in_flight
                && line.unsent.is_empty()
            {
                line.throttled = false;
                io.set_reading(line.partner, Reading::On);
            }
        }
    }
}

// ---- peers

/// A client that says random bytes in random pieces, reads in fits, and checks what comes back byte by byte.
struct Babbler {
    left: usize,
    said: Vec<u8>,
    heard: usize,
    /// Closes its sending side once all is said; else its whole side once all is heard.
    half_closes: bool,
    end: Option<PeerEnd>,
}

impl Babbler {
    fn new(bytes: usize, half_closes: bool) -> Self {
        Self { left: bytes, said: Vec::new(), heard: 0, half_closes, end: None }
    }

    fn is_exact(&self) -> bool {
        self.left == 0 && self.heard == self.said.len()
    }

    fn babble(&mut self, out: &mut PeerOut) {
        let bytes = out.prng().length(3000).min(self.left);
        let piece: Vec<u8> = (0..bytes).map(|_| out.prng().draw() as u8).collect();
        out.send(&piece);
        self.said.extend_from_slice(&piece);
        self.left -= bytes;
        if self.left == 0 {
            out.read(PeerReading::On);
            if self.half_closes {
                out.finish();
            }
            return;
        }
        let reading = match out.prng().below(4) {
            0 => PeerReading::Off,
            1 => PeerReading::UpTo(out.prng().length(500)),
            _ => PeerReading::On,
        };
        out.read(reading);
        let pause = out.prng().below(2_000_000);
        out.tick_in(pause);
    }
}

impl Peer for Babbler {
    fn on_connect(&mut self, out: &mut PeerOut) {
        self.babble(out);
    }

    fn on_bytes(&mut self, bytes: &[u8], out: &mut PeerOut) {
        let expected = self.said.get(self.heard..self.heard + bytes.len());
        assert_eq!(expected, Some(bytes), "what came back isn't what was said");
        self.heard += bytes.len();
        if self.is_exact() && !self.half_closes {
            out.close();
        }
    }

    fn on_close(&mut self, end: PeerEnd, _: &mut PeerOut) {
        self.end = Some(end);
    }

    fn on_tick(&mut self, out: &mut PeerOut) {
        if self.end.is_none() && self.left > 0 {
            self.babble(out);
        }
    }
}

/// A server that says everything again, some of it later.
struct Parrot;

impl Peer for Parrot {
    fn on_bytes(&mut self, bytes: &[u8], out: &mut PeerOut) {
        let delay = out.prng().below(300_000);
        out.send_in(delay, bytes);
    }
}

// ---- the many seeds

struct Outcome {
    hash: u64,
    faults: FaultCounts,
    exact: usize,
}

/// Babblers through a relay; every one hears a prefix of what it said, and everything when nothing is lost.
fn babble(seed: u64, faults: Faults, proxied: bool, all_exact: bool) -> Outcome {
    let mut net = SimNet::new(seed, faults);
    let node = net.node(&[address(1)]);
    let mut core = Relay { upstream: proxied.then(|| address(2)), ..Relay::default() };
    net.server("parrot", &address(2), || Parrot);
    let mut prng = Prng::new(seed ^ 0x5eed);
    let clients: Vec<PeerId> = (0..4 + prng.below(5))
        .map(|n| {
            let bytes = prng.length(20_000);
            let half_closes = !proxied && prng.below(2) == 0;
            net.client(&format!("client{n}"), &address(1), prng.below(3_000_000), Babbler::new(bytes, half_closes))
        })
        .collect();
    net.run_clients(&mut core, patiently, 1000 * SECOND);
    // Let what was left behind come back: hung connects end with their client only if somebody ends them.
    let leftover: Vec<Conn> = core.lines.keys().copied().collect();
    let mut leftover: Vec<Conn> = leftover.into_iter().filter(|conn| core.ledger.open.contains(conn)).collect();
    leftover.sort_by_key(|conn| conn.index);
    for conn in leftover {
        core.drop_both(net.io(node), conn);
    }
    assert_eq!(net.run(&mut core, patiently, 100 * SECOND), Ran::Quiet, "seed {seed}");
    assert!(core.ledger.is_settled() && net.sends_in_flight(node) == 0, "seed {seed}: a vector wasn't given back");
    assert_eq!(net.io(node).connections(), 0, "seed {seed}: a connection wasn't freed");
    let exact = clients.iter().filter(|&&client| net.peer::<Babbler>(client).is_exact()).count();
    assert!(!all_exact || exact == clients.len(), "seed {seed}: only {exact} of {} heard all", clients.len());
    Outcome { hash: net.trace_hash(), faults: *net.faults_seen(), exact }
}

#[test]
fn echoes_are_prefixes_under_all_faults() {
    let (mut seen, mut exact) = (FaultCounts::default(), 0);
    for seed in 0..SEEDS {
        let outcome = babble(seed, Faults::drawn(&mut Prng::new(seed)), false, false);
        seen.add(&outcome.faults);
        exact += outcome.exact;
    }
    assert!(exact as u64 > SEEDS, "hardly anybody heard all: {exact}");
    // Echo connects nowhere.
    let missing: Vec<FaultKind> = seen.missing().filter(|&kind| kind != FaultKind::NoDescriptors).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

#[test]
fn proxied_echoes_are_prefixes_under_all_faults() {
    let (mut seen, mut exact) = (FaultCounts::default(), 0);
    for seed in 0..SEEDS {
        let outcome = babble(seed, Faults::drawn(&mut Prng::new(seed)), true, false);
        seen.add(&outcome.faults);
        exact += outcome.exact;
    }
    assert!(exact as u64 > SEEDS / 2, "hardly anybody heard all: {exact}");
    assert_eq!(seen.missing().collect::<Vec<_>>(), [], "faults that never happened");
}

#[test]
fn nothing_is_lost_without_loss() {
    for seed in 0..SEEDS / 4 {
        babble(seed, Faults::lossless(), false, true);
        babble(seed, Faults::lossless(), true, true);
        babble(seed, Faults::drawn(&mut Prng::new(seed)).without_loss(), true, true);
    }
}

#[test]
fn a_seed_is_a_history() {
    let mut hashes = HashSet::new();
    for seed in 0..32 {
        let [first, second] = [(); 2].map(|()| babble(seed, Faults::wild(), true, false).hash);
        assert_eq!(first, second, "seed {seed}");
        hashes.insert(first);
    }
    assert_eq!(hashes.len(), 32, "different seeds, the same history");
}

// ---- the promises one by one

/// A core that does what each event says in a table, and writes down what it is told.
#[derive(Default)]
struct Scribe {
    heard: Vec<String>,
    on_accepted: Option<fn(&mut SimIo, Conn)>,
    on_received: Option<fn(&mut SimIo, Conn)>,
    last: Option<Conn>,
}

impl Handler<SimIo> for Scribe {
    fn accepted(&mut self, io: &mut SimIo, listener: ListenerId, conn: Conn) {
        self.heard.push(format!("accepted {}", listener.0));
        self.last = Some(conn);
        if let Some(act) = self.on_accepted {
            act(io, conn);
        }
    }

    fn connected(&mut self, _: &mut SimIo, _: Conn, result: Result<(), ConnectError>) {
        self.heard.push(format!("connected {result:?}"));
    }

    fn received(&mut self, io: &mut SimIo, conn: Conn, bytes: &[u8]) {
        self.heard.push(format!("received {}", bytes.len()));
        if let Some(act) = self.on_received {
            act(io, conn);
        }
    }

    fn ended(&mut self, _: &mut SimIo, _: Conn, ended: Ended) {
        self.heard.push(format!("ended {ended:?}"));
    }

    fn sent(&mut self, _: &mut SimIo, _: Conn, bytes: Vec<u8>, result: Result<(), i32>) {
        self.heard.push(format!("sent {} {result:?}", bytes.len()));
    }

    fn doorbell(&mut self, _: &mut SimIo) {
        self.heard.push("doorbell".to_owned());
    }

    fn turn_ended(&mut self, _: &mut SimIo) {}
}

/// One client against a scribe, without faults: what both hear.
fn check(mut core: Scribe, script: Script, heard: &[&str], client_hears: usize, client_end: Option<PeerEnd>) {
    let mut net = SimNet::new(1, Faults::none());
    net.node(&[address(1)]);
    let client = net.client("client", &address(1), 0, script);
    assert_eq!(net.run(&mut core, patiently, 100 * SECOND), Ran::Quiet);
    assert_eq!(core.heard, heard);
    assert_eq!(net.peer::<Script>(client).received().len(), client_hears);
    assert_eq!(net.peer::<Script>(client).end(), client_end);
}

fn upon_accept(act: fn(&mut SimIo, Conn)) -> Scribe {
    Scribe { on_accepted: Some(act), ..Scribe::default() }
}

fn upon_bytes(act: fn(&mut SimIo, Conn)) -> Scribe {
    Scribe { on_received: Some(act), ..Scribe::default() }
}

#[test]
fn reading() {
    let thrice = || Script::new().send(b"one").pause(SECOND).send(b"second").pause(SECOND).send(b"the third").finish();
    let silent: &[&str] = &["accepted 0"];
    check(upon_accept(|io, conn| io.set_reading(conn, Reading::Off)), thrice(), silent, 0, None);
    check(
        upon_accept(|io, conn| io.set_reading(conn, Reading::Once)),
        thrice(),
        &["accepted 0", "received 3"],
        0,
        None,
    );
    let all: &[&str] = &["accepted 0", "received 3", "received 6", "received 9", "ended Eof"];
    check(Scribe::default(), thrice(), all, 0, None);
    check(upon_bytes(|io, conn| io.set_reading(conn, Reading::Once)), thrice(), all, 0, None);
    let reset = Script::new().send(b"one").pause(SECOND).reset();
    check(Scribe::default(), reset, &["accepted 0", "received 3", "ended Errno(104)"], 0, None);
}

#[test]
fn closing() {
    let answer = |io: &mut SimIo, conn: Conn| io.send(conn, vec![b'x'; 1000]);
    let now = |io: &mut SimIo, conn: Conn| {
        io.send(conn, vec![b'x'; 1_000_000]);
        io.close(conn, Closing::Now);
        io.send(conn, b"gone".to_vec());
        io.close(conn, Closing::Now);
        io.set_reading(conn, Reading::On);
    };
    let linger = |io: &mut SimIo, conn: Conn| {
        io.send(conn, vec![b'x'; 200_000]);
        io.close(conn, Closing::Linger);
    };
    let ask = || Script::new().send(b"ask");
    check(upon_bytes(answer), ask(), &["accepted 0", "received 3", "sent 1000 Ok(())"], 1000, None);
    // The vector comes back, what the kernel had of it arrives, nothing else is told.
    let heard = &["accepted 0", "received 3", "sent 4 Err(107)", "sent 1000000 Err(125)"];
    check(upon_bytes(now), ask(), heard, 64 * 1024, Some(PeerEnd::Eof));
    let heard = &["accepted 0", "received 3", "sent 200000 Ok(())"];
    check(upon_bytes(linger), ask().send(b"more, dropped"), heard, 200_000, Some(PeerEnd::Eof));
    // One that never reads: the linger's time ends it.
    let deaf = ask().read(PeerReading::Off).pause(20 * SECOND).read(PeerReading::On);
    let heard = &["accepted 0", "received 3", "sent 200000 Err(125)"];
    check(upon_bytes(linger), deaf, heard, 64 * 1024, Some(PeerEnd::Eof));
}

#[test]
fn a_deaf_client_keeps_the_send_in_flight() {
    let mut net = SimNet::new(3, Faults::none());
    let node = net.node(&[address(1)]);
    let mut core = upon_accept(|io, conn| io.send(conn, vec![7; 300_000]));
    let deaf = Script::new().read(PeerReading::Off).pause(5 * SECOND).read(PeerReading::UpTo(300_000));
    let client = net.client("deaf", &address(1), 0, deaf);
    assert_eq!(net.run(&mut core, patiently, 4 * SECOND), Ran::TimeUp);
    assert_eq!((net.sends_in_flight(node), net.peer::<Script>(client).received().len()), (1, 0));
    assert_eq!(net.run(&mut core, patiently, 4 * SECOND), Ran::Quiet);
    assert_eq!((net.sends_in_flight(node), net.peer::<Script>(client).received().len()), (0, 300_000));
    assert_eq!(core.heard, ["accepted 0", "sent 300000 Ok(())"]);
    assert_eq!(net.faults_seen()[FaultKind::Backpressure], 1);
}

#[test]
#[should_panic(expected = "while a send is in flight")]
fn two_sends_at_once_are_a_mistake() {
    let twice = upon_accept(|io, conn| {
        io.send(conn, b"one".to_vec());
        io.send(conn, b"two".to_vec());
    });
    check(twice, Script::new(), &[], 0, None);
}

#[test]
fn connects_end_as_the_server_is() {
    let no_answer = Faults { hang_ppm: 1_000_000, ..Faults::none() };
    for (mode, faults, heard) in [
        (ServerMode::Accepting, Faults::none(), &["connected Ok(())"] as &[&str]),
        (ServerMode::Refusing, Faults::none(), &["connected Err(Errno(111))"]),
        (ServerMode::Hanging, Faults::none(), &[]),
        (ServerMode::Accepting, no_answer, &[]),
    ] {
        let mut net = SimNet::new(4, Faults::none());
        let node = net.node(&[]);
        net.server("server", &address(2), || Parrot);
        net.set_mode(&address(2), mode);
        net.set_faults(&address(2), faults);
        let mut core = Scribe::default();
        let conn = net.io(node).connect(&address(2)).expect("a descriptor");
        assert_eq!(net.run(&mut core, patiently, SECOND), Ran::Quiet);
        assert_eq!(core.heard, heard, "{mode:?}");
        net.io(node).close(conn, Closing::Now);
        assert_eq!(net.run(&mut core, patiently, SECOND), Ran::Quiet);
        assert_eq!((core.heard.len(), net.io(node).connections()), (heard.len(), 0), "told after the close");
        // The index is used again under the next generation.
        let next = net.io(node).connect(&address(2)).expect("a descriptor");
        assert_eq!((next.index, next.generation), (conn.index, conn.generation + 1));
    }
}

#[test]
fn turns_wait_for_events_or_their_deadline() {
    let mut net = SimNet::new(5, Faults::none());
    let node: NodeId = net.node(&[address(1)]);
    let mut core = Scribe::default();
    let wait = |deadline, immediate| Wait { deadline, immediate, in_flight: 0 };
    assert!(!net.turn(node, &mut core, wait(None, false)), "nothing will come");
    assert!(net.turn(node, &mut core, wait(Some(SECOND), false)) && net.now() >= SECOND);
    assert!(net.turn(node, &mut core, wait(None, true)) && net.now() < 2 * SECOND);
    net.ring(node);
    assert!(net.turn(node, &mut core, wait(None, false)));
    assert_eq!(core.heard, ["doorbell"]);
    // A core with a deadline is never quiet; one whose deadline has always passed spins and is told so.
    let mut beats = 0;
    let beat = |_: &mut Scribe| {
        beats += 1;
        wait(Some(beats * SECOND), false)
    };
    assert_eq!(net.run(&mut core, beat, 30 * SECOND), Ran::TimeUp);
}

#[test]
fn a_drained_node_refuses_and_its_neighbour_accepts() {
    let mut net = SimNet::new(6, Faults::none());
    let nodes = [net.node(&[address(9), address(1)]), net.node(&[address(1)])];
    let mut cores = [Scribe::default(), Scribe::default()];
    for n in 0..40 {
        net.client(&format!("early{n}"), &address(1), 0, Script::new().close());
    }
    assert_eq!(net.run_nodes(&mut cores, patiently, SECOND), Ran::Quiet);
    assert!(net.clients_are_done());
    net.io(nodes[0]).stop_accepting();
    let late = net.client("late", &address(1), 1, Script::new().close());
    let lost = net.client("lost", &address(9), 1, Script::new());
    net.run_nodes(&mut cores, patiently, SECOND);
    net.client("last", &address(1), SECOND, Script::new().close());
    net.run_nodes(&mut cores, patiently, 5 * SECOND);
    let accepted = |core: &Scribe, what: &str| core.heard.iter().filter(|line| *line == what).count();
    let (first, second) = (accepted(&cores[0], "accepted 1"), accepted(&cores[1], "accepted 0"));
    assert!(first > 5 && second > 5 && first + second == 42, "{first} + {second}");
    assert!(net.peer::<Script>(late).was_connected());
    assert_eq!(net.peer::<Script>(lost).end(), Some(PeerEnd::Refused));
}

#[test]
fn servers_die_stall_and_come_back() {
    let mut net = SimNet::new(8, Faults { latency_nanos: Span::new(1000, 1000), ..Faults::none() });
    net.node(&[address(1)]);
    net.server("parrot", &address(2), || Parrot);
    let mut core = Relay { upstream: Some(address(2)), ..Relay::default() };
    let mut say = |net: &mut SimNet, seconds: Nanos| {
        let client = net.client("client", &address(1), 0, Script::new().send(b"hello").expect(5).pause(SECOND).close());
        net.run(&mut core, patiently, seconds * SECOND);
        (net.peer::<Script>(client).received().len(), net.peer::<Script>(client).end(), client)
    };
    let (heard, end, _) = say(&mut net, 5);
    assert_eq!((heard, end), (5, None));
    net.set_mode(&address(2), ServerMode::Refusing);
    let (heard, end, _) = say(&mut net, 5);
    assert!(heard == 0 && end.is_some());
    net.set_mode(&address(2), ServerMode::Accepting);
    net.client("client", &address(1), 0, Script::new());
    net.run(&mut Relay { upstream: Some(address(2)), ..Relay::default() }, patiently, SECOND);
    net.reset_server(&address(2));
    assert_eq!(net.server_peers(&address(2)).len(), 2);
    assert_eq!(net.faults_seen()[FaultKind::ResetByPeer], 1);
}

/// Speaks a second after it is connected to.
struct Slowpoke;

impl Peer for Slowpoke {
    fn on_connect(&mut self, out: &mut PeerOut) {
        out.send_in(SECOND, b"later");
    }

    fn on_bytes(&mut self, _: &[u8], _: &mut PeerOut) {}
}

#[test]
fn a_stalled_server_is_silent_and_goes_on() {
    // Without a node: a client straight to a server.
    let mut net = SimNet::new(9, Faults::none());
    net.server("slowpoke", &address(2), || Slowpoke);
    let client = net.client("client", &address(2), 0, Script::new().expect(5));
    let run = |net: &mut SimNet, nanos: Nanos| {
        net.run_nodes(&mut [] as &mut [Scribe], patiently, nanos);
        net.peer::<Script>(client).received().len()
    };
    assert_eq!(run(&mut net, SECOND / 2), 0);
    net.stall_server(&address(2), 3 * SECOND);
    assert_eq!(run(&mut net, 2 * SECOND), 0);
    assert_eq!(run(&mut net, 2 * SECOND), 5);
    assert!(net.clients_are_done());
}
