//! The order in which a walk's children are asked: by the key, by the host the router runs on.

use crate::cases::tree;
use crate::play::Play;
use keyway_policies::hash::{Member, Placement};
use keyway_policies::routes::failover::Failover;
use keyway_policies::routes::latest::Latest as LatestRoute;
use keyway_policies::routes::salted_failover::SaltedFailover;
use keyway_policies::routes::walk::{By, ByKey, ErrorSet, Latest, Order, Rule, Walk};
use keyway_policies::{Distribution, OnDown, PlacementSpec, PoolSpec, RouteNode, Routes, ServerId, Weight};

const HOSTS: u32 = 5;

fn placement(distribution: Distribution) -> PlacementSpec {
    PlacementSpec::new(distribution, (0..HOSTS).map(|host| format!("10.0.0.{host}:11211")))
}

fn by_key(distribution: Distribution, by: By) -> ByKey {
    let hosts = Placement::new(&placement(distribution)).expect("a placement");
    let excluded = ErrorSet::NONE;
    ByKey { hosts, by, max_tries: 10, max_error_tries: 10, excluded, domains: Box::new([]), asks_again: false }
}

/// A pool of ch3, then its servers, in the order of the key.
fn over(order: ByKey) -> Routes {
    let walk = Walk { order: Order::ByKey(Box::new(order)), ..Walk::new(Rule::FAILOVER) };
    tree(HOSTS, |builder, servers| {
        let placement = placement(Distribution::Ch3);
        let servers_of_pool = (0..HOSTS).map(ServerId).collect();
        let spec = PoolSpec { servers: servers_of_pool, placement, on_down: OnDown::Error };
        let pool = builder.pool(&spec).expect("a pool");
        let children: Vec<_> = std::iter::once(pool).chain(servers.iter().copied()).collect();
        builder.add(SaltedFailover(walk), &children).expect("a route")
    })
}

/// The servers a get of that key goes to when all of them fail like this.
fn tried(routes: &Routes, up: &str, key: &str, failure: &str) -> Vec<u32> {
    let mut play = Play::new(routes);
    play.step(&format!("up={up}"));
    let mut tried = Vec::new();
    let mut told = play.go(&format!("get {key}|"));
    while let Some(server) = told.split(' ').find_map(|word| word.strip_prefix('>')) {
        tried.push(server.parse().expect("a server"));
        told = play.step(&format!("{server} {failure}"));
    }
    assert!(told.contains('='), "answered when no more are asked: {told}");
    tried
}

#[test]
fn hosts_follow_as_the_key_with_a_number_falls() {
    let routes = over(by_key(Distribution::Ch3, By::Salt));
    let ch3 = Placement::new(&placement(Distribution::Ch3)).expect("a placement");
    for key in (0..200).map(|number| format!("key{number}")) {
        let home = ch3.home(key.as_bytes()) as u32;
        let mut expected = vec![home];
        for salt in 1..100 {
            let host = ch3.home(format!("{key}{salt}").as_bytes()) as u32;
            if !expected.contains(&host) {
                expected.push(host);
            }
        }
        assert_eq!(tried(&routes, "11111", &key, "timeout"), expected, "{key}");
        // While its own host is down the others come in the same order.
        let mut up = [b'1'; HOSTS as usize];
        up[home as usize] = b'0';
        let up = String::from_utf8_lossy(&up).into_owned();
        assert_eq!(tried(&routes, &up, &key, "timeout"), expected[1..], "{key} without its host");
    }
}

#[test]
fn hosts_follow_by_their_scores() {
    let routes = over(by_key(Distribution::Rendezvous, By::Score));
    let [ch3, ranks] = [Distribution::Ch3, Distribution::Rendezvous]
        .map(|distribution| Placement::new(&placement(distribution)).expect("a placement"));
    for key in (0..200).map(|number| format!("key{number}")) {
        let home = ch3.home(key.as_bytes()) as u32;
        let others = ranks.candidates(key.as_bytes()).map(|host| host as u32).filter(|host| *host != home);
        let expected: Vec<u32> = std::iter::once(home).chain(others).collect();
        assert_eq!(expected.len(), HOSTS as usize);
        assert_eq!(tried(&routes, "11111", &key, "timeout"), expected, "{key}");
    }
}

