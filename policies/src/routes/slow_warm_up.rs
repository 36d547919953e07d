//! SlowWarmUpRoute (a pool's `slow_warmup`): a server that is cold gets a part of the gets, the others go elsewhere.
//!
//! ```text
//!              ┌── its server is warm, or this one is among those it gets ──► the pool
//! a get ──►    ┤
//!              └── else ──► the failover target
//! others ────────────────────────────────────────────────────────────────► the pool
//! ```
//!
//! Above a pool, or a server, each server is watched by itself. Its hit rate is that of the latest gets; mcrouter's is that
//! of all since it started, so that a server that comes back empty after a week counts as warm for days. While the rate
//! is below `enable_threshold`, and then until it is at `disable_threshold`, the server gets this share of its gets:
//! `start + step * hit rate`.

use super::{Collapse, NodeId, NodeState, Policy, RouteEvent, Shape};
use crate::Outcome;
use crate::plan::{Run, Seat, Settled, Started};
use keyway_protocol::Operation;
use keyway_protocol::OperationClass;
use keyway_protocol::memcached::text::ReplyKind;

/// SlowWarmUpRoute. Its children: the target, then the failover target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowWarmUp {
    /// Below this hit rate a server counts as cold. 0 to 1, as all rates.
    pub enable_threshold: f64,
    /// From this hit rate on it is warm again.
    pub disable_threshold: f64,
    /// The share of gets it has at hit rate 0.
    pub start: f64,
    /// How much the share grows with the hit rate.
    pub step: f64,
    /// A server with fewer gets than this counts as warm; from 1.
    pub min_requests: u32,
}

/// When so many times `min_requests` gets are counted, all counts are halved: older ones fade.
const WINDOW: u32 = 10;

/// What is known of each server, by its id.
#[derive(Debug, Default)]
pub struct State(Vec<Warmth>);

#[derive(Clone, Copy, Debug, Default)]
struct Warmth {
    hits: u32,
    gets: u32,
    cold: bool,
}

/// `Frame::words`: the server.
const LANE: usize = 0;

impl Policy for SlowWarmUp {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        if run.operation(seat.variant).class() != OperationClass::GetLike {
            return run.pass(seat, 0);
        }
        let child = run.routes.children(seat.node)[0];
        let lane = match run.server_of(child, seat.variant) {
            Ok(server) => server.map_or(0, |server| server.0 as usize),
            Err(_) => return run.pass(seat, 0),
        };
        let warmth = warmth(run, seat.node, lane);
        warmth.cold = self.is_cold(*warmth);
        let share = if warmth.cold { self.start + self.step * self.hit_rate(*warmth) } else { 1.0 };
        if share < 1.0 && run.env.state.fraction() >= share {
            run.env.state.count(RouteEvent::WarmingUp);
            return run.pass(seat, 1);
        }
        let at = run.open(seat);
        run.frame(at).words[LANE] = lane as u64;
        match run.start_child(at, 0) {
            Started::Waiting => Started::Waiting,
            Started::Settled(settled) => run.close(at, settled),
            Started::Unusable(reply) => run.take_back(at, reply),
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, _child: u16, settled: Settled) -> Option<Settled> {
        let (node, lane) = (run.frame(at).node, run.frame(at).words[LANE] as usize);
        let hit = match settled.outcome {
            Outcome::Reply(ReplyKind::Value) => true,
            Outcome::Reply(ReplyKind::End) => false,
            Outcome::Reply(_) | Outcome::Failure(_) => return Some(settled),
        };
        let warmth = warmth(run, node, lane);
        warmth.hits += u32::from(hit);
        warmth.gets += 1;
        if warmth.gets >= self.min_requests.saturating_mul(WINDOW) {
            warmth.hits /= 2;
            warmth.gets /= 2;
        }
        Some(settled)
    }

    fn state(&self, _children: usize) -> NodeState {
        NodeState::SlowWarmUp(State::default())
    }

    fn main_child(&self, _operation: Operation, _key: &[u8]) -> Option<usize> {
        Some(0)
    }
}

impl SlowWarmUp {
    fn is_cold(&self, warmth: Warmth) -> bool {
        let threshold = if warmth.cold { self.disable_threshold } else { self.enable_threshold };
        self.hit_rate(warmth) < threshold
    }

    fn hit_rate(&self, warmth: Warmth) -> f64 {
        match warmth.gets < self.min_requests {
            true => 1.0,
            false => f64::from(warmth.hits) / f64::from(warmth.gets.max(1)),
        }
    }
}

fn warmth<'r>(run: &'r mut Run<'_>, node: NodeId, lane: usize) -> &'r mut Warmth {
    let NodeState::SlowWarmUp(State(servers)) = run.state(node) else { unreachable!("made by `state`") };
    if lane >= servers.len() {
        servers.resize(lane + 1, Warmth::default());
    }
    &mut servers[lane]
}
