//! The embedded servers' connections: bytes in, requests answered in order, one send per turn.
//!
//! Owns: sessions, what of a request has arrived, what of the replies is not sent yet. Never forwards anything and
//! knows no route. Invariants: a session with more than `OUTPUT_BYTES_MAX` of replies is neither read nor answered until
//! they are sent; at most one request's bytes and what one read brought are held back.

use super::answer::{After, Server};
use keyway_io_engine::{Closing, Conn, ConnectError, Ended, Handler, Io, ListenerId, Nanos, Reading};
use keyway_protocol::memcached::text::{AfterRefusal, Limits, Parsed, RequestError, RequestParser};

/// Replies held for one connection, beyond which its requests wait. One more reply may come on top.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Connections of all embedded servers together.
const CONNECTIONS_MAX: usize = 4096;
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";
const NANOS_PER_SECOND: Nanos = 1_000_000_000;

/// What requests may be: a little over what a store takes, so that it is the store that refuses.
pub(super) const LIMITS: Limits =
    Limits { key_bytes: 250, line_bytes: 2048, retrieval_line_bytes: 1 << 20, value_bytes: 1 << 20 };

/// One connection's bytes, apart from any socket.
#[derive(Debug)]
pub(super) struct Conversation {
    parser: RequestParser,
    /// Bytes that arrived and are not answered, from the start of a request.
    input: Vec<u8>,
    /// Replies not given to a send yet.
    pub(super) output: Vec<u8>,
    /// Nothing more is answered: `quit`, or a stream that can't be put back in step.
    pub(super) over: bool,
}

impl Conversation {
    pub(super) fn new() -> Conversation {
        Conversation { parser: RequestParser::new(LIMITS), input: Vec::new(), output: Vec::new(), over: false }
    }

    /// Answers what `bytes` completes. False when replies have piled up and requests wait.
    pub(super) fn receive(&mut self, bytes: &[u8], server: &mut Server, now: u64) -> bool {
        if !self.input.is_empty() {
            self.input.extend_from_slice(bytes);
            return self.resume(server, now);
        }
        let (consumed, all) = self.answer(bytes, server, now);
        self.input.extend_from_slice(&bytes[consumed..]);
        all
    }

    /// Goes on with the requests that waited. False when they still do.
    pub(super) fn resume(&mut self, server: &mut Server, now: u64) -> bool {
        let mut input = std::mem::take(&mut self.input);
        let (consumed, all) = self.answer(&input, server, now);
        input.drain(..consumed);
        self.input = input;
        all
    }

    fn answer(&mut self, bytes: &[u8], server: &mut Server, now: u64) -> (usize, bool) {
        let mut at = 0;
        while !self.over {
            if self.output.len() > OUTPUT_BYTES_MAX {
                return (at, false);
            }
            match self.parser.parse(&bytes[at..]) {
                Parsed::NeedMore => return (at, true),
                Parsed::Request(request) => {
                    at += request.frame.len();
                    self.over = server.answer(&request, now, &mut self.output) == After::Close;
                }
                Parsed::Skip(bytes) => at += bytes,
                Parsed::Refused { error, consumed, noreply, after } => {
                    if error == RequestError::ValueTooLarge {
                        drop_replaced(&bytes[at..at + consumed], server, now);
                    }
                    at += consumed;
                    if !noreply {
                        self.output.extend_from_slice(error.reply());
                    }
                    self.over = after == AfterRefusal::Close;
                }
            }
        }
        (bytes.len(), true)
    }
}

/// A refused `set` still ends the life of the item it was to replace, as in memcached.
fn drop_replaced(line: &[u8], server: &mut Server, now: u64) {
    let mut tokens = line.split(|byte| *byte == b' ').filter(|token| !token.is_empty());
    if let (Some(b"set"), Some(key)) = (tokens.next(), tokens.next()) {
        server.store.delete(key, now);
    }
}

#[derive(Debug)]
struct Session {
    conn: Conn,
    server: usize,
    conversation: Conversation,
    sending: bool,
    /// Requests wait for replies to be sent, and nothing is read.
    waiting: bool,
    /// The client sends no more.
    ended: bool,
    /// Close once everything is sent.
    closing: bool,
    dirty: bool,
}

/// All embedded servers' sessions: what the engine talks to.
#[derive(Debug)]
pub(super) struct Sessions {
    servers: Vec<Server>,
    /// By `Conn::index`.
    sessions: Vec<Option<Session>>,
    count: usize,
    /// Indices of sessions with something to send.
    dirty: Vec<u32>,
    /// A vector that came back from a send, for the next one.
    spare: Vec<u8>,
    /// Unix time at the engine's time 0.
    started_at: u64,
    /// The doorbell rang: the thread is to end.
    pub(super) stopped: bool,
}

