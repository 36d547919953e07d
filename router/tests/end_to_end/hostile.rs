//! One client, few bytes, hurting nobody: what such bytes are answered with, beside what memcached answers to the same.

use crate::support::{Client, Keyway, Memcached, gomcrouter_file, pool_file, shown};

/// Where keyway may differ from the memcached it stands in front of.
enum Expected {
    /// Both say the same.
    Same(&'static str),
    /// keyway says this, and memcached that.
    Other { keyway: &'static str, memcached: &'static str },
}
use Expected::{Other, Same};

/// Everything that is answered to `input` until the connection ends.
fn answer(mut client: Client, input: &[u8]) -> String {
    client.send(input);
    client.finish_sending();
    shown(&client.rest())
}

#[test]
fn odd_requests_are_answered_as_memcached_answers_them() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_file(&[&server], "PoolRoute|web", "shards: 1"));
    let long_key = "k".repeat(250);
    let longer_key = "k".repeat(251);
    let cases: Vec<(String, Expected)> = vec![
        // Too little of a command.
        ("get\r\n".into(), Same("ERROR\r\n")),
        ("get \r\n".into(), Same("ERROR\r\n")),
        ("set\r\n".into(), Same("ERROR\r\n")),
        ("set k 0 0\r\n".into(), Same("ERROR\r\n")),
        ("\r\n".into(), Same("ERROR\r\n")),
        ("incr k\r\nget k\r\n".into(), Same("ERROR\r\nEND\r\n")),
        // Bare line feeds end a line too.
        ("get k\nget k\n".into(), Same("END\r\nEND\r\n")),
        // Unknown words, in a pipeline: earlier replies first, then the error, then the rest.
        ("get a\r\nfoo\r\nget b\r\n".into(), Same("END\r\nERROR\r\nEND\r\n")),
        ("GET a\r\n".into(), Same("ERROR\r\n")),
        ("set a 0 0 1\r\nx\r\nfoo\r\nget a\r\n".into(), Same("STORED\r\nERROR\r\nVALUE a 0 1\r\nx\r\nEND\r\n")),
        // Numbers.
        ("incr k x\r\n".into(), Same("CLIENT_ERROR invalid numeric delta argument\r\n")),
        ("touch k x\r\n".into(), Same("CLIENT_ERROR invalid exptime argument\r\n")),
        ("set n 0 0 1\r\n5\r\nincr n 18446744073709551615\r\n".into(), Same("STORED\r\n4\r\n")),
        ("set n 0 0 1\r\nx\r\nincr n 1\r\n".into(), Same("STORED\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n")),
        // Keys of 250 bytes are keys, those of 251 are not.
        (format!("set {long_key} 0 0 1\r\nx\r\n"), Same("STORED\r\n")),
        (format!("get {longer_key}\r\nget k\r\n"), Same("CLIENT_ERROR bad command line format\r\nEND\r\n")),
        // memcached takes the data of a refused set for commands; nobody else should.
        (
            format!("set {longer_key} 0 0 9\r\nflush_all\r\nget k\r\n"),
            Other {
                keyway: "CLIENT_ERROR bad command line format\r\nEND\r\n",
                memcached: "CLIENT_ERROR bad command line format\r\nOK\r\nEND\r\n",
            },
        ),
        (
            "set k 0 0 -100\r\nflush_all\r\n".into(),
            Other {
                keyway: "CLIENT_ERROR bad command line format\r\n",
                memcached: "CLIENT_ERROR bad command line format\r\nOK\r\n",
            },
        ),
        (
            "set k 0 0 x\r\nflush_all\r\n".into(),
            Other {
                keyway: "CLIENT_ERROR bad command line format\r\n",
                memcached: "CLIENT_ERROR bad command line format\r\nOK\r\n",
            },
        ),
        (
            "set k 0 0 9223372036854775807\r\nflush_all\r\n".into(),
            Other {
                keyway: "CLIENT_ERROR bad command line format\r\n",
                memcached: "CLIENT_ERROR bad command line format\r\nOK\r\n",
            },
        ),
        (
            "set k 0 0 99999999999999999999999\r\nflush_all\r\n".into(),
            Other {
                keyway: "CLIENT_ERROR bad command line format\r\n",
                memcached: "CLIENT_ERROR bad command line format\r\nOK\r\n",
            },
        ),
        // A length that is one: what comes is its data, never commands. memcached answers when all of it has come.
        (
            "set k 0 0 2000000000\r\nflush_all\r\nget k\r\n".into(),
            Other { keyway: "SERVER_ERROR object too large for cache\r\n", memcached: "" },
        ),
        (
            "set k 0 0 3\r\nabcde\r\nget k\r\n".into(),
            Same("CLIENT_ERROR bad data chunk\r\nERROR\r\nEND\r\n"),
        ),
        // noreply in a pipeline: silence, and the rest in order.
        ("set k 0 0 5 noreply\r\nabcde\r\nget k\r\nget x\r\n".into(), Same("VALUE k 0 5\r\nabcde\r\nEND\r\nEND\r\n")),
        ("delete k noreply\r\nget k\r\n".into(), Same("END\r\n")),
        (
            "set i 0 0 1\r\n5\r\nincr i 2 noreply\r\ndecr i 1 noreply\r\nget i\r\n".into(),
            Same("STORED\r\nVALUE i 0 1\r\n6\r\nEND\r\n"),
        ),
        ("touch i 0 noreply\r\nadd i 0 0 1 noreply\r\n9\r\nget i\r\n".into(), Same("VALUE i 0 1\r\n6\r\nEND\r\n")),
        (
            "append i 0 0 1 noreply\r\n1\r\nprepend i 0 0 1 noreply\r\n2\r\nreplace no 0 0 1 noreply\r\n2\r\nget i no\r\n"
                .into(),
            Same("VALUE i 0 3\r\n261\r\nEND\r\n"),
        ),
        ("verbosity 1 noreply\r\nflush_all noreply\r\nget i\r\n".into(), Same("END\r\n")),
        // quit ends it; what stands behind is not done.
        ("set q 0 0 1\r\nx\r\nquit\r\ndelete q\r\n".into(), Same("STORED\r\n")),
        ("get q\r\nget q".into(), Same("VALUE q 0 1\r\nx\r\nEND\r\n")),
        // A browser.
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(), Same("")),
    ];
    for (input, expected) in cases {
        let (said, real) = match expected {
            Same(both) => (both, both),
            Other { keyway, memcached } => (keyway, memcached),
        };
        // The servers differ in nothing but who is asked: the second run must find what the first found.
        server.client().ask("flush_all\r\n");
        let from_memcached = prepared(&input, server.client());
        server.client().ask("flush_all\r\n");
        let from_keyway = prepared(&input, keyway.client());
        assert_eq!((from_keyway.as_str(), from_memcached.as_str()), (said, real), "{input:?}");
    }
    let mut client = keyway.client();
    client.set("after", "all");
    assert_eq!(client.get("after").as_deref(), Some(&b"all"[..]));
}

