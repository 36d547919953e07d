//! Values of every size and of any bytes.

use crate::support::{Keyway, Memcached, Scripted, gomcrouter_file, pool_file};
use std::net::Ipv4Addr;

/// Bytes that repeat only after 65,537, so that a shifted or doubled piece shows.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 65_537 * 31 / 8) as u8).collect()
}

fn large() -> Memcached {
    Memcached::with(Ipv4Addr::LOCALHOST.into(), &["-I", "8m", "-m", "256"])
}

#[test]
fn sizes_around_every_buffer_come_back_as_they_were() {
    let server = large();
    let keyway = Keyway::start(&pool_file(&[&server], "PoolRoute|web", "shards: 1"));
    let mut client = keyway.client();
    let near = |size: usize| [size - 50, size - 2, size - 1, size, size + 1];
    let sizes = [1usize << 11, 1 << 12, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 20].map(near);
    for size in sizes.into_iter().flatten().chain([0, 1, 2, 5_000_000]) {
        let value = pattern(size);
        client.set("sized", &value);
        assert!(client.get("sized").as_deref() == Some(value.as_slice()), "{size} bytes");
    }
    assert_eq!(client.ask("version\r\n").split(' ').next(), Some("VERSION"), "in step");
}

#[test]
fn large_values_and_small_ones_at_once() {
    let (first, second) = (large(), large());
    let keyway = Keyway::with(&gomcrouter_file(&[&first, &second]), &["-l", "tcp://127.0.0.1:0", "-L", "127.0.0.1:0"]);
    let clients: Vec<_> = (0..1)
        .map(|number| {
            let mut client = keyway.client();
            std::thread::spawn(move || {
                for round in 0..5 {
                    let value = pattern(3_000_000 + number * 1000 + round);
                    let key = format!("large-{number}");
                    client.set(&key, &value);
                    assert!(client.get(&key) == Some(value), "{key} in round {round}");
                }
            })
        })
        .collect();
    // Small ones go on between them.
    let mut small = keyway.client();
    for number in 0..200 {
        let key = format!("small-{number}");
        small.set(&key, &key);
        assert_eq!(small.get(&key), Some(key.into_bytes()));
    }
    for client in clients {
        client.join().expect("a client with large values");
    }
}

#[test]
fn any_bytes_in_values_and_high_ones_in_keys() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_file(&[&server], "PoolRoute|web", ""));
    let mut client = keyway.client();
    let every: Vec<u8> = (0..=255).collect();
    for (name, value) in [
        ("every", every.as_slice()),
        ("ends", b"\r\nEND\r\n"),
        ("errors", b"SERVER_ERROR no\r\nERROR\r\n"),
        ("values", b"VALUE x 0 1\r\nx\r\nEND\r\n"),
        ("feeds", b"\n\n\n\r\r\r\n"),
        ("commands", b"x\r\nflush_all\r\nquit\r\n"),
    ] {
        client.set(name, value);
        assert_eq!(client.get(name).as_deref(), Some(value), "{name}");
    }
    for key in ["schlüssel", "鍵", "ключ-1"] {
        client.set(key, key);
        assert_eq!(client.get(key).as_deref(), Some(key.as_bytes()));
        assert_eq!(server.client().get(key).as_deref(), Some(key.as_bytes()));
    }
    client.send(b"set \xff\xfe 0 0 1\r\nx\r\nget \xff\xfe\r\n");
    assert_eq!(client.reply(), b"STORED\r\n");
    assert_eq!(client.reply(), b"VALUE \xff\xfe 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn a_value_over_the_servers_limit_is_refused_by_it_and_nothing_slips() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_file(&[&server], "PoolRoute|web", "shards: 1"));
    let mut client = keyway.client();
    let mut other = keyway.client();
    client.set("k", "before");
    for round in 0..5 {
        // 1 MiB is memcached's own limit, item header included.
        let answer = client.store("set", "k", pattern(2 << 20));
        assert_eq!(answer, "SERVER_ERROR object too large for cache\r\n", "round {round}");
        assert_eq!(client.get("k"), None, "memcached drops the old value");
        client.set("k", "after");
        other.set("other", "x");
        assert_eq!(other.get("other").as_deref(), Some(&b"x"[..]));
    }
    let most = pattern((1 << 20) - 512);
    client.set("most", &most);
    assert!(client.get("most") == Some(most));
    // Pipelined, with and without a reply.
    let value = String::from_utf8(vec![b'x'; 2 << 20]).expect("text");
    client.send(format!("set a 0 0 2097152 noreply\r\n{value}\r\nset b 0 0 2097152\r\n{value}\r\nget k\r\n"));
    assert_eq!(client.reply(), b"SERVER_ERROR object too large for cache\r\n");
    assert_eq!(client.reply(), b"VALUE k 0 5\r\nafter\r\nEND\r\n");
}

#[test]
fn a_large_write_that_cannot_be_kept_is_not_sent_twice() {
    let (first, second) = (Scripted::start("SERVER_ERROR full\r\n"), Scripted::start("STORED\r\n"));
    let keyway = Keyway::start(&crate::support::full_file(&format!(
        "shards: 1\npools: {{web: {{servers: [\"{}\", \"{}\"]}}}}\nlimits: {{max_replay_bytes: 1000}}\n\
         route: MissFailoverRoute",
        first.address(),
        second.address()
    )));
    let mut client = keyway.client();
    client.set("small", "goes on to the second");
    assert_eq!(client.store("set", "large", pattern(2000)), "SERVER_ERROR full\r\n");
    assert_eq!((first.heard().len(), second.heard().len()), (2, 1));
}

#[test]
fn bulk_loading_by_a_pipelining_client_is_slowed_down_not_refused() {
    let server = large();
    let keyway = Keyway::start(&pool_file(&[&server], "PoolRoute|web", "shards: 1"));
    for (size, count) in [(1000, 20_000), (10_000, 3_000), (100_000, 300), (1_000_000, 30), (5_000_000, 6)] {
        let mut client = keyway.client();
        let value = pattern(size);
        let mut socket = client.writer();
        let writing = std::thread::spawn(move || {
            use std::io::Write;
            for number in 0..count {
                let mut frame = format!("set bulk-{} 0 0 {size}\r\n", number % 16).into_bytes();
                frame.extend_from_slice(&value);
                frame.extend_from_slice(b"\r\n");
                socket.write_all(&frame).expect("all of it is taken");
            }
        });
        let stored = (0..count).filter(|_| client.reply() == b"STORED\r\n").count();
        assert_eq!(stored, count, "values of {size} bytes");
        writing.join().expect("the writer");
    }
}
