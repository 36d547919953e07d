//! Failover routes in a configuration: what they pass over, in which order, at what cost.

use super::super::error::{Path, did_you_mean};
use super::super::keys::{Default as Given, Key, ROUTE_FORMS, Section, TYPE, number, shape};
use super::super::reader::{Map, entries, items};
use super::super::tree::{Node, Value};
use super::basic::CHILDREN;
use super::orders::read_order;
use super::replies::{OPERATION_FORMS, OVERRIDES, YES_NO, operation_names, operations_of, read_overrides, word};
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::ByOperation;
use keyway_policies::routes::failover::Failover;
use keyway_policies::routes::failover_with_exptime::FailoverWithExptime;
use keyway_policies::routes::miss_failover::MissFailover;
use keyway_policies::routes::walk::{Budget, ErrorSet, Hedge, Order, Otherwise, Rule, Walk};
use keyway_protocol::{Operation, OperationClass};

pub(super) const ERROR_FORMS: &str = "timeout, deadline_exceeded, unavailable, connection_lost, queue_full, misaligned, \
    server_error, client_error, error, and mcrouter's tko, connect_error, connect_timeout, remote_error, local_error, \
    busy, try_again, shutdown";

pub(super) const FAILOVER_ERRORS: Key = shape(
    "failover_errors",
    "list of results, or map of `gets`, `updates`, `deletes` to such lists",
    ERROR_FORMS,
    Given::Said("every failure, server_error and error"),
    "What is passed over. In a map, operations it doesn't name keep the default.",
);
pub(super) const FAILOVER_POLICY: Key =
    shape("failover_policy", "map", "", Given::Said("in order"), "In which order children are asked, and how many.");
pub(super) const FAILOVER_LIMIT: Key = shape(
    "failover_limit",
    "map, or `off`",
    "",
    Given::Said("see there"),
    "The retry budget, for failovers and hedges.",
);
pub(super) const FAILOVER_TAG: Key = word(
    "failover_tag",
    YES_NO,
    Given::Word("false"),
    "Children after the first get `:failover=1` behind keys with a hash stop.",
);
pub(super) const LEASE_PAIRING: Key = shape(
    "enable_lease_pairing",
    "word",
    "false",
    Given::Word("false"),
    "mcrouter's key for leases, which memcached doesn't have: only false is taken.",
);
pub(super) const BACKFILL: Key = word(
    "backfill",
    YES_NO,
    Given::Word("false"),
    "A get's hit is added to the children before it that missed, with the time it has left.",
);
pub(super) const HEDGE: Key =
    shape("hedge", "map", "", Given::Said("none"), "When a second child is asked because the first is slow.");
const WALK_ANSWERS: &[&str] = &["first_ok", "first_hit", "best", "worst"];
const ANSWER: Key = word(
    "answer",
    WALK_ANSWERS,
    Given::Word("first_ok"),
    "first_ok: a miss is an answer. The others go on from misses too, and without a hit answer the last of the best, the least or the most severe reply.",
);

/// FailoverRoute.
pub(super) static FAILOVER_KEYS: Section = Section {
    name: "FailoverRoute",
    keys: &[
        TYPE,
        CHILDREN,
        ANSWER,
        OVERRIDES,
        FAILOVER_ERRORS,
        FAILOVER_POLICY,
        FAILOVER_LIMIT,
        FAILOVER_TAG,
        BACKFILL,
        HEDGE,
        LEASE_PAIRING,
    ],
    unsupported: &["failover_count"],
};

/// FailoverWithExptimeRoute.
pub(super) static FAILOVER_WITH_EXPTIME_KEYS: Section = Section {
    name: "FailoverWithExptimeRoute",
    keys: &[
        TYPE,
        shape("normal", "route", ROUTE_FORMS, Given::Required, "Where requests go."),
        shape("failover", "list of routes", ROUTE_FORMS, Given::Required, "Where they go while that fails."),
        number(
            "failover_exptime",
            60,
            0,
            u32::MAX as u64,
            "Seconds that what is stored there lives at most. 0: as long as it is asked to.",
        ),
        FAILOVER_ERRORS,
        FAILOVER_POLICY,
        FAILOVER_LIMIT,
        FAILOVER_TAG,
        HEDGE,
        LEASE_PAIRING,
    ],
    unsupported: &[],
};

