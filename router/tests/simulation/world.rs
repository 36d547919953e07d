//! A shard, its servers, its clients and the control plane it reports to, made from a seed and run to the end.

use crate::client::{Leaving, McClient, Orders, Trust, Written};
use crate::coverage::Coverage;
use crate::server::{FakeMc, Manners, Server};
use crate::trees::{SERVERS, TREES, Tree};
use keyway::config::{Config, Overrides, ServerAddress, ServerIdentity};
use keyway::messages::{FromShard, ToShard};
use keyway::metrics::CloseReason;
use keyway::shard::{Inspection, Shard, UNCHARGED_BYTES};
use keyway::table::{ServerKey, Standing, Table, TableLimits, WhenDown};
use keyway::trouble::DownRules;
use keyway_io_engine::sim::{Faults, NodeId, PeerEnd, PeerId, Prng, Ran, ServerMode, SimNet, address};
use keyway_io_engine::{Address, Nanos, Receiver, Sender, Wait, mailbox};
use keyway_policies::{Failure, ServerId};
use keyway_protocol::memcached::text::RequestError;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const MILLI: Nanos = 1_000_000;
pub(crate) const SECOND: Nanos = 1_000_000_000;
/// Nothing a client does may take longer.
const PATIENCE: Nanos = 300 * SECOND;
/// Bytes of input a session may hold beyond a frame: what comes before the engine has stopped reading.
const READ_AHEAD_BYTES: usize = 512 * 1024;

/// What a seed is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plot {
    pub(crate) tree: usize,
    pub(crate) faults: Faults,
    /// The network between clients and router.
    pub(crate) client_faults: Faults,
    pub(crate) timeout_ms: u64,
    pub(crate) limits: TableLimits,
    /// How many failures take a server out.
    pub(crate) down: DownRules,
    pub(crate) bad_manners: bool,
    pub(crate) strays: bool,
    /// Servers die, hang, stall and are said to be down.
    pub(crate) outages: bool,
    pub(crate) reloads: bool,
    /// When the shard is told to drain.
    pub(crate) drain_at: Option<Nanos>,
    pub(crate) exact: bool,
}

pub(crate) struct World {
    plot: Plot,
    net: SimNet,
    node: NodeId,
    shard: Shard,
    to_shard: Sender<ToShard>,
    from_shard: Receiver<FromShard>,
    prng: Prng,
    identities: Vec<ServerIdentity>,
    table: Arc<Table>,
    generation: u64,
    clients: Vec<PeerId>,
    /// What is to be undone, and when.
    repairs: Vec<(Nanos, Repair)>,
    drained: Option<usize>,
    coverage: Coverage,
    most: Inspection,
}

#[derive(Clone, Copy, Debug)]
enum Repair {
    Mode(u8),
    Up(ServerKey),
    Standing(u64, ServerId),
}

impl World {
    pub(crate) fn new(seed: u64, plot: &Plot) -> World {
        let plot = *plot;
        let mut prng = Prng::new(seed ^ 0x5eed);
        let mut net = SimNet::new(seed, plot.faults);
        let node = net.node(&[address(1)]);
        net.set_faults(&address(1), plot.client_faults);
        for number in SERVERS {
            let manners = match plot.bad_manners {
                true => Manners::drawn(&mut prng, plot.timeout_ms * MILLI, plot.strays),
                false => Manners::good(),
            };
            // Without reloads each server has one place in the tree.
            let server = Server::new(manners, !plot.reloads);
            net.server(&format!("mc{number}"), &address(number), move || FakeMc::new(server.clone()));
        }
        let mut identities = Vec::new();
        let table = table(&TREES[plot.tree], &plot, 1, &mut identities, &mut prng);
        let (to_shard, inbox) = mailbox().expect("a descriptor");
        let (outbox, from_shard) = mailbox().expect("a descriptor");
        let shard = Shard::new(0, table.clone(), inbox, outbox, seed);
        let mut world = World {
            plot,
            net,
            node,
            shard,
            to_shard,
            from_shard,
            prng,
            identities,
            table,
            generation: 1,
            clients: Vec::new(),
            repairs: Vec::new(),
            drained: None,
            coverage: Coverage::default(),
            most: Inspection::default(),
        };
        world.tell_servers();
        world.add_clients();
        world
    }

