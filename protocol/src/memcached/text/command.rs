//! One whole request line: which command it is, and whether it may go on to a server.
//!
//! Owns: each command's grammar and its refusals, in the order memcached 1.6 finds fault. Looks at one line only and
//! keeps nothing. Invariant: a line passed here, its noreply cut out, draws exactly one reply from every memcached from
//! 1.4 to today, so whatever they read differently is refused:
//! * numbers outside their type, with a sign or with needless digits (1.6.18 wraps a length of 2^32 + 1 to 1; newer ones
//!   refuse it, and then read the data block as commands);
//! * a last token `noreply` where 1.6.18 takes it for a key and newer servers for the wish for silence;
//! * control characters (1.6.18 ends the line at a NUL);
//! * `stats` arguments whose answer has no END, or no bound.

use super::request::{AfterRefusal, RequestError};
use super::token::{NOREPLY, Tokens, has_control, next_token, parse_i32, parse_u32, parse_u64};
use super::{Limits, VALUE_BYTES_MAX};
use crate::Operation;
use std::ops::Range;

/// What a line turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A request that is whole with its line.
    Request(Shape),
    /// A storage command; a data block of this many bytes and CR LF follow.
    Storage(Shape, usize),
    /// A line that goes nowhere.
    Refused(Refusal),
}

/// Where the parts of a request lie in its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) operation: Operation,
    pub(super) key: Range<usize>,
    pub(super) keys: Range<usize>,
    pub(super) key_count: usize,
    pub(super) exptime: Range<usize>,
    pub(super) noreply: Range<usize>,
}

/// A refused line and what is to be done about what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: RequestError,
    pub(super) noreply: bool,
    pub(super) after: AfterRefusal,
    /// Bytes of a data block behind the line, with its line end, that must not be read as commands.
    pub(super) swallow_bytes: usize,
}

/// Reads `line`, which has neither leading spaces nor its line end.
pub(super) fn parse(line: &[u8], limits: &Limits) -> Line {
    let word = next_token(line, 0).unwrap_or(0..0);
    match &line[word.clone()] {
        b"get" => retrieval(Operation::Get, line, word.end, limits),
        b"set" => storage(Operation::Set, line, limits),
        b"gets" => retrieval(Operation::Gets, line, word.end, limits),
        b"gat" => retrieval(Operation::Gat, line, word.end, limits),
        b"gats" => retrieval(Operation::Gats, line, word.end, limits),
        b"delete" => delete(line, limits),
        b"add" => storage(Operation::Add, line, limits),
        b"cas" => storage(Operation::Cas, line, limits),
        b"incr" => arithmetic(Operation::Incr, line, limits),
        b"decr" => arithmetic(Operation::Decr, line, limits),
        b"touch" => touch(line, limits),
        b"replace" => storage(Operation::Replace, line, limits),
        b"append" => storage(Operation::Append, line, limits),
        b"prepend" => storage(Operation::Prepend, line, limits),
        b"version" => bare(Operation::Version, line),
        b"quit" => bare(Operation::Quit, line),
        b"stats" => stats(line),
        b"verbosity" => verbosity(line),
        b"flush_all" => flush_all(line),
        // Meta commands are a dialect of their own. Only `ms` has a data block.
        b"mg" | b"md" | b"ma" | b"mn" | b"me" => refuse(RequestError::UnknownCommand, false),
        b"ms" => {
            let tokens = Tokens::of(line);
            refuse_storage(RequestError::UnknownCommand, false, data_length(tokens.token(line, 2)))
        }
        b"cache_memlimit" | b"slabs" | b"lru" | b"lru_crawler" | b"watch" | b"shutdown" | b"extstore"
        | b"refresh_certs" => refuse(RequestError::NotSupported, Tokens::of(line).last(line) == NOREPLY),
        _ if Tokens::of(line).last(line).starts_with(b"HTTP/") => {
            // A browser talked into speaking to a cache: its headers and body must not be read as commands.
            Line::Refused(Refusal {
                error: RequestError::HttpRequest,
                noreply: true,
                after: AfterRefusal::Close,
                swallow_bytes: 0,
            })
        }
        _ => refuse(RequestError::UnknownCommand, false),
    }
}

