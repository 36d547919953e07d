//! Routes that ask one child after the other: Failover, FailoverWithExptime, MissFailover; their budget and back-fill.

use crate::cases::tree;
use crate::play::Play;
use crate::table::check_routes;
use keyway_policies::routes::failover::Failover;
use keyway_policies::routes::failover_with_exptime::FailoverWithExptime;
use keyway_policies::routes::miss_failover::MissFailover;
use keyway_policies::routes::walk::{Budget, ErrorSet, Order, Otherwise, Rule, Walk};
use keyway_policies::{ByOperation, RouteNode, Routes};
use keyway_protocol::{Operation, OperationClass};

/// A route over servers 0 to `servers - 1`.
fn over(servers: u32, route: impl Into<RouteNode>) -> Routes {
    tree(servers, |builder, servers| builder.add(route, servers).expect("a route"))
}

/// (the servers up, the operation, the course)
fn check(route: impl Into<RouteNode>, servers: u32, cases: &[(&str, &str, &str)]) {
    let routes = over(servers, route);
    for (up, operation, course) in cases {
        check_routes(routes.node(routes.root()).name(), &routes, up, operation, course);
    }
}

fn failover() -> Walk {
    Walk::new(Rule::FAILOVER)
}

#[test]
fn failover_goes_on_from_errors_and_not_from_misses() {
    check(
        Failover(failover()),
        3,
        &[
            ("111", "get", ">0; 0:VALUE =0"),
            ("111", "get", ">0; 0:END =0"),
            ("111", "delete", ">0; 0:NOT_FOUND =0"),
            ("111", "set", ">0; 0:NOT_STORED =0"),
            ("111", "cas", ">0; 0:EXISTS =0"),
            ("111", "get", ">0; 0:timeout >1; 1:END =1"),
            ("111", "get", ">0; 0:SERVER_ERROR keep >1; 1:connection_lost >2; 2:VALUE =2"),
            ("111", "set", ">0; 0:ERROR keep >1; 1:misaligned >2; 2:STORED =2"),
            ("111", "incr", ">0; 0:queue_full >1; 1:unavailable >2; 2:NUMBER =2"),
            // The client is at fault wherever it asks.
            ("111", "incr", ">0; 0:CLIENT_ERROR =0"),
            // All fail: the last reply, be it worse than one before.
            ("111", "get", ">0; 0:SERVER_ERROR keep >1; 1:SERVER_ERROR keep >2; 2:timeout =timeout"),
            // Those that are down are passed over.
            ("011", "get", ">1; 1:timeout >2; 2:END =2"),
            ("100", "get", ">0; 0:timeout =timeout"),
            ("000", "get", "=no_healthy_server"),
            ("111", "get", ">0; up=101 0:timeout >2; 2:END =2"),
            // No try can follow these.
            ("111", "get", ">0; 0:timeout >1; 1:deadline_exceeded =timeout"),
            ("111", "set", ">0; 0:not_replayable =not_replayable"),
        ],
    );
    check(Failover(failover()), 0, &[("", "get", "=no_healthy_server")]);
    check(Failover(failover()), 1, &[("1", "get", ">0; 0:timeout =timeout")]);
}

#[test]
fn failover_errors_of_each_group() {
    let set = |names: &[&str]| {
        let sets = names.iter().map(|name| ErrorSet::from_name(name).expect("a name"));
        sets.fold(ErrorSet::NONE, ErrorSet::and)
    };
    let rules = ByOperation::from_fn(|operation: Operation| {
        let errors = match operation.class() {
            OperationClass::GetLike => set(&["timeout", "tko"]),
            OperationClass::UpdateLike => set(&["remote_error"]),
            OperationClass::DeleteLike => set(&[]),
            OperationClass::ArithmeticLike | OperationClass::TouchLike | OperationClass::Control => ErrorSet::FAILOVER,
        };
        Rule { errors, ..Rule::FAILOVER }
    });
    check(
        Failover(Walk { rules, ..failover() }),
        2,
        &[
            ("11", "get", ">0; 0:timeout >1; 1:END =1"),
            ("11", "get", ">0; 0:unavailable >1; 1:END =1"),
            ("11", "get", ">0; 0:SERVER_ERROR =0"),
            ("11", "gat", ">0; 0:connection_lost =connection_lost"),
            ("11", "set", ">0; 0:timeout =timeout"),
            ("11", "set", ">0; 0:SERVER_ERROR keep >1; 1:STORED =1"),
            ("11", "delete", ">0; 0:unavailable =unavailable"),
            ("11", "incr", ">0; 0:timeout >1; 1:NUMBER =1"),
            ("11", "touch", ">0; 0:timeout >1; 1:TOUCHED =1"),
        ],
    );
}

