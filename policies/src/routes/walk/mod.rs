//! Children one after the other until one brings what is hoped for: what the failover routes have in common.
//!
//! ```text
//!            ┌─ misses or errors, as the rule says ─┐  ┌─ the same, if the budget has a token ─┐
//! request ──► a                                     └─► b                                      └─► c ──► ...
//!            └── anything else: the answer             └── the answer, and perhaps an `add` to a in the background
//! ```
//!
//! Owns the walk: which child comes next (`order`), in which form it is asked (`gutter`, `backfill`), when a second one
//! is asked beside the first (`hedge`), and what all that may cost (`budget`). A child is looked at when its turn comes:
//! one that is down by then is passed over for nothing, one that has come up is used.
//!
//! Invariants: each child is asked once, with a back-fill up to three times; at most two are under way at a time; a
//! failure after which no try can be made ends the walk, and is the answer only when there is nothing else.

mod backfill;
mod budget;
mod errors;
pub(crate) mod gutter;
mod hedge;
mod order;

pub use budget::Budget;
pub use errors::ErrorSet;
pub use hedge::Hedge;
pub use order::{By, ByKey, Latest, Order};

use super::{NodeId, NodeState, RouteStates};
use crate::notes::Marks;
use crate::outcome::OutcomeClass;
use crate::plan::{Best, Frame, Run, Seat, Settled, Started};
use crate::reply::ByOperation;
use crate::variant::VariantId;
use crate::{Failure, Outcome};
use budget::Tokens;
use hedge::Latency;
use keyway_protocol::{Operation, OperationClass};

/// The settings of a walk.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// What is passed over, and what is answered when nothing else comes.
    pub rules: ByOperation<Rule>,
    /// Which child comes next.
    pub order: Order,
    /// How many further tries there may be; without a limit when there is none.
    pub budget: Option<Budget>,
    /// Children after the first get `:failover=1` behind keys with a hash stop.
    pub tag: bool,
    /// Children after the first keep nothing longer than so many seconds.
    pub gutter_exptime: Option<u32>,
    /// A hit is added to the children before it that missed.
    pub backfill: bool,
    /// When a second child is asked beside the first.
    pub hedge: Option<Hedge>,
}

/// When a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Errors and failures that are passed over.
    pub errors: ErrorSet,
    /// Misses are passed over too.
    pub misses: bool,
    /// Nothing is passed over: it is the first child that can be used or none.
    pub first_only: bool,
    /// What is answered when nothing but what was passed over came.
    pub otherwise: Otherwise,
}

/// Which of the outcomes passed over is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// The last: mcrouter's rule.
    Last,
    /// The last miss, else the last error, else the last failure: a definite answer beats a later error.
    LastOfBest,
    /// The least severe; of equals, the first.
    Best,
    /// The most severe; of equals, the first.
    Worst,
}

impl Rule {
    /// FailoverRoute's: on from errors and failures, not from misses.
    pub const FAILOVER: Rule =
        Rule { errors: ErrorSet::FAILOVER, misses: false, first_only: false, otherwise: Otherwise::Last };
    /// MissFailoverRoute's: on from all but success.
    pub const MISS_FAILOVER: Rule =
        Rule { errors: ErrorSet::ALL, misses: true, first_only: false, otherwise: Otherwise::LastOfBest };

    /// True when an outcome is passed over.
    fn passes(self, outcome: Outcome) -> bool {
        !self.first_only
            && match outcome.class() {
                OutcomeClass::Success => false,
                OutcomeClass::Miss => self.misses,
                OutcomeClass::Error | OutcomeClass::Lost => self.errors.contains(outcome),
            }
    }
}

/// What a walk notes of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walking {
    /// When the first child was asked.
    started: u64,
    /// Children that were asked.
    tries: u16,
    /// Those of them that failed and weren't down.
    error_tries: u16,
    /// Draws made for the next child.
    draws: u32,
    /// The first of them.
    first: u16,
    /// The one asked beside it.
    hedge: Option<u16>,
    /// The one that was asked for more than the request says.
    meta: Option<u16>,
    /// The form for children after the first, once it was made.
    later: Option<VariantId>,
    /// A miss that would be the answer, but for a child asked earlier that may still have a hit.
    found: bool,
    /// Children that were looked at; only kept where they don't come in order.
    looked: Marks,
    /// Children that missed; only kept for a back-fill.
    missed: Marks,
    any_missed: bool,
}

