//! An engine with a handler that writes down what it is told, driven turn by turn by the test's own thread.
#![allow(dead_code, unreachable_pub)]

use keyway_io_engine::ring::BufferConfig;
use keyway_io_engine::{
    Address, Batching, BatchingMode, Closing, Conn, ConnectError, Ended, EngineCounters, Handler, Io, Listener,
    ListenerId, RingConfig, RingEngine, RingIo, Wait,
};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What the engine told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Accepted(ListenerId, Conn),
    Connected(Conn, Result<(), ConnectError>),
    Received(Conn, Vec<u8>),
    Ended(Conn, Ended),
    Sent(Conn, Vec<u8>, Result<(), i32>),
    Doorbell,
}

/// Writes down, and with `echo` sends back.
#[derive(Default)]
pub struct Recorder {
    pub events: Vec<Event>,
    pub turns: usize,
    pub echo: bool,
    /// With `echo`: bytes that wait for the send in flight; present while one is.
    outputs: HashMap<Conn, Vec<u8>>,
    /// With `echo`: connections to close when that is sent.
    closing: Vec<Conn>,
    /// Called first in `received`.
    pub on_received: Option<fn(&mut RingIo, Conn)>,
}

impl Handler<RingIo> for Recorder {
    fn accepted(&mut self, _: &mut RingIo, listener: ListenerId, conn: Conn) {
        self.events.push(Event::Accepted(listener, conn));
    }

    fn connected(&mut self, _: &mut RingIo, conn: Conn, result: Result<(), ConnectError>) {
        self.events.push(Event::Connected(conn, result));
    }

    fn received(&mut self, io: &mut RingIo, conn: Conn, bytes: &[u8]) {
        if let Some(act) = self.on_received {
            act(io, conn);
        }
        if !self.echo {
            return self.events.push(Event::Received(conn, bytes.to_vec()));
        }
        match self.outputs.get_mut(&conn) {
            Some(waiting) => waiting.extend_from_slice(bytes),
            None => {
                self.outputs.insert(conn, Vec::new());
                io.send(conn, bytes.to_vec());
            }
        }
    }

    fn ended(&mut self, io: &mut RingIo, conn: Conn, ended: Ended) {
        self.events.push(Event::Ended(conn, ended));
        if self.echo {
            match self.outputs.contains_key(&conn) {
                true => self.closing.push(conn),
                false => io.close(conn, Closing::Linger),
            }
        }
    }

    fn sent(&mut self, io: &mut RingIo, conn: Conn, bytes: Vec<u8>, result: Result<(), i32>) {
        if !self.echo {
            return self.events.push(Event::Sent(conn, bytes, result));
        }
        let waiting = self.outputs.remove(&conn).expect("a send was in flight");
        if !waiting.is_empty() && result.is_ok() {
            self.outputs.insert(conn, Vec::new());
            io.send(conn, waiting);
        } else if self.closing.contains(&conn) {
            io.close(conn, Closing::Linger);
        }
    }

    fn doorbell(&mut self, _: &mut RingIo) {
        self.events.push(Event::Doorbell);
    }

    fn turn_ended(&mut self, _: &mut RingIo) {
        self.turns += 1;
    }
}

pub struct World {
    pub engine: RingEngine,
    pub recorder: Recorder,
}

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

impl World {
    pub fn new(config: RingConfig, listeners: Vec<Listener>) -> World {
        let off = Batching { mode: BatchingMode::Off, max_delay_us: 0 };
        let engine = RingEngine::new(config, listeners, off).expect("a ring");
        World { engine, recorder: Recorder::default() }
    }

    /// A world that listens on a free port of the loopback.
    pub fn listening(config: RingConfig) -> (World, SocketAddr) {
        let (listeners, address) = loopback(1);
        (World::new(config, listeners), address)
    }

    pub fn io(&mut self) -> &mut RingIo {
        self.engine.io()
    }

