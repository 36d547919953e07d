//! gomcrouter's router.yaml, which is our short form: passed through, without what gomcrouter ignores in silence.
//!
//! Owns its rules for words it doesn't know: every unknown policy is DefaultRoute there, and every unknown key and
//! operation nothing.

use crate::config::Notes;
use crate::config::error::{Faults, Path, seen};
use crate::config::tree::{Entry, Node, Value};
use keyway_protocol::Operation;

/// The policies it has.
const POLICIES: [&str; 4] = ["AllFastestRoute", "MissFailoverRoute", "DefaultRoute", "LocalRoute"];

/// The file without what had no effect.
pub(super) fn translate(top: Node, notes: &mut Notes, faults: &mut Faults) -> Option<Node> {
    let Value::Map(entries) = top.value else {
        faults.at(top.position, Path::Top, format!("{} where a map is needed", top.seen()), String::new());
        return None;
    };
    notes.at(
        top.position,
        "the file",
        "where gomcrouter's own defaults are meant: -n 1 -C 2 (here one shard per CPU, and 1)",
    );
    let mut kept = Vec::with_capacity(entries.len());
    for mut entry in entries {
        match entry.key.as_str() {
            "orderedPool" | "ordered_pool" => kept.push(entry),
            "route" => {
                entry.value = read_route(entry.value, notes);
                kept.push(entry);
            }
            _ => {
                notes.at(entry.position, Path::Key(&Path::Top, &entry.key), "is left out: gomcrouter knows no such key")
            }
        }
    }
    Some(Node { position: top.position, value: Value::Map(kept) })
}

fn word(of: &Node, text: &str) -> Node {
    Node { position: of.position, value: Value::Scalar { text: text.to_owned(), plain: false } }
}

fn read_route(route: Node, notes: &mut Notes) -> Node {
    let position = route.position;
    let path = Path::Key(&Path::Top, "route");
    let Value::Map(entries) = route.value else { return route };
    let kind = entries.iter().find(|entry| entry.key == "type").and_then(|entry| entry.value.text());
    let is_selector = kind == Some("OperationSelectorRoute");
    let mut kept = Vec::with_capacity(entries.len());
    if kind.is_none() {
        notes.at(position, path, "has no type, which is DefaultRoute");
        let value = Value::Scalar { text: "DefaultRoute".to_owned(), plain: false };
        kept.push(Entry { key: "type".to_owned(), position, value: Node { position, value } });
    }
    for mut entry in entries {
        let path = Path::Key(&path, &entry.key);
        match entry.key.as_str() {
            "type" => {
                if !is_selector {
                    entry.value = read_policy(entry.value, &path, notes);
                }
                kept.push(entry);
            }
            "operationPolicies" | "operation_policies" if is_selector => {
                entry.value = read_policies(entry.value, &path, notes);
                kept.push(entry);
            }
            _ => notes.at(entry.position, path, "is left out: it has no effect in gomcrouter"),
        }
    }
    Node { position, value: Value::Map(kept) }
}

fn read_policies(policies: Node, path: &Path<'_>, notes: &mut Notes) -> Node {
    let Value::Map(entries) = policies.value else { return policies };
    let mut kept = Vec::with_capacity(entries.len());
    for mut entry in entries {
        let path = Path::Key(path, &entry.key);
        if !Operation::ALL.iter().any(|operation| operation.name() == entry.key) {
            notes.at(entry.position, path, "is left out: gomcrouter knows no such operation");
            continue;
        }
        entry.value = read_policy(entry.value, &path, notes);
        kept.push(entry);
    }
    Node { position: policies.position, value: Value::Map(kept) }
}

fn read_policy(policy: Node, path: &Path<'_>, notes: &mut Notes) -> Node {
    if policy.text().is_some_and(|text| POLICIES.contains(&text)) {
        return policy;
    }
    let shown = policy.text().map_or_else(|| policy.seen(), seen);
    notes.at(policy.position, path, format!("{shown} is no policy of gomcrouter's, which takes DefaultRoute then"));
    word(&policy, "DefaultRoute")
}