    /// Everything, to the end; what was seen on the way.
    pub(crate) fn play(mut self) -> Coverage {
        let ran = loop {
            let slice = self.prng.between(MILLI, 40 * MILLI);
            let ran = self.run(slice, true);
            self.hear_shard();
            if ran == Ran::ClientsDone || self.net.now() > PATIENCE {
                break ran;
            }
            self.meddle();
        };
        assert_eq!(ran, Ran::ClientsDone, "a client waits for ever");
        self.judge_clients();
        self.wind_up();
        self.coverage.history = self.net.trace_hash();
        self.coverage
    }

    fn run(&mut self, nanos: Nanos, for_clients: bool) -> Ran {
        let (most, limits) = (&mut self.most, &self.plot.limits);
        let wait = |shard: &mut Shard| {
            let seen = shard.inspect();
            check_bounds(&seen, limits);
            *most = peak(most, &seen);
            match shard.is_finished() {
                // Its loop would be over.
                true => Wait { deadline: None, immediate: false, in_flight: 0 },
                false => shard.wait(),
            }
        };
        match for_clients {
            true => self.net.run_clients(&mut self.shard, wait, nanos),
            false => self.net.run(&mut self.shard, wait, nanos),
        }
    }
}

// --- the control plane's part

impl World {
    fn tell(&mut self, message: ToShard) {
        self.to_shard.send(message).expect("the shard looks");
        self.net.ring(self.node);
    }

    fn tell_server(&mut self, key: ServerKey, up: bool) {
        let ServerAddress::Ip(socket) = &self.identities[key.0 as usize].address else { panic!("an address") };
        let address = Some(Address::Tcp(*socket));
        self.tell(ToShard::Server { key, up, why: None, address });
    }

    /// A table without servers has no standings.
    fn tell_standing(&mut self, generation: u64, id: ServerId, standing: Standing) {
        if !self.table.servers.is_empty() {
            self.coverage.standings += 1;
            self.tell(ToShard::Standings { generation, changes: Arc::new([(id, standing)]) });
        }
    }

    fn tell_servers(&mut self) {
        for key in 0..self.identities.len() {
            self.tell_server(ServerKey(key as u32), true);
        }
    }

    fn hear_shard(&mut self) {
        while let Some(message) = self.from_shard.take() {
            match message {
                FromShard::Suspect { key, .. } => {
                    self.coverage.suspects += 1;
                    let at = self.net.now() + self.prng.between(MILLI, 300 * MILLI);
                    self.repairs.push((at, Repair::Up(key)));
                }
                FromShard::Drained { cut, .. } => self.drained = Some(cut),
                FromShard::Spool(request) => {
                    self.tell(ToShard::Spooled { tickets: vec![(request.ticket, false)] });
                }
                FromShard::Snapshot { metrics, .. } => assert!(metrics.in_flight <= 1 << 20),
            }
        }
    }

    fn meddle(&mut self) {
        let now = self.net.now();
        let (due, later) = self.repairs.iter().partition(|(at, _)| *at <= now);
        self.repairs = later;
        let due: Vec<(Nanos, Repair)> = due;
        for (_, repair) in due {
            match repair {
                Repair::Mode(server) => self.net.set_mode(&address(server), ServerMode::Accepting),
                Repair::Up(key) => self.tell_server(key, true),
                Repair::Standing(generation, id) => self.tell_standing(generation, id, Standing::default()),
            }
        }
        if self.plot.drain_at.is_some_and(|at| at <= now) && self.coverage.drains == 0 {
            self.coverage.drains = 1;
            self.tell(ToShard::Drain(Duration::from_secs(60)));
        }
        if self.plot.outages && self.prng.below(4) == 0 {
            self.outage();
        }
        if self.plot.reloads && self.prng.below(3) == 0 {
            self.reload();
        }
    }

