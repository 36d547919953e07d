//! The configuration: YAML text to a `Config` that can't hold a bad value, and that to the table shards route by.
//!
//! The way: `tree` (YAML with positions) -> `reader` and `keys` (which keys there are, their types and ranges) -> `pools`,
//! `routes` and this file (what they mean together) -> `table`. All faults are found in one reading, each with its place.
//!
//! Never resolves names, opens sockets or looks at the machine: the same text always gives the same `Config`.

mod about;
mod address;
mod async_log;
mod diff;
mod ejection;
pub(crate) mod error;
mod hash;
mod inherit;
pub(crate) mod json;
pub mod keys;
mod macros;
pub(crate) mod mcrouter;
mod memory;
mod note;
mod overrides;
mod pools;
mod reader;
mod reload;
mod routes;
mod table;
pub(crate) mod tree;

pub use about::About;
pub use address::{ListenAddress, ServerAddress};
pub use diff::{Changes, MAX_CHANGES};
pub use ejection::Ejection;
pub use error::{ConfigErrors, Fault, MAX_FAULTS, Place, Position};
pub use hash::Hash;
pub use json::quoted;
pub use memory::MemoryBound;
pub use note::{Note, Notes};
pub use overrides::Overrides;
pub use pools::{ConnectionSettings, MAX_POOLS, ORDERED_POOL, Pool, Server};
pub use reload::{ReloadSettings, WatchMode};
pub use routes::{MAIN_ROUTE, MAX_ROUTE_DEPTH, MAX_ROUTE_NODES, MAX_ROUTES, NamedRoute, ROUTE_SECTIONS, Route};
pub use table::ServerIdentity;
pub use tree::{MAX_DEPTH, MAX_FILE_BYTES};

use crate::table::TableLimits;
use crate::trouble::DownRules;
use error::{Faults, Path, did_you_mean, seen};
use keys::{Section, TOP};
use keyway_io_engine::batching::{Batching, BatchingMode};
use reader::{Map, items, number_of};
use std::collections::HashSet;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tree::Node;

/// Most listeners.
pub const MAX_LISTENERS: usize = 64;

/// A configuration without faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients come in: at least one.
    pub listeners: Vec<Listener>,
    /// The pools.
    pub pools: Vec<Pool>,
    /// The route trees: at least one.
    pub routes: Vec<NamedRoute>,
    /// How many shards.
    pub shards: Shards,
    /// The metrics port, unless it is off.
    pub metrics: Option<ListenAddress>,
    /// The admin port, unless it is off.
    pub admin: Option<ListenAddress>,
    /// The batching window.
    pub batching: Batching,
    /// Limits on clients and queues.
    pub limits: TableLimits,
    /// How long a stopping process waits for its clients.
    pub drain: Duration,
    /// When servers are down and up.
    pub health: Health,
    /// How long a resolved name is used.
    pub dns_ttl: Duration,
    /// Memory of each embedded server, in bytes.
    pub embedded_memory_bytes: u64,
    /// When a changed file is read again.
    pub reload: ReloadSettings,
    /// The async log, where there is one.
    pub async_log: Option<crate::async_log::Settings>,
    /// Whether `get __mcrouter__.<command>` is answered.
    pub admin_keys: bool,
    /// Where it came from, as people are told.
    pub about: Arc<About>,
    /// What of an mcrouter file isn't carried over; empty for a file of ours.
    pub notes: Notes,
}

/// Where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: ListenAddress,
    /// The tree its requests take, as an index into `Config::routes`.
    pub route: usize,
}

/// How many shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One per CPU the process may use.
    Auto,
    /// That many.
    Count(usize),
}

/// When servers are down and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Between two checks of a server.
    pub interval: Duration,
    /// Longest time for one.
    pub timeout: Duration,
    /// How many failures take a server out, where its pool doesn't say.
    pub down: DownRules,
    /// Successes in a row until it is up.
    pub successes: u32,
    /// First time between checks of a server that is down.
    pub probe_initial: Duration,
    /// Longest time between them.
    pub probe_max: Duration,
    /// Least time a server stays down.
    pub min_down: Duration,
    /// Least time one stays down that goes down again and again.
    pub max_down: Duration,
}

