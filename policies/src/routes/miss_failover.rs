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

use super::NodeId;
use crate::outcome::OutcomeClass;
use crate::plan::{Best, Frame, Join, Place, Run, Settled, Started};

/// Starts the first usable child.
pub(crate) fn start(run: &mut Run<'_>, node: NodeId, place: Place) -> Started {
    let at = run.open(Join::MissFailover, node, place);
    let over = !advance(run, at);
    run.close_or_wait(at, over)
}

/// Takes the outcome of the child under way; the frame's own when that decides it.
pub(crate) fn child_settled(run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
    note(run.frame(at), child, settled);
    if !is_last_word(settled) && advance(run, at) {
        return None;
    }
    run.frame(at).best.map(|best| best.settled)
}

/// Starts children until one is under way; false when the walk is over.
fn advance(run: &mut Run<'_>, at: usize) -> bool {
    let routes = run.routes;
    let children = routes.children(run.frame(at).node);
    loop {
        let index = run.frame(at).next;
        let Some(&child) = children.get(index) else { return false };
        run.frame(at).next += 1;
        match run.start(child, Place::new(at, index)) {
            Started::Waiting => return true,
            Started::Settled(settled) => {
                note(run.frame(at), index as u16, settled);
                if is_last_word(settled) {
                    return false;
                }
            }
            Started::Unusable(_) => {}
        }
    }
}

fn is_last_word(settled: Settled) -> bool {
    settled.class == OutcomeClass::Success || settled.ends_tries()
}

fn note(frame: &mut Frame, child: u16, settled: Settled) {
    let better = match frame.best {
        None => true,
        Some(best) => settled.class <= best.settled.class && !settled.ends_tries(),
    };
    if better {
        frame.best = Some(Best { settled, child });
    }
}
