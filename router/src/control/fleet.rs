//! All watched servers: their health and their addresses, and what has to be done about them when.
//!
//! Decides only: it is told results and the time and gives out actions; the control loop carries them out.
//! Bounds: at most `CHECKS_AT_ONCE` checks and `LOOKUPS_AT_ONCE` lookups are under way; the others wait their turn.
//!
//! Invariants: whenever a server's verdict or address changes, and whenever a shard suspected it, a `Publish` follows; what
//! it means for the server's pools is told before it, so that no shard meanwhile gives a server back all its keys.

mod quarantine;

use super::dns::{self, Choice, Lookups};
use super::events::{EventKind, Events, FoundBy};
use super::health::{Health, HealthSettings, State, Verdict};
use super::servers::{Target, WatchedServer};
use super::standing::{PoolChange, PoolCount, Standings, WatchedPool};
use crate::metrics::ServerFacts;
use crate::table::{ServerKey, Standing};
use crate::trouble::{FailedCheck, Suspicion, Trouble};
use keyway_io_engine::Address;
use keyway_policies::ServerId;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Most checks under way.
pub const CHECKS_AT_ONCE: usize = 64;
/// Most lookups under way: each may hold a thread for as long as the system's resolver takes.
pub const LOOKUPS_AT_ONCE: usize = 4;

/// Settings of the configuration in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetSettings {
    /// When servers are down and up again.
    pub health: HealthSettings,
    /// How long a resolved name is used.
    pub dns_ttl: Duration,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the shards.
    Publish {
        /// The server's keys.
        keys: Vec<ServerKey>,
        /// True when it takes requests.
        up: bool,
        /// True when it could take them and is kept out of use.
        held: bool,
        /// What took it out, when it is down.
        why: Option<Trouble>,
        /// Where it is.
        address: Option<Address>,
    },
    /// Tell the shards what became of servers in their pools.
    Stand {
        /// Of the table the ids belong to.
        generation: u64,
        /// Each server that changed.
        changes: Vec<(ServerId, Standing)>,
    },
    /// Check it; report to `checked`.
    Check {
        /// The server.
        id: u64,
        /// To be reported with the result.
        epoch: u32,
        /// Where it is.
        address: Address,
    },
    /// Look the name up; report to `looked_up`.
    LookUp {
        /// The server.
        id: u64,
        /// The name.
        name: String,
        /// The port.
        port: u16,
    },
    /// Find the first that answers a check; report to `tried`.
    Try {
        /// The server.
        id: u64,
        /// The addresses, in order.
        candidates: Vec<SocketAddr>,
        /// To be reported with the result: true when the current address was among the answers.
        still_given: bool,
    },
}

/// All watched servers. Times are since the process started.
#[derive(Debug)]
pub struct Fleet {
    settings: FleetSettings,
    servers: BTreeMap<u64, Watched>,
    standings: Standings,
    /// Of the table whose pools these are.
    generation: u64,
    events: Events,
    /// Names servers for their life in the fleet, so that results of one that has left find nobody.
    next_id: u64,
    checks: usize,
    lookups: usize,
    lookups_ok: u64,
    lookups_failed: u64,
    /// Whether servers that come back are held.
    holds_returning: bool,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Watched {
    server: WatchedServer,
    address: Option<Address>,
    /// `None` for an address that needs no lookup.
    name: Option<Lookups>,
    health: Health,
    /// What took it out; `None` while it is up.
    trouble: Option<Trouble>,
    /// Healthy, and kept out of use for now.
    held: bool,
    downs: u64,
    checks_ok: u64,
    checks_failed: u64,
}

impl Fleet {
    /// Nobody to watch yet.
    pub fn new(settings: FleetSettings) -> Fleet {
        Fleet {
            settings,
            servers: BTreeMap::new(),
            standings: Standings::new(),
            generation: 0,
            events: Events::new(),
            next_id: 0,
            checks: 0,
            lookups: 0,
            lookups_ok: 0,
            lookups_failed: 0,
            holds_returning: false,
            actions: VecDeque::new(),
        }
    }

