//! mcrouter's built-in macros that only look at their arguments.
//!
//! Pure functions from values to a value or to what is wrong. Those that choose which of their arguments are expanded
//! (`if`, `and`, `or`, `select`) are in the parent.

use crate::config::tree::{Entry, Node, Value};
use std::cmp::Ordering;
use std::collections::HashMap;

/// A built-in macro.
pub(super) struct Builtin {
    pub(super) name: &'static str,
    /// All must be given.
    pub(super) parameters: &'static [&'static str],
    /// Takes as many arguments as there are parameters.
    pub(super) run: fn(Vec<Node>) -> Result<Value, String>,
}

/// Longest list that `range` makes.
const MAX_RANGE: i64 = 65_536;

/// The type of a value and what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'n> {
    Null,
    List(&'n [Node]),
    Bool(bool),
    Number(Number),
    Map(&'n [Entry]),
    Text(&'n str),
}

/// A number as JSON writes it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Int(i64),
    Double(f64),
}

pub(super) fn kind(value: &Value) -> Kind<'_> {
    match value {
        Value::List(items) => Kind::List(items),
        Value::Map(entries) => Kind::Map(entries),
        Value::Scalar { text, plain: false } => Kind::Text(text),
        Value::Scalar { text, plain: true } => match text.as_str() {
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            word => match (word.parse(), word.parse()) {
                (Ok(int), _) => Kind::Number(Number::Int(int)),
                (Err(_), Ok(double)) => Kind::Number(Number::Double(double)),
                (Err(_), Err(_)) => Kind::Null,
            },
        },
    }
}

impl Kind<'_> {
    /// The type, for an error.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::List(_) => "a list",
            Kind::Bool(_) => "a boolean",
            Kind::Number(Number::Int(_)) => "an integer",
            Kind::Number(Number::Double(_)) => "a fraction",
            Kind::Map(_) => "an object",
            Kind::Text(_) => "a text",
        }
    }

    /// Where the type stands when values of several are sorted.
    fn rank(self) -> u8 {
        match self {
            Kind::Null => 0,
            Kind::List(_) => 1,
            Kind::Bool(_) => 2,
            Kind::Number(_) => 3,
            Kind::Map(_) => 4,
            Kind::Text(_) => 5,
        }
    }
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Double(double) => double,
        }
    }

    /// Exactly, also where a double can't hold the integer: sorting needs an order that is total.
    fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(&b),
            (Number::Double(a), Number::Double(b)) => a.total_cmp(&b),
            (Number::Int(a), Number::Double(b)) => compare_int(a, b),
            (Number::Double(a), Number::Int(b)) => compare_int(b, a).reverse(),
        }
    }
}

/// JSON's grammar has no NaN.
fn compare_int(int: i64, double: f64) -> Ordering {
    // -2^63 and 2^63, both of them doubles.
    let (least, beyond) = (i64::MIN as f64, -(i64::MIN as f64));
    if double < least {
        Ordering::Greater
    } else if double >= beyond {
        Ordering::Less
    } else {
        int.cmp(&(double.trunc() as i64)).then(0.0_f64.total_cmp(&(double.fract() + 0.0)))
    }
}

pub(super) fn text(text: impl Into<String>) -> Value {
    Value::Scalar { text: text.into(), plain: false }
}

fn bool(is: bool) -> Value {
    Value::Scalar { text: is.to_string(), plain: true }
}

pub(super) fn int(number: i64) -> Value {
    Value::Scalar { text: number.to_string(), plain: true }
}

fn wrong<T>(wanted: &str, seen: &Value) -> Result<T, String> {
    Err(format!("{} where {wanted} is needed", kind(seen).name()))
}

pub(super) fn bool_of(value: &Value) -> Result<bool, String> {
    match kind(value) {
        Kind::Bool(is) => Ok(is),
        Kind::Null | Kind::List(_) | Kind::Number(_) | Kind::Map(_) | Kind::Text(_) => wrong("a boolean", value),
    }
}

pub(super) fn int_of(value: &Value) -> Result<i64, String> {
    match kind(value) {
        Kind::Number(Number::Int(int)) => Ok(int),
        Kind::Null | Kind::List(_) | Kind::Bool(_) | Kind::Number(_) | Kind::Map(_) | Kind::Text(_) => {
            wrong("an integer", value)
        }
    }
}

