//! YAML text to an ordered tree in which every key and value knows its place.
//!
//! Owns: the bounds on a file (bytes, depth, nodes after aliases are expanded) and what of YAML is understood at all.
//! Never: interprets a key, or lets a key stand twice. Scalars keep their text: what they mean is the reader's business,
//! so that `off`, `no` and `1:30` are never anything but what was written.

use super::error::{Faults, Position, seen};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Largest file read, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Deepest nesting of maps and lists.
pub const MAX_DEPTH: usize = 48;
/// Bound on the tree with all aliases expanded: each node costs `NODE_COST` and the bytes of its text.
pub(crate) const MAX_TREE_BYTES: usize = 16 << 20;
/// What a node costs beside its text.
pub(crate) const NODE_COST: usize = 64;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) value: Value,
}

/// The shapes of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// One text. `plain` when it stood there without quotes: only then it can be a number or nothing.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// Keys in the order of the file; none twice.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) position: Position,
    pub(crate) value: Node,
}

impl Node {
    /// True for an empty value, `~` and `null`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain } => *plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            Value::List(_) | Value::Map(_) => false,
        }
    }

    /// The text of a scalar that isn't null.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// What stands here, for an error.
    pub(crate) fn seen(&self) -> String {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Value::Scalar { text, .. } => seen(text),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }

    /// The scalar's type and value as YAML has them.
    pub(crate) fn typed(&self) -> serde_yaml::Value {
        match &self.value {
            // No number is longer than this; everything else is text anyway.
            Value::Scalar { text, plain: true } if text.len() <= 40 => {
                serde_yaml::from_str(text).unwrap_or_else(|_| serde_yaml::Value::String(text.clone()))
            }
            Value::Scalar { text, .. } => serde_yaml::Value::String(text.clone()),
            Value::List(_) | Value::Map(_) => serde_yaml::Value::Null,
        }
    }
}

/// Reads one YAML document. `None` when there is none, or when faults were noted that leave nothing to go on with;
/// with duplicate keys alone the tree is there too (the first of them counts), so that other faults are found as well.
pub(crate) fn parse(text: &str, faults: &mut Faults) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(position) = forbidden_character(text) {
        faults.at(position, "", "a control character, which YAML doesn't allow".to_owned(), String::new());
        return None;
    }
    let mut builder = Builder::new(faults);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.event(event, position(span.start))?,
            Err(error) => {
                builder.fault(position(*error.marker()), format!("not valid YAML: {}", error.info()));
                return None;
            }
        }
    }
    builder.root
}

/// The place of byte `offset` of `bytes` (which is valid UTF-8 up to there).
pub(crate) fn position_of_byte(bytes: &[u8], offset: usize) -> Position {
    let before = String::from_utf8_lossy(&bytes[..offset.min(bytes.len())]);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

/// The parser takes NUL for the end of the file, which would hide what follows it.
fn forbidden_character(text: &str) -> Option<Position> {
    text.char_indices()
        .find(|(_, c)| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}'))
        .map(|(at, _)| position_of_byte(text.as_bytes(), at))
}

/// A map or list that isn't closed yet.
struct Open {
    position: Position,
    anchor: usize,
    spent_before: usize,
    shape: OpenShape,
}

enum OpenShape {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, Position)>, first: BTreeMap<String, Position> },
}

/// What an anchor names.
struct Anchored {
    node: Node,
    cost: usize,
    depth: usize,
}

/// Turns events into the tree. Its own stack, so that no nesting can exhaust the thread's.
struct Builder<'f> {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, Anchored>,
    /// What the tree and the anchors' copies cost so far.
    spent: usize,
    faults: &'f mut Faults,
}

