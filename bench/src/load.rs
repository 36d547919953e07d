//! One thread's load: connections that ask, check every reply and time it.
//!
//! Owns: the clients' connections, what each still waits for, the phases of a load. The pure part of the load generator:
//! it is a `Handler`, runs on any engine, and learns the time from it alone.
//!
//! Invariants: a client has at most `pipeline` requests without a reply and one send in flight; replies are matched to
//! requests in order; a request is counted exactly once, as answered or as an error.

use crate::keys::{KeyPicker, Random};
use crate::pacing::Schedule;
use crate::replies::{Asked, Checked, Checker, Outcome};
use crate::stats::{ErrorKind, Stats};
use crate::values::Values;
use keyway_io_engine::{Address, Closing, Conn, ConnectError, Ended, Handler, Io, ListenerId, Nanos};
use std::collections::VecDeque;
use std::time::Duration;

/// Before a lost connection is made anew.
const RECONNECT_AFTER: Nanos = 100_000_000;
/// How long after the last request its reply is waited for.
const DRAIN_TIME: Nanos = 5_000_000_000;
/// How long all connections may take at the start.
const CONNECT_TIME: Nanos = 10_000_000_000;
/// Requests in flight on each connection while the keys are stored first.
const WARM_PIPELINE: usize = 16;

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Until {
    Requests(u64),
    Elapsed(Duration),
}

/// What one thread is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) target: Address,
    pub(crate) clients: usize,
    pub(crate) pipeline: usize,
    pub(crate) until: Until,
    /// Requests a second for the open loop; `None` asks again as soon as an answer is there.
    pub(crate) rate: Option<f64>,
    /// Of `sets + gets` requests, so many are sets.
    pub(crate) sets: u32,
    pub(crate) gets: u32,
    pub(crate) keys: KeyPicker,
    /// Key numbers this thread stores before it begins.
    pub(crate) warm: std::ops::Range<u64>,
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Warming,
    Running,
    Draining,
    Over,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    key: u64,
    asked: Asked,
    meant_for: Nanos,
}

#[derive(Debug)]
enum Link {
    Down { retry_at: Nanos },
    Connecting(Conn),
    Up(Conn),
}

#[derive(Debug)]
struct Client {
    link: Link,
    waiting: VecDeque<Waiting>,
    /// Part of a reply.
    input: Vec<u8>,
    output: Vec<u8>,
    sending: bool,
    dirty: bool,
    /// Open loop: requests that came due, and those of them that were sent.
    owed: u64,
    issued: u64,
}

/// One thread's load.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    plan: Plan,
    values: &'a Values,
    clients: Vec<Client>,
    /// Client by `Conn::index`.
    by_conn: Vec<usize>,
    dirty: Vec<usize>,
    phase: Phase,
    phase_began: Nanos,
    warm_next: u64,
    issued: u64,
    waiting: usize,
    /// Clients without a connection.
    down: usize,
    schedule: Option<Schedule>,
    run_began: Nanos,
    random: Random,
    checker: Checker,
    stats: Stats,
}

