//! AsyncLogRoute: a delete that a server didn't take is written to the async log, to be done when the server is back. What
//! mcrouter's pools do inside.
//!
//! ```text
//! delete ──► child ── no reply, SERVER_ERROR, or it can't be used ──► async log ── durable ──► NOT_FOUND
//!             └── anything else: the answer                            └── not: what the child said
//! ```
//!
//! The entry is for the key's home: the server it belongs to while all are up. While that one is down, a delete is written
//! for it also when another server took it (`on_down: rehash`) or none was asked (`on_down: miss`): it is the one that will
//! come back with the old item. Then the child's own answer stands.
//!
//! With `writes`, a set, add, replace, append, prepend, cas, incr, decr or touch that may or may not have been done counts as
//! a delete for the log: its answer stays what the child said.

use super::{Collapse, Policy, ServerId, Shape};
use crate::outcome::OutcomeClass;
use crate::plan::{Best, Frame, Place, Run, Seat, Settled, Started};
use crate::{LocalReply, Outcome};
use keyway_protocol::memcached::text::ReplyKind;
use keyway_protocol::{Operation, OperationClass};

/// The child's seat, and the log's, as children of the frame.
const CHILD: u16 = 0;
const LOG: u16 = 1;

/// `Frame::words`: 1 while the key's home was down when the request came.
const HOME_DOWN: usize = 0;

/// AsyncLogRoute. Its child: what deletes go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncLog {
    /// Failed writes are logged too, as deletes.
    pub writes: bool,
}

impl Policy for AsyncLog {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        if !self.logs(run.operation(seat.variant)) || run.is_copy(seat.variant) {
            return run.pass(seat, 0);
        }
        let at = run.open(seat);
        let home = self.home(run, seat);
        run.frame(at).words[HOME_DOWN] = u64::from(home.is_some_and(|home| !run.health().is_up(home)));
        match run.start_child(at, 0) {
            Started::Waiting => Started::Waiting,
            Started::Settled(settled) => match self.child_settled(run, at, CHILD, settled) {
                Some(settled) => run.close(at, settled),
                None => Started::Waiting,
            },
            Started::Unusable(reply) => {
                let settled = run.settled(reply, seat.variant);
                match self.child_settled(run, at, CHILD, settled) {
                    Some(_) => run.take_back(at, reply),
                    None => Started::Waiting,
                }
            }
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        let frame = run.frame(at);
        let variant = frame.variant;
        if child == LOG {
            let said = frame.best.map_or(settled, |best| best.settled);
            let is_durable = settled.outcome == Outcome::Reply(ReplyKind::Ok);
            let is_delete = run.operation(variant).class() == OperationClass::DeleteLike;
            return Some(match is_durable && is_delete && is_failed(said) {
                true => run.settled(LocalReply::Null, variant),
                false => said,
            });
        }
        if !is_failed(settled) && frame.words[HOME_DOWN] == 0 {
            return Some(settled);
        }
        frame.best = Some(Best { settled, child });
        match self.spool(run, at) {
            Started::Waiting => None,
            Started::Settled(_) | Started::Unusable(_) => Some(settled),
        }
    }

    fn may_start_more(&self, frame: &Frame, _children: usize) -> bool {
        frame.best.is_none()
    }

    fn lingers(&self, operation: Operation) -> bool {
        self.logs(operation)
    }

    fn main_child(&self, _operation: Operation, _key: &[u8]) -> Option<usize> {
        Some(0)
    }
}

impl AsyncLog {
    fn logs(&self, operation: Operation) -> bool {
        match operation.class() {
            OperationClass::DeleteLike => true,
            OperationClass::UpdateLike | OperationClass::ArithmeticLike | OperationClass::TouchLike => self.writes,
            OperationClass::GetLike | OperationClass::Control => false,
        }
    }

    fn home(&self, run: &Run<'_>, seat: Seat) -> Option<ServerId> {
        run.routes.destination(seat.node, run.operation(seat.variant), run.routing_key(seat.variant))
    }

    /// Writes the delete to the log of the key's home.
    fn spool(&self, run: &mut Run<'_>, at: usize) -> Started {
        let frame = run.frame(at);
        let (node, variant) = (frame.node, frame.variant);
        let seat = Seat { node, place: Place::new(at, usize::from(LOG)), variant };
        let Some(home) = self.home(run, seat) else { return Started::Unusable(LocalReply::NoHealthyServer) };
        match run.derive_from_key(variant, Operation::Delete) {
            Ok(form) => run.spool(home, seat.with_variant(form)),
            Err(reply) => Started::Unusable(reply),
        }
    }
}

/// True for mcrouter's failover errors: no reply, or the server could not. A write may have been done all the same.
fn is_failed(settled: Settled) -> bool {
    settled.class() == OutcomeClass::Lost || settled.outcome == Outcome::Reply(ReplyKind::ServerError)
}
