//! What is wrong with a configuration: every fault with its place, the value seen and what is allowed.
//!
//! Owns the collecting (`Faults`), the wording around a value and the "did you mean". Never stops at the first fault,
//! never holds more than `MAX_FAULTS`, never prints control characters of the file.

use std::fmt;

/// Most faults kept; beyond that they are only counted.
pub const MAX_FAULTS: usize = 100;
/// Longest piece of a seen value shown, in characters.
const SHOWN_CHARS: usize = 60;

/// Where in a file, counted from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// What a fault points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A place in the file.
    At(Position),
    /// A flag of the command line, by its long name.
    Flag(&'static str),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// The key's path, as `pools.web.servers[1].weight`; empty for the whole file.
    pub path: String,
    /// What is wrong, with the value seen.
    pub problem: String,
    /// What is allowed; empty when the problem says it.
    pub allowed: String,
}

/// All faults of a configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, as it was named.
    pub file: String,
    /// The faults: at least one.
    pub faults: Vec<Fault>,
    /// How many more there were.
    pub more: usize,
}

impl ConfigErrors {
    /// The errors of a file that has one fault as a whole.
    pub fn whole_file(file: &str, problem: String) -> ConfigErrors {
        let fault = Fault { place: Place::File, path: String::new(), problem, allowed: String::new() };
        ConfigErrors { file: file.to_owned(), faults: vec![fault], more: 0 }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            if at > 0 {
                out.write_str("\n")?;
            }
            match fault.place {
                Place::File => write!(out, "{}: ", self.file)?,
                Place::At(position) => write!(out, "{}:{}:{}: ", self.file, position.line, position.column)?,
                Place::Flag(flag) => write!(out, "{flag}: ")?,
            }
            if !fault.path.is_empty() {
                write!(out, "{}: ", fault.path)?;
            }
            out.write_str(&fault.problem)?;
            if !fault.allowed.is_empty() {
                write!(out, " (allowed: {})", fault.allowed)?;
            }
        }
        if self.more > 0 {
            write!(out, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where a node is in the file, in words: a linked list on the stack, spelled out only for a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'a> {
    /// The file's top.
    Top,
    /// The value of a key.
    Key(&'a Path<'a>, &'a str),
    /// An item of a list.
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Top => Ok(()),
            Path::Key(Path::Top, key) => write!(out, "{}", plain(key)),
            Path::Key(parent, key) => write!(out, "{parent}.{}", plain(key)),
            Path::Item(parent, at) => write!(out, "{parent}[{at}]"),
        }
    }
}

/// Collects faults.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    more: usize,
}

impl Faults {
    /// Notes one fault at a place of the file.
    pub(crate) fn at(&mut self, position: Position, path: impl fmt::Display, problem: String, allowed: String) {
        self.push(Fault { place: Place::At(position), path: path.to_string(), problem, allowed });
    }

    /// Notes one fault of a flag.
    pub(crate) fn flag(&mut self, flag: &'static str, problem: String, allowed: String) {
        self.push(Fault { place: Place::Flag(flag), path: String::new(), problem, allowed });
    }

    /// True when nothing was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults in the order of the file; `None` when there are none.
    pub(crate) fn into_errors(mut self, file: &str) -> Option<ConfigErrors> {
        if self.faults.is_empty() {
            return None;
        }
        self.faults.sort_by_key(|fault| fault.place);
        Some(ConfigErrors { file: file.to_owned(), faults: self.faults, more: self.more })
    }

    fn push(&mut self, fault: Fault) {
        // An aliased part is read once for every alias and would say the same thing as often.
        if self.faults.iter().any(|known| known.place == fault.place && known.problem == fault.problem) {
            return;
        }
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        } else {
            self.more += 1;
        }
    }
}

/// A seen text as an error shows it: quoted, without control characters, not too long.
pub(crate) fn seen(text: &str) -> String {
    format!("`{}`", plain(text))
}

/// The same without quotes.
fn plain(text: &str) -> String {
    let mut shown: String =
        text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// `, did you mean ...?` when one of `known` is near `given`, else nothing.
pub(crate) fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // Long texts are no typing mistakes, and the distance is quadratic.
    if given.len() > 64 {
        return String::new();
    }
    let folded = fold(given);
    let near = |name: &str| {
        let name = fold(name);
        // `ttl` for `ttl_ms`: the unit is what is left out most.
        if folded.len() >= 3 && name.starts_with(&folded) { 1 } else { distance(&folded, &name) }
    };
    known
        .into_iter()
        .map(|name| (near(name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len().min(given.len()) / 4)
        .map(|(_, name)| format!(", did you mean {name}?"))
        .unwrap_or_default()
}

/// Case, `_` and `-` don't count: `timeoutMs`, `timeout-ms` and `timeout_ms` are near each other.
fn fold(name: &str) -> Vec<char> {
    name.chars().filter(|c| *c != '_' && *c != '-').flat_map(char::to_lowercase).collect()
}

/// Edit distance with neighbours swapped as one edit.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["timeout_ms", "deadline_ms", "servers", "hash"];
        let check = |given: &str, wanted: &str| {
            let said = did_you_mean(given, known);
            match wanted {
                "" => assert_eq!(said, "", "{given}"),
                wanted => assert_eq!(said, format!(", did you mean {wanted}?"), "{given}"),
            }
        };
        check("timout_ms", "timeout_ms");
        check("timeoutms", "timeout_ms");
        check("timeout", "timeout_ms");
        check("Servers", "servers");
        check("sevrers", "servers");
        check("server", "servers");
        check("hsah", "hash");
        check("dead", "deadline_ms");
        check("x", "");
        check("weight", "");
        check(&"s".repeat(5000), "");
    }

    #[test]
    fn faults_come_in_the_order_of_the_file_and_are_bounded() {
        let mut faults = Faults::default();
        for line in (1..=150).rev() {
            let path = Path::Key(&Path::Top, "a");
            faults.at(Position { line, column: 1 }, Path::Item(&path, line), "bad\u{7}".to_owned(), String::new());
        }
        let errors = faults.into_errors("f.yaml").expect("there are faults");
        assert_eq!((errors.faults.len(), errors.more), (MAX_FAULTS, 50));
        let text = errors.to_string();
        assert!(text.starts_with("f.yaml:51:1: a[51]: bad"), "{text}");
        assert!(text.ends_with("and 50 more"), "{text}");
    }
}
