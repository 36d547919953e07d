//! The control loop's state: what was told to the shards, what they told, and what follows from both.
//!
//! Invariants: a shard gets a table before it is told of that table's servers; a configuration that can't be used
//! changes nothing; once draining, nothing is reloaded any more.

use super::files::{Adopted, ConfigFile, FileRead, FileTask};
use super::fleet::{Action, Fleet};
use super::http::{Answer, Question};
use super::invalidations::Invalidations;
use super::load::{Embedded, Loaded};
use super::process::ProcessUsage;
use super::servers::ServerKeys;
use super::standing::PoolCount;
use super::{DRAIN_GRACE, Done, Finished};
use crate::config::{Changes, Config};
use crate::messages::{FromShard, ToShard};
use crate::metrics::{
    Folded, Latencies, PoolFacts, ProcessFacts, ServerLists, ShardMetrics, StatsSummary, fold, render,
};
use crate::table::TablePool;
use keyway_io_engine::mailbox::Sender;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Between two snapshots of the shards' counters.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// A shard that has not answered for this long is not ready.
const SILENCE: Duration = Duration::from_secs(5);

pub(super) struct Control {
    shards: Vec<ShardLink>,
    pub(super) fleet: Fleet,
    keys: ServerKeys,
    loaded: Loaded,
    files: Sender<FileTask>,
    /// What the first configuration was made of, where that was the file.
    first: Option<Arc<[u8]>>,
    embedded: Embedded,
    log: Invalidations,
    loaded_at: Duration,
    reloads_succeeded: u64,
    reloads_failed: u64,
    /// The configuration in use is what the file held when it was read last.
    file_is_good: bool,
    last_good_in_use: bool,
    next_snapshot: Duration,
    latencies: Latencies,
    drain: Option<Drain>,
}

/// What is known of a shard.
struct ShardLink {
    mailbox: Sender<ToShard>,
    metrics: Box<ShardMetrics>,
    /// When it answered last; `None` before its first answer.
    heard_at: Option<Duration>,
    /// An answer to the latest question is owed.
    owes: bool,
    drained: bool,
}

struct Drain {
    until: Duration,
    cut: usize,
}

impl Control {
    pub(super) fn new(
        shards: Vec<Sender<ToShard>>,
        keys: ServerKeys,
        loaded: Loaded,
        (file, files): (&ConfigFile, Sender<FileTask>),
        embedded: Embedded,
        log: Invalidations,
    ) -> Control {
        let last_good_in_use = file.started_with_last_good;
        let link =
            |mailbox| ShardLink { mailbox, metrics: Box::default(), heard_at: None, owes: false, drained: false };
        Control {
            shards: shards.into_iter().map(link).collect(),
            fleet: Fleet::new(loaded.settings),
            keys,
            loaded,
            files,
            first: file.contents.clone().ok().filter(|_| !last_good_in_use),
            embedded,
            log,
            loaded_at: Duration::ZERO,
            reloads_succeeded: 0,
            reloads_failed: 0,
            file_is_good: !last_good_in_use,
            last_good_in_use,
            next_snapshot: Duration::ZERO,
            latencies: Latencies::default(),
            drain: None,
        }
    }

    /// Begins to watch the servers of the configuration the shards were started with.
    pub(super) fn start(&mut self, now: Duration) {
        self.loaded_at = now;
        self.fleet.adopt(self.loaded.servers.clone(), self.loaded.settings, now);
        self.fleet.adopt_pools(self.loaded.pools.clone(), self.loaded.table.generation, now);
        let first = self.first.take();
        self.say_adopted(None, first);
        self.adopt_log();
        for key in self.log.to_hold_at_the_start() {
            self.fleet.hold(key, now);
        }
        // At once: nobody should be let in to a server that is held.
        for publication in self.fleet.publications() {
            self.publish(publication, now);
        }
    }

