//! A `Config` to the table shards route by.
//!
//! Owns what makes two configured servers the same one (`ServerIdentity`). Invariant: a `Config` was tried with
//! `build_routes` when it was read, so that building its table can't fail.

use super::pools::{ConnectionSettings, Pool};
use super::{Config, Route, ServerAddress};
use crate::table::{ServerKey, Table, TablePool, TableRoute, TableServer};
use crate::trouble::DownRules;
use keyway_policies::routes::keep_routing_prefix::KeepRoutingPrefix;
use keyway_policies::{BuildError, NodeId, PoolSpec, Routes, RoutesBuilder, ServerId};
use std::collections::HashMap;

/// What makes two configured servers the same: one key, one set of connections per shard, one health.
///
/// The address and all that holds for its connections. A server named in two pools that agree in connections and
/// timeouts is one server; where they differ it is two, as each pool must get what it asks for. A pool's name, hash and
/// deadline don't count: a reload may rename or reorder pools and keep every connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerIdentity {
    /// Where it is.
    pub address: ServerAddress,
    /// What holds for each connection.
    pub connection: ConnectionSettings,
}

impl Config {
    /// The identities of all servers, once each, in the order of the file.
    pub fn identities(&self) -> Vec<ServerIdentity> {
        let mut known = std::collections::HashSet::new();
        let all = self.pools.iter().flat_map(|pool| pool.servers.iter().map(|server| identity(pool, &server.address)));
        all.filter(|identity| known.insert(identity.clone())).collect()
    }

    /// The table of this configuration. `keys` gives the key of a server, the same one for the same identity.
    pub fn table(&self, generation: u64, keys: &mut dyn FnMut(&ServerIdentity) -> ServerKey) -> Table {
        let mut servers = Vec::new();
        for (at, pool) in self.pools.iter().enumerate() {
            for server in &pool.servers {
                let key = keys(&identity(pool, &server.address));
                servers.push(TableServer { key, host: server.configured.clone(), pool: at });
            }
        }
        let pools = self.pools.iter().map(|pool| TablePool {
            name: pool.name.clone(),
            connections: pool.connection.connections,
            connect_timeout: pool.connection.connect_timeout,
            timeout: pool.connection.timeout,
            deadline: pool.deadline,
            down: DownRules { failures: pool.failure_limit.unwrap_or(self.health.down.failures), ..self.health.down },
        });
        let routes = self.routes.iter().map(|named| match build_routes(&named.route, &self.pools) {
            Ok(routes) => TableRoute { name: named.name.clone(), routes },
            Err(error) => unreachable!("route {} was tried when the file was read: {error}", named.name),
        });
        Table {
            generation,
            servers,
            pools: pools.collect(),
            routes: routes.collect(),
            listener_routes: self.listeners.iter().map(|listener| listener.route).collect(),
            host_id: host_id(),
            limits: self.limits,
            admin_keys: self.admin_keys,
            about: self.about.clone(),
        }
    }
}

/// A hash of the host's name: the same for every router of a host, another on each.
fn host_id() -> u64 {
    let name = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
    // FNV-1a.
    name.trim_ascii()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn identity(pool: &Pool, address: &ServerAddress) -> ServerIdentity {
    ServerIdentity { address: address.clone(), connection: pool.connection }
}

/// The arena of a tree, its `ServerId`s counted over all pools in order.
pub(super) fn build_routes(route: &Route, pools: &[Pool]) -> Result<Routes, BuildError> {
    let mut first_server = Vec::with_capacity(pools.len());
    let mut servers = 0;
    for pool in pools {
        first_server.push(servers);
        servers += pool.servers.len();
    }
    let mut arena = Arena {
        builder: Routes::builder(),
        pools,
        first_server,
        pool_nodes: HashMap::new(),
        server_nodes: HashMap::new(),
    };
    let root = arena.add(route)?;
    arena.builder.build(root)
}

struct Arena<'a> {
    builder: RoutesBuilder,
    pools: &'a [Pool],
    /// The `ServerId` of each pool's first server.
    first_server: Vec<usize>,
    /// A pool's ring takes memory: one node serves all routes that name it.
    pool_nodes: HashMap<usize, NodeId>,
    server_nodes: HashMap<ServerId, NodeId>,
}

impl Arena<'_> {
    /// Adds a route, children first. Recursion is bounded by `MAX_ROUTE_DEPTH`.
    fn add(&mut self, route: &Route) -> Result<NodeId, BuildError> {
        match route {
            Route::Node(route, children) => {
                let children = children.iter().map(|child| self.add(child)).collect::<Result<Vec<_>, _>>()?;
                self.builder.add(route.clone(), &children)
            }
            Route::Pool { pool } => self.add_pool(*pool),
            Route::Server { pool, server } => {
                let server = self.server_id(*pool, *server);
                if let Some(node) = self.server_nodes.get(&server) {
                    return Ok(*node);
                }
                let node = self.builder.server(server)?;
                let node = self.with_prefix(*pool, node)?;
                self.server_nodes.insert(server, node);
                Ok(node)
            }
        }
    }

    fn add_pool(&mut self, at: usize) -> Result<NodeId, BuildError> {
        if let Some(node) = self.pool_nodes.get(&at) {
            return Ok(*node);
        }
        let pool = &self.pools[at];
        let spec = PoolSpec {
            servers: (0..pool.servers.len()).map(|server| self.server_id(at, server)).collect(),
            placement: pool.placement(),
            on_down: pool.on_down,
        };
        let node = self.builder.pool(&spec)?;
        let node = self.with_prefix(at, node)?;
        self.pool_nodes.insert(at, node);
        Ok(node)
    }

    /// What a pool's node, or one of its servers', is to routes above it.
    fn with_prefix(&mut self, pool: usize, node: NodeId) -> Result<NodeId, BuildError> {
        match self.pools[pool].keep_routing_prefix {
            true => self.builder.add(KeepRoutingPrefix, &[node]),
            false => Ok(node),
        }
    }

    fn server_id(&self, pool: usize, server: usize) -> ServerId {
        // At most MAX_POOLS x MAX_POOL_SERVERS: far below 32 bits.
        ServerId((self.first_server[pool] + server) as u32)
    }
}
