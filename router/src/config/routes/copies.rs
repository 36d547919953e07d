//! Routes that send a request several times or in pieces: KeySplitRoute, ShardSplitRoute, ShadowRoute, BigValueRoute,
//! AsyncLogRoute; and what a PoolRoute has of them inside.

use super::super::error::Path;
use super::super::keys::{Default as Given, Key, Kind, ROUTE_FORMS, Section, TYPE, number, shape};
use super::super::reader::{Map, entries, items, number_of};
use super::super::tree::Node;
use super::basic::TARGET;
use super::levels::{flag, is_set};
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::RouteNode;
use keyway_policies::routes::async_log::AsyncLog;
use keyway_policies::routes::big_value::BigValue;
use keyway_policies::routes::key_split::{KeySplit, MAX_REPLICAS, MIN_REPLICAS};
use keyway_policies::routes::shadow::{Shadow, ShadowKeys, ShadowSettings};
use keyway_policies::routes::shard_split::{MAX_SPLITS, ShardSplit};
use std::ops::RangeInclusive;

/// Most shadows of a route, keys listed in one, and shards that are split.
const MOST_SHADOWS: usize = 64;
const MOST_LISTED_KEYS: usize = 10_000;
const MOST_SPLIT_SHARDS: usize = 100_000;

const DESTINATION: Key = shape("destination", "route", ROUTE_FORMS, Given::Required, "Where requests go on to.");
const FRACTIONS: &str = "two numbers from 0.0 to 1.0, the first not above the second";
const POSITIONS: &str = "two positions from 0, the first not above the second";
const SPLITS: Kind = Kind::Number { min: 1, max: MAX_SPLITS as u64, default: Given::Number(1) };

pub(super) const SHADOWS: Key =
    shape("shadows", "list of shadows", "", Given::Said("none"), "Where copies of some requests go.");
pub(super) const SHARD_SPLITS: Key = shape(
    "shard_splits",
    "map of shard to number",
    "shards, and 1 to 677 for each",
    Given::Said("none"),
    "Into how many a shard is split, for keys `prefix:SHARD:rest`.",
);
pub(super) const TARGET_MAX_SHADOW_REQUESTS: Key = number(
    "target_max_shadow_requests",
    1000,
    1,
    1_000_000,
    "Most copies under way on a shard; further ones are left out.",
);
pub(super) const ASYNCLOG: Key = Key {
    name: "asynclog",
    kind: Kind::Word {
        allowed: &["true", "false", "writes"],
        unsupported: &[],
        default: Given::Said("`true` when the file has `async_log`, else `false`"),
    },
    meaning: "Deletes that fail are written to the async log, as with AsyncLogRoute; with `writes` failed writes too, as deletes.",
};

/// KeySplitRoute.
pub(super) static KEY_SPLIT_KEYS: Section = Section {
    name: "KeySplitRoute",
    keys: &[
        TYPE,
        DESTINATION,
        Key {
            name: "replicas",
            kind: Kind::Number { min: MIN_REPLICAS as u64, max: MAX_REPLICAS as u64, default: Given::Required },
            meaning: "How many copies of each key.",
        },
        flag("all_sync", "false", "A set goes to the other copies too, though nobody waits for them."),
        flag("first_hit", "false", "A get goes to all copies, the first hit answers."),
        flag(
            "delete_sync",
            "true",
            "A delete waits for all copies, the worst answers; false, as mcrouter, for its own alone.",
        ),
    ],
    unsupported: &[],
};

/// ShardSplitRoute.
pub(super) static SHARD_SPLIT_KEYS: Section =
    Section { name: "ShardSplitRoute", keys: &[TYPE, DESTINATION, SHARD_SPLITS], unsupported: &["split_shard_fanout"] };

/// ShadowRoute.
pub(super) static SHADOW_KEYS: Section = Section {
    name: "ShadowRoute",
    keys: &[TYPE, TARGET, SHADOWS, TARGET_MAX_SHADOW_REQUESTS],
    unsupported: &["shadow_policy"],
};

