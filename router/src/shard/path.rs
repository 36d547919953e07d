//! The way of a request, top to bottom: parsed, routed, queued upstream; its reply matched, joined, delivered in order.
//!
//! Does no I/O: what it produces lies in `out` buffers that are flushed at the end of the turn.

use super::request::{KeptReply, Place, Request, RequestId};
use super::session::{Ending, SessionId};
use super::upstream::{InFlight, Link, OpenGet, SHARED_LINE_BYTES, hash_of_shared_key};
use super::{REQUESTS_PER_TURN, Shard};
use crate::metrics::{StatsSummary, VERSION_LINE, write_stats};
use keyway_policies::{Answer, Dispatch, Failure, HealthView, LocalReply, Outcome, RequestView, Step, TryId};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{self, AfterRefusal, Parsed, Reply, ReplyKind, RequestError};
use std::cmp::Reverse;
use std::collections::HashSet;
use std::ops::Range;

/// Frames kept up to this size, in bytes, are part of what a request takes anyway (see `config::memory`).
const UNCOUNTED_FRAME_BYTES: usize = 256;
/// The answer to a get with more than `keys_per_get`.
const TOO_MANY_KEYS: &[u8] = b"CLIENT_ERROR too many keys in one get\r\n";

/// A frame in two pieces: what lies before and behind a ` noreply` that isn't passed on.
#[derive(Clone, Copy)]
struct Frame<'a> {
    head: &'a [u8],
    tail: &'a [u8],
    key: (usize, usize),
    /// False when only the key was kept of it.
    whole: bool,
}

impl<'a> Frame<'a> {
    fn from_request(request: &text::Request<'a>) -> Frame<'a> {
        let (head, tail) = match request.is_noreply() {
            true => (&request.frame[..request.noreply.start], &request.frame[request.noreply.end..]),
            false => (request.frame, &[][..]),
        };
        Frame { head, tail, key: (request.key.start, request.key.end), whole: true }
    }

    fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    fn key(&self) -> &'a [u8] {
        &self.head[self.key.0..self.key.1]
    }
}

/// A reply at hand.
#[derive(Clone, Copy)]
struct Reported<'a> {
    try_id: TryId,
    kind: ReplyKind,
    bytes: &'a [u8],
}

/// What a request is answered with.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// The reply just reported.
    Bytes(ReplyKind, &'a [u8]),
    /// A reply kept earlier.
    Kept(TryId),
    /// The router's own words.
    Local(LocalReply),
}

// --- parse ---

impl Shard {
    /// Handles whole requests at the start of `input` as far as the limits allow; returns the bytes consumed.
    pub(super) fn consume(&mut self, id: SessionId, input: &[u8]) -> usize {
        let Some(mut parser) = self.sessions[id].parser.take() else { return input.len() };
        let mut at = 0;
        let mut budget = REQUESTS_PER_TURN;
        while at < input.len() && self.sessions[id].ending != Ending::AfterAnswers {
            if budget == 0 {
                self.queue_session(id);
                break;
            }
            if self.is_over_limits(id) {
                self.pause(id, self.limits.requests_per_client / 2);
                break;
            }
            self.queued_bytes = 0;
            match parser.parse(&input[at..]) {
                Parsed::NeedMore => break,
                Parsed::Skip(count) => at += count,
                Parsed::Request(request) => {
                    at += request.frame.len();
                    // A get of many keys is as many requests.
                    budget = budget.saturating_sub(request.key_count.max(1));
                    self.admit(id, &request);
                    // Its own answers go on with it. A client that waits for none isn't held up by others.
                    let waiting = self.sessions[id].waiting;
                    if self.queued_bytes > self.limits.queued_bytes_per_connection / 2 && waiting > 0 {
                        self.pause(id, waiting / 2);
                        break;
                    }
                }
                Parsed::Refused { error, consumed, noreply, after } => {
                    at += consumed;
                    budget -= 1;
                    self.refuse(id, error, noreply, after);
                }
            }
        }
        self.sessions[id].parser = Some(parser);
        at
    }

