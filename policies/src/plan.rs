//! A request's plan: which tries are under way and which replies are worth keeping, as the route tree decides; and the
//! interpreter that walks the tree.
//!
//! ```text
//!  begin ──► start(root) ──► selectors: resolved on the way down, no trace
//!                      └───► joins: a Frame, which starts its children and notes the best outcome so far
//!                                └──► servers: a try, which remembers the frame it stands in
//!  resume ─► try ──► its frame ──► parent frame ──► ... ──► the answer
//!  wake ───────────► a frame  ──► parent frame ──► ... ──► the answer
//!                      each frame says: wait (perhaps after starting a child), or settled, and with what
//! ```
//!
//! Owns the order of events. Never does I/O, reads a clock, or allocates after warm-up: a plan is a few small vectors
//! that are cleared and used again.
//!
//! Invariants: tries and frames of a plan are bounded (`MAX_TRIES`, `MAX_FRAMES`); only joins have frames; a settled
//! frame never changes again; the answer is decided once. What is under way after that goes on only for its effect.

use crate::Failure;
use crate::notes::Held;
use crate::pieces::Piece;
use crate::request::{Action, Answer, Dispatch, Env, HealthView, Reported, RequestView, Step, TryId, Verdict, Wake};
use crate::routes::explain::Trace;
use crate::routes::walk::Walking;
use crate::routes::{NodeId, NodeState, Routes, ServerId, operation_selector};
use crate::variant::{Kept, KeptItem, Variant, VariantId};
use keyway_protocol::{Operation, OperationClass};
use smallvec::SmallVec;

mod abandon;
mod frames;
mod settled;

pub(crate) use settled::Settled;
pub use settled::{LocalReply, null_reply};

/// Most tries of one request.
pub const MAX_TRIES: usize = 16_384;
/// Most joins under way for one request.
pub const MAX_FRAMES: usize = 16_384;

/// The state of one routed request.
#[derive(Debug, Default)]
pub struct Plan {
    /// Inline for the common few, so that routing touches no other memory.
    pub(crate) tries: SmallVec<[Try; 4]>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) variants: Vec<Variant>,
    pub(crate) kept: Vec<Kept>,
    pub(crate) composed: Option<KeptItem>,
    pub(crate) held: Vec<Held>,
    pub(crate) marks: Vec<u64>,
    pub(crate) walks: Vec<Walking>,
    pub(crate) pieces: Vec<Piece>,
    /// Frames and keys of the variants, replies kept.
    pub(crate) bytes: Vec<u8>,
    pub(crate) scratch: Vec<u8>,
    pub(crate) frame_scratch: Vec<u8>,
    decided: bool,
    /// Something was started that nobody waits for.
    has_background: bool,
}

/// Buffers of a plan that have grown beyond this, in bytes, are given back when it is cleared.
const SMALL_BYTES: usize = 16 * 1024;

impl Plan {
    /// Forgets everything, keeping memory for the next request.
    pub fn clear(&mut self) {
        self.tries.clear();
        self.frames.clear();
        self.held.clear();
        self.marks.clear();
        self.walks.clear();
        self.decided = false;
        self.has_background = false;
        // What few requests need is only looked at when it was used.
        if self.variants.is_empty() && self.kept.is_empty() && self.bytes.is_empty() {
            return;
        }
        self.variants.clear();
        self.kept.clear();
        self.composed = None;
        self.pieces.clear();
        for buffer in [&mut self.bytes, &mut self.scratch, &mut self.frame_scratch] {
            buffer.clear();
            if buffer.capacity() > SMALL_BYTES {
                *buffer = Vec::new();
            }
        }
    }

    /// True while the reply of `try_id` may still become the answer.
    pub fn holds(&self, try_id: TryId) -> bool {
        let held = Answer::Try(try_id);
        let is_best = |frame: &Frame| frame.best.is_some_and(|best| best.settled.answer == held);
        !self.decided
            && (self.frames.iter().any(|frame| is_best(frame) && self.is_awaited(frame)) || self.is_held(held))
    }

    /// True while a frame and all it stands in are unsettled.
    pub(crate) fn is_awaited(&self, frame: &Frame) -> bool {
        let mut frame = frame;
        while !frame.settled {
            match frame.place.to() {
                To::Answer => return true,
                To::Nobody => return false,
                To::Frame(parent) => frame = &self.frames[parent],
            }
        }
        false
    }

    /// True when the plan is as `clear` leaves it.
    fn is_clear(&self) -> bool {
        self.tries.is_empty() && self.frames.is_empty() && !self.decided
    }
}

