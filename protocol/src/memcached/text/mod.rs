//! The classic memcached text protocol: requests, replies and the limits on both.
//!
//! Source: memcached's `doc/protocol.txt`, and the behaviour of memcached 1.6 where that text is silent.

mod command;
#[cfg(test)]
mod linear_tests;
mod parts;
mod reply;
mod request;
mod token;
pub mod write;

pub use parts::Parts;
pub use reply::{
    Expect, Outcome, REPLY_LINE_BYTES_MAX, Reply, ReplyKind, ReplyParsed, ReplyParser, STATS_BYTES_MAX, Value,
};
pub use request::{AfterRefusal, Keys, Parsed, Request, RequestError, RequestParser};

/// Longest key memcached takes, in bytes.
pub const KEY_BYTES_MAX: usize = 250;
/// Longest line other than get and gets that memcached takes however it arrives, in bytes with its end.
pub const LINE_BYTES_MAX: usize = 2048;
/// Longest value memcached can count, in bytes: it keeps the length with the line end in an i32.
pub const VALUE_BYTES_MAX: usize = i32::MAX as usize - 2;

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
        Limits {
            key_bytes: KEY_BYTES_MAX,
            line_bytes: LINE_BYTES_MAX,
            retrieval_line_bytes: 1 << 20,
            value_bytes: 64 << 20,
        }
    }
}
