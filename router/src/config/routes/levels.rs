//! Routes over two children that hold different parts of the same: WarmUpRoute, StagingRoute, L1L2CacheRoute,
//! L1L2SizeSplitRoute, MigrateRoute.

use super::super::keys::{Default as Given, Key, Kind, ROUTE_FORMS, Section, TYPE, number, shape};
use super::super::reader::Map;
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::routes::backfill::Backfill;
use keyway_policies::routes::l1_l2_cache::L1L2Cache;
use keyway_policies::routes::l1_l2_size_split::L1L2SizeSplit;
use keyway_policies::routes::migrate::Migrate;
use keyway_policies::routes::staging::Staging;
use keyway_policies::routes::warm_up::WarmUp;

/// Longest exptime that means seconds from now.
const MOST_SECONDS: u64 = 60 * 60 * 24 * 30;

/// A key for a child.
const fn child(name: &'static str, meaning: &'static str) -> Key {
    shape(name, "route", ROUTE_FORMS, Given::Required, meaning)
}

/// A key that is true or false.
pub(super) const fn flag(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    let kind = Kind::Word { allowed: &["true", "false"], unsupported: &[], default: Given::Word(default) };
    Key { name, kind, meaning }
}

const ENABLE_METAGET: Key =
    flag("enable_metaget", "true", "Ask for an item's life with a meta get; false for servers before memcached 1.6.");

/// WarmUpRoute.
pub(super) static WARM_UP_KEYS: Section = Section {
    name: "WarmUpRoute",
    keys: &[
        TYPE,
        child("cold", "What is filled."),
        child("warm", "What it is filled from."),
        Key {
            name: "exptime",
            kind: Kind::Number { min: 0, max: MOST_SECONDS, default: Given::Said("what is left of an item's life") },
            meaning: "Longest life in cold of what is filled in, in seconds, 0 for no end: the shorter of this and what is left.",
        },
        ENABLE_METAGET,
        flag(
            "delete_both",
            "true",
            "Deletes go to warm and then to cold, and what was filled in is looked at again; false, as mcrouter, to cold alone.",
        ),
        flag("invalidate_warm", "false", "What is written to cold is deleted at warm."),
    ],
    unsupported: &[],
};

/// StagingRoute.
pub(super) static STAGING_KEYS: Section = Section {
    name: "StagingRoute",
    keys: &[TYPE, child("warm", "What answers."), child("staging", "What follows it.")],
    unsupported: &[],
};

/// L1L2CacheRoute.
pub(super) static L1_L2_CACHE_KEYS: Section = Section {
    name: "L1L2CacheRoute",
    keys: &[
        TYPE,
        child("l1", "The small cache in front."),
        child("l2", "The large one behind it."),
        Key {
            name: "upgrading_l1_exptime",
            kind: Kind::Number { min: 0, max: MOST_SECONDS, default: Given::Required },
            meaning: "Longest life in L1 of what is filled in, in seconds, 0 for no end: the shorter of this and what is left.",
        },
        ENABLE_METAGET,
        number("ncache_exptime", 0, 0, MOST_SECONDS, "Life of a negative entry, in seconds; 0 for no end."),
        number(
            "ncache_update_period",
            0,
            0,
            1_000_000_000,
            "After so many answers from negative entries L2 is asked anew; 0 for no such entries.",
        ),
        flag("delete_both", "true", "Deletes go to L2 and then to L1; false, as mcrouter, to L1 alone."),
    ],
    unsupported: &[],
};

/// L1L2SizeSplitRoute.
pub(super) static L1_L2_SIZE_SPLIT_KEYS: Section = Section {
    name: "L1L2SizeSplitRoute",
    keys: &[
        TYPE,
        child("l1", "What has small values, and a sentinel for each large one."),
        child("l2", "What has large values."),
        Key {
            name: "threshold",
            kind: Kind::Number { min: 0, max: 1 << 30, default: Given::Required },
            meaning: "From how many bytes on a value is large; 0 for never.",
        },
        number("ttl_threshold", 0, 0, MOST_SECONDS, "Least life, in seconds, of a value that may go to L2."),
        number("failure_ttl", 60, 1, MOST_SECONDS, "Longest life, in seconds, of a large value in L1 while L2 fails."),
        flag("both_full_set", "false", "Large values are stored in L1, and in L2 behind that."),
        number("retries", 1, 1, 10, "How often L1 is asked again when L2 lacks what a sentinel stands for."),
    ],
    unsupported: &[],
};

