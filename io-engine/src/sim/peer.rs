//! The scripted side of a stream: what a fake server or client implements (`Peer`) and what it may do (`PeerOut`).
//!
//! One `Peer` is one connection. A server's state that outlives its connections is shared by the factory given to
//! `SimNet::server` (an `Rc<RefCell<_>>`).

use super::prng::Prng;
use crate::Nanos;
use std::any::Any;

/// Names a peer of a net.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub(super) usize);

/// Why a peer's stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEnd {
    /// The other side closed in order.
    Eof,
    /// The other side, or something between the two, reset the stream.
    Reset,
    /// A client's connect failed.
    Refused,
    /// A drawn fault: this peer itself hung up or reset the stream.
    Fault,
}

/// How a peer reads. What it doesn't read fills the window, then the sender's sends stay in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerReading {
    /// As bytes come.
    On,
    /// So many bytes, then not at all.
    UpTo(usize),
    /// Not at all. An end of the stream isn't noticed either, a reset is.
    Off,
}

/// A scripted peer. It is told one thing at a time and answers through `PeerOut`.
pub trait Peer: Any {
    /// The stream is there.
    fn on_connect(&mut self, out: &mut PeerOut) {
        let _ = out;
    }

    /// Bytes arrived.
    fn on_bytes(&mut self, bytes: &[u8], out: &mut PeerOut);

    /// The stream is over. After `Eof` what was already sent still leaves, then this side closes too (but see
    /// `PeerOut::stay_open`). Not called for the peer's own `close` and `reset`.
    fn on_close(&mut self, end: PeerEnd, out: &mut PeerOut) {
        let _ = (end, out);
    }

    /// A time asked for by `PeerOut::tick_in` has come.
    fn on_tick(&mut self, out: &mut PeerOut) {
        let _ = out;
    }
}

/// What a peer wants done. Done in order, after the peer's method returned.
pub struct PeerOut {
    pub(super) now: Nanos,
    pub(super) prng: Prng,
    pub(super) acts: Vec<Act>,
}

pub(super) enum Act {
    Send { not_before: Nanos, bytes: Vec<u8> },
    Finish,
    Close,
    Reset,
    Tick { at: Nanos },
    Read(PeerReading),
    StayOpen,
    Done,
    Reconnect { at: Nanos },
}

impl PeerOut {
    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// This peer's own chance, drawn from the seed.
    pub fn prng(&mut self) -> &mut Prng {
        &mut self.prng
    }

    /// Sends, after all that was sent before. Nothing happens without a stream.
    pub fn send(&mut self, bytes: &[u8]) {
        self.send_in(0, bytes);
    }

    /// Sends, not before `nanos` from now; what is sent after it waits for it.
    pub fn send_in(&mut self, nanos: Nanos, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.acts.push(Act::Send { not_before: self.now.saturating_add(nanos), bytes: bytes.to_vec() });
        }
    }

    /// Closes the sending side once all is sent, and reads on.
    pub fn finish(&mut self) {
        self.acts.push(Act::Finish);
    }

    /// Closes once all is sent, and reads no more.
    pub fn close(&mut self) {
        self.acts.push(Act::Close);
    }

    /// Resets the stream at once.
    pub fn reset(&mut self) {
        self.acts.push(Act::Reset);
    }

    /// Asks for `on_tick` in `nanos` from now.
    pub fn tick_in(&mut self, nanos: Nanos) {
        self.acts.push(Act::Tick { at: self.now.saturating_add(nanos) });
    }

    /// Changes how this peer reads. `On` at first.
    pub fn read(&mut self, reading: PeerReading) {
        self.acts.push(Act::Read(reading));
    }

    /// In `on_close(Eof)`: keep this side open until `close`.
    pub fn stay_open(&mut self) {
        self.acts.push(Act::StayOpen);
    }

    /// This client has seen all it wanted (`SimNet::run_clients`). One whose stream is over is done too.
    pub fn done(&mut self) {
        self.acts.push(Act::Done);
    }

    /// Clients only: leaves the stream there may be and connects again in `nanos` from now.
    pub fn reconnect_in(&mut self, nanos: Nanos) {
        self.acts.push(Act::Reconnect { at: self.now.saturating_add(nanos) });
    }
}
