//! The tree: a closed enum of nodes in an arena.
//!
//! Owns the nodes and their names; each policy's decisions are in the file of its name, the walk through them in
//! `plan`. Invariants, held by the builder: children come before their parents (so there are no cycles), no path is
//! deeper than `builder::MAX_DEPTH`, and no request can look at more than `builder::MAX_LEAVES` leaves.

pub(crate) mod all_fastest;
pub mod builder;
pub(crate) mod default;
pub mod explain;
pub(crate) mod local;
pub(crate) mod miss_failover;
pub(crate) mod operation_selector;
pub mod pool;

use builder::RoutesBuilder;
use keyway_protocol::Operation;
use pool::Pool;

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
    /// One server of a pool, by the key's hash.
    Pool(Pool),
}

impl RouteNode {
    /// mcrouter's name for it, as configs and `explain` have it.
    pub const fn name(&self) -> &'static str {
        match self {
            RouteNode::Server(_) => "Server",
            RouteNode::OperationSelector { .. } => "OperationSelectorRoute",
            RouteNode::AllFastest(_) => "AllFastestRoute",
            RouteNode::MissFailover(_) => "MissFailoverRoute",
            RouteNode::Default(_) => "DefaultRoute",
            RouteNode::Local => "LocalRoute",
            RouteNode::Pool(_) => "PoolRoute",
        }
    }
}

/// A route tree.
#[derive(Debug)]
pub struct Routes {
    nodes: Vec<RouteNode>,
    root: NodeId,
    servers: Vec<ServerId>,
}

impl Routes {
    /// An empty tree to add nodes to, children first.
    pub fn builder() -> RoutesBuilder {
        RoutesBuilder::default()
    }

    /// Where every request with a key enters.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// The node of that id.
    pub fn node(&self, node: NodeId) -> &RouteNode {
        &self.nodes[node.0 as usize]
    }

    /// Every server some request could go to, in order and once each.
    pub fn servers(&self) -> &[ServerId] {
        &self.servers
    }

    /// The children a node tries in order or at once.
    pub(crate) fn children(&self, node: NodeId) -> &[NodeId] {
        match self.node(node) {
            RouteNode::AllFastest(children) | RouteNode::MissFailover(children) | RouteNode::Default(children) => {
                children
            }
            RouteNode::Server(_) | RouteNode::OperationSelector { .. } | RouteNode::Local | RouteNode::Pool(_) => &[],
        }
    }
}
