//! DevNullRoute: mcrouter's default reply, without a server, and counted.

use super::{Policy, RouteEvent, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// DevNullRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevNull;

impl Policy for DevNull {
    fn shape(&self) -> Shape {
        Shape::Leaf
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        run.env.state.count(RouteEvent::DevNull);
        Started::Settled(run.settled(LocalReply::Null, seat.variant))
    }
}