    pub fn counters(&mut self) -> EngineCounters {
        self.engine.io().counters()
    }

    pub fn events(&self) -> &[Event] {
        &self.recorder.events
    }

    /// One turn that waits for an event, at most as long as the patience.
    pub fn turn(&mut self) {
        let deadline = Some(self.engine.io().now() + PATIENCE.as_nanos() as u64);
        self.engine.turn(&mut self.recorder, Wait { deadline, immediate: false, in_flight: 0 }).expect("a turn");
    }

    /// Turns that don't wait: whatever is already there is told.
    pub fn settle(&mut self) {
        for _ in 0..8 {
            self.engine
                .turn(&mut self.recorder, Wait { deadline: None, immediate: true, in_flight: 0 })
                .expect("a turn");
        }
    }

    /// Turns until `done` finds what it looks for.
    pub fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut World) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = done(self) {
                return found;
            }
            let events = &self.recorder.events;
            assert!(start.elapsed() < PATIENCE, "no {what} in {} events: {:.2000?}", events.len(), brief(events));
            self.turn();
        }
    }

    /// Connects a client and turns until it is accepted.
    pub fn client(&mut self, address: SocketAddr) -> (TcpStream, Conn) {
        let known = self.accepted().len();
        let client = TcpStream::connect(address).expect("the listener's queue has room");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let conn = self.until("accept", |world| world.accepted().get(known).copied());
        (client, conn)
    }

    pub fn accepted(&self) -> Vec<Conn> {
        let accepted = |event: &Event| match event {
            Event::Accepted(_, conn) => Some(*conn),
            _ => None,
        };
        self.events().iter().filter_map(accepted).collect()
    }

    /// Everything received on `conn`.
    pub fn received(&self, conn: Conn) -> Vec<u8> {
        let mut all = Vec::new();
        for event in self.events() {
            if let Event::Received(from, bytes) = event
                && *from == conn
            {
                all.extend_from_slice(bytes);
            }
        }
        all
    }

    pub fn ended(&self, conn: Conn) -> Option<Ended> {
        self.events().iter().find_map(|event| match event {
            Event::Ended(of, ended) if *of == conn => Some(*ended),
            _ => None,
        })
    }

    /// How the first send on `conn` ended, and its bytes.
    pub fn sent(&self, conn: Conn) -> Option<(Vec<u8>, Result<(), i32>)> {
        self.events().iter().find_map(|event| match event {
            Event::Sent(of, bytes, result) if *of == conn => Some((bytes.clone(), *result)),
            _ => None,
        })
    }

    pub fn connected(&self, conn: Conn) -> Option<Result<(), ConnectError>> {
        self.events().iter().find_map(|event| match event {
            Event::Connected(of, result) if *of == conn => Some(*result),
            _ => None,
        })
    }
}

fn brief(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| format!("{event:?}").chars().take(80).collect()).collect()
}

/// Listeners on a free port of the loopback.
pub fn loopback(shards: usize) -> (Vec<Listener>, SocketAddr) {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let listeners = keyway_io_engine::bind(&Address::Tcp(any), shards, 1024).expect("a free port");
    let Address::Tcp(address) = *listeners[0].address() else { panic!("asked for TCP") };
    (listeners, address)
}

/// Few small buffers, for tests that have many engines or want to run out.
pub fn buffers(count: u16, bytes: u32) -> RingConfig {
    let group = BufferConfig { count, bytes };
    RingConfig {
        entries: 64,
        completion_entries: 256,
        client_buffers: group,
        upstream_buffers: group,
        ..RingConfig::default()
    }
}

/// Bytes that tell a shifted or repeated piece apart: a block of prime length, again and again.
pub fn pattern(len: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..len.min(65_521) as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut all = Vec::with_capacity(len);
    while all.len() < len {
        all.extend_from_slice(&block[..block.len().min(len - all.len())]);
    }
    all
}
