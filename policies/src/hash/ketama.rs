//! Ketama and its kin: each member has points on a ring of 32-bit numbers, made from its label; a key belongs to the
//! first point at or after its hash.
//!
//! Owns the rings of twemproxy, libmemcached, Overlord and memcached's proxy, which differ in how many points a member
//! has and what they are made from. Invariants: the points of those programs for the same labels and weights; sorted;
//! never empty unless there is no member.

use super::functions::{Bytes, KeyHash, md5_words};
use super::modula;
use super::spec::{Member, RingMode};

/// A member of average weight has so many.
const POINTS_PER_MEMBER: u32 = 160;
/// A member of libmemcached's ring without weights has so many.
const POINTS_PER_LIGHT_MEMBER: u32 = 100;
/// One digest makes so many.
const POINTS_PER_DIGEST: u32 = 4;
/// Overlord hashes no more of a label and its number.
const OVERLORD_MAX_BYTES: usize = 64;

/// The ring of one placement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ring {
    points: Box<[Point]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    value: u32,
    member: u32,
}

impl Ring {
    /// twemproxy's. Where points collide, the member that comes first by name has them, as its sort leaves it.
    pub(super) fn twemproxy(members: &[Member]) -> Ring {
        let mut ring = Maker::default();
        let total = total(members);
        for at in modula::by_name(members) {
            let member = &members[at as usize];
            let digests = single_precision_share(weight(member), total, members.len());
            ring.add_digests(at, digests, |index| format!("{}-{index}", member.label));
        }
        ring.finish()
    }

    /// libmemcached's with weights: twemproxy's points, but in the order given where they collide.
    pub(super) fn libmemcached_weighted(members: &[Member]) -> Ring {
        let mut ring = Maker::default();
        let total = total(members);
        for (at, member) in (0..).zip(members) {
            let digests = single_precision_share(weight(member), total, members.len());
            ring.add_digests(at, digests, |index| format!("{}-{index}", member.label));
        }
        ring.finish()
    }

    /// libmemcached's without weights: a point is the hash the key's own function gives the label and a number.
    pub(super) fn libmemcached(members: &[Member], function: KeyHash) -> Ring {
        let mut ring = Maker::default();
        for (at, member) in (0..).zip(members) {
            for index in 0..POINTS_PER_LIGHT_MEMBER {
                let text = format!("{}-{index}", member.label);
                ring.add(at, function.hash(text.as_bytes(), Bytes::Signed));
            }
        }
        ring.finish()
    }

    /// Overlord's. Its sort leaves open who has a point where some collide; here it is the first given.
    pub(super) fn overlord(members: &[Member]) -> Ring {
        let mut ring = Maker::default();
        let total = total(members);
        for (at, member) in (0..).zip(members) {
            let digests = double_precision_share(weight(member), total, members.len());
            ring.add_digests(at, digests, |index| {
                let mut text = format!("{}-{index}", member.label).into_bytes();
                text.truncate(OVERLORD_MAX_BYTES);
                text
            });
        }
        ring.finish()
    }

    /// memcached's proxy's.
    pub(super) fn proxy(members: &[Member], mode: RingMode, points: u16) -> Ring {
        let mut ring = Maker::default();
        for (at, member) in (0..).zip(members) {
            match mode {
                RingMode::Default => {
                    for index in 0..points {
                        let text = format!("{}-{index}", member.label);
                        ring.add(at, xxhash_rust::xxh3::xxh3_64(text.as_bytes()) as u32);
                    }
                }
                RingMode::Ketama | RingMode::Twemproxy | RingMode::EvCache => {
                    let digests = u32::from(points) / POINTS_PER_DIGEST;
                    ring.add_digests(at, digests, |index| format!("{}-{index}", member.label));
                }
            }
        }
        ring.finish()
    }

    /// The member of the first point at or after `hash`, round the end.
    pub(super) fn home(&self, hash: u32) -> usize {
        self.points.get(self.position(hash)).map_or(0, |point| point.member as usize)
    }

    /// The members of all points from there on, once round.
    pub(super) fn walk(&self, hash: u32) -> Walk<'_> {
        let (before, after) = self.points.split_at(self.position(hash));
        Walk(after.iter().chain(before))
    }

    fn position(&self, hash: u32) -> usize {
        match self.points.partition_point(|point| point.value < hash) {
            end if end == self.points.len() => 0,
            position => position,
        }
    }
}

