//! Routes that ask all their children: AllSync, AllInitial, AllMajority, AllFastest, and the reply policy.

use crate::cases::tree;
use crate::play::Play;
use crate::table::check_routes;
use keyway_policies::routes::all_fastest::AllFastest;
use keyway_policies::routes::all_initial::AllInitial;
use keyway_policies::routes::all_majority::AllMajority;
use keyway_policies::routes::all_sync::AllSync;
use keyway_policies::{ByOperation, Choose, ReplyPolicy, RouteNode, Routes, Success};
use keyway_protocol::Operation;

/// A route over servers 0 to `servers - 1`.
fn over(servers: u32, route: impl Into<RouteNode>) -> Routes {
    tree(servers, |builder, servers| builder.add(route, servers).expect("a route"))
}

/// (the servers up, the operation, the course)
fn check(route: impl Into<RouteNode> + Clone, servers: u32, cases: &[(&str, &str, &str)]) {
    let routes = over(servers, route.clone());
    for (up, operation, course) in cases {
        check_routes(routes.node(routes.root()).name(), &routes, up, operation, course);
    }
}

#[test]
fn all_sync_waits_for_all_and_answers_the_worst() {
    check(
        AllSync::default(),
        3,
        &[
            ("111", "set", ">0 >1 >2; 0:STORED keep; 1:STORED; 2:STORED =0"),
            ("111", "set", ">0 >1 >2; 2:STORED keep; 1:STORED keep; 0:STORED =0"),
            ("111", "set", ">0 >1 >2; 0:STORED keep; 1:NOT_STORED keep; 2:STORED =1"),
            ("111", "set", ">0 >1 >2; 0:STORED keep; 1:timeout; 2:STORED =timeout"),
            ("111", "set", ">0 >1 >2; 0:SERVER_ERROR keep; 1:CLIENT_ERROR keep; 2:timeout =1"),
            ("111", "set", ">0 >1 >2; 0:SERVER_ERROR keep; 1:timeout; 2:unavailable =0"),
            ("111", "delete", ">0 >1 >2; 0:timeout; 1:NOT_FOUND keep; 2:DELETED =timeout"),
            // A conflict is worse than what was stored, whichever comes first.
            ("111", "cas", ">0 >1 >2; 0:STORED keep; 1:EXISTS keep; 2:STORED =1"),
            ("111", "cas", ">0 >1 >2; 1:EXISTS keep; 0:STORED; 2:STORED =1"),
            // mcrouter answers TOUCHED here: its table has no rank for it.
            ("111", "touch", ">0 >1 >2; 0:TOUCHED keep; 1:NOT_FOUND keep; 2:TOUCHED =1"),
            ("111", "incr", ">0 >1 >2; 0:NUMBER keep; 1:NUMBER; 2:NUMBER =0"),
            ("111", "get", ">0 >1 >2; 0:VALUE keep; 1:END keep; 2:VALUE =1"),
            ("111", "flush_all", ">0 >1 >2; 0:OK keep; 1:OK; 2:ERROR =2"),
            // One that is down is a failure, and the others see the request all the same.
            ("101", "set", ">0 >2; 0:STORED keep; 2:STORED =no_healthy_server"),
            ("100", "set", ">0; 0:SERVER_ERROR =0"),
            ("000", "set", "=no_healthy_server"),
        ],
    );
    check(AllSync::default(), 0, &[("", "set", "=no_healthy_server")]);
    check(AllSync::default(), 1, &[("1", "set", ">0; 0:STORED =0"), ("0", "set", "=no_healthy_server")]);
}

#[test]
fn ignore_down_leaves_out_what_is_down() {
    let replies = ReplyPolicy { ignore_down: true, ..ReplyPolicy::ALL_SYNC };
    check(
        AllSync { replies: ByOperation::same(replies) },
        3,
        &[
            ("101", "set", ">0 >2; 0:STORED keep; 2:STORED =0"),
            ("101", "set", ">0 >2; 0:STORED keep; 2:timeout =timeout"),
            // What can't be connected is down, whether it is known yet or not.
            ("111", "set", ">0 >1 >2; 0:STORED keep; 1:unavailable; 2:STORED =0"),
            ("111", "set", ">0 >1 >2; 0:unavailable; 1:unavailable; 2:unavailable =unavailable"),
            ("000", "set", "=no_healthy_server"),
        ],
    );
}

