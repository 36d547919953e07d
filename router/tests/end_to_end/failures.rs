//! Servers that hang, die and come back under load: one reply for each request, in order, and never another's.

use crate::support::{Keyway, Load, Memcached, eventually, full_file};
use std::time::{Duration, Instant};

fn replicas(first: &Memcached, second: &Memcached, rest: &str) -> String {
    full_file(&format!(
        "pools: {{web: {{servers: [\"{}\", \"{}\"], timeout_ms: 1000, deadline_ms: 10000}}}}\nshards: 2\n{rest}\n\
         health: {{interval_ms: 200, timeout_ms: 1000}}\nroute:\n  type: OperationSelectorRoute\n  operation_policies:\n    \
         get: MissFailoverRoute\n    set: AllFastestRoute\n",
        first.address(),
        second.address()
    ))
}

#[test]
fn a_server_that_hangs_costs_its_timeout_and_crosses_no_replies() {
    let (first, second) = (Memcached::start(), Memcached::start());
    let keyway = Keyway::start(&replicas(&first, &second, ""));
    second.client().set("of-the-second", "here");
    let load = Load::start(keyway.socket(), 8);
    load.goes_on(2000);
    let mut client = keyway.client();
    first.freeze();
    // The first request to a hung server: its timeout, then the second one.
    let asked = Instant::now();
    assert_eq!(client.get("of-the-second").as_deref(), Some(&b"here"[..]));
    let took = asked.elapsed();
    // The timeout is 1 s and the deadline 10 s; the rest is for a loaded machine.
    assert!(took < Duration::from_secs(9), "the answer took {took:?}");
    load.goes_on(2000);
    keyway.metric_becomes(&format!("keyway_server_up{{server=\"{}\"}}", first.address()), 0.0);
    // Once it is known to hang it costs nothing.
    load.goes_on(5000);
    first.thaw();
    keyway.metric_becomes(&format!("keyway_server_up{{server=\"{}\"}}", first.address()), 1.0);
    load.goes_on(5000);
    let tally = load.finish();
    assert_eq!((tally.errors, tally.unanswered), (0, 0), "{tally:?}: the second server was there all the time");
    assert_eq!(tally.good, tally.sent);
}

#[test]
fn a_lone_server_that_hangs_times_out_and_recovers() {
    let server = Memcached::start();
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [\"{}\"], timeout_ms: 1000}}}}\nhealth: {{interval_ms: 200, timeout_ms: 1000}}\n\
         shards: 1\nroute: DefaultRoute",
        server.address()
    )));
    let mut client = keyway.client();
    client.set("k", "v");
    server.freeze();
    // Nothing else goes on in this router: the timeout must come by itself, for each of a pipeline.
    client.send("get k\r\nget k\r\nversion\r\nset k 0 0 1\r\nw\r\n");
    for expected in ["SERVER_ERROR keyway: timeout\r\n", "SERVER_ERROR keyway: timeout\r\n", "VERSION", "SERVER_ERROR"]
    {
        let reply = crate::support::shown(&client.reply());
        assert!(reply.starts_with(expected), "{reply:?} instead of {expected:?}");
    }
    eventually("the server is known to hang", || {
        (client.ask("get k\r\n") == "SERVER_ERROR keyway: no healthy server\r\n").then_some(())
    });
    server.thaw();
    eventually("it is used again", || client.ask("get k\r\n").starts_with("VALUE k 0 1\r\n").then_some(()));
    // The set that timed out may have been done late; nothing of it reaches a client.
    for number in 0..200 {
        let key = format!("after-{number}");
        client.set(&key, &key);
        assert_eq!(client.get(&key), Some(key.into_bytes()));
    }
}

#[test]
fn a_server_killed_under_load_answers_every_request_once() {
    let mut server = Memcached::start();
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [\"{}\"], timeout_ms: 2000}}}}\nhealth: {{interval_ms: 200}}\nroute: DefaultRoute",
        server.address()
    )));
    let load = Load::start(keyway.socket(), 8);
    for _ in 0..3 {
        load.goes_on(3000);
        server.kill();
        // Errors are answers too.
        let answered = load.answered();
        eventually("requests are answered while it is dead", || (load.answered() > answered + 5000).then_some(()));
        server.restart();
        let back = Instant::now();
        load.goes_on(1000);
        assert!(back.elapsed() < Duration::from_secs(10), "it came back after {:?}", back.elapsed());
    }
    let tally = load.finish();
    assert_eq!(tally.unanswered, 0, "{tally:?}");
    assert_eq!(tally.good + tally.errors, tally.sent);
    keyway.metric_becomes("keyway_reply_slots", 0.0);
}

#[test]
fn the_first_request_after_a_restart_succeeds() {
    let mut server = Memcached::start();
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [\"{}\"]}}}}\nshards: 1\nroute: DefaultRoute",
        server.address()
    )));
    let mut client = keyway.client();
    client.set("k", "v");
    for _ in 0..5 {
        // Nobody asked while it was gone.
        server.restart();
        client.set("k", "v");
        server.restart();
        assert_eq!(client.get("k"), None);
    }
}

#[test]
fn a_killed_server_of_two_costs_no_error() {
    let (mut first, second) = (Memcached::start(), Memcached::start());
    let keyway = Keyway::start(&replicas(&first, &second, ""));
    let load = Load::start(keyway.socket(), 8);
    for _ in 0..3 {
        load.goes_on(2000);
        first.kill();
        load.goes_on(5000);
        first.restart();
        keyway.metric_becomes(&format!("keyway_server_up{{server=\"{}\"}}", first.address()), 1.0);
    }
    let tally = load.finish();
    assert_eq!((tally.errors, tally.unanswered), (0, 0), "{tally:?}");
}

#[test]
fn a_server_that_is_not_there_at_the_start_is_used_when_it_comes() {
    let mut server = Memcached::start();
    server.kill();
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [\"{}\"]}}}}\nshards: 1\nroute: DefaultRoute",
        server.address()
    )));
    let mut client = keyway.client();
    assert!(client.ask("get k\r\n").starts_with("SERVER_ERROR keyway: "));
    assert_eq!(keyway.page("/healthz").0, 200);
    eventually("it is not ready", || (keyway.page("/readyz").0 == 503).then_some(()));
    server.restart();
    eventually("it is ready", || (keyway.page("/readyz").0 == 200).then_some(()));
    eventually("the server is used", || (client.ask("get k\r\n") == "END\r\n").then_some(()));
}

#[test]
fn replies_that_came_before_the_server_died_are_delivered() {
    let servers = ["STORED\r\n"].map(crate::support::Scripted::start);
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [\"{}\"]}}}}\nshards: 1\nroute: DefaultRoute",
        servers[0].address()
    )));
    let mut client = keyway.client();
    // Answered, then the connection closes with the next requests under way.
    client.send("set a 0 0 1\r\nx\r\n");
    assert_eq!(crate::support::shown(&client.reply()), "STORED\r\n");
    servers[0].say(None);
    client.send("set b 0 0 1\r\nx\r\nversion\r\nset c 0 0 1\r\nx\r\n");
    for expected in ["SERVER_ERROR keyway: ", "VERSION ", "SERVER_ERROR keyway: "] {
        let reply = crate::support::shown(&client.reply());
        assert!(reply.starts_with(expected), "{reply:?} instead of {expected:?}");
    }
    assert!(!servers[0].heard().is_empty());
}