pub(super) fn text_of(value: &Value) -> Result<&str, String> {
    match kind(value) {
        Kind::Text(text) => Ok(text),
        Kind::Null | Kind::List(_) | Kind::Bool(_) | Kind::Number(_) | Kind::Map(_) => wrong("a text", value),
    }
}

/// True when two values are the same, wherever they stand and whatever the order of their keys.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (kind(a), kind(b)) {
        (Kind::Map(a), Kind::Map(b)) => {
            // By a table, as a search through `b` for each key would be quadratic.
            let others: HashMap<&str, &Value> =
                b.iter().map(|entry| (entry.key.as_str(), &entry.value.value)).collect();
            let has =
                |entry: &Entry| others.get(entry.key.as_str()).is_some_and(|other| equal(&entry.value.value, other));
            a.len() == b.len() && a.iter().all(has)
        }
        (Kind::List(a), Kind::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(&a.value, &b.value)),
        _ => compare(a, b) == Some(Ordering::Equal),
    }
}

/// The order of two values; `None` where one is an object, or no number at all.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (kind(a), kind(b)) {
        (Kind::Map(_), _) | (_, Kind::Map(_)) => None,
        (Kind::Bool(a), Kind::Bool(b)) => Some(a.cmp(&b)),
        (Kind::Text(a), Kind::Text(b)) => Some(a.cmp(b)),
        (Kind::Number(a), Kind::Number(b)) => Some(a.compare(b)),
        (Kind::List(a), Kind::List(b)) => {
            for (a, b) in a.iter().zip(b) {
                match compare(&a.value, &b.value)? {
                    Ordering::Equal => {}
                    different => return Some(different),
                }
            }
            Some(a.len().cmp(&b.len()))
        }
        (a, b) => Some(a.rank().cmp(&b.rank())),
    }
}

/// The arguments of a macro, one by one.
fn take<const N: usize>(arguments: Vec<Node>) -> [Node; N] {
    match arguments.try_into() {
        Ok(arguments) => arguments,
        Err(arguments) => panic!("{} arguments for a macro of {N}", arguments.len()),
    }
}

fn with_ints(arguments: Vec<Node>, run: impl Fn(i64, i64) -> Option<i64>) -> Result<Value, String> {
    let [a, b] = take(arguments);
    run(int_of(&a.value)?, int_of(&b.value)?).map(int).ok_or_else(|| "out of range, or divided by 0".to_owned())
}

/// C's shifts: of the 64 bits as they are.
fn shift(arguments: Vec<Node>, run: fn(u64, u32) -> Option<u64>) -> Result<Value, String> {
    with_ints(arguments, |a, b| run(a.cast_unsigned(), u32::try_from(b).ok()?).map(u64::cast_signed))
}

