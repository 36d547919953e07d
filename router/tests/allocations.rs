//! After warm-up a request allocates nothing in the shard's core, whatever its route and its answer.
//!
//! The core is driven by hand, through an engine that only remembers what it was asked for, so that nothing else
//! allocates while it is counted.

use keyway::config::{Config, Overrides, ServerAddress, ServerIdentity};
use keyway::messages::ToShard;
use keyway::shard::Shard;
use keyway::table::ServerKey;
use keyway_io_engine::{
    Address, Closing, Conn, ConnectError, Handler, Io, ListenerId, Nanos, Reading, Sender, mailbox,
};
use std::sync::Arc;

/// Remembers what the core asked for.
#[derive(Default)]
struct Loopback {
    now: Nanos,
    connections: u32,
    connecting: Vec<(Conn, Address)>,
    sends: Vec<(Conn, Vec<u8>)>,
}

impl Loopback {
    fn open(&mut self) -> Conn {
        self.connections += 1;
        Conn { index: self.connections - 1, generation: 0 }
    }
}

impl Io for Loopback {
    fn now(&self) -> Nanos {
        self.now
    }

    fn connect(&mut self, address: &Address) -> Result<Conn, ConnectError> {
        let conn = self.open();
        self.connecting.push((conn, address.clone()));
        Ok(conn)
    }

    fn send(&mut self, conn: Conn, bytes: Vec<u8>) {
        self.sends.push((conn, bytes));
    }

    fn set_reading(&mut self, _: Conn, _: Reading) {}

    fn close(&mut self, conn: Conn, _: Closing) {
        panic!("{conn:?} is closed");
    }

    fn stop_accepting(&mut self) {}
}

/// What a server answers to the line of one request.
type Answer = fn(server: usize, line: &[u8], reply: &mut Vec<u8>);

/// A shard, its clients, and servers that answer in the next turn.
struct Harness {
    shard: Shard,
    io: Loopback,
    clients: Vec<Conn>,
    /// Which server each connection goes to, by `Conn::index`.
    servers: Vec<Option<usize>>,
    answer: Answer,
    /// Of the sends at hand, so that both vectors keep their memory.
    sends: Vec<(Conn, Vec<u8>)>,
    reply: Vec<u8>,
    /// Bytes that clients got.
    answered_bytes: usize,
    _to_shard: Sender<ToShard>,
}

impl Harness {
    fn new(yaml: &str, clients: usize, answer: Answer) -> Harness {
        let config = Config::parse(yaml.as_bytes(), "test", &Overrides::default());
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let mut identities: Vec<ServerIdentity> = Vec::new();
        let table = config.table(1, &mut |identity| {
            identities.push(identity.clone());
            ServerKey(identities.len() as u32 - 1)
        });
        let (to_shard, inbox) = mailbox().expect("a descriptor");
        let (outbox, _) = mailbox().expect("a descriptor");
        let shard = Shard::new(0, Arc::new(table), inbox, outbox, 1);
        for (key, identity) in (0..).zip(&identities) {
            let ServerAddress::Ip(address) = identity.address else { panic!("an address") };
            let address = Some(Address::Tcp(address));
            to_shard.send(ToShard::Server { key: ServerKey(key), up: true, why: None, address }).expect("room");
        }
        let mut harness = Harness {
            shard,
            io: Loopback::default(),
            clients: Vec::new(),
            servers: Vec::new(),
            answer,
            sends: Vec::new(),
            reply: Vec::new(),
            answered_bytes: 0,
            _to_shard: to_shard,
        };
        harness.shard.doorbell(&mut harness.io);
        for _ in 0..clients {
            let conn = harness.io.open();
            harness.shard.accepted(&mut harness.io, ListenerId(0), conn);
            harness.clients.push(conn);
        }
        harness
    }