    fn outage(&mut self) {
        let server = self.prng.between(u64::from(*SERVERS.start()), u64::from(*SERVERS.end())) as u8;
        let until = self.net.now() + self.prng.between(MILLI, 400 * MILLI);
        match self.prng.below(7) {
            0 => self.net.reset_server(&address(server)),
            1 => self.net.stall_server(&address(server), 400 * MILLI),
            2 => {
                self.net.set_mode(&address(server), ServerMode::Refusing);
                self.net.reset_server(&address(server));
                self.repairs.push((until, Repair::Mode(server)));
            }
            3 => {
                self.net.set_mode(&address(server), ServerMode::Hanging);
                self.net.reset_server(&address(server));
                self.repairs.push((until, Repair::Mode(server)));
            }
            4 => {
                let key = ServerKey(self.prng.below(self.identities.len() as u64) as u32);
                self.tell_server(key, false);
                self.repairs.push((until, Repair::Up(key)));
            }
            5 => {
                let id = ServerId(self.prng.below(self.table.servers.len().max(1) as u64) as u32);
                let share = [0, 1, 100, Standing::ALL][self.prng.below(4) as usize];
                let when_down = [WhenDown::LeftOut, WhenDown::Asked, WhenDown::Fails][self.prng.below(3) as usize];
                self.tell_standing(self.generation, id, Standing { share, when_down });
                self.repairs.push((until, Repair::Standing(self.generation, id)));
            }
            _ => self.tell(ToShard::Snapshot),
        }
    }

    fn reload(&mut self) {
        self.generation += 1;
        self.coverage.reloads += 1;
        let tree = &TREES[self.prng.below(TREES.len() as u64) as usize];
        self.table = table(tree, &self.plot, self.generation, &mut self.identities, &mut self.prng);
        self.tell(ToShard::Table(self.table.clone()));
        self.tell_servers();
        if self.prng.below(4) == 0 {
            // A name that now means another address; the next reload tells the old one again.
            let key = ServerKey(self.prng.below(self.identities.len() as u64) as u32);
            let place = self.prng.between(u64::from(*SERVERS.start()), u64::from(*SERVERS.end())) as u8;
            self.tell(ToShard::Server { key, up: true, why: None, address: Some(address(place)) });
        }
    }
}

// --- the clients

impl World {
    fn add_clients(&mut self) {
        let written: Written = Rc::new(RefCell::new(Default::default()));
        let clients = self.prng.between(2, 7) as usize;
        let tree = &TREES[self.plot.tree];
        let trust = match (self.plot.exact, tree.exact) {
            (true, Some(trust)) => trust,
            (true, None) => panic!("{} is never exact", tree.name),
            (false, _) if self.plot.reloads || self.plot.strays => Trust::AnyCopy,
            (false, _) => tree.trust,
        };
        for number in 0..clients {
            let orders = self.orders(number, clients, trust);
            let start = self.prng.below(20 * MILLI);
            let client = McClient::new(orders, written.clone(), self.prng.fork());
            self.clients.push(self.net.client(&format!("client{number}"), &address(1), start, client));
        }
    }

    fn orders(&mut self, number: usize, clients: usize, trust: Trust) -> Orders {
        let prng = &mut self.prng;
        let is_deep = prng.below(24) == 0;
        let small_limits = self.plot.limits.value_bytes < 1 << 20;
        let is_watched = !self.plot.limits.client_idle.is_zero();
        let leaving = match prng.below(10) {
            0 | 1 => Leaving::Quit,
            2..=4 => Leaving::Finish,
            5 if !self.plot.exact && self.plot.drain_at.is_none() => Leaving::Abandon,
            6 => Leaving::Refused,
            7 => Leaving::Http,
            8 if is_watched && self.plot.drain_at.is_none() => Leaving::Stay,
            _ => Leaving::Close,
        };
        Orders {
            number,
            clients,
            requests: if is_deep { 1300 } else { prng.between(1, 120) as usize },
            depth: if is_deep { 1200 } else { [1, 2, 5, 16, 40][prng.below(5) as usize] },
            in_batches: self.plot.exact && TREES[self.plot.tree].in_batches,
            keys: prng.between(1, 30) as usize,
            value_bytes: [200, 2000, if is_deep { 60 } else { 30_000 }][prng.below(3) as usize],
            value_limit: small_limits.then_some(self.plot.limits.value_bytes),
            // A drain is judged by counting replies.
            noreply: self.plot.drain_at.is_none() && prng.below(2) == 0,
            invalid: self.plot.drain_at.is_none() && prng.below(2) == 0,
            flush: trust == Trust::AnyCopy && prng.below(8) == 0,
            cuts: prng.below(3) == 0,
            reads: (self.plot.drain_at.is_none() && prng.below(8) == 0).then(|| prng.between(100, 5000) as usize),
            trust,
            leaving,
        }
    }

