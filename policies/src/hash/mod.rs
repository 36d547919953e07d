//! Which server of a pool a key belongs to.
//!
//! Owns the functions and distributions other proxies use, bit for bit, so that a fleet can be moved to Keyway without
//! its keys moving. Each is an enum variant here and a file of its own. Never knows health: callers hand in what is up.

pub(crate) mod ch3;
mod fnv;
pub mod ketama;

use crate::routes::pool::PoolSpec;
use ketama::Ring;

/// Most times a key is hashed anew with a salt to get away from a server that is down; then the next in order is taken.
const MAX_SALTED_DRAWS: u8 = 99;

/// mcrouter's hash stop: what follows it isn't hashed.
const HASH_STOP: &[u8] = b"|#|";

/// How a pool spreads keys over its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// mcrouter's default: by position in the pool. Hashes for itself and cuts keys at `|#|`.
    Ch3,
    /// twemproxy's default: by the servers' names, on a ring.
    Ketama(KeyHash),
}

impl Distribution {
    /// The distribution's name in configs.
    pub const fn name(self) -> &'static str {
        match self {
            Distribution::Ch3 => "ch3",
            Distribution::Ketama(_) => "ketama",
        }
    }

    /// What a config's `function` and `distribution` say together; what is left out follows from the other, and nothing
    /// at all is ch3. None where a name is unknown or the two don't go together.
    pub fn from_names(function: Option<&str>, distribution: Option<&str>) -> Option<Distribution> {
        match (function, distribution) {
            (None | Some("ch3"), None | Some("ch3")) => Some(Distribution::Ch3),
            (None, Some("ketama")) => Some(Distribution::Ketama(KeyHash::Fnv1a64)),
            (Some(function), None | Some("ketama")) => KeyHash::from_name(function).map(Distribution::Ketama),
            (_, Some(_)) => None,
        }
    }
}

/// The hash function of a key, where the distribution lets one choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHash {
    /// twemproxy's default. Not the FNV-1a everybody else has: see `fnv`.
    Fnv1a64,
}

impl KeyHash {
    /// Every function, for the message about a wrong name.
    pub const ALL: [KeyHash; 1] = [KeyHash::Fnv1a64];

    /// The name in configs, as twemproxy has it.
    pub const fn name(self) -> &'static str {
        match self {
            KeyHash::Fnv1a64 => "fnv1a_64",
        }
    }

    /// The function of that name.
    pub fn from_name(name: &str) -> Option<KeyHash> {
        KeyHash::ALL.into_iter().find(|function| function.name() == name)
    }

    fn hash(self, key: &[u8]) -> u32 {
        match self {
            // An empty key, which flush_all has, never reaches the function in twemproxy.
            KeyHash::Fnv1a64 if key.is_empty() => 0,
            KeyHash::Fnv1a64 => fnv::fnv1a_64(key),
        }
    }
}

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

    /// What stands between the first opening character and the next closing one. None where there is nothing between
    /// them: as in twemproxy, the whole key is hashed then, and no later pair is looked for.
    pub fn find(self, key: &[u8]) -> Option<&[u8]> {
        let after = &key[key.iter().position(|byte| *byte == self.open)? + 1..];
        let tagged = &after[..after.iter().position(|byte| *byte == self.close)?];
        (!tagged.is_empty()).then_some(tagged)
    }
}

/// The part of a key that is hashed: the tag's, where the pool has a tag and the key too; else mcrouter's routing key
/// under ch3 and the whole key otherwise.
pub(crate) fn routing_key<'k>(key: &'k [u8], tag: Option<HashTag>, placement: &Placement) -> &'k [u8] {
    if let Some(tagged) = tag.and_then(|tag| tag.find(key)) {
        return tagged;
    }
    match placement {
        Placement::Ch3 => match key.windows(HASH_STOP.len()).position(|window| window == HASH_STOP) {
            Some(stop) => &key[..stop],
            None => key,
        },
        Placement::Ketama { .. } => key,
    }
}

/// A distribution made ready for one pool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Placement {
    Ch3,
    Ketama { function: KeyHash, ring: Ring },
}

impl Placement {
    pub(crate) fn new(spec: &PoolSpec) -> Placement {
        match spec.distribution {
            Distribution::Ch3 => Placement::Ch3,
            Distribution::Ketama(function) => {
                let servers = spec.servers.iter().map(|server| (server.label.as_str(), server.weight));
                Placement::Ketama { function, ring: Ring::new(servers) }
            }
        }
    }

    /// The server a routing key belongs to, of `servers` (at least 1).
    pub(crate) fn home(&self, key: &[u8], servers: usize) -> usize {
        if servers == 1 {
            return 0;
        }
        match self {
            Placement::Ch3 => ch3::ch3(key, &[], servers as u32) as usize,
            Placement::Ketama { function, ring } => ring.home(function.hash(key)),
        }
    }

