//! Servers and this shard's connections to them: what is queued, what is in flight, and in which order.
//!
//! Owns: the FIFO of each connection. Invariants: replies belong to the FIFO's head; a timed-out entry stays in the FIFO
//! as a tombstone until its late reply has been dropped; the last `unsent` entries are those whose bytes are still in
//! `out`, so that losing the connection loses nothing that was never sent.

use super::input::Input;
use super::record::Record;
use super::request::RequestId;
use crate::table::TablePool;
use crate::trouble::{DownRules, Trouble};
use keyway_io_engine::{Address, Conn, Nanos};
use keyway_policies::TryId;
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{Expect, Limits, ReplyParser};
use std::collections::VecDeque;

/// Longest line of a get that several keys share, in bytes. memcached takes longer ones for get and gets alone.
pub(crate) const SHARED_LINE_BYTES: usize = 2000;

/// First delay before connecting again, in nanoseconds; doubles up to the longest.
const FIRST_BACKOFF: Nanos = 10_000_000;
/// Longest delay before connecting again, in nanoseconds.
const LONGEST_BACKOFF: Nanos = 1_000_000_000;

/// One try on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub(crate) request: RequestId,
    pub(crate) try_id: TryId,
    pub(crate) operation: Operation,
    /// The shape of its reply.
    pub(crate) expect: Expect,
    pub(crate) queued_at: Nanos,
    pub(crate) expires_at: Nanos,
    /// Of its key, where several may share a reply: tells which item is whose when the request is gone.
    pub(crate) key_hash: u32,
    /// Its frame goes on with the key of the next entry (several keys of one get).
    pub(crate) shares_next: bool,
    /// Its part of a reply that several keys share was handed on already.
    pub(crate) delivered: bool,
}

/// FNV-1a in 32 bits: keys are short, and a collision only matters between a key and one whose request is gone.
pub(crate) fn hash_of_shared_key(key: &[u8]) -> u32 {
    key.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Not connected. May be again from this time on.
    Idle { not_before: Nanos },
    /// Being made; given up at `until`.
    Connecting { conn: Conn, until: Nanos },
    /// Ready.
    Up { conn: Conn },
}

/// One connection to one server.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Index into the shard's servers.
    pub(crate) server: usize,
    pub(crate) link: Link,
    /// Request bytes to be sent next.
    pub(crate) out: Vec<u8>,
    /// Bytes of the send in flight; zero when there is none.
    pub(crate) sending_bytes: usize,
    /// The largest frame queued since nothing was.
    largest_frame_bytes: usize,
    pub(crate) fifo: VecDeque<InFlight>,
    /// Entries at the FIFO's tail whose bytes are in `out`.
    pub(crate) unsent: usize,
    /// Tombstones at the FIFO's head.
    pub(crate) tombstones: usize,
    /// Of the reply at hand, shared by several keys: entries before this one are settled.
    pub(crate) shared_at: usize,
    /// Tries that timed out since the last reply.
    pub(crate) timeouts_in_row: u32,
    /// Reply bytes that are not a whole step yet.
    pub(crate) pending: Input,
    pub(crate) parser: ReplyParser,
    /// True while in the shard's list of connections to flush.
    pub(crate) dirty: bool,
    /// A child of this parent ends the bytes of `out`, and its line may take more keys.
    pub(crate) open_get: Option<OpenGet>,
    /// The next delay before connecting again.
    backoff: Nanos,
}

/// A get at the end of `out` that further keys of the same request may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenGet {
    pub(crate) parent: RequestId,
    pub(crate) line_bytes: usize,
}

impl Connection {
    pub(crate) fn new(server: usize, limits: Limits) -> Connection {
        Connection {
            server,
            link: Link::Idle { not_before: 0 },
            out: Vec::new(),
            sending_bytes: 0,
            largest_frame_bytes: 0,
            fifo: VecDeque::new(),
            unsent: 0,
            tombstones: 0,
            shared_at: 0,
            timeouts_in_row: 0,
            pending: Input::default(),
            parser: ReplyParser::new(limits),
            dirty: false,
            open_get: None,
            backoff: FIRST_BACKOFF,
        }
    }

