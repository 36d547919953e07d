//! Everything has a limit, is told in words where there is somebody to tell, and hurts nobody else.

use crate::support::{Client, Keyway, Memcached, eventually, pool_file, shown};
use std::io::Write;

fn start(server: &Memcached, limits: &str) -> Keyway {
    Keyway::start(&pool_file(&[server], "PoolRoute|web", &format!("shards: 1\nlimits: {{{limits}}}")))
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = Memcached::start();
    let keyway = start(&server, "clients: 3");
    let mut clients: Vec<Client> = (0..3).map(|_| keyway.client()).collect();
    for client in &mut clients {
        client.set("k", "v");
    }
    for _ in 0..20 {
        // It may have asked before it hears of the refusal, which must not turn that into a reset.
        let mut refused = keyway.client();
        refused.send("get k\r\n");
        assert_eq!(shown(&refused.rest()), "ERROR Too many open connections\r\n");
    }
    assert_eq!(clients[0].get("k").as_deref(), Some(&b"v"[..]));
    keyway.metric_becomes("keyway_clients_refused_total", 20.0);
    clients.pop();
    // Room again.
    let mut late = eventually("room for one", || {
        let mut client = keyway.client();
        (client.ask("get k\r\n") == "VALUE k 0 1\r\nv\r\nEND\r\n").then_some(client)
    });
    late.set("k", "w");
}

#[test]
fn idle_clients_are_closed_and_busy_ones_are_not() {
    let server = Memcached::start();
    let keyway = start(&server, "client_idle_ms: 300");
    let mut idle = keyway.client();
    let mut trickling = keyway.client();
    let mut busy = keyway.client();
    idle.set("k", "v");
    trickling.send("get ");
    let keep = std::thread::spawn(move || {
        while !idle.is_cut() {}
        trickling.expect_end();
    });
    while !keep.is_finished() {
        busy.set("k", "v");
    }
    keep.join().expect("the idle ones");
    eventually("they are counted", || {
        busy.set("k", "v");
        keyway.metrics().find("keyway_clients_closed_total{reason=\"idle\"}").filter(|closed| *closed == 2.0)
    });
}

#[test]
fn value_and_line_limits_have_their_words() {
    let server = Memcached::start();
    let keyway = start(&server, "value_bytes: 1000, retrieval_line_bytes: 4096, keys_per_get: 100");
    let mut client = keyway.client();
    client.set("most", vec![b'x'; 1000]);
    assert_eq!(client.store("set", "more", vec![b'x'; 1001]), "SERVER_ERROR object too large for cache\r\n");
    assert_eq!(client.ask(format!("set more 0 0 1001 noreply\r\n{}\r\nget more\r\n", "x".repeat(1001))), "END\r\n");
    assert_eq!(client.get("most").map(|value| value.len()), Some(1000), "in step");
    // A get has more room than other lines, and an end all the same.
    let keys = "key ".repeat(90);
    assert_eq!(client.ask(format!("get {keys}\r\n")), "END\r\n");
    let reply = client.ask(format!("get {}\r\nversion\r\n", "key ".repeat(101)));
    assert!(reply.contains("ERROR"), "{reply}");
    assert!(client.reply().starts_with(b"VERSION "));
    let long: String = (0..20).map(|number| format!("{number:0>200} ")).collect();
    assert_eq!(client.ask(format!("get {long}\r\n")), "END\r\n", "4024 bytes");
    let longer: String = (0..21).map(|number| format!("{number:0>200} ")).collect();
    client.send(format!("get {longer}\r\nversion\r\n"));
    assert_eq!(shown(&client.rest()), "CLIENT_ERROR line too long\r\n");
    let mut client = keyway.client();
    client.send(format!("delete {}\r\nversion\r\n", " ".repeat(2100)));
    assert_eq!(shown(&client.rest()), "CLIENT_ERROR line too long\r\n");
}

#[test]
fn many_keys_in_one_get() {
    let server = Memcached::start();
    let keyway = start(&server, "");
    let mut client = keyway.client();
    let mut expected = Vec::new();
    for number in (0..5000).step_by(7) {
        client.send(format!("set many-{number} 0 0 4 noreply\r\nxxxx\r\n"));
        expected.push(format!("VALUE many-{number} 0 4"));
    }
    let keys: String = (0..5000).map(|number| format!(" many-{number}")).collect();
    let reply = client.ask(format!("get{keys}\r\n"));
    let found: Vec<&str> = reply.lines().filter(|line| line.starts_with("VALUE ")).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_client_that_does_not_read_is_bounded_and_hurts_nobody() {
    let server = Memcached::start();
    let keyway = start(&server, "");
    server.client().set("large", vec![b'x'; 100_000]);
    let mut other = keyway.client();
    other.set("k", "v");
    let slow: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = keyway.client();
            // It learns that they are large, so that more is not asked for than is taken.
            assert_eq!(client.get("large").map(|value| value.len()), Some(100_000));
            let mut socket = client.writer();
            // 100 MB of replies that nobody reads for now. The writer waits when the router no longer takes requests in.
            std::thread::spawn(move || socket.write_all("get large\r\n".repeat(1000).as_bytes()));
            client
        })
        .collect();
    for number in 0..500 {
        let key = format!("other-{number}");
        other.set(&key, &key);
        assert_eq!(other.get(&key), Some(key.into_bytes()));
    }
    let resident = keyway.metrics().find("process_resident_memory_bytes").expect("a metric");
    assert!(resident < 200e6, "with 4 slow clients: {resident} bytes");
    // One that reads late gets all of it.
    for mut client in slow {
        for _ in 0..1000 {
            assert_eq!(client.reply().len(), "VALUE large 0 100000\r\n\r\nEND\r\n".len() + 100_000);
        }
    }
}

#[test]
fn pipelines_beyond_the_limit_wait_and_lose_nothing() {
    let server = Memcached::start();
    let keyway = start(&server, "requests_per_client: 4, reply_bytes_per_client: 4096");
    let mut client = keyway.client();
    client.set("k", vec![b'v'; 3000]);
    let mut socket = client.writer();
    let writing = std::thread::spawn(move || {
        for number in 0..2000 {
            write!(socket, "get k\r\nget none-{number}\r\nincr none 1\r\n").expect("all of it is taken");
        }
    });
    for _ in 0..2000 {
        assert_eq!(client.reply().len(), "VALUE k 0 3000\r\n\r\nEND\r\n".len() + 3000);
        assert_eq!(shown(&client.reply()), "END\r\n");
        assert_eq!(shown(&client.reply()), "NOT_FOUND\r\n");
    }
    writing.join().expect("the writer");
}

#[test]
fn a_full_queue_to_a_server_fails_fast() {
    let server = Memcached::start();
    let keyway = start(&server, "requests_per_connection: 10");
    let mut client = keyway.client();
    client.set("k", "v");
    server.freeze();
    client.send("get k\r\n".repeat(100));
    // Whatever is said to the ones that wait, those beyond the queue get an answer, and nobody hangs.
    let replies: Vec<String> = (0..100).map(|_| shown(&client.reply())).collect();
    server.thaw();
    assert!(replies.iter().all(|reply| reply.starts_with("SERVER_ERROR keyway: ")), "{replies:?}");
    let full = replies.iter().filter(|reply| reply.as_str() == "SERVER_ERROR keyway: queue_full\r\n").count();
    assert_eq!(full, 90, "{replies:?}");
}
