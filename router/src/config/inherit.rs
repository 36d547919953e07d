//! `inherit`: a pool that takes from another what it doesn't say itself, as mcrouter's pools do.
//!
//! Works on the file's tree, so that what is read is one pool like any other, and a fault in what was taken over is said at
//! the place where it stands. Invariant: pools that inherit in a circle are a fault, and read as they stand.

use super::error::{Faults, Path, seen};
use super::keys::is_named;
use super::reader::text_of;
use super::tree::{Entry, Node, Value};

/// The pools with what they inherit filled in, in the order of the file.
pub(super) fn with_inherited(pools: &[Entry], path: &Path<'_>, faults: &mut Faults) -> Vec<Entry> {
    pools.iter().map(|pool| Entry { value: filled(pool, pools, path, faults), ..pool.clone() }).collect()
}

fn filled(pool: &Entry, pools: &[Entry], path: &Path<'_>, faults: &mut Faults) -> Node {
    let Value::Map(own) = &pool.value.value else { return pool.value.clone() };
    let mut entries = own.clone();
    let mut met = vec![pool.key.as_str()];
    let mut from = pool;
    while let Some((name, node)) = inherits(from, path, faults) {
        let Some(parent) = pools.iter().find(|other| other.key == name) else {
            let names: Vec<&str> = pools.iter().map(|pool| pool.key.as_str()).take(20).collect();
            let place = Path::Key(&Path::Key(path, &from.key), "inherit");
            faults.at(node.position, place, format!("no pool {}", seen(name)), names.join(", "));
            break;
        };
        if met.contains(&parent.key.as_str()) {
            let place = Path::Key(&Path::Key(path, &from.key), "inherit");
            faults.at(node.position, place, format!("{} inherits from itself", seen(&parent.key)), String::new());
            break;
        }
        met.push(&parent.key);
        if let Value::Map(taken) = &parent.value.value {
            let missing = taken.iter().filter(|entry| entry.key != "inherit" && !has(&entries, &entry.key));
            let missing: Vec<Entry> = missing.cloned().collect();
            entries.extend(missing);
        }
        from = parent;
    }
    Node { position: pool.value.position, value: Value::Map(entries) }
}

/// The pool another one inherits from, by name.
fn inherits<'n>(pool: &'n Entry, path: &Path<'_>, faults: &mut Faults) -> Option<(&'n str, &'n Node)> {
    let Value::Map(entries) = &pool.value.value else { return None };
    let node = &entries.iter().find(|entry| entry.key == "inherit")?.value;
    if node.is_null() {
        return None;
    }
    let place = Path::Key(&Path::Key(path, &pool.key), "inherit");
    text_of(node, &place, "a pool's name", faults).map(|name| (name, node))
}

/// True when a key is given, in either of its forms.
fn has(entries: &[Entry], key: &str) -> bool {
    entries.iter().any(|entry| is_named(&entry.key, key) || is_named(key, &entry.key))
}