impl Sessions {
    /// One server per listener, each with a store of `memory_bytes`.
    pub(super) fn new(servers: usize, memory_bytes: usize, started_at: u64) -> Sessions {
        Sessions {
            servers: (0..servers).map(|_| Server::new(memory_bytes, started_at)).collect(),
            sessions: Vec::new(),
            count: 0,
            dirty: Vec::new(),
            spare: Vec::new(),
            started_at,
            stopped: false,
        }
    }

    fn unix_seconds(&self, now: Nanos) -> u64 {
        self.started_at + now / NANOS_PER_SECOND
    }

    fn session(&mut self, conn: Conn) -> Option<&mut Session> {
        self.sessions.get_mut(conn.index as usize)?.as_mut().filter(|session| session.conn == conn)
    }

    fn mark_dirty(&mut self, conn: Conn) {
        if let Some(session) = self.session(conn)
            && !session.dirty
        {
            session.dirty = true;
            self.dirty.push(conn.index);
        }
    }

    fn close<I: Io>(&mut self, io: &mut I, conn: Conn, closing: Closing) {
        if let Some(session) = self.session(conn) {
            let server = session.server;
            self.sessions[conn.index as usize] = None;
            self.count -= 1;
            self.servers[server].counts.current_connections -= 1;
            io.close(conn, closing);
        }
    }

    /// Lets the session at `conn` go on with `bytes`, or with what waited when there are none.
    fn converse<I: Io>(&mut self, io: &mut I, conn: Conn, bytes: Option<&[u8]>) {
        let now = self.unix_seconds(io.now());
        let Some(session) = self.sessions.get_mut(conn.index as usize).and_then(Option::as_mut) else { return };
        if session.conn != conn || session.closing {
            return;
        }
        let server = &mut self.servers[session.server];
        let all = match bytes {
            Some(bytes) => session.conversation.receive(bytes, server, now),
            None => session.conversation.resume(server, now),
        };
        if all == session.waiting {
            session.waiting = !all;
            io.set_reading(conn, if all { Reading::On } else { Reading::Off });
        }
        session.closing = session.conversation.over || (session.ended && all);
        self.mark_dirty(conn);
    }
}

impl<I: Io> Handler<I> for Sessions {
    fn accepted(&mut self, io: &mut I, listener: ListenerId, conn: Conn) {
        let index = conn.index as usize;
        if self.count == CONNECTIONS_MAX {
            io.send(conn, TOO_MANY.to_vec());
            io.close(conn, Closing::Linger);
            return;
        }
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, || None);
        }
        let server = usize::from(listener.0);
        self.sessions[index] = Some(Session {
            conn,
            server,
            conversation: Conversation::new(),
            sending: false,
            waiting: false,
            ended: false,
            closing: false,
            dirty: false,
        });
        self.count += 1;
        self.servers[server].counts.current_connections += 1;
        self.servers[server].counts.total_connections += 1;
    }

    fn connected(&mut self, _io: &mut I, _conn: Conn, _result: Result<(), ConnectError>) {
        // Embedded servers connect nowhere.
    }

    fn received(&mut self, io: &mut I, conn: Conn, bytes: &[u8]) {
        self.converse(io, conn, Some(bytes));
    }

    fn ended(&mut self, io: &mut I, conn: Conn, ended: Ended) {
        match ended {
            // What was asked before the end is still answered, to those who only closed their sending side.
            Ended::Eof => {
                if let Some(session) = self.session(conn) {
                    session.ended = true;
                    session.closing |= !session.waiting;
                    self.mark_dirty(conn);
                }
            }
            Ended::Errno(_) => self.close(io, conn, Closing::Now),
        }
    }

    fn sent(&mut self, io: &mut I, conn: Conn, mut bytes: Vec<u8>, result: Result<(), i32>) {
        bytes.clear();
        if bytes.capacity() <= OUTPUT_BYTES_MAX {
            self.spare = bytes;
        }
        let Some(session) = self.session(conn) else { return };
        session.sending = false;
        if result.is_err() {
            self.close(io, conn, Closing::Now);
        } else if session.waiting {
            self.converse(io, conn, None);
        } else {
            self.mark_dirty(conn);
        }
    }

    fn doorbell(&mut self, _io: &mut I) {
        self.stopped = true;
    }

    fn turn_ended(&mut self, io: &mut I) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            let Some(session) = self.sessions[index as usize].as_mut() else { continue };
            session.dirty = false;
            let conn = session.conn;
            if session.sending {
                continue;
            }
            if !session.conversation.output.is_empty() {
                session.sending = true;
                let output = std::mem::replace(&mut session.conversation.output, std::mem::take(&mut self.spare));
                io.send(conn, output);
            } else if session.closing {
                self.close(io, conn, Closing::Linger);
            }
        }
        self.dirty = dirty;
    }
}