/// MissFailoverRoute.
pub(super) static MISS_FAILOVER_KEYS: Section = Section {
    name: "MissFailoverRoute",
    keys: &[
        TYPE,
        CHILDREN,
        word(
            "answer",
            &["first_hit", "best", "worst", "last"],
            Given::Word("first_hit"),
            "Without a success: first_hit the last of the best replies, best and worst the least or most severe, last the last.",
        ),
        word(
            "return_best_on_error",
            YES_NO,
            Given::Said("none"),
            "mcrouter's key: true is `answer: best`, false is `answer: last`.",
        ),
        shape(
            "failover_operations",
            "list of operations",
            OPERATION_FORMS,
            Given::Said("all"),
            "The operations that go on. The others take the first child that is up. mcrouter: [get_like, delete_like].",
        ),
        FAILOVER_LIMIT,
        BACKFILL,
        HEDGE,
    ],
    unsupported: &[],
};

/// An operation's own answer.
pub(super) static ANSWER_KEYS: Section = Section {
    name: "overrides of FailoverRoute",
    keys: &[word("answer", WALK_ANSWERS, Given::Said("the route's"), "As for the route.")],
    unsupported: &[],
};

/// The retry budget.
pub(super) static LIMIT_KEYS: Section = Section {
    name: "failover_limit",
    keys: &[
        shape("rate", "number", "0 to 1", Given::Said("0.2"), "Further tries each request earns."),
        number("burst", 1000, 1, Budget::MAX_BURST as u64, "Most tries that can be saved up, per shard."),
    ],
    unsupported: &[],
};

/// Hedged gets.
pub(super) static HEDGE_KEYS: Section = Section {
    name: "hedge",
    keys: &[
        shape(
            "quantile",
            "number",
            "0.5 to 0.9999",
            Given::Said("0.95"),
            "The share of gets that are answered before a second child is asked.",
        ),
        number(
            "min_samples",
            Hedge::DEFAULT_SAMPLES as u64,
            1,
            Hedge::MAX_SAMPLES as u64,
            "Gets a shard must have seen before it hedges.",
        ),
        number("min_delay_us", Hedge::DEFAULT_DELAY_US, 0, 60_000_000, "Least time before a second child is asked."),
    ],
    unsupported: &[],
};

pub(super) static FAILOVER: RouteType = RouteType {
    names: &["FailoverRoute"],
    section: &FAILOVER_KEYS,
    read: |reader, map, depth| {
        let children = reader.children_of("FailoverRoute", map, depth);
        let walk = read_failover(reader, map, children.as_deref().unwrap_or_default());
        Route::over(Failover(walk?), children?)
    },
    short: Short::Children(|children| Route::over(Failover::default(), children)),
};

pub(super) static FAILOVER_WITH_EXPTIME: RouteType = RouteType {
    names: &["FailoverWithExptimeRoute"],
    section: &FAILOVER_WITH_EXPTIME_KEYS,
    read: |reader, map, depth| {
        let mut children: Vec<Route> = reader.child(map, "normal", depth).into_iter().collect();
        let node = map.required("failover", reader.faults)?;
        reader.children(node, &Path::Key(map.path, "failover"), depth + 1, &mut children)?;
        let walk = read_gutter(reader, map, &children);
        Route::over(FailoverWithExptime(walk?), children)
    },
    short: Short::None,
};

pub(super) static MISS_FAILOVER: RouteType = RouteType {
    names: &["MissFailoverRoute"],
    section: &MISS_FAILOVER_KEYS,
    read: |reader, map, depth| {
        let walk = read_miss_failover(reader, map);
        let children = reader.children_of("MissFailoverRoute", map, depth);
        Route::over(MissFailover(walk?), children?)
    },
    short: Short::Children(|children| Route::over(MissFailover::default(), children)),
};

fn read_failover(reader: &mut Reader<'_>, map: &Map<'_, '_>, children: &[Route]) -> Option<Walk> {
    let order = read_order(reader, map, children);
    let mut walk = read_walk(reader, map)?;
    let answer = map.word("answer", reader.faults);
    for operation in Operation::ALL {
        walk.rules.set(operation, answering(walk.rules.of(operation), answer));
    }
    read_overrides(reader, map, &ANSWER_KEYS, |reader, operations, map| {
        let Some(answer) = map.given_word("answer", reader.faults) else { return };
        operations
            .iter()
            .for_each(|operation| walk.rules.set(*operation, answering(walk.rules.of(*operation), answer)));
    })?;
    walk.backfill = is_yes(reader, map, "backfill");
    if walk.backfill && !walk.rules.of(Operation::Get).misses {
        let problem = "backfill without misses that are passed over".to_owned();
        let allowed = "with `answer: first_hit`, or in a MissFailoverRoute".to_owned();
        return reader.fault(map.position, map.path, problem, allowed);
    }
    Some(Walk { order: order?, ..walk })
}

