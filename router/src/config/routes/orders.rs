//! `failover_policy` in a configuration, and the routes that are an order of their own: SaltedFailover and Latest.

use super::super::error::Path;
use super::super::hash::Hash;
use super::super::keys::{Default as Given, Key, Section, TYPE, number, shape};
use super::super::reader::{Map, items};
use super::basic::CHILDREN;
use super::failover::{
    ERROR_FORMS, FAILOVER_ERRORS, FAILOVER_LIMIT, FAILOVER_POLICY, FAILOVER_TAG, HEDGE, LEASE_PAIRING, error_list,
    fraction, read_walk,
};
use super::replies::{YES_NO, word};
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::routes::latest::Latest as LatestRoute;
use keyway_policies::routes::salted_failover::SaltedFailover;
use keyway_policies::routes::walk::{By, ByKey, ErrorSet, Latest, Order, Rule, Walk};
use keyway_policies::{Distribution, Member, Placement, PlacementSpec, Weight};

const MOST_TRIES: u64 = 1000;
const POLICY_HASH: Key = shape(
    "hash",
    "map or word",
    "as in a pool",
    Given::Said("the pool's"),
    "DeterministicOrderPolicy, RendezvousPolicy: what places keys on the hosts.",
);

/// The order of children.
pub(super) static POLICY_KEYS: Section = Section {
    name: "failover_policy",
    keys: &[
        word("type", POLICIES, Given::Required, "Which policy this is."),
        number("max_tries", MOST_TRIES, 1, MOST_TRIES, "Most children asked."),
        number(
            "max_error_tries",
            MOST_TRIES,
            1,
            MOST_TRIES,
            "DeterministicOrderPolicy: most children asked that failed and weren't down.",
        ),
        shape(
            "exclude_errors",
            "list of results",
            ERROR_FORMS,
            Given::Said("none"),
            "DeterministicOrderPolicy: what doesn't count for `max_error_tries`.",
        ),
        word(
            "enable_failure_domains",
            YES_NO,
            Given::Word("false"),
            "DeterministicOrderPolicy: `failure_domains` count.",
        ),
        shape(
            "failure_domains",
            "list of numbers",
            "one for each host",
            Given::Said("none"),
            "Which hosts fail together: those of a domain that failed are avoided as long as draws bring others.",
        ),
        word(
            "ignore_normal_reply_index",
            YES_NO,
            Given::Word("false"),
            "DeterministicOrderPolicy, RendezvousPolicy: the host that the pool chose may be asked once more.",
        ),
        POLICY_HASH,
    ],
    unsupported: &[],
};
const POLICIES: &[&str] = &["LeastFailuresPolicy", "DeterministicOrderPolicy", "RendezvousPolicy"];

/// SaltedFailoverRoute.
pub(super) static SALTED_FAILOVER_KEYS: Section = Section {
    name: "SaltedFailoverRoute",
    keys: &[
        TYPE,
        shape("pool", "name", "a pool's name", Given::Required, "The pool whose hash picks the server."),
        shape(
            "hash",
            "map or word",
            "as in a pool",
            Given::Said("the pool's"),
            "What picks the servers after that one.",
        ),
        FAILOVER_POLICY,
        FAILOVER_ERRORS,
        FAILOVER_LIMIT,
        FAILOVER_TAG,
        HEDGE,
        LEASE_PAIRING,
    ],
    unsupported: &[],
};

/// LatestRoute.
pub(super) static LATEST_KEYS: Section = Section {
    name: "LatestRoute",
    keys: &[
        TYPE,
        CHILDREN,
        number("failover_count", 5, 1, MOST_TRIES, "How many of the children are used."),
        shape(
            "weights",
            "list of numbers",
            "0 to 1, one for each child",
            Given::Said("all alike"),
            "The children's shares.",
        ),
        shape("salt", "text", "", Given::Said("none"), "Appended to what is hashed."),
        word("thread_local_failover", YES_NO, Given::Word("false"), "Each shard settles on children of its own."),
        FAILOVER_ERRORS,
        FAILOVER_LIMIT,
        FAILOVER_TAG,
        HEDGE,
        LEASE_PAIRING,
    ],
    unsupported: &[],
};

