//! Reads a map of another router's file: its keys by name, each once, with what is wrong noted as a fault.
//!
//! Owns that nothing is left out in silence: a key that wasn't asked for is a fault (`close`).

use crate::config::MAX_FAULTS;
use crate::config::error::{Faults, Path, Position, did_you_mean};
use crate::config::tree::{Entry, Node, Value};
use std::cell::RefCell;

/// A map, and which of its keys were asked for.
pub(super) struct Section<'n, 'p> {
    pub(super) position: Position,
    pub(super) path: &'p Path<'p>,
    entries: &'n [Entry],
    asked: RefCell<Vec<&'static str>>,
}

impl<'n, 'p> Section<'n, 'p> {
    /// `None`, with a fault, when `node` is no map.
    pub(super) fn of(node: &'n Node, path: &'p Path<'p>, faults: &mut Faults) -> Option<Section<'n, 'p>> {
        match &node.value {
            Value::Map(entries) => {
                Some(Section { position: node.position, path, entries, asked: RefCell::new(Vec::new()) })
            }
            Value::Scalar { .. } | Value::List(_) => {
                faults.at(node.position, path, format!("{} where a map is needed", node.seen()), String::new());
                None
            }
        }
    }

    /// The value of a key, if it is there and not empty.
    pub(super) fn find(&self, key: &'static str) -> Option<&'n Node> {
        self.asked.borrow_mut().push(key);
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value).filter(|node| !node.is_null())
    }

    /// The text of a key.
    pub(super) fn text(&self, key: &'static str, faults: &mut Faults) -> Option<(&'n str, Position)> {
        let node = self.find(key)?;
        let text = node.text();
        if text.is_none() {
            self.fault(key, node, "a text", faults);
        }
        text.map(|text| (text, node.position))
    }

    /// The text of a key that must be there.
    pub(super) fn required(&self, key: &'static str, faults: &mut Faults) -> Option<(&'n str, Position)> {
        if self.find(key).is_none() {
            faults.at(self.position, self.path, format!("{key} is missing"), String::new());
        }
        self.text(key, faults)
    }

    /// The number of a key; -1 stands for none in the files of both.
    pub(super) fn number(&self, key: &'static str, faults: &mut Faults) -> Option<(i64, Position)> {
        let node = self.find(key)?;
        let number = node.text().and_then(|text| text.parse().ok()).filter(|number| *number >= -1);
        if number.is_none() {
            self.fault(key, node, "a whole number", faults);
        }
        number.map(|number| (number, node.position))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str, faults: &mut Faults) -> Option<(bool, Position)> {
        let node = self.find(key)?;
        match node.text() {
            Some("true") => Some((true, node.position)),
            Some("false") => Some((false, node.position)),
            _ => {
                self.fault(key, node, "true or false", faults);
                None
            }
        }
    }

    /// The texts of a list that must be there, and must not be empty.
    pub(super) fn texts(&self, key: &'static str, faults: &mut Faults) -> Vec<(&'n str, Position)> {
        let Some(node) = self.find(key) else {
            faults.at(self.position, self.path, format!("{key} is missing"), String::new());
            return Vec::new();
        };
        let items = match &node.value {
            Value::List(items) if !items.is_empty() => items.as_slice(),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => {
                self.fault(key, node, "a list with something in it", faults);
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.text() {
                Some(text) => texts.push((text, item.position)),
                None => self.fault(key, item, "a text", faults),
            }
        }
        texts
    }

    /// Says of every key that wasn't asked for that it is unknown.
    pub(super) fn close(self, faults: &mut Faults) {
        let asked = self.asked.into_inner();
        let unknown = self.entries.iter().filter(|entry| !asked.contains(&entry.key.as_str()));
        // More than that aren't kept, and what is meant by each takes time to guess.
        for entry in unknown.take(MAX_FAULTS + 1) {
            let near = did_you_mean(&entry.key, asked.iter().copied());
            faults.at(entry.position, Path::Key(self.path, &entry.key), format!("unknown key{near}"), String::new());
        }
    }

    fn fault(&self, key: &str, node: &Node, wanted: &str, faults: &mut Faults) {
        let problem = format!("{} where {wanted} is needed", node.seen());
        faults.at(node.position, Path::Key(self.path, key), problem, String::new());
    }
}
