//! The reply policy in a configuration: its keys, alone and per operation, and the routes that ask all their children.

use super::super::error::{Path, did_you_mean, seen};
use super::super::keys::{Default as Given, Key, Kind, Section, TYPE, is_named, shape};
use super::super::reader::{Map, entries};
use super::basic::CHILDREN;
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::routes::all_fastest::AllFastest;
use keyway_policies::routes::all_initial::AllInitial;
use keyway_policies::routes::all_majority::AllMajority;
use keyway_policies::routes::all_sync::AllSync;
use keyway_policies::routes::primary::{Follow, Primary};
use keyway_policies::{ByOperation, Choose, ReplyPolicy, Success};
use keyway_protocol::{Operation, OperationClass};

/// One of a few words, with a default.
pub(super) const fn word(
    name: &'static str,
    allowed: &'static [&'static str],
    default: Given,
    meaning: &'static str,
) -> Key {
    Key { name, kind: Kind::Word { allowed, unsupported: &[], default }, meaning }
}

/// What yes and no are written as.
pub(super) const YES_NO: &[&str] = &["true", "false"];
pub(super) const SUCCESS: &[&str] = &["all", "quorum", "any"];
pub(super) const ANSWERS: &[&str] = &["first_ok", "first_hit", "best", "worst", "primary"];
const SUCCESS_SAYS: &str = "How many children must have a definite answer, a success or a miss.";
const IGNORE_DOWN_SAYS: &str = "Children that are down don't count.";
const ANSWER_SAYS: &str = "Which of the definite answers is the reply.";
/// How operations are named where each may have settings of its own.
pub(super) const OPERATION_FORMS: &str = "operations, get_like, update_like, delete_like, arithmetic_like";

/// The key of settings per operation.
pub(super) const OVERRIDES: Key = shape(
    "overrides",
    "map of operation to map",
    OPERATION_FORMS,
    Given::Said("none"),
    "The same keys once more, for an operation or a group of them.",
);

/// AllSyncRoute.
pub(super) static ALL_SYNC_KEYS: Section = Section {
    name: "AllSyncRoute",
    keys: &[
        TYPE,
        CHILDREN,
        word("success", SUCCESS, Given::Word("all"), SUCCESS_SAYS),
        word("ignore_down", YES_NO, Given::Word("false"), IGNORE_DOWN_SAYS),
        word("answer", ANSWERS, Given::Word("worst"), ANSWER_SAYS),
        OVERRIDES,
    ],
    unsupported: &[],
};

/// AllFastestRoute.
pub(super) static ALL_FASTEST_KEYS: Section = Section {
    name: "AllFastestRoute",
    keys: &[
        TYPE,
        CHILDREN,
        word("success", SUCCESS, Given::Word("any"), SUCCESS_SAYS),
        word("ignore_down", YES_NO, Given::Word("true"), IGNORE_DOWN_SAYS),
        word("answer", ANSWERS, Given::Word("first_hit"), ANSWER_SAYS),
        OVERRIDES,
    ],
    unsupported: &[],
};

/// An operation's own reply policy.
pub(super) static REPLY_KEYS: Section = Section {
    name: "overrides of AllSyncRoute, AllFastestRoute, ReplicatedRoute",
    keys: &[
        word("success", SUCCESS, Given::Said("the route's"), SUCCESS_SAYS),
        word("ignore_down", YES_NO, Given::Said("the route's"), IGNORE_DOWN_SAYS),
        word("answer", ANSWERS, Given::Said("the route's"), ANSWER_SAYS),
    ],
    unsupported: &[],
};

/// AllInitialRoute, AllMajorityRoute.
pub(super) static PLAIN_KEYS: Section =
    Section { name: "AllInitialRoute, AllMajorityRoute", keys: &[TYPE, CHILDREN], unsupported: &[] };

/// PrimaryRoute.
pub(super) static PRIMARY_KEYS: Section = Section {
    name: "PrimaryRoute",
    keys: &[
        TYPE,
        CHILDREN,
        word(
            "follow",
            &["delete", "set"],
            Given::Word("delete"),
            "What the others are asked once the first child has stored something: to forget the key, or to store the same.",
        ),
    ],
    unsupported: &[],
};

pub(super) static ALL_SYNC: RouteType = RouteType {
    names: &["AllSyncRoute"],
    section: &ALL_SYNC_KEYS,
    read: |reader, map, depth| {
        let replies = read_replies(reader, map, |_| ReplyPolicy::ALL_SYNC)?;
        Route::over(AllSync { replies }, reader.children_of("AllSyncRoute", map, depth)?)
    },
    short: Short::Children(|children| Route::over(AllSync::default(), children)),
};

pub(super) static ALL_FASTEST: RouteType = RouteType {
    names: &["AllFastestRoute"],
    section: &ALL_FASTEST_KEYS,
    read: |reader, map, depth| {
        let replies = read_replies(reader, map, |_| ReplyPolicy::ALL_FASTEST)?;
        Route::over(AllFastest { replies }, reader.children_of("AllFastestRoute", map, depth)?)
    },
    short: Short::Children(|children| Route::over(AllFastest::default(), children)),
};

