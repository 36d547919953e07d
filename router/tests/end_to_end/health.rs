//! One health for all shards and pools, fail-open, and servers that come back by and by.

use crate::support::{Client, Keyway, Memcached, eventually, full_file};

/// So rare that no check finds anything out by itself.
const NO_CHECKS: &str = "interval_ms: 3600000";

fn down(server: &Memcached) -> String {
    format!("keyway_server_up{{server=\"{}\"}}", server.address())
}

/// Waits until the first check has shown that the servers are there.
fn proven(keyway: &Keyway, servers: &[&Memcached]) {
    for server in servers {
        let checks = format!("keyway_health_checks_total{{server=\"{}\",result=\"ok\"}}", server.address());
        eventually("the first check", || (keyway.metrics().find(&checks)? > 0.0).then_some(()));
    }
}

/// A client on each of two shards, each known to be there.
fn clients_of_both_shards(keyway: &Keyway) -> [Client; 2] {
    let mut clients: [Vec<Client>; 2] = [Vec::new(), Vec::new()];
    for number in 1.. {
        let client = keyway.client();
        keyway.metric_becomes("keyway_clients_accepted_total", f64::from(number));
        let of_first = keyway.metrics().find("keyway_clients{shard=\"0\"}").unwrap_or(0.0);
        clients[usize::from(of_first <= clients[0].len() as f64)].push(client);
        if clients.iter().all(|clients| !clients.is_empty()) {
            break;
        }
    }
    clients.map(|mut clients| clients.remove(0))
}

#[test]
fn what_one_shard_finds_out_all_shards_know() {
    for frozen in [true, false] {
        let mut server = Memcached::start();
        let keyway = Keyway::start(&full_file(&format!(
            "pools: {{web: {{servers: [\"{}\"], timeout_ms: 300}}}}\nhealth: {{{NO_CHECKS}, probe_initial_ms: 3600000}}\n\
             shards: 2\nroute: DefaultRoute",
            server.address()
        )));
        proven(&keyway, &[&server]);
        let [mut finder, mut other] = clients_of_both_shards(&keyway);
        for client in [&mut finder, &mut other] {
            client.set("k", "v");
        }
        if frozen {
            server.freeze()
        } else {
            server.kill()
        }
        eventually("one shard finds it down", || {
            (finder.ask("get k\r\n") == "SERVER_ERROR keyway: no healthy server\r\n").then_some(())
        });
        keyway.metric_becomes(&down(&server), 0.0);
        // The other shard never asked it since.
        assert_eq!(other.ask("get k\r\n"), "SERVER_ERROR keyway: no healthy server\r\n", "frozen: {frozen}");
        let (_, events) = keyway.page("/events");
        let reason = if frozen {
            "the last one: no reply in time (shard "
        } else {
            "the last one: connecting was refused (shard "
        };
        assert!(events.contains(reason), "{events}");
        let cause = if frozen { "timeout" } else { "refused" };
        let causes = format!("keyway_down_causes_total{{found_by=\"requests\",cause=\"{cause}\"}}");
        assert_eq!(keyway.metrics().find(&causes), Some(1.0));
        assert!(keyway.log().contains(&format!("server {} is down: ", server.address())));
    }
}

#[test]
fn a_server_in_two_pools_has_one_health() {
    let server = Memcached::start();
    let keyway = Keyway::start(&full_file(&format!(
        "pools:\n  fast: {{servers: [\"{0}\"], timeout_ms: 300}}\n  slow: {{servers: [\"{0}\"], timeout_ms: 20000}}\n\
         health: {{{NO_CHECKS}}}\nshards: 1\nroute:\n  type: OperationSelectorRoute\n  \
         operation_policies: {{get: PoolRoute|fast}}\n  default_policy: PoolRoute|slow",
        server.address()
    )));
    proven(&keyway, &[&server]);
    let mut client = keyway.client();
    client.set("k", "v");
    server.freeze();
    eventually("the pool with the short timeout finds it down", || {
        (client.ask("get k\r\n") == "SERVER_ERROR keyway: unavailable\r\n").then_some(())
    });
    keyway.metric_becomes(&down(&server), 0.0);
    // Else this one would be answered after its 20 s, with a timeout.
    assert_eq!(client.ask("set k 0 0 1\r\nw\r\n"), "SERVER_ERROR keyway: unavailable\r\n");
    server.thaw();
    eventually("it is back in both", || (client.ask("set k 0 0 1\r\nx\r\n") == "STORED\r\n").then_some(()));
    assert_eq!(client.get("k").as_deref(), Some(&b"x"[..]));
    let (_, events) = keyway.page("/events");
    for (words, count) in
        [(" is down: ", 1), (" passes checks again after ", 1), (" s down: 2 checks in a row passed", 1)]
    {
        assert_eq!(events.matches(words).count(), count, "{words:?} in {events}");
    }
}

