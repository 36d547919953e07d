//! A request's plan: which tries are under way and which replies are worth keeping, as the route tree decides; and the
//! interpreter that walks the tree.
//!
//! ```text
//!  begin ──► start(root) ──► selectors: resolved on the way down, no trace
//!                      └───► joins: a Frame, which starts its children and notes the best outcome so far
//!                                └──► servers: a try, which remembers the frame it stands in
//!  resume ─► try ──► its frame ──► parent frame ──► ... ──► the answer
//!                      each frame says: wait (perhaps after starting its next child), or settled, and with what
//! ```
//!
//! Owns the order of events. Never does I/O, reads a clock, or allocates after warm-up: a plan is two small vectors
//! that are cleared and used again. Never looks at a reply but through `OutcomeClass`.
//!
//! Invariants: a node starts at most once per plan and path, so tries and frames are bounded by what the builder let
//! through; only joins have frames; a settled frame never changes again; the answer is decided once.

use crate::outcome::OutcomeClass;
use crate::routes::{RouteNode, all_fastest, default, local, miss_failover, operation_selector};
use crate::{Failure, NodeId, Outcome, Routes, ServerId};
use keyway_protocol::{Operation, OperationClass};
use smallvec::SmallVec;

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
pub struct Plan {
    /// Inline for the common few, so that routing touches no other memory.
    tries: SmallVec<[Try; 4]>,
    frames: Vec<Frame>,
    decided: bool,
}

impl Plan {
    /// Forgets everything, keeping memory for the next request.
    pub fn clear(&mut self) {
        self.tries.clear();
        self.frames.clear();
        self.decided = false;
    }

    /// True while the kept reply of `try_id` may still become the answer.
    pub fn holds(&self, try_id: TryId) -> bool {
        let held = Answer::Try(try_id);
        !self.decided
            && self
                .frames
                .iter()
                .any(|frame| !frame.settled && frame.best.is_some_and(|best| best.settled.answer == held))
    }

    /// True when the plan is as `clear` leaves it.
    fn is_clear(&self) -> bool {
        self.tries.is_empty() && self.frames.is_empty() && !self.decided
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

impl Routes {
    /// Starts `plan` (which must be clear) for a request. Dispatches are appended to `out`.
    pub fn begin(
        &self,
        plan: &mut Plan,
        request: RequestView<'_>,
        health: HealthView<'_>,
        out: &mut Vec<Dispatch>,
    ) -> Step {
        assert!(plan.is_clear(), "a plan serves one request at a time");
        let started = match self.entry(request.operation) {
            Entry::Node(node) => Run { routes: self, plan, request: &request, health, out }.start(node, Place::ROOT),
            Entry::Router => Started::Unusable(LocalReply::Router),
        };
        let answer = match started {
            Started::Waiting => return Step::Wait,
            Started::Settled(settled) => settled.answer,
            Started::Unusable(reply) => Answer::Local(reply),
        };
        plan.decided = true;
        Step::Answer(answer)
    }

    /// Takes the outcome of one try. What is reported after the answer, or a second time, changes nothing.
    pub fn resume(
        &self,
        plan: &mut Plan,
        request: RequestView<'_>,
        health: HealthView<'_>,
        try_id: TryId,
        outcome: Outcome,
        out: &mut Vec<Dispatch>,
    ) -> Verdict {
        let reported = &mut plan.tries[usize::from(try_id.0)];
        if plan.decided || reported.over {
            return Verdict { step: Step::Wait, keep: false };
        }
        reported.over = true;
        let mut place = reported.place;
        let mut settled = Settled::from_try(try_id, outcome);
        while let Some(at) = place.frame() {
            let frame = &plan.frames[at];
            let (join, parent) = (frame.join, frame.place);
            if frame.settled {
                return Verdict { step: Step::Wait, keep: false };
            }
            let mut run = Run { routes: self, plan: &mut *plan, request: &request, health, out: &mut *out };
            let decision = match join {
                Join::AllFastest => all_fastest::child_settled(&mut run, at, place.child, settled),
                Join::MissFailover => miss_failover::child_settled(&mut run, at, place.child, settled),
            };
            let Some(frame_settled) = decision else {
                return Verdict { step: Step::Wait, keep: plan.holds(try_id) };
            };
            plan.frames[at].settled = true;
            (place, settled) = (parent, frame_settled);
        }
        plan.decided = true;
        Verdict { step: Step::Answer(settled.answer), keep: false }
    }

    /// True when a later outcome may lead to further dispatches, so that the caller must keep the request's bytes.
    pub fn may_dispatch_again(&self, plan: &Plan) -> bool {
        !plan.decided
            && plan.frames.iter().any(|frame| match frame.join {
                Join::AllFastest => false,
                Join::MissFailover => !frame.settled && frame.next < self.children(frame.node).len(),
            })
    }

    /// Where an operation enters the tree. What has no key to route by is the router's to answer, unless the tree
    /// names it; `quit` always is, since a server that is told to quit closes a connection others wait on.
    pub(crate) fn entry(&self, operation: Operation) -> Entry {
        match operation {
            Operation::FlushAll => Entry::Node(self.root()),
            Operation::Quit => Entry::Router,
            other => match other.class() {
                OperationClass::Control => operation_selector::explicit(self, other).map_or(Entry::Router, Entry::Node),
                OperationClass::GetLike
                | OperationClass::UpdateLike
                | OperationClass::DeleteLike
                | OperationClass::ArithmeticLike
                | OperationClass::TouchLike => Entry::Node(self.root()),
            },
        }
    }
}

/// Where an operation enters the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Node(NodeId),
    /// Nowhere: the router answers.
    Router,
}

/// A walk through the tree on behalf of one request.
pub(crate) struct Run<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) plan: &'a mut Plan,
    pub(crate) request: &'a RequestView<'a>,
    pub(crate) health: HealthView<'a>,
    pub(crate) out: &'a mut Vec<Dispatch>,
}

