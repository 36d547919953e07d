//! The tree: a closed enum of nodes in an arena.

use keyway_protocol::Operation;

/// A server, as an index into the table the routes were built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// A node of the tree, as an index into its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

/// One route.
#[derive(Debug)]
pub enum RouteNode {
    /// One server (a pool's host in child position).
    Server(ServerId),
    /// One route per operation.
    OperationSelector {
        /// The route of each operation that has one, by `Operation as usize`.
        policies: [Option<NodeId>; Operation::COUNT],
        /// The route of the others.
        default: NodeId,
    },
    /// All children at once; the first good reply wins.
    AllFastest(Vec<NodeId>),
    /// Children in order until one has it.
    MissFailover(Vec<NodeId>),
    /// The first child that can be used.
    Default(Vec<NodeId>),
    /// Answered by the router.
    Local,
}

/// A route tree.
#[derive(Debug)]
pub struct Routes {
    nodes: Vec<RouteNode>,
    root: NodeId,
}

impl Routes {
    /// x
    pub fn root(&self) -> (&[RouteNode], NodeId) {
        (&self.nodes, self.root)
    }
}
