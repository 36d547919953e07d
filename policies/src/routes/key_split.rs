//! KeySplitRoute: a hot key becomes several, one for each group of routers, so that several servers share its reads.
//!
//! A router's own copy is `host_id` modulo `replicas`. Copy 0 has the key as it is, copy `n` has `key::n` (put before `|#|`,
//! so that it is hashed).
//!
//! | operation | copies |
//! |---|---|
//! | get | the own one; with `first_hit` all at once, the first hit answers |
//! | set | the own one; with `all_sync` the others too, though nobody waits for them |
//! | delete | all; the worst answers. With `delete_sync` off nobody waits for the others, as in mcrouter |
//! | everything else | the own one |
//!
//! A key so long that a copy's would be none is left alone.

use super::copies::{self, Wanted};
use super::{Collapse, Policy, Shape};
use crate::LocalReply;
use crate::decimal::Decimal;
use crate::plan::{Run, Seat, Settled, Started};
use crate::variant::VariantId;
use keyway_protocol::memcached::text::KEY_BYTES_MAX;
use keyway_protocol::{Operation, OperationClass};

/// Least and most replicas: mcrouter's.
pub const MIN_REPLICAS: u16 = 2;
/// See `MIN_REPLICAS`.
pub const MAX_REPLICAS: u16 = 1000;

/// What stands between a key and the number of its copy.
const SEPARATOR: &[u8] = b"::";
/// What follows isn't hashed.
const HASH_STOP: &[u8] = b"|#|";

/// KeySplitRoute. Its child: the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySplit {
    /// How many copies.
    pub replicas: u16,
    /// Sets go to all.
    pub all_sync: bool,
    /// Gets go to all.
    pub first_hit: bool,
    /// Deletes wait for all.
    pub delete_sync: bool,
}

impl Policy for KeySplit {
    fn shape(&self) -> Shape {
        Shape::Join(usize::from(self.replicas), Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let longest = SEPARATOR.len() + Decimal::new(u64::from(self.replicas) - 1).as_bytes().len();
        if run.key(seat.variant).len() + longest > KEY_BYTES_MAX {
            return run.pass(seat, 0);
        }
        let own = self.own(run);
        match run.operation(seat.variant) {
            Operation::Get if self.first_hit => self.send_to_all(run, seat, own, Wanted::FirstHit),
            Operation::Delete if self.delete_sync => self.send_to_all(run, seat, own, Wanted::Worst),
            Operation::Delete => self.send_to_own_and_others(run, seat, own),
            Operation::Set if self.all_sync => self.send_to_own_and_others(run, seat, own),
            _ => match copy_of(run, seat.variant, own) {
                Ok(variant) => run.pass(seat.with_variant(variant), 0),
                Err(reply) => Started::Unusable(reply),
            },
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, _child: u16, settled: Settled) -> Option<Settled> {
        let variant = run.frame(at).variant;
        let wanted = match run.operation(variant).class() {
            OperationClass::GetLike => Wanted::FirstHit,
            OperationClass::UpdateLike
            | OperationClass::DeleteLike
            | OperationClass::ArithmeticLike
            | OperationClass::TouchLike
            | OperationClass::Control => Wanted::Worst,
        };
        copies::settled(run, at, wanted, settled)
    }
}

impl KeySplit {
    fn own(&self, run: &Run<'_>) -> usize {
        (run.host_id() % u64::from(self.replicas)) as usize
    }

    fn send_to_all(&self, run: &mut Run<'_>, seat: Seat, own: usize, wanted: Wanted) -> Started {
        let replicas = usize::from(self.replicas);
        copies::start(run, seat, replicas, wanted, |run, copy| copy_of(run, seat.variant, (own + copy) % replicas))
    }

    /// The own copy answers; nobody waits for the others.
    fn send_to_own_and_others(&self, run: &mut Run<'_>, seat: Seat, own: usize) -> Started {
        let started = match copy_of(run, seat.variant, own) {
            Ok(variant) => run.pass(seat.with_variant(variant), 0),
            Err(reply) => return Started::Unusable(reply),
        };
        if let Started::Unusable(_) = started {
            return started;
        }
        let replicas = usize::from(self.replicas);
        for copy in 1..replicas {
            if let Ok(variant) = copy_of(run, seat.variant, (own + copy) % replicas) {
                run.background(seat.node, 0, variant);
            }
        }
        started
    }
}

/// The form with the key of a copy.
fn copy_of(run: &mut Run<'_>, variant: VariantId, copy: usize) -> Result<VariantId, LocalReply> {
    if copy == 0 {
        return Ok(variant);
    }
    run.with_key(variant, |key, out| {
        let stop = key.windows(HASH_STOP.len()).position(|at| at == HASH_STOP).unwrap_or(key.len());
        out.extend_from_slice(&key[..stop]);
        out.extend_from_slice(SEPARATOR);
        out.extend_from_slice(Decimal::new(copy as u64).as_bytes());
        out.extend_from_slice(&key[stop..]);
    })
}