    /// Handles no more of a session's input until at most `waiting` of its requests wait.
    fn pause(&mut self, id: SessionId, waiting: usize) {
        let session = &mut self.sessions[id];
        session.paused = true;
        session.resumes_at = waiting;
    }

    fn refuse(&mut self, id: SessionId, error: RequestError, noreply: bool, after: AfterRefusal) {
        self.metrics.protocol_error(error);
        if !noreply {
            self.say(id, error.reply());
        }
        if after == AfterRefusal::Close {
            self.sessions[id].ending = Ending::AfterAnswers;
        }
    }

    /// Answers in the router's own words, in the place in the session's order that comes next.
    pub(super) fn say(&mut self, id: SessionId, words: &[u8]) {
        let request = self.append_request(id, None, false);
        self.deliver(request, words);
    }

    /// True when the client must wait for answers, or take the ones it has, before more of its input is handled.
    fn is_over_limits(&self, id: SessionId) -> bool {
        let session = &self.sessions[id];
        session.waiting >= self.limits.requests_per_client
            || session.expected_bytes() >= self.limits.reply_bytes_per_client
    }
}

// --- route ---

impl Shard {
    fn admit(&mut self, id: SessionId, request: &text::Request<'_>) {
        self.turn_requests += 1;
        if request.operation == Operation::Quit {
            self.sessions[id].ending = Ending::AfterAnswers;
            return;
        }
        if request.key_count > self.limits.keys_per_get {
            return self.say(id, TOO_MANY_KEYS);
        }
        if request.key_count > 1 {
            return self.admit_keys(id, request);
        }
        let request_id = self.append_request(id, Some(request.operation), request.is_noreply());
        self.begin(request_id, Frame::from_request(request));
    }

    /// A get of several keys: each key is routed on its own.
    fn admit_keys(&mut self, id: SessionId, request: &text::Request<'_>) {
        let parent = self.append_request(id, Some(request.operation), false);
        self.requests[parent].late_mut().children = 1;
        let mut frame = std::mem::take(&mut self.scratch);
        for key in request.keys_iter() {
            frame.clear();
            frame.extend_from_slice(request.operation.name().as_bytes());
            frame.push(b' ');
            if !request.exptime.is_empty() {
                frame.extend_from_slice(&request.frame[request.exptime.clone()]);
                frame.push(b' ');
            }
            let key_at = (frame.len(), frame.len() + key.len());
            frame.extend_from_slice(key);
            frame.extend_from_slice(b"\r\n");
            let child = self.take_request(Place::Child(parent), id, Some(request.operation));
            self.requests[parent].late_mut().children += 1;
            self.begin(child, Frame { head: &frame, tail: &[], key: key_at, whole: true });
        }
        self.scratch = frame;
        self.child_settled(parent);
    }

    /// Gives a request the next place in its session's order.
    fn append_request(&mut self, id: SessionId, operation: Option<Operation>, noreply: bool) -> RequestId {
        let request_id = self.take_request(Place::Session(id), id, operation);
        self.requests[request_id].noreply = noreply;
        let session = &mut self.sessions[id];
        session.waiting += 1;
        match session.last.replace(request_id) {
            Some(last) => self.requests[last].next = Some(request_id),
            None => session.first = Some(request_id),
        }
        request_id
    }

    fn take_request(&mut self, place: Place, session: SessionId, operation: Option<Operation>) -> RequestId {
        let id = self.requests.take();
        let session = &self.sessions[session];
        let state = self.tables[self.current].as_mut().expect("the current table is there");
        state.live += 1;
        let request = &mut self.requests[id];
        request.place = place;
        request.operation = operation;
        request.session_number = session.number;
        request.table = self.current as u32;
        request.route = state.table.listener_routes[usize::from(session.listener)] as u32;
        request.started_at = self.now;
        id
    }

