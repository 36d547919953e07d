//! The embedded servers: small memcacheds inside this process, on loopback, for trying Keyway out with no other server.
//!
//! Owns: their thread, their listening sockets, their stores. The router reaches them as it reaches any server, by the
//! loopback address; nothing is shared with a shard. They answer as memcached 1.6 does, text protocol only, and keep
//! nothing across a restart. Never for production: one thread, no statistics beyond the general ones.
//!
//! Invariant: a server's items, table included, take no more than `memory_bytes`; see `store`.

mod answer;
mod serve;
mod store;

use keyway_io_engine::{
    Address, Batching, BatchingMode, BindError, EngineError, Listener, RingConfig, RingEngine, Sender, SetupError,
    Wait, bind, mailbox, ring,
};
use serve::Sessions;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::UNIX_EPOCH;

/// Most embedded servers of one process: each is a listener of the same ring.
pub const SERVERS_MAX: usize = 64;

const BACKLOG: i32 = 128;
/// Small: this ring has one thread's few connections to serve, beside the shards' rings.
const BUFFERS: ring::BufferConfig = ring::BufferConfig { count: 64, bytes: 16 << 10 };
const NO_BUFFERS: ring::BufferConfig = ring::BufferConfig { count: 1, bytes: 4 << 10 };
const CONNECTIONS_MAX: u32 = 4096 + 64;

/// The servers that run. They end when this is dropped.
#[derive(Debug)]
pub struct Embedded {
    addresses: Vec<(String, SocketAddr)>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why the embedded servers can't run.
#[derive(Debug)]
pub enum EmbeddedError {
    /// More than `SERVERS_MAX` names.
    TooMany(usize),
    /// The same name twice.
    Twice(String),
    /// No loopback port.
    Bind(BindError),
    /// No ring.
    Setup(SetupError),
    /// No thread or no descriptors.
    Io(io::Error),
}

impl fmt::Display for EmbeddedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("embedded servers: ")?;
        match self {
            EmbeddedError::TooMany(count) => write!(f, "{count} of them; at most {SERVERS_MAX} are possible"),
            EmbeddedError::Twice(name) => write!(f, "{name:?} is there twice"),
            EmbeddedError::Bind(error) => error.fmt(f),
            EmbeddedError::Setup(error) => error.fmt(f),
            EmbeddedError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EmbeddedError {}

impl Embedded {
    /// Where each server listens, in the order of the names.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Where the server of that name listens.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.iter().find(|(its, _)| its == name).map(|(_, address)| *address)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.ring();
        }
        if let Some(thread) = self.thread.take() {
            // A panic of that thread was printed there and ends nothing here.
            let _ = thread.join();
        }
    }
}

/// Starts one server per name, each with a store of `memory_bytes` (1 MiB at least), all on one thread.
pub fn start(names: &[String], memory_bytes: u64) -> Result<Embedded, EmbeddedError> {
    if names.len() > SERVERS_MAX {
        return Err(EmbeddedError::TooMany(names.len()));
    }
    if let Some((_, name)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(EmbeddedError::Twice(name.clone()));
    }
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for name in names {
        let any_port = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        for listener in bind(&any_port, 1, BACKLOG).map_err(EmbeddedError::Bind)? {
            if let Address::Tcp(address) = listener.address() {
                addresses.push((name.clone(), *address));
            }
            listeners.push(listener);
        }
    }
    let memory_bytes = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
    let (stop, receiver) = mailbox::<()>().map_err(EmbeddedError::Io)?;
    let (ready, is_ready) = mpsc::sync_channel(1);
    let config = RingConfig {
        entries: 256,
        completion_entries: 1024,
        client_buffers: BUFFERS,
        upstream_buffers: NO_BUFFERS,
        max_connections: CONNECTIONS_MAX,
        kept_for_upstreams: 0,
        doorbell: Some(receiver.doorbell()),
    };
    let run = move || run(config, listeners, memory_bytes, &ready);
    let thread = thread::Builder::new().name("embedded".to_owned()).spawn(run).map_err(EmbeddedError::Io)?;
    let embedded = Embedded { addresses, stop: Some(stop), thread: Some(thread) };
    match is_ready.recv() {
        Ok(Ok(())) => Ok(embedded),
        Ok(Err(error)) => Err(EmbeddedError::Setup(error)),
        Err(_) => Err(EmbeddedError::Io(io::Error::other("their thread ended"))),
    }
}

/// The thread: the ring is made on it and stays there.
fn run(
    config: RingConfig,
    listeners: Vec<Listener>,
    memory_bytes: usize,
    ready: &mpsc::SyncSender<Result<(), SetupError>>,
) {
    let servers = listeners.len();
    let batching = Batching { mode: BatchingMode::Off, max_delay_us: 0 };
    let mut engine = match RingEngine::new(config, listeners, batching) {
        Ok(engine) => engine,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let started_at = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let mut sessions = Sessions::new(servers, memory_bytes, started_at);
    let _ = ready.send(Ok(()));
    while !sessions.stopped {
        let wait = Wait { deadline: None, immediate: false, in_flight: 0 };
        match engine.turn(&mut sessions, wait) {
            Ok(()) => {}
            Err(EngineError::Enter(errno)) => {
                log::error!("embedded servers end: io_uring_enter: {}", io::Error::from_raw_os_error(errno));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
