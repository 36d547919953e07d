//! Clients come and go here: admission, reading within limits, flushing, idling, closing.

use super::session::{Ending, Session, SessionId};
use super::{HELD_BACK_BYTES, Role, Shard, UNCHARGED_BYTES};
use crate::metrics::CloseReason;
use keyway_io_engine::{Closing, Conn, Ended, Io, ListenerId, Nanos, Reading};
use keyway_protocol::memcached::text::{Limits, RequestParser};

/// What memcached says to a client beyond its limit.
const TOO_MANY_CLIENTS: &[u8] = b"ERROR Too many open connections\r\n";
/// What memcached says when a request can't be read for lack of memory.
const OUT_OF_MEMORY: &[u8] = b"SERVER_ERROR out of memory reading request\r\n";
/// A client's first requests are admitted as if this many replies filled its limit: asked for a thousand large values at
/// once, servers would send more than any limit before the first reply tells their size.
const REPLIES_UNTIL_KNOWN: usize = 64;
/// Idle clients are looked for this many times per idle time.
const IDLE_SWEEPS: u32 = 4;

impl Shard {
    pub(super) fn accept_client<I: Io>(&mut self, io: &mut I, listener: ListenerId, conn: Conn) {
        self.set_role(conn, Role::None);
        if self.sessions.len() >= self.limits.clients_per_shard {
            self.metrics.client_refused();
            let mut words = self.buffers.take();
            words.extend_from_slice(TOO_MANY_CLIENTS);
            io.send(conn, words);
            return io.close(conn, Closing::Linger);
        }
        if self.draining.is_some() {
            return io.close(conn, Closing::Now);
        }
        self.metrics.client_accepted();
        let id = self.sessions.take();
        self.sessions_made = self.sessions_made.wrapping_add(1);
        let parser = RequestParser::new(self.text_limits());
        let address_hash = io.peer_ip(conn).map_or(0, hash_of_address);
        self.sessions[id] = Session {
            conn: Some(conn),
            listener: listener.0,
            number: self.sessions_made,
            address_hash,
            parser: Some(parser),
            heard_at: self.now,
            // Nothing is known of its values yet: so many replies are asked for until some is.
            reply_average: self.limits.reply_bytes_per_client / REPLIES_UNTIL_KNOWN,
            ..Session::default()
        };
        self.set_role(conn, Role::Client(id));
    }

    pub(super) fn text_limits(&self) -> Limits {
        Limits {
            value_bytes: self.limits.value_bytes,
            retrieval_line_bytes: self.limits.retrieval_line_bytes,
            ..Limits::default()
        }
    }

    pub(super) fn client_received<I: Io>(&mut self, io: &mut I, id: SessionId, bytes: &[u8]) {
        self.metrics.client_bytes_in(bytes.len());
        let session = &mut self.sessions[id];
        session.heard_at = self.now;
        if session.ending == Ending::AfterAnswers {
            return;
        }
        if session.paused || session.queued {
            session.pending.push(bytes);
        } else if session.pending.is_empty() {
            let consumed = self.consume(id, bytes);
            let session = &mut self.sessions[id];
            if consumed < bytes.len() && session.ending != Ending::AfterAnswers {
                session.pending.push(&bytes[consumed..]);
            }
        } else {
            session.pending.push(bytes);
            self.consume_pending(id);
        }
        self.adjust_reading(io, id);
        if self.sessions[id].pending.len() > UNCHARGED_BYTES || self.sessions[id].charged_bytes > 0 {
            self.charge(io, id);
        }
    }

    /// Brings the shard's books up to what this session holds. Beyond the budget, who holds much is cut: with a word where
    /// it is the request that is large, without where it doesn't take its replies.
    fn charge<I: Io>(&mut self, io: &mut I, id: SessionId) {
        let session = &mut self.sessions[id];
        let holds = session.pending.len() + session.reply_bytes();
        self.buffered_bytes = self.buffered_bytes - session.charged_bytes + holds;
        session.charged_bytes = holds;
        if self.buffered_bytes <= self.limits.buffered_bytes || holds <= UNCHARGED_BYTES {
            return;
        }
        if session.reply_bytes() > UNCHARGED_BYTES || session.ending != Ending::No {
            return self.close_session(io, id, Closing::Now, CloseReason::TooSlow);
        }
        session.pending.clear();
        session.ending = Ending::AfterAnswers;
        session.why = Some(CloseReason::TooSlow);
        self.say(id, OUT_OF_MEMORY);
        self.adjust_reading(io, id);
    }

    fn consume_pending(&mut self, id: SessionId) {
        let mut input = std::mem::take(&mut self.sessions[id].pending);
        let consumed = self.consume(id, input.rest());
        input.advance(consumed);
        let session = &mut self.sessions[id];
        if session.ending == Ending::AfterAnswers {
            input.clear();
        }
        session.pending = input;
    }

    /// Puts a session on the list of those whose input is gone on with in the next turn.
    pub(super) fn queue_session(&mut self, id: SessionId) {
        let session = &mut self.sessions[id];
        if !session.queued {
            session.queued = true;
            self.ready.push(id);
        }
    }

    pub(super) fn go_on_with_held_back_input<I: Io>(&mut self, io: &mut I) {
        let mut ready = std::mem::take(&mut self.ready);
        for id in ready.drain(..) {
            let Some(session) = self.sessions.find_mut(id) else { continue };
            session.queued = false;
            session.paused = false;
            self.consume_pending(id);
            self.adjust_reading(io, id);
            self.mark_session_dirty(id);
        }
        ready.append(&mut self.ready);
        self.ready = ready;
    }

