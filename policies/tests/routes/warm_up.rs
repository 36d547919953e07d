//! WarmUpRoute: server 0 is cold, server 1 is warm.

use crate::cases::tree;
use crate::play::Play;
use keyway_policies::routes::backfill::Backfill;
use keyway_policies::routes::outstanding_limit::OutstandingLimit;
use keyway_policies::routes::warm_up::WarmUp;
use keyway_policies::{ExplainUse, HealthView, RequestView, Routes, routes::explain::ExplainAt};
use keyway_protocol::Operation;

const SAFE: WarmUp =
    WarmUp { fill: Backfill { exptime: None, ask_ttl: true, delete_both: true }, invalidate_warm: false };
const MCROUTER: WarmUp =
    WarmUp { fill: Backfill { exptime: Some(60), ask_ttl: false, delete_both: false }, invalidate_warm: false };

fn warm_up(route: WarmUp) -> Routes {
    tree(2, |builder, servers| builder.add(route, servers).expect("a route"))
}

fn capped(exptime: u32) -> WarmUp {
    WarmUp { fill: Backfill { exptime: Some(exptime), ..SAFE.fill }, ..SAFE }
}

fn check(route: WarmUp, request: &str, steps: &[(&str, &str)]) {
    let routes = warm_up(route);
    Play::new(&routes).check(request, steps);
}

const MG: &str = "kept >1 mg k k f t c v";

#[test]
fn a_get_is_answered_by_cold_when_cold_has_it() {
    check(SAFE, "get k|", &[("go", ">0 get k"), ("0 VALUE x f=7", "=VALUE x f=7")]);
}

#[test]
fn a_warm_hit_is_the_answer_and_fills_cold_with_flags_and_life() {
    check(
        SAFE,
        "get k|",
        &[
            ("go", ">0 get k"),
            ("0 END", MG),
            ("1 VALUE abc f=3 t=90 c=7", ">0 add k 3 90 3|abc =VALUE abc f=3"),
            ("0 STORED", ">1 mg k k f t c"),
            ("1 VALUE  f=3 t=90 c=7", ""),
        ],
    );
    // mcrouter's: nothing is looked at again.
    check(
        MCROUTER,
        "get k|",
        &[
            ("go", ">0 get k"),
            ("0 END", "kept >1 get k"),
            ("1 VALUE abc f=3", ">0 add k 3 60 3|abc =VALUE abc f=3"),
            ("0 STORED", ""),
        ],
    );
}

#[test]
fn what_is_left_of_an_item_s_life() {
    let filled = |route, item: &str, add: &str| {
        check(route, "get k|", &[("go", ">0 get k"), ("0 END", MG), (item, add)]);
    };
    filled(SAFE, "1 VALUE x t=-1 c=1", ">0 add k 0 0 1|x =VALUE x f=0");
    filled(SAFE, "1 VALUE x t=1 c=1", ">0 add k 0 1 1|x =VALUE x f=0");
    // In its last second it isn't worth it, and 0 would mean no end.
    filled(SAFE, "1 VALUE x t=0 c=1", "=VALUE x f=0");
    // Beyond 30 days memcached takes a number for a date.
    filled(SAFE, "1 VALUE x t=2592000 c=1", ">0 add k 0 2592000 1|x =VALUE x f=0");
    filled(SAFE, "1 VALUE x t=2592001 c=1", ">0 add k 0 1702592001 1|x =VALUE x f=0");
    // exptime is the most it may be.
    filled(capped(60), "1 VALUE x t=-1 c=1", ">0 add k 0 60 1|x =VALUE x f=0");
    filled(capped(60), "1 VALUE x t=59 c=1", ">0 add k 0 59 1|x =VALUE x f=0");
    filled(capped(60), "1 VALUE x t=61 c=1", ">0 add k 0 60 1|x =VALUE x f=0");
    filled(capped(0), "1 VALUE x t=61 c=1", ">0 add k 0 61 1|x =VALUE x f=0");
    filled(capped(0), "1 VALUE x t=-1 c=1", ">0 add k 0 0 1|x =VALUE x f=0");
}

