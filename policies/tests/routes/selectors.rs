//! Routes that choose, change or withhold: what is sent where, and what is answered.

use crate::cases::tree;
use crate::play::Play;
use keyway_policies::routes::blackhole::Blackhole;
use keyway_policies::routes::dev_null::DevNull;
use keyway_policies::routes::explain::ExplainAt;
use keyway_policies::routes::hash::Hash;
use keyway_policies::routes::hash_stop_allow_list::HashStopAllowList;
use keyway_policies::routes::host_id::HostId;
use keyway_policies::routes::keep_routing_prefix::KeepRoutingPrefix;
use keyway_policies::routes::key_parse::KeyParse;
use keyway_policies::routes::logging::Logging;
use keyway_policies::routes::modify_exptime::{ExptimeAction, ModifyExptime};
use keyway_policies::routes::modify_key::ModifyKey;
use keyway_policies::routes::original_client_hash::OriginalClientHash;
use keyway_policies::routes::prefix_selector::PrefixSelector;
use keyway_policies::routes::random::Random;
use keyway_policies::routes::rate_limit::{Rate, RateLimit};
use keyway_policies::routes::root::Root;
use keyway_policies::routes::routing_group::RoutingGroup;
use keyway_policies::routes::slow_warm_up::SlowWarmUp;
use keyway_policies::{
    BuildError, ClientView, Distribution, ExplainUse, HealthView, KeyHash, NodeId, OnDown, Placement, PlacementSpec,
    PoolSpec, RequestView, RouteEvent, RouteNode, Routes, RoutesBuilder, ServerId,
};
use keyway_protocol::Operation;

/// A route over so many servers.
fn over(servers: u32, route: impl Into<RouteNode>) -> Routes {
    tree(servers, |builder, nodes| builder.add(route, nodes).expect("a route"))
}

/// One request of each kind, that is asked at `server` and answered with what it says.
const EVERY_OPERATION: [(&str, &str); 14] = [
    ("get k|", "END"),
    ("gets k|", "END"),
    ("gat 10 k|", "END"),
    ("gats 10 k|", "END"),
    ("set k 1 2 3|abc|", "STORED"),
    ("add k 1 2 3|abc|", "NOT_STORED"),
    ("replace k 1 2 3|abc|", "STORED"),
    ("append k 1 2 3|abc|", "STORED"),
    ("prepend k 1 2 3|abc|", "STORED"),
    ("cas k 1 2 3 9|abc|", "EXISTS"),
    ("delete k|", "DELETED"),
    ("incr k 1|", "NOT_FOUND"),
    ("decr k 1|", "NOT_FOUND"),
    ("touch k 10|", "TOUCHED"),
];

/// Plays every operation through to `server`, unchanged.
fn check_every_operation(routes: &Routes, server: impl Fn(&str) -> usize) {
    for (request, reply) in EVERY_OPERATION {
        let at = server(request.split(' ').next().unwrap_or_default());
        let sent = format!(">{at} {}", request.trim_end_matches('|'));
        let replied = format!("{at} {reply}");
        let answer = format!("={reply}");
        Play::new(routes).check(request, &[("go", &sent), (&replied, &answer)]);
        Play::new(routes).check(request, &[("go", &sent), (&format!("{at} timeout"), "=timeout")]);
    }
}

#[test]
fn routing_group() {
    let group =
        RoutingGroup { get_like: Some(1), update_like: Some(2), delete_like: Some(3), arithmetic_like: Some(4) };
    check_every_operation(&over(5, group), |operation| match operation {
        "get" | "gets" | "gat" | "gats" => 1,
        "set" | "add" | "replace" | "append" | "prepend" | "cas" => 2,
        "delete" => 3,
        "incr" | "decr" => 4,
        _ => 0,
    });
    let routes = over(2, RoutingGroup { delete_like: Some(1), ..RoutingGroup::default() });
    check_every_operation(&routes, |operation| usize::from(operation == "delete"));
    Play::new(&routes).check("flush_all|", &[("go", ">0 flush_all"), ("0 OK", "=OK")]);
    // What is down is for the parent to see to.
    let mut play = Play::new(&routes);
    play.check("get k|", &[("up=01", ""), ("go", "=no_healthy_server")]);
}

