//! Connections to servers: made on demand, flushed once a turn, lost, backed off, timed out, suspected.

use super::request::RequestId;
use super::upstream::{Connection, InFlight, Link};
use super::{Role, Shard};
use crate::messages::FromShard;
use crate::table::ServerKey;
use crate::trouble::Trouble;
use keyway_io_engine::{Closing, ConnectError, Io, Nanos};
use keyway_policies::Failure;
use keyway_protocol::memcached::text::{ReplyParsed, ReplyParser};
use std::cmp::Reverse;

/// How many replies ahead of the one at hand a request is fetched into the cache.
const LOOK_AHEAD: usize = 2;

impl Shard {
    // --- connect ---

    pub(super) fn mark_connection_dirty(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.dirty {
            connection.dirty = true;
            self.dirty_connections.push(index);
        }
    }

    pub(super) fn flush_connections<I: Io>(&mut self, io: &mut I) {
        let mut dirty = std::mem::take(&mut self.dirty_connections);
        for index in dirty.drain(..) {
            self.connections[index].dirty = false;
            self.flush_connection(io, index);
        }
        // A connect that fails at once marks other connections dirty: they go out in the next turn, which won't wait.
        dirty.append(&mut self.dirty_connections);
        self.dirty_connections = dirty;
    }

    fn flush_connection<I: Io>(&mut self, io: &mut I, index: usize) {
        let connection = &mut self.connections[index];
        if connection.out.is_empty() {
            return;
        }
        match connection.link {
            Link::Idle { not_before } if self.now >= not_before => self.connect(io, index),
            Link::Idle { not_before } => self.next_deadline = self.next_deadline.min(not_before),
            Link::Connecting { .. } => {}
            Link::Up { conn } if connection.sending_bytes == 0 => {
                let bytes = std::mem::replace(&mut connection.out, self.buffers.take());
                connection.sending_bytes = bytes.len();
                connection.unsent = 0;
                connection.open_get = None;
                io.send(conn, bytes);
            }
            Link::Up { .. } => {}
        }
    }

    fn connect<I: Io>(&mut self, io: &mut I, index: usize) {
        let server = self.connections[index].server;
        let Some(state) = self.servers[server].as_ref() else { return };
        let Some(address) = state.address.as_ref() else {
            return self.connect_failed(index, Some(Trouble::Unreachable));
        };
        match io.connect(address) {
            Ok(conn) => {
                let until = self.now + state.pool.connect_timeout.as_nanos() as Nanos;
                self.connections[index].link = Link::Connecting { conn, until };
                self.next_deadline = self.next_deadline.min(until);
                self.set_role(conn, Role::Upstream(index));
            }
            Err(error) => self.connect_failed(index, trouble_of(error)),
        }
    }

    pub(super) fn server_connected<I: Io>(&mut self, io: &mut I, index: usize, result: Result<(), ConnectError>) {
        let connection = &mut self.connections[index];
        let Link::Connecting { conn, .. } = connection.link else { return };
        match result {
            Ok(()) => {
                connection.link = Link::Up { conn };
                if let Some(server) = self.servers[connection.server].as_mut() {
                    server.record.connected();
                }
                self.metrics.upstream_connected(connection.server);
                self.mark_connection_dirty(index);
            }
            Err(error) => {
                io.close(conn, Closing::Now);
                self.set_role(conn, Role::None);
                self.connect_failed(index, trouble_of(error));
            }
        }
    }

    /// Nothing of this connection's queue was ever sent: all of it fails as unavailable. What this process lacks itself
    /// is no trouble of the server.
    fn connect_failed(&mut self, index: usize, trouble: Option<Trouble>) {
        let random = self.next_random();
        let connection = &mut self.connections[index];
        connection.back_off(self.now, random);
        connection.drop_unsent_bytes();
        let server = connection.server;
        if let Some(trouble) = trouble {
            self.server_failed(server, trouble, 1);
        }
        self.fail_entries(index, usize::MAX, Failure::Unavailable);
    }

    // --- replies ---

    pub(super) fn server_received<I: Io>(&mut self, io: &mut I, index: usize, bytes: &[u8]) {
        let connection = &mut self.connections[index];
        self.metrics.upstream_bytes_in(bytes.len());
        if connection.pending.is_empty() {
            match self.take_replies(index, bytes) {
                Some(consumed) => self.connections[index].pending.push(&bytes[consumed..]),
                None => self.lose_connection(io, index, Failure::Misaligned),
            }
            return;
        }
        connection.pending.push(bytes);
        let mut input = std::mem::take(&mut connection.pending);
        match self.take_replies(index, input.rest()) {
            Some(consumed) => {
                input.advance(consumed);
                self.connections[index].pending = input;
            }
            None => self.lose_connection(io, index, Failure::Misaligned),
        }
    }

