//! HashRoute, and the `hash` of PoolRoute that takes the place of the pool's own.

use super::super::error::Path;
use super::super::hash::Hash as HashSettings;
use super::super::keys::{Default as Given, Key, Section, TYPE, shape};
use super::super::reader::Map;
use super::super::tree::{Entry, Node, Value};
use super::choosing::switch_on;
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::hash::{Weight, WeightRule};
use keyway_policies::routes::error::Error;
use keyway_policies::routes::hash::Hash;
use keyway_policies::routes::null::Null;
use keyway_policies::{Member, PlacementSpec};

/// mcrouter's keys that stand in the route itself.
const FLAT: [&str; 4] = ["hash_func", "salt", "weights", "tags"];

/// The key of a route that has a hash of its own.
pub(super) const HASH_KEY: Key =
    shape("hash", "map, or name", "as a pool's `hash`", Given::Said("`ch3`"), "How keys are spread over the children.");

/// HashRoute.
pub(super) static HASH_KEYS: Section = Section {
    name: "HashRoute",
    keys: &[
        TYPE,
        shape(
            "children",
            "list of routes, or `Pool|name`",
            "routes, and `Pool|name` for each server of a pool",
            Given::Said("each server of the only pool; with more than one pool it must be given"),
            "Where requests may go, in order.",
        ),
        HASH_KEY,
        shape(
            "hash_func",
            "word",
            "as in a pool's `hash`",
            Given::Said("`Ch3`"),
            "mcrouter's form of `hash`, as the three that follow.",
        ),
        shape("salt", "text", "at most 64 bytes", Given::Said("none"), "Appended to what is hashed."),
        shape(
            "weights",
            "list of numbers",
            "one for each child",
            Given::Said("1 for each"),
            "The children's weights, in order.",
        ),
        shape(
            "tags",
            "list of texts",
            "one for each child",
            Given::Said("none"),
            "What stands for the children in the hash, in order.",
        ),
        switch_on("error_on_empty", "Whether no children at all are an error line; else NullRoute."),
    ],
    unsupported: &["bucketize", "client_fanout", "failover_count"],
};

pub(super) static HASH: RouteType = RouteType {
    names: &["HashRoute"],
    section: &HASH_KEYS,
    read: read_hash_route,
    short: Short::Children(|children| over(&HashSettings::default(), Vec::new(), children)),
};

fn read_hash_route<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, depth: usize) -> Option<Route> {
    let error_on_empty = map.word("error_on_empty", reader.faults) == "true";
    if let Some(Node { value: Value::List(items), .. }) = map.find("children")
        && items.is_empty()
    {
        return Some(match error_on_empty {
            true => Route::leaf(Error::new("HashRoute with empty children")),
            false => Route::leaf(Null),
        });
    }
    let given: Vec<Entry> = FLAT
        .iter()
        .filter_map(|key| map.find(key).map(|node| ((*key).to_owned(), node)))
        .map(|(key, node)| Entry { key, position: node.position, value: node.clone() })
        .collect();
    let flat = Node { position: map.position, value: Value::Map(given) };
    let is_flat = FLAT.iter().any(|key| map.find(key).is_some());
    let hash_path = Path::Key(map.path, "hash");
    let (node, path) = match map.find("hash") {
        Some(node) if is_flat => {
            let problem = "stands beside hash_func, salt, weights or tags".to_owned();
            map.refuse("hash", node, problem, reader.faults);
            return None;
        }
        Some(node) => (node, &hash_path),
        None => (&flat, map.path),
    };
    let settings = match is_flat || map.find("hash").is_some() {
        true => HashSettings::read(node, path, reader.faults),
        false => Some(HashSettings::default()),
    };
    let children = reader.children_of("HashRoute", map, depth)?;
    hashed(reader, &settings?, node, path, Vec::new(), children)
}

/// A PoolRoute with a hash of its own.
pub(super) fn pool_with_hash<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, pool: usize) -> Option<Route> {
    let Some(node) = map.find("hash") else { return Some(Route::Pool { pool }) };
    let path = Path::Key(map.path, "hash");
    let settings = HashSettings::read(node, &path, reader.faults)?;
    let distribution = settings.distribution;
    let members = reader.pools[pool].servers.iter().map(|server| Member {
        label: server.label(distribution),
        // What the pool says is for its own hash.
        weight: if distribution.weights() == WeightRule::Unused { Weight::ONE } else { server.weight },
        buckets: if distribution.buckets().is_some() { server.buckets.clone() } else { Vec::new() },
    });
    let members = members.collect();
    let servers = reader.servers(pool, node.position, &path)?;
    hashed(reader, &settings, node, &path, members, servers)
}

/// A HashRoute over children; `members` are theirs where they have names, else made up.
fn hashed(
    reader: &mut Reader<'_>,
    settings: &HashSettings,
    node: &Node,
    path: &Path<'_>,
    members: Vec<Member>,
    children: Vec<Route>,
) -> Option<Route> {
    let spec = placement(settings, members, children.len());
    let was_good = reader.faults.is_empty();
    settings.check_members(&spec, node, path, reader.faults);
    if was_good && !reader.faults.is_empty() {
        return None;
    }
    if let Err(error) = spec.check() {
        return reader.fault(node.position, path, error.to_string(), String::new());
    }
    over_placement(&spec, children)
}

fn placement(settings: &HashSettings, members: Vec<Member>, children: usize) -> PlacementSpec {
    let members = match members.is_empty() {
        // The position is a label as good as any, until tags take its place.
        true => (0..children).map(|at| Member::new(at.to_string())).collect(),
        false => members,
    };
    settings.placement(members)
}

fn over(settings: &HashSettings, members: Vec<Member>, children: Vec<Route>) -> Option<Route> {
    over_placement(&placement(settings, members, children.len()), children)
}

/// mcrouter's rule: with one child it is that child.
fn over_placement(spec: &PlacementSpec, mut children: Vec<Route>) -> Option<Route> {
    match children.len() {
        0 | 1 => children.pop(),
        _ => Route::over(Hash::new(spec).ok()?, children),
    }
}
