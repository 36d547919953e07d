//! Requests of the memcached text protocol: a resumable parser that works on the bytes where they lie.
//!
//! Owns: framing and memcached's own error strings (`command.rs` owns the commands' grammar). Never holds bytes, looks
//! twice at bytes of a line that is not whole, or reads again a line whose data block is still coming.
//!
//! Invariants:
//! * A frame handed out as `Parsed::Request`, its noreply cut out, is one that every memcached answers with exactly one
//!   reply of the shape `Expect::from_operation` and without closing, so a shared upstream connection stays in step.
//! * What is answered does not depend on how the bytes were cut into pieces, `Skip`s apart, which come as bytes come.
//! * Where the stream can't be kept in step the answer is `AfterRefusal::Close`; after it, and after `quit`, all that
//!   follows is `Skip`: nothing pipelined behind is ever taken for a request.

use super::command::{self, Line, Refusal, Shape};
use super::token::{examined, next_token};
use super::{KEY_BYTES_MAX, LINE_BYTES_MAX, Limits, VALUE_BYTES_MAX};
use crate::Operation;
use memchr::memchr;
use std::ops::Range;

/// One whole request, borrowed from the bytes it arrived in. Ranges index `frame`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is asked.
    pub operation: Operation,
    /// The line and, for storage commands, the data block, both with their line ends.
    pub frame: &'a [u8],
    /// The first key; empty for operations without one.
    pub key: Range<usize>,
    /// From the first key to the end of the last: what `Keys` walks. Equals `key` unless there are several keys.
    pub keys: Range<usize>,
    /// How many keys: 0 for control operations, more than 1 only for get, gets, gat and gats.
    pub key_count: usize,
    /// The exptime token as sent; empty where the command has none.
    pub exptime: Range<usize>,
    /// The data block without its line end; empty where the command has none.
    pub value: Range<usize>,
    /// The ` noreply` token with the space before it, to be cut out before forwarding; empty when absent.
    pub noreply: Range<usize>,
}

impl<'a> Request<'a> {
    /// The first key; empty for operations without one.
    pub fn key_bytes(&self) -> &'a [u8] {
        &self.frame[self.key.clone()]
    }

    /// Every key, in the order sent.
    pub fn keys_iter(&self) -> Keys<'a> {
        Keys { rest: &self.frame[self.keys.clone()] }
    }

    /// True when the client asked for no reply.
    pub fn is_noreply(&self) -> bool {
        !self.noreply.is_empty()
    }

    /// The frame without its noreply, in two parts to be sent one after the other; the second is empty when there was
    /// none.
    pub fn forwarded(&self) -> (&'a [u8], &'a [u8]) {
        if self.noreply.is_empty() {
            (self.frame, &[])
        } else {
            (&self.frame[..self.noreply.start], &self.frame[self.noreply.end..])
        }
    }
}

/// The keys of a request, in order.
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let key = next_token(self.rest, 0)?;
        let (taken, rest) = self.rest.split_at(key.end);
        self.rest = rest;
        Some(&taken[key.start..])
    }
}

/// What a parse step found at the start of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// Not whole yet. Call again with the same bytes from the same start and more behind them.
    NeedMore,
    /// A whole request; the next one starts `request.frame.len()` bytes on.
    Request(Request<'a>),
    /// Bytes to drop without a word, at least one: the data block of a refused storage command, spaces before a command,
    /// what follows quit or a refusal that closes. May be fewer than remain to be dropped.
    Skip(usize),
    /// A request that is answered here and goes nowhere. `consumed` bytes are done with.
    Refused {
        /// What was wrong; its text goes to the client.
        error: RequestError,
        /// Bytes done with, to the end of the line (data blocks follow as `Skip`).
        consumed: usize,
        /// True when the client asked for no reply and memcached would stay silent too.
        noreply: bool,
        /// What becomes of the connection.
        after: AfterRefusal,
    },
}