#[test]
fn beyond_its_threshold_a_pool_asks_servers_that_are_down() {
    let mut servers = [Memcached::start(), Memcached::start(), Memcached::start()];
    let addresses = servers.each_ref().map(|server| format!("\"{}\"", server.address())).join(", ");
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [{addresses}], timeout_ms: 300, \
         tko_tracker: {{num_tko_threshold_upper: 1, num_tko_threshold_lower: 0}}}}}}\n\
         health: {{interval_ms: 200, timeout_ms: 300, failures: 2}}\nshards: 1\nroute: PoolRoute|web"
    )));
    proven(&keyway, &servers.each_ref());
    let mut client = keyway.client();
    // A key of each server.
    let keys = servers.each_ref().map(|server| {
        (0..)
            .map(|number| format!("key-{number}"))
            .find(|key| {
                client.set(key, "v");
                server.client().get(key).is_some()
            })
            .expect("every server has keys")
    });
    let mut get = |at: usize| client.ask(format!("get {}\r\n", keys[at]));
    servers[0].kill();
    keyway.metric_becomes("keyway_pool_fails_open{pool=\"web\"}", 1.0);
    assert_eq!(get(0), "SERVER_ERROR keyway: unavailable\r\n");
    servers[1].freeze();
    keyway.metric_becomes(&down(&servers[1]), 0.0);
    // It is asked: it would be `unavailable` otherwise.
    assert_eq!(get(1), "SERVER_ERROR keyway: timeout\r\n");
    assert_eq!(get(0), "SERVER_ERROR keyway: unavailable\r\n");
    assert!(get(2).starts_with("VALUE "));
    assert_eq!(keyway.metrics().find("keyway_pool_servers_left_out{pool=\"web\"}"), Some(1.0));
    let (_, events) = keyway.page("/events");
    assert!(events.contains(&format!("pool web asks server {} although it is down", servers[1].address())), "{events}");
    servers[1].thaw();
    servers[0].restart();
    keyway.metric_becomes("keyway_pool_fails_open{pool=\"web\"}", 0.0);
    assert_eq!(get(0), "END\r\n");
    assert!(get(1).starts_with("VALUE "));
}

#[test]
fn an_ejected_server_gets_its_keys_back_by_and_by() {
    let mut servers = [Memcached::start(), Memcached::start()];
    let addresses = servers.each_ref().map(|server| format!("\"{}\"", server.address())).join(", ");
    // So slow that the first tenth is all there is while the test runs.
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [{addresses}], on_down: rehash, slow_start_ms: 3600000}}}}\n\
         health: {{interval_ms: 200}}\nshards: 2\nroute: PoolRoute|web"
    )));
    proven(&keyway, &servers.each_ref());
    let mut client = keyway.client();
    let keys: Vec<String> = (0..1000).map(|number| format!("key-{number}")).collect();
    let mut set_all = || {
        for key in &keys {
            client.set(key, key);
        }
    };
    set_all();
    let home = servers[0].stat("curr_items");
    assert!(home > 300, "{home} of 1000 keys");
    servers[0].kill();
    keyway.metric_becomes("keyway_pool_servers_left_out{pool=\"web\"}", 1.0);
    set_all();
    assert_eq!(servers[1].stat("curr_items"), 1000);
    servers[0].restart();
    keyway.metric_becomes("keyway_pool_servers_left_out{pool=\"web\"}", 0.0);
    set_all();
    let back = servers[0].stat("curr_items");
    assert!((home / 50..home / 4).contains(&back), "{back} of {home} keys are a tenth");
    // The same ones each time.
    set_all();
    assert_eq!(servers[0].stat("curr_items"), back);
    let mut client = keyway.client();
    for key in &keys {
        assert_eq!(client.get(key).as_deref(), Some(key.as_bytes()));
    }
    assert_eq!(keyway.metrics().find("keyway_health_events_total{event=\"returns\"}"), Some(1.0));
}
