//! Keys over several servers: where twemproxy puts them, and several of them in one get.

use crate::support::{Folder, Keyway, Memcached, Process, eventually, full_file};
use std::collections::BTreeMap;
use std::process::Command;

fn servers() -> Vec<Memcached> {
    (0..3).map(|_| Memcached::start()).collect()
}

/// Which server holds which of the keys.
fn homes(servers: &[Memcached], keys: &[String]) -> BTreeMap<String, usize> {
    let mut homes = BTreeMap::new();
    for (at, server) in servers.iter().enumerate() {
        let mut client = server.client();
        for key in keys {
            if client.get(key).is_some() {
                assert_eq!(homes.insert(key.clone(), at), None, "{key} is on two servers");
            }
        }
    }
    homes
}

fn keys() -> Vec<String> {
    (0..1000).map(|number| format!("{}:{number}", ["user", "session", "ü", "x"][number % 4])).collect()
}

#[test]
fn ketama_puts_keys_where_twemproxy_puts_them() {
    let servers = servers();
    let folder = Folder::new();
    // Names and weights, as in a fleet that has a history.
    let port = crate::support::any_port([127, 0, 0, 1].into());
    let of_twemproxy: String = servers
        .iter()
        .enumerate()
        .map(|(at, server)| format!("    - {}:{} cache-{at}\n", server.address(), at + 1))
        .collect();
    let file = folder.write(
        "nutcracker.yml",
        format!(
            "web:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  timeout: 5000\n  servers:\n{of_twemproxy}"
        ),
    );
    let stats = crate::support::any_port([127, 0, 0, 1].into()).to_string();
    let mut command = Command::new("nutcracker");
    command.args(["-s", &stats, "-a", "127.0.0.1", "-c"]).arg(&file);
    let _twemproxy = Process::start(&mut command, folder.path().join("nutcracker"));
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut client = eventually("nutcracker listens", || crate::support::Client::try_connect(address).ok());
    let keys = keys();
    for key in &keys {
        client.set(key, "twemproxy");
    }
    let theirs = homes(&servers, &keys);
    assert_eq!(theirs.len(), keys.len());

    let of_keyway: Vec<String> = servers
        .iter()
        .enumerate()
        .map(|(at, server)| format!("{{address: \"{}\", name: cache-{at}, weight: {}}}", server.address(), at + 1))
        .collect();
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [{}], hash: {{function: fnv1a_64, distribution: ketama}}}}}}\nroute: PoolRoute|web",
        of_keyway.join(", ")
    )));
    let mut client = keyway.client();
    for key in &keys {
        assert_eq!(client.get(key).as_deref(), Some(&b"twemproxy"[..]), "{key} is looked for elsewhere");
        assert_eq!(client.ask(format!("delete {key}\r\n")), "DELETED\r\n");
        client.set(key, "keyway");
    }
    assert_eq!(homes(&servers, &keys), theirs);
}

#[test]
fn gets_of_many_keys_over_all_servers() {
    let mut servers = servers();
    for hash in ["{function: ch3}", "{distribution: ketama}"] {
        let addresses: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
        let keyway = Keyway::start(&full_file(&format!(
            "pools: {{web: {{servers: [{}], hash: {hash}}}}}\nroute: PoolRoute|web\nhealth: {{interval_ms: 100}}",
            addresses.join(", ")
        )));
        let mut client = keyway.client();
        for server in &servers {
            server.client().ask("flush_all\r\n");
        }
        let keys = keys();
        for (at, key) in keys.iter().enumerate() {
            if at % 5 != 0 {
                client.set(key, key);
            }
        }
        let homes = homes(&servers, &keys);
        for server in 0..servers.len() {
            assert!(homes.values().filter(|home| **home == server).count() > 100, "{hash} spreads");
        }
        // Again and again on one connection, with counts that change; every hit, once, and one END.
        for count in [1000, 1, 2, 7, 100, 3, 999, 50] {
            let line = keys[..count].join(" ");
            let reply = client.ask(format!("get {line}\r\n"));
            let mut found: Vec<&str> =
                reply.lines().filter_map(|line| line.strip_prefix("VALUE ")?.split(' ').next()).collect();
            found.sort_unstable();
            let mut expected: Vec<&str> =
                keys[..count].iter().enumerate().filter(|(at, _)| at % 5 != 0).map(|(_, key)| key.as_str()).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{count} keys");
            assert!(reply.ends_with("END\r\n") && reply.matches("END\r\n").count() == 1);
        }
        // The same key twice is answered twice, as memcached does.
        let key = &keys[1];
        let reply = client.ask(format!("gets {key} {key} {}\r\n", keys[2]));
        assert_eq!(reply.matches(&format!("VALUE {key} ")).count(), 2, "{reply}");
        // One server down: an error in the place of END, never a missing reply.
        servers[1].kill();
        let reply = eventually("an error takes END's place", || {
            let reply = client.ask(format!("get {}\r\n", keys.join(" ")));
            (!reply.ends_with("END\r\n")).then_some(reply)
        });
        assert!(reply.lines().last().is_some_and(|line| line.starts_with("SERVER_ERROR keyway: ")), "{reply}");
        servers[1].restart();
        eventually("all is well again", || {
            client.ask(format!("get {}\r\n", keys.join(" "))).ends_with("END\r\n").then_some(())
        });
    }
}

#[test]
fn flush_all_reaches_every_server() {
    let servers = servers();
    let addresses: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [{}]}}}}\nroute:\n  type: OperationSelectorRoute\n  operation_policies:\n    \
         flush_all: AllFastestRoute\n  default_policy: PoolRoute|web",
        addresses.join(", ")
    )));
    let mut client = keyway.client();
    let keys = keys();
    for key in &keys {
        client.set(key, "x");
    }
    assert_eq!(homes(&servers, &keys).len(), 1000);
    assert_eq!(client.ask("flush_all\r\n"), "OK\r\n");
    eventually("all are empty", || homes(&servers, &keys).is_empty().then_some(()));
}

#[test]
fn keys_of_a_server_that_is_down_go_elsewhere_when_asked_to() {
    let mut servers = servers();
    let addresses: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [{}], hash: {{distribution: ketama}}, on_down: rehash}}}}\nroute: PoolRoute|web\n\
         health: {{interval_ms: 100}}",
        addresses.join(", ")
    )));
    let mut client = keyway.client();
    let keys = keys();
    for key in &keys {
        client.set(key, "before");
    }
    let before = homes(&servers, &keys);
    servers[0].kill();
    keyway.metric_becomes(&format!("keyway_server_up{{server=\"{}\"}}", servers[0].address()), 0.0);
    for key in &keys {
        match before[key] {
            0 => client.set(key, "elsewhere"),
            _ => assert!(client.get(key).is_some(), "{key} stays where it was"),
        }
        assert!(client.get(key).is_some());
    }
}