impl Config {
    /// Reads a configuration file.
    pub fn load(path: &std::path::Path, overrides: &Overrides) -> Result<Config, ConfigErrors> {
        Config::parse(&Config::read_file(path)?, &path.display().to_string(), overrides)
    }

    /// The bytes of a file, or one more than a configuration may have.
    pub(crate) fn read_file(path: &std::path::Path) -> Result<Vec<u8>, ConfigErrors> {
        read_file(path).map_err(|problem| ConfigErrors::whole_file(&path.display().to_string(), problem))
    }

    /// Reads a configuration from the bytes of a file; `file` is its name in errors.
    pub fn parse(bytes: &[u8], file: &str, overrides: &Overrides) -> Result<Config, ConfigErrors> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(ConfigErrors::whole_file(file, format!("larger than {MAX_FILE_BYTES} bytes")));
        }
        let mut faults = Faults::default();
        let mut notes = Notes::of(file);
        let config = match std::str::from_utf8(bytes) {
            Ok(text) => match Config::tree(text, file, overrides, &mut notes, &mut faults) {
                Some(top) if !top.is_null() => {
                    let config = read(&top, overrides, &mut faults);
                    let about = Arc::new(About::of(file, bytes, &top, &config));
                    Some(Config { about, notes, ..config })
                }
                Some(_) | None if faults.is_empty() => {
                    let problem = "holds no configuration; it needs at least a pool and a route".to_owned();
                    return Err(ConfigErrors::whole_file(file, problem));
                }
                Some(_) | None => None,
            },
            Err(error) => {
                let position = tree::position_of_byte(bytes, error.valid_up_to());
                faults.at(position, "", "not UTF-8".to_owned(), String::new());
                None
            }
        };
        match (faults.into_errors(file), config) {
            (None, Some(config)) => Ok(config),
            (Some(errors), _) => Err(errors),
            (None, None) => Err(ConfigErrors::whole_file(file, "holds no configuration".to_owned())),
        }
    }

    /// Reads a configuration from a tree; errors name places of `file`, which it was made from.
    pub(crate) fn from_tree(top: &Node, file: &str, overrides: &Overrides) -> Result<Config, ConfigErrors> {
        let mut faults = Faults::default();
        let config = read(top, overrides, &mut faults);
        faults.into_errors(file).map_or(Ok(config), Err)
    }

    /// The tree of a file: of YAML as it is, of JSON with mcrouter's macros expanded and its pools in our words.
    pub(crate) fn tree(
        text: &str,
        file: &str,
        overrides: &Overrides,
        notes: &mut Notes,
        faults: &mut Faults,
    ) -> Option<Node> {
        if !json::is_json(file, text) {
            return tree::parse(text, faults);
        }
        let top = json::parse(text, faults)?;
        let top = macros::expand(top, &overrides.config_params, faults)?;
        Some(mcrouter::translate(top, notes, faults))
    }
}

/// The bytes of a configuration file, or why it can't be read.
pub fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more; the rest of a huge file (or of /dev/zero) is never read.
    let most = MAX_FILE_BYTES as u64 + 1;
    let read = std::fs::File::open(path).and_then(|opened| opened.take(most).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| format!("can't be read: {error}"))
}