    /// Every client asks `request`; returns when all is answered.
    fn ask(&mut self, request: &[u8]) {
        for at in 0..self.clients.len() {
            self.shard.received(&mut self.io, self.clients[at], request);
        }
        loop {
            self.io.now += 1000;
            self.shard.turn_ended(&mut self.io);
            while let Some((conn, address)) = self.io.connecting.pop() {
                let Address::Tcp(address) = address else { panic!("an address") };
                self.servers.resize(self.servers.len().max(conn.index as usize + 1), None);
                self.servers[conn.index as usize] = Some(usize::from(address.port()) - 1);
                self.shard.connected(&mut self.io, conn, Ok(()));
            }
            if self.io.sends.is_empty() && !self.shard.wait().immediate {
                return;
            }
            std::mem::swap(&mut self.sends, &mut self.io.sends);
            for at in 0..self.sends.len() {
                let (conn, bytes) = (self.sends[at].0, std::mem::take(&mut self.sends[at].1));
                self.deliver(conn, bytes);
            }
            self.sends.clear();
        }
    }

    fn deliver(&mut self, conn: Conn, bytes: Vec<u8>) {
        let Some(server) = self.servers.get(conn.index as usize).copied().flatten() else {
            self.answered_bytes += bytes.len();
            return self.shard.sent(&mut self.io, conn, bytes, Ok(()));
        };
        self.reply.clear();
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = &rest[..end - 1];
            (self.answer)(server, line, &mut self.reply);
            // The router cuts noreply out, so that the line of a set ends with its length.
            let data = if line.starts_with(b"set") { data_bytes(line) + 2 } else { 0 };
            rest = &rest[end + 1 + data..];
        }
        self.shard.sent(&mut self.io, conn, bytes, Ok(()));
        let reply = std::mem::take(&mut self.reply);
        self.shard.received(&mut self.io, conn, &reply);
        self.reply = reply;
    }
}

