//! The async log against real files and real sockets: its format, what it keeps, what it sends, and `keyway replay`.
//!
//! Nothing here sleeps: every wait is for a message or a request, with a limit after which the test fails.

mod files;
mod format;
mod plane;
mod replaying;
mod server;
mod verb;

use keyway::async_log::{AsyncLog, LogFacts, Settings, SyncPolicy};
use keyway::messages::{SpoolRequest, ToShard};
use keyway::table::ServerKey;
use keyway_io_engine::Address;
use keyway_io_engine::mailbox::{Receiver, mailbox};
use server::Server;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);

/// A directory of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keyway-async-log-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Folder(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("it is below")).expect("a directory");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// The files with entries, in order, and what is in them.
    fn logs(&self) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        for folder in std::fs::read_dir(&self.0).expect("it is there").flatten().filter(|entry| entry.path().is_dir()) {
            for file in std::fs::read_dir(folder.path()).expect("it is there").flatten() {
                if file.path().extension().is_some_and(|ending| ending == "log") {
                    let bytes = std::fs::read(file.path()).expect("read");
                    found.push((file.path(), String::from_utf8_lossy(&bytes).into_owned()));
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(folder: &Folder) -> Settings {
    Settings {
        directory: folder.path().to_path_buf(),
        max_bytes: 1 << 20,
        server_bytes: 1 << 20,
        file_bytes: 1 << 20,
        rotate: Duration::from_secs(900),
        sync: SyncPolicy::Always,
        sync_interval: Duration::from_secs(1),
        replay: true,
        replay_per_second: 1_000_000,
        replay_timeout: Duration::from_secs(5),
        quarantine: None,
    }
}

/// An open log whose one shard, and control plane, is the test.
struct Opened {
    log: AsyncLog,
    shard: Receiver<ToShard>,
    released: Receiver<String>,
}

impl Opened {
    fn new(settings: &Settings) -> Opened {
        let (to_shard, shard) = mailbox().expect("eventfd");
        let (release, released) = mailbox().expect("eventfd");
        let log = AsyncLog::open(settings, vec![to_shard], release).expect("it opens");
        Opened { log, shard, released }
    }

    /// Gives it these frames, as one shard would, and waits for the answers: which of them were kept.
    fn spool(&mut self, destination: &str, frames: &[Vec<u8>]) -> Vec<bool> {
        for (ticket, frame) in frames.iter().enumerate() {
            let request = SpoolRequest {
                shard: 0,
                ticket: ticket as u64,
                server: ServerKey(0),
                name: "web".to_string(),
                frame: frame.clone(),
            };
            self.log.spool(destination, Box::new(request)).expect("room");
        }
        let mut kept = vec![None; frames.len()];
        while kept.contains(&None) {
            let Some(ToShard::Spooled { tickets }) = self.shard.wait(Some(LIMIT)) else { panic!("no answer") };
            for (ticket, was_kept) in tickets {
                assert_eq!(kept[ticket as usize].replace(was_kept), None, "answered twice");
            }
        }
        kept.into_iter().flatten().collect()
    }

    fn deletes(&mut self, destination: &str, keys: impl Iterator<Item = String>) {
        let frames: Vec<Vec<u8>> = keys.map(|key| delete(&key)).collect();
        assert_eq!(self.spool(destination, &frames), vec![true; frames.len()]);
    }

    fn up(&self, server: &Server) {
        self.log.server(&server.name(), Some(Address::Tcp(server.address)), false);
    }

    fn down(&self, server: &Server) {
        self.log.server(&server.name(), None, false);
    }

    fn facts(&self, destination: &str) -> LogFacts {
        self.log.facts().remove(destination).unwrap_or_default()
    }

    /// Waits until what is known of a destination is as wanted.
    fn until(&self, destination: &str, what: &str, wanted: impl Fn(&LogFacts) -> bool) -> LogFacts {
        let start = Instant::now();
        loop {
            let facts = self.facts(destination);
            if wanted(&facts) {
                return facts;
            }
            assert!(start.elapsed() < LIMIT, "{what}: {facts:?}");
            std::thread::yield_now();
        }
    }
}

fn delete(key: &str) -> Vec<u8> {
    format!("delete {key}\r\n").into_bytes()
}

fn keys(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    let prefix = prefix.to_string();
    (0..count).map(move |at| format!("{prefix}{at}"))
}
