//! The distributions' names in configs, and which functions go with each.
//!
//! Where two programs call different things the same, twemproxy's (and mcrouter's) have the bare name.

use super::functions::{KeyHash, WideHash};
use super::spec::{Distribution, RingMode};

/// The points of a member when `obuckets` isn't given.
const RING_POINTS: u16 = 160;
/// Kvstore's buckets when `buckets` isn't given.
const KVSTORE_BUCKETS: u16 = 1024;
const XXH3: WideHash = WideHash::Xxh3 { seed: 0 };

impl Distribution {
    /// The distribution's name in configs.
    pub const fn name(self) -> &'static str {
        match self {
            Distribution::Ch3 => "ch3",
            Distribution::WeightedCh3 => "weighted_ch3",
            Distribution::Crc32 => "crc32",
            Distribution::ConstShard => "const_shard",
            Distribution::Rendezvous => "rendezvous",
            Distribution::WeightedRendezvous => "weighted_rendezvous",
            Distribution::Ketama(_) => "ketama",
            Distribution::Modula(_) => "modula",
            Distribution::Random => "random",
            Distribution::LibmemcachedKetama(_) => "libmemcached_ketama",
            Distribution::LibmemcachedKetamaWeighted(_) => "libmemcached_ketama_weighted",
            Distribution::LibmemcachedModula(_) => "libmemcached_modula",
            Distribution::OverlordKetama(_) => "overlord_ketama",
            Distribution::Jump(_) => "jump",
            Distribution::Ring { .. } => "ring",
            Distribution::Codis => "codis",
            Distribution::Kvstore { .. } => "kvstore",
        }
    }

    /// What a config's `function` and `distribution` say together; what is left out follows from the other, and nothing
    /// at all is ch3. None where a name is unknown or the two don't go together.
    pub fn from_names(function: Option<&str>, distribution: Option<&str>) -> Option<Distribution> {
        let named = match (distribution, function) {
            (Some(distribution), _) => distribution,
            (None, None | Some("ch3")) => "ch3",
            (None, Some("xxh3")) => "jump",
            (None, Some(_)) => "ketama",
        };
        // The default, unless a function is named; then that one, if the program it comes from has it.
        let key = |default: KeyHash, lacks: &[KeyHash]| match function {
            None => Some(default),
            Some(name) => KeyHash::from_name(name).filter(|function| !lacks.contains(function)),
        };
        let wide = match function {
            None | Some("xxh3") => Some(XXH3),
            Some("md5") => Some(WideHash::Md5),
            Some(_) => None,
        };
        let alone = |distribution| function.is_none().then_some(distribution);
        let libmemcacheds = |default| key(default, &[KeyHash::Crc16, KeyHash::Crc32a]);
        match named {
            "ch3" => matches!(function, None | Some("ch3")).then_some(Distribution::Ch3),
            "weighted_ch3" => alone(Distribution::WeightedCh3),
            "crc32" => alone(Distribution::Crc32),
            "const_shard" => alone(Distribution::ConstShard),
            "rendezvous" => alone(Distribution::Rendezvous),
            "weighted_rendezvous" => alone(Distribution::WeightedRendezvous),
            "ketama" => key(KeyHash::Fnv1a64, &[]).map(Distribution::Ketama),
            "modula" => key(KeyHash::Fnv1a64, &[]).map(Distribution::Modula),
            // twemproxy's files name a function here too; it makes no difference.
            "random" => key(KeyHash::Fnv1a64, &[]).map(|_| Distribution::Random),
            "libmemcached_ketama" => libmemcacheds(KeyHash::OneAtATime).map(Distribution::LibmemcachedKetama),
            "libmemcached_ketama_weighted" => libmemcacheds(KeyHash::Md5).map(Distribution::LibmemcachedKetamaWeighted),
            "libmemcached_modula" => libmemcacheds(KeyHash::OneAtATime).map(Distribution::LibmemcachedModula),
            "overlord_ketama" => key(KeyHash::Fnv1a64, &[KeyHash::Jenkins]).map(Distribution::OverlordKetama),
            "jump" => wide.map(Distribution::Jump),
            "ring" => wide.map(|hash| Distribution::Ring { hash, mode: RingMode::Default, points: RING_POINTS }),
            "codis" => alone(Distribution::Codis),
            "kvstore" => alone(Distribution::Kvstore { buckets: KVSTORE_BUCKETS }),
            _ => None,
        }
    }

    /// The distribution mcrouter calls by this `hash_func`, as `WeightedCh3`, `weightedCh3` or `weighted_ch3`.
    pub fn from_hash_func(name: &str) -> Option<Distribution> {
        const MCROUTERS: [Distribution; 6] = [
            Distribution::Ch3,
            Distribution::WeightedCh3,
            Distribution::Crc32,
            Distribution::ConstShard,
            Distribution::Rendezvous,
            Distribution::WeightedRendezvous,
        ];
        let letters = |name: &str| name.replace('_', "").to_ascii_lowercase();
        MCROUTERS.into_iter().find(|distribution| letters(distribution.name()) == letters(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_function_and_distribution_complete_each_other() {
        let fnv = Some(Distribution::Ketama(KeyHash::Fnv1a64));
        let cases = [
            (None, None, Some(Distribution::Ch3)),
            (Some("ch3"), None, Some(Distribution::Ch3)),
            (None, Some("ch3"), Some(Distribution::Ch3)),
            (Some("ch3"), Some("ch3"), Some(Distribution::Ch3)),
            (Some("fnv1a_64"), None, fnv),
            (None, Some("ketama"), fnv),
            (Some("fnv1a_64"), Some("ketama"), fnv),
            (Some("crc32"), None, Some(Distribution::Ketama(KeyHash::Crc32))),
            (None, Some("crc32"), Some(Distribution::Crc32)),
            (Some("hsieh"), Some("modula"), Some(Distribution::Modula(KeyHash::Hsieh))),
            (Some("md5"), Some("random"), Some(Distribution::Random)),
            (None, Some("libmemcached_ketama_weighted"), Some(Distribution::LibmemcachedKetamaWeighted(KeyHash::Md5))),
            (None, Some("libmemcached_modula"), Some(Distribution::LibmemcachedModula(KeyHash::OneAtATime))),
            (Some("xxh3"), None, Some(Distribution::Jump(XXH3))),
            (Some("md5"), Some("jump"), Some(Distribution::Jump(WideHash::Md5))),
            (Some("fnv1a_64"), Some("ch3"), None),
            (Some("ch3"), Some("ketama"), None),
            (Some("crc32"), Some("crc32"), None),
            (Some("xxh3"), Some("ketama"), None),
            (Some("murmur"), Some("jump"), None),
            (Some("crc16"), Some("libmemcached_ketama"), None),
            (Some("jenkins"), Some("overlord_ketama"), None),
            (Some("md6"), None, None),
            (Some("md6"), Some("random"), None),
            (None, Some("modulo"), None),
        ];
        for (function, distribution, expected) in cases {
            assert_eq!(Distribution::from_names(function, distribution), expected, "{function:?} {distribution:?}");
        }
    }

    #[test]
    fn every_name_finds_its_distribution() {
        let names = "ch3 weighted_ch3 crc32 const_shard rendezvous weighted_rendezvous ketama modula random \
                     libmemcached_ketama libmemcached_ketama_weighted libmemcached_modula overlord_ketama jump ring \
                     codis kvstore";
        for name in names.split(' ') {
            assert_eq!(Distribution::from_names(None, Some(name)).map(Distribution::name), Some(name));
        }
    }

    #[test]
    fn mcrouters_names_are_taken_in_any_form() {
        let cases = [
            ("Ch3", Some(Distribution::Ch3)),
            ("WeightedCh3", Some(Distribution::WeightedCh3)),
            ("weightedCh3", Some(Distribution::WeightedCh3)),
            ("weighted_ch3", Some(Distribution::WeightedCh3)),
            ("Crc32", Some(Distribution::Crc32)),
            ("ConstShard", Some(Distribution::ConstShard)),
            ("RENDEZVOUS", Some(Distribution::Rendezvous)),
            ("WeightedRendezvous", Some(Distribution::WeightedRendezvous)),
            ("Latest", None),
            ("ketama", None),
        ];
        for (name, expected) in cases {
            assert_eq!(Distribution::from_hash_func(name), expected, "{name}");
        }
    }
}