/// What becomes of a connection after a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRefusal {
    /// The stream is in step: go on with the next request.
    Continue,
    /// The stream can't be put back in step: answer, then close.
    Close,
}

/// Why a request was refused. Always the client's fault; the name is the metric label in snake_case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RequestError {
    /// A command word nobody knows, or an empty line: `ERROR`.
    UnknownCommand,
    /// A command with too few or too many tokens: `ERROR`.
    TokenCount,
    /// A bad number, a negative length: `CLIENT_ERROR bad command line format`.
    BadLine,
    /// A key over the limit: `CLIENT_ERROR bad command line format`, as memcached says it.
    KeyTooLong,
    /// A key that would put servers out of step: one with a control character, or `noreply` where some servers take it
    /// for the wish for silence. `CLIENT_ERROR bad command line format`.
    BadKey,
    /// A line over the limit: `CLIENT_ERROR line too long`, then close.
    LineTooLong,
    /// A value over the limit: `SERVER_ERROR object too large for cache`.
    ValueTooLarge,
    /// Data not followed by CR LF: `CLIENT_ERROR bad data chunk`.
    BadDataChunk,
    /// touch, gat, flush_all: `CLIENT_ERROR invalid exptime argument`.
    BadExptime,
    /// incr, decr: `CLIENT_ERROR invalid numeric delta argument`.
    BadDelta,
    /// delete with something other than `0` and `noreply`: `CLIENT_ERROR bad command line format.  Usage: ...`.
    DeleteUsage,
    /// An admin command of memcached that a router does not pass on.
    NotSupported,
    /// The first line of a browser's HTTP request: nothing is said, and the connection closed.
    HttpRequest,
}

impl RequestError {
    /// How many there are; `error as usize` is below it.
    pub const COUNT: usize = 13;

    /// Every error, in the order of its discriminant.
    pub const ALL: [RequestError; RequestError::COUNT] = [
        RequestError::UnknownCommand,
        RequestError::TokenCount,
        RequestError::BadLine,
        RequestError::KeyTooLong,
        RequestError::BadKey,
        RequestError::LineTooLong,
        RequestError::ValueTooLarge,
        RequestError::BadDataChunk,
        RequestError::BadExptime,
        RequestError::BadDelta,
        RequestError::DeleteUsage,
        RequestError::NotSupported,
        RequestError::HttpRequest,
    ];

    /// The metric label.
    pub const fn name(self) -> &'static str {
        match self {
            RequestError::UnknownCommand => "unknown_command",
            RequestError::TokenCount => "token_count",
            RequestError::BadLine => "bad_line",
            RequestError::KeyTooLong => "key_too_long",
            RequestError::BadKey => "bad_key",
            RequestError::LineTooLong => "line_too_long",
            RequestError::ValueTooLarge => "value_too_large",
            RequestError::BadDataChunk => "bad_data_chunk",
            RequestError::BadExptime => "bad_exptime",
            RequestError::BadDelta => "bad_delta",
            RequestError::DeleteUsage => "delete_usage",
            RequestError::NotSupported => "not_supported",
            RequestError::HttpRequest => "http_request",
        }
    }

    /// What the client is told, with its line end: memcached 1.6's own words where it has some. Empty for
    /// `HttpRequest`.
    pub const fn reply(self) -> &'static [u8] {
        match self {
            RequestError::UnknownCommand | RequestError::TokenCount => b"ERROR\r\n",
            RequestError::BadLine | RequestError::KeyTooLong | RequestError::BadKey => {
                b"CLIENT_ERROR bad command line format\r\n"
            }
            RequestError::LineTooLong => b"CLIENT_ERROR line too long\r\n",
            RequestError::ValueTooLarge => b"SERVER_ERROR object too large for cache\r\n",
            RequestError::BadDataChunk => b"CLIENT_ERROR bad data chunk\r\n",
            RequestError::BadExptime => b"CLIENT_ERROR invalid exptime argument\r\n",
            RequestError::BadDelta => b"CLIENT_ERROR invalid numeric delta argument\r\n",
            RequestError::DeleteUsage => b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n",
            RequestError::NotSupported => b"SERVER_ERROR not supported by keyway\r\n",
            RequestError::HttpRequest => b"",
        }
    }
}

