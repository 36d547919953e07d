//! Routes that fill, move, split and copy values, over real memcached pools; what the servers hold is asked of them directly.

use crate::support::{Client, Folder, Keyway, Memcached, eventually, full_file};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// An old pool with ketama and a new one with ch3, behind a listener for each and one for a route over both.
struct Fleet {
    old: Vec<Memcached>,
    new: Vec<Memcached>,
    keyway: Keyway,
}

impl Fleet {
    fn start(route: &str, rest: &str) -> Fleet {
        let old: Vec<Memcached> = (0..3).map(|_| Memcached::start()).collect();
        let new: Vec<Memcached> = (0..2).map(|_| Memcached::start()).collect();
        let listed = |servers: &[Memcached]| {
            let addresses: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
            addresses.join(", ")
        };
        let file = format!(
            "listeners:\n  - {{address: \"tcp://127.0.0.1:0\", route: old}}\n  - {{address: \"tcp://127.0.0.1:0\", route: new}}\n  \
             - {{address: \"tcp://127.0.0.1:0\", route: both}}\nmetrics: {{address: \"127.0.0.1:0\"}}\nadmin: {{address: off}}\n\
             pools:\n  old: {{servers: [{}], hash: {{distribution: ketama}}}}\n  new: {{servers: [{}]}}\n\
             routes:\n  old: PoolRoute|old\n  new: PoolRoute|new\n  both: {route}\n{rest}\n",
            listed(&old),
            listed(&new),
        );
        let keyway = Keyway::start(&file);
        Fleet { old, new, keyway }
    }

    /// A client of listener `at`: 0 the old pool, 1 the new one, 2 the route over both.
    fn client(&self, at: usize) -> Client {
        let log = eventually("three listeners", || {
            let log = self.keyway.log();
            (log.matches("listening on tcp://").count() >= 3).then_some(log)
        });
        let addresses = log.lines().filter_map(|line| line.split("listening on tcp://").nth(1));
        let address = addresses.map(str::trim).nth(at).expect("a listener");
        Client::connect(address.parse().expect("an address"))
    }
}

const OLD: usize = 0;
const NEW: usize = 1;
const BOTH: usize = 2;

/// What the servers say of a key: its flags and the seconds it has left, of the one server that has it.
fn held(servers: &[Memcached], key: &str) -> Option<(String, i64)> {
    let answers: Vec<String> = servers
        .iter()
        .map(|server| server.client().ask(format!("mg {key} f t\r\n")))
        .filter(|answer| answer != "EN\r\n")
        .collect();
    assert!(answers.len() <= 1, "{key} is in one place: {answers:?}");
    let answer = answers.first()?;
    let word = |letter: char| answer.split_whitespace().find_map(|word| word.strip_prefix(letter)).expect("a flag");
    Some((word('f').to_owned(), word('t').parse().expect("seconds")))
}

