//! What a shard asks of servers for a client it knows nothing of yet, and what it says of servers it can't reach.

use keyway::config::{Config, Overrides, ServerAddress, ServerIdentity};
use keyway::messages::{FromShard, ToShard};
use keyway::shard::Shard;
use keyway::table::{ServerKey, Standing, WhenDown};
use keyway::trouble::{Rule, Suspicion, Trouble};
use keyway_io_engine::{
    Address, Closing, Conn, ConnectError, Handler, Io, ListenerId, Nanos, Reading, Receiver, Sender, mailbox,
};
use keyway_policies::ServerId;
use std::sync::Arc;

/// An engine whose connections come about, or fail for the same reason each time.
struct Engine {
    now: Nanos,
    fails: Option<ConnectError>,
    connects: u32,
    sends: Vec<(Conn, Vec<u8>)>,
}

impl Io for Engine {
    fn now(&self) -> Nanos {
        self.now
    }

    fn connect(&mut self, _: &Address) -> Result<Conn, ConnectError> {
        self.connects += 1;
        self.fails.map_or(Ok(SERVER), Err)
    }

    fn send(&mut self, conn: Conn, bytes: Vec<u8>) {
        self.sends.push((conn, bytes));
    }

    fn set_reading(&mut self, _: Conn, _: Reading) {}

    fn close(&mut self, _: Conn, _: Closing) {}

    fn stop_accepting(&mut self) {}
}

const CLIENT: Conn = Conn { index: 0, generation: 0 };
const SERVER: Conn = Conn { index: 1, generation: 0 };

