//! The end of a plan's use: the client has its answer from elsewhere, or is gone.
//!
//! Owns that what only waited for the answer's sake ends then: a place in a queue, a silence. What is under way goes on
//! and is told its outcomes (`Routes::lingers`), so that what it holds on the shard comes back exactly once.

use super::{Plan, Run};
use crate::request::{Action, Env, RequestView};
use crate::routes::Routes;

impl Plan {
    /// True when nothing is left of it that `Routes::abandon` could end: no frame is unsettled.
    pub fn is_settled(&self) -> bool {
        self.frames.iter().all(|frame| frame.settled)
    }
}

impl Routes {
    /// Nobody waits for the plan's answer any more, whether it has been given or not: what goes on does so for its effect.
    pub fn abandon(&self, plan: &mut Plan, request: &RequestView<'_>, env: Env<'_>, out: &mut Vec<Action>) {
        plan.decided = true;
        let mut run = Run::new(self, plan, request, env, out);
        // Children come after their parents, which hear of them first.
        for at in (0..run.plan.frames.len()).rev() {
            let frame = &run.plan.frames[at];
            let (node, place) = (frame.node, frame.place);
            // What never had to do with the answer doesn't end with it.
            if frame.settled || frame.background {
                continue;
            }
            if let Some(settled) = self.node(node).abandoned(&mut run, at) {
                run.plan.frames[at].settled = true;
                run.climb(place, settled);
            }
        }
    }
}