/// `Frame::words`: which of the plan's walks it is.
const WALK: usize = 0;

/// What a walk remembers on a shard.
#[derive(Debug)]
pub struct WalkState {
    tokens: Tokens,
    latency: Option<Box<Latency>>,
    /// Failures in a row, for each child; only kept where the order goes by them.
    failures: Box<[u32]>,
    /// The children LatestRoute has settled on.
    chosen: Vec<u16>,
    counts: WalkCounts,
}

/// What the walks of a shard came to, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkCounts {
    /// Children asked because of an error or failure of one before.
    pub failovers: u64,
    /// Children not asked because the retry budget was used up.
    pub limited: u64,
    /// Second children asked because the first was slow.
    pub hedges: u64,
    /// Hedges that brought the answer.
    pub hedge_wins: u64,
    /// Items added to children that missed.
    pub backfills: u64,
}

impl RouteStates {
    /// What all walks of the tree came to.
    pub fn walk_counts(&self) -> WalkCounts {
        let mut sum = WalkCounts::default();
        for node in &self.nodes {
            if let NodeState::Walk(state) = node {
                let counts = state.counts;
                sum.failovers += counts.failovers;
                sum.limited += counts.limited;
                sum.hedges += counts.hedges;
                sum.hedge_wins += counts.hedge_wins;
                sum.backfills += counts.backfills;
            }
        }
        sum
    }
}

/// What each of the routes is to the interpreter.
impl Walk {
    /// A walk in order, with the default budget and nothing else.
    pub fn new(rule: Rule) -> Walk {
        Walk {
            rules: ByOperation::same(rule),
            order: Order::InOrder,
            budget: Some(Budget::DEFAULT),
            tag: false,
            gutter_exptime: None,
            backfill: false,
            hedge: None,
        }
    }

    /// How often a child may be asked: once more where it doesn't know meta get, and once for a back-fill.
    pub(super) fn times_each(&self) -> usize {
        if self.backfill { 3 } else { 1 }
    }

    /// Starts the first usable child.
    pub(super) fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        let children = run.routes.children(seat.node).len();
        let number = run.plan.walks.len();
        let walking = Walking {
            started: run.env.now,
            tries: 0,
            error_tries: 0,
            draws: 0,
            first: 0,
            hedge: None,
            meta: None,
            later: None,
            found: false,
            looked: run.new_marks(if self.order.is_in_order() { 0 } else { children }),
            missed: run.new_marks(if self.backfill { children } else { 0 }),
            any_missed: false,
        };
        run.plan.walks.push(walking);
        run.frame(at).words[WALK] = number as u64;
        if let Some(budget) = self.budget {
            state(run, seat.node).tokens.feed(budget);
        }
        if self.advance(run, at, None) {
            self.plan_hedge(run, at);
            return Started::Waiting;
        }
        let started = run.close_or_wait(at, true);
        if let Started::Unusable(_) = started {
            run.plan.walks.truncate(number);
        }
        started
    }

    /// Takes the outcome of a child under way; the frame's own when that decides it.
    pub(super) fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        run.frame(at).outstanding -= 1;
        if self.asks_again(run, at, child, settled) {
            return None;
        }
        self.remember(run, at, child, settled);
        let counts = matches!(settled.outcome, Outcome::Reply(_) | Outcome::Failure(Failure::Timeout));
        if counts && walking(run, at).first == child {
            self.note_latency(run, at);
        }
        let rule = self.rule(run, at);
        let under_way = run.frame(at).outstanding > 0;
        let is_hit = settled.class() == OutcomeClass::Success;
        if !rule.passes(settled.outcome) {
            if is_hit || !under_way || walking(run, at).hedge != Some(child) {
                self.count_hedge(run, at, child, is_hit && under_way);
                self.fill_back(run, at, child, settled);
                return Some(settled);
            }
            // The child asked earlier may have what this one hasn't.
            walking(run, at).found = true;
            run.frame(at).best = Some(Best { settled, child });
            return None;
        }
        let found = walking(run, at).found;
        if !found {
            note(rule, run.frame(at), child, settled);
        }
        if under_way || (!found && self.advance(run, at, Some(settled))) {
            return None;
        }
        run.frame(at).best.map(|best| best.settled)
    }

    /// The first child is slow: asks a second one, if the budget has a token for it.
    pub(super) fn woken(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        let node = run.frame(at).node;
        if walking(run, at).tries != 1 || run.frame(at).outstanding != 1 || !self.may_pay(run, node) {
            return None;
        }
        while let Some(child) = self.next(run, at) {
            match self.ask(run, at, child) {
                Started::Waiting => {
                    run.frame(at).outstanding += 1;
                    walking(run, at).hedge = Some(child as u16);
                    let state = state(run, node);
                    state.counts.hedges += 1;
                    state.tokens.take();
                    return None;
                }
                Started::Settled(settled) if settled.class() == OutcomeClass::Success => return Some(settled),
                Started::Settled(_) | Started::Unusable(_) => {}
            }
        }
        None
    }

    /// With a back-fill the child under way may be asked a second time.
    pub(super) fn may_start_more(&self, frame: &Frame, children: usize) -> bool {
        frame.next < children || self.backfill
    }

    /// What it remembers on a shard, as it is at first.
    pub(super) fn state(&self, children: usize) -> NodeState {
        let failures = if self.order.goes_by_failures() { children } else { 0 };
        let chosen = if let Order::Latest(latest) = &self.order { usize::from(latest.count) } else { 0 };
        NodeState::Walk(Box::new(WalkState {
            tokens: Tokens::full(self.budget),
            latency: self.hedge.map(|_| Box::new(Latency::new())),
            failures: vec![0; failures].into(),
            chosen: Vec::with_capacity(chosen),
            counts: WalkCounts::default(),
        }))
    }
}

