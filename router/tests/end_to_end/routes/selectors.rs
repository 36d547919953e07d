//! Routes that choose, change, limit and look on, one case each.

use crate::support::{Client, Keyway, Memcached, eventually, full_file};

/// A configuration with a pool of one server for each memcached, `a`, `b` and so on, and this route.
fn file(servers: &[&Memcached], rest: &str) -> String {
    let pools: Vec<String> = ["a", "b", "c", "d"]
        .iter()
        .zip(servers)
        .map(|(name, server)| format!("  {name}: {{servers: [\"{}\"]}}", server.address()))
        .collect();
    full_file(&format!("shards: 1\npools:\n{}\n{rest}", pools.join("\n")))
}

fn two() -> (Memcached, Memcached) {
    (Memcached::start(), Memcached::start())
}

/// How many of these keys a server holds.
fn held(server: &Memcached, keys: &[String]) -> usize {
    let mut client = server.client();
    keys.iter().filter(|key| client.get(key).is_some()).count()
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key:{number}")).collect()
}

fn value(client: &mut Client, key: &str) -> Option<String> {
    client.get(key).map(|value| String::from_utf8_lossy(&value).into_owned())
}

#[test]
fn host_id_and_client_hash_stay_with_one_child() {
    for kind in ["HostIdRoute", "OriginalClientHashRoute"] {
        let (a, b) = two();
        let keyway =
            Keyway::start(&file(&[&a, &b], &format!("route: {{type: {kind}, children: [PoolRoute|a, PoolRoute|b]}}")));
        let keys = keys(20);
        for key in &keys {
            keyway.client().set(key, "x");
        }
        let shares = [held(&a, &keys), held(&b, &keys)];
        assert!(shares == [20, 0] || shares == [0, 20], "{kind}: {shares:?}");
    }
}

#[test]
fn random_takes_any_child_that_is_up() {
    let (a, mut b) = two();
    let keyway = Keyway::start(&file(&[&a, &b], "route: {type: RandomRoute, children: [PoolRoute|a, PoolRoute|b]}"));
    let mut client = keyway.client();
    let keys = keys(100);
    for key in &keys {
        client.set(key, "x");
    }
    let shares = [held(&a, &keys), held(&b, &keys)];
    assert!(shares[0] > 20 && shares[1] > 20 && shares[0] + shares[1] == 100, "{shares:?}");
    b.kill();
    eventually("all go to the one that is up", || {
        (0..20).all(|at| client.store("set", &keys[at], "y") == "STORED\r\n").then_some(())
    });
}

#[test]
fn a_load_balancer_goes_around_a_server_that_hangs() {
    let (a, b) = two();
    let keyway =
        Keyway::start(&file(&[&a, &b], "route: {type: LoadBalancerRoute, children: [PoolRoute|a, PoolRoute|b]}"));
    let mut client = keyway.client();
    a.client().set("k", "x");
    b.client().set("k", "x");
    for _ in 0..20 {
        assert!(client.get("k").is_some());
    }
    b.freeze();
    // One that hangs costs at most the timeout of the requests that went there; the next try has the answer.
    for _ in 0..10 {
        assert!(client.get("k").is_some());
    }
    b.thaw();
}

