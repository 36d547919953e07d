//! OutstandingLimitRoute: the child, with so many requests at a time; others wait for their turn.
//!
//! ```text
//!            ┌── a slot is free ──► the child ──► its outcome; the slot goes to the next in the queue
//! request ──►┤
//!            └── none ──► the queue: clients in turn, each client's requests in order
//!                             ├── a slot came free ──► the child
//!                             └── it waited too long ──► timeout
//! ```
//!
//! Above a pool, or a server, the limit is for each server. mcrouter's queue has no end; here it has, and a request that
//! finds it full goes to another child of a parent route, or fails as `queue_full`.
//!
//! Invariants: a slot is taken for a request when it starts at the child, or when a slot is handed to it in the queue, and
//! comes back exactly once: with the outcome, or when a request that nobody waits for any more leaves the queue. A
//! request that waits has one entry.

mod queue;

use super::{Collapse, NodeId, NodeState, Policy, RouteEvent, Shape};
use crate::plan::{Frame, Run, Seat, Settled, Started};
use crate::request::{Action, Wake};
use crate::{Failure, LocalReply};
use keyway_protocol::{Operation, OperationClass};
use queue::Waiting;

pub use queue::State;

/// OutstandingLimitRoute. Its child: the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutstandingLimit {
    /// Most requests at a time; from 1.
    pub most: u32,
    /// Most requests that wait, on each shard.
    pub most_waiting: u32,
    /// How long one may wait, in nanoseconds.
    pub wait: u64,
}

/// `Frame::words`: its slot's lane; or, plus `IN_QUEUE`, its entry in the queue.
const HOLDS: usize = 0;
/// `Frame::words`: when it has waited too long.
const GIVES_UP_AT: usize = 1;
const IN_QUEUE: u64 = 1 << 32;

impl Policy for OutstandingLimit {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let child = run.routes.children(seat.node)[0];
        let lane = match run.server_of(child, seat.variant) {
            Ok(server) => server.map_or(0, |server| server.0),
            // No need for a slot to be told so.
            Err(_) => return run.pass(seat, 0),
        };
        if state(run, seat.node).take(lane, self.most) {
            let at = run.open(seat);
            run.frame(at).words[HOLDS] = lane.into();
            return match self.ask(run, at) {
                Started::Waiting => Started::Waiting,
                Started::Settled(settled) => run.close(at, settled),
                Started::Unusable(reply) => run.take_back(at, reply),
            };
        }
        self.queue(run, seat, lane)
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, _child: u16, settled: Settled) -> Option<Settled> {
        release(run, at);
        Some(settled)
    }

    /// Its turn has come, or its time is over. Anything else is a wake that came late or early.
    fn woken(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        let (node, words) = (run.frame(at).node, run.frame(at).words);
        let entry = words[HOLDS].checked_sub(IN_QUEUE)? as u32;
        if let Some(lane) = state(run, node).granted(entry) {
            state(run, node).remove(entry);
            run.frame(at).words[HOLDS] = lane.into();
            return match self.ask(run, at) {
                Started::Waiting => None,
                Started::Settled(settled) => Some(settled),
                Started::Unusable(reply) => Some(run.unusable_at(at, reply)),
            };
        }
        if run.env.now < words[GIVES_UP_AT] {
            return None;
        }
        state(run, node).remove(entry);
        run.env.state.count(RouteEvent::OutstandingExpired);
        Some(run.unusable_at(at, LocalReply::Failed(Failure::Timeout)))
    }

    /// A read that waits has no effect to wait for; a write goes on.
    fn abandoned(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        let seat = run.seat(at);
        let entry = run.frame(at).words[HOLDS].checked_sub(IN_QUEUE)? as u32;
        if run.operation(seat.variant).class() != OperationClass::GetLike {
            return None;
        }
        let granted = state(run, seat.node).granted(entry);
        state(run, seat.node).remove(entry);
        if let Some(lane) = granted {
            run.frame(at).words[HOLDS] = lane.into();
            release(run, at);
        }
        Some(run.unusable_at(at, LocalReply::Failed(Failure::Timeout)))
    }

    fn may_start_more(&self, frame: &Frame, _children: usize) -> bool {
        frame.words[HOLDS] >= IN_QUEUE
    }

    /// The slot comes back with the outcome.
    fn lingers(&self, _operation: Operation) -> bool {
        true
    }

    fn state(&self, _children: usize) -> NodeState {
        NodeState::OutstandingLimit(State::default())
    }

    fn main_child(&self, _operation: Operation, _key: &[u8]) -> Option<usize> {
        Some(0)
    }
}

impl OutstandingLimit {
    /// Asks the child, with a slot in hand.
    fn ask(&self, run: &mut Run<'_>, at: usize) -> Started {
        let started = run.start_child(at, 0);
        match started {
            Started::Waiting => {}
            Started::Settled(_) | Started::Unusable(_) => release(run, at),
        }
        started
    }

    fn queue(&self, run: &mut Run<'_>, seat: Seat, lane: u32) -> Started {
        if state(run, seat.node).waiting() >= self.most_waiting {
            run.env.state.count(RouteEvent::OutstandingRefused);
            return Started::Unusable(LocalReply::Failed(Failure::QueueFull));
        }
        run.env.state.count(RouteEvent::OutstandingQueued);
        let at = run.open(seat);
        let waiting =
            Waiting { request: run.env.request, frame: at as u16, client: run.env.client.number, lane, granted: false };
        let entry = state(run, seat.node).push(waiting);
        let gives_up_at = run.env.now + self.wait;
        run.frame(at).words[HOLDS] = IN_QUEUE + u64::from(entry);
        run.frame(at).words[GIVES_UP_AT] = gives_up_at;
        run.wake_at(at, gives_up_at);
        Started::Waiting
    }
}

/// Gives the slot of the frame at `at` to the next in the queue, or back.
fn release(run: &mut Run<'_>, at: usize) {
    let (node, lane) = (run.frame(at).node, run.frame(at).words[HOLDS] as u32);
    if let Some(Waiting { request, frame, .. }) = state(run, node).release(lane) {
        run.out.push(Action::Wake(Wake { request, frame, at: run.env.now }));
    }
}

fn state<'r>(run: &'r mut Run<'_>, node: NodeId) -> &'r mut State {
    let NodeState::OutstandingLimit(state) = run.state(node) else { unreachable!("made by `state`") };
    state
}
