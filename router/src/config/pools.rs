//! Pools: their servers, how keys are spread over them, and what holds for the connections to them.
//!
//! Never decides what a route does with a pool. A pool with faults is kept under its name, so that routes which name it
//! aren't called wrong too.

use super::address::{ServerAddress, is_name};
use super::ejection::{self, Ejection};
use super::error::{Faults, Path, did_you_mean, seen};
use super::keys::{HASH, NAME_FORM, POOL, SERVER, SERVER_FORMS};
use super::overrides::Overrides;
use super::reader::{Map, entries, items, text_of};
use super::tree::{Node, Value};
use keyway_policies::hash::ketama;
use keyway_policies::routes::builder::{MAX_LABEL_BYTES, MAX_POOL_SERVERS};
use keyway_policies::{Distribution, HashTag, OnDown};
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
    pub distribution: Distribution,
    /// Which part of a key is hashed.
    pub tag: Option<HashTag>,
    /// What PoolRoute does for keys of a server that is down.
    pub on_down: OnDown,
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
    /// The address as it was written: what metrics and logs show, and what ketama hashes when there is no name.
    pub configured: String,
    /// Its name on the ring.
    pub name: Option<String>,
    /// Its share of the keys.
    pub weight: u32,
}

impl Server {
    /// What ketama hashes for it.
    pub fn label(&self) -> String {
        let host_and_port = self.configured.rsplit_once(':');
        let (host, port) = match (&self.address, host_and_port) {
            // As written: twemproxy hashes the configured text, not what it resolves to.
            (ServerAddress::Ip(_) | ServerAddress::Name(..), Some((host, port))) => (host, port.parse().ok()),
            (ServerAddress::Unix(path), _) => (path.to_str().unwrap_or_default(), None),
            (ServerAddress::Ip(_) | ServerAddress::Name(..) | ServerAddress::Embedded(_), _) => {
                (self.configured.as_str(), None)
            }
        };
        ketama::label(self.name.as_deref(), host.trim_matches(['[', ']']), port)
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
    let (distribution, tag) = read_hash(map, faults);
    let servers = match servers {
        Some(node) if name == ORDERED_POOL => read_servers(node, map.path, distribution, faults),
        Some(node) => read_servers(node, &Path::Key(map.path, "servers"), distribution, faults),
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
    Pool {
        name: name.to_owned(),
        servers,
        distribution: distribution.unwrap_or(Distribution::Ch3),
        tag,
        on_down,
        ejection,
        failure_limit,
        connection: ConnectionSettings {
            connections: u16::try_from(connections).unwrap_or(u16::MAX),
            connect_timeout: Duration::from_millis(map.number("connect_timeout_ms", faults)),
            timeout: Duration::from_millis(timeout_ms),
        },
        deadline: Duration::from_millis(deadline_ms),
    }
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

/// `None` stands for a fault, so that nothing is concluded from it.
fn read_hash(pool: &Map<'_, '_>, faults: &mut Faults) -> (Option<Distribution>, Option<HashTag>) {
    let Some(node) = pool.find("hash") else { return (Some(Distribution::Ch3), None) };
    let path = Path::Key(pool.path, "hash");
    let map = Map::read(node, &HASH, &path, faults);
    let function = map.given_word("function", faults);
    let distribution = map.given_word("distribution", faults);
    let is_good = |name: &str, word: Option<&str>| word.is_some() || map.find(name).is_none();
    let are_good = is_good("function", function) && is_good("distribution", distribution);
    let together = Distribution::from_names(function, distribution).filter(|_| are_good);
    if together.is_none() && are_good {
        let problem = format!(
            "function {} and distribution {} don't go together",
            function.unwrap_or_default(),
            distribution.unwrap_or_default()
        );
        faults.at(node.position, path, problem, "ch3 with ch3, fnv1a_64 with ketama".to_owned());
    }
    let tag = map.given_text("tag", faults).and_then(|(text, node)| {
        let tag = HashTag::from_pair(text.as_bytes()).filter(|_| text.bytes().all(|byte| byte.is_ascii_graphic()));
        if tag.is_none() {
            map.refuse("tag", node, format!("{} isn't two characters", seen(text)), faults);
        }
        tag
    });
    (together, tag)
}

fn read_servers(node: &Node, path: &Path<'_>, distribution: Option<Distribution>, faults: &mut Faults) -> Vec<Server> {
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
        let Some(server) = read_server(item, &path, distribution, faults) else { continue };
        if let Some(first) = addresses.insert(server.address.clone(), at) {
            let problem = format!("{} is given twice; first as server {first}", seen(&server.configured));
            faults.at(item.position, path, problem, "a server once; `weight` gives it more keys".to_owned());
        } else if let Some(Distribution::Ketama(_)) = distribution {
            let label = server.label();
            if label.len() > MAX_LABEL_BYTES {
                let allowed = format!("a `name`, or an address of at most {MAX_LABEL_BYTES} bytes");
                faults.at(item.position, path, "the address is too long for the ring".to_owned(), allowed);
            }
            if let Some(first) = labels.insert(label.clone(), at) {
                let problem = format!("{} is on the ring already, as server {first}", seen(&label));
                faults.at(item.position, path, problem, "a `name` of its own for each server".to_owned());
            }
        }
        servers.push(server);
    }
    servers
}

fn read_server(
    node: &Node,
    path: &Path<'_>,
    distribution: Option<Distribution>,
    faults: &mut Faults,
) -> Option<Server> {
    let map = match &node.value {
        Value::Map(_) => Map::read(node, &SERVER, path, faults),
        Value::Scalar { .. } | Value::List(_) => {
            let text = text_of(node, path, SERVER_FORMS, faults)?;
            let address = read_address(text, node, path, faults)?;
            return Some(Server { address, configured: text.to_owned(), name: None, weight: 1 });
        }
    };
    map.required("address", faults);
    let weight = map.number("weight", faults);
    let name = map.given_text("name", faults);
    if let Some((text, node)) = name
        && !is_name(text)
    {
        map.refuse("name", node, format!("{} is no good name", seen(text)), faults);
    }
    if distribution == Some(Distribution::Ch3) {
        // mcrouter's ch3 goes by the position alone: a weight or a name would be silently of no effect.
        let useless = [("name", name.is_some()), ("weight", weight != 1)];
        for (key, _) in useless.into_iter().filter(|(_, given)| *given) {
            if let Some(node) = map.find(key) {
                let problem = format!("{} has no effect with ch3, which goes by the order of servers", node.seen());
                let path = Path::Key(path, key);
                faults.at(node.position, path, problem, "with `hash: {distribution: ketama}`".to_owned());
            }
        }
    }
    let (text, address_node) = map.given_text("address", faults)?;
    let address = read_address(text, address_node, &Path::Key(path, "address"), faults)?;
    let name = name.map(|(text, _)| text.to_owned());
    let weight = u32::try_from(weight).unwrap_or(1);
    Some(Server { address, configured: text.to_owned(), name, weight })
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
