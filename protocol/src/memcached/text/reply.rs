//! Replies of the memcached text protocol, as a server sends them: a resumable parser that works on the bytes where
//! they lie.
//!
//! Owns: framing and the check that a reply has the shape its request calls for. Never holds bytes or looks twice at
//! bytes of a step that is not whole.
//!
//! Invariants:
//! * Whatever does not fit is `Misaligned`, and the caller closes that upstream connection; it is never guessed at.
//! * What is reported does not depend on how the bytes were cut into pieces.
//! * A step is bounded: a value by `Limits::value_bytes`, a line by `REPLY_LINE_BYTES_MAX`, a STAT list by
//!   `STATS_BYTES_MAX`.

use super::token::{examined, has_control, next_token, parse_u32, parse_u64};
use super::{KEY_BYTES_MAX, Limits};
use crate::Operation;
use memchr::{memchr, memrchr};
use std::ops::Range;

/// Longest reply line, in bytes with its end. memcached's own output line holds 1024.
pub const REPLY_LINE_BYTES_MAX: usize = 2048;
/// Longest STAT list, in bytes with its END. What grows without bound there is refused as a request.
pub const STATS_BYTES_MAX: usize = 1 << 20;

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
    /// The answer to the meta get that `Parts::meta` writes: VA with its data, or EN.
    Meta,
    /// The answer to one that asks for the same but the data (`Parts::write_peek`): HD, or EN.
    Peek,
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
#[repr(u8)]
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

impl ReplyKind {
    /// How many kinds there are; `kind as usize` is below it.
    pub const COUNT: usize = 15;

    /// Every kind, in the order of its discriminant.
    pub const ALL: [ReplyKind; ReplyKind::COUNT] = [
        ReplyKind::Value,
        ReplyKind::End,
        ReplyKind::Stored,
        ReplyKind::NotStored,
        ReplyKind::Exists,
        ReplyKind::NotFound,
        ReplyKind::Deleted,
        ReplyKind::Touched,
        ReplyKind::Ok,
        ReplyKind::Number,
        ReplyKind::Version,
        ReplyKind::Stats,
        ReplyKind::Error,
        ReplyKind::ClientError,
        ReplyKind::ServerError,
    ];

    /// The metric label.
    pub const fn name(self) -> &'static str {
        match self {
            ReplyKind::Value => "value",
            ReplyKind::End => "end",
            ReplyKind::Stored => "stored",
            ReplyKind::NotStored => "not_stored",
            ReplyKind::Exists => "exists",
            ReplyKind::NotFound => "not_found",
            ReplyKind::Deleted => "deleted",
            ReplyKind::Touched => "touched",
            ReplyKind::Ok => "ok",
            ReplyKind::Number => "number",
            ReplyKind::Version => "version",
            ReplyKind::Stats => "stats",
            ReplyKind::Error => "error",
            ReplyKind::ClientError => "client_error",
            ReplyKind::ServerError => "server_error",
        }
    }

    /// What routes make of it. Every question below is answered from here, so that a kind has one meaning.
    pub const fn outcome(self) -> Outcome {
        match self {
            ReplyKind::Value | ReplyKind::Deleted | ReplyKind::Touched | ReplyKind::Number => Outcome::Hit,
            ReplyKind::End | ReplyKind::NotFound => Outcome::Miss,
            ReplyKind::Stored | ReplyKind::Ok | ReplyKind::Version | ReplyKind::Stats => Outcome::Done,
            ReplyKind::NotStored | ReplyKind::Exists => Outcome::NotDone,
            ReplyKind::Error | ReplyKind::ClientError | ReplyKind::ServerError => Outcome::Error,
        }
    }

    /// True for ERROR, CLIENT_ERROR and SERVER_ERROR.
    pub const fn is_error(self) -> bool {
        matches!(self.outcome(), Outcome::Error)
    }

    /// True where the key was there: mcrouter's FOUND, DELETED, TOUCHED, and the number of incr and decr.
    pub const fn is_hit(self) -> bool {
        matches!(self.outcome(), Outcome::Hit)
    }

    /// True where the key was not there: mcrouter's NOTFOUND.
    pub const fn is_miss(self) -> bool {
        matches!(self.outcome(), Outcome::Miss)
    }

    /// True for what gomcrouter's routes count as failed: a miss, a store not done, and every error.
    pub const fn is_failed(self) -> bool {
        match self.outcome() {
            Outcome::Hit | Outcome::Done => false,
            Outcome::Miss | Outcome::NotDone | Outcome::Error => true,
        }
    }
}

