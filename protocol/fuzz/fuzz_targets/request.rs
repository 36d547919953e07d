//! Any bytes from a client: no panic, progress, and the same events however the bytes are cut.
//!
//! The first two bytes of the input say where to cut the rest; every seed starts with them.

#![no_main]

use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{AfterRefusal, Expect, Limits, Parsed, RequestError, RequestParser};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Request { operation: Operation, forwarded: Vec<u8>, keys: Vec<Vec<u8>>, value: Vec<u8>, noreply: bool },
    Refused { error: RequestError, consumed: usize, noreply: bool, close: bool },
    Skip(usize),
}

fn events<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<Event> {
    let limits = Limits { key_bytes: 40, line_bytes: 128, retrieval_line_bytes: 300, value_bytes: 200 };
    let mut parser = RequestParser::new(limits);
    let mut held = Vec::new();
    let mut events = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let consumed = match parser.parse(&held) {
                Parsed::NeedMore => break,
                Parsed::Skip(bytes) => {
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
                    assert!(keys.iter().all(|key| !key.is_empty() && key.len() <= 40));
                    let forwarded = [head, tail].concat();
                    check_again(limits, &forwarded, request.operation);
                    events.push(Event::Request {
                        operation: request.operation,
                        forwarded,
                        keys,
                        value: request.frame[request.value.clone()].to_vec(),
                        noreply: request.is_noreply(),
                    });
                    request.frame.len()
                }
            };
            assert!(consumed > 0 && consumed <= held.len());
            held.drain(..consumed);
        }
    }
    events
}

/// What is passed on is by itself a request of the same kind that asks for a reply.
fn check_again(limits: Limits, forwarded: &[u8], operation: Operation) {
    match RequestParser::new(limits).parse(forwarded) {
        Parsed::Request(again) => {
            assert_eq!(again.frame, forwarded);
            assert!(!again.is_noreply());
            assert_eq!(Expect::from_operation(again.operation), Expect::from_operation(operation));
        }
        other => panic!("{} gives {other:?}", forwarded.escape_ascii()),
    }
}

fuzz_target!(|input: &[u8]| {
    let [low, high, bytes @ ..] = input else {
        return;
    };
    let whole = events([bytes]);
    let (head, tail) = bytes.split_at(usize::from(u16::from_le_bytes([*low, *high])) % (bytes.len() + 1));
    assert_eq!(events([head, tail]), whole);
    assert_eq!(events(bytes.chunks(1)), whole);
});
