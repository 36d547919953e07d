//! One-at-a-time, Bob Jenkins' hash of 1997: a byte, a shift, the next byte.

use super::Bytes;

pub(super) fn one_at_a_time(key: &[u8], bytes: Bytes) -> u32 {
    let mut hash = key.iter().fold(0_u32, |hash, byte| {
        let hash = hash.wrapping_add(bytes.widen(*byte));
        let hash = hash.wrapping_add(hash << 10);
        hash ^ hash >> 6
    });
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    hash.wrapping_add(hash << 15)
}