pub(super) static SALTED_FAILOVER: RouteType = RouteType {
    names: &["SaltedFailoverRoute"],
    section: &SALTED_FAILOVER_KEYS,
    read: |reader, map, _depth| {
        map.required("pool", reader.faults);
        let (name, node) = map.given_text("pool", reader.faults)?;
        let pool = reader.pool(name, node.position, &Path::Key(map.path, "pool"))?;
        let hosts = reader.servers(pool, node.position, map.path)?;
        let children: Vec<Route> = std::iter::once(Route::Pool { pool }).chain(hosts).collect();
        let order = match map.find("failover_policy") {
            Some(_) => read_order(reader, map, &children),
            None => by_key(reader, map, map, &children, By::Salt),
        };
        let walk = read_walk(reader, map)?;
        Route::over(SaltedFailover(Walk { order: order?, ..walk }), children)
    },
    short: Short::None,
};

pub(super) static LATEST: RouteType = RouteType {
    names: &["LatestRoute"],
    section: &LATEST_KEYS,
    read: |reader, map, depth| {
        let children = reader.children_of("LatestRoute", map, depth)?;
        let order = read_latest(reader, map, children.len());
        let walk = read_walk(reader, map)?;
        Route::over(LatestRoute(Walk { order: order?, ..walk }), children)
    },
    short: Short::Children(|children| {
        let spec = PlacementSpec::new(Distribution::Ch3, children.iter().map(|_| ""));
        let latest = Latest { children: Placement::new(&spec).ok()?, count: 5, per_shard: false };
        let order = Order::Latest(Box::new(latest));
        Route::over(LatestRoute(Walk { order, ..Walk::new(Rule::FAILOVER) }), children)
    }),
};

/// `failover_policy` of a route over these children.
pub(super) fn read_order(reader: &mut Reader<'_>, map: &Map<'_, '_>, children: &[Route]) -> Option<Order> {
    let Some(node) = map.find("failover_policy") else { return Some(Order::InOrder) };
    let path = Path::Key(map.path, "failover_policy");
    let policy = Map::read(node, &POLICY_KEYS, &path, reader.faults);
    policy.required("type", reader.faults)?;
    let kind = policy.given_word("type", reader.faults)?;
    let by = match kind {
        "LeastFailuresPolicy" => {
            let max_tries = policy.number("max_tries", reader.faults) as u16;
            return Some(Order::LeastFailures { max_tries });
        }
        "RendezvousPolicy" => By::Score,
        _ => By::Salt,
    };
    if let [Route::Pool { .. }, _, ..] = children {
        return by_key(reader, map, &policy, children, by);
    }
    let problem = format!("{kind} needs a PoolRoute and then its servers as children");
    reader.fault(node.position, &path, problem, "as [PoolRoute|web, Pool|web]".to_owned())
}

/// The order by key over the children behind the first. `policy` is where its settings are, the route's own map where it
/// has none.
fn by_key(
    reader: &mut Reader<'_>,
    map: &Map<'_, '_>,
    policy: &Map<'_, '_>,
    children: &[Route],
    by: By,
) -> Option<Order> {
    let hosts = hosts_placement(reader, map, policy, children, by)?;
    let mut by_key = ByKey {
        hosts,
        by,
        max_tries: MOST_TRIES as u16,
        max_error_tries: MOST_TRIES as u16,
        excluded: ErrorSet::NONE,
        domains: Box::new([]),
        asks_again: false,
    };
    if policy.section.name == POLICY_KEYS.name {
        by_key.max_tries = policy.number("max_tries", reader.faults) as u16;
        by_key.max_error_tries = policy.number("max_error_tries", reader.faults) as u16;
        by_key.asks_again = policy.word("ignore_normal_reply_index", reader.faults) == "true";
        if let Some(node) = policy.find("exclude_errors") {
            by_key.excluded = error_list(reader, node, &Path::Key(policy.path, "exclude_errors"));
        }
        by_key.domains = read_domains(reader, policy, children.len() - 1)?;
    }
    Some(Order::ByKey(Box::new(by_key)))
}

/// Over the hosts: the hash given with the policy, else with the route, else the pool's.
fn hosts_placement(
    reader: &mut Reader<'_>,
    map: &Map<'_, '_>,
    policy: &Map<'_, '_>,
    children: &[Route],
    by: By,
) -> Option<Placement> {
    let given = [policy, map].into_iter().find(|map| has_hash(map) && map.find("hash").is_some());
    let pool = children.iter().find_map(|child| if let Route::Pool { pool } = child { Some(*pool) } else { None })?;
    let (hash, node, path) = match given {
        Some(map) => {
            let node = map.find("hash")?;
            let path = Path::Key(map.path, "hash");
            (Hash::read(node, &path, reader.faults)?, Some(node), path)
        }
        None => {
            let mut hash = reader.pools[pool].hash.clone();
            if by == By::Score && !is_by_score(hash.distribution) {
                hash = Hash { distribution: Distribution::Rendezvous, weights: None, ..hash };
            }
            (hash, None, *map.path)
        }
    };
    let position = node.map_or(map.position, |node| node.position);
    if by == By::Score && !is_by_score(hash.distribution) {
        let problem = format!("{} has no scores", hash.distribution.name());
        return reader.fault(position, &path, problem, "rendezvous, weighted_rendezvous".to_owned());
    }
    let members = children[1..].iter().map(|child| member(reader, child, hash.distribution)).collect();
    let spec = hash.placement(members);
    match Placement::new(&spec) {
        Ok(placement) => Some(placement),
        Err(error) => reader.fault(position, &path, error.to_string(), String::new()),
    }
}

