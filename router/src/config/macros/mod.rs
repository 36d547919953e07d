//! Expands the macros of an mcrouter configuration: `@name(arguments)`, `{"type": "name", ...}`, `%parameter%`, `vars`.
//!
//! Owns the meaning of definitions (`macroDef`, `constDef`), of scopes, and of the built-ins that choose what they
//! expand. Semantics are those of mcrouter's ConfigPreprocessor; docs/migration.md says which built-ins there are. Pure:
//! no file is read, no address looked at, nothing drawn by chance. What would need that is refused in words.
//!
//! Bounded: nesting by `MAX_NESTING`, and work by `MAX_WORK`, of which every value made or copied takes its size. What
//! comes out is held to the bounds of any configuration (`tree`).
//!
//! A value that comes from a macro's body keeps the body's place, so that a fault in it points at what has to be changed.

mod builtins;
mod calls;
mod notation;
#[cfg(test)]
mod tests;

use super::error::{Faults, Path, Position, seen};
use super::tree::{Entry, MAX_DEPTH, MAX_TREE_BYTES, NODE_COST, Node, Size, Value};
use builtins::{text, text_of};
use calls::{Arguments, Definition};
use notation::Piece;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Deepest nesting of macros and values while they are expanded; mcrouter's number.
pub(crate) const MAX_NESTING: usize = 250;
/// Bound on the sizes of all values made or copied on the way, in bytes.
pub(crate) const MAX_WORK: usize = 64 << 20;

/// Parameters every macro may use: name and value. Those of the command line stand over the built-in ones.
pub(crate) type Parameters = [(String, String)];

/// mcrouter's own parameters, with the values they have there when no option sets them.
const PARAMETERS: [(&str, &str); 5] = [
    ("default-route", "/././"),
    ("default-region", "."),
    ("default-cluster", "."),
    ("router-name", "unknown"),
    ("service-name", "unknown"),
];

/// The configuration without macros. `None` after faults that leave nothing to go on with.
pub(crate) fn expand(top: Node, parameters: &Parameters, faults: &mut Faults) -> Option<Node> {
    let Value::Map(entries) = top.value else {
        faults.at(top.position, Path::Top, format!("{} where an object is needed", top.seen()), String::new());
        return None;
    };
    let (macros, rest): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.key == "macros");
    let mut expander = Expander::new(parameters, faults);
    for entry in &macros {
        let defined = expander.value(&entry.value, &Scope::new([], None))?;
        expander.define_all(&defined)?;
    }
    let expanded = expander.value(&Node { position: top.position, value: Value::Map(rest) }, &Scope::new([], None))?;
    let size = Size::of(&expanded.value);
    if size.depth > MAX_DEPTH {
        return expander
            .fault(expanded.position, &format!("with its macros expanded nested deeper than {MAX_DEPTH} levels"));
    }
    if size.bytes > MAX_TREE_BYTES {
        return expander.fault(expanded.position, "too large with its macros expanded");
    }
    Some(expanded)
}

/// Names with their values, and the names around them.
struct Scope<'s> {
    names: RefCell<HashMap<String, Name>>,
    outer: Option<&'s Scope<'s>>,
}

#[derive(Clone)]
enum Name {
    /// Not looked at yet: `vars` may name each other in any order.
    Unexpanded(Node),
    /// Being expanded; who meets it has come round in a circle.
    Open,
    /// Its value; `None` after a fault.
    Value(Option<Node>),
}

impl<'s> Scope<'s> {
    fn new(names: impl IntoIterator<Item = (String, Name)>, outer: Option<&'s Scope<'s>>) -> Scope<'s> {
        Scope { names: RefCell::new(names.into_iter().collect()), outer }
    }
}

struct Expander<'f> {
    macros: HashMap<String, Rc<Definition>>,
    constants: Rc<Scope<'static>>,
    work: usize,
    nesting: usize,
    faults: &'f mut Faults,
}