#[test]
fn a_warm_server_without_meta_gets() {
    for refusal in ["1 ERROR", "1 CLIENT_ERROR"] {
        let asked = ("go", ">0 get k");
        // How long it has to live isn't known, so cold is left alone.
        check(SAFE, "get k|", &[asked, ("0 END", MG), (refusal, ">1 gets k"), ("1 VALUE x c=9", "=VALUE x f=0")]);
        check(
            capped(60),
            "get k|",
            &[
                asked,
                ("0 END", MG),
                (refusal, ">1 gets k"),
                ("1 VALUE x c=9", ">0 add k 0 60 1|x =VALUE x f=0"),
                ("0 STORED", ">1 gets k"),
                ("1 VALUE x c=9", ""),
            ],
        );
        check(SAFE, "get k|", &[asked, ("0 END", MG), (refusal, ">1 gets k"), ("1 END", "=END")]);
    }
    // A server that is only unwell isn't asked twice.
    check(SAFE, "get k|", &[("go", ">0 get k"), ("0 END", MG), ("1 SERVER_ERROR", "=END")]);
}

#[test]
fn neither_has_it() {
    for (cold, warm, answer) in [
        ("END", "END", "=END"),
        ("END", "timeout", "=END"),
        ("END", "SERVER_ERROR", "=END"),
        ("timeout", "END", "=END"),
        ("timeout", "SERVER_ERROR", "=SERVER_ERROR"),
        ("timeout", "connection_lost", "=connection_lost"),
        ("SERVER_ERROR", "timeout", "=SERVER_ERROR"),
    ] {
        let far = if cold == "timeout" { ">1 mg k k f t c v" } else { MG };
        let steps = [("go", ">0 get k"), (&*format!("0 {cold}"), far), (&*format!("1 {warm}"), answer)];
        check(SAFE, "get k|", &steps);
    }
    // Not a get: cold's word, where warm's is no better.
    check(
        SAFE,
        "gets k|",
        &[("go", ">0 gets k"), ("0 timeout", ">1 mg k k f t c v"), ("1 connection_lost", "=timeout")],
    );
    check(SAFE, "get k|", &[("go", ">0 get k"), ("0 deadline_exceeded", "=deadline_exceeded")]);
}

#[test]
fn children_that_are_down() {
    check(
        SAFE,
        "get k|",
        &[
            ("up=01", ""),
            ("go", ">1 mg k k f t c v"),
            // The add finds cold down still.
            ("1 VALUE x t=5 c=1", "=VALUE x f=0"),
        ],
    );
    check(SAFE, "get k|", &[("up=10", ""), ("go", ">0 get k"), ("0 END", "=END")]);
    check(SAFE, "get k|", &[("up=00", ""), ("go", "=no_healthy_server")]);
    check(SAFE, "delete k|", &[("up=00", ""), ("go", "=no_healthy_server")]);
    check(SAFE, "delete k|", &[("up=01", ""), ("go", ">1 delete k"), ("1 DELETED", "=no_healthy_server")]);
    check(SAFE, "delete k|", &[("up=10", ""), ("go", ">0 delete k"), ("0 DELETED", "=no_healthy_server")]);
    check(SAFE, "set k 0 0 1|x|", &[("up=01", ""), ("go", "=no_healthy_server")]);
    // With nothing dispatched, a parent may go on as if it weren't there.
    let routes = tree(3, |builder, servers| {
        let warm_up = builder.add(SAFE, &servers[..2]).expect("a route");
        builder.miss_failover(&[warm_up, servers[2]]).expect("a route")
    });
    for (request, sent) in [("get k|", ">2 get k"), ("delete k|", ">2 delete k")] {
        Play::new(&routes).check(request, &[("up=001", ""), ("go", sent)]);
    }
}

#[test]
fn a_cas_is_cold_s() {
    for (request, asked, exptime) in [
        ("gets k|", "gets k", "90"),
        ("gats 30 k|", "gats 30 k", "30"),
        ("gat 30 k|", "gat 30 k", "30"),
        ("gat -1 k|", "gat -1 k", "-1"),
    ] {
        let [ask, add] = [format!(">0 {asked}"), format!(">0 add k 3 {exptime} 2|ab")];
        let behind = format!(">1 mg k k f t c {ask}");
        check(
            SAFE,
            request,
            &[
                ("go", &ask),
                ("0 END", MG),
                ("1 VALUE ab f=3 t=90 c=7", &add),
                ("0 STORED", &behind),
                ("0 VALUE ab f=3 c=1", "=VALUE ab f=3"),
                ("1 VALUE  f=3 t=90 c=7", ""),
            ],
        );
        // Somebody else was faster: it is cold's word that counts.
        check(
            SAFE,
            request,
            &[
                ("go", &ask),
                ("0 END", MG),
                ("1 VALUE ab f=3 t=90 c=7", &add),
                ("0 NOT_STORED", &ask),
                ("0 VALUE new c=2", "=VALUE new f=0"),
            ],
        );
        check(
            SAFE,
            request,
            &[
                ("go", &ask),
                ("0 END", MG),
                ("1 VALUE ab f=3 t=90 c=7", &add),
                ("0 SERVER_ERROR", &ask),
                ("0 END", "=END"),
            ],
        );
    }
    // Without a life to give it a gets is a miss, since a cas of warm's means nothing to cold; a gat is the value.
    let steps = |answer| [("go", ""), ("0 END", MG), ("1 ERROR", ">1 gets k"), ("1 VALUE x c=9", answer)];
    let mut gets = steps("=END");
    gets[0].1 = ">0 gets k";
    check(SAFE, "gets k|", &gets);
}

