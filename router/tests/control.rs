//! The control plane against real sockets: the test plays the one shard and the servers.
//!
//! Nothing here sleeps: every wait is for a message or a reply, with a limit after which the test fails.

use keyway::config::{Config, ListenAddress, Overrides};
use keyway::control::signals::{self, Wish};
use keyway::control::{ConfigFile, ControlInputs, Finished, Loaded, ServerKeys, run};
use keyway::messages::{FromShard, ToShard};
use keyway::metrics::{ShardMetrics, write_stats};
use keyway::table::ServerKey;
use keyway::trouble::{Rule, Suspicion, Trouble};
use keyway_io_engine::Address;
use keyway_io_engine::mailbox::{Receiver, Sender, mailbox};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);

/// What a server under test says to `version`.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    Version,
    Nothing,
    Nonsense,
    Goodbye,
    /// The version at every second connection, beginning with the next but one.
    EverySecond,
}

/// A server that can be told what to say. Its thread lives as long as the test process.
struct Server {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
}

impl Server {
    fn start(says: Says) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let says = Arc::new(Mutex::new(says));
        let mood = says.clone();
        std::thread::spawn(move || {
            // Connections that get no answer are kept open, as a hung server would.
            let mut held = Vec::new();
            let mut answers_next = false;
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut line = String::new();
                let mood = *mood.lock().expect("no panic");
                answers_next = mood == Says::EverySecond && !answers_next;
                if mood == Says::Goodbye || answers_next {
                    continue;
                }
                let read = BufReader::new(&stream).read_line(&mut line);
                if read.is_ok_and(|read| read > 0) {
                    assert_eq!(line, "version\r\n");
                }
                match mood {
                    Says::Version | Says::EverySecond => drop(stream.write_all(b"VERSION 1.6.0\r\n")),
                    Says::Nonsense => drop(stream.write_all(b"-ERR unknown command\r\n")),
                    Says::Nothing => held.push(stream),
                    Says::Goodbye => {}
                }
            }
        });
        Server { address, says }
    }

    fn say(&self, says: Says) {
        *self.says.lock().expect("no panic") = says;
    }
}

fn yaml(servers: &[String]) -> String {
    format!(
        "listeners: [{{address: \"tcp://127.0.0.1:0\", protocol: memcached, route: web}}]\n\
         pools: {{web: {{servers: [{}]}}}}\n\
         routes: {{web: PoolRoute|web}}\n\
         limits: {{drain_ms: 5000}}\n\
         health: {{interval_ms: 1000, timeout_ms: 200, failures: 2, successes: 2, probe_initial_ms: 20, probe_max_ms: 50, \
         min_down_ms: 50, max_down_ms: 100}}\n\
         reload: {{watch: off}}\n",
        servers.iter().map(|server| format!("\"{server}\"")).collect::<Vec<_>>().join(", "),
    )
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text.as_bytes(), "test.yaml", &Overrides::default()).map_err(|errors| errors.to_string())
}

/// A configuration file of this test alone, gone with it.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> File {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("keyway-control-{}-{}.yaml", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let file = File(std::env::temp_dir().join(name));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("the folder for temporary files takes files");
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A control plane with one shard, which is the test.
struct Plane {
    inbox: Receiver<ToShard>,
    outbox: Sender<FromShard>,
    wishes: Sender<Wish>,
    http: SocketAddr,
    file: File,
    thread: JoinHandle<Finished>,
}

/// What the other side of a control plane's `ControlInputs` holds.
struct Ends {
    inbox: Receiver<ToShard>,
    outbox: Sender<FromShard>,
    served: mpsc::Receiver<Result<Vec<SocketAddr>, String>>,
}

