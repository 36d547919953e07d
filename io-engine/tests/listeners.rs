//! Listening: groups, spreading, addresses in use, socket files left behind, draining and handing over.

mod world;

use keyway_io_engine::listen::{BindReason, DEFAULT_BACKLOG};
use keyway_io_engine::{Address, Io, Listener, ListenerId, RingConfig, bind, bind_spread};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use world::{Event, World, buffers, loopback};

/// A directory of the test's own, gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("keyway-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tcp(address: SocketAddr) -> Address {
    Address::Tcp(address)
}

#[test]
fn a_group_shares_one_port_and_serves_from_every_shard() {
    let (listeners, address) = loopback(3);
    assert_eq!(listeners.len(), 3);
    assert!(listeners.iter().all(|listener| *listener.address() == tcp(address)));
    let mut shards: Vec<World> = listeners.into_iter().map(|one| World::new(buffers(8, 4096), vec![one])).collect();
    let clients: Vec<_> = (0..60).map(|_| TcpStream::connect(address).expect("connect")).collect();
    while shards.iter().map(|shard| shard.accepted().len()).sum::<usize>() < clients.len() {
        shards.iter_mut().for_each(World::settle);
    }
    assert!(shards.iter().all(|shard| !shard.accepted().is_empty()), "the kernel spreads them by hash");
}

fn check_in_use(taken: &Address, bind: impl Fn(&Address) -> Result<Vec<Listener>, keyway_io_engine::BindError>) {
    let error = bind(taken).expect_err("taken");
    assert_eq!(error.reason, BindReason::InUse);
    let text = error.to_string();
    assert!(text.contains("in use") && text.contains("can't listen on"), "{text}");
}

#[test]
fn an_address_in_use_is_said_at_once() {
    // By a group of ours, which without the probe could simply be joined, and by a stranger.
    let (ours, address) = loopback(2);
    check_in_use(&tcp(address), |address| bind(address, 2, 16));
    check_in_use(&tcp(address), |address| bind(address, 1, 16));
    check_in_use(&tcp(address), |address| bind_spread(address, 2, 16));
    drop(ours);
    bind(&tcp(address), 2, 16).expect("free again");
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a free port");
    check_in_use(&tcp(stranger.local_addr().expect("an address")), |address| bind(address, 2, 16));
}

#[test]
fn what_else_is_in_the_way_is_said_too() {
    let check = |address: Address, reason: BindReason, words: &str| {
        let error = bind(&address, 1, 16).expect_err("refused");
        assert_eq!(error.reason, reason);
        assert!(error.to_string().contains(words), "{error}");
    };
    check(tcp(([192, 0, 2, 1], 0).into()), BindReason::NotLocal, "no such address");
    check(Address::Unix("/nonexistent/keyway.sock".into()), BindReason::NoDirectory, "directory");
    check(Address::Unix("x".repeat(200).into()), BindReason::PathTooLong, "107");
}

#[test]
fn a_socket_file_is_removed_only_if_nobody_answers() {
    let directory = Directory::new("stale");
    let path = directory.file("socket");
    drop(UnixListener::bind(&path).expect("a free path"));
    assert!(path.exists(), "left behind");
    let listeners = bind(&Address::Unix(path.clone()), 1, 16).expect("stale, so removed");
    check_in_use(&Address::Unix(path.clone()), |address| bind(address, 1, 16));
    UnixStream::connect(&path).expect("still answers");
    drop(listeners);

    let file = directory.file("file");
    std::fs::write(&file, "precious").expect("written");
    let error = bind(&Address::Unix(file.clone()), 1, 16).expect_err("no socket");
    assert_eq!(error.reason, BindReason::NotASocket);
    assert!(error.to_string().contains("no socket"));
    assert_eq!(std::fs::read_to_string(&file).expect("read"), "precious");
}

