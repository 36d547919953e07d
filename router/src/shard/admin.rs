//! Gets of keys that begin with `__mcrouter__.`: answered here, never sent to a server.
//!
//! Owns what is put before the text that `crate::admin` makes. Allocates: these are for people and their tools. Bounds:
//! `ANSWERS_PER_TURN` for all clients of the shard, and no answer for one that leaves its replies lying.

use super::Shard;
use super::request::{Place, RequestId};
use crate::admin::{PREFIX, View, answer};
use keyway_policies::routes::explain::ExplainAt;
use keyway_policies::{ClientView, HealthView};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::write;

/// Most answers of a turn: each may walk a tree and write much.
const ANSWERS_PER_TURN: usize = 64;
/// What is said beyond that.
const TOO_MANY: &[u8] = b"ERROR: too many of these at once";
/// What is said to who doesn't take what it asked for.
const TOO_MUCH: &[u8] = b"ERROR: too much was asked for that isn't taken yet";
/// The answer to anything but a get.
const READ_ONLY: &[u8] = b"CLIENT_ERROR keyway: keys beginning with __mcrouter__. are for get and gets only\r\n";

impl Shard {
    /// True for a key that no server is asked for. The first bytes are all that other keys are looked at for.
    #[inline]
    pub(super) fn is_for_router(&self, key: &[u8]) -> bool {
        key.starts_with(PREFIX) && self.admin_keys
    }

    /// Answers a request with such a key.
    pub(super) fn answer_for_router(&mut self, id: RequestId, key: &[u8]) {
        let with_cas = match self.requests[id].operation() {
            Operation::Get => false,
            Operation::Gets => true,
            _ => return self.deliver(id, READ_ONLY),
        };
        self.admin_answers += 1;
        let words = if self.admin_answers > ANSWERS_PER_TURN {
            TOO_MANY.to_vec()
        } else if self.leaves_much_lying(id) {
            TOO_MUCH.to_vec()
        } else {
            self.words_about_router(id, &key[PREFIX.len()..])
        };
        let mut text = self.buffers.take();
        text.extend_from_slice(b"VALUE ");
        text.extend_from_slice(key);
        text.extend_from_slice(b" 0 ");
        write::write_decimal(&mut text, words.len() as u64);
        text.extend_from_slice(if with_cas { b" 0\r\n" } else { b"\r\n" });
        text.extend_from_slice(&words);
        text.extend_from_slice(write::CRLF);
        if self.requests[id].parent().is_none() {
            text.extend_from_slice(write::END);
        }
        self.deliver(id, &text);
        self.buffers.give(text);
    }

    /// True when the client holds more replies than it may: a get of many keys isn't held up by that while it is taken in.
    fn leaves_much_lying(&self, id: RequestId) -> bool {
        let of_session = self.requests[id].parent().unwrap_or(id);
        let Place::Session(session) = self.requests[of_session].place else { return false };
        self.sessions[session].reply_bytes() >= self.limits.reply_bytes_per_client
    }

    fn words_about_router(&self, id: RequestId, asked: &[u8]) -> Vec<u8> {
        let request = &self.requests[id];
        let state = self.tables[request.table as usize].as_ref().expect("a table with live requests stays");
        let client = ClientView { number: request.session_number, address_hash: request.client_hash };
        let unix_ms = self.unix_ms_at_zero + self.now / 1_000_000;
        let view = View {
            table: &state.table,
            route: request.route as usize,
            health: HealthView(&state.health),
            at: ExplainAt { unix_ms, client, host_id: state.table.host_id },
            config_age_seconds: (self.now - state.adopted_at) / 1_000_000_000,
        };
        answer(asked, &view)
    }
}
