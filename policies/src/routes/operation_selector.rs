//! OperationSelectorRoute (alias PrefixPolicyRoute): one route per operation, and one for the others.
//!
//! A selector: it is resolved on the way down and leaves no trace in the plan.

use super::{NodeId, RouteNode, Routes};
use keyway_protocol::Operation;

/// The child for an operation.
pub(crate) fn select(policies: &[Option<NodeId>; Operation::COUNT], default: NodeId, operation: Operation) -> NodeId {
    policies[operation as usize].unwrap_or(default)
}

/// The route the tree names for an operation, following the defaults of nested selectors; none when only a default
/// would take it.
pub(crate) fn explicit(routes: &Routes, operation: Operation) -> Option<NodeId> {
    let mut node = routes.root();
    loop {
        match routes.node(node) {
            RouteNode::OperationSelector { policies, default } => match policies[operation as usize] {
                Some(named) => return Some(named),
                None => node = *default,
            },
            RouteNode::Server(_)
            | RouteNode::AllFastest(_)
            | RouteNode::MissFailover(_)
            | RouteNode::Default(_)
            | RouteNode::Local
            | RouteNode::Pool(_) => return None,
        }
    }
}
