//! The routes the simplest trees are made of.

use super::super::error::{Path, did_you_mean, seen};
use super::super::keys::{Default as Given, Key, Kind, ROUTE_FORMS, Section, TYPE, is_named, number, shape};
use super::super::reader::{Map, entries};
use super::hash::pool_with_hash;
use super::limiting::around_pool;
use super::types::{RouteType, Short};
use super::{Reader, Route, copies};
use keyway_policies::routes::all_async::AllAsync;
use keyway_policies::routes::default::Default;
use keyway_policies::routes::error::Error;
use keyway_policies::routes::latency_injection::LatencyInjection;
use keyway_policies::routes::local::Local;
use keyway_policies::routes::null::Null;
use keyway_policies::routes::operation_selector::OperationSelector;
use keyway_protocol::Operation;

/// OperationSelectorRoute.
pub(super) static OPERATION_SELECTOR_KEYS: Section = Section {
    name: "OperationSelectorRoute",
    keys: &[
        TYPE,
        shape(
            "operation_policies",
            "map of operation to route",
            ROUTE_FORMS,
            Given::Said("none"),
            "The route of each operation, by its name in the text protocol.",
        ),
        shape(
            "default_policy",
            "route",
            ROUTE_FORMS,
            Given::Said("DefaultRoute over the only pool; with more than one it must be given"),
            "The route of all other operations.",
        ),
    ],
    unsupported: &[],
};

/// DefaultRoute.
pub(super) static CHILDREN_KEYS: Section = Section {
    name: "DefaultRoute",
    keys: &[
        TYPE,
        shape(
            "children",
            "list of routes, or `Pool|name`",
            "routes, and `Pool|name` for each server of a pool",
            Given::Said("each server of the only pool; with more than one pool it must be given"),
            "Where requests may go, in order.",
        ),
    ],
    unsupported: &[],
};

/// PoolRoute.
pub(super) static POOL_KEYS: Section = Section {
    name: "PoolRoute",
    keys: &[
        TYPE,
        shape("pool", "name", "a pool's name", Given::Required, "The pool whose hash picks the server."),
        shape(
            "hash",
            "map, or name",
            "as a pool's `hash`",
            Given::Said("the pool's"),
            "How keys are spread; with one of its own, keys of a server that is down fail.",
        ),
        shape("rates", "map", "", Given::Said("no limit"), "RateLimitRoute around the pool; see its rates."),
        Key {
            name: "max_outstanding",
            kind: Kind::Number { min: 1, max: 1_000_000, default: Given::Said("no limit") },
            meaning: "OutstandingLimitRoute around the pool: most requests at a time for each server and shard.",
        },
        shape("slow_warmup", "map", "", Given::Said("none"), "SlowWarmUpRoute around the pool; see below."),
        copies::ASYNCLOG,
        copies::SHADOWS,
        copies::TARGET_MAX_SHADOW_REQUESTS,
        copies::SHARD_SPLITS,
    ],
    unsupported: &["server_timeout_ms"],
};

/// LocalRoute.
pub(super) static LOCAL_KEYS: Section = Section { name: "LocalRoute", keys: &[TYPE], unsupported: &[] };

/// AllAsyncRoute.
pub(super) static ALL_ASYNC_KEYS: Section =
    Section { name: "AllAsyncRoute", keys: &[TYPE, CHILDREN], unsupported: &[] };
/// NullRoute.
pub(super) static NULL_KEYS: Section = Section { name: "NullRoute", keys: &[TYPE], unsupported: &[] };
/// ErrorRoute.
pub(super) static ERROR_KEYS: Section = Section {
    name: "ErrorRoute",
    keys: &[
        TYPE,
        shape("response", "text", "one line", Given::Said("`keyway: ErrorRoute`"), "The words behind SERVER_ERROR."),
    ],
    unsupported: &["result", "enable_logging"],
};
/// LatencyInjectionRoute.
pub(super) static LATENCY_INJECTION_KEYS: Section = Section {
    name: "LatencyInjectionRoute",
    keys: &[
        TYPE,
        shape("child", "route", ROUTE_FORMS, Given::Required, "Where requests go on to."),
        number("before_latency_ms", 0, 0, MOST_LATENCY_MS, "Time before the child is asked."),
        number("after_latency_ms", 0, 0, MOST_LATENCY_MS, "Time between the child's reply and the answer."),
        number("total_latency_ms", 0, 0, MOST_LATENCY_MS, "Least time from request to answer."),
    ],
    unsupported: &["request_payload_latency", "max_request_latency_us", "total_latency_percentile_ms"],
};

/// The key of routes with children.
pub(super) const CHILDREN: Key = shape(
    "children",
    "list of routes, or `Pool|name`",
    "routes, and `Pool|name` for each server of a pool",
    Given::Said("each server of the only pool; with more than one pool it must be given"),
    "Where requests may go, in order.",
);
/// The key of routes with one child.
pub(super) const TARGET: Key = shape("target", "route", ROUTE_FORMS, Given::Required, "Where requests go on to.");
const MOST_LATENCY_MS: u64 = 60_000;

