//! ReplicatedRoute in a configuration: not a node of the tree, but the tree of a replicated pool (`Replicated::tree`).

use super::super::keys::{Default as Given, Section, TYPE};
use super::super::reader::Map;
use super::basic::CHILDREN;
use super::failover::{BACKFILL, FAILOVER_LIMIT, HEDGE, is_yes, read_hedge, read_limit};
use super::replies::{ANSWERS, OVERRIDES, REPLY_KEYS, SUCCESS, YES_NO, given_policy, read_overrides, word};
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::routes::replicated::{Reads, Replicated};
use keyway_policies::routes::walk::{Rule, Walk};
use keyway_protocol::Operation;

/// ReplicatedRoute.
pub(super) static REPLICATED_KEYS: Section = Section {
    name: "ReplicatedRoute",
    keys: &[
        TYPE,
        CHILDREN,
        word(
            "reads",
            &["in_order", "at_once"],
            Given::Word("in_order"),
            "How get finds a replica that has the key: one after the other, or all at once.",
        ),
        word("success", SUCCESS, Given::Word("all"), "How many replicas must have taken a set, delete or flush_all."),
        word("ignore_down", YES_NO, Given::Word("true"), "Replicas that are down don't count for these."),
        word("answer", ANSWERS, Given::Word("worst"), "Which of the definite answers is the reply to these."),
        OVERRIDES,
        FAILOVER_LIMIT,
        BACKFILL,
        HEDGE,
    ],
    unsupported: &[],
};

pub(super) static REPLICATED: RouteType = RouteType {
    names: &["ReplicatedRoute"],
    section: &REPLICATED_KEYS,
    read: |reader, map, depth| {
        let settings = read_settings(reader, map);
        let children = reader.children_of("ReplicatedRoute", map, depth);
        over(&settings?, &children?)
    },
    short: Short::Children(|children| over(&Replicated::default(), &children)),
};

/// The tree of a replicated pool over these.
fn over(settings: &Replicated, replicas: &[Route]) -> Option<Route> {
    // `over` gives none for a route without children alone, and there is one at least.
    let joined = settings.tree(replicas, |route, children| match Route::over(route, children) {
        Some(route) => Ok(route),
        None => unreachable!("a replicated route has children"),
    });
    joined.ok()
}

fn read_settings(reader: &mut Reader<'_>, map: &Map<'_, '_>) -> Option<Replicated> {
    let mut replies = Replicated::default().replies;
    let given = given_policy(reader, map);
    for operation in [Operation::Set, Operation::Delete, Operation::FlushAll] {
        replies.set(operation, given.over(replies.of(operation)));
    }
    read_overrides(reader, map, &REPLY_KEYS, |reader, operations, map| {
        let given = given_policy(reader, map);
        operations.iter().for_each(|operation| replies.set(*operation, given.over(replies.of(*operation))));
    })?;
    let walk = Walk {
        budget: read_limit(reader, map)?,
        backfill: is_yes(reader, map, "backfill"),
        hedge: read_hedge(reader, map)?,
        ..Walk::new(Rule::MISS_FAILOVER)
    };
    let reads = match map.word("reads", reader.faults) {
        "at_once" if walk.backfill || walk.hedge.is_some() => {
            let problem = "backfill or hedge beside `reads: at_once`".to_owned();
            return reader.fault(map.position, map.path, problem, "with `reads: in_order`".to_owned());
        }
        "at_once" => Reads::AtOnce,
        _ => Reads::InOrder(walk),
    };
    Some(Replicated { reads, replies })
}