/// The file's top. With faults noted the result is incomplete and must not be used.
fn read(top: &Node, overrides: &Overrides, faults: &mut Faults) -> Config {
    let path = Path::Top;
    let top = Map::read(top, &TOP, &path, faults);
    let pools = read_all_pools(&top, overrides, faults);
    let routes = read_all_routes(&top, &pools, faults);
    let listeners = read_listeners(&top, &routes, overrides, faults);
    let health = read_health(&top, overrides, faults);
    let (limits, drain) = read_limits(&top, overrides, faults);
    let dns_ttl_ms = section(&top, "dns", &keys::DNS, faults, |map, faults| map.number("ttl_ms", faults));
    let embedded_memory_bytes =
        section(&top, "embedded", &keys::EMBEDDED, faults, |map, faults| map.number("memory_bytes", faults));
    // gomcrouter's file has no listeners; its metrics port is open to all, and it has no other: two of them on one host
    // are told apart by -l and -L alone.
    let (metrics_default, admin_default) = match top.find("listeners") {
        None => (Some(ListenAddress::AllTcp(9090)), None),
        Some(_) => (Some(local(9090)), Some(local(9091))),
    };
    let metrics =
        section(&top, "metrics", &keys::METRICS, faults, |map, faults| read_port(map, metrics_default, faults));
    let (admin, admin_keys) = section(&top, "admin", &keys::ADMIN, faults, |map, faults| {
        (read_port(map, admin_default, faults), map.word("keys", faults) == "true")
    });
    Config {
        listeners,
        pools,
        routes,
        shards: read_shards(&top, overrides, faults),
        metrics: overrides.metrics.clone().or(metrics),
        admin,
        batching: read_batching(&top, faults),
        limits,
        drain,
        health,
        dns_ttl: Duration::from_millis(overrides.dns_ttl_ms.unwrap_or(dns_ttl_ms)),
        embedded_memory_bytes,
        reload: reload::read_reload(&top, faults),
        async_log: async_log::read(&top, faults),
        admin_keys,
        about: Arc::default(),
        notes: Notes::default(),
    }
}

fn local(port: u16) -> ListenAddress {
    ListenAddress::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
}

fn read_all_pools(top: &Map<'_, '_>, overrides: &Overrides, faults: &mut Faults) -> Vec<Pool> {
    let pools_path = Path::Key(top.path, "pools");
    let ordered_path = Path::Key(top.path, "ordered_pool");
    match (top.find("pools"), top.find("ordered_pool")) {
        (None, None) => Vec::new(),
        (Some(node), None) => pools::read_pools(node, &pools_path, overrides, faults),
        (None, Some(node)) => vec![pools::read_ordered_pool(node, &ordered_path, overrides, faults)],
        (Some(pools), Some(ordered)) => {
            let problem = "can't stand beside pools".to_owned();
            faults.at(ordered.position, ordered_path, problem, "one of the two".to_owned());
            pools::read_pools(pools, &pools_path, overrides, faults)
        }
    }
}

fn read_all_routes(top: &Map<'_, '_>, pools: &[Pool], faults: &mut Faults) -> Vec<NamedRoute> {
    let route_path = Path::Key(top.path, "route");
    let routes_path = Path::Key(top.path, "routes");
    let handles = top.find("named_handles");
    let logs = top.find("async_log").is_some();
    let was_good = faults.is_empty();
    let (routes, position) = match (top.find("route"), top.find("routes")) {
        (None, None) => {
            let allowed = "route: ..., or routes: {name: ...}".to_owned();
            faults.at(top.position, top.path, "route is missing".to_owned(), allowed);
            return Vec::new();
        }
        (Some(node), None) => {
            (vec![routes::read_route(node, &route_path, handles, pools, logs, faults)], node.position)
        }
        (None, Some(node)) if routes::is_prefixed(node) => {
            (vec![routes::read_prefixed(top, node, &routes_path, handles, pools, logs, faults)], node.position)
        }
        (None, Some(node)) => (routes::read_routes(node, &routes_path, handles, pools, logs, faults), node.position),
        (Some(node), Some(routes)) => {
            let problem = "can't stand beside routes".to_owned();
            faults.at(node.position, route_path, problem, "one of the two".to_owned());
            (routes::read_routes(routes, &routes_path, handles, pools, logs, faults), routes.position)
        }
    };
    for key in ["default_route", "send_invalid_route_to_default"] {
        if let Some(node) = top.find(key)
            && !top.find("routes").is_some_and(routes::is_prefixed)
        {
            top.refuse(key, node, "is for routes with routing prefixes".to_owned(), faults);
        }
    }
    // The arena has bounds of its own. They are tried now, so that a table can be built later without a way to fail.
    if was_good && faults.is_empty() {
        for named in &routes {
            if let Err(error) = table::build_routes(&named.route, pools) {
                let path = if routes.len() == 1 { route_path } else { Path::Key(&routes_path, &named.name) };
                faults.at(position, path, error.to_string(), String::new());
            }
        }
    }
    routes
}