/// The server a request goes to at once.
fn chosen(routes: &Routes, host_id: u64, client: ClientView) -> u32 {
    let at = ExplainAt { host_id, client, ..ExplainAt::default() };
    let up = vec![u8::MAX; 16];
    let steps = routes.explain(&RequestView::of_key(Operation::Get, b"k"), HealthView(&up), at);
    let mut now = steps.iter().filter(|step| step.usage == ExplainUse::Now).filter_map(|step| step.server);
    now.next().expect("a server").0
}

#[test]
fn host_id() {
    let routes = over(3, HostId::default());
    for id in 0..20 {
        assert_eq!(u64::from(chosen(&routes, id, ClientView::default())), id % 3);
    }
    // With salts the choices of one router differ from each other, and all children are chosen.
    let salted: Vec<Routes> =
        ["a", "b", "c"].map(|salt| over(3, HostId { salt: salt.as_bytes().to_vec() })).into_iter().collect();
    let choices: Vec<Vec<u32>> =
        salted.iter().map(|routes| (0..300).map(|id| chosen(routes, id, ClientView::default())).collect()).collect();
    for of in &choices {
        for server in 0..3 {
            let share = of.iter().filter(|chosen| **chosen == server).count();
            assert!((60..140).contains(&share), "server {server}: {share} of 300");
        }
    }
    assert!(choices[0] != choices[1] && choices[1] != choices[2]);
    // It stays with its child.
    Play::new(&over(3, HostId::default())).check("get k|", &[("up=101", ""), ("go", "=no_healthy_server")]);
    check_every_operation(&routes, |_| 1);
    Play::new(&over(0, HostId::default())).check("get k|", &[("go", "=no_healthy_server")]);
}

#[test]
fn original_client_hash() {
    let client = |address_hash| ClientView { number: 1, address_hash };
    for offset in 0..3 {
        let routes = over(3, OriginalClientHash { offset });
        for hash in [0, 1, 2, 10, u64::MAX] {
            let expected = hash.wrapping_add(offset) % 3;
            assert_eq!(u64::from(chosen(&routes, 1, client(hash))), expected, "{hash} + {offset}");
        }
    }
    // Without an address it is the child of the offset.
    check_every_operation(&over(3, OriginalClientHash { offset: 2 }), |_| 2);
    Play::new(&over(0, OriginalClientHash::default())).check("get k|", &[("go", "=no_healthy_server")]);
}

#[test]
fn random() {
    let routes = over(4, Random);
    let mut play = Play::new(&routes);
    let mut seen = [0; 4];
    for _ in 0..400 {
        let told = play.told("get k|", "go");
        let server: usize = told[1..2].parse().expect("a server");
        seen[server] += 1;
    }
    assert!(seen.iter().all(|count| (50..150).contains(count)), "{seen:?}");
    // Those that are down are passed over.
    for _ in 0..20 {
        play.check("delete k|", &[("up=0010", ""), ("go", ">2 delete k"), ("2 timeout", "=timeout")]);
    }
    play.check("get k|", &[("up=0000", ""), ("go", "=no_healthy_server")]);
    Play::new(&over(0, Random)).check("get k|", &[("go", "=no_healthy_server")]);
}

#[test]
fn prefix_selector() {
    let prefixes = ["user:", "user:vip:", "img"].map(str::as_bytes);
    let routes = over(4, PrefixSelector::new(prefixes, false));
    let mut play = Play::new(&routes);
    for (key, server) in [
        ("user:1", 0),
        ("user:vip:1", 1),
        ("user:vip", 0),
        ("img", 2),
        ("im", 3),
        ("x", 3),
        // What follows a hash stop counts for nothing.
        ("use|#|r:vip:", 3),
        ("user:vip|#|:1", 0),
    ] {
        play.check(&format!("get {key}|"), &[("go", &format!(">{server} get {key}"))]);
    }
    play.check("flush_all|", &[("go", ">3 flush_all")]);
    // The prefix is cut off for the child and the reply has the client's key: the shard sees to that.
    let stripping = over(4, PrefixSelector::new(prefixes, true));
    let mut play = Play::new(&stripping);
    play.check("set user:vip:1 1 2 3|abc|", &[("go", ">1 set 1 1 2 3|abc"), ("1 STORED", "=STORED")]);
    play.check("get user:1|", &[("go", ">0 get 1"), ("0 VALUE x", "=VALUE x f=0")]);
    play.check("get img|", &[("go", "=bad_key")]);
    play.check("get x|", &[("go", ">3 get x")]);
    // Without a wildcard.
    let narrow = over(3, PrefixSelector::new(prefixes, false));
    let mut play = Play::new(&narrow);
    play.check("get img|", &[("go", ">2 get img")]);
    play.check("get x|", &[("go", "=said")]);
    assert_eq!(
        narrow.node(narrow.root()).words(),
        "SERVER_ERROR keyway: PrefixSelectorRoute has no route for this key"
    );
    // In a tree: an error is what a parent may go on after.
    let routes = tree(2, |builder, servers| {
        let only = builder.add(PrefixSelector::new([b"a".as_slice()], false), &servers[..1]).expect("a route");
        builder.miss_failover(&[only, servers[1]]).expect("a route")
    });
    Play::new(&routes).check("get b|", &[("go", ">1 get b"), ("1 END", "=END")]);
}