    fn begin(&mut self, id: RequestId, frame: Frame<'_>) {
        let request = &mut self.requests[id];
        let operation = request.operation();
        let state = self.tables[request.table as usize].as_ref().expect("a table with live requests stays");
        let routes = &state.table.routes[request.route as usize].routes;
        let view = RequestView { operation, key: frame.key() };
        let step = routes.begin(&mut request.plan, view, HealthView(&state.health), &mut self.dispatches);
        // Reads are kept to check the reply's key against, and to ask again when a connection is lost.
        if operation.is_safe_to_repeat() || routes.may_dispatch_again(&request.plan) {
            let budget = self.limits.buffered_bytes.saturating_sub(self.buffered_bytes).max(UNCOUNTED_FRAME_BYTES);
            let most = self.limits.max_replay_bytes.min(budget);
            self.buffers.prepare(&mut request.frame, frame.len().min(most));
            request.keep_frame(frame.head, frame.tail, frame.key.0..frame.key.1, most);
            self.buffered_bytes += request.counted_frame_bytes();
        }
        self.settle(id, step, frame, None);
    }

    /// Carries out what the plan asked for, until it has decided or waits for replies. `current` is the try whose reply
    /// is at hand, with its bytes.
    fn settle(&mut self, id: RequestId, step: Step, frame: Frame<'_>, current: Option<Reported<'_>>) {
        let mut answer = match step {
            Step::Wait => None,
            Step::Answer(answer) => Some(answer),
        };
        let mut at = 0;
        while at < self.dispatches.len() {
            let dispatch = self.dispatches[at];
            at += 1;
            let Err(failure) = self.enqueue(id, dispatch, frame) else { continue };
            self.count_failure(id, dispatch, failure);
            if answer.is_some() {
                continue;
            }
            let (step, _) = self.resume(id, Some(frame.key()), dispatch.try_id, Outcome::Failure(failure));
            if let Step::Answer(decided) = step {
                answer = Some(decided);
            }
        }
        self.dispatches.clear();
        let Some(answer) = answer else { return };
        let source = match (answer, current) {
            (Answer::Local(local), _) => Source::Local(local),
            (Answer::Try(wanted), Some(reported)) if wanted == reported.try_id => {
                Source::Bytes(reported.kind, reported.bytes)
            }
            (Answer::Try(wanted), _) => Source::Kept(wanted),
        };
        self.answer(id, source, frame);
    }

    /// Reports an outcome to the plan. `key` is the request's where its frame was taken out, else the kept one is used.
    fn resume(&mut self, id: RequestId, key: Option<&[u8]>, try_id: TryId, outcome: Outcome) -> (Step, bool) {
        let request = &mut self.requests[id];
        let operation = request.operation();
        let state = self.tables[request.table as usize].as_ref().expect("a table with live requests stays");
        let routes = &state.table.routes[request.route as usize].routes;
        let key = match key {
            Some(key) => key,
            None => &request.frame[request.key.clone()],
        };
        let view = RequestView { operation, key };
        let before = self.dispatches.len();
        let health = HealthView(&state.health);
        let verdict = routes.resume(&mut request.plan, view, health, try_id, outcome, &mut self.dispatches);
        for _ in before..self.dispatches.len() {
            self.metrics.failover();
        }
        (verdict.step, verdict.keep)
    }

    fn count_failure(&mut self, id: RequestId, dispatch: Dispatch, failure: Failure) {
        let state = self.tables[self.requests[id].table as usize].as_ref().expect("a table with live requests stays");
        let key = state.table.servers[dispatch.server.0 as usize].key;
        self.metrics.upstream_failure(key.0 as usize, failure);
    }
}

// --- queue upstream ---

