//! MigrateRoute: from one child to another, key by key, over a time that is known in advance.
//!
//! ```text
//!            start          start + interval      start + 2 intervals
//!  deletes  ─ from ─┬─────────────── both ────────────────┬─ to ──►
//!  others   ─────────────── from ───┬─ each key at its own ┬─ to ──►
//!                                       instant
//! ```
//!
//! A key's instant is `start_time + interval + SpookyV2-32(its part before |#|) modulo interval`: mcrouter's, so that both can
//! run beside each other. A delete that goes to both waits for both; the worse answers. As long as the clocks of all
//! routers differ by less than the interval, a deleted key isn't read again on either side. What `to` held before the start
//! isn't deleted by anybody: it is to be empty then.

use super::{Collapse, Policy, Shape, both};
use crate::hash::mcrouter_key_hash;
use crate::plan::{Run, Seat, Settled, Started};
use keyway_protocol::OperationClass;

const FROM: usize = 0;
const TO: usize = 1;

/// MigrateRoute. Its children: from, to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrate {
    /// Seconds since 1970.
    pub start_time: u64,
    /// Seconds; at least 1.
    pub interval: u64,
}

impl Policy for Migrate {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let now = run.env.unix_ms / 1000;
        let is_delete = run.operation(seat.variant).class() == OperationClass::DeleteLike;
        let end = self.start_time.saturating_add(self.interval.saturating_mul(2));
        if is_delete && (self.start_time..end).contains(&now) {
            return both::start(run, seat, 0);
        }
        // The hash is only needed while keys are on their way.
        let child = match now {
            before if before < self.start_time.saturating_add(self.interval) => FROM,
            after if after >= end => TO,
            _ if now < self.instant(run.routing_key(seat.variant)) => FROM,
            _ => TO,
        };
        run.pass(seat, child)
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        both::settled(run, at, child, settled)
    }
}

impl Migrate {
    /// When a key moves.
    fn instant(&self, key: &[u8]) -> u64 {
        let into = u64::from(mcrouter_key_hash(key)) % self.interval.max(1);
        self.start_time.saturating_add(self.interval).saturating_add(into)
    }
}
