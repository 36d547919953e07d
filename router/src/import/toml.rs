//! TOML text to the tree YAML is read to.
//!
//! The grammar is the toml crate's, which keeps the place of every value and bounds its own recursion.

use crate::config::error::{Faults, Path, Position};
use crate::config::tree::{Entry, Node, Value, position_of_byte};
use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};
use std::ops::Range;

/// True for what begins as a TOML file with tables, or with an assignment.
pub(super) fn is_toml(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| {
        let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        line.starts_with("[[") || line.split_once('=').is_some_and(|(key, _)| is_key(key.trim()))
    })
}

/// Reads one TOML document, with all that is wrong in it.
pub(super) fn parse(text: &str, faults: &mut Faults) -> Option<Node> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let places = Places::of(text);
    for error in &errors {
        let position = places.at(error.span().unwrap_or(0..0));
        faults.at(position, Path::Top, format!("not valid TOML: {}", error.message()), String::new());
    }
    if !errors.is_empty() {
        return None;
    }
    let position = Position { line: 1, column: 1 };
    Some(Node { position, value: table_of(table.get_ref(), &places) })
}

/// The lines' beginnings, so that a place is found without counting from the top.
struct Places<'t> {
    text: &'t str,
    lines: Vec<usize>,
}

impl<'t> Places<'t> {
    fn of(text: &'t str) -> Places<'t> {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Places { text, lines }
    }

    fn at(&self, span: Range<usize>) -> Position {
        let line = self.lines.partition_point(|begin| *begin <= span.start);
        let begin = self.lines[line - 1];
        let in_line = position_of_byte(&self.text.as_bytes()[begin..], span.start.min(self.text.len()) - begin);
        Position { line, column: in_line.column }
    }
}

fn table_of(table: &DeTable<'_>, places: &Places<'_>) -> Value {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            position: places.at(key.span()),
            value: node_of(value, places),
        })
        .collect();
    // The table is in the order of the alphabet.
    entries.sort_by_key(|entry| entry.position);
    Value::Map(entries)
}

fn node_of(value: &Spanned<DeValue<'_>>, places: &Places<'_>) -> Node {
    let plain = |text: String| Value::Scalar { text, plain: true };
    let made = match value.get_ref() {
        DeValue::String(text) => Value::Scalar { text: text.to_string(), plain: false },
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => plain(number.to_string()),
            Err(_) => plain(integer.as_str().to_owned()),
        },
        DeValue::Float(float) => plain(float.as_str().to_owned()),
        DeValue::Boolean(is) => plain(is.to_string()),
        DeValue::Datetime(time) => Value::Scalar { text: time.to_string(), plain: false },
        DeValue::Array(items) => Value::List(items.iter().map(|item| node_of(item, places)).collect()),
        DeValue::Table(table) => table_of(table, places),
    };
    Node { position: places.at(value.span()), value: made }
}
