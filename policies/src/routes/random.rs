//! RandomRoute: any child, chosen anew for each request.
//!
//! A selector. A child that can't be used is passed over for the next one in order; mcrouter sends to it and answers the
//! error.

use super::{Collapse, Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// RandomRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random;

impl Policy for Random {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::ToChild)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let children = run.routes.children(seat.node).len();
        if children == 0 {
            return Started::Unusable(LocalReply::NoHealthyServer);
        }
        let first = run.env.state.below(children);
        for step in 0..children {
            match run.pass(seat, (first + step) % children) {
                Started::Unusable(_) => {}
                started @ (Started::Waiting | Started::Settled(_)) => return started,
            }
        }
        Started::Unusable(LocalReply::NoHealthyServer)
    }
}
