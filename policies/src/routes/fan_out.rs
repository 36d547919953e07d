//! Children asked all at once, and one answer of their outcomes: what AllSyncRoute and AllFastestRoute have in common.
//!
//! Owns the counting. An outcome is *ok* when it is a definite answer: a success, or a miss, a server that knew better.
//!
//! ```text
//!            ┌──► a ── STORED        ok, 1 of 2 needed
//! request ──►├──► b ── timeout
//!            └──► c ── STORED        ok, 2 of 2: success. With a `first_` answer it is given now, else when all are in
//! ```
//!
//! | enough are ok | answer |
//! |---|---|
//! | yes, `first_ok` | the first that came |
//! | yes, `first_hit` | the first success that came; when all are in and there is none, the miss of the first child that has one |
//! | yes, `best`, `worst` | when all are in, the least or most severe of those that are ok; of equals, the first child's |
//! | yes, `primary` | when all are in, the ok of the first child that has one |
//! | no | when all are in, of those that aren't ok: the most severe for `worst`, the least for `best`, else an error before a failure; of equals, the first child's |
//!
//! Children that are down count as failed, or not at all with `ignore_down`. Invariant: but for what comes first where
//! that is asked for, the answer doesn't depend on the order in which replies come.

use crate::outcome::OutcomeClass;
use crate::plan::{Best, Run, Seat, Settled, Started};
use crate::reply::{ByOperation, Choose, ReplyPolicy, is_ok, rank};
use crate::{Failure, Outcome};

/// `Frame::words`: how many are ok.
const OKS: usize = 0;
/// `Frame::words`: how many children count.
const COUNTED: usize = 1;

/// What is held: the answer if enough are ok, and the answer if not.
const OK: u8 = 0;
const FAULT: u8 = 1;

/// Starts every usable child, also when the answer is clear at once: all are to see the request.
pub(super) fn start(replies: &ByOperation<ReplyPolicy>, run: &mut Run<'_>, seat: Seat) -> Started {
    let policy = replies.of(run.operation(seat.variant));
    let at = run.open(seat);
    let children = run.routes.children(seat.node).len();
    run.frame(at).words[COUNTED] = children as u64;
    let mut used = 0;
    for child in 0..children {
        match run.start_child(at, child) {
            Started::Waiting => {
                used += 1;
                run.frame(at).outstanding += 1;
            }
            Started::Settled(settled) => {
                used += 1;
                note(policy, run, at, child as u16, settled);
            }
            Started::Unusable(_) if policy.ignore_down => run.frame(at).words[COUNTED] -= 1,
            Started::Unusable(reply) => {
                let settled = run.settled(reply, seat.variant);
                note(policy, run, at, child as u16, settled);
            }
        }
    }
    run.frame(at).next = children;
    if used == 0 {
        run.let_go(at, FAULT);
        return run.close_or_wait(at, true);
    }
    match verdict(policy, run, at) {
        Some(settled) => run.close(at, settled),
        None => Started::Waiting,
    }
}

/// Takes a child's outcome; the frame's own when that decides it.
pub(super) fn child_settled(
    replies: &ByOperation<ReplyPolicy>,
    run: &mut Run<'_>,
    at: usize,
    child: u16,
    settled: Settled,
) -> Option<Settled> {
    let variant = run.frame(at).variant;
    let policy = replies.of(run.operation(variant));
    run.frame(at).outstanding -= 1;
    note(policy, run, at, child, settled);
    verdict(policy, run, at)
}

fn note(policy: ReplyPolicy, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) {
    let ok = is_ok(settled.outcome);
    let frame = run.frame(at);
    if ok {
        frame.words[OKS] += 1;
    } else if policy.ignore_down && settled.outcome == Outcome::Failure(Failure::Unavailable) {
        frame.words[COUNTED] -= 1;
    }
    let slot = if ok { OK } else { FAULT };
    let better = match (run.held(at, slot), policy.answer) {
        (None, _) => true,
        // What came first is the first.
        (Some(_), Choose::FirstOk) if ok => false,
        (Some(held), Choose::FirstHit) if held.best.settled.class() == OutcomeClass::Success => false,
        (Some(held), choose) => {
            let held = held.best;
            rank(choose, settled.outcome, child) < rank(choose, held.settled.outcome, held.child)
        }
    };
    if better {
        run.hold(at, slot, Best { settled, child }, 1);
    }
}

/// The frame's outcome when it is decided. What can't be it any more is let go.
fn verdict(policy: ReplyPolicy, run: &mut Run<'_>, at: usize) -> Option<Settled> {
    let frame = run.frame(at);
    let (oks, outstanding) = (frame.words[OKS] as usize, frame.outstanding);
    let needed = policy.success.needed(frame.words[COUNTED] as usize);
    let all_in = outstanding == 0;
    if oks >= needed {
        run.let_go(at, FAULT);
        let ok = run.held(at, OK)?.best.settled;
        let is_answer = match policy.answer {
            Choose::FirstOk => true,
            Choose::FirstHit => all_in || ok.class() == OutcomeClass::Success,
            Choose::Best | Choose::Worst | Choose::Primary => all_in,
        };
        return is_answer.then_some(ok);
    }
    if all_in {
        return run.held(at, FAULT).map(|held| held.best.settled);
    }
    None
}