impl Shard {
    fn enqueue(&mut self, id: RequestId, dispatch: Dispatch, frame: Frame<'_>) -> Result<(), Failure> {
        let request = &mut self.requests[id];
        let state = self.tables[request.table as usize].as_ref().expect("a table with live requests stays");
        let place = &state.table.servers[dispatch.server.0 as usize];
        let server = self.servers[place.key.0 as usize].as_ref().ok_or(Failure::Unavailable)?;
        if !server.up || server.address.is_none() {
            return Err(Failure::Unavailable);
        }
        if request.tries_made == 0 {
            // Of the request's own table: a server outlives reloads that change its pool's deadline.
            request.deadline = self.now + state.table.pools[place.pool].deadline.as_nanos() as u64;
        } else if self.now >= request.deadline {
            return Err(Failure::DeadlineExceeded);
        }
        if !frame.whole {
            return Err(Failure::NotReplayable);
        }
        let connections = server.connections.len();
        // A division takes longer than the branch, and one connection is the default.
        let of_server = if connections == 1 { 0 } else { request.session_number as usize % connections };
        let index = server.connections.start + of_server;
        let expires_at = self.now + server.pool.timeout.as_nanos() as u64;
        let connection = &mut self.connections[index];
        if matches!(connection.link, Link::Idle { not_before } if self.now < not_before && connection.out.is_empty()) {
            return Err(Failure::Unavailable);
        }
        if connection.fifo.len() >= self.limits.requests_per_connection
            || !connection.has_room_for(frame.len(), self.limits.queued_bytes_per_connection)
        {
            return Err(Failure::QueueFull);
        }
        let parent = request.parent();
        connection.write_frame(frame.head, frame.tail, frame.key.0..frame.key.1, parent);
        connection.fifo.push_back(InFlight {
            request: id,
            try_id: dispatch.try_id,
            operation: request.operation(),
            queued_at: self.now,
            expires_at,
            key_hash: if parent.is_some() { hash_of_shared_key(frame.key()) } else { 0 },
            shares_next: false,
            delivered: false,
        });
        connection.unsent += 1;
        self.queued_bytes = self.queued_bytes.max(connection.queued_bytes());
        request.tries.push(dispatch.try_id);
        request.tries_made += 1;
        self.in_flight += 1;
        self.next_deadline = self.next_deadline.min(expires_at);
        if request.deadline < expires_at {
            self.late.push(Reverse((request.deadline, id.to_bits())));
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty_connections.push(index);
        }
        Ok(())
    }
}

impl Shard {
    /// Asks reads once more on the connection that was lost with them, unless that was done before; takes them out of
    /// `lost`. A client's requests keep their order: they go before what was never sent, which is younger, and a read is
    /// not repeated behind a younger write of its client that the server may have seen. The time for a try goes on.
    pub(super) fn ask_again(&mut self, index: usize, lost: &mut Vec<InFlight>) {
        let connection = &mut self.connections[index];
        if !self.servers[connection.server].as_ref().is_some_and(|server| server.up) {
            return;
        }
        let mut writers = HashSet::new();
        for entry in lost.iter().rev() {
            let Some(request) = self.requests.find_mut(entry.request) else { continue };
            if !entry.operation.is_safe_to_repeat() {
                writers.insert(request.session_number);
            } else if writers.contains(&request.session_number) {
                request.repeated = true;
            }
        }
        let younger = connection.fifo.len();
        let younger_bytes = std::mem::replace(&mut connection.out, self.buffers.take());
        lost.retain(|entry| {
            let Some(request) = self.requests.find_mut(entry.request) else { return true };
            let asked_before = std::mem::replace(&mut request.repeated, true);
            let is_over = request.done || entry.delivered;
            if is_over || asked_before || !request.frame_whole || !entry.operation.is_safe_to_repeat() {
                return true;
            }
            connection.write_frame(&request.frame, &[], request.key.clone(), request.parent());
            connection.fifo.push_back(InFlight { shares_next: false, ..*entry });
            false
        });
        let again = connection.fifo.len() - younger;
        connection.fifo.rotate_left(younger);
        connection.out.extend_from_slice(&younger_bytes);
        connection.open_get = None;
        connection.unsent += again;
        self.in_flight += again;
        self.repeats += again as u64;
        self.buffers.give(younger_bytes);
    }
}