fn store(client: &mut Client, key: &str, flags: &str, exptime: u64, value: &[u8]) {
    let mut frame = format!("set {key} {flags} {exptime} {}\r\n", value.len()).into_bytes();
    frame.extend_from_slice(value);
    frame.extend_from_slice(b"\r\n");
    assert_eq!(client.ask(frame), "STORED\r\n");
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

const WARM_UP: &str = "{type: WarmUpRoute, cold: PoolRoute|new, warm: PoolRoute|old}";

#[test]
fn warm_up_keeps_values_flags_and_lives_across_hash_kinds() {
    let fleet = Fleet::start(WARM_UP, "");
    let (mut old, mut both) = (fleet.client(OLD), fleet.client(BOTH));
    let binary: Vec<u8> = (0..=255).chain(*b"\r\nEND\r\n").collect();
    let month = 60 * 60 * 24 * 30;
    // Flags, exptime, and how long that is.
    let cases = [
        ("0", 0, None),
        ("7", 1000, Some(1000)),
        ("4294967295", month, Some(month)),
        ("1", unix_s() + 2 * month, Some(2 * month)),
    ];
    for round in 0..10 {
        for (at, (flags, exptime, _)) in cases.iter().enumerate() {
            store(&mut old, &format!("key-{at}-{round}"), flags, *exptime, &binary);
        }
    }
    for round in 0..10 {
        for (at, (flags, _, life)) in cases.iter().enumerate() {
            let key = format!("key-{at}-{round}");
            assert_eq!(both.get(&key).as_deref(), Some(binary.as_slice()), "{key}");
            let (held_flags, left) = eventually("cold has it", || held(&fleet.new, &key));
            assert_eq!(held_flags, *flags, "{key}");
            match life {
                None => assert_eq!(left, -1, "{key} has no end"),
                // It can't be longer, and not a minute has gone by.
                Some(life) => assert!((*life as i64 - 60..=*life as i64).contains(&left), "{key} has {left} of {life}"),
            }
        }
    }
    // From now on cold alone answers.
    for server in &fleet.old {
        assert_eq!(server.client().ask("flush_all\r\n"), "OK\r\n");
    }
    assert_eq!(both.get("key-0-0").as_deref(), Some(binary.as_slice()));
}

#[test]
fn a_cas_through_warm_up_is_cold_s() {
    let fleet = Fleet::start(WARM_UP, "");
    let (mut old, mut both) = (fleet.client(OLD), fleet.client(BOTH));
    for key in ["a", "b", "c", "d"] {
        store(&mut old, key, "5", 500, b"old");
        let answer = both.ask(format!("gets {key}\r\n"));
        let line = answer.lines().next().expect("a value");
        let cas = line.strip_prefix(&format!("VALUE {key} 5 3 ")).unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(both.ask(format!("cas {key} 6 0 3 {cas}\r\nnew\r\n")), "STORED\r\n");
        assert_eq!(both.ask(format!("cas {key} 6 0 3 {cas}\r\nbad\r\n")), "EXISTS\r\n");
        assert_eq!(held(&fleet.new, key), Some(("6".to_owned(), -1)));
        assert_eq!(old.get(key).as_deref(), Some(&b"old"[..]), "warm is left alone");
        store(&mut old, &format!("{key}-gat"), "5", 500, b"old");
        assert_eq!(both.ask(format!("gat 50 {key}-gat\r\n")), format!("VALUE {key}-gat 5 3\r\nold\r\nEND\r\n"));
        let (_, left) = held(&fleet.new, &format!("{key}-gat")).expect("cold has it");
        assert!((0..=50).contains(&left), "{left}");
    }
}

#[test]
fn what_was_deleted_through_warm_up_is_gone_on_both_sides() {
    let fleet = Fleet::start(WARM_UP, "");
    let (mut old, mut both) = (fleet.client(OLD), fleet.client(BOTH));
    for round in 0..50 {
        let key = format!("key-{round}");
        store(&mut old, &key, "0", 0, b"value");
        if round % 2 == 0 {
            assert!(both.get(&key).is_some());
        }
        let answer = both.ask(format!("delete {key}\r\n"));
        assert!(["DELETED\r\n", "NOT_FOUND\r\n"].contains(&answer.as_str()), "{answer}");
        assert_eq!(both.get(&key), None);
        assert_eq!((held(&fleet.old, &key), held(&fleet.new, &key)), (None, None), "{key}");
    }
}

/// Readers and a deleter at once. With one shard and one connection to each server, no read that began after a delete was
/// answered gets what was deleted.
#[test]
fn no_stale_read_after_a_delete_while_others_read() {
    let fleet = Fleet::start(WARM_UP, "shards: 1");
    let deleted = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = fleet.client(BOTH);
            let (deleted, done) = (&deleted, &done);
            scope.spawn(move || {
                let mut hits = 0;
                while done.load(Ordering::SeqCst) == 0 || hits == 0 {
                    let before = deleted.load(Ordering::SeqCst);
                    if let Some(value) = client.get("hot") {
                        hits += 1;
                        let version: u64 = String::from_utf8_lossy(&value).parse().expect("a number");
                        assert!(version > before, "{version} was read, deleted at {before}");
                    }
                }
            });
        }
        let (mut old, mut both) = (fleet.client(OLD), fleet.client(BOTH));
        for version in 1..400_u64 {
            store(&mut old, "hot", "0", 0, version.to_string().as_bytes());
            both.get("hot");
            both.ask("delete hot\r\n");
            deleted.store(version, Ordering::SeqCst);
        }
        store(&mut old, "hot", "0", 0, b"400");
        done.store(1, Ordering::SeqCst);
    });
}

