//! JSON text to the same tree YAML is read to: mcrouter's files, with `//` and `/* */` comments.
//!
//! Owns what of JSON is understood, and the bounds on it. Never interprets a key or expands a macro (`macros` does).
//! Recursion is bounded by `MAX_JSON_DEPTH`. As mcrouter does, it takes a comma before a closing bracket, and line ends
//! and tabs within strings; a key that stands twice is a fault, where mcrouter would silently use the last.

use super::error::{Faults, Path, Position, seen};
use super::tree::{Entry, Node, Value};
use std::collections::HashMap;
use std::fmt::Write as _;

/// Deepest nesting of objects and arrays in a file. Its macros may nest deeper, and what they expand to less deep.
pub(crate) const MAX_JSON_DEPTH: usize = 100;

/// True for what is JSON and not YAML: by the file's name, or by how the text begins. YAML's `{a: b}` isn't JSON.
pub(crate) fn is_json(file: &str, text: &str) -> bool {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut braces = 0;
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("//") {
            rest = after.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(after) = rest.strip_prefix("/*") {
            rest = after.split_once("*/").map_or("", |(_, after)| after);
        } else if braces == 0 && rest.starts_with('{') {
            (braces, rest) = (1, &rest[1..]);
        } else {
            break;
        }
    }
    let ends_so = std::path::Path::new(file).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    ends_so || (braces == 1 && rest.starts_with(['"', '}']))
}

/// Reads one JSON value. `None` when faults were noted that leave nothing to go on with.
pub(crate) fn parse(text: &str, faults: &mut Faults) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser { rest: text, at: Position { line: 1, column: 1 }, faults };
    parser.space()?;
    let node = parser.value(0)?;
    parser.space()?;
    match parser.peek() {
        None => Some(node),
        Some(c) => parser.fault(format!("{} after the end of the configuration", seen(&c.to_string()))),
    }
}

/// A text as a JSON string, which is also one of YAML's.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // Also DEL and the line ends and marks beyond ASCII that YAML doesn't take as they are.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

struct Parser<'t, 'f> {
    rest: &'t str,
    at: Position,
    faults: &'f mut Faults,
}

