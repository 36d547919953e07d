//! The seam between the pure core and an engine: what the core may ask for (`Io`) and what it is told (`Handler`).
//!
//! Invariants every engine keeps:
//! * a `Conn` names one connection for ever (index and generation); asking something of a closed one does nothing;
//! * bytes handed to `send` belong to the engine until `Handler::sent` gives them back, whatever happens to the connection;
//! * at most one send is in flight per connection (asserted), and it is finished in full or failed, never short;
//! * after `Handler::ended` no more `received` comes; after `close` nothing comes for that connection but the `sent` of
//!   a send that was in flight;
//! * no `Handler` method is called from inside an `Io` method.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Monotonic time in nanoseconds since the engine was made. Constant within a turn's events.
pub type Nanos = u64;

/// Names a connection: index into the engine's table, and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conn {
    /// Dense and reused; good for indexing a side table.
    pub index: u32,
    /// Tells apart the connections that used this index.
    pub generation: u32,
}

/// One of the engine's listeners, in the order they were given to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u16);

/// Where to connect to or listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A path in the file system.
    Unix(PathBuf),
}

/// Whether and how a connection is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As bytes come, until changed (multishot).
    On,
    /// One read, then as `Off`. For a connection that was over its budget.
    Once,
    /// Not at all. Bytes the kernel had already handed over still come.
    Off,
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// At once; a send in flight is cancelled.
    Now,
    /// After the send in flight: half-close, read and drop what still comes until the peer closes, bounded by
    /// `LINGER_NANOS` and `LINGER_BYTES`, so that the last reply isn't lost to a reset.
    Linger,
}

/// Which of the core's buffers a connection's bytes arrive in: no client can starve the shard of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferGroup {
    /// Accepted connections.
    Clients,
    /// Connections we made.
    Upstreams,
}

/// Why a connect failed. Reported by `Handler::connected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The kernel's errno (`ECONNREFUSED`, `EHOSTUNREACH`, ...).
    Errno(i32),
    /// Out of descriptors or of the engine's connection table.
    OutOfDescriptors,
}

/// Why a connection won't bring more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed its side in order. Sending may still work.
    Eof,
    /// The kernel's errno (`ECONNRESET`, ...).
    Errno(i32),
}

/// How long a lingering close reads on, in nanoseconds.
pub const LINGER_NANOS: Nanos = 1_000_000_000;
/// How much a lingering close reads and drops, in bytes.
pub const LINGER_BYTES: usize = 1 << 20;

/// What an engine counted since it was made. Only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounters {
    /// Calls of io_uring_enter: turns, and submissions in the middle of one.
    pub enters: u64,
    /// Submissions in the middle of a turn because the submission queue was full.
    pub submission_queue_full: u64,
    /// Waits ended early by a signal, or refused for the moment (EAGAIN, EBUSY).
    pub interrupted: u64,
    /// Completions taken.
    pub completions: u64,
    /// Times completions had overflowed the completion queue into the kernel's list. None is lost.
    pub cq_overflow: u64,
    /// Connections accepted or adopted.
    pub accepted: u64,
    /// Failed accepts (EMFILE and others).
    pub accept_errors: u64,
    /// Connections closed at once because the engine's table was full.
    pub accept_refused: u64,
    /// Connections begun.
    pub connects: u64,
    /// Reads that met an empty buffer group.
    pub enobufs: u64,
    /// Multishot reads and accepts that the kernel ended and that were armed again.
    pub rearms: u64,
    /// Reads and sends cancelled.
    pub cancels: u64,
    /// Sends asked for.
    pub sends: u64,
    /// Sends the kernel cut short; the rest was sent again.
    pub short_sends: u64,
    /// Lingering closes ended by their bound, not by the peer.
    pub linger_cuts: u64,
    /// Times the doorbell rang.
    pub doorbells: u64,
}

/// What the core may ask of an engine. Nothing here blocks.
pub trait Io {
    /// The time at which this turn's events were taken.
    fn now(&self) -> Nanos;

    /// Begins a connection; `Handler::connected` tells how it went, always in a later event. Reading is `On` once
    /// connected. No timeout: the core closes what takes too long (`Closing::Now`).
    fn connect(&mut self, address: &Address) -> Result<Conn, ConnectError>;

    /// Sends `bytes` (not empty). Panics when a send is in flight on `conn`. `Handler::sent` gives the vector back.
    /// On a connection that is gone it comes back too, as failed.
    fn send(&mut self, conn: Conn, bytes: Vec<u8>);

    /// Changes how `conn` is read. Accepted and connected ones start `On`.
    fn set_reading(&mut self, conn: Conn, reading: Reading);

    /// Closes `conn`. No more events come but the `sent` of a send in flight.
    fn close(&mut self, conn: Conn, closing: Closing);

    /// Stops accepting on all listeners (drain). Connections already made stay.
    fn stop_accepting(&mut self);

    /// The address of the peer of `conn`, where it is open and has one: a Unix socket's hasn't.
    fn peer_ip(&mut self, _conn: Conn) -> Option<IpAddr> {
        None
    }

    /// What was counted so far. An engine that counts nothing keeps this.
    fn counters(&self) -> EngineCounters {
        EngineCounters::default()
    }
}

/// What the core is told. Called by the engine's `turn`, in the order events happened, then `turn_ended` once.
pub trait Handler<I: Io> {
    /// A client came in.
    fn accepted(&mut self, io: &mut I, listener: ListenerId, conn: Conn);

    /// A connection begun with `Io::connect` is made, or failed (and is closed already).
    fn connected(&mut self, io: &mut I, conn: Conn, result: Result<(), ConnectError>);

    /// Bytes arrived. They are gone when this returns: consume or copy.
    fn received(&mut self, io: &mut I, conn: Conn, bytes: &[u8]);

    /// No more bytes will come. The connection stays until closed.
    fn ended(&mut self, io: &mut I, conn: Conn, ended: Ended);

    /// A send is over; `bytes` is the same vector, contents untouched. `Err` is the errno; the connection should be closed.
    fn sent(&mut self, io: &mut I, conn: Conn, bytes: Vec<u8>, result: Result<(), i32>);

    /// The doorbell rang: look into the mailbox.
    fn doorbell(&mut self, io: &mut I);

    /// All events of this turn were told: send what was produced, act on deadlines.
    fn turn_ended(&mut self, io: &mut I);
}

/// How long a turn may wait for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Latest time to return at, in the engine's `Nanos`; `None` waits for an event.
    pub deadline: Option<Nanos>,
    /// True when the core has work left over from this turn: submit, take what is there, don't wait.
    pub immediate: bool,
    /// Requests on their way upstream now: what the batching window is sized by.
    pub in_flight: usize,
}