/// A resumable parser of one client's request stream.
///
/// It holds no bytes, only how far it has looked, so that a trickled request costs time linear in its length. The
/// caller keeps unconsumed bytes and presents them again from the same start with more behind them.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    state: State,
}

/// What `Limits::line_bytes` can't be set below.
const LINE_BYTES_MIN: usize = 128;

/// Where in the stream the parser stands.
#[derive(Debug)]
enum State {
    /// At the start of a line, with no line feed in the first `searched` bytes.
    Line { searched: usize },
    /// At the start of a storage command whose line is read and whose data block is still coming.
    Data(Pending),
    /// Among bytes that nobody is to see.
    Skipping { remaining: usize },
}

/// A storage command whose line is read.
#[derive(Debug)]
struct Pending {
    shape: Shape,
    value: Range<usize>,
}

impl Pending {
    /// The length of the frame, with the line end of the data.
    fn frame_bytes(&self) -> usize {
        self.value.end + 2
    }
}

impl RequestParser {
    /// A parser at the start of a stream. Limits wider than memcached's own are narrowed to them: a frame beyond those
    /// would make a server close a connection that others share.
    pub fn new(limits: Limits) -> RequestParser {
        // Not below what tells a get behind spaces from anything else, see `may_grow`.
        let line_bytes = limits.line_bytes.clamp(LINE_BYTES_MIN, LINE_BYTES_MAX);
        let limits = Limits {
            key_bytes: limits.key_bytes.min(KEY_BYTES_MAX),
            line_bytes,
            retrieval_line_bytes: limits.retrieval_line_bytes.max(line_bytes),
            value_bytes: limits.value_bytes.min(VALUE_BYTES_MAX),
        };
        RequestParser { limits, state: State::Line { searched: 0 } }
    }