/// get and gets `key+`, gat and gats `exptime key+`. All keys are checked before any goes on: one error, or none.
fn retrieval(operation: Operation, line: &[u8], word_end: usize, limits: &Limits) -> Line {
    let mut from = word_end;
    let with_exptime = matches!(operation, Operation::Gat | Operation::Gats);
    let mut exptime = 0..0;
    if with_exptime {
        let Some(token) = next_token(line, from) else {
            return refuse(RequestError::TokenCount, false);
        };
        from = token.end;
        exptime = token;
    }
    let Some(key) = next_token(line, from) else {
        return refuse(RequestError::TokenCount, false);
    };
    if with_exptime && parse_i32(&line[exptime.clone()]).is_none() {
        return refuse(RequestError::BadExptime, false);
    }
    let mut key_count = 0;
    let mut keys = key.clone();
    let mut next = Some(key.clone());
    while let Some(token) = next {
        if token.len() > limits.key_bytes {
            return refuse(RequestError::KeyTooLong, false);
        }
        // At any place, because the last of the tokens a server keeps, or of a split request, may be this one.
        if !with_exptime && &line[token.clone()] == NOREPLY {
            return refuse(RequestError::BadKey, false);
        }
        key_count += 1;
        keys.end = token.end;
        next = next_token(line, token.end);
    }
    if has_control(&line[keys.clone()]) {
        return refuse(RequestError::BadKey, false);
    }
    Line::Request(Shape { operation, key, keys, key_count, exptime, noreply: 0..0 })
}

/// set, add, replace, append, prepend `key flags exptime bytes [noreply]`; cas `key flags exptime bytes unique [noreply]`.
fn storage(operation: Operation, line: &[u8], limits: &Limits) -> Line {
    let tokens = Tokens::of(line);
    let required = if operation == Operation::Cas { 6 } else { 5 };
    let length = data_length(tokens.token(line, 4));
    if tokens.count != required && tokens.count != required + 1 {
        return refuse_storage(RequestError::TokenCount, false, length);
    }
    let noreply = tokens.last(line) == NOREPLY;
    let refuse = |error| refuse_storage(error, noreply, length);
    if let Some(error) = key_error(tokens.token(line, 1), limits) {
        return refuse(error);
    }
    let Some(value_bytes) = length else {
        return refuse(RequestError::BadLine);
    };
    let numbers_ok = parse_u32(tokens.token(line, 2)).is_some()
        && parse_i32(tokens.token(line, 3)).is_some()
        && (operation != Operation::Cas || parse_u64(tokens.token(line, 5)).is_some());
    if !numbers_ok || has_control(tokens.last(line)) {
        return refuse(RequestError::BadLine);
    }
    if value_bytes > limits.value_bytes {
        return refuse(RequestError::ValueTooLarge);
    }
    let mut shape = keyed(operation, &tokens, if noreply { tokens.last_with_space() } else { 0..0 });
    shape.exptime = tokens.range(3);
    Line::Storage(shape, value_bytes)
}

/// delete `key [0] [noreply]`. The 0 is what is left of a delay that clients of long ago still send.
fn delete(line: &[u8], limits: &Limits) -> Line {
    let tokens = Tokens::of(line);
    let with_zero = tokens.count > 2 && tokens.token(line, 2) == b"0";
    let noreply = tokens.count > 2 && tokens.last(line) == NOREPLY;
    let fits = match tokens.count {
        2 => true,
        3 => with_zero || noreply,
        4 => with_zero && noreply,
        _ => return refuse(RequestError::TokenCount, false),
    };
    if !fits {
        return refuse(RequestError::DeleteUsage, noreply);
    }
    if let Some(error) = key_error(tokens.token(line, 1), limits) {
        return refuse(error, noreply);
    }
    if tokens.token(line, 1) == NOREPLY && !with_zero {
        // The last token once the client's own noreply is cut out: newer servers would fall silent.
        return refuse(RequestError::BadKey, noreply);
    }
    Line::Request(keyed(Operation::Delete, &tokens, if noreply { tokens.last_with_space() } else { 0..0 }))
}

/// incr and decr `key delta [noreply]`.
fn arithmetic(operation: Operation, line: &[u8], limits: &Limits) -> Line {
    number_command(operation, line, limits, RequestError::BadDelta, |token| parse_u64(token).is_some())
}

/// touch `key exptime [noreply]`.
fn touch(line: &[u8], limits: &Limits) -> Line {
    number_command(Operation::Touch, line, limits, RequestError::BadExptime, |token| parse_i32(token).is_some())
}

/// `command key number [noreply]`. Like memcached, a fourth token that is not `noreply` is passed over.
fn number_command(
    operation: Operation,
    line: &[u8],
    limits: &Limits,
    fault: RequestError,
    is_number: fn(&[u8]) -> bool,
) -> Line {
    let tokens = Tokens::of(line);
    if tokens.count != 3 && tokens.count != 4 {
        return refuse(RequestError::TokenCount, false);
    }
    let noreply = tokens.last(line) == NOREPLY;
    if let Some(error) = key_error(tokens.token(line, 1), limits) {
        return refuse(error, noreply);
    }
    if !is_number(tokens.token(line, 2)) {
        return refuse(fault, noreply);
    }
    if has_control(tokens.last(line)) {
        return refuse(RequestError::BadLine, noreply);
    }
    let mut shape = keyed(operation, &tokens, if noreply { tokens.last_with_space() } else { 0..0 });
    if operation == Operation::Touch {
        shape.exptime = tokens.range(2);
    }
    Line::Request(shape)
}

