//! The cluster file of Overlord's proxy: a pool, a listener and a route for each of its memcache clusters.
//!
//! Owns its keys and defaults, and what it does with words it doesn't know: unknown hash methods are fnv1a_64, and the
//! distribution is ketama whatever is written.

use super::made::{list, map, number, text};
use super::nutcracker::Fleet;
use super::section::Section;
use crate::config::Notes;
use crate::config::error::{Faults, Path, Position, seen};
use crate::config::tree::{Node, Value};

/// Its hash methods, and what we call them.
const METHODS: [(&str, &str); 11] = [
    ("fnv1a_64", "fnv1a_64"),
    ("fnv1a_32", "fnv1a_32"),
    ("fnv1_64", "fnv1_64"),
    ("fnv1_32", "fnv1_32"),
    ("crc16", "crc16"),
    ("crc32", "crc32"),
    ("crc32a", "crc32a"),
    ("md5", "md5"),
    ("one_on_time", "one_at_a_time"),
    ("hsieh", "hsieh"),
    ("murmur", "murmur"),
];

/// Failures in a row that eject a server when nothing is said.
const FAIL_LIMIT: i64 = 3;

/// Keys that are read there and have no counterpart, or no effect.
const DROPPED: [(&str, &str); 4] = [
    ("node_pipe_count", "requests to a server are sent as they come"),
    ("slowlog_slower_than", "there is no slow log; see the metrics of latency"),
    ("write_timeout", "it has no effect in Overlord either; `timeout_ms` is for the whole try"),
    ("redis_auth", "it has no effect in Overlord either"),
];

/// Our configuration; `None` when no cluster is left.
pub(super) fn translate(top: &Node, notes: &mut Notes, faults: &mut Faults) -> Option<Node> {
    let file = Section::of(top, &Path::Top, faults)?;
    let Some(clusters) = file.find("clusters") else {
        let problem = "clusters is missing; this may be the proxy's own file, and not that of its clusters".to_owned();
        faults.at(top.position, Path::Top, problem, String::new());
        return None;
    };
    file.close(faults);
    let path = Path::Key(&Path::Top, "clusters");
    let Value::List(items) = &clusters.value else {
        faults.at(clusters.position, path, format!("{} where [[clusters]] are needed", clusters.seen()), String::new());
        return None;
    };
    let mut fleet = Fleet::default();
    for (at, item) in items.iter().enumerate() {
        let path = Path::Item(&path, at);
        if let Some(cluster) = Section::of(item, &path, faults) {
            read_cluster(cluster, &mut fleet, notes, faults);
        }
    }
    if fleet.pools.is_empty() {
        let problem = "none of the clusters is one of memcached's text protocol".to_owned();
        faults.at(clusters.position, path, problem, String::new());
        return None;
    }
    Some(fleet.into_tree(top.position))
}

fn read_cluster(cluster: Section<'_, '_>, fleet: &mut Fleet, notes: &mut Notes, faults: &mut Faults) {
    let at = cluster.position;
    let path = *cluster.path;
    let given = cluster.text("name", faults);
    if let Some((kind, at)) = cluster.required("cache_type", faults)
        && kind != "memcache"
    {
        let path = Path::Key(&path, "cache_type");
        match kind {
            "memcache_binary" | "redis" | "redis_cluster" => {
                notes.at(at, path, format!("{kind} isn't supported by this version: the cluster is left out"));
            }
            unknown => faults.at(at, path, format!("{} is unknown", seen(unknown)), "memcache".to_owned()),
        }
        return;
    }
    let listen = read_listen(&cluster, faults);
    let hash = read_hash(&cluster, notes, faults);
    let timeouts = [("dial_timeout", "connect_timeout_ms"), ("read_timeout", "timeout_ms")]
        .map(|(theirs, ours)| read_timeout(&cluster, theirs, ours, notes, faults));
    let connections = cluster.number("node_connections", faults);
    let ejects = cluster.flag("ping_auto_eject", faults);
    let limit = cluster.number("ping_fail_limit", faults);
    let servers = read_servers(&cluster, faults);
    for (key, why) in DROPPED {
        if let Some(node) = cluster.find(key).filter(|node| !matches!(node.text(), Some("0" | "") | None)) {
            notes.at(node.position, Path::Key(&path, key), format!("isn't carried over: {why}"));
        }
    }
    cluster.close(faults);
    let Some(listen) = listen else { return };
    let (given, at) = given.unwrap_or(("cluster", at));
    let name = fleet.name(given, at, notes);
    let mut keys = vec![("servers", servers), ("hash", hash)];
    keys.extend(timeouts.into_iter().flatten());
    if let Some((connections, at)) = connections {
        keys.push(("connections", number(at, connections)));
    }
    if let Some((true, at)) = ejects {
        keys.push(("auto_eject_hosts", number(at, true)));
        let (limit, at) = limit.filter(|(limit, _)| *limit > 0).unwrap_or((FAIL_LIMIT, at));
        keys.push(("server_failure_limit", number(at, limit)));
    } else if let Some((_, at)) = limit {
        notes.at(at, Path::Key(&path, "ping_fail_limit"), "has no effect without ping_auto_eject");
    }
    fleet.add(name, at, listen, keys);
}