fn inputs(file: &File, wishes: Receiver<Wish>, http: Vec<ListenAddress>) -> (ControlInputs, Ends) {
    let (to_shard, inbox) = mailbox().expect("eventfd");
    let (outbox, from_shards) = mailbox().expect("eventfd");
    let (serving, served) = mpsc::channel();
    let mut keys = ServerKeys::new();
    let text = std::fs::read_to_string(&file.0).expect("the file is there");
    let first = parse(&text).expect("a good configuration");
    let loaded = Loaded::new(Arc::new(first), 1, &mut keys, &|_| None).expect("it can be used");
    let file = ConfigFile {
        path: file.0.clone(),
        parse: Box::new(|bytes| parse(std::str::from_utf8(bytes).expect("UTF-8"))),
        contents: Ok(Arc::from(text.into_bytes())),
        last_good: None,
        started_with_last_good: false,
    };
    let inputs = ControlInputs {
        started: Instant::now(),
        shards: vec![to_shard],
        from_shards,
        wishes,
        http,
        serving,
        keys,
        loaded,
        file,
        embedded: Box::new(|_| None),
    };
    (inputs, Ends { inbox, outbox, served })
}

fn any_port() -> ListenAddress {
    ListenAddress::Tcp("127.0.0.1:0".parse().expect("an address"))
}

fn executor() -> glommio::LocalExecutor {
    // As small as the program's own.
    glommio::LocalExecutorBuilder::default().io_memory(64 << 10).ring_depth(16).make().expect("glommio's rings")
}

impl Plane {
    fn start(servers: &[String]) -> Plane {
        let (wishes, receiver) = mailbox().expect("eventfd");
        Plane::start_with(servers, wishes, receiver)
    }

    fn start_with(servers: &[String], wishes: Sender<Wish>, receiver: Receiver<Wish>) -> Plane {
        Plane::start_of(yaml(servers), wishes, receiver)
    }

    /// Of a whole configuration.
    fn of(config: String) -> Plane {
        let (wishes, receiver) = mailbox().expect("eventfd");
        Plane::start_of(config, wishes, receiver)
    }

    fn start_of(config: String, wishes: Sender<Wish>, receiver: Receiver<Wish>) -> Plane {
        let file = File::new(&config);
        let (inputs, Ends { inbox, outbox, served }) = inputs(&file, receiver, vec![any_port()]);
        let thread = std::thread::spawn(move || executor().run(run(inputs)));
        let http = served.recv_timeout(LIMIT).expect("told").expect("served")[0];
        Plane { inbox, outbox, wishes, http, file, thread }
    }

    /// Takes messages until one is as wanted, and returns that; answers snapshots on the way.
    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(ToShard) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let left = LIMIT.checked_sub(start.elapsed()).unwrap_or_else(|| panic!("{what} did not come"));
            let message = self.inbox.wait(Some(left)).unwrap_or_else(|| panic!("{what} did not come"));
            if matches!(message, ToShard::Snapshot) {
                let mut metrics = Box::new(ShardMetrics::new(4));
                metrics.client_accepted();
                metrics.clients = 1;
                self.outbox.send(FromShard::Snapshot { shard: 0, metrics }).expect("room");
            }
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    fn until_server(&mut self, key: u32, up: bool) -> Option<Address> {
        self.until(&format!("server {key} up: {up}"), |message| match message {
            ToShard::Server { key: ServerKey(told), up: said, address, .. } if (told, said) == (key, up) => {
                Some(address)
            }
            _ => None,
        })
    }

    /// The shard takes a server for down.
    fn suspect(&self, key: u32, last: Trouble) {
        let suspicion = Suspicion { rule: Rule::InARow(3), last };
        self.outbox.send(FromShard::Suspect { shard: 0, key: ServerKey(key), suspicion }).expect("room");
    }

    fn until_stats(&mut self) -> String {
        let summary = self.until("stats", |message| match message {
            ToShard::Stats(summary) => Some(summary),
            _ => None,
        });
        let mut out = Vec::new();
        write_stats(&mut out, b"", &summary);
        String::from_utf8(out).expect("text")
    }

