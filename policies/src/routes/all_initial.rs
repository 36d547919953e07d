//! AllInitialRoute: the first child's reply; the others are asked too, and nobody waits for them.
//!
//! A selector for its first child. Where that one is down the answer says so, as in mcrouter, though the others see the
//! request: they are copies, not replacements.

use super::{Collapse, Policy, Shape};
use crate::plan::{Run, Seat, Started};

/// AllInitialRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllInitial;

impl Policy for AllInitial {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::ToChild)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let children = run.routes.children(seat.node).len();
        if children == 0 {
            return Started::Unusable(crate::LocalReply::NoHealthyServer);
        }
        let started = run.pass(seat, 0);
        let mut copied = false;
        for child in 1..children {
            copied |= run.background(seat.node, child, seat.variant);
        }
        match started {
            // The others took it, so no parent may give it to another.
            Started::Unusable(reply) if copied => Started::Settled(run.settled(reply, seat.variant)),
            Started::Waiting | Started::Settled(_) | Started::Unusable(_) => started,
        }
    }
}