impl Routes {
    /// Starts `plan` (which must be clear) for a request. Actions are appended to `out`.
    pub fn begin(&self, plan: &mut Plan, request: &RequestView<'_>, env: Env<'_>, out: &mut Vec<Action>) -> Step {
        assert!(plan.is_clear(), "a plan serves one request at a time");
        let mut run = Run::new(self, plan, request, env, out);
        match run.enter() {
            Some(answer) => {
                plan.decided = true;
                Step::Answer(answer)
            }
            None => Step::Wait,
        }
    }

    /// Takes the outcome of one try. What is reported a second time changes nothing.
    pub fn resume(
        &self,
        plan: &mut Plan,
        request: &RequestView<'_>,
        env: Env<'_>,
        try_id: TryId,
        reported: &Reported<'_>,
        out: &mut Vec<Action>,
    ) -> Verdict {
        let tried = &mut plan.tries[usize::from(try_id.0)];
        if tried.over {
            return Verdict { step: Step::Wait, kept: false };
        }
        tried.over = true;
        let place = tried.place;
        let settled = Settled::from_try(try_id, reported.outcome);
        let mut run = Run::new(self, &mut *plan, request, env, out);
        run.reported = Some((try_id, reported));
        let root = run.climb(place, settled);
        let step = plan.decide(root);
        let kept = plan.holds(try_id);
        if kept {
            plan.keep(try_id, reported);
        }
        Verdict { step, kept }
    }

    /// Comes back to a frame that asked for it. One that is settled by now isn't there for it any more.
    pub fn wake(
        &self,
        plan: &mut Plan,
        request: &RequestView<'_>,
        env: Env<'_>,
        frame: u16,
        out: &mut Vec<Action>,
    ) -> Step {
        let at = usize::from(frame);
        let Some(woken) = plan.frames.get(at).filter(|frame| !frame.settled) else { return Step::Wait };
        let (node, place) = (woken.node, woken.place);
        let mut run = Run::new(self, &mut *plan, request, env, out);
        run.frozen = run.plan.decided && !self.is_wanted(run.plan, &run.plan.frames[at], request.operation);
        let Some(settled) = self.node(node).woken(&mut run, at) else { return Step::Wait };
        run.frame(at).settled = true;
        let root = run.climb(place, settled);
        plan.decide(root)
    }

    /// True when a later outcome may lead to further dispatches, so that the caller must keep the request's bytes.
    pub fn may_dispatch_again(&self, plan: &Plan, operation: Operation) -> bool {
        plan.frames.iter().any(|frame| {
            !frame.settled
                && (!plan.decided || self.is_wanted(plan, frame, operation))
                && self.node(frame.node).may_start_more(frame, self.children(frame.node).len())
        })
    }

    /// True when a plan is to be told further outcomes though nobody waits for its answer any more: something goes on
    /// for its effect, or counts.
    pub fn lingers(&self, plan: &Plan, operation: Operation) -> bool {
        (self.may_linger() || plan.has_background)
            && plan.frames.iter().any(|frame| !frame.settled && self.is_wanted(plan, frame, operation))
    }

