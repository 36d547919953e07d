//! Calls: of macros the file defines, of built-ins, and the three that go through a list or an object.
//!
//! Owns which arguments are expanded when: those of `if`, `and`, `or` and `select` only when they are needed.

use super::builtins::{BUILTINS, Object, bool_of, int, int_of, text, text_of};
use super::{Expander, Name, Scope};
use crate::config::error::{Position, seen};
use crate::config::tree::{Entry, Node, Value};
use std::rc::Rc;

/// Built-ins of mcrouter that depend on more than the file, each with what to do instead.
const REFUSED: [(&str, &str); 5] = [
    ("import", "put what it imports in its place"),
    ("shuffle", "write the list in the order it is to have"),
    ("hash", "write its result, or give it with --config-params"),
    ("weightedHash", "write its result, or give it with --config-params"),
    ("isLocalIp", "write its result, or give it with --config-params"),
];

/// Built-ins that choose what they expand, with their parameters; the last of `select` may be left out.
const CHOOSING: [(&str, &[&str]); 6] = [
    ("if", &["condition", "is_true", "is_false"]),
    ("and", &["A", "B"]),
    ("or", &["A", "B"]),
    ("select", &["dictionary", "key", "default"]),
    ("define", &["result"]),
    ("defined", &["name"]),
];

/// A macro the file defines.
pub(super) struct Definition {
    parameters: Vec<Parameter>,
    body: Node,
}

/// A parameter of a macro.
struct Parameter {
    name: String,
    default: Option<Node>,
    is_optional: bool,
}

