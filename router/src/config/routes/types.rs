//! The list of routes a configuration can name: their keys, how they are read, and what their short forms mean.

use super::super::keys::Section;
use super::super::reader::Map;
use super::{
    Reader, Route, basic, changing, choosing, copies, failover, hash, levels, limiting, orders, replicated, replies,
    root,
};

/// One route, as configurations write it.
pub(super) struct RouteType {
    /// Its names; mcrouter's first.
    pub(super) names: &'static [&'static str],
    /// Its keys.
    pub(super) section: &'static Section,
    /// Reads its object form.
    pub(super) read: for<'a> fn(&mut Reader<'a>, &Map<'a, '_>, usize) -> Option<Route>,
    /// What its short forms mean.
    pub(super) short: Short,
}

/// What `Type` alone and `Type|argument` mean.
pub(super) enum Short {
    /// There are none.
    None,
    /// `Type` alone is the whole route.
    Alone(fn() -> Route),
    /// The argument is its children; alone it goes over each server of the only pool.
    Children(fn(Vec<Route>) -> Option<Route>),
    /// The argument is its only child.
    Child(fn(Vec<Route>) -> Option<Route>),
    /// The argument is text.
    Text(fn(&str) -> Route),
    /// The argument is a pool's name.
    Pool,
    /// Alone it is DefaultRoute over the only pool: gomcrouter's rule for operations without a policy.
    OnlyPool,
}

/// Every route.
static TYPES: &[&RouteType] = &[
    &basic::ALL_ASYNC,
    &replies::ALL_FASTEST,
    &replies::ALL_INITIAL,
    &replies::ALL_MAJORITY,
    &replies::ALL_SYNC,
    &basic::DEFAULT,
    &basic::ERROR,
    &failover::FAILOVER,
    &failover::FAILOVER_WITH_EXPTIME,
    &basic::LATENCY_INJECTION,
    &basic::LOCAL,
    &failover::MISS_FAILOVER,
    &basic::NULL,
    &basic::OPERATION_SELECTOR,
    &basic::POOL,
    &changing::MODIFY_EXPTIME,
    &changing::MODIFY_KEY,
    &choosing::HASH_STOP_ALLOW_LIST,
    &hash::HASH,
    &choosing::HOST_ID,
    &choosing::KEY_PARSE,
    &choosing::LOAD_BALANCER,
    &choosing::ORIGINAL_CLIENT_HASH,
    &choosing::PREFIX_SELECTOR,
    &choosing::RANDOM,
    &choosing::ROUTING_GROUP,
    &limiting::BLACKHOLE,
    &limiting::DEV_NULL,
    &limiting::LOGGING,
    &limiting::OUTSTANDING_LIMIT,
    &limiting::RATE_LIMIT,
    &limiting::SLOW_WARM_UP,
    &root::ROOT,
    &replies::PRIMARY,
    &replicated::REPLICATED,
    &orders::SALTED_FAILOVER,
    &orders::LATEST,
    &copies::ASYNC_LOG,
    &copies::BIG_VALUE,
    &copies::KEY_SPLIT,
    &copies::SHADOW,
    &copies::SHARD_SPLIT,
    &levels::L1_L2_CACHE,
    &levels::L1_L2_SIZE_SPLIT,
    &levels::MIGRATE,
    &levels::STAGING,
    &levels::WARM_UP,
    &orders::SALTED_FAILOVER,
    &orders::LATEST,
];

/// The keys of every route, in the order of the docs.
pub static ROUTE_SECTIONS: &[&Section] = &[
    &basic::OPERATION_SELECTOR_KEYS,
    &replies::ALL_SYNC_KEYS,
    &replies::ALL_FASTEST_KEYS,
    &replies::REPLY_KEYS,
    &replies::PLAIN_KEYS,
    &failover::FAILOVER_KEYS,
    &failover::ANSWER_KEYS,
    &orders::POLICY_KEYS,
    &failover::LIMIT_KEYS,
    &failover::HEDGE_KEYS,
    &failover::FAILOVER_WITH_EXPTIME_KEYS,
    &failover::MISS_FAILOVER_KEYS,
    &orders::SALTED_FAILOVER_KEYS,
    &orders::LATEST_KEYS,
    &replicated::REPLICATED_KEYS,
    &replies::PRIMARY_KEYS,
    &basic::CHILDREN_KEYS,
    &basic::POOL_KEYS,
    &basic::LOCAL_KEYS,
    &basic::ALL_ASYNC_KEYS,
    &basic::NULL_KEYS,
    &basic::ERROR_KEYS,
    &basic::LATENCY_INJECTION_KEYS,
    &choosing::HOST_ID_KEYS,
    &choosing::RANDOM_KEYS,
    &choosing::LOAD_BALANCER_KEYS,
    &choosing::ORIGINAL_CLIENT_HASH_KEYS,
    &choosing::ROUTING_GROUP_KEYS,
    &choosing::PREFIX_SELECTOR_KEYS,
    &root::ROOT_KEYS,
    &root::ALIASES_KEYS,
    &hash::HASH_KEYS,
    &choosing::HASH_STOP_ALLOW_LIST_KEYS,
    &choosing::KEY_PARSE_KEYS,
    &changing::MODIFY_KEY_KEYS,
    &changing::MODIFY_EXPTIME_KEYS,
    &limiting::RATE_LIMIT_KEYS,
    &limiting::RATES_KEYS,
    &limiting::OUTSTANDING_LIMIT_KEYS,
    &limiting::SLOW_WARM_UP_KEYS,
    &limiting::SLOW_WARMUP_KEYS,
    &limiting::WARM_UP_SETTINGS_KEYS,
    &limiting::DEV_NULL_KEYS,
    &limiting::BLACKHOLE_KEYS,
    &limiting::LOGGING_KEYS,
    &levels::WARM_UP_KEYS,
    &levels::MIGRATE_KEYS,
    &levels::STAGING_KEYS,
    &levels::L1_L2_CACHE_KEYS,
    &levels::L1_L2_SIZE_SPLIT_KEYS,
    &copies::BIG_VALUE_KEYS,
    &copies::KEY_SPLIT_KEYS,
    &copies::SHARD_SPLIT_KEYS,
    &copies::SHADOW_KEYS,
    &copies::ONE_SHADOW_KEYS,
    &copies::ASYNC_LOG_KEYS,
];

/// mcrouter's routes that only make sense inside Facebook: known, not done.
pub(super) const UNSUPPORTED_ROUTE_TYPES: [&str; 6] = [
    "CarbonLookasideRoute",
    "DistributionRoute",
    "SetDistributionTargetRoute",
    "SRRoute",
    "AxonLogRoute",
    "McBucketRoute",
];

/// The first name of every route, for errors and docs.
pub(super) fn type_names() -> Vec<&'static str> {
    TYPES.iter().map(|kind| kind.names[0]).collect()
}

/// The route of that name.
pub(super) fn type_of(word: &str) -> Option<&'static RouteType> {
    TYPES.iter().copied().find(|kind| kind.names.contains(&word))
}