impl<'a> Load<'a> {
    pub(crate) fn new(plan: Plan, values: &'a Values) -> Load<'a> {
        let client = |_| Client {
            link: Link::Down { retry_at: 0 },
            waiting: VecDeque::with_capacity(plan.pipeline.max(WARM_PIPELINE)),
            input: Vec::new(),
            output: Vec::new(),
            sending: false,
            dirty: false,
            owed: 0,
            issued: 0,
        };
        Load {
            clients: (0..plan.clients).map(client).collect(),
            by_conn: Vec::new(),
            dirty: Vec::new(),
            phase: Phase::Connecting,
            phase_began: 0,
            warm_next: plan.warm.start,
            issued: 0,
            waiting: 0,
            down: plan.clients,
            schedule: None,
            run_began: 0,
            random: Random::new(plan.seed),
            checker: Checker::new(),
            stats: Stats::new(),
            plan,
            values,
        }
    }

    /// Makes the connections. Call once, before the first turn.
    pub(crate) fn begin<I: Io>(&mut self, io: &mut I) {
        self.phase_began = io.now();
        self.reconnect(io);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Requests on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.waiting
    }

    /// When the next turn must end though nothing happens.
    pub(crate) fn deadline(&self, now: Nanos) -> Nanos {
        let mut deadline = self.phase_end().unwrap_or(now + RECONNECT_AFTER).min(now + RECONNECT_AFTER);
        if let (Phase::Running, Some(schedule)) = (self.phase, &self.schedule) {
            deadline = deadline.min(schedule.next_at());
        }
        deadline
    }

    /// What was measured so far; whole once the load is over.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What was measured, with what was never answered or, in the open loop, never even sent.
    pub(crate) fn into_stats(mut self) -> Stats {
        let unanswered = self.waiting as u64 + self.owed();
        self.stats.error(ErrorKind::Unanswered, unanswered);
        self.stats
    }

    /// Open loop: requests that came due and were not sent yet.
    fn owed(&self) -> u64 {
        self.schedule.as_ref().map_or(0, |schedule| schedule.due() - self.issued)
    }

    fn phase_end(&self) -> Option<Nanos> {
        match (self.phase, self.plan.until) {
            (Phase::Connecting, _) => Some(self.phase_began + CONNECT_TIME),
            (Phase::Warming, _) => None,
            (Phase::Running, Until::Elapsed(time)) => Some(self.phase_began + time.as_nanos() as Nanos),
            (Phase::Running, Until::Requests(_)) => None,
            (Phase::Draining, _) => Some(self.phase_began + DRAIN_TIME),
            (Phase::Over, _) => Some(0),
        }
    }

    fn enter(&mut self, phase: Phase, now: Nanos) {
        self.phase = phase;
        self.phase_began = now;
        match phase {
            Phase::Warming | Phase::Running => {
                if phase == Phase::Running {
                    self.run_began = now;
                    self.schedule = self.plan.rate.map(|rate| Schedule::new(now, rate, self.clients.len()));
                }
                for at in 0..self.clients.len() {
                    self.mark_dirty(at);
                }
            }
            Phase::Connecting | Phase::Draining | Phase::Over => {}
        }
    }

    /// Goes to the next phase when this one is done.
    fn advance(&mut self, now: Nanos) {
        let time_is_up = self.phase_end().is_some_and(|end| now >= end);
        match self.phase {
            Phase::Connecting => {
                let settled = self.clients.iter().all(|client| !matches!(client.link, Link::Connecting(_)));
                let up = self.clients.iter().any(|client| matches!(client.link, Link::Up(_)));
                if settled && !up || time_is_up {
                    // Nobody there at all: nothing to measure.
                    self.enter(if up { Phase::Warming } else { Phase::Over }, now);
                } else if settled {
                    self.enter(Phase::Warming, now);
                }
            }
            Phase::Warming => {
                if self.warm_next >= self.plan.warm.end && self.waiting == 0 {
                    self.enter(Phase::Running, now);
                }
            }
            Phase::Running => {
                let asked_all = matches!(self.plan.until, Until::Requests(requests) if self.issued >= requests);
                if time_is_up || asked_all {
                    self.enter(Phase::Draining, now);
                }
            }
            Phase::Draining | Phase::Over => {}
        }
        if self.phase == Phase::Draining {
            let all_answered = self.waiting == 0 && self.owed() == 0;
            if all_answered || now >= self.phase_began + DRAIN_TIME {
                self.phase = Phase::Over;
            }
        }
    }

    fn reconnect<I: Io>(&mut self, io: &mut I) {
        if self.down == 0 || self.phase == Phase::Over {
            return;
        }
        let now = io.now();
        for at in 0..self.clients.len() {
            if matches!(self.clients[at].link, Link::Down { retry_at } if retry_at <= now) {
                self.connect(io, at);
            }
        }
    }

    fn connect<I: Io>(&mut self, io: &mut I, at: usize) {
        self.down -= 1;
        match io.connect(&self.plan.target) {
            Ok(conn) => {
                let index = conn.index as usize;
                if self.by_conn.len() <= index {
                    self.by_conn.resize(index + 1, usize::MAX);
                }
                self.by_conn[index] = at;
                self.clients[at].link = Link::Connecting(conn);
            }
            Err(_) => self.connect_failed(at, io.now()),
        }
    }

    fn connect_failed(&mut self, at: usize, now: Nanos) {
        self.stats.error(ErrorKind::Connect, 1);
        self.down += 1;
        self.clients[at].link = Link::Down { retry_at: now + RECONNECT_AFTER };
    }

    /// The client whose connection this is, now.
    fn client_of(&self, conn: Conn) -> Option<usize> {
        let at = *self.by_conn.get(conn.index as usize)?;
        match self.clients.get(at)?.link {
            Link::Connecting(its) | Link::Up(its) if its == conn => Some(at),
            Link::Connecting(_) | Link::Up(_) | Link::Down { .. } => None,
        }
    }

    fn mark_dirty(&mut self, at: usize) {
        if !self.clients[at].dirty {
            self.clients[at].dirty = true;
            self.dirty.push(at);
        }
    }

    /// Gives up a connection with all it still owes.
    fn lose<I: Io>(&mut self, io: &mut I, at: usize, conn: Conn, kind: ErrorKind) {
        io.close(conn, Closing::Now);
        let client = &mut self.clients[at];
        let lost = client.waiting.len();
        client.waiting.clear();
        client.input.clear();
        client.output.clear();
        client.sending = false;
        client.link = Link::Down { retry_at: io.now() + RECONNECT_AFTER };
        self.down += 1;
        self.waiting -= lost;
        self.stats.error(kind, lost.max(1) as u64);
    }

    /// Reads the replies at the start of `bytes`: how many bytes they are, or `None` when they are no replies.
    fn read_replies(&mut self, at: usize, bytes: &[u8], now: Nanos) -> Option<usize> {
        let mut consumed = 0;
        while consumed < bytes.len() {
            let waiting = *self.clients[at].waiting.front()?;
            match self.checker.check(waiting.asked, waiting.key, self.values, &bytes[consumed..]) {
                Checked::NeedMore => break,
                Checked::Misaligned => return None,
                Checked::Reply { outcome, consumed: reply } => {
                    consumed += reply;
                    self.clients[at].waiting.pop_front();
                    self.waiting -= 1;
                    self.count(waiting, outcome, now);
                }
            }
        }
        Some(consumed)
    }

    fn count(&mut self, waiting: Waiting, outcome: Outcome, now: Nanos) {
        if let Outcome::Wrong(kind) = outcome {
            self.stats.error(kind, 1);
            return;
        }
        if self.phase == Phase::Warming {
            return;
        }
        self.stats.latency_ns(now.saturating_sub(waiting.meant_for));
        self.stats.elapsed = Duration::from_nanos(now.saturating_sub(self.run_began));
        match outcome {
            Outcome::Hit => {
                self.stats.hits += 1;
                self.stats.value_bytes += self.values.item(waiting.key).value_bytes() as u64;
            }
            Outcome::Miss => self.stats.misses += 1,
            Outcome::Stored => self.stats.stored += 1,
            Outcome::Wrong(_) => {}
        }
    }
}

/// Asking.
impl Load<'_> {
    /// Marks the clients whose requests have come due.
    fn take_due(&mut self, now: Nanos) {
        let requests = match self.plan.until {
            Until::Requests(requests) => requests,
            Until::Elapsed(_) => u64::MAX,
        };
        let Some(mut schedule) = self.schedule.take() else { return };
        while schedule.due() < requests
            && let Some(at) = schedule.take_due(now)
        {
            self.clients[at].owed += 1;
            self.mark_dirty(at);
        }
        self.schedule = Some(schedule);
    }

