//! A request taken apart, and put together again with other parts: what routes that send something else than they were
//! asked work on.
//!
//! Owns: where each command has its tokens. Takes frames that a `RequestParser` let through; never checks numbers
//! again. Invariant: what is written from parts of such a frame is again one that every memcached answers with exactly
//! one reply.

use super::token::Tokens;
use super::write::{CRLF, write_decimal};
use crate::Operation;
use std::ops::Range;

/// One request of one key, as its parts. Tokens are as sent; those the command doesn't have are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// What is asked.
    pub operation: Operation,
    /// Ask in the meta dialect: a get that also tells the cas and the seconds left to live (`mg`). Counts for get only.
    pub meta: bool,
    /// The key; empty for operations without one.
    pub key: &'a [u8],
    /// The client flags of a storage command.
    pub flags: &'a [u8],
    /// The exptime of storage commands, touch, gat and gats; the delay of flush_all.
    pub exptime: &'a [u8],
    /// The cas unique of cas, the delta of incr and decr.
    pub number: &'a [u8],
    /// The data of a storage command.
    pub value: &'a [u8],
}

impl<'a> Parts<'a> {
    /// A request that has nothing but a key.
    pub const fn of_key(operation: Operation, key: &'a [u8]) -> Parts<'a> {
        Parts { operation, meta: false, key, flags: b"", exptime: b"", number: b"", value: b"" }
    }

    /// Takes a frame apart that lies in two pieces, `head` and `tail`, its noreply cut out between them. None where the
    /// frame isn't whole, or has another form than its operation: then it wasn't kept.
    pub fn parse(operation: Operation, head: &'a [u8], tail: &'a [u8]) -> Option<Parts<'a>> {
        let line_end = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
        let line = &head[..line_end];
        let line = line.strip_suffix(CRLF).or(line.strip_suffix(b"\n")).unwrap_or(line);
        let tokens = Tokens::of(line);
        let token = |index| tokens.token(line, index);
        if tokens.count == 0 {
            return None;
        }
        if token(0) == b"mg" {
            return Some(Parts { meta: true, ..Parts::of_key(operation, token(1)) });
        }
        // Where a noreply was cut out, the line ends in the tail, and so does the block.
        let block = if line_end < head.len() { &head[line_end..] } else { tail.strip_prefix(CRLF).unwrap_or(tail) };
        let parts = Parts::of_key(operation, token(1));
        Some(match operation {
            Operation::Get | Operation::Gets | Operation::Delete => parts,
            Operation::Gat | Operation::Gats => Parts { key: token(2), exptime: token(1), ..parts },
            Operation::Set
            | Operation::Add
            | Operation::Replace
            | Operation::Append
            | Operation::Prepend
            | Operation::Cas => Parts {
                flags: token(2),
                exptime: token(3),
                number: token(5),
                value: block.strip_suffix(CRLF)?,
                ..parts
            },
            Operation::Incr | Operation::Decr => Parts { number: token(2), ..parts },
            Operation::Touch => Parts { exptime: token(2), ..parts },
            Operation::FlushAll => Parts { key: b"", exptime: token(1), ..parts },
            Operation::Stats | Operation::Version | Operation::Verbosity | Operation::Quit => return None,
        })
    }

    /// Writes a meta get that asks for all of an item but its data; where the key lies in `out`.
    pub fn write_peek(key: &[u8], out: &mut Vec<u8>) -> Range<usize> {
        out.extend_from_slice(b"mg ");
        let key = append(out, key);
        out.extend_from_slice(b" k f t c\r\n");
        key
    }

