//! What the embedded server answers: one request to its store, one reply into the connection's output.
//!
//! Owns: the replies' wording, which is memcached 1.6's. Never does I/O and reads no clock.

use super::store::{Counted, Direction, Mode, Store, Stored, parse_number};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{Request, RequestError, write};

/// What the embedded server calls itself.
pub(super) const VERSION: &str = "1.6.0-keyway-embedded";

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Continue,
    /// `quit`: nothing after it counts.
    Close,
}

/// Counts for `stats`, over all of a server's connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnswerCounts {
    pub(super) started_at: u64,
    pub(super) current_connections: u64,
    pub(super) total_connections: u64,
    get_hits: u64,
    get_misses: u64,
    sets: u64,
    flushes: u64,
    touches: u64,
}

/// One server: its items and its counts.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) store: Store,
    pub(super) counts: AnswerCounts,
}

impl Server {
    pub(super) fn new(memory_bytes: usize, now: u64) -> Server {
        Server { store: Store::new(memory_bytes), counts: AnswerCounts { started_at: now, ..AnswerCounts::default() } }
    }

    /// Does what `request` asks and writes the reply.
    pub(super) fn answer(&mut self, request: &Request<'_>, now: u64, out: &mut Vec<u8>) -> After {
        let before = out.len();
        match request.operation {
            Operation::Get | Operation::Gets => self.get(request, None, now, out),
            Operation::Gat | Operation::Gats => match exptime(request) {
                Some(exptime) => self.get(request, Some(exptime), now, out),
                None => out.extend_from_slice(RequestError::BadExptime.reply()),
            },
            Operation::Set => self.store(request, Mode::Set, now, out),
            Operation::Add => self.store(request, Mode::Add, now, out),
            Operation::Replace => self.store(request, Mode::Replace, now, out),
            Operation::Append => self.store(request, Mode::Append, now, out),
            Operation::Prepend => self.store(request, Mode::Prepend, now, out),
            Operation::Cas => match token(request, 5).and_then(parse_number) {
                Some(unique) => self.store(request, Mode::Cas(unique), now, out),
                None => out.extend_from_slice(RequestError::BadLine.reply()),
            },
            Operation::Delete => {
                let deleted = self.store.delete(request.key_bytes(), now);
                out.extend_from_slice(if deleted { write::DELETED } else { write::NOT_FOUND });
            }
            Operation::Incr => self.count(request, Direction::Incr, now, out),
            Operation::Decr => self.count(request, Direction::Decr, now, out),
            Operation::Touch => self.touch(request, now, out),
            Operation::Stats => self.stats(request, now, out),
            Operation::Version => write::write_version(out, VERSION),
            Operation::Verbosity => out.extend_from_slice(write::OK),
            Operation::FlushAll => self.flush_all(request, now, out),
            Operation::Quit => return After::Close,
        }
        if request.is_noreply() {
            out.truncate(before);
        }
        After::Continue
    }

    fn get(&mut self, request: &Request<'_>, exptime: Option<i64>, now: u64, out: &mut Vec<u8>) {
        let with_cas = matches!(request.operation, Operation::Gets | Operation::Gats);
        for key in request.keys_iter() {
            let item = match exptime {
                Some(exptime) => self.store.fetch_and_touch(key, exptime, now),
                None => self.store.fetch(key, now),
            };
            self.counts.touches += u64::from(exptime.is_some());
            match item {
                Some(item) => {
                    self.counts.get_hits += 1;
                    write::write_value(out, key, item.flags, item.value, with_cas.then_some(item.cas));
                }
                None => self.counts.get_misses += 1,
            }
        }
        out.extend_from_slice(write::END);
    }

