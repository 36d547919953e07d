//! WarmUpRoute: a cold child is filled from a warm one, item by item, as they are asked for.
//!
//! | operation | what happens |
//! |---|---|
//! | get | cold; without a hit warm, whose hit is the answer and is added to cold behind it |
//! | gets, gat, gats | cold; without a hit warm (which isn't touched); its hit is added to cold, and cold is asked again, so that the cas is cold's |
//! | delete | warm, then cold; the worse of both. With `delete_both` off cold alone, as in mcrouter |
//! | everything else | cold; with `invalidate_warm` it is deleted at warm behind it, unless cold didn't take it |
//!
//! Neither has it: the better of both, a miss before an error; of equals a get takes warm's as in mcrouter, others cold's.
//! How an item keeps its life, and why nothing stale stays in cold, is in `backfill`.

use super::backfill::{self, Backfill, FAR, NEAR, Phase};
use super::{Collapse, Policy, Shape};
use crate::outcome::OutcomeClass;
use crate::plan::{Frame, Run, Seat, Settled, Started};
use keyway_protocol::{Operation, OperationClass};

/// WarmUpRoute. Its children: cold, warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// How cold is filled.
    pub fill: Backfill,
    /// What is written to cold is deleted at warm.
    pub invalidate_warm: bool,
}

impl Policy for WarmUp {
    fn shape(&self) -> Shape {
        Shape::Join(backfill::TIMES, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        match run.operation(seat.variant).class() {
            OperationClass::GetLike => self.fill.read(run, seat),
            OperationClass::DeleteLike if self.fill.delete_both => self.fill.delete(run, seat),
            OperationClass::UpdateLike | OperationClass::ArithmeticLike | OperationClass::TouchLike
                if self.invalidate_warm =>
            {
                self.write(run, seat)
            }
            OperationClass::UpdateLike
            | OperationClass::ArithmeticLike
            | OperationClass::TouchLike
            | OperationClass::DeleteLike
            | OperationClass::Control => run.pass(seat, NEAR),
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, _child: u16, settled: Settled) -> Option<Settled> {
        if Phase::of(run.frame(at)) == Phase::Own {
            return Some(written(run, at, settled));
        }
        self.fill.settled(run, at, settled)
    }

    fn may_start_more(&self, frame: &Frame, _children: usize) -> bool {
        backfill::may_start_more(frame)
    }

    /// A delete or a write is seen through whoever has gone away meanwhile.
    fn lingers(&self, operation: Operation) -> bool {
        match operation.class() {
            OperationClass::DeleteLike => self.fill.delete_both,
            OperationClass::UpdateLike | OperationClass::ArithmeticLike | OperationClass::TouchLike => {
                self.invalidate_warm
            }
            OperationClass::GetLike | OperationClass::Control => false,
        }
    }

    fn goes_on(&self) -> bool {
        true
    }
}

impl WarmUp {
    fn write(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        Phase::Own.enter(run.frame(at));
        match run.start_child(at, NEAR) {
            Started::Waiting => Started::Waiting,
            Started::Settled(settled) => {
                let settled = written(run, at, settled);
                run.close(at, settled)
            }
            Started::Unusable(reply) => run.take_back(at, reply),
        }
    }
}

/// Cold has answered a write: warm's item is out of date, unless nothing was written.
fn written(run: &mut Run<'_>, at: usize, settled: Settled) -> Settled {
    if settled.class() != OutcomeClass::Miss {
        let frame = run.frame(at);
        let (node, variant) = (frame.node, frame.variant);
        backfill::background_delete(run, node, variant, FAR);
    }
    settled
}
