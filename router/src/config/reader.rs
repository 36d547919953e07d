//! Reads the maps of the tree by the table of keys: unknown keys, both forms of one key, wrong types and values out of
//! range become faults here, with the default standing in so that reading goes on and finds the others.
//!
//! An empty value (`limits:` with every line under it commented out) counts as not given.

use super::error::{Faults, Path, Position, did_you_mean, seen};
use super::keys::{Default, Key, Kind, Section};
use super::tree::{Entry, Node, Value};

/// A map of the file, its keys known.
#[derive(Debug)]
pub(super) struct Map<'n, 'p> {
    pub(super) section: &'static Section,
    pub(super) position: Position,
    pub(super) path: &'p Path<'p>,
    found: Vec<(&'static Key, &'n Node)>,
}

impl<'n, 'p> Map<'n, 'p> {
    /// Reads `node` as a map of `section`; anything else is a fault and reads as an empty map.
    pub(super) fn read(node: &'n Node, section: &'static Section, path: &'p Path<'p>, faults: &mut Faults) -> Self {
        let mut map = Map { section, position: node.position, path, found: Vec::new() };
        let Some(entries) = entries(node, path, faults) else { return map };
        let mut positions: Vec<(&'static Key, Position)> = Vec::new();
        for entry in entries {
            // Any route may have a name, which `routes::names` reads.
            if entry.key == "name" && section.is_route() {
                continue;
            }
            let Some(key) = section.key_of(&entry.key) else {
                unknown_key(entry, section, path, faults);
                continue;
            };
            match positions.iter().find(|(known, _)| known.name == key.name) {
                Some((_, first)) => {
                    let problem = format!("{} is given twice; first in line {}", seen(&entry.key), first.line);
                    faults.at(entry.position, path, problem, String::new());
                }
                None => {
                    positions.push((key, entry.position));
                    map.found.push((key, &entry.value));
                }
            }
        }
        map
    }

    /// A map in which nothing is given, for a section that isn't there.
    pub(super) fn empty(section: &'static Section, position: Position, path: &'p Path<'p>) -> Self {
        Map { section, position, path, found: Vec::new() }
    }

    /// The value of a key, if it is given.
    pub(super) fn find(&self, name: &str) -> Option<&'n Node> {
        let key = self.section.key(name);
        self.found.iter().find(|(found, node)| found.name == key.name && !node.is_null()).map(|(_, node)| *node)
    }

    /// The value of a key that must be given; a fault when it isn't.
    pub(super) fn required(&self, name: &str, faults: &mut Faults) -> Option<&'n Node> {
        let node = self.find(name);
        if node.is_none() {
            let allowed = self.section.key(name).kind.allowed();
            faults.at(self.position, self.path, format!("{name} is missing"), allowed);
        }
        node
    }

    /// A number: the given one, or the default.
    pub(super) fn number(&self, name: &str, faults: &mut Faults) -> u64 {
        let default = match self.section.key(name).kind.default() {
            Default::Number(default) => default,
            Default::Required | Default::Word(_) | Default::Said(_) => {
                panic!("{}.{name} has no number as its default", self.section.name)
            }
        };
        self.given_number(name, faults).unwrap_or(default)
    }

    /// A number, if it is given and good.
    pub(super) fn given_number(&self, name: &str, faults: &mut Faults) -> Option<u64> {
        let node = self.find(name)?;
        let path = Path::Key(self.path, name);
        match number_of(node, &self.section.key(name).kind) {
            Ok(number) => Some(number),
            Err((problem, allowed)) => {
                faults.at(node.position, path, problem, allowed);
                None
            }
        }
    }

    /// One of the words of a key, if it is given and good.
    pub(super) fn given_word(&self, name: &str, faults: &mut Faults) -> Option<&'static str> {
        let node = self.find(name)?;
        let kind = &self.section.key(name).kind;
        let Kind::Word { allowed, unsupported, .. } = kind else {
            panic!("{}.{name} takes no words", self.section.name)
        };
        let text = node.text().unwrap_or_default();
        if let Some(word) = allowed.iter().find(|word| **word == text) {
            return Some(word);
        }
        let problem = if unsupported.contains(&text) {
            format!("{} isn't supported by this version", node.seen())
        } else {
            format!("{} is unknown{}", node.seen(), did_you_mean(text, allowed.iter().copied()))
        };
        faults.at(node.position, Path::Key(self.path, name), problem, kind.allowed());
        None
    }

    /// A word: the given one, or the default.
    pub(super) fn word(&self, name: &str, faults: &mut Faults) -> &'static str {
        let default = match self.section.key(name).kind.default() {
            Default::Word(default) => default,
            Default::Required | Default::Number(_) | Default::Said(_) => {
                panic!("{}.{name} has no word as its default", self.section.name)
            }
        };
        self.given_word(name, faults).unwrap_or(default)
    }

    /// A text, if the key is given and is one.
    pub(super) fn given_text(&self, name: &str, faults: &mut Faults) -> Option<(&'n str, &'n Node)> {
        let node = self.find(name)?;
        let allowed = self.section.key(name).kind.allowed();
        text_of(node, &Path::Key(self.path, name), &allowed, faults).map(|text| (text, node))
    }

    /// Notes a fault in the value of a key.
    pub(super) fn refuse(&self, name: &str, node: &Node, problem: String, faults: &mut Faults) {
        faults.at(node.position, Path::Key(self.path, name), problem, self.section.key(name).kind.allowed());
    }
}

