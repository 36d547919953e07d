//! Names of routes as mcrouter has them: any text, and of several objects with one name the first counts.
//!
//! Ours are plain words, and each stands for one thing. So names are made good here, and an object whose name was met
//! before becomes that name.

use super::{good_name, is_name};
use crate::config::error::Path;
use crate::config::note::Notes;
use crate::config::tree::{Entry, Node, Value};
use std::collections::{HashMap, HashSet};

/// Keys whose text is never a route, though it may read like the name of one.
const TEXT_KEYS: [&str; 4] = ["name", "type", "pool", "asynclog_name"];

/// Makes good the names under the keys of the file that hold routes, in the order mcrouter reads them.
pub(super) fn make_good(entries: &mut [Entry], notes: &mut Notes) {
    let mut handles = Handles { first: HashMap::new(), taken: HashSet::new(), notes };
    for key in ["named_handles", "route", "routes"] {
        let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) else { continue };
        match &mut entry.value.value {
            Value::Map(named) if key == "named_handles" => {
                for handle in named.iter_mut() {
                    handle.key = handles.name(&handle.key, handle.position);
                }
                // mcrouter gives the object the name it stands under.
                for handle in named.iter_mut() {
                    drop_name(&mut handle.value);
                    handles.walk(&mut handle.value);
                }
            }
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => handles.walk(&mut entry.value),
        }
    }
    let renamed: HashMap<String, String> = handles.first.into_iter().filter(|(given, good)| given != good).collect();
    if !renamed.is_empty() {
        for entry in entries.iter_mut().filter(|entry| super::ROUTE_KEYS.contains(&entry.key.as_str())) {
            refer(&mut entry.value, &renamed);
        }
    }
}

fn drop_name(node: &mut Node) {
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|entry| entry.key != "name");
    }
}

struct Handles<'n> {
    /// The names met so far, and what they are called here.
    first: HashMap<String, String>,
    taken: HashSet<String>,
    notes: &'n mut Notes,
}

impl Handles<'_> {
    fn name(&mut self, given: &str, at: crate::config::Position) -> String {
        let good = if is_name(given) && self.taken.insert(given.to_owned()) {
            given.to_owned()
        } else {
            good_name(given, &mut self.taken)
        };
        if good != given {
            let path = Path::Key(&Path::Top, "named_handles");
            self.notes.at(at, Path::Key(&path, given), format!("is called {good} here"));
        }
        self.first.insert(given.to_owned(), good.clone());
        good
    }

    /// Recursion is bounded by the depth of the file.
    fn walk(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Value::Map(entries) => {
                if entries.iter().any(|entry| entry.key == "type")
                    && let Some(name) = entries.iter_mut().find(|entry| entry.key == "name")
                    && let Some(given) = name.value.text().map(str::to_owned)
                {
                    if let Some(good) = self.first.get(&given) {
                        let said = format!("{given} is the route of that name met first, as in mcrouter");
                        self.notes.at(node.position, Path::Key(&Path::Top, "name"), said);
                        node.value = Value::Scalar { text: good.clone(), plain: false };
                        return;
                    }
                    let good = self.name(&given, name.value.position);
                    name.value.value = Value::Scalar { text: good, plain: false };
                }
                entries.iter_mut().for_each(|entry| self.walk(&mut entry.value));
            }
        }
    }
}

/// Lets routes say the new names: alone, or behind the last bar of a short form.
fn refer(node: &mut Node, renamed: &HashMap<String, String>) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| refer(item, renamed)),
        Value::Map(entries) => {
            let entries = entries.iter_mut().filter(|entry| !TEXT_KEYS.contains(&entry.key.as_str()));
            entries.for_each(|entry| refer(&mut entry.value, renamed));
        }
        Value::Scalar { text, plain: false } => {
            let at = text.rfind('|').map_or(0, |bar| bar + 1);
            // A pool may have the name of a route.
            let is_pool = ["PoolRoute|", "Pool|"].iter().any(|kind| text[..at].ends_with(kind));
            if let Some(good) = renamed.get(&text[at..]).filter(|_| !is_pool) {
                text.replace_range(at.., good);
            }
        }
        Value::Scalar { plain: true, .. } => {}
    }
}
