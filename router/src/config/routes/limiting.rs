//! Routes that hold requests back or throw them away, and those that look on.

use super::super::error::Path;
use super::super::keys::{Default as Given, Key, Kind, ROUTE_FORMS, Section, TYPE, number, shape};
use super::super::reader::Map;
use super::super::tree::Node;
use super::basic::TARGET;
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::routes::blackhole::Blackhole;
use keyway_policies::routes::dev_null::DevNull;
use keyway_policies::routes::logging::Logging;
use keyway_policies::routes::outstanding_limit::OutstandingLimit;
use keyway_policies::routes::rate_limit::{Rate, RateLimit};
use keyway_policies::routes::slow_warm_up::SlowWarmUp;

const MS: u64 = 1_000_000;
const MOST_OUTSTANDING: u64 = 1_000_000;
const MOST_WAIT_MS: u64 = 600_000;
const MOST_RATE: f64 = 1e9;

const RATE: &str = "a number above 0";
const SHARE: &str = "0 to 1";

/// DevNullRoute.
pub(super) static DEV_NULL_KEYS: Section = Section { name: "DevNullRoute", keys: &[TYPE], unsupported: &[] };
/// BlackholeRoute.
pub(super) static BLACKHOLE_KEYS: Section = Section {
    name: "BlackholeRoute",
    keys: &[TYPE, number("timeout_ms", 1000, 1, MOST_WAIT_MS, "When the request fails.")],
    unsupported: &["default", "blackhole_child", "policies"],
};
/// LoggingRoute.
pub(super) static LOGGING_KEYS: Section = Section {
    name: "LoggingRoute",
    keys: &[
        TYPE,
        shape("target", "route", ROUTE_FORMS, Given::Said("NullRoute"), "Where requests go on to."),
        number("lines_per_second", 10, 1, 1000, "Most lines in a second, for each shard."),
    ],
    unsupported: &[],
};
/// RateLimitRoute.
pub(super) static RATE_LIMIT_KEYS: Section = Section {
    name: "RateLimitRoute",
    keys: &[
        TYPE,
        TARGET,
        shape("rates", "map", "", Given::Required, "How often, for each group of operations; see below."),
        shape("fallback", "route", ROUTE_FORMS, Given::Said("NullRoute"), "Where requests go that are too many."),
    ],
    unsupported: &[],
};
/// The rates of RateLimitRoute and PoolRoute.
pub(super) static RATES_KEYS: Section = Section {
    name: "rates",
    keys: &[
        shape(
            "gets_rate",
            "number",
            RATE,
            Given::Said("no limit"),
            "get, gets, gat and gats a second, for each shard.",
        ),
        shape("gets_burst", "number", "1 or more", Given::Said("`gets_rate`, at least 1"), "Most of them at once."),
        shape("sets_rate", "number", RATE, Given::Said("no limit"), "The same for what stores."),
        shape("sets_burst", "number", "1 or more", Given::Said("`sets_rate`, at least 1"), "Most of them at once."),
        shape("deletes_rate", "number", RATE, Given::Said("no limit"), "The same for delete."),
        shape(
            "deletes_burst",
            "number",
            "1 or more",
            Given::Said("`deletes_rate`, at least 1"),
            "Most of them at once.",
        ),
    ],
    unsupported: &[],
};
/// OutstandingLimitRoute.
pub(super) static OUTSTANDING_LIMIT_KEYS: Section = Section {
    name: "OutstandingLimitRoute",
    keys: &[
        TYPE,
        TARGET,
        Key {
            name: "max_outstanding",
            kind: Kind::Number { min: 1, max: MOST_OUTSTANDING, default: Given::Required },
            meaning: "Most requests at a time, for each shard; for each server where the target is a pool.",
        },
        number("max_waiting", MOST_WAITING, 0, MOST_OUTSTANDING, "Most requests that wait, for each shard."),
        number("max_wait_ms", WAIT_MS, 1, MOST_WAIT_MS, "How long one may wait."),
    ],
    unsupported: &[],
};
/// SlowWarmUpRoute.
pub(super) static SLOW_WARM_UP_KEYS: Section = Section {
    name: "SlowWarmUpRoute",
    keys: &[
        TYPE,
        TARGET,
        shape(
            "failover_target",
            "route",
            ROUTE_FORMS,
            Given::Required,
            "Where gets go that a cold server doesn't get.",
        ),
        shape("settings", "map", "", Given::Said("as below"), "When a server is cold, and what it gets."),
    ],
    unsupported: &[],
};
/// PoolRoute's `slow_warmup`.
pub(super) static SLOW_WARMUP_KEYS: Section = Section {
    name: "PoolRoute.slow_warmup",
    keys: &[
        shape(
            "failover_target",
            "route",
            ROUTE_FORMS,
            Given::Required,
            "Where gets go that a cold server doesn't get.",
        ),
        shape("settings", "map", "", Given::Said("as below"), "When a server is cold, and what it gets."),
    ],
    unsupported: &[],
};
/// Their settings.
pub(super) static WARM_UP_SETTINGS_KEYS: Section = Section {
    name: "settings of SlowWarmUpRoute",
    keys: &[
        shape("enable_threshold", "number", SHARE, Given::Said("0.7"), "Below this hit rate a server counts as cold."),
        shape("disable_threshold", "number", SHARE, Given::Said("0.9"), "From this hit rate on it is warm again."),
        shape("start", "number", SHARE, Given::Said("0.1"), "The share of gets that it has at hit rate 0."),
        shape("step", "number", "0 to 100", Given::Said("1"), "How much the share grows with the hit rate."),
        number("min_requests", 100, 1, 1_000_000, "A server with fewer gets than this counts as warm."),
    ],
    unsupported: &[],
};