/// Between shards a late add may be there for a moment. It doesn't stay.
#[test]
fn between_shards_what_was_deleted_does_not_stay() {
    let fleet = Fleet::start(WARM_UP, "shards: 2");
    let keys: Vec<String> = (0..20).map(|at| format!("key-{at}")).collect();
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (mut client, keys) = (fleet.client(BOTH), &keys);
            scope.spawn(move || {
                for round in 0..1000 {
                    client.get(&keys[(round * 7 + reader) % keys.len()]);
                }
            });
        }
        let (mut old, mut both) = (fleet.client(OLD), fleet.client(BOTH));
        for round in 0..1000 {
            let key = &keys[round % keys.len()];
            store(&mut old, key, "0", 0, b"old");
            both.get(key);
            both.ask(format!("delete {key}\r\n"));
        }
    });
    for key in &keys {
        eventually("nothing is left of it", || held(&fleet.new, key).is_none().then_some(()));
        assert_eq!(held(&fleet.old, key), None);
    }
}

#[test]
fn a_warm_server_without_meta_gets_is_asked_plainly() {
    let cold = Memcached::start();
    let file = format!(
        "listeners:\n  - {{address: \"tcp://127.0.0.1:0\", route: old}}\n  - {{address: \"tcp://127.0.0.1:0\", route: new}}\n  \
         - {{address: \"tcp://127.0.0.1:0\", route: both}}\nmetrics: {{address: \"127.0.0.1:0\"}}\nadmin: {{address: off}}\nshards: 1\n\
         pools:\n  old: {{servers: [\"embedded:old\"]}}\n  new: {{servers: [\"{}\"]}}\n\
         routes:\n  old: PoolRoute|old\n  new: PoolRoute|new\n  \
         both: {{type: WarmUpRoute, cold: PoolRoute|new, warm: PoolRoute|old, exptime: 300}}\n",
        cold.address()
    );
    let fleet = Fleet { old: Vec::new(), new: vec![cold], keyway: Keyway::start(&file) };
    let (mut old, mut both) = (fleet.client(OLD), fleet.client(BOTH));
    store(&mut old, "k", "9", 0, b"value");
    assert_eq!(both.ask("get k\r\n"), "VALUE k 9 5\r\nvalue\r\nEND\r\n");
    let (flags, left) = eventually("cold has it", || held(&fleet.new, "k"));
    assert_eq!(flags, "9");
    assert!((240..=300).contains(&left), "{left}");
    assert_eq!(both.ask("delete k\r\n"), "DELETED\r\n");
    assert_eq!((both.get("k"), old.get("k")), (None, None));
}

fn migrate(start: u64, interval: u64, to: &str) -> String {
    format!("{{type: MigrateRoute, from: PoolRoute|old, to: {to}, start_time: {start}, interval: {interval}}}")
}

#[test]
fn migrate_moves_each_key_and_deletes_on_both_sides() {
    let interval = 100_000;
    // Half of the keys have moved.
    let fleet = Fleet::start(&migrate(unix_s() - interval - interval / 2, interval, "PoolRoute|new"), "");
    let (mut old, mut new, mut both) = (fleet.client(OLD), fleet.client(NEW), fleet.client(BOTH));
    let keys: Vec<String> = (0..100).map(|at| format!("key-{at}")).collect();
    let mut moved = 0;
    for key in &keys {
        old.set(key, "old");
        new.set(key, "new");
        let value = both.get(key).expect("both sides have it");
        moved += usize::from(value == b"new");
        // What is written is read again.
        both.set(key, "written");
        assert_eq!(both.get(key).as_deref(), Some(&b"written"[..]));
        assert_eq!(both.ask(format!("delete {key}\r\n")), "DELETED\r\n");
        assert_eq!(both.get(key), None);
        assert_eq!((held(&fleet.old, key), held(&fleet.new, key)), (None, None), "{key}");
    }
    assert!((20..=80).contains(&moved), "{moved} of 100 have moved");
}

#[test]
fn migrate_before_and_behind_and_with_warm_up_keeps_lives() {
    let now = unix_s();
    let before = Fleet::start(&migrate(now + 100_000, 100, "PoolRoute|new"), "");
    let (mut old, mut both) = (before.client(OLD), before.client(BOTH));
    both.set("k", "x");
    assert_eq!(old.get("k").as_deref(), Some(&b"x"[..]));
    assert_eq!(held(&before.new, "k"), None);

    let behind = Fleet::start(&migrate(now - 100_000, 100, WARM_UP), "");
    let (mut old, mut both) = (behind.client(OLD), behind.client(BOTH));
    store(&mut old, "k", "3", 700, b"x");
    assert_eq!(both.ask("get k\r\n"), "VALUE k 3 1\r\nx\r\nEND\r\n");
    let (flags, left) = eventually("the new side has it", || held(&behind.new, "k"));
    assert_eq!(flags, "3");
    assert!((640..=700).contains(&left), "{left}");
    both.ask("delete k\r\n");
    assert_eq!((held(&behind.old, "k"), held(&behind.new, "k")), (None, None));
    assert_eq!(both.get("k"), None);
}