/// A write goes on to the next child also when the request was answered elsewhere.
pub(super) fn lingers(operation: Operation) -> bool {
    operation.class() != OperationClass::GetLike
}

impl Walk {
    fn rule(&self, run: &mut Run<'_>, at: usize) -> Rule {
        let variant = run.frame(at).variant;
        self.rules.of(run.operation(variant))
    }

    /// Starts children until one is under way; false when the walk is over. `cause` is what made it go on.
    fn advance(&self, run: &mut Run<'_>, at: usize, mut cause: Option<Settled>) -> bool {
        let (node, rule) = (run.frame(at).node, self.rule(run, at));
        loop {
            let costs = cause.is_some_and(|cause| is_paid(cause.outcome));
            if cause.is_some_and(Settled::ends_tries) {
                return false;
            }
            let Some(child) = self.next(run, at) else { return false };
            if costs && !self.may_pay(run, node) {
                return false;
            }
            let started = self.ask(run, at, child);
            if started == Started::Waiting {
                run.frame(at).outstanding += 1;
            }
            if costs && !matches!(started, Started::Unusable(_)) {
                let state = state(run, node);
                state.counts.failovers += 1;
                state.tokens.take();
            }
            match started {
                Started::Waiting => return true,
                Started::Settled(settled) => {
                    self.remember(run, at, child as u16, settled);
                    note(rule, run.frame(at), child as u16, settled);
                    if !rule.passes(settled.outcome) {
                        run.frame(at).best = Some(Best { settled, child: child as u16 });
                        return false;
                    }
                    cause = Some(settled);
                }
                Started::Unusable(_) => {}
            }
        }
    }

    /// Asks a child in the form that is meant for it.
    fn ask(&self, run: &mut Run<'_>, at: usize, child: usize) -> Started {
        let form = match self.form(run, at, child) {
            Ok(form) => form,
            Err(reply) => {
                let variant = run.frame(at).variant;
                return Started::Settled(run.settled(reply, variant));
            }
        };
        let started = run.start_child_as(at, child, form);
        if !matches!(started, Started::Unusable(_)) {
            let walking = walking(run, at);
            walking.tries += 1;
            if walking.tries == 1 {
                walking.first = child as u16;
            }
        }
        started
    }

    /// True when the budget has a token; counts when it hasn't.
    fn may_pay(&self, run: &mut Run<'_>, node: NodeId) -> bool {
        let state = state(run, node);
        let may = self.budget.is_none() || state.tokens.has_one();
        if !may {
            state.counts.limited += 1;
        }
        may
    }

    /// Asks to be woken when the first child is slow.
    fn plan_hedge(&self, run: &mut Run<'_>, at: usize) {
        let Frame { node, variant, next, .. } = *run.frame(at);
        let is_get = run.operation(variant) == Operation::Get;
        if self.hedge.is_none() || !is_get || next >= run.routes.children(node).len() {
            return;
        }
        let delay = state(run, node).latency.as_ref().and_then(|latency| latency.delay());
        if let Some(delay) = delay {
            let when = run.env.now + delay;
            run.wake_at(at, when);
        }
    }