#[test]
fn key_parse() {
    let pool = |builder: &mut RoutesBuilder| pool(builder, 8);
    let plain = tree(0, |builder, _| pool(builder));
    let to = |routes: &Routes, key: &str| {
        let told = Play::new(routes).told(&format!("get {key}|"), "go");
        told.split(' ').next().expect("a server").to_owned()
    };
    for parts in 1..4 {
        let routes = tree(0, |builder, _| {
            let pool = pool(builder);
            builder.add(KeyParse { parts, delimiter: b':' }, &[pool]).expect("a route")
        });
        for number in 0..50 {
            let key = format!("a{number}:b{number}:c{number}:d");
            let counts = key.split_inclusive(':').take(parts).collect::<String>();
            assert_eq!(to(&routes, &key), to(&plain, &counts), "{parts} parts of {key}");
            // Fewer parts: all of it, up to a stop; the key that is sent is the whole.
            let short = format!("k{number}");
            assert_eq!(to(&routes, &short), to(&plain, &short));
            assert_eq!(to(&routes, &format!("{short}|#|a:b:c:")), to(&plain, &short));
            let server = to(&routes, &key);
            Play::new(&routes).check(&format!("delete {key}|"), &[("go", &format!("{server} delete {key}"))]);
        }
    }
}

/// A ch3 pool of servers 0 and on.
pub(crate) fn pool(builder: &mut RoutesBuilder, servers: u32) -> NodeId {
    let placement = PlacementSpec::new(Distribution::Ch3, (0..servers).map(|id| format!("s{id}")));
    let servers = (0..servers).map(ServerId).collect();
    builder.pool(&PoolSpec { servers, placement, on_down: OnDown::Error }).expect("a pool")
}

