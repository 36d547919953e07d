//! The keys of routes that choose, change, limit and look on: what they come to, and what is refused in which words.

use keyway::config::{Config, Overrides, Route};
use keyway_policies::hash::{Distribution, PlacementSpec, Weight};
use keyway_policies::routes::blackhole::Blackhole;
use keyway_policies::routes::dev_null::DevNull;
use keyway_policies::routes::error::Error;
use keyway_policies::routes::hash::Hash;
use keyway_policies::routes::hash_stop_allow_list::HashStopAllowList;
use keyway_policies::routes::host_id::HostId;
use keyway_policies::routes::key_parse::KeyParse;
use keyway_policies::routes::latency_injection::LatencyInjection;
use keyway_policies::routes::load_balancer::LoadBalancer;
use keyway_policies::routes::local::Local;
use keyway_policies::routes::logging::Logging;
use keyway_policies::routes::modify_exptime::{ExptimeAction, ModifyExptime};
use keyway_policies::routes::modify_key::ModifyKey;
use keyway_policies::routes::null::Null;
use keyway_policies::routes::original_client_hash::OriginalClientHash;
use keyway_policies::routes::outstanding_limit::OutstandingLimit;
use keyway_policies::routes::prefix_selector::PrefixSelector;
use keyway_policies::routes::random::Random;
use keyway_policies::routes::rate_limit::{Rate, RateLimit};
use keyway_policies::routes::root::Root;
use keyway_policies::routes::routing_group::RoutingGroup;
use keyway_policies::routes::slow_warm_up::SlowWarmUp;
use keyway_policies::{Member, RouteNode};

const POOLS: &str = "pools: {web: {servers: ['a:1', 'b:2']}, spare: {servers: ['c:3'], keep_routing_prefix: true}}\n";
const MS: u64 = 1_000_000;

fn parse(rest: &str) -> Result<Config, String> {
    Config::parse(format!("{POOLS}{rest}\n").as_bytes(), "test", &Overrides::default())
        .map_err(|errors| errors.to_string())
}

/// A file with this beside the pools, and the only tree it comes to.
fn check(rest: &str, expected: Route) {
    let config = parse(rest).unwrap_or_else(|errors| panic!("{rest}: {errors}"));
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].route, expected, "{rest}");
}

fn check_route(route: &str, expected: Route) {
    check(&format!("route: {route}"), expected);
}

fn refused(rest: &str, words: &str) {
    let errors = parse(rest).err().unwrap_or_else(|| panic!("{rest} is accepted"));
    assert!(errors.contains(words), "{rest}: {errors}");
}

fn over(route: impl Into<RouteNode>, children: Vec<Route>) -> Route {
    Route::Node(route.into(), children)
}

fn web() -> Route {
    Route::Pool { pool: 0 }
}

fn spare() -> Route {
    Route::Pool { pool: 1 }
}

fn both() -> Vec<Route> {
    vec![web(), spare()]
}

const BOTH: &str = "children: [PoolRoute|web, PoolRoute|spare]";
const TARGET: &str = "target: PoolRoute|web";

#[test]
fn routes_over_children() {
    check_route(&format!("{{type: HostIdRoute, {BOTH}}}"), over(HostId::default(), both()));
    check_route(&format!("{{type: HostIdRoute, {BOTH}, salt: x}}"), over(HostId { salt: b"x".to_vec() }, both()));
    check_route("HostIdRoute|PoolRoute|web", over(HostId::default(), vec![web()]));
    check_route(&format!("{{type: RandomRoute, {BOTH}}}"), over(Random, both()));
    check_route("{type: RandomRoute, children: [PoolRoute|web]}", web());
    let original = OriginalClientHash { offset: 1 };
    check_route(&format!("{{type: OriginalClientHashRoute, {BOTH}, offset: 1}}"), over(original, both()));
    let balancer = |load_ttl, failovers| over(LoadBalancer { load_ttl: load_ttl * MS, failovers }, both());
    check_route(&format!("{{type: LoadBalancerRoute, {BOTH}}}"), balancer(100, 1));
    check_route(&format!("{{type: LoadBalancerRoute, {BOTH}, loadTtlMs: 5, failoverCount: 0}}"), balancer(5, 0));
    refused(
        &format!("route: {{type: LoadBalancerRoute, {BOTH}, algorithm: weighted-hashing}}"),
        "`weighted-hashing` isn't supported by this version",
    );
    refused(&format!("route: {{type: LoadBalancerRoute, {BOTH}, failover_count: 4}}"), "0 to 3");
}