    /// Looks at the start of `bytes`, which must begin where the last non-`NeedMore` answer ended.
    pub fn parse<'a>(&mut self, bytes: &'a [u8]) -> Parsed<'a> {
        match &mut self.state {
            State::Line { searched } => {
                let from = (*searched).min(bytes.len());
                self.parse_line(bytes, from)
            }
            State::Data(pending) if bytes.len() < pending.frame_bytes() => Parsed::NeedMore,
            State::Data(_) => {
                let State::Data(pending) = std::mem::replace(&mut self.state, State::Line { searched: 0 }) else {
                    return Parsed::NeedMore;
                };
                finish_storage(pending, bytes)
            }
            State::Skipping { remaining } => {
                let skipped = bytes.len().min(*remaining);
                if skipped == 0 {
                    return Parsed::NeedMore;
                }
                *remaining -= skipped;
                if *remaining == 0 {
                    self.state = State::Line { searched: 0 };
                }
                Parsed::Skip(skipped)
            }
        }
    }

    /// The length the frame at the start of the bytes will have, once its line is read and while its data is coming.
    pub fn frame_bytes(&self) -> Option<usize> {
        match &self.state {
            State::Data(pending) => Some(pending.frame_bytes()),
            State::Line { .. } | State::Skipping { .. } => None,
        }
    }

    /// Looks for a line that starts with `bytes` and, when it is whole, at what it says.
    fn parse_line<'a>(&mut self, bytes: &'a [u8], searched: usize) -> Parsed<'a> {
        let line_feed = memchr(b'\n', &bytes[searched..]).map(|at| searched + at);
        let seen = line_feed.map_or(bytes.len(), |at| at + 1);
        examined(seen - searched);
        let is_over = |limit| if line_feed.is_some() { seen > limit } else { seen >= limit };
        if is_over(self.limits.line_bytes) {
            // Searched beyond the limit before: then it was seen to be a line that may grow.
            let may_grow = searched >= self.limits.line_bytes || may_grow(bytes);
            let limit = if may_grow { self.limits.retrieval_line_bytes } else { self.limits.line_bytes };
            if is_over(limit) {
                self.state = State::Skipping { remaining: usize::MAX };
                let (error, after) = (RequestError::LineTooLong, AfterRefusal::Close);
                return Parsed::Refused { error, consumed: limit, noreply: false, after };
            }
        }
        let Some(line_feed) = line_feed else {
            self.state = State::Line { searched: seen };
            return Parsed::NeedMore;
        };
        let line = bytes[..line_feed].strip_suffix(b"\r").unwrap_or(&bytes[..line_feed]);
        if line.first() == Some(&b' ') {
            // Newer servers do not know a command behind spaces, and take the data block of one for commands.
            let spaces = line.iter().take_while(|byte| **byte == b' ').count();
            self.state = State::Line { searched: line_feed - spaces };
            return Parsed::Skip(spaces);
        }
        self.take_line(bytes, line, line_feed + 1)
    }

    /// Acts on a whole line, `line_bytes` long with its end.
    fn take_line<'a>(&mut self, bytes: &'a [u8], line: &[u8], line_bytes: usize) -> Parsed<'a> {
        examined(line_bytes);
        self.state = State::Line { searched: 0 };
        match command::parse(line, &self.limits) {
            Line::Request(shape) => {
                if shape.operation == Operation::Quit {
                    self.state = State::Skipping { remaining: usize::MAX };
                }
                Parsed::Request(request(shape, &bytes[..line_bytes], 0..0))
            }
            Line::Storage(shape, value_bytes) => {
                let pending = Pending { shape, value: line_bytes..line_bytes + value_bytes };
                if bytes.len() < pending.frame_bytes() {
                    self.state = State::Data(pending);
                    return Parsed::NeedMore;
                }
                finish_storage(pending, bytes)
            }
            Line::Refused(Refusal { error, noreply, after, swallow_bytes }) => {
                match after {
                    AfterRefusal::Continue if swallow_bytes == 0 => {}
                    AfterRefusal::Continue => self.state = State::Skipping { remaining: swallow_bytes },
                    AfterRefusal::Close => self.state = State::Skipping { remaining: usize::MAX },
                }
                Parsed::Refused { error, consumed: line_bytes, noreply, after }
            }
        }
    }
}

/// True when the line at the start of `bytes` may be longer than others. memcached lets only those grow that start with
/// exactly `get ` or `gets `, after at most 100 spaces, and closes the connection over any other.
fn may_grow(bytes: &[u8]) -> bool {
    examined(bytes.len().min(101));
    let spaces = bytes.iter().take(101).take_while(|byte| **byte == b' ').count();
    let line = &bytes[spaces..];
    spaces <= 100 && (line.starts_with(b"get ") || line.starts_with(b"gets "))
}

/// A storage command all of whose bytes are here.
fn finish_storage(pending: Pending, bytes: &[u8]) -> Parsed<'_> {
    let frame = &bytes[..pending.frame_bytes()];
    if frame.ends_with(b"\r\n") {
        return Parsed::Request(request(pending.shape, frame, pending.value));
    }
    // Like memcached: the declared bytes are gone, and what is behind them is read as the next line.
    Parsed::Refused {
        error: RequestError::BadDataChunk,
        consumed: frame.len(),
        noreply: !pending.shape.noreply.is_empty(),
        after: AfterRefusal::Continue,
    }
}

fn request(shape: Shape, frame: &[u8], value: Range<usize>) -> Request<'_> {
    let Shape { operation, key, keys, key_count, exptime, noreply } = shape;
    Request { operation, frame, key, keys, key_count, exptime, value, noreply }
}