/// One shadow.
pub(super) static ONE_SHADOW_KEYS: Section = Section {
    name: "shadows[]",
    keys: &[
        shape("target", "route", ROUTE_FORMS, Given::Required, "Where copies go."),
        shape(
            "key_fraction_range",
            "list of two numbers",
            FRACTIONS,
            Given::Said("[0.0, 1.0]"),
            "The keys copied: those whose hash, as a share of all hashes, lies between these.",
        ),
        shape(
            "keys_to_shadow",
            "list of keys",
            "at most 10000 keys",
            Given::Said("none"),
            "The keys copied, listed. Not beside the two ranges.",
        ),
        shape(
            "index_range",
            "list of two numbers",
            POSITIONS,
            Given::Said("all"),
            "Copies only keys of the pool's servers at these positions. Needs a pool as the target of the route.",
        ),
        shape(
            "requests_fraction",
            "number",
            "0.0 to 1.0",
            Given::Said("1.0"),
            "The share of these keys' requests that is copied, by chance.",
        ),
    ],
    unsupported: &["key_fraction_range_rv", "validate_replies"],
};

/// BigValueRoute.
pub(super) static BIG_VALUE_KEYS: Section = Section {
    name: "BigValueRoute",
    keys: &[
        TYPE,
        TARGET,
        Key {
            name: "split_threshold",
            kind: Kind::Number { min: 1, max: 1 << 30, default: Given::Required },
            meaning: "Values of more bytes are split, into chunks of this size; at most 100.",
        },
        number("batch_size", 10, 0, 1000, "Most chunks under way at once; 0 for all."),
        flag(
            "hide_reply_flag",
            "true",
            "Clients get the flags they stored; false, as mcrouter, with 0x8000 for what was split.",
        ),
    ],
    unsupported: &[],
};

/// AsyncLogRoute.
pub(super) static ASYNC_LOG_KEYS: Section = Section {
    name: "AsyncLogRoute",
    keys: &[TYPE, TARGET, flag("writes", "false", "Failed writes are written down too, as deletes.")],
    unsupported: &[],
};

pub(super) static KEY_SPLIT: RouteType = RouteType {
    names: &["KeySplitRoute"],
    section: &KEY_SPLIT_KEYS,
    read: |reader, map, depth| {
        map.required("replicas", reader.faults);
        let replicas = map.given_number("replicas", reader.faults);
        let route = KeySplit {
            replicas: replicas.map_or(MIN_REPLICAS, |replicas| replicas as u16),
            all_sync: is_set(reader, map, "all_sync"),
            first_hit: is_set(reader, map, "first_hit"),
            delete_sync: is_set(reader, map, "delete_sync"),
        };
        Route::over(route, vec![reader.child(map, "destination", depth)?])
    },
    short: Short::None,
};

pub(super) static SHARD_SPLIT: RouteType = RouteType {
    names: &["ShardSplitRoute"],
    section: &SHARD_SPLIT_KEYS,
    read: |reader, map, depth| {
        map.required("shard_splits", reader.faults);
        let splits = read_splits(reader, map);
        let destination = reader.child(map, "destination", depth)?;
        Route::over(ShardSplit::new(splits?), vec![destination])
    },
    short: Short::None,
};

pub(super) static SHADOW: RouteType = RouteType {
    names: &["ShadowRoute"],
    section: &SHADOW_KEYS,
    read: |reader, map, depth| {
        let target = reader.child(map, "target", depth)?;
        shadowed(reader, map, depth, target)
    },
    short: Short::None,
};

pub(super) static BIG_VALUE: RouteType = RouteType {
    names: &["BigValueRoute"],
    section: &BIG_VALUE_KEYS,
    read: |reader, map, depth| {
        map.required("split_threshold", reader.faults);
        let route = BigValue {
            split_threshold: map.given_number("split_threshold", reader.faults).unwrap_or(1) as usize,
            batch_size: map.number("batch_size", reader.faults) as usize,
            hide_reply_flag: is_set(reader, map, "hide_reply_flag"),
        };
        Route::over(route, vec![reader.child(map, "target", depth)?])
    },
    short: Short::None,
};

