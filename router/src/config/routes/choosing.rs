//! Routes that choose one of several by the host, the client, chance, the operation or the key.

use super::super::error::{Path, seen};
use super::super::keys::{Default as Given, Key, Kind, ROUTE_FORMS, Section, TYPE, is_named, number, shape};
use super::super::reader::{Map, entries, items, text_of};
use super::basic::{CHILDREN, TARGET};
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::routes::default::Default;
use keyway_policies::routes::hash_stop_allow_list::HashStopAllowList;
use keyway_policies::routes::host_id::HostId;
use keyway_policies::routes::key_parse::KeyParse;
use keyway_policies::routes::load_balancer::{LoadBalancer, MAX_FAILOVERS};
use keyway_policies::routes::original_client_hash::OriginalClientHash;
use keyway_policies::routes::prefix_selector::PrefixSelector;
use keyway_policies::routes::random::Random;
use keyway_policies::routes::routing_group::RoutingGroup;

/// A word that is yes or no.
pub(super) const fn switch(name: &'static str, meaning: &'static str) -> Key {
    let kind = Kind::Word { allowed: &["true", "false"], unsupported: &[], default: Given::Word("false") };
    Key { name, kind, meaning }
}

/// The same where it is yes unless told otherwise.
pub(super) const fn switch_on(name: &'static str, meaning: &'static str) -> Key {
    let kind = Kind::Word { allowed: &["true", "false"], unsupported: &[], default: Given::Word("true") };
    Key { name, kind, meaning }
}

const SALT: Key =
    shape("salt", "text", "", Given::Said("none"), "Mixed into the hash, to choose independently of others.");

/// HostIdRoute.
pub(super) static HOST_ID_KEYS: Section =
    Section { name: "HostIdRoute", keys: &[TYPE, CHILDREN, SALT], unsupported: &[] };
/// RandomRoute.
pub(super) static RANDOM_KEYS: Section = Section { name: "RandomRoute", keys: &[TYPE, CHILDREN], unsupported: &[] };
/// OriginalClientHashRoute.
pub(super) static ORIGINAL_CLIENT_HASH_KEYS: Section = Section {
    name: "OriginalClientHashRoute",
    keys: &[TYPE, CHILDREN, number("offset", 0, 0, 1_000_000, "Added to the hash of the client's address.")],
    unsupported: &[],
};
/// LoadBalancerRoute.
pub(super) static LOAD_BALANCER_KEYS: Section = Section {
    name: "LoadBalancerRoute",
    keys: &[
        TYPE,
        CHILDREN,
        Key {
            name: "algorithm",
            kind: Kind::Word {
                allowed: &["two-random-choices"],
                unsupported: &["weighted-hashing"],
                default: Given::Word("two-random-choices"),
            },
            meaning: "How a child is chosen.",
        },
        number("load_ttl_ms", 100, 1, 3_600_000, "In this time an idle child is believed to become twice as fast."),
        number("failover_count", 1, 0, MAX_FAILOVERS as u64, "How many further children are tried after an error."),
    ],
    unsupported: &["salt", "enable_thrift_server_load"],
};
/// RoutingGroupRoute.
pub(super) static ROUTING_GROUP_KEYS: Section = Section {
    name: "RoutingGroupRoute",
    keys: &[
        TYPE,
        shape(
            "routing_group_policies",
            "map of group to route",
            GROUPS,
            Given::Said("none"),
            "The route of each group.",
        ),
        shape(
            "default_policy",
            "route",
            ROUTE_FORMS,
            Given::Said("DefaultRoute over the only pool; with more than one it must be given"),
            "The route of all other operations, `touch` among them.",
        ),
    ],
    unsupported: &[],
};
/// PrefixSelectorRoute.
pub(super) static PREFIX_SELECTOR_KEYS: Section = Section {
    name: "PrefixSelectorRoute",
    keys: &[
        TYPE,
        shape(
            "policies",
            "map of prefix to route",
            ROUTE_FORMS,
            Given::Said("none"),
            "The route of each prefix of the key; the longest counts.",
        ),
        shape("wildcard", "route", ROUTE_FORMS, Given::Said("an error line"), "The route of all other keys."),
        switch("strip", "Whether the prefix is cut off the key that is sent."),
    ],
    unsupported: &[],
};
/// HashStopAllowListRoute.
pub(super) static HASH_STOP_ALLOW_LIST_KEYS: Section = Section {
    name: "HashStopAllowListRoute",
    keys: &[
        TYPE,
        TARGET,
        shape(
            "prefixes",
            "list of text",
            "prefixes of keys",
            Given::Said("none"),
            "Keys with a hash stop must begin with one of these.",
        ),
    ],
    unsupported: &[],
};
/// KeyParseRoute.
pub(super) static KEY_PARSE_KEYS: Section = Section {
    name: "KeyParseRoute",
    keys: &[
        TYPE,
        TARGET,
        Key {
            name: "num_routing_parts",
            kind: Kind::Number { min: 1, max: 250, default: Given::Required },
            meaning: "How many parts of the key decide where it goes.",
        },
        shape("delimiter", "text", "one character", Given::Required, "What parts end with."),
    ],
    unsupported: &[],
};