impl super::upstream::Connection {
    /// Adds a frame to what is sent next. A single-key get of the same parent as the one before joins its line.
    fn write_frame(&mut self, head: &[u8], tail: &[u8], key: Range<usize>, parent: Option<RequestId>) {
        if let (Some(parent), Some(open)) = (parent, self.open_get) {
            let line_bytes = open.line_bytes + 1 + key.len();
            if open.parent == parent && line_bytes <= SHARED_LINE_BYTES && !self.out.is_empty() {
                self.out.truncate(self.out.len() - 2);
                self.out.push(b' ');
                self.out.extend_from_slice(&head[key]);
                self.out.extend_from_slice(b"\r\n");
                self.open_get = Some(OpenGet { parent, line_bytes });
                self.fifo.back_mut().expect("an open get has an entry").shares_next = true;
                return;
            }
        }
        self.out.extend_from_slice(head);
        self.out.extend_from_slice(tail);
        self.open_get = parent.map(|parent| OpenGet { parent, line_bytes: head.len() });
    }
}

// --- match the reply ---

impl Shard {
    /// Takes one step of a reply that belongs to the head of `connection`'s FIFO. False when it doesn't fit.
    pub(super) fn take_reply(&mut self, connection: usize, step: &[u8], reply: &Reply) -> bool {
        let head = *self.connections[connection].fifo.front().expect("replies are parsed for an entry");
        match reply {
            Reply::Line(kind) if !head.shares_next && !head.delivered => {
                self.pop_head(connection);
                self.reported(connection, &head, *kind, step);
                true
            }
            Reply::Line(kind) => {
                // One line for all keys that have none yet: the lone END, or an error.
                self.end_shared_reply(connection, *kind, step);
                true
            }
            Reply::Value(value) if !head.shares_next && !head.delivered => {
                if !value.last || !self.is_reply_for(&head, &step[value.key.clone()]) {
                    return false;
                }
                self.pop_head(connection);
                // A child gets the bare item: its parent says END once.
                let is_child = self.requests.find(head.request).is_some_and(|request| request.parent().is_some());
                let bytes = if is_child { &step[..value.item_end] } else { step };
                self.reported(connection, &head, ReplyKind::Value, bytes);
                true
            }
            Reply::Value(value) => {
                let fits = self.take_shared_value(connection, &step[..value.item_end], value.key.clone());
                if fits && value.last {
                    self.end_shared_reply(connection, ReplyKind::End, b"END\r\n");
                }
                fits
            }
        }
    }

    fn pop_head(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.fifo.pop_front();
        connection.tombstones = connection.tombstones.saturating_sub(1);
        connection.timeouts_in_row = 0;
        connection.shared_at = 0;
        self.in_flight -= 1;
    }

    /// True unless the entry's request is still there and asked for another key.
    fn is_reply_for(&self, entry: &InFlight, key: &[u8]) -> bool {
        self.requests.find(entry.request).is_none_or(|request| request.key_bytes() == key)
    }

    /// Hands an item to the key it belongs to, and a miss to those before it: memcached answers in the order asked.
    fn take_shared_value(&mut self, index: usize, item: &[u8], key: Range<usize>) -> bool {
        let key = &item[key];
        let key_hash = hash_of_shared_key(key);
        let start = self.connections[index].shared_at;
        let mut at = start;
        loop {
            let entry = self.connections[index].fifo[at];
            if !entry.delivered && entry.key_hash == key_hash && self.is_reply_for(&entry, key) {
                break;
            }
            if !entry.shares_next {
                return false;
            }
            at += 1;
        }
        for skipped in start..at {
            self.deliver_shared(index, skipped, ReplyKind::End, b"END\r\n");
        }
        self.deliver_shared(index, at, ReplyKind::Value, item);
        let connection = &mut self.connections[index];
        connection.shared_at = if connection.fifo[at].shares_next { at + 1 } else { at };
        true
    }

    fn deliver_shared(&mut self, connection: usize, at: usize, kind: ReplyKind, bytes: &[u8]) {
        let entry = self.connections[connection].fifo[at];
        if !entry.delivered {
            self.connections[connection].fifo[at].delivered = true;
            self.reported(connection, &entry, kind, bytes);
        }
    }