/// The entries of a map; a fault when `node` is something else.
pub(super) fn entries<'n>(node: &'n Node, path: &Path<'_>, faults: &mut Faults) -> Option<&'n [Entry]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        Value::Scalar { .. } | Value::List(_) => {
            faults.at(node.position, path, format!("{} where a map is needed", node.seen()), String::new());
            None
        }
    }
}

/// The items of a list; a fault when `node` is something else.
pub(super) fn items<'n>(node: &'n Node, path: &Path<'_>, faults: &mut Faults) -> Option<&'n [Node]> {
    match &node.value {
        Value::List(items) => Some(items),
        Value::Scalar { .. } | Value::Map(_) => {
            faults.at(node.position, path, format!("{} where a list is needed", node.seen()), String::new());
            None
        }
    }
}

/// The text of a scalar; a fault when `node` is something else.
pub(super) fn text_of<'n>(node: &'n Node, path: &Path<'_>, allowed: &str, faults: &mut Faults) -> Option<&'n str> {
    let text = node.text();
    if text.is_none() {
        faults.at(node.position, path, format!("{} where text is needed", node.seen()), allowed.to_owned());
    }
    text
}

/// A whole number in the range of `kind`, or what is wrong and what is allowed.
pub(super) fn number_of(node: &Node, kind: &Kind) -> Result<u64, (String, String)> {
    let Kind::Number { min, max, .. } = kind else { return Err(("takes no number".to_owned(), kind.allowed())) };
    let typed = node.typed();
    let serde_yaml::Value::Number(number) = typed else {
        return Err((format!("{} is no whole number", node.seen()), kind.allowed()));
    };
    match number.as_u64() {
        Some(number) if (*min..=*max).contains(&number) => Ok(number),
        Some(_) => Err((format!("{} is out of range", node.seen()), kind.allowed())),
        None if number.is_i64() => Err((format!("{} is out of range", node.seen()), kind.allowed())),
        None => Err((format!("{} is no whole number", node.seen()), kind.allowed())),
    }
}

fn unknown_key(entry: &Entry, section: &Section, path: &Path<'_>, faults: &mut Faults) {
    let key = Path::Key(path, &entry.key);
    if section.is_unsupported(&entry.key) {
        faults.at(entry.position, key, "isn't supported by this version".to_owned(), section.allowed());
    } else {
        let near = did_you_mean(&entry.key, section.keys.iter().map(|key| key.name));
        faults.at(entry.position, key, format!("unknown key{near}"), section.allowed());
    }
}