#[test]
fn miss_failover_answers_by_its_rule() {
    let with = |otherwise| MissFailover(Walk::new(Rule { otherwise, ..Rule::MISS_FAILOVER }));
    let course = |answer: &str| format!(">0; 0:SERVER_ERROR keep >1; 1:END keep >2; 2:timeout ={answer}");
    check(with(Otherwise::LastOfBest), 3, &[("111", "get", &course("1"))]);
    check(with(Otherwise::Best), 3, &[("111", "get", &course("1"))]);
    check(with(Otherwise::Last), 3, &[("111", "get", &course("timeout"))]);
    check(with(Otherwise::Worst), 3, &[("111", "get", ">0; 0:SERVER_ERROR keep >1; 1:END >2; 2:timeout =0")]);
    check(
        with(Otherwise::Best),
        3,
        &[
            ("111", "get", ">0; 0:END keep >1; 1:END >2; 2:END =0"),
            ("111", "get", ">0; 0:SERVER_ERROR keep >1; 1:timeout >2; 2:timeout =timeout"),
            ("111", "cas", ">0; 0:NOT_FOUND keep >1; 1:EXISTS keep >2; 2:NOT_FOUND =1"),
        ],
    );
}

#[test]
fn miss_failover_as_mcrouter_leaves_writes_to_the_first() {
    let rules = ByOperation::from_fn(|operation: Operation| {
        let goes_on = matches!(operation.class(), OperationClass::GetLike | OperationClass::DeleteLike);
        Rule { first_only: !goes_on, otherwise: Otherwise::Last, ..Rule::MISS_FAILOVER }
    });
    check(
        MissFailover(Walk { rules, ..failover() }),
        2,
        &[
            ("11", "get", ">0; 0:END keep >1; 1:VALUE =1"),
            ("11", "get", ">0; 0:END keep >1; 1:timeout =timeout"),
            ("11", "delete", ">0; 0:NOT_FOUND keep >1; 1:DELETED =1"),
            ("11", "set", ">0; 0:NOT_STORED =0"),
            ("11", "set", ">0; 0:timeout =timeout"),
            ("11", "incr", ">0; 0:NOT_FOUND =0"),
        ],
    );
}

#[test]
fn the_child_that_failed_least_comes_next() {
    let routes = over(4, Failover(Walk { order: Order::LeastFailures { max_tries: 3 }, ..failover() }));
    let mut play = Play::new(&routes);
    // Nothing is known yet: in order, three at most.
    play.check(
        "get k|",
        &[("go", ">0 get k"), ("0 timeout", ">1 get k"), ("1 timeout", ">2 get k"), ("2 timeout", "=timeout")],
    );
    // Server 3 has not failed; then 1, which failed once like 2.
    play.check(
        "get k|",
        &[("go", ">0 get k"), ("0 timeout", ">3 get k"), ("3 timeout", ">1 get k"), ("1 timeout", "=timeout")],
    );
    // 2 and 3 failed once, 1 twice. A success forgets what was.
    play.check(
        "get k|",
        &[("go", ">0 get k"), ("0 timeout", ">2 get k"), ("2 timeout", ">3 get k"), ("3 END", "=END")],
    );
    play.check("get k|", &[("go", ">0 get k"), ("0 timeout", ">3 get k"), ("3 VALUE x", "=VALUE x f=0")]);
    // One that is down is no try, and is not looked at again.
    play.check(
        "get k|",
        &[
            ("up=1010", ""),
            ("go", ">0 get k"),
            ("up=1111", ""),
            ("0 timeout", ">3 get k"),
            ("3 VALUE x", "=VALUE x f=0"),
        ],
    );
    play.check(
        "get k|",
        &[("up=1010", ""), ("go", ">0 get k"), ("0 timeout", ">2 get k"), ("up=1111", ""), ("2 timeout", "=timeout")],
    );
}

