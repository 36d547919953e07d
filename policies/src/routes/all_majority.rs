//! AllMajorityRoute: all children at once; the reply that more than half of them give.
//!
//! Replies are the same when they are of the same kind (two values are, whatever is in them). As soon as one kind has
//! more than half of all children, it is the answer; else, when all are in, the kind that most have, and of equals the
//! more severe one. Children that are down count as having failed. Of one kind it is the reply of the first child that
//! has it, as far as they are in.

use super::{Collapse, Policy, Shape};
use crate::plan::{Best, Run, Seat, Settled, Started};

/// AllMajorityRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllMajority;

impl Policy for AllMajority {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::ToChild)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        let children = run.routes.children(seat.node).len();
        let mut down = None;
        for child in 0..children {
            match run.start_child(at, child) {
                Started::Waiting => run.frame(at).outstanding += 1,
                Started::Settled(settled) => vote(run, at, child as u16, settled, 1),
                Started::Unusable(reply) => {
                    let (first, votes) = down.get_or_insert(((child as u16, reply), 0));
                    (*first, *votes) = (*first, *votes + 1);
                }
            }
        }
        run.frame(at).next = children;
        match down {
            Some((_, votes)) if usize::from(votes) == children => return run.close_or_wait(at, true),
            Some(((child, reply), votes)) => {
                let settled = run.settled(reply, seat.variant);
                vote(run, at, child, settled, votes);
            }
            None if children == 0 => return run.close_or_wait(at, true),
            None => {}
        }
        match verdict(run, at) {
            Some(settled) => run.close(at, settled),
            None => Started::Waiting,
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        run.frame(at).outstanding -= 1;
        vote(run, at, child, settled, 1);
        verdict(run, at)
    }
}

fn vote(run: &mut Run<'_>, at: usize, child: u16, settled: Settled, votes: u16) {
    let slot = settled.outcome.code();
    let new = Best { settled, child };
    match run.held(at, slot) {
        None => run.hold(at, slot, new, votes),
        Some(held) if child < held.best.child => run.hold(at, slot, new, held.votes + votes),
        Some(held) => run.hold(at, slot, held.best, held.votes + votes),
    }
}

/// The frame's outcome when it is decided.
fn verdict(run: &mut Run<'_>, at: usize) -> Option<Settled> {
    let node = run.frame(at).node;
    let (children, all_in) = (run.routes.children(node).len(), run.frame(at).outstanding == 0);
    let weight = |held: &crate::notes::Held| (held.votes, held.best.settled.outcome.severity());
    let most = run.all_held(at).max_by_key(|held| (weight(held), std::cmp::Reverse(held.best.child)))?;
    (all_in || usize::from(most.votes) > children / 2).then_some(most.best.settled)
}
