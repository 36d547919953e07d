//! The `keep_routing_prefix` of a pool: its servers get the key with the routing prefix that RootRoute took off it, or
//! that ModifyKeyRoute set.
//!
//! A selector. Keys are still spread without the prefix, as in mcrouter.

use super::root::PREFIX_BYTES;
use super::{Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};
use crate::variant::VariantId;
use smallvec::SmallVec;

/// `keep_routing_prefix`. Its child: the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepRoutingPrefix;

impl Policy for KeepRoutingPrefix {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        if run.routing_prefix(seat.variant).is_empty() || run.key(seat.variant).is_empty() {
            return run.pass(seat, 0);
        }
        match whole(run, seat.variant) {
            Ok(variant) => run.pass(seat.with_variant(variant), 0),
            Err(reply) => Started::Settled(run.settled(reply, seat.variant)),
        }
    }
}

/// The form with its prefix in the key.
fn whole(run: &mut Run<'_>, variant: VariantId) -> Result<VariantId, LocalReply> {
    let prefix: SmallVec<[u8; PREFIX_BYTES]> = run.routing_prefix(variant).into();
    let spread = run.with_routing_key(variant, |key| 0..key.len())?;
    run.with_key(spread, |key, out| {
        out.extend_from_slice(&prefix);
        out.extend_from_slice(key);
    })
}