    /// Each client has all its answers, unless its connection was cut: by the network, by itself, or by the router for a
    /// reason that the router counted.
    fn judge_clients(&mut self) {
        let is_drained = self.coverage.drains > 0;
        let is_lossy = self.plot.client_faults.reset_ppm > 0;
        let (mut cut, mut replies, mut turned_away) = (0, 0, 0);
        for &peer in &self.clients {
            let client = self.net.peer::<McClient>(peer);
            replies += client.replies;
            self.coverage.errors += client.errors as u64;
            self.coverage.told_off += u64::from(client.told_off);
            turned_away += u64::from(client.turned_away);
            let is_excused = client.has_abandoned()
                || client.turned_away
                || matches!(client.end, Some(PeerEnd::Fault | PeerEnd::Refused))
                || (client.end == Some(PeerEnd::Reset) && is_lossy);
            if client.is_complete() || is_excused {
                continue;
            }
            if is_drained && client.end == Some(PeerEnd::Eof) && client.is_at_a_boundary() {
                self.coverage.drained_clients += 1;
                continue;
            }
            cut += 1;
        }
        self.coverage.replies += replies as u64;
        let metrics = self.shard.metrics_mut();
        let too_slow = metrics.clients_closed[CloseReason::TooSlow as usize];
        // What it asks next may be on its way while an idle client is closed.
        let allowed = too_slow + metrics.clients_closed[CloseReason::Idle as usize];
        assert!(cut <= allowed, "{cut} clients without all answers, {allowed} were cut");
        assert!(turned_away <= metrics.clients_refused);
        if is_drained && !is_lossy && too_slow == 0 {
            // Whatever the shard read was answered, and the answers arrived.
            let taken: u64 = metrics.commands.iter().map(|command| command.latency.count()).sum();
            let refused: u64 = metrics.protocol_errors.iter().sum();
            let silent = metrics.protocol_errors[RequestError::HttpRequest as usize];
            assert_eq!(taken + refused - silent, replies as u64, "answers of a drained shard");
        }
    }
}

// --- the end

impl World {
    /// Nothing is left behind: what was under way comes to its end, and a drain leaves nothing at all.
    fn wind_up(&mut self) {
        self.count();
        if self.coverage.drains == 0 {
            self.run(5 * SECOND, false);
            for server in SERVERS {
                self.net.set_mode(&address(server), ServerMode::Accepting);
                self.net.reset_server(&address(server));
            }
            self.run(60 * SECOND, false);
            let seen = self.shard.inspect();
            let left = (seen.sessions, seen.requests, seen.in_flight, seen.tables);
            assert_eq!(left, (0, 0, 0, 1), "{seen:?}");
            let engine = self.net.io(self.node).connections();
            assert_eq!((engine, self.net.sends_in_flight(self.node)), (seen.connected, 0), "{seen:?}");
            self.tell(ToShard::Drain(Duration::from_secs(1)));
        }
        self.run(60 * SECOND, false);
        self.hear_shard();
        assert_eq!((self.shard.is_finished(), self.drained), (true, Some(0)), "a drain without an end");
        let seen = self.shard.inspect();
        let engine = self.net.io(self.node).connections();
        assert_eq!((seen.sessions, seen.requests, seen.in_flight, engine), (0, 0, 0, 0), "{seen:?}");
        assert_eq!(self.net.sends_in_flight(self.node), 0);
    }

