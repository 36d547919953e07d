//! Austin Appleby's MurmurHash2: of 32 bits as twemproxy and Kvstore have it, and of 64 (64A) as mcrouter has it.

const MULTIPLIER_32: u32 = 0x5bd1_e995;
const MULTIPLIER_64: u64 = 0xc6a4_a793_5bd1_e995;
const SHIFT_64: u32 = 47;

/// twemproxy's and libmemcached's: the seed is made of the length.
pub(super) fn murmur(key: &[u8]) -> u32 {
    let seed = 0xdead_beef_u32.wrapping_mul(key.len() as u32);
    murmur_2(key, seed, u32::from)
}

/// Kvstore's: seed 97, and the last one to three bytes come in as signed.
pub(in crate::hash) fn murmur_kvstore(key: &[u8]) -> u32 {
    murmur_2(key, 97, |byte| byte as i8 as i32 as u32)
}

fn murmur_2(key: &[u8], seed: u32, widen: impl Fn(u8) -> u32) -> u32 {
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = words.iter().fold(seed ^ key.len() as u32, |hash, word| {
        let mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER_32);
        hash.wrapping_mul(MULTIPLIER_32) ^ (mixed ^ mixed >> 24).wrapping_mul(MULTIPLIER_32)
    });
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= widen(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(MULTIPLIER_32);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(MULTIPLIER_32);
    hash ^ hash >> 15
}

/// MurmurHash64A.
pub(in crate::hash) fn murmur_64a(key: &[u8], seed: u64) -> u64 {
    let (words, rest) = key.as_chunks::<8>();
    let start = seed ^ (key.len() as u64).wrapping_mul(MULTIPLIER_64);
    let mut hash = words.iter().fold(start, |hash, word| {
        let mixed = u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER_64);
        (hash ^ (mixed ^ mixed >> SHIFT_64).wrapping_mul(MULTIPLIER_64)).wrapping_mul(MULTIPLIER_64)
    });
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(MULTIPLIER_64);
    }
    hash = (hash ^ hash >> SHIFT_64).wrapping_mul(MULTIPLIER_64);
    hash ^ hash >> SHIFT_64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::vectors::{fold, fold_slices, signed_bytes};

    /// Sums computed with Kvstore's own function; see the tests of all functions for what is summed.
    #[test]
    fn kvstores_murmur_takes_its_last_bytes_as_signed() {
        let hash = |key: &[u8]| murmur_kvstore(key) as usize;
        assert_eq!(fold(100_000, hash), 2_884_410_741);
        assert_eq!(fold_slices(&signed_bytes(), hash), 3_067_628_355);
    }
}