    /// True for a frame of a decided plan that goes on: for its effect, or because it never had to do with the answer.
    fn is_wanted(&self, plan: &Plan, frame: &Frame, asked: Operation) -> bool {
        frame.background || self.node(frame.node).lingers(plan.operation_of(frame.variant, asked))
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

impl Plan {
    /// Takes what came out of the tree; only the first time does it count.
    fn decide(&mut self, root: Option<Settled>) -> Step {
        match root {
            Some(settled) if !self.decided => {
                self.decided = true;
                Step::Answer(settled.answer)
            }
            Some(_) | None => Step::Wait,
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
    pub(crate) env: Env<'a>,
    pub(crate) out: &'a mut Vec<Action>,
    /// The reply at hand.
    pub(crate) reported: Option<(TryId, &'a Reported<'a>)>,
    /// Nothing may be started: children count as such that can't be used.
    pub(crate) frozen: bool,
    /// Where `explain` looks on.
    pub(crate) trace: Option<&'a mut Trace>,
}

/// What starting a node came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// Something is under way.
    Waiting,
    /// It is over already.
    Settled(Settled),
    /// Nothing below can be used now, nothing was dispatched and no trace is left: a parent may take another child,
    /// the root answers this.
    Unusable(LocalReply),
}

/// Where a node is started: which one, what becomes of its outcome, and in which form the request reaches it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) node: NodeId,
    pub(crate) place: Place,
    pub(crate) variant: VariantId,
}

impl Seat {
    pub(crate) fn with_variant(self, variant: VariantId) -> Seat {
        Seat { variant, ..self }
    }
}

impl Run<'_> {
    /// Starts the tree; the answer, when it is decided on the spot.
    pub(crate) fn enter(&mut self) -> Option<Answer> {
        let started = match self.routes.entry(self.request.operation) {
            Entry::Node(node) => self.start(node, Place::ANSWER, VariantId::ASKED),
            Entry::Router => {
                self.note_router();
                Started::Unusable(LocalReply::Router)
            }
        };
        match started {
            Started::Waiting => None,
            Started::Settled(settled) => Some(settled.answer),
            Started::Unusable(reply) => Some(Answer::Local(reply)),
        }
    }

    /// Starts a node whose outcome goes to `place`. Recursion is bounded by the depth the builder allows.
    pub(crate) fn start(&mut self, node: NodeId, place: Place, variant: VariantId) -> Started {
        let seat = Seat { node, place, variant };
        if self.frozen {
            return Started::Unusable(LocalReply::NoHealthyServer);
        }
        if self.trace.is_some() {
            return self.start_traced(seat);
        }
        let routes = self.routes;
        routes.node(node).start(self, seat)
    }

    /// Starts the child of a selector in the selector's own place.
    pub(crate) fn pass(&mut self, seat: Seat, child: usize) -> Started {
        let routes = self.routes;
        self.start(routes.children(seat.node)[child], seat.place, seat.variant)
    }

    /// Starts a child of the frame at `at` with the frame's own form of the request.
    pub(crate) fn start_child(&mut self, at: usize, child: usize) -> Started {
        let variant = self.frame(at).variant;
        self.start_child_as(at, child, variant)
    }

    /// Starts a child of the frame at `at` with that form of the request.
    pub(crate) fn start_child_as(&mut self, at: usize, child: usize, variant: VariantId) -> Started {
        let routes = self.routes;
        let node = self.frame(at).node;
        self.start(routes.children(node)[child], Place::new(at, child), variant)
    }

    /// Starts a child for its effect alone: nobody waits for its outcome. False when it can't be used.
    pub(crate) fn background(&mut self, parent: NodeId, child: usize, variant: VariantId) -> bool {
        let routes = self.routes;
        let started = self.start(routes.children(parent)[child], Place::NOBODY, variant);
        !matches!(started, Started::Unusable(_))
    }

    /// Sends a form of the request to a server.
    #[inline]
    pub(crate) fn dispatch(&mut self, server: ServerId, seat: Seat) -> Started {
        match self.add_try(seat) {
            Some(try_id) => {
                self.out.push(Action::Send(Dispatch { try_id, server }));
                Started::Waiting
            }
            None => Started::Unusable(LocalReply::Failed(Failure::NotReplayable)),
        }
    }

    /// Writes a form of the request to the async log of a server.
    pub(crate) fn spool(&mut self, server: ServerId, seat: Seat) -> Started {
        match self.add_try(seat) {
            Some(try_id) => {
                self.out.push(Action::Spool(Dispatch { try_id, server }));
                Started::Waiting
            }
            None => Started::Unusable(LocalReply::Failed(Failure::NotReplayable)),
        }
    }

    #[inline]
    fn add_try(&mut self, seat: Seat) -> Option<TryId> {
        let number = self.plan.tries.len();
        if number >= MAX_TRIES {
            return None;
        }
        self.plan.tries.push(Try { place: seat.place, variant: seat.variant, over: false });
        Some(TryId(number as u16))
    }

    /// Opens a frame for a join. The caller starts the children, then calls `close_or_wait`.
    pub(crate) fn open(&mut self, seat: Seat) -> usize {
        let at = self.plan.frames.len();
        assert!(at < MAX_FRAMES, "the builder's bounds keep frames below this");
        let background = match seat.place.to() {
            To::Answer => false,
            To::Nobody => true,
            To::Frame(parent) => self.plan.frames[parent].background,
        };
        self.plan.has_background |= background;
        self.plan.frames.push(Frame {
            node: seat.node,
            place: seat.place,
            background,
            variant: seat.variant,
            next: 0,
            outstanding: 0,
            best: None,
            settled: false,
            actions_before: self.out.len(),
            words: [0; 2],
        });
        at
    }

    /// Ends the start of the join at `at`: `over` when it waits for nothing more.
    pub(crate) fn close_or_wait(&mut self, at: usize, over: bool) -> Started {
        if !over {
            return Started::Waiting;
        }
        let acted = self.out.len() > self.plan.frames[at].actions_before;
        let operation = self.operation(self.plan.frames[at].variant);
        let frame = &mut self.plan.frames[at];
        frame.settled = true;
        match frame.best {
            Some(best) => Started::Settled(best.settled),
            // Something goes on for its effect, so this can't be taken back.
            None if acted => Started::Settled(Settled::from_local(LocalReply::NoHealthyServer, operation)),
            None => {
                // No child could be used. Their own frames are gone by now, so this one is the last.
                debug_assert_eq!(at + 1, self.plan.frames.len());
                self.plan.frames.truncate(at);
                Started::Unusable(LocalReply::NoHealthyServer)
            }
        }
    }

    /// Settles the frame at `at` while it is being started.
    pub(crate) fn close(&mut self, at: usize, settled: Settled) -> Started {
        self.plan.frames[at].settled = true;
        Started::Settled(settled)
    }

    pub(crate) fn frame(&mut self, at: usize) -> &mut Frame {
        &mut self.plan.frames[at]
    }

    /// What a node remembers on this shard.
    pub(crate) fn state(&mut self, node: NodeId) -> &mut NodeState {
        self.env.state.of(node)
    }

    /// Names this router among others.
    pub(crate) fn host_id(&self) -> u64 {
        self.env.state.host_id()
    }

    /// 64 random bits.
    pub(crate) fn random(&mut self) -> u64 {
        self.env.state.random()
    }

    /// Which servers take requests.
    pub(crate) fn health(&self) -> HealthView<'_> {
        self.env.health
    }

