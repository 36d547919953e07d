//! The way of a request to the servers, top to bottom: parsed, routed, queued upstream. `replies.rs` is the way back.
//!
//! Does no I/O: what it produces lies in `out` buffers that are flushed at the end of the turn.

use super::request::{Place, Request, RequestId};
use super::session::{Ending, SessionId};
use super::upstream::{InFlight, Link, OpenGet, SHARED_LINE_BYTES, hash_of_shared_key};
use super::{REQUESTS_PER_TURN, Shard, TableState};
use crate::messages::{FromShard, SpoolRequest};
use keyway_policies::{
    Action, ClientView, Dispatch, Env, Failure, HealthView, Outcome, Plan, Reported, RequestView, Routes, Step, TryId,
    Wire,
};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{self, AfterRefusal, Parsed, RequestError};
use std::cmp::Reverse;
use std::collections::HashSet;
use std::ops::Range;

/// Frames kept up to this size, in bytes, are part of what a request takes anyway (see `config::memory`).
const UNCOUNTED_FRAME_BYTES: usize = 256;
/// Most requests of a shard that wait for the async log.
const MOST_SPOOLING: usize = 4096;
/// The answer to a get with more than `keys_per_get`.
const TOO_MANY_KEYS: &[u8] = b"CLIENT_ERROR too many keys in one get\r\n";

/// What a plan may hold at any time, in bytes: changed keys are short.
const SPARE_BYTES: usize = 1024;

/// A frame in two pieces: what lies before and behind a ` noreply` that isn't passed on.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) head: &'a [u8],
    pub(super) tail: &'a [u8],
    pub(super) key: (usize, usize),
    /// False when only the key was kept of it.
    pub(super) whole: bool,
}

impl<'a> Frame<'a> {
    fn from_request(request: &text::Request<'a>) -> Frame<'a> {
        let (head, tail) = request.forwarded();
        Frame { head, tail, key: (request.key.start, request.key.end), whole: true }
    }

    fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    pub(super) fn key(&self) -> &'a [u8] {
        &self.head[self.key.0..self.key.1]
    }
}

