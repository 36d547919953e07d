//! Tokens, numbers and key bytes of a text line: the checks that requests and replies share.
//!
//! Owns: what counts as a number and as a clean key. Numbers are narrower here than in any memcached (no sign but `-`,
//! no blanks, no overflow, no more digits than the type needs): servers differ in what they forgive, and a number one
//! server reads and another refuses would leave a data block standing as commands.

use memchr::memchr;
use std::ops::Range;

/// The ASCII bytes of a token that asks for silence.
pub(super) const NOREPLY: &[u8] = b"noreply";

/// Most tokens a command with a fixed number of them has: `cas key flags exptime bytes cas noreply`.
const MAX: usize = 7;

/// The tokens of a line, split at spaces as memcached splits them: runs of spaces count as one.
#[derive(Debug)]
pub(super) struct Tokens {
    at: [(usize, usize); MAX],
    /// How many the line has, also beyond those kept.
    pub(super) count: usize,
    last: (usize, usize),
}

impl Tokens {
    /// Splits `line`, which has no line end.
    pub(super) fn of(line: &[u8]) -> Tokens {
        let mut tokens = Tokens { at: [(0, 0); MAX], count: 0, last: (0, 0) };
        let mut from = 0;
        while let Some(token) = next_token(line, from) {
            from = token.end;
            tokens.last = (token.start, token.end);
            if tokens.count < MAX {
                tokens.at[tokens.count] = tokens.last;
            }
            tokens.count += 1;
        }
        tokens
    }

    /// Where token `index` lies; empty when the line has fewer.
    pub(super) fn range(&self, index: usize) -> Range<usize> {
        self.at.get(index).map_or(0..0, |&(start, end)| start..end)
    }

    /// Token `index`; empty when the line has fewer.
    pub(super) fn token<'a>(&self, line: &'a [u8], index: usize) -> &'a [u8] {
        &line[self.range(index)]
    }

    /// The last token, also beyond those kept.
    pub(super) fn last<'a>(&self, line: &'a [u8]) -> &'a [u8] {
        &line[self.last.0..self.last.1]
    }

    /// The last token with the one space before it: what is cut out to take a `noreply` away.
    pub(super) fn last_with_space(&self) -> Range<usize> {
        self.last.0.saturating_sub(1)..self.last.1
    }
}

/// The first token of `line` at or behind `from`.
pub(super) fn next_token(line: &[u8], from: usize) -> Option<Range<usize>> {
    let mut start = from;
    while line.get(start) == Some(&b' ') {
        start += 1;
    }
    if start >= line.len() {
        return None;
    }
    let end = memchr(b' ', &line[start..]).map_or(line.len(), |length| start + length);
    Some(start..end)
}

/// True when `bytes` hold an ASCII control character, DEL among them. Eight bytes at a time.
pub(super) fn has_control(bytes: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word_has_control = |word: [u8; 8]| {
        let word = u64::from_le_bytes(word);
        // Either term is non-zero exactly when some byte is below 0x20, or is 0x7f; borrows between bytes can only
        // raise further flags behind one that is already rightly raised.
        let below_space = word.wrapping_sub(EACH * 0x20) & !word;
        let delete = word ^ (EACH * 0x7f);
        let is_delete = delete.wrapping_sub(EACH) & !delete;
        (below_space | is_delete) & (EACH * 0x80) != 0
    };
    let (words, rest) = bytes.as_chunks::<8>();
    if words.iter().any(|word| word_has_control(*word)) {
        return true;
    }
    match bytes.last_chunk::<8>() {
        // Looking at some bytes twice is cheaper than a loop over the rest.
        Some(tail) => !rest.is_empty() && word_has_control(*tail),
        None => rest.iter().any(u8::is_ascii_control),
    }
}

