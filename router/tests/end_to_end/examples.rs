//! Every folder of `examples/` does what its README says, with the test's servers in the place of the ones it names.

use crate::support::{Client, Folder, Keyway, Memcached, eventually};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// An example's file, its servers (10.0.0.1 and on) replaced by these, its ports by free ones.
fn example(name: &str, servers: &[&Memcached]) -> String {
    let path = folder().join(name).join("router.yaml");
    let mut text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (at, server) in servers.iter().enumerate() {
        let named = format!("10.0.0.{}:11211", at + 1);
        assert!(text.contains(&named), "{name} names {named}");
        text = text.replace(&named, &server.address());
    }
    assert!(!text.contains(&format!("10.0.0.{}:", servers.len() + 1)), "{name} names more servers than are given");
    text = text.replace("tcp://127.0.0.1:11211", "tcp://127.0.0.1:0").replace("127.0.0.1:9090", "127.0.0.1:0");
    if text.contains("listeners:") { text + "\nadmin: {address: off}\n" } else { text }
}

fn three() -> [Memcached; 3] {
    [Memcached::start(), Memcached::start(), Memcached::start()]
}

#[test]
fn every_example_has_a_test_here_a_file_and_a_readme() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).expect("examples").flatten() {
        assert!(entry.path().join("router.yaml").is_file(), "{}", entry.path().display());
        assert!(entry.path().join("README.md").is_file(), "{}", entry.path().display());
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["embedded", "failover", "replicated", "sharded", "unix-socket"]);
}

#[test]
fn replicated() {
    let [mut first, second, _] = three();
    let keyway =
        Keyway::with(&example("replicated", &[&first, &second]), &["-l", "tcp://127.0.0.1:0", "-L", "127.0.0.1:0"]);
    let mut client = keyway.client();
    for number in 0..100 {
        client.set(&format!("k{number}"), "v");
    }
    eventually("both have all", || (second.stat("curr_items") == 100).then_some(()));
    first.kill();
    for number in 0..100 {
        assert!(client.get(&format!("k{number}")).is_some());
        client.set(&format!("k{number}"), "w");
    }
    first.restart();
    for number in 0..100 {
        assert_eq!(client.get(&format!("k{number}")).as_deref(), Some(&b"w"[..]));
    }
}

#[test]
fn sharded() {
    let servers = three();
    let keyway = Keyway::start(&example("sharded", &servers.each_ref()));
    let mut client = keyway.client();
    for number in 0..1000 {
        client.set(&format!("k{number}"), "v");
    }
    let items = servers.each_ref().map(|server| server.stat("curr_items"));
    assert_eq!(items.iter().sum::<u64>(), 1000);
    assert!(items[2] > items[0] && items[2] > items[1], "{items:?}: the third has twice the weight");
    client.set("{user:1}:name", "x");
    client.set("{user:1}:mail", "x");
    let has = |server: &Memcached, key: &str| server.client().get(key).is_some();
    assert!(servers.iter().any(|server| has(server, "{user:1}:name") && has(server, "{user:1}:mail")));
    assert_eq!(client.ask("flush_all\r\n"), "OK\r\n");
    let empty = |server: &Memcached| (0..1000).all(|number| server.client().get(&format!("k{number}")).is_none());
    eventually("all are flushed", || servers.iter().all(|server| server.stat("cmd_flush") == 1).then_some(()));
    assert!(servers.iter().take(1).all(empty));
}

#[test]
fn failover() {
    let [mut first, second, spare] = three();
    let keyway = Keyway::start(&example("failover", &[&first, &second, &spare]));
    let mut client = keyway.client();
    for number in 0..200 {
        client.set(&format!("k{number}"), "v");
    }
    assert!(first.stat("curr_items") > 50 && second.stat("curr_items") > 50);
    assert_eq!(spare.stat("cmd_set"), 0);
    let on_second = second.stat("curr_items");
    first.kill();
    keyway.metric_becomes(&format!("keyway_server_up{{server=\"{}\"}}", first.address()), 0.0);
    for number in 0..200 {
        client.set(&format!("k{number}"), "w");
        assert_eq!(client.get(&format!("k{number}")).as_deref(), Some(&b"w"[..]));
    }
    assert_eq!(spare.stat("curr_items") + on_second, 200, "the spare has those of the dead one alone");
    first.restart();
    keyway.metric_becomes(&format!("keyway_server_up{{server=\"{}\"}}", first.address()), 1.0);
    for number in 0..200 {
        client.set(&format!("k{number}"), "x");
    }
    assert_eq!(first.stat("curr_items") + on_second, 200, "they went back");
}

#[test]
fn unix_socket() {
    let [first, second, _] = three();
    let folder = Folder::new();
    let path = folder.path().join("memcached.sock");
    let file = example("unix-socket", &[&first, &second]);
    let file = file.replace("/run/keyway/memcached.sock", &path.to_string_lossy());
    let _keyway = Keyway::start(&file);
    let mut client = Client::connect_unix(&path);
    for number in 0..200 {
        client.set(&format!("k{number}"), "v");
    }
    assert_eq!(first.stat("curr_items") + second.stat("curr_items"), 200);
    client.send("quit\r\n");
    client.expect_end();
}

#[test]
fn embedded() {
    let keyway = Keyway::start(&example("embedded", &[]));
    let mut client = keyway.client();
    for number in 0..200 {
        client.set(&format!("k{number}"), "v");
        assert!(client.get(&format!("k{number}")).is_some());
    }
    for server in ["embedded:a", "embedded:b"] {
        let series = format!("keyway_upstream_requests_total{{server=\"{server}\",command=\"set\"}}");
        eventually("both have a part", || keyway.metrics().find(&series).filter(|count| *count > 50.0));
    }
}