/// A reply at hand.
#[derive(Clone, Copy)]
pub(super) struct AtHand<'a> {
    pub(super) try_id: TryId,
    pub(super) reported: Reported<'a>,
    /// The whole reply; of one key of several its item.
    pub(super) bytes: &'a [u8],
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
        request.client_hash = session.address_hash;
        request.table = self.current as u32;
        request.route = state.table.listener_routes[usize::from(session.listener)] as u32;
        request.started_at = self.now;
        id
    }

    fn begin(&mut self, id: RequestId, frame: Frame<'_>) {
        if self.is_for_router(frame.key()) {
            return self.answer_for_router(id, frame.key());
        }
        let step = self.decide(id, Some(frame), |routes, plan, view, env, out| routes.begin(plan, view, env, out));
        let request = &mut self.requests[id];
        let operation = request.operation();
        let state = self.tables[request.table as usize].as_ref().expect("a table with live requests stays");
        let routes = &state.table.routes[request.route as usize].routes;
        // Reads are kept to check the reply's key against, and to ask again when a connection is lost.
        if operation.is_safe_to_repeat() || routes.may_dispatch_again(&request.plan, operation) {
            let budget = self.limits.buffered_bytes.saturating_sub(self.buffered_bytes).max(UNCOUNTED_FRAME_BYTES);
            let most = self.limits.max_replay_bytes.min(budget);
            self.buffers.prepare(&mut request.frame, frame.len().min(most));
            request.keep_frame(frame.head, frame.tail, frame.key.0..frame.key.1, most);
        }
        self.recharge(id);
        self.carry_out(id, step, Some(frame), None);
    }

    /// Lets the route tree decide something about a request. `frame` is the request's where it is at hand; else the one
    /// that was kept is.
    pub(super) fn decide<T>(
        &mut self,
        id: RequestId,
        frame: Option<Frame<'_>>,
        act: impl FnOnce(&Routes, &mut Plan, &RequestView<'_>, Env<'_>, &mut Vec<Action>) -> T,
    ) -> T {
        let request = &mut self.requests[id];
        let operation = request.operation();
        let TableState { table, health, route_states, .. } =
            self.tables[request.table as usize].as_mut().expect("a table with live requests stays");
        let client = ClientView { number: request.session_number, address_hash: request.client_hash };
        let frame = frame.unwrap_or_else(|| kept_frame(&request.frame, &request.key, request.frame_whole));
        let (head, tail) = if frame.whole { (frame.head, frame.tail) } else { (&[][..], &[][..]) };
        let view = RequestView { operation, key: frame.key(), head, tail };
        let env = Env {
            health: HealthView(health),
            now: self.now,
            unix_ms: self.unix_ms_at_zero + self.now / 1_000_000,
            client,
            request: id.to_bits(),
            spare_bytes: self.limits.buffered_bytes.saturating_sub(self.buffered_bytes).max(SPARE_BYTES),
            state: &mut route_states[request.route as usize],
        };
        let routes = &table.routes[request.route as usize].routes;
        act(routes, &mut request.plan, &view, env, &mut self.actions)
    }

    /// Carries out what the plan asked for, until it has decided or waits for replies. `frame` is the request's where it
    /// is at hand, `at_hand` the reply that was reported last.
    pub(super) fn carry_out(
        &mut self,
        id: RequestId,
        step: Step,
        frame: Option<Frame<'_>>,
        at_hand: Option<AtHand<'_>>,
    ) {
        let mut answer = match step {
            Step::Wait => None,
            Step::Answer(answer) => Some(answer),
        };
        let mut at = 0;
        while at < self.actions.len() {
            let action = self.actions[at];
            at += 1;
            let (dispatch, done) = match action {
                Action::Send(dispatch) => (dispatch, self.enqueue(id, dispatch, frame)),
                Action::Spool(dispatch) => (dispatch, self.spool(id, dispatch, frame)),
                Action::Wake(wake) => {
                    self.wakes.push(Reverse((wake.at, wake.request, wake.frame)));
                    continue;
                }
                Action::Log(outcome) => {
                    self.log_outcome(id, outcome, frame);
                    continue;
                }
            };
            let Err(failure) = done else { continue };
            self.count_failure(id, dispatch, failure);
            let reported = Reported::bare(Outcome::Failure(failure));
            if let Step::Answer(decided) = self.resume(id, frame, dispatch.try_id, &reported) {
                answer = Some(decided);
            }
        }
        self.actions.clear();
        if let Some(answer) = answer {
            self.answer(id, answer, frame, at_hand);
        }
    }

    /// Reports an outcome to the plan.
    pub(super) fn resume(
        &mut self,
        id: RequestId,
        frame: Option<Frame<'_>>,
        try_id: TryId,
        reported: &Reported<'_>,
    ) -> Step {
        let before = self.actions.len();
        let verdict = self
            .decide(id, frame, |routes, plan, view, env, out| routes.resume(plan, view, env, try_id, reported, out));
        let tried = self.actions[before..].iter().filter(|action| matches!(action, Action::Send(_))).count();
        (0..tried).for_each(|_| self.metrics.failover());
        self.recharge(id);
        verdict.step
    }

    /// Brings the shard's books up to what is held for a request.
    pub(super) fn recharge(&mut self, id: RequestId) {
        let request = &mut self.requests[id];
        let bytes = request.frame.len() + request.plan.held_bytes();
        let counted = if bytes > UNCOUNTED_FRAME_BYTES { bytes } else { 0 };
        if counted != request.counted_bytes {
            self.buffered_bytes = self.buffered_bytes - request.counted_bytes + counted;
            request.counted_bytes = counted;
        }
    }

    fn count_failure(&mut self, id: RequestId, dispatch: Dispatch, failure: Failure) {
        let state = self.tables[self.requests[id].table as usize].as_ref().expect("a table with live requests stays");
        let key = state.table.servers[dispatch.server.0 as usize].key;
        self.metrics.upstream_failure(key.0 as usize, failure);
    }
}

// --- queue upstream ---