#[test]
fn staging_gets_what_warm_has() {
    let fleet = Fleet::start("{type: StagingRoute, warm: PoolRoute|old, staging: PoolRoute|new}", "");
    let (mut old, mut new, mut both) = (fleet.client(OLD), fleet.client(NEW), fleet.client(BOTH));
    store(&mut old, "k", "3", 700, b"x");
    assert_eq!(both.get("k").as_deref(), Some(&b"x"[..]));
    let (flags, left) = eventually("staging has it", || held(&fleet.new, "k"));
    assert_eq!(flags, "3");
    assert!((640..=700).contains(&left), "{left}");
    both.set("written", "y");
    eventually("staging has what was set", || new.get("written"));
    assert_eq!(both.ask("delete k\r\n"), "DELETED\r\n");
    assert_eq!((old.get("k"), new.get("k")), (None, None));
}

#[test]
fn l1_is_filled_and_remembers_what_l2_lacks() {
    let route = "{type: L1L2CacheRoute, l1: PoolRoute|new, l2: PoolRoute|old, upgrading_l1_exptime: 60, ncache_exptime: 30, ncache_update_period: 2}";
    let fleet = Fleet::start(route, "shards: 1");
    let (mut old, mut both) = (fleet.client(OLD), fleet.client(BOTH));
    store(&mut old, "k", "3", 700, b"x");
    assert_eq!(both.get("k").as_deref(), Some(&b"x"[..]));
    let (flags, left) = eventually("L1 has it", || held(&fleet.new, "k"));
    assert_eq!(flags, "3");
    assert!((0..=60).contains(&left), "{left}");
    assert_eq!(both.get("none"), None);
    let (flags, _) = eventually("L1 has a negative entry", || held(&fleet.new, "none"));
    assert_eq!(flags, "65536");
    old.set("none", "some");
    // Each second answer asks L2 anew.
    eventually("L2's item takes the entry's place", || both.get("none"));
    assert_eq!(both.ask("delete k\r\n"), "DELETED\r\n");
    assert_eq!((held(&fleet.old, "k"), held(&fleet.new, "k")), (None, None));
}

#[test]
fn large_values_live_in_l2() {
    let route = "{type: L1L2SizeSplitRoute, l1: PoolRoute|new, l2: PoolRoute|old, threshold: 1000}";
    let fleet = Fleet::start(route, "");
    let (mut old, mut new, mut both) = (fleet.client(OLD), fleet.client(NEW), fleet.client(BOTH));
    let large = vec![b'x'; 1000];
    both.set("large", &large);
    both.set("small", &large[1..]);
    assert_eq!(both.get("large").as_deref(), Some(large.as_slice()));
    assert_eq!(both.get("small").as_deref(), Some(&large[1..]));
    assert_eq!((new.get("large"), old.get("large")), (Some(Vec::new()), Some(large.clone())));
    assert_eq!(old.get("small"), None);
    let answer = both.ask("gets large\r\n");
    let cas =
        answer.lines().next().and_then(|line| line.strip_prefix("VALUE large 0 1000 ")).expect("a cas").to_owned();
    assert_eq!(both.ask(format!("cas large 0 0 1 {cas}\r\ny\r\n")), "STORED\r\n");
    assert_eq!(both.get("large").as_deref(), Some(&b"y"[..]));
    both.set("large", &large);
    assert_eq!(both.ask("delete large\r\n"), "DELETED\r\n");
    assert_eq!(both.get("large"), None);
    // A sentinel that stands for nothing makes way.
    both.set("large", &large);
    assert_eq!(old.ask("delete large\r\n"), "DELETED\r\n");
    assert_eq!(both.get("large"), None);
    assert_eq!(new.get("large"), None);
}