/// version and quit: whatever else the line says is passed over.
fn bare(operation: Operation, line: &[u8]) -> Line {
    if has_control(line) { refuse(RequestError::BadLine, false) } else { control(operation, 0..0, 0..0) }
}

/// stats `[argument]`: those whose answer has STAT lines, an END and a bound.
fn stats(line: &[u8]) -> Line {
    if has_control(line) {
        return refuse(RequestError::BadLine, false);
    }
    match Tokens::of(line).token(line, 1) {
        b"" | b"items" | b"slabs" | b"sizes" | b"settings" | b"reset" | b"extstore" => {
            control(Operation::Stats, 0..0, 0..0)
        }
        // mcrouter's, which a router answers; memcached says a line of error or a lone END to them.
        b"servers" | b"suspect_servers" | b"count" | b"all" | b"detailed" | b"version" | b"ods" | b"cmd-error" => {
            control(Operation::Stats, 0..0, 0..0)
        }
        // sizes_enable answers a STAT line without END; cachedump, conns and detail have no bound. proxy and its
        // kin are about another router.
        b"cachedump" | b"conns" | b"detail" | b"sizes_enable" | b"sizes_disable" | b"proxy" | b"proxyfuncs"
        | b"proxybe" => refuse(RequestError::NotSupported, false),
        // Newer servers take the start of an argument's name for the argument.
        _ => refuse(RequestError::UnknownCommand, false),
    }
}

/// verbosity `level [noreply]`.
fn verbosity(line: &[u8]) -> Line {
    let tokens = Tokens::of(line);
    if tokens.count != 2 && tokens.count != 3 {
        return refuse(RequestError::TokenCount, false);
    }
    let noreply = tokens.last(line) == NOREPLY;
    if parse_u32(tokens.token(line, 1)).is_none() || has_control(line) {
        return refuse(RequestError::BadLine, noreply);
    }
    control(Operation::Verbosity, 0..0, if noreply { tokens.last_with_space() } else { 0..0 })
}

/// flush_all `[delay] [noreply]`.
fn flush_all(line: &[u8]) -> Line {
    let tokens = Tokens::of(line);
    if tokens.count > 3 {
        return refuse(RequestError::TokenCount, false);
    }
    let noreply = tokens.last(line) == NOREPLY;
    let with_delay = tokens.count > if noreply { 2 } else { 1 };
    if with_delay && parse_i32(tokens.token(line, 1)).is_none() {
        return refuse(RequestError::BadExptime, noreply);
    }
    if has_control(line) {
        return refuse(RequestError::BadLine, noreply);
    }
    let exptime = if with_delay { tokens.range(1) } else { 0..0 };
    control(Operation::FlushAll, exptime, if noreply { tokens.last_with_space() } else { 0..0 })
}

/// What is wrong with a key. It is never empty: tokens are not.
fn key_error(key: &[u8], limits: &Limits) -> Option<RequestError> {
    if key.len() > limits.key_bytes {
        Some(RequestError::KeyTooLong)
    } else if has_control(key) {
        Some(RequestError::BadKey)
    } else {
        None
    }
}

/// The length of a data block, where the token says one that every memcached reads alike.
fn data_length(token: &[u8]) -> Option<usize> {
    let length = usize::try_from(parse_u32(token)?).ok()?;
    (length <= VALUE_BYTES_MAX).then_some(length)
}

/// A request whose one key is its second token.
fn keyed(operation: Operation, tokens: &Tokens, noreply: Range<usize>) -> Shape {
    let key = tokens.range(1);
    Shape { operation, key: key.clone(), keys: key, key_count: 1, exptime: 0..0, noreply }
}

/// A request without a key.
fn control(operation: Operation, exptime: Range<usize>, noreply: Range<usize>) -> Line {
    Line::Request(Shape { operation, key: 0..0, keys: 0..0, key_count: 0, exptime, noreply })
}

/// A refusal after which the next line is the next request.
fn refuse(error: RequestError, noreply: bool) -> Line {
    Line::Refused(Refusal { error, noreply, after: AfterRefusal::Continue, swallow_bytes: 0 })
}

/// A refusal of a line that a data block follows. memcached goes on at the next line and reads the data as commands,
/// which lets whoever chose the data speak for the client: swallow it where its length is known, else close.
fn refuse_storage(error: RequestError, noreply: bool, length: Option<usize>) -> Line {
    Line::Refused(match length {
        Some(length) => Refusal { error, noreply, after: AfterRefusal::Continue, swallow_bytes: length + 2 },
        None => Refusal { error, noreply, after: AfterRefusal::Close, swallow_bytes: 0 },
    })
}
