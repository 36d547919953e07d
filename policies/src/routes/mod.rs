//! The tree: a closed enum of routes in an arena.
//!
//! Owns the list of routes and what each of them is to the interpreter (`Policy`); each route's decisions are in the
//! file of its name, the walk through them in `plan`. Invariants, held by the builder: children come before their
//! parents (so there are no cycles), no path is deeper than `builder::MAX_DEPTH`, and no request can look at more than
//! `builder::MAX_LEAVES` leaves.

pub mod all_async;
pub mod all_fastest;
pub mod all_initial;
pub mod all_majority;
pub mod all_sync;
pub mod async_log;
pub mod backfill;
pub mod big_value;
pub mod blackhole;
mod both;
pub mod builder;
mod copies;
pub mod default;
pub mod dev_null;
pub mod error;
pub mod events;
pub mod explain;
pub mod failover;
pub mod failover_with_exptime;
mod fan_out;
pub mod hash;
pub mod hash_stop_allow_list;
pub mod host_id;
pub mod keep_routing_prefix;
pub mod key_parse;
pub mod key_split;
pub mod l1_l2_cache;
pub mod l1_l2_size_split;
pub mod latency_injection;
pub mod latest;
pub mod load_balancer;
pub mod local;
pub mod logging;
pub mod migrate;
pub mod miss_failover;
pub mod modify_exptime;
pub mod modify_key;
pub mod null;
pub mod operation_selector;
pub mod original_client_hash;
pub mod outstanding_limit;
pub mod pool;
pub mod prefix_selector;
pub mod primary;
pub mod random;
pub mod rate_limit;
pub mod replicated;
pub mod root;
pub mod routing_group;
pub mod salted_failover;
pub mod server;
pub mod shadow;
pub mod shard_split;
pub mod slow_warm_up;
pub mod staging;
mod token_bucket;
pub mod walk;
pub mod warm_up;

use crate::plan::{Frame, Run, Seat, Settled, Started};
use builder::RoutesBuilder;
use events::{RouteEvent, RouteEvents};
use keyway_protocol::Operation;

/// A server, as an index into the table the routes were built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// A node of the tree, as an index into its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

/// mcrouter's hash stop: what follows it doesn't decide where a key goes.
pub(crate) const HASH_STOP: &[u8] = b"|#|";