#[test]
fn hash_route() {
    let spec = |distribution| PlacementSpec::new(distribution, ["0", "1"]);
    let hashed = |spec: &PlacementSpec| over(Hash::new(spec).expect("a good spec"), both());
    check_route(&format!("{{type: HashRoute, {BOTH}}}"), hashed(&spec(Distribution::Ch3)));
    check_route(&format!("{{type: HashRoute, {BOTH}, hash_func: Crc32}}"), hashed(&spec(Distribution::Crc32)));
    check_route(&format!("{{type: HashRoute, {BOTH}, hash: jump}}"), {
        let jump = Distribution::from_names(None, Some("jump")).expect("it is known");
        hashed(&spec(jump))
    });
    let weighted = PlacementSpec {
        members: [0.5, 1.0]
            .iter()
            .zip(["0", "1"])
            .map(|(weight, label)| Member { weight: Weight::new(*weight).expect("a weight"), ..Member::new(label) })
            .collect(),
        salt: "s".to_owned(),
        ..spec(Distribution::WeightedCh3)
    };
    check_route(
        &format!("{{type: HashRoute, {BOTH}, hash_func: WeightedCh3, weights: [0.5, 1], salt: s}}"),
        hashed(&weighted),
    );
    let tagged = PlacementSpec::new(Distribution::Rendezvous, ["x", "y"]);
    check_route(&format!("{{type: HashRoute, {BOTH}, hash_func: Rendezvous, tags: [x, y]}}"), hashed(&tagged));
    check_route("{type: HashRoute, children: [PoolRoute|web]}", web());
    check_route("{type: HashRoute, children: []}", Route::leaf(Error::new("HashRoute with empty children")));
    check_route("{type: HashRoute, children: [], error_on_empty: false}", Route::leaf(Null));
    refused(&format!("route: {{type: HashRoute, {BOTH}, hash_func: Rendezvous, tags: [x]}}"), "1 tags for 2");
    refused(&format!("route: {{type: HashRoute, {BOTH}, hash: ch3, salt: x}}"), "stands beside hash_func");
    refused(&format!("route: {{type: HashRoute, {BOTH}, hash_func: Ch4}}"), "`Ch4` is unknown");
    // PoolRoute with a hash of its own goes over the pool's servers.
    let servers = (0..2).map(|server| Route::Server { pool: 0, server }).collect();
    let labelled = PlacementSpec::new(Distribution::Crc32, ["a:1", "b:2"]);
    check_route("{type: PoolRoute, pool: web, hash: Crc32}", over(Hash::new(&labelled).expect("a good spec"), servers));
}

#[test]
fn routes_by_group_prefix_and_part_of_the_key() {
    let groups = RoutingGroup { delete_like: Some(1), get_like: Some(2), ..RoutingGroup::default() };
    check_route(
        "{type: RoutingGroupRoute, routing_group_policies: {delete_like: LocalRoute, getLike: PoolRoute|spare}, default_policy: PoolRoute|web}",
        over(groups, vec![web(), Route::leaf(Local), spare()]),
    );
    refused(
        "route: {type: RoutingGroupRoute, routing_group_policies: {touch_like: LocalRoute}, default_policy: LocalRoute}",
        "unknown group",
    );
    refused("route: {type: RoutingGroupRoute}", "RoutingGroupRoute needs default_policy");
    let prefixes = [b"a".as_slice(), b"b"];
    let policies = "policies: {a: PoolRoute|web, b: LocalRoute}";
    check_route(
        &format!("{{type: PrefixSelectorRoute, {policies}}}"),
        over(PrefixSelector::new(prefixes, false), vec![web(), Route::leaf(Local)]),
    );
    check_route(
        &format!("{{type: PrefixSelectorRoute, {policies}, wildcard: PoolRoute|spare, strip: true}}"),
        over(PrefixSelector::new(prefixes, true), vec![web(), Route::leaf(Local), spare()]),
    );
    refused("route: {type: PrefixSelectorRoute}", "neither policies nor a wildcard");
    refused("route: {type: PrefixSelectorRoute, wildcard: LocalRoute, strip: 1}", "`1` is unknown");
    let parse = KeyParse { parts: 2, delimiter: b':' };
    check_route(
        &format!("{{type: KeyParseRoute, {TARGET}, num_routing_parts: 2, delimiter: ':'}}"),
        over(parse, vec![web()]),
    );
    refused(&format!("route: {{type: KeyParseRoute, {TARGET}, num_routing_parts: 2}}"), "delimiter is missing");
    refused(
        &format!("route: {{type: KeyParseRoute, {TARGET}, num_routing_parts: 1, delimiter: '::'}}"),
        "isn't one character",
    );
    let stops = HashStopAllowList { prefixes: vec![b"a".to_vec(), b"b".to_vec()] };
    check_route(&format!("{{type: HashStopAllowListRoute, {TARGET}, prefixes: [a, b]}}"), over(stops, vec![web()]));
}

