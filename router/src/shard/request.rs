//! A request on its way: its place in the session, its plan, and what must be kept to try again or to answer late.
//!
//! A multi-key get is one parent in the session's order and one child per key, each with a plan of its own; children
//! bound for the same connection share a frame there.

use super::buffers::SMALL_BYTES;
use super::session::SessionId;
use super::slab::{Id, Recycle};
use keyway_io_engine::Nanos;
use keyway_policies::{Plan, TryId};
use keyway_protocol::Operation;
use smallvec::SmallVec;
use std::ops::Range;

pub(crate) type RequestId = Id<Request>;

/// Where the answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Place {
    /// The entry is free.
    #[default]
    Free,
    /// In a session's order.
    Session(SessionId),
    /// One key of a multi-key get.
    Child(RequestId),
    /// Nowhere any more: it was answered, or its client is gone, and its plan goes on for its effect.
    Detached,
}

/// What only requests need that wait behind others or have several keys. Apart from the rest, so that the
/// others never touch its memory.
#[derive(Default)]
pub(crate) struct Late {
    /// The bytes of the answer while older requests come first; for a parent, the items gathered so far.
    pub(crate) reply: Vec<u8>,
    /// Of a parent: keys without an answer, plus one while keys are still being routed.
    pub(crate) children: usize,
    /// Of a parent: bytes of the items it was given so far.
    pub(crate) gathered_bytes: usize,
    /// Of a parent: the error line that takes the place of END, when a key failed.
    pub(crate) error: Vec<u8>,
}

/// One request, or one key of one. In the order of use: what every reply looks at lies together.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Request {
    pub(crate) place: Place,
    /// The next younger request of the session.
    pub(crate) next: Option<RequestId>,
    pub(crate) operation: Option<Operation>,
    /// The client wants no reply.
    pub(crate) noreply: bool,
    /// The answer is known and, where it has bytes, stored in `late`.
    pub(crate) done: bool,
    /// The request was sent a second time to the same server after its connection was lost.
    pub(crate) repeated: bool,
    /// True when `frame` is the whole frame, false when it is the key alone.
    pub(crate) frame_whole: bool,
    /// `late` isn't as a fresh entry has it.
    late_used: bool,
    /// Where the session stands in the shard's connections: copied here for later tries.
    pub(crate) session_number: u32,
    /// Tries queued so far.
    pub(crate) tries_made: u32,
    pub(crate) started_at: Nanos,
    /// Which of the shard's tables it is routed by, and which tree of it.
    pub(crate) table: u32,
    pub(crate) route: u32,
    pub(crate) plan: Plan,
    /// Tries without an outcome yet.
    pub(crate) tries: SmallVec<[TryId; 4]>,
    /// The frame as sent upstream, without noreply; empty when it wasn't kept.
    pub(crate) frame: Vec<u8>,
    /// The key in `frame`.
    pub(crate) key: Range<usize>,
    pub(crate) deadline: Nanos,
    /// A hash of the client's address.
    pub(crate) client_hash: u64,
    /// What of the shard's `buffered_bytes` is this request's.
    pub(crate) counted_bytes: usize,
    /// What few requests need.
    late: Late,
}

impl Request {
    /// What few requests need, as it is now.
    pub(crate) fn late(&self) -> &Late {
        &self.late
    }

    /// The same, to be changed: it is cleaned up when the entry is freed.
    pub(crate) fn late_mut(&mut self) -> &mut Late {
        self.late_used = true;
        &mut self.late
    }

    /// True when `late` may hold something.
    pub(crate) fn late_used(&self) -> bool {
        self.late_used
    }

    /// What is asked.
    pub(crate) fn operation(&self) -> Operation {
        self.operation.expect("an entry in use has an operation")
    }
}

impl Recycle for Request {
    fn recycle(&mut self) {
        self.place = Place::Free;
        self.next = None;
        self.operation = None;
        self.noreply = false;
        self.done = false;
        self.repeated = false;
        self.plan.clear();
        self.key = 0..0;
        recycle_buffer(&mut self.frame);
        self.frame_whole = false;
        self.tries.clear();
        self.tries_made = 0;
        self.counted_bytes = 0;
        if std::mem::take(&mut self.late_used) {
            recycle_buffer(&mut self.late.reply);
            recycle_buffer(&mut self.late.error);
            self.late.children = 0;
            self.late.gathered_bytes = 0;
        }
    }
}

fn recycle_buffer(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > SMALL_BYTES {
        *buffer = Vec::new();
    }
}
