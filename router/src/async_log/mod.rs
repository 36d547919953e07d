//! The async log: invalidations a server missed, kept on disk and sent to it once it is back.
//!
//! ```text
//!  shard ─ FromShard::Spool ─► control ─► AsyncLog ─► worker thread (owns the directory) ─► files, one folder a server
//!    ▲                                                  │ ▲
//!    └──────────── ToShard::Spooled: kept or not ───────┘ │ how far it got
//!                                                         └── player threads: read closed files, send, await replies
//! ```
//!
//! Whatever blocks (files, sockets) is done on threads of its own, never on a shard or on the control plane's executor.
//! `line` is the format, `spool` the files, `worker` decides, `player` sends, `replay` is the verb for other logs.
//!
//! Invariants: a ticket is answered with true only when its line is written, and synced where the settings say so; what is
//! not kept is answered with false and counted; an entry leaves the disk only after its server answered it. An entry may
//! be sent twice after a crash, never lost: what is kept may be sent more than once without harm.

mod address;
mod line;
mod lines;
mod lock;
mod player;
mod recover;
mod replay;
mod spool;
mod wire;
mod worker;

pub use line::{Command, Entry, MAX_KEY_BYTES, Unreadable};
pub use lines::{Found, Lines};
pub use replay::{ReplayOptions, Replayed, replay};

use crate::messages::{SpoolRequest, ToShard};
use keyway_io_engine::Address;
use keyway_io_engine::mailbox::{SendError, Sender, mailbox_of};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use worker::{Ends, Told, Worker};

/// Most requests that wait to be written; one more is answered with false.
pub const MAX_WAITING: usize = 8192;
/// Room in the worker's mailbox for what is not a request: news of each server there can be, and players' reports.
const OTHER_MESSAGES: usize = 3 * crate::control::MAX_SERVER_KEYS;

/// The configuration's `async_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the files are.
    pub directory: PathBuf,
    /// Most bytes of all files together.
    pub max_bytes: u64,
    /// Most bytes of one server's files.
    pub server_bytes: u64,
    /// A file of this size is followed by a new one.
    pub file_bytes: u64,
    /// A file of this age is followed by a new one.
    pub rotate: Duration,
    /// When an entry counts as kept.
    pub sync: SyncPolicy,
    /// Between two syncs, with `SyncPolicy::Interval`.
    pub sync_interval: Duration,
    /// Whether entries are sent once their server is up; otherwise they wait for `keyway replay`.
    pub replay: bool,
    /// Most entries a second, to each server.
    pub replay_per_second: u32,
    /// Longest wait for a server that is being sent entries.
    pub replay_timeout: Duration,
    /// Keep a server that is back out of use until its entries were sent, at most for this long.
    pub quarantine: Option<Duration>,
}

/// When an entry counts as kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Once it is on the disk. All that came in meanwhile share one sync.
    Always,
    /// Once the kernel has it; synced every `sync_interval`.
    Interval,
    /// Once the kernel has it.
    Never,
}

/// What is known of one server's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// Entries that wait.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// When the oldest that waits was written, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Entries kept since the start.
    pub spooled: u64,
    /// Entries not kept for lack of room.
    pub refused_full: u64,
    /// Entries not kept because the disk failed.
    pub refused_disk: u64,
    /// Entries not kept because what they say can't be replayed.
    pub refused_command: u64,
    /// Entries its server answered.
    pub replayed: u64,
    /// Entries its server refused for what they say; they are gone.
    pub rejected: u64,
    /// Replays that ended in a failure, to be tried again.
    pub failures: u64,
    /// Lines that were torn or damaged, and passed over.
    pub unreadable: u64,
}

/// The control plane's end of the async log. Dropping it without `close` leaves the thread to the end of the process.
#[derive(Debug)]
pub struct AsyncLog {
    told: Sender<Told>,
    waiting: Arc<AtomicUsize>,
    facts: Arc<Mutex<BTreeMap<String, LogFacts>>>,
    thread: Option<JoinHandle<()>>,
    directory: PathBuf,
}

impl AsyncLog {
    /// Opens the directory, takes its lock, finds what is left in it, and starts the worker. `released` is told of each
    /// server whose quarantine is over.
    pub fn open(
        settings: &Settings,
        shards: Vec<Sender<ToShard>>,
        released: Sender<String>,
    ) -> Result<AsyncLog, String> {
        let spool = recover::open(settings)?;
        let (told, inbox) = mailbox_of(MAX_WAITING + OTHER_MESSAGES).map_err(|error| format!("async log: {error}"))?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let facts = Arc::new(Mutex::new(spool.all_facts()));
        let ends = Ends { inbox, told: told.clone(), shards, released, waiting: waiting.clone(), facts: facts.clone() };
        let worker = Worker::new(settings.clone(), spool, ends);
        let thread = std::thread::Builder::new()
            .name("keyway-log".to_string())
            .spawn(move || worker.run())
            .map_err(|error| format!("async log: no thread: {error}"))?;
        Ok(AsyncLog { told, waiting, facts, thread: Some(thread), directory: settings.directory.clone() })
    }

    /// Where its files are.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Keeps an entry for a destination. The worker answers its shard; given back when there are too many already.
    pub fn spool(&self, destination: &str, request: Box<SpoolRequest>) -> Result<(), Box<SpoolRequest>> {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(request);
        }
        match self.told.send(Told::Spool { destination: destination.to_string(), request }) {
            Ok(()) => Ok(()),
            Err(SendError::Full(Told::Spool { request, .. }) | SendError::Closed(Told::Spool { request, .. })) => {
                self.waiting.fetch_sub(1, Ordering::AcqRel);
                Err(request)
            }
            Err(_) => unreachable!("what was sent comes back"),
        }
    }

    /// A server is up, at this address, or down. With `held`, `released` is told once it may return.
    pub fn server(&self, destination: &str, up: Option<Address>, held: bool) {
        self.tell(Told::Server { destination: destination.to_string(), up, held });
    }

    /// Other bounds and rates from now on. The directory stays what it was.
    pub fn adopt(&self, settings: &Settings) {
        self.tell(Told::Settings(Box::new(settings.clone())));
    }

    /// All that is known of each destination.
    pub fn facts(&self) -> BTreeMap<String, LogFacts> {
        lock(&self.facts).clone()
    }

    /// True when entries wait for this destination, as far as the worker has got.
    pub fn has_backlog(&self, destination: &str) -> bool {
        lock(&self.facts).get(destination).is_some_and(|facts| facts.entries > 0)
    }

    /// Writes what was given to it, ends the players, and gives the lock back. Blocks for two seconds at most, and the disk.
    pub fn close(mut self) {
        self.tell(Told::Close);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the async log's thread panicked");
        }
    }

    fn tell(&self, told: Told) {
        if let Err(error) = self.told.send(told) {
            log::error!("the async log can't be told something: {error}");
        }
    }
}

/// What threads share here is whole between any two statements: a panic elsewhere doesn't matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
