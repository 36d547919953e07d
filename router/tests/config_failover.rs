//! The keys of fan-out and failover routes: what they come to, and what is refused with which words.

use keyway::config::{Config, Overrides, Route};
use keyway_policies::routes::all_fastest::AllFastest;
use keyway_policies::routes::all_sync::AllSync;
use keyway_policies::routes::failover::Failover;
use keyway_policies::routes::failover_with_exptime::FailoverWithExptime;
use keyway_policies::routes::miss_failover::MissFailover;
use keyway_policies::routes::replicated::{Reads, Replicated};
use keyway_policies::routes::walk::{Budget, By, ErrorSet, Hedge, Order, Otherwise, Rule, Walk};
use keyway_policies::{ByOperation, Choose, Distribution, Placement, PlacementSpec, ReplyPolicy, RouteNode, Success};
use keyway_protocol::{Operation, OperationClass};

fn read(route: &str) -> Result<Route, String> {
    let pools = "pools: {web: {servers: ['a:1', 'b:2', 'c:3']}, other: {servers: ['d:1']}}";
    let yaml = format!("{pools}\nlisteners: [{{address: ':1', route: main}}]\nroute: {route}\n");
    let config = Config::parse(yaml.as_bytes(), "test", &Overrides::default()).map_err(|errors| errors.to_string())?;
    Ok(config.routes[0].route.clone())
}

/// The node of a route, its children apart.
fn node(route: &str) -> RouteNode {
    match read(route).unwrap_or_else(|errors| panic!("{route}: {errors}")) {
        Route::Node(node, _) => node,
        other => panic!("{route} is {other:?}"),
    }
}

fn servers() -> Vec<Route> {
    (0..3).map(|server| Route::Server { pool: 0, server }).collect()
}

#[test]
fn reply_policies() {
    let mut replies = ByOperation::same(ReplyPolicy { ignore_down: true, ..ReplyPolicy::ALL_SYNC });
    let get = ReplyPolicy { success: Success::Any, ignore_down: true, answer: Choose::FirstHit };
    for operation in Operation::ALL.into_iter().filter(|operation| operation.class() == OperationClass::GetLike) {
        replies.set(operation, get);
    }
    replies.set(Operation::FlushAll, ReplyPolicy { success: Success::Quorum, ..replies.of(Operation::FlushAll) });
    let route = "{type: AllSyncRoute, children: Pool|web, ignore_down: true, \
                 overrides: {getLike: {success: any, answer: first_hit}, flush_all: {success: quorum}}}";
    assert_eq!(node(route), AllSync { replies }.into());
    assert_eq!(node("AllSyncRoute|Pool|web"), AllSync::default().into());
    let replies = ByOperation::same(ReplyPolicy { answer: Choose::FirstOk, ..ReplyPolicy::ALL_FASTEST });
    assert_eq!(node("{type: AllFastestRoute, children: Pool|web, answer: first_ok}"), AllFastest { replies }.into());
}

#[test]
fn failover_routes() {
    assert_eq!(node("FailoverRoute|Pool|web"), Failover::default().into());
    let set = |name: &str| ErrorSet::from_name(name).expect("a name");
    let rules = ByOperation::from_fn(|operation: Operation| {
        let errors = match operation.class() {
            OperationClass::GetLike => set("tko").and(set("timeout")),
            OperationClass::DeleteLike => ErrorSet::NONE,
            _ => ErrorSet::FAILOVER,
        };
        let hit = Rule { misses: true, otherwise: Otherwise::Best, ..Rule::FAILOVER };
        Rule { errors, ..if operation == Operation::Get { hit } else { Rule::FAILOVER } }
    });
    let walk = Walk {
        rules,
        order: Order::LeastFailures { max_tries: 2 },
        budget: Budget::new(0.5, 10),
        tag: true,
        gutter_exptime: None,
        backfill: true,
        hedge: Hedge::new(0.99, 7, 1000),
    };
    let route = "{type: FailoverRoute, children: Pool|web, failover_errors: {gets: [tko, timeout], deletes: []}, \
                 overrides: {get: {answer: best}}, failover_policy: {type: LeastFailuresPolicy, max_tries: 2}, \
                 failover_limit: {rate: 0.5, burst: 10}, failoverTag: true, backfill: true, \
                 enable_lease_pairing: false, hedge: {quantile: 0.99, min_samples: 7, min_delay_us: 1000}}";
    assert_eq!(node(route), Failover(walk).into());
    let walk = Walk { budget: None, gutter_exptime: Some(30), ..Walk::new(Rule::FAILOVER) };
    let route = "{type: FailoverWithExptimeRoute, normal: PoolRoute|web, failover: [PoolRoute|other], \
                 failover_exptime: 30, failover_limit: off}";
    assert_eq!(node(route), FailoverWithExptime(walk).into());
    let Route::Node(_, children) = read(route).expect("a route") else { panic!("a route over children") };
    assert_eq!(children, [Route::Pool { pool: 0 }, Route::Pool { pool: 1 }]);
    let unlimited =
        "{type: FailoverWithExptimeRoute, normal: PoolRoute|web, failover: [PoolRoute|other], failover_exptime: 0}";
    assert_eq!(node(unlimited), FailoverWithExptime(Walk::new(Rule::FAILOVER)).into());
}

