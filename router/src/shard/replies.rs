//! The way of a reply back to its client, top to bottom: matched to its request, joined by the route tree, delivered in
//! order. `path.rs` is the way there.
//!
//! Does no I/O. Invariant: a reply goes only to the request at the head of the FIFO it arrived on.

use super::Shard;
use super::path::{AtHand, Frame};
use super::request::{Place, RequestId};
use super::session::SessionId;
use super::upstream::{InFlight, hash_of_shared_key};
use crate::metrics::{StatsSummary, VERSION_LINE, write_stats};
use keyway_policies::{Answer, Failure, ItemView, KeptReply, LocalReply, Outcome, Reported, Step, TryId, null_reply};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{self, Expect, Reply, ReplyKind, Value};

// --- match the reply ---

impl Shard {
    /// Takes one step of a reply that belongs to the head of `connection`'s FIFO. False when it doesn't fit.
    pub(super) fn take_reply(&mut self, connection: usize, step: &[u8], reply: &Reply) -> bool {
        let head = *self.connections[connection].fifo.front().expect("replies are parsed for an entry");
        match reply {
            Reply::Line(kind) if !head.shares_next && !head.delivered => {
                self.pop_head(connection);
                // EN: the meta dialect's END.
                let is_meta = matches!(head.expect, Expect::Meta | Expect::Peek);
                let line = if is_meta && *kind == ReplyKind::End { text::write::END } else { step };
                self.reported(connection, &head, *kind, None, line);
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
                self.reported(connection, &head, ReplyKind::Value, Some(item_of(value, step)), bytes);
                true
            }
            Reply::Value(value) => {
                let fits = self.take_shared_value(connection, step, value);
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
        self.requests
            .find(entry.request)
            .is_none_or(|request| request.plan.key_of(entry.try_id, request.key_bytes()) == key)
    }

    /// Hands an item to the key it belongs to, and a miss to those before it: memcached answers in the order asked.
    fn take_shared_value(&mut self, index: usize, step: &[u8], value: &Value) -> bool {
        let key = &step[value.key.clone()];
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
            self.deliver_shared(index, skipped, ReplyKind::End, None, text::write::END);
        }
        self.deliver_shared(index, at, ReplyKind::Value, Some(item_of(value, step)), &step[..value.item_end]);
        let connection = &mut self.connections[index];
        connection.shared_at = if connection.fifo[at].shares_next { at + 1 } else { at };
        true
    }

    fn deliver_shared(
        &mut self,
        connection: usize,
        at: usize,
        kind: ReplyKind,
        item: Option<ItemView<'_>>,
        bytes: &[u8],
    ) {
        let entry = self.connections[connection].fifo[at];
        if !entry.delivered {
            self.connections[connection].fifo[at].delivered = true;
            self.reported(connection, &entry, kind, item, bytes);
        }
    }

    fn end_shared_reply(&mut self, connection: usize, kind: ReplyKind, line: &[u8]) {
        loop {
            let entry = *self.connections[connection].fifo.front().expect("a shared get has its entries");
            self.pop_head(connection);
            if !entry.delivered {
                self.reported(connection, &entry, kind, None, line);
            }
            if !entry.shares_next {
                return;
            }
        }
    }

    /// A server's reply to one try. A late one, whose try was given up, goes to nobody.
    fn reported(
        &mut self,
        connection: usize,
        entry: &InFlight,
        kind: ReplyKind,
        item: Option<ItemView<'_>>,
        bytes: &[u8],
    ) {
        if entry.request == RequestId::NONE {
            self.late_replies += 1;
            return;
        }
        let server = self.connections[connection].server;
        self.metrics.upstream_reply(server, entry.operation, kind, self.now - entry.queued_at);
        let line = if item.is_some() { &[][..] } else { bytes };
        let reported = Reported { outcome: Outcome::Reply(kind), item, line };
        self.conclude(entry.request, AtHand { try_id: entry.try_id, reported, bytes });
    }

    /// A try that brought no reply.
    pub(super) fn failed(&mut self, connection: usize, entry: &InFlight, failure: Failure) {
        let server = self.connections[connection].server;
        self.metrics.upstream_failure(server, failure);
        self.fail(entry.request, entry.try_id, failure);
    }

    fn fail(&mut self, id: RequestId, try_id: TryId, failure: Failure) {
        let reported = Reported::bare(Outcome::Failure(failure));
        self.conclude(id, AtHand { try_id, reported, bytes: &[] });
    }
}

fn item_of<'a>(value: &Value, step: &'a [u8]) -> ItemView<'a> {
    ItemView {
        flags: &step[value.flags.clone()],
        data: &step[value.data.clone()],
        cas: &step[value.cas.clone()],
        ttl: value.ttl,
    }
}

// --- join ---