fn read_gutter(reader: &mut Reader<'_>, map: &Map<'_, '_>, children: &[Route]) -> Option<Walk> {
    let order = read_order(reader, map, children);
    let walk = read_walk(reader, map)?;
    let seconds = map.number("failover_exptime", reader.faults);
    let gutter_exptime = u32::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    Some(Walk { order: order?, gutter_exptime, ..walk })
}

/// What all routes have that go on from errors alone, in order.
pub(super) fn read_walk(reader: &mut Reader<'_>, map: &Map<'_, '_>) -> Option<Walk> {
    refuse_leases(reader, map);
    let errors = read_errors(reader, map);
    let (budget, hedge) = (read_limit(reader, map), read_hedge(reader, map));
    Some(Walk {
        rules: ByOperation::from_fn(|operation| Rule { errors: errors.of(operation), ..Rule::FAILOVER }),
        order: Order::InOrder,
        budget: budget?,
        tag: is_yes(reader, map, "failover_tag"),
        gutter_exptime: None,
        backfill: false,
        hedge: hedge?,
    })
}

fn read_miss_failover(reader: &mut Reader<'_>, map: &Map<'_, '_>) -> Option<Walk> {
    let answer = map.given_word("answer", reader.faults);
    let otherwise = match (answer, map.given_word("return_best_on_error", reader.faults)) {
        (Some(_), Some(_)) => {
            let problem = "return_best_on_error stands beside answer".to_owned();
            return reader.fault(map.position, map.path, problem, "one of the two".to_owned());
        }
        (None, Some("true")) | (Some("best"), None) => Otherwise::Best,
        (None, Some(_)) | (Some("last"), None) => Otherwise::Last,
        (Some("worst"), None) => Otherwise::Worst,
        (_, None) => Otherwise::LastOfBest,
    };
    let goes_on = read_failover_operations(reader, map)?;
    let rules = ByOperation::from_fn(|operation| Rule {
        first_only: !goes_on.contains(&operation),
        otherwise,
        ..Rule::MISS_FAILOVER
    });
    Some(Walk {
        rules,
        order: Order::InOrder,
        budget: read_limit(reader, map)?,
        tag: false,
        gutter_exptime: None,
        backfill: is_yes(reader, map, "backfill"),
        hedge: read_hedge(reader, map)?,
    })
}

/// The rule with another answer.
fn answering(rule: Rule, answer: &str) -> Rule {
    let (misses, otherwise) = match answer {
        "first_hit" => (true, Otherwise::LastOfBest),
        "best" => (true, Otherwise::Best),
        "worst" => (true, Otherwise::Worst),
        _ => (false, Otherwise::Last),
    };
    Rule { misses, otherwise, ..rule }
}

pub(super) fn is_yes(reader: &mut Reader<'_>, map: &Map<'_, '_>, key: &str) -> bool {
    map.word(key, reader.faults) == "true"
}

fn refuse_leases(reader: &mut Reader<'_>, map: &Map<'_, '_>) {
    let Some(node) = map.find("enable_lease_pairing") else { return };
    if node.text() != Some("false") {
        let problem = "memcached has no leases, so there is nothing to pair".to_owned();
        map.refuse("enable_lease_pairing", node, problem, reader.faults);
    }
}

/// `failover_operations`: all unless it is given.
fn read_failover_operations(reader: &mut Reader<'_>, map: &Map<'_, '_>) -> Option<Vec<Operation>> {
    let Some(node) = map.find("failover_operations") else { return Some(Operation::ALL.to_vec()) };
    let path = Path::Key(map.path, "failover_operations");
    let mut operations = Vec::new();
    for (at, item) in items(node, &path, reader.faults)?.iter().enumerate() {
        match item.text().and_then(operations_of) {
            Some(named) => operations.extend(named),
            None => {
                let near = did_you_mean(item.text().unwrap_or_default(), operation_names());
                let problem = format!("{} is no operation{near}", item.seen());
                reader.fault::<()>(item.position, &Path::Item(&path, at), problem, OPERATION_FORMS.to_owned());
            }
        }
    }
    Some(operations)
}