fn read_listeners(
    top: &Map<'_, '_>,
    routes: &[NamedRoute],
    overrides: &Overrides,
    faults: &mut Faults,
) -> Vec<Listener> {
    let only = match routes {
        [_] => Some(0),
        routes => routes.iter().position(|route| route.name == MAIN_ROUTE),
    };
    let mut listeners = Vec::new();
    let path = Path::Key(top.path, "listeners");
    let items = top.find("listeners").and_then(|node| items(node, &path, faults).map(|items| (node, items)));
    if let Some((node, items)) = items {
        if items.is_empty() || items.len() > MAX_LISTENERS {
            faults.at(node.position, path, format!("{} listeners", items.len()), format!("1 to {MAX_LISTENERS}"));
            return listeners;
        }
        let mut seen_before = HashSet::new();
        for (at, item) in items.iter().enumerate() {
            let path = Path::Item(&path, at);
            let Some(listener) = read_listener(item, &path, routes, only, faults) else { continue };
            let is_chosen = !matches!(&listener.address, ListenAddress::Tcp(address) if address.port() == 0);
            if is_chosen && !seen_before.insert(listener.address.clone()) {
                let problem = format!("{} is given twice", seen(&listener.address.to_string()));
                faults.at(item.position, path, problem, String::new());
            }
            listeners.push(listener);
        }
    }
    let address = match (&overrides.listen, top.find("listeners")) {
        (Some(address), _) => address.clone(),
        (None, Some(_)) => return listeners,
        (None, None) => ListenAddress::AllTcp(8080),
    };
    // Without a route there is a fault already.
    if only.is_none() && !routes.is_empty() {
        let allowed = "one route, or one named main, or `listeners` that say theirs".to_owned();
        let problem = format!("{address} needs a route, and of the {} there is none named main", routes.len());
        match overrides.listen {
            Some(_) => faults.flag("--listen", problem, allowed),
            None => faults.at(top.position, top.path, format!("listeners is missing; {problem}"), allowed),
        }
    }
    vec![Listener { address, route: only.unwrap_or(0) }]
}

fn read_listener(
    node: &Node,
    path: &Path<'_>,
    routes: &[NamedRoute],
    only: Option<usize>,
    faults: &mut Faults,
) -> Option<Listener> {
    let map = Map::read(node, &keys::LISTENER, path, faults);
    map.word("protocol", faults);
    map.required("address", faults);
    let route = match map.find("route") {
        Some(_) => map.given_text("route", faults).and_then(|(name, node)| {
            let found = routes.iter().position(|route| route.name == name);
            if found.is_none() && !routes.is_empty() {
                let names = || routes.iter().map(|route| route.name.as_str());
                let problem = format!("no route {}{}", seen(name), did_you_mean(name, names()));
                faults.at(node.position, Path::Key(path, "route"), problem, names().collect::<Vec<_>>().join(", "));
            }
            found
        }),
        None => {
            if only.is_none() && !routes.is_empty() {
                let names: Vec<_> = routes.iter().map(|route| route.name.as_str()).collect();
                faults.at(map.position, path, "route is missing".to_owned(), names.join(", "));
            }
            only
        }
    };
    let (text, node) = map.given_text("address", faults)?;
    match ListenAddress::parse(text) {
        Ok(address) => Some(Listener { address, route: route.unwrap_or(0) }),
        Err(problem) => {
            map.refuse("address", node, format!("{} {problem}", seen(text)), faults);
            None
        }
    }
}

fn read_shards(top: &Map<'_, '_>, overrides: &Overrides, faults: &mut Faults) -> Shards {
    let given = top.find("shards").filter(|node| node.text() != Some("auto")).and_then(|node| {
        match number_of(node, &keys::SHARDS) {
            Ok(shards) => Some(shards),
            Err((problem, _)) => {
                top.refuse("shards", node, problem, faults);
                None
            }
        }
    });
    match overrides.shards.or(given).and_then(|shards| usize::try_from(shards).ok()) {
        Some(shards) => Shards::Count(shards),
        None => Shards::Auto,
    }
}

