//! The route trees under test. `{options}` and `{limits}` stand for what the seed says of pools and limits.

use crate::client::Trust;

/// One configuration.
pub(crate) struct Tree {
    pub(crate) name: &'static str,
    pub(crate) yaml: &'static str,
    /// What clients may conclude where servers fail.
    pub(crate) trust: Trust,
    /// The same where nothing fails; `None` where a tree by design doesn't act as one server would.
    pub(crate) exact: Option<Trust>,
    /// Whether it acts as one server only towards a client that waits between a read and a write of the same key: a
    /// failover may come behind a later write.
    pub(crate) in_batches: bool,
}

/// Servers have the addresses 10.0.0.2 to 10.0.0.7.
pub(crate) const SERVERS: std::ops::RangeInclusive<u8> = 2..=7;

pub(crate) const TREES: [Tree; 9] = [
    Tree {
        name: "one server",
        yaml: "pools: {a: {servers: ['10.0.0.2:11211'], {options}}}\nroute: DefaultRoute|Pool|a",
        trust: Trust::OneCopy,
        exact: Some(Trust::ExactInOrder),
        in_batches: false,
    },
    Tree {
        name: "sharded",
        yaml: "pools: {a: {servers: ['10.0.0.2:11211', '10.0.0.3:11211', '10.0.0.4:11211'], {options}}}\nroute: PoolRoute|a",
        trust: Trust::OneCopy,
        exact: Some(Trust::Exact),
        in_batches: false,
    },
    Tree {
        name: "sharded by ketama",
        yaml: "pools: {a: {servers: ['10.0.0.2:11211', '10.0.0.3:11211', {address: '10.0.0.4:11211', weight: 3}], \
               hash: {function: fnv1a_64, distribution: ketama}, {options}}}\nroute: PoolRoute|a",
        trust: Trust::OneCopy,
        exact: Some(Trust::Exact),
        in_batches: false,
    },
    Tree {
        name: "sharded, rehashing",
        yaml: "pools: {a: {servers: ['10.0.0.2:11211', '10.0.0.3:11211', '10.0.0.4:11211'], on_down: rehash, {options}}}\n\
               route: PoolRoute|a",
        trust: Trust::AnyCopy,
        exact: Some(Trust::Exact),
        in_batches: false,
    },
    Tree {
        name: "first that is up",
        yaml: "pools: {a: {servers: ['10.0.0.2:11211', '10.0.0.3:11211'], {options}}}\nroute: DefaultRoute|Pool|a",
        trust: Trust::AnyCopy,
        exact: Some(Trust::ExactInOrder),
        in_batches: false,
    },
    Tree {
        name: "gomcrouter's",
        yaml: "pools: {a: {servers: ['10.0.0.2:11211', '10.0.0.3:11211'], {options}}}\n\
               route:\n  type: OperationSelectorRoute\n  default_policy: AllFastestRoute|Pool|a\n  operation_policies: \
               {get: MissFailoverRoute|Pool|a, gets: MissFailoverRoute|Pool|a, gat: MissFailoverRoute|Pool|a, \
               gats: MissFailoverRoute|Pool|a, version: LocalRoute, quit: LocalRoute}",
        trust: Trust::AnyCopy,
        exact: Some(Trust::Exact),
        in_batches: true,
    },
    Tree {
        name: "two sharded copies",
        yaml: "pools:\n  a: {servers: ['10.0.0.2:11211', '10.0.0.3:11211', '10.0.0.4:11211'], {options}}\n  \
               b: {servers: ['10.0.0.5:11211', '10.0.0.6:11211'], {options}}\n\
               route:\n  type: OperationSelectorRoute\n  \
               default_policy: {type: AllFastestRoute, children: [PoolRoute|a, {type: OperationSelectorRoute, \
               default_policy: PoolRoute|b, operation_policies: {delete: {type: DefaultRoute, children: [PoolRoute|b, PoolRoute|a]}}}]}\n  \
               operation_policies: {get: {type: MissFailoverRoute, children: [PoolRoute|a, PoolRoute|b]}, \
               gets: {type: MissFailoverRoute, children: [PoolRoute|a, PoolRoute|b]}, \
               gat: {type: MissFailoverRoute, children: [PoolRoute|a, PoolRoute|b]}, \
               gats: {type: MissFailoverRoute, children: [PoolRoute|a, PoolRoute|b]}}",
        trust: Trust::AnyCopy,
        exact: Some(Trust::Exact),
        in_batches: true,
    },
    Tree {
        name: "everything fails over",
        yaml: "pools:\n  a: {servers: ['10.0.0.2:11211', '10.0.0.3:11211'], {options}}\n  b: {servers: ['10.0.0.4:11211'], {options}}\n\
               route: {type: MissFailoverRoute, children: [PoolRoute|b, Pool|a, LocalRoute]}",
        trust: Trust::AnyCopy,
        exact: None,
        in_batches: false,
    },
    Tree {
        name: "all at once, each with a spare",
        yaml: "pools:\n  a: {servers: ['10.0.0.2:11211', '10.0.0.3:11211'], {options}}\n  b: {servers: ['10.0.0.4:11211', '10.0.0.7:11211'], {options}}\n\
               route: {type: AllFastestRoute, children: [{type: MissFailoverRoute, children: Pool|a}, \
               {type: MissFailoverRoute, children: Pool|b}]}",
        trust: Trust::AnyCopy,
        exact: None,
        in_batches: false,
    },
];