fn has_hash(map: &Map<'_, '_>) -> bool {
    map.section.keys.iter().any(|key| key.name == "hash")
}

fn is_by_score(distribution: Distribution) -> bool {
    matches!(distribution, Distribution::Rendezvous | Distribution::WeightedRendezvous)
}

/// What is hashed of a child.
fn member(reader: &Reader<'_>, child: &Route, distribution: Distribution) -> Member {
    match child {
        Route::Server { pool, server } => {
            let server = &reader.pools[*pool].servers[*server];
            Member { label: server.label(distribution), weight: server.weight, buckets: server.buckets.clone() }
        }
        Route::Pool { .. } | Route::Node(..) => Member::new(""),
    }
}

fn read_domains(reader: &mut Reader<'_>, policy: &Map<'_, '_>, hosts: usize) -> Option<Box<[u32]>> {
    let enabled = policy.word("enable_failure_domains", reader.faults) == "true";
    let Some(node) = policy.find("failure_domains") else {
        return match enabled {
            true => {
                let problem = "enable_failure_domains without failure_domains".to_owned();
                reader.fault(policy.position, policy.path, problem, "a number for each host".to_owned())
            }
            false => Some(Box::new([])),
        };
    };
    let path = Path::Key(policy.path, "failure_domains");
    let mut domains = Vec::new();
    for (at, item) in items(node, &path, reader.faults)?.iter().enumerate() {
        match item.text().and_then(|text| text.parse().ok()) {
            Some(domain) => domains.push(domain),
            None => {
                let problem = format!("{} is no whole number", item.seen());
                return reader.fault(item.position, &Path::Item(&path, at), problem, "0 to 4294967295".to_owned());
            }
        }
    }
    if domains.len() != hosts {
        let problem = format!("{} failure domains for {hosts} hosts", domains.len());
        return reader.fault(node.position, &path, problem, "one for each host".to_owned());
    }
    Some(if enabled { domains.into() } else { Box::new([]) })
}

fn read_latest(reader: &mut Reader<'_>, map: &Map<'_, '_>, children: usize) -> Option<Order> {
    let salt = map.given_text("salt", reader.faults).map_or("", |(text, _)| text).to_owned();
    let weights = read_weights(reader, map, children)?;
    let distribution = if weights.is_some() { Distribution::WeightedCh3 } else { Distribution::Ch3 };
    let mut members = vec![Member::new(""); children];
    for (member, weight) in members.iter_mut().zip(weights.into_iter().flatten()) {
        member.weight = weight;
    }
    let spec = PlacementSpec { members, salt, ..PlacementSpec::new(distribution, Vec::<String>::new()) };
    let count = map.number("failover_count", reader.faults) as u16;
    let per_shard = map.word("thread_local_failover", reader.faults) == "true";
    match Placement::new(&spec) {
        Ok(children) => Some(Order::Latest(Box::new(Latest { children, count, per_shard }))),
        Err(error) => reader.fault(map.position, map.path, error.to_string(), String::new()),
    }
}

fn read_weights(reader: &mut Reader<'_>, map: &Map<'_, '_>, children: usize) -> Option<Option<Vec<Weight>>> {
    let Some(node) = map.find("weights") else { return Some(None) };
    let path = Path::Key(map.path, "weights");
    let mut weights = Vec::new();
    for (at, item) in items(node, &path, reader.faults)?.iter().enumerate() {
        match fraction(item, (0.0, 1.0)) {
            Ok(weight) => weights.extend(Weight::new(weight)),
            Err(problem) => {
                return reader.fault(item.position, &Path::Item(&path, at), problem, "0 to 1".to_owned());
            }
        }
    }
    if weights.len() != children {
        let problem = format!("{} weights for {children} children", weights.len());
        return reader.fault(node.position, &path, problem, "one for each child".to_owned());
    }
    Some(Some(weights))
}