#[test]
fn a_quorum_is_more_than_half() {
    let policy = |answer, ignore_down| ReplyPolicy { success: Success::Quorum, ignore_down, answer };
    let route = |answer, ignore_down| AllSync { replies: ByOperation::same(policy(answer, ignore_down)) };
    check(
        route(Choose::Worst, false),
        3,
        &[
            ("111", "set", ">0 >1 >2; 0:STORED keep; 1:timeout; 2:STORED =0"),
            ("111", "set", ">0 >1 >2; 0:STORED keep; 1:timeout; 2:SERVER_ERROR =2"),
            ("111", "set", ">0 >1 >2; 0:SERVER_ERROR keep; 1:STORED keep; 2:NOT_STORED =2"),
            ("110", "set", ">0 >1; 0:STORED keep; 1:STORED =0"),
            ("100", "set", ">0; 0:STORED =no_healthy_server"),
        ],
    );
    check(
        route(Choose::FirstOk, false),
        3,
        &[
            ("111", "set", ">0 >1 >2; 2:STORED keep; 0:NOT_STORED =2; 1:STORED"),
            ("111", "set", ">0 >1 >2; 1:SERVER_ERROR keep; 2:timeout; 0:STORED =1"),
        ],
    );
    check(
        route(Choose::FirstHit, true),
        3,
        &[
            ("111", "get", ">0 >1 >2; 2:END keep; 1:END keep; 0:VALUE =0"),
            ("111", "get", ">0 >1 >2; 2:VALUE keep; 0:END =2; 1:VALUE"),
            ("111", "get", ">0 >1 >2; 2:END keep; 1:END keep; 0:END =0"),
            ("100", "get", ">0; 0:VALUE =0"),
        ],
    );
}

#[test]
fn best_and_primary_wait_for_all() {
    let route =
        |success, answer| AllSync { replies: ByOperation::same(ReplyPolicy { success, ignore_down: true, answer }) };
    check(
        route(Success::Any, Choose::Best),
        3,
        &[
            ("111", "touch", ">0 >1 >2; 0:NOT_FOUND keep; 1:TOUCHED keep; 2:SERVER_ERROR =1"),
            ("111", "cas", ">0 >1 >2; 0:EXISTS keep; 1:NOT_FOUND; 2:STORED =2"),
            ("111", "get", ">0 >1 >2; 0:END keep; 1:timeout; 2:SERVER_ERROR =0"),
            ("111", "get", ">0 >1 >2; 0:SERVER_ERROR keep; 1:CLIENT_ERROR; 2:timeout =timeout"),
        ],
    );
    check(route(Success::All, Choose::Best), 2, &[("11", "set", ">0 >1; 0:STORED keep; 1:timeout =timeout")]);
    check(
        route(Success::Any, Choose::Primary),
        3,
        &[
            ("111", "incr", ">0 >1 >2; 2:NUMBER keep; 1:NUMBER keep; 0:NUMBER =0"),
            ("111", "incr", ">0 >1 >2; 2:NUMBER keep; 0:NOT_FOUND keep; 1:NUMBER =0"),
            ("111", "incr", ">0 >1 >2; 0:timeout; 2:NUMBER keep; 1:NUMBER =1"),
            ("011", "incr", ">1 >2; 2:NUMBER keep; 1:NUMBER =1"),
            ("111", "incr", ">0 >1 >2; 0:timeout; 2:CLIENT_ERROR keep; 1:timeout =2"),
        ],
    );
}

#[test]
fn all_fastest_with_misses_as_answers() {
    let replies = ReplyPolicy { answer: Choose::FirstOk, ..ReplyPolicy::ALL_FASTEST };
    check(
        AllFastest { replies: ByOperation::same(replies) },
        3,
        &[
            ("111", "get", ">0 >1 >2; 1:END =1; 0:VALUE; 2:VALUE"),
            ("111", "get", ">0 >1 >2; 1:timeout; 2:SERVER_ERROR keep; 0:VALUE =0"),
            ("111", "get", ">0 >1 >2; 1:CLIENT_ERROR keep; 2:END =2; 0:VALUE"),
        ],
    );
}

#[test]
fn operations_have_policies_of_their_own() {
    let mut replies = ByOperation::same(ReplyPolicy::ALL_SYNC);
    replies.set(Operation::Get, ReplyPolicy::ALL_FASTEST);
    check(
        AllSync { replies },
        2,
        &[("11", "get", ">0 >1; 1:VALUE =1; 0:VALUE"), ("11", "gets", ">0 >1; 1:VALUE keep; 0:VALUE =0")],
    );
}

#[test]
fn all_initial_answers_what_its_first_child_says() {
    check(
        AllInitial,
        3,
        &[
            ("111", "set", ">0 >1 >2; 1:STORED; 0:NOT_STORED =0; 2:timeout"),
            ("111", "get", ">0 >1 >2; 0:END =0; 1:VALUE; 2:VALUE"),
            ("111", "delete", ">0 >1 >2; 0:timeout =timeout; 1:DELETED"),
            ("101", "set", ">0 >2; 0:STORED =0"),
            // The first is down: the others are copies, not replacements.
            ("011", "set", ">1 >2 =no_healthy_server; 1:STORED; 2:STORED"),
            ("000", "set", "=no_healthy_server"),
        ],
    );
    check(AllInitial, 0, &[("", "get", "=no_healthy_server")]);
    check(AllInitial, 1, &[("1", "get", ">0; 0:END =0")]);
}

