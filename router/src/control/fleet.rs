//! All watched servers: their health and their addresses, and what has to be done about them when.
//!
//! Decides only: it is told results and the time and gives out actions; the control loop carries them out.
//! Bounds: at most `CHECKS_AT_ONCE` checks and `LOOKUPS_AT_ONCE` lookups are under way; the others wait their turn.
//!
//! Invariant: whenever a server's verdict or address changes, and whenever a shard suspected it, a `Publish` follows.

use super::dns::{self, Choice, Lookups};
use super::health::{Health, HealthSettings, State, Verdict};
use super::servers::{Target, WatchedServer};
use crate::metrics::ServerFacts;
use crate::table::ServerKey;
use keyway_io_engine::Address;
use std::collections::{BTreeMap, VecDeque};
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
        /// Where it is.
        address: Option<Address>,
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
    /// Names servers for their life in the fleet, so that results of one that has left find nobody.
    next_id: u64,
    checks: usize,
    lookups: usize,
    lookups_ok: u64,
    lookups_failed: u64,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Watched {
    server: WatchedServer,
    address: Option<Address>,
    /// `None` for an address that needs no lookup.
    name: Option<Lookups>,
    health: Health,
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
            next_id: 0,
            checks: 0,
            lookups: 0,
            lookups_ok: 0,
            lookups_failed: 0,
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

    /// Takes what is to be published now, for who must tell it together with something else.
    pub fn publications(&mut self) -> Vec<Action> {
        let (publications, others): (VecDeque<_>, VecDeque<_>) =
            self.actions.drain(..).partition(|action| matches!(action, Action::Publish { .. }));
        self.actions = others;
        Vec::from(publications)
    }

    /// What is to be done, all that is due included. Call until `None`.
    pub fn action(&mut self, now: Duration) -> Option<Action> {
        if self.actions.is_empty() {
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
        check.into_iter().chain(lookup).min()
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
    pub fn checked(&mut self, id: u64, epoch: u32, result: Result<(), String>, now: Duration) {
        self.checks = self.checks.saturating_sub(1);
        let health = self.settings.health;
        let Some(watched) = self.servers.get_mut(&id) else { return };
        let (verdict, why) = match result {
            Ok(()) => {
                watched.checks_ok += 1;
                let why = match watched.health.state() {
                    State::Starting => "it passed its first check".to_string(),
                    State::Up { .. } | State::Down { .. } => format!("{} checks in a row passed", health.successes),
                };
                (watched.health.passed(epoch, now, &health), why)
            }
            Err(why) => {
                watched.checks_failed += 1;
                (watched.health.failed(epoch, now, &health), why)
            }
        };
        self.follow(id, verdict, &why, now);
    }

    /// A shard suspects the server with this key.
    pub fn suspected(&mut self, key: ServerKey, why: &str, now: Duration) {
        let found = self.servers.iter_mut().find(|(_, watched)| watched.server.keys.contains(&key));
        let Some((id, watched)) = found else { return };
        let (id, verdict) = (*id, watched.health.suspected(now, &self.settings.health));
        self.follow(id, verdict, &format!("requests to it fail: {why}"), now);
    }

    fn follow(&mut self, id: u64, verdict: Verdict, why: &str, now: Duration) {
        let Some(watched) = self.servers.get_mut(&id) else { return };
        let host = &watched.server.host;
        match verdict {
            Verdict::Same => return,
            Verdict::Again => {}
            Verdict::CameUp => log::info!("server {host} is up: {why}"),
            Verdict::WentDown => {
                log::warn!("server {host} is down: {why}");
                watched.downs += 1;
                if let Some(lookups) = &mut watched.name {
                    lookups.hurry(now);
                }
            }
        }
        self.actions.push_back(watched.publication());
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
        match current {
            Some(current) => log::info!("server {} moved from {current} to {address}", watched.server.host),
            None => log::info!("server {} is at {address}", watched.server.host),
        }
        watched.address = Some(Address::Tcp(address));
        watched.health.moved(now);
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
            })
            .collect()
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
        Watched { server, address, name, health, downs: 0, checks_ok: 0, checks_failed: 0 }
    }

    fn takes_requests(&self) -> bool {
        self.health.is_up() && self.address.is_some()
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
        Action::Publish { keys: self.server.keys.clone(), up: self.health.is_up(), address: self.address.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: FleetSettings = FleetSettings {
        health: HealthSettings {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            failures: 3,
            successes: 2,
        },
        dns_ttl: Duration::from_secs(30),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn socket(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 11211))
    }

    fn fixed(n: u8, keys: &[u32]) -> WatchedServer {
        let target = Target::Address(Address::Tcp(socket(n)));
        WatchedServer { host: socket(n).to_string(), target, keys: keys.iter().copied().map(ServerKey).collect() }
    }

    fn named(name: &str, key: u32) -> WatchedServer {
        let target = Target::Name(name.to_string(), 11211);
        WatchedServer { host: format!("{name}:11211"), target, keys: vec![ServerKey(key)] }
    }

    fn actions(fleet: &mut Fleet, now: Duration) -> Vec<Action> {
        std::iter::from_fn(|| fleet.action(now)).collect()
    }

    fn publish(key: u32, up: bool, at: Option<u8>) -> Action {
        Action::Publish { keys: vec![ServerKey(key)], up, address: at.map(|n| Address::Tcp(socket(n))) }
    }

    fn check(id: u64, epoch: u32, n: u8) -> Action {
        Action::Check { id, epoch, address: Address::Tcp(socket(n)) }
    }

    fn look_up(id: u64, name: &str) -> Action {
        Action::LookUp { id, name: name.to_string(), port: 11211 }
    }

    #[test]
    fn a_server_is_published_checked_and_followed() {
        let mut fleet = Fleet::new(SETTINGS);
        assert_eq!(fleet.next_due(), None);
        fleet.adopt(vec![fixed(1, &[0, 7])], SETTINGS, seconds(0));
        let both =
            |up| Action::Publish { keys: vec![ServerKey(0), ServerKey(7)], up, address: Some(Address::Tcp(socket(1))) };
        assert_eq!(actions(&mut fleet, seconds(0)), [both(true), check(1, 0, 1)]);
        assert_eq!((fleet.next_due(), fleet.count_proven()), (None, (1, 0)));
        fleet.checked(1, 0, Err("refused".to_string()), seconds(1));
        assert_eq!(actions(&mut fleet, seconds(1)), [both(false)]);
        assert_eq!(fleet.up_by_key(8), [false; 8]);
        for at in [2, 3] {
            assert_eq!(actions(&mut fleet, seconds(at)), [check(1, 0, 1)]);
            fleet.checked(1, 0, Ok(()), seconds(at));
        }
        assert_eq!(actions(&mut fleet, seconds(3)), [both(true)]);
        assert_eq!(fleet.up_by_key(8), [true, false, false, false, false, false, false, true]);
        // Either key will do for a suspicion, and a second one is answered although nothing changes.
        fleet.suspected(ServerKey(7), "timeout", seconds(4));
        fleet.suspected(ServerKey(0), "timeout", seconds(4));
        fleet.suspected(ServerKey(99), "timeout", seconds(4));
        assert_eq!(actions(&mut fleet, seconds(4)), [both(false), both(false)]);
        let facts = fleet.facts();
        assert_eq!((facts[0].downs, facts[0].checks_ok, facts[0].checks_failed, facts[0].up), (2, 2, 1, false));
    }

    #[test]
    fn checks_under_way_are_bounded() {
        let mut fleet = Fleet::new(SETTINGS);
        fleet.adopt((0..200).map(|n| fixed(n, &[u32::from(n)])).collect(), SETTINGS, seconds(0));
        let begun = |actions: &[Action]| actions.iter().filter(|action| matches!(action, Action::Check { .. })).count();
        assert_eq!(begun(&actions(&mut fleet, seconds(0))), CHECKS_AT_ONCE);
        assert_eq!(fleet.next_due(), None, "only a result makes room");
        for id in 1..=10 {
            fleet.checked(id, 0, Ok(()), seconds(0));
        }
        assert_eq!(fleet.next_due(), Some(seconds(0)));
        assert_eq!(begun(&actions(&mut fleet, seconds(0))), 10);
    }

    #[test]
    fn a_name_is_looked_up_then_checked_and_moves() {
        let mut fleet = Fleet::new(SETTINGS);
        fleet.adopt(vec![named("cache", 0)], SETTINGS, seconds(0));
        assert_eq!(actions(&mut fleet, seconds(0)), [publish(0, true, None), look_up(1, "cache")]);
        assert_eq!(fleet.up_by_key(1), [false], "not without an address");
        fleet.looked_up(1, Err("no such name".to_string()), seconds(0));
        assert_eq!(actions(&mut fleet, seconds(1)), [look_up(1, "cache")]);
        fleet.looked_up(1, Ok(vec![socket(1)]), seconds(1));
        assert_eq!(actions(&mut fleet, seconds(1)), [publish(0, true, Some(1)), check(1, 1, 1)]);
        fleet.checked(1, 1, Ok(()), seconds(1));
        actions(&mut fleet, seconds(1));

        // Round robin: nothing happens while the address is among the answers.
        assert_eq!(actions(&mut fleet, seconds(40)), [check(1, 1, 1), look_up(1, "cache")]);
        fleet.checked(1, 1, Ok(()), seconds(40));
        fleet.looked_up(1, Ok(vec![socket(2), socket(1)]), seconds(40));
        assert_eq!(actions(&mut fleet, seconds(40)), []);

        // No longer given out: the first that answers.
        actions(&mut fleet, seconds(80));
        fleet.checked(1, 1, Ok(()), seconds(80));
        fleet.looked_up(1, Ok(vec![socket(2), socket(3)]), seconds(80));
        let candidates = vec![socket(2), socket(3)];
        let expected = Action::Try { id: 1, candidates: candidates.clone(), still_given: false };
        assert_eq!(actions(&mut fleet, seconds(80)), [expected]);
        fleet.tried(1, &candidates, false, Some(socket(3)), seconds(81));
        assert_eq!(actions(&mut fleet, seconds(81)), [publish(0, true, Some(3)), check(1, 2, 3)]);
        assert_eq!(fleet.count_lookups(), (3, 1));
    }

    #[test]
    fn a_server_that_goes_down_is_looked_up_soon() {
        let mut fleet = Fleet::new(SETTINGS);
        fleet.adopt(vec![named("cache", 0)], SETTINGS, seconds(0));
        actions(&mut fleet, seconds(0));
        fleet.looked_up(1, Ok(vec![socket(1)]), seconds(0));
        actions(&mut fleet, seconds(0));
        fleet.checked(1, 1, Ok(()), seconds(0));
        actions(&mut fleet, seconds(0));
        fleet.suspected(ServerKey(0), "connection_lost", seconds(5));
        assert_eq!(actions(&mut fleet, seconds(5)), [publish(0, false, Some(1)), check(1, 2, 1), look_up(1, "cache")],);
        fleet.looked_up(1, Ok(vec![socket(1), socket(2)]), seconds(5));
        let candidates = vec![socket(2)];
        let expected = Action::Try { id: 1, candidates: candidates.clone(), still_given: true };
        assert_eq!(actions(&mut fleet, seconds(5)), [expected]);
        fleet.tried(1, &candidates, true, None, seconds(6));
        assert_eq!(actions(&mut fleet, seconds(6)), [], "both dead: it stays");
    }

    #[test]
    fn a_reload_keeps_what_is_known_and_forgets_who_left() {
        let mut fleet = Fleet::new(SETTINGS);
        fleet.adopt(vec![fixed(1, &[0]), fixed(2, &[1])], SETTINGS, seconds(0));
        actions(&mut fleet, seconds(0));
        fleet.checked(1, 0, Err("refused".to_string()), seconds(0));
        actions(&mut fleet, seconds(0));
        // 2 leaves while its check is under way; 3 comes; 1 stays down.
        fleet.adopt(vec![fixed(3, &[2]), fixed(1, &[0])], SETTINGS, seconds(0));
        assert_eq!(
            actions(&mut fleet, seconds(0)),
            [publish(2, true, Some(3)), publish(0, false, Some(1)), check(3, 0, 3)],
        );
        fleet.checked(2, 0, Err("refused".to_string()), seconds(0));
        assert_eq!(actions(&mut fleet, seconds(0)), []);
        assert_eq!(fleet.facts().len(), 2);
        // Back again it starts anew.
        fleet.adopt(vec![fixed(2, &[1])], SETTINGS, seconds(1));
        assert_eq!(actions(&mut fleet, seconds(1)), [publish(1, true, Some(2)), check(4, 0, 2)]);
    }
}
