//! Routes that ask one child after the other: Failover, FailoverWithExptime, MissFailover.

use crate::support::{Client, Keyway, Memcached, Scripted, eventually, full_file, shown};

fn over(addresses: &[String], route: &str, rest: &str) -> Keyway {
    let servers: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [{}]{rest}}}}}\nroute: {route}\nshards: 1\nhealth: {{interval_ms: 100, timeout_ms: 1000}}",
        servers.join(", ")
    )))
}

#[test]
fn a_server_that_fails_is_passed_over_and_a_miss_is_an_answer() {
    let refusing = Scripted::start("SERVER_ERROR out of memory\r\n");
    let (second, third) = (Memcached::start(), Memcached::start());
    let keyway = over(&[refusing.address(), second.address(), third.address()], "FailoverRoute", "");
    let mut client = keyway.client();
    third.client().set("k", "v");
    assert_eq!(client.get("k"), None);
    client.set("k", "w");
    assert_eq!(second.client().get("k").as_deref(), Some(&b"w"[..]));
}

#[test]
fn errors_that_are_not_named_are_answers() {
    let refusing = Scripted::start("SERVER_ERROR out of memory\r\n");
    let second = Memcached::start();
    let route = "{type: FailoverRoute, failover_errors: {gets: [remote_error], updates: [tko]}}";
    let keyway = over(&[refusing.address(), second.address()], route, "");
    let mut client = keyway.client();
    assert_eq!(client.store("set", "k", "v"), "SERVER_ERROR out of memory\r\n");
    assert_eq!(client.get("k"), None);
}

#[test]
fn without_a_token_the_error_is_the_answer() {
    let refusing = Scripted::start("SERVER_ERROR out of memory\r\n");
    let second = Memcached::start();
    let route = "{type: FailoverRoute, failover_limit: {rate: 0, burst: 2}}";
    let keyway = over(&[refusing.address(), second.address()], route, "");
    let mut client = keyway.client();
    for answer in ["END\r\n", "END\r\n", "SERVER_ERROR out of memory\r\n", "SERVER_ERROR out of memory\r\n"] {
        assert_eq!(client.ask("get k\r\n"), answer);
    }
}

#[test]
fn the_server_that_failed_least_comes_next_and_sees_the_tag() {
    let refusing = Scripted::start("SERVER_ERROR out of memory\r\n");
    let failing = Scripted::start("SERVER_ERROR out of memory\r\n");
    let taking = Scripted::start("STORED\r\n");
    let route = "{type: FailoverRoute, failover_tag: true, failover_policy: {type: LeastFailuresPolicy, max_tries: 3}}";
    let keyway = over(&[refusing.address(), failing.address(), taking.address()], route, "");
    let mut client = keyway.client();
    for _ in 0..3 {
        assert_eq!(client.store("set", "k|#|x", "v"), "STORED\r\n");
    }
    assert_eq!(refusing.heard().len(), 3);
    assert_eq!(failing.heard().len(), 1, "it failed once, so the third comes before it");
    let heard: Vec<String> = taking.heard().iter().map(|request| shown(request)).collect();
    assert_eq!(heard, ["set k|#|x:failover=1 0 0 1\r\nv\r\n"; 3]);
}

#[test]
fn a_gutter_keeps_things_shortly() {
    let (mut normal, gutter) = (Memcached::start(), Memcached::start());
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [\"{}\"]}}, gutter: {{servers: [\"{}\"]}}}}\nshards: 1\n\
         route: {{type: FailoverWithExptimeRoute, normal: PoolRoute|web, failover: [PoolRoute|gutter], failover_exptime: 30}}",
        normal.address(),
        gutter.address()
    )));
    let mut client = keyway.client();
    client.set("k", "v");
    assert_eq!(gutter.client().get("k"), None);
    normal.kill();
    client.set("k", "w");
    assert_eq!(client.get("k").as_deref(), Some(&b"w"[..]));
    let left = gutter.client().ask("mg k t\r\n");
    let seconds: u64 = left.trim().strip_prefix("HD t").and_then(|seconds| seconds.parse().ok()).expect("seconds");
    assert!((1..=30).contains(&seconds), "{left}");
}

#[test]
fn a_hit_is_added_to_the_server_that_missed_it() {
    let (near, far) = (Memcached::start(), Memcached::start());
    let keyway = over(&[near.address(), far.address()], "{type: MissFailoverRoute, backfill: true}", "");
    let mut client = keyway.client();
    assert_eq!(far.client().ask("set k 5 0 3\r\nabc\r\n"), "STORED\r\n");
    assert_eq!(client.ask("get k\r\n"), "VALUE k 5 3\r\nabc\r\nEND\r\n");
    let told = eventually("it is added", || {
        let told = near.client().ask("mg k t f s\r\n");
        told.starts_with("HD ").then_some(told)
    });
    assert_eq!(told, "HD t-1 f5 s3\r\n", "without end, as it was");
    // Several keys, some here, some there, some nowhere.
    far.client().set("l", "def");
    client.send("get k l m\r\n");
    assert_eq!(shown(&client.reply()), "VALUE k 5 3\r\nabc\r\nVALUE l 0 3\r\ndef\r\nEND\r\n");
}

