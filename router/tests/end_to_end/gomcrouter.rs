//! gomcrouter's file, its flags and its truth table over the wire.

use crate::support::{Keyway, Memcached, Scripted, eventually, full_file, gomcrouter_file};

const FLAGS: [&str; 4] = ["-l", "tcp://127.0.0.1:0", "-L", "127.0.0.1:0"];

#[test]
fn its_file_works_unchanged() {
    let (mut first, second) = (Memcached::start(), Memcached::start());
    let keyway =
        Keyway::with(&gomcrouter_file(&[&first, &second]), &[&FLAGS[..], &["-n", "1", "-H", "200ms"]].concat());
    assert!(keyway.log().contains("serves with 1 shard(s)"), "-n");
    let mut client = keyway.client();

    // Writes reach both, reads come from the first.
    client.set("both", "1");
    for server in [&first, &second] {
        eventually("the write is everywhere", || server.client().get("both"));
    }
    first.client().set("both", "of the first");
    assert_eq!(client.get("both").as_deref(), Some(&b"of the first"[..]));
    let version = client.ask("version\r\n");
    assert!(version.starts_with("VERSION ") && version.contains("keyway"), "{version}");

    // A miss goes on to the second; a miss on both is one.
    second.client().set("only", "of the second");
    assert_eq!(client.get("only").as_deref(), Some(&b"of the second"[..]));
    assert_eq!(client.get("nowhere"), None);
    assert_eq!(
        client.ask("get both only nowhere\r\n"),
        "VALUE both 0 12\r\nof the first\r\nVALUE only 0 13\r\nof the second\r\nEND\r\n"
    );
    client.set("number", "5");
    eventually("the write is everywhere", || second.client().get("number"));
    assert_eq!(client.ask("incr number 3\r\n"), "8\r\n");
    assert_eq!(client.ask("delete number\r\n"), "DELETED\r\n");
    assert_eq!(client.ask("delete number\r\n"), "NOT_FOUND\r\n");

    // A dead server costs nothing a client sees: reads and writes go to the other.
    first.kill();
    assert_eq!(client.get("both").as_deref(), Some(&b"1"[..]), "the first read after the kill");
    for number in 0..50 {
        client.set(&format!("while-dead-{number}"), "x");
        assert_eq!(client.get(&format!("while-dead-{number}")).as_deref(), Some(&b"x"[..]));
    }
    first.restart();
    // It comes back by itself.
    eventually("the first server is used again", || {
        client.set("back", "again");
        first.client().get("back")
    });
    client.send("quit\r\nversion\r\n");
    client.expect_end();
}

#[test]
fn flags_stand_over_the_file() {
    let server = Memcached::start();
    let port = crate::support::any_port([127, 0, 0, 1].into());
    let listen = format!("--listen=tcp://127.0.0.1:{port}");
    let keyway =
        Keyway::with(&gomcrouter_file(&[&server]), &[&listen, "-L=127.0.0.1:0", "-n2", "-C", "3", "-r", "700"]);
    assert_eq!(keyway.socket().port(), port);
    assert!(keyway.log().contains("serves with 2 shard(s)"));
    keyway.client().set("k", "v");
    assert_eq!(keyway.page("/healthz").0, 200);
    assert!(!keyway.log().contains(":9090"), "{}", keyway.log());
}

/// One row of the table: what the servers say (`!` closes the connection), and the answer.
fn check(route: &str, request: &str, says: &[&str], answer: &str) {
    let servers: Vec<Scripted> = says.iter().map(|_| Scripted::start("")).collect();
    let addresses: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let file = full_file(&format!(
        "shards: 1\npools: {{web: {{servers: [{}], timeout_ms: 150}}}}\nroute: {route}",
        addresses.join(", ")
    ));
    for (server, says) in servers.iter().zip(says) {
        server.say((*says != "!").then_some(*says));
    }
    let keyway = Keyway::start(&file);
    let told = keyway.client().ask(request);
    assert_eq!(told, answer, "{route} {request:?} {says:?}");
}

#[test]
fn default_route_over_the_wire() {
    for (says, answer) in [
        (["END\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n"], "END\r\n"),
        (["SERVER_ERROR busy\r\n", "END\r\n"], "SERVER_ERROR busy\r\n"),
        (["", "END\r\n"], "SERVER_ERROR keyway: timeout\r\n"),
        (["!", "END\r\n"], "SERVER_ERROR keyway: connection_lost\r\n"),
    ] {
        check("DefaultRoute", "get k\r\n", &says, answer);
    }
}

