//! ShardSplitRoute: some shards become several, one for each group of routers. For keys of the form `prefix:SHARD:rest`.
//!
//! Split 0 has the key as it is; split `n` has two letters behind the shard, `prefix:SHARDaa:rest` for 1, `ba` for 2, and so on.
//! A router's own split is `host_id` modulo the shard's splits.
//!
//! | operation | splits |
//! |---|---|
//! | delete | all; the worst answers (mcrouter answers split 0's and waits for no other) |
//! | everything else | the own one |
//!
//! Keys of other shards, and of another form, are left alone.

use super::copies::{self, Wanted};
use super::{Collapse, Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Settled, Started};
use crate::variant::VariantId;
use keyway_protocol::OperationClass;
use std::ops::Range;

const LETTERS: usize = 26;
/// Most splits of a shard: two letters name so many, and one has none.
pub const MAX_SPLITS: u16 = (LETTERS * LETTERS + 1) as u16;

/// ShardSplitRoute. Its child: the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSplit {
    /// The shards that are split and into how many, in order of their names.
    splits: Vec<(Vec<u8>, u16)>,
}

impl ShardSplit {
    /// From shards and how many splits they have, 1 to `MAX_SPLITS`. Of a shard that is there twice one counts.
    pub fn new(mut splits: Vec<(Vec<u8>, u16)>) -> ShardSplit {
        splits.sort();
        ShardSplit { splits }
    }

    fn of(&self, shard: &[u8]) -> usize {
        match self.splits.binary_search_by(|(name, _)| name.as_slice().cmp(shard)) {
            Ok(at) => usize::from(self.splits[at].1),
            Err(_) => 1,
        }
    }
}

impl Policy for ShardSplit {
    fn shape(&self) -> Shape {
        let most = self.splits.iter().map(|(_, splits)| usize::from(*splits)).max();
        Shape::Join(most.unwrap_or(1), Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let Some(shard) = shard_in(run.key(seat.variant)) else { return run.pass(seat, 0) };
        let splits = self.of(&run.key(seat.variant)[shard.clone()]);
        if splits <= 1 {
            return run.pass(seat, 0);
        }
        if run.operation(seat.variant).class() == OperationClass::DeleteLike {
            return copies::start(run, seat, splits, Wanted::Worst, |run, split| {
                split_of(run, seat.variant, shard.end, split)
            });
        }
        let own = (run.host_id() % splits as u64) as usize;
        match split_of(run, seat.variant, shard.end, own) {
            Ok(variant) => run.pass(seat.with_variant(variant), 0),
            Err(reply) => Started::Settled(run.settled(reply, seat.variant)),
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, _child: u16, settled: Settled) -> Option<Settled> {
        copies::settled(run, at, Wanted::Worst, settled)
    }
}

/// Where the shard stands in a key: between the first two colons. Its name ends in a digit.
fn shard_in(key: &[u8]) -> Option<Range<usize>> {
    let start = key.iter().position(|byte| *byte == b':')? + 1;
    let length = key[start..].iter().position(|byte| *byte == b':')?;
    let shard = start..start + length;
    key[shard.clone()].last()?.is_ascii_digit().then_some(shard)
}

/// The form with the key of a split.
fn split_of(run: &mut Run<'_>, variant: VariantId, end: usize, split: usize) -> Result<VariantId, LocalReply> {
    if split == 0 {
        return Ok(variant);
    }
    run.with_key(variant, |key, out| {
        out.extend_from_slice(&key[..end]);
        out.push(b'a' + ((split - 1) % LETTERS) as u8);
        out.push(b'a' + ((split - 1) / LETTERS) as u8);
        out.extend_from_slice(&key[end..]);
    })
}