    fn store(&mut self, request: &Request<'_>, mode: Mode, now: u64, out: &mut Vec<u8>) {
        let flags = token(request, 2).and_then(parse_number).and_then(|flags| u32::try_from(flags).ok());
        let (Some(flags), Some(exptime)) = (flags, exptime(request)) else {
            out.extend_from_slice(RequestError::BadLine.reply());
            return;
        };
        self.counts.sets += 1;
        let value = &request.frame[request.value.clone()];
        let reply: &[u8] = match self.store.store(mode, request.key_bytes(), flags, exptime, value, now) {
            Stored::Stored => write::STORED,
            Stored::NotStored => write::NOT_STORED,
            Stored::Exists => write::EXISTS,
            Stored::NotFound => write::NOT_FOUND,
            Stored::TooLarge => RequestError::ValueTooLarge.reply(),
        };
        out.extend_from_slice(reply);
    }

    fn count(&mut self, request: &Request<'_>, direction: Direction, now: u64, out: &mut Vec<u8>) {
        let Some(delta) = token(request, 2).and_then(parse_number) else {
            out.extend_from_slice(RequestError::BadDelta.reply());
            return;
        };
        match self.store.count(request.key_bytes(), direction, delta, now) {
            Counted::Now(number) => write::write_number(out, number),
            Counted::NotFound => out.extend_from_slice(write::NOT_FOUND),
            Counted::NotANumber => {
                out.extend_from_slice(write::NON_NUMERIC);
            }
        }
    }

    fn touch(&mut self, request: &Request<'_>, now: u64, out: &mut Vec<u8>) {
        let Some(exptime) = exptime(request) else {
            out.extend_from_slice(RequestError::BadExptime.reply());
            return;
        };
        self.counts.touches += 1;
        let touched = self.store.touch(request.key_bytes(), exptime, now);
        out.extend_from_slice(if touched { write::TOUCHED } else { write::NOT_FOUND });
    }

    fn flush_all(&mut self, request: &Request<'_>, now: u64, out: &mut Vec<u8>) {
        let delay = match token(request, 1) {
            None | Some(b"noreply") => Some(0),
            Some(delay) => parse_exptime(delay),
        };
        let Some(delay) = delay else {
            out.extend_from_slice(RequestError::BadExptime.reply());
            return;
        };
        self.counts.flushes += 1;
        self.store.flush_all(delay, now);
        out.extend_from_slice(write::OK);
    }

    /// The general statistics under memcached's names; of the others only `reset` is known, and does nothing.
    fn stats(&mut self, request: &Request<'_>, now: u64, out: &mut Vec<u8>) {
        match token(request, 1) {
            None => {}
            Some(b"reset") => {
                out.extend_from_slice(write::RESET);
                return;
            }
            Some(_) => {
                out.extend_from_slice(write::END);
                return;
            }
        }
        let (counts, store) = (&self.counts, self.store.counts());
        let mut stat = |name: &str, value: u64| write::write_stat(out, name, value.to_string().as_bytes());
        stat("pid", u64::from(std::process::id()));
        stat("uptime", now - counts.started_at);
        stat("time", now);
        stat("pointer_size", u64::from(usize::BITS));
        stat("curr_connections", counts.current_connections);
        stat("total_connections", counts.total_connections);
        stat("cmd_get", counts.get_hits + counts.get_misses);
        stat("cmd_set", counts.sets);
        stat("cmd_flush", counts.flushes);
        stat("cmd_touch", counts.touches);
        stat("get_hits", counts.get_hits);
        stat("get_misses", counts.get_misses);
        stat("limit_maxbytes", self.store.memory_bytes() as u64);
        stat("threads", 1);
        stat("bytes", self.store.used_bytes() as u64);
        stat("curr_items", store.items);
        stat("total_items", store.total_items);
        stat("evictions", store.evictions);
        write::write_stat(out, "version", VERSION.as_bytes());
        out.extend_from_slice(write::END);
    }
}

/// The `at`th token of the request's line, the command being the 0th.
fn token<'a>(request: &Request<'a>, at: usize) -> Option<&'a [u8]> {
    let line = request.frame.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    line.split(|byte| *byte == b' ').filter(|token| !token.is_empty()).nth(at)
}

fn exptime(request: &Request<'_>) -> Option<i64> {
    parse_exptime(&request.frame[request.exptime.clone()])
}

fn parse_exptime(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse::<i32>().ok().map(i64::from)
}