#[test]
fn a_budget_bounds_tries_after_errors_alone() {
    let budget = Budget::new(0.5, 2);
    let routes = over(2, MissFailover(Walk { budget, ..Walk::new(Rule::MISS_FAILOVER) }));
    let mut play = Play::new(&routes);
    for _ in 0..2 {
        play.check("get k|", &[("go", ">0 get k"), ("0 timeout", ">1 get k"), ("1 END", "=END")]);
    }
    // 2 + 0.5 - 1 + 0.5 - 1 + 0.5: the bucket can't be fuller than full, so one is left. It goes.
    play.check("get k|", &[("go", ">0 get k"), ("0 timeout", ">1 get k"), ("1 END", "=END")]);
    play.check("get k|", &[("go", ">0 get k"), ("0 timeout", "=timeout")]);
    assert_eq!((play.state.walk_counts().failovers, play.state.walk_counts().limited), (3, 1));
    // Half a token more: one. Going on from a miss and from a server that is down takes none.
    play.check("get k|", &[("go", ">0 get k"), ("0 END", "kept >1 get k"), ("1 END", "=END")]);
    play.check("get k|", &[("go", ">0 get k"), ("0 unavailable", ">1 get k"), ("1 END", "=END")]);
    play.check("get k|", &[("up=01", ""), ("go", ">1 get k"), ("1 timeout", "=timeout")]);
    assert_eq!((play.state.walk_counts().failovers, play.state.walk_counts().limited), (3, 1));
    // A child after the last is nothing to pay for, so nothing was limited there.
    play.check("get k|", &[("up=11", ""), ("go", ">0 get k"), ("0 timeout", ">1 get k"), ("1 timeout", "=timeout")]);
    assert_eq!((play.state.walk_counts().failovers, play.state.walk_counts().limited), (4, 1));
}

#[test]
fn without_a_budget_every_error_is_tried_again() {
    let routes = over(2, Failover(Walk { budget: None, ..failover() }));
    let mut play = Play::new(&routes);
    for _ in 0..2000 {
        play.check("get k|", &[("go", ">0 get k"), ("0 timeout", ">1 get k"), ("1 END", "=END")]);
    }
}

#[test]
fn the_default_budget_is_a_thousand_at_once() {
    let routes = over(2, Failover(failover()));
    let mut play = Play::new(&routes);
    // The bucket is full: the first request adds nothing, each later one a fifth.
    let many = (1..).find(|tries| 1000.0 + 0.2 * f64::from(tries - 1) < f64::from(*tries)).expect("an end") - 1;
    for _ in 0..many {
        play.check("get k|", &[("go", ">0 get k"), ("0 timeout", ">1 get k"), ("1 END", "=END")]);
    }
    play.check("get k|", &[("go", ">0 get k"), ("0 timeout", "=timeout")]);
}

#[test]
fn the_tag_is_put_behind_keys_with_a_hash_stop() {
    let routes = over(3, Failover(Walk { tag: true, ..failover() }));
    let mut play = Play::new(&routes);
    play.check(
        "get k|#|x|",
        &[
            ("go", ">0 get k|#|x"),
            ("0 timeout", ">1 get k|#|x:failover=1"),
            ("1 timeout", ">2 get k|#|x:failover=1"),
            ("2 VALUE v", "=VALUE v f=0"),
        ],
    );
    play.check("get k|", &[("go", ">0 get k"), ("0 timeout", ">1 get k"), ("1 END", "=END")]);
    play.check(
        "set k|#|x 1 2 1|v|",
        &[("up=011", ""), ("go", ">1 set k|#|x:failover=1 1 2 1|v"), ("1 STORED", "=STORED")],
    );
    let long = format!("{}|#|x", "k".repeat(244));
    let sent = format!("get {long}|");
    let (first, second) = (format!(">0 get {long}"), format!(">1 get {long}"));
    play.check(&sent, &[("up=111", ""), ("go", &first), ("0 timeout", &second), ("1 END", "=END")]);
}

#[test]
fn a_gutter_keeps_things_shortly() {
    let walk = Walk { gutter_exptime: Some(60), ..failover() };
    let routes = over(3, FailoverWithExptime(walk));
    let mut play = Play::new(&routes);
    play.check(
        "set k 1 0 3|abc|",
        &[
            ("go", ">0 set k 1 0 3|abc"),
            ("0 timeout", ">1 set k 1 60 3|abc"),
            ("1 timeout", ">2 set k 1 60 3|abc"),
            ("2 STORED", "=STORED"),
        ],
    );
    for (request, sent) in [
        ("set k 1 3600 1|x|", "set k 1 60 1|x"),
        ("set k 1 30 1|x|", "set k 1 30 1|x"),
        ("set k 1 -1 1|x|", "set k 1 -1 1|x"),
        ("set k 1 1700003600 1|x|", "set k 1 60 1|x"),
        ("cas k 1 0 1 99|x|", "cas k 1 60 1 99|x"),
        ("add k 0 0 1|x|", "add k 0 60 1|x"),
        ("append k 0 0 1|x|", "append k 0 0 1|x"),
        ("touch k 0|", "touch k 60"),
        ("gat 900 k|", "gat 60 k"),
        ("get k|", "get k"),
        ("delete k|", "delete k"),
        ("incr k 5|", "incr k 5"),
    ] {
        let sent = format!(">1 {sent}");
        play.check(request, &[("up=010", ""), ("go", &sent), ("1 CLIENT_ERROR", "=CLIENT_ERROR")]);
    }
    // A miss of the normal child is an answer.
    play.check("get k|", &[("up=111", ""), ("go", ">0 get k"), ("0 END", "=END")]);
}

