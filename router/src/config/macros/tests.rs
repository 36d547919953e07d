//! Macros by their results: what a text expands to beside what it must be, and what is refused.

use super::*;
use crate::config::json;

fn read(text: &str) -> Node {
    let mut faults = Faults::default();
    let node = json::parse(text, &mut faults);
    assert!(faults.is_empty(), "{text}");
    node.expect("good JSON")
}

/// `{"macros": ..., "it": ...}` expanded, with parameters as the command line gives them.
fn expanded(macros: &str, it: &str) -> Result<Node, String> {
    let text = format!("{{\"macros\": {macros},\n\"it\": {it}}}");
    let mut faults = Faults::default();
    let top = json::parse(&text, &mut faults).unwrap_or_else(|| panic!("{text}"));
    let given = [("given".to_owned(), "value".to_owned()), ("router-name".to_owned(), "mine".to_owned())];
    let top = expand(top, &given, &mut faults);
    match faults.into_errors("f") {
        Some(errors) => Err(errors.to_string()),
        None => match top.expect("without faults there is a value").value {
            Value::Map(mut entries) => Ok(entries.remove(0).value),
            Value::Scalar { .. } | Value::List(_) => panic!("{text}"),
        },
    }
}

/// The same value, wherever it stands.
#[track_caller]
fn check(macros: &str, it: &str, wanted: &str) {
    let seen = expanded(macros, it).unwrap_or_else(|errors| panic!("{it}: {errors}"));
    let wanted = read(wanted);
    assert!(builtins::equal(&seen.value, &wanted.value), "{it}: {seen:?}");
    assert_eq!(builtins::kind(&seen.value).name(), builtins::kind(&wanted.value).name(), "{it}");
}

#[track_caller]
fn refused(macros: &str, it: &str, wanted: &str) {
    match expanded(macros, it) {
        Ok(value) => panic!("{it}: {value:?}"),
        Err(errors) => assert!(errors.contains(wanted), "{it}: {errors}"),
    }
}