#[test]
fn routing_prefixes() {
    let root = |default: &str, lenient| {
        let aliases = [("/a/x/", 0), ("/a/y/", 0), ("/b/x/", 1)];
        over(Root::new(&aliases, default, lenient).expect("a root"), both())
    };
    let list = "[{aliases: [/a/x/, a/y], route: PoolRoute|web}, {aliases: /b/x, route: PoolRoute|spare}]";
    check(&format!("default_route: /a/x/\nroutes: {list}"), root("/a/x/", false));
    check(&format!("defaultRoute: b/x\nsend_invalid_route_to_default: true\nroutes: {list}"), root("/b/x/", true));
    check_route(&format!("{{type: RootRoute, default_route: /a/y/, routes: {list}}}"), root("/a/y/", false));
    check(
        "routes: {/././: PoolRoute|web, /a/x/: PoolRoute|spare}",
        over(Root::new(&[("/././", 0), ("/a/x/", 1)], "/././", false).expect("a root"), both()),
    );
    refused(&format!("routes: {list}"), "the default routing prefix \"/././\" has no route");
    refused("routes: [{aliases: [/a/x/, /a/x], route: LocalRoute}]", "`/a/x/` is given twice");
    refused("routes: [{aliases: [/a/*/], route: LocalRoute}]", "`/a/*/` is no routing prefix");
    refused("routes: [{aliases: [], route: LocalRoute}]", "no aliases");
    refused("routes: [{aliases: [/a/x/]}]", "route is missing");
    refused("default_route: /a/x/\nroute: LocalRoute", "is for routes with routing prefixes");
}

#[test]
fn routes_that_change_the_request() {
    let bytes = |text: &str| text.as_bytes().to_vec();
    check_route(
        &format!(
            "{{type: ModifyKeyRoute, {TARGET}, set_routing_prefix: a/b, ensure_key_prefix: e, replace_key_prefix: r, set_key_suffix: s}}"
        ),
        over(
            ModifyKey {
                routing_prefix: Some(bytes("/a/b/")),
                ensure_prefix: bytes("e"),
                replace_prefix: Some(bytes("r")),
                suffix: bytes("s"),
                in_place: false,
            },
            vec![web()],
        ),
    );
    check_route(
        &format!(
            "{{type: ModifyKeyRoute, {TARGET}, ensure_key_prefix: e, modify_inplace: true, set_routing_prefix: ''}}"
        ),
        over(
            ModifyKey {
                routing_prefix: Some(Vec::new()),
                ensure_prefix: bytes("e"),
                in_place: true,
                ..ModifyKey::default()
            },
            vec![web()],
        ),
    );
    let key = |rest: &str| format!("route: {{type: ModifyKeyRoute, {TARGET}, {rest}}}");
    refused(&key("replace_key_prefix: r, modify_inplace: true"), "don't go together");
    refused(&key("ensure_key_prefix: 'a b'"), "can't stand in a key");
    refused(&key("set_routing_prefix: /a/"), "is no routing prefix");
    let exptime = |seconds, action| over(ModifyExptime::new(seconds, action), vec![web()]);
    check_route(&format!("{{type: ModifyExptimeRoute, {TARGET}, exptime: 0}}"), exptime(0, ExptimeAction::Set));
    check_route(
        &format!("{{type: ModifyExptimeRoute, {TARGET}, exptime: -1, action: min}}"),
        exptime(-1, ExptimeAction::Min),
    );
    check_route(&format!("{{type: ModifyExptimeRoute, {TARGET}, exptime: 0, action: min}}"), web());
    refused(&format!("route: {{type: ModifyExptimeRoute, {TARGET}}}"), "exptime is missing");
    refused(&format!("route: {{type: ModifyExptimeRoute, {TARGET}, exptime: soon}}"), "`soon` is no exptime");
    let latency = LatencyInjection { before: 10 * MS, after: 20 * MS, total: 0 };
    check_route(
        "{type: LatencyInjectionRoute, child: PoolRoute|web, before_latency_ms: 10, after_latency_ms: 20}",
        over(latency, vec![web()]),
    );
}

