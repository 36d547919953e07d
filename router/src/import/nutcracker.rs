//! twemproxy's nutcracker.yml: a pool, a listener and a route for each of its pools.
//!
//! Owns its keys and defaults. Keys stay on their servers: functions, distributions, names, weights and tags mean the
//! same here, and are written out even where twemproxy's defaults stood for them.

use super::made::{list, map, named, number, text};
use super::section::Section;
use crate::config::error::{Faults, Path, Position, seen};
use crate::config::mcrouter::good_name;
use crate::config::tree::{Node, Value};
use crate::config::{MAIN_ROUTE, Notes};
use std::collections::HashSet;

/// Failures in a row that eject a server, and for how many milliseconds, when nothing is said.
const FAILURE_LIMIT: i64 = 2;
const RETRY_TIMEOUT: i64 = 30_000;

/// What the pools come to.
#[derive(Default)]
pub(super) struct Fleet {
    pub(super) listeners: Vec<Node>,
    pub(super) pools: Vec<(String, Node)>,
    pub(super) routes: Vec<(String, Node)>,
    names: HashSet<String>,
}

impl Fleet {
    /// A name for a pool and its route.
    pub(super) fn name(&mut self, given: &str, at: Position, notes: &mut Notes) -> String {
        // Routes' types are no names of routes; a pool called `main` is one tree among others.
        let is_type = given.ends_with("Route") || given == "Pool" || given == MAIN_ROUTE;
        let wanted = if is_type { format!("{given}-pool") } else { given.to_owned() };
        let name = good_name(&wanted, &mut self.names);
        if name != given {
            notes.at(at, Path::Key(&Path::Top, given), format!("is called {name} here"));
        }
        name
    }

    /// Adds a pool with its listener and route.
    pub(super) fn add(&mut self, name: String, at: Position, listen: (String, Position), pool: Vec<(&str, Node)>) {
        let (address, listen_at) = listen;
        self.listeners.push(map(listen_at, vec![("address", text(listen_at, address)), ("route", text(at, &name))]));
        self.pools.push((name.clone(), map(at, pool)));
        self.routes.push((name.clone(), text(at, format!("PoolRoute|{name}"))));
    }

    /// The whole configuration.
    pub(super) fn into_tree(self, at: Position) -> Node {
        let pools = ("pools", named(at, self.pools));
        map(at, vec![("listeners", list(at, self.listeners)), pools, ("routes", named(at, self.routes))])
    }
}

/// Our configuration; `None` when no pool is left.
pub(super) fn translate(top: &Node, notes: &mut Notes, faults: &mut Faults) -> Option<Node> {
    let Value::Map(entries) = &top.value else {
        faults.at(top.position, Path::Top, format!("{} where pools are needed", top.seen()), String::new());
        return None;
    };
    let mut fleet = Fleet::default();
    for entry in entries {
        let path = Path::Key(&Path::Top, &entry.key);
        if let Some(pool) = Section::of(&entry.value, &path, faults) {
            read_pool(&entry.key, entry.position, pool, &mut fleet, notes, faults);
        }
    }
    if fleet.pools.is_empty() {
        let problem = "none of the pools is one of memcached; Redis isn't supported by this version".to_owned();
        faults.at(top.position, Path::Top, problem, String::new());
        return None;
    }
    Some(fleet.into_tree(top.position))
}

fn read_pool(
    given: &str,
    at: Position,
    pool: Section<'_, '_>,
    fleet: &mut Fleet,
    notes: &mut Notes,
    faults: &mut Faults,
) {
    if let Some((true, at)) = pool.flag("redis", faults) {
        let path = Path::Key(pool.path, "redis");
        notes.at(at, path, "Redis isn't supported by this version: the pool is left out");
        return;
    }
    let listen = pool.required("listen", faults);
    // A random server has neither a name nor a share.
    let is_random = pool.text("distribution", faults).is_some_and(|(word, _)| word == "random");
    let servers = read_servers(&pool, is_random, notes, faults);
    let hash = read_hash(&pool, at, faults);
    let timeouts = read_timeout(&pool, at, notes, faults);
    let connections = pool.number("server_connections", faults);
    let ejects = pool.flag("auto_eject_hosts", faults);
    let limit = pool.number("server_failure_limit", faults);
    let retry = pool.number("server_retry_timeout", faults);
    note_the_rest(&pool, notes, faults);
    let path = *pool.path;
    pool.close(faults);
    let Some((listen, listen_at)) = listen else { return };
    let name = fleet.name(given, at, notes);
    let address = read_listen(listen, listen_at, &path, notes);
    let mut keys = vec![("servers", servers), ("hash", hash)];
    keys.extend(timeouts);
    if let Some((connections, at)) = connections {
        keys.push(("connections", number(at, connections)));
    }
    // Ejection has twemproxy's names here too; its defaults are written out where they count.
    let default = ejects.filter(|(ejects, _)| *ejects).map(|(_, at)| at);
    if let Some((ejects, at)) = ejects {
        keys.push(("auto_eject_hosts", number(at, ejects)));
    }
    if let Some((retry, at)) = retry.or(default.map(|at| (RETRY_TIMEOUT, at))) {
        keys.push(("server_retry_timeout", number(at, retry)));
    }
    if let Some((limit, at)) = limit.or(default.map(|at| (FAILURE_LIMIT, at))) {
        keys.push(("server_failure_limit", number(at, limit)));
    }
    fleet.add(name, at, (address, listen_at), keys);
}