#[test]
fn miss_failover_over_the_wire() {
    let hit = "VALUE k 0 1\r\nx\r\nEND\r\n";
    for (says, answer) in [
        ([hit, "END\r\n"], hit),
        (["END\r\n", hit], hit),
        (["SERVER_ERROR busy\r\n", hit], hit),
        (["ERROR\r\n", hit], hit),
        (["", hit], hit),
        (["!", hit], hit),
        (["VALUE other 0 1\r\nx\r\nEND\r\n", hit], hit),
        (["STORED\r\n", hit], hit),
        (["rubbish\r\n", hit], hit),
        (["END\r\n", "END\r\n"], "END\r\n"),
        (["END\r\n", "SERVER_ERROR busy\r\n"], "END\r\n"),
        (["SERVER_ERROR busy\r\n", "END\r\n"], "END\r\n"),
        (["SERVER_ERROR one\r\n", "SERVER_ERROR two\r\n"], "SERVER_ERROR two\r\n"),
        (["END\r\n", ""], "END\r\n"),
        (["", "END\r\n"], "END\r\n"),
        (["SERVER_ERROR one\r\n", "!"], "SERVER_ERROR one\r\n"),
        (["!", "!"], "SERVER_ERROR keyway: connection_lost\r\n"),
    ] {
        check("MissFailoverRoute", "get k\r\n", &says, answer);
    }
    check("MissFailoverRoute", "delete k\r\n", &["NOT_FOUND\r\n", "DELETED\r\n"], "DELETED\r\n");
    check("MissFailoverRoute", "incr k 1\r\n", &["NOT_FOUND\r\n", "12\r\n"], "12\r\n");
    check("MissFailoverRoute", "cas k 0 0 1 7\r\nx\r\n", &["EXISTS\r\n", "NOT_FOUND\r\n"], "NOT_FOUND\r\n");
}

#[test]
fn all_fastest_over_the_wire() {
    let set = "set k 0 0 1\r\nx\r\n";
    for (says, answer) in [
        (["STORED\r\n", "STORED\r\n"], "STORED\r\n"),
        (["NOT_STORED\r\n", "STORED\r\n"], "STORED\r\n"),
        (["SERVER_ERROR out of memory storing object\r\n", "STORED\r\n"], "STORED\r\n"),
        (["", "STORED\r\n"], "STORED\r\n"),
        (["!", "STORED\r\n"], "STORED\r\n"),
        (["STORED\r\n", "!"], "STORED\r\n"),
        (["rubbish\r\n", "STORED\r\n"], "STORED\r\n"),
        (["NOT_STORED\r\n", "NOT_STORED\r\n"], "NOT_STORED\r\n"),
        (["SERVER_ERROR one\r\n", "NOT_STORED\r\n"], "NOT_STORED\r\n"),
        (["!", "SERVER_ERROR two\r\n"], "SERVER_ERROR two\r\n"),
        (["SERVER_ERROR one\r\n", ""], "SERVER_ERROR one\r\n"),
        (["SERVER_ERROR one\r\n", "SERVER_ERROR two\r\n"], "SERVER_ERROR one\r\n"),
        (["!", "!"], "SERVER_ERROR keyway: connection_lost\r\n"),
    ] {
        check("AllFastestRoute", set, &says, answer);
    }
}

#[test]
fn all_fastest_sends_to_every_server() {
    let servers = ["STORED\r\n"; 3].map(Scripted::start);
    let addresses: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let file = full_file(&format!("pools: {{web: {{servers: [{}]}}}}\nroute: AllFastestRoute", addresses.join(", ")));
    let keyway = Keyway::start(&file);
    let mut client = keyway.client();
    client.set("k", "v");
    assert_eq!(client.ask("set k 0 0 1 noreply\r\nw\r\nset k 0 0 1\r\nx\r\n"), "STORED\r\n");
    for server in &servers {
        let mut heard = Vec::new();
        eventually("all three writes arrive", || {
            heard.extend(server.heard());
            (heard.len() >= 3).then_some(())
        });
        let expected = [&b"set k 0 0 1\r\nv\r\n"[..], b"set k 0 0 1\r\nw\r\n", b"set k 0 0 1\r\nx\r\n"];
        assert_eq!(heard, expected, "without noreply, in order");
    }
}

#[test]
fn local_route_and_dead_servers() {
    let mut servers = [Memcached::start(), Memcached::start()];
    for server in &mut servers {
        server.kill();
    }
    let [first, second] = &servers;
    let keyway = Keyway::with(&gomcrouter_file(&[first, second]), &[&FLAGS[..], &["-n", "1"]].concat());
    let mut client = keyway.client();
    // Whatever is known of them so far, every request is answered, also those behind the first.
    client.send("get a\r\nset b 0 0 1\r\nx\r\nversion\r\nget c d\r\ntouch e 0\r\nversion\r\n");
    let replies: Vec<String> = (0..6).map(|_| crate::support::shown(&client.reply())).collect();
    for (at, reply) in replies.iter().enumerate() {
        let start = if at == 2 || at == 5 { "VERSION " } else { "SERVER_ERROR keyway: " };
        assert!(reply.starts_with(start), "{replies:?}");
    }
    eventually("the servers are known to be down", || {
        (client.ask("get a\r\n") == "SERVER_ERROR keyway: no healthy server\r\n").then_some(())
    });
    let local = "listeners: [{address: \"tcp://127.0.0.1:0\"}]\nmetrics: {address: off}\nroute: LocalRoute\nshards: 1";
    let keyway = Keyway::start(&format!("{local}\nadmin: {{address: off}}"));
    let mut client = keyway.client();
    assert_eq!(client.ask("get a\r\n"), "SERVER_ERROR keyway: LocalRoute cannot answer get\r\n");
    assert_eq!(client.ask("verbosity 1\r\n"), "OK\r\n");
    assert!(client.ask("stats\r\n").contains("STAT version "));
    client.send("version\r\nquit\r\nversion\r\n");
    assert!(client.reply().starts_with(b"VERSION "));
    client.expect_end();
}
