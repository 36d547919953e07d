//! Any bytes from a server: no panic, progress, and the same events however the bytes are cut.
//!
//! The first three bytes of the input say which operation is answered and where to cut the rest; every seed starts with
//! them.

#![no_main]

use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{Expect, Limits, Reply, ReplyKind, ReplyParsed, ReplyParser};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Value { key: Vec<u8>, flags: Vec<u8>, data: Vec<u8>, cas: Vec<u8>, last: bool, consumed: usize },
    Line { kind: ReplyKind, consumed: usize },
    Misaligned,
}

fn events<'p>(expect: Expect, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<Event> {
    let limits = Limits { key_bytes: 40, value_bytes: 200, ..Limits::default() };
    let mut parser = ReplyParser::new(limits);
    let mut held = Vec::new();
    let mut events = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let (reply, consumed) = match parser.parse(expect, &held) {
                ReplyParsed::NeedMore => break,
                ReplyParsed::Misaligned => {
                    events.push(Event::Misaligned);
                    return events;
                }
                ReplyParsed::Reply { reply, consumed } => (reply, consumed),
            };
            assert!(consumed > 0 && consumed <= held.len());
            events.push(match reply {
                Reply::Line(kind) => {
                    assert_eq!(held[consumed - 2..consumed], *b"\r\n");
                    Event::Line { kind, consumed }
                }
                Reply::Value(value) => {
                    assert_eq!(consumed, value.item_end + if value.last { 5 } else { 0 });
                    assert_eq!(value.data.end + 2, value.item_end);
                    assert_eq!(value.cas.is_empty(), expect == Expect::Values { with_cas: false });
                    let part = |range: &std::ops::Range<usize>| held[range.clone()].to_vec();
                    Event::Value {
                        key: part(&value.key),
                        flags: part(&value.flags),
                        data: part(&value.data),
                        cas: part(&value.cas),
                        last: value.last,
                        consumed,
                    }
                }
            });
            held.drain(..consumed);
        }
    }
    events
}

fuzz_target!(|input: &[u8]| {
    let [operation, low, high, bytes @ ..] = input else {
        return;
    };
    let expect = Expect::from_operation(Operation::ALL[usize::from(*operation) % Operation::COUNT]);
    let whole = events(expect, [bytes]);
    let (head, tail) = bytes.split_at(usize::from(u16::from_le_bytes([*low, *high])) % (bytes.len() + 1));
    assert_eq!(events(expect, [head, tail]), whole);
    assert_eq!(events(expect, bytes.chunks(1)), whole);
});
