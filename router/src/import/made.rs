//! Nodes of our configuration, each with the place in the other router's file it comes from.

use crate::config::error::Position;
use crate::config::tree::{Entry, Node, Value};

pub(super) fn text(at: Position, text: impl Into<String>) -> Node {
    Node { position: at, value: Value::Scalar { text: text.into(), plain: false } }
}

pub(super) fn number(at: Position, number: impl ToString) -> Node {
    Node { position: at, value: Value::Scalar { text: number.to_string(), plain: true } }
}

pub(super) fn list(at: Position, items: Vec<Node>) -> Node {
    Node { position: at, value: Value::List(items) }
}

pub(super) fn map(at: Position, entries: Vec<(&str, Node)>) -> Node {
    let entry = |(key, value): (&str, Node)| Entry { key: key.to_owned(), position: value.position, value };
    Node { position: at, value: Value::Map(entries.into_iter().map(entry).collect()) }
}

/// Pools or routes by their names.
pub(super) fn named(at: Position, entries: Vec<(String, Node)>) -> Node {
    let entry = |(key, value): (String, Node)| Entry { key, position: value.position, value };
    Node { position: at, value: Value::Map(entries.into_iter().map(entry).collect()) }
}
