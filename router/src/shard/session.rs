//! A client's session: the bytes not parsed yet, the requests that wait for an answer in order, the bytes to send.
//!
//! Invariant: replies leave in the order of the session's request list, whatever order they become known in.

use super::input::Input;
use super::request::RequestId;
use super::slab::{Id, Recycle};
use crate::metrics::CloseReason;
use keyway_io_engine::{Conn, Nanos};
use keyway_protocol::memcached::text::RequestParser;

pub(crate) type SessionId = Id<Session>;

/// How far a session is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Ending {
    /// It lives.
    #[default]
    No,
    /// Nothing new arrives (end of file, drain), but whole requests already read are still served.
    AfterInput,
    /// What is still unread or unparsed is dropped (quit, a refusal that loses step); what was asked is answered.
    AfterAnswers,
}

/// One client.
#[derive(Default)]
pub(crate) struct Session {
    /// Its connection; `None` only while the entry is free.
    pub(crate) conn: Option<Conn>,
    /// Which listener it came by: names its route tree.
    pub(crate) listener: u16,
    /// Counts sessions of this shard; picks the connection to each server, so that one client's requests to one
    /// server keep their order.
    pub(crate) number: u32,
    /// A hash of the client's address without its port; 0 where it has none.
    pub(crate) address_hash: u64,
    /// Bytes read and not consumed: a frame not whole yet, or input held back by a limit.
    pub(crate) pending: Input,
    /// The parser's place in `pending`; made at accept.
    pub(crate) parser: Option<RequestParser>,
    /// The oldest request without an answer.
    pub(crate) first: Option<RequestId>,
    /// The youngest one.
    pub(crate) last: Option<RequestId>,
    /// Requests in the list.
    pub(crate) waiting: usize,
    /// Requests in the list with an answer, which wait for older ones.
    pub(crate) answered_behind: usize,
    /// Reply bytes stored in the list behind an older request.
    pub(crate) held_bytes: usize,
    /// Reply bytes to be sent next.
    pub(crate) out: Vec<u8>,
    /// Bytes of the send in flight; zero when there is none.
    pub(crate) sending_bytes: usize,
    /// True while in the shard's list of sessions to flush.
    pub(crate) dirty: bool,
    /// True while in the shard's list of sessions with input left to parse.
    pub(crate) queued: bool,
    /// True while a limit keeps its input from being parsed.
    pub(crate) paused: bool,
    /// While paused: how many requests may still wait when it goes on.
    pub(crate) resumes_at: usize,
    /// What the engine was told last.
    pub(crate) reading_off: bool,
    /// Whether and how it ends.
    pub(crate) ending: Ending,
    /// Why it ends, for the metrics, where it isn't end of file.
    pub(crate) why: Option<CloseReason>,
    /// Moving average of the size of this client's replies, for admission: what is asked must also be held.
    pub(crate) reply_average: usize,
    /// What of the shard's `buffered_bytes` is this session's.
    pub(crate) charged_bytes: usize,
    /// When bytes last came.
    pub(crate) heard_at: Nanos,
}

impl Session {
    /// Reply bytes held for this client now.
    pub(crate) fn reply_bytes(&self) -> usize {
        self.out.len() + self.sending_bytes + self.held_bytes
    }

    /// Reply bytes that what it asked for is likely to take, on top of what is held.
    pub(crate) fn expected_bytes(&self) -> usize {
        self.reply_bytes() + self.waiting * self.reply_average
    }

    /// Learns the size of a reply.
    pub(crate) fn learn_reply_size(&mut self, bytes: usize) {
        self.reply_average = (self.reply_average * 7 + bytes) / 8;
    }
}

impl Recycle for Session {
    fn recycle(&mut self) {
        // An idle process should not hold what a burst of clients once needed: sessions give all memory back.
        *self = Session::default();
    }
}
