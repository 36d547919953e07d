//! Pools: their servers, how keys are spread over them, and what holds for the connections to them.
//!
//! Never decides what a route does with a pool. A pool with faults is kept under its name, so that routes which name it
//! aren't called wrong too.

use super::address::{ServerAddress, is_name};
use super::ejection::{self, Ejection};
use super::error::{Faults, Path, did_you_mean, seen};
use super::hash::{Hash, read_buckets, read_weight};
use super::inherit::with_inherited;
use super::keys::{NAME_FORM, POOL, SERVER, SERVER_FORMS};
use super::overrides::Overrides;
use super::reader::{Map, entries, items, text_of};
use super::tree::{Node, Value};
use keyway_policies::hash::{MAX_LABEL_BYTES, WeightRule};
use keyway_policies::routes::builder::MAX_POOL_SERVERS;
use keyway_policies::{Distribution, Member, OnDown, PlacementSpec, Weight};
use std::collections::HashMap;
use std::time::Duration;

/// Most pools of a configuration.
pub const MAX_POOLS: usize = 1000;
/// The name of the pool that `ordered_pool` makes.
pub const ORDERED_POOL: &str = "ordered_pool";

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The configured name.
    pub name: String,
    /// At least one; no address twice.
    pub servers: Vec<Server>,
    /// How PoolRoute spreads keys.
    pub hash: Hash,
    /// What PoolRoute does for keys of a server that is down.
    pub on_down: OnDown,
    /// Servers get keys with their routing prefix.
    pub keep_routing_prefix: bool,
    /// What becomes of servers that are down, or come back.
    pub ejection: Ejection,
    /// Failures in a row that take a server out, where the pool has a number of its own.
    pub failure_limit: Option<u32>,
    /// What holds for each connection.
    pub connection: ConnectionSettings,
    /// Longest time for a request with all its tries.
    pub deadline: Duration,
}

/// A server of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub address: ServerAddress,
    /// The address as it was written: what metrics and logs show, and what is hashed for it when there is no name.
    pub configured: String,
    /// Its name on the ring.
    pub name: Option<String>,
    /// Its share of the keys.
    pub weight: Weight,
    /// Its buckets, first and last of each range, where the hash has buckets.
    pub buckets: Vec<(u16, u16)>,
}

impl Pool {
    /// How its keys are placed: a member for each server.
    pub fn placement(&self) -> PlacementSpec {
        let members = self.servers.iter().map(|server| Member {
            label: server.label(self.hash.distribution),
            weight: server.weight,
            buckets: server.buckets.clone(),
        });
        self.hash.placement(members.collect())
    }
}

impl Server {
    /// What is hashed for it.
    pub fn label(&self, distribution: Distribution) -> String {
        let host_and_port = self.configured.rsplit_once(':');
        let (host, port) = match (&self.address, host_and_port) {
            // As written: the programs hash the configured text, not what it resolves to.
            (ServerAddress::Ip(_) | ServerAddress::Name(..), Some((host, port))) => (host, port.parse().ok()),
            (ServerAddress::Unix(path), _) => (path.to_str().unwrap_or_default(), None),
            (ServerAddress::Ip(_) | ServerAddress::Name(..) | ServerAddress::Embedded(_), _) => {
                (self.configured.as_str(), None)
            }
        };
        distribution.label(self.name.as_deref(), host.trim_matches(['[', ']']), port)
    }
}

/// What a pool says about its servers' connections. Part of a server's identity: pools that agree in it share the
/// connections to a server they both name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionSettings {
    /// Per server and shard.
    pub connections: u16,
    /// Longest time to make one.
    pub connect_timeout: Duration,
    /// Longest time for one try.
    pub timeout: Duration,
}

/// Reads `pools`.
pub(super) fn read_pools(node: &Node, path: &Path<'_>, overrides: &Overrides, faults: &mut Faults) -> Vec<Pool> {
    let entries = entries(node, path, faults).unwrap_or_default();
    if entries.len() > MAX_POOLS {
        faults.at(node.position, path, format!("{} pools", entries.len()), format!("at most {MAX_POOLS}"));
        return Vec::new();
    }
    let entries = &with_inherited(entries, path, faults);
    let mut pools = Vec::with_capacity(entries.len());
    for entry in entries {
        let path = Path::Key(path, &entry.key);
        if !is_name(&entry.key) {
            faults.at(entry.position, path, format!("{} is no good name", seen(&entry.key)), NAME_FORM.to_owned());
        }
        let map = Map::read(&entry.value, &POOL, &path, faults);
        let servers = map.required("servers", faults);
        pools.push(read_pool(&entry.key, &map, servers, overrides, faults));
    }
    pools
}