impl Shard {
    /// Takes the outcome of a try to the request's plan, and does what it says.
    fn conclude(&mut self, id: RequestId, at_hand: AtHand<'_>) {
        let Some(request) = self.requests.find(id) else { return };
        let parent_gone = request.parent().is_some_and(|parent| self.requests.find(parent).is_none());
        if parent_gone && !self.detach(id) {
            // The client is gone. Failing over on its behalf would only load servers.
            return self.release(id);
        }
        let request = &mut self.requests[id];
        let Some(place) = request.tries.iter().position(|open| *open == at_hand.try_id) else { return };
        request.tries.swap_remove(place);
        let step = self.resume(id, None, at_hand.try_id, &at_hand.reported);
        self.carry_out(id, step, None, Some(at_hand));
        self.end_lingering(id);
    }

    /// The async log has an entry, or couldn't take it.
    pub(super) fn spooled(&mut self, tickets: &[(u64, bool)]) {
        for (ticket, durable) in tickets {
            let Some(at) = self.spooling.iter().position(|(waiting, ..)| waiting == ticket) else { continue };
            let Some((_, id, try_id)) = self.spooling.remove(at) else { continue };
            let outcome = match durable {
                true => Outcome::Reply(ReplyKind::Ok),
                false => Outcome::Failure(Failure::Unavailable),
            };
            self.conclude(id, AtHand { try_id, reported: Reported::bare(outcome), bytes: text::write::OK });
        }
    }

    /// A frame of a plan asked to be woken.
    pub(super) fn woken(&mut self, id: RequestId, frame: u16) {
        if self.requests.find(id).is_none() {
            return;
        }
        let step = self.decide(id, None, |routes, plan, view, env, out| routes.wake(plan, view, env, frame, out));
        self.recharge(id);
        self.carry_out(id, step, None, None);
        self.end_lingering(id);
    }

    /// The request's time is up: every open try fails until the plan has decided. What goes on for its effect goes on.
    pub(super) fn request_expired(&mut self, id: RequestId) {
        while let Some(request) = self.requests.find(id)
            && !request.done
            && let Some(open) = request.tries.last().copied()
        {
            self.fail(id, open, Failure::DeadlineExceeded);
        }
    }

    pub(super) fn answer(
        &mut self,
        id: RequestId,
        answer: Answer,
        frame: Option<Frame<'_>>,
        at_hand: Option<AtHand<'_>>,
    ) {
        if self.requests[id].done {
            return;
        }
        let mut text = self.buffers.take();
        match (answer, at_hand) {
            (Answer::Try(wanted), Some(reply)) if wanted == reply.try_id => {
                if let Outcome::Reply(kind) = reply.reported.outcome {
                    self.count_answer(id, kind);
                }
                match reply.reported.item {
                    Some(item) if !self.requests[id].plan.is_as_asked(wanted) => {
                        self.write_item(&mut text, id, item);
                        self.deliver(id, &text);
                    }
                    Some(_) | None => self.deliver(id, reply.bytes),
                }
            }
            (Answer::Try(wanted), _) => {
                let kept = self.requests[id].plan.kept(wanted).expect("a plan answers with a reply that it had kept");
                let kind = match kept {
                    KeptReply::Line(kind, line) => {
                        text.extend_from_slice(line);
                        kind
                    }
                    KeptReply::Item(item) => {
                        self.write_item(&mut text, id, item);
                        ReplyKind::Value
                    }
                };
                self.count_answer(id, kind);
                self.deliver(id, &text);
            }
            (Answer::Composed, _) => {
                let item = self.requests[id].plan.composed().expect("a plan answers with what it composed");
                self.write_item(&mut text, id, item);
                self.count_answer(id, ReplyKind::Value);
                self.deliver(id, &text);
            }
            (Answer::Local(local), _) => {
                self.metrics.answered_locally(local);
                let line = frame.map_or(&[][..], |frame| frame.head);
                self.write_local_reply(&mut text, id, local, line);
                self.deliver(id, &text);
            }
        }
        self.buffers.give(text);
    }

    /// An item as the client asked for it: with its own key, a cas where it wants one, and END where nothing else follows.
    fn write_item(&self, text: &mut Vec<u8>, id: RequestId, item: ItemView<'_>) {
        let request = &self.requests[id];
        let with_cas = matches!(request.operation, Some(Operation::Gets | Operation::Gats));
        text.extend_from_slice(b"VALUE ");
        text.extend_from_slice(request.key_bytes());
        text.push(b' ');
        text.extend_from_slice(item.flags);
        text.push(b' ');
        text::write::write_decimal(text, item.data.len() as u64);
        if with_cas {
            text.push(b' ');
            text.extend_from_slice(if item.cas.is_empty() { b"0" } else { item.cas });
        }
        text.extend_from_slice(text::write::CRLF);
        text.extend_from_slice(item.data);
        text.extend_from_slice(text::write::CRLF);
        if request.parent().is_none() {
            text.extend_from_slice(text::write::END);
        }
    }

