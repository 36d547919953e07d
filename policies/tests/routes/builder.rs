//! What the builder refuses, and in which words.

use crate::notation::{tree, try_tree};
use keyway_policies::routes::builder::{MAX_DEPTH, MAX_LEAVES};
use keyway_policies::{
    BuildError, Distribution, KeyHash, Member, OnDown, PlacementSpec, PoolSpec, Routes, ServerId, Weight,
};
use keyway_protocol::Operation;

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}0{}", "M(1 ".repeat(depth - 1), ")".repeat(depth - 1));
    assert!(try_tree(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(try_tree(&nested(MAX_DEPTH + 1)).map(|_| ()), Err(BuildError::TooDeep { depth: MAX_DEPTH + 1 }));
}

#[test]
fn width_is_bounded_over_paths() {
    let mut builder = Routes::builder();
    let mut node = builder.server(ServerId(0)).unwrap();
    // Each level refers to the one below twice: ten levels are 1024 leaves, in eleven nodes.
    for level in 1..=10 {
        let doubled = builder.all_fastest(&[node, node]);
        if 1 << level > MAX_LEAVES {
            assert_eq!(doubled, Err(BuildError::TooWide { leaves: 1 << level }));
        } else {
            node = doubled.unwrap();
        }
    }
    // A selector takes one of its children, so theirs don't add up.
    let selector = builder.operation_selector(&[(Operation::Get, node), (Operation::Set, node)], node).unwrap();
    assert!(builder.build(selector).is_ok());
}

#[test]
fn references_and_operations_are_checked() {
    let mut other = Routes::builder();
    other.local().unwrap();
    let stranger = other.local().unwrap();
    let mut builder = Routes::builder();
    let local = builder.local().unwrap();
    assert_eq!(builder.miss_failover(&[local, stranger]), Err(BuildError::UnknownNode));
    assert_eq!(builder.operation_selector(&[], stranger), Err(BuildError::UnknownNode));
    let twice = [(Operation::Get, local), (Operation::Get, local)];
    assert_eq!(builder.operation_selector(&twice, local), Err(BuildError::DuplicateOperation(Operation::Get)));
    assert_eq!(builder.build(stranger).map(|_| ()), Err(BuildError::UnknownNode));
}

#[test]
fn pools_are_checked() {
    let ketama = Distribution::Ketama(KeyHash::Fnv1a64);
    let cases = [
        (ketama, vec![("a", 1), ("b", 3)], None),
        (ketama, vec![], None),
        (Distribution::Ch3, vec![("a", 1), ("a", 1)], None),
        (ketama, vec![("a", 1), ("b", 0)], Some("the weight of \"b\" is no whole number from 1")),
        (ketama, vec![("a", 1), ("", 1)], Some("the server name \"\" must be 1 to 255 bytes long")),
        (
            ketama,
            vec![("a", 1), ("b", 1), ("a", 1)],
            Some("two servers of a pool are called \"a\"; give one of them a name"),
        ),
        (ketama, vec![("a", u32::MAX), ("b", 1)], Some("the weights add up to more than 4294967295")),
        (Distribution::Ch3, vec![("a", 1), ("b", 2)], Some("distribution ch3 has no weights")),
    ];
    for (distribution, servers, expected) in cases {
        let weighted = |(label, weight): (&str, u32)| Member { weight: Weight::from(weight), ..Member::new(label) };
        let members: Vec<Member> = servers.into_iter().map(weighted).collect();
        let spec = PoolSpec {
            servers: (0..members.len() as u32).map(ServerId).collect(),
            placement: PlacementSpec { members, ..PlacementSpec::new(distribution, [""; 0]) },
            on_down: OnDown::Error,
        };
        let refused = Routes::builder().pool(&spec).err().map(|error| error.to_string());
        assert_eq!(refused.as_deref(), expected, "{spec:?}");
    }
}

#[test]
fn servers_are_those_within_reach() {
    let routes = tree("O(get=M(5 1) set=A(1 P(9 3)) 0)");
    assert_eq!(routes.servers(), [0, 1, 3, 5, 9].map(ServerId));
    let mut builder = Routes::builder();
    builder.server(ServerId(7)).unwrap();
    let root = builder.server(ServerId(2)).unwrap();
    assert_eq!(builder.build(root).unwrap().servers(), [ServerId(2)]);
}