#[test]
fn values_above_the_servers_limit_in_chunks() {
    let route = "{type: BigValueRoute, target: PoolRoute|old, split_threshold: 500000, batch_size: 3}";
    let fleet = Fleet::start(route, "");
    let (mut old, mut both) = (fleet.client(OLD), fleet.client(BOTH));
    for size in [500_000, 500_001, 1_000_000, 3_333_333] {
        let value: Vec<u8> = (0..size).map(|at| (at % 65_537 * 31 / 8) as u8).collect();
        store(&mut both, "big", "5", 600, &value);
        assert!(both.get("big") == Some(value), "{size} bytes");
    }
    let parent = old.ask("get big\r\n");
    assert!(parent.starts_with("VALUE big 32773 ") && parent.contains("\r\n1-7-"), "{parent}");
    let suffix = parent.lines().nth(1).and_then(|line| line.rsplit('-').next()).expect("a suffix").to_owned();
    assert_eq!(old.ask(format!("delete big:3:{suffix}\r\n")), "DELETED\r\n");
    assert_eq!(both.get("big"), None, "without a chunk there is no value");
    both.set("big", vec![b'x'; 600_000]);
    assert_eq!(both.ask("delete big\r\n"), "DELETED\r\n");
    assert_eq!(both.get("big"), None);
}

#[test]
fn copies_of_keys_and_of_shards() {
    let route = "{type: KeySplitRoute, destination: PoolRoute|old, replicas: 2, all_sync: true}";
    let fleet = Fleet::start(route, "");
    let (mut old, mut both) = (fleet.client(OLD), fleet.client(BOTH));
    both.set("k", "x");
    assert_eq!(both.get("k").as_deref(), Some(&b"x"[..]));
    for copy in ["k", "k::1"] {
        eventually("both copies are set", || old.get(copy));
    }
    assert_eq!(both.ask("delete k\r\n"), "DELETED\r\n");
    assert_eq!((old.get("k"), old.get("k::1")), (None, None));

    let route = "{type: PoolRoute, pool: old, shard_splits: {\"7\": 3}}";
    let fleet = Fleet::start(route, "");
    let (mut old, mut both) = (fleet.client(OLD), fleet.client(BOTH));
    both.set("p:7:k", "x");
    let splits = ["p:7:k", "p:7aa:k", "p:7ba:k"];
    assert_eq!(splits.iter().filter(|split| old.get(split).is_some()).count(), 1, "one split is this router's");
    splits.iter().for_each(|split| old.set(split, "x"));
    assert_eq!(both.ask("delete p:7:k\r\n"), "DELETED\r\n");
    assert_eq!(splits.map(|split| old.get(split)), [None, None, None]);
}

#[test]
fn a_shadow_sees_a_copy() {
    let route = "{type: PoolRoute, pool: old, shadows: [{target: PoolRoute|new, keys_to_shadow: [k]}]}";
    let fleet = Fleet::start(route, "");
    let (mut new, mut both) = (fleet.client(NEW), fleet.client(BOTH));
    both.set("other", "x");
    both.set("k", "x");
    eventually("the shadow has it", || new.get("k"));
    assert_eq!(new.get("other"), None);
    assert_eq!(both.ask("delete k\r\n"), "DELETED\r\n");
    eventually("the shadow deleted it too", || new.get("k").is_none().then_some(()));
}

#[test]
fn a_delete_that_failed_is_logged_and_sent_when_the_server_is_back() {
    let (mut server, folder) = (Memcached::start(), Folder::new());
    let pool = format!("pools: {{web: {{servers: [\"{}\"]}}}}\nhealth: {{interval_ms: 200}}", server.address());
    let log = format!("async_log: {{directory: \"{}\"}}", folder.path().display());
    let keyway = Keyway::start(&full_file(&format!("{pool}\nroute: PoolRoute|web\n{log}")));
    let mut client = keyway.client();
    client.set("k", "x");
    assert_eq!(client.ask("delete k\r\n"), "DELETED\r\n");
    server.kill();
    // In flight when the server dies, or found down: durable either way.
    for _ in 0..20 {
        assert_eq!(client.ask("delete k\r\n"), "NOT_FOUND\r\n");
    }
    assert!(client.ask("set k 0 0 1\r\nx\r\n").starts_with("SERVER_ERROR"), "only deletes are");
    server.restart();
    keyway.metric_becomes(&format!("keyway_async_log_replayed_total{{server=\"{}\"}}", server.address()), 20.0);

    // Without a log it is an error.
    let keyway = Keyway::start(&full_file(&format!("{pool}\nroute: AsyncLogRoute|PoolRoute|web")));
    let mut client = keyway.client();
    server.kill();
    eventually("the server is missed", || client.ask("delete k\r\n").starts_with("SERVER_ERROR").then_some(()));
}
