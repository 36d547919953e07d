//! LatencyInjectionRoute: the child's reply, later. A test aid.
//!
//! `before` passes before the child sees the request; the reply then waits for `after`, and until `total` since the
//! request came.

use super::{Collapse, Policy, Shape};
use crate::plan::{Best, Frame, Run, Seat, Settled, Started};
use keyway_protocol::Operation;

/// LatencyInjectionRoute. Its child: the target. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LatencyInjection {
    /// Time that passes before the child is asked.
    pub before: u64,
    /// Time that passes between the child's reply and the answer.
    pub after: u64,
    /// Least time from request to answer.
    pub total: u64,
}

/// `Frame::words`: when the request came.
const CAME: usize = 0;

impl Policy for LatencyInjection {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        let now = run.env.now;
        run.frame(at).words[CAME] = now;
        if self.before > 0 {
            run.wake_at(at, now + self.before);
            return Started::Waiting;
        }
        match self.ask(run, at) {
            Some(settled) => run.close(at, settled),
            None => Started::Waiting,
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        let until = (run.env.now + self.after).max(run.frame(at).words[CAME] + self.total);
        if until <= run.env.now {
            return Some(settled);
        }
        run.frame(at).best = Some(Best { settled, child });
        run.wake_at(at, until);
        None
    }

    fn woken(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        match run.frame(at).best {
            Some(best) => Some(best.settled),
            None => self.ask(run, at),
        }
    }

    fn may_start_more(&self, frame: &Frame, _children: usize) -> bool {
        frame.next == 0
    }

    fn lingers(&self, _operation: Operation) -> bool {
        true
    }

    fn main_child(&self, _operation: Operation, _key: &[u8]) -> Option<usize> {
        Some(0)
    }
}

impl LatencyInjection {
    fn ask(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        run.frame(at).next = 1;
        let settled = match run.start_child(at, 0) {
            Started::Waiting => return None,
            Started::Settled(settled) => settled,
            Started::Unusable(reply) => {
                let variant = run.frame(at).variant;
                run.settled(reply, variant)
            }
        };
        self.child_settled(run, at, 0, settled)
    }
}
