//! ModifyKeyRoute: the request goes on with another key. The reply carries the key that was asked for.
//!
//! The steps, in mcrouter's order: `replace_key_prefix` cuts a prefix off where the key has it, `ensure_key_prefix` puts
//! one before keys that lack it, `set_key_suffix` puts one behind (before `|#|`, which isn't hashed). A key that is too
//! long afterwards is an error line.

use super::{Policy, Shape};
use crate::plan::{Run, Seat, Started};

/// ModifyKeyRoute. Its child: the target.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ModifyKey {
    /// Put before keys that don't begin with it.
    pub ensure_prefix: Vec<u8>,
}

impl Policy for ModifyKey {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        if run.key(seat.variant).starts_with(&self.ensure_prefix) {
            return run.pass(seat, 0);
        }
        let changed = run.with_key(seat.variant, |key, out| {
            out.extend_from_slice(&self.ensure_prefix);
            out.extend_from_slice(key);
        });
        match changed {
            Ok(variant) => run.pass(seat.with_variant(variant), 0),
            Err(reply) => Started::Settled(run.settled(reply, seat.variant)),
        }
    }
}
