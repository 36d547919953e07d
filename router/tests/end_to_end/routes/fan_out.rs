//! Routes that ask all their children: AllSync, AllInitial, AllMajority, AllFastest, and the tree of a replicated pool.

use crate::support::{Keyway, Memcached, eventually, pool_file};

fn three() -> [Memcached; 3] {
    [Memcached::start(), Memcached::start(), Memcached::start()]
}

fn keyway(servers: &[Memcached; 3], route: &str) -> Keyway {
    let health = "health: {interval_ms: 100, timeout_ms: 1000}";
    Keyway::start(&pool_file(&servers.each_ref(), route, health))
}

#[test]
fn all_sync_needs_every_child_unless_it_is_told_to_leave_out_those_that_are_down() {
    let mut servers = three();
    let strict = keyway(&servers, "AllSyncRoute|Pool|web");
    let lenient = keyway(
        &servers,
        "{type: AllSyncRoute, ignore_down: true, overrides: {get: {answer: first_hit, success: any}}}",
    );
    strict.client().set("k", "v");
    for server in &servers {
        assert_eq!(server.client().get("k").as_deref(), Some(&b"v"[..]));
    }
    // One replica misses: the worst of the replies.
    assert_eq!(servers[1].client().ask("delete k\r\n"), "DELETED\r\n");
    assert_eq!(strict.client().get("k"), None);
    assert_eq!(lenient.client().get("k").as_deref(), Some(&b"v"[..]));
    assert_eq!(strict.client().ask("touch k 60\r\n"), "NOT_FOUND\r\n");
    servers[2].kill();
    assert!(strict.client().store("set", "k", "w").starts_with("SERVER_ERROR "));
    eventually("the dead one is left out", || (lenient.client().store("set", "k", "x") == "STORED\r\n").then_some(()));
    assert_eq!(servers[0].client().get("k").as_deref(), Some(&b"x"[..]));
}

#[test]
fn all_initial_answers_what_the_first_says() {
    let servers = three();
    let keyway = keyway(&servers, "AllInitialRoute");
    servers[1].client().set("k", "old");
    let mut client = keyway.client();
    assert_eq!(client.get("k"), None);
    client.set("k", "new");
    eventually("the others have it too", || {
        servers.iter().all(|server| server.client().get("k").as_deref() == Some(b"new")).then_some(())
    });
}

#[test]
fn all_majority_answers_what_most_say() {
    let mut servers = three();
    let keyway = keyway(&servers, "AllMajorityRoute");
    let mut client = keyway.client();
    client.set("k", "v");
    servers[0].client().ask("delete k\r\n");
    eventually("the slowest of the three has stored it", || {
        servers[1..].iter().all(|server| server.client().get("k").is_some()).then_some(())
    });
    assert_eq!(client.get("k").as_deref(), Some(&b"v"[..]));
    servers[0].kill();
    assert_eq!(client.store("set", "k", "w"), "STORED\r\n");
    servers[1].kill();
    assert!(client.store("set", "k", "x").starts_with("SERVER_ERROR "));
}

#[test]
fn a_quorum_is_enough() {
    let mut servers = three();
    let keyway = keyway(&servers, "{type: AllFastestRoute, success: quorum, ignore_down: false, answer: best}");
    servers[2].kill();
    let mut client = keyway.client();
    client.set("k", "v");
    servers[1].kill();
    assert!(client.store("set", "k", "w").starts_with("SERVER_ERROR "));
}

#[test]
fn replicas_are_kept_alike() {
    let mut servers = three();
    let keyway = keyway(&servers, "{type: ReplicatedRoute, backfill: true}");
    let mut client = keyway.client();
    let of = |server: &Memcached, key: &str| {
        server.client().get(key).map(|value| String::from_utf8_lossy(&value).into_owned())
    };
    let all = |key: &str| servers.each_ref().map(|server| of(server, key));
    let same = |value: &str| [Some(value.to_owned()), Some(value.to_owned()), Some(value.to_owned())];
    client.set("k", "5");
    assert_eq!(all("k"), same("5"));
    assert_eq!(client.ask("incr k 2\r\n"), "7\r\n");
    assert_eq!(all("k"), same("7"));
    assert_eq!(client.store("append", "k", "0"), "STORED\r\n");
    assert_eq!(all("k"), same("70"));
    // The first decides on a cas, and the others forget.
    let gets = client.ask("gets k\r\n");
    let cas = gets.split_whitespace().nth(4).expect("a cas").to_owned();
    assert_eq!(client.ask(format!("cas k 0 0 1 {cas}\r\n1\r\n")), "STORED\r\n");
    assert_eq!(all("k"), [Some("1".to_owned()), None, None]);
    assert_eq!(client.ask(format!("cas k 0 0 1 {cas}\r\n2\r\n")), "EXISTS\r\n");
    assert_eq!(client.get("k").as_deref(), Some(&b"1"[..]));
    // Of an add they store the same, whatever they had.
    servers[2].client().set("a", "stray");
    assert_eq!(client.store("add", "a", "x"), "STORED\r\n");
    assert_eq!(all("a"), same("x"));
    assert_eq!(client.store("add", "a", "y"), "NOT_STORED\r\n");
    assert_eq!(client.ask("touch a 100\r\n"), "TOUCHED\r\n");
    assert_eq!(client.ask("delete a\r\n"), "DELETED\r\n");
    assert_eq!(all("a"), [None, None, None]);
    // What the first has lost comes back with the time it had left.
    assert_eq!(client.ask("set t 7 1000 1\r\nv\r\n"), "STORED\r\n");
    servers[0].client().ask("delete t\r\n");
    assert_eq!(client.ask("get t\r\n"), "VALUE t 7 1\r\nv\r\nEND\r\n");
    let told = eventually("it is added again", || {
        let told = servers[0].client().ask("mg t t f\r\n");
        told.starts_with("HD ").then_some(told)
    });
    let left: u64 = told.split([' ', 't', '\r']).filter_map(|word| word.parse().ok()).next().expect("seconds");
    assert!((900..=1000).contains(&left) && told.contains("f7"), "{told}");
    // flush_all reaches all; one that is down is left out.
    assert_eq!(client.ask("flush_all\r\n"), "OK\r\n");
    assert_eq!(all("k"), [None, None, None]);
    servers[1].kill();
    eventually("the dead one is left out", || (client.store("set", "k", "x") == "STORED\r\n").then_some(()));
}