/// What a reply means to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The key was there and what was asked of it was done.
    Hit,
    /// The key was not there.
    Miss,
    /// Done, whether or not a key was there.
    Done,
    /// Not done because of what is stored: NOT_STORED, EXISTS.
    NotDone,
    /// An error line.
    Error,
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
    /// Seconds left to live, -1 without end; `None` where the dialect doesn't tell.
    pub ttl: Option<i64>,
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
    progress: Progress,
}

/// How far into the current step the parser has looked.
#[derive(Debug)]
enum Progress {
    /// No line feed in the first `searched` bytes.
    Line { searched: usize },
    /// The VALUE line is read; its data, or what tells whether it is the last, is still coming.
    Item(Value),
    /// A STAT list: whole lines up to `line_start`, and no line feed behind that before `searched`.
    Stats { line_start: usize, searched: usize },
}

const START: Progress = Progress::Line { searched: 0 };

impl ReplyParser {
    /// A parser at the start of a stream. Of `limits` the value and key sizes count.
    pub fn new(limits: Limits) -> ReplyParser {
        let limits = Limits { key_bytes: limits.key_bytes.min(KEY_BYTES_MAX), ..limits };
        ReplyParser { limits, progress: START }
    }

    /// Looks at the start of `bytes` for (the next step of) the reply to a request that calls for `expect`.
    ///
    /// `expect` must stay the same until that reply is over. After `Misaligned` the stream is of no use any more.
    pub fn parse(&mut self, expect: Expect, bytes: &[u8]) -> ReplyParsed {
        match expect {
            Expect::Values { with_cas } => self.parse_values(with_cas, bytes),
            Expect::Line(operation) => self.parse_one_line(operation, bytes),
            Expect::Stats => self.parse_stats(bytes),
            Expect::Meta => self.parse_meta(b"VA ", bytes),
            Expect::Peek => self.parse_meta(b"HD ", bytes),
        }
    }

    /// How many bytes the item at the start of the bytes will have, once its VALUE line is read and while the rest is
    /// coming: what the caller may expect to hold, without the END line.
    pub fn item_bytes(&self) -> Option<usize> {
        match &self.progress {
            Progress::Item(value) => Some(value.item_end),
            Progress::Line { .. } | Progress::Stats { .. } => None,
        }
    }

    /// A VALUE item, a lone END, or an error line.
    fn parse_values(&mut self, with_cas: bool, bytes: &[u8]) -> ReplyParsed {
        if let Progress::Item(value) = &self.progress {
            if bytes.len() < value.item_end {
                return ReplyParsed::NeedMore;
            }
            let value = value.clone();
            return self.finish_item(value, bytes);
        }
        let (line, consumed) = match self.take_line(bytes) {
            Ok(taken) => taken,
            Err(other) => return other,
        };
        if line.starts_with(b"VALUE ") {
            return match value_line(line, with_cas, &self.limits) {
                Some(value) => self.finish_item(value, bytes),
                None => ReplyParsed::Misaligned,
            };
        }
        match line {
            b"END" => whole(ReplyKind::End, consumed),
            _ => error_line(line).map_or(ReplyParsed::Misaligned, |kind| whole(kind, consumed)),
        }
    }

    /// The item, told by this word, EN, or an error line: the reply to one meta get.
    fn parse_meta(&mut self, hit: &[u8; 3], bytes: &[u8]) -> ReplyParsed {
        let value = if let Progress::Item(value) = &self.progress {
            value.clone()
        } else {
            let (line, consumed) = match self.take_line(bytes) {
                Ok(taken) => taken,
                Err(other) => return other,
            };
            if !line.starts_with(hit) {
                return match line {
                    b"EN" => whole(ReplyKind::End, consumed),
                    // Newer servers name the key that they don't have.
                    _ if line.starts_with(b"EN k") => whole(ReplyKind::End, consumed),
                    _ => error_line(line).map_or(ReplyParsed::Misaligned, |kind| whole(kind, consumed)),
                };
            }
            match meta_line(line, &self.limits) {
                Some(value) => value,
                None => return ReplyParsed::Misaligned,
            }
        };
        let consumed = value.item_end;
        if bytes.len() < consumed {
            self.progress = Progress::Item(value);
            return ReplyParsed::NeedMore;
        }
        if &bytes[value.data.end..consumed] != b"\r\n" {
            return ReplyParsed::Misaligned;
        }
        self.progress = START;
        ReplyParsed::Reply { reply: Reply::Value(value), consumed }
    }

