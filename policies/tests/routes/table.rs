//! Tables: a tree, the servers' health, an operation, and the course of events.
//!
//! A course is told as `>0; 0:END keep >1; 1:VALUE =1`: at first a try goes to server 0; it says END, which is kept
//! while server 1 is tried; that has the value, so server 1's reply is the answer. A step may begin with `up=110 `,
//! which changes the servers' health before it.

use crate::notation::{Course, health, outcome, tree};
use keyway_policies::{Routes, ServerId};
use keyway_protocol::Operation;

fn check(tree_text: &str, up: &str, operation: &str, course_text: &str) {
    check_routes(tree_text, &tree(tree_text), up, operation, course_text);
}

/// The same for a tree that has no notation.
pub(crate) fn check_routes(name: &str, routes: &Routes, up: &str, operation: &str, course_text: &str) {
    let operation = Operation::from_name(operation.as_bytes()).expect("an operation");
    let key: &[u8] = match operation {
        Operation::FlushAll | Operation::Stats | Operation::Version | Operation::Verbosity | Operation::Quit => b"",
        _ => b"key",
    };
    let mut course = Course::new(routes, operation, key);
    let mut up = health(up);
    let mut told = Vec::new();
    for (step, text) in course_text.split("; ").enumerate() {
        if step == 0 {
            told.push(course.begin(&up));
            continue;
        }
        let mut words = text.split(' ').peekable();
        let mut prefix = String::new();
        if let Some(digits) = words.peek().and_then(|word| word.strip_prefix("up=")) {
            up = health(digits);
            prefix = format!("up={digits} ");
            words.next();
        }
        let (server, name) = words.next().and_then(|word| word.split_once(':')).expect("server:outcome");
        let done = course.resume(ServerId(server.parse().expect("a number")), outcome(name), &up);
        told.push(format!("{prefix}{server}:{name} {done}").trim_end().to_owned());
    }
    assert_eq!(told.join("; "), course_text, "{name} with {up:?}, {operation:?}");
}

#[test]
fn default_route() {
    for (up, course) in [
        // gomcrouter's row: the first healthy host, its reply whatever it is, no second host.
        ("11", ">0; 0:VALUE =0"),
        ("11", ">0; 0:END =0"),
        ("11", ">0; 0:SERVER_ERROR =0"),
        ("11", ">0; 0:timeout =timeout"),
        ("11", ">0; 0:connection_lost =connection_lost"),
        ("01", ">1; 1:END =1"),
        ("00", "=no_healthy_server"),
    ] {
        check("D(0 1)", up, "get", course);
    }
    check("D()", "", "get", "=no_healthy_server");
    check("0", "0", "get", "=no_healthy_server");
    check("D(A(0 1) 2)", "001", "set", ">2; 2:STORED =2");
    check("D(A(0 1) 2)", "011", "set", ">1; 1:timeout =timeout");
    check("D(O(get=0 1) 2)", "011", "get", ">2; 2:VALUE =2");
    check("D(O(get=0 1) 2)", "011", "set", ">1; 1:STORED =1");
    check("D(M(0 1) L)", "00", "get", "=not_local");
}

#[test]
fn all_fastest_answers_the_first_success() {
    for (up, course) in [
        ("111", ">0 >1 >2; 1:STORED =1; 0:SERVER_ERROR; 2:STORED"),
        ("111", ">0 >1 >2; 2:NOT_FOUND keep; 0:timeout; 1:DELETED =1"),
        ("111", ">0 >1 >2; 0:queue_full; 1:unavailable; 2:NUMBER =2"),
        ("010", ">1; 1:END =1"),
        ("010", ">1; 1:misaligned =misaligned"),
        ("000", "=no_healthy_server"),
    ] {
        check("A(0 1 2)", up, "set", course);
    }
    check("A()", "", "set", "=no_healthy_server");
}

