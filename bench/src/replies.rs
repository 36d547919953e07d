//! Reading replies and checking them to the byte against what the request calls for.
//!
//! Its own small reader, apart from the router's parsers: what measures them should not share their mistakes. The way of
//! the expected reply is a few comparisons; everything else is found out slowly and named.

use crate::stats::ErrorKind;
use crate::values::{Item, Values};

/// Longest line of a reply that isn't a value; longer is no reply.
const LINE_BYTES_MAX: usize = 2048;
/// Largest value a reply may announce; larger is no reply.
const SIZE_MAX: usize = 1 << 30;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Get,
    Set,
}

/// What a reply was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Hit,
    Miss,
    Stored,
    /// Not what was asked for; the stream is still in step.
    Wrong(ErrorKind),
}

/// What is at the start of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    NeedMore,
    Reply {
        outcome: Outcome,
        consumed: usize,
    },
    /// No reply at all: the connection is of no more use.
    Misaligned,
}

/// Checks replies against the values that keys have.
#[derive(Debug)]
pub(crate) struct Checker {
    line: Vec<u8>,
}

impl Checker {
    pub(crate) fn new() -> Checker {
        Checker { line: Vec::with_capacity(64) }
    }

    /// Looks at the start of `bytes` for the reply to `asked` for key `number`.
    pub(crate) fn check(&mut self, asked: Asked, number: u64, values: &Values, bytes: &[u8]) -> Checked {
        match asked {
            Asked::Set if bytes.starts_with(b"STORED\r\n") => Checked::Reply { outcome: Outcome::Stored, consumed: 8 },
            Asked::Get if bytes.starts_with(b"END\r\n") => Checked::Reply { outcome: Outcome::Miss, consumed: 5 },
            Asked::Get if bytes.starts_with(b"VALUE ") => self.value(&values.item(number), bytes),
            Asked::Get | Asked::Set => unexpected(bytes),
        }
    }

    fn value(&mut self, item: &Item<'_>, bytes: &[u8]) -> Checked {
        const TAIL: &[u8] = b"\r\nEND\r\n";
        self.line.clear();
        item.write_value_line(&mut self.line);
        let value_end = self.line.len() + item.value_bytes();
        if !bytes.starts_with(&self.line) {
            return unexpected(bytes);
        }
        if bytes.len() < value_end + TAIL.len() {
            return Checked::NeedMore;
        }
        if &bytes[value_end..value_end + TAIL.len()] != TAIL {
            return Checked::Misaligned;
        }
        let is_right = item.is_value(&bytes[self.line.len()..value_end]);
        let outcome = if is_right { Outcome::Hit } else { Outcome::Wrong(ErrorKind::WrongValue) };
        Checked::Reply { outcome, consumed: value_end + TAIL.len() }
    }
}

/// Names a reply that isn't the one called for, and finds its end.
fn unexpected(bytes: &[u8]) -> Checked {
    let Some(line_end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n').map(|at| at + 1) else {
        return if bytes.len() < LINE_BYTES_MAX { Checked::NeedMore } else { Checked::Misaligned };
    };
    let line = bytes[..line_end].trim_ascii_end();
    let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let kind = match word {
        b"SERVER_ERROR" => ErrorKind::ServerError,
        b"CLIENT_ERROR" => ErrorKind::ClientError,
        b"ERROR" => ErrorKind::Error,
        b"STORED" | b"NOT_STORED" | b"END" => ErrorKind::WrongReply,
        b"VALUE" => return other_value(bytes, line, line_end),
        _ => return Checked::Misaligned,
    };
    Checked::Reply { outcome: Outcome::Wrong(kind), consumed: line_end }
}

