//! One connection's life: how it is read, how sends end, how it is closed, and what a dead one's name still does.

mod world;

use keyway_io_engine::{Address, Closing, ConnectError, Ended, Io, LINGER_BYTES, Reading, RingConfig};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use world::{Event, World, buffers, pattern};

/// More than loopback's socket buffers hold, so that a send waits for its reader.
const STUCK_BYTES: usize = 64 << 20;

#[test]
fn the_peer_of_an_open_connection_is_known() {
    let (mut world, address) = World::listening(buffers(8, 4096));
    let (_client, conn) = world.client(address);
    assert_eq!(world.io().peer_ip(conn), Some([127, 0, 0, 1].into()));
    world.io().close(conn, Closing::Now);
    assert_eq!(world.io().peer_ip(conn), None, "it is closed");
}

#[test]
fn a_large_send_to_a_slow_reader_arrives_whole() {
    let (mut world, address) = World::listening(buffers(8, 4096));
    let (mut client, conn) = world.client(address);
    let bytes = pattern(STUCK_BYTES);
    world.io().send(conn, bytes.clone());
    world.settle();
    assert_eq!(world.sent(conn), None, "larger than the socket's buffers");
    let reader = std::thread::spawn(move || {
        let mut back = vec![0; STUCK_BYTES];
        back.chunks_mut(100_001).for_each(|chunk| client.read_exact(chunk).expect("read"));
        back
    });
    let (returned, result) = world.until("sent", |world| world.sent(conn));
    assert_eq!(result, Ok(()));
    assert!(returned == bytes, "the vector comes back untouched");
    assert!(reader.join().expect("reader") == bytes);
}

#[test]
fn closing_gives_the_bytes_in_flight_back() {
    for phase in 0..2 {
        let (mut world, address) = World::listening(buffers(8, 4096));
        let (mut client, conn) = world.client(address);
        world.io().send(conn, pattern(STUCK_BYTES));
        if phase == 1 {
            world.settle();
        }
        world.io().close(conn, Closing::Now);
        client.write_all(b"nobody hears this").expect("write");
        let (returned, result) = world.until("sent", |world| world.sent(conn));
        assert!(result.is_err());
        assert!(returned == pattern(STUCK_BYTES));
        world.settle();
        let told = world.events().iter().filter(|event| !matches!(event, Event::Accepted(..))).count();
        assert_eq!(told, 1, "nothing but the sent");
        // The descriptor is closed: the client sees the end.
        let mut sink = vec![0; 1 << 20];
        while client.read(&mut sink).is_ok_and(|len| len > 0) {}
    }
}

#[test]
fn off_is_silent_once_reads_once_and_on_reads_on() {
    let (mut world, address) = World::listening(buffers(8, 4096));
    let (mut client, conn) = world.client(address);
    let expect = |world: &mut World, all: &[u8]| {
        world.until("bytes", |world| (world.received(conn) == all).then_some(()));
    };
    client.write_all(b"a").expect("write");
    expect(&mut world, b"a");

    world.io().set_reading(conn, Reading::Off);
    world.settle();
    client.write_all(b"b").expect("write");
    world.settle();
    assert_eq!(world.received(conn), b"a");

    world.io().set_reading(conn, Reading::Once);
    expect(&mut world, b"ab");
    client.write_all(b"c").expect("write");
    world.settle();
    assert_eq!(world.received(conn), b"ab", "once is once");

    // Changed to and fro before the kernel hears of any of it.
    for reading in [Reading::On, Reading::Off, Reading::Once, Reading::Off, Reading::On, Reading::Once, Reading::On] {
        world.io().set_reading(conn, reading);
    }
    expect(&mut world, b"abc");
    client.write_all(b"d").expect("write");
    expect(&mut world, b"abcd");

    world.io().set_reading(conn, Reading::Once);
    client.write_all(b"e").expect("write");
    expect(&mut world, b"abcde");
    assert!(world.counters().cancels > 0);
    client.shutdown(Shutdown::Write).expect("shutdown");
    world.settle();
    world.io().set_reading(conn, Reading::On);
    assert_eq!(world.until("end", |world| world.ended(conn)), Ended::Eof);
    world.io().set_reading(conn, Reading::Once);
    world.settle();
}

