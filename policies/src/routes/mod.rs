//! The tree: a closed enum of routes in an arena.
//!
//! Owns the list of routes and what each of them is to the interpreter (`Policy`); each route's decisions are in the
//! file of its name, the walk through them in `plan`. Invariants, held by the builder: children come before their
//! parents (so there are no cycles), no path is deeper than `builder::MAX_DEPTH`, and no request can look at more than
//! `builder::MAX_LEAVES` leaves.

pub mod all_async;
pub mod all_fastest;
pub mod builder;
pub mod default;
pub mod error;
pub mod explain;
pub mod latency_injection;
pub mod local;
pub mod miss_failover;
pub mod modify_key;
pub mod null;
pub mod operation_selector;
pub mod pool;
pub mod server;

use crate::plan::{Frame, Run, Seat, Settled, Started};
use builder::RoutesBuilder;
use keyway_protocol::Operation;

/// A server, as an index into the table the routes were built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// A node of the tree, as an index into its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

/// How a route uses its children: what the builder counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// It has none.
    Leaf,
    /// A request takes one of them.
    Select,
    /// A request may go to all of them, each this many times. One child alone is that child when `Collapse` says so.
    Join(usize, Collapse),
}

/// What a join of one child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collapse {
    /// That child: mcrouter's rule.
    ToChild,
    /// A join all the same.
    Never,
}

/// What a route is to the interpreter.
pub(crate) trait Policy {
    /// How it uses its children.
    fn shape(&self) -> Shape;

    /// A request reaches it.
    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started;

    /// A child's outcome reached the frame at `at`; the frame's own, when that decides it. Only routes that open frames
    /// are asked.
    fn child_settled(&self, _run: &mut Run<'_>, _at: usize, _child: u16, _settled: Settled) -> Option<Settled> {
        unreachable!("only routes that open frames have children to hear of")
    }

    /// The time it asked to be woken at has come; the frame's outcome, when that decides it.
    fn woken(&self, _run: &mut Run<'_>, _at: usize) -> Option<Settled> {
        None
    }

    /// True when a frame of it may start more children: the request's bytes are kept.
    fn may_start_more(&self, _frame: &Frame, _children: usize) -> bool {
        false
    }

    /// True when a frame of it still wants outcomes when the request is answered: it counts them, or goes on for effect.
    fn lingers(&self, _operation: Operation) -> bool {
        false
    }

    /// True when children not started yet may be, if those before them don't bring what is hoped for.
    fn goes_on(&self) -> bool {
        false
    }

    /// What it remembers on a shard, as it is at first.
    fn state(&self, _children: usize) -> NodeState {
        NodeState::None
    }

    /// The words of `LocalReply::Said`: an error line without its end.
    fn words(&self) -> &str {
        ""
    }
}

/// What a node remembers on one shard.
#[derive(Debug)]
pub enum NodeState {
    /// Nothing.
    None,
}

