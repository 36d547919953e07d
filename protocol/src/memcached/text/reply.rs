//! Replies of the memcached text protocol, as a server sends them: a resumable parser that works on the bytes where
//! they lie.
//!
//! Owns: framing and the check that a reply has the shape its request calls for. Invariant: whatever does not fit is
//! `Misaligned`, and the caller closes that upstream connection; it is never guessed at.

use super::Limits;
use crate::Operation;
use std::ops::Range;

/// The shape of reply a request calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// VALUE items, then END: get and gat. With cas: gets and gats.
    Values {
        /// True where each VALUE line carries a cas unique.
        with_cas: bool,
    },
    /// One line.
    Line(Operation),
    /// STAT lines, then END (or RESET, OK).
    Stats,
}

impl Expect {
    /// What `operation` calls for.
    pub const fn from_operation(operation: Operation) -> Expect {
        match operation {
            Operation::Get | Operation::Gat => Expect::Values { with_cas: false },
            Operation::Gets | Operation::Gats => Expect::Values { with_cas: true },
            Operation::Stats => Expect::Stats,
            other => Expect::Line(other),
        }
    }
}

/// What a reply says, which is all that routes look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is the reply line of its name")]
pub enum ReplyKind {
    Value,
    /// END without a value before it.
    End,
    Stored,
    NotStored,
    Exists,
    NotFound,
    Deleted,
    Touched,
    Ok,
    /// The new number of incr and decr.
    Number,
    Version,
    /// STAT lines with their END, or RESET.
    Stats,
    Error,
    ClientError,
    ServerError,
}

/// One VALUE item, with ranges into the reply's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The key.
    pub key: Range<usize>,
    /// The flags token, kept as sent.
    pub flags: Range<usize>,
    /// The data without its line end.
    pub data: Range<usize>,
    /// The cas unique token; empty when the line has none.
    pub cas: Range<usize>,
    /// Where the item ends: its bytes are `..item_end`, the END line of the last item lies behind.
    pub item_end: usize,
    /// True when END followed and was consumed with this item: the reply is over.
    pub last: bool,
}

/// One step of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A VALUE item; the reply is over when `last`.
    Value(Value),
    /// Any other reply, whole: a line, a lone END, or a whole STAT list.
    Line(ReplyKind),
}

/// What a parse step found at the start of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum ReplyParsed {
    /// Not whole yet. Call again with the same bytes from the same start and more behind them.
    NeedMore,
    /// A step of a reply, `consumed` bytes long.
    Reply {
        /// What it is.
        reply: Reply,
        /// Its length in bytes.
        consumed: usize,
    },
    /// These bytes are no answer to that request: close the connection.
    Misaligned,
}

/// A resumable parser of one upstream connection's reply stream. Holds no bytes, only how far it has looked.
#[derive(Debug)]
pub struct ReplyParser {
    limits: Limits,
}

impl ReplyParser {
    /// A parser at the start of a stream. Of `limits` the value and key sizes count.
    pub fn new(limits: Limits) -> ReplyParser {
        ReplyParser { limits }
    }

    /// Looks at the start of `bytes` for (the next step of) the reply to a request that calls for `expect`.
    pub fn parse(&mut self, expect: Expect, bytes: &[u8]) -> ReplyParsed {
        let _ = (expect, bytes, self.limits);
        ReplyParsed::NeedMore
    }
}