fn is(arguments: Vec<Node>, test: fn(Kind<'_>) -> bool) -> Result<Value, String> {
    let [value] = take(arguments);
    Ok(bool(test(kind(&value.value))))
}

/// Every built-in macro of this kind.
pub(super) const BUILTINS: [Builtin; 36] = [
    Builtin { name: "int", parameters: &["value"], run: to_int },
    Builtin { name: "double", parameters: &["value"], run: to_double },
    Builtin { name: "str", parameters: &["value"], run: to_text },
    Builtin { name: "bool", parameters: &["value"], run: to_bool },
    Builtin { name: "keys", parameters: &["dictionary"], run: keys },
    Builtin { name: "values", parameters: &["dictionary"], run: values },
    Builtin { name: "merge", parameters: &["params"], run: merge },
    Builtin { name: "slice", parameters: &["dictionary", "from", "to"], run: slice },
    Builtin { name: "split", parameters: &["dictionary", "delim"], run: split },
    Builtin { name: "range", parameters: &["from", "to"], run: range },
    Builtin { name: "contains", parameters: &["dictionary", "key"], run: contains },
    Builtin { name: "empty", parameters: &["dictionary"], run: |it| size_of(it).map(|size| bool(size == 0)) },
    Builtin { name: "size", parameters: &["dictionary"], run: |it| size_of(it).map(|size| int(size as i64)) },
    Builtin { name: "equals", parameters: &["A", "B"], run: equals },
    Builtin { name: "less", parameters: &["A", "B"], run: less },
    Builtin { name: "isArray", parameters: &["value"], run: |it| is(it, |kind| matches!(kind, Kind::List(_))) },
    Builtin { name: "isBool", parameters: &["value"], run: |it| is(it, |kind| matches!(kind, Kind::Bool(_))) },
    Builtin {
        name: "isInt",
        parameters: &["value"],
        run: |it| is(it, |kind| matches!(kind, Kind::Number(Number::Int(_)))),
    },
    Builtin {
        name: "isDouble",
        parameters: &["value"],
        run: |it| is(it, |kind| matches!(kind, Kind::Number(Number::Double(_)))),
    },
    Builtin { name: "isObject", parameters: &["value"], run: |it| is(it, |kind| matches!(kind, Kind::Map(_))) },
    Builtin { name: "isString", parameters: &["value"], run: |it| is(it, |kind| matches!(kind, Kind::Text(_))) },
    Builtin { name: "not", parameters: &["A"], run: not },
    Builtin { name: "add", parameters: &["A", "B"], run: |it| with_ints(it, i64::checked_add) },
    Builtin { name: "sub", parameters: &["A", "B"], run: |it| with_ints(it, i64::checked_sub) },
    Builtin { name: "mul", parameters: &["A", "B"], run: |it| with_ints(it, i64::checked_mul) },
    Builtin { name: "div", parameters: &["A", "B"], run: |it| with_ints(it, i64::checked_div) },
    Builtin { name: "mod", parameters: &["A", "B"], run: |it| with_ints(it, i64::checked_rem) },
    Builtin { name: "bitwiseAnd", parameters: &["A", "B"], run: |it| with_ints(it, |a, b| Some(a & b)) },
    Builtin { name: "bitwiseOr", parameters: &["A", "B"], run: |it| with_ints(it, |a, b| Some(a | b)) },
    Builtin { name: "bitwiseXor", parameters: &["A", "B"], run: |it| with_ints(it, |a, b| Some(a ^ b)) },
    Builtin { name: "bitwiseLeftShift", parameters: &["A", "B"], run: |it| shift(it, u64::checked_shl) },
    Builtin { name: "bitwiseRightShift", parameters: &["A", "B"], run: |it| shift(it, u64::checked_shr) },
    Builtin { name: "bitwiseNot", parameters: &["A"], run: bitwise_not },
    Builtin { name: "sort", parameters: &["dictionary"], run: sort },
    Builtin { name: "set", parameters: &["dictionary", "key", "value"], run: set },
    Builtin { name: "fail", parameters: &["msg"], run: fail },
];

fn to_int(arguments: Vec<Node>) -> Result<Value, String> {
    let [value] = take(arguments);
    let number = match kind(&value.value) {
        Kind::Number(Number::Int(int)) => Some(int),
        Kind::Number(Number::Double(double)) => {
            // Both bounds are whole doubles; the upper one itself is one too many.
            let is_whole = double.fract() == 0.0 && double >= i64::MIN as f64 && double < i64::MAX as f64;
            is_whole.then_some(double as i64)
        }
        Kind::Bool(is) => Some(i64::from(is)),
        Kind::Text(text) => text.trim().parse().ok(),
        Kind::Null | Kind::List(_) | Kind::Map(_) => None,
    };
    number.map(int).ok_or_else(|| format!("{} is no integer", value.seen()))
}

fn to_double(arguments: Vec<Node>) -> Result<Value, String> {
    let [value] = take(arguments);
    let number = match kind(&value.value) {
        Kind::Number(number) => Some(number.as_f64()),
        Kind::Bool(is) => Some(f64::from(u8::from(is))),
        Kind::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Kind::Null | Kind::List(_) | Kind::Map(_) => None,
    };
    // `{:?}` keeps the point of 5.0, by which it is a fraction.
    let number = number.map(|number| Value::Scalar { text: format!("{number:?}"), plain: true });
    number.ok_or_else(|| format!("{} is no number", value.seen()))
}

fn to_text(arguments: Vec<Node>) -> Result<Value, String> {
    let [value] = take(arguments);
    match (kind(&value.value), &value.value) {
        (Kind::Number(_) | Kind::Text(_), Value::Scalar { text: it, .. }) => Ok(text(it.as_str())),
        _ => wrong("a number or a text", &value.value),
    }
}

fn to_bool(arguments: Vec<Node>) -> Result<Value, String> {
    let [value] = take(arguments);
    let is = match kind(&value.value) {
        Kind::Bool(is) => Some(is),
        Kind::Number(number) => Some(number.as_f64() != 0.0),
        Kind::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        },
        Kind::Null | Kind::List(_) | Kind::Map(_) => None,
    };
    is.map(bool).ok_or_else(|| format!("{} is no boolean", value.seen()))
}