pub(super) static ASYNC_LOG: RouteType = RouteType {
    names: &["AsyncLogRoute"],
    section: &ASYNC_LOG_KEYS,
    read: |reader, map, depth| {
        let route = AsyncLog { writes: is_set(reader, map, "writes") };
        Route::over(route, vec![reader.child(map, "target", depth)?])
    },
    short: Short::Child(|children| Route::over(AsyncLog { writes: false }, children)),
};

/// `PoolRoute|name`: what deletes it misses is written down when there is a log.
pub(super) fn bare_pool(logs: bool, pool: usize) -> Option<Route> {
    let route = Route::Pool { pool };
    if logs { Route::over(AsyncLog { writes: false }, vec![route]) } else { Some(route) }
}

/// A pool with what its PoolRoute says about its log, its shadows and its shards, from inside to outside.
pub(super) fn around_pool<'a>(
    reader: &mut Reader<'a>,
    map: &Map<'a, '_>,
    depth: usize,
    mut route: Route,
) -> Option<Route> {
    let log = map.given_word("asynclog", reader.faults).unwrap_or(if reader.logs { "true" } else { "false" });
    if let (Some(node), false) = (map.find("asynclog").filter(|_| log != "false"), reader.logs) {
        map.refuse("asynclog", node, "needs async_log, which the file lacks".to_owned(), reader.faults);
        return None;
    }
    if log != "false" {
        route = Route::over(AsyncLog { writes: log == "writes" }, vec![route])?;
    }
    route = shadowed(reader, map, depth, route)?;
    if map.find("shard_splits").is_some() {
        route = Route::over(ShardSplit::new(read_splits(reader, map)?), vec![route])?;
    }
    Some(route)
}

/// A route with the copies its `shadows` say; without any, the route itself.
fn shadowed<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, depth: usize, normal: Route) -> Option<Route> {
    let most_in_flight = map.number("target_max_shadow_requests", reader.faults) as u32;
    let Some(node) = map.find("shadows") else { return Some(normal) };
    let path = Path::Key(map.path, "shadows");
    let listed = items(node, &path, reader.faults)?;
    if listed.len() > MOST_SHADOWS {
        return reader.fault(
            node.position,
            &path,
            format!("{} shadows", listed.len()),
            format!("at most {MOST_SHADOWS}"),
        );
    }
    let is_pool = is_pool(&normal);
    let mut children = vec![normal];
    let mut shadows = Some(Vec::new());
    for (at, item) in listed.iter().enumerate() {
        let path = Path::Item(&path, at);
        let map = Map::read(item, &ONE_SHADOW_KEYS, &path, reader.faults);
        match read_shadow(reader, &map, depth, is_pool) {
            Some((settings, target)) => {
                children.push(target);
                if let Some(shadows) = &mut shadows {
                    shadows.push(settings);
                }
            }
            None => shadows = None,
        }
    }
    match shadows? {
        none if none.is_empty() => children.pop(),
        shadows => Route::over(Shadow { shadows, most_in_flight }, children),
    }
}

/// True where a key has a position among servers.
fn is_pool(route: &Route) -> bool {
    match route {
        Route::Pool { .. } => true,
        Route::Node(RouteNode::Hash(_), _) => true,
        Route::Node(
            RouteNode::AsyncLog(_)
            | RouteNode::OutstandingLimit(_)
            | RouteNode::RateLimit(_)
            | RouteNode::SlowWarmUp(_),
            children,
        ) => children.first().is_some_and(is_pool),
        Route::Node(..) | Route::Server { .. } => false,
    }
}