/// What starting a node came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// A try at least is under way.
    Waiting,
    /// It is over already.
    Settled(Settled),
    /// Nothing below can be used now, nothing was dispatched and no trace is left: a parent may take another child,
    /// the root answers this.
    Unusable(LocalReply),
}

impl Run<'_> {
    /// Starts a node whose outcome goes to `place`. Recursion is bounded by the depth the builder allows.
    pub(crate) fn start(&mut self, mut node: NodeId, place: Place) -> Started {
        let routes = self.routes;
        loop {
            return match routes.node(node) {
                RouteNode::Server(server) if self.health.is_up(*server) => self.dispatch(*server, place),
                RouteNode::Server(_) => Started::Unusable(LocalReply::NoHealthyServer),
                RouteNode::OperationSelector { policies, default } => {
                    node = operation_selector::select(policies, *default, self.request.operation);
                    continue;
                }
                RouteNode::AllFastest(children) => all_fastest::start(self, node, children, place),
                RouteNode::MissFailover(_) => miss_failover::start(self, node, place),
                RouteNode::Default(children) => default::start(self, children, place),
                RouteNode::Local => Started::Settled(Settled::from_local(local::reply(self.request.operation))),
                RouteNode::Pool(pool) => match pool.server(self.request.key, self.health) {
                    Ok(server) => self.dispatch(server, place),
                    Err(reply) => Started::Unusable(reply),
                },
            };
        }
    }

    #[inline]
    fn dispatch(&mut self, server: ServerId, place: Place) -> Started {
        let try_id = TryId(self.plan.tries.len() as u16);
        self.plan.tries.push(Try { place, over: false });
        self.out.push(Dispatch { try_id, server });
        Started::Waiting
    }

    /// Opens a frame for a join. The caller starts the children, then calls `close_or_wait`.
    pub(crate) fn open(&mut self, join: Join, node: NodeId, place: Place) -> usize {
        let at = self.plan.frames.len();
        self.plan.frames.push(Frame { join, node, place, next: 0, outstanding: 0, best: None, settled: false });
        at
    }

    /// Ends the start of the join at `at`: `over` when it waits for nothing more.
    pub(crate) fn close_or_wait(&mut self, at: usize, over: bool) -> Started {
        if !over {
            return Started::Waiting;
        }
        let frame = &mut self.plan.frames[at];
        frame.settled = true;
        if let Some(best) = frame.best {
            return Started::Settled(best.settled);
        }
        // No child could be used. Their own frames are gone by now, so this one is the last.
        debug_assert_eq!(at + 1, self.plan.frames.len());
        self.plan.frames.truncate(at);
        Started::Unusable(LocalReply::NoHealthyServer)
    }

    pub(crate) fn frame(&mut self, at: usize) -> &mut Frame {
        &mut self.plan.frames[at]
    }
}

/// One dispatched try.
#[derive(Clone, Copy, Debug)]
struct Try {
    place: Place,
    /// Its outcome was reported.
    over: bool,
}

/// Where an outcome goes: to a child's seat in a frame, or out of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    frame: u16,
    child: u16,
}

impl Place {
    /// Out of the tree: the outcome is the answer. The builder's bound keeps frames well below this number.
    const ROOT: Place = Place { frame: u16::MAX, child: 0 };

    pub(crate) fn new(frame: usize, child: usize) -> Place {
        Place { frame: frame as u16, child: child as u16 }
    }

    fn frame(self) -> Option<usize> {
        (self.frame != Place::ROOT.frame).then_some(usize::from(self.frame))
    }
}

/// The joins: the routes that have frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    AllFastest,
    MissFailover,
}

/// A join under way.
#[derive(Debug)]
pub(crate) struct Frame {
    join: Join,
    pub(crate) node: NodeId,
    /// Where its outcome goes.
    place: Place,
    /// The first child not started yet.
    pub(crate) next: usize,
    /// Children under way.
    pub(crate) outstanding: usize,
    /// The outcome that is its own if nothing better comes.
    pub(crate) best: Option<Best>,
    settled: bool,
}

/// A child's outcome that may become the frame's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Best {
    pub(crate) settled: Settled,
    pub(crate) child: u16,
}

/// The outcome of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) answer: Answer,
    pub(crate) class: OutcomeClass,
}

impl Settled {
    fn from_try(try_id: TryId, outcome: Outcome) -> Settled {
        let answer = match outcome {
            Outcome::Reply(_) => Answer::Try(try_id),
            Outcome::Failure(failure) => Answer::Local(LocalReply::Failed(failure)),
        };
        Settled { answer, class: outcome.class() }
    }

    fn from_local(reply: LocalReply) -> Settled {
        let class = match reply {
            LocalReply::Router => OutcomeClass::Success,
            LocalReply::NotLocal => OutcomeClass::Error,
            LocalReply::NoHealthyServer | LocalReply::Failed(_) => OutcomeClass::Lost,
        };
        Settled { answer: Answer::Local(reply), class }
    }

    /// True when this is a failure after which no further try can be made.
    pub(crate) fn ends_tries(self) -> bool {
        match self.answer {
            Answer::Local(LocalReply::Failed(failure)) => failure.ends_tries(),
            Answer::Local(LocalReply::Router | LocalReply::NotLocal | LocalReply::NoHealthyServer) | Answer::Try(_) => {
                false
            }
        }
    }
}
