//! Trickled input costs linear time: counted in bytes looked at, not by a clock.

use super::token::EXAMINED;
use super::{Expect, Limits, Parsed, ReplyParsed, ReplyParser, RequestParser};
use crate::Operation;

/// Bytes looked at while `step` is shown every longer start of `input`, byte by byte, until it is done with all of it.
fn examined_by(input: &[u8], mut step: impl FnMut(&[u8]) -> Option<usize>) -> usize {
    EXAMINED.set(0);
    let mut start = 0;
    for end in 1..=input.len() {
        while start < end
            && let Some(consumed) = step(&input[start..end])
        {
            start += consumed;
        }
    }
    assert_eq!(start, input.len(), "all of the input is used up");
    EXAMINED.get()
}

/// `build(n)` grows with n. Looked at are at most three bytes for each that came.
fn check_requests(build: impl Fn(usize) -> Vec<u8>) {
    for size in [10, 100, 1000] {
        let input = build(size);
        let mut parser = RequestParser::new(Limits::default());
        let examined = examined_by(&input, |bytes| match parser.parse(bytes) {
            Parsed::NeedMore => None,
            Parsed::Request(request) => Some(request.frame.len()),
            Parsed::Skip(consumed) | Parsed::Refused { consumed, .. } => Some(consumed),
        });
        assert!(examined <= 3 * input.len(), "{examined} for {} bytes", input.len());
    }
}

fn check_replies(expect: Expect, build: impl Fn(usize) -> Vec<u8>) {
    for size in [10, 100, 1000] {
        let input = build(size);
        let mut parser = ReplyParser::new(Limits::default());
        let examined = examined_by(&input, |bytes| match parser.parse(expect, bytes) {
            ReplyParsed::NeedMore => None,
            ReplyParsed::Reply { consumed, .. } => Some(consumed),
            ReplyParsed::Misaligned => panic!("misaligned"),
        });
        assert!(examined <= 3 * input.len(), "{examined} for {} bytes", input.len());
    }
}

#[test]
fn requests() {
    let repeated = |part: &str, size: usize| part.repeat(size).into_bytes();
    check_requests(|size| repeated("get key\r\n", size));
    check_requests(|size| format!("set k 0 0 {}\r\n{}\r\n", size * 50, "v".repeat(size * 50)).into_bytes());
    // The data is full of what ends lines.
    check_requests(|size| format!("set k 0 0 {}\r\n{}\r\n", size * 2, "\r\n".repeat(size)).into_bytes());
    check_requests(|size| format!("set k 0 0 {}x\r\n{}", size, "get a\r\n".repeat(size)).into_bytes());
    check_requests(|size| format!("set k x 0 {}\r\n{}\r\n", size * 9, "v".repeat(size * 9)).into_bytes());
    check_requests(|size| repeated("delete k\r\nunknown\r\n\r\n", size));
    check_requests(|size| repeated("   incr k 1 noreply\r\n", size));
    check_requests(|size| format!("get {}\r\n", "key ".repeat(size * 4)).into_bytes());
    check_requests(|size| "x".repeat(size * 10).into_bytes().into_iter().chain(*b"\n").collect());
}

#[test]
fn replies() {
    let get = Expect::from_operation(Operation::Get);
    check_replies(get, |size| {
        "VALUE k 0 1\r\na\r\n".repeat(size).into_bytes().into_iter().chain(*b"END\r\n").collect()
    });
    check_replies(get, |size| format!("VALUE k 0 {}\r\n{}\r\nEND\r\n", size * 50, "v".repeat(size * 50)).into_bytes());
    check_replies(get, |size| format!("VALUE k 0 {}\r\n{}\r\nEND\r\n", size * 5, "END\r\n".repeat(size)).into_bytes());
    check_replies(get, |size| format!("SERVER_ERROR {}\r\n", "y".repeat(size)).into_bytes());
    check_replies(Expect::Stats, |size| format!("{}END\r\n", "STAT name value\r\n".repeat(size)).into_bytes());
    check_replies(Expect::from_operation(Operation::Set), |size| "STORED\r\n".repeat(size).into_bytes());
}
