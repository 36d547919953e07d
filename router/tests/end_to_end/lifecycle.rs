//! Starting and stopping, under load.

use crate::support::{Client, Keyway, Load, Memcached, any_port, eventually, full_file, pool_file, shown};
use std::io::Write;

fn pool_of(server: &Memcached, rest: &str) -> String {
    pool_file(&[server], "PoolRoute|web", rest)
}

#[test]
fn a_drain_answers_what_was_read_and_ends() {
    let server = Memcached::start();
    let mut keyway = Keyway::start(&pool_of(&server, "shards: 2"));
    server.client().set("k", "v");
    let load = Load::start(keyway.socket(), 8);
    let mut idle = keyway.client();
    let mut half = keyway.client();
    half.send("get k\r\nget k");
    assert_eq!(shown(&half.reply()), "VALUE k 0 1\r\nv\r\nEND\r\n");
    load.goes_on(3000);
    keyway.signal("TERM");
    // Every connection ends in order: whole replies, then the end of file.
    let tally = load.join();
    assert_eq!(tally.errors, 0, "{tally:?}");
    assert!(tally.good > 3000);
    idle.expect_end();
    half.expect_end();
    assert_eq!(keyway.wait(), 0);
    assert!(keyway.log().contains("drained: every request that was read is answered"), "{}", keyway.log());
    assert!(Client::try_connect(keyway.socket()).is_err(), "nobody listens any more");
}

#[test]
fn a_drain_waits_for_servers_but_not_for_ever() {
    let server = Memcached::start();
    let mut keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [\"{}\"], timeout_ms: 600000, deadline_ms: 600000}}}}\nlimits: {{drain_ms: 300}}\n\
         health: {{interval_ms: 600000}}\nroute: DefaultRoute",
        server.address()
    )));
    let mut client = keyway.client();
    client.set("k", "v");
    server.freeze();
    client.send("get k\r\n");
    keyway.metric_becomes("keyway_requests_in_flight", 1.0);
    keyway.signal("INT");
    assert!(client.is_cut());
    assert_eq!(keyway.wait(), 0);
    assert!(keyway.log().contains("1 client(s) were cut"), "{}", keyway.log());
    server.thaw();
}

#[test]
fn a_second_signal_ends_at_once() {
    let server = Memcached::start();
    let mut keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [\"{}\"], timeout_ms: 600000, deadline_ms: 600000}}}}\nlimits: {{drain_ms: 600000}}\n\
         health: {{interval_ms: 600000}}\nroute: DefaultRoute",
        server.address()
    )));
    let mut client = keyway.client();
    client.set("k", "v");
    server.freeze();
    client.send("get k\r\n");
    keyway.metric_becomes("keyway_requests_in_flight", 1.0);
    keyway.signal("TERM");
    keyway.logged("stopping: waiting at most 600000 ms");
    eventually("it is not ready while it drains", || (keyway.page("/readyz").0 == 503).then_some(()));
    assert!(keyway.is_running());
    keyway.signal("TERM");
    assert_eq!(keyway.wait(), -15, "by the signal itself");
    server.thaw();
}

#[test]
fn a_second_instance_on_the_same_port_is_refused() {
    let server = Memcached::start();
    for shards in ["1", "2"] {
        let port = any_port([127, 0, 0, 1].into());
        let listen = format!("tcp://127.0.0.1:{port}");
        let keyway = Keyway::with(&pool_of(&server, ""), &["-l", &listen, "-n", shards]);
        for others in ["1", "2"] {
            let mut second = Keyway::launch(&[], &pool_of(&server, ""), &["-l", &listen, "-n", others]);
            assert_eq!(second.wait(), 1);
            let said = second.log();
            assert!(said.contains(&format!("can't listen on 127.0.0.1:{port}: the address is in use")), "{said}");
        }
        keyway.client().set("first", "unharmed");
    }
    // The metrics port too.
    let keyway = Keyway::start(&pool_of(&server, ""));
    let line = keyway.logged("metrics on http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    let mut second = Keyway::launch(&[], &pool_of(&server, ""), &["-L", address]);
    assert_eq!(second.wait(), 1);
    assert!(second.log().contains(&format!("can't serve metrics on tcp://{address}: ")), "{}", second.log());
}

#[test]
fn a_file_that_cannot_be_used_is_refused_with_its_faults() {
    let mut keyway = Keyway::launch(&[], "orderedPool: [a:1]\nroute: {type: NoSuchRoute}\n", &[]);
    assert_eq!(keyway.wait(), 1);
    assert!(keyway.log().contains("router.yaml:2:"), "{}", keyway.log());
    let mut keyway = Keyway::launch(&[], "", &["--no-such-flag"]);
    assert_eq!(keyway.wait(), 2);
}

#[test]
fn unix_sockets_serve_and_are_taken_over_when_nobody_listens() {
    let server = Memcached::start();
    let folder = crate::support::Folder::new();
    let path = folder.path().join("mc.sock");
    let file = pool_of(&server, "shards: 2").replace("tcp://127.0.0.1:0", &format!("unix://{}", path.display()));
    let mut keyway = Keyway::start(&file);
    // One shard accepts and hands round: clients reach both.
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect_unix(&path)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.set(&format!("unix-{number}"), "x");
    }
    for shard in ["0", "1"] {
        eventually("each shard has clients", || {
            keyway.metrics().find(&format!("keyway_clients{{shard=\"{shard}\"}}")).filter(|clients| *clients > 0.0)
        });
    }
    let mut second = Keyway::launch(&[], &file, &[]);
    assert_eq!(second.wait(), 1, "a second instance: {}", second.log());
    clients[0].set("still", "served");
    keyway.signal("KILL");
    keyway.wait();
    // A socket file without a listener is no hindrance. The kernel takes a killed process's ring apart in its own time.
    let keyway = eventually("the path is free", || {
        let mut keyway = Keyway::launch(&[], &file, &[]);
        eventually("it serves or ends", || (keyway.serves() || !keyway.is_running()).then_some(()));
        keyway.is_running().then_some(keyway)
    });
    Client::connect_unix(&path).set("again", "x");
    drop(keyway);
}