impl<'f> Builder<'f> {
    fn new(faults: &'f mut Faults) -> Builder<'f> {
        Builder { open: Vec::new(), root: None, documents: 0, anchors: HashMap::new(), spent: 0, faults }
    }

    /// Takes one event; `None` when there is no going on.
    fn event(&mut self, event: Event<'_>, position: Position) -> Option<()> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Some(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                match self.documents {
                    1 => Some(()),
                    _ => self.give_up(position, "a second YAML document; a configuration is one"),
                }
            }
            Event::Alias(anchor) => self.alias(anchor, position),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), position);
                self.spend(NODE_COST + text.len(), position)?;
                let value = Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.close(Node { position, value }, anchor, 0)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), position);
                self.open(position, anchor, OpenShape::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), position);
                let shape = OpenShape::Map { entries: Vec::new(), key: None, first: BTreeMap::new() };
                self.open(position, anchor, shape)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Some(()) };
                let value = match open.shape {
                    OpenShape::List(items) => Value::List(items),
                    OpenShape::Map { entries, .. } => Value::Map(entries),
                };
                self.close(Node { position: open.position, value }, open.anchor, open.spent_before)
            }
        }
    }

    fn open(&mut self, position: Position, anchor: usize, shape: OpenShape) -> Option<()> {
        if self.expects_key() {
            return self.give_up(position, "a key that is a list or a map; keys are names");
        }
        if self.open.len() >= MAX_DEPTH {
            return self.give_up(position, &format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let spent_before = self.spent;
        self.spend(NODE_COST, position)?;
        self.open.push(Open { position, anchor, spent_before, shape });
        Some(())
    }

    /// A node is complete: it becomes a key, a value, an item or the root.
    fn close(&mut self, node: Node, anchor: usize, spent_before: usize) -> Option<()> {
        if anchor != 0 {
            let cost = match &node.value {
                Value::Scalar { text, .. } => NODE_COST + text.len(),
                Value::List(_) | Value::Map(_) => self.spent - spent_before,
            };
            self.spend(cost, node.position)?;
            let depth = Size::of(&node.value).depth;
            self.anchors.insert(anchor, Anchored { node: node.clone(), cost, depth });
        }
        self.place(node);
        Some(())
    }

    fn alias(&mut self, anchor: usize, position: Position) -> Option<()> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return self.give_up(position, "an alias inside the value it names");
        };
        if self.open.len() + anchored.depth > MAX_DEPTH {
            return self.give_up(position, &format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let cost = anchored.cost;
        self.spend(cost, position)?;
        if let Some(node) = self.anchors.get(&anchor).map(|anchored| anchored.node.clone()) {
            if self.expects_key() && node.text().is_none() {
                return self.give_up(position, "a key that is a list or a map; keys are names");
            }
            self.place(node);
        }
        Some(())
    }

    fn place(&mut self, node: Node) {
        let duplicate = match self.open.last_mut().map(|open| &mut open.shape) {
            None => {
                self.root.get_or_insert(node);
                None
            }
            Some(OpenShape::List(items)) => {
                items.push(node);
                None
            }
            Some(OpenShape::Map { entries, key, first }) => match key.take() {
                None => {
                    let text = match node.value {
                        Value::Scalar { text, .. } => text,
                        Value::List(_) | Value::Map(_) => String::new(),
                    };
                    *key = Some((text, node.position));
                    None
                }
                Some((key, position)) => match first.get(&key) {
                    Some(first) => Some((key, position, *first)),
                    None => {
                        first.insert(key.clone(), position);
                        entries.push(Entry { key, position, value: node });
                        None
                    }
                },
            },
        };
        if let Some((key, position, first)) = duplicate {
            let problem = format!("{} is given twice; first in line {}", seen(&key), first.line);
            self.fault(position, problem);
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { shape: OpenShape::Map { key: None, .. }, .. }))
    }

    fn refuse_tag(&mut self, tagged: bool, position: Position) {
        if tagged {
            self.fault(position, "YAML tags (`!...`) aren't used here".to_owned());
        }
    }

    fn spend(&mut self, cost: usize, position: Position) -> Option<()> {
        self.spent += cost;
        if self.spent > MAX_TREE_BYTES {
            return self.give_up(position, "too large with its aliases expanded");
        }
        Some(())
    }

    fn give_up(&mut self, position: Position, problem: &str) -> Option<()> {
        self.fault(position, problem.to_owned());
        None
    }

    fn fault(&mut self, position: Position, problem: String) {
        let path = OpenPath(&self.open).to_string();
        self.faults.at(position, path, problem, String::new());
    }
}