/// Connections made through `listeners` reach the shards in turn, and each is served where it ended up.
fn check_spread(listeners: Vec<Listener>, mut connect: impl FnMut() -> Box<dyn ReadWrite>) {
    let shards = listeners.len();
    let mut worlds: Vec<World> = listeners.into_iter().map(|one| World::new(buffers(8, 4096), vec![one])).collect();
    worlds.iter_mut().for_each(|world| world.recorder.echo = true);
    let mut clients: Vec<_> = (0..4 * shards).map(|_| connect()).collect();
    for _ in 0..8 {
        worlds.iter_mut().for_each(World::settle);
    }
    for world in &worlds {
        assert_eq!(world.accepted().len(), 4, "an equal share");
        let listeners: Vec<_> =
            world.events().iter().filter(|e| matches!(e, Event::Accepted(ListenerId(0), _))).collect();
        assert_eq!(listeners.len(), 4);
    }
    clients.iter_mut().for_each(|client| client.write_all(b"ping").expect("write"));
    for _ in 0..8 {
        worlds.iter_mut().for_each(World::settle);
    }
    for client in &mut clients {
        let mut back = [0; 4];
        client.read_exact(&mut back).expect("read");
        assert_eq!(&back, b"ping");
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn a_unix_socket_is_spread_over_the_shards() {
    let directory = Directory::new("spread");
    let path = directory.file("socket");
    let listeners = bind(&Address::Unix(path.clone()), 3, 64).expect("a free path");
    check_spread(listeners, || Box::new(UnixStream::connect(&path).expect("connect")));
}

#[test]
fn tcp_can_be_spread_too() {
    let any = tcp(([127, 0, 0, 1], 0).into());
    let listeners = bind_spread(&any, 3, 64).expect("a free port");
    let Address::Tcp(address) = *listeners[0].address() else { panic!("asked for TCP") };
    assert!(listeners[0].socket().is_some() && listeners[1].socket().is_none());
    check_spread(listeners, || Box::new(TcpStream::connect(address).expect("connect")));
}

#[test]
fn a_shard_that_is_gone_gets_none() {
    let any = tcp(([127, 0, 0, 1], 0).into());
    let mut listeners = bind_spread(&any, 2, 64).expect("a free port");
    let Address::Tcp(address) = *listeners[0].address() else { panic!("asked for TCP") };
    listeners.truncate(1);
    let mut world = World::new(buffers(8, 4096), listeners);
    for _ in 0..4 {
        world.client(address);
    }
}

#[test]
fn draining_stops_accepting_and_keeps_what_is_there() {
    let (listeners, address) = loopback(1);
    let kept = listeners[0].duplicate().expect("a socket").expect("a descriptor");
    let mut world = World::new(buffers(8, 4096), listeners);
    let (mut client, conn) = world.client(address);
    world.io().stop_accepting();
    world.io().stop_accepting();
    world.settle();
    let mut late = TcpStream::connect(address).expect("the kernel still queues it");
    client.write_all(b"served").expect("write");
    world.until("bytes", |world| (world.received(conn) == b"served").then_some(()));
    world.settle();
    assert_eq!(world.accepted().len(), 1);
    drop(world);
    // The next one takes the queue over; nobody was reset.
    let handed_over = Listener::adopt(kept).expect("a listener");
    assert_eq!(*handed_over.address(), tcp(address));
    let mut next = World::new(buffers(8, 4096), vec![handed_over]);
    let conn = next.until("accept", |world| world.accepted().first().copied());
    late.write_all(b"late").expect("write");
    next.until("bytes", |world| (world.received(conn) == b"late").then_some(()));
}

#[test]
fn two_listeners_are_told_apart() {
    let ((first, first_address), (second, second_address)) = (loopback(1), loopback(1));
    let mut world = World::new(buffers(8, 4096), first.into_iter().chain(second).collect());
    let (_one, one) = world.client(first_address);
    let (_two, two) = world.client(second_address);
    assert_eq!(world.events(), [Event::Accepted(ListenerId(0), one), Event::Accepted(ListenerId(1), two)]);
    assert!(world.engine.listening_socket(ListenerId(1)).is_some());
    assert!(world.engine.listening_socket(ListenerId(2)).is_none());
}

#[test]
fn a_full_table_refuses_and_recovers() {
    let (listeners, address) = loopback(1);
    let mut world = World::new(RingConfig { max_connections: 1, ..buffers(8, 4096) }, listeners);
    let (first_client, first) = world.client(address);
    let mut refused = TcpStream::connect(address).expect("the kernel queues it");
    world.until("refusal", |world| (world.counters().accept_refused == 1).then_some(()));
    world.settle();
    assert_eq!(refused.read(&mut [0; 1]).expect("closed in order"), 0);
    drop(first_client);
    world.until("end", |world| world.ended(first));
    world.io().close(first, keyway_io_engine::Closing::Now);
    world.client(address);
    const { assert!(DEFAULT_BACKLOG > 0) };
}
