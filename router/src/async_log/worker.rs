//! The async log's thread: writes what comes, in groups, and sees to it that it is sent once servers are back.
//!
//! Owns the directory. Takes messages in their order, so that a server's return is looked at with everything before it
//! written. Players do the sending; at most `MAX_PLAYERS` at a time, one per server.

use super::line::{Command, Entry};
use super::player::{Done, Job, Report};
use super::spool::Spool;
use super::{LogFacts, MAX_WAITING, Settings, SyncPolicy, lock};
use crate::messages::{SpoolRequest, ToShard};
use keyway_io_engine::Address;
use keyway_io_engine::mailbox::{Receiver, Sender};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// Most servers that are sent entries at a time.
const MAX_PLAYERS: usize = 16;
/// After a replay, the next waits this long for more: requests that fail now and then make no connection each.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait after a replay that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the end waits for players. What they had no answer for is sent again by the next process.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// A quarantine ends with at most so many entries left, which came during its last replay and follow at once: while
/// requests fail there are always some.
const LEFT_BY_QUARANTINE: u64 = 64;

/// What the worker is told.
#[derive(Debug)]
pub(super) enum Told {
    /// Keep this.
    Spool { destination: String, request: Box<SpoolRequest> },
    /// A server is up, at this address, or down. `held` when it is kept out of use until the worker says so.
    Server { destination: String, up: Option<Address>, held: bool },
    /// How a player got on.
    Player { destination: String, report: Report },
    /// Other settings.
    Settings(Box<Settings>),
    /// End.
    Close,
}

/// Who the worker hears, and tells.
#[derive(Debug)]
pub(super) struct Ends {
    /// What it is told.
    pub(super) inbox: Receiver<Told>,
    /// The other end of that, for players.
    pub(super) told: Sender<Told>,
    /// The shards, in their order.
    pub(super) shards: Vec<Sender<ToShard>>,
    /// Is told of servers whose quarantine is over.
    pub(super) released: Sender<String>,
    /// Requests in the inbox.
    pub(super) waiting: Arc<AtomicUsize>,
    /// What the control plane sees of the files.
    pub(super) facts: Arc<Mutex<BTreeMap<String, LogFacts>>>,
}

pub(super) struct Worker {
    settings: Settings,
    spool: Spool,
    ends: Ends,
    servers: BTreeMap<String, Server>,
    players: usize,
    /// Until when the end waits for players.
    closing: Option<Instant>,
    next_sync: Instant,
    /// Whose facts changed.
    changed: BTreeSet<String>,
}

/// Entries of one destination that are written together.
#[derive(Debug, Default)]
struct Group {
    entries: Vec<Entry>,
    /// Who gave each: its shard, and its ticket.
    asked: Vec<(usize, u64)>,
}

/// A server that is known to be up, or has a player.
#[derive(Debug, Default)]
struct Server {
    up: Option<Address>,
    held: bool,
    /// It came back, and nobody was told yet that it has what it missed.
    is_back: bool,
    /// Tells the player to end.
    playing: Option<Arc<AtomicBool>>,
    /// Not before; `None` is at once.
    not_before: Option<Instant>,
    failures_in_a_row: u32,
}

impl Worker {
    pub(super) fn new(settings: Settings, spool: Spool, ends: Ends) -> Worker {
        Worker {
            settings,
            spool,
            ends,
            servers: BTreeMap::new(),
            players: 0,
            closing: None,
            next_sync: Instant::now(),
            changed: BTreeSet::new(),
        }
    }

    /// Until it is told to close.
    pub(super) fn run(mut self) {
        while self.closing.is_none_or(|until| self.players > 0 && Instant::now() < until) {
            let mut next = self.ends.inbox.wait(self.wait());
            let mut requests = Vec::new();
            let mut taken = 0;
            while let Some(told) = next {
                match told {
                    Told::Spool { destination, request } => requests.push((destination, request)),
                    other => {
                        self.keep(std::mem::take(&mut requests));
                        self.told(other);
                    }
                }
                taken += 1;
                // Bounded, so that answers aren't held back by what keeps coming.
                next = if taken < MAX_WAITING { self.ends.inbox.take() } else { None };
            }
            self.keep(requests);
            self.sync_when_due();
            self.start_players();
            self.share();
        }
        self.spool.sync();
    }