    /// An item whose VALUE line is read: its data, and enough behind it to know whether the reply goes on.
    fn finish_item(&mut self, mut value: Value, bytes: &[u8]) -> ReplyParsed {
        let Some(behind) = bytes.get(value.item_end..) else {
            self.progress = Progress::Item(value);
            return ReplyParsed::NeedMore;
        };
        if &bytes[value.data.end..value.item_end] != b"\r\n" {
            return ReplyParsed::Misaligned;
        }
        let consumed = match behind {
            [b'E', b'N', b'D', b'\r', b'\n', ..] => {
                value.last = true;
                value.item_end + 5
            }
            // Another item, or an error in its place (`ER..`): the next step tells.
            [b'V' | b'C' | b'S', ..] | [b'E', b'R', ..] => value.item_end,
            _ if b"END\r\n".starts_with(behind) => {
                self.progress = Progress::Item(value);
                return ReplyParsed::NeedMore;
            }
            _ => return ReplyParsed::Misaligned,
        };
        self.progress = START;
        ReplyParsed::Reply { reply: Reply::Value(value), consumed }
    }

    /// The one line that answers `operation`.
    fn parse_one_line(&mut self, operation: Operation, bytes: &[u8]) -> ReplyParsed {
        match self.take_line(bytes) {
            Ok((line, consumed)) => {
                answer_line(operation, line).map_or(ReplyParsed::Misaligned, |kind| whole(kind, consumed))
            }
            Err(other) => other,
        }
    }

    /// A whole STAT list, or the one line that comes in its place.
    fn parse_stats(&mut self, bytes: &[u8]) -> ReplyParsed {
        let (mut line_start, mut searched) = match self.progress {
            Progress::Stats { line_start, searched } => (line_start, searched.min(bytes.len())),
            Progress::Line { .. } | Progress::Item(_) => (0, 0),
        };
        let bounded = &bytes[..bytes.len().min(STATS_BYTES_MAX)];
        while let Some(at) = memchr(b'\n', &bounded[searched..]) {
            let line_end = searched + at + 1;
            examined(line_end - searched);
            let Some(line) = bounded[line_start..line_end].strip_suffix(b"\r\n") else {
                return ReplyParsed::Misaligned;
            };
            if line_end - line_start > REPLY_LINE_BYTES_MAX {
                return ReplyParsed::Misaligned;
            }
            let kind = match line {
                b"END" => Some(ReplyKind::Stats),
                _ if line.starts_with(b"STAT ") => None,
                // Only in the place of a list: in the middle of one they answer something else.
                b"RESET" if line_start == 0 => Some(ReplyKind::Stats),
                b"OK" if line_start == 0 => Some(ReplyKind::Ok),
                _ if line_start == 0 && error_line(line).is_some() => error_line(line),
                _ => return ReplyParsed::Misaligned,
            };
            if let Some(kind) = kind {
                self.progress = START;
                return whole(kind, line_end);
            }
            (line_start, searched) = (line_end, line_end);
        }
        examined(bounded.len() - searched);
        if bytes.len() >= STATS_BYTES_MAX || bytes.len() - line_start >= REPLY_LINE_BYTES_MAX {
            return ReplyParsed::Misaligned;
        }
        self.progress = Progress::Stats { line_start, searched: bytes.len() };
        ReplyParsed::NeedMore
    }

    /// The line at the start of `bytes`, without its end, and its length with it.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<(&'a [u8], usize), ReplyParsed> {
        let searched = match self.progress {
            Progress::Line { searched } => searched.min(bytes.len()),
            Progress::Item(_) | Progress::Stats { .. } => 0,
        };
        let bounded = &bytes[..bytes.len().min(REPLY_LINE_BYTES_MAX)];
        let Some(at) = memchr(b'\n', &bounded[searched..]) else {
            examined(bounded.len() - searched);
            if bounded.len() == REPLY_LINE_BYTES_MAX {
                return Err(ReplyParsed::Misaligned);
            }
            self.progress = Progress::Line { searched: bounded.len() };
            return Err(ReplyParsed::NeedMore);
        };
        examined(at + 1);
        self.progress = START;
        let consumed = searched + at + 1;
        match bounded[..consumed].strip_suffix(b"\r\n") {
            Some(line) => Ok((line, consumed)),
            None => Err(ReplyParsed::Misaligned),
        }
    }
}

fn whole(kind: ReplyKind, consumed: usize) -> ReplyParsed {
    ReplyParsed::Reply { reply: Reply::Line(kind), consumed }
}

