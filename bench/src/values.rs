//! What is stored under a key: value and flags follow from the key's number alone, so that every reply can be checked
//! and a reply meant for another request is seen.
//!
//! Invariant: two keys' replies differ in the key and the flags (32 bits), and their values in a stamp and in where they
//! begin in a pattern of random bytes, CR and LF among them.

use crate::keys::{KEY_BYTES, Random, key_name, mix};
use std::str::FromStr;

const STAMP_BYTES: usize = 8;
const PATTERN_STARTS: u64 = 4096;
/// Largest value: memcached's default item size is 1 MiB, other servers' more.
const VALUE_BYTES_MAX: usize = 512 << 20;

/// Value sizes, both ends included. A key's own size is drawn from it once and for all, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueBytes {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl FromStr for ValueBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<ValueBytes, String> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        match (min.parse(), max.parse()) {
            (Ok(min), Ok(max)) if min <= max && max <= VALUE_BYTES_MAX => Ok(ValueBytes { min, max }),
            _ => Err(format!("value bytes {text:?}: N or MIN-MAX, at most {VALUE_BYTES_MAX}")),
        }
    }
}

/// All keys' values.
#[derive(Debug)]
pub(crate) struct Values {
    sizes: ValueBytes,
    pattern: Vec<u8>,
}

/// One key's item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) key: [u8; KEY_BYTES],
    pub(crate) flags: u32,
    stamp: [u8; STAMP_BYTES],
    /// The value but for the stamp at its start.
    pattern: &'a [u8],
}

impl Values {
    pub(crate) fn new(sizes: ValueBytes) -> Values {
        let mut random = Random::new(1);
        let pattern = (0..sizes.max + PATTERN_STARTS as usize).map(|_| (random.next() >> 56) as u8).collect();
        Values { sizes, pattern }
    }

    pub(crate) fn item(&self, number: u64) -> Item<'_> {
        let mixed = mix(number);
        let spread = (self.sizes.max - self.sizes.min) as u64 + 1;
        let bytes = self.sizes.min + ((mixed >> 32) % spread) as usize;
        let start = (mixed % PATTERN_STARTS) as usize;
        Item {
            key: key_name(number),
            flags: mix(mixed) as u32,
            stamp: mixed.to_le_bytes(),
            pattern: &self.pattern[start..start + bytes],
        }
    }
}

impl Item<'_> {
    pub(crate) fn value_bytes(&self) -> usize {
        self.pattern.len()
    }

    /// Appends the `set` request.
    pub(crate) fn write_set(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"set ");
        out.extend_from_slice(&self.key);
        out.push(b' ');
        push_number(u64::from(self.flags), out);
        out.extend_from_slice(b" 0 ");
        push_number(self.value_bytes() as u64, out);
        out.extend_from_slice(b"\r\n");
        self.write_value(out);
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the `get` request.
    pub(crate) fn write_get(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"get ");
        out.extend_from_slice(&self.key);
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the line that a reply with this item begins with.
    pub(crate) fn write_value_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"VALUE ");
        out.extend_from_slice(&self.key);
        out.push(b' ');
        push_number(u64::from(self.flags), out);
        out.push(b' ');
        push_number(self.value_bytes() as u64, out);
        out.extend_from_slice(b"\r\n");
    }

    pub(crate) fn write_value(&self, out: &mut Vec<u8>) {
        let stamp = STAMP_BYTES.min(self.pattern.len());
        out.extend_from_slice(&self.stamp[..stamp]);
        out.extend_from_slice(&self.pattern[stamp..]);
    }

    /// True when `value` is this item's, to the byte.
    pub(crate) fn is_value(&self, value: &[u8]) -> bool {
        let stamp = STAMP_BYTES.min(self.pattern.len());
        value.len() == self.pattern.len()
            && value[..stamp] == self.stamp[..stamp]
            && value[stamp..] == self.pattern[stamp..]
    }
}

fn push_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}