    fn ask(&self, request: &str) -> (u16, String) {
        ask(self.http, request)
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    fn drain(mut self) -> Finished {
        self.wishes.send(Wish::Stop).expect("room");
        self.finish_drain()
    }

    fn finish_drain(&mut self) -> Finished {
        let longest = self.until("drain", |message| match message {
            ToShard::Drain(longest) => Some(longest),
            _ => None,
        });
        assert_eq!(longest, Duration::from_secs(5));
        let (status, why) = self.get("/readyz");
        assert_eq!((status, why.as_str()), (503, "draining\n"));
        self.outbox.send(FromShard::Drained { shard: 0, cut: 3 }).expect("room");
        let thread = std::mem::replace(&mut self.thread, std::thread::spawn(|| Finished::NotStarted));
        thread.join().expect("no panic")
    }
}

fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, body.to_string())
}

#[test]
fn servers_go_down_and_come_back() {
    let server = Server::start(Says::Version);
    let mut plane = Plane::start(&[server.address.to_string()]);
    // Told at once, before any check: a server nothing is known of takes requests.
    assert_eq!(plane.until_server(0, true), Some(Address::Tcp(server.address)));
    plane.until_server(0, true);

    for (says, what) in [(Says::Nothing, "silent"), (Says::Nonsense, "wrong"), (Says::Goodbye, "closing")] {
        server.say(says);
        plane.until_server(0, false);
        let (status, why) = plane.get("/readyz");
        assert_eq!((status, why.as_str()), (503, "none of 1 servers is up\n"), "{what}");
        server.say(Says::Version);
        plane.until_server(0, true);
        assert_eq!(plane.get("/readyz").0, 200, "{what}");
    }

    plane.suspect(0, Trouble::Timeout);
    plane.until_server(0, false);
    plane.until_server(0, true);
    assert_eq!(plane.drain(), Finished::Drained { cut: 3 });
}

#[test]
fn every_second_check_brings_nobody_back() {
    let server = Server::start(Says::Nonsense);
    let mut plane = Plane::start(&[server.address.to_string()]);
    plane.until_server(0, false);
    server.say(Says::EverySecond);
    let passed = |metrics: &str| {
        let line = format!("keyway_health_checks_total{{server=\"{}\",result=\"ok\"}} ", server.address);
        metrics.lines().find_map(|found| found.strip_prefix(&line)?.parse::<u64>().ok()).unwrap_or(0)
    };
    while passed(&plane.get("/metrics").1) < 4 {
        plane.until("a snapshot", |message| match message {
            ToShard::Server { up: true, .. } => panic!("it came up"),
            ToShard::Snapshot => Some(()),
            _ => None,
        });
    }
    let (_, metrics) = plane.get("/metrics");
    for line in [
        "keyway_health_events_total{event=\"down\"} 1",
        "keyway_health_events_total{event=\"half_open\"} 1",
        "keyway_health_events_total{event=\"up\"} 0",
        "keyway_down_causes_total{found_by=\"check\",cause=\"misaligned\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let (status, events) = plane.get("/events");
    assert_eq!((status, events.lines().count()), (200, 2), "{events}");
    let why =
        format!("Z down server {} is down: its check failed: it answered `version` with \"-ERR unk\"", server.address);
    assert!(events.contains(&why), "{events}");
    assert_eq!(plane.drain(), Finished::Drained { cut: 3 });
}

#[test]
fn one_shards_word_is_told_for_every_pool_the_server_is_in() {
    let server = Server::start(Says::Version);
    let config = format!(
        "listeners: [{{address: \"tcp://127.0.0.1:0\", protocol: memcached, route: web}}]\n\
         pools:\n  fast: {{servers: [\"{0}\"], timeout_ms: 100}}\n  slow: {{servers: [\"{0}\"], timeout_ms: 5000}}\n\
         routes: {{web: PoolRoute|fast}}\nlimits: {{drain_ms: 5000}}\n\
         health: {{interval_ms: 3600000, timeout_ms: 200}}\n",
        server.address
    );
    let mut plane = Plane::of(config);
    plane.until("a snapshot", |message| matches!(message, ToShard::Snapshot).then_some(()));
    while plane.get("/readyz").0 != 200 {
        plane.until("a snapshot", |message| matches!(message, ToShard::Snapshot).then_some(()));
    }
    server.say(Says::Nothing);
    plane.suspect(1, Trouble::Timeout);
    let mut told = Vec::new();
    let mut standings = None;
    while told.len() < 2 {
        let key = plane.until("a server that is down", |message| match message {
            ToShard::Standings { generation, changes } => {
                standings = Some((generation, changes.len()));
                None
            }
            ToShard::Server { key, up: false, why, .. } => Some((key.0, why)),
            _ => None,
        });
        // Both pools were told of before.
        assert_eq!(standings, Some((1, 2)));
        told.push(key);
    }
    assert_eq!(told, [(0, Some(Trouble::Timeout)), (1, Some(Trouble::Timeout))]);
    let events = plane.get("/events").1;
    assert_eq!(events.lines().filter(|line| line.contains(" is down: ")).count(), 1, "{events}");
    assert!(
        events.contains("3 failures in a row at its requests, the last one: no reply in time (shard 0)"),
        "{events}"
    );
    server.say(Says::Version);
    plane.until_server(0, true);
    plane.until_server(1, true);
    assert_eq!(plane.drain(), Finished::Drained { cut: 3 });
}

#[test]
fn nobody_listens_there() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let mut plane = Plane::start(&[gone.to_string()]);
    plane.until_server(0, false);
    // A suspicion of what is down already is answered too.
    plane.suspect(0, Trouble::Refused);
    plane.until_server(0, false);
    assert_eq!(plane.drain(), Finished::Drained { cut: 3 });
}