/// A shard with one client and one server.
fn shard() -> (Shard, Sender<ToShard>, Receiver<FromShard>) {
    let yaml = b"pools: {p: {servers: ['127.0.0.1:1']}}\nroute: PoolRoute|p\n\
        limits: {queued_bytes_per_connection: 1048576}";
    let config = Config::parse(yaml, "test", &Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"));
    let mut place = None;
    let table = config.table(1, &mut |identity: &ServerIdentity| {
        place = Some(identity.address.clone());
        ServerKey(0)
    });
    let Some(ServerAddress::Ip(address)) = place else { panic!("an address") };
    let (to_shard, inbox) = mailbox().expect("a descriptor");
    let (outbox, from_shard) = mailbox().expect("a descriptor");
    let told = ToShard::Server { key: ServerKey(0), up: true, why: None, address: Some(Address::Tcp(address)) };
    to_shard.send(told).expect("room");
    (Shard::new(0, Arc::new(table), inbox, outbox, 1), to_shard, from_shard)
}

/// Requests that a server was asked while every connect failed like this, and whether it was suspected.
fn check(fails: ConnectError, suspected: Option<Trouble>) {
    let (mut shard, _to_shard, mut from_shard) = shard();
    let mut engine = Engine { now: 0, fails: Some(fails), connects: 0, sends: Vec::new() };
    shard.doorbell(&mut engine);
    shard.accepted(&mut engine, ListenerId(0), CLIENT);
    for _ in 0..20 {
        engine.now += 2_000_000_000;
        shard.received(&mut engine, CLIENT, b"get a\r\n");
        shard.turn_ended(&mut engine);
        let (conn, bytes) = engine.sends.pop().expect("an answer");
        assert_eq!((conn, &bytes[..]), (CLIENT, &b"SERVER_ERROR keyway: unavailable\r\n"[..]));
        shard.sent(&mut engine, conn, bytes, Ok(()));
    }
    let suspicion = suspected.map(|last| Suspicion { rule: Rule::Connects(2), last });
    let said = from_shard.take().map(|message| match message {
        FromShard::Suspect { shard: 0, key: ServerKey(0), suspicion } => suspicion,
        other => panic!("{other:?}"),
    });
    assert_eq!(said, suspicion, "{fails:?}");
    assert_eq!(shard.trouble(ServerKey(0)), suspected);
    let connects = if suspected.is_some() { 2 } else { 20 };
    assert_eq!(engine.connects, connects, "{fails:?}: it is tried again each time unless it is down");
}

#[test]
fn only_what_a_server_did_speaks_against_it() {
    check(ConnectError::Errno(libc::ECONNREFUSED), Some(Trouble::Refused));
    check(ConnectError::Errno(libc::EHOSTUNREACH), Some(Trouble::Unreachable));
    check(ConnectError::OutOfDescriptors, None);
}

/// A server that stands like this in its pool and is told to be down: whether a request makes the shard connect to it.
fn is_asked_while_down(generation: u64, when_down: WhenDown) -> bool {
    let (mut shard, to_shard, _from_shard) = shard();
    let mut engine = Engine { now: 0, fails: None, connects: 0, sends: Vec::new() };
    let changes = Arc::new([(ServerId(0), Standing { share: Standing::ALL, when_down })]);
    to_shard.send(ToShard::Standings { generation, changes }).expect("room");
    let address = Some(Address::Tcp(([127, 0, 0, 1], 1).into()));
    let why = Some(Trouble::Misaligned);
    to_shard.send(ToShard::Server { key: ServerKey(0), up: false, why, address: address.clone() }).expect("room");
    shard.doorbell(&mut engine);
    assert_eq!(shard.trouble(ServerKey(0)), why);
    shard.accepted(&mut engine, ListenerId(0), CLIENT);
    shard.received(&mut engine, CLIENT, b"get a\r\n");
    shard.turn_ended(&mut engine);
    if engine.connects == 0 {
        let (_, bytes) = engine.sends.pop().expect("an answer");
        assert_eq!(bytes, b"SERVER_ERROR keyway: unavailable\r\n");
    }
    let asked = engine.connects > 0;
    to_shard.send(ToShard::Server { key: ServerKey(0), up: true, why: None, address }).expect("room");
    shard.doorbell(&mut engine);
    assert_eq!(shard.trouble(ServerKey(0)), None);
    asked
}

#[test]
fn a_server_that_is_down_is_asked_only_where_its_pool_fails_open() {
    assert!(is_asked_while_down(1, WhenDown::Asked));
    assert!(!is_asked_while_down(1, WhenDown::LeftOut));
    assert!(!is_asked_while_down(1, WhenDown::Fails));
    // Of a table that this shard hasn't got.
    assert!(!is_asked_while_down(2, WhenDown::Asked));
}

#[test]
fn few_replies_are_asked_for_before_their_size_is_known() {
    let (mut shard, _to_shard, _from_shard) = shard();
    let mut engine = Engine { now: 1, fails: None, connects: 0, sends: Vec::new() };
    shard.doorbell(&mut engine);
    shard.accepted(&mut engine, ListenerId(0), CLIENT);
    shard.received(&mut engine, CLIENT, &b"get a\r\n".repeat(1000));
    shard.turn_ended(&mut engine);
    shard.connected(&mut engine, SERVER, Ok(()));
    shard.turn_ended(&mut engine);
    let (conn, bytes) = engine.sends.pop().expect("requests");
    assert_eq!((conn, bytes.len()), (SERVER, 64 * b"get a\r\n".len()));
}

#[test]
fn a_client_that_fills_the_queue_to_a_server_waits_for_it() {
    let (mut shard, _to_shard, _from_shard) = shard();
    let mut engine = Engine { now: 1, fails: None, connects: 0, sends: Vec::new() };
    shard.doorbell(&mut engine);
    shard.accepted(&mut engine, ListenerId(0), CLIENT);
    let set = [&b"set a 0 0 100000\r\n"[..], &vec![b'x'; 100_000], b"\r\n"].concat();
    shard.received(&mut engine, CLIENT, &set.repeat(30));
    shard.turn_ended(&mut engine);
    shard.connected(&mut engine, SERVER, Ok(()));
    let (mut asked, mut answers) = (0, Vec::new());
    while answers.len() < 30 * b"STORED\r\n".len() {
        shard.turn_ended(&mut engine);
        assert!(!shard.wait().immediate || !engine.sends.is_empty(), "it waits for an event, not in a loop");
        let sends = std::mem::take(&mut engine.sends);
        assert!(!sends.is_empty(), "it goes on: {} answers", answers.len() / b"STORED\r\n".len());
        for (conn, bytes) in sends {
            let count = bytes.len() / set.len();
            if conn == CLIENT {
                answers.extend_from_slice(&bytes);
            }
            shard.sent(&mut engine, conn, bytes, Ok(()));
            if conn == SERVER {
                assert!((1..=6).contains(&count), "{count} sets at once");
                asked += count;
                shard.received(&mut engine, SERVER, &b"STORED\r\n".repeat(count));
            }
        }
    }
    assert_eq!((asked, answers), (30, b"STORED\r\n".repeat(30)));
}
