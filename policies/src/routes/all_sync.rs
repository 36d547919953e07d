//! AllSyncRoute: all children at once; when all have answered, the worst of their replies.
//!
//! As in mcrouter one child that is down makes an error of it, unless the reply policy says otherwise: `ignore_down`
//! leaves it out, `success: quorum` or `any` asks for fewer (see `fan_out`). Of equally bad replies the first child's is
//! the answer, where mcrouter's was the one that came first.

use super::{Collapse, Policy, Shape, fan_out};
use crate::plan::{Run, Seat, Settled, Started};
use crate::reply::{ByOperation, ReplyPolicy};

/// AllSyncRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllSync {
    /// How replies become one.
    pub replies: ByOperation<ReplyPolicy>,
}

impl Default for AllSync {
    fn default() -> AllSync {
        AllSync { replies: ByOperation::same(ReplyPolicy::ALL_SYNC) }
    }
}

impl Policy for AllSync {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::ToChild)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        fan_out::start(&self.replies, run, seat)
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        fan_out::child_settled(&self.replies, run, at, child, settled)
    }
}
