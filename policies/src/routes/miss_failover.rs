//! MissFailoverRoute: usable children in order, one at a time, until one succeeds. Any operation, as in gomcrouter.
//!
//! A child is looked at when its turn comes: one that is down by then is skipped, one that has come up is used.
//! When none succeeds:
//!
//! | outcomes so far | answer |
//! |---|---|
//! | misses (END, NOT_FOUND, NOT_STORED, EXISTS), whatever else | the last miss: a definite answer beats a later error |
//! | errors (ERROR, CLIENT_ERROR, SERVER_ERROR) and failures | the last error: a reply beats a failure on the way |
//! | failures only | the last failure |
//!
//! gomcrouter's table is the same but for a miss followed by an error, where the error won.
//! A failure after which no try can be made (the deadline is over, the request can't be sent again) ends the walk; it
//! names the answer only when there is nothing else to name.

use super::{Collapse, Policy, Shape};
use crate::outcome::OutcomeClass;
use crate::plan::{Best, Frame, Run, Seat, Settled, Started};
use keyway_protocol::{Operation, OperationClass};

/// MissFailoverRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissFailover;

impl Policy for MissFailover {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::ToChild)
    }

    /// Starts the first usable child.
    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        let over = !advance(run, at);
        run.close_or_wait(at, over)
    }

    /// Takes the outcome of the child under way; the frame's own when that decides it.
    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        note(run.frame(at), child, settled);
        if !is_last_word(settled) && advance(run, at) {
            return None;
        }
        run.frame(at).best.map(|best| best.settled)
    }

    fn may_start_more(&self, frame: &Frame, children: usize) -> bool {
        frame.next < children
    }

    /// A write goes on to the next child also when the request was answered elsewhere.
    fn lingers(&self, operation: Operation) -> bool {
        operation.class() != OperationClass::GetLike
    }

    fn goes_on(&self) -> bool {
        true
    }
}

/// Starts children until one is under way; false when the walk is over.
fn advance(run: &mut Run<'_>, at: usize) -> bool {
    let children = run.routes.children(run.frame(at).node).len();
    while run.frame(at).next < children {
        let child = run.frame(at).next;
        run.frame(at).next += 1;
        match run.start_child(at, child) {
            Started::Waiting => return true,
            Started::Settled(settled) => {
                note(run.frame(at), child as u16, settled);
                if is_last_word(settled) {
                    return false;
                }
            }
            Started::Unusable(_) => {}
        }
    }
    false
}

fn is_last_word(settled: Settled) -> bool {
    settled.class() == OutcomeClass::Success || settled.ends_tries()
}

fn note(frame: &mut Frame, child: u16, settled: Settled) {
    let better = match frame.best {
        None => true,
        Some(best) => settled.class() <= best.settled.class() && !settled.ends_tries(),
    };
    if better {
        frame.best = Some(Best { settled, child });
    }
}