#[test]
fn hash_route() {
    for distribution in [Distribution::Ch3, Distribution::Rendezvous, Distribution::Ketama(KeyHash::Fnv1a64)] {
        let spec = PlacementSpec { salt: "salt".to_owned(), ..PlacementSpec::new(distribution, ["a", "b", "c"]) };
        let placement = Placement::new(&spec).expect("a good spec");
        let routes = tree(3, |builder, servers| {
            // Any routes may be its children.
            let other = ModifyKey { ensure_prefix: b"other:".to_vec(), ..ModifyKey::default() };
            let other = builder.add(other, &servers[2..]).expect("a route");
            builder.add(Hash::new(&spec).expect("a good spec"), &[servers[0], servers[1], other]).expect("a route")
        });
        let mut play = Play::new(&routes);
        let mut seen = [0; 3];
        for number in 0..300 {
            let key = format!("k{number}");
            let home = placement.home(key.as_bytes());
            seen[home] += 1;
            let prefix = if home == 2 { "other:" } else { "" };
            play.check(&format!("get {key}|"), &[("go", &format!(">{home} get {prefix}{key}"))]);
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
        // A part of the key decides below KeyParseRoute, and the child is kept when it is down.
        let routes = tree(3, |builder, servers| {
            let hash = builder.add(Hash::new(&spec).expect("a good spec"), servers).expect("a route");
            builder.add(KeyParse { parts: 1, delimiter: b':' }, &[hash]).expect("a route")
        });
        let home = placement.home(b"a:");
        let up: String = (0..3).map(|at| if at == home { '0' } else { '1' }).collect();
        let mut play = Play::new(&routes);
        play.check("get a:b|", &[("go", &format!(">{home} get a:b"))]);
        play.check("get a:c|", &[(&format!("up={up}"), ""), ("go", "=no_healthy_server")]);
    }
    let spec = PlacementSpec::new(Distribution::Ch3, [] as [&str; 0]);
    Play::new(&over(0, Hash::new(&spec).expect("a good spec"))).check("get k|", &[("go", "=no_healthy_server")]);
}

#[test]
fn hash_stop_allow_list() {
    let route = HashStopAllowList { prefixes: vec![b"user:".to_vec(), b"x".to_vec()] };
    let routes = over(1, route);
    let mut play = Play::new(&routes);
    for (key, told) in [
        ("user:1|#|2", ">0 get user:1|#|2"),
        ("x|#|y", ">0 get x|#|y"),
        ("other", ">0 get other"),
        ("other|#|2", "=said"),
        ("|#|x", "=said"),
    ] {
        play.check(&format!("get {key}|"), &[("go", told)]);
    }
    assert_eq!(routes.node(routes.root()).words(), "SERVER_ERROR keyway: hash stop not permitted");
    check_every_operation(&routes, |_| 0);
    Play::new(&over(1, HashStopAllowList::default())).check("get a|#|b|", &[("go", "=said")]);
}

#[test]
fn modify_key() {
    let bytes = |text: &str| text.as_bytes().to_vec();
    type Case<'a> = (&'a str, Option<&'a str>, &'a str, bool, &'a str, &'a str);
    let cases: [Case<'_>; 16] = [
        // ensure, replace, suffix, in place; key, key sent
        ("a:", None, "", false, "k", "a:k"),
        ("a:", None, "", false, "a:k", "a:k"),
        ("", None, ":z", false, "k", "k:z"),
        ("", None, ":z", false, "k|#|s", "k|#|s:z"),
        ("a:", None, ":z", false, "k", "a:k:z"),
        ("a:", None, ":z", false, "a:k", "a:k:z"),
        ("a:", Some("b:"), "", false, "b:k", "a:k"),
        ("a:", Some("b:"), "", false, "c:k", "a:c:k"),
        ("a:", Some("b:"), "", false, "a:k", "a:k"),
        ("a:", Some("a:"), ":z", false, "a:k", "a:k:z"),
        ("", Some("b:"), "", false, "b:k", "k"),
        ("", Some("b:"), "", false, "k", "k"),
        ("a:", None, "", true, "b:k", "a:k"),
        ("abc", None, "", true, "xy", "abcxy"),
        ("abc", None, "", true, "xyz", "abc"),
        ("", None, "", false, "k", "k"),
    ];
    for (ensure, replace, suffix, in_place, key, sent) in cases {
        let route = ModifyKey {
            routing_prefix: None,
            ensure_prefix: bytes(ensure),
            replace_prefix: replace.map(bytes),
            suffix: bytes(suffix),
            in_place,
        };
        let routes = over(1, route);
        let mut play = Play::new(&routes);
        play.check(&format!("get {key}|"), &[("go", &format!(">0 get {sent}")), ("0 VALUE x", "=VALUE x f=0")]);
        play.check(&format!("incr {key} 5|"), &[("go", &format!(">0 incr {sent} 5"))]);
        // It has no key to change.
        play.check("flush_all|", &[("go", ">0 flush_all")]);
    }
    let emptied = over(1, ModifyKey { replace_prefix: Some(bytes("k")), ..ModifyKey::default() });
    Play::new(&emptied).check("get k|", &[("go", "=bad_key")]);
    let long = over(1, ModifyKey { suffix: bytes("ab"), ..ModifyKey::default() });
    Play::new(&long).check(&format!("get {}|", "k".repeat(249)), &[("go", "=bad_key")]);
    // One behind the other.
    let twice = tree(1, |builder, servers| {
        let inner = ModifyKey { ensure_prefix: bytes("in:"), ..ModifyKey::default() };
        let inner = builder.add(inner, servers).expect("a route");
        builder.add(ModifyKey { ensure_prefix: bytes("out:"), ..ModifyKey::default() }, &[inner]).expect("a route")
    });
    Play::new(&twice).check("touch k 5|", &[("go", ">0 touch in:out:k 5")]);
}