#[test]
fn routes_that_limit() {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    let limit = RateLimit { gets: rate(100.0, 100.0), sets: rate(0.5, 1.0), deletes: rate(2.0, 9.5) };
    let rates = "rates: {gets_rate: 100, sets_rate: 0.5, deletes_rate: 2, deletes_burst: 9.5}";
    check_route(&format!("{{type: RateLimitRoute, {TARGET}, {rates}}}"), over(limit, vec![web()]));
    check_route(
        &format!("{{type: RateLimitRoute, {TARGET}, {rates}, fallback: PoolRoute|spare}}"),
        over(limit, both()),
    );
    check_route(&format!("{{type: PoolRoute, pool: web, {rates}}}"), over(limit, vec![web()]));
    let rate = |rest: &str| format!("route: {{type: RateLimitRoute, {TARGET}, rates: {{{rest}}}}}");
    refused(&rate("gets_rate: 0"), "`0` is no such number");
    refused(&rate("gets_rate: 1, gets_burst: 0.5"), "`0.5` is no such number");
    refused(&rate("gets: 1"), "unknown key");
    refused(&format!("route: {{type: RateLimitRoute, {TARGET}}}"), "rates is missing");
    let outstanding = |most, most_waiting, wait: u64| OutstandingLimit { most, most_waiting, wait: wait * MS };
    check_route(
        &format!("{{type: OutstandingLimitRoute, {TARGET}, max_outstanding: 5}}"),
        over(outstanding(5, 10_000, 1000), vec![web()]),
    );
    check_route(
        &format!("{{type: OutstandingLimitRoute, {TARGET}, max_outstanding: 5, max_waiting: 0, max_wait_ms: 7}}"),
        over(outstanding(5, 0, 7), vec![web()]),
    );
    refused(&format!("route: {{type: OutstandingLimitRoute, {TARGET}, max_outstanding: 0}}"), "1 to 1000000");
    let warm_up =
        SlowWarmUp { enable_threshold: 0.7, disable_threshold: 0.9, start: 0.1, step: 1.0, min_requests: 100 };
    check_route(
        &format!("{{type: SlowWarmUpRoute, {TARGET}, failover_target: PoolRoute|spare}}"),
        over(warm_up, both()),
    );
    let settings = "settings: {enable_threshold: 0.1, disable_threshold: 0.2, start: 0.3, step: 2, min_requests: 5}";
    let own = SlowWarmUp { enable_threshold: 0.1, disable_threshold: 0.2, start: 0.3, step: 2.0, min_requests: 5 };
    check_route(
        &format!(
            "{{type: PoolRoute, pool: web, max_outstanding: 2, slow_warmup: {{failoverTarget: PoolRoute|spare, {settings}}}}}"
        ),
        over(own, vec![over(outstanding(2, 10_000, 1000), vec![web()]), spare()]),
    );
    refused(
        "route: {type: PoolRoute, pool: web, slow_warmup: {failoverTarget: LocalRoute, settings: {enable_threshold: 1}}}",
        "isn't below disable_threshold",
    );
}

#[test]
fn routes_that_throw_away_and_look_on() {
    check_route("DevNullRoute", Route::leaf(DevNull));
    check_route("BlackholeRoute", Route::leaf(Blackhole { time: 1000 * MS }));
    check_route("{type: BlackholeRoute, timeout_ms: 5}", Route::leaf(Blackhole { time: 5 * MS }));
    let logging = |lines_per_second, children| over(Logging { lines_per_second }, children);
    check_route("LoggingRoute|PoolRoute|web", logging(10, vec![web()]));
    check_route(&format!("{{type: LoggingRoute, {TARGET}, lines_per_second: 3}}"), logging(3, vec![web()]));
    check_route("{type: LoggingRoute}", logging(10, Vec::new()));
}