/// Reads `ordered_pool`: a pool of which only the servers are given.
pub(super) fn read_ordered_pool(node: &Node, path: &Path<'_>, overrides: &Overrides, faults: &mut Faults) -> Pool {
    let map = Map::empty(&POOL, node.position, path);
    read_pool(ORDERED_POOL, &map, Some(node), overrides, faults)
}

fn read_pool(
    name: &str,
    map: &Map<'_, '_>,
    servers: Option<&Node>,
    overrides: &Overrides,
    faults: &mut Faults,
) -> Pool {
    // Only memcached passes; the word itself is of no further use yet.
    map.word("protocol", faults);
    let given_servers = servers.and_then(|node| match &node.value {
        Value::List(items) => Some(items.len()),
        Value::Scalar { .. } | Value::Map(_) => None,
    });
    let hash_node = map.find("hash");
    let hash_path = Path::Key(map.path, "hash");
    let hash = hash_node.map_or(Some(Hash::default()), |node| Hash::read(node, &hash_path, faults));
    let servers = match servers {
        Some(node) if name == ORDERED_POOL => read_servers(node, map.path, hash.as_ref(), faults),
        Some(node) => read_servers(node, &Path::Key(map.path, "servers"), hash.as_ref(), faults),
        None => Vec::new(),
    };
    let timeout_ms = map.number("timeout_ms", faults);
    let deadline_ms = match map.given_number("deadline_ms", faults) {
        Some(deadline_ms) if deadline_ms < timeout_ms => {
            if let Some(node) = map.find("deadline_ms") {
                let problem = format!("{deadline_ms} is less than timeout_ms, {timeout_ms}");
                map.refuse("deadline_ms", node, problem, faults);
            }
            deadline_ms
        }
        Some(deadline_ms) => deadline_ms,
        None => 2 * timeout_ms,
    };
    let (timeout_ms, deadline_ms) = overrides.timeout_ms.map_or((timeout_ms, deadline_ms), |ms| (ms, 2 * ms));
    let connections = overrides.connections.unwrap_or(map.number("connections", faults));
    let ejects = map.word("auto_eject_hosts", faults) == "true";
    let on_down = read_on_down(map, ejects, faults);
    let (ejection, failure_limit) = ejection::read(map, on_down, ejects, servers.len(), faults);
    let pool = Pool {
        name: name.to_owned(),
        servers,
        hash: hash.unwrap_or_default(),
        on_down,
        keep_routing_prefix: map.word("keep_routing_prefix", faults) == "true",
        ejection,
        failure_limit,
        connection: ConnectionSettings {
            connections: u16::try_from(connections).unwrap_or(u16::MAX),
            connect_timeout: Duration::from_millis(map.number("connect_timeout_ms", faults)),
            timeout: Duration::from_millis(timeout_ms),
        },
        deadline: Duration::from_millis(deadline_ms),
    };
    // A server with faults is missing from the list, and what would be said of the rest isn't so.
    if let Some(node) = hash_node.filter(|_| given_servers == Some(pool.servers.len())) {
        pool.hash.check_members(&pool.placement(), node, &hash_path, faults);
    }
    pool
}

/// `auto_eject_hosts` is twemproxy's word for `on_down: rehash`.
fn read_on_down(map: &Map<'_, '_>, ejects: bool, faults: &mut Faults) -> OnDown {
    let on_down = map.word("on_down", faults);
    if !ejects {
        return OnDown::from_name(on_down).unwrap_or(OnDown::Error);
    }
    if let Some(node) = map.find("on_down")
        && on_down != OnDown::Rehash.name()
    {
        let problem = format!("{on_down} doesn't go together with auto_eject_hosts, which is on_down: rehash");
        map.refuse("on_down", node, problem, faults);
    }
    OnDown::Rehash
}