pub(super) static ALL_INITIAL: RouteType = RouteType {
    names: &["AllInitialRoute"],
    section: &PLAIN_KEYS,
    read: |reader, map, depth| Route::over(AllInitial, reader.children_of("AllInitialRoute", map, depth)?),
    short: Short::Children(|children| Route::over(AllInitial, children)),
};

pub(super) static ALL_MAJORITY: RouteType = RouteType {
    names: &["AllMajorityRoute"],
    section: &PLAIN_KEYS,
    read: |reader, map, depth| Route::over(AllMajority, reader.children_of("AllMajorityRoute", map, depth)?),
    short: Short::Children(|children| Route::over(AllMajority, children)),
};

pub(super) static PRIMARY: RouteType = RouteType {
    names: &["PrimaryRoute"],
    section: &PRIMARY_KEYS,
    read: |reader, map, depth| {
        let follow = Follow::from_name(map.word("follow", reader.faults)).unwrap_or(Follow::Delete);
        Route::over(Primary { follow }, reader.children_of("PrimaryRoute", map, depth)?)
    },
    short: Short::Children(|children| Route::over(Primary { follow: Follow::Delete }, children)),
};

/// The reply policies of a route: its defaults with what is given over them, then the operations' own.
pub(super) fn read_replies(
    reader: &mut Reader<'_>,
    map: &Map<'_, '_>,
    default: impl Fn(Operation) -> ReplyPolicy,
) -> Option<ByOperation<ReplyPolicy>> {
    let given = given_policy(reader, map);
    let mut replies = ByOperation::from_fn(|operation| given.over(default(operation)));
    read_overrides(reader, map, &REPLY_KEYS, |reader, operations, map| {
        let given = given_policy(reader, map);
        for operation in operations {
            replies.set(*operation, given.over(replies.of(*operation)));
        }
    })?;
    Some(replies)
}

/// What is given of a reply policy.
#[derive(Clone, Copy)]
pub(super) struct GivenPolicy {
    success: Option<Success>,
    ignore_down: Option<bool>,
    answer: Option<Choose>,
}

impl GivenPolicy {
    pub(super) fn over(self, policy: ReplyPolicy) -> ReplyPolicy {
        ReplyPolicy {
            success: self.success.unwrap_or(policy.success),
            ignore_down: self.ignore_down.unwrap_or(policy.ignore_down),
            answer: self.answer.unwrap_or(policy.answer),
        }
    }
}

pub(super) fn given_policy(reader: &mut Reader<'_>, map: &Map<'_, '_>) -> GivenPolicy {
    GivenPolicy {
        success: map.given_word("success", reader.faults).and_then(Success::from_name),
        ignore_down: map.given_word("ignore_down", reader.faults).map(|word| word == "true"),
        answer: map.given_word("answer", reader.faults).and_then(Choose::from_name),
    }
}

/// Reads `overrides`: hands each entry's operations and its map, read by `section`, to `take`.
pub(super) fn read_overrides(
    reader: &mut Reader<'_>,
    map: &Map<'_, '_>,
    section: &'static Section,
    mut take: impl FnMut(&mut Reader<'_>, &[Operation], &Map<'_, '_>),
) -> Option<()> {
    let Some(node) = map.find("overrides") else { return Some(()) };
    let path = Path::Key(map.path, "overrides");
    let mut good = Some(());
    let mut seen_operations: Vec<Operation> = Vec::new();
    for entry in entries(node, &path, reader.faults)? {
        let path = Path::Key(&path, &entry.key);
        let Some(operations) = operations_of(&entry.key) else {
            let near = did_you_mean(&entry.key, operation_names());
            good = reader.fault(entry.position, &path, format!("unknown operation{near}"), OPERATION_FORMS.to_owned());
            continue;
        };
        if operations.iter().any(|operation| seen_operations.contains(operation)) {
            let problem = format!("{} has settings already", seen(&entry.key));
            good = reader.fault(entry.position, &path, problem, "each operation once".to_owned());
            continue;
        }
        seen_operations.extend(&operations);
        let map = Map::read(&entry.value, section, &path, reader.faults);
        take(reader, &operations, &map);
    }
    good
}

/// The operations of a name: one, or a group's.
pub(super) fn operations_of(name: &str) -> Option<Vec<Operation>> {
    if let Some(operation) = Operation::ALL.into_iter().find(|operation| is_named(operation.name(), name)) {
        return Some(vec![operation]);
    }
    let (_, class) = GROUPS.into_iter().find(|(group, _)| is_named(group, name))?;
    Some(Operation::ALL.into_iter().filter(|operation| operation.class() == class).collect())
}

const GROUPS: [(&str, OperationClass); 4] = [
    ("get_like", OperationClass::GetLike),
    ("update_like", OperationClass::UpdateLike),
    ("delete_like", OperationClass::DeleteLike),
    ("arithmetic_like", OperationClass::ArithmeticLike),
];

pub(super) fn operation_names() -> impl Iterator<Item = &'static str> {
    Operation::ALL.into_iter().map(Operation::name).chain(GROUPS.into_iter().map(|(name, _)| name))
}
