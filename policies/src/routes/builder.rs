//! Builds a tree, children first, and refuses what the interpreter's bounds don't allow.
//!
//! Owns the limits of a tree. mcrouter's rule: a join or DefaultRoute with one child is that child. One with none
//! answers that no server is healthy.

use super::all_fastest::AllFastest;
use super::default::Default;
use super::local::Local;
use super::miss_failover::MissFailover;
use super::operation_selector::OperationSelector;
use super::pool::{Pool, PoolSpec};
use super::server::Server;
use super::{Collapse, Node, NodeId, RouteNode, Routes, ServerId, Shape};
use crate::hash::SpecError;
use keyway_protocol::Operation;
use std::fmt;

/// Deepest path from the root to a leaf.
pub const MAX_DEPTH: usize = 64;
/// Most leaves (servers, pools) one request may look at, and so most tries it can make.
pub const MAX_LEAVES: usize = 1000;
/// Most nodes of a tree.
pub const MAX_NODES: usize = 65_536;
/// Most servers of a pool: a ketama ring of that many takes 12 MiB.
pub const MAX_POOL_SERVERS: usize = 10_000;

/// Why a tree can't be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The path to some leaf is longer than `MAX_DEPTH`.
    TooDeep {
        /// How deep it would be.
        depth: usize,
    },
    /// One request could look at more than `MAX_LEAVES` servers.
    TooWide {
        /// How many it could be.
        leaves: usize,
    },
    /// More than `MAX_NODES` nodes.
    TooManyNodes,
    /// A node id that this builder didn't give out.
    UnknownNode,
    /// A route with more or fewer children than it can have.
    Children {
        /// The route.
        route: &'static str,
        /// How many it was given.
        children: usize,
    },
    /// A routing prefix has two routes in one RootRoute.
    DuplicatePrefix {
        /// The prefix.
        prefix: String,
    },
    /// The default prefix of a RootRoute has no route.
    NoDefaultPrefix {
        /// The prefix.
        prefix: String,
    },
    /// An operation has two routes in one OperationSelectorRoute.
    DuplicateOperation(Operation),
    /// A pool with more than `MAX_POOL_SERVERS` servers.
    TooManyPoolServers {
        /// How many it has.
        servers: usize,
    },
    /// A pool's servers and its hash don't go together.
    Placement(SpecError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::TooDeep { depth } => {
                write!(f, "routes are nested {depth} deep; at most {MAX_DEPTH} are allowed")
            }
            BuildError::TooWide { leaves } => {
                write!(f, "one request could go to {leaves} servers; at most {MAX_LEAVES} are allowed")
            }
            BuildError::TooManyNodes => write!(f, "more than {MAX_NODES} routes in one tree"),
            BuildError::Children { route, children } => write!(f, "{route} can't have {children} children"),
            BuildError::DuplicatePrefix { prefix } => write!(f, "routing prefix {prefix:?} has two routes"),
            BuildError::NoDefaultPrefix { prefix } => write!(f, "the default routing prefix {prefix:?} has no route"),
            BuildError::UnknownNode => write!(f, "a route refers to one that is not in this tree"),
            BuildError::DuplicateOperation(operation) => {
                write!(f, "operation {} has two routes", operation.name())
            }
            BuildError::TooManyPoolServers { servers } => {
                write!(f, "a pool has {servers} servers; at most {MAX_POOL_SERVERS} are allowed")
            }
            BuildError::Placement(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {}

/// A tree under construction.
#[derive(Debug, std::default::Default)]
pub struct RoutesBuilder {
    nodes: Vec<Node>,
    sizes: Vec<Size>,
}

/// What a request can meet at and below a node, counted over paths: a node with two parents counts twice.
#[derive(Clone, Copy, Debug)]
struct Size {
    depth: usize,
    leaves: usize,
}

impl RoutesBuilder {
    /// A route over children, which come in the order the route's file gives them.
    pub fn add(&mut self, route: impl Into<RouteNode>, children: &[NodeId]) -> Result<NodeId, BuildError> {
        let route = route.into();
        let size = match (route.shape(), children) {
            (Shape::Leaf, []) => Size { depth: 1, leaves: 1 },
            (Shape::Leaf, _) => return Err(BuildError::Children { route: route.name(), children: children.len() }),
            (Shape::Join(_, Collapse::ToChild), [only]) => return self.size(*only).map(|_| *only),
            (Shape::Select, children) => self.size_over(children, |all, child| all.max(child))?,
            (Shape::Join(times, _), children) => {
                self.size_over(children, |all, child| all.saturating_add(child.saturating_mul(times)))?
            }
        };
        self.push(route, children, size)
    }

    /// One server.
    pub fn server(&mut self, server: ServerId) -> Result<NodeId, BuildError> {
        self.add(Server(server), &[])
    }

    /// LocalRoute.
    pub fn local(&mut self) -> Result<NodeId, BuildError> {
        self.add(Local, &[])
    }

    /// PoolRoute.
    pub fn pool(&mut self, spec: &PoolSpec) -> Result<NodeId, BuildError> {
        if spec.servers.len() > MAX_POOL_SERVERS {
            return Err(BuildError::TooManyPoolServers { servers: spec.servers.len() });
        }
        let pool = Pool::new(spec).map_err(BuildError::Placement)?;
        self.add(pool, &[])
    }

    /// DefaultRoute.
    pub fn default_route(&mut self, children: &[NodeId]) -> Result<NodeId, BuildError> {
        self.add(Default, children)
    }

    /// AllFastestRoute.
    pub fn all_fastest(&mut self, children: &[NodeId]) -> Result<NodeId, BuildError> {
        self.add(AllFastest::default(), children)
    }

    /// MissFailoverRoute.
    pub fn miss_failover(&mut self, children: &[NodeId]) -> Result<NodeId, BuildError> {
        self.add(MissFailover::default(), children)
    }

    /// OperationSelectorRoute.
    pub fn operation_selector(
        &mut self,
        entries: &[(Operation, NodeId)],
        default: NodeId,
    ) -> Result<NodeId, BuildError> {
        let operations: Vec<Operation> = entries.iter().map(|(operation, _)| *operation).collect();
        let children: Vec<NodeId> = std::iter::once(default).chain(entries.iter().map(|(_, node)| *node)).collect();
        self.add(OperationSelector::new(&operations)?, &children)
    }

    /// The tree under `root`. Nodes that aren't reached from it stay unused.
    pub fn build(self, root: NodeId) -> Result<Routes, BuildError> {
        self.size(root)?;
        let mut servers = Vec::new();
        let mut may_linger = false;
        let mut reached = vec![false; self.nodes.len()];
        reached[root.0 as usize] = true;
        // Children come before parents, so one pass from the back sees every parent first.
        for (at, node) in self.nodes.iter().enumerate().rev() {
            if !reached[at] {
                continue;
            }
            match &node.route {
                RouteNode::Server(server) => servers.push(server.0),
                RouteNode::Pool(pool) => servers.extend_from_slice(pool.servers()),
                _ => node.children.iter().for_each(|child| reached[child.0 as usize] = true),
            }
            may_linger |= Operation::ALL.into_iter().any(|operation| node.route.lingers(operation));
        }
        servers.sort_unstable();
        servers.dedup();
        Ok(Routes { nodes: self.nodes, root, servers, may_linger })
    }

    /// The size of a route over children: one deeper than the deepest, and the leaves as `join` adds them up.
    fn size_over(&self, children: &[NodeId], join: impl Fn(usize, usize) -> usize) -> Result<Size, BuildError> {
        let mut size = Size { depth: 0, leaves: 0 };
        for child in children {
            let child = self.size(*child)?;
            size = Size { depth: size.depth.max(child.depth), leaves: join(size.leaves, child.leaves) };
        }
        // Without children it is a leaf itself.
        Ok(Size { depth: size.depth + 1, leaves: size.leaves.max(1) })
    }

    fn push(&mut self, route: RouteNode, children: &[NodeId], size: Size) -> Result<NodeId, BuildError> {
        if size.depth > MAX_DEPTH {
            return Err(BuildError::TooDeep { depth: size.depth });
        }
        if size.leaves > MAX_LEAVES {
            return Err(BuildError::TooWide { leaves: size.leaves });
        }
        if self.nodes.len() == MAX_NODES {
            return Err(BuildError::TooManyNodes);
        }
        self.nodes.push(Node { route, children: children.into() });
        self.sizes.push(size);
        Ok(NodeId(self.nodes.len() as u32 - 1))
    }

    fn size(&self, node: NodeId) -> Result<Size, BuildError> {
        self.sizes.get(node.0 as usize).copied().ok_or(BuildError::UnknownNode)
    }
}
