//! LoadBalancerRoute: of two children chosen at random, the one that seems less busy.
//!
//! A child's load is its latency (a moving average of what was seen) times the requests it has under way from here, and one
//! more. mcrouter goes by the load that servers tell in their replies, which memcached's don't. A child that is idle is
//! believed half as slow with every `load_ttl` that passes, so that one which was slow is asked again; a failure
//! counts as a very slow reply, so that a server which refuses at once doesn't draw all requests.
//!
//! With `failover_count` another child is tried after a failure or a server's error. The answer is the last of the best
//! outcomes.
//!
//! Invariant: a request counts as under way from its start at a child until its outcome.

use super::{Collapse, NodeState, Policy, Shape};
use crate::Outcome;
use crate::plan::{Best, Frame, Run, Seat, Settled, Started};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::ReplyKind;

/// Most further children for one request.
pub const MAX_FAILOVERS: usize = 3;

/// What a child's latency is taken for that nobody asked yet, in nanoseconds.
const UNKNOWN: u64 = 1_000_000;
/// What a failure counts as.
const FAILED: u64 = 1_000_000_000;

/// LoadBalancerRoute with the algorithm `two-random-choices`. With `weighted-hashing` it is HashRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// How long what was seen of an idle child counts in full, in nanoseconds; from 1.
    pub load_ttl: u64,
    /// Further children after an error, up to `MAX_FAILOVERS`.
    pub failovers: usize,
}

/// What is known of the children.
#[derive(Debug)]
pub struct State(Box<[Child]>);

#[derive(Clone, Copy, Debug)]
struct Child {
    latency: u64,
    under_way: u32,
    seen_at: u64,
}

impl Child {
    fn latency(&self, ttl: u64, now: u64) -> u64 {
        // One that owes a reply isn't believed to be getting faster.
        let idle = if self.under_way == 0 { now.saturating_sub(self.seen_at) / ttl.max(1) } else { 0 };
        self.latency.checked_shr(idle.min(64) as u32).unwrap_or(0)
    }

    fn load(&self, ttl: u64, now: u64) -> u64 {
        self.latency(ttl, now).saturating_mul(u64::from(self.under_way) + 1)
    }
}

/// `Frame::words`: when the child under way was asked.
const ASKED_AT: usize = 0;
/// `Frame::words`: the children asked so far, 16 bits and one more than the index each, the latest lowest.
const ASKED: usize = 1;

impl Policy for LoadBalancer {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::ToChild)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        let over = !self.advance(run, at);
        run.close_or_wait(at, over)
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        self.observe(run, at, child, settled.outcome);
        note(run.frame(at), child, settled);
        if self.goes_on_after(run, at, settled) && self.advance(run, at) {
            return None;
        }
        run.frame(at).best.map(|best| best.settled)
    }

    fn may_start_more(&self, frame: &Frame, _children: usize) -> bool {
        frame.next <= self.failovers
    }

    /// Replies that come late still tell how slow a child is.
    fn lingers(&self, _operation: Operation) -> bool {
        true
    }

    fn goes_on(&self) -> bool {
        self.failovers > 0
    }

    fn state(&self, children: usize) -> NodeState {
        NodeState::LoadBalancer(State(vec![Child { latency: UNKNOWN, under_way: 0, seen_at: 0 }; children].into()))
    }
}

impl LoadBalancer {
    fn goes_on_after(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> bool {
        let failed = match settled.outcome {
            Outcome::Failure(failure) => !failure.ends_tries(),
            Outcome::Reply(kind) => kind == ReplyKind::ServerError,
        };
        failed && run.frame(at).next <= self.failovers && !run.is_answered()
    }

    /// Starts the next child; false when there is none, or the frame is decided.
    fn advance(&self, run: &mut Run<'_>, at: usize) -> bool {
        let (node, count) = (run.frame(at).node, run.routes.children(run.frame(at).node).len());
        if count == 0 {
            return false;
        }
        let (first, second) = self.choose(run, at, count);
        let from = run.env.state.below(count);
        let others = (0..count).map(|step| (from + step) % count).filter(|child| ![first, second].contains(child));
        for child in [first, second].into_iter().take(count).chain(others) {
            if was_asked(run.frame(at), child) {
                continue;
            }
            match run.start_child(at, child) {
                Started::Unusable(_) => {}
                Started::Waiting => {
                    let now = run.env.now;
                    let frame = run.frame(at);
                    frame.words[ASKED_AT] = now;
                    frame.words[ASKED] = frame.words[ASKED] << 16 | (child as u64 + 1);
                    frame.next += 1;
                    children(run, node)[child].under_way += 1;
                    return true;
                }
                Started::Settled(settled) => {
                    note(run.frame(at), child as u16, settled);
                    return false;
                }
            }
        }
        false
    }

    /// Two different children at random, the less busy one first; the same where there is but one.
    fn choose(&self, run: &mut Run<'_>, at: usize, count: usize) -> (usize, usize) {
        let first = run.env.state.below(count);
        let second = match count {
            1 => first,
            _ => (first + 1 + run.env.state.below(count - 1)) % count,
        };
        let (node, now) = (run.frame(at).node, run.env.now);
        let known = children(run, node);
        match known[second].load(self.load_ttl, now) < known[first].load(self.load_ttl, now) {
            true => (second, first),
            false => (first, second),
        }
    }

    /// Learns from an outcome.
    fn observe(&self, run: &mut Run<'_>, at: usize, child: u16, outcome: Outcome) {
        let now = run.env.now;
        let frame = run.frame(at);
        let took = now.saturating_sub(frame.words[ASKED_AT]);
        let node = frame.node;
        let seen = match outcome {
            Outcome::Failure(_) | Outcome::Reply(ReplyKind::ServerError) => took.max(FAILED),
            Outcome::Reply(_) => took,
        };
        let known = &mut children(run, node)[usize::from(child)];
        let before = known.latency(self.load_ttl, now);
        known.latency = before - before / 4 + seen / 4;
        known.under_way -= 1;
        known.seen_at = now;
    }
}

fn children<'r>(run: &'r mut Run<'_>, node: super::NodeId) -> &'r mut [Child] {
    let NodeState::LoadBalancer(State(children)) = run.state(node) else { unreachable!("made by `state`") };
    children
}

fn was_asked(frame: &Frame, child: usize) -> bool {
    (0..=MAX_FAILOVERS).any(|step| frame.words[ASKED] >> (16 * step) & 0xffff == child as u64 + 1)
}

fn note(frame: &mut Frame, child: u16, settled: Settled) {
    if frame.best.is_none_or(|best| settled.class() <= best.settled.class()) {
        frame.best = Some(Best { settled, child });
    }
}
