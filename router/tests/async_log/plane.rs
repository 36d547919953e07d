//! The log behind the control plane: tickets, health, quarantine, reload.

use super::server::Mood;
use super::{Folder, LIMIT, Server};
use keyway::config::{Config, ListenAddress, Overrides};
use keyway::control::signals::Wish;
use keyway::control::{ConfigFile, ControlInputs, Finished, Loaded, ServerKeys, run};
use keyway::messages::{FromShard, SpoolRequest, ToShard};
use keyway::metrics::ShardMetrics;
use keyway::table::ServerKey;
use keyway_io_engine::mailbox::{Receiver, Sender, mailbox};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

/// A control plane with one shard, which is the test.
struct Plane {
    inbox: Receiver<ToShard>,
    outbox: Sender<FromShard>,
    wishes: Sender<Wish>,
    http: SocketAddr,
    file: Folder,
    thread: JoinHandle<Finished>,
}

fn file_in(folder: &Folder) -> PathBuf {
    folder.path().join("router.yaml")
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text.as_bytes(), "test.yaml", &Overrides::default()).map_err(|errors| errors.to_string())
}

fn yaml(server: &Server, log: &str) -> String {
    format!(
        "pools: {{web: {{servers: [\"{}\"]}}}}\nroute: PoolRoute|web\n{log}\n\
         reload: {{watch: off}}\nhealth: {{interval_ms: 100, timeout_ms: 5000, failures: 1, successes: 1}}\n",
        server.name()
    )
}

fn start(yaml: String) -> Result<Plane, String> {
    let (to_shard, inbox) = mailbox().expect("eventfd");
    let (outbox, from_shards) = mailbox().expect("eventfd");
    let (wishes, wished) = mailbox().expect("eventfd");
    let (serving, served) = mpsc::channel();
    let mut keys = ServerKeys::new();
    let loaded = Loaded::new(Arc::new(parse(&yaml)?), 1, &mut keys, &|_| None)?;
    let folder = Folder::new();
    let file = ConfigFile {
        path: file_in(&folder),
        parse: Box::new(|bytes| parse(std::str::from_utf8(bytes).expect("UTF-8"))),
        contents: Ok(Arc::from(yaml.clone().into_bytes())),
        last_good: None,
        started_with_last_good: false,
    };
    std::fs::write(&file.path, yaml).expect("the folder for temporary files takes files");
    let inputs = ControlInputs {
        started: Instant::now(),
        shards: vec![to_shard],
        from_shards,
        wishes: wished,
        http: vec![ListenAddress::Tcp("127.0.0.1:0".parse().expect("an address"))],
        serving,
        keys,
        loaded,
        file,
        embedded: Box::new(|_| None),
    };
    let executor = || glommio::LocalExecutorBuilder::default().io_memory(64 << 10).ring_depth(16).make();
    let thread = std::thread::spawn(move || executor().expect("glommio's rings").run(run(inputs)));
    let http = served.recv_timeout(LIMIT).expect("told")?[0];
    Ok(Plane { inbox, outbox, wishes, http, file: folder, thread })
}

impl Plane {
    /// Takes messages until one is as wanted; answers snapshots on the way.
    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(ToShard) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let left = LIMIT.checked_sub(start.elapsed()).unwrap_or_else(|| panic!("{what} did not come"));
            let message = self.inbox.wait(Some(left)).unwrap_or_else(|| panic!("{what} did not come"));
            if matches!(message, ToShard::Snapshot) {
                let metrics = Box::new(ShardMetrics::new(4));
                self.outbox.send(FromShard::Snapshot { shard: 0, metrics }).expect("room");
            }
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    fn until_server(&mut self, wanted: bool) {
        self.until(&format!("the server, up: {wanted}"), |message| match message {
            ToShard::Server { up, .. } => (up == wanted).then_some(()),
            _ => None,
        });
    }

    fn spool(&mut self, ticket: u64, key: &str) -> bool {
        let frame = format!("delete {key}\r\n").into_bytes();
        let request = SpoolRequest { shard: 0, ticket, server: ServerKey(0), name: "web".to_string(), frame };
        self.outbox.send(FromShard::Spool(Box::new(request))).expect("room");
        let tickets = self.until("an answer", |message| match message {
            ToShard::Spooled { tickets } => Some(tickets),
            _ => None,
        });
        assert_eq!((tickets.len(), tickets[0].0), (1, ticket));
        tickets[0].1
    }