    /// Settings in use.
    pub fn settings(&self) -> &FleetSettings {
        &self.settings
    }

    /// Watches these and no others from now on, and publishes all of them: a shard knows nothing of the servers of a
    /// table it has just got. What is known of a server that stays is kept.
    pub fn adopt(&mut self, servers: Vec<WatchedServer>, settings: FleetSettings, now: Duration) {
        self.settings = settings;
        let mut before: BTreeMap<String, (u64, Watched)> = std::mem::take(&mut self.servers)
            .into_iter()
            .map(|(id, watched)| (watched.server.host.clone(), (id, watched)))
            .collect();
        for server in servers {
            let kept = before.remove(&server.host).filter(|(_, watched)| watched.server.target == server.target);
            let (id, mut watched) = kept.unwrap_or_else(|| {
                self.next_id += 1;
                (self.next_id, Watched::new(server.clone(), self.next_id, now))
            });
            watched.server = server;
            self.actions.push_back(watched.publication());
            self.servers.insert(id, watched);
        }
    }

    /// The pools of the table of this generation, after its servers were adopted. What is known of a pool that stays is kept.
    pub fn adopt_pools(&mut self, pools: Vec<WatchedPool>, generation: u64, now: Duration) {
        self.standings.adopt(pools);
        self.generation = generation;
        self.update_standings(now);
        // Before the servers are published, as always.
        self.actions.rotate_right(usize::from(matches!(self.actions.back(), Some(Action::Stand { .. }))));
    }

    /// Takes what is to be published now, for who must tell it together with something else.
    pub fn publications(&mut self) -> Vec<Action> {
        let is_publication = |action: &Action| matches!(action, Action::Publish { .. } | Action::Stand { .. });
        let (publications, others): (VecDeque<_>, VecDeque<_>) = self.actions.drain(..).partition(is_publication);
        self.actions = others;
        Vec::from(publications)
    }

    /// What is to be done, all that is due included. Call until `None`.
    pub fn action(&mut self, now: Duration) -> Option<Action> {
        if self.actions.is_empty() {
            if self.standings.next_due().is_some_and(|at| at <= now) {
                self.update_standings(now);
            }
            self.begin_due(now);
        }
        self.actions.pop_front()
    }

    /// When something will be due; `None` when only results can bring that about.
    pub fn next_due(&self) -> Option<Duration> {
        let check =
            self.servers.values().filter(|_| self.checks < CHECKS_AT_ONCE).filter_map(Watched::next_check).min();
        let lookup =
            self.servers.values().filter(|_| self.lookups < LOOKUPS_AT_ONCE).filter_map(Watched::next_lookup).min();
        check.into_iter().chain(lookup).chain(self.standings.next_due()).min()
    }

    fn begin_due(&mut self, now: Duration) {
        let (mut checks, mut lookups) = (self.checks, self.lookups);
        for (id, watched) in &mut self.servers {
            if checks < CHECKS_AT_ONCE
                && watched.next_check().is_some_and(|at| at <= now)
                && let Some(address) = watched.address.clone()
            {
                checks += 1;
                let epoch = watched.health.check_begins();
                self.actions.push_back(Action::Check { id: *id, epoch, address });
            }
            if lookups < LOOKUPS_AT_ONCE
                && watched.next_lookup().is_some_and(|at| at <= now)
                && let (Some(lookup), Target::Name(name, port)) = (&mut watched.name, &watched.server.target)
            {
                lookups += 1;
                lookup.begins(now);
                self.actions.push_back(Action::LookUp { id: *id, name: name.clone(), port: *port });
            }
        }
        (self.checks, self.lookups) = (checks, lookups);
    }

    // --- health ---