#[test]
fn modify_exptime() {
    let set = over(1, ModifyExptime::new(60, ExptimeAction::Set));
    let min = over(1, ModifyExptime::new(60, ExptimeAction::Min));
    for (request, by_set, by_min) in [
        ("set k 1 0 3|abc|", "set k 1 60 3|abc", "set k 1 60 3|abc"),
        ("set k 1 30 3|abc|", "set k 1 60 3|abc", "set k 1 30 3|abc"),
        ("set k 1 -1 3|abc|", "set k 1 60 3|abc", "set k 1 -1 3|abc"),
        ("set k 1 1700000030 3|abc|", "set k 1 60 3|abc", "set k 1 1700000030 3|abc"),
        ("set k 1 1700000090 3|abc|", "set k 1 60 3|abc", "set k 1 60 3|abc"),
        ("set k 1 60 3|abc|", "set k 1 60 3|abc", "set k 1 60 3|abc"),
        ("add k 1 0 0|||", "add k 1 60 0|", "add k 1 60 0|"),
        ("replace k 1 90 1|x|", "replace k 1 60 1|x", "replace k 1 60 1|x"),
        ("append k 1 90 1|x|", "append k 1 60 1|x", "append k 1 60 1|x"),
        ("prepend k 1 90 1|x|", "prepend k 1 60 1|x", "prepend k 1 60 1|x"),
        ("cas k 1 90 1 7|x|", "cas k 1 60 1 7|x", "cas k 1 60 1 7|x"),
        ("touch k 90|", "touch k 60", "touch k 60"),
        ("touch k 9|", "touch k 60", "touch k 9"),
        ("gat 90 k|", "gat 60 k", "gat 60 k"),
        ("gats 0 k|", "gats 60 k", "gats 60 k"),
        ("get k|", "get k", "get k"),
        ("delete k|", "delete k", "delete k"),
        ("incr k 1|", "incr k 1", "incr k 1"),
        ("flush_all 90|", "flush_all 90", "flush_all 90"),
    ] {
        let request = request.strip_suffix("|||").map_or(request.to_owned(), |start| format!("{start}||"));
        let trimmed = |text: &str| format!(">0 {}", text.trim_end_matches('|'));
        Play::new(&set).check(&request, &[("go", &trimmed(by_set))]);
        Play::new(&min).check(&request, &[("go", &trimmed(by_min))]);
    }
    for exptime in [0, -1, 1_700_000_000] {
        let routes = over(1, ModifyExptime::new(exptime, ExptimeAction::Set));
        let sent = format!(">0 set k 1 {exptime} 1|x");
        Play::new(&routes).check("set k 1 5 1|x|", &[("go", &sent), ("0 STORED", "=STORED")]);
    }
    // Under a route that changes the key, and above one.
    let both = tree(1, |builder, servers| {
        let key = ModifyKey { ensure_prefix: b"a:".to_vec(), ..ModifyKey::default() };
        let inner = builder.add(key.clone(), servers).expect("a route");
        let exptime = builder.add(ModifyExptime::new(60, ExptimeAction::Min), &[inner]).expect("a route");
        builder.add(ModifyKey { ensure_prefix: b"b:".to_vec(), ..key }, &[exptime]).expect("a route")
    });
    Play::new(&both).check("set k 1 0 1|x|", &[("go", ">0 set a:b:k 1 60 1|x"), ("0 STORED", "=STORED")]);
}

/// Three clusters in two regions, and a region's fallback: `/a/one/` is the default, and so are `/a/uno/`.
fn regions(send_invalid_to_default: bool) -> Routes {
    let aliases = [("/a/one/", 0), ("/a/uno/", 0), ("/a/two/", 1), ("/b/three/", 2), ("/b/fallback/", 3)];
    over(4, Root::new(&aliases, "/a/one/", send_invalid_to_default).expect("a root"))
}

#[test]
fn root_route() {
    let routes = regions(false);
    let mut play = Play::new(&routes);
    for (key, told) in [
        ("k", ">0 get k"),
        ("/a/one/k", ">0 get k"),
        ("/a/uno/k", ">0 get k"),
        ("/a/two/k", ">1 get k"),
        ("/b/three/k/with/more", ">2 get k/with/more"),
        ("/b/unknown/k", ">3 get k"),
        ("/a/unknown/k", "=said"),
        ("/c/one/k", "=said"),
        // No prefix.
        ("/a/one", ">0 get /a/one"),
        ("a/one/k", ">0 get a/one/k"),
        ("/a/one/", "=bad_key"),
        ("///k", "=said"),
    ] {
        play.check(&format!("get {key}|"), &[("go", told)]);
    }
    assert_eq!(routes.node(routes.root()).words(), "SERVER_ERROR keyway: RootRoute has no route for this prefix");
    play.check("set /a/two/k 1 2 3|abc|", &[("go", ">1 set k 1 2 3|abc"), ("1 STORED", "=STORED")]);
    play.check("flush_all|", &[("go", ">0 flush_all")]);
    check_every_operation(&routes, |_| 0);
    let lenient = regions(true);
    let mut play = Play::new(&lenient);
    for (key, told) in
        [("/a/unknown/k", ">0 get k"), ("/b/unknown/k", ">3 get k"), ("/c/*/k", ">0 get k"), ("/a/two/k", ">1 get k")]
    {
        play.check(&format!("get {key}|"), &[("go", told)]);
    }
    let twice = Root::new(&[("/a/b/", 0), ("/a/b/", 1)], "/a/b/", false);
    assert_eq!(twice, Err(BuildError::DuplicatePrefix { prefix: "/a/b/".to_owned() }));
    let none = Root::new(&[("/a/b/", 0)], "/a/c/", false);
    assert_eq!(none, Err(BuildError::NoDefaultPrefix { prefix: "/a/c/".to_owned() }));
}

