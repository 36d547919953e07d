//! What is counted is what was done, to the last request.

use crate::support::{Keyway, Memcached, eventually, gomcrouter_file, pool_file};

#[test]
fn counts_are_those_of_the_load() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_file(&[&server], "PoolRoute|web", "shards: 2"));
    // Over many clients, so that both shards have some.
    for number in 0..16 {
        let mut client = keyway.client();
        client.set(&format!("k{number}"), "value");
        client.set(&format!("n{number}"), "5");
        assert!(client.get(&format!("k{number}")).is_some());
        assert!(client.get("none").is_none());
        client.ask(format!("get k{number} none n{number}\r\n"));
        client.ask("get none nothing\r\n");
        client.ask(format!("gets k{number}\r\n"));
        client.ask(format!("incr n{number} 1\r\n"));
        client.ask("decr none 1\r\n");
        client.ask(format!("touch n{number} 0\r\n"));
        client.ask(format!("delete n{number} noreply\r\ndelete n{number}\r\n"));
        client.ask("version\r\n");
        client.ask("nonsense\r\n");
        client.ask("set x 0 0 none\r\n");
    }
    let commands = [
        ("set", 32.0),
        ("get", 64.0),
        ("gets", 16.0),
        ("incr", 16.0),
        ("decr", 16.0),
        ("touch", 16.0),
        ("delete", 32.0),
        ("version", 16.0),
    ];
    keyway.metric_becomes("keyway_requests_total{command=\"version\"}", 16.0);
    keyway.metric_becomes("keyway_protocol_errors_total{error=\"bad_line\"}", 16.0);
    let metrics = keyway.metrics();
    for (command, count) in commands {
        let found = metrics.find(&format!("keyway_requests_total{{command=\"{command}\"}}"));
        assert_eq!(found, Some(count), "{command}");
        let timed = metrics.find(&format!("keyway_request_duration_seconds_count{{command=\"{command}\"}}"));
        assert_eq!(timed, Some(count), "{command} timed");
    }
    let address = server.address();
    let expected = [
        // By key: of each client's gets of one, one, three and two.
        ("keyway_request_hits_total{command=\"get\"}".to_string(), 16.0 * 3.0),
        ("keyway_request_misses_total{command=\"get\"}".to_string(), 16.0 * 4.0),
        ("keyway_request_hits_total{command=\"gets\"}".to_string(), 16.0),
        ("keyway_protocol_errors_total{error=\"unknown_command\"}".to_string(), 16.0),
        ("keyway_clients_accepted_total".to_string(), 16.0),
        (format!("keyway_upstream_requests_total{{server=\"{address}\",command=\"set\"}}"), 32.0),
        (format!("keyway_upstream_requests_total{{server=\"{address}\",command=\"get\"}}"), 16.0 * 7.0),
        (format!("keyway_upstream_hits_total{{server=\"{address}\"}}"), 16.0 * 4.0),
        (format!("keyway_upstream_misses_total{{server=\"{address}\"}}"), 16.0 * 4.0),
        (format!("keyway_server_up{{server=\"{address}\"}}"), 1.0),
        ("keyway_pool_servers{pool=\"web\"}".to_string(), 1.0),
        ("keyway_pool_servers_up{pool=\"web\"}".to_string(), 1.0),
        ("keyway_shards".to_string(), 2.0),
        ("keyway_config_generation".to_string(), 1.0),
    ];
    for (series, value) in expected {
        assert_eq!(metrics.find(&series), Some(value), "{series}");
    }
    assert_eq!(metrics.sum("keyway_upstream_failures_total"), 0.0);
    keyway.metric_becomes("keyway_clients_closed_total{reason=\"done\"}", 16.0);
    assert_eq!(keyway.metrics().sum("keyway_clients"), 0.0);
}

#[test]
fn failures_and_failovers_are_counted() {
    let (mut first, second) = (Memcached::start(), Memcached::start());
    let keyway = Keyway::with(
        &gomcrouter_file(&[&first, &second]),
        &["-l", "tcp://127.0.0.1:0", "-L", "127.0.0.1:0", "-n", "1"],
    );
    let mut client = keyway.client();
    for number in 0..10 {
        second.client().set(&format!("k{number}"), "x");
        assert!(client.get(&format!("k{number}")).is_some());
    }
    keyway.metric_becomes("keyway_failovers_total", 10.0);
    first.kill();
    eventually("the first server is down", || {
        assert!(client.get("k1").is_some());
        let up = keyway.metrics().find(&format!("keyway_server_up{{server=\"{}\"}}", first.address()));
        (up == Some(0.0)).then_some(())
    });
    let metrics = keyway.metrics();
    assert_eq!(metrics.find(&format!("keyway_server_downs_total{{server=\"{}\"}}", first.address())), Some(1.0));
    assert_eq!(metrics.find("keyway_pool_servers_up{pool=\"ordered_pool\"}"), Some(1.0));
    eventually("the failures are counted", || {
        (keyway.metrics().sum("keyway_upstream_failures_total") > 0.0).then_some(())
    });
    assert_eq!(metrics.sum("keyway_request_errors_total"), 0.0, "no client saw any of it");
}

#[test]
fn readiness_follows_servers_and_the_drain() {
    let mut server = Memcached::start();
    let keyway = Keyway::start(&pool_file(&[&server], "DefaultRoute", "health: {interval_ms: 100}"));
    let ready = |status: u16| {
        eventually(&format!("/readyz says {status}"), || (keyway.page("/readyz").0 == status).then_some(()));
    };
    ready(200);
    server.kill();
    ready(503);
    assert!(keyway.page("/readyz").1.contains("none of 1 servers is up"));
    server.restart();
    ready(200);
    assert_eq!(keyway.page("/healthz"), (200, "ok\n".to_string()));
    assert_eq!(keyway.page("/nothing").0, 404);
}

#[test]
fn statistics_have_memcacheds_names() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_file(&[&server], "PoolRoute|web", "shards: 1"));
    let mut client = keyway.client();
    client.set("k", "v");
    assert_eq!(client.ask("get k none\r\n"), "VALUE k 0 1\r\nv\r\nEND\r\n");
    let stats = eventually("a summary with all three", || {
        let stats = client.ask("stats\r\n");
        (stats.contains("STAT get_misses 1\r\n") && stats.contains("STAT cmd_get 2\r\n")).then_some(stats)
    });
    for line in
        ["STAT cmd_set 1", "STAT get_hits 1", "STAT curr_connections 1", "STAT total_connections 1", "STAT threads 1"]
    {
        assert!(stats.contains(&format!("{line}\r\n")), "{line} in {stats}");
    }
    assert!(stats.contains(&format!("STAT pid {}\r\n", keyway.id())));
    let real = server.client().ask("stats\r\n");
    // Every name is one that memcached has too (its own proxy's among them), so that exporters know it.
    let names = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("STAT ")?.split(' ').next().map(str::to_owned)).collect()
    };
    let known = names(&real);
    for name in names(&stats) {
        assert!(known.contains(&name) || name.starts_with("proxy_"), "{name}");
    }
    assert_eq!(client.ask("stats items\r\n"), "END\r\n");
    assert!(client.ask("stats settings\r\n").contains("STAT maxconns "));
}