#[test]
fn tries_and_errors_are_bounded() {
    let bounded = |max_tries, max_error_tries, excluded| ByKey {
        max_tries,
        max_error_tries,
        excluded,
        ..by_key(Distribution::Ch3, By::Salt)
    };
    let server_error = ErrorSet::from_name("server_error").expect("a name");
    for (order, failure, expected) in [
        (bounded(3, 10, ErrorSet::NONE), "timeout", 3),
        (bounded(1, 10, ErrorSet::NONE), "timeout", 1),
        (bounded(10, 2, ErrorSet::NONE), "timeout", 2),
        // Those that are down are tries, but no errors.
        (bounded(4, 2, ErrorSet::NONE), "unavailable", 4),
        (bounded(4, 2, server_error), "SERVER_ERROR", 4),
        (bounded(4, 2, server_error), "timeout", 2),
    ] {
        assert_eq!(tried(&over(order), "11111", "key", failure).len(), expected, "{failure}");
    }
}

#[test]
fn the_pools_own_host_may_be_asked_once_more() {
    let routes = over(ByKey { asks_again: true, ..by_key(Distribution::Ch3, By::Salt) });
    for key in (0..20).map(|number| format!("key{number}")) {
        let tried = tried(&routes, "11111", &key, "timeout");
        assert_eq!(tried.len(), HOSTS as usize + 1);
        assert!(tried[1..].contains(&tried[0]), "{key}: {tried:?}");
    }
}

#[test]
fn a_failed_failure_domain_is_avoided_as_long_as_there_are_others() {
    // 0, 1 and 2 fail together, 3 and 4 do.
    let domains: Box<[u32]> = [7, 7, 7, 9, 9].into();
    let routes = over(ByKey { domains: domains.clone(), ..by_key(Distribution::Ch3, By::Salt) });
    for key in (0..200).map(|number| format!("key{number}")) {
        let tried = tried(&routes, "11111", &key, "timeout");
        let domain = |at: usize| domains[tried[at] as usize];
        assert_ne!(domain(0), domain(1), "{key}: {tried:?}");
        // Both have failed: any host then, as far as draws bring one.
        assert!(tried.len() >= 2 && tried.len() <= HOSTS as usize, "{key}: {tried:?}");
    }
}

#[test]
fn latest_settles_on_a_few_by_the_routers_host() {
    let latest = |count, per_shard| {
        let children = Placement::new(&placement(Distribution::Ch3)).expect("a placement");
        let order = Order::Latest(Box::new(Latest { children, count, per_shard }));
        tree(HOSTS, |builder, servers| {
            builder.add(LatestRoute(Walk { order, ..Walk::new(Rule::FAILOVER) }), servers).expect("a route")
        })
    };
    let routes = latest(3, false);
    let of_host = |routes: &Routes, seed, host| {
        let mut play = Play::new(routes);
        play.state = routes.states(seed, host);
        let mut told = play.go("get k|");
        let mut tried = Vec::new();
        while let Some(server) = told.split(' ').find_map(|word| word.strip_prefix('>')) {
            tried.push(server.to_owned());
            told = play.step(&format!("{server} timeout"));
        }
        // Another key, the same children.
        assert!(play.go("get other|").starts_with(&format!(">{} ", tried[0])));
        tried
    };
    let mut first = std::collections::BTreeSet::new();
    for host in 0..50 {
        let tried = of_host(&routes, 1, host);
        assert_eq!(tried.len(), 3, "{tried:?}");
        assert_eq!(tried, of_host(&routes, 2, host), "every shard of a host has the same");
        first.insert(tried[0].clone());
    }
    assert_eq!(first.len(), HOSTS as usize, "hosts spread over all");
    let routes = latest(2, true);
    let shards: std::collections::BTreeSet<_> = (0..50).map(|seed| of_host(&routes, seed * 7919, 1)).collect();
    assert!(shards.len() > 5, "shards have their own");
    assert_eq!(of_host(&latest(100, false), 1, 1).len(), HOSTS as usize, "there are no more");
}

#[test]
fn weights_count_for_latest() {
    let members = (0..HOSTS).map(|host| {
        let weight = if host == 2 { 1.0 } else { 0.0 };
        Member { weight: Weight::new(weight).expect("a weight"), ..Member::new(format!("10.0.0.{host}")) }
    });
    let spec = PlacementSpec { members: members.collect(), ..placement(Distribution::WeightedCh3) };
    let children = Placement::new(&spec).expect("a placement");
    let order = Order::Latest(Box::new(Latest { children, count: 1, per_shard: false }));
    let route: RouteNode = Failover(Walk { order, ..Walk::new(Rule::FAILOVER) }).into();
    let routes = tree(HOSTS, |builder, servers| builder.add(route, servers).expect("a route"));
    let chosen = (0..100).filter(|host| {
        let mut play = Play::new(&routes);
        play.state = routes.states(1, *host);
        play.go("get k|") == ">2 get k"
    });
    assert!(chosen.count() > 90, "32 draws find the one with a weight");
}
