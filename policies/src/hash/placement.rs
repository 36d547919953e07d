//! A distribution made ready: which of its members a key belongs to, and which come after it.
//!
//! Never knows health: callers hand in what is up. Choosing allocates nothing for a key of memcached's. Invariant: every
//! answer is the index of a member, whatever the key; without members it is 0, and the caller has none to ask.

use super::ch3::{ch3, share, weighted_ch3};
use super::const_shard::shard;
use super::functions::{Bytes, KeyHash, WideHash, crc32};
use super::ketama::{Ring, Walk};
use super::modula::Modula;
use super::rendezvous::Rendezvous;
use super::routing_key::{KeyFilter, Salted};
use super::spec::{Distribution, PlacementSpec, SpecError};
use super::{buckets, jump, random};

/// Most times a key is hashed anew with a salt to get away from members that are down or used.
pub const MAX_DRAWS: u32 = 99;

/// A distribution over members.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    members: u32,
    filter: KeyFilter,
    salt: Box<[u8]>,
    choice: Choice,
}

/// How a routing key becomes an index.
#[derive(Clone, Debug, PartialEq)]
enum Choice {
    Ch3,
    WeightedCh3(Box<[u32]>),
    Crc32,
    ConstShard,
    Rendezvous(Rendezvous),
    Ring(RingHash, Ring),
    Modula(KeyHash, Modula),
    LibmemcachedModula(KeyHash),
    Random,
    Jump(WideHash),
    Buckets(buckets::Buckets),
}

/// The function in front of a ring.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RingHash {
    Key(KeyHash, Bytes),
    Wide(WideHash),
}

impl RingHash {
    fn hash(self, key: &[u8]) -> u32 {
        match self {
            RingHash::Key(function, Bytes::Signed) => hash_of(function, key),
            RingHash::Key(function, Bytes::Unsigned) => function.hash(key, Bytes::Unsigned),
            RingHash::Wide(function) => function.hash(key) as u32,
        }
    }
}

/// A hash as twemproxy asks for it: an empty key, which flush_all has, never reaches the function.
fn hash_of(function: KeyHash, key: &[u8]) -> u32 {
    if key.is_empty() { 0 } else { function.hash(key, Bytes::Signed) }
}

impl Placement {
    /// The placement of that spec.
    pub fn new(spec: &PlacementSpec) -> Result<Placement, SpecError> {
        spec.check()?;
        Ok(Placement {
            members: spec.members.len() as u32,
            filter: KeyFilter { tag: spec.tag, empty_tag: spec.distribution.empty_tag_counts(), stop: spec.stop },
            salt: spec.salt.as_bytes().into(),
            choice: Choice::new(spec)?,
        })
    }

    /// The member a key belongs to.
    pub fn home(&self, key: &[u8]) -> usize {
        if self.members <= 1 {
            return 0;
        }
        let key = self.filter.routing_key(key);
        if self.salt.is_empty() { self.place(key) } else { self.place(Salted::new(key, &self.salt).bytes()) }
    }

    /// The member a key falls to with a number behind it (and behind the salt): mcrouter's way to another one.
    pub fn drawn(&self, key: &[u8], draw: u32) -> usize {
        if self.members <= 1 {
            return 0;
        }
        self.place(Salted::new(self.filter.routing_key(key), &self.salt).with(draw))
    }

    /// The members in the order in which a key goes to them: its home, then where it would be without that one, and so
    /// on. On a ring the members of the next points; by score for rendezvous; else draws 1 to `MAX_DRAWS`. A member may
    /// come more than once, and where members are drawn or have no point, some may not come at all.
    pub fn candidates<'p>(&'p self, key: &'p [u8]) -> Candidates<'p> {
        let salted = Salted::new(self.filter.routing_key(key), &self.salt);
        let way = match &self.choice {
            _ if self.members <= 1 => Way::Only,
            Choice::Ring(hash, ring) => Way::Points(ring.walk(hash.hash(salted.bytes()))),
            Choice::Rendezvous(rendezvous) => Way::Scores { home: rendezvous.home(salted.bytes()), last: None },
            Choice::Ch3
            | Choice::WeightedCh3(_)
            | Choice::Crc32
            | Choice::ConstShard
            | Choice::Modula(..)
            | Choice::LibmemcachedModula(_)
            | Choice::Random
            | Choice::Jump(_)
            | Choice::Buckets(_) => Way::Draws,
        };
        Candidates { placement: self, salted, way, count: 0 }
    }

