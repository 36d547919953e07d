//! ModifyKeyRoute: the request goes on with another key. The reply carries the key that was asked for.
//!
//! A selector. mcrouter's steps, of which the first that applies changes the key:
//!
//! | the key | becomes |
//! |---|---|
//! | begins with `replace_key_prefix` | `ensure_key_prefix`, the rest behind that prefix, `set_key_suffix` |
//! | doesn't begin with `ensure_key_prefix` | `ensure_key_prefix`, the key, `set_key_suffix`; with `modify_inplace` the prefix takes the place of as many bytes |
//! | else | the key, `set_key_suffix` |
//!
//! The suffix stands at the very end, behind a hash stop. `set_routing_prefix` sets the routing prefix, which is no part
//! of the key: a RootRoute below goes by it, and pools that keep it send it. A key that is too long afterwards, or empty,
//! is an error line. What has no key (flush_all) goes on as it is.

use super::{Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};
use crate::variant::VariantId;

/// ModifyKeyRoute. Its child: the target.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ModifyKey {
    /// `set_routing_prefix`; an empty one takes it away.
    pub routing_prefix: Option<Vec<u8>>,
    /// `ensure_key_prefix`
    pub ensure_prefix: Vec<u8>,
    /// `replace_key_prefix`
    pub replace_prefix: Option<Vec<u8>>,
    /// `set_key_suffix`
    pub suffix: Vec<u8>,
    /// `modify_inplace`
    pub in_place: bool,
}

/// What becomes of a key.
struct Change {
    /// The prefix is put before it.
    prefix: bool,
    /// So many of its first bytes are dropped.
    drop: usize,
}

impl Policy for ModifyKey {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        if run.key(seat.variant).is_empty() {
            return run.pass(seat, 0);
        }
        match self.changed(run, seat.variant) {
            Ok(variant) => run.pass(seat.with_variant(variant), 0),
            Err(reply) => Started::Settled(run.settled(reply, seat.variant)),
        }
    }
}

impl ModifyKey {
    fn changed(&self, run: &mut Run<'_>, variant: VariantId) -> Result<VariantId, LocalReply> {
        let variant = match &self.routing_prefix {
            Some(prefix) if prefix != run.routing_prefix(variant) => run.with_routing_prefix(variant, prefix)?,
            Some(_) | None => variant,
        };
        let change = self.change(run.key(variant));
        if !change.prefix && self.suffix.is_empty() {
            return Ok(variant);
        }
        run.with_key(variant, |key, out| {
            if change.prefix {
                out.extend_from_slice(&self.ensure_prefix);
            }
            out.extend_from_slice(&key[change.drop..]);
            out.extend_from_slice(&self.suffix);
        })
    }

    fn change(&self, key: &[u8]) -> Change {
        let ensured = self.ensure_prefix.len();
        match &self.replace_prefix {
            Some(replaced) if key.starts_with(replaced) => Change { prefix: true, drop: replaced.len() },
            Some(_) | None if key.starts_with(&self.ensure_prefix) => Change { prefix: false, drop: 0 },
            Some(_) | None => {
                Change { prefix: true, drop: if self.in_place && key.len() >= ensured { ensured } else { 0 } }
            }
        }
    }
}