    /// Writes the request behind what `out` holds; where its key lies in `out`.
    pub fn write(&self, out: &mut Vec<u8>) -> Range<usize> {
        if self.meta {
            out.extend_from_slice(b"mg ");
            let key = append(out, self.key);
            out.extend_from_slice(b" k f t c v\r\n");
            return key;
        }
        out.extend_from_slice(self.operation.name().as_bytes());
        if matches!(self.operation, Operation::Gat | Operation::Gats) {
            append_token(out, self.exptime);
        }
        let key = if self.key.is_empty() { 0..0 } else { append_token(out, self.key) };
        match self.operation {
            Operation::Set
            | Operation::Add
            | Operation::Replace
            | Operation::Append
            | Operation::Prepend
            | Operation::Cas => {
                append_token(out, if self.flags.is_empty() { b"0" } else { self.flags });
                append_token(out, if self.exptime.is_empty() { b"0" } else { self.exptime });
                out.push(b' ');
                write_decimal(out, self.value.len() as u64);
                if self.operation == Operation::Cas {
                    append_token(out, self.number);
                }
                out.extend_from_slice(CRLF);
                out.extend_from_slice(self.value);
            }
            Operation::Incr | Operation::Decr => {
                append_token(out, self.number);
            }
            Operation::Touch => {
                append_token(out, self.exptime);
            }
            Operation::FlushAll if !self.exptime.is_empty() => {
                append_token(out, self.exptime);
            }
            Operation::FlushAll
            | Operation::Get
            | Operation::Gets
            | Operation::Gat
            | Operation::Gats
            | Operation::Delete
            | Operation::Stats
            | Operation::Version
            | Operation::Verbosity
            | Operation::Quit => {}
        }
        out.extend_from_slice(CRLF);
        key
    }
}

fn append(out: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = out.len();
    out.extend_from_slice(bytes);
    start..out.len()
}

fn append_token(out: &mut Vec<u8>, token: &[u8]) -> Range<usize> {
    out.push(b' ');
    append(out, token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memcached::text::{Limits, Parsed, RequestParser};

    /// A frame comes back as it was, its noreply and superfluous tokens apart.
    fn check(frame: &str, written: &str) {
        let mut parser = RequestParser::new(Limits::default());
        let Parsed::Request(request) = parser.parse(frame.as_bytes()) else { panic!("{frame:?} is a request") };
        let (head, tail) = request.forwarded();
        let parts = Parts::parse(request.operation, head, tail).expect("a whole frame");
        assert_eq!(parts.key, request.key_bytes(), "{frame:?}");
        let mut out = b"before".to_vec();
        let key = parts.write(&mut out);
        assert_eq!(&out[key], request.key_bytes(), "{frame:?}");
        assert_eq!(String::from_utf8_lossy(&out[6..]), written, "{frame:?}");
    }

    #[test]
    fn frames_are_taken_apart_and_put_together() {
        for same in [
            "get k\r\n",
            "gets k\r\n",
            "gat 10 k\r\n",
            "gats -1 k\r\n",
            "set k 1 2 3\r\nabc\r\n",
            "add k 0 0 0\r\n\r\n",
            "append k 0 0 4\r\n\r\n\r\n\r\n",
            "cas k 1 -2 3 99\r\na\nb\r\n",
            "delete k\r\n",
            "incr k 18446744073709551615\r\n",
            "decr k 1\r\n",
            "touch k 60\r\n",
        ] {
            check(same, same);
        }
        check("set k 1 2 3 noreply\r\nabc\r\n", "set k 1 2 3\r\nabc\r\n");
        check("cas k 1 2 3 4 noreply\r\nabc\r\n", "cas k 1 2 3 4\r\nabc\r\n");
        check("delete k noreply\r\n", "delete k\r\n");
        check("delete k 0\r\n", "delete k\r\n");
        check("set  k  1 2  3\nabc\r\n", "set k 1 2 3\r\nabc\r\n");
        check("touch k 5 noreply\r\n", "touch k 5\r\n");
    }

    #[test]
    fn parts_of_another_kind() {
        let parts = Parts::parse(Operation::FlushAll, b"flush_all 5\r\n", b"").expect("whole");
        let mut out = Vec::new();
        parts.write(&mut out);
        assert_eq!(out, b"flush_all 5\r\n");
        let mut out = Vec::new();
        let meta = Parts { meta: true, ..Parts::of_key(Operation::Get, b"k") };
        assert_eq!(meta.write(&mut out), 3..4);
        assert_eq!(out, b"mg k k f t c v\r\n");
        assert_eq!(Parts::parse(Operation::Get, &out, b""), Some(meta));
        let mut out = Vec::new();
        assert_eq!(Parts::write_peek(b"k", &mut out), 3..4);
        assert_eq!(out, b"mg k k f t c\r\n");
        assert_eq!(Parts::parse(Operation::Set, b"set k 0 0 3\r\n", b""), None, "the block was not kept");
        assert_eq!(Parts::parse(Operation::Get, b"", b""), None);
        assert_eq!(Parts::parse(Operation::Stats, b"stats\r\n", b""), None);
    }
}