/// Once round a ring; a member comes as often as it has points.
#[derive(Debug)]
pub(super) struct Walk<'r>(std::iter::Chain<std::slice::Iter<'r, Point>, std::slice::Iter<'r, Point>>);

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.0.next().map(|point| point.member as usize)
    }
}

/// A ring under construction.
#[derive(Default)]
struct Maker {
    points: Vec<Point>,
}

impl Maker {
    fn add(&mut self, member: u32, value: u32) {
        self.points.push(Point { value, member });
    }

    fn add_digests<T: AsRef<[u8]>>(&mut self, member: u32, digests: u32, text: impl Fn(u32) -> T) {
        for index in 0..digests {
            let values = md5_words(text(index).as_ref());
            self.points.extend(values.map(|value| Point { value, member }));
        }
    }

    /// Stable: points that collide stay in the order in which they were added.
    fn finish(mut self) -> Ring {
        self.points.sort_by_key(|point| point.value);
        Ring { points: self.points.into() }
    }
}

/// The whole weight of a member; the spec was checked.
fn weight(member: &Member) -> u32 {
    member.weight.whole().unwrap_or(1)
}

fn total(members: &[Member]) -> u32 {
    members.iter().map(weight).sum()
}

/// How many digests a member's points take. In twemproxy's own arithmetic: single precision throughout, which matters
/// where a share falls just short of a whole number.
fn single_precision_share(weight: u32, total: u32, members: usize) -> u32 {
    let share = weight as f32 / total as f32;
    let exact = share * POINTS_PER_MEMBER as f32 / POINTS_PER_DIGEST as f32 * members as f32;
    (f64::from(exact) + 0.000_000_000_1) as f32 as u32
}