    /// The next request of a client, if it is time for one.
    fn next_request(&mut self, at: usize, now: Nanos) -> Option<Waiting> {
        let meant_for = match (self.phase, &self.schedule, self.plan.until) {
            (Phase::Warming, _, _) => {
                let key = self.warm_next;
                self.warm_next += 1;
                return (key < self.plan.warm.end).then_some(Waiting { key, asked: Asked::Set, meant_for: now });
            }
            (Phase::Running | Phase::Draining, Some(schedule), _) => {
                let client = &mut self.clients[at];
                if client.owed == client.issued {
                    return None;
                }
                client.issued += 1;
                schedule.meant_for_client(at, client.issued - 1)
            }
            (Phase::Running, None, Until::Requests(requests)) if self.issued >= requests => return None,
            (Phase::Running, None, _) => now,
            (Phase::Connecting | Phase::Draining | Phase::Over, _, _) => return None,
        };
        self.issued += 1;
        let sets = u64::from(self.plan.sets);
        let is_set = self.random.below(sets + u64::from(self.plan.gets)) < sets;
        let asked = if is_set { Asked::Set } else { Asked::Get };
        Some(Waiting { key: self.plan.keys.pick(&mut self.random), asked, meant_for })
    }

    /// Fills a client's pipeline and sends what there is.
    fn fill<I: Io>(&mut self, io: &mut I, at: usize) {
        let Link::Up(conn) = self.clients[at].link else { return };
        let now = io.now();
        let pipeline = if self.phase == Phase::Warming { WARM_PIPELINE } else { self.plan.pipeline };
        while self.clients[at].waiting.len() < pipeline {
            let Some(request) = self.next_request(at, now) else { break };
            let item = self.values.item(request.key);
            let client = &mut self.clients[at];
            match request.asked {
                Asked::Get => item.write_get(&mut client.output),
                Asked::Set => item.write_set(&mut client.output),
            }
            client.waiting.push_back(request);
            self.waiting += 1;
        }
        let client = &mut self.clients[at];
        if !client.sending && !client.output.is_empty() {
            client.sending = true;
            io.send(conn, std::mem::take(&mut client.output));
        }
    }
}

