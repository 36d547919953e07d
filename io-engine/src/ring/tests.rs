//! What only shows from inside: a short send's rest, the window without the kernel's help, options set on sockets.

use super::*;
use crate::batching::BatchingMode;
use crate::io::{Address, Io};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Counts what it is told.
#[derive(Default)]
struct Count {
    accepted: Vec<Conn>,
    received: usize,
    sent: usize,
    turns: usize,
}

impl Handler<RingIo> for Count {
    fn accepted(&mut self, _: &mut RingIo, _: ListenerId, conn: Conn) {
        self.accepted.push(conn);
    }
    fn connected(&mut self, _: &mut RingIo, _: Conn, _: Result<(), ConnectError>) {}
    fn received(&mut self, _: &mut RingIo, _: Conn, bytes: &[u8]) {
        self.received += bytes.len();
    }
    fn ended(&mut self, _: &mut RingIo, _: Conn, _: Ended) {}
    fn sent(&mut self, _: &mut RingIo, _: Conn, _: Vec<u8>, result: Result<(), i32>) {
        assert_eq!(result, Ok(()));
        self.sent += 1;
    }
    fn doorbell(&mut self, _: &mut RingIo) {}
    fn turn_ended(&mut self, _: &mut RingIo) {
        self.turns += 1;
    }
}

const WAIT: Wait = Wait { deadline: None, immediate: false, in_flight: 0 };

fn engine(batching: Batching) -> (RingEngine, SocketAddr) {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let listeners = crate::listen::bind(&Address::Tcp(any), 1, 16).expect("a free port");
    let Address::Tcp(address) = *listeners[0].address() else { panic!("asked for TCP") };
    let buffers = BufferConfig { count: 8, bytes: 4096 };
    let config = RingConfig { client_buffers: buffers, upstream_buffers: buffers, ..RingConfig::default() };
    (RingEngine::new(config, listeners, batching).expect("a ring"), address)
}

const OFF: Batching = Batching { mode: BatchingMode::Off, max_delay_us: 0 };

#[test]
fn the_rest_of_a_short_send_is_sent() {
    // Tests have a small LARGEST_SEND, so one send takes several.
    let (mut engine, address) = engine(OFF);
    let mut client = TcpStream::connect(address).expect("connect");
    let mut count = Count::default();
    engine.turn(&mut count, WAIT).expect("a turn");
    let bytes: Vec<u8> = (0..issue::LARGEST_SEND * 3 + 5).map(|n| n as u8).collect();
    engine.io().send(count.accepted[0], bytes.clone());
    let reader = std::thread::spawn(move || {
        let mut back = vec![0; bytes.len()];
        client.read_exact(&mut back).expect("read");
        assert!(back == bytes);
    });
    while count.sent == 0 {
        engine.turn(&mut count, WAIT).expect("a turn");
    }
    reader.join().expect("reader");
    assert!(engine.io().counters().short_sends >= 3);
}

#[test]
fn a_window_without_the_kernels_help() {
    let (mut engine, address) = engine(Batching { mode: BatchingMode::Fixed { batch: 3 }, max_delay_us: 500 });
    engine.min_timeout = false;
    let mut count = Count::default();
    // Filled, and ended by the delay with some, and with none: then the first one ends the wait.
    let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).expect("connect")).collect();
    engine.turn(&mut count, WAIT).expect("a turn");
    assert_eq!(count.accepted.len(), 3);
    clients[0].write_all(b"x").expect("write");
    engine.turn(&mut count, WAIT).expect("a turn");
    assert_eq!(count.received, 1);
    let deadline = engine.io().now() + 2_000_000;
    engine.turn(&mut count, Wait { deadline: Some(deadline), ..WAIT }).expect("a turn");
    assert!(engine.io().now() >= deadline && count.received == 1);
    let writer = std::thread::spawn(move || clients[1].write_all(b"y").map(|()| clients));
    engine.turn(&mut count, WAIT).expect("a turn");
    assert_eq!(count.received, 2);
    writer.join().expect("writer").expect("write");
}

#[test]
fn sockets_send_at_once_and_block() {
    let (mut engine, address) = engine(OFF);
    let _client = TcpStream::connect(address).expect("connect");
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let made = engine.io().connect(&Address::Tcp(server.local_addr().expect("an address"))).expect("begun");
    let mut count = Count::default();
    while count.accepted.is_empty() {
        engine.turn(&mut count, WAIT).expect("a turn");
    }
    for conn in [made, count.accepted[0]] {
        let descriptor = engine.io().connections.at(conn.index).fd;
        // SAFETY: open, the engine's, and borrowed only here.
        let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let socket = socket2::SockRef::from(&socket);
        assert!(socket.tcp_nodelay().expect("an option"));
        assert!(!socket.nonblocking().expect("a flag"), "the ring answers EAGAIN on those");
        // SAFETY: asks for a flag of an open descriptor.
        assert_eq!(unsafe { libc::fcntl(descriptor, libc::F_GETFD) }, libc::FD_CLOEXEC);
    }
}

#[test]
fn a_config_out_of_bounds_is_refused_in_words() {
    let small = BufferConfig { count: 3, bytes: 1 };
    let empty = BufferConfig { count: 4, bytes: 0 };
    let configs = [
        RingConfig { client_buffers: small, ..RingConfig::default() },
        RingConfig { upstream_buffers: empty, ..RingConfig::default() },
        RingConfig { max_connections: 0, ..RingConfig::default() },
        RingConfig { completion_entries: 1, ..RingConfig::default() },
    ];
    for config in configs {
        let error = RingEngine::new(config, Vec::new(), OFF).err().expect("refused");
        assert!(matches!(error, SetupError::Invalid { .. }), "{error}");
    }
}
