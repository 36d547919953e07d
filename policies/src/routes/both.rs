//! Two children asked at once and both waited for; the worse answers, of equals the first child's. What a delete needs that
//! is to be done in two places.

use crate::outcome::OutcomeClass;
use crate::plan::{Best, Run, Seat, Settled, Started};

/// Asks both; `word` is the route's own, for the first of `Frame::words`.
pub(super) fn start(run: &mut Run<'_>, seat: Seat, word: u64) -> Started {
    let at = run.open(seat);
    run.frame(at).words[0] = word;
    let mut unusable = None;
    for child in 0..2 {
        match run.start_child(at, child) {
            Started::Waiting => run.frame(at).outstanding += 1,
            Started::Settled(settled) => note(run, at, child as u16, settled),
            Started::Unusable(reply) => {
                unusable = Some(reply);
                let settled = run.settled(reply, seat.variant);
                note(run, at, child as u16, settled);
            }
        }
    }
    let frame = run.frame(at);
    match (frame.outstanding, frame.best, unusable) {
        (0, Some(best), Some(reply)) if best.settled.class() == OutcomeClass::Lost && run.is_last_frame(at) => {
            run.take_back(at, reply)
        }
        (0, Some(best), _) => run.close(at, best.settled),
        _ => Started::Waiting,
    }
}

/// Takes a child's outcome; the frame's own when both are in.
pub(super) fn settled(run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
    run.frame(at).outstanding -= 1;
    note(run, at, child, settled);
    let frame = run.frame(at);
    if frame.outstanding == 0 { frame.best.map(|best| best.settled) } else { None }
}

fn note(run: &mut Run<'_>, at: usize, child: u16, settled: Settled) {
    let frame = run.frame(at);
    let takes_over = frame.best.is_none_or(|best| {
        (settled.class(), std::cmp::Reverse(child)) > (best.settled.class(), std::cmp::Reverse(best.child))
    });
    if takes_over {
        frame.best = Some(Best { settled, child });
    }
}