    fn adopt_log(&mut self) {
        let settings = self.loaded.async_log.as_ref();
        self.log.adopt(settings, &self.loaded.servers);
        self.fleet.hold_returning(settings.is_some_and(|settings| settings.quarantine.is_some()));
    }

    /// Ends what has a life of its own.
    pub(super) fn close(self) {
        self.log.close();
    }

    // --- time ---

    pub(super) fn next_due(&self) -> Option<Duration> {
        let drain = self.drain.as_ref().map(|drain| drain.until);
        self.fleet.next_due().into_iter().chain([self.next_snapshot]).chain(drain).chain(self.log.next_due()).min()
    }

    pub(super) fn on_time(&mut self, now: Duration) {
        while let Some(key) = self.log.overdue(now) {
            self.fleet.release(key, now);
        }
        if now < self.next_snapshot {
            return;
        }
        self.next_snapshot = now + SNAPSHOT_EVERY;
        for shard in &mut self.shards {
            // A shard that is behind isn't asked again: its mailbox is for what matters.
            if !shard.owes && !shard.drained {
                shard.owes = true;
                shard.tell(ToShard::Snapshot);
            }
        }
    }

    // --- what shards say ---

    pub(super) fn heard(&mut self, message: FromShard, now: Duration) {
        match message {
            FromShard::Suspect { shard, key, suspicion } => self.fleet.suspected(shard, key, suspicion, now),
            FromShard::Snapshot { shard, metrics } => {
                let Some(link) = self.shards.get_mut(shard) else { return };
                link.metrics = metrics;
                link.heard_at = Some(now);
                link.owes = false;
                if self.shards.iter().all(|shard| !shard.owes) {
                    self.publish_stats(now);
                }
            }
            FromShard::Drained { shard, cut } => {
                let Some(link) = self.shards.get_mut(shard) else { return };
                link.drained = true;
                link.owes = false;
                if let Some(drain) = &mut self.drain {
                    drain.cut += cut;
                }
                log::info!("shard {shard} has drained, {cut} clients cut");
            }
            FromShard::Spool(request) => {
                if let Err(request) = self.log.spool(request)
                    && let Some(link) = self.shards.get(request.shard)
                {
                    link.tell(ToShard::Spooled { tickets: vec![(request.ticket, false)] });
                }
            }
        }
    }

    fn publish_stats(&mut self, now: Duration) {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let most = self.loaded.table.limits.clients_per_shard.saturating_mul(self.shards.len());
        let (folded, facts) = (self.fold(), self.facts(now));
        self.latencies.update(&folded.total);
        let shards = self.shards.len();
        let lists = ServerLists::new(&self.loaded.table, &facts.servers, &folded.total, shards, &self.latencies);
        let summary = Arc::new(StatsSummary { lists, ..StatsSummary::new(&folded, &facts, time.as_secs(), most) });
        for shard in self.shards.iter().filter(|shard| !shard.drained) {
            shard.tell(ToShard::Stats(summary.clone()));
        }
    }

    // --- what tasks bring ---

    pub(super) fn done(&mut self, done: Done, now: Duration) {
        match done {
            Done::Checked { id, epoch, result } => self.fleet.checked(id, epoch, result, now),
            Done::LookedUp { id, result } => self.fleet.looked_up(id, result, now),
            Done::Tried { id, candidates, still_given, answered } => {
                self.fleet.tried(id, &candidates, still_given, answered, now);
            }
            Done::Asked((question, asker)) => {
                let answer = self.answer(question, now);
                // Full or closed: whoever asked is gone.
                let _ = asker.try_send(answer);
            }
        }
    }

    /// The async log has sent a server what it missed.
    pub(super) fn released(&mut self, destination: &str, now: Duration) {
        if let Some(key) = self.log.released(destination) {
            self.fleet.release(key, now);
        }
    }

    pub(super) fn publish(&mut self, publication: Action, now: Duration) {
        self.log.hears(&publication, now);
        let messages = messages_of(publication);
        for shard in self.shards.iter().filter(|shard| !shard.drained) {
            for message in &messages {
                shard.tell(message.clone());
            }
        }
    }