#[test]
fn a_broadcast_answers_with_the_local_reply() {
    let routes = regions(false);
    let mut play = Play::new(&routes);
    let everywhere = ">0 delete k >1 delete k >2 delete k >3 delete k";
    play.check(
        "delete /*/*/k|",
        &[("go", everywhere), ("1 DELETED", ""), ("0 NOT_FOUND", "=NOT_FOUND"), ("2 timeout", ""), ("3 DELETED", "")],
    );
    play.check("delete /*/*/k|", &[("go", everywhere), ("0 timeout", "=timeout"), ("1 DELETED", "")]);
    play.check("delete /a/*/k|", &[("go", ">0 delete k >1 delete k"), ("0 DELETED", "=DELETED")]);
    // The default isn't meant: the first in order.
    play.check("delete /b/*/k|", &[("go", ">2 delete k >3 delete k"), ("3 DELETED", ""), ("2 END", "=END")]);
    play.check("delete /a/t*/k|", &[("go", ">1 delete k"), ("1 DELETED", "=DELETED")]);
    // Both names of one route are one.
    play.check("delete /a/*o*/k|", &[("go", ">0 delete k >1 delete k")]);
    play.check("delete /c*/*/k|", &[("go", "=said")]);
    // The local one is down: its failure is the answer, the others hear of it all the same.
    play.check("delete /a/*/k|", &[("up=0111", ""), ("go", ">1 delete k =no_healthy_server"), ("1 DELETED", "")]);
    play.check("delete /a/*/k|", &[("up=0011", ""), ("go", "=no_healthy_server")]);
}

#[test]
fn pools_may_keep_the_routing_prefix() {
    let keep = |builder: &mut RoutesBuilder, child| builder.add(KeepRoutingPrefix, &[child]).expect("a route");
    let set = |prefix: &str| ModifyKey { routing_prefix: Some(prefix.as_bytes().to_vec()), ..ModifyKey::default() };
    let routes = tree(0, |builder, _| {
        let pool = pool(builder, 8);
        let kept = keep(builder, pool);
        let moved = builder.add(set("/x/y/"), &[kept]).expect("a route");
        let taken = builder.add(set(""), &[kept]).expect("a route");
        let aliases = [("/a/plain/", 0), ("/a/kept/", 1), ("/a/moved/", 2), ("/a/taken/", 3)];
        let root = Root::new(&aliases, "/a/plain/", false).expect("a root");
        builder.add(root, &[pool, kept, moved, taken]).expect("a route")
    });
    let mut play = Play::new(&routes);
    for number in 0..20 {
        let plain = play.told(&format!("get /a/plain/k{number}|"), "go");
        let server = plain.split(' ').next().expect("a server");
        assert_eq!(plain, format!("{server} get k{number}"));
        for (cluster, prefix) in [("kept", "/a/kept/"), ("moved", "/x/y/"), ("taken", "")] {
            let sent = play.told(&format!("get /a/{cluster}/k{number}|"), "go");
            assert_eq!(sent, format!("{server} get {prefix}k{number}"), "spread without the prefix");
        }
    }
    // A second root below goes by the prefix that was set, and a change of key leaves it.
    let routes = tree(2, |builder, servers| {
        let lower = Root::new(&[("/x/y/", 0), ("/x/z/", 1)], "/x/z/", false).expect("a root");
        let lower = builder.add(lower, servers).expect("a route");
        let moved = ModifyKey { suffix: b":s".to_vec(), ..set("/x/y/") };
        let moved = builder.add(moved, &[lower]).expect("a route");
        builder.add(Root::new(&[("/a/b/", 0)], "/a/b/", false).expect("a root"), &[moved]).expect("a route")
    });
    Play::new(&routes).check("get /a/b/k|", &[("go", ">0 get k:s")]);
    Play::new(&routes).check("get k|", &[("go", ">0 get k:s")]);
}