    /// A check is over.
    pub fn checked(&mut self, id: u64, epoch: u32, result: Result<(), FailedCheck>, now: Duration) {
        self.checks = self.checks.saturating_sub(1);
        let settings = self.settings.health;
        let Some(watched) = self.servers.get_mut(&id) else { return };
        let was_starting = watched.health.state() == State::Starting;
        let (verdict, trouble, why) = match result {
            Ok(()) => {
                watched.checks_ok += 1;
                let why = if was_starting {
                    "it passed its first check".to_string()
                } else {
                    format!("{} checks in a row passed", settings.successes)
                };
                (watched.health.passed(epoch, now, &settings), None, why)
            }
            Err(failed) => {
                watched.checks_failed += 1;
                let why = if was_starting || settings.failures == 1 {
                    format!("its check failed: {}", failed.words)
                } else {
                    format!("{} checks in a row failed, the last one: {}", settings.failures, failed.words)
                };
                (watched.health.failed(epoch, now, &settings), Some((FoundBy::Check, failed.trouble)), why)
            }
        };
        self.follow(id, verdict, trouble, &why, now);
    }

    /// A shard suspects the server with this key.
    pub fn suspected(&mut self, shard: usize, key: ServerKey, suspicion: Suspicion, now: Duration) {
        let found = self.servers.iter_mut().find(|(_, watched)| watched.server.keys.contains(&key));
        let Some((id, watched)) = found else { return };
        let (id, verdict) = (*id, watched.health.suspected(now, &self.settings.health));
        let why = format!("{suspicion} (shard {shard})");
        self.follow(id, verdict, Some((FoundBy::Requests, suspicion.last)), &why, now);
    }

    fn follow(&mut self, id: u64, verdict: Verdict, trouble: Option<(FoundBy, Trouble)>, why: &str, now: Duration) {
        let Some(watched) = self.servers.get_mut(&id) else { return };
        match verdict {
            Verdict::Same => return,
            Verdict::HalfOpen => {
                let words = watched.half_open_words(&self.settings.health, now);
                return self.events.add(EventKind::HalfOpen, words, now);
            }
            Verdict::Again => {}
            Verdict::CameUp => {
                // One that passes its first check doesn't come back from anywhere.
                watched.held |= self.holds_returning && watched.trouble.is_some();
                watched.trouble = watched.trouble.filter(|_| watched.held);
                self.events.add(EventKind::Up, watched.up_words(why, now), now);
                self.update_standings(now);
            }
            Verdict::WentDown => {
                watched.downs += 1;
                watched.held = false;
                watched.trouble = trouble.map(|(_, trouble)| trouble);
                if let Some(lookups) = &mut watched.name {
                    lookups.hurry(now);
                }
                if let Some((found_by, trouble)) = trouble {
                    self.events.count_down(found_by, trouble);
                }
                self.events.add(EventKind::Down, watched.down_words(why), now);
                self.update_standings(now);
            }
        }
        if let Some(watched) = self.servers.get(&id) {
            self.actions.push_back(watched.publication());
        }
    }

    /// What the servers' health means for their pools.
    fn update_standings(&mut self, now: Duration) {
        let mut down: HashSet<ServerKey> = HashSet::new();
        for watched in self.servers.values().filter(|watched| !watched.is_in_use()) {
            down.extend(&watched.server.keys);
        }
        let outcome = self.standings.update(|key| !down.contains(&key), now);
        if !outcome.standings.is_empty() {
            self.actions.push_back(Action::Stand { generation: self.generation, changes: outcome.standings });
        }
        for (pool, change) in outcome.changes {
            let (kind, words) = self.pool_words(&pool, &change);
            self.events.add(kind, words, now);
        }
    }

