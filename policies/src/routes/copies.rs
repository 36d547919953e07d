//! One child asked several times for one request, each time with another key: what KeySplitRoute and ShardSplitRoute do
//! where a request concerns every copy of an item.

use crate::LocalReply;
use crate::outcome::OutcomeClass;
use crate::plan::{Best, Run, Seat, Settled, Started};
use crate::variant::VariantId;

/// Which of the copies' outcomes is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// When all are in, the worst.
    Worst,
    /// The first success; when all are in and there is none, the best.
    FirstHit,
}

/// Asks the only child once for each form; `form` makes that of a copy.
pub(super) fn start(
    run: &mut Run<'_>,
    seat: Seat,
    copies: usize,
    wanted: Wanted,
    form: impl Fn(&mut Run<'_>, usize) -> Result<VariantId, LocalReply>,
) -> Started {
    let at = run.open(seat);
    let mut unusable = None;
    let mut used = false;
    for copy in 0..copies {
        let started = match form(run, copy) {
            Ok(variant) => run.start_child_as(at, 0, variant),
            Err(reply) => Started::Unusable(reply),
        };
        match started {
            Started::Waiting => {
                used = true;
                run.frame(at).outstanding += 1;
            }
            Started::Settled(settled) => {
                used = true;
                note(run, at, wanted, settled);
            }
            Started::Unusable(reply) => {
                unusable = Some(reply);
                let settled = run.settled(reply, seat.variant);
                note(run, at, wanted, settled);
            }
        }
    }
    match (used, unusable) {
        (false, Some(reply)) => run.take_back(at, reply),
        _ => match verdict(run, at, wanted) {
            Some(settled) => run.close(at, settled),
            None => Started::Waiting,
        },
    }
}

/// Takes a copy's outcome; the frame's own when that decides it.
pub(super) fn settled(run: &mut Run<'_>, at: usize, wanted: Wanted, settled: Settled) -> Option<Settled> {
    run.frame(at).outstanding -= 1;
    note(run, at, wanted, settled);
    verdict(run, at, wanted)
}

fn note(run: &mut Run<'_>, at: usize, wanted: Wanted, settled: Settled) {
    let frame = run.frame(at);
    let takes_over = frame.best.is_none_or(|best| match wanted {
        Wanted::Worst => settled.class() > best.settled.class(),
        Wanted::FirstHit => settled.class() < best.settled.class(),
    });
    if takes_over {
        frame.best = Some(Best { settled, child: 0 });
    }
}

fn verdict(run: &mut Run<'_>, at: usize, wanted: Wanted) -> Option<Settled> {
    let frame = run.frame(at);
    let best = frame.best?.settled;
    let is_hit = wanted == Wanted::FirstHit && best.class() == OutcomeClass::Success;
    (frame.outstanding == 0 || is_hit).then_some(best)
}
