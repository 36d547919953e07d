//! The FNV functions as libmemcached and twemproxy have them.

use super::Bytes;

const OFFSET_32: u32 = 0x811c_9dc5;
const PRIME_32: u32 = 0x0100_0193;
/// The low words of the 64-bit offset and prime. The high words never come down into the 32 bits that are kept.
const OFFSET_64: u32 = 0x8422_2325;
const PRIME_64: u32 = 0x1b3;

/// FNV-1 in 64 bits, of which the low 32 are kept.
pub(super) fn fnv1_64(key: &[u8], bytes: Bytes) -> u32 {
    fnv1(key, bytes, OFFSET_64, PRIME_64)
}

/// What libmemcached calls FNV-1a in 64 bits and computes in 32: the same low words either way.
pub(super) fn fnv1a_64(key: &[u8], bytes: Bytes) -> u32 {
    fnv1a(key, bytes, OFFSET_64, PRIME_64)
}

pub(super) fn fnv1_32(key: &[u8], bytes: Bytes) -> u32 {
    fnv1(key, bytes, OFFSET_32, PRIME_32)
}

pub(super) fn fnv1a_32(key: &[u8], bytes: Bytes) -> u32 {
    fnv1a(key, bytes, OFFSET_32, PRIME_32)
}

fn fnv1(key: &[u8], bytes: Bytes, offset: u32, prime: u32) -> u32 {
    key.iter().fold(offset, |hash, byte| hash.wrapping_mul(prime) ^ bytes.widen(*byte))
}

fn fnv1a(key: &[u8], bytes: Bytes, offset: u32, prime: u32) -> u32 {
    key.iter().fold(offset, |hash, byte| (hash ^ bytes.widen(*byte)).wrapping_mul(prime))
}