const MOST_WAITING: u64 = 10_000;
const WAIT_MS: u64 = 1000;

pub(super) static DEV_NULL: RouteType = RouteType {
    names: &["DevNullRoute"],
    section: &DEV_NULL_KEYS,
    read: |_, _, _| Some(Route::leaf(DevNull)),
    short: Short::Alone(|| Route::leaf(DevNull)),
};

pub(super) static BLACKHOLE: RouteType = RouteType {
    names: &["BlackholeRoute"],
    section: &BLACKHOLE_KEYS,
    read: |reader, map, _| Some(Route::leaf(Blackhole { time: map.number("timeout_ms", reader.faults) * MS })),
    short: Short::Alone(|| Route::leaf(Blackhole { time: 1000 * MS })),
};

pub(super) static LOGGING: RouteType = RouteType {
    names: &["LoggingRoute"],
    section: &LOGGING_KEYS,
    read: |reader, map, depth| {
        let lines_per_second = map.number("lines_per_second", reader.faults) as u32;
        let children = match map.find("target") {
            Some(_) => vec![reader.child(map, "target", depth)?],
            None => Vec::new(),
        };
        Some(Route::Node(Logging { lines_per_second }.into(), children))
    },
    short: Short::Child(|children| Route::over(Logging { lines_per_second: 10 }, children)),
};

pub(super) static RATE_LIMIT: RouteType = RouteType {
    names: &["RateLimitRoute"],
    section: &RATE_LIMIT_KEYS,
    read: |reader, map, depth| {
        let node = map.required("rates", reader.faults);
        let target = reader.child(map, "target", depth);
        let limit = read_rates(reader, node?, &Path::Key(map.path, "rates"));
        let mut children = vec![target?];
        if map.find("fallback").is_some() {
            children.push(reader.child(map, "fallback", depth)?);
        }
        Route::over(limit?, children)
    },
    short: Short::None,
};

pub(super) static OUTSTANDING_LIMIT: RouteType = RouteType {
    names: &["OutstandingLimitRoute"],
    section: &OUTSTANDING_LIMIT_KEYS,
    read: |reader, map, depth| {
        map.required("max_outstanding", reader.faults);
        let most_waiting = map.number("max_waiting", reader.faults) as u32;
        let wait = map.number("max_wait_ms", reader.faults) * MS;
        let target = reader.child(map, "target", depth);
        let most = map.given_number("max_outstanding", reader.faults)? as u32;
        Route::over(OutstandingLimit { most, most_waiting, wait }, vec![target?])
    },
    short: Short::None,
};

