//! Ch3, mcrouter's consistent hash ("furc"): a key's hash is read as an endless row of bits, which walk down a binary
//! tree over the servers' positions.
//!
//! Adding a server at the end moves 1/n of the keys; removing one in the middle moves more. Invariant: the same
//! position as mcrouter's for every key and pool size up to 2^23.

const SEED: u64 = 4_193_360_111;
const MAX_TRIES: u32 = 32;
/// Bits are read this far apart.
const STRIDE: u32 = 23;

/// The position of a key (with a salt of up to 8 bytes behind it) among `servers`.
pub(crate) fn ch3(key: &[u8], salt: &[u8], servers: u32) -> u32 {
    if servers <= 1 {
        return 0;
    }
    let mut bits = Bits::new(murmur_hash_64a(key, salt));
    let mut depth = u32::BITS - (servers - 1).leading_zeros();
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
        if position < servers {
            return position;
        }
    }
    0
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
            self.word = murmur_hash_64a(&self.word.to_le_bytes(), &[]);
            self.index += 1;
        }
        self.word >> (at % u64::BITS) & 1 == 1
    }
}

/// MurmurHash64A of `key` followed by `salt` (up to 8 bytes), without joining them in memory.
fn murmur_hash_64a(key: &[u8], salt: &[u8]) -> u64 {
    let len = (key.len() + salt.len()) as u64;
    let mut hash = SEED ^ len.wrapping_mul(MURMUR_MULTIPLIER);
    let (words, rest) = key.as_chunks::<8>();
    for word in words {
        hash = murmur_step(hash, *word);
    }
    let mut tail = [0; 16];
    tail[..rest.len()].copy_from_slice(rest);
    tail[rest.len()..rest.len() + salt.len()].copy_from_slice(salt);
    let mut tail_len = rest.len() + salt.len();
    let mut last = [0; 8];
    last.copy_from_slice(&tail[..8]);
    if tail_len >= 8 {
        hash = murmur_step(hash, last);
        last.copy_from_slice(&tail[8..]);
        tail_len -= 8;
    }
    if tail_len == 8 {
        hash = murmur_step(hash, last);
    } else if tail_len > 0 {
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(MURMUR_MULTIPLIER);
    }
    hash = (hash ^ hash >> MURMUR_SHIFT).wrapping_mul(MURMUR_MULTIPLIER);
    hash ^ hash >> MURMUR_SHIFT
}

const MURMUR_MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
const MURMUR_SHIFT: u32 = 47;

fn murmur_step(hash: u64, word: [u8; 8]) -> u64 {
    let mut mixed = u64::from_le_bytes(word).wrapping_mul(MURMUR_MULTIPLIER);
    mixed ^= mixed >> MURMUR_SHIFT;
    (hash ^ mixed.wrapping_mul(MURMUR_MULTIPLIER)).wrapping_mul(MURMUR_MULTIPLIER)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions mcrouter gives these keys.
    #[test]
    fn single_keys_fall_where_mcrouter_puts_them() {
        let rising: Vec<u8> = (0..=255_u8).map(|byte| byte.wrapping_sub(128)).collect();
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
        for (key, servers, expected) in cases {
            assert_eq!(ch3(key, &[], servers), expected, "{key:?} of {servers}");
        }
    }

    /// Folds the positions of k0 to k99999; the sums are those of mcrouter's own furc_hash.
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
        for (servers, expected) in cases {
            let sum = (0..100_000).fold(0_u32, |sum, number| {
                sum.wrapping_mul(31).wrapping_add(ch3(format!("k{number}").as_bytes(), &[], servers))
            });
            assert_eq!(sum, expected, "{servers} servers");
        }
    }

    #[test]
    fn a_salt_is_as_good_as_bytes_behind_the_key() {
        for key_len in 0..40 {
            for salt_len in 0..=8 {
                let joined: Vec<u8> = (0..key_len + salt_len).map(|byte| byte as u8 ^ 0xa5).collect();
                let (key, salt) = joined.split_at(key_len);
                assert_eq!(murmur_hash_64a(key, salt), murmur_hash_64a(&joined, &[]), "{key_len} {salt_len}");
            }
        }
    }
}