fn read_listen(cluster: &Section<'_, '_>, faults: &mut Faults) -> Option<(String, Position)> {
    let protocol = cluster.text("listen_proto", faults);
    let (address, at) = cluster.required("listen_addr", faults)?;
    let address = match protocol {
        Some(("unix", _)) => format!("unix://{address}"),
        // A port alone is on all addresses.
        _ if !address.contains(':') => format!("tcp://0.0.0.0:{address}"),
        _ => format!("tcp://{address}"),
    };
    Some((address, at))
}

fn read_hash(cluster: &Section<'_, '_>, notes: &mut Notes, faults: &mut Faults) -> Node {
    let at = cluster.position;
    let function = match cluster.text("hash_method", faults) {
        None => text(at, "fnv1a_64"),
        Some((method, at)) => match METHODS.iter().find(|(theirs, _)| *theirs == method) {
            Some((_, ours)) => text(at, *ours),
            None => {
                let path = Path::Key(cluster.path, "hash_method");
                notes.at(at, path, format!("{} is unknown to Overlord, which uses fnv1a_64 then", seen(method)));
                text(at, "fnv1a_64")
            }
        },
    };
    if let Some((distribution, at)) = cluster.text("hash_distribution", faults)
        && distribution != "ketama"
    {
        let path = Path::Key(cluster.path, "hash_distribution");
        notes.at(at, path, format!("{} is ignored by Overlord, which uses ketama always", seen(distribution)));
    }
    // An empty tag is the default's there.
    let tag = match cluster.text("hash_tag", faults) {
        Some((tag, at)) if !tag.is_empty() => text(at, tag),
        Some(_) | None => text(at, "{}"),
    };
    map(at, vec![("function", function), ("distribution", text(at, "overlord_ketama")), ("tag", tag)])
}

/// 0 is none there.
fn read_timeout(
    cluster: &Section<'_, '_>,
    theirs: &'static str,
    ours: &'static str,
    notes: &mut Notes,
    faults: &mut Faults,
) -> Option<(&'static str, Node)> {
    match cluster.number(theirs, faults) {
        Some((timeout, at)) if timeout > 0 => Some((ours, number(at, timeout))),
        given => {
            let at = given.map_or(cluster.position, |(_, at)| at);
            let path = Path::Key(cluster.path, theirs);
            notes.at(at, path, format!("Overlord waits for ever; here it is the default of `{ours}`"));
            None
        }
    }
}

fn read_servers(cluster: &Section<'_, '_>, faults: &mut Faults) -> Node {
    let path = Path::Key(cluster.path, "servers");
    let mut servers = Vec::new();
    for (at, (server, position)) in cluster.texts("servers", faults).into_iter().enumerate() {
        match read_server(server, position) {
            Some(server) => servers.push(server),
            None => {
                let allowed = "ip:port:weight, ip:port:weight alias".to_owned();
                faults.at(position, Path::Item(&path, at), format!("{} is no server", seen(server)), allowed);
            }
        }
    }
    list(cluster.position, servers)
}

/// `ip:port:weight` with an alias or without.
fn read_server(server: &str, at: Position) -> Option<Node> {
    let (place, alias) = match server.split_once(' ') {
        Some((place, alias)) => (place, Some(alias)),
        None => (server, None),
    };
    let (address, weight) = place.rsplit_once(':').filter(|(address, _)| address.contains(':'))?;
    let weight: u32 = weight.parse().ok().filter(|weight| *weight > 0)?;
    if weight == 1 && alias.is_none() {
        return Some(text(at, address));
    }
    let mut keys = vec![("address", text(at, address))];
    keys.extend(alias.map(|alias| ("name", text(at, alias))));
    if weight != 1 {
        keys.push(("weight", number(at, weight)));
    }
    Some(map(at, keys))
}