#[test]
fn dev_null_counts() {
    let routes = over(0, DevNull);
    let mut play = Play::new(&routes);
    for (request, _) in EVERY_OPERATION {
        play.check(request, &[("go", "=null")]);
    }
    assert_eq!(play.state.take_events()[RouteEvent::DevNull as usize], 14);
    assert_eq!(play.state.take_events()[RouteEvent::DevNull as usize], 0, "taken");
}

#[test]
fn blackhole() {
    let routes = over(0, Blackhole { time: 50_000_000 });
    for (request, _) in EVERY_OPERATION {
        Play::new(&routes).check(request, &[("go", "~50"), ("+49", ""), ("+1", "=timeout"), ("+50", "")]);
    }
    // Another child answers; the wake that comes later changes nothing.
    let routes = tree(1, |builder, servers| {
        let hole = builder.add(Blackhole { time: 50_000_000 }, &[]).expect("a route");
        builder.all_fastest(&[hole, servers[0]]).expect("a route")
    });
    Play::new(&routes).check("get k|", &[("go", "~50 >0 get k"), ("0 VALUE x", "=VALUE x f=0"), ("+50", "")]);
    let miss = &[("go", "~50 >0 get k"), ("0 END", "kept"), ("+50", "=END")];
    Play::new(&routes).check("get k|", miss);
}

#[test]
fn logging() {
    let routes = over(1, Logging { lines_per_second: 2 });
    let mut play = Play::new(&routes);
    play.check("get k|", &[("go", ">0 get k"), ("0 VALUE x", "log VALUE =VALUE x f=0")]);
    play.check("set k 0 0 1|x|", &[("go", ">0 set k 0 0 1|x"), ("0 timeout", "log timeout =timeout")]);
    play.check("get k|", &[("go", ">0 get k"), ("0 END", "=END")]);
    assert_eq!(play.state.take_events()[RouteEvent::LogSkipped as usize], 1);
    play.check("get k|", &[("+500", ""), ("go", ">0 get k"), ("0 END", "log END =END")]);
    play.check("get k|", &[("up=0", ""), ("go", "=no_healthy_server")]);
    let routes = over(0, Logging { lines_per_second: 2 });
    Play::new(&routes).check("set k 0 0 1|x|", &[("go", "log NOT_STORED =null")]);
    // Also what comes too late to be the answer.
    let routes = tree(2, |builder, servers| {
        let logged = builder.add(Logging { lines_per_second: 2 }, &servers[..1]).expect("a route");
        builder.all_fastest(&[logged, servers[1]]).expect("a route")
    });
    let late = &[("go", ">0 get k >1 get k"), ("1 VALUE x", "=VALUE x f=0"), ("0 END", "log END")];
    Play::new(&routes).check("get k|", late);
}

#[test]
fn rate_limit() {
    let rate = |burst: f64| Some(Rate { per_second: 2.0, burst });
    let route = RateLimit { gets: rate(2.0), sets: rate(1.0), deletes: None };
    let routes = over(1, route);
    let mut play = Play::new(&routes);
    let passed = |play: &mut Play<'_>, request: &str| play.told(request, "go").starts_with('>');
    let gets: Vec<bool> = (0..4).map(|_| passed(&mut play, "get k|")).collect();
    assert_eq!(gets, [true, true, false, false]);
    // Each group has its own.
    play.check("gat 5 k|", &[("go", "=null")]);
    play.check("set k 0 0 1|x|", &[("go", ">0 set k 0 0 1|x"), ("0 STORED", "=STORED")]);
    play.check("cas k 0 0 1 1|x|", &[("go", "=null")]);
    for unlimited in ["delete k|", "incr k 1|", "touch k 1|", "flush_all|"] {
        for _ in 0..5 {
            assert!(passed(&mut play, unlimited), "{unlimited}");
        }
    }
    assert_eq!(play.state.take_events()[RouteEvent::RateLimited as usize], 4);
    // Half a second is a token; the clock must not run out of them.
    play.check("get k|", &[("+500", ""), ("go", ">0 get k")]);
    play.check("get k|", &[("go", "=null")]);
    // A token isn't spent on a server that is down.
    play.check("get k|", &[("+500", ""), ("up=0", ""), ("go", "=no_healthy_server")]);
    play.check("get k|", &[("up=1", ""), ("go", ">0 get k")]);
    play.check("get k|", &[("go", "=null")]);
    // The fallback.
    let routes = over(2, RateLimit { gets: rate(1.0), ..RateLimit::default() });
    let mut play = Play::new(&routes);
    play.check("get k|", &[("go", ">0 get k"), ("0 END", "=END")]);
    play.check("get k|", &[("go", ">1 get k"), ("1 timeout", "=timeout")]);
}

