//! MigrateRoute: from server 0 to server 1.

use crate::cases::tree;
use crate::play::Play;
use keyway_policies::Routes;
use keyway_policies::routes::migrate::Migrate;

const START: u64 = 1_700_000_000;
const INTERVAL: u64 = 3600;

fn migrate() -> Routes {
    let route = Migrate { start_time: START, interval: INTERVAL };
    tree(2, |builder, servers| builder.add(route, servers).expect("a route"))
}

fn at(routes: &Routes, second: u64) -> Play<'_> {
    let mut play = Play::new(routes);
    play.unix_ms = second * 1000;
    play
}

/// When a key moves: the first second in which a get goes to the new side.
fn instant_of(routes: &Routes, key: &str) -> u64 {
    let moved = |second: &u64| at(routes, *second).tell_all(&format!("get {key}|"), &["go"])[0].starts_with(">1");
    (START..=START + 2 * INTERVAL).find(moved).expect("every key moves")
}

#[test]
fn reads_and_writes_move_at_the_key_s_own_instant() {
    let routes = migrate();
    let instants = ["a", "b", "c", "user:1", "user:2"].map(|key| instant_of(&routes, key));
    for instant in instants {
        assert!((START + INTERVAL..START + 2 * INTERVAL).contains(&instant), "{instant}");
    }
    assert!(instants.windows(2).any(|pair| pair[0] != pair[1]), "{instants:?}");
    assert_eq!(instant_of(&routes, "a¦#¦x"), instant_of(&routes, "a¦#¦y"), "what isn't hashed doesn't count");
    let instant = instants[0];
    for request in ["get a", "set a 0 0 1|x", "incr a 1", "touch a 1", "gets a"] {
        for (second, server) in [(0, 0), (START, 0), (instant - 1, 0), (instant, 1), (START + 2 * INTERVAL, 1)] {
            let sent = format!(">{server} {request}");
            let reply = format!("{server} ERROR");
            at(&routes, second).check(&format!("{request}|"), &[("go", &sent), (&reply, "=ERROR")]);
        }
    }
}

#[test]
fn deletes_go_to_both_for_two_intervals() {
    let routes = migrate();
    for (second, sent) in [
        (START - 1, ">0 delete k"),
        (START, ">0 delete k >1 delete k"),
        (START + 2 * INTERVAL - 1, ">0 delete k >1 delete k"),
        (START + 2 * INTERVAL, ">1 delete k"),
    ] {
        at(&routes, second).check("delete k|", &[("go", sent)]);
    }
    let both = ("go", ">0 delete k >1 delete k");
    for (replies, answer) in [
        (["0 DELETED", "1 DELETED"], "=DELETED"),
        (["0 DELETED", "1 NOT_FOUND"], "=NOT_FOUND"),
        (["0 DELETED", "1 timeout"], "=timeout"),
        (["0 SERVER_ERROR", "1 DELETED"], "=SERVER_ERROR"),
    ] {
        let last = if replies[1].ends_with("timeout") { replies } else { [replies[1], replies[0]] };
        at(&routes, START).check("delete k|", &[both, (last[0], "kept"), (last[1], answer)]);
    }
    at(&routes, START).check("delete k|", &[("up=10", ""), ("go", ">0 delete k"), ("0 DELETED", "=no_healthy_server")]);
    at(&routes, START).check("delete k|", &[("up=00", ""), ("go", "=no_healthy_server")]);
    at(&routes, START).check("get k|", &[("up=01", ""), ("go", "=no_healthy_server")]);
}
