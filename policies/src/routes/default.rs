//! DefaultRoute: the first child that can be used now, and its reply whatever it is.
//!
//! A selector: it is resolved on the way down and leaves no trace in the plan, so a failure on the way is the answer
//! and no second child is tried (FailoverRoute is for that). A child made of routes can be used when anything below
//! it can take this very request.

use super::{Collapse, Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// DefaultRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Default;

impl Policy for Default {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::ToChild)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        for child in 0..run.routes.children(seat.node).len() {
            match run.pass(seat, child) {
                Started::Unusable(_) => {}
                started @ (Started::Waiting | Started::Settled(_)) => return started,
            }
        }
        Started::Unusable(LocalReply::NoHealthyServer)
    }
}
