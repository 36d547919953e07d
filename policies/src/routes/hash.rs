//! HashRoute: one child, by the key's hash, whatever the children are.
//!
//! A selector. The child is kept when it can't be used: keys aren't hashed anew (mcrouter's rule; PoolRoute has `on_down`).

use super::{Policy, Shape};
use crate::LocalReply;
use crate::hash::{Placement, PlacementSpec, SpecError};
use crate::plan::{Run, Seat, Started};
use keyway_protocol::Operation;

/// HashRoute. Its children: one for each member of the placement.
#[derive(Clone, Debug, PartialEq)]
pub struct Hash {
    placement: Placement,
}

impl Hash {
    /// Over as many children as the placement has members.
    pub fn new(spec: &PlacementSpec) -> Result<Hash, SpecError> {
        Ok(Hash { placement: Placement::new(spec)? })
    }

    /// The child a key belongs to.
    pub(crate) fn home(&self, key: &[u8]) -> usize {
        self.placement.home(key)
    }
}

impl Policy for Hash {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let child = self.home(run.routing_key(seat.variant));
        match child < run.routes.children(seat.node).len() {
            true => run.pass(seat, child),
            false => Started::Unusable(LocalReply::NoHealthyServer),
        }
    }

    fn main_child(&self, _operation: Operation, key: &[u8]) -> Option<usize> {
        Some(self.home(key))
    }
}
