//! Bytes come back as they were sent: many connections, small queues, small buffers, both families, Unix sockets.

mod world;

use keyway_io_engine::ring::BufferConfig;
use keyway_io_engine::{Address, Closing, Io, RingConfig};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use world::{World, buffers, pattern};

/// `clients` threads each send `rounds` messages of growing length and compare what comes back.
fn check(config: RingConfig, clients: usize, rounds: usize, longest: usize) -> World {
    let (mut world, address) = World::listening(config);
    world.recorder.echo = true;
    let start = move |client: usize| {
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        for round in 0..rounds {
            let message = pattern(1 + (client * 3001 + round * 15_013) % longest);
            stream.write_all(&message).expect("write");
            let mut back = vec![0; message.len()];
            stream.read_exact(&mut back).expect("read");
            assert!(back == message, "client {client} round {round}: {} bytes differ", message.len());
        }
        stream.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(stream.read(&mut [0; 1]).expect("end"), 0, "the engine closes after us");
    };
    let threads: Vec<_> = (0..clients).map(|client| thread::spawn(move || start(client))).collect();
    world.until("end of every client", |world| {
        let ended = world.events().iter().filter(|event| matches!(event, world::Event::Ended(..))).count();
        (ended == clients).then_some(())
    });
    // The closes, some after a last send, that the clients wait for.
    for thread in threads {
        while !thread.is_finished() {
            world.settle();
        }
        thread.join().expect("client");
    }
    assert_eq!(world.counters().accepted, clients as u64);
    world
}

#[test]
fn many_connections() {
    check(RingConfig::default(), 200, 20, 3000);
}

#[test]
fn messages_larger_than_a_buffer() {
    check(buffers(64, 512), 8, 10, 200_000);
}

#[test]
fn a_full_submission_queue_is_submitted_and_goes_on() {
    let config = RingConfig { entries: 2, completion_entries: 512, ..RingConfig::default() };
    let mut world = check(config, 50, 20, 3000);
    assert!(world.counters().submission_queue_full > 0);
}

#[test]
fn a_full_completion_queue_loses_nothing() {
    let config = RingConfig { entries: 2, completion_entries: 4, ..RingConfig::default() };
    let mut world = check(config, 50, 40, 3000);
    assert!(world.counters().cq_overflow > 0, "{:?}", world.counters());
}

#[test]
fn two_buffers_serve_many() {
    let two = BufferConfig { count: 2, bytes: 64 };
    let config = RingConfig { client_buffers: two, upstream_buffers: two, ..RingConfig::default() };
    let mut world = check(config, 20, 4, 2000);
    assert!(world.counters().enobufs > 0, "{:?}", world.counters());
}

#[test]
fn more_buffers_are_offered_when_some_ran_out() {
    let many = BufferConfig { count: 1024, bytes: 64 };
    let config = RingConfig { client_buffers: many, ..RingConfig::default() };
    let mut world = check(config, 4, 10, 400_000);
    assert!(world.counters().enobufs > 0, "{:?}", world.counters());
}

#[test]
fn over_ipv6() {
    let any = Address::Tcp("[::1]:0".parse().expect("an address"));
    let listeners = keyway_io_engine::bind(&any, 1, 16).expect("a free port");
    let Address::Tcp(address) = *listeners[0].address() else { panic!("asked for TCP") };
    assert!(address.is_ipv6() && address.port() != 0);
    let mut world = World::new(buffers(8, 4096), listeners);
    let (mut client, conn) = world.client(address);
    client.write_all(b"six").expect("write");
    world.until("bytes", |world| (world.received(conn) == b"six").then_some(()));
    world.io().send(conn, b"sechs".to_vec());
    world.until("sent", |world| world.sent(conn)).1.expect("sent in full");
    let mut back = [0; 5];
    client.read_exact(&mut back).expect("read");
    assert_eq!(&back, b"sechs");

    let made = world.io().connect(&Address::Tcp(address)).expect("begun");
    assert_eq!(world.until("connected", |world| world.connected(made)), Ok(()));
    world.io().close(made, Closing::Now);
}

#[test]
fn over_a_unix_socket() {
    let directory = std::env::temp_dir().join(format!("keyway-echo-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("socket");
    let listeners = keyway_io_engine::bind(&Address::Unix(path.clone()), 1, 16).expect("a free path");
    let mut world = World::new(buffers(8, 4096), listeners);
    world.recorder.echo = true;
    let client = thread::spawn({
        let path = path.clone();
        move || {
            let mut stream = UnixStream::connect(path).expect("connect");
            stream.write_all(&pattern(100_000)).expect("write");
            stream.shutdown(Shutdown::Write).expect("shutdown");
            let mut back = Vec::new();
            stream.read_to_end(&mut back).expect("read");
            assert!(back == pattern(100_000));
        }
    });
    while !client.is_finished() {
        world.settle();
    }
    client.join().expect("client");
    std::fs::remove_dir_all(&directory).expect("removed");
}