#[test]
fn an_item_there_is_no_room_for_is_passed_on() {
    let routes = warm_up(SAFE);
    let mut play = Play::new(&routes);
    play.spare_bytes = 200;
    let long = "x".repeat(180);
    let hit = format!("1 VALUE {long} t=9 c=1");
    let answer = format!("=VALUE {long} f=0");
    play.check("get k|", &[("go", ">0 get k"), ("0 END", MG), (&hit, &answer)]);
    play.check("gat 9 k|", &[("go", ">0 gat 9 k"), ("0 END", MG), (&hit, &answer)]);
    play.check("gets k|", &[("go", ">0 gets k"), ("0 END", MG), (&hit, "=END")]);
    // Not even for the question.
    play.spare_bytes = 10;
    play.check("get k|", &[("go", ">0 get k"), ("0 END", "=END")]);
}

#[test]
fn a_delete_is_done_at_warm_before_cold_hears_of_it() {
    for (warm, cold, answer) in [
        ("DELETED", "DELETED", "=DELETED"),
        ("NOT_FOUND", "DELETED", "=NOT_FOUND"),
        ("DELETED", "NOT_FOUND", "=NOT_FOUND"),
        ("SERVER_ERROR", "DELETED", "=SERVER_ERROR"),
        ("DELETED", "timeout", "=timeout"),
        ("timeout", "DELETED", "=timeout"),
        ("deadline_exceeded", "DELETED", "=deadline_exceeded"),
    ] {
        let kept = warm.bytes().all(|byte| !byte.is_ascii_lowercase());
        let cold_asked = if kept { "kept >0 delete k" } else { ">0 delete k" };
        let steps = [("go", ">1 delete k"), (&*format!("1 {warm}"), cold_asked), (&*format!("0 {cold}"), answer)];
        check(SAFE, "delete k|", &steps);
    }
    check(MCROUTER, "delete k|", &[("go", ">0 delete k"), ("0 DELETED", "=DELETED")]);
}

#[test]
fn other_operations_are_cold_s() {
    for request in ["set k 0 0 1|x|", "cas k 0 0 1 9|x|", "incr k 1|", "touch k 5|"] {
        let sent = format!(">0 {}", request.trim_end_matches('|'));
        check(SAFE, request, &[("go", &sent), ("0 SERVER_ERROR", "=SERVER_ERROR")]);
        let invalidating = WarmUp { invalidate_warm: true, ..SAFE };
        check(invalidating, request, &[("go", &sent), ("0 STORED", ">1 delete k =STORED"), ("1 DELETED", "")]);
        check(invalidating, request, &[("go", &sent), ("0 timeout", ">1 delete k =timeout")]);
        check(invalidating, request, &[("go", &sent), ("0 NOT_FOUND", "=NOT_FOUND")]);
        check(invalidating, request, &[("up=01", ""), ("go", "=no_healthy_server")]);
    }
}

#[test]
fn what_was_filled_in_is_deleted_unless_warm_still_has_it() {
    let filled = [("go", ">0 get k"), ("0 END", MG), ("1 VALUE x t=9 c=7", ">0 add k 0 9 1|x =VALUE x f=0")];
    let after = |behind: &[(&str, &str)]| check(SAFE, "get k|", &[&filled[..], behind].concat());
    let stored = ("0 STORED", ">1 mg k k f t c");
    after(&[stored, ("1 VALUE  t=8 c=7", "")]);
    for look in ["1 END", "1 VALUE  t=8 c=8", "1 timeout", "1 SERVER_ERROR", "1 ERROR"] {
        after(&[stored, (look, ">0 delete k"), ("0 DELETED", "")]);
    }
    // It isn't known what became of the add.
    for unknown in ["0 timeout", "0 connection_lost", "0 misaligned"] {
        after(&[(unknown, ">0 delete k"), ("0 timeout", "")]);
    }
    // It wasn't sent, or wasn't stored.
    for nothing in ["0 queue_full", "0 unavailable", "0 NOT_STORED", "0 SERVER_ERROR"] {
        after(&[(nothing, "")]);
    }
}