#[test]
fn a_restart_finds_its_ports_free() {
    let server = Memcached::start();
    let folder = crate::support::Folder::new();
    let port = any_port([127, 0, 0, 1].into());
    let listeners = format!(
        "listeners: [{{address: \"tcp://127.0.0.1:{port}\"}}, {{address: \"unix://{}\"}}]",
        folder.path().join("mc.sock").display()
    );
    let metrics_port = any_port([127, 0, 0, 1].into());
    let file = pool_of(&server, "shards: 2")
        .replace("listeners: [{address: \"tcp://127.0.0.1:0\"}]", &listeners)
        .replace("127.0.0.1:0", &format!("127.0.0.1:{metrics_port}"));
    for _ in 0..5 {
        let mut keyway = Keyway::start(&file);
        // Answered and closed by the router: this port has a connection in TIME_WAIT too.
        keyway.metrics();
        let mut clients: Vec<Client> = (0..4).map(|_| keyway.client()).collect();
        for client in &mut clients {
            client.set("k", "v");
        }
        keyway.signal("TERM");
        // The router closes first, so it is its side that stays in TIME_WAIT.
        clients.iter_mut().for_each(Client::expect_end);
        drop(clients);
        assert_eq!(keyway.wait(), 0);
    }
}

#[test]
fn ipv6_on_both_sides_and_one_listener_for_both_families() {
    let server = Memcached::with(std::net::Ipv6Addr::LOCALHOST.into(), &[]);
    let file = pool_of(&server, "");
    let keyway = Keyway::start(&file.replace("tcp://127.0.0.1:0", "tcp://[::1]:0"));
    assert!(keyway.socket().is_ipv6());
    keyway.client().set("six", "to six");
    let keyway = Keyway::start(&file.replace("tcp://127.0.0.1:0", "tcp://:0"));
    let port = keyway.socket().port();
    for ip in ["127.0.0.1", "::1"] {
        let address = std::net::SocketAddr::new(ip.parse().expect("an address"), port);
        assert_eq!(Client::connect(address).get("six").as_deref(), Some(&b"to six"[..]), "{ip}");
    }
}

#[test]
fn a_server_by_name() {
    let server = Memcached::start();
    let keyway =
        Keyway::start(&pool_of(&server, "").replace(&server.address(), &format!("localhost:{}", server.port())));
    let mut client = keyway.client();
    eventually("the name is resolved", || (client.ask("set named 0 0 1\r\nx\r\n") == "STORED\r\n").then_some(()));
    assert_eq!(server.client().get("named").as_deref(), Some(&b"x"[..]));
    assert_eq!(keyway.metrics().find("keyway_dns_lookups_total{result=\"ok\"}"), Some(1.0));
}

#[test]
fn what_is_pipelined_before_the_client_finishes_is_answered() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_of(&server, "shards: 1"));
    let mut client = keyway.client();
    let mut bytes = Vec::new();
    for number in 0..5000 {
        write!(bytes, "set k{number} 0 0 1\r\nx\r\nget k{number}\r\n").expect("a vector takes all");
    }
    let mut socket = client.writer();
    let writing = std::thread::spawn(move || {
        socket.write_all(&bytes).expect("all of it is taken");
        socket.shutdown(std::net::Shutdown::Write).expect("shutdown");
    });
    let rest = shown(&client.rest());
    writing.join().expect("the writer");
    assert_eq!(rest.matches("STORED\r\n").count(), 5000);
    assert_eq!(rest.matches("\r\nx\r\nEND\r\n").count(), 5000);
}