    /// Hands on every whole reply in `bytes`; returns the bytes consumed, or `None` when they are out of step.
    fn take_replies(&mut self, index: usize, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut replies) = (0, 0);
        while at < bytes.len() {
            let connection = &mut self.connections[index];
            // Entries whose bytes never left can't be what the server answers.
            if connection.fifo.len() == connection.unsent {
                return None;
            }
            let expect = connection.fifo.front()?.expect;
            if let Some(later) = connection.fifo.get(LOOK_AHEAD) {
                self.requests.expect_soon(later.request);
            }
            match connection.parser.parse(expect, &bytes[at..]) {
                ReplyParsed::NeedMore => break,
                ReplyParsed::Misaligned => return None,
                ReplyParsed::Reply { reply, consumed } => {
                    if !self.take_reply(index, &bytes[at..at + consumed], &reply) {
                        return None;
                    }
                    at += consumed;
                    replies += 1;
                }
            }
        }
        if at > 0 {
            self.server_answered(index, replies);
        }
        Some(at)
    }

    fn server_answered(&mut self, index: usize, replies: u32) {
        let connection = &mut self.connections[index];
        connection.reset_backoff();
        if let Some(server) = self.servers[connection.server].as_mut() {
            server.record.replied(replies);
        }
    }

    pub(super) fn server_sent<I: Io>(&mut self, io: &mut I, index: usize, bytes: usize, succeeded: bool) {
        self.connections[index].sending_bytes = 0;
        if !succeeded {
            return self.lose_connection(io, index, Failure::ConnectionLost);
        }
        self.metrics.upstream_bytes_out(bytes);
        if !self.connections[index].out.is_empty() {
            self.mark_connection_dirty(index);
        }
    }

    // --- losses ---

    pub(super) fn server_ended<I: Io>(&mut self, io: &mut I, index: usize) {
        self.lose_connection(io, index, Failure::ConnectionLost);
    }

    /// Closes a connection. What was sent and has no reply fails (reads are asked once more); what was never sent waits
    /// for the next connection.
    pub(super) fn lose_connection<I: Io>(&mut self, io: &mut I, index: usize, failure: Failure) {
        let random = self.next_random();
        let limits = self.text_limits();
        let connection = &mut self.connections[index];
        let Some(conn) = connection.conn() else { return };
        let was_up = matches!(connection.link, Link::Up { .. });
        let was_idle = connection.fifo.is_empty() && failure == Failure::ConnectionLost;
        connection.pending.clear();
        connection.parser = ReplyParser::new(limits);
        connection.sending_bytes = 0;
        connection.timeouts_in_row = 0;
        connection.open_get = None;
        let server = connection.server;
        if was_idle {
            // A server that restarts or tidies up: nobody was hurt, so the next request connects at once.
            connection.link = Link::Idle { not_before: self.now };
        } else {
            connection.back_off(self.now, random);
        }
        let sent = connection.fifo.len() - connection.unsent;
        io.close(conn, Closing::Now);
        self.set_role(conn, Role::None);
        if was_up {
            self.metrics.upstream_disconnected(server);
        }
        if let Some(trouble) = trouble_of_loss(failure).filter(|_| !was_idle) {
            self.server_failed(server, trouble, 1);
        }
        self.fail_entries(index, sent, failure);
        self.mark_connection_dirty(index);
    }

    /// Closes a connection for good: what was never sent has nowhere to wait any more.
    pub(super) fn give_up_connection<I: Io>(&mut self, io: &mut I, index: usize) {
        let connection = &mut self.connections[index];
        connection.drop_unsent_bytes();
        connection.unsent = 0;
        self.lose_connection(io, index, Failure::Unavailable);
        // One that isn't connected has a queue all the same.
        self.fail_entries(index, usize::MAX, Failure::Unavailable);
    }

    /// Takes up to `count` entries off the FIFO's head and fails them, or queues them again where that is safe.
    fn fail_entries(&mut self, index: usize, count: usize, failure: Failure) {
        let mut lost = std::mem::take(&mut self.lost);
        let connection = &mut self.connections[index];
        let count = count.min(connection.fifo.len());
        lost.extend(connection.fifo.drain(..count));
        connection.tombstones = connection.tombstones.saturating_sub(count);
        connection.shared_at = 0;
        connection.unsent = connection.unsent.min(connection.fifo.len());
        self.in_flight -= count;
        if failure == Failure::ConnectionLost {
            self.ask_again(index, &mut lost);
        }
        for entry in lost.drain(..) {
            if !entry.delivered && entry.request != RequestId::NONE {
                self.failed(index, &entry, failure);
            }
        }
        self.lost = lost;
    }

    /// The server failed in a way that speaks against it. Once that is enough, this shard holds it for down, and the
    /// control plane looks into it and tells the others.
    fn server_failed(&mut self, key: usize, trouble: Trouble, requests: u32) {
        let Some(server) = self.servers[key].as_mut() else { return };
        let suspicion = server.record.failed(trouble, requests, &server.rules);
        if let Some(suspicion) = suspicion.filter(|_| server.healthy) {
            server.healthy = false;
            server.trouble = Some(trouble);
            self.report(FromShard::Suspect { shard: self.number, key: ServerKey(key as u32), suspicion });
            self.refresh_health();
        }
    }

    /// What took the server out, as this shard found or was told; `None` while it is healthy.
    pub fn trouble(&self, key: ServerKey) -> Option<Trouble> {
        self.servers.get(key.0 as usize)?.as_ref()?.trouble
    }

    // --- time ---

    pub(super) fn expire<I: Io>(&mut self, io: &mut I) {
        if self.now >= self.next_deadline {
            self.next_deadline = Nanos::MAX;
            for index in 0..self.connections.len() {
                self.expire_connection(io, index);
                if let Some(at) = self.connections[index].next_deadline() {
                    self.next_deadline = self.next_deadline.min(at);
                }
            }
        }
        while let Some(Reverse((at, request))) = self.late.peek().copied()
            && at <= self.now
        {
            self.late.pop();
            self.request_expired(RequestId::from_bits(request));
        }
        // What asks to be woken at once is woken in the next turn: nothing can go round here.
        for _ in 0..self.wakes.len() {
            match self.wakes.peek().copied() {
                Some(Reverse((at, request, frame))) if at <= self.now => {
                    self.wakes.pop();
                    self.woken(RequestId::from_bits(request), frame);
                }
                Some(_) | None => break,
            }
        }
        self.sweep_idle(io);
    }

    fn expire_connection<I: Io>(&mut self, io: &mut I, index: usize) {
        match self.connections[index].link {
            Link::Connecting { conn, until } if self.now >= until => {
                io.close(conn, Closing::Now);
                self.set_role(conn, Role::None);
                return self.connect_failed(index, Some(Trouble::ConnectTimeout));
            }
            Link::Idle { not_before } if self.now >= not_before && !self.connections[index].out.is_empty() => {
                self.mark_connection_dirty(index);
            }
            Link::Idle { .. } | Link::Connecting { .. } | Link::Up { .. } => {}
        }
        let mut expired = 0;
        while let Some(entry) = self.connections[index].expire_next(self.now) {
            expired += 1;
            if !entry.delivered {
                self.failed(index, &entry, Failure::Timeout);
            }
        }
        if expired == 0 {
            return;
        }
        let server = self.connections[index].server;
        self.server_failed(server, Trouble::Timeout, expired);
        if self.connections[index].timeouts_in_row >= self.limits.timeouts_per_connection {
            self.lose_connection(io, index, Failure::Timeout);
        }
    }
}