/// `host:port`, or `/path` with permissions.
fn read_listen(listen: &str, at: Position, path: &Path<'_>, notes: &mut Notes) -> String {
    let path = Path::Key(path, "listen");
    if !listen.starts_with('/') {
        let (host, port) = listen.rsplit_once(':').unwrap_or((listen, ""));
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        return format!("tcp://{host}:{port}");
    }
    let (socket, permissions) = listen.rsplit_once(' ').unwrap_or((listen, ""));
    if !permissions.is_empty() {
        let why = "set the umask, or the permissions of the folder it is in";
        notes.at(at, path, format!("permissions {} aren't carried over: {why}", seen(permissions)));
    }
    format!("unix://{socket}")
}

fn read_hash(pool: &Section<'_, '_>, at: Position, faults: &mut Faults) -> Node {
    let or = |found: Option<(&str, Position)>, default: &str| match found {
        Some((word, at)) => text(at, word),
        None => text(at, default),
    };
    let function = or(pool.text("hash", faults), "fnv1a_64");
    let distribution = or(pool.text("distribution", faults), "ketama");
    let mut hash = vec![("function", function), ("distribution", distribution)];
    if let Some((tag, at)) = pool.text("hash_tag", faults) {
        hash.push(("tag", text(at, tag)));
    }
    map(at, hash)
}

/// The same time for making a connection and for a request, as in twemproxy.
fn read_timeout(
    pool: &Section<'_, '_>,
    at: Position,
    notes: &mut Notes,
    faults: &mut Faults,
) -> Vec<(&'static str, Node)> {
    match pool.number("timeout", faults) {
        Some((timeout, at)) if timeout >= 0 => {
            vec![("connect_timeout_ms", number(at, timeout.min(600_000))), ("timeout_ms", number(at, timeout))]
        }
        given => {
            let at = given.map_or(at, |(_, at)| at);
            let path = Path::Key(pool.path, "timeout");
            notes.at(at, path, "twemproxy waits for ever; here it is the default, `timeout_ms` 1000");
            Vec::new()
        }
    }
}

fn note_the_rest(pool: &Section<'_, '_>, notes: &mut Notes, faults: &mut Faults) {
    let mut note = |at: Position, key: &str, why: &str| {
        notes.at(at, Path::Key(pool.path, key), format!("isn't carried over: {why}"));
    };
    if let Some((_, at)) = pool.number("backlog", faults) {
        note(at, "backlog", "it is 4096, which the kernel cuts to net.core.somaxconn");
    }
    if let Some((_, at)) = pool.number("client_connections", faults) {
        note(at, "client_connections", "it has no effect in twemproxy; `limits.clients` bounds the clients of a shard");
    }
    if let Some((true, at)) = pool.flag("tcpkeepalive", faults) {
        note(at, "tcpkeepalive", "servers are checked, and connections to those that are down closed");
    }
    if let Some((true, at)) = pool.flag("reuseport", faults) {
        note(at, "reuseport", "every shard listens so; run one process with as many `shards` as there were processes");
    }
    if let Some((true, at)) = pool.flag("preconnect", faults) {
        note(at, "preconnect", "connections are made when they are needed");
    }
    for key in ["redis_auth", "redis_db"] {
        if let Some(node) = pool.find(key) {
            note(node.position, key, "Redis isn't supported by this version");
        }
    }
}

fn read_servers(pool: &Section<'_, '_>, is_random: bool, notes: &mut Notes, faults: &mut Faults) -> Node {
    let path = Path::Key(pool.path, "servers");
    let mut servers = Vec::new();
    for (at, (text, position)) in pool.texts("servers", faults).into_iter().enumerate() {
        let path = Path::Item(&path, at);
        match Server::of(text) {
            Some(Server { address, name, weight }) if is_random => {
                if name.is_some() || weight != 1 {
                    notes.at(position, path, "its name and weight have no effect with distribution random");
                }
                servers.push(Server { address, name: None, weight: 1 }.to_node(position));
            }
            Some(server) => servers.push(server.to_node(position)),
            None => {
                let allowed = "host:port:weight [name], /path:weight [name]".to_owned();
                faults.at(position, path, format!("{} is no server", seen(text)), allowed);
            }
        }
    }
    list(pool.position, servers)
}

/// A server of twemproxy's.
struct Server {
    address: String,
    name: Option<String>,
    weight: u32,
}

impl Server {
    /// Takes `host:port:weight [name]` or `/path:weight [name]` apart from its end.
    fn of(text: &str) -> Option<Server> {
        let (place, name) = match text.rsplit_once(' ') {
            Some((place, name)) => (place, Some(name.to_owned())),
            None => (text, None),
        };
        let (address, weight) = place.rsplit_once(':')?;
        let weight = weight.parse().ok().filter(|weight| *weight > 0)?;
        if address.starts_with('/') {
            // twemproxy's quirk: without a name it hashes the path with the colon behind it.
            let name = name.unwrap_or_else(|| format!("{address}:"));
            return Some(Server { address: format!("unix:{address}"), name: Some(name), weight });
        }
        let (host, port) = address.rsplit_once(':')?;
        let is_bare_v6 = host.contains(':') && !host.starts_with('[');
        let address = if is_bare_v6 { format!("[{host}]:{port}") } else { address.to_owned() };
        Some(Server { address, name, weight })
    }

    fn to_node(&self, at: Position) -> Node {
        if self.weight == 1 && self.name.is_none() {
            return text(at, self.address.as_str());
        }
        let mut keys = vec![("address", text(at, self.address.as_str()))];
        keys.extend(self.name.as_ref().map(|name| ("name", text(at, name.as_str()))));
        if self.weight != 1 {
            keys.push(("weight", number(at, self.weight)));
        }
        map(at, keys)
    }
}
