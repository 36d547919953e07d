//! Between shards and the async log: which server an entry is for, and when a server that is back may be used again.
//!
//! The fleet holds servers that come back; this says when to release them: once the log has sent what they missed, or once
//! the quarantine has lasted as long as it may. Does nothing where there is no async log.
//!
//! Invariant: a server is held at most as long as the quarantine may last, whatever becomes of the log.

use super::fleet::Action;
use super::servers::{Target, WatchedServer};
use crate::async_log::{AsyncLog, LogFacts, Settings};
use crate::messages::{SpoolRequest, ToShard};
use crate::metrics::AsyncLogFacts;
use crate::table::ServerKey;
use keyway_io_engine::Address;
use keyway_io_engine::mailbox::Sender;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

#[derive(Debug, Default)]
pub(super) struct Invalidations {
    log: Option<AsyncLog>,
    quarantine: Option<Duration>,
    /// The destination of every key there ever was: requests may come from a table that is gone.
    by_key: HashMap<ServerKey, Rc<str>>,
    /// Servers of the configuration in use.
    servers: BTreeMap<Rc<str>, Known>,
    /// Entries not kept because too many waited to be written.
    busy: BTreeMap<Rc<str>, u64>,
}

/// A server of the configuration in use.
#[derive(Debug)]
struct Known {
    /// As metrics name it.
    host: String,
    key: ServerKey,
    /// While it is held: until when at most.
    held_until: Option<Duration>,
}

impl Invalidations {
    /// Opens the log, if there is to be one. The error is ready to be printed.
    pub(super) fn open(
        settings: Option<&Settings>,
        shards: &[Sender<ToShard>],
        released: Sender<String>,
    ) -> Result<Invalidations, String> {
        let log = settings.map(|settings| AsyncLog::open(settings, shards.to_vec(), released)).transpose()?;
        Ok(Invalidations { log, ..Invalidations::default() })
    }

    /// Whether a configuration with these settings can be taken without a restart.
    pub(super) fn may_adopt(&self, settings: Option<&Settings>) -> Result<(), String> {
        let (now, then) = (self.log.as_ref().map(AsyncLog::directory), settings.map(|settings| &*settings.directory));
        match now == then {
            true => Ok(()),
            false => {
                Err("async_log.directory changed, which takes a restart; nothing of the new file is used".to_string())
            }
        }
    }

    /// These servers and settings count from now on.
    pub(super) fn adopt(&mut self, settings: Option<&Settings>, servers: &[WatchedServer]) {
        let (Some(log), Some(settings)) = (&self.log, settings) else { return };
        log.adopt(settings);
        self.quarantine = settings.quarantine;
        let mut before = std::mem::take(&mut self.servers);
        for server in servers {
            let Some(destination) = destination(server) else { continue };
            let destination: Rc<str> = destination.into();
            self.by_key.extend(server.keys.iter().map(|key| (*key, destination.clone())));
            let held_until = before.remove(&destination).and_then(|known| known.held_until);
            let key = server.keys[0];
            self.servers.insert(destination, Known { host: server.host.clone(), key, held_until });
        }
        for destination in before.keys() {
            log.server(destination, None, false);
        }
        for (destination, facts) in log.facts().iter().filter(|(_, facts)| facts.entries > 0) {
            if !self.servers.contains_key(destination.as_str()) {
                let entries = facts.entries;
                log::warn!(
                    "async log: {entries} entries for {destination}, which is no server any more: see `keyway replay`"
                );
            }
        }
    }

    /// Gives an entry to the log, which answers the shard. Given back when it isn't taken.
    pub(super) fn spool(&mut self, request: Box<SpoolRequest>) -> Result<(), Box<SpoolRequest>> {
        let (Some(log), Some(destination)) = (&self.log, self.by_key.get(&request.server)) else { return Err(request) };
        let result = log.spool(destination, request);
        if result.is_err() {
            *self.busy.entry(destination.clone()).or_default() += 1;
        }
        result
    }

    // --- quarantine ---

    /// Servers that are to be held before they were ever used, for what an earlier process left for them.
    pub(super) fn to_hold_at_the_start(&self) -> Vec<ServerKey> {
        let (Some(log), Some(_)) = (&self.log, self.quarantine) else { return Vec::new() };
        let missed = self.servers.iter().filter(|(destination, _)| log.has_backlog(destination));
        missed.map(|(_, known)| known.key).collect()
    }

    /// What is published of a server, the log hears too.
    pub(super) fn hears(&mut self, publication: &Action, now: Duration) {
        let Action::Publish { keys, up, held, address, .. } = publication else { return };
        let Some(log) = &self.log else { return };
        let Some(destination) = keys.first().and_then(|key| self.by_key.get(key)) else { return };
        let Some(known) = self.servers.get_mut(destination) else { return };
        if *held && known.held_until.is_none() && log.has_backlog(destination) {
            log::info!("server {} is in quarantine until what it missed is sent to it", known.host);
        }
        let until = now + self.quarantine.unwrap_or_default();
        known.held_until = held.then(|| known.held_until.unwrap_or(until));
        log.server(destination, address.clone().filter(|_| *up || *held), *held);
    }

    /// The log says that a server has what it missed. Its key, if it is to be released.
    pub(super) fn released(&mut self, destination: &str) -> Option<ServerKey> {
        let known = self.servers.get_mut(destination)?;
        known.held_until.take().map(|_| known.key)
    }

    /// When the next quarantine is over at the latest.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.servers.values().filter_map(|known| known.held_until).min()
    }

    /// A server whose quarantine has lasted as long as it may. Call until `None`.
    pub(super) fn overdue(&mut self, now: Duration) -> Option<ServerKey> {
        let known = self.servers.values_mut().find(|known| known.held_until.is_some_and(|until| until <= now))?;
        log::warn!("server {} is used again without what it missed: its quarantine lasted too long", known.host);
        known.held_until = None;
        Some(known.key)
    }

    // --- the rest ---

    /// For the metrics: every server of the configuration, and whoever else has entries.
    pub(super) fn facts(&self) -> Vec<AsyncLogFacts> {
        let Some(log) = &self.log else { return Vec::new() };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut found = log.facts();
        let row = |destination: &str, server: &str, is_held: bool, log: LogFacts| {
            let age = log.oldest_ms.map(|oldest| now.saturating_sub(Duration::from_millis(oldest)));
            AsyncLogFacts {
                server: server.to_string(),
                oldest_seconds: age.unwrap_or_default().as_secs_f64(),
                refused_busy: self.busy.get(destination).copied().unwrap_or(0),
                is_held,
                log,
            }
        };
        let configured = self.servers.iter().map(|(destination, known)| {
            let log = found.remove(&**destination).unwrap_or_default();
            row(destination, &known.host, known.held_until.is_some(), log)
        });
        let mut rows: Vec<AsyncLogFacts> = configured.collect();
        rows.extend(found.into_iter().map(|(destination, log)| row(&destination, &destination, false, log)));
        rows
    }

    /// Ends the log: what it was given is written, and another process may have its directory.
    pub(super) fn close(self) {
        if let Some(log) = self.log {
            log.close();
        }
    }
}

/// The name of a server in the log, the same however it is written in the configuration. What is in this process has none:
/// it ends with it.
fn destination(server: &WatchedServer) -> Option<String> {
    if server.host.starts_with("embedded:") {
        return None;
    }
    Some(match &server.target {
        Target::Address(Address::Tcp(address)) => address.to_string(),
        Target::Address(Address::Unix(path)) => format!("unix:{}", path.display()),
        Target::Name(name, port) => format!("{name}:{port}"),
    })
}
