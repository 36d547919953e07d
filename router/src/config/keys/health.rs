//! Keys about servers that are down: of a pool, of its `tko_tracker`, and of `health`.

use super::{Default, Key, Kind, Section, number, shape};

pub(super) const TKO_TRACKER_KEY: Key = shape(
    "tko_tracker",
    "map",
    "",
    Default::Said("never"),
    "When the pool fails open: asks servers although they are down.",
);
pub(super) const MAX_EJECTED_PERCENT: Key = Key {
    name: "max_ejected_percent",
    kind: Kind::Number { min: 1, max: 100, default: Default::Number(50) },
    meaning: "With `on_down: rehash`: largest share of the servers whose keys go to others; one server at least. Keys of further ones that are down fail.",
};
pub(super) const SLOW_START_MS: Key = number(
    "slow_start_ms",
    10_000,
    0,
    3_600_000,
    "With `on_down: rehash`: how long a server that was down takes to get all its keys back, a tenth at a time.",
);
pub(super) const AUTO_EJECT_HOSTS: Key = Key {
    name: "auto_eject_hosts",
    kind: Kind::Word { allowed: &["true", "false"], unsupported: &[], default: Default::Word("false") },
    meaning: "twemproxy's: true is `on_down: rehash`, and makes the next two count.",
};
pub(super) const SERVER_RETRY_TIMEOUT: Key = Key {
    name: "server_retry_timeout",
    kind: Kind::Number { min: 0, max: 86_400_000, default: Default::Said("`health.min_down_ms`") },
    meaning: "twemproxy's: with `auto_eject_hosts`, least time in ms that a server stays ejected. It must pass its checks too.",
};
pub(super) const SERVER_FAILURE_LIMIT: Key = Key {
    name: "server_failure_limit",
    kind: Kind::Number { min: 1, max: 1000, default: Default::Said("`health.failures`") },
    meaning: "twemproxy's: with `auto_eject_hosts`, failures in a row after which a shard takes a server for down.",
};

/// When a pool fails open: mcrouter's names.
pub static TKO_TRACKER: Section = Section {
    name: "pools.*.tko_tracker",
    keys: &[
        Key {
            name: "num_tko_threshold_upper",
            kind: Kind::Number { min: 1, max: 1_000_000, default: Default::Said("by percent") },
            meaning: "Once so many servers are down, those that go down from then on are asked all the same.",
        },
        Key {
            name: "num_tko_threshold_lower",
            kind: Kind::Number { min: 0, max: 1_000_000, default: Default::Said("by percent") },
            meaning: "Once no more are down, nobody is asked while down. Less than upper.",
        },
        Key {
            name: "percent_tko_threshold_upper",
            kind: Kind::Number { min: 1, max: 100, default: Default::Said("by number") },
            meaning: "The same as a share of the pool's servers, rounded down, one at least.",
        },
        Key {
            name: "percent_tko_threshold_lower",
            kind: Kind::Number { min: 0, max: 100, default: Default::Said("by number") },
            meaning: "The same as a share of the pool's servers, rounded down.",
        },
    ],
    unsupported: &[],
};

/// When a server is down and up again.
pub static HEALTH: Section = Section {
    name: "health",
    keys: &[
        number("interval_ms", 10_000, 10, 3_600_000, "Time between two checks of a server. `-H` overrides."),
        number("timeout_ms", 1000, 1, 600_000, "Longest time for a check."),
        number("failures", 3, 1, 1000, "Failures in a row, of checks or of requests, after which a server is down."),
        number(
            "connect_failures",
            2,
            1,
            1000,
            "Connects in a row that are refused or time out, of one shard, after which a server is down.",
        ),
        number(
            "failure_percent",
            0,
            0,
            100,
            "Share of a shard's last hundred or two requests to a server that may fail before it is down; 0 is no such rule.",
        ),
        number("successes", 2, 1, 1000, "Checks in a row that must succeed before it is up again."),
        number(
            "probe_initial_ms",
            500,
            10,
            3_600_000,
            "First time between checks of a server that is down or in doubt; at most `interval_ms`.",
        ),
        number(
            "probe_max_ms",
            2000,
            10,
            3_600_000,
            "Longest time between checks of a server that is down; at most `interval_ms`.",
        ),
        number("min_down_ms", 1000, 0, 3_600_000, "Least time a server stays down."),
        number(
            "max_down_ms",
            10_000,
            0,
            3_600_000,
            "Least time it stays down when it goes down soon after each recovery: doubled from `min_down_ms` up to this.",
        ),
    ],
    unsupported: &[],
};
