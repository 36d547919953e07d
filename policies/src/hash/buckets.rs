//! Buckets, Codis' and Kvstore's: a key's hash falls into one of a fixed number of buckets, and each bucket has a
//! member.
//!
//! Which member is a table that those programs keep and change as data moves; here it is the configuration. Without it
//! each member gets what it has in a fresh fleet.

use super::functions::crc32;
use super::functions::murmur::murmur_kvstore;
use super::spec::{Distribution, Member, SpecError};

/// The table of one placement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Buckets {
    function: Function,
    members: Box<[u32]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Crc32,
    Murmur,
}

impl Buckets {
    /// Of a spec that was checked.
    pub(super) fn codis(members: Box<[u32]>) -> Buckets {
        Buckets { function: Function::Crc32, members }
    }

    /// Of a spec that was checked.
    pub(super) fn kvstore(members: Box<[u32]>) -> Buckets {
        Buckets { function: Function::Murmur, members }
    }

    pub(super) fn home(&self, key: &[u8]) -> usize {
        let hash = match self.function {
            Function::Crc32 => crc32(key),
            Function::Murmur => murmur_kvstore(key),
        };
        self.members[hash as usize % self.members.len()] as usize
    }
}

/// The member of each bucket.
pub(super) fn table(distribution: Distribution, members: &[Member], buckets: u16) -> Result<Box<[u32]>, SpecError> {
    let count = usize::from(buckets);
    if members.len() > count {
        return Err(SpecError::TooFewBuckets { buckets });
    }
    if members.iter().all(|member| member.buckets.is_empty()) {
        // Kvstore deals buckets out in turn; Codis' are given in ranges, here of the same size.
        let in_turn = matches!(distribution, Distribution::Kvstore { .. });
        let fresh = |bucket: usize| {
            if in_turn { bucket % members.len().max(1) } else { bucket * members.len() / count }
        };
        return Ok((0..count).map(|bucket| fresh(bucket) as u32).collect());
    }
    let mut table = vec![u32::MAX; count];
    for (at, member) in members.iter().enumerate() {
        for &(first, last) in &member.buckets {
            if first > last || last >= buckets {
                return Err(SpecError::BucketRange { first, last });
            }
            for bucket in first..=last {
                if std::mem::replace(&mut table[usize::from(bucket)], at as u32) != u32::MAX {
                    return Err(SpecError::BucketTwice { bucket });
                }
            }
        }
    }
    match table.iter().position(|member| *member == u32::MAX) {
        Some(bucket) => Err(SpecError::BucketMissing { bucket: bucket as u16 }),
        None => Ok(table.into()),
    }
}
