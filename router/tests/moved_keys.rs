//! How many keys change their server between two configurations: against what the hashes promise.

use keyway::config::{Config, Overrides};
use keyway::moved_keys::{Change, Fate, Moved, Sample, moved_keys};

fn config(yaml: &str) -> Config {
    Config::parse(yaml.as_bytes(), "test.yaml", &Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn compare(old: &str, new: &str) -> Moved {
    moved_keys(&config(old), &config(new), &Sample::Generated(20_000))
}

/// The keys that move of what has that name; `None` when it isn't in both.
fn moved(changes: &[Change], name: &str) -> Option<usize> {
    let change = changes.iter().find(|change| change.name == name).unwrap_or_else(|| panic!("no {name}"));
    match change.fate {
        Fate::Stays { moved } => Some(moved),
        Fate::Added | Fate::Removed => None,
    }
}

fn sharded(servers: &[&str], more: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!("pools:\n  web:\n    servers: [{}]\n{more}route: PoolRoute|web\n", servers.join(", "))
}

const FOUR: [&str; 4] = ["10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11211", "10.0.0.4:11211"];

#[test]
fn the_share_is_what_the_hash_promises() {
    let ketama = "    hash: {distribution: ketama}\n";
    let check = |old: String, new: String, percent: std::ops::RangeInclusive<usize>| {
        let seen = compare(&old, &new);
        let count = moved(&seen.pools, "web").expect("the pool is in both");
        assert!(percent.contains(&(count * 100 / 20_000)), "{count} of 20000\n{old}{new}");
        assert_eq!(moved(&seen.routes, "main"), Some(count));
        assert_eq!(moved(&seen.listeners, "tcp://:8080"), Some(count));
    };
    check(sharded(&FOUR, ""), sharded(&FOUR, ""), 0..=0);
    check(sharded(&FOUR, ketama), sharded(&FOUR, "    hash: {function: fnv1a_64}\n"), 0..=0);
    // Timeouts are no business of keys.
    check(sharded(&FOUR, ""), sharded(&FOUR, "    timeout_ms: 5\n"), 0..=0);
    // One more at the end takes its share, and no other key moves.
    check(sharded(&FOUR[..3], ""), sharded(&FOUR, ""), 23..=27);
    // ketama gives it about as much, wherever it stands.
    check(sharded(&FOUR[1..], ketama), sharded(&FOUR, ketama), 17..=33);
    // ch3 goes by the position: one less in front shifts the others, and only a third of the last one's keys are lucky.
    check(sharded(&FOUR, ""), sharded(&FOUR[1..], ""), 90..=93);
    check(sharded(&FOUR, ""), sharded(&FOUR, ketama), 65..=85);
}

#[test]
fn a_name_keeps_the_place_on_the_ring_but_not_the_server() {
    let named = |address: &str| {
        format!(
            "pools: {{web: {{servers: [{{address: \"{address}\", name: a}}, {{address: \"10.0.0.2:1\", name: b}}], \
             hash: {{distribution: ketama}}}}}}\nroute: PoolRoute|web\n"
        )
    };
    // The keys of `a` are on another machine now; those of `b` are where they were.
    let count = moved(&compare(&named("10.0.0.1:1"), &named("10.0.0.9:1")).pools, "web").expect("in both");
    assert!((7_000..13_000).contains(&count), "{count}");
}

#[test]
fn replicas_that_still_have_a_key_are_no_move() {
    let tree = |servers: &str, route: &str| format!("orderedPool: [{servers}]\nroute: {route}\n");
    let check = |old: &str, new: &str, route: &str, wanted: usize| {
        let seen = compare(&tree(old, route), &tree(new, route));
        assert_eq!(moved(&seen.routes, "main"), Some(wanted), "{route}: {old} -> {new}");
    };
    check("\"a:1\", \"b:1\"", "\"b:1\", \"c:1\"", "AllFastestRoute", 0);
    check("\"a:1\", \"b:1\"", "\"c:1\", \"d:1\"", "AllFastestRoute", 20_000);
    // What is asked first is another server.
    check("\"a:1\", \"b:1\"", "\"b:1\", \"a:1\"", "MissFailoverRoute", 20_000);
    check("\"a:1\", \"b:1\"", "\"a:1\", \"c:1\"", "MissFailoverRoute", 0);
    check("\"a:1\"", "\"b:1\"", "LocalRoute", 0);
}

#[test]
fn listeners_routes_and_pools_that_come_and_go_are_said() {
    let old = "listeners: [{address: \"tcp://127.0.0.1:1\", route: x}, {address: \"tcp://127.0.0.1:2\", route: y}]\n\
               pools: {p: {servers: [\"a:1\"]}, q: {servers: [\"b:1\"]}}\nroutes: {x: PoolRoute|p, y: PoolRoute|q}\n";
    let new = "listeners: [{address: \"tcp://127.0.0.1:2\", route: x}, {address: \"tcp://127.0.0.1:3\", route: z}]\n\
               pools: {r: {servers: [\"a:1\"]}, q: {servers: [\"b:1\"]}}\nroutes: {x: PoolRoute|r, z: PoolRoute|q}\n";
    let seen = compare(old, new);
    assert_eq!((moved(&seen.routes, "x"), moved(&seen.routes, "y"), moved(&seen.routes, "z")), (Some(0), None, None));
    assert_eq!((moved(&seen.pools, "q"), moved(&seen.pools, "p"), moved(&seen.pools, "r")), (Some(0), None, None));
    // Its clients went to b, and go to a now.
    assert_eq!(moved(&seen.listeners, "tcp://127.0.0.1:2"), Some(20_000));
    let text = seen.to_string();
    for line in [
        "of 20000 keys change their server:",
        "listener tcp://127.0.0.1:2: 20000, 100.00 %",
        "listener tcp://127.0.0.1:3: only in the new configuration",
        "listener tcp://127.0.0.1:1: only in the old configuration",
        "route x: 0, 0.00 %",
        "pool p: only in the old configuration",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line}\n{text}");
    }
    assert_eq!(
        seen.summary(),
        "keys that change their server: route z is new, route y is gone, pool r is new, pool p is gone"
    );
    assert_eq!(compare(old, old).summary(), "no key changes its server");
    let json: serde_yaml::Value = serde_yaml::from_str(&seen.to_json()).expect("JSON is YAML");
    assert_eq!(json["keys"].as_u64(), Some(20_000));
    assert_eq!(json["listeners"][0]["share"].as_f64(), Some(1.0));
    assert_eq!(json["pools"][2]["only_in"].as_str(), Some("old"));
}

#[test]
fn a_listener_alone_is_compared_with_the_other_whatever_its_address() {
    let one = |port: u16| format!("listeners: [{{address: \"tcp://127.0.0.1:{port}\"}}]\n{}", sharded(&FOUR, ""));
    assert_eq!(moved(&compare(&one(1), &one(2)).listeners, "tcp://127.0.0.1:2"), Some(0));
}

#[test]
fn keys_of_ones_own() {
    let check = |text: &str, wanted: Result<usize, &str>| {
        assert_eq!(Sample::from_lines(text).map(|sample| sample.len()), wanted.map_err(str::to_owned), "{text:?}");
    };
    check("a\nb\r\nuser:{42}\n", Ok(3));
    check("k\u{e4}se", Ok(1));
    check("", Err("holds no keys"));
    check("a\n\nb\n", Err("line 2: a key has 1 to 250 bytes, this one 0"));
    check("a b\n", Err("line 1: a key has no spaces or control characters"));
    check(&"x".repeat(251), Err("line 1: a key has 1 to 250 bytes, this one 251"));
    let (old, new) = (config(&sharded(&FOUR[..1], "")), config(&sharded(&FOUR[1..2], "")));
    let keys = Sample::from_lines("a\nb\n").expect("good keys");
    assert_eq!(moved_keys(&old, &new, &keys).keys, 2);
    assert_eq!(moved(&moved_keys(&old, &new, &keys).pools, "web"), Some(2));
}