    /// The member a key falls to among those that are up, of which there is one at least: the first of its candidates,
    /// and if none of them is up the next one in order. On twemproxy's rings and in its modula that is where twemproxy
    /// has the key when it has ejected the others (on a ring if weights are equal).
    pub fn first_up(&self, key: &[u8], is_up: impl Fn(usize) -> bool) -> usize {
        if let Choice::Modula(function, modula) = &self.choice {
            let salted = Salted::new(self.filter.routing_key(key), &self.salt);
            if let Some(member) = modula.home_among(hash_of(*function, salted.bytes()), &is_up) {
                return member;
            }
        }
        let mut candidates = self.candidates(key);
        if let Some(member) = candidates.by_ref().find(|member| is_up(*member)) {
            return member;
        }
        let (home, members) = (self.home(key), self.members as usize);
        (1..members).map(|step| (home + step) % members).find(|member| is_up(*member)).unwrap_or(home)
    }

    /// The index of what is hashed, of two members at least.
    fn place(&self, hashed: &[u8]) -> usize {
        let index = match &self.choice {
            Choice::Ch3 => ch3(hashed, self.members),
            Choice::WeightedCh3(shares) => weighted_ch3(hashed, shares),
            Choice::Crc32 => (crc32(hashed) & 0x7fff_ffff) % self.members,
            Choice::ConstShard => shard(hashed, self.members).unwrap_or_else(|| ch3(hashed, self.members)),
            Choice::Rendezvous(rendezvous) => return rendezvous.home(hashed),
            Choice::Ring(function, ring) => return ring.home(function.hash(hashed)),
            Choice::Modula(function, modula) => return modula.home(hash_of(*function, hashed)),
            Choice::LibmemcachedModula(function) => function.hash(hashed, Bytes::Signed) % self.members,
            Choice::Random => random::draw(self.members),
            Choice::Jump(function) => jump::jump(function.hash(hashed), self.members),
            Choice::Buckets(buckets) => return buckets.home(hashed),
        };
        index as usize
    }
}

impl Choice {
    fn new(spec: &PlacementSpec) -> Result<Choice, SpecError> {
        let members = spec.members.as_slice();
        let signed = |function| RingHash::Key(function, Bytes::Signed);
        Ok(match spec.distribution {
            Distribution::Ch3 => Choice::Ch3,
            Distribution::WeightedCh3 => {
                Choice::WeightedCh3(members.iter().map(|member| share(member.weight.as_f64())).collect())
            }
            Distribution::Crc32 => Choice::Crc32,
            Distribution::ConstShard => Choice::ConstShard,
            Distribution::Rendezvous => Choice::Rendezvous(Rendezvous::new(members, false)),
            Distribution::WeightedRendezvous => Choice::Rendezvous(Rendezvous::new(members, true)),
            Distribution::Ketama(function) => Choice::Ring(signed(function), Ring::twemproxy(members)),
            Distribution::LibmemcachedKetama(function) => {
                Choice::Ring(signed(function), Ring::libmemcached(members, function))
            }
            Distribution::LibmemcachedKetamaWeighted(function) => {
                Choice::Ring(signed(function), Ring::libmemcached_weighted(members))
            }
            Distribution::OverlordKetama(function) => {
                Choice::Ring(RingHash::Key(function, Bytes::Unsigned), Ring::overlord(members))
            }
            Distribution::Ring { hash, mode, points } => {
                Choice::Ring(RingHash::Wide(hash), Ring::proxy(members, mode, points))
            }
            Distribution::Modula(function) => Choice::Modula(function, Modula::new(members)),
            Distribution::LibmemcachedModula(function) => Choice::LibmemcachedModula(function),
            Distribution::Random => Choice::Random,
            Distribution::Jump(function) => Choice::Jump(function),
            Distribution::Codis => {
                let table = buckets::table(spec.distribution, members, super::spec::CODIS_BUCKETS)?;
                Choice::Buckets(buckets::Buckets::codis(table))
            }
            Distribution::Kvstore { buckets } => {
                let table = buckets::table(spec.distribution, members, buckets)?;
                Choice::Buckets(buckets::Buckets::kvstore(table))
            }
        })
    }
}