/// What a failed connect says against the server.
fn trouble_of(error: ConnectError) -> Option<Trouble> {
    match error {
        ConnectError::Errno(errno) => Some(Trouble::from_connect_errno(errno)),
        ConnectError::OutOfDescriptors => None,
    }
}

/// What the loss of a connection says against the server.
fn trouble_of_loss(failure: Failure) -> Option<Trouble> {
    match failure {
        Failure::ConnectionLost => Some(Trouble::ConnectionLost),
        Failure::Misaligned => Some(Trouble::Misaligned),
        // The timeouts that made this shard close it were counted as they came.
        Failure::Timeout => None,
        // This shard's own doing.
        Failure::Unavailable | Failure::DeadlineExceeded | Failure::QueueFull | Failure::NotReplayable => None,
    }
}

impl Connection {
    /// Turns the oldest entry whose time is up into a tombstone and returns what it was.
    fn expire_next(&mut self, now: Nanos) -> Option<InFlight> {
        let entry = self.fifo.get_mut(self.tombstones)?;
        if entry.expires_at > now {
            return None;
        }
        let expired = *entry;
        entry.request = RequestId::NONE;
        self.tombstones += 1;
        self.timeouts_in_row += 1;
        Some(expired)
    }

    fn drop_unsent_bytes(&mut self) {
        self.out.clear();
        self.open_get = None;
    }
}
