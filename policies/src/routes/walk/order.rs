//! Which child of a walk comes next.
//!
//! Owns the orders: mcrouter's `failover_policy`, and the children LatestRoute settles on. A child is given once; one that
//! is down then doesn't count as a try.

use super::{ErrorSet, Walk, Walking, state, walking};
use crate::hash::{MAX_DRAWS, Placement};
use crate::plan::Run;
use crate::routes::{NodeId, RouteNode};
use smallvec::SmallVec;

/// The order in which children are asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// As they come.
    InOrder,
    /// The first; then those that failed least in a row, as they come.
    LeastFailures {
        /// Most children asked.
        max_tries: u16,
    },
    /// The first, a pool; then the pool's hosts, which are its other children, as the key gives them.
    ByKey(Box<ByKey>),
    /// A few of many, settled on once per shard.
    Latest(Box<Latest>),
}

/// The hosts of a pool in the order a key gives them.
#[derive(Clone, Debug, PartialEq)]
pub struct ByKey {
    /// Over the hosts.
    pub hosts: Placement,
    /// How they follow from the key.
    pub by: By,
    /// Most children asked.
    pub max_tries: u16,
    /// Most children asked that failed, not counting those that were down.
    pub max_error_tries: u16,
    /// Errors that don't count for that either.
    pub excluded: ErrorSet,
    /// The failure domain of each host: one that failed is avoided. Empty where there are none.
    pub domains: Box<[u32]>,
    /// The host that the pool chose may be asked once more.
    pub asks_again: bool,
}

/// How hosts follow from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Where the key falls with 1 behind it, with 2, and so on: mcrouter's DeterministicOrderPolicy.
    Salt,
    /// From the highest score down: mcrouter's RendezvousPolicy.
    Score,
}

/// A few of many children, the same for every key: by the host the router runs on.
#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    /// Over the children.
    pub children: Placement,
    /// How many are used.
    pub count: u16,
    /// Each shard has its own.
    pub per_shard: bool,
}

/// Draws after which a failed failure domain is avoided no more: mcrouter's number.
const DOMAIN_DRAWS: u32 = 75;

impl Order {
    pub(super) fn is_in_order(&self) -> bool {
        match self {
            Order::InOrder | Order::Latest(_) => true,
            Order::LeastFailures { .. } | Order::ByKey(_) => false,
        }
    }

    pub(super) fn goes_by_failures(&self) -> bool {
        match self {
            Order::LeastFailures { .. } => true,
            Order::InOrder | Order::ByKey(_) | Order::Latest(_) => false,
        }
    }
}

impl Walk {
    /// The next child to look at. `Frame::next` counts those that were.
    pub(super) fn next(&self, run: &mut Run<'_>, at: usize) -> Option<usize> {
        let (node, looked_at) = (run.frame(at).node, run.frame(at).next);
        let children = run.routes.children(node).len();
        if looked_at >= children {
            return None;
        }
        let child = match &self.order {
            Order::InOrder => looked_at,
            Order::LeastFailures { max_tries } => least_failures(run, at, *max_tries)?,
            Order::ByKey(by_key) if looked_at > 0 => by_key.next(run, at)?,
            Order::ByKey(_) => 0,
            Order::Latest(latest) => latest.next(run, node, looked_at)?,
        };
        if !self.order.is_in_order() {
            let looked = walking(run, at).looked;
            run.mark(looked, child);
        }
        run.frame(at).next += 1;
        Some(child)
    }
}

fn least_failures(run: &mut Run<'_>, at: usize, max_tries: u16) -> Option<usize> {
    let (node, looked_at) = (run.frame(at).node, run.frame(at).next);
    let Walking { tries, looked, .. } = *walking(run, at);
    if tries >= max_tries {
        return None;
    }
    if looked_at == 0 {
        return Some(0);
    }
    let children = run.routes.children(node).len();
    let rest: SmallVec<[usize; 16]> = (0..children).filter(|child| !run.is_marked(looked, *child)).collect();
    let failures = &state(run, node).failures;
    rest.into_iter().min_by_key(|child| (failures[*child], *child))
}

impl ByKey {
    /// The next host, as a child.
    fn next(&self, run: &mut Run<'_>, at: usize) -> Option<usize> {
        let Walking { tries, error_tries, .. } = *walking(run, at);
        if tries >= self.max_tries || error_tries >= self.max_error_tries {
            return None;
        }
        if run.frame(at).next == 1 && !self.asks_again {
            self.mark_home(run, at);
        }
        match self.by {
            By::Salt => self.drawn(run, at),
            By::Score => {
                let Walking { looked, .. } = *walking(run, at);
                let variant = run.frame(at).variant;
                let mut hosts = self.hosts.candidates(run.routing_key(variant));
                hosts.find(|host| !run.is_marked(looked, host + 1)).map(|host| host + 1)
            }
        }
    }

    fn drawn(&self, run: &mut Run<'_>, at: usize) -> Option<usize> {
        let Walking { looked, draws, .. } = *walking(run, at);
        let variant = run.frame(at).variant;
        for draw in draws + 1..=MAX_DRAWS {
            let host = self.hosts.drawn(run.routing_key(variant), draw);
            let avoided = draw <= DOMAIN_DRAWS && self.domain_failed(run, at, host);
            if !avoided && !run.is_marked(looked, host + 1) {
                walking(run, at).draws = draw;
                return Some(host + 1);
            }
        }
        None
    }

    /// True when a host of the same failure domain was looked at: it failed, or there would be no next one.
    fn domain_failed(&self, run: &mut Run<'_>, at: usize, host: usize) -> bool {
        let Walking { looked, .. } = *walking(run, at);
        let Some(domain) = self.domains.get(host) else { return false };
        let mut same = self.domains.iter().enumerate().filter(|(_, other)| *other == domain);
        same.any(|(other, _)| run.is_marked(looked, other + 1))
    }

    /// The host that the first child asked is none to fail over to.
    fn mark_home(&self, run: &mut Run<'_>, at: usize) {
        let (node, variant, looked) = (run.frame(at).node, run.frame(at).variant, walking(run, at).looked);
        let children = run.routes.children(node);
        let RouteNode::Pool(pool) = run.routes.node(children[0]) else { return };
        let Some(home) = pool.home(run.routing_key(variant)) else { return };
        let is_home = |child: &NodeId| matches!(run.routes.node(*child), RouteNode::Server(server) if server.0 == home);
        if let Some(host) = children.iter().skip(1).position(is_home) {
            run.mark(looked, host + 1);
        }
    }
}

impl Latest {
    /// The child of that rank.
    fn next(&self, run: &mut Run<'_>, node: NodeId, rank: usize) -> Option<usize> {
        if state(run, node).chosen.is_empty() {
            self.choose(run, node);
        }
        state(run, node).chosen.get(rank).map(|child| usize::from(*child))
    }

    /// Settles on children, once per shard.
    fn choose(&self, run: &mut Run<'_>, node: NodeId) {
        let children = run.routes.children(node).len();
        let seed = if self.per_shard { run.random() } else { 0 };
        let name = run.env.state.host_id() ^ seed;
        let key = super::gutter::decimal(name);
        let chosen = &mut state(run, node).chosen;
        let drawn = std::iter::once(self.children.home(&key))
            .chain((1..=MAX_DRAWS).map(|draw| self.children.drawn(&key, draw)));
        // Should draws not bring enough, the rest follows in order.
        for child in drawn.chain(0..children) {
            let child = child as u16;
            if chosen.len() < usize::from(self.count).min(children) && !chosen.contains(&child) {
                chosen.push(child);
            }
        }
    }
}