fn read_shadow<'a>(
    reader: &mut Reader<'a>,
    map: &Map<'a, '_>,
    depth: usize,
    of_pool: bool,
) -> Option<(ShadowSettings, Route)> {
    let target = reader.child(map, "target", depth);
    let range = map.find("key_fraction_range").map(|node| pair(reader, map, node, "key_fraction_range", fraction));
    let hosts = map.find("index_range").map(|node| pair(reader, map, node, "index_range", position));
    let keys = map.find("keys_to_shadow").map(|node| listed_keys(reader, map, node));
    let requests = match map.find("requests_fraction") {
        None => Some(1.0),
        Some(node) => fraction(node).or_else(|| refuse(reader, map, node, "requests_fraction")),
    };
    if let (Some(node), true) = (map.find("keys_to_shadow"), range.is_some() || hosts.is_some()) {
        map.refuse("keys_to_shadow", node, "stands beside a range".to_owned(), reader.faults);
        return None;
    }
    if let (Some(node), false) = (map.find("index_range"), of_pool) {
        map.refuse("index_range", node, "the shadowed route is no pool".to_owned(), reader.faults);
        return None;
    }
    let keys = match (keys, range) {
        (Some(keys), _) => ShadowKeys::listed(keys?),
        (None, Some(range)) => range.map(|[from, to]| ShadowKeys::between(from, to))?,
        (None, None) => ShadowKeys::between(0.0, 1.0),
    };
    let hosts = match hosts {
        Some(hosts) => Some(hosts.map(|[from, to]| RangeInclusive::new(from, to))?),
        None => None,
    };
    Some((ShadowSettings { keys, hosts, requests: ShadowSettings::requests_of(requests?) }, target?))
}

/// A list of two, in order.
fn pair<T: PartialOrd + Copy>(
    reader: &mut Reader<'_>,
    map: &Map<'_, '_>,
    node: &Node,
    key: &str,
    read: impl Fn(&Node) -> Option<T>,
) -> Option<[T; 2]> {
    let listed = items(node, &Path::Key(map.path, key), reader.faults)?;
    match listed {
        [from, to] => match (read(from), read(to)) {
            (Some(from), Some(to)) if from <= to => Some([from, to]),
            _ => refuse(reader, map, node, key),
        },
        _ => refuse(reader, map, node, key),
    }
}

fn refuse<T>(reader: &mut Reader<'_>, map: &Map<'_, '_>, node: &Node, key: &str) -> Option<T> {
    map.refuse(key, node, "is no good value".to_owned(), reader.faults);
    None
}

fn fraction(node: &Node) -> Option<f64> {
    let serde_yaml::Value::Number(number) = node.typed() else { return None };
    number.as_f64().filter(|fraction| (0.0..=1.0).contains(fraction))
}

fn position(node: &Node) -> Option<usize> {
    let serde_yaml::Value::Number(number) = node.typed() else { return None };
    number.as_u64().and_then(|position| usize::try_from(position).ok())
}

fn listed_keys(reader: &mut Reader<'_>, map: &Map<'_, '_>, node: &Node) -> Option<Vec<Vec<u8>>> {
    let listed = items(node, &Path::Key(map.path, "keys_to_shadow"), reader.faults)?;
    let keys: Option<Vec<Vec<u8>>> = listed.iter().map(|key| key.text().map(|key| key.as_bytes().to_vec())).collect();
    keys.filter(|keys| keys.len() <= MOST_LISTED_KEYS).or_else(|| refuse(reader, map, node, "keys_to_shadow"))
}

fn read_splits(reader: &mut Reader<'_>, map: &Map<'_, '_>) -> Option<Vec<(Vec<u8>, u16)>> {
    let node = map.find("shard_splits")?;
    let path = Path::Key(map.path, "shard_splits");
    let given = entries(node, &path, reader.faults)?;
    if given.len() > MOST_SPLIT_SHARDS {
        let problem = format!("{} shards", given.len());
        return reader.fault(node.position, &path, problem, format!("at most {MOST_SPLIT_SHARDS}"));
    }
    let mut splits = Some(Vec::with_capacity(given.len()));
    for entry in given {
        match number_of(&entry.value, &SPLITS) {
            Ok(number) => {
                if let Some(splits) = &mut splits {
                    // At most `MAX_SPLITS`.
                    splits.push((entry.key.as_bytes().to_vec(), number as u16));
                }
            }
            Err((problem, allowed)) => {
                reader.faults.at(entry.value.position, Path::Key(&path, &entry.key), problem, allowed);
                splits = None;
            }
        }
    }
    splits
}
