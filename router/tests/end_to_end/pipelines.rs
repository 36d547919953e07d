//! Thousands of requests of every kind in one pipeline: every reply, in order, however the bytes are cut.

use crate::support::{Client, Keyway, Memcached, gomcrouter_file, shown};
use std::io::Write;

/// A pipeline and the replies it must get. What it writes are keys of this client alone.
fn mixed(requests: usize, own: &str) -> (Vec<u8>, Vec<String>) {
    let mut bytes = Vec::new();
    let mut replies = Vec::new();
    for number in 0..requests {
        let (request, reply) = match number % 10 {
            // Local.
            0 => ("version\r\n".to_string(), Some("VERSION".to_string())),
            // On the first server.
            1 => (format!("get first-{}\r\n", number % 100), Some(value(&format!("first-{}", number % 100)))),
            // Only on the second: a miss, and on to the next.
            2 => (format!("get second-{}\r\n", number % 100), Some(value(&format!("second-{}", number % 100)))),
            // On neither.
            3 => (format!("get none-{number}\r\n"), Some("END\r\n".to_string())),
            // To both.
            4 => {
                let key = format!("{own}-{number}");
                (format!("set {key} 0 0 {}\r\n{key}\r\n", key.len()), Some("STORED\r\n".to_string()))
            }
            // Read back what this very pipeline wrote.
            5 => (format!("get {own}-{}\r\n", number - 1), Some(value(&format!("{own}-{}", number - 1)))),
            // Several keys on several servers: whichever comes first, one END.
            6 => (
                format!("get first-{} none second-{}\r\n", number / 10 * 10 % 100 + 1, number / 10 * 10 % 100 + 2),
                Some(String::new()),
            ),
            // Silence.
            7 => (format!("set quiet-{number} 0 0 1 noreply\r\nq\r\n"), None),
            8 => (format!("delete {own}-{}\r\n", number - 4), Some("DELETED\r\n".to_string())),
            // Refused here.
            _ => ("nonsense\r\n".to_string(), Some("ERROR\r\n".to_string())),
        };
        bytes.extend_from_slice(request.as_bytes());
        replies.extend(reply);
    }
    (bytes, replies)
}

fn value(key: &str) -> String {
    format!("VALUE {key} 0 {}\r\n{key}\r\nEND\r\n", key.len())
}

fn read_all(client: &mut Client, replies: &[String]) {
    for (at, expected) in replies.iter().enumerate() {
        let reply = shown(&client.reply());
        match expected.as_str() {
            "VERSION" => assert!(reply.starts_with("VERSION "), "reply {at}: {reply:?}"),
            "" => {
                let keys: Vec<&str> = reply.lines().filter_map(|line| line.strip_prefix("VALUE ")).collect();
                assert_eq!(keys.len(), 2, "reply {at}: {reply:?}");
                assert!(reply.contains("VALUE first-") && reply.contains("VALUE second-"), "reply {at}: {reply:?}");
            }
            expected => assert_eq!(reply, expected, "reply {at}"),
        }
    }
}

/// Two servers with what the pipelines expect to find, and a router before them.
fn world(flags: &[&str]) -> (Memcached, Memcached, Keyway) {
    let (first, second) = (Memcached::start(), Memcached::start());
    for (name, server) in [("first", &first), ("second", &second)] {
        let mut client = server.client();
        for number in 0..100 {
            let key = format!("{name}-{number}");
            client.set(&key, &key);
        }
    }
    let flags = [&["-l", "tcp://127.0.0.1:0", "-L", "127.0.0.1:0"], flags].concat();
    let keyway = Keyway::with(&gomcrouter_file(&[&first, &second]), &flags);
    (first, second, keyway)
}

#[test]
fn ten_thousand_mixed_requests_in_one_go() {
    let (_first, _second, keyway) = world(&["-n", "2"]);
    // Several at once, so that they share connections to the servers.
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let mut client = keyway.client();
            let (bytes, replies) = mixed(10_000, &format!("own{number}"));
            std::thread::spawn(move || {
                let mut socket = client.writer();
                let writing = std::thread::spawn(move || socket.write_all(&bytes).expect("all of it is taken"));
                read_all(&mut client, &replies);
                writing.join().expect("the writer");
                client.finish_sending();
                client.expect_end();
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client's replies");
    }
    let metrics = keyway.metrics();
    assert_eq!(metrics.sum("keyway_upstream_failures_total"), 0.0);
}

#[test]
fn ten_thousand_mixed_requests_in_tiny_writes() {
    let (_first, _second, keyway) = world(&["-n", "1"]);
    let (bytes, replies) = mixed(10_000, "own");
    let mut client = keyway.client();
    let mut socket = client.writer();
    let writing = std::thread::spawn(move || {
        // Pieces of 1 to 23 bytes; the same ones each time.
        let mut rest = bytes.as_slice();
        let mut size = 1;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            socket.write_all(piece).expect("all of it is taken");
            rest = after;
            size = size * 7 % 23 + 1;
        }
    });
    read_all(&mut client, &replies);
    writing.join().expect("the writer");
    client.finish_sending();
    client.expect_end();
}