#[test]
fn a_handler_over_its_budget_loses_nothing() {
    let (mut world, address) = World::listening(buffers(16, 256));
    // Every piece over budget: one read at a time, asked for from within the event.
    world.recorder.on_received = Some(|io, conn| io.set_reading(conn, Reading::Once));
    let (mut client, conn) = world.client(address);
    let all = pattern(100_000);
    let writer = {
        let all = all.clone();
        std::thread::spawn(move || client.write_all(&all).map(|()| client))
    };
    world.until("all bytes", |world| (world.received(conn) == all).then_some(()));
    drop(writer.join().expect("writer").expect("write"));
    assert_eq!(world.until("end", |world| world.ended(conn)), Ended::Eof);
}

#[test]
fn closed_from_within_received() {
    let (mut world, address) = World::listening(buffers(8, 16));
    world.recorder.on_received = Some(|io, conn| io.close(conn, Closing::Now));
    for _ in 0..20 {
        let (mut client, conn) = world.client(address);
        let _ = client.write_all(&pattern(1000));
        world.until("bytes", |world| (!world.received(conn).is_empty()).then_some(()));
        world.settle();
        assert_eq!(world.received(conn).len(), 16, "nothing after the close");
        assert_eq!(world.ended(conn), None);
    }
}

#[test]
fn a_name_outlives_its_connection_and_does_nothing() {
    let (mut world, address) = World::listening(buffers(8, 4096));
    let (first_client, first) = world.client(address);
    drop(first_client);
    world.until("end", |world| world.ended(first));
    world.io().close(first, Closing::Now);
    world.io().close(first, Closing::Linger);
    world.settle();
    let (mut client, second) = world.client(address);
    assert_eq!(second.index, first.index);
    assert_ne!(second.generation, first.generation);

    world.io().set_reading(first, Reading::Off);
    world.io().close(first, Closing::Now);
    world.io().send(first, b"lost".to_vec());
    let sent = world.until("the refused send", |world| world.sent(first));
    assert_eq!(sent, (b"lost".to_vec(), Err(libc::ENOTCONN)));
    client.write_all(b"alive").expect("write");
    world.until("bytes", |world| (world.received(second) == b"alive").then_some(()));
}

#[test]
fn a_reset_is_an_error_not_an_end() {
    let (mut world, address) = World::listening(buffers(8, 4096));
    let (client, conn) = world.client(address);
    reset(client);
    assert_eq!(world.until("end", |world| world.ended(conn)), Ended::Errno(libc::ECONNRESET));
    world.io().send(conn, b"too late".to_vec());
    let (bytes, result) = world.until("sent", |world| world.sent(conn));
    assert_eq!(bytes, b"too late");
    assert!(result.is_err());
    world.io().close(conn, Closing::Linger);
    world.settle();
    let (_client, next) = world.client(address);
    assert_eq!(next.index, conn.index, "the slot was freed");
}

/// Closes with a reset.
fn reset(client: TcpStream) {
    let socket = socket2::Socket::from(client);
    socket.set_linger(Some(std::time::Duration::ZERO)).expect("linger");
}

#[test]
fn a_lingering_close_delivers_the_last_reply_past_unread_input() {
    for reply in [10, STUCK_BYTES] {
        let (mut world, address) = World::listening(buffers(8, 4096));
        let (mut client, conn) = world.client(address);
        world.io().set_reading(conn, Reading::Off);
        world.settle();
        // Unread input: closing at once would reset the connection, and with it the reply.
        client.write_all(&pattern(100_000)).expect("write");
        world.io().send(conn, pattern(reply));
        world.io().close(conn, Closing::Linger);
        let reader = std::thread::spawn(move || {
            let mut back = Vec::new();
            client.read_to_end(&mut back).expect("no reset");
            drop(client);
            assert!(back == pattern(reply));
        });
        world.until("sent", |world| world.sent(conn)).1.expect("sent in full");
        while !reader.is_finished() {
            world.settle();
        }
        reader.join().expect("reader");
        world.settle();
        assert!(world.received(conn).is_empty() && world.ended(conn).is_none(), "nothing after the close");
        let (_client, next) = world.client(address);
        assert_eq!((next.index, next.generation != conn.generation), (conn.index, true), "the slot was freed");
        assert_eq!(world.counters().linger_cuts, 0);
    }
}