/// Without a hash nothing is said about what goes with it: it has faults of its own.
fn read_servers(node: &Node, path: &Path<'_>, hash: Option<&Hash>, faults: &mut Faults) -> Vec<Server> {
    let Some(items) = items(node, path, faults) else { return Vec::new() };
    if items.is_empty() || items.len() > MAX_POOL_SERVERS {
        let allowed = format!("1 to {MAX_POOL_SERVERS}");
        faults.at(node.position, path, format!("{} servers", items.len()), allowed);
        return Vec::new();
    }
    let mut servers = Vec::with_capacity(items.len());
    let mut addresses: HashMap<ServerAddress, usize> = HashMap::new();
    let mut labels: HashMap<String, usize> = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        let path = Path::Item(path, at);
        let Some(server) = read_server(item, &path, hash, faults) else { continue };
        if let Some(first) = addresses.insert(server.address.clone(), at) {
            let problem = format!("{} is given twice; first as server {first}", seen(&server.configured));
            faults.at(item.position, path, problem, "a server once; `weight` gives it more keys".to_owned());
        } else if let Some(hash) = hash.filter(|hash| hash.goes_by_servers_labels()) {
            let label = server.label(hash.distribution);
            if label.len() > MAX_LABEL_BYTES {
                let allowed = format!("a `name`, or an address of at most {MAX_LABEL_BYTES} bytes");
                faults.at(item.position, path, "the address is too long for the hash".to_owned(), allowed);
            }
            if let Some(first) = labels.insert(label.clone(), at) {
                let problem = format!("{} is taken already, by server {first}", seen(&label));
                faults.at(item.position, path, problem, "a `name` of its own for each server".to_owned());
            }
        }
        servers.push(server);
    }
    servers
}

fn read_server(node: &Node, path: &Path<'_>, hash: Option<&Hash>, faults: &mut Faults) -> Option<Server> {
    let map = match &node.value {
        Value::Map(_) => Map::read(node, &SERVER, path, faults),
        Value::Scalar { .. } | Value::List(_) => {
            let text = text_of(node, path, SERVER_FORMS, faults)?;
            let address = read_address(text, node, path, faults)?;
            let (name, weight, buckets) = (None, Weight::ONE, Vec::new());
            return Some(Server { address, configured: text.to_owned(), name, weight, buckets });
        }
    };
    map.required("address", faults);
    let name = map.given_text("name", faults);
    if let Some((text, node)) = name
        // Other routers take any text: no more is asked for than that it can stand in a line of a log.
        && !((1..=MAX_LABEL_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        map.refuse("name", node, format!("{} is no good name", seen(text)), faults);
    }
    let weight = read_weight(&map, hash, faults);
    let buckets = read_buckets(&map, hash, faults);
    if let Some(hash) = hash {
        // A name that a hash by order doesn't look at would be silently of no effect.
        let distribution = hash.distribution;
        let useless = [
            ("name", name.is_some() && !hash.goes_by_servers_labels()),
            ("weight", weight != Weight::ONE && distribution.weights() == WeightRule::Unused),
            ("buckets", !buckets.is_empty() && distribution.buckets().is_none()),
        ];
        for (key, _) in useless.into_iter().filter(|(_, is_useless)| *is_useless) {
            if let Some(node) = map.find(key) {
                let problem = format!("{} has no effect with {}", node.seen(), hash.described());
                let path = Path::Key(path, key);
                faults.at(node.position, path, problem, useful_with(key).to_owned());
            }
        }
    }
    let (text, address_node) = map.given_text("address", faults)?;
    let address = read_address(text, address_node, &Path::Key(path, "address"), faults)?;
    let name = name.map(|(text, _)| text.to_owned());
    Some(Server { address, configured: text.to_owned(), name, weight, buckets })
}

/// What gives a server's key an effect.
fn useful_with(key: &str) -> &'static str {
    match key {
        "buckets" => "with `hash: codis` or `hash: kvstore`",
        _ => "with `hash: {distribution: ketama}`",
    }
}

fn read_address(text: &str, node: &Node, path: &Path<'_>, faults: &mut Faults) -> Option<ServerAddress> {
    match ServerAddress::parse(text) {
        Ok(address) => Some(address),
        Err(problem) => {
            let near = match text.split_once(':') {
                Some((scheme, _)) => did_you_mean(scheme, ["embedded", "unix"]),
                None => String::new(),
            };
            faults.at(node.position, path, format!("{} {problem}{near}", seen(text)), SERVER_FORMS.to_owned());
            None
        }
    }
}