    /// Notes what an outcome says of its child.
    fn remember(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) {
        let node = run.frame(at).node;
        if self.order.goes_by_failures() {
            let failed = ErrorSet::FAILOVER.contains(settled.outcome);
            let failures = &mut state(run, node).failures[usize::from(child)];
            *failures = if failed { failures.saturating_add(1) } else { 0 };
        }
        if let Order::ByKey(by_key) = &self.order
            && is_paid(settled.outcome)
            && !by_key.excluded.contains(settled.outcome)
        {
            walking(run, at).error_tries += 1;
        }
        if self.backfill && settled.class() == OutcomeClass::Miss {
            let missed = walking(run, at).missed;
            walking(run, at).any_missed = true;
            run.mark(missed, usize::from(child));
        }
    }

    /// A hedge that brought a hit: the first child is at least this slow.
    fn count_hedge(&self, run: &mut Run<'_>, at: usize, child: u16, is_ahead: bool) {
        if is_ahead && walking(run, at).hedge == Some(child) {
            self.note_latency(run, at);
            let node = run.frame(at).node;
            state(run, node).counts.hedge_wins += 1;
        }
    }

    fn note_latency(&self, run: &mut Run<'_>, at: usize) {
        let Some(hedge) = self.hedge else { return };
        let Frame { node, variant, .. } = *run.frame(at);
        if run.operation(variant) != Operation::Get {
            return;
        }
        let took = run.env.now - walking(run, at).started;
        if let Some(latency) = &mut state(run, node).latency {
            latency.note(hedge, took);
        }
    }
}

/// True when going on because of this takes a token. Going on from a miss is what the route is for, and a server that is
/// down got no load from this request.
fn is_paid(outcome: Outcome) -> bool {
    outcome.class() > OutcomeClass::Miss && outcome != Outcome::Failure(Failure::Unavailable)
}

fn note(rule: Rule, frame: &mut Frame, child: u16, settled: Settled) {
    let severity = |settled: Settled| settled.outcome.severity();
    let better = frame.best.is_none_or(|best| {
        !settled.ends_tries()
            && match rule.otherwise {
                Otherwise::Last => true,
                Otherwise::LastOfBest => settled.class() <= best.settled.class(),
                Otherwise::Best => severity(settled) < severity(best.settled),
                Otherwise::Worst => severity(settled) > severity(best.settled),
            }
    });
    if better {
        frame.best = Some(Best { settled, child });
    }
}

fn walking<'p>(run: &'p mut Run<'_>, at: usize) -> &'p mut Walking {
    let number = run.frame(at).words[WALK] as usize;
    &mut run.plan.walks[number]
}

fn state<'r>(run: &'r mut Run<'_>, node: NodeId) -> &'r mut WalkState {
    let NodeState::Walk(state) = run.state(node) else { unreachable!("a walk's state is a walk's") };
    state
}

/// A route that is a walk: its type, and the interpreter's view of it.
macro_rules! walk_route {
    ($(#[$doc:meta])* $route:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $route(pub $crate::routes::walk::Walk);

        impl $crate::routes::Policy for $route {
            fn shape(&self) -> $crate::routes::Shape {
                $crate::routes::Shape::Join(self.0.times_each(), $crate::routes::Collapse::ToChild)
            }

            fn start(
                &self,
                run: &mut $crate::plan::Run<'_>,
                seat: $crate::plan::Seat,
            ) -> $crate::plan::Started {
                self.0.start(run, seat)
            }

            fn child_settled(
                &self,
                run: &mut $crate::plan::Run<'_>,
                at: usize,
                child: u16,
                settled: $crate::plan::Settled,
            ) -> Option<$crate::plan::Settled> {
                self.0.child_settled(run, at, child, settled)
            }

            fn woken(&self, run: &mut $crate::plan::Run<'_>, at: usize) -> Option<$crate::plan::Settled> {
                self.0.woken(run, at)
            }

            fn may_start_more(&self, frame: &$crate::plan::Frame, children: usize) -> bool {
                self.0.may_start_more(frame, children)
            }

            fn lingers(&self, operation: keyway_protocol::Operation) -> bool {
                $crate::routes::walk::lingers(operation)
            }

            fn goes_on(&self) -> bool {
                true
            }

            fn state(&self, children: usize) -> $crate::routes::NodeState {
                self.0.state(children)
            }
        }
    };
}
pub(crate) use walk_route;
