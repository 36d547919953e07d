//! ShadowRoute: a copy of some requests goes to other routes too, whose replies nobody hears of.
//!
//! ```text
//!            ┌──► normal ──► the answer
//! request ──►├┄┄► shadow 1, when its settings take the key, and the dice the request
//!            └┄┄► shadow 2
//! ```
//!
//! Which keys: those listed, or those whose SpookyV2-32 of the part before `|#|` falls in a range of all hashes, bit for bit as
//! in mcrouter. Of a pool's shadows, `hosts` takes only keys of some of its servers, by their position. At most
//! `most_in_flight` copies are under way on a shard, further ones are left out. A copy's failed delete is never written to the
//! async log. When nothing below the normal child can be used, there are no copies either.

use super::{Collapse, NodeId, NodeState, Policy, RouteNode, Routes, Shape};
use crate::hash::{HashStop, mcrouter_key_hash};
use crate::plan::{Place, Run, Seat, Settled, Started};
use keyway_protocol::Operation;
use std::ops::RangeInclusive;

/// What a shadow takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShadowKeys {
    /// Keys whose hash lies in this range: of all, from 0 to 1 of 32 bits.
    Range(RangeInclusive<u32>),
    /// These keys, in order.
    Listed(Vec<Vec<u8>>),
}

impl ShadowKeys {
    /// The keys between two fractions of all hashes, 0.0 to 1.0.
    pub fn between(from: f64, to: f64) -> ShadowKeys {
        // Cut off, not rounded: mcrouter's.
        let of_all = |fraction: f64| (fraction * f64::from(u32::MAX)) as u32;
        ShadowKeys::Range(of_all(from)..=of_all(to))
    }

    /// These keys.
    pub fn listed(mut keys: Vec<Vec<u8>>) -> ShadowKeys {
        keys.sort();
        ShadowKeys::Listed(keys)
    }

    fn take(&self, key: &[u8]) -> bool {
        match self {
            ShadowKeys::Range(range) => range.contains(&mcrouter_key_hash(key)),
            ShadowKeys::Listed(keys) => {
                keys.binary_search_by(|listed| listed.as_slice().cmp(HashStop::MCROUTER.cut(key))).is_ok()
            }
        }
    }
}

/// One shadow's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowSettings {
    /// The keys it takes.
    pub keys: ShadowKeys,
    /// The servers of the normal pool whose requests it takes, by position.
    pub hosts: Option<RangeInclusive<usize>>,
    /// How many of 2^32 requests it takes.
    pub requests: u64,
}

impl ShadowSettings {
    /// `requests` from a fraction, 0.0 to 1.0.
    pub fn requests_of(fraction: f64) -> u64 {
        (fraction * (1_u64 << 32) as f64) as u64
    }
}

/// ShadowRoute. Its children: the normal route, then one for each shadow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// The shadows, in the order of the children behind the first.
    pub shadows: Vec<ShadowSettings>,
    /// Most copies under way on a shard.
    pub most_in_flight: u32,
}

impl Policy for Shadow {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let started = run.pass(seat, 0);
        if let Started::Unusable(_) = started {
            return started;
        }
        for (at, settings) in self.shadows.iter().enumerate() {
            if self.takes(settings, run, seat) {
                self.copy(run, seat, at + 1);
            }
        }
        started
    }

    /// A copy is done.
    fn child_settled(&self, run: &mut Run<'_>, at: usize, _child: u16, settled: Settled) -> Option<Settled> {
        let node = run.frame(at).node;
        come_back(run.state(node));
        Some(settled)
    }

    fn main_child(&self, _operation: Operation, _key: &[u8]) -> Option<usize> {
        Some(0)
    }

    fn state(&self, _children: usize) -> NodeState {
        NodeState::Shadow { in_flight: 0 }
    }
}

impl Shadow {
    fn takes(&self, settings: &ShadowSettings, run: &mut Run<'_>, seat: Seat) -> bool {
        let key = run.routing_key(seat.variant);
        if !settings.keys.take(key) {
            return false;
        }
        if let Some(hosts) = &settings.hosts {
            let host = host_of(run.routes, seat.node, run.operation(seat.variant), key);
            if !host.is_some_and(|host| hosts.contains(&host)) {
                return false;
            }
        }
        settings.requests >= 1 << 32 || (run.random() >> 32) < settings.requests
    }

    fn copy(&self, run: &mut Run<'_>, seat: Seat, child: usize) {
        let Ok(variant) = run.as_copy(seat.variant) else { return };
        match run.state(seat.node) {
            NodeState::Shadow { in_flight } if *in_flight < self.most_in_flight => *in_flight += 1,
            _ => return,
        }
        let at = run.open(Seat { place: Place::NOBODY, variant, ..seat });
        let settled = match run.start_child(at, child) {
            Started::Waiting => return,
            Started::Settled(settled) => settled,
            Started::Unusable(reply) => run.settled(reply, variant),
        };
        come_back(run.state(seat.node));
        run.close(at, settled);
    }
}

/// The position of a key's server in the pool that is shadowed.
fn host_of(routes: &Routes, node: NodeId, operation: Operation, key: &[u8]) -> Option<usize> {
    let mut node = node;
    loop {
        node = match routes.node(node) {
            RouteNode::Pool(pool) => return pool.home_index(key),
            RouteNode::Hash(hash) => return Some(hash.home(key)),
            route => *routes.children(node).get(route.main_child(operation, key)?)?,
        };
    }
}

fn come_back(state: &mut NodeState) {
    if let NodeState::Shadow { in_flight } = state {
        *in_flight -= 1;
    }
}
