//! The FNV functions as libmemcached and twemproxy have them.

/// fnv1a_64 by name only: twemproxy computes it in 32 bits, with the low words of the 64-bit offset and prime, and takes
/// bytes as signed (x86), so that bytes from 0x80 on come in as 0xffffffXX.
pub(crate) fn fnv1a_64(key: &[u8]) -> u32 {
    key.iter().fold(0x8422_2325, |hash: u32, byte| {
        let extended = i32::from(*byte as i8) as u32;
        (hash ^ extended).wrapping_mul(0x1b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_64_matches_known_values() {
        let cases: [(&[u8], u32); 3] = [(b"", 0x8422_2325), (b"0123456789", 2_336_436_402), (b"\xff", 2_046_707_310)];
        for (key, expected) in cases {
            assert_eq!(fnv1a_64(key), expected, "{key:?}");
        }
    }
}
