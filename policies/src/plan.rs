//! A request's plan: which tries are under way and which replies are worth keeping, as the route tree decides.
//!
//! A plan is a few small vectors that are cleared and used again, so that routing allocates nothing after warm-up.

use crate::{Failure, Outcome, ServerId};
use keyway_protocol::Operation;

/// What routes may see of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// What is asked.
    pub operation: Operation,
    /// The key; empty for control operations.
    pub key: &'a [u8],
}

/// One try within a plan, counted from 0 in the order dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TryId(pub u16);

/// "Send the request to this server."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Names the try when its outcome is reported.
    pub try_id: TryId,
    /// Where to.
    pub server: ServerId,
}

/// What the request gets as its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The reply of this try: the one just reported, or one that was kept.
    Try(TryId),
    /// No server's reply: made by the router.
    Local(LocalReply),
}

/// A reply the router makes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalReply {
    /// LocalRoute: what the router says to this operation (version, verbosity, stats, quit).
    Router,
    /// LocalRoute was asked for an operation it can't answer.
    NotLocal,
    /// Every server the route could use is down.
    NoHealthyServer,
    /// All tries failed on the way; the failure is the one to name.
    Failed(Failure),
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Carry out the dispatches (there may be none) and wait for outcomes.
    Wait,
    /// The request is decided. Outcomes that come later are of no interest; dispatches made in this step are still
    /// carried out (a policy may want them for their effect).
    Answer(Answer),
}

/// The decision on one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do now.
    pub step: Step,
    /// True when the reply just reported may be the answer later: keep a copy until `Plan::holds` says otherwise.
    pub keep: bool,
}

/// The state of one routed request.
#[derive(Debug, Default)]
pub struct Plan {}

impl Plan {
    /// Forgets everything, keeping memory for the next request.
    pub fn clear(&mut self) {}

    /// True while the kept reply of `try_id` may still become the answer.
    pub fn holds(&self, try_id: TryId) -> bool {
        let _ = try_id;
        false
    }
}

/// Which servers take requests now, as the shard sees it. Indexed by `ServerId`.
#[derive(Clone, Copy, Debug)]
pub struct HealthView<'a>(pub &'a [bool]);

impl HealthView<'_> {
    /// True when requests may be sent to `server`.
    pub fn is_up(&self, server: ServerId) -> bool {
        self.0[server.0 as usize]
    }
}

impl crate::Routes {
    /// Starts `plan` (which must be clear) for a request. Dispatches are appended to `out`.
    pub fn begin(
        &self,
        plan: &mut Plan,
        request: RequestView<'_>,
        health: HealthView<'_>,
        out: &mut Vec<Dispatch>,
    ) -> Step {
        let _ = (plan, request, health, out);
        Step::Wait
    }

    /// Takes the outcome of one try.
    pub fn resume(
        &self,
        plan: &mut Plan,
        request: RequestView<'_>,
        health: HealthView<'_>,
        try_id: TryId,
        outcome: Outcome,
        out: &mut Vec<Dispatch>,
    ) -> Verdict {
        let _ = (plan, request, health, try_id, outcome, out);
        Verdict { step: Step::Wait, keep: false }
    }

    /// True when a later outcome may lead to further dispatches, so that the caller must keep the request's bytes.
    pub fn may_dispatch_again(&self, plan: &Plan) -> bool {
        let _ = plan;
        false
    }
}
