//! LocalRoute: answered by the router, without a server.

use crate::LocalReply;
use keyway_protocol::{Operation, OperationClass};

/// What the router says to an operation. `flush_all` has no key either, but it asks for an effect only servers have.
pub(crate) fn reply(operation: Operation) -> LocalReply {
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