/// Asks with the keys in place that some of the inputs expect.
fn prepared(input: &str, mut client: Client) -> String {
    for (key, value) in [("i", "6"), ("q", "x")] {
        if input.contains(&format!(" {key}\r")) || input.contains(&format!(" {key} ")) {
            client.set(key, value);
        }
    }
    answer(client, input.as_bytes())
}

#[test]
fn a_line_without_end_is_cut_at_the_limit() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_file(&[&server], "PoolRoute|web", "shards: 1"));
    for start in ["", "get ", "set "] {
        let mut client = keyway.client();
        let mut socket = client.writer();
        let writing = std::thread::spawn(move || {
            use std::io::Write;
            let piece = [b'a'; 64 * 1024];
            if socket.write_all(start.as_bytes()).is_ok() {
                for _ in 0..20 * 16 {
                    if socket.write_all(&piece).is_err() {
                        return;
                    }
                }
            }
        });
        assert!(client.is_cut(), "20 MB behind {start:?}");
        writing.join().expect("the writer");
    }
    let resident = keyway.metrics().find("process_resident_memory_bytes").expect("a metric");
    assert!(resident < 200e6, "{resident} bytes resident");
    keyway.client().set("still", "here");
}

#[test]
fn a_hit_with_error_in_its_key_is_a_hit() {
    let (first, second) = (Memcached::start(), Memcached::start());
    let keyway = Keyway::with(&gomcrouter_file(&[&first, &second]), &["-l", "tcp://127.0.0.1:0", "-L", "127.0.0.1:0"]);
    second.client().set("xERRORx", "from the second");
    assert_eq!(keyway.client().get("xERRORx").as_deref(), Some(&b"from the second"[..]));
    first.client().set("xERRORx", "SERVER_ERROR from the first");
    assert_eq!(keyway.client().get("xERRORx").as_deref(), Some(&b"SERVER_ERROR from the first"[..]));
}

#[test]
fn statistics_of_a_server_keep_the_stream_in_step() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_file(
        &[&server],
        "{type: OperationSelectorRoute, operation_policies: {stats: DefaultRoute}}",
        "shards: 1",
    ));
    let mut client = keyway.client();
    client.set("k", "v");
    client.send("get k\r\nstats\r\nget k\r\nstats settings\r\nget k\r\nstats items\r\nget k\r\n");
    for turn in 0..7 {
        let reply = shown(&client.reply());
        if turn % 2 == 0 {
            assert_eq!(reply, "VALUE k 0 1\r\nv\r\nEND\r\n");
        } else {
            assert!(reply.starts_with("STAT ") && reply.ends_with("\r\nEND\r\n"), "{reply}");
        }
    }
}

#[test]
fn clients_that_leave_with_requests_under_way_hurt_nobody() {
    let (first, second) = (Memcached::start(), Memcached::start());
    let keyway = Keyway::with(
        &gomcrouter_file(&[&first, &second]),
        &["-l", "tcp://127.0.0.1:0", "-L", "127.0.0.1:0", "-n", "1"],
    );
    let mut staying = keyway.client();
    for round in 0..20 {
        let mut leaving = keyway.client();
        let mut many = String::new();
        for number in 0..1000 {
            match number % 4 {
                0 => many += &format!("set leave-{number} 0 0 5\r\nleave\r\n"),
                1 => many += &format!("get leave-{} miss-{number}\r\n", number - 1),
                2 => many += &format!("get miss-{number}\r\n"),
                _ => many += &format!("delete leave-{}\r\n", number - 3),
            }
        }
        leaving.send(&many);
        drop(leaving);
        let value = format!("round {round}");
        staying.set("staying", &value);
        assert_eq!(staying.get("staying"), Some(value.into_bytes()));
        assert_eq!(staying.get("nothing"), None);
    }
    keyway.metric_becomes("keyway_reply_slots", 0.0);
    for server in [&first, &second] {
        // Made once, so none was lost.
        keyway.metric_becomes(&format!("keyway_upstream_connects_total{{server=\"{}\"}}", server.address()), 1.0);
    }
    assert_eq!(keyway.metrics().sum("keyway_upstream_failures_total"), 0.0);
}