/// The metrics or admin port of its section; `None` is off.
fn read_port(map: &Map<'_, '_>, default: Option<ListenAddress>, faults: &mut Faults) -> Option<ListenAddress> {
    let Some((text, node)) = map.given_text("address", faults) else { return default };
    if text == "off" {
        return None;
    }
    match ListenAddress::parse(text) {
        Ok(ListenAddress::Unix(_)) => {
            map.refuse("address", node, format!("{} isn't TCP", seen(text)), faults);
            None
        }
        Ok(address) => Some(address),
        Err(problem) => {
            map.refuse("address", node, format!("{} {problem}", seen(text)), faults);
            None
        }
    }
}

fn read_batching(top: &Map<'_, '_>, faults: &mut Faults) -> Batching {
    section(top, "batching", &keys::BATCHING, faults, |map, faults| {
        let batch = narrow(map.number("batch", faults));
        let max_delay_us = narrow(map.number("max_delay_us", faults));
        let mode = match map.word("mode", faults) {
            "off" => BatchingMode::Off,
            "fixed" => BatchingMode::Fixed { batch },
            _ => BatchingMode::Adaptive,
        };
        if let (Some(node), BatchingMode::Off | BatchingMode::Adaptive) = (map.find("batch"), mode) {
            let problem = "has an effect with mode fixed only".to_owned();
            faults.at(node.position, Path::Key(map.path, "batch"), problem, String::new());
        }
        Batching { mode, max_delay_us }
    })
}

fn read_health(top: &Map<'_, '_>, overrides: &Overrides, faults: &mut Faults) -> Health {
    section(top, "health", &keys::HEALTH, faults, |map, faults| {
        let interval_ms = map.number("interval_ms", faults);
        Health {
            interval: Duration::from_millis(overrides.health_interval_ms.unwrap_or(interval_ms)),
            timeout: Duration::from_millis(map.number("timeout_ms", faults)),
            down: DownRules {
                failures: narrow(map.number("failures", faults)),
                connect_failures: narrow(map.number("connect_failures", faults)),
                failure_percent: narrow(map.number("failure_percent", faults)),
            },
            successes: narrow(map.number("successes", faults)),
            probe_initial: Duration::from_millis(map.number("probe_initial_ms", faults)),
            probe_max: Duration::from_millis(map.number("probe_max_ms", faults)),
            min_down: Duration::from_millis(map.number("min_down_ms", faults)),
            max_down: Duration::from_millis(map.number("max_down_ms", faults)),
        }
    })
}

fn read_limits(top: &Map<'_, '_>, overrides: &Overrides, faults: &mut Faults) -> (TableLimits, Duration) {
    section(top, "limits", &keys::LIMITS, faults, |map, faults| {
        let drain = Duration::from_millis(map.number("drain_ms", faults));
        let client_idle = Duration::from_millis(map.number("client_idle_ms", faults));
        let timeouts_per_connection = narrow(map.number("timeouts_per_connection", faults));
        let queued_bytes = map.number("queued_bytes_per_connection", faults);
        let mut size = |name| bytes(map.number(name, faults));
        let limits = TableLimits {
            clients_per_shard: size("clients"),
            client_idle,
            value_bytes: size("value_bytes"),
            retrieval_line_bytes: size("retrieval_line_bytes"),
            keys_per_get: size("keys_per_get"),
            buffered_bytes: size("buffered_bytes"),
            requests_per_client: size("requests_per_client"),
            reply_bytes_per_client: size("reply_bytes_per_client"),
            queued_bytes_per_connection: bytes(overrides.queued_bytes.unwrap_or(queued_bytes)),
            requests_per_connection: size("requests_per_connection"),
            max_replay_bytes: size("max_replay_bytes"),
            timeouts_per_connection,
        };
        (limits, drain)
    })
}

/// Reads a section that may be left out.
fn section<T>(
    top: &Map<'_, '_>,
    name: &str,
    keys: &'static Section,
    faults: &mut Faults,
    read: impl FnOnce(&Map<'_, '_>, &mut Faults) -> T,
) -> T {
    let path = Path::Key(top.path, name);
    let map = match top.find(name) {
        Some(node) => Map::read(node, keys, &path, faults),
        None => Map::empty(keys, top.position, &path),
    };
    read(&map, faults)
}

/// The table of keys keeps these within 32 bits.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Sizes; the table of keys keeps them within what a 64-bit machine can address.
fn bytes(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
