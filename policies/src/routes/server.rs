//! One server: a pool's host in child position.

use super::{Policy, ServerId, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// One server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server(pub ServerId);

impl Policy for Server {
    fn shape(&self) -> Shape {
        Shape::Leaf
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        match run.health().is_up(self.0) {
            true => run.dispatch(self.0, seat),
            false => Started::Unusable(LocalReply::NoHealthyServer),
        }
    }
}
