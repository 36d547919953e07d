//! KeyParseRoute: below it the first parts of the key decide where it goes; the key itself stays.
//!
//! A selector. The parts end behind their last delimiter, as in mcrouter; a key with fewer parts counts whole, up to
//! its hash stop.

use super::{Policy, Shape, before_stop};
use crate::plan::{Run, Seat, Started};

/// KeyParseRoute. Its child: the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyParse {
    /// How many parts count.
    pub parts: usize,
    /// What parts end with.
    pub delimiter: u8,
}

impl Policy for KeyParse {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        match run.with_routing_key(seat.variant, |key| 0..self.end(before_stop(key))) {
            Ok(variant) => run.pass(seat.with_variant(variant), 0),
            Err(reply) => Started::Settled(run.settled(reply, seat.variant)),
        }
    }
}

impl KeyParse {
    fn end(&self, key: &[u8]) -> usize {
        let last = self.parts.checked_sub(1);
        let delimiter = last.and_then(|last| memchr::memchr_iter(self.delimiter, key).nth(last));
        delimiter.map_or(key.len(), |at| at + 1)
    }
}