#[test]
fn names_are_resolved() {
    let server = Server::start(Says::Version);
    let mut plane = Plane::start(&[format!("localhost:{}", server.address.port())]);
    assert_eq!(plane.until_server(0, true), None, "no address before the name is resolved");
    // `localhost` may have a v6 address as well, where nobody listens: the one that answers is taken.
    assert_eq!(plane.until_server(0, true), Some(Address::Tcp(server.address)));
    let (_, metrics) = plane.get("/metrics");
    assert!(metrics.contains("keyway_dns_lookups_total{result=\"ok\"} 1"), "{metrics}");
    assert_eq!(plane.drain(), Finished::Drained { cut: 3 });
}

#[test]
fn http_answers() {
    let server = Server::start(Says::Version);
    let mut plane = Plane::start(&[server.address.to_string()]);
    assert_eq!(plane.get("/readyz"), (503, "shard 0 has not started\n".to_string()));
    let stats = plane.until_stats();
    assert!(stats.contains("STAT curr_connections 1\r\n"), "{stats}");
    while plane.get("/readyz").0 != 200 {
        plane.until_stats();
    }
    assert_eq!(plane.get("/healthz"), (200, "ok\n".to_string()));
    assert_eq!(plane.get("/").0, 200);
    let (status, metrics) = plane.get("/metrics");
    assert_eq!(status, 200);
    for line in [
        "keyway_clients_accepted_total 1",
        "keyway_config_generation 1",
        "keyway_pool_servers{pool=\"web\"} 1",
        "keyway_pool_servers_up{pool=\"web\"} 1",
        &format!("keyway_server_up{{server=\"{}\"}} 1", server.address),
        "keyway_shards 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    for (request, status, body_is_empty) in [
        ("HEAD /metrics HTTP/1.1\r\n\r\n", 200, true),
        ("GET /nothing HTTP/1.1\r\n\r\n", 404, false),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405, false),
        ("get some_key\r\n", 400, false),
        (&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(9000)), 431, false),
    ] {
        let (said, body) = plane.ask(request);
        assert_eq!((said, body.is_empty()), (status, body_is_empty), "{request:.40}");
    }
    // A connection that says nothing, and one that stops halfway, keep nobody else waiting.
    let _silent = TcpStream::connect(plane.http).expect("a connection");
    let mut half = TcpStream::connect(plane.http).expect("a connection");
    half.write_all(b"GET /metr").expect("sent");
    assert_eq!(plane.get("/healthz").0, 200);
    half.write_all(b"ics HTTP/1.1\r\n\r\n").expect("sent");
    let mut rest = String::new();
    half.read_to_string(&mut rest).expect("a response");
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{rest:.100}");
    assert_eq!(plane.drain(), Finished::Drained { cut: 3 });
}