const GROUPS: &str = "get_like, update_like, delete_like, arithmetic_like";

pub(super) static HOST_ID: RouteType = RouteType {
    names: &["HostIdRoute"],
    section: &HOST_ID_KEYS,
    read: |reader, map, depth| {
        let salt = map.given_text("salt", reader.faults).map_or("", |(salt, _)| salt);
        let route = HostId { salt: salt.as_bytes().to_vec() };
        Route::over(route, reader.children_of("HostIdRoute", map, depth)?)
    },
    short: Short::Children(|children| Route::over(HostId::default(), children)),
};

pub(super) static RANDOM: RouteType = RouteType {
    names: &["RandomRoute"],
    section: &RANDOM_KEYS,
    read: |reader, map, depth| Route::over(Random, reader.children_of("RandomRoute", map, depth)?),
    short: Short::Children(|children| Route::over(Random, children)),
};

pub(super) static ORIGINAL_CLIENT_HASH: RouteType = RouteType {
    names: &["OriginalClientHashRoute"],
    section: &ORIGINAL_CLIENT_HASH_KEYS,
    read: |reader, map, depth| {
        let offset = map.number("offset", reader.faults);
        Route::over(OriginalClientHash { offset }, reader.children_of("OriginalClientHashRoute", map, depth)?)
    },
    short: Short::Children(|children| Route::over(OriginalClientHash::default(), children)),
};

const LOAD_TTL: u64 = 100_000_000;

pub(super) static LOAD_BALANCER: RouteType = RouteType {
    names: &["LoadBalancerRoute"],
    section: &LOAD_BALANCER_KEYS,
    read: |reader, map, depth| {
        map.word("algorithm", reader.faults);
        let load_ttl = map.number("load_ttl_ms", reader.faults) * 1_000_000;
        let failovers = map.number("failover_count", reader.faults) as usize;
        let children = reader.children_of("LoadBalancerRoute", map, depth)?;
        Route::over(LoadBalancer { load_ttl, failovers }, children)
    },
    short: Short::Children(|children| Route::over(LoadBalancer { load_ttl: LOAD_TTL, failovers: 1 }, children)),
};

pub(super) static ROUTING_GROUP: RouteType = RouteType {
    names: &["RoutingGroupRoute"],
    section: &ROUTING_GROUP_KEYS,
    read: read_routing_group,
    short: Short::None,
};

pub(super) static PREFIX_SELECTOR: RouteType = RouteType {
    names: &["PrefixSelectorRoute"],
    section: &PREFIX_SELECTOR_KEYS,
    read: read_prefix_selector,
    short: Short::None,
};

