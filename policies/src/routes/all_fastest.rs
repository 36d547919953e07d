//! AllFastestRoute: all usable children at once; the first success answers, the rest go on for their effect.
//!
//! When none succeeds, the answer doesn't depend on the order of arrival (gomcrouter's did: the last to finish decided,
//! so the same state gave NOT_FOUND or a proxy error by chance). All outcomes are waited for, and then:
//!
//! | among the outcomes there is | answer |
//! |---|---|
//! | a miss (END, NOT_FOUND, NOT_STORED, EXISTS) | the miss of the first child that has one: a server knew |
//! | else an error (ERROR, CLIENT_ERROR, SERVER_ERROR) | the error of the first child that has one |
//! | else | the failure of the first child |
//!
//! mcrouter's answers a miss too when it comes first: `answer: first_ok`. What else the reply policy can say is in
//! `fan_out`.

use super::{Collapse, Policy, Shape, fan_out};
use crate::plan::{Run, Seat, Settled, Started};
use crate::reply::{ByOperation, ReplyPolicy};

/// AllFastestRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllFastest {
    /// How replies become one.
    pub replies: ByOperation<ReplyPolicy>,
}

impl Default for AllFastest {
    fn default() -> AllFastest {
        AllFastest { replies: ByOperation::same(ReplyPolicy::ALL_FASTEST) }
    }
}

impl Policy for AllFastest {
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