    fn pool_words(&self, pool: &str, change: &PoolChange) -> (EventKind, String) {
        let host = |key: &ServerKey| {
            let found = self.servers.values().find(|watched| watched.server.keys.contains(key));
            found.map_or("that left", |watched| watched.server.host.as_str())
        };
        match change {
            PoolChange::Opened { down } => (
                EventKind::PoolOpened,
                format!("pool {pool} fails open: {down} of its servers are down, further ones are asked all the same"),
            ),
            PoolChange::Closed { down } => {
                (EventKind::PoolClosed, format!("pool {pool} no longer fails open: {down} of its servers are down"))
            }
            PoolChange::Exempt(key) => {
                (EventKind::Exempt, format!("pool {pool} asks server {} although it is down: it fails open", host(key)))
            }
            PoolChange::Held(key) => (
                EventKind::Held,
                format!("pool {pool} has ejected as many servers as it may: the keys of server {} fail", host(key)),
            ),
            PoolChange::Returns(key) => {
                (EventKind::Returns, format!("pool {pool} gives server {} its keys back, a tenth at a time", host(key)))
            }
            PoolChange::Returned(key) => {
                (EventKind::Returned, format!("server {} has all its keys of pool {pool} back", host(key)))
            }
        }
    }

    // --- names ---

    /// A lookup is over.
    pub fn looked_up(&mut self, id: u64, result: Result<Vec<SocketAddr>, String>, now: Duration) {
        self.lookups = self.lookups.saturating_sub(1);
        let ttl = self.settings.dns_ttl;
        let found = match &result {
            Ok(answers) => !answers.is_empty(),
            Err(_) => false,
        };
        if found {
            self.lookups_ok += 1;
        } else {
            self.lookups_failed += 1;
        }
        let Some(watched) = self.servers.get_mut(&id) else { return };
        let answers = match result {
            Ok(answers) if !answers.is_empty() => answers,
            Ok(_) => return watched.lookup_failed("no address", now, ttl),
            Err(why) => return watched.lookup_failed(&why, now, ttl),
        };
        let current = watched.resolved();
        match dns::choose(current, watched.health.is_up(), &answers) {
            Choice::Keep => watched.lookup_ended(true, now, ttl),
            Choice::Take(address) => self.moves(id, Some(address), now),
            Choice::Try(candidates) => {
                let still_given = current.is_some_and(|current| answers.contains(&current));
                self.actions.push_back(Action::Try { id, candidates, still_given });
            }
        }
    }

    /// The trying of the answers to a lookup is over.
    pub fn tried(
        &mut self,
        id: u64,
        tried: &[SocketAddr],
        still_given: bool,
        answered: Option<SocketAddr>,
        now: Duration,
    ) {
        let Some(watched) = self.servers.get(&id) else { return };
        let address = dns::settle(watched.resolved(), watched.health.is_up(), still_given, tried, answered);
        self.moves(id, address, now);
    }

    fn moves(&mut self, id: u64, address: Option<SocketAddr>, now: Duration) {
        let ttl = self.settings.dns_ttl;
        let Some(watched) = self.servers.get_mut(&id) else { return };
        watched.lookup_ended(true, now, ttl);
        let current = watched.resolved();
        let Some(address) = address.filter(|address| current != Some(*address)) else { return };
        let words = match current {
            Some(current) => format!("server {} moved from {current} to {address}", watched.server.host),
            None => format!("server {} is at {address}", watched.server.host),
        };
        self.events.add(EventKind::Moved, words, now);
        watched.address = Some(Address::Tcp(address));
        watched.health.moved(now, &self.settings.health);
        self.actions.push_back(watched.publication());
    }

    // --- what others want to know ---

    /// Servers watched, and those that a check has shown to be up.
    pub fn count_proven(&self) -> (usize, usize) {
        let proven = self.servers.values().filter(|watched| watched.health.is_proven()).count();
        (self.servers.len(), proven)
    }

    /// Which servers take requests, by key, for all keys below `keys`.
    pub fn up_by_key(&self, keys: usize) -> Vec<bool> {
        let mut up = vec![false; keys];
        for watched in self.servers.values().filter(|watched| watched.takes_requests()) {
            for key in &watched.server.keys {
                up[key.0 as usize] = true;
            }
        }
        up
    }