pub(super) static HASH_STOP_ALLOW_LIST: RouteType = RouteType {
    names: &["HashStopAllowListRoute"],
    section: &HASH_STOP_ALLOW_LIST_KEYS,
    read: |reader, map, depth| {
        let mut prefixes = Vec::new();
        if let Some(node) = map.find("prefixes") {
            let path = Path::Key(map.path, "prefixes");
            for (at, item) in items(node, &path, reader.faults)?.iter().enumerate() {
                let text = text_of(item, &Path::Item(&path, at), "a prefix of keys", reader.faults)?;
                prefixes.push(text.as_bytes().to_vec());
            }
        }
        Route::over(HashStopAllowList { prefixes }, vec![reader.child(map, "target", depth)?])
    },
    short: Short::None,
};

pub(super) static KEY_PARSE: RouteType = RouteType {
    names: &["KeyParseRoute"],
    section: &KEY_PARSE_KEYS,
    read: |reader, map, depth| {
        map.required("num_routing_parts", reader.faults);
        map.required("delimiter", reader.faults);
        let target = reader.child(map, "target", depth);
        let parts = map.given_number("num_routing_parts", reader.faults)? as usize;
        let (text, node) = map.given_text("delimiter", reader.faults)?;
        let [delimiter] = *text.as_bytes() else {
            map.refuse("delimiter", node, format!("{} isn't one character", seen(text)), reader.faults);
            return None;
        };
        Route::over(KeyParse { parts, delimiter }, vec![target?])
    },
    short: Short::None,
};

fn read_routing_group<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, depth: usize) -> Option<Route> {
    let mut route = RoutingGroup::default();
    let mut children = Vec::new();
    let mut good = Some(());
    if let Some(node) = map.find("routing_group_policies") {
        let path = Path::Key(map.path, "routing_group_policies");
        for entry in entries(node, &path, reader.faults)? {
            let path = Path::Key(&path, &entry.key);
            let group = match entry.key.as_str() {
                key if is_named("get_like", key) => &mut route.get_like,
                key if is_named("update_like", key) => &mut route.update_like,
                key if is_named("delete_like", key) => &mut route.delete_like,
                key if is_named("arithmetic_like", key) => &mut route.arithmetic_like,
                _ => {
                    good = reader.fault(entry.position, &path, "unknown group".to_owned(), GROUPS.to_owned());
                    continue;
                }
            };
            // The default comes before them.
            if group.replace(children.len() + 1).is_some() {
                good =
                    reader.fault(entry.position, &path, format!("{} is given twice", seen(&entry.key)), String::new());
                continue;
            }
            match reader.single(&entry.value, &path, depth + 1) {
                Some(child) => children.push(child),
                None => good = None,
            }
        }
    }
    let default = match map.find("default_policy") {
        Some(node) => reader.single(node, &Path::Key(map.path, "default_policy"), depth + 1)?,
        None => Route::over(Default, reader.only_pool("RoutingGroupRoute", "default_policy", map.position, map.path)?)?,
    };
    good?;
    children.insert(0, default);
    Route::over(route, children)
}

fn read_prefix_selector<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, depth: usize) -> Option<Route> {
    let strip = map.word("strip", reader.faults) == "true";
    let mut prefixes: Vec<&[u8]> = Vec::new();
    let mut children = Vec::new();
    let mut good = Some(());
    if let Some(node) = map.find("policies") {
        let path = Path::Key(map.path, "policies");
        for entry in entries(node, &path, reader.faults)? {
            let path = Path::Key(&path, &entry.key);
            if prefixes.contains(&entry.key.as_bytes()) {
                good =
                    reader.fault(entry.position, &path, format!("{} is given twice", seen(&entry.key)), String::new());
            }
            prefixes.push(entry.key.as_bytes());
            match reader.single(&entry.value, &path, depth + 1) {
                Some(child) => children.push(child),
                None => good = None,
            }
        }
    }
    if let Some(node) = map.find("wildcard") {
        match reader.single(node, &Path::Key(map.path, "wildcard"), depth + 1) {
            Some(child) => children.push(child),
            None => good = None,
        }
    }
    good?;
    if children.is_empty() {
        let problem = "neither policies nor a wildcard".to_owned();
        return reader.fault(map.position, map.path, problem, "at least one route".to_owned());
    }
    Route::over(PrefixSelector::new(prefixes, strip), children)
}