/// The path to what is being read, from the stack of open nodes.
struct OpenPath<'a>(&'a [Open]);

impl fmt::Display for OpenPath<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut dot = "";
        for open in self.0 {
            match &open.shape {
                OpenShape::List(items) => write!(out, "[{}]", items.len())?,
                OpenShape::Map { key: Some((key, _)), .. } => {
                    let shown: String = key.chars().take(60).filter(|c| !c.is_control()).collect();
                    write!(out, "{dot}{shown}")?;
                }
                OpenShape::Map { key: None, .. } => {}
            }
            dot = ".";
        }
        Ok(())
    }
}

/// What a value takes.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Each node costs `NODE_COST` and the bytes of its text.
    pub(crate) bytes: usize,
    /// Levels of maps and lists.
    pub(crate) depth: usize,
}

impl Size {
    /// Recursion is bounded, as whoever makes trees bounds their depth.
    pub(crate) fn of(value: &Value) -> Size {
        let sum = |own: usize, parts: &mut dyn Iterator<Item = Size>| {
            parts.fold(Size { bytes: NODE_COST + own, depth: 1 }, |sum, part| Size {
                bytes: sum.bytes + part.bytes,
                depth: sum.depth.max(1 + part.depth),
            })
        };
        match value {
            Value::Scalar { text, .. } => Size { bytes: NODE_COST + text.len(), depth: 0 },
            Value::List(items) => sum(0, &mut items.iter().map(|item| Size::of(&item.value))),
            Value::Map(entries) => {
                let keys = entries.iter().map(|entry| NODE_COST + entry.key.len()).sum();
                sum(keys, &mut entries.iter().map(|entry| Size::of(&entry.value.value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as serde_yaml would have it.
    fn value(node: &Node) -> serde_yaml::Value {
        match &node.value {
            Value::Scalar { .. } => node.typed(),
            Value::List(items) => serde_yaml::Value::Sequence(items.iter().map(value).collect()),
            Value::Map(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone().into(), value(&entry.value)));
                serde_yaml::Value::Mapping(pairs.collect())
            }
        }
    }

    #[test]
    fn another_parser_reads_the_same() {
        let check = |yaml: &str| {
            let mut faults = Faults::default();
            let ours = parse(yaml, &mut faults).map(|node| value(&node));
            let theirs: serde_yaml::Value = serde_yaml::from_str(yaml).expect("valid YAML");
            assert_eq!(ours, Some(theirs), "{yaml}");
            assert!(faults.is_empty());
        };
        check("a: b");
        check("a: {b: [c, 1, -2, 1.5, true, null, ~, '1', \"2\"], d: }\ne:\n- f\n- g: h\n  i: |\n    text\n    more\n");
        check("a: &x [1, {b: c}]\nd: *x\ne: [*x, *x]\n");
        check("'a b': >\n  folded\n  text\n# comment\nc: off\nd: 0x10\ne: 1e3\nf: 10.0.0.1:11211\n");
        check("orderedPool: [memcache1:11211, memcache2:11211]\r\nroute: x\r\n");
        check(include_str!("../../../router.yaml"));
    }

    #[test]
    fn everything_knows_its_place() {
        let mut faults = Faults::default();
        let yaml = "# one\nlimits:\n  clients: 5\npools: {w\u{e4}b: [\u{1f980}, b]}\n";
        let Some(Node { value: Value::Map(top), .. }) = parse(yaml, &mut faults) else { panic!("a map") };
        let at = |position: Position| (position.line, position.column);
        assert_eq!((at(top[0].position), at(top[0].value.position)), ((2, 1), (3, 3)));
        let Value::Map(limits) = &top[0].value.value else { panic!("a map") };
        assert_eq!((at(limits[0].position), at(limits[0].value.position)), ((3, 3), (3, 12)));
        let Value::Map(pools) = &top[1].value.value else { panic!("a map") };
        assert_eq!((at(top[1].value.position), at(pools[0].position)), ((4, 8), (4, 9)));
        let Value::List(items) = &pools[0].value.value else { panic!("a list") };
        // In characters, as editors count.
        assert_eq!((at(items[0].position), at(items[1].position)), ((4, 15), (4, 18)));
    }
}