impl<'f> Expander<'f> {
    fn new(parameters: &Parameters, faults: &'f mut Faults) -> Expander<'f> {
        let position = Position { line: 1, column: 1 };
        let constant = |name: &str, value: Value| (name.to_owned(), Name::Value(Some(Node { position, value })));
        let built_in = PARAMETERS.iter().map(|(name, value)| constant(name, text(*value)));
        let given = parameters.iter().map(|(name, value)| constant(name, text(value.as_str())));
        let constants = Rc::new(Scope::new(built_in.chain(given), None));
        Expander { macros: HashMap::new(), constants, work: 0, nesting: 0, faults }
    }

    fn fault<T>(&mut self, at: Position, problem: &str) -> Option<T> {
        self.faults.at(at, Path::Top, problem.to_owned(), String::new());
        None
    }

    /// `result`, or its error as a fault.
    fn told<T>(&mut self, at: Position, of: &str, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problem) => self.fault(at, &format!("{of}: {problem}")),
        }
    }

    fn spend(&mut self, bytes: usize, at: Position) -> Option<()> {
        self.work = self.work.saturating_add(bytes);
        if self.work > MAX_WORK {
            return self.fault(at, "macros that make too much of too little");
        }
        Some(())
    }

    /// Holds a value to the bounds: before it is copied, or after something made it.
    fn charge(&mut self, value: &Value, at: Position) -> Option<()> {
        let size = Size::of(value);
        if size.depth > MAX_NESTING {
            return self.fault(at, "macros that make a value nested too deep");
        }
        self.spend(size.bytes, at)
    }

    fn copy(&mut self, node: &Node) -> Option<Node> {
        self.charge(&node.value, node.position)?;
        Some(node.clone())
    }

    fn nested<T>(&mut self, at: Position, run: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.nesting == MAX_NESTING {
            return self.fault(at, "macros nested too deep, or in a circle");
        }
        self.nesting += 1;
        let result = run(self);
        self.nesting -= 1;
        result
    }

    /// A value with all in it expanded. Faults of several parts are all noted.
    fn value(&mut self, node: &Node, scope: &Scope<'_>) -> Option<Node> {
        self.nested(node.position, |this| match &node.value {
            Value::Scalar { text, plain: false } => this.text(text, node.position, scope),
            Value::Scalar { plain: true, .. } => this.copy(node),
            Value::List(items) => {
                this.spend(NODE_COST, node.position)?;
                let items: Vec<Option<Node>> = items.iter().map(|item| this.value(item, scope)).collect();
                Some(Node { position: node.position, value: Value::List(items.into_iter().collect::<Option<_>>()?) })
            }
            Value::Map(entries) => this.object(node, entries, scope),
        })
    }

    fn object(&mut self, node: &Node, entries: &[Entry], scope: &Scope<'_>) -> Option<Node> {
        let Some(vars) = entries.iter().find(|entry| entry.key == "vars") else {
            return self.object_in(node, entries, scope);
        };
        let Value::Map(vars) = &vars.value.value else {
            return self.fault(vars.position, "vars: an object is needed");
        };
        let mut names = Vec::with_capacity(vars.len());
        for var in vars {
            names.push((var.key.clone(), Name::Unexpanded(self.copy(&var.value)?)));
        }
        let inner = Scope::new(names, Some(scope));
        let expanded: Vec<_> = vars.iter().map(|var| self.name_in(&var.key, var.position, &inner)).collect();
        expanded.into_iter().collect::<Option<Vec<_>>>()?;
        self.object_in(node, entries, &inner)
    }

    /// An object that is a call, or one with its keys and values expanded.
    fn object_in(&mut self, node: &Node, entries: &[Entry], scope: &Scope<'_>) -> Option<Node> {
        if let Some(kind) = entries.iter().find(|entry| entry.key == "type") {
            let kind = self.value(&kind.value, scope)?;
            if let Value::Scalar { text: name, plain: false } = &kind.value {
                match name.as_str() {
                    "macroDef" | "constDef" => return self.copy(node),
                    "transform" => return self.transform(node, entries, scope),
                    "process" => return self.process(node, entries, scope),
                    "foreach" => return self.foreach(node, entries, scope),
                    name if self.is_macro(name) => {
                        return self.call(name, &Arguments::Named(entries), node.position, scope);
                    }
                    _ => {}
                }
            }
        }
        self.spend(NODE_COST, node.position)?;
        let mut seen_keys = HashSet::new();
        let mut expanded = Vec::with_capacity(entries.len());
        let mut good = Some(());
        for entry in entries.iter().filter(|entry| entry.key != "vars") {
            let Some(key) = self.key(&entry.key, entry.position, scope) else {
                good = None;
                continue;
            };
            if !seen_keys.insert(key.clone()) {
                good = self.fault(entry.position, &format!("{} is given twice", seen(&key)));
            }
            match self.value(&entry.value, scope) {
                Some(value) => expanded.push(Entry { key, position: entry.position, value }),
                None => good = None,
            }
        }
        good?;
        Some(Node { position: node.position, value: Value::Map(expanded) })
    }

    fn key(&mut self, key: &str, at: Position, scope: &Scope<'_>) -> Option<String> {
        let key = self.text(key, at, scope)?;
        let result = text_of(&key.value).map(str::to_owned);
        self.told(at, "a key", result)
    }

    /// A text: a call, or one with its parameters replaced.
    fn text(&mut self, content: &str, at: Position, scope: &Scope<'_>) -> Option<Node> {
        self.nested(at, |this| {
            this.spend(NODE_COST + content.len(), at)?;
            if !content.starts_with('@') {
                return this.replaced(content, at, scope);
            }
            let called = notation::call(content).map_err(str::to_owned);
            let called = this.told(at, &seen(content), called)?;
            let name = this.replaced(called.name, at, scope)?;
            let result = text_of(&name.value).map(str::to_owned);
            let name = this.told(at, "a macro's name", result)?;
            this.call(&name, &Arguments::Listed(called.arguments), at, scope)
        })
    }

    /// A text with its `%parameters%` replaced. One that is nothing but a parameter takes that one's value, whatever it is.
    fn replaced(&mut self, content: &str, at: Position, scope: &Scope<'_>) -> Option<Node> {
        let pieces = notation::pieces(content).ok_or_else(|| "a % without another; \\% stands for itself".to_owned());
        let pieces = self.told(at, &seen(content), pieces)?;
        if let [Piece::Parameter(name)] = pieces.as_slice() {
            return self.name(name, at, scope);
        }
        let mut whole = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(piece) => whole.push_str(&piece),
                Piece::Parameter(name) => {
                    let value = self.name(&name, at, scope)?;
                    let result = text_of(&value.value).map(str::to_owned);
                    whole.push_str(&self.told(at, &format!("%{name}% within a text"), result)?);
                }
            }
        }
        self.spend(whole.len(), at)?;
        Some(Node { position: at, value: text(whole) })
    }

    /// What a name stands for: in the scopes from inside out, then among the constants.
    fn name(&mut self, name: &str, at: Position, scope: &Scope<'_>) -> Option<Node> {
        let mut around = Some(scope);
        while let Some(scope) = around {
            if scope.names.borrow().contains_key(name) {
                return self.name_in(name, at, scope);
            }
            around = scope.outer;
        }
        let constants = Rc::clone(&self.constants);
        let is_known = constants.names.borrow().contains_key(name);
        match (is_known, name) {
            (true, _) => self.name_in(name, at, &constants),
            (false, "hostid") => {
                self.fault(at, "%hostid% differs from host to host; give it with --config-params hostid:N")
            }
            (false, name) => self.fault(at, &format!("no parameter {}", seen(name))),
        }
    }

    /// The value of a name that is in this very scope.
    fn name_in(&mut self, name: &str, at: Position, scope: &Scope<'_>) -> Option<Node> {
        let found = scope.names.borrow_mut().get_mut(name).map(|found| match found {
            Name::Unexpanded(_) => std::mem::replace(found, Name::Open),
            Name::Open | Name::Value(_) => found.clone(),
        })?;
        match found {
            Name::Unexpanded(node) => {
                let value = self.value(&node, scope);
                scope.names.borrow_mut().insert(name.to_owned(), Name::Value(value.clone()));
                value
            }
            Name::Open => self.fault(at, &format!("{} stands for itself", seen(name))),
            Name::Value(value) => self.copy(&value?),
        }
    }
}