/// A decimal u64 of at most 20 digits and nothing else.
pub(super) fn parse_u64(token: &[u8]) -> Option<u64> {
    if token.is_empty() || token.len() > 20 {
        return None;
    }
    let mut number: u64 = 0;
    for byte in token {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(number)
}

/// A decimal u32 of at most 10 digits and nothing else. memcached's newer parser refuses 32-bit tokens of 12 bytes
/// and more, also when leading zeros make them long.
pub(super) fn parse_u32(token: &[u8]) -> Option<u32> {
    if token.len() > 10 {
        return None;
    }
    parse_u64(token).and_then(|number| u32::try_from(number).ok())
}

/// A decimal i32 of at most 10 digits, `-` before it or not, and nothing else.
pub(super) fn parse_i32(token: &[u8]) -> Option<i32> {
    let (negative, digits) = match token {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let magnitude = i64::from(parse_u32(digits)?);
    i32::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// Counts looked-at bytes, in tests only, so that linear time is shown by counting and not by a clock.
#[inline(always)]
pub(super) fn examined(bytes: usize) {
    #[cfg(test)]
    EXAMINED.with(|total| total.set(total.get() + bytes));
    let _ = bytes;
}

#[cfg(test)]
thread_local! {
    pub(super) static EXAMINED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_seen_at_every_place_and_nothing_else_is() {
        for length in 0..40 {
            for at in 0..length {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'k'; length];
                    bytes[at] = byte;
                    assert_eq!(has_control(&bytes), byte.is_ascii_control(), "{byte:#x} at {at} of {length}");
                }
            }
            let high = vec![0x80; length];
            assert!(!has_control(&high));
        }
        // A control character next to bytes that borrow.
        assert!(has_control(&[0x20, 0x1f, 0x20, 0xff, 0x80, 0x7e, 0x21, 0x20]));
        assert!(!has_control(&[0x20, 0x80, 0x20, 0xff, 0x80, 0x7e, 0x21, 0x20]));
    }

    #[test]
    fn numbers_are_strict() {
        let check = |token: &str, u64s: Option<u64>, u32s: Option<u32>, i32s: Option<i32>| {
            assert_eq!(parse_u64(token.as_bytes()), u64s, "u64 of {token:?}");
            assert_eq!(parse_u32(token.as_bytes()), u32s, "u32 of {token:?}");
            assert_eq!(parse_i32(token.as_bytes()), i32s, "i32 of {token:?}");
        };
        check("", None, None, None);
        check("-", None, None, None);
        check("+1", None, None, None);
        check(" 1", None, None, None);
        check("1x", None, None, None);
        check("1\t", None, None, None);
        check("0", Some(0), Some(0), Some(0));
        check("-0", None, None, Some(0));
        check("--1", None, None, None);
        check("007", Some(7), Some(7), Some(7));
        check("2147483647", Some(2_147_483_647), Some(2_147_483_647), Some(i32::MAX));
        check("2147483648", Some(2_147_483_648), Some(2_147_483_648), None);
        check("-2147483648", None, None, Some(i32::MIN));
        check("-2147483649", None, None, None);
        check("4294967295", Some(4_294_967_295), Some(u32::MAX), None);
        check("4294967296", Some(4_294_967_296), None, None);
        check("00000000001", Some(1), None, None);
        check("18446744073709551615", Some(u64::MAX), None, None);
        check("18446744073709551616", None, None, None);
        check("000000000000000000001", None, None, None);
    }

    #[test]
    fn tokens_are_split_at_runs_of_spaces() {
        let line = b"  set   key 0 0  1 2 3 4 5 noreply  ";
        let tokens = Tokens::of(line);
        assert_eq!(tokens.count, 10);
        assert_eq!(tokens.token(line, 0), b"set");
        assert_eq!(tokens.token(line, 6), b"3");
        assert_eq!(tokens.token(line, 7), b"", "kept are only as many as a command can have");
        assert_eq!(tokens.last(line), NOREPLY);
        assert_eq!(&line[tokens.last_with_space()], b" noreply");
        assert_eq!(Tokens::of(b"").count, 0);
        assert_eq!(Tokens::of(b"   ").count, 0);
    }
}
