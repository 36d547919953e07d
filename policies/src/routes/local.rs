//! LocalRoute: answered by the router, without a server.

use super::{Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};
use keyway_protocol::{Operation, OperationClass};

/// LocalRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local;

impl Policy for Local {
    fn shape(&self) -> Shape {
        Shape::Leaf
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        Started::Settled(run.settled(reply(run.operation(seat.variant)), seat.variant))
    }
}

/// What the router says to an operation. `flush_all` has no key either, but it asks for an effect only servers have.
fn reply(operation: Operation) -> LocalReply {
    match (operation, operation.class()) {
        (Operation::FlushAll, _) => LocalReply::NotLocal,
        (_, OperationClass::Control) => LocalReply::Router,
        (
            _,
            OperationClass::GetLike
            | OperationClass::UpdateLike
            | OperationClass::DeleteLike
            | OperationClass::ArithmeticLike
            | OperationClass::TouchLike,
        ) => LocalReply::NotLocal,
    }
}