impl Parser<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn skip(&mut self, chars: usize) {
        for _ in 0..chars {
            self.next();
        }
    }

    fn fault<T>(&mut self, problem: String) -> Option<T> {
        self.fault_at(self.at, problem)
    }

    fn fault_at<T>(&mut self, at: Position, problem: String) -> Option<T> {
        self.faults.at(at, Path::Top, format!("not valid JSON: {problem}"), String::new());
        None
    }

    fn unexpected<T>(&mut self, wanted: &str) -> Option<T> {
        match self.peek() {
            Some(c) => self.fault(format!("{} where {wanted} is needed", seen(&c.to_string()))),
            None => self.fault(format!("the file ends where {wanted} is needed")),
        }
    }

    /// Passes over white space and comments.
    fn space(&mut self) -> Option<()> {
        loop {
            if self.rest.starts_with("//") {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.next();
                }
            } else if self.rest.starts_with("/*") {
                let begin = self.at;
                self.skip(2);
                while !self.rest.starts_with("*/") {
                    if self.next().is_none() {
                        return self.fault_at(begin, "a comment that isn't closed".to_owned());
                    }
                }
                self.skip(2);
            } else if self.peek().is_some_and(|c| matches!(c, ' ' | '\t' | '\r' | '\n')) {
                self.next();
            } else {
                return Some(());
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Node> {
        let position = self.at;
        if depth > MAX_JSON_DEPTH {
            return self.fault(format!("nested deeper than {MAX_JSON_DEPTH} levels"));
        }
        let value = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Value::Scalar { text: self.string()?, plain: false },
            Some('-' | '0'..='9' | 'a'..='z') => Value::Scalar { text: self.word()?, plain: true },
            _ => return self.unexpected("a value"),
        };
        Some(Node { position, value })
    }

    /// The list's end, or whether there is another item: then what separates it is passed over.
    fn goes_on(&mut self, is_first: bool, end: char) -> Option<bool> {
        self.space()?;
        if self.peek() == Some(end) {
            self.next();
            return Some(false);
        }
        if is_first {
            return Some(true);
        }
        if self.peek() != Some(',') {
            return self.unexpected(&format!("`,` or `{end}`"));
        }
        self.next();
        self.space()?;
        let goes_on = self.peek() != Some(end);
        if !goes_on {
            self.next();
        }
        Some(goes_on)
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.next();
        let mut entries: Vec<Entry> = Vec::new();
        let mut first: HashMap<String, Position> = HashMap::new();
        let mut is_first = true;
        while self.goes_on(is_first, '}')? {
            is_first = false;
            let position = self.at;
            if self.peek() != Some('"') {
                return self.unexpected("a key in quotes");
            }
            let key = self.string()?;
            self.space()?;
            if self.peek() != Some(':') {
                return self.unexpected("`:`");
            }
            self.next();
            self.space()?;
            let value = self.value(depth + 1)?;
            match first.get(&key) {
                Some(first) => {
                    let problem = format!("{} is given twice; first in line {}", seen(&key), first.line);
                    self.faults.at(position, Path::Top, problem, String::new());
                }
                None => {
                    first.insert(key.clone(), position);
                    entries.push(Entry { key, position, value });
                }
            }
        }
        Some(Value::Map(entries))
    }

    fn array(&mut self, depth: usize) -> Option<Value> {
        self.next();
        let mut items = Vec::new();
        while self.goes_on(items.is_empty(), ']')? {
            items.push(self.value(depth + 1)?);
        }
        Some(Value::List(items))
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')));
        let word = &self.rest[..end.unwrap_or(self.rest.len())];
        if !matches!(word, "true" | "false" | "null") && !is_number(word) {
            let problem = format!("{} is no value; texts stand in quotes", seen(word));
            return self.fault(problem);
        }
        let (word, chars) = (word.to_owned(), word.len());
        self.skip(chars);
        Some(word)
    }

    fn string(&mut self) -> Option<String> {
        let begin = self.at;
        self.next();
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.next() {
                None => return self.fault_at(begin, "a text without its closing quote".to_owned()),
                Some('"') => return Some(text),
                Some('\\') => text.push(self.escape(at)?),
                Some(c) if c.is_control() && !matches!(c, '\n' | '\r' | '\t') => {
                    return self.fault_at(at, "a control character".to_owned());
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self, at: Position) -> Option<char> {
        let c = match self.next() {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.unicode(at),
            _ => return self.fault_at(at, "an unknown escape".to_owned()),
        };
        Some(c)
    }

    /// Four hex digits behind `\u`, and where they are the first half of a pair, the other half.
    fn unicode(&mut self, at: Position) -> Option<char> {
        let mut unit = self.hex(at)?;
        if (0xd800..0xdc00).contains(&unit) && self.rest.starts_with("\\u") {
            self.skip(2);
            let low = self.hex(at)?;
            if (0xdc00..0xe000).contains(&low) {
                unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            }
        }
        match char::from_u32(unit) {
            Some('\0') | None => self.fault_at(at, "an escape that is no character".to_owned()),
            Some(c) => Some(c),
        }
    }

    fn hex(&mut self, at: Position) -> Option<u32> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(unit) => {
                self.skip(4);
                Some(unit)
            }
            None => self.fault_at(at, "\\u without four hex digits".to_owned()),
        }
    }
}

