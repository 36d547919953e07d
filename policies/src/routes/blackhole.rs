//! BlackholeRoute: no reply, as from a server that hangs: a timeout, once its time is over. A test aid.
//!
//! mcrouter's route of that name tells requests apart by fields that memcached's don't have, and answers those it
//! swallows like NullRoute.

use super::{Policy, Shape};
use crate::plan::{Run, Seat, Settled, Started};
use crate::{Failure, LocalReply};

/// BlackholeRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blackhole {
    /// How long it says nothing, in nanoseconds.
    pub time: u64,
}

/// `Frame::words`: when its time is over.
const OVER_AT: usize = 0;

impl Policy for Blackhole {
    fn shape(&self) -> Shape {
        Shape::Leaf
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        let over_at = run.env.now + self.time;
        run.frame(at).words[OVER_AT] = over_at;
        run.wake_at(at, over_at);
        Started::Waiting
    }

    fn woken(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        let over = run.env.now >= run.frame(at).words[OVER_AT];
        let variant = run.frame(at).variant;
        over.then(|| run.settled(LocalReply::Failed(Failure::Timeout), variant))
    }

    fn abandoned(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        Some(run.unusable_at(at, LocalReply::Failed(Failure::Timeout)))
    }
}