#[test]
fn miss_failover_as_mcrouter_has_it() {
    let with = |otherwise, all: bool| {
        let rules = ByOperation::from_fn(|operation: Operation| {
            let goes_on = matches!(operation.class(), OperationClass::GetLike | OperationClass::DeleteLike);
            Rule { otherwise, first_only: !all && !goes_on, ..Rule::MISS_FAILOVER }
        });
        RouteNode::from(MissFailover(Walk { rules, ..Walk::new(Rule::MISS_FAILOVER) }))
    };
    for (keys, expected) in [
        ("", with(Otherwise::LastOfBest, true)),
        (", return_best_on_error: true", with(Otherwise::Best, true)),
        (", return_best_on_error: false", with(Otherwise::Last, true)),
        (", answer: last", with(Otherwise::Last, true)),
        (", answer: worst", with(Otherwise::Worst, true)),
        (", failover_operations: [get_like, delete]", with(Otherwise::LastOfBest, false)),
    ] {
        assert_eq!(node(&format!("{{type: MissFailoverRoute, children: Pool|web{keys}}}")), expected, "{keys}");
    }
}

#[test]
fn orders_by_key() {
    let route = "{type: SaltedFailoverRoute, pool: web, failover_policy: {type: DeterministicOrderPolicy, max_tries: 3, \
                 max_error_tries: 2, exclude_errors: [busy], enable_failure_domains: true, failure_domains: [1, 1, 2], \
                 ignore_normal_reply_index: true, hash: {hash_func: Crc32, salt: x}}}";
    let RouteNode::SaltedFailover(salted) = node(route) else { panic!("{route}") };
    let Order::ByKey(order) = &salted.0.order else { panic!("{route}") };
    assert_eq!((order.by, order.max_tries, order.max_error_tries, order.asks_again), (By::Salt, 3, 2, true));
    assert_eq!((order.excluded, &order.domains[..]), (ErrorSet::from_name("busy").expect("a name"), &[1, 1, 2][..]));
    let spec = PlacementSpec { salt: "x".to_owned(), ..PlacementSpec::new(Distribution::Crc32, ["", "", ""]) };
    let crc32 = Placement::new(&spec).expect("a placement");
    for key in [&b"a"[..], b"b", b"c", b"d|#|e"] {
        assert_eq!(order.hosts.drawn(key, 3), crc32.drawn(&key[..1], 3), "{key:?}");
    }
    let Route::Node(_, children) = read(route).expect("a route") else { panic!("a route over children") };
    assert_eq!(children, [vec![Route::Pool { pool: 0 }], servers()].concat());
    // The long form, and what a policy is by default.
    for (route, by) in [
        ("{type: SaltedFailoverRoute, pool: web}", By::Salt),
        ("{type: SaltedFailoverRoute, pool: web, hash: Crc32}", By::Salt),
        ("{type: SaltedFailoverRoute, pool: web, failover_policy: {type: RendezvousPolicy}}", By::Score),
    ] {
        let RouteNode::SaltedFailover(salted) = node(route) else { panic!("{route}") };
        let Order::ByKey(order) = &salted.0.order else { panic!("{route}") };
        assert_eq!(order.by, by, "{route}");
    }
    let route = "{type: FailoverRoute, children: [PoolRoute|web, Pool|web], \
                 failover_policy: {type: RendezvousPolicy, hash: {hash_func: Rendezvous, tags: [x, y, z]}}}";
    let RouteNode::Failover(failover) = node(route) else { panic!("{route}") };
    assert!(matches!(&failover.0.order, Order::ByKey(order) if order.by == By::Score));
    let route = "{type: LatestRoute, children: Pool|web, failover_count: 2, weights: [1, 0.5, 0], salt: s, thread_local_failover: true}";
    let RouteNode::Latest(latest) = node(route) else { panic!("{route}") };
    assert!(matches!(&latest.0.order, Order::Latest(latest) if latest.count == 2 && latest.per_shard));
}