    fn count(&mut self) {
        let seen = self.shard.inspect();
        let metrics = self.shard.metrics_mut();
        let tries =
            |failure: Failure| metrics.servers.iter().map(|server| server.failures[failure as usize]).sum::<u64>();
        let coverage = &mut self.coverage;
        coverage.timeouts = tries(Failure::Timeout);
        coverage.lost = tries(Failure::ConnectionLost);
        coverage.misaligned = tries(Failure::Misaligned);
        coverage.unavailable = tries(Failure::Unavailable);
        coverage.queue_full = tries(Failure::QueueFull);
        coverage.not_replayable = tries(Failure::NotReplayable);
        coverage.deadlines = tries(Failure::DeadlineExceeded);
        coverage.no_healthy_server = metrics.no_healthy_server;
        coverage.failovers = metrics.failovers;
        coverage.refused_requests = metrics.protocol_errors.iter().sum();
        coverage.turned_away = metrics.clients_refused;
        coverage.idle_clients = metrics.clients_closed[CloseReason::Idle as usize];
        coverage.slow_clients = metrics.clients_closed[CloseReason::TooSlow as usize];
        coverage.late_replies = seen.late_replies;
        coverage.repeats = seen.repeats;
        coverage.paused = u64::from(self.most.paused > 0);
        coverage.tombstones = u64::from(self.most.tombstones > 0);
        // Good servers never answer anything but what they were asked.
        let is_well_behaved = !self.plot.bad_manners && self.plot.limits.value_bytes > 1 << 20;
        assert!(coverage.misaligned == 0 || !is_well_behaved, "{} misaligned", coverage.misaligned);
        coverage.old_tables = u64::from(self.most.tables > 1);
    }
}

fn table(
    tree: &Tree,
    plot: &Plot,
    generation: u64,
    identities: &mut Vec<ServerIdentity>,
    prng: &mut Prng,
) -> Arc<Table> {
    let timeout = plot.timeout_ms;
    let deadline = if prng.below(2) == 0 { timeout } else { timeout * 2 };
    let connections = [1, 1, 2, 3][prng.below(4) as usize];
    let connect_timeout = if plot.exact { timeout } else { prng.between(20, 250) };
    let options = format!(
        "timeout_ms: {timeout}, deadline_ms: {deadline}, connect_timeout_ms: {connect_timeout}, connections: {connections}"
    );
    let yaml = tree.yaml.replace("{options}", &options);
    let config = Config::parse(yaml.as_bytes(), tree.name, &Overrides::default());
    let config = config.unwrap_or_else(|errors| panic!("{errors}\n{yaml}"));
    let mut table = config.table(generation, &mut |identity| {
        let known = identities.iter().position(|known| known == identity);
        ServerKey(known.unwrap_or_else(|| {
            identities.push(identity.clone());
            identities.len() - 1
        }) as u32)
    });
    table.limits = plot.limits;
    for pool in &mut table.pools {
        pool.down = plot.down;
    }
    Arc::new(table)
}

/// No list or buffer is over its limit.
fn check_bounds(seen: &Inspection, limits: &TableLimits) {
    assert!(seen.sessions <= limits.clients_per_shard);
    // One more for the word that a client is cut.
    assert!(seen.most_waiting <= limits.requests_per_client + 1, "{seen:?}");
    assert!(seen.most_in_flight <= limits.requests_per_connection, "{seen:?}");
    let frame_bytes = limits.value_bytes.saturating_add(2048);
    // One frame may be larger than the queue; reads asked once more come on top of what is queued.
    let queued_bytes = limits.queued_bytes_per_connection.max(frame_bytes) + limits.requests_per_connection * 2048;
    assert!(seen.most_queued_bytes <= queued_bytes, "{seen:?}");
    assert!(seen.most_input_bytes <= frame_bytes.saturating_add(READ_AHEAD_BYTES), "{seen:?}");
    let reply_bytes = limits.reply_bytes_per_client.saturating_mul(2).saturating_add(limits.value_bytes);
    assert!(seen.most_reply_bytes <= reply_bytes, "{seen:?}");
    // Nobody is cut for what is less than `UNCHARGED_BYTES`.
    let uncharged_bytes = (seen.sessions + 1) * UNCHARGED_BYTES;
    assert!(seen.buffered_bytes <= limits.buffered_bytes.saturating_add(uncharged_bytes), "{seen:?}");
}

fn peak(one: &Inspection, other: &Inspection) -> Inspection {
    Inspection {
        paused: one.paused.max(other.paused),
        requests: one.requests.max(other.requests),
        tombstones: one.tombstones.max(other.tombstones),
        tables: one.tables.max(other.tables),
        ..*other
    }
}