#[test]
fn a_parent_takes_another_child_only_where_nothing_was_asked() {
    let routes = tree(3, |builder, servers| {
        let copies = builder.add(AllInitial, &servers[..2]).expect("a route");
        builder.default_route(&[copies, servers[2]]).expect("a route")
    });
    check_routes("Default(AllInitial(0 1) 2)", &routes, "011", "set", ">1 =no_healthy_server; 1:STORED");
    check_routes("Default(AllInitial(0 1) 2)", &routes, "001", "set", ">2; 2:STORED =2");
    let routes = tree(3, |builder, servers| {
        let copies = builder.add(AllSync::default(), &servers[..2]).expect("a route");
        builder.default_route(&[copies, servers[2]]).expect("a route")
    });
    check_routes("Default(AllSync(0 1) 2)", &routes, "001", "set", ">2; 2:STORED =2");
    check_routes("Default(AllSync(0 1) 2)", &routes, "011", "set", ">1; 1:STORED =no_healthy_server");
}

#[test]
fn all_majority_answers_what_most_say() {
    check(
        AllMajority,
        3,
        &[
            ("111", "set", ">0 >1 >2; 2:STORED keep; 0:STORED =0; 1:NOT_STORED"),
            ("111", "set", ">0 >1 >2; 0:STORED keep; 1:NOT_STORED keep; 2:NOT_STORED =1"),
            ("111", "set", ">0 >1 >2; 0:STORED keep; 1:timeout; 2:timeout =timeout"),
            // No two agree: the worst of them.
            ("111", "set", ">0 >1 >2; 0:STORED keep; 1:NOT_STORED keep; 2:timeout =timeout"),
            ("111", "set", ">0 >1 >2; 0:STORED keep; 1:CLIENT_ERROR keep; 2:SERVER_ERROR =1"),
            ("111", "get", ">0 >1 >2; 1:VALUE keep; 0:END keep; 2:VALUE =1"),
            // Those that are down have failed.
            ("110", "set", ">0 >1; 0:STORED keep; 1:STORED =0"),
            ("100", "set", ">0 =no_healthy_server; 0:STORED"),
            ("000", "set", "=no_healthy_server"),
        ],
    );
    check(
        AllMajority,
        4,
        &[
            ("1111", "set", ">0 >1 >2 >3; 0:STORED keep; 1:STORED; 2:NOT_STORED keep; 3:NOT_STORED =2"),
            ("1111", "set", ">0 >1 >2 >3; 3:STORED keep; 1:STORED keep; 2:STORED =1; 0:timeout"),
            ("1110", "set", ">0 >1 >2; 0:STORED keep; 1:unavailable; 2:NOT_STORED =unavailable"),
        ],
    );
    check(AllMajority, 0, &[("", "get", "=no_healthy_server")]);
}

#[test]
fn values_are_answered_as_they_came() {
    let replies = ReplyPolicy { success: Success::Any, ignore_down: true, answer: Choose::Best };
    let routes = over(2, AllSync { replies: ByOperation::same(replies) });
    Play::new(&routes)
        .check("get k|", &[("go", ">0 get k >1 get k"), ("1 VALUE b f=2", "kept"), ("0 VALUE a f=1", "=VALUE a f=1")]);
    Play::new(&routes)
        .check("get k|", &[("go", ">0 get k >1 get k"), ("1 VALUE b f=2", "kept"), ("0 timeout", "=VALUE b f=2")]);
    let routes = over(3, AllMajority);
    Play::new(&routes).check(
        "get k|",
        &[
            ("go", ">0 get k >1 get k >2 get k"),
            ("1 VALUE b", "kept"),
            ("0 END", "kept"),
            ("2 VALUE c", "=VALUE b f=0"),
        ],
    );
}

#[test]
fn of_values_that_replace_each_other_one_is_kept() {
    let replies = ReplyPolicy { success: Success::Any, ignore_down: true, answer: Choose::Best };
    let routes = over(4, AllSync { replies: ByOperation::same(replies) });
    let mut play = Play::new(&routes);
    play.go("get k|");
    let value = "x".repeat(1000);
    for (child, told) in [(3, "kept"), (2, "kept"), (1, "kept")] {
        assert_eq!(play.step(&format!("{child} VALUE {value}")), told);
        assert!(play.held_bytes() < 1100, "{} bytes", play.held_bytes());
    }
    assert_eq!(play.step("0 END"), format!("=VALUE {value} f=0"));
}