    /// The engine's connection, made or being made.
    pub(crate) fn conn(&self) -> Option<Conn> {
        match self.link {
            Link::Idle { .. } => None,
            Link::Connecting { conn, .. } | Link::Up { conn } => Some(conn),
        }
    }

    /// Request bytes that the server has not taken in.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.out.len() + self.sending_bytes
    }

    /// True when a frame may be queued; it then must be. The largest one isn't counted: one client's large value would
    /// fail everybody's requests, its own next one included, until the server has taken it in. So what is queued is at
    /// most `limit` and one frame.
    pub(crate) fn has_room_for(&mut self, frame_bytes: usize, limit: usize) -> bool {
        let queued = self.queued_bytes();
        let largest = if queued == 0 { frame_bytes } else { self.largest_frame_bytes.max(frame_bytes) };
        // Where the largest has left already, what is behind it may be less.
        if (queued + frame_bytes).saturating_sub(largest) > limit {
            return false;
        }
        self.largest_frame_bytes = largest;
        true
    }

    /// When this connection next needs attention without an event.
    pub(crate) fn next_deadline(&self) -> Option<Nanos> {
        let head = self.fifo.get(self.tombstones).map(|entry| entry.expires_at);
        let link = match self.link {
            Link::Connecting { until, .. } => Some(until),
            Link::Idle { not_before } if !self.out.is_empty() => Some(not_before),
            Link::Idle { .. } | Link::Up { .. } => None,
        };
        match (head, link) {
            (Some(head), Some(link)) => Some(head.min(link)),
            (either, None) | (None, either) => either,
        }
    }

    /// Forgets the link after a loss or a failed connect; the next one may be made after a delay that doubles each time,
    /// shortened at random by up to half so that shards and routers don't return in step. `random` is any 64 bits.
    pub(crate) fn back_off(&mut self, now: Nanos, random: u64) {
        let delay = self.backoff - random % (self.backoff / 2);
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        self.link = Link::Idle { not_before: now + delay };
    }

    /// The server answered: the next loss starts from the shortest delay.
    pub(crate) fn reset_backoff(&mut self) {
        self.backoff = FIRST_BACKOFF;
    }
}

/// One server as this shard sees it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) pool: TablePool,
    /// Where it is, once resolved.
    pub(crate) address: Option<Address>,
    /// What the control plane says, or `false` since this shard suspected it.
    pub(crate) healthy: bool,
    /// True when requests may be queued for it: healthy, or asked all the same by a pool that fails open.
    pub(crate) up: bool,
    /// What took it out; `None` while it is healthy.
    pub(crate) trouble: Option<Trouble>,
    /// How many failures are too many, the strictest of the pools it is in.
    pub(crate) rules: DownRules,
    /// What it did of late.
    pub(crate) record: Record,
    /// Indices into the shard's connections.
    pub(crate) connections: std::ops::Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queues frames of these sizes on a queue of 100 bytes, all of it sent at each 0, and says which found room.
    fn check(frames: &[usize], expected: &[bool]) {
        let mut connection = Connection::new(0, Limits::default());
        let mut found = Vec::new();
        for bytes in frames.iter().copied() {
            if bytes == 0 {
                connection.out.clear();
                continue;
            }
            let room = connection.has_room_for(bytes, 100);
            found.push(room);
            if room {
                connection.out.resize(connection.out.len() + bytes, 0);
            }
        }
        assert_eq!(found, expected, "{frames:?}");
    }

    #[test]
    fn one_large_frame_leaves_the_queue_to_the_others() {
        check(&[60, 40, 60, 1], &[true, true, true, false]);
        check(&[5000, 60, 40, 1], &[true, true, true, false]);
        check(&[60, 40, 5000, 1], &[true, true, true, false]);
        check(&[5000, 5000], &[true, false]);
        check(&[5000, 0, 5000, 0, 60, 101, 1], &[true, true, true, true, true]);
        check(&[5000, 100, 0, 60, 100, 61], &[true, true, true, true, false]);
    }
}
