//! SuperFastHash by Paul Hsieh.

use super::Bytes;

pub(super) fn hsieh(key: &[u8], bytes: Bytes) -> u32 {
    if key.is_empty() {
        return 0;
    }
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = words.iter().fold(0_u32, |hash, word| {
        let hash = hash.wrapping_add(half(word[0], word[1]));
        let hash = hash << 16 ^ half(word[2], word[3]) << 11 ^ hash;
        hash.wrapping_add(hash >> 11)
    });
    match *rest {
        [first, second, third] => {
            hash = hash.wrapping_add(half(first, second));
            hash ^= hash << 16;
            hash ^= bytes.widen(third) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [first, second] => {
            hash = hash.wrapping_add(half(first, second));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        // Unsigned here, signed above: so it is in libmemcached.
        [first] => {
            hash = hash.wrapping_add(u32::from(first));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}

fn half(low: u8, high: u8) -> u32 {
    u32::from(u16::from_le_bytes([low, high]))
}