/// `VALUE key flags bytes[ cas]` with single spaces, as every server writes it.
fn value_line(line: &[u8], with_cas: bool, limits: &Limits) -> Option<Value> {
    examined(line.len());
    const KEY_START: usize = b"VALUE ".len();
    let key_end = KEY_START + memchr(b' ', &line[KEY_START..])?;
    let key = KEY_START..key_end;
    if key.is_empty() || key.len() > limits.key_bytes || has_control(&line[key.clone()]) {
        return None;
    }
    let flags_start = key_end + 1;
    let flags_end = flags_start + memchr(b' ', &line[flags_start..])?;
    let (length_end, cas) = if with_cas {
        let space = memrchr(b' ', line)?;
        parse_u64(&line[space + 1..])?;
        (space, space + 1..line.len())
    } else {
        (line.len(), 0..0)
    };
    // Some servers keep 64 bits of flags.
    parse_u64(&line[flags_start..flags_end])?;
    let length = usize::try_from(parse_u32(line.get(flags_end + 1..length_end)?)?).ok()?;
    if length > limits.value_bytes {
        return None;
    }
    let data_start = line.len() + 2;
    let data = data_start..data_start + length;
    let item_end = data.end + 2;
    Some(Value { key, flags: flags_start..flags_end, data, cas, ttl: None, item_end, last: false })
}

/// `VA bytes kKEY fFLAGS tTTL cCAS`: the flags come back in the order asked, each once; a server may add others.
fn meta_line(line: &[u8], limits: &Limits) -> Option<Value> {
    examined(line.len());
    let mut value = Value { key: 0..0, flags: 0..0, data: 0..0, cas: 0..0, ttl: None, item_end: 0, last: true };
    let mut from = b"VA".len();
    let length = if line.starts_with(b"VA ") {
        let length = next_token(line, from)?;
        from = length.end;
        Some(usize::try_from(parse_u32(&line[length])?).ok()?)
    } else {
        None
    };
    while let Some(token) = next_token(line, from) {
        from = token.end;
        let told = token.start + 1..token.end;
        match line[token.start] {
            b'k' => value.key = told,
            b'f' => {
                parse_u64(&line[told.clone()])?;
                value.flags = told;
            }
            b't' if &line[told.clone()] == b"-1" => value.ttl = Some(-1),
            b't' => value.ttl = Some(i64::from(parse_u32(&line[told])?)),
            b'c' => {
                parse_u64(&line[told.clone()])?;
                value.cas = told;
            }
            // W, X and Z: recache hints, which nobody asked for.
            _ => {}
        }
    }
    let is_whole = !value.key.is_empty() && !value.flags.is_empty() && !value.cas.is_empty() && value.ttl.is_some();
    if !is_whole || value.key.len() > limits.key_bytes || length.is_some_and(|length| length > limits.value_bytes) {
        return None;
    }
    // Without data the line's own end is the item's.
    value.data = match length {
        Some(length) => line.len() + 2..line.len() + 2 + length,
        None => line.len()..line.len(),
    };
    value.item_end = value.data.end + 2;
    Some(value)
}

/// What `line` says in answer to `operation`, if it is one of the lines memcached can answer to it.
fn answer_line(operation: Operation, line: &[u8]) -> Option<ReplyKind> {
    let kind = match (operation, line) {
        (
            Operation::Set
            | Operation::Add
            | Operation::Replace
            | Operation::Append
            | Operation::Prepend
            | Operation::Cas,
            b"STORED",
        ) => ReplyKind::Stored,
        (
            Operation::Set
            | Operation::Add
            | Operation::Replace
            | Operation::Append
            | Operation::Prepend
            | Operation::Cas,
            b"NOT_STORED",
        ) => ReplyKind::NotStored,
        (Operation::Cas, b"EXISTS") => ReplyKind::Exists,
        (Operation::Cas | Operation::Delete | Operation::Incr | Operation::Decr | Operation::Touch, b"NOT_FOUND") => {
            ReplyKind::NotFound
        }
        (Operation::Delete, b"DELETED") => ReplyKind::Deleted,
        (Operation::Touch, b"TOUCHED") => ReplyKind::Touched,
        (Operation::Verbosity | Operation::FlushAll, b"OK") => ReplyKind::Ok,
        (Operation::Incr | Operation::Decr, number) if is_number(number) => ReplyKind::Number,
        (Operation::Version, version) if version.starts_with(b"VERSION ") => ReplyKind::Version,
        // quit has no answer at all, an error neither: the server closes.
        (Operation::Quit, _) => return None,
        (_, other) => return error_line(other),
    };
    Some(kind)
}

/// The number of incr or decr. decr pads with spaces to the length of the number before.
fn is_number(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    parse_u64(&line[..digits]).is_some() && line[digits..].iter().all(|byte| *byte == b' ')
}

/// ERROR, CLIENT_ERROR or SERVER_ERROR, alone or with words behind.
fn error_line(line: &[u8]) -> Option<ReplyKind> {
    let word = &line[..memchr(b' ', line).unwrap_or(line.len())];
    match word {
        b"ERROR" => Some(ReplyKind::Error),
        b"CLIENT_ERROR" => Some(ReplyKind::ClientError),
        b"SERVER_ERROR" => Some(ReplyKind::ServerError),
        _ => None,
    }
}