fn filling() -> Walk {
    Walk { backfill: true, ..Walk::new(Rule::MISS_FAILOVER) }
}

#[test]
fn a_hit_is_added_where_it_was_missed() {
    let routes = over(3, MissFailover(filling()));
    let mut play = Play::new(&routes);
    play.check("get k|", &[("go", ">0 get k"), ("0 VALUE x", "=VALUE x f=0")]);
    play.check(
        "get k|",
        &[
            ("go", ">0 get k"),
            ("0 END", "kept >1 mg k k f t c v"),
            ("1 VALUE abc f=7 t=60 c=9", ">0 add k 7 60 3|abc =VALUE abc f=7"),
            ("0 STORED", ""),
        ],
    );
    // To all that missed, and to none that failed.
    play.check(
        "get k|",
        &[
            ("go", ">0 get k"),
            ("0 timeout", ">1 get k"),
            ("1 END", "kept >2 mg k k f t c v"),
            ("2 VALUE abc t=-1", ">1 add k 0 0 3|abc =VALUE abc f=0"),
        ],
    );
    play.check(
        "get k|",
        &[
            ("go", ">0 get k"),
            ("0 END", "kept >1 mg k k f t c v"),
            ("1 END", "kept >2 mg k k f t c v"),
            ("2 VALUE abc t=3000000", ">0 add k 0 1703000000 3|abc >1 add k 0 1703000000 3|abc =VALUE abc f=0"),
            ("1 NOT_STORED", ""),
            ("0 timeout", ""),
        ],
    );
    assert_eq!(play.state.walk_counts().backfills, 4);
}

#[test]
fn nothing_is_added_without_its_time() {
    let routes = over(2, MissFailover(filling()));
    let mut play = Play::new(&routes);
    // Its last second.
    play.check(
        "get k|",
        &[("go", ">0 get k"), ("0 END", "kept >1 mg k k f t c v"), ("1 VALUE abc t=0", "=VALUE abc f=0")],
    );
    // A server that doesn't know mg.
    for refusal in ["1 ERROR", "1 CLIENT_ERROR"] {
        play.check(
            "get k|",
            &[
                ("go", ">0 get k"),
                ("0 END", "kept >1 mg k k f t c v"),
                (refusal, ">1 get k"),
                ("1 VALUE abc", "=VALUE abc f=0"),
            ],
        );
    }
    play.check(
        "get k|",
        &[("go", ">0 get k"), ("0 END", "kept >1 mg k k f t c v"), ("1 ERROR", ">1 get k"), ("1 ERROR", "=END")],
    );
    // Other reads and writes are passed on as they are.
    play.check("gets k|", &[("go", ">0 gets k"), ("0 END", "kept >1 gets k"), ("1 VALUE x c=3", "=VALUE x f=0")]);
    play.check(
        "touch k 5|",
        &[("go", ">0 touch k 5"), ("0 NOT_FOUND", "kept >1 touch k 5"), ("1 TOUCHED", "=TOUCHED")],
    );
    assert_eq!(play.state.walk_counts().backfills, 0);
}

#[test]
fn one_that_went_down_gets_nothing() {
    let routes = over(2, MissFailover(filling()));
    Play::new(&routes).check(
        "get k|",
        &[
            ("go", ">0 get k"),
            ("0 END", "kept >1 mg k k f t c v"),
            ("up=01", ""),
            ("1 VALUE abc t=60", "=VALUE abc f=0"),
        ],
    );
}

#[test]
fn walks_within_walks() {
    let routes = tree(4, |builder, servers| {
        let near = builder.add(MissFailover(filling()), &servers[..2]).expect("a route");
        let far = builder.add(Failover(failover()), &servers[2..]).expect("a route");
        builder.add(MissFailover(filling()), &[near, far]).expect("a route")
    });
    let mut play = Play::new(&routes);
    play.check(
        "get k|",
        &[
            ("go", ">0 get k"),
            ("0 END", "kept >1 mg k k f t c v"),
            ("1 END", "kept >2 mg k k f t c v"),
            ("2 timeout", ">3 mg k k f t c v"),
            // What is added to a walk of two goes to its first, and on where it isn't taken.
            ("3 VALUE abc t=60", ">0 add k 0 60 3|abc =VALUE abc f=0"),
            ("0 STORED", ""),
        ],
    );
}