#[test]
fn macros_of_the_file() {
    let macros = r#"{
        "plain": {"type": "macroDef", "result": "text"},
        "both": {"type": "macroDef", "params": ["a", {"name": "b", "default": "B"}], "result": "%a%-%b%"},
        "pool": {"type": "macroDef", "params": ["servers"], "result": {"servers": "%servers%", "n": 1}},
        "maybe": {"type": "macroDef", "params": ["a", {"name": "b", "optional": true}],
                  "result": "@if(@defined(b), %b%, none)"},
        "inner": {"type": "macroDef", "params": ["which"], "result": "@%which%(x)"},
        "hosts": {"type": "constDef", "result": ["h1", "h2"]},
        "first": {"type": "constDef", "result": "@select(%hosts%, @int(0))"},
        "size": {"type": "macroDef", "params": ["it"], "result": "my own"}
    }"#;
    check(macros, r#""@plain""#, r#""text""#);
    check(macros, r#""@both(x)""#, r#""x-B""#);
    check(macros, r#""@both( x , y )""#, r#""x-y""#);
    check(macros, r#""@both(@plain, @both(1,2))""#, r#""text-1-2""#);
    check(macros, r#"{"type": "both", "b": "2", "a": "1", "more": "ignored"}"#, r#""1-2""#);
    check(macros, r#"{"type": "pool", "servers": ["a:1", "%given%:2"]}"#, r#"{"servers": ["a:1", "value:2"], "n": 1}"#);
    check(macros, r#"["@maybe(x)", "@maybe(x,y)"]"#, r#"["none", "y"]"#);
    check(macros, r#""@inner(both)""#, r#""x-B""#);
    check(macros, r#"{"@plain": "%hosts%", "n%first%": "%first%"}"#, r#"{"text": ["h1", "h2"], "nh1": "h1"}"#);
    // The file's own stand over the built-in ones.
    check(macros, r#""@size(x)""#, r#""my own""#);
    // Definitions may come in lists, and be made by macros.
    let made = r#"[{"a": {"type": "constDef", "result": "1"}},
                   {"type": "merge", "params": [{"b": {"type": "constDef", "result": "2%a%"}}]}]"#;
    check(made, r#""%b%""#, r#""21""#);
}

#[test]
fn parameters_and_escapes() {
    check("{}", r#""%default-route%|%default-region%|%default-cluster%""#, r#""/././|.|.""#);
    check("{}", r#"["%given%", "%router-name%", "%service-name%"]"#, r#"["value", "mine", "unknown"]"#);
    check("{}", r#""100\\% of \\@x""#, r#""100% of @x""#);
    check("{}", r#""a@b(c)""#, r#""a@b(c)""#);
    check("{}", r#""""#, r#""""#);
    check("{}", r#"[1, -2.5, true, null, {}]"#, r#"[1, -2.5, true, null, {}]"#);
    check("{}", r#"{"vars": {"a": "%b%%b%", "b": "x"}, "c": "%a%"}"#, r#"{"c": "xx"}"#);
    check(
        "{}",
        r#"{"vars": {"a": "1"}, "in": {"vars": {"a": "2"}, "b": "%a%"}, "c": "%a%"}"#,
        r#"{"in": {"b": "2"}, "c": "1"}"#,
    );
    refused("{}", r#""%hostid%""#, "f:2:7: %hostid% differs from host to host");
    refused("{}", r#""%nothing%""#, "f:2:7: no parameter `nothing`");
    refused("{}", r#""50%""#, "a % without another");
    refused("{}", r#""x%n%""#, "no parameter `n`");
    refused(
        r#"{"n": {"type": "constDef", "result": 5}}"#,
        r#""x%n%""#,
        "%n% within a text: an integer where a text is needed",
    );
}

#[test]
fn built_ins_that_choose() {
    check("{}", r#""@if(@bool(true), yes\\, so, @fail(no))""#, r#""yes, so""#);
    check("{}", r#"{"type": "if", "condition": false, "is_true": "@fail(no)", "is_false": [1]}"#, "[1]");
    check("{}", r#""@and(@bool(false), @fail(no))""#, "false");
    check("{}", r#""@or(@not(@bool(false)), @fail(no))""#, "true");
    check("{}", r#""@or(@bool(no), @and(@bool(1), @bool(yes)))""#, "true");
    check("{}", r#"{"type": "select", "dictionary": {"a": 1}, "key": "a", "default": "@fail(no)"}"#, "1");
    check("{}", r#"{"type": "select", "dictionary": {"a": 1}, "key": "b", "default": [2]}"#, "[2]");
    check("{}", r#"{"type": "select", "dictionary": [1, 2, 3], "key": -1}"#, "3");
    check("{}", r#"["@defined(given)", "@defined(taken)"]"#, "[true, false]");
    check("{}", r#"{"type": "define", "vars": {"x": "1"}, "result": "%x%"}"#, r#""1""#);
    refused("{}", r#"{"type": "select", "dictionary": [1], "key": 1}"#, "select: no `1`, and no default");
    refused("{}", r#""@if(yes, 1, 2)""#, "if: a text where a boolean is needed");
    refused("{}", r#""@fail(said so)""#, "fail: `said so`");
}

#[test]
fn built_ins_that_only_look() {
    for (it, wanted) in [
        (r#""@int( 7)""#, "7"),
        (r#""@int(@bool(true))""#, "1"),
        (r#""@double(5)""#, "5.0"),
        (r#""@str(@int(5))""#, r#""5""#),
        (r#"{"type": "keys", "dictionary": {"b": 1, "a": 2}}"#, r#"["b", "a"]"#),
        (r#"{"type": "values", "dictionary": {"b": 1, "a": 2}}"#, "[1, 2]"),
        (r#"{"type": "merge", "params": [[1], [], [2, 3]]}"#, "[1, 2, 3]"),
        (r#"{"type": "merge", "params": [{"a": 1, "b": 2}, {"b": 3}]}"#, r#"{"a": 1, "b": 3}"#),
        (r#"{"type": "merge", "params": ["a", "b"]}"#, r#""ab""#),
        (r#"{"type": "slice", "dictionary": [0, 1, 2, 3], "from": 1, "to": 2}"#, "[1, 2]"),
        (r#"{"type": "slice", "dictionary": [0, 1], "from": -5, "to": 50}"#, "[0, 1]"),
        (r#"{"type": "slice", "dictionary": [0, 1], "from": 1, "to": 0}"#, "[]"),
        (r#"{"type": "slice", "dictionary": {"a": 1, "b": 2, "c": 3}, "from": "b", "to": "x"}"#, r#"{"b": 2, "c": 3}"#),
        (r#""@slice(abcd, @int(1), @int(2))""#, r#""bc""#),
        (r#""@split(a.b., .)""#, r#"["a", "b", ""]"#),
        (r#""@range(@int(-1), @int(2))""#, "[-1, 0, 1, 2]"),
        (r#""@range(@int(2), @int(1))""#, "[]"),
        (r#"{"type": "contains", "dictionary": [1, [2]], "key": [2]}"#, "true"),
        (r#"{"type": "contains", "dictionary": {"a": 1}, "key": "b"}"#, "false"),
        (r#""@contains(abc, bc)""#, "true"),
        (r#"{"type": "empty", "dictionary": {}}"#, "true"),
        (r#""@size(abc)""#, "3"),
        (r#"{"type": "equals", "A": {"a": 1, "b": [2]}, "B": {"b": [2.0], "a": 1}}"#, "true"),
        (r#""@equals(1, @int(1))""#, "false"),
        (r#""@less(@int(2), @double(2.5))""#, "true"),
        (r#""@less(b, a)""#, "false"),
        (r#"{"type": "isArray", "value": []}"#, "true"),
        (r#"{"type": "isObject", "value": []}"#, "false"),
        (
            r#"["@isString(a)", "@isInt(@int(1))", "@isDouble(@int(1))", "@isBool(@bool(0))"]"#,
            "[true, true, false, true]",
        ),
        (r#"["@add(@int(5),@int(3))", "@sub(@int(5),@int(8))", "@mul(@int(5),@int(3))"]"#, "[8, -3, 15]"),
        (r#"["@div(@int(-7),@int(2))", "@mod(@int(-7),@int(2))"]"#, "[-3, -1]"),
        (
            r#"["@bitwiseAnd(@int(6),@int(3))", "@bitwiseOr(@int(6),@int(3))", "@bitwiseXor(@int(6),@int(3))"]"#,
            "[2, 7, 5]",
        ),
        (r#"["@bitwiseNot(@int(0))", "@bitwiseLeftShift(@int(1),@int(4))"]"#, "[-1, 16]"),
        (r#""@bitwiseRightShift(@int(-1),@int(60))""#, "15"),
        (r#"{"type": "sort", "dictionary": ["b", 3, "a", 2.5, 10]}"#, r#"[2.5, 3, 10, "a", "b"]"#),
        (r#"{"type": "set", "dictionary": {"a": 1}, "key": "b", "value": 2}"#, r#"{"a": 1, "b": 2}"#),
        (r#"{"type": "set", "dictionary": [1, 2], "key": 0, "value": 3}"#, "[3, 2]"),
    ] {
        check("{}", it, wanted);
    }
    for (it, wanted) in [
        (r#""@int(x)""#, "int: `x` is no integer"),
        (r#"{"type": "merge", "params": [[1], {}]}"#, "merge: an object where a list is needed"),
        (r#"{"type": "merge", "params": []}"#, "merge: no params"),
        (r#""@add(@int(9223372036854775807),@int(1))""#, "add: out of range"),
        (r#""@div(@int(1),@int(0))""#, "div: out of range, or divided by 0"),
        (r#""@div(@int(-9223372036854775808),@int(-1))""#, "div: out of range"),
        (r#""@bitwiseLeftShift(@int(1),@int(64))""#, "out of range"),
        (r#""@range(@int(0),@int(9223372036854775807))""#, "range: more than 65536 numbers"),
        (r#""@range(@int(-9223372036854775808),@int(9223372036854775807))""#, "range: more than 65536 numbers"),
        (r#""@slice(\u00e4, @int(0), @int(0))""#, "slice: the cut is within a character"),
        (r#"{"type": "sort", "dictionary": [[]]}"#, "sort: only numbers and texts"),
        (r#"{"type": "set", "dictionary": [1], "key": 1, "value": 3}"#, "set: 1 is no place in the list"),
        (r#""@size()x""#, "a call whose bracket isn't closed"),
        (r#""@size(a,b)""#, "size: 2 arguments where 1 are needed"),
        (r#"{"type": "size"}"#, "size: dictionary is missing"),
        (r#""@nothing(a)""#, "no macro `nothing`"),
        (
            r#""@import(other.json)""#,
            "the macro import isn't supported by this version; put what it imports in its place",
        ),
        (r#"{"type": "shuffle", "dictionary": [1]}"#, "the macro shuffle isn't supported"),
    ] {
        refused("{}", it, wanted);
    }
}

#[test]
fn numbers_have_one_order() {
    // Around 2^63, and around 2^53, where doubles lose the last bit.
    let sorted = r#"["-1e300", "-9223372036854775808", "-1.5", "-1", "-0.5", "0", "0.5", "9007199254740992.0",
                     "9007199254740993", "9223372036854775807", "9223372036854775808.0", "1e300"]"#;
    let numbers = sorted.replace('"', "");
    let mut reversed: Vec<&str> = numbers.trim_matches(['[', ']']).split(',').collect();
    reversed.reverse();
    let it = format!(r#"{{"type": "sort", "dictionary": [{}]}}"#, reversed.join(","));
    let Value::List(items) = expanded("{}", &it).expect("numbers can be sorted").value else { panic!("a list") };
    let seen: Vec<&str> = items.iter().filter_map(Node::text).collect();
    let wanted: Vec<&str> = numbers.trim_matches(['[', ']']).split(',').map(str::trim).collect();
    assert_eq!(seen, wanted);
}

#[test]
fn built_ins_that_go_through() {
    for (it, wanted) in [
        (r#"{"type": "transform", "dictionary": [5, 6], "itemTransform": ["%key%", "%item%"]}"#, "[[0, 5], [1, 6]]"),
        (
            r#"{"type": "transform", "dictionary": {"a": "x"}, "keyTransform": "k%key%", "itemTransform": "%item%%item%"}"#,
            r#"{"ka": "xx"}"#,
        ),
        (
            r#"{"type": "transform", "dictionary": {"a": 1, "b": 2},
                "keyTransform": "@if(@equals(%key%,a),@split(x.y,.),@range(@int(1),@int(0)))"}"#,
            r#"{"x": 1, "y": 1}"#,
        ),
        (
            r#"{"type": "transform", "dictionary": ["p"], "itemName": "it", "keyName": "at", "itemTransform": "%it%@"}"#,
            r#"["p@"]"#,
        ),
        (
            r#"{"type": "process", "dictionary": [1, 2, 3], "initialValue": 0, "transform": "@add(%value%,%item%)"}"#,
            "6",
        ),
        (
            r#"{"type": "process", "dictionary": {"a": "1", "b": "2"}, "initialValue": "", "valueName": "sum",
                "transform": "%sum%%key%%item%"}"#,
            r#""a1b2""#,
        ),
        (
            r#"{"type": "foreach", "from": [1, 2, 3, 4], "where": "@less(%item%,@int(4))", "top": 2, "use": ["n", "%item%"]}"#,
            r#"["n", 1, "n", 2]"#,
        ),
        (r#"{"type": "foreach", "from": {"a": 1, "b": 2}, "where": "@equals(%key%,b)"}"#, r#"{"b": 2}"#),
        (r#"{"type": "foreach", "from": [1], "where": false, "noMatchResult": "none"}"#, r#""none""#),
        (r#"{"type": "foreach", "from": {}, "use": [1]}"#, "{}"),
        (r#"{"type": "foreach", "from": ["a", "b"], "item": "x", "use": {"%x%": "%key%"}}"#, r#"{"a": 0, "b": 1}"#),
    ] {
        check("{}", it, wanted);
    }
    refused("{}", r#"{"type": "foreach", "from": [1, 2], "use": 5}"#, "`use` must give lists, or objects");
    refused("{}", r#"{"type": "transform", "dictionary": [1]}"#, "transform: itemTransform is missing");
    refused("{}", r#"{"type": "process", "dictionary": 5, "initialValue": 0, "transform": 1}"#, "to go through");
}

#[test]
fn several_faults_are_all_said_with_their_places() {
    let text = "{\"a\": \"%x%\",\n\"b\": [\"@y\", \"%z\"],\n\"c\": 1}";
    let mut faults = Faults::default();
    assert!(expand(read(text), &[], &mut faults).is_none());
    let errors = faults.into_errors("f").expect("faults").to_string();
    assert_eq!(
        errors,
        "f:1:7: no parameter `x`\nf:2:7: no macro `y`\nf:2:13: `%z`: a % without another; \\% stands for itself"
    );
}

#[test]
fn definitions_that_are_wrong_are_said() {
    for (macros, wanted) in [
        (r#"{"a": 5}"#, "`a`: neither a macroDef nor a constDef"),
        (r#"{"a": {"type": "macroDef"}}"#, "`a`: result is missing"),
        (r#"{"a": {"type": "macroDef", "result": 1, "params": "x"}}"#, "`a`: params is no list"),
        (r#"{"a": {"type": "macroDef", "result": 1, "params": [5]}}"#, "`a`: a parameter is a name or an object"),
        (
            r#"{"a": {"type": "macroDef", "result": 1, "params": [{"name": "x", "default": 1}, "y"]}}"#,
            "`a`: `y` must be optional too",
        ),
        (
            r#"{"a": {"type": "macroDef", "result": 1, "params": [{"name": "x", "default": 1, "optional": false}]}}"#,
            "`x`: a default, and not optional",
        ),
        ("5", "macros: an object or a list of objects is needed"),
    ] {
        refused(macros, "1", wanted);
    }
    let macros = r#"{"m": {"type": "macroDef", "params": ["a"], "result": "%a%%hidden%"}}"#;
    refused(macros, r#""@m""#, "m: `a` is missing");
    refused(macros, r#""@m(1,2)""#, "m: 2 arguments where 1 are needed");
    // A macro doesn't see the names where it is called.
    refused(macros, r#"{"vars": {"hidden": "x"}, "c": "@m(1)"}"#, "no parameter `hidden`");
}

#[test]
fn hostile_files_end_soon() {
    let deep = |open: &str, close: &str, times: usize| format!("\"{}x{}\"", open.repeat(times), close.repeat(times));
    refused(r#"{"m": {"type": "macroDef", "result": "@m"}}"#, r#""@m""#, "macros nested too deep, or in a circle");
    refused(
        r#"{"a": {"type": "constDef", "result": "%b%"}, "b": {"type": "constDef", "result": "%a%"}}"#,
        r#""%a%""#,
        "`a` stands for itself",
    );
    refused("{}", r#"{"vars": {"a": "%a%"}, "b": 1}"#, "`a` stands for itself");
    refused("{}", &deep("@str(", ")", 1_000), "macros nested too deep");
    refused("{}", &deep("@str(", ")", 50_000), "macros that make too much of too little");
    // Each level doubles what it is given.
    let doubling: String = (0..60)
        .map(|n| {
            format!("\"m{}\": {{\"type\": \"macroDef\", \"params\": [\"x\"], \"result\": \"@m{n}(%x%%x%)\"}},", n + 1)
        })
        .collect();
    let macros = format!("{{{doubling} \"m0\": {{\"type\": \"macroDef\", \"params\": [\"x\"], \"result\": \"%x%\"}}}}");
    refused(&macros, r#""@m60(0123456789)""#, "macros that make too much of too little");
    let lists: String = (1..60)
        .map(|n| format!("\"c{n}\": {{\"type\": \"constDef\", \"result\": [\"%c{}%\", \"%c{}%\"]}},", n - 1, n - 1))
        .collect();
    let macros = format!("{{{lists} \"c0\": {{\"type\": \"constDef\", \"result\": [1, 2]}}}}");
    refused(&macros, r#""%c59%""#, "macros that make too much of too little");
    // A value that gets one level deeper in each round.
    let rounds = r#"{"type": "process", "dictionary": "@range(@int(1),@int(60000))", "initialValue": 0, "transform": ["%value%"]}"#;
    refused("{}", rounds, "macros that make a value nested too deep");
    let nested = r#"{"type": "process", "dictionary": "@range(@int(1),@int(100))", "initialValue": 0, "transform": ["%value%"]}"#;
    refused("{}", nested, "with its macros expanded nested deeper than 48 levels");
}
