//! A tree as YAML: what is short on one line, the rest in blocks.

use crate::config::quoted;
use crate::config::tree::{Entry, Node, Value};
use std::fmt::Write as _;

/// Longest line that isn't broken up.
const LINE: usize = 110;

/// The tree below a comment.
pub(super) fn print(top: &Node, said: &str) -> String {
    let mut out = format!("# {said}\n");
    match &top.value {
        Value::Map(entries) if !entries.is_empty() => block_map(entries, 0, &mut out),
        Value::List(_) | Value::Map(_) | Value::Scalar { .. } => {
            out.push_str(&flow(top));
            out.push('\n');
        }
    }
    out
}

/// A text as part of a comment.
pub(super) fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Recursion is bounded by the depth of trees, here and below.
fn block_map(entries: &[Entry], indent: usize, out: &mut String) {
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            pad(indent, out);
        }
        out.push_str(&scalar(&entry.key, false));
        out.push(':');
        let used = indent + entry.key.len() + 2;
        match &entry.value.value {
            Value::Map(inner) if !fits(&entry.value, used) => {
                out.push('\n');
                pad(indent + 2, out);
                block_map(inner, indent + 2, out);
            }
            Value::List(items) if !fits(&entry.value, used) => {
                out.push('\n');
                pad(indent + 2, out);
                block_list(items, indent + 2, out);
            }
            Value::Scalar { .. } | Value::Map(_) | Value::List(_) => {
                // Writing to a String can't fail.
                let _ = writeln!(out, " {}", flow(&entry.value));
            }
        }
    }
}

fn block_list(items: &[Node], indent: usize, out: &mut String) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            pad(indent, out);
        }
        out.push_str("- ");
        match &item.value {
            Value::Map(entries) if !fits(item, indent + 2) => block_map(entries, indent + 2, out),
            Value::List(inner) if !fits(item, indent + 2) => block_list(inner, indent + 2, out),
            Value::Scalar { .. } | Value::Map(_) | Value::List(_) => {
                out.push_str(&flow(item));
                out.push('\n');
            }
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// True for what stands on one line: what is short, and has no more than one level within it.
fn fits(node: &Node, used: usize) -> bool {
    width(node, 3).is_some_and(|width| used + width <= LINE)
}

/// The length on one line; `None` for what is nested deeper than `levels`, or empty of nothing and longer than any line.
fn width(node: &Node, levels: usize) -> Option<usize> {
    match &node.value {
        Value::Scalar { text, plain } => Some(scalar(text, *plain).len()).filter(|width| *width <= LINE),
        Value::List(items) => {
            let levels = levels.checked_sub(1)?;
            items.iter().try_fold(2, |sum, item| within(sum + 2 + width(item, levels)?))
        }
        Value::Map(entries) => {
            let levels = levels.checked_sub(1)?;
            entries.iter().try_fold(2, |sum, entry| within(sum + 4 + entry.key.len() + width(&entry.value, levels)?))
        }
    }
}

fn within(width: usize) -> Option<usize> {
    (width <= LINE).then_some(width)
}

fn flow(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, plain } => scalar(text, *plain),
        Value::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let entry = |entry: &Entry| format!("{}: {}", scalar(&entry.key, false), flow(&entry.value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text, in quotes wherever YAML could take it for something else.
fn scalar(text: &str, plain: bool) -> String {
    if plain && !text.is_empty() {
        return text.to_owned();
    }
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'|'));
    // What YAML 1.1 takes for a truth, and what 1.2 takes for nothing or a number.
    let means_other = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_other = means_other.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_word && !is_other { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::Faults;
    use crate::config::tree::parse;

    /// The tree without its places.
    fn shape(node: &Node) -> String {
        match &node.value {
            Value::Scalar { text, plain } => format!("{text:?}{plain}"),
            Value::List(items) => format!("[{}]", items.iter().map(shape).collect::<Vec<_>>().join(",")),
            Value::Map(entries) => {
                let entries = entries.iter().map(|entry| format!("{:?}={}", entry.key, shape(&entry.value)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
            }
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let long = "x".repeat(200);
        let check = |json: &str| {
            let mut faults = Faults::default();
            let tree = crate::config::json::parse(json, &mut faults).expect("good JSON");
            let yaml = print(&tree, "test");
            let mut read = parse(&yaml, &mut faults).unwrap_or_else(|| panic!("{yaml}"));
            // Words without quotes are texts all the same.
            fn quote(node: &mut Node) {
                match &mut node.value {
                    Value::Scalar { text, plain } => {
                        let other = matches!(text.as_str(), "true" | "false" | "null") || text.parse::<f64>().is_ok();
                        *plain = *plain && other;
                    }
                    Value::List(items) => items.iter_mut().for_each(quote),
                    Value::Map(entries) => entries.iter_mut().for_each(|entry| quote(&mut entry.value)),
                }
            }
            quote(&mut read);
            assert_eq!(shape(&read), shape(&tree), "{yaml}");
            assert!(yaml.lines().all(|line| line == line.trim_end()), "{yaml}");
        };
        check(
            "{\"a\": 1, \"b c\": \"true\", \"d\": \"10.0.0.1:1\", \"e\": \"PoolRoute|a\", \"f\": \"1\", \"g\": null}",
        );
        check(
            "{\"no\": [], \"a\": {}, \"#\": \"# no comment\", \"-\": [[1, [2, [3, [4, {\"x\": [5]}]]]]], \"\": \"\"}",
        );
        check(&format!(
            "{{\"a\": [[{{\"b\": \"{long}\", \"c\": [\"{long}\"]}}, {{}}], [[\"{long}\"]]], \"{long}\": {{\"y\": 2}}}}"
        ));
        check("{\"a\": \"two\\nlines: - [x]\\t\", \"b\": \"'\", \"c\": \"@x %y% & *z !t\", \"d\": \"\u{e4}\u{2028}\"}");
        check("[]");
        check("{}");
    }
}