    /// LoggingRoute's line: what came of a request. The route bounds how often.
    pub(super) fn log_outcome(&self, id: RequestId, outcome: Outcome, frame: Option<Frame<'_>>) {
        let request = &self.requests[id];
        let key = frame.as_ref().map_or(request.key_bytes(), Frame::key);
        let came = match outcome {
            Outcome::Reply(kind) => kind.name(),
            Outcome::Failure(failure) => failure.name(),
        };
        log::info!("LoggingRoute: {} {}: {came}", request.operation().name(), String::from_utf8_lossy(key));
    }

    fn count_answer(&mut self, id: RequestId, kind: ReplyKind) {
        if let Some(operation) = self.requests[id].operation {
            self.metrics.answered(operation, kind);
        }
    }

    fn write_local_reply(&self, text: &mut Vec<u8>, id: RequestId, local: LocalReply, line: &[u8]) {
        let request = &self.requests[id];
        let operation = request.operation();
        match local {
            LocalReply::Router => match operation {
                Operation::Version => text.extend_from_slice(VERSION_LINE),
                Operation::Stats => self.write_stats(text, line),
                _ => text.extend_from_slice(text::write::OK),
            },
            LocalReply::NotLocal => {
                text.extend_from_slice(b"SERVER_ERROR keyway: LocalRoute cannot answer ");
                text.extend_from_slice(operation.name().as_bytes());
                text.extend_from_slice(text::write::CRLF);
            }
            LocalReply::NoHealthyServer => text.extend_from_slice(b"SERVER_ERROR keyway: no healthy server\r\n"),
            LocalReply::Failed(failure) => {
                text.extend_from_slice(b"SERVER_ERROR keyway: ");
                text.extend_from_slice(failure.name().as_bytes());
                text.extend_from_slice(text::write::CRLF);
            }
            LocalReply::Null => text.extend_from_slice(match null_reply(operation) {
                ReplyKind::End => text::write::END,
                ReplyKind::NotStored => text::write::NOT_STORED,
                ReplyKind::NotFound => text::write::NOT_FOUND,
                _ => text::write::OK,
            }),
            LocalReply::Said(node) => {
                let state = self.tables[request.table as usize].as_ref().expect("a table with live requests stays");
                let routes = &state.table.routes[request.route as usize].routes;
                text.extend_from_slice(routes.node(node).words().as_bytes());
                text.extend_from_slice(text::write::CRLF);
            }
            LocalReply::BadKey => text.extend_from_slice(b"SERVER_ERROR keyway: a route made a key that is none\r\n"),
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
    pub(super) fn deliver(&mut self, id: RequestId, bytes: &[u8]) {
        match self.requests[id].place {
            Place::Session(session) => self.deliver_in_order(session, id, bytes),
            Place::Child(parent) => self.deliver_to_parent(parent, id, bytes),
            // Its client is gone.
            Place::Detached => self.requests[id].done = true,
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
        self.let_go(head);
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
            self.let_go(first);
        }
    }

    fn deliver_to_parent(&mut self, parent: RequestId, child: RequestId, bytes: &[u8]) {
        self.requests[child].done = true;
        self.let_go(child);
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
    pub(super) fn child_settled(&mut self, parent: RequestId) {
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

    /// Lets go of a request that its client has no more use for: it goes on alone where its plan wants to.
    pub(super) fn let_go(&mut self, id: RequestId) {
        if !self.detach(id) {
            self.release(id);
        }
    }

    /// Takes a request out of its place, when its plan goes on for its effect. False when it doesn't.
    fn detach(&mut self, id: RequestId) -> bool {
        let request = &mut self.requests[id];
        if request.place == Place::Detached {
            return true;
        }
        // Bare refusals have no plan.
        if request.operation.is_none() {
            return false;
        }
        if request.plan.is_settled() {
            return false;
        }
        request.place = Place::Detached;
        request.next = None;
        request.done = true;
        self.decide(id, None, |routes, plan, view, env, out| routes.abandon(plan, view, env, out));
        self.carry_out(id, Step::Wait, None, None);
        self.lingers(id)
    }

    /// True while a request's plan has something to do that nobody waits for.
    fn lingers(&self, id: RequestId) -> bool {
        let request = &self.requests[id];
        let state = self.tables[request.table as usize].as_ref().expect("a table with live requests stays");
        state.table.routes[request.route as usize].routes.lingers(&request.plan, request.operation())
    }

    /// Frees a request that went on alone, once it has nothing more to do.
    fn end_lingering(&mut self, id: RequestId) {
        let Some(request) = self.requests.find(id) else { return };
        if request.place == Place::Detached && !self.lingers(id) {
            self.release(id);
        }
    }

    /// Frees a request, and its table when that was its last.
    pub(super) fn release(&mut self, id: RequestId) {
        let request = &mut self.requests[id];
        let table = request.table as usize;
        self.buffered_bytes -= request.counted_bytes;
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