/// JSON's grammar of numbers.
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = word.strip_prefix('-').unwrap_or(word);
    let (number, exponent) = match word.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (word, None),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str) -> String {
        let mut faults = Faults::default();
        parse(text, &mut faults);
        faults.into_errors("f").map(|errors| errors.to_string()).unwrap_or_default()
    }

    #[test]
    fn json_is_told_from_yaml() {
        let check = |file: &str, text: &str, wanted: bool| assert_eq!(is_json(file, text), wanted, "{file}: {text}");
        check("a", "{\"a\": 1}", true);
        check("a", " // one\n /* two */ {\n/* three */\n\"a\": 1}", true);
        check("a", "{}", true);
        check("a", "{a: 1}", false);
        check("a", "a: {\"b\": 1}", false);
        check("a", "/* open", false);
        check("a", "{{\"a\": 1}: 2}", false);
        check("a", "", false);
        check("a.JSON", "a: 1", true);
    }

    #[test]
    fn json_is_read_as_yaml_reads_it() {
        let text = "{\"a\": [1, -2.5e3, true, null, \"x\\u00e4\\n\\\"\", {}, []],\n \"b c\": {\"d\": \"e\"}}";
        let mut faults = Faults::default();
        let json = parse(text, &mut faults).expect("good JSON");
        let yaml = super::super::tree::parse(text, &mut faults).expect("JSON is YAML");
        assert!(faults.is_empty());
        assert_eq!(json, yaml, "with all places");
        // YAML doesn't know pairs.
        let pair = parse("\"\\ud83e\\udd80\"", &mut faults).expect("good JSON");
        assert_eq!(pair.text(), Some("\u{1f980}"));
    }

    #[test]
    fn places_count_lines_characters_and_comments() {
        let text = "{ // one\n/* two\nthree */ \"\u{e4}\": [\"\u{1f980}\", 7]}";
        let mut faults = Faults::default();
        let Some(Node { value: Value::Map(top), .. }) = parse(text, &mut faults) else { panic!("an object") };
        let at = |position: Position| (position.line, position.column);
        assert_eq!((at(top[0].position), at(top[0].value.position)), ((3, 10), (3, 15)));
        let Value::List(items) = &top[0].value.value else { panic!("a list") };
        assert_eq!((at(items[0].position), at(items[1].position)), ((3, 16), (3, 21)));
    }

    #[test]
    fn what_is_no_json_is_said_with_its_place() {
        let check = |text: &str, wanted: &str| assert_eq!(faults_of(text), wanted, "{text}");
        check("{\"a\": 1", "f:1:8: not valid JSON: the file ends where `,` or `}` is needed");
        check("{\"a\" 1}", "f:1:6: not valid JSON: `1` where `:` is needed");
        check("{\"a\": [1 2]}", "f:1:10: not valid JSON: `2` where `,` or `]` is needed");
        check("{\"a\": [1,,]}", "f:1:10: not valid JSON: `,` where a value is needed");
        check("{\"a\": [,]}", "f:1:8: not valid JSON: `,` where a value is needed");
        check("{\"a\": [1,],}", "");
        check("{\"a\": 01}", "f:1:7: not valid JSON: `01` is no value; texts stand in quotes");
        check("{\"a\": yes}", "f:1:7: not valid JSON: `yes` is no value; texts stand in quotes");
        check("{a: 1}", "f:1:2: not valid JSON: `a` where a key in quotes is needed");
        check("{\"a\": \"b", "f:1:7: not valid JSON: a text without its closing quote");
        check("{\"a\": \"\\x\"}", "f:1:8: not valid JSON: an unknown escape");
        check("{\"a\": \"\\u12\"}", "f:1:8: not valid JSON: \\u without four hex digits");
        check("{\"a\": \"\\ud800\"}", "f:1:8: not valid JSON: an escape that is no character");
        check("{\"a\": \"\u{1}\"}", "f:1:8: not valid JSON: a control character");
        check("{} /* x", "f:1:4: not valid JSON: a comment that isn't closed");
        check("{} {}", "f:1:4: not valid JSON: `{` after the end of the configuration");
        check("{\"a\": 1,\n\"a\": 2}", "f:2:1: `a` is given twice; first in line 1");
        check(&"[".repeat(5000), "f:1:102: not valid JSON: nested deeper than 100 levels");
        check("", "f:1:1: not valid JSON: the file ends where a value is needed");
    }

    #[test]
    fn quoted_texts_are_read_back() {
        for text in ["", "a b", "\"\\\n\t\u{1}\u{7f}", "\u{e4}\u{1f980}\u{2028}\u{feff}", "@x(%y%)"] {
            let mut faults = Faults::default();
            let json = parse(&quoted(text), &mut faults).expect("good JSON");
            assert_eq!(json.value, Value::Scalar { text: text.to_owned(), plain: false });
            let yaml: String = serde_yaml::from_str(&quoted(text)).expect("good YAML");
            assert_eq!(yaml, text);
        }
    }
}