#[test]
fn a_lingering_close_is_bounded_in_time_and_bytes() {
    let (mut world, address) = World::listening(buffers(8, 16384));
    let (_silent, conn) = world.client(address);
    world.io().close(conn, Closing::Linger);
    world.until("cut for time", |world| (world.counters().linger_cuts == 1).then_some(()));

    let (mut chatty, conn) = world.client(address);
    world.io().close(conn, Closing::Linger);
    let writer = std::thread::spawn(move || chatty.write_all(&pattern(64 * LINGER_BYTES)).is_err());
    world.until("cut for bytes", |world| (world.counters().linger_cuts == 2).then_some(()));
    world.settle();
    assert!(writer.join().expect("writer"), "the peer is cut off");
}

#[test]
fn connects_succeed_fail_and_are_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let mut world = World::new(RingConfig { max_connections: 2, ..buffers(8, 4096) }, Vec::new());
    let conn = world.io().connect(&Address::Tcp(address)).expect("begun");
    world.io().send(conn, b"too early".to_vec());
    assert_eq!(world.until("connected", |world| world.connected(conn)), Ok(()));
    assert_eq!(world.sent(conn), Some((b"too early".to_vec(), Err(libc::ENOTCONN))));
    let (mut server, _) = listener.accept().expect("accept");
    server.write_all(b"hello").expect("write");
    world.until("bytes", |world| (world.received(conn) == b"hello").then_some(()));

    drop(listener);
    let refused = world.io().connect(&Address::Tcp(address)).expect("begun");
    let result = world.until("refused", |world| world.connected(refused));
    assert_eq!(result, Err(ConnectError::Errno(libc::ECONNREFUSED)));
    let missing = world.io().connect(&Address::Unix("/nonexistent/keyway".into())).expect("begun");
    assert_eq!(missing.index, refused.index, "a failed one is closed already");
    let result = world.until("missing", |world| world.connected(missing));
    assert_eq!(result, Err(ConnectError::Errno(libc::ENOENT)));
    let too_long = world.io().connect(&Address::Unix("x".repeat(200).into()));
    assert!(matches!(too_long, Err(ConnectError::Errno(_))));

    let second = world.io().connect(&Address::Tcp(address)).expect("begun");
    assert_eq!(world.io().connect(&Address::Tcp(address)), Err(ConnectError::OutOfDescriptors));
    world.io().close(second, Closing::Now);
    world.settle();
    assert_eq!(world.connected(second), None, "closed before it was told");
}

#[test]
fn a_connect_that_hangs_is_closed_at_once() {
    // A listener whose queue is full drops what comes, so a connect to it hangs.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().expect("an address").as_socket().expect("TCP");
    let mut world = World::new(buffers(8, 4096), Vec::new());
    let conns: Vec<_> = (0..8).map(|_| world.io().connect(&Address::Tcp(address)).expect("begun")).collect();
    world.settle();
    let hanging: Vec<_> = conns.iter().copied().filter(|&conn| world.connected(conn).is_none()).collect();
    assert!(!hanging.is_empty());
    hanging.iter().for_each(|&conn| world.io().close(conn, Closing::Now));
    world.settle();
    let again = world.io().connect(&Address::Tcp(address)).expect("begun");
    assert!(hanging.iter().any(|conn| conn.index == again.index), "their slots are free");
    assert!(hanging.iter().all(|&conn| world.connected(conn).is_none()));
}

#[test]
fn an_engine_dropped_with_everything_in_flight() {
    let (mut world, address) = World::listening(buffers(8, 4096));
    let (mut client, conn) = world.client(address);
    world.io().send(conn, pattern(STUCK_BYTES));
    let made = world.io().connect(&Address::Tcp(address)).expect("begun");
    world.until("connected", |world| world.connected(made)).expect("connected");
    let _hanging = world.io().connect(&Address::Tcp(address));
    drop(world);
    let mut sink = vec![0; 1 << 20];
    while client.read(&mut sink).is_ok_and(|len| len > 0) {}
}

#[test]
#[should_panic(expected = "one send is in flight")]
fn two_sends_at_once_are_the_cores_mistake() {
    let (mut world, address) = World::listening(buffers(8, 4096));
    let (_client, conn) = world.client(address);
    world.io().send(conn, pattern(STUCK_BYTES));
    world.io().send(conn, b"more".to_vec());
}
