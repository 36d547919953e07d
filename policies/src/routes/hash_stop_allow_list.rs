//! HashStopAllowListRoute: keys with a hash stop (`|#|`) only where their prefix is allowed one; an error line otherwise.
//!
//! A selector: it keeps clients from putting all their keys on one server.

use super::{HASH_STOP, Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// HashStopAllowListRoute. Its child: the target.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HashStopAllowList {
    /// What keys with a stop must begin with, any of these.
    pub prefixes: Vec<Vec<u8>>,
}

impl Policy for HashStopAllowList {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let key = run.key(seat.variant);
        let stops = memchr::memmem::find(key, HASH_STOP).is_some();
        match !stops || self.prefixes.iter().any(|prefix| key.starts_with(prefix)) {
            true => run.pass(seat, 0),
            false => Started::Settled(run.settled(LocalReply::Said(seat.node), seat.variant)),
        }
    }

    fn words(&self) -> &str {
        "SERVER_ERROR keyway: hash stop not permitted"
    }
}