    /// Tells the engine whether to read on. A client over a limit, or with much input held back, isn't read; it goes on
    /// with single reads, and as before once it is caught up.
    fn adjust_reading<I: Io>(&mut self, io: &mut I, id: SessionId) {
        if self.sessions[id].ending == Ending::AfterAnswers {
            self.mark_session_dirty(id);
        }
        let session = &mut self.sessions[id];
        let Some(conn) = session.conn else { return };
        let held_back = session.queued && session.pending.len() > HELD_BACK_BYTES;
        let off = session.paused || held_back || session.ending != Ending::No;
        if off != session.reading_off {
            session.reading_off = off;
            io.set_reading(conn, if off { Reading::Off } else { Reading::On });
        }
        if session.paused {
            // Whatever it waits for ends in a flush of this session, which looks whether it may go on.
            self.mark_session_dirty(id);
        }
    }

    pub(super) fn client_ended<I: Io>(&mut self, io: &mut I, id: SessionId, ended: Ended) {
        match ended {
            Ended::Eof => {
                let session = &mut self.sessions[id];
                if session.ending == Ending::No {
                    session.ending = Ending::AfterInput;
                }
                self.mark_session_dirty(id);
            }
            Ended::Errno(_) => self.close_session(io, id, Closing::Now, CloseReason::Lost),
        }
    }

    pub(super) fn client_sent<I: Io>(&mut self, io: &mut I, id: SessionId, succeeded: bool) {
        self.sessions[id].sending_bytes = 0;
        if !succeeded {
            return self.close_session(io, id, Closing::Now, CloseReason::Lost);
        }
        let session = &self.sessions[id];
        if !session.out.is_empty() || session.paused || session.ending != Ending::No {
            self.mark_session_dirty(id);
        }
    }

    pub(super) fn mark_session_dirty(&mut self, id: SessionId) {
        let session = &mut self.sessions[id];
        if !session.dirty {
            session.dirty = true;
            self.dirty_sessions.push(id);
        }
    }

    pub(super) fn flush_sessions<I: Io>(&mut self, io: &mut I) {
        // One that is told why it is cut comes up again behind the others.
        let mut at = 0;
        while let Some(id) = self.dirty_sessions.get(at).copied() {
            at += 1;
            if let Some(session) = self.sessions.find_mut(id) {
                session.dirty = false;
                self.flush_session(io, id);
            }
        }
        self.dirty_sessions.clear();
    }

    fn flush_session<I: Io>(&mut self, io: &mut I, id: SessionId) {
        let most_reply_bytes = self.most_reply_bytes();
        let session = &mut self.sessions[id];
        let Some(conn) = session.conn else { return };
        if session.sending_bytes == 0 && !session.out.is_empty() {
            let bytes = std::mem::take(&mut session.out);
            session.sending_bytes = bytes.len();
            self.metrics.client_bytes_out(bytes.len());
            io.send(conn, bytes);
        }
        if session.reply_bytes() > UNCHARGED_BYTES || session.charged_bytes > 0 {
            self.charge(io, id);
        }
        let Some(session) = self.sessions.find_mut(id) else { return };
        if session.reply_bytes() > most_reply_bytes {
            return self.close_session(io, id, Closing::Now, CloseReason::TooSlow);
        }
        if session.paused && self.may_resume(id) {
            self.queue_session(id);
        }
        let session = &self.sessions[id];
        let answered = session.waiting == 0 && session.out.is_empty();
        let ended = match session.ending {
            Ending::No => false,
            Ending::AfterInput => !session.paused && !session.queued,
            Ending::AfterAnswers => true,
        };
        if answered && ended {
            let why = session.why.unwrap_or(CloseReason::Done);
            self.close_session(io, id, Closing::Linger, why);
        }
    }

    /// A paused client goes on when half of what stopped it is gone.
    fn may_resume(&self, id: SessionId) -> bool {
        let session = &self.sessions[id];
        session.waiting <= session.resumes_at && session.expected_bytes() <= self.limits.reply_bytes_per_client / 2
    }

    /// Reply bytes beyond which a client is cut: it asked for more than it takes, faster than the estimate could tell.
    fn most_reply_bytes(&self) -> usize {
        self.limits.reply_bytes_per_client.saturating_mul(2).saturating_add(self.limits.value_bytes)
    }

    pub(super) fn close_session<I: Io>(&mut self, io: &mut I, id: SessionId, closing: Closing, reason: CloseReason) {
        let session = &mut self.sessions[id];
        self.metrics.client_closed(reason);
        self.buffered_bytes -= session.charged_bytes;
        if let Some(conn) = session.conn.take() {
            io.close(conn, closing);
            self.set_role(conn, Role::None);
        }
        let mut next = self.sessions[id].first;
        while let Some(request) = next {
            next = self.requests[request].next;
            self.let_go(request);
        }
        self.sessions.free(id);
    }

    pub(super) fn sweep_idle<I: Io>(&mut self, io: &mut I) {
        let idle = self.limits.client_idle.as_nanos() as Nanos;
        if idle == 0 || self.now < self.next_idle_sweep {
            return;
        }
        self.next_idle_sweep = self.now + idle / Nanos::from(IDLE_SWEEPS);
        for index in 0..self.sessions.capacity() {
            let Some(id) = self.sessions.id_at(index) else { continue };
            let session = &self.sessions[id];
            if session.waiting == 0 && session.reply_bytes() == 0 && self.now >= session.heard_at + idle {
                self.close_session(io, id, Closing::Linger, CloseReason::Idle);
            }
        }
    }
}

/// A hash of a client's address that is the same on every host and in every run, and differs in all bits.
fn hash_of_address(address: std::net::IpAddr) -> u64 {
    let bytes = match address {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(address) => address.octets(),
    };
    xxhash_rust::xxh3::xxh3_64(&bytes)
}