pub(super) static SLOW_WARM_UP: RouteType = RouteType {
    names: &["SlowWarmUpRoute"],
    section: &SLOW_WARM_UP_KEYS,
    read: |reader, map, depth| {
        let target = reader.child(map, "target", depth);
        slow_warm_up(reader, map, depth, target?)
    },
    short: Short::None,
};

/// What a PoolRoute puts around its pool, from the inside: `max_outstanding`, `slow_warmup`, `rates`.
pub(super) fn around_pool<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, depth: usize, pool: Route) -> Option<Route> {
    let mut route = pool;
    if let Some(most) = map.given_number("max_outstanding", reader.faults) {
        let limit = OutstandingLimit { most: most as u32, most_waiting: MOST_WAITING as u32, wait: WAIT_MS * MS };
        route = Route::over(limit, vec![route])?;
    }
    if let Some(node) = map.find("slow_warmup") {
        let path = Path::Key(map.path, "slow_warmup");
        let settings = Map::read(node, &SLOW_WARMUP_KEYS, &path, reader.faults);
        route = slow_warm_up(reader, &settings, depth, route)?;
    }
    if let Some(node) = map.find("rates") {
        let limit = read_rates(reader, node, &Path::Key(map.path, "rates"))?;
        route = Route::over(limit, vec![route])?;
    }
    Some(route)
}

fn slow_warm_up<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, depth: usize, target: Route) -> Option<Route> {
    let failover = reader.child(map, "failover_target", depth)?;
    let path = Path::Key(map.path, "settings");
    let settings = match map.find("settings") {
        Some(node) => Map::read(node, &WARM_UP_SETTINGS_KEYS, &path, reader.faults),
        None => Map::empty(&WARM_UP_SETTINGS_KEYS, map.position, &path),
    };
    let mut share =
        |name, most, default| decimal(reader, &settings, name, 0.0, most).map(|given| given.unwrap_or(default));
    let (enable_threshold, disable_threshold) =
        (share("enable_threshold", 1.0, 0.7)?, share("disable_threshold", 1.0, 0.9)?);
    let (start, step) = (share("start", 1.0, 0.1)?, share("step", 100.0, 1.0)?);
    let min_requests = settings.number("min_requests", reader.faults) as u32;
    if enable_threshold >= disable_threshold {
        let problem = format!("enable_threshold {enable_threshold} isn't below disable_threshold {disable_threshold}");
        return reader.fault(settings.position, &path, problem, String::new());
    }
    let route = SlowWarmUp { enable_threshold, disable_threshold, start, step, min_requests };
    Route::over(route, vec![target, failover])
}

fn read_rates<'a>(reader: &mut Reader<'a>, node: &'a Node, path: &Path<'_>) -> Option<RateLimit> {
    let map = Map::read(node, &RATES_KEYS, path, reader.faults);
    let gets = read_rate(reader, &map, "gets_rate", "gets_burst");
    let sets = read_rate(reader, &map, "sets_rate", "sets_burst");
    let deletes = read_rate(reader, &map, "deletes_rate", "deletes_burst");
    Some(RateLimit { gets: gets?, sets: sets?, deletes: deletes? })
}

/// The outer None is after a fault.
fn read_rate<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, rate: &str, burst: &str) -> Option<Option<Rate>> {
    let per_second = decimal(reader, map, rate, f64::MIN_POSITIVE, MOST_RATE);
    let burst = decimal(reader, map, burst, 1.0, MOST_RATE);
    let (per_second, burst) = (per_second?, burst?);
    // One that never holds a whole token would let nothing through.
    Some(per_second.map(|per_second| Rate { per_second, burst: burst.unwrap_or(per_second.max(1.0)) }))
}

/// A number that needn't be whole. The outer None is after a fault.
fn decimal<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, name: &str, least: f64, most: f64) -> Option<Option<f64>> {
    let Some(node) = map.find(name) else { return Some(None) };
    let number = node.text().and_then(|text| text.parse::<f64>().ok()).filter(|number| (least..=most).contains(number));
    if number.is_none() {
        map.refuse(name, node, format!("{} is no such number", node.seen()), reader.faults);
        return None;
    }
    Some(number)
}
