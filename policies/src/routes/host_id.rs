//! HostIdRoute: one child, by this router's id: always the same here, another one on other hosts.
//!
//! A selector. The id is the caller's (`Routes::states`); mcrouter's is a hash of the host's first address, which differs
//! from ours, so the two may choose different children. The child is kept also when it is down: it is a choice of
//! place, not of health.

use super::{Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// HostIdRoute.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HostId {
    /// Hashed with the id, so that several of these routes choose independently.
    pub salt: Vec<u8>,
}

impl Policy for HostId {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let children = run.routes.children(seat.node).len();
        if children == 0 {
            return Started::Unusable(LocalReply::NoHealthyServer);
        }
        let id = salted(run.env.state.host_id(), &self.salt);
        run.pass(seat, (id % children as u64) as usize)
    }
}

/// The id with a salt mixed in; without one it is the id itself.
fn salted(id: u64, salt: &[u8]) -> u64 {
    if salt.is_empty() {
        return id;
    }
    // FNV-1a over the id and the salt.
    let bytes = id.to_le_bytes().into_iter().chain(salt.iter().copied());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // Its low bits alone are no good for a modulus.
    hash ^ (hash >> 32)
}