/// A value under another key, with other flags or of another size.
fn other_value(bytes: &[u8], line: &[u8], line_end: usize) -> Checked {
    const TAIL: &[u8] = b"\r\nEND\r\n";
    let size = line.split(|byte| *byte == b' ').nth(3).and_then(|size| std::str::from_utf8(size).ok()?.parse().ok());
    let Some(size) = size.filter(|size: &usize| *size <= SIZE_MAX) else {
        return Checked::Misaligned;
    };
    let end = line_end + size + TAIL.len();
    match bytes.get(line_end + size..end) {
        None => Checked::NeedMore,
        Some(TAIL) => Checked::Reply { outcome: Outcome::Wrong(ErrorKind::WrongReply), consumed: end },
        Some(_) => Checked::Misaligned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::ValueBytes;

    fn reply_of(values: &Values, number: u64) -> Vec<u8> {
        let mut reply = Vec::new();
        let item = values.item(number);
        item.write_value_line(&mut reply);
        item.write_value(&mut reply);
        reply.extend_from_slice(b"\r\nEND\r\n");
        reply
    }

    /// Every cut of the reply needs more; the whole one is `expected`, also with more behind it.
    fn check(asked: Asked, number: u64, reply: &[u8], expected: Checked) {
        let values = Values::new(ValueBytes { min: 0, max: 300 });
        let mut checker = Checker::new();
        assert_eq!(checker.check(asked, number, &values, reply), expected, "{asked:?} {number} {reply:?}");
        if let Checked::Reply { consumed, .. } = expected {
            assert_eq!(consumed, reply.len());
            for cut in 0..reply.len() {
                assert_eq!(checker.check(asked, number, &values, &reply[..cut]), Checked::NeedMore, "cut at {cut}");
            }
            let more = [reply, b"VALUE x"].concat();
            assert_eq!(checker.check(asked, number, &values, &more), expected);
        }
    }

    fn whole(outcome: Outcome, reply: &[u8]) -> Checked {
        Checked::Reply { outcome, consumed: reply.len() }
    }

    #[test]
    fn right_replies_are_right_for_their_own_request_only() {
        let values = Values::new(ValueBytes { min: 0, max: 300 });
        for number in 0..300 {
            let reply = reply_of(&values, number);
            check(Asked::Get, number, &reply, whole(Outcome::Hit, &reply));
            check(Asked::Get, number + 1, &reply, whole(Outcome::Wrong(ErrorKind::WrongReply), &reply));
            check(Asked::Set, number, &reply, whole(Outcome::Wrong(ErrorKind::WrongReply), &reply));
        }
        check(Asked::Set, 1, b"STORED\r\n", whole(Outcome::Stored, b"STORED\r\n"));
        check(Asked::Get, 1, b"END\r\n", whole(Outcome::Miss, b"END\r\n"));
        check(Asked::Get, 1, b"STORED\r\n", whole(Outcome::Wrong(ErrorKind::WrongReply), b"STORED\r\n"));
        check(Asked::Set, 1, b"END\r\n", whole(Outcome::Wrong(ErrorKind::WrongReply), b"END\r\n"));
    }

    #[test]
    fn any_changed_byte_of_a_reply_is_seen() {
        let values = Values::new(ValueBytes { min: 100, max: 100 });
        let reply = reply_of(&values, 5);
        for at in 0..reply.len() {
            let mut changed = reply.clone();
            changed[at] ^= 1;
            let checked = Checker::new().check(Asked::Get, 5, &values, &changed);
            let right = matches!(checked, Checked::Reply { outcome: Outcome::Hit | Outcome::Miss, .. });
            assert!(!right, "byte {at}: {checked:?}");
        }
    }

    #[test]
    fn errors_are_named() {
        for (reply, kind) in [
            (&b"ERROR\r\n"[..], ErrorKind::Error),
            (b"SERVER_ERROR timeout\r\n", ErrorKind::ServerError),
            (b"CLIENT_ERROR bad data chunk\r\n", ErrorKind::ClientError),
        ] {
            check(Asked::Get, 1, reply, whole(Outcome::Wrong(kind), reply));
            check(Asked::Set, 1, reply, whole(Outcome::Wrong(kind), reply));
        }
        check(Asked::Get, 1, b"HTTP/1.1 400\r\n", Checked::Misaligned);
        check(Asked::Get, 1, &[b'x'; LINE_BYTES_MAX], Checked::Misaligned);
        check(Asked::Get, 1, b"VALUE k 0 1\r\nxxEND\r\n\r\n", Checked::Misaligned);
    }

    #[test]
    fn requests_and_sizes_are_as_asked() {
        let mut request = Vec::new();
        let values = Values::new(ValueBytes { min: 3, max: 3 });
        values.item(9).write_get(&mut request);
        assert_eq!(request, b"get key:000000000009\r\n");
        let sizes: Vec<usize> = {
            let values = Values::new(ValueBytes { min: 10, max: 12 });
            (0..1000).map(|number| values.item(number).value_bytes()).collect()
        };
        assert!((10..=12).all(|size| sizes.contains(&size)) && sizes.iter().all(|size| (10..=12).contains(size)));
        assert_eq!("100".parse(), Ok(ValueBytes { min: 100, max: 100 }));
        assert_eq!("1-5".parse(), Ok(ValueBytes { min: 1, max: 5 }));
        assert!("5-1".parse::<ValueBytes>().is_err());
        assert!("x".parse::<ValueBytes>().is_err());
    }
}