#[test]
fn all_fastest_without_success_prefers_misses_then_errors_then_the_first_child() {
    for course in [
        ">0 >1 >2; 0:NOT_FOUND keep; 1:NOT_FOUND; 2:NOT_FOUND =0",
        ">0 >1 >2; 2:NOT_FOUND keep; 1:NOT_FOUND keep; 0:NOT_FOUND =0",
        ">0 >1 >2; 0:SERVER_ERROR keep; 1:EXISTS keep; 2:timeout =1",
        ">0 >1 >2; 1:EXISTS keep; 0:SERVER_ERROR; 2:NOT_STORED =1",
        ">0 >1 >2; 0:timeout; 1:connection_lost; 2:ERROR =2",
        ">0 >1 >2; 2:connection_lost; 1:misaligned; 0:timeout =timeout",
        ">0 >1 >2; 0:timeout; 2:connection_lost; 1:misaligned =timeout",
        ">0 >1 >2; 0:CLIENT_ERROR keep; 1:SERVER_ERROR; 2:ERROR =0",
    ] {
        check("A(0 1 2)", "111", "cas", course);
    }
}

#[test]
fn miss_failover_goes_on_until_a_success() {
    for (up, course) in [
        ("111", ">0; 0:VALUE =0"),
        ("111", ">0; 0:END keep >1; 1:VALUE =1"),
        ("111", ">0; 0:SERVER_ERROR keep >1; 1:timeout >2; 2:VALUE =2"),
        ("011", ">1; 1:timeout >2; 2:VALUE =2"),
        ("101", ">0; 0:END keep >2; 2:VALUE =2"),
        ("000", "=no_healthy_server"),
        // Health is looked at when a child's turn comes.
        ("111", ">0; up=101 0:timeout >2; 2:VALUE =2"),
        ("101", ">0; up=111 0:timeout >1; 1:VALUE =1"),
        ("111", ">0; up=100 0:END =0"),
        ("111", ">0; up=000 0:connection_lost =connection_lost"),
        // Failing fast moves on at once.
        ("111", ">0; 0:queue_full >1; 1:unavailable >2; 2:VALUE =2"),
    ] {
        check("M(0 1 2)", up, "get", course);
    }
    check("M()", "", "get", "=no_healthy_server");
}

#[test]
fn miss_failover_without_success() {
    for course in [
        // The last host answered: its reply.
        ">0; 0:END keep >1; 1:END keep >2; 2:END =2",
        ">0; 0:SERVER_ERROR keep >1; 1:END keep >2; 2:END =2",
        ">0; 0:timeout >1; 1:timeout >2; 2:SERVER_ERROR =2",
        ">0; 0:SERVER_ERROR keep >1; 1:CLIENT_ERROR keep >2; 2:ERROR =2",
        // The last host had a transport failure: the most recent failed reply of an earlier one, or the failure.
        ">0; 0:END keep >1; 1:END keep >2; 2:timeout =1",
        ">0; 0:NOT_FOUND keep >1; 1:timeout >2; 2:timeout =0",
        ">0; 0:timeout >1; 1:connection_lost >2; 2:misaligned =misaligned",
        // Other than gomcrouter: a miss seen beats a later error.
        ">0; 0:END keep >1; 1:SERVER_ERROR >2; 2:timeout =0",
        ">0; 0:SERVER_ERROR keep >1; 1:END keep >2; 2:SERVER_ERROR =1",
        // Nothing more can be tried.
        ">0; 0:timeout >1; 1:deadline_exceeded =timeout",
        ">0; 0:END keep >1; 1:not_replayable =0",
        ">0; 0:deadline_exceeded =deadline_exceeded",
    ] {
        check("M(0 1 2)", "111", "get", course);
    }
}

#[test]
fn miss_failover_takes_every_operation() {
    for operation in Operation::ALL.into_iter().take(14) {
        check("M(0 1)", "11", operation.name(), ">0; 0:NOT_FOUND keep >1; 1:NOT_FOUND =1");
    }
}

#[test]
fn local_and_control_operations() {
    for (operation, course) in [
        ("get", "=not_local"),
        ("set", "=not_local"),
        ("touch", "=not_local"),
        ("flush_all", "=not_local"),
        ("version", "=router"),
        ("stats", "=router"),
        ("verbosity", "=router"),
        ("quit", "=router"),
    ] {
        check("L", "", operation, course);
    }
    // Without an entry of their own they never reach a server; flush_all does, as a write without a key.
    for operation in ["version", "stats", "verbosity", "quit"] {
        check("A(0 1)", "11", operation, "=router");
        check("O(get=0 1)", "11", operation, "=router");
    }
    check("O(get=0 A(0 1))", "11", "flush_all", ">0 >1; 1:OK =1");
    check("O(flush_all=1 0)", "11", "flush_all", ">1; 1:OK =1");
    check("P(0 1)", "11", "flush_all", ">1; 1:OK =1");
    // Named, also in a nested selector, they go where they are told; quit doesn't.
    check("O(version=0 1)", "11", "version", ">0; 0:VERSION =0");
    check("O(get=1 O(stats=0 1))", "11", "stats", ">0; 0:STATS =0");
    check("O(version=L 1)", "11", "version", "=router");
    check("O(version=O(get=0 1) 0)", "11", "version", ">1; 1:VERSION =1");
    check("O(quit=0 1)", "11", "quit", "=router");
}