#[test]
fn a_server_without_meta_get_is_asked_plainly() {
    let near = Memcached::start();
    let old = Scripted::start("ERROR\r\n");
    let keyway = over(&[near.address(), old.address()], "{type: MissFailoverRoute, backfill: true}", "");
    assert_eq!(keyway.client().ask("get k\r\n"), "END\r\n");
    let heard: Vec<String> = old.heard().iter().map(|request| shown(request)).collect();
    assert_eq!(heard, ["mg k k f t c v\r\n", "get k\r\n"]);
}

#[test]
fn mcrouters_miss_failover_leaves_writes_to_the_first() {
    let (first, second) = (Memcached::start(), Memcached::start());
    let route = "{type: MissFailoverRoute, failover_operations: [get_like, delete_like]}";
    let keyway = over(&[first.address(), second.address()], route, "");
    let mut client = keyway.client();
    second.client().set("k", "v");
    assert_eq!(client.get("k").as_deref(), Some(&b"v"[..]));
    assert_eq!(client.store("replace", "k", "w"), "NOT_STORED\r\n");
    assert_eq!(client.ask("delete k\r\n"), "DELETED\r\n");
    assert_eq!(second.client().get("k"), None);
}

#[test]
fn a_slow_get_is_asked_elsewhere() {
    let (slow, other) = (Memcached::start(), Memcached::start());
    // No try ends before this test does: whatever answers was asked beside the first.
    let rest = ", timeout_ms: 600000, deadline_ms: 600000";
    let route = "{type: FailoverRoute, hedge: {quantile: 0.95, min_samples: 20}}";
    let keyway = over(&[slow.address(), other.address()], route, rest);
    let mut client = keyway.client();
    client.set("k", "first");
    other.client().set("k", "second");
    for _ in 0..40 {
        assert!(client.get("k").is_some());
    }
    slow.freeze();
    assert_eq!(client.get("k").as_deref(), Some(&b"second"[..]));
    slow.thaw();
}

#[test]
fn the_keys_of_a_dead_server_spread_over_the_others() {
    let mut servers = [Memcached::start(), Memcached::start(), Memcached::start(), Memcached::start()];
    let addresses: Vec<String> = servers.iter().map(Memcached::address).collect();
    let keyway = over(&addresses, "{type: SaltedFailoverRoute, pool: web}", "");
    let mut client = keyway.client();
    let keys: Vec<String> = (0..200).map(|number| format!("key{number}")).collect();
    keys.iter().for_each(|key| client.set(key, "v"));
    let homes: Vec<usize> = keys.iter().map(|key| home_of(&servers, key)).collect();
    servers[2].kill();
    let mut moved_to = [0; 4];
    for (key, home) in keys.iter().zip(&homes) {
        if *home == 2 {
            client.set(key, "w");
            moved_to[home_of(&servers, key)] += 1;
        }
        assert!(client.get(key).is_some(), "{key}");
    }
    assert!([0, 1, 3].iter().all(|server| moved_to[*server] > 0), "{moved_to:?}");
}

/// The only server that has the key; the first of those that live.
fn home_of(servers: &[Memcached; 4], key: &str) -> usize {
    let has =
        |server: &&Memcached| Client::try_connect(server.socket()).is_ok_and(|mut client| client.get(key).is_some());
    let homes: Vec<usize> = (0..servers.len()).filter(|at| has(&&servers[*at])).collect();
    assert_eq!(homes.len(), 1, "{key}: {homes:?}");
    homes[0]
}

#[test]
fn latest_uses_the_same_few_for_every_key() {
    let mut servers = [Memcached::start(), Memcached::start(), Memcached::start(), Memcached::start()];
    let addresses: Vec<String> = servers.iter().map(Memcached::address).collect();
    let keyway = over(&addresses, "{type: LatestRoute, failover_count: 2}", "");
    let mut client = keyway.client();
    (0..50).for_each(|number| client.set(&format!("key{number}"), "v"));
    let items = |servers: &[Memcached; 4]| {
        (0..4)
            .filter(|at| {
                Client::try_connect(servers[*at].socket()).is_ok_and(|mut client| client.get("key1").is_some())
            })
            .collect::<Vec<usize>>()
    };
    let [first] = items(&servers)[..] else { panic!("one has all of them") };
    assert_eq!(servers[first].stat("curr_items"), 50);
    servers[first].kill();
    (0..50).for_each(|number| client.set(&format!("key{number}"), "w"));
    let [second] = items(&servers)[..] else { panic!("the other of the two has all of them") };
    assert_eq!(servers[second].stat("curr_items"), 50);
    servers[second].kill();
    assert!(client.store("set", "key1", "x").starts_with("SERVER_ERROR "), "there are two");
}