impl Shard {
    fn enqueue(&mut self, id: RequestId, dispatch: Dispatch, frame: Option<Frame<'_>>) -> Result<(), Failure> {
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
        } else if self.now >= request.deadline && !request.done {
            return Err(Failure::DeadlineExceeded);
        }
        let parent = request.parent();
        let own = frame.unwrap_or_else(|| kept_frame(&request.frame, &request.key, request.frame_whole));
        let sent = Sent::of(&request.plan, dispatch.try_id, own, parent)?;
        let (operation, expect) = request.plan.sent(dispatch.try_id, request.operation.expect("in use"));
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
            || !connection.has_room_for(sent.len(), self.limits.queued_bytes_per_connection)
        {
            return Err(Failure::QueueFull);
        }
        connection.write_frame(&sent);
        connection.fifo.push_back(InFlight {
            request: id,
            try_id: dispatch.try_id,
            operation,
            expect,
            queued_at: self.now,
            expires_at,
            key_hash: if sent.parent.is_some() { hash_of_shared_key(sent.key) } else { 0 },
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

    /// Gives a request to the async log of a server. The control plane answers once it is durable.
    fn spool(&mut self, id: RequestId, dispatch: Dispatch, frame: Option<Frame<'_>>) -> Result<(), Failure> {
        let request = &mut self.requests[id];
        let state = self.tables[request.table as usize].as_ref().expect("a table with live requests stays");
        let place = &state.table.servers[dispatch.server.0 as usize];
        if self.spooling.len() >= MOST_SPOOLING {
            return Err(Failure::QueueFull);
        }
        let own = frame.unwrap_or_else(|| kept_frame(&request.frame, &request.key, request.frame_whole));
        let sent = Sent::of(&request.plan, dispatch.try_id, own, None)?;
        let ask = SpoolRequest {
            shard: self.number,
            ticket: self.next_ticket,
            server: place.key,
            name: state.table.pools[place.pool].name.clone(),
            frame: sent.pieces().concat(),
        };
        self.outbox.send(FromShard::Spool(Box::new(ask))).map_err(|_| Failure::QueueFull)?;
        self.spooling.push_back((self.next_ticket, id, dispatch.try_id));
        self.next_ticket += 1;
        request.tries.push(dispatch.try_id);
        Ok(())
    }
}

/// What goes on the wire for a try, in pieces.
struct Sent<'a> {
    pieces: [&'a [u8]; 4],
    key: &'a [u8],
    /// Set where the line may be shared with other keys of that get.
    parent: Option<RequestId>,
}

impl<'a> Sent<'a> {
    /// The bytes of a try. Of a request whose frame is too large to be kept nothing can be sent again.
    fn of(plan: &'a Plan, try_id: TryId, own: Frame<'a>, parent: Option<RequestId>) -> Result<Sent<'a>, Failure> {
        let none: &[u8] = &[];
        match plan.wire(try_id) {
            Wire::AsAsked if own.whole => Ok(Sent { pieces: [own.head, own.tail, none, none], key: own.key(), parent }),
            Wire::WithKey(key) if own.whole => {
                let pieces = [&own.head[..own.key.0], key, &own.head[own.key.1..], own.tail];
                Ok(Sent { pieces, key, parent })
            }
            Wire::AsAsked | Wire::WithKey(_) => Err(Failure::NotReplayable),
            Wire::Frame { bytes, key } => {
                Ok(Sent { pieces: [bytes, none, none, none], key: &bytes[key], parent: None })
            }
        }
    }

    fn pieces(&self) -> [&'a [u8]; 4] {
        self.pieces
    }

    fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }
}

/// The frame that was kept of a request.
fn kept_frame<'a>(frame: &'a [u8], key: &Range<usize>, whole: bool) -> Frame<'a> {
    Frame { head: frame, tail: &[], key: (key.start, key.end), whole }
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
            if is_over || asked_before || !entry.operation.is_safe_to_repeat() {
                return true;
            }
            let own = kept_frame(&request.frame, &request.key, request.frame_whole);
            let Ok(sent) = Sent::of(&request.plan, entry.try_id, own, request.parent()) else { return true };
            connection.write_frame(&sent);
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
    fn write_frame(&mut self, sent: &Sent<'_>) {
        if let (Some(parent), Some(open)) = (sent.parent, self.open_get) {
            let line_bytes = open.line_bytes + 1 + sent.key.len();
            if open.parent == parent && line_bytes <= SHARED_LINE_BYTES && !self.out.is_empty() {
                self.out.truncate(self.out.len() - 2);
                self.out.push(b' ');
                self.out.extend_from_slice(sent.key);
                self.out.extend_from_slice(b"\r\n");
                self.open_get = Some(OpenGet { parent, line_bytes });
                self.fifo.back_mut().expect("an open get has an entry").shares_next = true;
                return;
            }
        }
        for piece in sent.pieces() {
            self.out.extend_from_slice(piece);
        }
        self.open_get = sent.parent.map(|parent| OpenGet { parent, line_bytes: sent.len() });
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

    pub(super) fn parent(&self) -> Option<RequestId> {
        match self.place {
            Place::Child(parent) => Some(parent),
            Place::Session(_) | Place::Detached | Place::Free => None,
        }
    }

    pub(super) fn key_bytes(&self) -> &[u8] {
        &self.frame[self.key.clone()]
    }
}