#[test]
fn replicated_pools() {
    let tree = |settings: &Replicated| {
        let over = |route, children| Ok(Route::Node(route, children));
        settings.tree(&servers(), over).expect("a tree")
    };
    assert_eq!(read("ReplicatedRoute|Pool|web"), Ok(tree(&Replicated::default())));
    let mut settings = Replicated::default();
    for operation in [Operation::Set, Operation::Delete, Operation::FlushAll] {
        settings.replies.set(operation, ReplyPolicy { success: Success::Quorum, ..settings.replies.of(operation) });
    }
    let touch = ReplyPolicy { answer: Choose::Primary, ..settings.replies.of(Operation::Touch) };
    settings.replies.set(Operation::Touch, touch);
    let hedge = Hedge::new(0.95, Hedge::DEFAULT_SAMPLES, Hedge::DEFAULT_DELAY_US);
    settings.reads = Reads::InOrder(Walk { backfill: true, hedge, ..Walk::new(Rule::MISS_FAILOVER) });
    let route = "{type: ReplicatedRoute, children: Pool|web, success: quorum, backfill: true, hedge: {}, \
                 overrides: {touch: {answer: primary}}}";
    assert_eq!(read(route), Ok(tree(&settings)));
    let settings = Replicated { reads: Reads::AtOnce, ..Replicated::default() };
    assert_eq!(read("{type: ReplicatedRoute, children: Pool|web, reads: at_once}"), Ok(tree(&settings)));
    assert_eq!(read("ReplicatedRoute|Pool|other"), Ok(Route::Server { pool: 1, server: 0 }), "one is that one");
}

#[test]
fn what_is_refused() {
    let failover = "type: FailoverRoute, children: Pool|web";
    let salted = "type: SaltedFailoverRoute, pool: web";
    for (keys, wanted) in [
        ("type: AllSyncRoute, children: Pool|web, success: most", "route.success: `most` is unknown"),
        ("type: AllSyncRoute, children: Pool|web, overrides: {gte: {}}", "unknown operation, did you mean get?"),
        (
            "type: AllSyncRoute, children: Pool|web, overrides: {get: {}, get_like: {}}",
            "route.overrides.get_like: `get_like` has settings already",
        ),
        (
            "type: AllSyncRoute, children: Pool|web, overrides: {get: {answers: best}}",
            "unknown key, did you mean answer?",
        ),
        (&format!("{failover}, enable_lease_pairing: true"), "memcached has no leases, so there is nothing to pair"),
        (
            &format!("{failover}, failover_errors: [tkoo]"),
            "route.failover_errors[0]: `tkoo` is no error, did you mean tko?",
        ),
        (&format!("{failover}, failover_errors: {{set: [tko]}}"), "unknown group"),
        (&format!("{failover}, backfill: true"), "backfill without misses that are passed over"),
        (
            &format!("{failover}, failover_limit: {{rate: 2}}"),
            "route.failover_limit.rate: `2` is out of range (allowed: 0 to 1)",
        ),
        (&format!("{failover}, failover_limit: {{burst: 0}}"), "route.failover_limit.burst: `0` is out of range"),
        (
            &format!("{failover}, hedge: {{quantile: x}}"),
            "route.hedge.quantile: `x` is no number (allowed: 0.5 to 0.9999)",
        ),
        (&format!("{failover}, failover_policy: {{max_tries: 1}}"), "type is missing"),
        (&format!("{failover}, failover_policy: {{type: Best}}"), "`Best` is unknown"),
        (
            &format!("{failover}, failover_policy: {{type: RendezvousPolicy}}"),
            "RendezvousPolicy needs a PoolRoute and then its servers as children (allowed: as [PoolRoute|web, Pool|web])",
        ),
        (&format!("{salted}, failover_policy: {{type: RendezvousPolicy, hash: Crc32}}"), "has no scores"),
        (
            &format!("{salted}, failover_policy: {{type: DeterministicOrderPolicy, failure_domains: [1, 2]}}"),
            "2 failure domains for 3 hosts",
        ),
        (
            &format!("{salted}, failover_policy: {{type: DeterministicOrderPolicy, enable_failure_domains: true}}"),
            "enable_failure_domains without failure_domains",
        ),
        ("type: LatestRoute, children: Pool|web, weights: [1]", "1 weights for 3 children"),
        ("type: LatestRoute, children: Pool|web, weights: [1, 2, 1]", "route.weights[1]: `2` is out of range"),
        (
            "type: MissFailoverRoute, children: Pool|web, answer: best, return_best_on_error: true",
            "return_best_on_error stands beside answer",
        ),
        (
            "type: MissFailoverRoute, children: Pool|web, failover_operations: [reads]",
            "route.failover_operations[0]: `reads` is no operation",
        ),
        (
            "type: ReplicatedRoute, children: Pool|web, reads: at_once, hedge: {}",
            "backfill or hedge beside `reads: at_once`",
        ),
        ("type: FailoverWithExptimeRoute, normal: PoolRoute|web", "failover is missing"),
    ] {
        let errors = read(&format!("{{{keys}}}")).expect_err(keys);
        assert!(errors.contains(wanted), "{keys}: {errors}");
    }
}