#[test]
fn reloads() {
    let (one, two) = (Server::start(Says::Version), Server::start(Says::Version));
    let mut plane = Plane::start(&[one.address.to_string()]);
    plane.until_server(0, true);
    plane.file.write(&yaml(&[two.address.to_string(), one.address.to_string()]));
    plane.wishes.send(Wish::Reload).expect("room");
    let table = plane.until("a table", |message| match message {
        ToShard::Table(table) => Some(table),
        _ => None,
    });
    assert_eq!(table.generation, 2);
    let keys: Vec<u32> = table.servers.iter().map(|server| server.key.0).collect();
    assert_eq!(keys, [1, 0], "the server that was there keeps its key");
    // All servers of the table are told of after it.
    let mut told = Vec::new();
    while told.len() < 2 {
        told.push(plane.until("a server", |message| match message {
            ToShard::Server { key, up: true, address: Some(_), .. } => Some(key.0),
            _ => None,
        }));
    }
    told.sort_unstable();
    assert_eq!(told, [0, 1]);

    plane.file.write("pools: 7");
    plane.wishes.send(Wish::Reload).expect("room");
    let failed = |metrics: &str| metrics.contains("keyway_config_reloads_total{result=\"failure\"} 1");
    while !failed(&plane.get("/metrics").1) {
        plane.until_stats();
    }
    let (_, metrics) = plane.get("/metrics");
    assert!(metrics.contains("keyway_config_reloads_total{result=\"success\"} 1"), "{metrics}");
    assert!(metrics.contains("keyway_config_generation 2"), "{metrics}");
    assert_eq!(plane.drain(), Finished::Drained { cut: 3 });
}

#[test]
fn signals_reload_and_stop() {
    let (wishes, receiver) = mailbox().expect("eventfd");
    signals::listen(wishes.clone()).expect("signals");
    let server = Server::start(Says::Version);
    let mut plane = Plane::start_with(&[server.address.to_string()], wishes, receiver);
    signal_hook::low_level::raise(signal_hook::consts::SIGHUP).expect("raised");
    plane.until("a table", |message| matches!(message, ToShard::Table(_)).then_some(()));
    signal_hook::low_level::raise(signal_hook::consts::SIGTERM).expect("raised");
    assert_eq!(plane.finish_drain(), Finished::Drained { cut: 3 });
}

#[test]
fn a_taken_port_is_said_at_once() {
    for reuse_port in [false, true] {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_reuse_port(reuse_port).expect("an option");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("a port");
        socket.listen(1).expect("listening");
        let taken = socket.local_addr().expect("an address").as_socket().expect("an IP address");
        let file = File::new(&yaml(&["127.0.0.1:1".to_string()]));
        let (_wishes, receiver) = mailbox().expect("eventfd");
        let (inputs, ends) = inputs(&file, receiver, vec![any_port(), ListenAddress::Tcp(taken)]);
        let thread = std::thread::spawn(move || executor().run(run(inputs)));
        let error = ends.served.recv_timeout(LIMIT).expect("told").expect_err("it is taken");
        assert!(error.contains(&taken.to_string()) && error.contains("in use"), "{error}");
        assert_eq!(thread.join().expect("no panic"), Finished::NotStarted);
    }
}
