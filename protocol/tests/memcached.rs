//! The request parser against the real memcached: what is refused must be refused in its words, and what is passed on
//! must draw exactly one reply of the expected shape and leave the connection open.
//!
//! Needs a `memcached` on PATH, or named by KEYWAY_TEST_MEMCACHED; without one these tests fail.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so")]

mod common;

use common::{Event, Random, limits, request_events, shown, stream};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{Expect, Limits, Reply, ReplyKind, ReplyParsed, ReplyParser};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VERSION: &[u8] = b"version\r\n";

/// A memcached on a socket file of its own, ended with the value.
struct Server {
    process: Child,
    socket: PathBuf,
}

impl Server {
    fn start(name: &str) -> Server {
        let binary = std::env::var("KEYWAY_TEST_MEMCACHED").unwrap_or_else(|_| "memcached".into());
        let socket = std::env::temp_dir().join(format!("keyway-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(&binary);
        command.arg("-s").arg(&socket).args(["-t", "1", "-m", "64", "-u", "root"]).stderr(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| panic!("these tests need memcached: {binary}: {error}"));
        let server = Server { process, socket };
        let give_up = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(&server.socket).is_err() {
            assert!(Instant::now() < give_up, "memcached does not listen on {}", server.socket.display());
            std::thread::yield_now();
        }
        server
    }

    fn connect(&self) -> Connection {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Connection { stream, held: Vec::new(), parser: ReplyParser::new(Limits { value_bytes: 8 << 20, ..limits() }) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The version whose words and quirks these tables are. Others are held to what must not differ.
fn is_1_6_18(server: &Server) -> bool {
    let mut connection = server.connect();
    connection.stream.write_all(VERSION).unwrap();
    let version = connection.line();
    if version != "VERSION 1.6.18\r\n" {
        println!("{}: its words are not compared", version.trim_end());
    }
    version == "VERSION 1.6.18\r\n"
}

struct Connection {
    stream: UnixStream,
    held: Vec<u8>,
    parser: ReplyParser,
}

impl Connection {
    /// Reads the whole reply to a request that calls for `expect`: the kind of its last step.
    fn reply(&mut self, expect: Expect) -> Result<ReplyKind, String> {
        loop {
            match self.parser.parse(expect, &self.held) {
                ReplyParsed::NeedMore => {
                    let mut buffer = [0; 16384];
                    match self.stream.read(&mut buffer) {
                        Ok(0) => return Err(format!("closed behind {}", shown(&self.held))),
                        Ok(bytes) => self.held.extend_from_slice(&buffer[..bytes]),
                        Err(error) => return Err(format!("{error} behind {}", shown(&self.held))),
                    }
                }
                ReplyParsed::Misaligned => return Err(format!("misaligned: {}", shown(&self.held))),
                ReplyParsed::Reply { reply, consumed } => {
                    self.held.drain(..consumed);
                    match reply {
                        Reply::Line(kind) => return Ok(kind),
                        Reply::Value(value) if value.last => return Ok(ReplyKind::Value),
                        Reply::Value(_) => {}
                    }
                }
            }
        }
    }

    /// The first line the server says, or "" when it closes.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") {
            match self.stream.read(&mut byte) {
                Ok(1) => line.push(byte[0]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&line).into_owned()
    }
}

/// Where we refuse in other words than memcached 1.6.18, and why.
const DELIBERATE: &[(&str, &str, &str)] = &[
    ("gat 0\r\n", "END\r\n", "no key to route by; newer servers answer ERROR too"),
    ("gat 2147483648 k\r\n", "END\r\n", "1.6.18 wraps it, newer servers refuse it"),
    ("touch nokey 2147483648\r\n", "NOT_FOUND\r\n", "1.6.18 wraps it, newer servers refuse it"),
    ("flush_all 2147483648\r\n", "OK\r\n", "1.6.18 wraps it, newer servers refuse it"),
    ("set k 4294967296 0 1\r\na\r\n", "STORED\r\n", "1.6.18 wraps it, newer servers refuse it"),
    ("set k 0 2147483648 1\r\na\r\n", "STORED\r\n", "1.6.18 wraps it, newer servers refuse it"),
    ("set k 0 0 4294967297\r\na\r\n", "STORED\r\n", "1.6.18 takes it for 1"),
    ("set k 0 0 +1\r\na\r\n", "STORED\r\n", "newer servers refuse signs, and read the data as commands"),
    ("set k 0 0 000000000001\r\na\r\n", "STORED\r\n", "newer servers refuse more than 11 digits"),
    ("set k +1 0 1\r\na\r\n", "STORED\r\n", "newer servers refuse signs"),
    ("incr nokey +1\r\n", "NOT_FOUND\r\n", "newer servers refuse signs"),
    ("get noreply\r\n", "END\r\n", "newer servers take it for the wish for silence"),
    ("delete noreply\r\n", "NOT_FOUND\r\n", "newer servers take it for the wish for silence"),
    ("get a\x01\r\n", "END\r\n", "control characters break other servers' framing"),
    ("get a\0b\r\n", "END\r\n", "1.6.18 ends the line at the NUL"),
    ("get a\r\r\n", "END\r\n", "control characters break other servers' framing"),
    ("set a\tb 0 0 1\r\na\r\n", "STORED\r\n", "control characters break other servers' framing"),
    ("stats cachedump 900 1\r\n", "CLIENT_ERROR Illegal slab id\r\n", "its answer has no bound"),
    ("stats detail on\r\n", "OK\r\n", "an operator's switch"),
    ("stats sizes_enable\r\n", "STAT sizes_status enabled\r\n", "an answer without END"),
    ("cache_memlimit 64\r\n", "OK\r\n", "an operator's command"),
    ("lru_crawler disable\r\n", "OK\r\n", "an operator's command"),
    ("shutdown\r\n", "ERROR: shutdown not enabled\r\n", "an operator's command"),
    ("watch\r\n", "OK\r\n", "an operator's command"),
    ("mn\r\n", "MN\r\n", "meta is a dialect of its own"),
    ("bget nokey\r\n", "END\r\n", "an undocumented other name of get, gone from newer servers"),
];

/// Refused inputs, one request each, whose first reply line must be memcached's own.
fn refused_alike() -> Vec<String> {
    let long = "k".repeat(251);
    let large = "v".repeat(2_000_000);
    let lines = [
        "",
        " ",
        "a",
        "ab",
        "GET a",
        "gett a",
        "g a",
        "get",
        "get ",
        "gets",
        "gat",
        "gat x k",
        "gat 0x k",
        "set",
        "set k",
        "set k 0 0",
        "set k 0 0 -1",
        "set k 0 0 x",
        "set k 0 0 1x",
        "set k 0 0 2147483647",
        "set k 0 0 2147483646",
        "set k 0 0 99999999999999999999",
        "cas k 0 0 -1 1",
        "delete",
        "delete k 1",
        "delete k 00",
        "delete k 0 0",
        "delete k 0 0 0",
        "delete k 0 0 noreply",
        "incr",
        "incr k",
        "incr k x",
        "incr k -1",
        "incr k 1x",
        "incr k 18446744073709551616",
        "incr k 1 x y",
        "decr",
        "decr k x",
        "touch",
        "touch k",
        "touch k x",
        "touch k 0 x y",
        "verbosity",
        "verbosity x",
        "verbosity -1",
        "verbosity 0 0 0",
        "flush_all x",
        "flush_all 0 0 0",
        "flush_all 0x",
        "stats nosuch",
        "stats noreply",
        "versionx",
        "quitx",
        "mx k",
        "mg",
        "ms",
        "unknown a b c",
        "cache_memlimit",
        "slabs",
        "get\ta",
    ];
    let mut inputs: Vec<String> = lines.iter().map(|line| format!("{line}\r\n")).collect();
    inputs.extend(lines.iter().map(|line| format!("{line}\n")));
    inputs.extend([
        format!("get {long}\r\n"),
        format!("get a {long} b\r\n"),
        format!("gat 0 {long}\r\n"),
        format!("delete {long}\r\n"),
        format!("incr {long} 1\r\n"),
        format!("touch {long} 0\r\n"),
        format!("set {long} 0 0 1\r\na\r\n"),
        format!("set {long} 0 0 x\r\n"),
        format!("set k 0 0 2000000\r\n{large}\r\n"),
    ]);
    for line in [
        "set k x 0 1",
        "set k -1 0 1",
        "set k 0 x 1",
        "set k 0 0 1 x y",
        "cas k 0 0 1",
        "cas k 0 0 1 x",
        "cas k 0 0 1 -1",
        "cas k 0 0 1 18446744073709551616",
        "append k x 0 1",
    ] {
        inputs.push(format!("{line}\r\na\r\n"));
    }
    for data in ["ab\r\n", "a\n\n", "abcdef\r\n", "abc"] {
        inputs.push(format!("set k 0 0 1\r\n{data}"));
    }
    inputs
}

/// The first event of `input` that is not a skip, and the words with which it is refused; none when passed on.
fn refusal(input: &str) -> Option<(&'static str, bool)> {
    let limits = Limits { value_bytes: 1 << 20, ..limits() };
    let events = request_events(limits, [input.as_bytes()]);
    match events.iter().find(|event| !matches!(event, Event::Skip(_))) {
        Some(Event::Refused { error, noreply, .. }) => Some((std::str::from_utf8(error.reply()).unwrap(), *noreply)),
        Some(Event::Request { .. }) => None,
        other => panic!("{input:?} gives {other:?}"),
    }
}

#[test]
fn refusals_have_memcached_s_own_words() {
    let server = Server::start("words");
    if !is_1_6_18(&server) {
        return;
    }
    for input in refused_alike() {
        let mut connection = server.connect();
        connection.stream.write_all(input.as_bytes()).unwrap();
        let theirs = connection.line();
        let (ours, silent) =
            refusal(&input).unwrap_or_else(|| panic!("{:?} is passed on", &input[..input.len().min(80)]));
        let ours_known = ours.replace("SERVER_ERROR not supported by keyway\r\n", "ERROR\r\n");
        assert_eq!((ours_known.as_str(), silent), (theirs.as_str(), false), "{:?}", &input[..input.len().min(80)]);
    }
}

#[test]
fn silent_refusals_are_silent_there_too() {
    let server = Server::start("silent");
    if !is_1_6_18(&server) {
        return;
    }
    let long = "k".repeat(251);
    for line in [
        "set k 0 0 x noreply",
        "set k 0 0 99999999999999999999 noreply",
        "delete k x noreply",
        "delete k noreply noreply",
        &format!("delete {long} noreply"),
        "incr k x noreply",
        "incr k noreply",
        "touch k x noreply",
        "touch k noreply",
        "verbosity x noreply",
        "flush_all x noreply",
        "flush_all noreply noreply",
        &format!("incr {long} 1 noreply"),
    ] {
        let input = format!("{line}\r\n");
        let mut connection = server.connect();
        connection.stream.write_all(input.as_bytes()).unwrap();
        connection.stream.write_all(VERSION).unwrap();
        let theirs = connection.line();
        assert!(theirs.starts_with("VERSION "), "{input:?}: memcached says {theirs:?}");
        assert!(matches!(refusal(&input), Some((_, true))), "{input:?}: {:?}", refusal(&input));
    }
    // A browser: not a word, and the end of the connection.
    let mut connection = server.connect();
    connection.stream.write_all(b"POST / HTTP/1.1\r\n").unwrap();
    assert_eq!(connection.line(), "");
}

#[test]
fn deliberate_differences_are_still_differences() {
    let server = Server::start("differences");
    let compared = is_1_6_18(&server);
    for (input, theirs, why) in DELIBERATE {
        let (ours, _) = refusal(input).unwrap_or_else(|| panic!("{input:?} is passed on, though: {why}"));
        assert_ne!(ours, *theirs, "{input:?}");
        if compared {
            let mut connection = server.connect();
            connection.stream.write_all(input.as_bytes()).unwrap();
            assert_eq!(connection.line(), *theirs, "{input:?}: {why}");
        }
    }
}

/// The invariant shared connections rest on: many random frames in one pipeline, a version behind each.
#[test]
fn every_frame_passed_on_draws_one_reply() {
    let mut random = Random::from_environment("every_frame_passed_on_draws_one_reply");
    let server = Server::start("frames");
    let mut connection = server.connect();
    let mut sent = 0;
    let mut seen = [0; Operation::COUNT];
    while sent < 6_000 {
        let input = stream::mutated(&mut random);
        let mut batch = Vec::new();
        let mut operations = Vec::new();
        for event in request_events(Limits { retrieval_line_bytes: 20_000, ..limits() }, [input.as_slice()]) {
            if let Event::Request { operation, forwarded, .. } = event
                && operation != Operation::Quit
            {
                batch.extend_from_slice(&forwarded);
                batch.extend_from_slice(VERSION);
                operations.push((operation, forwarded));
            }
        }
        // In two writes, so that no line has its end in the same read by luck alone.
        let (head, tail) = batch.split_at(random.below(batch.len() + 1));
        connection.stream.write_all(head).unwrap();
        connection.stream.write_all(tail).unwrap();
        for (operation, frame) in operations {
            let reply = connection.reply(Expect::from_operation(operation));
            assert!(reply.is_ok(), "{}: {reply:?}", shown(&frame));
            let version = connection.reply(Expect::Line(Operation::Version));
            assert_eq!(version, Ok(ReplyKind::Version), "behind {}", shown(&frame));
            seen[operation as usize] += 1;
            sent += 1;
        }
        assert!(connection.held.is_empty(), "left over: {}", shown(&connection.held));
    }
    for operation in Operation::ALL {
        assert!(operation == Operation::Quit || seen[operation as usize] > 0, "{} was never sent", operation.name());
    }
}

/// A get line far longer than any other line may be, in pieces.
#[test]
fn long_get_lines_pass() {
    let server = Server::start("long");
    let mut connection = server.connect();
    let keys: Vec<String> = (0..2000).map(|at| format!("key{at}")).collect();
    for word in ["get", "gets"] {
        let input = format!("  {word} {}\r\n", keys.join(" "));
        let events = request_events(Limits::default(), [input.as_bytes()]);
        let [Event::Skip(2), Event::Request { forwarded, operation, .. }] = events.as_slice() else {
            panic!("{} events", events.len());
        };
        for piece in forwarded.chunks(3000) {
            connection.stream.write_all(piece).unwrap();
        }
        assert_eq!(connection.reply(Expect::from_operation(*operation)), Ok(ReplyKind::End));
    }
}

/// A value within our limit and over the server's is refused there, once, and its data swallowed.
#[test]
fn a_value_over_the_server_s_limit_draws_one_error() {
    let server = Server::start("large");
    let mut connection = server.connect();
    let data = "get a\r\n".repeat(300_000);
    let input = format!("set k 0 0 {} noreply\r\n{data}\r\n", data.len());
    let events = request_events(Limits::default(), [input.as_bytes()]);
    let [Event::Request { forwarded, operation, .. }] = events.as_slice() else {
        panic!("{} events", events.len());
    };
    connection.stream.write_all(forwarded).unwrap();
    connection.stream.write_all(VERSION).unwrap();
    assert_eq!(connection.reply(Expect::from_operation(*operation)), Ok(ReplyKind::ServerError));
    assert_eq!(connection.reply(Expect::Line(Operation::Version)), Ok(ReplyKind::Version));
}
