//! Ch3, mcrouter's consistent hash ("furc"): a key's hash is read as an endless row of bits, which walk down a binary
//! tree over the members' positions. And its weighted form, which draws again where a member takes only a part.
//!
//! Adding a member at the end moves 1/n of the keys; removing one in the middle moves more. Invariant: the same
//! position as mcrouter's for every key and up to 2^23 members.

use super::functions::murmur::murmur_64a;
use super::functions::spooky::spooky_32;
use super::routing_key::Salted;

const SEED: u64 = 4_193_360_111;
const MAX_TRIES: u32 = 32;
/// Bits are read this far apart.
const STRIDE: u32 = 23;
/// Of the check whether a member takes a key.
const SHARE_SEED: u32 = 0xface_2014;
/// After so many draws the last member is taken, whatever its weight.
const MAX_DRAWS: u32 = 32;

/// The position of a key among `members`.
pub(super) fn ch3(key: &[u8], members: u32) -> u32 {
    if members <= 1 {
        return 0;
    }
    let mut bits = Bits::new(murmur_64a(key, SEED));
    let mut depth = u32::BITS - (members - 1).leading_zeros();
    let mut at = depth;
    for _ in 0..MAX_TRIES {
        while !bits.is_set(at) {
            depth -= 1;
            if depth == 0 {
                return 0;
            }
            at = depth;
        }
        at += STRIDE;
        let mut position = 1;
        for _ in 1..depth {
            position = position << 1 | u32::from(bits.is_set(at));
            at += STRIDE;
        }
        if position < members {
            return position;
        }
    }
    0
}

/// The position of a key among members that take these shares of 2^32 of what falls to them.
pub(super) fn weighted_ch3(key: &[u8], shares: &[u32]) -> u32 {
    let members = shares.len() as u32;
    let taken = |key: &[u8], position: u32| spooky_32(key, SHARE_SEED) < shares[position as usize];
    let mut position = ch3(key, members);
    if taken(key, position) {
        return position;
    }
    let mut salted = Salted::new(key, &[]);
    for draw in 0..MAX_DRAWS - 1 {
        // mcrouter writes the number's digits backwards.
        let key = salted.with_reversed(draw);
        position = ch3(key, members);
        if taken(key, position) {
            break;
        }
    }
    position
}

/// A weight from 0 to 1 as mcrouter compares it: a weight of 1 leaves out one hash in 2^32.
pub(super) fn share(weight: f64) -> u32 {
    (weight * f64::from(u32::MAX)) as u32
}

/// The row of bits: the key's hash, the hash of that hash, and so on. Only the first word and the one last looked at
/// are kept; a walk goes forward, or back to the first.
struct Bits {
    first: u64,
    word: u64,
    index: u32,
}

impl Bits {
    fn new(first: u64) -> Bits {
        Bits { first, word: first, index: 0 }
    }

