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

use super::{Collapse, Policy, Shape};
use crate::outcome::OutcomeClass;
use crate::plan::{Best, Frame, Run, Seat, Settled, Started};

/// AllFastestRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllFastest;

impl Policy for AllFastest {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::ToChild)
    }

    /// Starts every usable child, also when one of them succeeds on the spot: all are to see the request.
    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        let children = run.routes.children(seat.node).len();
        for child in 0..children {
            match run.start_child(at, child) {
                Started::Waiting => run.frame(at).outstanding += 1,
                Started::Settled(settled) => note(run.frame(at), child as u16, settled),
                Started::Unusable(_) => {}
            }
        }
        let frame = run.frame(at);
        frame.next = children;
        let over = is_over(frame);
        run.close_or_wait(at, over)
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        let frame = run.frame(at);
        frame.outstanding -= 1;
        note(frame, child, settled);
        if is_over(frame) { frame.best.map(|best| best.settled) } else { None }
    }
}

fn is_over(frame: &Frame) -> bool {
    frame.outstanding == 0 || frame.best.is_some_and(|best| best.settled.class() == OutcomeClass::Success)
}

fn note(frame: &mut Frame, child: u16, settled: Settled) {
    let better = frame.best.is_none_or(|best| (settled.class(), child) < (best.settled.class(), best.child));
    if better {
        frame.best = Some(Best { settled, child });
    }
}
