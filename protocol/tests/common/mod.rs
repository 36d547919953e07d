//! What the protocol tests share: drivers that feed pieces and note what the parsers answer, and a seeded random source.
//!
//! Never asserts what an answer should be; the tests do.

#![allow(dead_code, reason = "each test file uses its part")]

use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{
    AfterRefusal, Expect, Limits, Parsed, Reply, ReplyKind, ReplyParsed, ReplyParser, RequestError, RequestParser,
};

/// One answer of the request parser, with everything a caller can see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Request {
        operation: Operation,
        frame_bytes: usize,
        forwarded: Vec<u8>,
        keys: Vec<Vec<u8>>,
        exptime: Vec<u8>,
        value: Vec<u8>,
        noreply: bool,
    },
    Refused {
        error: RequestError,
        consumed: usize,
        noreply: bool,
        close: bool,
    },
    /// Neighbouring skips are one, since they come as bytes come.
    Skip(usize),
}

/// Small enough that tests reach every limit.
pub(crate) fn limits() -> Limits {
    Limits { key_bytes: 250, line_bytes: 2048, retrieval_line_bytes: 8192, value_bytes: 1000 }
}

/// Feeds `pieces` one by one and notes the answers. Panics where the parser breaks its contract with its caller.
pub(crate) fn request_events<'p>(limits: Limits, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<Event> {
    let mut parser = RequestParser::new(limits);
    let mut held = Vec::new();
    let mut events = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let consumed = match parser.parse(&held) {
                Parsed::NeedMore => break,
                Parsed::Skip(bytes) => {
                    assert!(bytes > 0, "a skip makes progress");
                    match events.last_mut() {
                        Some(Event::Skip(total)) => *total += bytes,
                        _ => events.push(Event::Skip(bytes)),
                    }
                    bytes
                }
                Parsed::Refused { error, consumed, noreply, after } => {
                    events.push(Event::Refused { error, consumed, noreply, close: after == AfterRefusal::Close });
                    consumed
                }
                Parsed::Request(request) => {
                    let (head, tail) = request.forwarded();
                    let keys: Vec<Vec<u8>> = request.keys_iter().map(<[u8]>::to_vec).collect();
                    assert_eq!(keys.len(), request.key_count);
                    assert_eq!(keys.first().map_or(b"".as_slice(), Vec::as_slice), request.key_bytes());
                    events.push(Event::Request {
                        operation: request.operation,
                        frame_bytes: request.frame.len(),
                        forwarded: [head, tail].concat(),
                        keys,
                        exptime: request.frame[request.exptime.clone()].to_vec(),
                        value: request.frame[request.value.clone()].to_vec(),
                        noreply: request.is_noreply(),
                    });
                    request.frame.len()
                }
            };
            assert!(consumed > 0 && consumed <= held.len(), "consumed {consumed} of {}", held.len());
            held.drain(..consumed);
        }
    }
    events
}

/// One answer of the reply parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReplyEvent {
    Value { key: Vec<u8>, flags: Vec<u8>, data: Vec<u8>, cas: Vec<u8>, item: Vec<u8>, last: bool, consumed: usize },
    Line { kind: ReplyKind, consumed: usize },
    Misaligned,
}

/// Feeds `pieces` and notes the answers to requests that call for `expects`, one after the other. Stops when all are
/// answered or the parser has had enough.
pub(crate) fn reply_events<'p>(
    limits: Limits,
    expects: &[Expect],
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Vec<ReplyEvent> {
    let mut parser = ReplyParser::new(limits);
    let mut held = Vec::new();
    let mut events = Vec::new();
    let mut expects = expects.iter();
    let mut expect = expects.next();
    for piece in pieces {
        held.extend_from_slice(piece);
        while let Some(now) = expect {
            let (reply, consumed) = match parser.parse(*now, &held) {
                ReplyParsed::NeedMore => break,
                ReplyParsed::Misaligned => {
                    events.push(ReplyEvent::Misaligned);
                    return events;
                }
                ReplyParsed::Reply { reply, consumed } => (reply, consumed),
            };
            assert!(consumed > 0 && consumed <= held.len(), "consumed {consumed} of {}", held.len());
            let over = match reply {
                Reply::Line(kind) => {
                    events.push(ReplyEvent::Line { kind, consumed });
                    true
                }
                Reply::Value(value) => {
                    // The meta dialect has no END.
                    let end = if value.last && value.ttl.is_none() { 5 } else { 0 };
                    assert_eq!(consumed, value.item_end + end);
                    let part = |range: &std::ops::Range<usize>| held[range.clone()].to_vec();
                    events.push(ReplyEvent::Value {
                        key: part(&value.key),
                        flags: part(&value.flags),
                        data: part(&value.data),
                        cas: part(&value.cas),
                        item: held[..value.item_end].to_vec(),
                        last: value.last,
                        consumed,
                    });
                    value.last
                }
            };
            held.drain(..consumed);
            if over {
                expect = expects.next();
            }
        }
    }
    events
}

/// Every way to cut `bytes` in two, in three where that is not too many, and byte by byte.
pub(crate) fn cuts(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut all: Vec<Vec<&[u8]>> = vec![bytes.chunks(1).collect(), bytes.chunks(7).collect()];
    for first in 0..=bytes.len() {
        let (head, rest) = bytes.split_at(first);
        all.push(vec![head, rest]);
        if bytes.len() <= 120 {
            for second in 0..=rest.len() {
                let (middle, tail) = rest.split_at(second);
                all.push(vec![head, middle, tail]);
            }
        }
    }
    all
}

/// A small random source (splitmix64): the same numbers for the same seed everywhere.
pub(crate) struct Random(u64);

impl Random {
    /// A source whose seed is printed, or given by KEYWAY_TEST_SEED.
    pub(crate) fn from_environment(test: &str) -> Random {
        let seed = std::env::var("KEYWAY_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            now.as_nanos() as u64
        });
        println!("{test}: KEYWAY_TEST_SEED={seed}");
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    pub(crate) fn pick<'t, T: ?Sized>(&mut self, from: &[&'t T]) -> &'t T {
        from[self.below(from.len())]
    }

    /// `bytes` cut into random pieces.
    pub(crate) fn pieces<'b>(&mut self, mut bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut pieces = Vec::new();
        let longest = 1 + self.below(64);
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(1 + self.below(longest)));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

/// `bytes` with the unprintable escaped, for messages.
pub(crate) fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub(crate) mod stream;
