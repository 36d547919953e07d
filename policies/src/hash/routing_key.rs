//! The part of a key that is hashed.
//!
//! Owns tags, stops and salts. A key's tag comes first, then its stop; the salt is appended to what they leave. Nothing
//! here allocates for a memcached key.

use smallvec::SmallVec;

/// A pair of characters: only what stands between them is hashed, so that keys can be kept together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashTag {
    /// The opening character.
    pub open: u8,
    /// The closing character; may be the same.
    pub close: u8,
}

impl HashTag {
    /// The tag written as two characters, such as `{}`.
    pub const fn from_pair(pair: &[u8]) -> Option<HashTag> {
        match pair {
            [open, close] => Some(HashTag { open: *open, close: *close }),
            _ => None,
        }
    }

    /// What stands between the first opening character and the next closing one; it may be nothing at all. No later
    /// pair is looked for.
    pub fn find(self, key: &[u8]) -> Option<&[u8]> {
        let after = &key[key.iter().position(|byte| *byte == self.open)? + 1..];
        Some(&after[..after.iter().position(|byte| *byte == self.close)?])
    }
}

/// A mark in a key: it and what follows isn't hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashStop {
    bytes: [u8; HashStop::MAX_BYTES],
    len: u8,
}

impl HashStop {
    /// Longest mark. memcached's proxy takes up to 5 bytes.
    pub const MAX_BYTES: usize = 8;
    /// mcrouter's, `|#|`.
    pub const MCROUTER: HashStop = HashStop { bytes: *b"|#|\0\0\0\0\0", len: 3 };

    /// The mark of that text, of 1 to `MAX_BYTES` bytes.
    pub fn new(text: &[u8]) -> Option<HashStop> {
        let mut bytes = [0; HashStop::MAX_BYTES];
        bytes.get_mut(..text.len()).filter(|room| !room.is_empty())?.copy_from_slice(text);
        Some(HashStop { bytes, len: text.len() as u8 })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// What stands before the mark.
    pub(crate) fn cut<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        let mark = self.as_bytes();
        key.windows(mark.len()).position(|window| window == mark).map_or(key, |at| &key[..at])
    }
}

/// Which part of a key is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyFilter {
    pub(super) tag: Option<HashTag>,
    /// Whether a tag around nothing counts; else the whole key is hashed.
    pub(super) empty_tag: bool,
    pub(super) stop: Option<HashStop>,
}

impl KeyFilter {
    pub(super) fn routing_key<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        let tagged = self.tag.and_then(|tag| tag.find(key)).filter(|tagged| self.empty_tag || !tagged.is_empty());
        match (tagged, self.stop) {
            (Some(tagged), _) => tagged,
            (None, Some(stop)) => stop.cut(key),
            (None, None) => key,
        }
    }
}

/// Room for a key, its salt and the digits of a draw. Longer ones go to the heap; memcached has none.
type Room = SmallVec<[u8; 512]>;

/// A routing key with its salt, to which one more number can be appended.
#[derive(Debug)]
pub(super) struct Salted {
    bytes: Room,
    /// Where the number goes.
    end: usize,
}

impl Salted {
    pub(super) fn new(key: &[u8], salt: &[u8]) -> Salted {
        let mut bytes = Room::with_capacity(key.len() + salt.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(salt);
        Salted { end: bytes.len(), bytes }
    }

    /// Without a number.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// With this number behind it, in decimal digits.
    pub(super) fn with(&mut self, number: u32) -> &[u8] {
        self.with_reversed(number);
        self.bytes[self.end..].reverse();
        &self.bytes
    }

    /// With this number behind it, the lowest digit first.
    pub(super) fn with_reversed(&mut self, number: u32) -> &[u8] {
        self.bytes.truncate(self.end);
        let mut rest = number;
        loop {
            self.bytes.push(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                return &self.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routing_key_is_the_tag_or_ends_at_the_stop() {
        let braces = HashTag::from_pair(b"{}");
        let dollars = HashTag::from_pair(b"$$");
        let stop = Some(HashStop::MCROUTER);
        type Case<'a> = (&'a str, Option<HashTag>, Option<HashStop>, &'a str);
        let cases: [Case<'_>; 16] = [
            ("user:{42}:name", braces, None, "42"),
            ("{42}{43}", braces, None, "42"),
            ("a{b{c}d", braces, None, "b{c"),
            ("{}whole", braces, None, "{}whole"),
            ("{}{later}", braces, None, "{}{later}"),
            ("}open{", braces, None, "}open{"),
            ("}a{b}", braces, None, "b"),
            ("none", braces, None, "none"),
            ("a$b$c", dollars, None, "b"),
            ("{a}", None, None, "{a}"),
            ("key|#|rest", None, None, "key|#|rest"),
            ("key|#|rest|#|more", None, stop, "key"),
            ("k{tag}|#|rest", braces, stop, "tag"),
            ("{}|#|rest", braces, stop, "{}"),
            ("key|#rest", None, stop, "key|#rest"),
            ("a::b::c", None, HashStop::new(b"::"), "a"),
        ];
        for (key, tag, stop, expected) in cases {
            let filter = KeyFilter { tag, empty_tag: false, stop };
            assert_eq!(filter.routing_key(key.as_bytes()), expected.as_bytes(), "{key}");
        }
        let counting = KeyFilter { tag: braces, empty_tag: true, stop: None };
        assert_eq!(counting.routing_key(b"{}whole"), b"");
        assert_eq!(counting.routing_key(b"{whole"), b"{whole");
    }

    #[test]
    fn tags_are_two_characters_and_stops_a_few() {
        assert_eq!(HashTag::from_pair(b"{"), None);
        assert_eq!(HashTag::from_pair(b"{}}"), None);
        assert_eq!(HashStop::new(b""), None);
        assert_eq!(HashStop::new(b"123456789"), None);
        assert_eq!(HashStop::new(b"|#|"), Some(HashStop::MCROUTER));
    }

    #[test]
    fn numbers_follow_the_salt_in_either_order() {
        let mut salted = Salted::new(b"key", b"-s");
        assert_eq!(salted.bytes(), b"key-s");
        assert_eq!(salted.with(0), b"key-s0");
        assert_eq!(salted.with(123), b"key-s123");
        assert_eq!(salted.with_reversed(123), b"key-s321");
        assert_eq!(salted.with_reversed(9), b"key-s9");
        assert_eq!(salted.bytes(), b"key-s");
    }
}
