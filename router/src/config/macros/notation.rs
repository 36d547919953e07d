//! Macro calls written as text: `@name(first, @second(x), %third%)`, and the escapes in them.
//!
//! Positions are bytes; all that is looked for is ASCII, so that cuts fall between characters. The rules, quirks
//! included, are those of mcrouter's ConfigPreprocessor: a backslash takes away the meaning of the character behind it,
//! an argument is trimmed unless its last space is escaped, and the comma that ends an argument is looked for behind the
//! brackets of its first inner call.

/// A call as text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call<'t> {
    /// The name; may hold parameters.
    pub(super) name: &'t str,
    /// The arguments as they stand there, trimmed.
    pub(super) arguments: Vec<&'t str>,
}

/// Takes apart a text that begins with `@`.
pub(super) fn call(text: &str) -> Result<Call<'_>, &'static str> {
    let text = &text[1..];
    match find_unescaped(text, b'(') {
        None => Ok(Call { name: text, arguments: Vec::new() }),
        Some(open) if text.ends_with(')') => {
            Ok(Call { name: &text[..open], arguments: arguments(&text[open + 1..text.len() - 1])? })
        }
        Some(_) => Err("a call whose bracket isn't closed"),
    }
}

fn arguments(mut text: &str) -> Result<Vec<&str>, &'static str> {
    let mut found = Vec::new();
    loop {
        let Some(mut comma) = find_unescaped(text, b',') else {
            found.push(trim(text));
            return Ok(found);
        };
        if let Some(open) = find_unescaped(&text[..comma], b'(') {
            let close = matching_bracket(text, open).ok_or("brackets that don't match")?;
            if close + 1 == text.len() {
                found.push(trim(text));
                return Ok(found);
            }
            let after = text[close + 1..].find(',').ok_or("no comma behind a closing bracket")?;
            comma = close + 1 + after;
        }
        found.push(trim(&text[..comma]));
        text = &text[comma + 1..];
    }
}

fn find_unescaped(text: &str, wanted: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            byte if byte == wanted => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The bracket that closes the one at `open`.
fn matching_bracket(text: &str, open: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0;
    let mut at = open;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn trim(text: &str) -> &str {
    let mut text = text.trim_start_matches(|c: char| c.is_ascii_whitespace());
    while let Some(rest) = text.strip_suffix(|c: char| c.is_ascii_whitespace()) {
        let slashes = rest.bytes().rev().take_while(|byte| *byte == b'\\').count();
        if slashes > 0 {
            return if slashes % 2 == 0 { rest } else { text };
        }
        text = rest;
    }
    text
}

/// A text cut at its unescaped `%`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text, its escapes resolved.
    Text(String),
    /// What stood between two `%`.
    Parameter(String),
}

/// Cuts a text; `None` when a `%` has no other.
pub(super) fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (before, after) = unescape_until_percent(rest);
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        let Some(after) = after else { break };
        let (name, after) = unescape_until_percent(after);
        pieces.push(Piece::Parameter(name));
        rest = after?;
    }
    Some(pieces)
}

/// What stands before the first unescaped `%`, and what behind it. A backslash at the very end is dropped.
fn unescape_until_percent(text: &str) -> (String, Option<&str>) {
    let mut before = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '%' => return (before, Some(&text[at + 1..])),
            '\\' => before.extend(chars.next().map(|(_, escaped)| escaped)),
            c => before.push(c),
        }
    }
    (before, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_taken_apart() {
        let check = |text: &str, name: &str, arguments: &[&str]| {
            assert_eq!(call(text), Ok(Call { name, arguments: arguments.to_vec() }), "{text}");
        };
        check("@a", "a", &[]);
        check("@a()", "a", &[""]);
        check("@a( b , c )", "a", &["b", "c"]);
        check("@a(b,)", "a", &["b", ""]);
        check("@a(@b(c,d),e)", "a", &["@b(c,d)", "e"]);
        check("@a(@b(c,d))", "a", &["@b(c,d)"]);
        check("@a(@b(@c(d,e)),@f(g,h))", "a", &["@b(@c(d,e))", "@f(g,h)"]);
        check(r"@a(b\,c, d\ )", "a", &[r"b\,c", r"d\ "]);
        check(r"@a(  \)  )", "a", &[r"\)"]);
        check("@%p%(q)", "%p%", &["q"]);
        let refused = |text: &str, why: &str| assert_eq!(call(text), Err(why), "{text}");
        refused("@a(b", "a call whose bracket isn't closed");
        refused("@a(@b(c,d)", "brackets that don't match");
        refused("@a(@b(c,d)e)", "no comma behind a closing bracket");
    }

    #[test]
    fn texts_are_cut_at_parameters() {
        let text = |text: &str| Piece::Text(text.to_owned());
        let parameter = |name: &str| Piece::Parameter(name.to_owned());
        assert_eq!(pieces("a%b%c"), Some(vec![text("a"), parameter("b"), text("c")]));
        assert_eq!(pieces("%b%"), Some(vec![parameter("b")]));
        assert_eq!(pieces("%a%%b%"), Some(vec![parameter("a"), parameter("b")]));
        assert_eq!(pieces(r"a\%b\\c\ "), Some(vec![text(r"a%b\c ")]));
        assert_eq!(pieces("ends with \\"), Some(vec![text("ends with ")]));
        assert_eq!(pieces("%%"), Some(vec![parameter("")]));
        assert_eq!(pieces("100%"), None);
        assert_eq!(pieces("a%b%c%"), None);
    }
}