    fn end_shared_reply(&mut self, connection: usize, kind: ReplyKind, line: &[u8]) {
        loop {
            let entry = *self.connections[connection].fifo.front().expect("a shared get has its entries");
            self.pop_head(connection);
            if !entry.delivered {
                self.reported(connection, &entry, kind, line);
            }
            if !entry.shares_next {
                return;
            }
        }
    }

    /// A server's reply to one try. A late one, whose try was given up, goes to nobody.
    fn reported(&mut self, connection: usize, entry: &InFlight, kind: ReplyKind, bytes: &[u8]) {
        if entry.request == RequestId::NONE {
            self.late_replies += 1;
            return;
        }
        let server = self.connections[connection].server;
        self.metrics.upstream_reply(server, entry.operation, kind, self.now - entry.queued_at);
        let reported = Reported { try_id: entry.try_id, kind, bytes };
        self.conclude(entry.request, entry.try_id, Outcome::Reply(kind), Some(reported));
    }

    /// A try that brought no reply.
    pub(super) fn failed(&mut self, connection: usize, entry: &InFlight, failure: Failure) {
        let server = self.connections[connection].server;
        self.metrics.upstream_failure(server, failure);
        self.conclude(entry.request, entry.try_id, Outcome::Failure(failure), None);
    }
}

// --- join ---

impl Shard {
    fn conclude(&mut self, id: RequestId, try_id: TryId, outcome: Outcome, reported: Option<Reported<'_>>) {
        let Some(request) = self.requests.find(id) else { return };
        if request.done {
            return;
        }
        if request.parent().is_some_and(|parent| self.requests.find(parent).is_none()) {
            // The client is gone. Failing over on its behalf would only load servers.
            return self.release(id);
        }
        let request = &mut self.requests[id];
        let Some(place) = request.tries.iter().position(|open| *open == try_id) else { return };
        request.tries.swap_remove(place);
        let (step, keep) = self.resume(id, None, try_id, outcome);
        if let Some(reported) = reported
            && keep
        {
            let late = self.requests[id].late_mut();
            let start = late.kept_bytes.len();
            late.kept_bytes.extend_from_slice(reported.bytes);
            let bytes = start..late.kept_bytes.len();
            late.kept.push(KeptReply { try_id, kind: reported.kind, bytes });
        }
        if self.dispatches.is_empty() {
            let nothing_to_send = Frame { head: &[], tail: &[], key: (0, 0), whole: false };
            return self.settle(id, step, nothing_to_send, reported);
        }
        // A copy, because the request may be answered and its entry freed before all of this is done.
        let mut kept = self.buffers.take();
        let request = &self.requests[id];
        kept.extend_from_slice(&request.frame);
        let key = (request.key.start, request.key.end);
        let frame = Frame { head: &kept, tail: &[], key, whole: request.frame_whole };
        self.settle(id, step, frame, reported);
        self.buffers.give(kept);
    }

    /// The request's time is up: every open try fails until the plan has decided.
    pub(super) fn request_expired(&mut self, id: RequestId) {
        while let Some(request) = self.requests.find(id)
            && !request.done
            && let Some(open) = request.tries.last().copied()
        {
            self.conclude(id, open, Outcome::Failure(Failure::DeadlineExceeded), None);
        }
    }

    fn answer(&mut self, id: RequestId, source: Source<'_>, frame: Frame<'_>) {
        match source {
            Source::Bytes(kind, bytes) => {
                self.count_answer(id, kind);
                self.deliver(id, bytes);
            }
            Source::Kept(wanted) => {
                let late = self.requests[id].late();
                let kept = late.kept.iter().find(|kept| kept.try_id == wanted);
                let kept = kept.expect("a plan answers with a reply that it had kept");
                let kind = kept.kind;
                let mut line = self.buffers.take();
                line.extend_from_slice(&late.kept_bytes[kept.bytes.clone()]);
                self.count_answer(id, kind);
                self.deliver(id, &line);
                self.buffers.give(line);
            }
            Source::Local(local) => {
                self.metrics.answered_locally(local);
                let mut text = self.buffers.take();
                self.write_local_reply(&mut text, id, local, frame);
                self.deliver(id, &text);
                self.buffers.give(text);
            }
        }
    }