    // --- reload ---

    /// Somebody asks for it.
    pub(super) fn reload(&mut self) {
        if self.drain.is_some() {
            log::warn!("not reloading: the process is draining");
            return;
        }
        if let Err(error) = self.files.send(FileTask::Read) {
            log::error!("not reloading: {error}");
        }
    }

    /// The file was read, because somebody asked or because it changed.
    pub(super) fn read(&mut self, read: FileRead, now: Duration) {
        if self.drain.is_some() {
            return;
        }
        if !read.asked {
            log::info!("the configuration file has changed");
        }
        let generation = self.loaded.table.generation + 1;
        let embedded = self.embedded.as_ref();
        let loaded = read.config.and_then(|config| {
            self.log.may_adopt(config.async_log.as_ref())?;
            Loaded::new(config, generation, &mut self.keys, embedded)
        });
        self.file_is_good = loaded.is_ok();
        match loaded {
            Ok(loaded) => {
                let before = self.loaded.config.clone();
                self.adopt(loaded, now);
                self.say_adopted(Some(before), read.contents.ok());
            }
            Err(errors) => {
                self.reloads_failed += 1;
                log::error!("the configuration was not reloaded, the old one stays in use:");
                for line in errors.lines() {
                    log::error!("  {line}");
                }
            }
        }
    }

    fn adopt(&mut self, loaded: Loaded, now: Duration) {
        self.reloads_succeeded += 1;
        self.last_good_in_use = false;
        self.loaded_at = now;
        let changes = Changes::between(&self.loaded.config, &loaded.config);
        self.loaded = loaded;
        let servers = self.loaded.servers.clone();
        for line in changes.to_string().lines() {
            log::info!("configuration {}: {line}", self.loaded.table.generation);
        }
        log::info!("configuration {} in use: {} servers", self.loaded.table.generation, servers.len());
        self.adopt_log();
        self.fleet.adopt(servers, self.loaded.settings, now);
        self.fleet.adopt_pools(self.loaded.pools.clone(), self.loaded.table.generation, now);
        // Together: between a table and the addresses of its servers, requests would find none of the new ones.
        let mut messages = vec![ToShard::Table(self.loaded.table.clone())];
        for publication in self.fleet.publications() {
            self.log.hears(&publication, now);
            messages.extend(messages_of(publication));
        }
        for shard in &self.shards {
            shard.tell_all(&messages);
        }
    }

    /// Lets the files' thread watch as this configuration says, keep it, and say how many keys move.
    fn say_adopted(&self, before: Option<Arc<Config>>, bytes: Option<Arc<[u8]>>) {
        let config = self.loaded.config.clone();
        let adopted = Adopted { config, before, generation: self.loaded.table.generation, bytes };
        if let Err(error) = self.files.send(FileTask::Adopted(Box::new(adopted))) {
            log::error!("the configuration file is not watched: {error}");
        }
    }

    // --- drain ---

    pub(super) fn drain(&mut self, now: Duration) {
        if self.drain.is_some() {
            return;
        }
        let longest = self.loaded.drain;
        log::info!("stopping: waiting at most {} ms for clients", longest.as_millis());
        self.drain = Some(Drain { until: now + longest + DRAIN_GRACE, cut: 0 });
        for shard in &self.shards {
            shard.tell(ToShard::Drain(longest));
        }
    }

    pub(super) fn finished(&self, now: Duration) -> Option<Finished> {
        let drain = self.drain.as_ref()?;
        if self.shards.iter().all(|shard| shard.drained) {
            return Some(Finished::Drained { cut: drain.cut });
        }
        (now >= drain.until).then(|| {
            log::error!("a shard did not say that it has drained");
            Finished::TimedOut
        })
    }

    // --- questions ---