const WARM_UP: SlowWarmUp =
    SlowWarmUp { enable_threshold: 0.7, disable_threshold: 0.9, start: 0.1, step: 1.0, min_requests: 20 };

#[test]
fn slow_warm_up() {
    let routes = over(2, WARM_UP);
    let mut play = Play::new(&routes);
    let ask = |play: &mut Play<'_>, reply: &str| {
        let told = play.told("get k|", "go");
        let at = told[1..2].to_owned();
        play.step(&format!("{at} {reply}"));
        at == "0"
    };
    // Too few gets to tell.
    assert!((0..20).all(|_| ask(&mut play, "END")));
    // Cold: a tenth, and more only as it gets warmer.
    let share = |play: &mut Play<'_>, reply: &str| (0..200).filter(|_| ask(play, reply)).count();
    let cold = share(&mut play, "END");
    assert!((5..50).contains(&cold), "{cold} of 200");
    assert_eq!(play.state.take_events()[RouteEvent::WarmingUp as usize], 200 - cold as u64);
    // Writes go there whatever it is.
    for _ in 0..20 {
        play.check("set k 0 0 1|x|", &[("go", ">0 set k 0 0 1|x"), ("0 STORED", "=STORED")]);
        play.check("delete k|", &[("go", ">0 delete k"), ("0 NOT_FOUND", "=NOT_FOUND")]);
    }
    // It warms up, and what was long ago is forgotten; failures tell nothing.
    for _ in 0..20 {
        share(&mut play, "VALUE x");
    }
    assert_eq!(share(&mut play, "VALUE x"), 200);
    assert_eq!(share(&mut play, "timeout"), 200);
    // A week of hits doesn't hide that it is empty now.
    for _ in 0..100 {
        share(&mut play, "VALUE x");
    }
    for _ in 0..5 {
        share(&mut play, "END");
    }
    assert!(share(&mut play, "END") < 50);
    // Down, it is the parent's affair.
    play.check("get k|", &[("up=01", ""), ("go", "=no_healthy_server")]);
}

#[test]
fn slow_warm_up_watches_each_server_of_a_pool() {
    let routes = tree(0, |builder, _| {
        let pool = pool(builder, 2);
        let other = builder.server(ServerId(2)).expect("a server");
        builder.add(WARM_UP, &[pool, other]).expect("a route")
    });
    let mut play = Play::new(&routes);
    let mut elsewhere = [0; 2];
    for _ in 0..200 {
        // ch3 puts "key" on server 0 and "k1" on server 1, which is empty.
        for (own, request, reply) in [(0, "get key|", "VALUE x"), (1, "get k1|", "END")] {
            let told = play.told(request, "go");
            let at: usize = told[1..2].parse().expect("a server");
            elsewhere[own] += usize::from(at == 2);
            play.step(&format!("{at} {reply}"));
        }
    }
    assert_eq!(elsewhere[0], 0);
    assert!(elsewhere[1] > 100, "{elsewhere:?}");
}

#[test]
fn explain_shows_what_is_sent() {
    let routes = tree(2, |builder, servers| {
        let other = ModifyKey { ensure_prefix: b"a:".to_vec(), ..ModifyKey::default() };
        let other = builder.add(other, &servers[1..]).expect("a route");
        builder.miss_failover(&[servers[0], other]).expect("a route")
    });
    let steps =
        routes.explain(&RequestView::of_key(Operation::Get, b"k"), HealthView(&[u8::MAX; 2]), ExplainAt::default());
    let told: Vec<(&str, Option<String>)> = steps
        .iter()
        .map(|step| (step.route, step.sent.as_ref().map(|sent| String::from_utf8_lossy(&sent.key).into_owned())))
        .collect();
    let expected =
        [("MissFailoverRoute", None), ("Server", None), ("ModifyKeyRoute", None), ("Server", Some("a:k".to_owned()))];
    assert_eq!(told, expected);
}