impl<I: Io> Handler<I> for Load<'_> {
    fn accepted(&mut self, io: &mut I, _listener: ListenerId, conn: Conn) {
        // A load listens nowhere.
        io.close(conn, Closing::Now);
    }

    fn connected(&mut self, io: &mut I, conn: Conn, result: Result<(), ConnectError>) {
        let Some(at) = self.client_of(conn) else { return };
        match result {
            Ok(()) => {
                self.clients[at].link = Link::Up(conn);
                self.mark_dirty(at);
            }
            Err(_) => self.connect_failed(at, io.now()),
        }
    }

    fn received(&mut self, io: &mut I, conn: Conn, bytes: &[u8]) {
        let Some(at) = self.client_of(conn) else { return };
        let now = io.now();
        let mut input = std::mem::take(&mut self.clients[at].input);
        let read = if input.is_empty() {
            let read = self.read_replies(at, bytes, now);
            input.extend_from_slice(&bytes[read.unwrap_or(bytes.len())..]);
            read
        } else {
            input.extend_from_slice(bytes);
            let read = self.read_replies(at, &input, now);
            input.drain(..read.unwrap_or(input.len()));
            read
        };
        self.clients[at].input = input;
        match read {
            Some(_) => self.mark_dirty(at),
            None => self.lose(io, at, conn, ErrorKind::Misaligned),
        }
    }

    fn ended(&mut self, io: &mut I, conn: Conn, _ended: Ended) {
        if let Some(at) = self.client_of(conn) {
            self.lose(io, at, conn, ErrorKind::ConnectionLost);
        }
    }

    fn sent(&mut self, io: &mut I, conn: Conn, mut bytes: Vec<u8>, result: Result<(), i32>) {
        let Some(at) = self.client_of(conn) else { return };
        if result.is_err() {
            self.lose(io, at, conn, ErrorKind::ConnectionLost);
            return;
        }
        self.clients[at].sending = false;
        if self.clients[at].output.is_empty() {
            // The vector is used again: no allocation after the first rounds.
            bytes.clear();
            self.clients[at].output = bytes;
        } else {
            self.mark_dirty(at);
        }
    }

    fn doorbell(&mut self, _io: &mut I) {
        // Nobody has this engine's bell.
    }

    fn turn_ended(&mut self, io: &mut I) {
        let now = io.now();
        self.advance(now);
        if self.phase == Phase::Running {
            self.take_due(now);
        }
        self.reconnect(io);
        let mut dirty = std::mem::take(&mut self.dirty);
        for at in dirty.drain(..) {
            self.clients[at].dirty = false;
            self.fill(io, at);
        }
        self.dirty = dirty;
        // What was just done may have been the last of its phase.
        self.advance(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Distribution;
    use crate::values::ValueBytes;
    use keyway_io_engine::Reading;
    use std::collections::HashSet;

    /// An engine of one turn per step with a store behind it that always answers right, or as `spoil` says.
    struct Pretend {
        now: Nanos,
        connecting: Vec<Conn>,
        /// Requests by connection, whole sends.
        sends: VecDeque<(Conn, Vec<u8>)>,
        closed: HashSet<Conn>,
        connections: u32,
    }

    impl Io for Pretend {
        fn now(&self) -> Nanos {
            self.now
        }
        fn connect(&mut self, _address: &Address) -> Result<Conn, ConnectError> {
            self.connections += 1;
            let conn = Conn { index: self.connections - 1, generation: 0 };
            self.connecting.push(conn);
            Ok(conn)
        }
        fn send(&mut self, conn: Conn, bytes: Vec<u8>) {
            assert!(!bytes.is_empty());
            self.sends.push_back((conn, bytes));
        }
        fn set_reading(&mut self, _conn: Conn, _reading: Reading) {}
        fn close(&mut self, conn: Conn, _closing: Closing) {
            self.closed.insert(conn);
        }
        fn stop_accepting(&mut self) {}
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Spoil {
        Nothing,
        /// Answers nothing between these times.
        Stall(Nanos, Nanos),
        /// Answers two requests of a connection the wrong way round.
        Swap,
        /// Closes a connection instead of answering.
        Cut,
    }

    fn replies(request: &[u8], values: &Values) -> Vec<Vec<u8>> {
        let mut replies = Vec::new();
        let mut at = 0;
        while at < request.len() {
            let key = at + 4..at + 20;
            let number: u64 = std::str::from_utf8(&request[key][4..]).map_or(0, |digits| digits.parse().unwrap_or(0));
            let item = values.item(number);
            let mut frame = Vec::new();
            let mut reply = Vec::new();
            if request[at..].starts_with(b"get ") {
                item.write_get(&mut frame);
                item.write_value_line(&mut reply);
                item.write_value(&mut reply);
                reply.extend_from_slice(b"\r\nEND\r\n");
            } else {
                item.write_set(&mut frame);
                reply.extend_from_slice(b"STORED\r\n");
            }
            assert!(request[at..].starts_with(&frame));
            at += frame.len();
            replies.push(reply);
        }
        replies
    }

    /// Runs a load to its end in steps of 100 us, and gives back what it measured and how long it took.
    fn run(clients: usize, pipeline: usize, until: Until, rate: Option<f64>, spoil: Spoil) -> (Stats, Nanos) {
        let values = Values::new(ValueBytes { min: 1, max: 50 });
        let keys = KeyPicker::new(100, Distribution::Uniform);
        let target = Address::Tcp(([127, 0, 0, 1], 1).into());
        let plan = Plan { target, clients, pipeline, until, rate, sets: 1, gets: 10, keys, warm: 0..100, seed: 1 };
        let mut io =
            Pretend { now: 0, connecting: Vec::new(), sends: VecDeque::new(), closed: HashSet::new(), connections: 0 };
        let mut load = Load::new(plan, &values);
        load.begin(&mut io);
        let mut spoiled = false;
        while !load.is_over() {
            io.now += 100_000;
            assert!(io.now < 60_000_000_000, "the load ends");
            for conn in std::mem::take(&mut io.connecting) {
                load.connected(&mut io, conn, Ok(()));
            }
            let stalled = matches!(spoil, Spoil::Stall(from, to) if (from..to).contains(&io.now));
            let sends = if stalled { VecDeque::new() } else { std::mem::take(&mut io.sends) };
            for (conn, bytes) in sends {
                let mut replies = replies(&bytes, &values);
                load.sent(&mut io, conn, bytes, Ok(()));
                let cut = io.now > 10_000_000 && !spoiled && spoil == Spoil::Cut;
                if spoil == Spoil::Swap
                    && !spoiled
                    && replies.len() > 1
                    && replies[0] != replies[1]
                    && io.now > 10_000_000
                {
                    replies.swap(0, 1);
                    spoiled = true;
                }
                if cut {
                    spoiled = true;
                    load.ended(&mut io, conn, Ended::Eof);
                    continue;
                }
                // In two parts, cut anywhere.
                let all = replies.concat();
                let cut = (io.now / 100_000) as usize % all.len();
                load.received(&mut io, conn, &all[..cut]);
                load.received(&mut io, conn, &all[cut..]);
            }
            load.turn_ended(&mut io);
            assert!(load.in_flight() <= clients * pipeline.max(WARM_PIPELINE));
        }
        (load.into_stats(), io.now)
    }

    #[test]
    fn a_closed_loop_asks_as_often_as_told() {
        for (clients, pipeline) in [(1, 1), (50, 1), (7, 16)] {
            let (stats, _) = run(clients, pipeline, Until::Requests(10_000), None, Spoil::Nothing);
            assert_eq!(stats.answered(), 10_000);
            assert_eq!(stats.error_count(), 0);
            assert_eq!(stats.misses, 0);
            assert!((600..1250).contains(&stats.stored), "{}", stats.stored);
        }
    }

    #[test]
    fn an_open_loop_counts_from_when_requests_were_meant_to_go() {
        let second = Duration::from_secs(1);
        let (stats, _) = run(4, 1, Until::Elapsed(2 * second), Some(1000.0), Spoil::Nothing);
        assert!(stats.answered().abs_diff(2000) <= 2, "{}", stats.answered());
        let p99 = stats.to_json()["latency_us"]["p99"].as_f64().unwrap_or(0.0);
        assert!(p99 < 1000.0, "{p99}");

        // Half of the time nobody answers: half of the requests have waited, a quarter of a second on average, though only
        // four were on their way.
        let stall = Spoil::Stall(500_000_000, 1_500_000_000);
        let (stats, _) = run(4, 1, Until::Elapsed(2 * second), Some(1000.0), stall);
        assert!(stats.answered().abs_diff(2000) <= 2, "{}", stats.answered());
        assert_eq!(stats.error_count(), 0);
        let json = stats.to_json();
        let mean = json["latency_us"]["mean"].as_f64().unwrap_or(0.0);
        assert!((230_000.0..300_000.0).contains(&mean), "{mean}");
        assert!(json["latency_us"]["max"].as_f64().unwrap_or(0.0) > 950_000.0);
    }

    #[test]
    fn what_is_never_answered_is_an_error() {
        let stall = Spoil::Stall(500_000_000, Nanos::MAX);
        let (stats, took) = run(4, 2, Until::Elapsed(Duration::from_secs(1)), Some(1000.0), stall);
        assert_eq!(stats.answered() + stats.errors_of(ErrorKind::Unanswered), 1000);
        assert!(stats.errors_of(ErrorKind::Unanswered) > 490);
        assert!(took < 7_000_000_000);
    }

    #[test]
    fn swapped_replies_and_lost_connections_are_seen() {
        let (stats, _) = run(2, 8, Until::Requests(5000), None, Spoil::Swap);
        assert_eq!(stats.errors_of(ErrorKind::WrongReply), 2);
        assert_eq!(stats.answered(), 4998);
        let (stats, _) = run(2, 8, Until::Requests(5000), None, Spoil::Cut);
        assert!((1..=8).contains(&stats.errors_of(ErrorKind::ConnectionLost)));
        assert_eq!(stats.answered() + stats.error_count(), 5000);
    }
}
