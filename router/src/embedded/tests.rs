//! The embedded servers against memcached itself: the same bytes to both, the same bytes back.

use super::answer::Server;
use super::serve::Conversation;
use super::{EmbeddedError, start};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Marks the end of an exchange: no other reply is like it, and nothing that is stored or flushed changes it.
const MARK: &[u8] = b"version\r\n";
const MARKED: &[u8] = b"VERSION ";

struct Memcached {
    child: Child,
    stream: TcpStream,
}

impl Memcached {
    /// `None` where there is no memcached to compare with.
    fn start() -> Option<Memcached> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok()?.port();
        let args =
            ["-l", "127.0.0.1", "-U", "0", "-t", "1", "-u", "nobody", "-p", &port.to_string()].map(str::to_owned);
        let mut command = Command::new("memcached");
        let Ok(child) = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            eprintln!("no memcached on PATH: nothing to compare with");
            return None;
        };
        let began = Instant::now();
        loop {
            match connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
                Ok(stream) => return Some(Memcached { child, stream }),
                Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Sends `request` and the marker, and reads up to the marker's reply.
fn exchange(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    let mut bytes = request.to_vec();
    bytes.extend_from_slice(MARK);
    stream.write_all(&bytes).expect("the server reads");
    read_to_mark(stream)
}

fn read_to_mark(stream: &mut TcpStream) -> Vec<u8> {
    let mut reply = Vec::new();
    let mut part = vec![0; 1 << 16];
    loop {
        let read = stream.read(&mut part).expect("a reply in time");
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&reply));
        reply.extend_from_slice(&part[..read]);
        let tail = reply.len().saturating_sub(100);
        let mark = reply[tail..].windows(MARKED.len()).position(|bytes| bytes == MARKED);
        if let (Some(mark), true) = (mark, reply.ends_with(b"\r\n")) {
            reply.truncate(tail + mark);
            return reply;
        }
    }
}

fn now() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

fn seed() -> u64 {
    let seed = UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64) | 1;
    eprintln!("seed {seed}");
    seed
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// A whole reply of the pure part, fed in two pieces.
fn converse(conversation: &mut Conversation, server: &mut Server, request: &[u8], cut: usize, now: u64) -> Vec<u8> {
    let cut = cut.min(request.len());
    conversation.receive(&request[..cut], server, now);
    conversation.receive(&request[cut..], server, now);
    std::mem::take(&mut conversation.output)
}

/// Requests whose replies were looked up in no document: memcached says what is right.
const SCRIPT: &[&str] = &[
    "get a\r\n",
    "set a 0 0 1\r\n1\r\n",
    "gets a\r\n",
    "incr a 5\r\n",
    "gets a\r\n",
    "set a 1 0 3\r\n007\r\n",
    "incr a 1\r\n",
    "gets a\r\n",
    "decr a 100\r\n",
    "get a\r\n",
    "set a 0 0 5\r\n12 34\r\nincr a 1\r\nget a\r\n",
    "set a 0 0 3\r\n +5\r\nincr a 1\r\nget a\r\n",
    "set a 0 0 2\r\n-1\r\nincr a 1\r\n",
    "set a 0 0 20\r\n18446744073709551615\r\nincr a 2\r\nget a\r\n",
    "set a 0 0 21\r\n118446744073709551615\r\nincr a 2\r\n",
    "set a 7 0 1\r\n9\r\nincr a 1\r\ngets a\r\n",
    "set a 0 0 0\r\n\r\nincr a 2\r\nget a\r\n",
    "incr a -2\r\n",
    "incr a 1x\r\n",
    "incr missing 1\r\n",
    "flush_all -1\r\nget a\r\n",
    "set a 0 0 1\r\n1\r\nflush_all 100\r\nget a\r\n",
    "flush_all 0\r\nget a\r\n",
    "set a 0 0 1\r\n1\r\nflush_all noreply\r\nget a\r\n",
    "flush_all x\r\n",
    "set a 0 -1 1\r\n1\r\nget a\r\nadd a 0 0 1\r\n2\r\ngets a\r\n",
    "touch a -1\r\nget a\r\nappend a 0 0 1\r\n1\r\nprepend a 0 0 1\r\n1\r\n",
    "touch a x\r\n",
    "touch a 1000\r\n",
    "set a 0 0 1\r\n1\r\ntouch a 2592001\r\nget a\r\n",
    "set a 5 0 1\r\n1\r\ngat -1 a\r\nget a\r\n",
    "set a 5 0 1\r\n1\r\ngats 100 a b\r\ngat x a\r\n",
    "set b 4294967295 0 1\r\n1\r\nget b\r\nset b 7 0 1\r\n1\r\nget b\r\n",
    "cas b 0 0 1 99\r\n1\r\ngets b\r\ncas q 0 0 1 99\r\n1\r\n",
    "append b 9 9 3\r\nxyz\r\nprepend b 9 9 3\r\nabc\r\ngets b\r\n",
    "replace b 1 0 1\r\nr\r\nreplace none 1 0 1\r\nr\r\nadd b 1 0 1\r\nr\r\ngets b a b\r\n",
    "delete b 0\r\ndelete b\r\ndelete b 1\r\ndelete b 0 noreply\r\nset b 0 0 1\r\n1\r\ndelete b noreply\r\nget b\r\n",
    "set c 0 0 1 noreply\r\n1\r\nincr c 1 noreply\r\ntouch c 0 noreply\r\nappend c 0 0 1 noreply\r\n7\r\nget c\r\n",
    "verbosity 1\r\n",
    "foo\r\nget\r\ntouch a\r\nincr a\r\ndelete\r\n",
    "set d 0 0 3\r\nabc\r\nget d d d\r\n  get d\r\n",
    "stats reset\r\n",
];