pub(super) static DEFAULT: RouteType = RouteType {
    names: &["DefaultRoute"],
    section: &CHILDREN_KEYS,
    read: |reader, map, depth| Route::over(Default, reader.children_of("DefaultRoute", map, depth)?),
    short: Short::Children(|children| Route::over(Default, children)),
};

pub(super) static ALL_ASYNC: RouteType = RouteType {
    names: &["AllAsyncRoute"],
    section: &ALL_ASYNC_KEYS,
    read: |reader, map, depth| Route::over(AllAsync, reader.children_of("AllAsyncRoute", map, depth)?),
    short: Short::Children(|children| Route::over(AllAsync, children)),
};

pub(super) static OPERATION_SELECTOR: RouteType = RouteType {
    names: &["OperationSelectorRoute", "PrefixPolicyRoute"],
    section: &OPERATION_SELECTOR_KEYS,
    read: read_operation_selector,
    short: Short::OnlyPool,
};

pub(super) static POOL: RouteType = RouteType {
    names: &["PoolRoute"],
    section: &POOL_KEYS,
    read: |reader, map, depth| {
        map.required("pool", reader.faults);
        let (name, node) = map.given_text("pool", reader.faults)?;
        let pool = reader.pool(name, node.position, &Path::Key(map.path, "pool"))?;
        let route = pool_with_hash(reader, map, pool)?;
        let route = around_pool(reader, map, depth, route)?;
        copies::around_pool(reader, map, depth, route)
    },
    short: Short::Pool,
};

pub(super) static LOCAL: RouteType = RouteType {
    names: &["LocalRoute"],
    section: &LOCAL_KEYS,
    read: |_, _, _| Some(Route::leaf(Local)),
    short: Short::Alone(|| Route::leaf(Local)),
};

pub(super) static NULL: RouteType = RouteType {
    names: &["NullRoute"],
    section: &NULL_KEYS,
    read: |_, _, _| Some(Route::leaf(Null)),
    short: Short::Alone(|| Route::leaf(Null)),
};

pub(super) static ERROR: RouteType = RouteType {
    names: &["ErrorRoute"],
    section: &ERROR_KEYS,
    read: |reader, map, _| {
        let response = map.given_text("response", reader.faults).map_or("", |(text, _)| text);
        Some(Route::leaf(Error::new(response)))
    },
    short: Short::Text(|response| Route::leaf(Error::new(response))),
};

pub(super) static LATENCY_INJECTION: RouteType = RouteType {
    names: &["LatencyInjectionRoute"],
    section: &LATENCY_INJECTION_KEYS,
    read: |reader, map, depth| {
        let mut nanos = |key| map.number(key, reader.faults) * 1_000_000;
        let (before, after, total) = (nanos("before_latency_ms"), nanos("after_latency_ms"), nanos("total_latency_ms"));
        let target = reader.child(map, "child", depth)?;
        Route::over(LatencyInjection { before, after, total }, vec![target])
    },
    short: Short::None,
};

fn read_operation_selector<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, depth: usize) -> Option<Route> {
    let mut good = Some(());
    let mut policies: Vec<(Operation, Route)> = Vec::new();
    if let Some(node) = map.find("operation_policies") {
        let path = Path::Key(map.path, "operation_policies");
        for entry in entries(node, &path, reader.faults)? {
            let path = Path::Key(&path, &entry.key);
            let Some(operation) = Operation::ALL.into_iter().find(|o| is_named(o.name(), &entry.key)) else {
                let names = Operation::ALL.map(Operation::name);
                let near = did_you_mean(&entry.key, names);
                good = reader.fault(entry.position, &path, format!("unknown operation{near}"), names.join(", "));
                continue;
            };
            if policies.iter().any(|(known, _)| *known == operation) {
                let problem = format!("{} is given twice", seen(&entry.key));
                good = reader.fault(entry.position, &path, problem, String::new());
                continue;
            }
            match reader.single(&entry.value, &path, depth + 1) {
                Some(route) => policies.push((operation, route)),
                None => good = None,
            }
        }
    }
    let default = match map.find("default_policy") {
        Some(node) => reader.single(node, &Path::Key(map.path, "default_policy"), depth + 1)?,
        // gomcrouter's rule for operations without a policy.
        None => {
            Route::over(Default, reader.only_pool("OperationSelectorRoute", "default_policy", map.position, map.path)?)?
        }
    };
    good?;
    let operations: Vec<Operation> = policies.iter().map(|(operation, _)| *operation).collect();
    let selector = OperationSelector::new(&operations).ok()?;
    let routes = policies.into_iter().map(|(_, route)| route);
    Some(Route::Node(selector.into(), std::iter::once(default).chain(routes).collect()))
}