/// The members in the order in which a key goes to them; see `Placement::candidates`. Bounded.
#[derive(Debug)]
pub struct Candidates<'p> {
    placement: &'p Placement,
    salted: Salted,
    way: Way<'p>,
    /// How many it has given.
    count: u32,
}

#[derive(Debug)]
enum Way<'p> {
    /// There is one member at most.
    Only,
    Points(Walk<'p>),
    Scores {
        home: usize,
        last: Option<usize>,
    },
    Draws,
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let count = self.count;
        self.count += 1;
        match &mut self.way {
            Way::Only => (count < self.placement.members).then_some(0),
            Way::Points(walk) => walk.next(),
            Way::Scores { home, .. } if count == 0 => Some(*home),
            Way::Scores { home, last } => loop {
                let Choice::Rendezvous(rendezvous) = &self.placement.choice else { return None };
                *last = Some(rendezvous.below(self.salted.bytes(), *last)?);
                if *last != Some(*home) {
                    return *last;
                }
            },
            Way::Draws if count == 0 => Some(self.placement.place(self.salted.bytes())),
            Way::Draws if count <= MAX_DRAWS => Some(self.placement.place(self.salted.with(count))),
            Way::Draws => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::vectors::{fleet, fold};
    use crate::hash::{HashTag, Member, RingMode, Weight};

    fn placement(distribution: Distribution, members: Vec<Member>) -> Placement {
        let spec = PlacementSpec { members, ..PlacementSpec::new(distribution, [] as [&str; 0]) };
        Placement::new(&spec).expect("a good spec")
    }

    const ALL: [Distribution; 17] = [
        Distribution::Ch3,
        Distribution::WeightedCh3,
        Distribution::Crc32,
        Distribution::ConstShard,
        Distribution::Rendezvous,
        Distribution::WeightedRendezvous,
        Distribution::Ketama(KeyHash::Murmur),
        Distribution::Modula(KeyHash::Crc32a),
        Distribution::Random,
        Distribution::LibmemcachedKetama(KeyHash::OneAtATime),
        Distribution::LibmemcachedKetamaWeighted(KeyHash::Md5),
        Distribution::LibmemcachedModula(KeyHash::OneAtATime),
        Distribution::OverlordKetama(KeyHash::Murmur),
        Distribution::Jump(WideHash::Xxh3 { seed: 0 }),
        Distribution::Ring { hash: WideHash::Md5, mode: RingMode::Default, points: 160 },
        Distribution::Codis,
        Distribution::Kvstore { buckets: 256 },
    ];

    /// Where twemproxy 0.5 (fnv1a_64, ketama) put these keys, looked up in the servers behind it.
    #[test]
    fn keys_fall_where_twemproxy_puts_them() {
        let keys = ["u{7}x7", "{}e3", "a}{b3}{c}", "x{open3"].map(str::as_bytes);
        let high: [&[u8]; 4] = [b"\xe5\xb0\xb4\xec\xf3", b"W\xcdn\xea@", b"\x86&m", b"}\x8f\xe3g\xfc"];
        let cases = [
            ([1, 1, 1], HashTag::from_pair(b"{}"), 4_145_771_040_u32, [2, 2, 2, 2], [0, 1, 1, 0]),
            ([1, 2, 7], None, 1_793_970_816, [2, 2, 1, 2], [2, 2, 1, 2]),
        ];
        for (weights, tag, sum, spots, high_spots) in cases {
            let spec = PlacementSpec {
                tag,
                members: fleet(["alpha", "beta", "gamma"], weights),
                ..PlacementSpec::new(Distribution::Ketama(KeyHash::Fnv1a64), [] as [&str; 0])
            };
            let placement = Placement::new(&spec).expect("a good spec");
            let folded = (0..1500).fold(0_u32, |sum, number| {
                sum.wrapping_mul(31).wrapping_add(placement.home(format!("key:{number}").as_bytes()) as u32)
            });
            assert_eq!(folded, sum, "{weights:?}");
            assert_eq!(keys.map(|key| placement.home(key)), spots, "{weights:?}");
            assert_eq!(high.map(|key| placement.home(key)), high_spots, "{weights:?}: bytes are signed");
        }
    }

    /// Sums over 100,000 keys as memcached_generate_hash of libmemcached 1.1.4 places them.
    #[test]
    fn keys_fall_where_libmemcacheds_modula_puts_them() {
        let cases = [
            (KeyHash::OneAtATime, 1_802_827_905),
            (KeyHash::Md5, 1_238_838_283),
            (KeyHash::Crc32, 377_785_152),
            (KeyHash::Fnv1_64, 1_417_512_306),
            (KeyHash::Fnv1a64, 3_266_803_488),
            (KeyHash::Fnv1_32, 4_149_684_763),
            (KeyHash::Fnv1a32, 2_781_371_333),
            (KeyHash::Murmur, 3_342_021_752),
            (KeyHash::Jenkins, 1_962_157_035_u32),
        ];
        for (function, expected) in cases {
            let placement =
                placement(Distribution::LibmemcachedModula(function), fleet(["a", "b", "c", "d", "e"], [1; 5]));
            assert_eq!(fold(100_000, |key| placement.home(key)), expected, "{}", function.name());
        }
    }

    /// From mcrouter's own test of Crc32HashFunc.
    #[test]
    fn keys_fall_where_mcrouters_crc32_puts_them() {
        let of = |members: u32, key: &[u8]| {
            let labels = (0..members).map(|at| at.to_string());
            Placement::new(&PlacementSpec::new(Distribution::Crc32, labels)).expect("a good spec").home(key)
        };
        assert_eq!([of(100, b"sample"), of(100, b""), of(1, b"sample")], [7, 0, 0]);
        let rising = crate::hash::vectors::signed_bytes();
        let falling: Vec<u8> = rising.iter().rev().copied().collect();
        assert_eq!([of(99_999, &rising), of(99_999, &falling)], [11_697, 97_630]);
    }

    #[test]
    fn const_shard_goes_by_the_number_or_else_by_ch3() {
        let placement = placement(Distribution::ConstShard, fleet(["a", "b", "c", "d"], [1; 4]));
        let cases = [
            ("b:3:meh", 3),
            ("blah:0:meh", 0),
            ("blahmeh", 2),
            ("blah:meh", 0),
            ("blah::meh", 1),
            ("blah:12c34:meh", 0),
            ("blah:4:meh", 3),
            ("blah:2|#|:meh", ch3(b"blah:2", 4) as usize),
        ];
        for (key, expected) in cases {
            assert_eq!(placement.home(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn codis_and_kvstore_place_by_buckets() {
        let own = |mut member: Member, buckets: &[(u16, u16)]| {
            member.buckets = buckets.to_vec();
            member
        };
        let [a, b] = ["a", "b"].map(Member::new);
        let fresh = placement(Distribution::Codis, vec![a.clone(), b.clone()]);
        let members = vec![own(a, &[(0, 99), (1023, 1023)]), own(b, &[(100, 1022)])];
        let moved = placement(Distribution::Codis, members);
        let tagged =
            PlacementSpec { tag: HashTag::from_pair(b"{}"), ..PlacementSpec::new(Distribution::Codis, ["a", "b"]) };
        let tagged = Placement::new(&tagged).expect("a good spec");
        for number in 0..2000 {
            let key = format!("key{number}");
            let bucket = crc32fast::hash(key.as_bytes()) % 1024;
            assert_eq!(fresh.home(key.as_bytes()), usize::from(bucket >= 512), "{key}");
            assert_eq!(moved.home(key.as_bytes()), usize::from((100..1023).contains(&bucket)), "{key}");
            assert_eq!(tagged.home(format!("a{{{key}}}b").as_bytes()), fresh.home(key.as_bytes()));
        }
        assert_eq!(tagged.home(b"{}whatever"), 0, "the empty text has bucket 0");
        // Sums computed with the two programs' own functions.
        let three = ["a", "b", "c"];
        let [codis, kvstore] = [Distribution::Codis, Distribution::Kvstore { buckets: 1024 }]
            .map(|distribution| Placement::new(&PlacementSpec::new(distribution, three)).expect("a good spec"));
        assert_eq!(fold(100_000, |key| codis.home(key)), 4_174_378_512);
        assert_eq!(fold(100_000, |key| kvstore.home(key)), 3_528_705_627);
    }

    #[test]
    fn a_salt_is_hashed_behind_the_routing_key() {
        for distribution in ALL.into_iter().filter(|distribution| *distribution != Distribution::Random) {
            let spec = PlacementSpec::new(distribution, ["a", "b", "c", "d", "e"]);
            let plain = Placement::new(&spec).expect("a good spec");
            let salted = PlacementSpec { salt: "-s".to_owned(), ..spec };
            let salted = Placement::new(&salted).expect("a good spec");
            let mut moved = 0;
            for number in 0..300 {
                let [key, joined] = [format!("key{number}"), format!("key{number}-s")];
                assert_eq!(salted.home(key.as_bytes()), plain.home(joined.as_bytes()), "{distribution:?} {key}");
                let drawn = format!("key{number}-s17");
                assert_eq!(salted.drawn(key.as_bytes(), 17), plain.home(drawn.as_bytes()), "{distribution:?} {key}");
                moved += usize::from(salted.home(key.as_bytes()) != plain.home(key.as_bytes()));
            }
            assert!(moved > 100, "{distribution:?}: {moved}");
            let stops = plain.home(b"key|#|rest") == plain.home(b"key") && plain.home(b"k|#|x") == plain.home(b"k");
            assert!(stops || !distribution.is_mcrouters(), "{distribution:?}");
        }
    }

    #[test]
    fn candidates_begin_at_home_and_lead_to_every_member() {
        for distribution in ALL.into_iter().filter(|distribution| *distribution != Distribution::Random) {
            let placement = Placement::new(&PlacementSpec::new(distribution, ["a", "b", "c", "d", "e"]));
            let placement = placement.expect("a good spec");
            for number in 0..200 {
                let key = format!("key{number}");
                let home = placement.home(key.as_bytes());
                let all: Vec<usize> = placement.candidates(key.as_bytes()).collect();
                assert_eq!(all[0], home, "{distribution:?} {key}");
                for member in 0..5 {
                    assert!(all.contains(&member), "{distribution:?} {key}: {member} never comes");
                    assert_eq!(placement.first_up(key.as_bytes(), |at| at == member), member, "{distribution:?}");
                }
                let without = placement.first_up(key.as_bytes(), |at| at != 2);
                let next = all.iter().copied().find(|member| *member != 2);
                if !matches!(distribution, Distribution::Modula(_)) {
                    assert_eq!(Some(without), next, "{distribution:?} {key}");
                }
                // Nothing up is against the contract; it must still end.
                assert!(placement.first_up(key.as_bytes(), |_| false) < 5);
            }
        }
    }

    #[test]
    fn a_dead_members_keys_spread_over_all_others() {
        for distribution in ALL {
            let placement = Placement::new(&PlacementSpec::new(distribution, ["a", "b", "c", "d", "e"]));
            let placement = placement.expect("a good spec");
            let mut moved_to = [0; 5];
            for number in 0..5000 {
                let key = format!("key{number}");
                let home = placement.home(key.as_bytes());
                let up = placement.first_up(key.as_bytes(), |index| index != 2);
                assert_ne!(up, 2);
                moved_to[up] += usize::from(home == 2);
            }
            assert!([0, 1, 3, 4].into_iter().all(|index| moved_to[index] > 80), "{distribution:?} {moved_to:?}");
        }
    }

    #[test]
    fn one_member_or_none_is_asked_for_nothing() {
        for distribution in ALL {
            for labels in [&["only"][..], &[]] {
                let placement = Placement::new(&PlacementSpec::new(distribution, labels.iter().copied()));
                let placement = placement.expect("a good spec");
                assert_eq!([placement.home(b"key"), placement.drawn(b"key", 3)], [0, 0], "{distribution:?}");
                assert_eq!(placement.candidates(b"key").count(), labels.len(), "{distribution:?}");
            }
        }
    }

    #[test]
    fn weights_shift_keys_where_a_distribution_has_them() {
        for distribution in ALL {
            let weights = match distribution.weights() {
                super::super::WeightRule::Unused => continue,
                super::super::WeightRule::Whole => [1.0, 9.0],
                super::super::WeightRule::Fraction | super::super::WeightRule::Positive => [0.1, 0.9],
            };
            let members = weights
                .into_iter()
                .zip(["a", "b"])
                .map(|(weight, label)| Member { weight: Weight::new(weight).expect("a weight"), ..Member::new(label) });
            let placement = placement(distribution, members.collect());
            let heavy = (0..2000).filter(|number| placement.home(format!("key{number}").as_bytes()) == 1).count();
            assert!((1600..1960).contains(&heavy), "{distribution:?}: {heavy} of 2000");
        }
    }
}