/// The list of routes: the variant, its type, and mcrouter's name for it.
macro_rules! routes {
    ($($(#[$doc:meta])* $route:ident($kind:ty) = $name:literal,)*) => {
        /// One route, without its children.
        #[derive(Clone, Debug, PartialEq)]
        pub enum RouteNode {
            $($(#[$doc])* $route($kind),)*
        }

        impl RouteNode {
            /// The name in configs and in what `explain` says: mcrouter's where it has the route.
            pub const fn name(&self) -> &'static str {
                match self { $(RouteNode::$route(_) => $name,)* }
            }

            /// The words of `LocalReply::Said`: an error line without its end.
            pub fn words(&self) -> &str {
                match self { $(RouteNode::$route(route) => route.words(),)* }
            }

            pub(crate) fn shape(&self) -> Shape {
                match self { $(RouteNode::$route(route) => route.shape(),)* }
            }

            #[inline]
            pub(crate) fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
                match self { $(RouteNode::$route(route) => route.start(run, seat),)* }
            }

            pub(crate) fn child_settled(
                &self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled,
            ) -> Option<Settled> {
                match self { $(RouteNode::$route(route) => route.child_settled(run, at, child, settled),)* }
            }

            pub(crate) fn woken(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
                match self { $(RouteNode::$route(route) => route.woken(run, at),)* }
            }

            pub(crate) fn may_start_more(&self, frame: &Frame, children: usize) -> bool {
                match self { $(RouteNode::$route(route) => route.may_start_more(frame, children),)* }
            }

            pub(crate) fn lingers(&self, operation: Operation) -> bool {
                match self { $(RouteNode::$route(route) => route.lingers(operation),)* }
            }

            pub(crate) fn goes_on(&self) -> bool {
                match self { $(RouteNode::$route(route) => route.goes_on(),)* }
            }

            pub(crate) fn state(&self, children: usize) -> NodeState {
                match self { $(RouteNode::$route(route) => route.state(children),)* }
            }
        }

        $(impl From<$kind> for RouteNode {
            fn from(route: $kind) -> RouteNode {
                RouteNode::$route(route)
            }
        })*
    };
}

routes! {
    /// One server (a pool's host in child position).
    Server(server::Server) = "Server",
    /// One server of a pool, by the key's hash.
    Pool(pool::Pool) = "PoolRoute",
    /// Answered by the router.
    Local(local::Local) = "LocalRoute",
    /// One route per operation.
    OperationSelector(operation_selector::OperationSelector) = "OperationSelectorRoute",
    /// The first child that can be used.
    Default(default::Default) = "DefaultRoute",
    /// All children at once; the first good reply wins.
    AllFastest(all_fastest::AllFastest) = "AllFastestRoute",
    /// Children in order until one has it.
    MissFailover(miss_failover::MissFailover) = "MissFailoverRoute",
    /// To all children, and the default reply at once.
    AllAsync(all_async::AllAsync) = "AllAsyncRoute",
    /// mcrouter's default reply.
    Null(null::Null) = "NullRoute",
    /// An error line.
    Error(error::Error) = "ErrorRoute",
    /// The child, with another key.
    ModifyKey(modify_key::ModifyKey) = "ModifyKeyRoute",
    /// The child, later.
    LatencyInjection(latency_injection::LatencyInjection) = "LatencyInjectionRoute",
}

impl RouteNode {
    /// True for what is its child when it has only one: mcrouter's rule for most joins.
    pub fn is_its_only_child(&self) -> bool {
        matches!(self.shape(), Shape::Join(_, Collapse::ToChild))
    }
}

/// A route and its children, in the order the route's file gives them.
#[derive(Debug)]
struct Node {
    route: RouteNode,
    children: Box<[NodeId]>,
}

/// A route tree.
#[derive(Debug)]
pub struct Routes {
    nodes: Vec<Node>,
    root: NodeId,
    servers: Vec<ServerId>,
    may_linger: bool,
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

    /// The route of that id.
    pub fn node(&self, node: NodeId) -> &RouteNode {
        &self.nodes[node.0 as usize].route
    }

    /// The children of a route, in the order its file gives them.
    pub fn children(&self, node: NodeId) -> &[NodeId] {
        &self.nodes[node.0 as usize].children
    }

    /// Every server some request could go to, in order and once each.
    pub fn servers(&self) -> &[ServerId] {
        &self.servers
    }

    /// What the nodes remember on a shard, as it is at first. `seed` feeds what is left to chance; `host_id` is the same
    /// for all shards of a router and another for each router: what is sticky to the host goes by it.
    pub fn states(&self, seed: u64, host_id: u64) -> RouteStates {
        let nodes = self.nodes.iter().map(|node| node.route.state(node.children.len())).collect();
        RouteStates { nodes, random: seed | 1, host_id }
    }

    /// False when no request has anything to do once it is answered.
    pub(crate) fn may_linger(&self) -> bool {
        self.may_linger
    }
}

/// What a tree's nodes remember on one shard.
#[derive(Debug)]
pub struct RouteStates {
    nodes: Vec<NodeState>,
    random: u64,
    host_id: u64,
}

impl RouteStates {
    pub(crate) fn of(&mut self, node: NodeId) -> &mut NodeState {
        &mut self.nodes[node.0 as usize]
    }

    /// Names this router among others.
    pub fn host_id(&self) -> u64 {
        self.host_id
    }

    /// The next 64 bits of a xorshift* generator: to choose at random, nothing else.
    pub(crate) fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