/// `failover_errors`: a list for all operations, or lists for groups.
fn read_errors(reader: &mut Reader<'_>, map: &Map<'_, '_>) -> ByOperation<ErrorSet> {
    let mut errors = ByOperation::same(ErrorSet::FAILOVER);
    let Some(node) = map.find("failover_errors") else { return errors };
    let path = Path::Key(map.path, "failover_errors");
    if let Value::List(_) = node.value {
        return ByOperation::same(error_list(reader, node, &path));
    }
    for entry in entries(node, &path, reader.faults).unwrap_or_default() {
        let path = Path::Key(&path, &entry.key);
        let class = match entry.key.as_str() {
            "gets" => OperationClass::GetLike,
            "updates" => OperationClass::UpdateLike,
            "deletes" => OperationClass::DeleteLike,
            other => {
                let near = did_you_mean(other, ["gets", "updates", "deletes"]);
                let problem = format!("unknown group{near}");
                reader.fault::<()>(entry.position, &path, problem, "gets, updates, deletes".to_owned());
                continue;
            }
        };
        let set = error_list(reader, &entry.value, &path);
        let of_class = Operation::ALL.into_iter().filter(|operation| operation.class() == class);
        of_class.for_each(|operation| errors.set(operation, set));
    }
    errors
}

pub(super) fn error_list(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> ErrorSet {
    let mut set = ErrorSet::NONE;
    for (at, item) in items(node, path, reader.faults).unwrap_or_default().iter().enumerate() {
        match item.text().and_then(ErrorSet::from_name) {
            Some(named) => set = set.and(named),
            None => {
                let near = did_you_mean(item.text().unwrap_or_default(), ErrorSet::names());
                let problem = format!("{} is no error{near}", item.seen());
                reader.fault::<()>(item.position, &Path::Item(path, at), problem, ERROR_FORMS.to_owned());
            }
        }
    }
    set
}

/// `failover_limit`: a map, or `off`.
pub(super) fn read_limit(reader: &mut Reader<'_>, map: &Map<'_, '_>) -> Option<Option<Budget>> {
    let Some(node) = map.find("failover_limit") else { return Some(Some(Budget::DEFAULT)) };
    if matches!(node.text(), Some("off" | "false")) {
        return Some(None);
    }
    let path = Path::Key(map.path, "failover_limit");
    let limit = Map::read(node, &LIMIT_KEYS, &path, reader.faults);
    let rate = given_fraction(reader, &limit, "rate", (0.0, 1.0)).unwrap_or(Some(0.2))?;
    let burst = limit.number("burst", reader.faults);
    Budget::new(rate, u32::try_from(burst).unwrap_or(Budget::MAX_BURST)).map(Some)
}

/// `hedge`.
pub(super) fn read_hedge(reader: &mut Reader<'_>, map: &Map<'_, '_>) -> Option<Option<Hedge>> {
    let Some(node) = map.find("hedge") else { return Some(None) };
    let path = Path::Key(map.path, "hedge");
    let hedge = Map::read(node, &HEDGE_KEYS, &path, reader.faults);
    let quantile = given_fraction(reader, &hedge, "quantile", Hedge::QUANTILES).unwrap_or(Some(0.95))?;
    let samples = hedge.number("min_samples", reader.faults);
    let delay = hedge.number("min_delay_us", reader.faults);
    Hedge::new(quantile, u32::try_from(samples).unwrap_or(Hedge::MAX_SAMPLES), delay).map(Some)
}

/// A number with a fraction: `None` when it isn't given, `Some(None)` when it is wrong.
fn given_fraction(reader: &mut Reader<'_>, map: &Map<'_, '_>, key: &str, range: (f64, f64)) -> Option<Option<f64>> {
    let node = map.find(key)?;
    Some(match fraction(node, range) {
        Ok(number) => Some(number),
        Err(problem) => {
            map.refuse(key, node, problem, reader.faults);
            None
        }
    })
}

/// A number within a range, or what is wrong.
pub(super) fn fraction(node: &Node, (least, most): (f64, f64)) -> Result<f64, String> {
    let number = match node.typed() {
        serde_yaml::Value::Number(number) => number.as_f64(),
        _ => None,
    };
    match number {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        Some(_) => Err(format!("{} is out of range", node.seen())),
        None => Err(format!("{} is no number", node.seen())),
    }
}
