//! OperationSelectorRoute (alias PrefixPolicyRoute): one route per operation, and one for the others.
//!
//! A selector: it is resolved on the way down and leaves no trace in the plan.

use super::builder::BuildError;
use super::{NodeId, Policy, RouteNode, Routes, Shape};
use crate::plan::{Run, Seat, Started};
use keyway_protocol::Operation;

/// OperationSelectorRoute. Its children: the default first, then one per entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationSelector {
    /// The child of each operation that has one, by `Operation as usize`.
    policies: [Option<u8>; Operation::COUNT],
}

impl OperationSelector {
    /// Child 0 is the default; child `n + 1` is the route of `operations[n]`.
    pub fn new(operations: &[Operation]) -> Result<OperationSelector, BuildError> {
        let mut policies = [None; Operation::COUNT];
        for (at, operation) in operations.iter().copied().enumerate() {
            // There are far fewer operations than a u8 counts.
            if policies[operation as usize].replace(at as u8 + 1).is_some() {
                return Err(BuildError::DuplicateOperation(operation));
            }
        }
        Ok(OperationSelector { policies })
    }

    fn child_of(&self, operation: Operation) -> usize {
        usize::from(self.policies[operation as usize].unwrap_or(0))
    }
}

impl Policy for OperationSelector {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let operation = run.operation(seat.variant);
        run.pass(seat, self.child_of(operation))
    }

    fn main_child(&self, operation: Operation, _key: &[u8]) -> Option<usize> {
        Some(self.child_of(operation))
    }
}

/// The route the tree names for an operation, following the defaults of nested selectors; none when only a default
/// would take it.
pub(crate) fn explicit(routes: &Routes, operation: Operation) -> Option<NodeId> {
    let mut node = routes.root();
    while let RouteNode::OperationSelector(selector) = routes.node(node) {
        let children = routes.children(node);
        match selector.policies[operation as usize] {
            Some(named) => return Some(children[usize::from(named)]),
            None => node = children[0],
        }
    }
    None
}