fn data_bytes(line: &[u8]) -> usize {
    let digits = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

/// Answers with values of `BYTES`; server 0 misses when `MISSES`.
fn serve<const BYTES: usize, const MISSES: bool>(server: usize, line: &[u8], reply: &mut Vec<u8>) {
    const DATA: [u8; 16 * 1024] = [b'x'; 16 * 1024];
    let mut words = line.split(|byte| *byte == b' ');
    match words.next() {
        Some(b"get") => {
            for key in words.filter(|_| !(MISSES && server == 0)) {
                reply.extend_from_slice(b"VALUE ");
                reply.extend_from_slice(key);
                reply.extend_from_slice(match BYTES {
                    100 => b" 0 100\r\n",
                    8000 => b" 0 8000\r\n",
                    _ => panic!("another size"),
                });
                reply.extend_from_slice(&DATA[..BYTES]);
                reply.extend_from_slice(b"\r\n");
            }
            reply.extend_from_slice(b"END\r\n");
        }
        Some(b"set") => reply.extend_from_slice(b"STORED\r\n"),
        Some(b"delete") => reply.extend_from_slice(b"NOT_FOUND\r\n"),
        _ => panic!("{}", line.escape_ascii()),
    }
}

const HIT: Answer = serve::<100, false>;
const MISS: Answer = serve::<100, true>;
const LARGE: Answer = serve::<8000, false>;
const LARGE_MISS: Answer = serve::<8000, true>;

const ONE: &str = "pools: {a: {servers: ['10.0.0.1:1']}}\nroute: PoolRoute|a";
const FAILOVER: &str = "pools: {a: {servers: ['10.0.0.1:1', '10.0.0.1:2']}}\nroute: MissFailoverRoute|Pool|a";
const FASTEST: &str = "pools: {a: {servers: ['10.0.0.1:1', '10.0.0.1:2']}}\nroute: AllFastestRoute|Pool|a";
const SHARDED: &str = "pools: {a: {servers: ['10.0.0.1:1', '10.0.0.1:2', '10.0.0.1:3', '10.0.0.1:4'], connections: 2}}\n\
                       route: PoolRoute|a";
const NESTED: &str = "pools:\n  a: {servers: ['10.0.0.1:1', '10.0.0.1:2']}\n  b: {servers: ['10.0.0.1:3', '10.0.0.1:4']}\n\
                      route: {type: AllFastestRoute, children: [{type: MissFailoverRoute, children: Pool|a}, PoolRoute|b]}";

/// Entries of the slab change roles from round to round: it takes a while until each of them has had the largest.
const WARM_UP: usize = 256;
const ROUNDS: usize = 64;

/// `request`, asked over and over by several clients on a shard of this configuration, brings `reply_bytes` each time and
/// allocates nothing.
fn check(name: &str, yaml: &str, answer: Answer, request: &[u8], reply_bytes: usize) {
    for clients in [1, 8] {
        let mut harness = Harness::new(yaml, clients, answer);
        let warm_up = allocation_counter::measure(|| (0..WARM_UP).for_each(|_| harness.ask(request)));
        assert!(warm_up.count_total > 0, "the counter counts");
        harness.answered_bytes = 0;
        let warm = allocation_counter::measure(|| (0..ROUNDS).for_each(|_| harness.ask(request)));
        assert_eq!(harness.answered_bytes, ROUNDS * clients * reply_bytes, "{name}: all was answered");
        assert_eq!(warm.count_total, 0, "{name}, {clients} clients: {warm:?}");
    }
}

#[test]
fn a_request_allocates_nothing() {
    let (item, end, stored) = (b"VALUE k 0 100\r\n".len() + 102, 5, 8);
    let set = format!("set k 0 0 100\r\n{}\r\n", "x".repeat(100));
    let quiet = format!("set k 0 0 100 noreply\r\n{}\r\n", "x".repeat(100));
    let get = b"get k\r\n";
    let ten = b"get k l m n o p q r s t\r\n";
    check("get", ONE, HIT, get, item + end);
    check("set", ONE, HIT, set.as_bytes(), stored);
    check("failover after a miss", FAILOVER, MISS, get, item + end);
    check("miss everywhere", FAILOVER, MISS, b"delete k\r\n", 11);
    check("set to all", FASTEST, HIT, set.as_bytes(), stored);
    check("miss at all", FASTEST, HIT, b"delete k\r\n", 11);
    check("ten keys", ONE, HIT, ten, 10 * item + end);
    check("ten keys over shards", SHARDED, HIT, ten, 10 * item + end);
    check("ten keys with failover", FAILOVER, MISS, ten, 10 * item + end);
    check("sharded", SHARDED, HIT, get, item + end);
    check("nested, kept replies", NESTED, MISS, get, item + end);
    check("quiet, then one to wait for", ONE, HIT, [quiet.as_bytes(), get].concat().as_slice(), item + end);
    check("version", ONE, HIT, b"version\r\n", keyway::metrics::VERSION_LINE.len());
    check("refused", ONE, HIT, b"nonsense\r\n", 7);
}

#[test]
fn a_pipeline_allocates_nothing() {
    let (item, end, stored) = (b"VALUE k 0 100\r\n".len() + 102, 5, 8);
    let set = format!("set k 0 0 100\r\n{}\r\n", "x".repeat(100));
    let gets = b"get k\r\n".repeat(64);
    check("64 gets", ONE, HIT, &gets, 64 * (item + end));
    check("64 gets with failover", FAILOVER, MISS, &gets, 64 * (item + end));
    let mixed = [set.as_bytes(), b"get k\r\nget l\r\nget m n\r\n"].concat().repeat(16);
    check("64 mixed over shards", SHARDED, HIT, &mixed, 16 * (stored + 4 * item + 3 * end));
    let wide = format!("{ONE}\nlimits: {{requests_per_connection: 65536}}");
    check("more than a turn takes", &wide, HIT, &b"get k\r\n".repeat(900), 900 * (item + end));
}

#[test]
fn large_values_allocate_nothing() {
    let (item, end, stored) = (b"VALUE k 0 8000\r\n".len() + 8002, 5, 8);
    let set = format!("set k 0 0 8000\r\n{}\r\n", "x".repeat(8000));
    check("get", ONE, LARGE, b"get k\r\n", item + end);
    check("failover of a write", FAILOVER, LARGE, set.as_bytes(), stored);
    check("failover of a read", FAILOVER, LARGE_MISS, b"get k\r\n", item + end);
    check("out of order", SHARDED, LARGE, b"get k\r\nget l\r\nget m\r\nget n\r\n", 4 * (item + end));
    check("several keys", SHARDED, LARGE, b"get k l m n\r\nget k\r\n", 5 * item + 2 * end);
}
