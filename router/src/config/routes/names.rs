//! Names for routes besides `routes`: mcrouter's `named_handles`, and a `name` on any route's object.
//!
//! Owns which name means which part of the file. Invariants: no name means two things or is a route's type; the walk is
//! bounded by the file's own size, which `tree` bounds.

use super::super::address::is_name;
use super::super::error::{Faults, Path, Position, seen};
use super::super::keys::NAME_FORM;
use super::super::reader::entries;
use super::super::tree::{Node, Value};
use super::{MAX_ROUTES, is_type};

/// Adds what `named_handles` names: a map of name to route, or a list of routes that each have a `name`.
pub(super) fn read_handles<'a>(
    node: &'a Node,
    path: &Path<'_>,
    named: &mut Vec<(&'a str, &'a Node)>,
    faults: &mut Faults,
) {
    if let Value::List(items) = &node.value {
        for (at, item) in items.iter().enumerate() {
            if own_name(item).is_none() {
                let allowed = "an object with `type` and `name`".to_owned();
                faults.at(item.position, Path::Item(path, at), "a route without a name".to_owned(), allowed);
            }
        }
        return collect(node, named, faults);
    }
    for entry in entries(node, path, faults).unwrap_or_default() {
        add(&entry.key, &entry.value, entry.position, named, faults);
        collect(&entry.value, named, faults);
    }
}

/// Adds every object with `type` and `name` at or below `node`.
pub(super) fn collect<'a>(node: &'a Node, named: &mut Vec<(&'a str, &'a Node)>, faults: &mut Faults) {
    match &node.value {
        Value::Scalar { .. } => {}
        Value::List(items) => items.iter().for_each(|item| collect(item, named, faults)),
        Value::Map(entries) => {
            if let Some((name, position)) = own_name(node) {
                add(name, node, position, named, faults);
            }
            entries.iter().for_each(|entry| collect(&entry.value, named, faults));
        }
    }
}

/// The `name` of a route's object.
fn own_name(node: &Node) -> Option<(&str, Position)> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|entry| entry.key == "type")?;
    let name = entries.iter().find(|entry| entry.key == "name")?;
    Some((name.value.text()?, name.value.position))
}

fn add<'a>(name: &'a str, node: &'a Node, at: Position, named: &mut Vec<(&'a str, &'a Node)>, faults: &mut Faults) {
    if !is_name(name) || is_type(name) || name == "Pool" {
        let allowed = format!("{NAME_FORM}, and not a route's type");
        return faults.at(at, Path::Top, format!("{} is no good name", seen(name)), allowed);
    }
    if let Some((_, first)) = named.iter().find(|(known, _)| *known == name) {
        let problem = format!("two routes are called {}; the first is in line {}", seen(name), first.position.line);
        return faults.at(at, Path::Top, problem, String::new());
    }
    if named.len() == MAX_ROUTES {
        return faults.at(at, Path::Top, format!("more than {MAX_ROUTES} named routes"), String::new());
    }
    named.push((name, node));
}