#[test]
fn operation_selector() {
    let tree = "O(get=M(0 1) set=A(0 1) 1)";
    check(tree, "11", "get", ">0; 0:END keep >1; 1:END =1");
    check(tree, "11", "set", ">0 >1; 1:STORED =1");
    check(tree, "11", "delete", ">1; 1:DELETED =1");
    check(tree, "11", "gets", ">1; 1:END =1");
}

#[test]
fn any_route_under_any_other() {
    let tree = "M(A(0 1) D(2 3) M(4 5))";
    for (up, course) in [
        ("111111", ">0 >1; 1:END keep; 0:timeout >2; 2:timeout >4; 4:timeout >5; 5:timeout =1"),
        ("111111", ">0 >1; 0:SERVER_ERROR keep; 1:END keep >2; 2:END keep >4; 4:END keep >5; 5:SERVER_ERROR =4"),
        ("000111", ">3; 3:END keep >4; 4:VALUE =4"),
        ("000001", ">5; 5:END =5"),
        ("000000", "=no_healthy_server"),
    ] {
        check(tree, up, "get", course);
    }
    let tree = "A(M(0 1) M(2 3))";
    for course in [
        ">0 >2; 0:END keep >1; 2:END keep >3; 3:timeout; 1:timeout =0",
        ">0 >2; 2:END keep >3; 3:END keep; 0:timeout >1; 1:END =1",
        ">0 >2; 2:timeout >3; 3:timeout; 0:timeout >1; 1:connection_lost =connection_lost",
        ">0 >2; 2:END keep >3; 0:VALUE =0; 3:VALUE",
    ] {
        check(tree, "1111", "get", course);
    }
    // A join whose request was answered elsewhere still waits for all its children, before a write goes on behind it.
    for course in
        [">0 >1 >3; 3:STORED =3; 0:timeout; 1:STORED", ">0 >1 >3; 3:STORED =3; 0:timeout; 1:timeout >2; 2:STORED"]
    {
        check("A(M(A(0 1) 2) 3)", "1111", "set", course);
    }
    check("A(M(A(0 1) 2) 3)", "1111", "get", ">0 >1 >3; 3:VALUE =3; 0:timeout; 1:timeout");
    // A child that answers on the spot doesn't keep the others from seeing the request.
    check("O(version=A(0 L 1) 0)", "11", "version", ">0 >1 =router");
    check("A(0 L 1)", "11", "get", ">0 >1; 0:timeout; 1:timeout =not_local");
    check("M(L 0)", "1", "get", ">0; 0:END =0");
    check("M(L 0)", "0", "get", "=not_local");
    // The same server may be tried twice.
    check("M(0 0)", "1", "get", ">0; 0:timeout >0; 0:VALUE =0");
}

#[test]
fn pools_as_children() {
    // ch3 puts "key" on the first server of two.
    check("P(0 1)", "11", "get", ">0; 0:timeout =timeout");
    check("P(0 1)", "01", "get", "=unavailable");
    check("P()", "", "get", "=no_healthy_server");
    check("M(P(0 1) P(2 3))", "1111", "get", ">0; 0:END keep >2; 2:VALUE =2");
    check("M(P(0 1) P(2 3))", "0111", "get", ">2; 2:VALUE =2");
    check("D(P(0 1) P(2 3))", "0111", "get", ">2; 2:VALUE =2");
    check("A(P(0 1) P(2 3))", "1111", "set", ">0 >2; 2:NOT_STORED keep; 0:STORED =0");
    check("A(P(0 1) P(2 3))", "0101", "set", "=no_healthy_server");
}

#[test]
fn a_parent_of_one_is_that_child() {
    for tree in ["M(0)", "A(0)", "D(0)", "M(A(D(0)))"] {
        check(tree, "1", "get", ">0; 0:END =0");
        check(tree, "1", "get", ">0; 0:timeout =timeout");
        check(tree, "0", "get", "=no_healthy_server");
    }
}