    /// Asks to be woken at a time.
    pub(crate) fn wake_at(&mut self, frame: usize, at: u64) {
        self.out.push(Action::Wake(Wake { request: self.env.request, frame: frame as u16, at }));
    }

    /// What came out of a child that could not be used or is over, as its parent counts it.
    pub(crate) fn settled(&self, reply: LocalReply, variant: VariantId) -> Settled {
        Settled::from_local(reply, self.operation(variant))
    }

    /// Hands an outcome up from frame to frame; what comes out of the tree.
    fn climb(&mut self, mut place: Place, mut settled: Settled) -> Option<Settled> {
        loop {
            let at = match place.to() {
                To::Answer => return Some(settled),
                To::Nobody => return None,
                To::Frame(at) => at,
            };
            let frame = &self.plan.frames[at];
            if frame.settled {
                return None;
            }
            let (node, parent) = (frame.node, frame.place);
            let routes = self.routes;
            // What was answered goes on only for its effect. A frame that has none left starts nothing more, but it still
            // settles: what stands above may go on, or count it.
            self.frozen = self.plan.decided && !routes.is_wanted(self.plan, frame, self.request.operation);
            settled = routes.node(node).child_settled(self, at, place.child, settled)?;
            self.plan.frames[at].settled = true;
            place = parent;
        }
    }
}

/// One dispatched try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try {
    place: Place,
    pub(crate) variant: VariantId,
    /// Its outcome was reported.
    over: bool,
}

/// Where an outcome goes: to a child's seat in a frame, out of the tree, or to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    frame: u16,
    child: u16,
}

/// A place, taken apart.
enum To {
    Answer,
    Nobody,
    Frame(usize),
}

impl Place {
    /// Out of the tree: the outcome is the answer. `MAX_FRAMES` is well below these numbers.
    pub(crate) const ANSWER: Place = Place { frame: u16::MAX, child: 0 };
    /// Nowhere: what goes on for its effect.
    pub(crate) const NOBODY: Place = Place { frame: u16::MAX - 1, child: 0 };

    pub(crate) fn new(frame: usize, child: usize) -> Place {
        Place { frame: frame as u16, child: child as u16 }
    }

    fn to(self) -> To {
        if self.frame == Place::ANSWER.frame {
            To::Answer
        } else if self.frame == Place::NOBODY.frame {
            To::Nobody
        } else {
            To::Frame(usize::from(self.frame))
        }
    }
}

/// A join under way.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) node: NodeId,
    /// Where its outcome goes.
    place: Place,
    /// It stands in what nobody waits for, so it goes on whatever becomes of the answer.
    background: bool,
    /// In which form the request reached it.
    pub(crate) variant: VariantId,
    /// The first child not started yet.
    pub(crate) next: usize,
    /// Children under way.
    pub(crate) outstanding: usize,
    /// The outcome that is its own if nothing better comes.
    pub(crate) best: Option<Best>,
    settled: bool,
    /// Actions there were when it was opened.
    actions_before: usize,
    /// For the route's own use.
    pub(crate) words: [u64; 2],
}

/// A child's outcome that may become the frame's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Best {
    pub(crate) settled: Settled,
    pub(crate) child: u16,
}
