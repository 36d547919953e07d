//! A look at a shard from outside: how much it holds, and whether its books agree. For tests and for finding faults; nothing
//! on a request's path calls it.

use super::Shard;
use super::request::{Place, RequestId};
use super::session::SessionId;
use super::upstream::{Connection, Link};
use std::cmp::Reverse;
use std::collections::HashSet;

/// What a shard holds now. Between turns: inside one, some of it is on its way from one list to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Clients.
    pub sessions: usize,
    /// Clients that aren't read because of a limit.
    pub paused: usize,
    /// Requests in the slab, keys of multi-key gets included.
    pub requests: usize,
    /// Entries of all FIFOs.
    pub in_flight: usize,
    /// Those of them whose try was given up.
    pub tombstones: usize,
    /// Connections to servers that are made.
    pub connected: usize,
    /// Tables in use: one, and those that older requests are still on.
    pub tables: usize,
    /// Most requests that wait in one session.
    pub most_waiting: usize,
    /// Most reply bytes held for one session.
    pub most_reply_bytes: usize,
    /// Most input bytes held for one session.
    pub most_input_bytes: usize,
    /// The longest FIFO.
    pub most_in_flight: usize,
    /// Most request bytes queued on one connection.
    pub most_queued_bytes: usize,
    /// Bytes counted against the shard's budget.
    pub buffered_bytes: usize,
    /// Late replies dropped since the shard was made, each belonging to a try that had been given up.
    pub late_replies: u64,
    /// Reads asked once more since the shard was made, because a connection was lost with them.
    pub repeats: u64,
}

impl Shard {
    /// Counts what is there, and panics when the books disagree.
    pub fn inspect(&self) -> Inspection {
        let mut seen = Inspection {
            sessions: self.sessions.len(),
            requests: self.requests.len(),
            in_flight: self.in_flight,
            tables: self.tables.iter().flatten().count(),
            buffered_bytes: self.buffered_bytes,
            late_replies: self.late_replies,
            repeats: self.repeats,
            ..Inspection::default()
        };
        let open = self.inspect_connections(&mut seen);
        let mut charged_bytes = self.inspect_requests(&open);
        for index in 0..self.sessions.capacity() {
            if let Some(id) = self.sessions.id_at(index) {
                self.inspect_session(id, &mut seen);
                charged_bytes += self.sessions[id].charged_bytes;
            }
        }
        assert_eq!(charged_bytes, self.buffered_bytes, "what is counted against the budget is there");
        assert!(self.dirty_sessions.is_empty(), "a session was left to be flushed");
        assert!(self.actions.is_empty(), "an action was left to be carried out");
        seen
    }

    /// The tries under way.
    fn inspect_connections(&self, seen: &mut Inspection) -> HashSet<(u64, u16)> {
        let mut open = HashSet::new();
        let mut in_flight = 0;
        for connection in &self.connections {
            let Connection { fifo, out, unsent, tombstones, .. } = connection;
            in_flight += fifo.len();
            seen.tombstones += tombstones;
            seen.most_in_flight = seen.most_in_flight.max(fifo.len());
            seen.most_queued_bytes = seen.most_queued_bytes.max(out.len() + connection.sending_bytes);
            seen.connected += usize::from(matches!(connection.link, Link::Up { .. }));
            assert!(
                *unsent <= fifo.len() && (*unsent == 0) == out.is_empty(),
                "unsent bytes have entries: {connection:?}"
            );
            for (at, entry) in fifo.iter().enumerate() {
                assert_eq!(entry.request == RequestId::NONE, at < *tombstones, "tombstones lie at the head");
                open.insert((entry.request.to_bits(), entry.try_id.0));
            }
        }
        for range in &self.free_connections {
            assert!(
                self.connections[range.clone()].iter().all(|free| free.fifo.is_empty()),
                "a free connection is empty"
            );
        }
        assert_eq!(in_flight, self.in_flight, "what is in flight lies in a FIFO");
        open
    }

    /// What their frames take of the budget. Panics over one whose time is up, or that nobody will look at in time.
    fn inspect_requests(&self, open: &HashSet<(u64, u16)>) -> usize {
        let mut frame_bytes = 0;
        let wait = self.wait();
        let wakes_at = if wait.immediate { Some(self.now) } else { wait.deadline };
        let live: usize = self.tables.iter().flatten().map(|state| state.live).sum();
        assert_eq!(live, self.requests.len(), "every request is on a table");
        for index in 0..self.requests.capacity() {
            let Some(id) = self.requests.id_at(index) else { continue };
            let request = &self.requests[id];
            frame_bytes += request.counted_bytes;
            assert_ne!(request.place, Place::Free, "a request in use has a place");
            if !request.done && request.late().children == 0 {
                let waits = request.tries.iter().all(|try_id| open.contains(&(id.to_bits(), try_id.0)));
                let sleeps = self.wakes.iter().any(|Reverse((_, sleeper, _))| *sleeper == id.to_bits());
                let spools = self.spooling.iter().any(|(_, spooler, _)| *spooler == id);
                let sent = waits && !request.tries.is_empty();
                assert!(sent || sleeps || spools, "a request waits for nothing that could come");
                assert!(!sent || request.deadline > self.now, "a request whose time is up");
                assert!(
                    !sent || wakes_at.is_some_and(|at| at <= request.deadline),
                    "nobody will look at a request in time"
                );
            }
        }
        frame_bytes
    }

    fn inspect_session(&self, id: SessionId, seen: &mut Inspection) {
        let session = &self.sessions[id];
        let (mut waiting, mut held_bytes, mut last) = (0, 0, None);
        let mut next = session.first;
        while let Some(request) = next {
            waiting += 1;
            held_bytes += self.requests[request].late().reply.len();
            last = next;
            next = self.requests[request].next;
        }
        assert_eq!(
            (waiting, held_bytes, last),
            (session.waiting, session.held_bytes, session.last),
            "a session's list"
        );
        assert!(!session.dirty, "a session was forgotten");
        assert!(session.first.is_none_or(|first| !self.requests[first].done), "an answered request leaves at once");
        seen.paused += usize::from(session.paused);
        seen.most_waiting = seen.most_waiting.max(waiting);
        seen.most_reply_bytes = seen.most_reply_bytes.max(session.reply_bytes());
        seen.most_input_bytes = seen.most_input_bytes.max(session.pending.len());
    }
}
