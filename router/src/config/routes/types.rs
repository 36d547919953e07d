//! The list of routes a configuration can name: their keys, how they are read, and what their short forms mean.

use super::super::keys::Section;
use super::super::reader::Map;
use super::{Reader, Route, basic};

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
static TYPES: [&RouteType; 11] = [
    &basic::ALL_ASYNC,
    &basic::ALL_FASTEST,
    &basic::DEFAULT,
    &basic::ERROR,
    &basic::LATENCY_INJECTION,
    &basic::LOCAL,
    &basic::MISS_FAILOVER,
    &basic::MODIFY_KEY,
    &basic::NULL,
    &basic::OPERATION_SELECTOR,
    &basic::POOL,
];

/// The keys of every route, in the order of the docs.
pub static ROUTE_SECTIONS: [&Section; 9] = [
    &basic::OPERATION_SELECTOR_KEYS,
    &basic::CHILDREN_KEYS,
    &basic::POOL_KEYS,
    &basic::LOCAL_KEYS,
    &basic::ALL_ASYNC_KEYS,
    &basic::NULL_KEYS,
    &basic::ERROR_KEYS,
    &basic::MODIFY_KEY_KEYS,
    &basic::LATENCY_INJECTION_KEYS,
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
    TYPES.into_iter().find(|kind| kind.names.contains(&word))
}
