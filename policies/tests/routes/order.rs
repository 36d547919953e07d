//! AllFastestRoute under every order of arrival.

use crate::notation::{Course, outcome, tree};
use keyway_policies::{OutcomeClass, ServerId};
use keyway_protocol::Operation;

const OUTCOMES: [&str; 7] = ["STORED", "NOT_FOUND", "EXISTS", "SERVER_ERROR", "ERROR", "timeout", "connection_lost"];

#[test]
fn without_success_the_answer_is_the_same_in_every_order() {
    for children in 2..=4 {
        let orders = permutations(children);
        for number in 0..OUTCOMES.len().pow(children as u32) {
            let names: Vec<&str> = (0..children as u32)
                .map(|child| OUTCOMES[number / OUTCOMES.len().pow(child) % OUTCOMES.len()])
                .collect();
            let expected = best_failed(&names);
            for order in &orders {
                let first_success = order.iter().find(|child| names[**child] == "STORED");
                let expected = first_success.map_or(expected.clone(), |child| format!("={child}"));
                assert_eq!(answer(&names, order), expected, "{names:?} arriving as {order:?}");
            }
        }
    }
}

/// The table in the route's file, applied to all outcomes at once.
fn best_failed(names: &[&str]) -> String {
    for class in [OutcomeClass::Miss, OutcomeClass::Error] {
        if let Some(child) = names.iter().position(|name| outcome(name).class() == class) {
            return format!("={child}");
        }
    }
    format!("={}", names[0])
}

fn answer(names: &[&str], order: &[usize]) -> String {
    let servers: Vec<String> = (0..names.len()).map(|server| server.to_string()).collect();
    let routes = tree(&format!("A({})", servers.join(" ")));
    let up = vec![u8::MAX; names.len()];
    let mut course = Course::new(&routes, Operation::Delete, b"key");
    course.begin(&up);
    let mut answers = Vec::new();
    for child in order {
        let told = course.resume(ServerId(*child as u32), outcome(names[*child]), &up);
        answers.extend(told.split(' ').filter(|word| word.starts_with('=')).map(str::to_owned));
    }
    assert_eq!(answers.len(), 1, "answered once");
    answers.remove(0)
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for next in 0..count {
        all = all
            .into_iter()
            .flat_map(|shorter: Vec<usize>| {
                (0..=shorter.len()).map(move |at| {
                    let mut longer = shorter.clone();
                    longer.insert(at, next);
                    longer
                })
            })
            .collect();
    }
    all
}
