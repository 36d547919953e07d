//! What comes out of a node: an answer, and what it means to the routes above.

use crate::outcome::OutcomeClass;
use crate::request::{Answer, TryId};
use crate::routes::NodeId;
use crate::{Failure, Outcome};
use keyway_protocol::memcached::text::ReplyKind;
use keyway_protocol::{Operation, OperationClass};

/// A reply the router makes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalReply {
    /// LocalRoute: what the router says to this operation (version, verbosity, stats, quit).
    Router,
    /// LocalRoute was asked for an operation it can't answer.
    NotLocal,
    /// Every server the route could use is down.
    NoHealthyServer,
    /// All tries failed on the way; the failure is the one to name.
    Failed(Failure),
    /// mcrouter's default reply: what a cache without the key says, and NOT_STORED to what stores.
    Null,
    /// The words of that route (`RouteNode::words`).
    Said(NodeId),
    /// A route made a key that is none.
    BadKey,
}

impl LocalReply {
    /// What it means to a route.
    pub(crate) fn outcome(self, operation: Operation) -> Outcome {
        match self {
            LocalReply::Router => Outcome::Reply(ReplyKind::Ok),
            LocalReply::NotLocal | LocalReply::Said(_) | LocalReply::BadKey => Outcome::Reply(ReplyKind::ServerError),
            LocalReply::NoHealthyServer => Outcome::Failure(Failure::Unavailable),
            LocalReply::Failed(failure) => Outcome::Failure(failure),
            LocalReply::Null => Outcome::Reply(null_reply(operation)),
        }
    }
}

/// The kind of mcrouter's default reply.
pub const fn null_reply(operation: Operation) -> ReplyKind {
    match operation.class() {
        OperationClass::GetLike => ReplyKind::End,
        OperationClass::UpdateLike => ReplyKind::NotStored,
        OperationClass::DeleteLike | OperationClass::ArithmeticLike | OperationClass::TouchLike => ReplyKind::NotFound,
        OperationClass::Control => ReplyKind::Ok,
    }
}

/// The outcome of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) answer: Answer,
    pub(crate) outcome: Outcome,
}

impl Settled {
    pub(crate) fn from_try(try_id: TryId, outcome: Outcome) -> Settled {
        let answer = match outcome {
            Outcome::Reply(_) => Answer::Try(try_id),
            Outcome::Failure(failure) => Answer::Local(LocalReply::Failed(failure)),
        };
        Settled { answer, outcome }
    }

    pub(crate) fn from_local(reply: LocalReply, operation: Operation) -> Settled {
        Settled { answer: Answer::Local(reply), outcome: reply.outcome(operation) }
    }

    /// How good it is.
    pub(crate) fn class(self) -> OutcomeClass {
        self.outcome.class()
    }

    /// True when this is a failure after which no further try can be made.
    pub(crate) fn ends_tries(self) -> bool {
        match self.outcome {
            Outcome::Failure(failure) => failure.ends_tries(),
            Outcome::Reply(_) => false,
        }
    }
}
