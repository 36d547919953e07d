//! A request on its way: its place in the session, its plan, and what must be kept to try again or to answer late.
//!
//! A multi-key get is one parent in the session's order and one child per key, each with a plan of its own; children
//! bound for the same connection share a frame there.

use super::session::SessionId;
use super::slab::{Id, Recycle};
use keyway_io_engine::Nanos;
use keyway_policies::{Plan, TryId};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::ReplyKind;
use std::ops::Range;

pub(crate) type RequestId = Id<Request>;

/// Memory an entry keeps for its next tenant, per buffer, in bytes.
const KEPT_BYTES: usize = 4096;

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
}

/// A reply that may still become the answer.
pub(crate) struct KeptReply {
    pub(crate) try_id: TryId,
    pub(crate) kind: ReplyKind,
    pub(crate) bytes: Vec<u8>,
}

/// One request, or one key of one.
#[derive(Default)]
pub(crate) struct Request {
    pub(crate) place: Place,
    /// The next younger request of the session.
    pub(crate) next: Option<RequestId>,
    pub(crate) operation: Option<Operation>,
    /// The client wants no reply.
    pub(crate) noreply: bool,
    /// The answer is known and, where it has bytes, stored in `reply`.
    pub(crate) done: bool,
    /// The request was sent a second time to the same server after its connection was lost.
    pub(crate) repeated: bool,
    /// Where the session stands in the shard's connections: copied here for later tries.
    pub(crate) session_number: u32,
    /// Which of the shard's tables it is routed by, and which tree of it.
    pub(crate) table: usize,
    pub(crate) route: usize,
    pub(crate) started_at: Nanos,
    pub(crate) deadline: Nanos,
    pub(crate) plan: Plan,
    /// The frame as sent upstream, without noreply; empty when it wasn't kept.
    pub(crate) frame: Vec<u8>,
    /// True when `frame` is the whole frame, false when it is the key alone.
    pub(crate) frame_whole: bool,
    /// The key in `frame`.
    pub(crate) key: Range<usize>,
    /// The bytes of the answer while older requests come first; for a parent, the items gathered so far.
    pub(crate) reply: Vec<u8>,
    /// Replies that may still become the answer.
    pub(crate) kept: Vec<KeptReply>,
    /// Tries without an outcome yet.
    pub(crate) tries: Vec<TryId>,
    /// Tries queued so far.
    pub(crate) tries_made: u32,
    /// Of a parent: keys without an answer, plus one while keys are still being routed.
    pub(crate) children: usize,
    /// Of a parent: the error line that takes the place of END, when a key failed.
    pub(crate) error: Vec<u8>,
}

impl Request {
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
        for buffer in [&mut self.frame, &mut self.reply, &mut self.error] {
            buffer.clear();
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
        self.kept.clear();
        self.tries.clear();
        self.tries_made = 0;
        self.frame_whole = false;
        self.children = 0;
    }
}