fn entries_of(node: Node) -> Result<Vec<Entry>, String> {
    match node.value {
        Value::Map(entries) => Ok(entries),
        Value::Scalar { .. } | Value::List(_) => wrong("an object", &node.value),
    }
}

fn items_of(node: Node) -> Result<Vec<Node>, String> {
    match node.value {
        Value::List(items) => Ok(items),
        Value::Scalar { .. } | Value::Map(_) => wrong("a list", &node.value),
    }
}

fn keys(arguments: Vec<Node>) -> Result<Value, String> {
    let [dictionary] = take(arguments);
    let entries = entries_of(dictionary)?;
    Ok(Value::List(entries.into_iter().map(|it| Node { position: it.position, value: text(it.key) }).collect()))
}

fn values(arguments: Vec<Node>) -> Result<Value, String> {
    let [dictionary] = take(arguments);
    Ok(Value::List(entries_of(dictionary)?.into_iter().map(|entry| entry.value).collect()))
}

/// An object that grows: its keys are found by a table.
#[derive(Default)]
pub(super) struct Object {
    entries: Vec<Entry>,
    at: HashMap<String, usize>,
}

impl Object {
    /// Puts `entry` in the place of one with its key, else at the end.
    pub(super) fn insert(&mut self, entry: Entry) {
        match self.at.get(&entry.key) {
            Some(at) => self.entries[*at] = entry,
            None => {
                self.at.insert(entry.key.clone(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    pub(super) fn into_value(self) -> Value {
        Value::Map(self.entries)
    }
}

impl Extend<Entry> for Object {
    fn extend<T: IntoIterator<Item = Entry>>(&mut self, entries: T) {
        entries.into_iter().for_each(|entry| self.insert(entry));
    }
}

fn merge(arguments: Vec<Node>) -> Result<Value, String> {
    let [params] = take(arguments);
    let params = items_of(params)?;
    match params.first().map(|first| &first.value) {
        Some(Value::List(_)) => {
            let items: Vec<Vec<Node>> = params.into_iter().map(items_of).collect::<Result<_, _>>()?;
            Ok(Value::List(items.into_iter().flatten().collect()))
        }
        Some(Value::Map(_)) => {
            let mut merged = Object::default();
            for param in params {
                merged.extend(entries_of(param)?);
            }
            Ok(merged.into_value())
        }
        Some(Value::Scalar { plain: false, .. }) => {
            params.iter().map(|param| text_of(&param.value)).collect::<Result<String, _>>().map(text)
        }
        Some(first @ Value::Scalar { plain: true, .. }) => wrong("a list, an object or a text", first),
        None => Err("no params".to_owned()),
    }
}

/// Both ends count.
fn slice(arguments: Vec<Node>) -> Result<Value, String> {
    let [dictionary, from, to] = take(arguments);
    let bounds = |length: usize| -> Result<std::ops::Range<usize>, String> {
        let from = usize::try_from(int_of(&from.value)?.max(0)).unwrap_or(usize::MAX).min(length);
        let to = usize::try_from(int_of(&to.value)?.saturating_add(1).max(0)).unwrap_or(usize::MAX).min(length);
        Ok(from..to.max(from))
    };
    match dictionary.value {
        Value::List(items) => {
            let range = bounds(items.len())?;
            Ok(Value::List(items.into_iter().skip(range.start).take(range.len()).collect()))
        }
        Value::Map(mut entries) => {
            let (from, to) = (text_of(&from.value)?, text_of(&to.value)?);
            entries.retain(|entry| from <= entry.key.as_str() && entry.key.as_str() <= to);
            Ok(Value::Map(entries))
        }
        Value::Scalar { text: whole, plain: false } => {
            let range = bounds(whole.len())?;
            whole.get(range).map(text).ok_or_else(|| "the cut is within a character".to_owned())
        }
        Value::Scalar { plain: true, .. } => wrong("a list, an object or a text", &dictionary.value),
    }
}

fn split(arguments: Vec<Node>) -> Result<Value, String> {
    let [dictionary, delimiter] = take(arguments);
    let (whole, delimiter) = (text_of(&dictionary.value)?, text_of(&delimiter.value)?);
    if delimiter.is_empty() {
        return Err("delim is empty".to_owned());
    }
    let part = |part: &str| Node { position: dictionary.position, value: text(part) };
    Ok(Value::List(whole.split(delimiter).map(part).collect()))
}

fn range(arguments: Vec<Node>) -> Result<Value, String> {
    let [from, to] = take(arguments);
    let (first, last) = (int_of(&from.value)?, int_of(&to.value)?);
    if last.saturating_sub(first) >= MAX_RANGE {
        return Err(format!("more than {MAX_RANGE} numbers"));
    }
    Ok(Value::List((first..=last).map(|number| Node { position: from.position, value: int(number) }).collect()))
}

fn contains(arguments: Vec<Node>) -> Result<Value, String> {
    let [dictionary, key] = take(arguments);
    let is_in = match kind(&dictionary.value) {
        Kind::Map(entries) => {
            let key = text_of(&key.value)?;
            entries.iter().any(|entry| entry.key == key)
        }
        Kind::List(items) => items.iter().any(|item| equal(&item.value, &key.value)),
        Kind::Text(text) => text.contains(text_of(&key.value)?),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) => {
            return wrong("a list, an object or a text", &dictionary.value);
        }
    };
    Ok(bool(is_in))
}

fn size_of(arguments: Vec<Node>) -> Result<usize, String> {
    let [dictionary] = take(arguments);
    match kind(&dictionary.value) {
        Kind::Map(entries) => Ok(entries.len()),
        Kind::List(items) => Ok(items.len()),
        Kind::Text(text) => Ok(text.len()),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) => wrong("a list, an object or a text", &dictionary.value),
    }
}

fn equals(arguments: Vec<Node>) -> Result<Value, String> {
    let [a, b] = take(arguments);
    Ok(bool(equal(&a.value, &b.value)))
}

fn less(arguments: Vec<Node>) -> Result<Value, String> {
    let [a, b] = take(arguments);
    let order = compare(&a.value, &b.value).ok_or("objects have no order")?;
    Ok(bool(order == Ordering::Less))
}

fn not(arguments: Vec<Node>) -> Result<Value, String> {
    let [a] = take(arguments);
    Ok(bool(!bool_of(&a.value)?))
}

fn bitwise_not(arguments: Vec<Node>) -> Result<Value, String> {
    let [a] = take(arguments);
    Ok(int(!int_of(&a.value)?))
}

fn sort(arguments: Vec<Node>) -> Result<Value, String> {
    let [dictionary] = take(arguments);
    let mut items = items_of(dictionary)?;
    if items.iter().any(|item| !matches!(item.value, Value::Scalar { .. })) {
        return Err("only numbers and texts can be sorted".to_owned());
    }
    items.sort_by(|a, b| compare(&a.value, &b.value).unwrap_or(Ordering::Equal));
    Ok(Value::List(items))
}

fn set(arguments: Vec<Node>) -> Result<Value, String> {
    let [dictionary, key, value] = take(arguments);
    match dictionary.value {
        Value::Map(entries) => {
            let name = text_of(&key.value)?.to_owned();
            let mut object = Object::default();
            object.extend(entries);
            object.insert(Entry { key: name, position: key.position, value });
            Ok(object.into_value())
        }
        Value::List(mut items) => {
            let at = int_of(&key.value)?;
            let item = usize::try_from(at).ok().and_then(|at| items.get_mut(at));
            *item.ok_or_else(|| format!("{at} is no place in the list"))? = value;
            Ok(Value::List(items))
        }
        Value::Scalar { .. } => wrong("a list or an object", &dictionary.value),
    }
}

fn fail(arguments: Vec<Node>) -> Result<Value, String> {
    let [message] = take(arguments);
    Err(message.seen())
}
