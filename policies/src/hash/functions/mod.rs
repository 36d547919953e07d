//! The hash functions of keys, as twemproxy, libmemcached, Overlord and memcached's proxy compute them.
//!
//! Owns the list and its names; each family has its own file. Invariant: bit for bit the programs' own, quirks
//! included, since a key hashed otherwise is a key lost. None of them allocates.

mod crc;
mod fnv;
mod hsieh;
mod jenkins;
pub(super) mod murmur;
mod one_at_a_time;
pub(super) mod spooky;

pub(super) use crc::crc32;
use md5::{Digest, Md5};

/// A hash function of twemproxy and libmemcached: 32 bits of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHash {
    /// Bob Jenkins' oldest; libmemcached's default.
    OneAtATime,
    /// The first four bytes of the digest.
    Md5,
    /// CCITT's, in a register of 32 bits that is never cut to 16.
    Crc16,
    /// Bits 16 to 30 of CRC-32: libmemcached's mistake, kept by all.
    Crc32,
    /// CRC-32 as everybody else has it.
    Crc32a,
    /// FNV-1, 64 bits cut to 32.
    Fnv1_64,
    /// twemproxy's default. By name only: computed in 32 bits.
    Fnv1a64,
    /// FNV-1.
    Fnv1_32,
    /// FNV-1a.
    Fnv1a32,
    /// Paul Hsieh's SuperFastHash.
    Hsieh,
    /// MurmurHash2 with a seed made of the length.
    Murmur,
    /// Bob Jenkins' lookup3.
    Jenkins,
}

/// How a byte from 0x80 on becomes a number in the functions that take bytes one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    /// As C's `char` on x86: 0xff comes in as 0xffffffff. twemproxy and libmemcached.
    Signed,
    /// As it is. Overlord.
    Unsigned,
}

impl Bytes {
    const fn widen(self, byte: u8) -> u32 {
        match self {
            Bytes::Signed => byte as i8 as i32 as u32,
            Bytes::Unsigned => byte as u32,
        }
    }
}

impl KeyHash {
    /// Every function, for the message about a wrong name.
    pub const ALL: [KeyHash; 12] = [
        KeyHash::OneAtATime,
        KeyHash::Md5,
        KeyHash::Crc16,
        KeyHash::Crc32,
        KeyHash::Crc32a,
        KeyHash::Fnv1_64,
        KeyHash::Fnv1a64,
        KeyHash::Fnv1_32,
        KeyHash::Fnv1a32,
        KeyHash::Hsieh,
        KeyHash::Murmur,
        KeyHash::Jenkins,
    ];

    /// The name in configs, as twemproxy has it.
    pub const fn name(self) -> &'static str {
        match self {
            KeyHash::OneAtATime => "one_at_a_time",
            KeyHash::Md5 => "md5",
            KeyHash::Crc16 => "crc16",
            KeyHash::Crc32 => "crc32",
            KeyHash::Crc32a => "crc32a",
            KeyHash::Fnv1_64 => "fnv1_64",
            KeyHash::Fnv1a64 => "fnv1a_64",
            KeyHash::Fnv1_32 => "fnv1_32",
            KeyHash::Fnv1a32 => "fnv1a_32",
            KeyHash::Hsieh => "hsieh",
            KeyHash::Murmur => "murmur",
            KeyHash::Jenkins => "jenkins",
        }
    }

    /// The function of that name.
    pub fn from_name(name: &str) -> Option<KeyHash> {
        KeyHash::ALL.into_iter().find(|function| function.name() == name)
    }

    pub(super) fn hash(self, key: &[u8], bytes: Bytes) -> u32 {
        match self {
            KeyHash::OneAtATime => one_at_a_time::one_at_a_time(key, bytes),
            KeyHash::Md5 => md5(key),
            KeyHash::Crc16 => crc::crc16(key),
            KeyHash::Crc32 => crc32(key) >> 16 & 0x7fff,
            KeyHash::Crc32a => crc32(key),
            KeyHash::Fnv1_64 => fnv::fnv1_64(key, bytes),
            KeyHash::Fnv1a64 => fnv::fnv1a_64(key, bytes),
            KeyHash::Fnv1_32 => fnv::fnv1_32(key, bytes),
            KeyHash::Fnv1a32 => fnv::fnv1a_32(key, bytes),
            KeyHash::Hsieh => hsieh::hsieh(key, bytes),
            KeyHash::Murmur => murmur::murmur(key),
            KeyHash::Jenkins => jenkins::jenkins(key),
        }
    }
}

/// A hash function of memcached's proxy, which has 64 bits to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WideHash {
    /// XXH3, its default.
    Xxh3 {
        /// 0, or XXH3 of the pool's `seed` text.
        seed: u64,
    },
    /// `dist_ring_hash.hash`: the 32 bits ketama takes of a digest. Has no seed.
    Md5,
}