    fn count_answer(&mut self, id: RequestId, kind: ReplyKind) {
        if let Some(operation) = self.requests[id].operation {
            self.metrics.answered(operation, kind);
        }
    }

    fn write_local_reply(&self, text: &mut Vec<u8>, id: RequestId, local: LocalReply, frame: Frame<'_>) {
        let operation = self.requests[id].operation();
        match local {
            LocalReply::Router => match operation {
                Operation::Version => text.extend_from_slice(VERSION_LINE),
                Operation::Stats => self.write_stats(text, frame.head),
                _ => text.extend_from_slice(b"OK\r\n"),
            },
            LocalReply::NotLocal => {
                text.extend_from_slice(b"SERVER_ERROR keyway: LocalRoute cannot answer ");
                text.extend_from_slice(operation.name().as_bytes());
                text.extend_from_slice(b"\r\n");
            }
            LocalReply::NoHealthyServer => text.extend_from_slice(b"SERVER_ERROR keyway: no healthy server\r\n"),
            LocalReply::Failed(failure) => {
                text.extend_from_slice(b"SERVER_ERROR keyway: ");
                text.extend_from_slice(failure.name().as_bytes());
                text.extend_from_slice(b"\r\n");
            }
        }
    }

    fn write_stats(&self, text: &mut Vec<u8>, line: &[u8]) {
        let arguments = line.strip_prefix(b"stats").unwrap_or(line).trim_ascii();
        write_stats(text, arguments, self.stats.as_deref().unwrap_or(&StatsSummary::default()));
    }
}

// --- deliver in order ---

impl Shard {
    /// Gives a request its answer. `bytes` is a whole reply; of a child that is an item, a lone END or an error line.
    fn deliver(&mut self, id: RequestId, bytes: &[u8]) {
        match self.requests[id].place {
            Place::Session(session) => self.deliver_in_order(session, id, bytes),
            Place::Child(parent) => self.deliver_to_parent(parent, id, bytes),
            Place::Free => unreachable!("an entry in use has a place"),
        }
    }

    fn deliver_in_order(&mut self, session_id: SessionId, id: RequestId, bytes: &[u8]) {
        let request = &mut self.requests[id];
        let bytes = if request.noreply { &[][..] } else { bytes };
        request.done = true;
        if let Some(operation) = request.operation {
            self.metrics.request(operation, self.now - request.started_at);
        }
        let session = &mut self.sessions[session_id];
        let gathered_bytes = if request.late_used() { request.late().gathered_bytes } else { 0 };
        session.learn_reply_size(gathered_bytes + bytes.len());
        if session.first != Some(id) {
            session.answered_behind += 1;
            session.held_bytes += bytes.len();
            if !bytes.is_empty() {
                let late = request.late_mut();
                self.buffers.prepare(&mut late.reply, bytes.len());
                late.reply.extend_from_slice(bytes);
            }
            // What is held behind a slow answer counts too: the flush looks whether it is too much.
            return self.mark_session_dirty(session_id);
        }
        session.write_out(bytes, &mut self.buffers);
        self.pop_answered(session_id);
        self.mark_session_dirty(session_id);
    }

    /// Takes the answered requests off the head of a session's order; their replies leave. The head itself is answered.
    fn pop_answered(&mut self, session_id: SessionId) {
        let session = &mut self.sessions[session_id];
        let Some(head) = session.first else { return };
        session.first = self.requests[head].next;
        session.waiting -= 1;
        self.release(head);
        // The requests behind it are only looked at when one of them has something to give: each look may miss the cache.
        loop {
            let session = &mut self.sessions[session_id];
            let Some(first) = session.first else {
                session.last = None;
                return;
            };
            if session.held_bytes == 0 && session.answered_behind == 0 {
                return;
            }
            let request = &mut self.requests[first];
            if request.late_used() {
                // Of a multi-key get that still waits, this is what it gathered so far; the rest follows it directly.
                let late = request.late_mut();
                session.held_bytes -= late.reply.len();
                session.write_out(&late.reply, &mut self.buffers);
                late.reply.clear();
            }
            if !request.done {
                return;
            }
            session.answered_behind -= 1;
            session.first = request.next;
            session.waiting -= 1;
            self.release(first);
        }
    }

