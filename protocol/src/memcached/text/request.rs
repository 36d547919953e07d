//! Requests of the memcached text protocol: a resumable parser that works on the bytes where they lie.
//!
//! Owns: framing, validation and memcached's own error strings. Invariant: a frame handed out as `Parsed::Request` is
//! one that every memcached answers with exactly one reply, so a shared upstream connection stays in step.

use super::Limits;
use crate::Operation;
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
}

/// The keys of a request, in order.
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    rest: &'a [u8],
}

/// What a parse step found at the start of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// Not whole yet. Call again with the same bytes from the same start and more behind them.
    NeedMore,
    /// A whole request; the next one starts `request.frame.len()` bytes on.
    Request(Request<'a>),
    /// Bytes to drop without a word: the data block of a refused storage command. May be fewer than remain to be dropped.
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
pub enum RequestError {
    /// A command word nobody knows: `ERROR`.
    UnknownCommand,
    /// Too few tokens, a bad number, a negative length: `CLIENT_ERROR bad command line format`.
    BadLine,
    /// A key over the limit: `CLIENT_ERROR bad command line format`, as memcached says it.
    KeyTooLong,
    /// A control character in a key: it would break the servers' framing.
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
    /// An admin command of memcached that a router does not pass on.
    NotSupported,
}

/// A resumable parser of one client's request stream.
///
/// It holds no bytes, only how far it has looked, so that a trickled request costs time linear in its length. The
/// caller keeps unconsumed bytes and presents them again from the same start with more behind them.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
}

impl RequestParser {
    /// A parser at the start of a stream.
    pub fn new(limits: Limits) -> RequestParser {
        RequestParser { limits }
    }

    /// Looks at the start of `bytes`, which must begin where the last non-`NeedMore` answer ended.
    pub fn parse<'a>(&mut self, bytes: &'a [u8]) -> Parsed<'a> {
        let _ = (bytes, self.limits);
        Parsed::NeedMore
    }
}