    fn answer(&self, question: Question, now: Duration) -> Answer {
        match question {
            Question::Metrics => Answer { status: 200, body: render(&self.fold(), &self.facts(now)) },
            Question::Alive => Answer::plain(200, "ok\n"),
            Question::Ready => match self.not_ready(now) {
                None => Answer::plain(200, "ready\n"),
                Some(why) => Answer { status: 503, body: why + "\n" },
            },
            Question::Events => Answer { status: 200, body: self.fleet.events().text(now, SystemTime::now()) },
            Question::Index => Answer::plain(200, "/metrics\n/events\n/healthz\n/readyz\n"),
        }
    }

    /// Why no client should be sent here; `None` when one may.
    fn not_ready(&self, now: Duration) -> Option<String> {
        if self.drain.is_some() {
            return Some("draining".to_string());
        }
        for (at, shard) in self.shards.iter().enumerate() {
            match shard.heard_at {
                None => return Some(format!("shard {at} has not started")),
                Some(heard) if now.saturating_sub(heard) > SILENCE => {
                    return Some(format!("shard {at} has been silent for {} s", (now - heard).as_secs()));
                }
                Some(_) => {}
            }
        }
        match self.fleet.count_proven() {
            (0, _) => None,
            (servers, 0) => Some(format!("none of {servers} servers is up")),
            _ => None,
        }
    }

    fn fold(&self) -> Folded {
        fold(self.shards.iter().map(|shard| shard.metrics.as_ref()))
    }

    fn facts(&self, now: Duration) -> ProcessFacts {
        let usage = ProcessUsage::read();
        let (lookups_ok, lookups_failed) = self.fleet.count_lookups();
        ProcessFacts {
            servers: self.fleet.facts(),
            health_events: *self.fleet.events().counts(),
            pools: self.pools(),
            uptime_seconds: now.as_secs_f64(),
            config_generation: self.loaded.table.generation,
            config_age_seconds: now.saturating_sub(self.loaded_at).as_secs_f64(),
            reloads_succeeded: self.reloads_succeeded,
            reloads_failed: self.reloads_failed,
            file_is_good: self.file_is_good,
            last_good_in_use: self.last_good_in_use,
            lookups_ok,
            lookups_failed,
            cpu_user_seconds: usage.user_seconds,
            cpu_system_seconds: usage.system_seconds,
            resident_bytes: usage.resident_bytes,
            async_log: self.log.facts(),
        }
    }

    fn pools(&self) -> Vec<PoolFacts> {
        let table = &self.loaded.table;
        let facts = |(pool, count): (&TablePool, PoolCount)| PoolFacts {
            name: pool.name.clone(),
            servers: 0,
            servers_up: 0,
            servers_left_out: count.left_out,
            fails_open: count.open,
        };
        let mut pools: Vec<PoolFacts> = table.pools.iter().zip(self.fleet.pool_counts()).map(facts).collect();
        let up = self.fleet.up_by_key(self.keys.count());
        for server in &table.servers {
            let pool = &mut pools[server.pool];
            pool.servers += 1;
            pool.servers_up += usize::from(up[server.key.0 as usize]);
        }
        pools
    }
}

/// What shards are told by a publication; nothing by another action.
fn messages_of(action: Action) -> Vec<ToShard> {
    match action {
        Action::Publish { keys, up, why, address, held: _ } => {
            keys.into_iter().map(|key| ToShard::Server { key, up, why, address: address.clone() }).collect()
        }
        Action::Stand { generation, changes } => vec![ToShard::Standings { generation, changes: changes.into() }],
        Action::Check { .. } | Action::LookUp { .. } | Action::Try { .. } => Vec::new(),
    }
}

impl ShardLink {
    fn tell_all(&self, messages: &[ToShard]) {
        if let Err(error) = self.mailbox.send_all(messages.to_vec()) {
            log::error!("a shard can't be told of a new table: {error}");
        }
    }

    fn tell(&self, message: ToShard) {
        if let Err(error) = self.mailbox.send(message) {
            log::error!("a shard can't be told something: {error}");
        }
    }
}
