//! The classic memcached text protocol: requests, replies and the limits on both.
//!
//! Source: memcached's `doc/protocol.txt`, and the behaviour of memcached 1.6 where that text is silent.

mod reply;
mod request;

pub use reply::{Expect, Reply, ReplyKind, ReplyParsed, ReplyParser, Value};
pub use request::{AfterRefusal, Keys, Parsed, Request, RequestError, RequestParser};

/// What a peer may send. Every bound on bytes held for one message follows from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest key, in bytes. memcached's own limit, and not configurable there: 250.
    pub key_bytes: usize,
    /// Longest request line other than get and gets, in bytes including the line end: 2048.
    pub line_bytes: usize,
    /// Longest get or gets line (memcached has no limit here), in bytes including the line end.
    pub retrieval_line_bytes: usize,
    /// Largest value, in bytes.
    pub value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { key_bytes: 250, line_bytes: 2048, retrieval_line_bytes: 1 << 20, value_bytes: 64 << 20 }
    }
}