/// What a call hands over.
pub(super) enum Arguments<'a> {
    /// `@name(a, b)`
    Listed(Vec<&'a str>),
    /// `{"type": "name", "first": a, "second": b}`
    Named(&'a [Entry]),
}

/// An argument that isn't expanded yet.
#[derive(Clone, Copy)]
enum Raw<'a> {
    Text(&'a str),
    Json(&'a Node),
}

impl<'a> Arguments<'a> {
    /// The argument for the parameter of that name and place.
    fn of(&self, name: &str, at: usize) -> Option<Raw<'a>> {
        match self {
            Arguments::Listed(texts) => texts.get(at).map(|text| Raw::Text(text)),
            Arguments::Named(entries) => {
                entries.iter().find(|entry| entry.key == name).map(|entry| Raw::Json(&entry.value))
            }
        }
    }

    /// Says when there are more arguments than parameters.
    fn at_most(&self, parameters: usize) -> Result<(), String> {
        match self {
            Arguments::Listed(texts) if texts.len() > parameters => {
                Err(format!("{} arguments where {parameters} are needed", texts.len()))
            }
            Arguments::Listed(_) | Arguments::Named(_) => Ok(()),
        }
    }
}

impl Expander<'_> {
    pub(super) fn is_macro(&self, name: &str) -> bool {
        self.macros.contains_key(name)
            || CHOOSING.iter().any(|(known, _)| *known == name)
            || BUILTINS.iter().any(|known| known.name == name)
            || REFUSED.iter().any(|(known, _)| *known == name)
    }

    /// The result of a macro. One of the file stands over a built-in one of its name.
    pub(super) fn call(&mut self, name: &str, given: &Arguments<'_>, at: Position, scope: &Scope<'_>) -> Option<Node> {
        if let Some(definition) = self.macros.get(name).map(Rc::clone) {
            return self.call_defined(name, &definition, given, at, scope);
        }
        if let Some((_, parameters)) = CHOOSING.iter().find(|(known, _)| *known == name) {
            self.told(at, name, given.at_most(parameters.len()))?;
            return self.choose(name, given, at, scope);
        }
        if let Some(builtin) = BUILTINS.iter().find(|known| known.name == name) {
            self.told(at, name, given.at_most(builtin.parameters.len()))?;
            let mut arguments = Vec::with_capacity(builtin.parameters.len());
            for (place, parameter) in builtin.parameters.iter().enumerate() {
                arguments.push(self.argument(name, given, parameter, place, at, scope)?);
            }
            let value = self.told(at, name, (builtin.run)(arguments))?;
            self.charge(&value, at)?;
            return Some(Node { position: at, value });
        }
        match REFUSED.iter().find(|(known, _)| *known == name) {
            Some((_, instead)) => {
                self.fault(at, &format!("the macro {name} isn't supported by this version; {instead}"))
            }
            None => self.fault(at, &format!("no macro {}", seen(name))),
        }
    }

    fn expand_raw(&mut self, raw: Raw<'_>, at: Position, scope: &Scope<'_>) -> Option<Node> {
        match raw {
            Raw::Text(text) => self.text(text, at, scope),
            Raw::Json(node) => self.value(node, scope),
        }
    }

    /// An argument that must be there, expanded.
    fn argument(
        &mut self,
        name: &str,
        given: &Arguments<'_>,
        parameter: &str,
        place: usize,
        at: Position,
        scope: &Scope<'_>,
    ) -> Option<Node> {
        match given.of(parameter, place) {
            Some(raw) => self.expand_raw(raw, at, scope),
            None => self.fault(at, &format!("{name}: {parameter} is missing")),
        }
    }

    fn call_defined(
        &mut self,
        name: &str,
        definition: &Definition,
        given: &Arguments<'_>,
        at: Position,
        scope: &Scope<'_>,
    ) -> Option<Node> {
        self.told(at, name, given.at_most(definition.parameters.len()))?;
        let mut names = Vec::with_capacity(definition.parameters.len());
        for (place, parameter) in definition.parameters.iter().enumerate() {
            let value = match (given.of(&parameter.name, place), &parameter.default) {
                (Some(raw), _) => self.expand_raw(raw, at, scope)?,
                (None, Some(default)) => self.copy(default)?,
                (None, None) if parameter.is_optional => continue,
                (None, None) => return self.fault(at, &format!("{name}: {} is missing", seen(&parameter.name))),
            };
            names.push((parameter.name.clone(), Name::Value(Some(value))));
        }
        // A macro sees its parameters and the constants, and nothing of where it is called.
        self.value(&definition.body, &Scope::new(names, None))
    }

    fn choose(&mut self, name: &str, given: &Arguments<'_>, at: Position, scope: &Scope<'_>) -> Option<Node> {
        let plain = |is: bool| Node { position: at, value: Value::Scalar { text: is.to_string(), plain: true } };
        let condition = |this: &mut Self, parameter: &str, place: usize| {
            let value = this.argument(name, given, parameter, place, at, scope)?;
            this.told(at, name, bool_of(&value.value))
        };
        match name {
            "if" => match condition(self, "condition", 0)? {
                true => self.argument(name, given, "is_true", 1, at, scope),
                false => self.argument(name, given, "is_false", 2, at, scope),
            },
            "and" => Some(plain(condition(self, "A", 0)? && condition(self, "B", 1)?)),
            "or" => Some(plain(condition(self, "A", 0)? || condition(self, "B", 1)?)),
            "define" => self.argument(name, given, "result", 0, at, scope),
            "defined" => {
                let sought = self.argument(name, given, "name", 0, at, scope)?;
                let sought = self.told(at, name, text_of(&sought.value).map(str::to_owned))?;
                let in_scope = std::iter::successors(Some(scope), |scope| scope.outer)
                    .any(|scope| scope.names.borrow().contains_key(&sought));
                Some(plain(in_scope || self.constants.names.borrow().contains_key(&sought)))
            }
            _ => self.select(given, at, scope),
        }
    }

    fn select(&mut self, given: &Arguments<'_>, at: Position, scope: &Scope<'_>) -> Option<Node> {
        let name = "select";
        let dictionary = self.argument(name, given, "dictionary", 0, at, scope)?;
        let key = self.argument(name, given, "key", 1, at, scope)?;
        let found = match dictionary.value {
            Value::Map(entries) => {
                let key = self.told(at, name, text_of(&key.value))?;
                entries.into_iter().find(|entry| entry.key == key).map(|entry| entry.value)
            }
            Value::List(mut items) => {
                let place = self.told(at, name, int_of(&key.value))?;
                let place = if place < 0 { place.saturating_add(items.len() as i64) } else { place };
                let place = usize::try_from(place).ok().filter(|place| *place < items.len());
                place.map(|place| items.swap_remove(place))
            }
            Value::Scalar { .. } => return self.fault(at, "select: a list or an object is needed"),
        };
        match (found, given.of("default", 2)) {
            (Some(found), _) => Some(found),
            (None, Some(default)) => self.expand_raw(default, at, scope),
            (None, None) => self.fault(at, &format!("select: no {}, and no default", key.seen())),
        }
    }

    /// What `transform`, `process` and `foreach` go through: the keys and values of an object, or the places and items
    /// of a list.
    fn pairs(&mut self, dictionary: Node) -> Option<Vec<(Node, Node)>> {
        let at = dictionary.position;
        match dictionary.value {
            Value::Map(entries) => {
                let pair = |entry: Entry| (Node { position: entry.position, value: text(entry.key) }, entry.value);
                Some(entries.into_iter().map(pair).collect())
            }
            Value::List(items) => {
                let pair =
                    |(place, item): (usize, Node)| (Node { position: item.position, value: int(place as i64) }, item);
                Some(items.into_iter().enumerate().map(pair).collect())
            }
            Value::Scalar { .. } => self.fault(at, "a list or an object is needed to go through"),
        }
    }

    /// A part of such a call that must be there.
    fn part<'a>(&mut self, of: &str, entries: &'a [Entry], key: &str, at: Position) -> Option<&'a Node> {
        let part = find(entries, key);
        if part.is_none() {
            return self.fault(at, &format!("{of}: {key} is missing"));
        }
        part
    }

    /// The name such a call gives to the key, the item or the value.
    fn given_name(&mut self, entries: &[Entry], key: &str, default: &str) -> Option<String> {
        match find(entries, key) {
            None => Some(default.to_owned()),
            Some(node) => self.told(node.position, key, text_of(&node.value).map(str::to_owned)),
        }
    }

    pub(super) fn transform(&mut self, node: &Node, entries: &[Entry], scope: &Scope<'_>) -> Option<Node> {
        let position = node.position;
        let dictionary = self.part("transform", entries, "dictionary", position)?;
        let dictionary = self.value(dictionary, scope)?;
        let item_name = self.given_name(entries, "itemName", "item")?;
        let key_name = self.given_name(entries, "keyName", "key")?;
        let (item_transform, key_transform) = (find(entries, "itemTransform"), find(entries, "keyTransform"));
        let is_list = matches!(dictionary.value, Value::List(_));
        let mut object = Object::default();
        let mut items = Vec::new();
        for (key, item) in self.pairs(dictionary)? {
            let names = [(key_name.clone(), self.copied(&key)?), (item_name.clone(), self.copied(&item)?)];
            let inner = Scope::new(names, Some(scope));
            if is_list {
                let transform = self.part("transform", entries, "itemTransform", position)?;
                items.push(self.value(transform, &inner)?);
                continue;
            }
            let keys = match key_transform {
                None => vec![key],
                Some(transform) => match self.value(transform, &inner)? {
                    Node { value: Value::List(keys), .. } => keys,
                    key => vec![key],
                },
            };
            if keys.is_empty() {
                continue;
            }
            let item = match item_transform {
                None => item,
                Some(transform) => self.value(transform, &inner)?,
            };
            for key in keys {
                let name = self.told(key.position, "a transformed key", text_of(&key.value).map(str::to_owned))?;
                let value = self.copy(&item)?;
                object.insert(Entry { key: name, position: key.position, value });
            }
        }
        Some(Node { position, value: if is_list { Value::List(items) } else { object.into_value() } })
    }

    fn copied(&mut self, node: &Node) -> Option<Name> {
        self.copy(node).map(|node| Name::Value(Some(node)))
    }

    pub(super) fn process(&mut self, node: &Node, entries: &[Entry], scope: &Scope<'_>) -> Option<Node> {
        let position = node.position;
        let dictionary = self.part("process", entries, "dictionary", position)?;
        let dictionary = self.value(dictionary, scope)?;
        let initial = self.part("process", entries, "initialValue", position)?;
        let mut value = self.value(initial, scope)?;
        let transform = self.part("process", entries, "transform", position)?;
        let item_name = self.given_name(entries, "itemName", "item")?;
        let key_name = self.given_name(entries, "keyName", "key")?;
        let value_name = self.given_name(entries, "valueName", "value")?;
        for (key, item) in self.pairs(dictionary)? {
            self.charge(&value.value, position)?;
            let names = [(key_name.as_str(), key), (item_name.as_str(), item), (value_name.as_str(), value)];
            let names = names.map(|(name, node)| (name.to_owned(), Name::Value(Some(node))));
            value = self.value(transform, &Scope::new(names, Some(scope)))?;
        }
        Some(value)
    }

    pub(super) fn foreach(&mut self, node: &Node, entries: &[Entry], scope: &Scope<'_>) -> Option<Node> {
        let position = node.position;
        let from = self.part("foreach", entries, "from", position)?;
        let from = self.value(from, scope)?;
        let item_name = self.given_name(entries, "item", "item")?;
        let key_name = self.given_name(entries, "key", "key")?;
        let top = match find(entries, "top") {
            None => usize::MAX,
            Some(top) => {
                let top = self.value(top, scope)?;
                let number = int_of(&top.value)
                    .and_then(|top| usize::try_from(top).map_err(|_| format!("{top} is less than 0")));
                self.told(top.position, "top", number)?
            }
        };
        let (wanted, use_) = (find(entries, "where"), find(entries, "use"));
        let is_list = matches!(from.value, Value::List(_));
        let mut found = Found::None;
        let mut taken = 0;
        for (key, item) in self.pairs(from)? {
            if taken == top {
                break;
            }
            let names = [(key_name.clone(), self.copied(&key)?), (item_name.clone(), self.copied(&item)?)];
            let inner = Scope::new(names, Some(scope));
            if let Some(wanted) = wanted {
                let wanted = self.value(wanted, &inner)?;
                if !self.told(wanted.position, "where", bool_of(&wanted.value))? {
                    continue;
                }
            }
            let part = match use_ {
                Some(use_) => self.value(use_, &inner)?.value,
                None if is_list => Value::List(vec![item]),
                None => {
                    let name = self.told(position, "foreach", text_of(&key.value).map(str::to_owned))?;
                    Value::Map(vec![Entry { key: name, position: key.position, value: item }])
                }
            };
            let added = found.add(part);
            self.told(position, "foreach", added)?;
            taken += 1;
        }
        let value = match (found, find(entries, "noMatchResult")) {
            (Found::List(items), _) => Value::List(items),
            (Found::Object(object), _) => object.into_value(),
            (Found::None, Some(result)) => return self.value(result, scope),
            (Found::None, None) if is_list => Value::List(Vec::new()),
            (Found::None, None) => Value::Map(Vec::new()),
        };
        Some(Node { position, value })
    }

    /// Takes what `macros` holds: an object of definitions, or a list of such.
    pub(super) fn define_all(&mut self, macros: &Node) -> Option<()> {
        match &macros.value {
            Value::Map(entries) => {
                let defined: Vec<_> = entries.iter().map(|entry| self.define(&entry.key, &entry.value)).collect();
                defined.into_iter().collect()
            }
            Value::List(items) => {
                let defined: Vec<_> = items.iter().map(|item| self.define_all(item)).collect();
                defined.into_iter().collect()
            }
            Value::Scalar { .. } => self.fault(macros.position, "macros: an object or a list of objects is needed"),
        }
    }

    fn define(&mut self, name: &str, node: &Node) -> Option<()> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Scalar { .. } | Value::List(_) => &[],
        };
        let kind = find(entries, "type").and_then(Node::text);
        let result = match (kind, find(entries, "result")) {
            (Some("macroDef" | "constDef"), Some(result)) => self.copy(result)?,
            (Some("macroDef" | "constDef"), None) => {
                return self.fault(node.position, &format!("{}: result is missing", seen(name)));
            }
            _ => return self.fault(node.position, &format!("{}: neither a macroDef nor a constDef", seen(name))),
        };
        if kind == Some("constDef") {
            self.constants.names.borrow_mut().insert(name.to_owned(), Name::Unexpanded(result));
            return Some(());
        }
        let parameters = match find(entries, "params").map(|params| (&params.value, params.position)) {
            None => Vec::new(),
            Some((Value::List(params), _)) => self.parameters(name, params)?,
            Some((_, at)) => return self.fault(at, &format!("{}: params is no list", seen(name))),
        };
        self.macros.insert(name.to_owned(), Rc::new(Definition { parameters, body: result }));
        Some(())
    }

    fn parameters(&mut self, of: &str, params: &[Node]) -> Option<Vec<Parameter>> {
        let mut parameters: Vec<Parameter> = Vec::with_capacity(params.len());
        for param in params {
            let (name, default, is_optional) = match &param.value {
                Value::Scalar { text, plain: false } => (text.as_str(), None, false),
                Value::Map(entries) => {
                    let name = self.part(of, entries, "name", param.position)?;
                    let name = self.told(name.position, of, text_of(&name.value))?;
                    let said = find(entries, "optional").map(|optional| bool_of(&optional.value)).transpose();
                    let said = self.told(param.position, of, said)?;
                    let default = find(entries, "default");
                    if default.is_some() && said == Some(false) {
                        return self.fault(param.position, &format!("{}: a default, and not optional", seen(name)));
                    }
                    (name, default, said == Some(true))
                }
                Value::Scalar { .. } | Value::List(_) => {
                    return self.fault(param.position, &format!("{}: a parameter is a name or an object", seen(of)));
                }
            };
            let may_be_left_out = is_optional || default.is_some();
            if !may_be_left_out && parameters.last().is_some_and(|last| last.is_optional || last.default.is_some()) {
                let problem = format!("{}: {} must be optional too, like those before it", seen(of), seen(name));
                return self.fault(param.position, &problem);
            }
            let default = default.map(|default| self.copy(default)).map_or(Some(None), |copy| copy.map(Some))?;
            parameters.push(Parameter { name: name.to_owned(), default, is_optional });
        }
        Some(parameters)
    }
}

/// What `foreach` has put together so far.
enum Found {
    None,
    List(Vec<Node>),
    Object(Object),
}

impl Found {
    fn add(&mut self, part: Value) -> Result<(), String> {
        match (&mut *self, part) {
            (Found::List(items), Value::List(more)) => items.extend(more),
            (Found::Object(object), Value::Map(more)) => object.extend(more),
            (Found::None, Value::List(items)) => *self = Found::List(items),
            (Found::None, Value::Map(entries)) => {
                let mut object = Object::default();
                object.extend(entries);
                *self = Found::Object(object);
            }
            (Found::None | Found::List(_) | Found::Object(_), _) => {
                return Err("`use` must give lists, or objects, and all of them the same".to_owned());
            }
        }
        Ok(())
    }
}

fn find<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Node> {
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}