#[test]
fn what_goes_on_behind_the_answer_goes_through_joins_too() {
    // Cold is two servers in order, warm the third.
    let routes = tree(3, |builder, servers| {
        let cold = builder.miss_failover(&servers[..2]).expect("a route");
        builder.add(SAFE, &[cold, servers[2]]).expect("a route")
    });
    let mut play = Play::new(&routes);
    play.check(
        "get k|",
        &[
            ("up=101", ""),
            ("go", ">0 get k"),
            ("0 END", "kept >2 mg k k f t c v"),
            ("up=111", ""),
            ("2 VALUE x t=9 c=7", ">0 add k 0 9 1|x =VALUE x f=0"),
            ("0 SERVER_ERROR", ">1 add k 0 9 1|x"),
            ("1 STORED", ">2 mg k k f t c"),
            ("2 END", ">0 delete k"),
            ("0 timeout", ">1 delete k"),
            ("1 DELETED", ""),
        ],
    );
}

#[test]
fn a_write_too_large_to_be_kept_is_deleted_at_warm_all_the_same() {
    let routes = warm_up(WarmUp { invalidate_warm: true, ..SAFE });
    let mut play = Play::new(&routes);
    play.keeps = false;
    play.check("set k 0 0 1|x|", &[("go", ">0 set k 0 0 1|x"), ("0 STORED", ">1 delete k =STORED")]);
}

#[test]
fn what_is_behind_the_answer_does_not_end_with_the_client() {
    // Warm takes one request at a time, and one is there.
    let routes = tree(2, |builder, servers| {
        let limit = OutstandingLimit { most: 1, most_waiting: 9, wait: 1_000_000_000 };
        let warm = builder.add(limit, &servers[1..]).expect("a route");
        builder.add(SAFE, &[servers[0], warm]).expect("a route")
    });
    let (mut play, mut other) = (Play::new(&routes), Play::new(&routes));
    let filled = [("go", ">0 get k"), ("0 END", MG), ("1 VALUE x t=9 c=7", ">0 add k 0 9 1|x =VALUE x f=0")];
    play.check("get k|", &filled);
    std::mem::swap(&mut play.state, &mut other.state);
    other.check("get o|", &[("go", ">0 get o"), ("0 END", "kept >1 mg o k f t c v")]);
    std::mem::swap(&mut play.state, &mut other.state);
    play.check_on(&[("0 STORED", "~1000"), ("gone", "")]);
    assert!(play.lingers(), "the second look waits for its turn");
    // The turn never comes: better no item than a stale one.
    play.check_on(&[("+1000", ">0 delete k"), ("0 DELETED", "")]);
    assert!(!play.lingers());
}

#[test]
fn a_delete_goes_on_without_its_client() {
    let routes = warm_up(SAFE);
    let mut play = Play::new(&routes);
    play.check("delete k|", &[("go", ">1 delete k"), ("gone", ""), ("1 DELETED", ">0 delete k"), ("0 DELETED", "")]);
    // A read doesn't.
    play.check("get k|", &[("go", ">0 get k"), ("gone", ""), ("0 END", "")]);
    assert!(!play.lingers());
}

#[test]
fn explain_tells_what_may_follow() {
    let routes = warm_up(SAFE);
    let told = |operation| {
        let steps =
            routes.explain(&RequestView::of_key(operation, b"k"), HealthView(&[255, 255]), ExplainAt::default());
        let used = steps.iter().filter_map(|step| step.server.map(|server| (server.0, step.usage)));
        used.collect::<Vec<_>>()
    };
    assert_eq!(told(Operation::Get), [(0, ExplainUse::Now), (1, ExplainUse::Later)]);
    assert_eq!(told(Operation::Delete), [(1, ExplainUse::Now), (0, ExplainUse::Later)]);
    assert_eq!(told(Operation::Set), [(0, ExplainUse::Now)]);
}
