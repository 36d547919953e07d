//! LoggingRoute: the child, and a line in the log for what came of the request. Without a child, NullRoute.
//!
//! mcrouter hands hits and stores to a callback of the program that embeds it; here the line is for every outcome. At most so
//! many lines are asked for in a second, on each shard; those left out are counted.

use super::token_bucket::{Rate, TokenBucket};
use super::{Collapse, NodeState, Policy, RouteEvent, Shape};
use crate::plan::{Frame, Run, Seat, Settled, Started};
use crate::{Action, LocalReply};
use keyway_protocol::Operation;

/// LoggingRoute. Its child, where it has one: the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Most lines in a second, on each shard; from 1.
    pub lines_per_second: u32,
}

/// How many lines may be written now.
#[derive(Debug)]
pub struct State(TokenBucket);

impl Policy for Logging {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        if run.routes.children(seat.node).is_empty() {
            let settled = run.settled(LocalReply::Null, seat.variant);
            self.log(run, seat, settled);
            return Started::Settled(settled);
        }
        let at = run.open(seat);
        match run.start_child(at, 0) {
            Started::Waiting => Started::Waiting,
            Started::Unusable(reply) => run.take_back(at, reply),
            Started::Settled(settled) => {
                self.log(run, seat, settled);
                run.close(at, settled)
            }
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, _child: u16, settled: Settled) -> Option<Settled> {
        let seat = run.seat(at);
        self.log(run, seat, settled);
        Some(settled)
    }

    /// It starts nothing, but its line wants the request's key.
    fn may_start_more(&self, _frame: &Frame, _children: usize) -> bool {
        true
    }

    /// What came of the request is worth a line also when it was answered elsewhere.
    fn lingers(&self, _operation: Operation) -> bool {
        true
    }

    fn state(&self, _children: usize) -> NodeState {
        NodeState::Logging(State(TokenBucket::full(self.rate())))
    }

    fn main_child(&self, _operation: Operation, _key: &[u8]) -> Option<usize> {
        Some(0)
    }
}

impl Logging {
    fn rate(&self) -> Rate {
        let lines = f64::from(self.lines_per_second.max(1));
        Rate { per_second: lines, burst: lines }
    }

    fn log(&self, run: &mut Run<'_>, seat: Seat, settled: Settled) {
        let now = run.env.now;
        let NodeState::Logging(State(bucket)) = run.state(seat.node) else { unreachable!("made by `state`") };
        match bucket.take(self.rate(), now) {
            true => run.out.push(Action::Log(settled.outcome)),
            false => run.env.state.count(RouteEvent::LogSkipped),
        }
    }
}