    fn deliver_to_parent(&mut self, parent: RequestId, child: RequestId, bytes: &[u8]) {
        self.release(child);
        // The parent is gone when its client is.
        if self.requests.find(parent).is_none() {
            return;
        }
        let Place::Session(session_id) = self.requests[parent].place else { unreachable!("parents have sessions") };
        match bytes.first() {
            Some(b'V') => {
                let session = &mut self.sessions[session_id];
                let late = self.requests[parent].late_mut();
                late.gathered_bytes += bytes.len();
                if session.first == Some(parent) {
                    session.write_out(bytes, &mut self.buffers);
                } else {
                    session.held_bytes += bytes.len();
                    self.buffers.prepare(&mut late.reply, bytes.len());
                    late.reply.extend_from_slice(bytes);
                }
                self.mark_session_dirty(session_id);
            }
            Some(_) if bytes != b"END\r\n" => {
                let error = &mut self.requests[parent].late_mut().error;
                if error.is_empty() {
                    error.extend_from_slice(bytes);
                }
            }
            Some(_) | None => {}
        }
        self.child_settled(parent);
    }

    /// One key less to wait for; the last one ends the reply.
    fn child_settled(&mut self, parent: RequestId) {
        let request = &mut self.requests[parent];
        request.late_mut().children -= 1;
        if request.late().children > 0 {
            return;
        }
        let Place::Session(session_id) = request.place else { unreachable!("parents have sessions") };
        // What was gathered before the parent came first lies in `reply` and leaves with the end of it.
        if request.late().error.is_empty() {
            return self.deliver_in_order(session_id, parent, b"END\r\n");
        }
        let mut error = self.buffers.take();
        error.extend_from_slice(&request.late().error);
        self.deliver_in_order(session_id, parent, &error);
        self.buffers.give(error);
    }

    /// Frees a request, and its table when that was its last.
    pub(super) fn release(&mut self, id: RequestId) {
        let table = self.requests[id].table as usize;
        self.buffered_bytes -= self.requests[id].counted_frame_bytes();
        let request = &mut self.requests[id];
        self.buffers.take_back(&mut request.frame);
        if request.late_used() {
            self.buffers.take_back(&mut request.late_mut().reply);
        }
        self.requests.free(id);
        self.table_released(table);
    }
}

impl super::session::Session {
    fn write_out(&mut self, bytes: &[u8], buffers: &mut super::buffers::Buffers) {
        if bytes.is_empty() {
            return;
        }
        if self.out.capacity() == 0 {
            self.out = buffers.take();
        }
        self.out.extend_from_slice(bytes);
    }
}

impl Request {
    /// Keeps what a later try or check needs: the whole frame, or of one that is too large the key alone.
    fn keep_frame(&mut self, head: &[u8], tail: &[u8], key: Range<usize>, max_bytes: usize) {
        self.frame.clear();
        if head.len() + tail.len() <= max_bytes {
            self.frame.extend_from_slice(head);
            self.frame.extend_from_slice(tail);
            self.key = key;
            self.frame_whole = true;
        } else {
            self.frame.extend_from_slice(&head[key.clone()]);
            self.key = 0..key.len();
            self.frame_whole = false;
        }
    }

    /// What the kept frame takes of the shard's budget.
    pub(super) fn counted_frame_bytes(&self) -> usize {
        counted_bytes(&self.frame)
    }

    fn parent(&self) -> Option<RequestId> {
        match self.place {
            Place::Child(parent) => Some(parent),
            Place::Session(_) | Place::Free => None,
        }
    }

    fn key_bytes(&self) -> &[u8] {
        &self.frame[self.key.clone()]
    }
}

fn counted_bytes(frame: &[u8]) -> usize {
    if frame.len() > UNCOUNTED_FRAME_BYTES { frame.len() } else { 0 }
}
