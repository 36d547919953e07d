//! RoutingGroupRoute: one route per group of operations, and one for the others.
//!
//! A selector. touch is in none of mcrouter's groups, nor is what has no key: they go to the default.

use super::{Policy, Shape};
use crate::plan::{Run, Seat, Started};
use keyway_protocol::OperationClass;

/// RoutingGroupRoute. Its children: the default first, then one for each group that has one, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RoutingGroup {
    /// The child of `get_like`; none is the default, as for the others.
    pub get_like: Option<usize>,
    /// The child of `update_like`.
    pub update_like: Option<usize>,
    /// The child of `delete_like`.
    pub delete_like: Option<usize>,
    /// The child of `arithmetic_like`.
    pub arithmetic_like: Option<usize>,
}

impl Policy for RoutingGroup {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let child = match run.operation(seat.variant).class() {
            OperationClass::GetLike => self.get_like,
            OperationClass::UpdateLike => self.update_like,
            OperationClass::DeleteLike => self.delete_like,
            OperationClass::ArithmeticLike => self.arithmetic_like,
            OperationClass::TouchLike | OperationClass::Control => None,
        };
        run.pass(seat, child.unwrap_or(0))
    }
}