    /// Until something is due.
    fn wait(&self) -> Option<Duration> {
        let now = Instant::now();
        let sync = (self.settings.sync == SyncPolicy::Interval && self.spool.is_dirty()).then_some(self.next_sync);
        let players = self.servers.iter().filter(|_| self.players < MAX_PLAYERS).filter_map(|(destination, server)| {
            let at = server.not_before.unwrap_or(now);
            let may_play = self.settings.replay && self.closing.is_none();
            (may_play && server.could_play() && self.spool.has_files(destination)).then_some(at)
        });
        let due = sync.into_iter().chain(players).chain(self.closing).min();
        due.map(|due| due.saturating_duration_since(now))
    }

    fn entries(&self, destination: &str) -> u64 {
        self.spool.facts(destination).map_or(0, |facts| facts.entries)
    }

    // --- keeping ---

    /// Writes these, each server's together, and answers their shards.
    fn keep(&mut self, requests: Vec<(String, Box<SpoolRequest>)>) {
        if requests.is_empty() {
            return;
        }
        self.ends.waiting.fetch_sub(requests.len(), Ordering::AcqRel);
        let at_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let mut answers: Vec<Vec<(u64, bool)>> = vec![Vec::new(); self.ends.shards.len()];
        let mut by_destination: BTreeMap<String, Group> = BTreeMap::new();
        for (destination, request) in requests {
            let SpoolRequest { shard, ticket, name, frame, .. } = *request;
            match Command::parse(&frame) {
                Ok(command) => {
                    let group = by_destination.entry(destination.clone()).or_default();
                    group.entries.push(Entry { at_ms, destination, name, command });
                    group.asked.push((shard, ticket));
                }
                Err(_) => {
                    self.spool.refuse_command(&destination);
                    self.changed.insert(destination);
                    answers.get_mut(shard).into_iter().for_each(|answers| answers.push((ticket, false)));
                }
            }
        }
        for (destination, Group { entries, asked }) in by_destination {
            let kept = self.spool.append(&destination, &entries, Instant::now());
            for ((shard, ticket), kept) in asked.into_iter().zip(kept) {
                answers.get_mut(shard).into_iter().for_each(|answers| answers.push((ticket, kept)));
            }
            self.changed.insert(destination);
        }
        for (shard, tickets) in answers.into_iter().enumerate().filter(|(_, tickets)| !tickets.is_empty()) {
            if let Err(error) = self.ends.shards[shard].send(ToShard::Spooled { tickets }) {
                log::error!("shard {shard} can't be told what was kept: {error}");
            }
        }
    }

    fn sync_when_due(&mut self) {
        let now = Instant::now();
        if self.settings.sync == SyncPolicy::Interval && now >= self.next_sync && self.spool.is_dirty() {
            self.next_sync = now + self.settings.sync_interval;
            self.spool.sync();
        }
    }

    // --- sending ---

    fn told(&mut self, told: Told) {
        match told {
            Told::Server { destination, up, held } => self.server(destination, up, held),
            Told::Player { destination, report } => self.player(destination, report),
            Told::Settings(settings) => {
                self.spool.settings = (*settings).clone();
                self.settings = *settings;
            }
            Told::Close => {
                self.closing = Some(Instant::now() + LAST_WAIT);
                for server in self.servers.values() {
                    server.stop();
                }
            }
            Told::Spool { .. } => unreachable!("kept before anything else is looked at"),
        }
    }

    fn server(&mut self, destination: String, up: Option<Address>, held: bool) {
        let server = self.servers.entry(destination.clone()).or_default();
        if server.up != up {
            server.stop();
            server.not_before = None;
            server.failures_in_a_row = 0;
            server.is_back = up.is_some();
        }
        server.up = up;
        server.held = held;
        if server.up.is_none() && server.playing.is_none() {
            self.servers.remove(&destination);
        }
        self.release_when_done(&destination, 0);
    }

    fn player(&mut self, destination: String, report: Report) {
        match report {
            Report::Progress { number, offset, done } => {
                let Done { replayed, rejected, unreadable, at_ms } = done;
                self.spool.replayed(&destination, number, offset, replayed + rejected + unreadable, at_ms);
                if let Some(of) = self.spool.destinations.get_mut(&destination) {
                    of.facts.replayed += replayed;
                    of.facts.rejected += rejected;
                    of.facts.unreadable += unreadable;
                }
            }
            Report::Finished { number } => self.spool.finished(&destination, number),
            Report::Ended(how) => self.ended(&destination, how),
        }
        self.changed.insert(destination);
    }