    fn is_set(&mut self, at: u32) -> bool {
        let index = at / u64::BITS;
        if index < self.index {
            (self.word, self.index) = (self.first, 0);
        }
        while self.index < index {
            self.word = murmur_64a(&self.word.to_le_bytes(), SEED);
            self.index += 1;
        }
        self.word >> (at % u64::BITS) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::vectors::{fold, signed_bytes};

    /// Positions mcrouter gives these keys.
    #[test]
    fn single_keys_fall_where_mcrouter_puts_them() {
        let rising = signed_bytes();
        let falling: Vec<u8> = rising.iter().rev().copied().collect();
        let max = 1 << 23;
        let cases: [(&[u8], u32, u32); 10] = [
            (b"sample", 100, 97),
            (b"sample", 1, 0),
            (b"sample", max, 5_167_780),
            (b"", 100, 72),
            (b"", 1, 0),
            (b"", max, 6_173_600),
            (&rising, 99_999, 31_015),
            (&falling, 99_999, 67_101),
            (b"blahmeh", 4, 2),
            (b"blah:12c34:meh", 4, 0),
        ];
        for (key, members, expected) in cases {
            assert_eq!(ch3(key, members), expected, "{key:?} of {members}");
        }
    }

    /// The sums are those of mcrouter's own furc_hash.
    #[test]
    fn a_hundred_thousand_keys_fall_where_mcrouter_puts_them() {
        let cases = [
            (2, 1_346_413_954),
            (3, 914_505_363),
            (7, 4_252_552_508),
            (10, 2_894_016_351),
            (16, 2_995_729_350),
            (100, 2_289_223_413),
            (1000, 2_251_851_331),
            (10_000, 1_328_492_545),
            (100_000, 1_053_928_120_u32),
        ];
        for (members, expected) in cases {
            assert_eq!(fold(100_000, |key| ch3(key, members) as usize), expected, "{members} members");
        }
    }

    /// Sums and counts of mcrouter's own tests of WeightedCh3, over 10,000 keys each.
    #[test]
    fn weighted_keys_fall_where_mcrouter_puts_them() {
        let cases = [
            (0.5, 2, 2_395_690_262),
            (0.5, 10, 547_444_706),
            (0.5, 100, 2_951_198_297),
            (0.5, 1000, 1_336_857_622),
            (0.5, 10_000, 3_378_951_161),
            (0.0, 2, 3_431_444_300),
            (0.0, 10, 1_290_067_504),
            (0.0, 100, 2_604_325_093),
            (0.0, 1000, 337_394_182_u32),
        ];
        for (weight, members, expected) in cases {
            let shares = vec![share(weight); members];
            let sum = fold(10_000, |key| weighted_ch3(key, &shares) as usize);
            assert_eq!(sum, expected, "{members} members of weight {weight}");
        }
        let shares = vec![share(1.0); 100];
        assert_eq!(fold(100_000, |key| weighted_ch3(key, &shares) as usize), 2_289_223_413, "as ch3");
        let shares = vec![share(0.0); 100];
        assert_eq!([weighted_ch3(b"sample", &shares), weighted_ch3(b"", &shares)], [59, 45]);
    }

    /// The same for keys of 128 bytes and more.
    #[test]
    fn long_weighted_keys_fall_where_mcrouter_puts_them() {
        let letters: Vec<u8> = (0..128).map(|at| b'A' + at % 26).collect();
        let cases = [
            (0.5, 2, 3_784_301_429),
            (0.5, 10, 707_485_837),
            (0.5, 100, 4_273_108_085),
            (0.5, 1000, 954_106_693),
            (0.0, 2, 2_171_781_178),
            (0.0, 10, 2_937_312_667),
            (0.0, 100, 532_711_027_u32),
        ];
        for (weight, members, expected) in cases {
            let shares = vec![share(weight); members];
            let sum = (0..10_000).fold(0_u32, |sum, number| {
                let key = [&letters[..], number.to_string().as_bytes()].concat();
                sum.wrapping_mul(31).wrapping_add(weighted_ch3(&key, &shares))
            });
            assert_eq!(sum, expected, "{members} members of weight {weight}");
        }
    }

    #[test]
    fn weights_count_as_in_mcrouters_tests() {
        let counts = |weights: &[f64], keys: u32| {
            let shares: Vec<u32> = weights.iter().copied().map(share).collect();
            let mut counts = vec![0; weights.len()];
            (0..keys).for_each(|key| counts[weighted_ch3(key.to_string().as_bytes(), &shares) as usize] += 1);
            counts
        };
        assert_eq!(counts(&[1.0, 1.0, 0.7], 1000), [341, 371, 288]);
        let mixed = [0.429, 0.541, 0.117, 0.998, 0.283, 0.065, 0.109, 0.042, 0.676, 0.943];
        assert_eq!(counts(&mixed, 10_000), [1016, 1252, 288, 2354, 661, 195, 247, 122, 1668, 2197]);
    }
}