    fn metric(&self, series: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(self.http).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("a response");
        response.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    fn until_metric(&self, series: &str, wanted: f64) {
        let start = Instant::now();
        while self.metric(series) != Some(wanted) {
            assert!(start.elapsed() < LIMIT, "{series} did not become {wanted}");
        }
    }

    fn reload(&self, text: String) {
        std::fs::write(file_in(&self.file), text).expect("the folder for temporary files takes files");
        self.wishes.send(Wish::Reload).expect("room");
    }

    fn drain(mut self) {
        self.wishes.send(Wish::Stop).expect("room");
        self.until("drain", |message| matches!(message, ToShard::Drain(_)).then_some(()));
        self.outbox.send(FromShard::Drained { shard: 0, cut: 0 }).expect("room");
        assert_eq!(self.thread.join().expect("no panic"), Finished::Drained { cut: 0 });
    }
}

fn series(name: &str, server: &Server) -> String {
    format!("{name}{{server=\"{}\"}}", server.name())
}

#[test]
fn without_a_log_nothing_is_kept() {
    let server = Server::start();
    let mut plane = start(yaml(&server, "")).expect("it starts");
    assert!(!plane.spool(7, "k"));
    assert_eq!(plane.metric(&series("keyway_async_log_entries", &server)), None);
    plane.drain();
}

#[test]
fn a_server_in_quarantine_returns_when_it_has_what_it_missed() {
    let folder = Folder::new();
    let server = Server::start();
    let log = format!("async_log: {{directory: \"{}\", quarantine: true}}", folder.path().display());
    let mut plane = start(yaml(&server, &log)).expect("it starts");
    plane.until_server(true);
    server.is(Mood { says: "DELETED\r\n", left: 0 });
    plane.until_server(false);
    for at in 0..100 {
        assert!(plane.spool(at, &format!("k{at}")));
    }
    plane.until_metric(&series("keyway_async_log_entries", &server), 100.0);
    server.is(Mood { says: "NOT_FOUND\r\n", left: usize::MAX });
    plane.until_server(true);
    assert!(server.heard_more() >= 36, "but for 64 it had them before it was used again");
    assert_eq!(plane.metric(&series("keyway_server_quarantined", &server)), Some(0.0));
    assert_eq!(plane.metric(&series("keyway_async_log_spooled_total", &server)), Some(100.0));
    plane.drain();
}

#[test]
fn a_quarantine_ends_when_it_lasted_too_long() {
    let folder = Folder::new();
    let server = Server::start();
    let log = |longest: &str| {
        let directory = folder.path().display();
        format!("async_log: {{directory: \"{directory}\", quarantine: true, quarantine_ms: {longest}}}")
    };
    let mut plane = start(yaml(&server, &log("86400000"))).expect("it starts");
    plane.until_server(true);
    server.is(Mood { says: "SERVER_ERROR busy\r\n", left: 0 });
    plane.until_server(false);
    assert!(plane.spool(1, "k"));
    // It answers checks and refuses what it missed.
    server.is(Mood { says: "SERVER_ERROR busy\r\n", left: usize::MAX });
    server.hears(1);
    assert_eq!(plane.metric(&series("keyway_server_quarantined", &server)), Some(1.0));
    assert_eq!(plane.metric(&series("keyway_server_up", &server)), Some(0.0));
    plane.drain();

    // What is found at the start counts: it is in quarantine before it was used.
    let mut plane = start(yaml(&server, &log("300"))).expect("it starts");
    let first = plane.until("the server", |message| match message {
        ToShard::Server { up, .. } => Some(up),
        _ => None,
    });
    assert!(!first, "not before the quarantine is over");
    plane.until_server(true);
    assert_eq!(plane.metric(&series("keyway_async_log_entries", &server)), Some(1.0));
    plane.drain();
}

#[test]
fn a_reload_changes_bounds_and_not_the_directory() {
    let (folder, other) = (Folder::new(), Folder::new());
    let server = Server::start();
    let log = |folder: &Folder, more: &str| {
        format!("async_log: {{directory: \"{}\", replay: false{more}}}", folder.path().display())
    };
    let mut plane = start(yaml(&server, &log(&folder, ""))).expect("it starts");
    assert!(plane.spool(1, "k"));
    // Refused whole: the file that moves the directory, and the one that does without.
    plane.reload(yaml(&server, &log(&other, "")));
    plane.until_metric("keyway_config_reloads_total{result=\"failure\"}", 1.0);
    plane.reload(yaml(&server, ""));
    plane.until_metric("keyway_config_reloads_total{result=\"failure\"}", 2.0);
    plane.reload(yaml(&server, &log(&folder, ", server_bytes: 4096")));
    plane.until("a table", |message| matches!(message, ToShard::Table(_)).then_some(()));
    let kept = (2..100).filter(|ticket| plane.spool(*ticket, "k")).count();
    assert!((10..90).contains(&kept), "{kept}");
    assert!(std::fs::read_dir(other.path()).expect("it is there").next().is_none());
    plane.drain();
}

#[test]
fn a_directory_in_use_is_said_at_the_start() {
    let folder = Folder::new();
    let server = Server::start();
    let log = format!("async_log: {{directory: \"{}\"}}", folder.path().display());
    let plane = start(yaml(&server, &log)).expect("it starts");
    let error = start(yaml(&server, &log)).map(|_| ()).expect_err("it is in use");
    assert!(error.contains("is in use by process"), "{error}");
    plane.drain();
    start(yaml(&server, &log)).expect("free again").drain();
}