    fn ended(&mut self, destination: &str, how: Result<(), String>) {
        self.players -= 1;
        let left = self.entries(destination);
        let Some(server) = self.servers.get_mut(destination) else { return };
        let was_stopped = server.playing.take().is_none_or(|stop| stop.load(Ordering::Acquire));
        let pause = match how {
            _ if was_stopped => Duration::ZERO,
            Ok(()) => {
                server.failures_in_a_row = 0;
                // Not for each request that failed now and then.
                if std::mem::take(&mut server.is_back) {
                    log::info!("async log: what {destination} missed was sent to it; {left} entries came meanwhile");
                }
                if server.held && left > 0 { Duration::ZERO } else { PAUSE }
            }
            Err(why) => {
                if server.failures_in_a_row == 0 {
                    log::warn!("async log: {left} entries for {destination} wait: {why}");
                }
                server.failures_in_a_row += 1;
                if let Some(of) = self.spool.destinations.get_mut(destination) {
                    of.facts.failures += 1;
                }
                (PAUSE * (1 << server.failures_in_a_row.min(6)) / 2).min(LONGEST_PAUSE)
            }
        };
        // One that was stopped may have had nothing left to do.
        let left_over = if !was_stopped && server.failures_in_a_row == 0 { LEFT_BY_QUARANTINE } else { 0 };
        server.not_before = Some(Instant::now() + pause);
        if server.up.is_none() {
            self.servers.remove(destination);
        } else {
            self.release_when_done(destination, left_over);
        }
    }

    /// Ends a server's quarantine when no more than `left` entries wait.
    fn release_when_done(&mut self, destination: &str, left: u64) {
        let entries = self.entries(destination);
        let Some(server) = self.servers.get_mut(destination) else { return };
        if !server.held || server.playing.is_some() || entries > left {
            return;
        }
        server.held = false;
        server.not_before = None;
        if let Err(error) = self.ends.released.send(destination.to_string()) {
            log::error!("async log: {destination} stays out of use for as long as its quarantine may last: {error}");
        }
    }

    fn start_players(&mut self) {
        if !self.settings.replay || self.closing.is_some() {
            return;
        }
        let now = Instant::now();
        let due = |server: &Server| server.could_play() && server.not_before.is_none_or(|at| at <= now);
        let destinations: Vec<String> = self
            .servers
            .iter()
            .filter(|(destination, server)| due(server) && self.spool.has_files(destination))
            .map(|(destination, _)| destination.clone())
            .take(MAX_PLAYERS.saturating_sub(self.players))
            .collect();
        for destination in destinations {
            self.start_player(destination);
        }
    }

    fn start_player(&mut self, destination: String) {
        let Some(server) = self.servers.get_mut(&destination) else { return };
        let (Some(address), Some(backlog)) = (server.up.clone(), self.spool.backlog(&destination)) else { return };
        let stop = Arc::new(AtomicBool::new(false));
        let job = Job {
            destination,
            address,
            backlog,
            per_second: self.settings.replay_per_second,
            timeout: self.settings.replay_timeout,
            stop: stop.clone(),
            reports: self.ends.told.clone(),
        };
        match std::thread::Builder::new().name("keyway-replay".to_string()).spawn(move || job.run()) {
            Ok(_) => {
                self.players += 1;
                server.playing = Some(stop);
            }
            Err(error) => {
                log::error!("async log: no thread to replay on: {error}");
                server.not_before = Some(Instant::now() + LONGEST_PAUSE);
            }
        }
    }

    // --- what others want to know ---

    fn share(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        let mut shared = lock(&self.ends.facts);
        for destination in std::mem::take(&mut self.changed) {
            if let Some(facts) = self.spool.facts(&destination) {
                shared.insert(destination, facts);
            }
        }
    }
}

impl Server {
    fn could_play(&self) -> bool {
        self.up.is_some() && self.playing.is_none()
    }

    fn stop(&self) {
        if let Some(stop) = &self.playing {
            stop.store(true, Ordering::Release);
        }
    }
}
