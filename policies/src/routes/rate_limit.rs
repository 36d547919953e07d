//! RateLimitRoute: the child, so often a second for each group of operations; then the fallback, or the default reply.
//!
//! Each shard has buckets of its own, as each of mcrouter's threads has. A bucket starts full (mcrouter's starts empty, so
//! that every reload turns requests away). A token that isn't used, as nothing below can take the request, comes back.

use super::token_bucket::TokenBucket;
use super::{NodeState, Policy, RouteEvent, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};
use keyway_protocol::{Operation, OperationClass};

pub use super::token_bucket::Rate;

/// RateLimitRoute. Its children: the target, then the fallback where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct RateLimit {
    /// For get-like operations; unlimited without one, as all that follow.
    pub gets: Option<Rate>,
    /// For update-like operations.
    pub sets: Option<Rate>,
    /// For delete.
    pub deletes: Option<Rate>,
}

/// The buckets of a shard: gets, sets, deletes.
#[derive(Debug)]
pub struct State([Option<TokenBucket>; 3]);

impl Policy for RateLimit {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let Some((group, rate)) = self.limit(run.operation(seat.variant)) else { return run.pass(seat, 0) };
        let now = run.env.now;
        if bucket(run, seat, group).is_some_and(|bucket| bucket.take(rate, now)) {
            let started = run.pass(seat, 0);
            if let (Started::Unusable(_), Some(bucket)) = (started, bucket(run, seat, group)) {
                bucket.give_back(rate);
            }
            return started;
        }
        run.env.state.count(RouteEvent::RateLimited);
        match run.routes.children(seat.node).len() {
            0 | 1 => Started::Settled(run.settled(LocalReply::Null, seat.variant)),
            _ => run.pass(seat, 1),
        }
    }

    fn state(&self, _children: usize) -> NodeState {
        let rates = [self.gets, self.sets, self.deletes];
        NodeState::RateLimit(State(rates.map(|rate| rate.map(TokenBucket::full))))
    }

    fn main_child(&self, _operation: Operation, _key: &[u8]) -> Option<usize> {
        Some(0)
    }
}

impl RateLimit {
    /// The bucket of an operation and how it fills.
    fn limit(&self, operation: Operation) -> Option<(usize, Rate)> {
        match operation.class() {
            OperationClass::GetLike => self.gets.map(|rate| (0, rate)),
            OperationClass::UpdateLike => self.sets.map(|rate| (1, rate)),
            OperationClass::DeleteLike => self.deletes.map(|rate| (2, rate)),
            OperationClass::ArithmeticLike | OperationClass::TouchLike | OperationClass::Control => None,
        }
    }
}

fn bucket<'r>(run: &'r mut Run<'_>, seat: Seat, group: usize) -> Option<&'r mut TokenBucket> {
    let NodeState::RateLimit(State(buckets)) = run.state(seat.node) else { unreachable!("made by `state`") };
    buckets[group].as_mut()
}