    /// The server a routing key falls to among those that are up, of which there is one at least.
    ///
    /// Ketama: the next point on the ring, which is where twemproxy's ring without the dead servers has it when weights
    /// are equal. Ch3: as mcrouter's deterministic failover does, the key is hashed anew with a decimal salt, so that a
    /// dead server's keys spread over all others; the salt is bounded, then the next server in order is taken.
    pub(crate) fn first_up(&self, key: &[u8], servers: usize, is_up: impl Fn(usize) -> bool) -> usize {
        let home = self.home(key, servers);
        if is_up(home) {
            return home;
        }
        let drawn = match self {
            Placement::Ch3 => (1..=MAX_SALTED_DRAWS)
                .map(|draw| {
                    let digits = [b'0' + draw / 10, b'0' + draw % 10];
                    let salt = if draw < 10 { &digits[1..] } else { &digits[..] };
                    ch3::ch3(key, salt, servers as u32) as usize
                })
                .find(|index| is_up(*index)),
            Placement::Ketama { function, ring } => ring.first_up(function.hash(key), &is_up),
        };
        // A server may have no point on the ring when its weight is tiny.
        drawn.or_else(|| (1..servers).map(|step| (home + step) % servers).find(|index| is_up(*index))).unwrap_or(home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_function_and_distribution_complete_each_other() {
        let fnv = Some(Distribution::Ketama(KeyHash::Fnv1a64));
        let cases = [
            (None, None, Some(Distribution::Ch3)),
            (Some("ch3"), None, Some(Distribution::Ch3)),
            (None, Some("ch3"), Some(Distribution::Ch3)),
            (Some("ch3"), Some("ch3"), Some(Distribution::Ch3)),
            (Some("fnv1a_64"), None, fnv),
            (None, Some("ketama"), fnv),
            (Some("fnv1a_64"), Some("ketama"), fnv),
            (Some("fnv1a_64"), Some("ch3"), None),
            (Some("ch3"), Some("ketama"), None),
            (Some("md6"), None, None),
            (None, Some("modulo"), None),
        ];
        for (function, distribution, expected) in cases {
            assert_eq!(Distribution::from_names(function, distribution), expected, "{function:?} {distribution:?}");
        }
    }

    #[test]
    fn the_routing_key_is_the_tag_or_ends_at_the_hash_stop() {
        let ketama = Placement::Ketama { function: KeyHash::Fnv1a64, ring: Ring::new([("a", 1)].into_iter()) };
        let braces = HashTag::from_pair(b"{}");
        let dollars = HashTag::from_pair(b"$$");
        type Case<'a> = (&'a [u8], Option<HashTag>, &'a Placement, &'a [u8]);
        let cases: [Case<'_>; 14] = [
            (b"user:{42}:name", braces, &ketama, b"42"),
            (b"{42}{43}", braces, &ketama, b"42"),
            (b"a{b{c}d", braces, &ketama, b"b{c"),
            (b"{}whole", braces, &ketama, b"{}whole"),
            (b"{}{later}", braces, &ketama, b"{}{later}"),
            (b"}open{", braces, &ketama, b"}open{"),
            (b"}a{b}", braces, &ketama, b"b"),
            (b"none", braces, &ketama, b"none"),
            (b"a$b$c", dollars, &ketama, b"b"),
            (b"{a}", None, &ketama, b"{a}"),
            (b"key|#|rest", None, &ketama, b"key|#|rest"),
            (b"key|#|rest|#|more", None, &Placement::Ch3, b"key"),
            (b"k{tag}|#|rest", braces, &Placement::Ch3, b"tag"),
            (b"key|#rest", None, &Placement::Ch3, b"key|#rest"),
        ];
        for (key, tag, placement, expected) in cases {
            assert_eq!(routing_key(key, tag, placement), expected, "{:?}", String::from_utf8_lossy(key));
        }
        assert_eq!(HashTag::from_pair(b"{"), None);
        assert_eq!(HashTag::from_pair(b"{}}"), None);
    }

    #[test]
    fn ch3_gets_away_from_servers_that_are_down_and_spreads_their_keys() {
        let mut moved_to = [0; 5];
        for number in 0..5000 {
            let key = format!("key{number}");
            let home = Placement::Ch3.home(key.as_bytes(), 5);
            let up = Placement::Ch3.first_up(key.as_bytes(), 5, |index| index != 2);
            assert!(if home == 2 { up != 2 } else { up == home }, "only the dead server's keys move");
            moved_to[up] += usize::from(home == 2);
            assert_eq!(Placement::Ch3.first_up(key.as_bytes(), 5, |index| index == 4), 4);
        }
        assert!([0, 1, 3, 4].into_iter().all(|index| moved_to[index] > 150), "{moved_to:?}");
        // Nothing up is against the contract; it must still end.
        assert!(Placement::Ch3.first_up(b"key", 5, |_| false) < 5);
    }
}