#[test]
fn groups_prefixes_and_stops() {
    let (a, b) = two();
    let c = Memcached::start();
    let keyway = Keyway::start(&file(
        &[&a, &b, &c],
        "route:
  type: RoutingGroupRoute
  routing_group_policies:
    delete_like: AllFastestRoute|Pool|c
  default_policy:
    type: HashStopAllowListRoute
    prefixes: [\"stop:\"]
    target:
      type: PrefixSelectorRoute
      strip: true
      policies: {\"user:\": PoolRoute|a, \"user:vip:\": PoolRoute|b}
",
    ));
    let mut client = keyway.client();
    client.set("user:1", "one");
    client.set("user:vip:1", "two");
    assert_eq!(value(&mut a.client(), "1").as_deref(), Some("one"));
    assert_eq!(value(&mut b.client(), "1").as_deref(), Some("two"));
    assert_eq!(value(&mut client, "user:1").as_deref(), Some("one"), "the reply has the client's key");
    assert_eq!(client.ask("delete user:1\r\n"), "NOT_FOUND\r\n", "deletes go to c");
    assert_eq!(client.ask("get other\r\n"), "SERVER_ERROR keyway: PrefixSelectorRoute has no route for this key\r\n");
    assert_eq!(client.ask("get user:1|#|x\r\n"), "SERVER_ERROR keyway: hash stop not permitted\r\n");
}

#[test]
fn key_parse_keeps_keys_together() {
    let (a, b) = two();
    let config = full_file(&format!(
        "pools: {{web: {{servers: [\"{}\", \"{}\"]}}}}\nroute: {{type: KeyParseRoute, num_routing_parts: 1, delimiter: \":\", target: PoolRoute|web}}",
        a.address(),
        b.address()
    ));
    let keyway = Keyway::start(&config);
    let mut client = keyway.client();
    let keys = keys(50);
    for key in &keys {
        client.set(key, "x");
    }
    let shares = [held(&a, &keys), held(&b, &keys)];
    assert!(shares == [50, 0] || shares == [0, 50], "{shares:?}");
}

#[test]
fn routing_prefixes_and_broadcasts() {
    let (a, b) = two();
    let c = Memcached::start();
    let pools = format!(
        "pools:\n  a: {{servers: [\"{}\"]}}\n  b: {{servers: [\"{}\"]}}\n  c: {{servers: [\"{}\"], keep_routing_prefix: true}}\n",
        a.address(),
        b.address(),
        c.address()
    );
    let keyway = Keyway::start(&full_file(&format!(
        "{pools}default_route: /east/web/
routes:
  - {{aliases: [/east/web/, /east/www/], route: PoolRoute|a}}
  - {{aliases: [/west/web/], route: PoolRoute|b}}
  - {{aliases: [/west/kept/], route: PoolRoute|c}}
"
    )));
    let mut client = keyway.client();
    client.set("k", "default");
    client.set("/west/web/k", "west");
    client.set("/west/kept/k", "kept");
    assert_eq!(value(&mut a.client(), "k").as_deref(), Some("default"));
    assert_eq!(value(&mut b.client(), "k").as_deref(), Some("west"));
    assert_eq!(value(&mut c.client(), "/west/kept/k").as_deref(), Some("kept"));
    assert_eq!(value(&mut client, "/east/www/k").as_deref(), Some("default"));
    assert_eq!(value(&mut client, "/west/web/k").as_deref(), Some("west"));
    assert_eq!(client.ask("get /north/web/k\r\n"), "SERVER_ERROR keyway: RootRoute has no route for this prefix\r\n");
    assert_eq!(client.ask("delete /*/web/k\r\n"), "DELETED\r\n");
    assert_eq!(value(&mut a.client(), "k"), None);
    eventually("the others hear of it in the background", || value(&mut b.client(), "k").is_none().then_some(()));
    assert_eq!(value(&mut c.client(), "/west/kept/k").as_deref(), Some("kept"));
}

#[test]
fn keys_and_exptimes_are_changed_on_the_way() {
    let a = Memcached::start();
    let keyway = Keyway::start(&file(
        &[&a],
        "route:
  type: ModifyKeyRoute
  ensure_key_prefix: \"p:\"
  set_key_suffix: \":s\"
  target: {type: ModifyExptimeRoute, action: min, exptime: 100, target: PoolRoute|a}
",
    ));
    let mut client = keyway.client();
    let ttl = |key: &str| a.client().ask(format!("mg {key} t\r\n"));
    for (exptime, most) in [("0", 100), ("500", 100), ("50", 50)] {
        assert_eq!(client.ask(format!("set k {exptime} {exptime} 1\r\nx\r\n")), "STORED\r\n");
        let told = ttl("p:k:s");
        let seconds: u32 =
            told.trim().strip_prefix("HD t").and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("{told}"));
        assert!(seconds <= most && seconds + 30 > most, "{exptime}: {seconds}");
    }
    assert_eq!(client.ask("get k\r\n"), "VALUE k 50 1\r\nx\r\nEND\r\n");
    assert_eq!(client.ask("touch k 500\r\n"), "TOUCHED\r\n");
    assert_eq!(client.ask("gat 20 k\r\n"), "VALUE k 50 1\r\nx\r\nEND\r\n");
    assert!(ttl("p:k:s").starts_with("HD t"));
    assert_eq!(client.ask("delete k\r\n"), "DELETED\r\n");
    assert_eq!(a.client().ask("get p:k:s\r\n"), "END\r\n");
}

#[test]
fn rates_run_out() {
    let (a, b) = two();
    let keyway = Keyway::start(&file(
        &[&a, &b],
        "route: {type: RateLimitRoute, target: PoolRoute|a, rates: {gets_rate: 0.001, gets_burst: 2, sets_rate: 0.001}, fallback: PoolRoute|b}",
    ));
    a.client().set("k", "a");
    b.client().set("k", "b");
    let mut client = keyway.client();
    let told: Vec<String> = (0..4).filter_map(|_| value(&mut client, "k")).collect();
    assert_eq!(told, ["a", "a", "b", "b"]);
    client.set("k", "new");
    client.set("k", "over");
    assert_eq!(value(&mut a.client(), "k").as_deref(), Some("new"));
    assert_eq!(value(&mut b.client(), "k").as_deref(), Some("over"));
    keyway.metric_becomes("keyway_route_events_total{event=\"rate_limited\"}", 3.0);
    // As a key of PoolRoute, without a fallback: a miss.
    let keyway = Keyway::start(&file(&[&a], "route: {type: PoolRoute, pool: a, rates: {gets_rate: 0.001}}"));
    let mut client = keyway.client();
    assert!(client.get("k").is_some());
    assert_eq!(client.ask("get k\r\n"), "END\r\n");
}

#[test]
fn outstanding_requests_wait_for_a_slot() {
    let a = Memcached::start();
    a.client().set("k", "x");
    // A timeout far beyond what the test takes: the server is to be slow, not lost.
    let keyway = Keyway::start(&full_file(&format!(
        "shards: 1\npools: {{a: {{servers: [\"{}\"], timeout_ms: 60000}}}}\nroute: {{type: OutstandingLimitRoute, \
         max_outstanding: 2, max_waiting: 3, max_wait_ms: 60000, target: PoolRoute|a}}",
        a.address()
    )));
    a.freeze();
    let mut clients: Vec<Client> = (0..6).map(|_| keyway.client()).collect();
    for client in &mut clients {
        client.send("get k\r\n");
    }
    keyway.metric_becomes("keyway_route_events_total{event=\"outstanding_queued\"}", 3.0);
    keyway.metric_becomes("keyway_route_events_total{event=\"outstanding_refused\"}", 1.0);
    // One of those that wait goes away; its place is lost to nobody.
    let gone = clients.remove(0);
    drop(gone);
    a.thaw();
    let mut replies: Vec<String> = clients.iter_mut().map(|client| crate::support::shown(&client.reply())).collect();
    replies.sort();
    let refused = replies.iter().filter(|reply| reply.starts_with("SERVER_ERROR keyway: queue_full")).count();
    let served = replies.iter().filter(|reply| reply.starts_with("VALUE k")).count();
    assert!(refused <= 1 && served + refused == 5, "{replies:?}");
    // No slot is lost.
    for client in &mut clients {
        assert!(client.get("k").is_some());
    }
}

#[test]
fn a_cold_server_gets_a_part_of_the_gets() {
    let (a, b) = two();
    let keyway = Keyway::start(&file(
        &[&a, &b],
        "route: {type: PoolRoute, pool: a, slow_warmup: {failoverTarget: PoolRoute|b, settings: {min_requests: 20}}}",
    ));
    b.client().set("k", "warm");
    let mut client = keyway.client();
    let hits = (0..200).filter(|_| client.get("k").is_some()).count();
    assert!(hits > 100, "{hits}");
    client.set("k", "stored");
    assert_eq!(value(&mut a.client(), "k").as_deref(), Some("stored"), "what stores goes to the cold one");
    eventually("it is warm, and gets all", || {
        (0..200).all(|_| value(&mut client, "k").as_deref() == Some("stored")).then_some(())
    });
}

#[test]
fn routes_that_throw_away_and_look_on() {
    let a = Memcached::start();
    let keyway = Keyway::start(&file(
        &[&a],
        "route:
  type: OperationSelectorRoute
  operation_policies:
    set: DevNullRoute
    delete: {type: BlackholeRoute, timeout_ms: 20}
  default_policy: LoggingRoute|PoolRoute|a
",
    ));
    let mut client = keyway.client();
    assert_eq!(client.store("set", "k", "x"), "NOT_STORED\r\n");
    keyway.metric_becomes("keyway_route_events_total{event=\"dev_null\"}", 1.0);
    assert_eq!(client.ask("delete k\r\n"), "SERVER_ERROR keyway: timeout\r\n");
    assert_eq!(client.store("add", "seen-key", "x"), "STORED\r\n");
    assert!(keyway.logged("seen-key").contains("add seen-key: stored"));
}

#[test]
fn hash_route_spreads_keys_over_any_children() {
    let (a, b) = two();
    let route = "{type: HashRoute, hash_func: Crc32, children: [PoolRoute|a, {type: ModifyKeyRoute, ensure_key_prefix: \"p:\", target: PoolRoute|b}]}";
    let keyway = Keyway::start(&file(&[&a, &b], &format!("route: {route}")));
    let mut client = keyway.client();
    let keys = keys(100);
    for key in &keys {
        client.set(key, "x");
    }
    let prefixed: Vec<String> = keys.iter().map(|key| format!("p:{key}")).collect();
    let shares = [held(&a, &keys), held(&b, &prefixed)];
    assert!(shares[0] + shares[1] == 100 && shares[0] > 20 && shares[1] > 20, "{shares:?}");
    // The pool's own servers, by another hash than the pool's.
    let addresses = format!("\"{}\", \"{}\"", a.address(), b.address());
    let pools = format!("pools: {{web: {{servers: [{addresses}]}}}}\n");
    for hash in ["Crc32", "{distribution: jump}", "{hash_func: Rendezvous, tags: [x, y]}"] {
        for server in [&a, &b] {
            server.client().ask("flush_all\r\n");
        }
        let keyway = Keyway::start(&full_file(&format!("{pools}route: {{type: PoolRoute, pool: web, hash: {hash}}}")));
        let mut client = keyway.client();
        for key in &keys {
            client.set(key, "x");
            assert_eq!(value(&mut client, key).as_deref(), Some("x"));
        }
        assert!(held(&a, &keys) > 10 && held(&b, &keys) > 10, "{hash}");
    }
}
