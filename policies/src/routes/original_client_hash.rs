//! OriginalClientHashRoute: one child, by the client's address: a client stays with its child.
//!
//! A selector. A client without an address, on a Unix socket, counts as hash 0; mcrouter answers it an error.

use super::{Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// OriginalClientHashRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OriginalClientHash {
    /// Added to the hash, to choose another child than a second route of this kind.
    pub offset: u64,
}

impl Policy for OriginalClientHash {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let children = run.routes.children(seat.node).len();
        if children == 0 {
            return Started::Unusable(LocalReply::NoHealthyServer);
        }
        let hash = run.env.client.address_hash.wrapping_add(self.offset);
        run.pass(seat, (hash % children as u64) as usize)
    }
}
