//! NullRoute: mcrouter's default reply, without a server: a miss, and NOT_STORED to what stores.

use super::{Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// NullRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Null;

impl Policy for Null {
    fn shape(&self) -> Shape {
        Shape::Leaf
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        Started::Settled(run.settled(LocalReply::Null, seat.variant))
    }
}