/// The same in Overlord's: points are counted before they are divided by four again.
fn double_precision_share(weight: u32, total: u32, members: usize) -> u32 {
    let share = f64::from(weight) / f64::from(total);
    let digests = share * f64::from(POINTS_PER_MEMBER) / f64::from(POINTS_PER_DIGEST) * members as f64;
    ((digests + 0.000_000_000_1) * f64::from(POINTS_PER_DIGEST)) as u32 / POINTS_PER_DIGEST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::functions::WideHash;
    use crate::hash::vectors::{fleet, fold, fold_slices, signed_bytes};

    /// Sums over 100,000 keys as memcached_generate_hash of libmemcached 1.1.4 places them.
    #[test]
    fn keys_fall_where_libmemcached_puts_them() {
        let labels = ["10.0.0.1", "10.0.0.2:11212", "cache.example", "10.0.0.4:7", "10.0.0.5"];
        let even = fleet(labels, [1; 5]);
        let uneven = fleet(labels, [1, 3, 7, 2, 1]);
        let cases = [
            (KeyHash::OneAtATime, 2_777_389_679, 1_227_009_149, 1_841_125_151),
            (KeyHash::Md5, 2_466_557_521, 2_216_481_748, 1_994_246_355),
            (KeyHash::Crc32, 3_920_410_678, 219_894_784, 219_894_784),
            (KeyHash::Fnv1_64, 873_495_360, 2_266_683_552, 364_458_912),
            (KeyHash::Fnv1a64, 404_177_340, 2_017_455_450, 3_059_044_575),
            (KeyHash::Fnv1_32, 3_726_618_080, 154_731_456, 3_259_397_184),
            (KeyHash::Fnv1a32, 6_072_483, 3_861_139_601, 712_672_504),
            (KeyHash::Murmur, 960_262_367, 1_599_446_828, 2_436_815_342),
            (KeyHash::Jenkins, 1_973_305_541, 860_167_477, 3_780_294_519_u32),
        ];
        for (function, light, weighted, weights) in cases {
            let sum = |ring: &Ring| fold(100_000, |key| ring.home(function.hash(key, Bytes::Signed)));
            assert_eq!(sum(&Ring::libmemcached(&even, function)), light, "{}", function.name());
            assert_eq!(sum(&Ring::libmemcached_weighted(&even)), weighted, "{}, weighted", function.name());
            assert_eq!(sum(&Ring::libmemcached_weighted(&uneven)), weights, "{}, with weights", function.name());
        }
    }

    /// Sums over 100,000 keys, computed with Overlord's own ring; and over slices of bytes, its functions.
    #[test]
    fn keys_fall_where_overlord_puts_them() {
        let long = "a-name-so-long-that-overlord-cuts-it-off-behind-its-sixty-second-byte";
        let labels = ["10.0.0.1:11211", "10.0.0.2:11212", "cache.example:11211", "10.0.0.4:7", long];
        let even = Ring::overlord(&fleet(labels, [1; 5]));
        let uneven = Ring::overlord(&fleet(labels, [1, 3, 7, 2, 1]));
        let cases = [
            (KeyHash::OneAtATime, 2_326_123_181, 298_033_051, 2_299_268_653),
            (KeyHash::Md5, 667_872_601, 196_771_254, 2_409_275_059),
            (KeyHash::Crc16, 1_439_393_526, 1_347_347_422, 1_849_231_864),
            (KeyHash::Crc32, 2_257_431_040, 2_257_431_040, 1_393_850_512),
            (KeyHash::Crc32a, 3_866_588_687, 1_371_488_620, 1_968_501_721),
            (KeyHash::Fnv1_64, 2_930_012_064, 659_903_712, 4_104_147_788),
            (KeyHash::Fnv1a64, 1_739_679_039, 2_679_762_305, 1_601_702_844),
            (KeyHash::Fnv1_32, 919_937_568, 3_230_169_024, 1_107_963_084),
            (KeyHash::Fnv1a32, 400_503_668, 2_603_953_799, 3_185_359_036),
            (KeyHash::Hsieh, 940_424_238, 4_138_498_133, 94_706_160),
            (KeyHash::Murmur, 1_465_996_731, 4_048_311_615, 2_236_752_738_u32),
        ];
        let bytes = signed_bytes();
        for (function, of_even, of_uneven, sliced) in cases {
            let hash = |key: &[u8]| function.hash(key, Bytes::Unsigned);
            assert_eq!(fold(100_000, |key| even.home(hash(key))), of_even, "{}", function.name());
            assert_eq!(fold(100_000, |key| uneven.home(hash(key))), of_uneven, "{}", function.name());
            let folded = fold_slices(&bytes, |key| hash(key) as usize);
            assert_eq!(folded, sliced, "{}: bytes are unsigned", function.name());
        }
    }

    /// Sums over 100,000 keys, computed with the functions of memcached 1.6's proxy.
    #[test]
    fn keys_fall_where_memcacheds_proxy_puts_them() {
        let plain = WideHash::Xxh3 { seed: 0 };
        let seeded = WideHash::Xxh3 { seed: WideHash::seed_of("fleet") };
        let cases = [
            (RingMode::Default, 160, plain, 1_905_750_977),
            (RingMode::Default, 160, seeded, 971_103_661),
            (RingMode::Default, 160, WideHash::Md5, 1_202_966_633),
            (RingMode::Ketama, 160, plain, 1_367_977_227),
            (RingMode::Ketama, 160, seeded, 662_173_171),
            (RingMode::Ketama, 160, WideHash::Md5, 533_849_991),
            (RingMode::Twemproxy, 160, plain, 1_482_801_073),
            (RingMode::Twemproxy, 160, WideHash::Md5, 2_216_481_748),
            (RingMode::EvCache, 160, plain, 3_982_832_681),
            (RingMode::EvCache, 160, WideHash::Md5, 3_800_980_933),
            (RingMode::Default, 40, seeded, 1_174_845_547),
            (RingMode::Ketama, 40, seeded, 2_360_316_520),
            (RingMode::Twemproxy, 40, seeded, 4_281_260_608),
            (RingMode::EvCache, 40, seeded, 3_001_500_397_u32),
        ];
        let servers =
            [("10.0.0.1", 11211), ("10.0.0.2", 11212), ("cache.example", 11211), ("10.0.0.4", 7), ("10.0.0.5", 11211)];
        for (mode, points, hash, expected) in cases {
            let distribution = crate::Distribution::Ring { hash, mode, points };
            let members = servers.map(|(host, port)| Member::new(distribution.label(None, host, Some(port))));
            let ring = Ring::proxy(&members, mode, points);
            let sum = fold(100_000, |key| ring.home(hash.hash(key) as u32));
            assert_eq!(sum, expected, "{mode:?} {points} {hash:?}");
        }
    }

    #[test]
    fn a_dead_members_keys_go_where_a_ring_without_it_has_them() {
        let all = Ring::twemproxy(&["a", "b", "c", "d"].map(Member::new));
        let without = Ring::twemproxy(&["a", "b", "d"].map(Member::new));
        for step in 0..20_000_u32 {
            let hash = step.wrapping_mul(0x9e37_79b9);
            let up = all.walk(hash).find(|member| *member != 2).map(|member| ["a", "b", "c", "d"][member]);
            assert_eq!(up, Some(["a", "b", "d"][without.home(hash)]), "{hash:#x}");
        }
        assert_eq!(all.walk(7).count(), 4 * 160);
    }
}