#[test]
fn the_script_is_answered_as_memcached_answers_it() {
    let Some(mut memcached) = Memcached::start() else { return };
    let mut server = Server::new(64 << 20, now());
    let mut conversation = Conversation::new();
    for (step, request) in SCRIPT.iter().enumerate() {
        let expected = exchange(&mut memcached.stream, request.as_bytes());
        let reply = converse(&mut conversation, &mut server, request.as_bytes(), step % 9, now());
        assert_eq!(String::from_utf8_lossy(&reply), String::from_utf8_lossy(&expected), "{request:?}");
    }
}

/// Around memcached's largest item, flags counted; an append over it; a `set` over it that deletes.
#[test]
fn large_items_are_refused_where_memcached_refuses_them() {
    let Some(mut memcached) = Memcached::start() else { return };
    let mut server = Server::new(64 << 20, now());
    let mut conversation = Conversation::new();
    let mut check = |head: String, value_bytes: usize| {
        let request = [head.as_bytes(), &vec![b'x'; value_bytes], b"\r\nget k\r\n"].concat();
        let expected = exchange(&mut memcached.stream, &request);
        let reply = converse(&mut conversation, &mut server, &request, 70_000, now());
        assert!(reply == expected, "{head:?}: {} bytes not {}", reply.len(), expected.len());
    };
    for flags in [0, 1] {
        for value_bytes in [1_048_511, 1_048_512, 1_048_513, 1_048_516, 1_048_517, 1_048_576, 1_048_577, 2_000_000] {
            check(format!("set k {flags} 0 3\r\nold\r\nset k {flags} 0 {value_bytes}\r\n"), value_bytes);
            check(format!("set k {flags} 0 3\r\nold\r\nadd k {flags} 0 {value_bytes}\r\n"), value_bytes);
        }
    }
    check(format!("set k 0 0 1000000\r\n{}\r\nappend k 0 0 100000\r\n", "y".repeat(1_000_000)), 100_000);
}

/// One request over a few keys, so that every command meets every state.
fn random_request(random: &mut Random) -> Vec<u8> {
    let key = random.pick(&["a", "b", "c", "dd", "eee"]);
    let other = random.pick(&["a", "b", "c", "dd", "eee"]);
    let value =
        random.pick(&["", "0", "5", "99", "text", "18446744073709551614", "a longer text", "1 2", "x\r\n", "END\r\n"]);
    let flags = random.pick(&["0", "1", "4294967295"]);
    // None that would expire while the test runs: the two clocks tick apart.
    let exptime = random.pick(&["0", "0", "0", "1000", "-1", "2592000", "2592001", "2000000000"]);
    let noreply = random.pick(&["", "", "", " noreply"]);
    let bytes = value.len();
    let delta = random.pick(&["0", "1", "7", "18446744073709551615"]);
    // Far enough to be met again and again.
    let unique = random.below(4000);
    // memcached pads a number that got shorter only where nothing else holds on to the item, which depends on the moment;
    // the script looks at that, here the item is replaced at once.
    let again = format!("set {key} {flags} 0 {bytes}\r\n{value}\r\n");
    match random.below(16) {
        0..3 => {
            let command = random.pick(&["set", "add", "replace", "append", "prepend"]);
            format!("{command} {key} {flags} {exptime} {bytes}{noreply}\r\n{value}\r\n")
        }
        3 => format!("cas {key} {flags} {exptime} {bytes} {unique}{noreply}\r\n{value}\r\n"),
        4 => again,
        5 => format!("delete {key}{noreply}\r\n"),
        6 | 7 => format!("incr {key} {delta}{noreply}\r\n{again}"),
        8 => format!("decr {key} {delta}{noreply}\r\n{again}"),
        9 => format!("touch {key} {exptime}{noreply}\r\n"),
        10 => format!("gat {exptime} {key} {other}\r\n"),
        11 => format!("gats {exptime} {key}\r\n"),
        12 | 13 => format!("gets {key} {other}\r\n"),
        _ => format!("get {key}\r\n"),
    }
    .into_bytes()
}