/// A key up to its hash stop.
pub(crate) fn before_stop(key: &[u8]) -> &[u8] {
    memchr::memmem::find(key, HASH_STOP).map_or(key, |at| &key[..at])
}

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

    /// Nobody waits for the answer any more; what the frame at `at` settles with, where it ends now.
    fn abandoned(&self, _run: &mut Run<'_>, _at: usize) -> Option<Settled> {
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

    /// The child that a request of that operation for that key goes to as it is, where there is a single one.
    fn main_child(&self, _operation: Operation, _key: &[u8]) -> Option<usize> {
        None
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
    /// LoadBalancerRoute's.
    LoadBalancer(load_balancer::State),
    /// LoggingRoute's.
    Logging(logging::State),
    /// OutstandingLimitRoute's.
    OutstandingLimit(outstanding_limit::State),
    /// RateLimitRoute's.
    RateLimit(rate_limit::State),
    /// SlowWarmUpRoute's.
    SlowWarmUp(slow_warm_up::State),
    /// A walk's budget, latency and counts.
    Walk(Box<walk::WalkState>),
    /// L1L2CacheRoute.
    NegativeHits(u64),
    /// ShadowRoute.
    Shadow {
        /// Copies under way.
        in_flight: u32,
    },
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

            pub(crate) fn abandoned(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
                match self { $(RouteNode::$route(route) => route.abandoned(run, at),)* }
            }

            pub(crate) fn may_start_more(&self, frame: &Frame, children: usize) -> bool {
                match self { $(RouteNode::$route(route) => route.may_start_more(frame, children),)* }
            }

            pub(crate) fn lingers(&self, operation: Operation) -> bool {
                match self { $(RouteNode::$route(route) => route.lingers(operation),)* }
            }

            pub(crate) fn main_child(&self, operation: Operation, key: &[u8]) -> Option<usize> {
                match self { $(RouteNode::$route(route) => route.main_child(operation, key),)* }
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
    /// All children at once; the worst reply when all are in.
    AllSync(all_sync::AllSync) = "AllSyncRoute",
    /// The first child's reply; the others in the background.
    AllInitial(all_initial::AllInitial) = "AllInitialRoute",
    /// The reply most children give.
    AllMajority(all_majority::AllMajority) = "AllMajorityRoute",
    /// Children in order while they fail.
    Failover(failover::Failover) = "FailoverRoute",
    /// A child, and others that keep things shortly while it fails.
    FailoverWithExptime(failover_with_exptime::FailoverWithExptime) = "FailoverWithExptimeRoute",
    /// A pool, and its hosts in the order of the key while it fails.
    SaltedFailover(salted_failover::SaltedFailover) = "SaltedFailoverRoute",
    /// A few of many children, by the host the router runs on.
    Latest(latest::Latest) = "LatestRoute",
    /// The first child decides; the others follow.
    Primary(primary::Primary) = "PrimaryRoute",
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
    /// One child, by this router's id.
    HostId(host_id::HostId) = "HostIdRoute",
    /// Any child.
    Random(random::Random) = "RandomRoute",
    /// The less busy of two children.
    LoadBalancer(load_balancer::LoadBalancer) = "LoadBalancerRoute",
    /// One child, by the client's address.
    OriginalClientHash(original_client_hash::OriginalClientHash) = "OriginalClientHashRoute",
    /// One child, by the key's hash.
    Hash(hash::Hash) = "HashRoute",
    /// One route per group of operations.
    RoutingGroup(routing_group::RoutingGroup) = "RoutingGroupRoute",
    /// One route per prefix of the key.
    PrefixSelector(prefix_selector::PrefixSelector) = "PrefixSelectorRoute",
    /// One route per routing prefix, or several.
    Root(root::Root) = "RootRoute",
    /// The child, with the routing prefix in the key.
    KeepRoutingPrefix(keep_routing_prefix::KeepRoutingPrefix) = "KeepRoutingPrefix",
    /// The child, unless the key has a hash stop it may not have.
    HashStopAllowList(hash_stop_allow_list::HashStopAllowList) = "HashStopAllowListRoute",
    /// The child, by a part of the key.
    KeyParse(key_parse::KeyParse) = "KeyParseRoute",
    /// The child, with another exptime.
    ModifyExptime(modify_exptime::ModifyExptime) = "ModifyExptimeRoute",
    /// mcrouter's default reply, counted.
    DevNull(dev_null::DevNull) = "DevNullRoute",
    /// No reply.
    Blackhole(blackhole::Blackhole) = "BlackholeRoute",
    /// The child, and a line in the log.
    Logging(logging::Logging) = "LoggingRoute",
    /// The child, so often a second.
    RateLimit(rate_limit::RateLimit) = "RateLimitRoute",
    /// The child, so often at a time.
    OutstandingLimit(outstanding_limit::OutstandingLimit) = "OutstandingLimitRoute",
    /// The child, or another while its server is cold.
    SlowWarmUp(slow_warm_up::SlowWarmUp) = "SlowWarmUpRoute",
    /// A cold child, filled from a warm one.
    WarmUp(warm_up::WarmUp) = "WarmUpRoute",
    /// A staging child, kept as the warm one is.
    Staging(staging::Staging) = "StagingRoute",
    /// A small cache in front of a large one.
    L1L2Cache(l1_l2_cache::L1L2Cache) = "L1L2CacheRoute",
    /// Large values in another child than small ones.
    L1L2SizeSplit(l1_l2_size_split::L1L2SizeSplit) = "L1L2SizeSplitRoute",
    /// Large values in pieces.
    BigValue(big_value::BigValue) = "BigValueRoute",
    /// From one child to another, over a time.
    Migrate(migrate::Migrate) = "MigrateRoute",
    /// Copies of some requests to others.
    Shadow(shadow::Shadow) = "ShadowRoute",
    /// A hot key, several times.
    KeySplit(key_split::KeySplit) = "KeySplitRoute",
    /// A hot shard, several times.
    ShardSplit(shard_split::ShardSplit) = "ShardSplitRoute",
    /// Deletes that failed are written down.
    AsyncLog(async_log::AsyncLog) = "AsyncLogRoute",
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

    /// The server a key belongs to below that node while all are up: what deletes it misses are written down for.
    pub fn destination(&self, node: NodeId, operation: Operation, key: &[u8]) -> Option<ServerId> {
        let mut node = node;
        loop {
            node = match self.node(node) {
                RouteNode::Server(server) => return Some(server.0),
                RouteNode::Pool(pool) => return pool.home(key),
                route => *self.children(node).get(route.main_child(operation, key)?)?,
            };
        }
    }

    /// Every server some request could go to, in order and once each.
    pub fn servers(&self) -> &[ServerId] {
        &self.servers
    }

    /// What the nodes remember on a shard, as it is at first. `seed` feeds what is left to chance; `host_id` is the same
    /// for all shards of a router and another for each router: what is sticky to the host goes by it.
    pub fn states(&self, seed: u64, host_id: u64) -> RouteStates {
        let nodes = self.nodes.iter().map(|node| node.route.state(node.children.len())).collect();
        RouteStates { nodes, random: seed | 1, host_id, events: RouteEvents::default() }
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
    events: RouteEvents,
}

impl RouteStates {
    pub(crate) fn of(&mut self, node: NodeId) -> &mut NodeState {
        &mut self.nodes[node.0 as usize]
    }

    /// True where some node remembers anything.
    pub fn remember(&self) -> bool {
        self.nodes.iter().any(|node| !matches!(node, NodeState::None))
    }

    /// Names this router among others.
    pub fn host_id(&self) -> u64 {
        self.host_id
    }

    /// Counts what a route did that no reply tells.
    pub(crate) fn count(&mut self, event: RouteEvent) {
        self.events[event as usize] += 1;
    }

    /// What was counted since this was asked before, by `RouteEvent as usize`.
    pub fn take_events(&mut self) -> RouteEvents {
        std::mem::take(&mut self.events)
    }

    /// The next 64 bits of a xorshift* generator: to choose at random, nothing else.
    pub(crate) fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A random number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // The high bits times the bound: no bias worth the name.
        ((u128::from(self.random()) * bound as u128) >> 64) as usize
    }

    /// A random number from 0 to below 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
