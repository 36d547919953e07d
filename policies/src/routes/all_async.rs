//! AllAsyncRoute: to all children, and mcrouter's default reply at once: nobody hears what became of it.
//!
//! With one child it still doesn't wait, as in mcrouter.

use super::{Collapse, Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// AllAsyncRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllAsync;

impl Policy for AllAsync {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        for child in 0..run.routes.children(seat.node).len() {
            run.background(seat.node, child, seat.variant);
        }
        Started::Settled(run.settled(LocalReply::Null, seat.variant))
    }
}