/// MigrateRoute.
pub(super) static MIGRATE_KEYS: Section = Section {
    name: "MigrateRoute",
    keys: &[
        TYPE,
        child("from", "Where keys are before."),
        child("to", "Where they are behind it."),
        Key {
            name: "start_time",
            kind: Kind::Number { min: 0, max: 1 << 40, default: Given::Required },
            meaning: "When deletes begin to go to both, in seconds since 1970.",
        },
        number("interval", 3600, 1, 31_536_000, "After so many seconds keys begin to move; it takes as long again."),
    ],
    unsupported: &[],
};

pub(super) static WARM_UP: RouteType = RouteType {
    names: &["WarmUpRoute"],
    section: &WARM_UP_KEYS,
    read: |reader, map, depth| {
        // At most `MOST_SECONDS`.
        let exptime = map.given_number("exptime", reader.faults).map(|seconds| seconds as u32);
        let fill = fill(reader, map, exptime);
        let invalidate_warm = is_set(reader, map, "invalidate_warm");
        over_two(reader, map, depth, WarmUp { fill, invalidate_warm }, ["cold", "warm"])
    },
    short: Short::None,
};

pub(super) static STAGING: RouteType = RouteType {
    names: &["StagingRoute"],
    section: &STAGING_KEYS,
    read: |reader, map, depth| over_two(reader, map, depth, Staging, ["warm", "staging"]),
    short: Short::None,
};

pub(super) static L1_L2_CACHE: RouteType = RouteType {
    names: &["L1L2CacheRoute"],
    section: &L1_L2_CACHE_KEYS,
    read: |reader, map, depth| {
        map.required("upgrading_l1_exptime", reader.faults);
        let exptime = map.given_number("upgrading_l1_exptime", reader.faults).unwrap_or(0);
        let route = L1L2Cache {
            fill: fill(reader, map, Some(exptime as u32)),
            ncache_exptime: map.number("ncache_exptime", reader.faults) as u32,
            ncache_update_period: map.number("ncache_update_period", reader.faults),
        };
        over_two(reader, map, depth, route, ["l1", "l2"])
    },
    short: Short::None,
};

pub(super) static L1_L2_SIZE_SPLIT: RouteType = RouteType {
    names: &["L1L2SizeSplitRoute"],
    section: &L1_L2_SIZE_SPLIT_KEYS,
    read: |reader, map, depth| {
        map.required("threshold", reader.faults);
        let route = L1L2SizeSplit {
            threshold: map.given_number("threshold", reader.faults).unwrap_or(0) as usize,
            ttl_threshold: map.number("ttl_threshold", reader.faults) as u32,
            failure_ttl: map.number("failure_ttl", reader.faults) as u32,
            both_full_set: is_set(reader, map, "both_full_set"),
            retries: map.number("retries", reader.faults) as u8,
        };
        over_two(reader, map, depth, route, ["l1", "l2"])
    },
    short: Short::None,
};

pub(super) static MIGRATE: RouteType = RouteType {
    names: &["MigrateRoute"],
    section: &MIGRATE_KEYS,
    read: |reader, map, depth| {
        map.required("start_time", reader.faults);
        let start_time = map.given_number("start_time", reader.faults).unwrap_or(0);
        let interval = map.number("interval", reader.faults);
        over_two(reader, map, depth, Migrate { start_time, interval }, ["from", "to"])
    },
    short: Short::None,
};

fn fill(reader: &mut Reader<'_>, map: &Map<'_, '_>, exptime: Option<u32>) -> Backfill {
    Backfill {
        exptime,
        ask_ttl: is_set(reader, map, "enable_metaget"),
        delete_both: is_set(reader, map, "delete_both"),
    }
}

pub(super) fn is_set(reader: &mut Reader<'_>, map: &Map<'_, '_>, key: &str) -> bool {
    map.word(key, reader.faults) == "true"
}

/// The route over the children under two keys; both are read, for the faults of both.
fn over_two<'a>(
    reader: &mut Reader<'a>,
    map: &Map<'a, '_>,
    depth: usize,
    route: impl Into<keyway_policies::RouteNode>,
    keys: [&str; 2],
) -> Option<Route> {
    let [first, second] = keys.map(|key| reader.child(map, key, depth));
    Route::over(route, vec![first?, second?])
}