impl WideHash {
    /// The seed the proxy makes of a pool's `seed` text.
    pub fn seed_of(text: &str) -> u64 {
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

    /// The name in configs.
    pub const fn name(self) -> &'static str {
        match self {
            WideHash::Xxh3 { .. } => "xxh3",
            WideHash::Md5 => "md5",
        }
    }

    pub(super) fn hash(self, key: &[u8]) -> u64 {
        match self {
            WideHash::Xxh3 { seed } => xxhash_rust::xxh3::xxh3_64_with_seed(key, seed),
            WideHash::Md5 => u64::from(md5(key)),
        }
    }
}

/// The first word of the digest.
fn md5(key: &[u8]) -> u32 {
    md5_words(key)[0]
}

/// A digest as four little-endian words: four points of a ketama ring.
pub(super) fn md5_words(text: &[u8]) -> [u32; 4] {
    let digest = Md5::digest(text);
    let (words, _) = digest.as_slice().as_chunks::<4>();
    [words[0], words[1], words[2], words[3]].map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::vectors::{fold, fold_slices, signed_bytes};

    /// What twemproxy's own functions give: for two keys, folded over k0 to k99999, and folded over every slice of up
    /// to 250 bytes that begins at one of the first 8 of the 256 bytes 0x80 to 0xff, 0x00 to 0x7f.
    const TWEMPROXY: [(KeyHash, u32, u32, u32, u32); 12] = [
        (KeyHash::OneAtATime, 2_451_084_222, 2_925_896_852, 280_666_615, 3_975_803_282),
        (KeyHash::Md5, 610_147_960, 3_561_969_920, 3_027_595_607, 2_409_275_059),
        (KeyHash::Crc16, 3_227_819_096, 7920, 478_558_806, 1_849_231_864),
        (KeyHash::Crc32, 9860, 32_512, 1_037_346_666, 1_393_850_512),
        (KeyHash::Crc32a, 2_793_719_750, 4_278_190_080, 2_557_093_284, 1_968_501_721),
        (KeyHash::Fnv1_64, 1_576_209_164, 2_046_707_744, 2_822_089_216, 3_426_655_564),
        (KeyHash::Fnv1a64, 2_336_436_402, 2_046_707_310, 4_203_022_464, 3_380_842_940),
        (KeyHash::Fnv1_32, 1_737_638_188, 4_210_270_944, 3_540_593_152, 2_719_293_644),
        (KeyHash::Fnv1a32, 4_185_952_242, 4_193_493_326, 4_205_166_720, 1_310_740_668),
        (KeyHash::Hsieh, 2_264_676_836, 44_489_640, 1_861_215_500, 363_588_451),
        (KeyHash::Murmur, 1_957_635_836, 3_679_652_508, 1_390_499_098, 2_236_752_738),
        (KeyHash::Jenkins, 394_179_902, 3_784_723_880, 3_030_197_141, 4_087_388_442),
    ];

    #[test]
    fn functions_compute_what_twemproxy_computes() {
        let bytes = signed_bytes();
        for (function, digits, high, numbered, sliced) in TWEMPROXY {
            let hash = |key: &[u8]| function.hash(key, Bytes::Signed);
            assert_eq!(hash(b"0123456789"), digits, "{}", function.name());
            assert_eq!(hash(b"\xff"), high, "{}", function.name());
            assert_eq!(fold(100_000, |key| hash(key) as usize), numbered, "{}", function.name());
            let folded = fold_slices(&bytes, |key| hash(key) as usize);
            assert_eq!(folded, sliced, "{}: any bytes, any length", function.name());
        }
    }

    /// libhashkit 1.1.4 for an empty key. twemproxy never asks for one.
    #[test]
    fn an_empty_key_has_the_hash_libmemcached_gives_it() {
        let cases = [
            (KeyHash::OneAtATime, 0),
            (KeyHash::Md5, 3_649_838_548),
            (KeyHash::Crc32, 0),
            (KeyHash::Fnv1_64, 2_216_829_733),
            (KeyHash::Fnv1a64, 2_216_829_733),
            (KeyHash::Fnv1_32, 2_166_136_261),
            (KeyHash::Fnv1a32, 2_166_136_261),
            (KeyHash::Hsieh, 0),
            (KeyHash::Murmur, 0),
            (KeyHash::Jenkins, 3_735_928_572),
        ];
        for (function, expected) in cases {
            assert_eq!(function.hash(b"", Bytes::Signed), expected, "{}", function.name());
        }
    }

    #[test]
    fn names_find_their_functions() {
        for function in KeyHash::ALL {
            assert_eq!(KeyHash::from_name(function.name()), Some(function));
        }
        assert_eq!(KeyHash::from_name("md6"), None);
    }
}