#[test]
fn random_requests_are_answered_as_memcached_answers_them() {
    let Some(mut memcached) = Memcached::start() else { return };
    let mut random = Random(seed());
    let mut server = Server::new(64 << 20, now());
    let mut conversation = Conversation::new();
    let mut history = Vec::new();
    for step in 0..10_000 {
        // One at a time: a reply that waits holds on to items too.
        let request = random_request(&mut random);
        history.push(String::from_utf8_lossy(&request).into_owned());
        let expected = exchange(&mut memcached.stream, &request);
        let reply = converse(&mut conversation, &mut server, &request, random.below(request.len()), now());
        let last = &history[history.len().saturating_sub(12)..];
        assert_eq!(String::from_utf8_lossy(&reply), String::from_utf8_lossy(&expected), "step {step}: {last:#?}");
    }
}

/// Over sockets: names, separate stores, pipelines larger than the reply limit, quit, version.
#[test]
fn servers_answer_on_loopback() {
    let names = ["a", "b"].map(str::to_owned);
    let embedded = start(&names, 8 << 20).expect("they start");
    assert_eq!(embedded.addresses().len(), 2);
    assert!(embedded.address("c").is_none());
    let [mut a, mut b] = names.map(|name| connect(embedded.address(&name).expect("an address")).expect("connected"));
    assert_eq!(exchange(&mut a, b"set k 0 0 1\r\nx\r\n"), b"STORED\r\n");
    assert_eq!(exchange(&mut b, b"get k\r\n"), b"END\r\n");
    assert_eq!(exchange(&mut a, b"get k\r\n"), b"VALUE k 0 1\r\nx\r\nEND\r\n");
    let stats = String::from_utf8(exchange(&mut a, b"stats\r\n")).expect("text");
    assert!(stats.contains("STAT curr_items 1\r\n") && stats.ends_with("END\r\n"), "{stats}");

    let value = vec![b'v'; 300_000];
    let set = [b"set big 0 0 300000\r\n", &value[..], b"\r\n"].concat();
    assert_eq!(exchange(&mut a, &set), b"STORED\r\n");
    let replies = exchange(&mut a, &b"get big\r\n".repeat(40));
    assert_eq!(replies.len(), 40 * ("VALUE big 0 300000\r\n".len() + value.len() + "\r\nEND\r\n".len()));

    a.write_all(b"get k\r\nquit\r\nset k 0 0 1\r\ny\r\n").expect("the server reads");
    let mut rest = Vec::new();
    a.read_to_end(&mut rest).expect("closed in order");
    assert_eq!(rest, b"VALUE k 0 1\r\nx\r\nEND\r\n");
    // Only the sending side is closed: what was asked is answered.
    b.write_all(MARK).expect("the server reads");
    b.shutdown(std::net::Shutdown::Write).expect("half closed");
    assert_eq!(read_to_mark(&mut b), b"");
    drop(embedded);
    let mut one = [0];
    assert_eq!(b.read(&mut one).unwrap_or(0), 0, "closed");
}

#[test]
fn wrong_names_are_refused() {
    let name = "a".to_owned();
    assert!(matches!(start(&[name.clone(), name], 1 << 20), Err(EmbeddedError::Twice(_))));
    let many: Vec<String> = (0..65).map(|at| at.to_string()).collect();
    assert!(matches!(start(&many, 1 << 20), Err(EmbeddedError::TooMany(65))));
}
