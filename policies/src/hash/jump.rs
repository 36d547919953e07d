//! Jump hash (Lamping and Veach), as memcached's proxy has it: members are added and taken away at the end.

/// The member of a hash, of at least one.
pub(super) fn jump(mut hash: u64, members: u32) -> u32 {
    let (mut member, mut next) = (0, 0);
    while next < i64::from(members) {
        member = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let stretch = (1_u64 << 31) as f64 / ((hash >> 33) + 1) as f64;
        next = ((member + 1) as f64 * stretch) as i64;
    }
    member as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::functions::WideHash;
    use crate::hash::vectors::fold;

    /// Sums over 100,000 keys, computed with the functions of memcached 1.6's proxy.
    #[test]
    fn keys_fall_where_memcacheds_proxy_puts_them() {
        let plain = WideHash::Xxh3 { seed: 0 };
        let seeded = WideHash::Xxh3 { seed: WideHash::seed_of("fleet") };
        let cases = [
            (2, plain, 482_149_851),
            (2, seeded, 1_110_089_179),
            (2, WideHash::Md5, 4_022_726_683),
            (5, plain, 2_044_025_098),
            (5, seeded, 1_516_091_400),
            (5, WideHash::Md5, 243_012_631),
            (10, plain, 2_527_212_357),
            (10, seeded, 3_114_414_192),
            (10, WideHash::Md5, 868_086_484),
            (1000, plain, 4_014_331_610),
            (1000, seeded, 1_166_048_597),
            (1000, WideHash::Md5, 1_687_211_275_u32),
        ];
        for (members, hash, expected) in cases {
            let sum = fold(100_000, |key| jump(hash.hash(key), members) as usize);
            assert_eq!(sum, expected, "{members} members, {hash:?}");
        }
    }
}