    /// Every server, for the metrics.
    pub fn facts(&self) -> Vec<ServerFacts> {
        self.servers
            .values()
            .map(|watched| ServerFacts {
                name: watched.server.host.clone(),
                keys: watched.server.keys.iter().map(|key| key.0 as usize).collect(),
                up: watched.takes_requests(),
                downs: watched.downs,
                checks_ok: watched.checks_ok,
                checks_failed: watched.checks_failed,
                checks_failed_in_row: watched.health.failed_in_row(),
                trouble: watched.trouble,
            })
            .collect()
    }

    /// What happened, and how often.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// How each pool stands, in the order adopted.
    pub fn pool_counts(&self) -> Vec<PoolCount> {
        self.standings.counts()
    }

    /// Lookups that worked, and that failed.
    pub fn count_lookups(&self) -> (u64, u64) {
        (self.lookups_ok, self.lookups_failed)
    }
}

impl Watched {
    fn new(server: WatchedServer, id: u64, now: Duration) -> Watched {
        let (address, name) = match &server.target {
            Target::Address(address) => (Some(address.clone()), None),
            Target::Name(..) => (None, Some(Lookups::new(now))),
        };
        let health = Health::new(id, now);
        Watched { server, address, name, health, trouble: None, held: false, downs: 0, checks_ok: 0, checks_failed: 0 }
    }

    fn is_in_use(&self) -> bool {
        self.health.is_up() && !self.held
    }

    fn takes_requests(&self) -> bool {
        self.is_in_use() && self.address.is_some()
    }

    fn next_check(&self) -> Option<Duration> {
        self.address.as_ref().and(self.health.next_check())
    }

    fn next_lookup(&self) -> Option<Duration> {
        self.name.as_ref().and_then(Lookups::next)
    }

    /// The address of a server with a name.
    fn resolved(&self) -> Option<SocketAddr> {
        match &self.address {
            Some(Address::Tcp(address)) => Some(*address),
            Some(Address::Unix(_)) | None => None,
        }
    }

    fn lookup_failed(&mut self, why: &str, now: Duration, ttl: Duration) {
        let host = &self.server.host;
        match self.resolved() {
            Some(address) => log::warn!("looking up {host} failed: {why}; it stays at {address}"),
            None => log::warn!("looking up {host} failed: {why}; it takes no requests until that works"),
        }
        self.lookup_ended(false, now, ttl);
    }

    fn lookup_ended(&mut self, found: bool, now: Duration, ttl: Duration) {
        let up = self.health.is_up();
        if let Some(lookups) = &mut self.name {
            lookups.ended(found, up, now, ttl);
        }
    }

    fn publication(&self) -> Action {
        Action::Publish {
            keys: self.server.keys.clone(),
            up: self.is_in_use(),
            held: self.held,
            why: self.trouble,
            address: self.address.clone(),
        }
    }

    // --- words ---

    fn down_words(&self, why: &str) -> String {
        let host = &self.server.host;
        match self.health.relapses() {
            0 => format!("server {host} is down: {why}"),
            times => format!(
                "server {host} is down: {why}; soon after it had come back, {times} times in a row: it stays down longer"
            ),
        }
    }

    fn up_words(&self, why: &str, now: Duration) -> String {
        let host = &self.server.host;
        match self.health.down_at() {
            Some(at) => format!("server {host} is up after {:.1} s down: {why}", now.saturating_sub(at).as_secs_f64()),
            None => format!("server {host} is up: {why}"),
        }
    }

    fn half_open_words(&self, settings: &HealthSettings, now: Duration) -> String {
        let down_for = self.health.down_at().map_or(0.0, |at| now.saturating_sub(at).as_secs_f64());
        format!(
            "server {} passes checks again after {down_for:.1} s down: it takes requests once {} in a row have passed and \
             its least time down is over",
            self.server.host, settings.successes
        )
    }
}

#[cfg(test)]
mod tests;
