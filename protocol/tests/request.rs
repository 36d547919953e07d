//! What the request parser makes of every form of every command, whole and cut everywhere.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so")]

mod common;

use common::{Event, cuts, limits, request_events, shown};
use keyway_protocol::memcached::text::{Limits, RequestError, RequestParser};

/// Events in short: `get(a,b)`, `set(k)e=0 v=data quiet`, `!error`, `!error quiet`, `!error close`, `~bytes skipped`.
fn brief(events: &[Event]) -> String {
    let one = |event: &Event| match event {
        Event::Request { operation, keys, exptime, value, noreply, .. } => {
            let keys: Vec<String> = keys.iter().map(|key| shown(key)).collect();
            let mut text = format!("{}({})", operation.name(), keys.join(","));
            if !exptime.is_empty() {
                text += &format!("e={}", shown(exptime));
            }
            if !value.is_empty() {
                text += &format!(" v={}", shown(value));
            }
            if *noreply {
                text += " quiet";
            }
            text
        }
        Event::Refused { error, noreply, close, .. } => {
            let quiet = if *noreply { " quiet" } else { "" };
            let close = if *close { " close" } else { "" };
            format!("!{}{quiet}{close}", error.name())
        }
        Event::Skip(bytes) => format!("~{bytes}"),
    };
    events.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// `input` gives `expected`, however it is cut.
#[track_caller]
fn check(input: impl AsRef<[u8]>, expected: &str) {
    let input = input.as_ref();
    let whole = request_events(limits(), [input]);
    assert_eq!(brief(&whole), expected, "for {}", shown(input));
    for pieces in cuts(input) {
        let cut = request_events(limits(), pieces.iter().copied());
        assert_eq!(cut, whole, "for {} cut as {pieces:?}", shown(input));
    }
}

/// The frame of the only request in `input` is passed on as `forwarded`.
#[track_caller]
fn check_forwarded(input: &str, expected: &str) {
    match request_events(limits(), [input.as_bytes()]).as_slice() {
        [Event::Request { forwarded, frame_bytes, .. }] => {
            assert_eq!(shown(forwarded), shown(expected.as_bytes()));
            assert_eq!(*frame_bytes, input.len());
        }
        other => panic!("{input:?} gives {other:?}"),
    }
}

fn key(bytes: usize) -> String {
    "k".repeat(bytes)
}

#[test]
fn retrieval() {
    check("get a\r\n", "get(a)");
    check("get a\n", "get(a)");
    check("get a b  c \r\n", "get(a,b,c)");
    check("gets a b\r\n", "gets(a,b)");
    check("gat 10 a\r\n", "gat(a)e=10");
    check("gats -1 a b\r\n", "gats(a,b)e=-1");
    check(b"get \xff\xfe\x80\r\n", "get(\\xff\\xfe\\x80)");
    check("  get a\r\n", "~2; get(a)");
    check("get a\r\nget b\r\n", "get(a); get(b)");
    check(format!("get {}\r\n", key(250)), &format!("get({})", key(250)));
    check("get / HTTP/1.1\r\n", "get(/,HTTP/1.1)");

    check("get\r\n", "!token_count");
    check("get \r\n", "!token_count");
    check("gets\r\n", "!token_count");
    check("gat\r\n", "!token_count");
    check("gat 0\r\n", "!token_count");
    check("gat x a\r\n", "!bad_exptime");
    check("gat 0x a\r\n", "!bad_exptime");
    check("gat 2147483648 a\r\n", "!bad_exptime");
    check(format!("get {}\r\n", key(251)), "!key_too_long");
    check(format!("get a {} b\r\nget a\r\n", key(251)), "!key_too_long; get(a)");
    check(format!("gat 0 a {}\r\n", key(251)), "!key_too_long");
    check("get a\x01\r\n", "!bad_key");
    check("get a\0b c\r\n", "!bad_key");
    check("get a b\tc\r\n", "!bad_key");
    check("get a\r\r\n", "!bad_key");
    check("get a\x7f\r\n", "!bad_key");
    // Newer servers take it for the wish for silence.
    check("get noreply\r\n", "!bad_key");
    check("gets a noreply b\r\n", "!bad_key");
    check("gat 0 noreply\r\n", "gat(noreply)e=0");
}

#[test]
fn storage() {
    check("set k 0 0 1\r\na\r\n", "set(k)e=0 v=a");
    check("set k 0 0 1\na\r\n", "set(k)e=0 v=a");
    check("set k 0 0 0\r\n\r\n", "set(k)e=0");
    check("set k 0 0 01\r\na\r\n", "set(k)e=0 v=a");
    check("set k 0 0 1 noreply\r\na\r\n", "set(k)e=0 v=a quiet");
    check("set  k  0  0  1  noreply  \r\na\r\n", "set(k)e=0 v=a quiet");
    check("set k 0 0 1 norepl\r\na\r\n", "set(k)e=0 v=a");
    check("set k 0 0 4\r\n\r\n\r\n\r\n", "set(k)e=0 v=\\r\\n\\r\\n");
    check("set k 0 0 7\r\nget a\r\n\r\n", "set(k)e=0 v=get a\\r\\n");
    check("  set k 0 0 1\r\na\r\nget b\r\n", "~2; set(k)e=0 v=a; get(b)");
    check("set noreply 0 0 1\r\na\r\n", "set(noreply)e=0 v=a");
    check("set k 4294967295 2147483647 1\r\na\r\n", "set(k)e=2147483647 v=a");
    check("set k 0 -2147483648 1\r\na\r\n", "set(k)e=-2147483648 v=a");
    check("add k 1 2 1\r\na\r\n", "add(k)e=2 v=a");
    check("replace k 1 2 1 noreply\r\na\r\n", "replace(k)e=2 v=a quiet");
    check("append k 1 2 1\r\na\r\n", "append(k)e=2 v=a");
    check("prepend k 1 2 1\r\na\r\n", "prepend(k)e=2 v=a");
    check("cas k 1 2 1 18446744073709551615\r\na\r\n", "cas(k)e=2 v=a");
    check("cas k 1 2 1 3 noreply\r\na\r\n", "cas(k)e=2 v=a quiet");
    check("cas k 1 2 1 3 x\r\na\r\n", "cas(k)e=2 v=a");
}

#[test]
fn refused_storage_swallows_its_data_or_closes() {
    // The length is known: the data is not read as commands.
    check("set k 0 0 7 x y\r\nget a\r\n\r\nget b\r\n", "!token_count; ~9; get(b)");
    check("cas k 0 0 1\r\na\r\nget b\r\n", "!token_count; ~3; get(b)");
    check("cas k 0 0 1 noreply\r\na\r\nget b\r\n", "!bad_line quiet; ~3; get(b)");
    check("cas k 0 0 1 noreply noreply\r\na\r\n", "!bad_line quiet; ~3");
    check("cas k 0 0 1 x\r\na\r\n", "!bad_line; ~3");
    check("cas k 0 0 1 -1\r\na\r\n", "!bad_line; ~3");
    check("cas k 0 0 1 18446744073709551616\r\na\r\n", "!bad_line; ~3");
    check("set k x 0 1\r\na\r\n", "!bad_line; ~3");
    check("set k -1 0 1\r\na\r\n", "!bad_line; ~3");
    check("set k 4294967296 0 1\r\na\r\n", "!bad_line; ~3");
    check("set k 0 x 1\r\na\r\n", "!bad_line; ~3");
    check("set k 0 x 1 noreply\r\na\r\n", "!bad_line quiet; ~3");
    check("set k 0 2147483648 1\r\na\r\n", "!bad_line; ~3");
    check("set k +1 0 1\r\na\r\n", "!bad_line; ~3");
    check("set k 0 0 1 a\0\r\na\r\n", "!bad_line; ~3");
    check("set a\tb 0 0 1\r\na\r\n", "!bad_key; ~3");
    check(format!("set {} 0 0 1\r\na\r\nget b\r\n", key(251)), "!key_too_long; ~3; get(b)");
    check(format!("set {} 0 0 1 noreply\r\na\r\n", key(251)), "!key_too_long quiet; ~3");
    let large = "v".repeat(1001);
    check(format!("set k 0 0 1000\r\n{}\r\n", &large[1..]), &format!("set(k)e=0 v={}", &large[1..]));
    check(format!("set k 0 0 1001\r\n{large}\r\nget b\r\n"), "!value_too_large; ~1003; get(b)");
    check(format!("set k 0 0 1001 noreply\r\n{large}\r\n"), "!value_too_large quiet; ~1003");
    check("set k 0 0 2147483645\r\nabc", "!value_too_large; ~3");

    // The length is not known: nothing behind the line is read at all.
    for line in
        ["set", "set k", "set k 0 0", "set  0 0 5", "set k 0 0 99999999999 x y", "add k 0 0", "ms", "ms k", "ms k S1"]
    {
        let error = if line.starts_with("ms") { "unknown_command" } else { "token_count" };
        check(format!("{line}\r\nget a\r\n"), &format!("!{error} close; ~7"));
    }
    for length in [
        "-1",
        "-100",
        "x",
        "1x",
        "+1",
        "0x1",
        "2147483646",
        "2147483647",
        "2147483648",
        "4294967297",
        "9223372036854775807",
        "18446744073709551617",
        "99999999999999999999",
        "000000000001",
    ] {
        check(format!("set k 0 0 {length}\r\nget a\r\n"), "!bad_line close; ~7");
        check(format!("set k 0 0 {length} noreply\r\nget a\r\n"), "!bad_line quiet close; ~7");
        check(format!("cas k 0 0 {length} 1\r\nget a\r\n"), "!bad_line close; ~7");
    }
}

#[test]
fn data_not_ended_by_cr_lf() {
    check("set k 0 0 1\r\nab\r\nget b\r\n", "!bad_data_chunk; !unknown_command; get(b)");
    check("set k 0 0 1\r\nabcdef\r\nget b\r\n", "!bad_data_chunk; !unknown_command; get(b)");
    check("set k 0 0 1 noreply\r\nabcdef\r\n", "!bad_data_chunk quiet; !unknown_command");
    check("set k 0 0 1\r\na\nget b\r\n", "!bad_data_chunk; !unknown_command");
    check("set k 0 0 1\r\na\r\r\n", "!bad_data_chunk; !unknown_command");
}

#[test]
fn one_key_commands() {
    check("delete k\r\n", "delete(k)");
    check("delete k 0\r\n", "delete(k)");
    check("delete k noreply\r\n", "delete(k) quiet");
    check("delete k 0 noreply\r\n", "delete(k) quiet");
    check("delete\r\n", "!token_count");
    check("delete k 0 0 0\r\n", "!token_count");
    check("delete k 0 0 noreply\r\n", "!token_count");
    check("delete k 1\r\n", "!delete_usage");
    check("delete k 00\r\n", "!delete_usage");
    check("delete k 0 0\r\n", "!delete_usage");
    check("delete k x noreply\r\n", "!delete_usage quiet");
    check("delete k noreply noreply\r\n", "!delete_usage quiet");
    check("delete noreply\r\n", "!bad_key");
    check("delete noreply noreply\r\n", "!bad_key quiet");
    check("delete noreply 0\r\n", "delete(noreply)");
    check(format!("delete {}\r\n", key(251)), "!key_too_long");
    check(format!("delete {} noreply\r\n", key(251)), "!key_too_long quiet");

    check("incr k 1\r\n", "incr(k)");
    check("decr k 18446744073709551615\r\n", "decr(k)");
    check("incr k 1 noreply\r\n", "incr(k) quiet");
    check("incr k 1 x\r\n", "incr(k)");
    check("incr k 1 a\tb\r\n", "!bad_line");
    check("incr\r\n", "!token_count");
    check("incr k\r\n", "!token_count");
    check("incr k 1 x y\r\n", "!token_count");
    for delta in ["x", "-1", "1x", "+1", "18446744073709551616", "000000000000000000001", "\t1"] {
        check(format!("incr k {delta}\r\n"), "!bad_delta");
        check(format!("decr k {delta} noreply\r\n"), "!bad_delta quiet");
    }
    check("incr k noreply\r\n", "!bad_delta quiet");
    check(format!("incr {} 1\r\n", key(251)), "!key_too_long");

    check("touch k 0\r\n", "touch(k)e=0");
    check("touch k -1 noreply\r\n", "touch(k)e=-1 quiet");
    check("touch k 0 x\r\n", "touch(k)e=0");
    check("touch\r\n", "!token_count");
    check("touch k\r\n", "!token_count");
    check("touch k 0 x y\r\n", "!token_count");
    check("touch k x\r\n", "!bad_exptime");
    check("touch k 2147483648\r\n", "!bad_exptime");
    check("touch k x noreply\r\n", "!bad_exptime quiet");
    check("touch k noreply\r\n", "!bad_exptime quiet");
    check(format!("touch {} 0\r\n", key(251)), "!key_too_long");
}

#[test]
fn control_commands() {
    check("version\r\n", "version()");
    check("version x\r\n", "version()");
    check("version a\0\r\n", "!bad_line");
    check("verbosity 0\r\n", "verbosity()");
    check("verbosity 1 noreply\r\n", "verbosity() quiet");
    check("verbosity 0 0\r\n", "verbosity()");
    check("verbosity\r\n", "!token_count");
    check("verbosity 0 0 0\r\n", "!token_count");
    check("verbosity x\r\n", "!bad_line");
    check("verbosity -1\r\n", "!bad_line");
    check("verbosity noreply\r\n", "!bad_line quiet");
    check("flush_all\r\n", "flush_all()");
    check("flush_all 10\r\n", "flush_all()e=10");
    check("flush_all -1\r\n", "flush_all()e=-1");
    check("flush_all noreply\r\n", "flush_all() quiet");
    check("flush_all 10 noreply\r\n", "flush_all()e=10 quiet");
    check("flush_all 0 x\r\n", "flush_all()e=0");
    check("flush_all x\r\n", "!bad_exptime");
    check("flush_all 99999999999\r\n", "!bad_exptime");
    check("flush_all noreply noreply\r\n", "!bad_exptime quiet");
    check("flush_all 0 0 0\r\n", "!token_count");
    for argument in ["", " items", " slabs", " sizes", " settings", " reset", " extstore"] {
        check(format!("stats{argument}\r\n"), "stats()");
    }
    // mcrouter's.
    for argument in ["servers", "suspect_servers", "count", "all", "detailed", "version", "ods", "cmd-error"] {
        check(format!("stats {argument}\r\n"), "stats()");
    }
    for argument in ["cachedump 1 1", "conns", "detail on", "detail dump", "sizes_enable", "sizes_disable", "proxy"] {
        check(format!("stats {argument}\r\n"), "!not_supported");
    }
    check("stats nosuch\r\n", "!unknown_command");
    check("stats noreply\r\n", "!unknown_command");
    check("quit\r\n", "quit()");
    check("quit now\r\nget a\r\n", "quit(); ~7");
}

#[test]
fn what_is_no_command_of_ours() {
    for line in ["", " ", "a", "ab", "GET a", "Get a", "gett a", "g a", "get\ta", "bget a", "quitx", "mx k", "\0"] {
        let skipped = if line.starts_with(' ') { "~1; " } else { "" };
        check(format!("{line}\r\nget b\r\n"), &format!("{skipped}!unknown_command; get(b)"));
        check(format!("{line}\nget b\n"), &format!("{skipped}!unknown_command; get(b)"));
    }
    for line in ["mg k", "mg k v", "md k q", "ma k", "mn", "me k", "mg"] {
        check(format!("{line}\r\nget b\r\n"), "!unknown_command; get(b)");
    }
    check("ms k 7\r\nget a\r\n\r\nget b\r\n", "!unknown_command; ~9; get(b)");
    check("ms k 1 T0 q\r\na\r\nget b\r\n", "!unknown_command; ~3; get(b)");
    for line in [
        "cache_memlimit 64",
        "slabs automove 1",
        "lru mode flat",
        "lru_crawler crawl all",
        "watch",
        "shutdown",
        "extstore x",
        "refresh_certs",
    ] {
        check(format!("{line}\r\nget b\r\n"), "!not_supported; get(b)");
    }
    check("cache_memlimit 64 noreply\r\n", "!not_supported quiet");
    check("GET / HTTP/1.1\r\nget a\r\n", "!http_request quiet close; ~7");
    check("POST / HTTP/1.0\n\n", "!http_request quiet close; ~1");
    check("HEAD / HTTP/1.1 x\r\n", "!unknown_command");
}

#[test]
fn lines_have_a_limit() {
    let narrow = Limits { line_bytes: 128, retrieval_line_bytes: 160, ..limits() };
    let narrow_check = |input: &str, expected: &str| {
        let whole = request_events(narrow, [input.as_bytes()]);
        assert_eq!(brief(&whole), expected, "for {input:?}");
        for pieces in cuts(input.as_bytes()) {
            assert_eq!(request_events(narrow, pieces.iter().copied()), whole, "for {input:?} cut as {pieces:?}");
        }
    };
    let word = |bytes: usize| "x".repeat(bytes);
    narrow_check(&format!("{}\r\nget b\r\n", word(126)), "!unknown_command; get(b)");
    narrow_check(&format!("{}\n", word(127)), "!unknown_command");
    narrow_check(&format!("{}\r\nget b\r\n", word(127)), "!line_too_long close; ~8");
    narrow_check(&word(128), "!line_too_long close");
    narrow_check(&word(300), "!line_too_long close; ~172");
    narrow_check(&format!("get {}\r\n", word(154)), &format!("get({})", word(154)));
    narrow_check(&format!("gets {}\r\n", word(153)), &format!("gets({})", word(153)));
    narrow_check(&format!("get {}\r\n", word(155)), "!line_too_long close; ~1");
    narrow_check(&format!("gat 0 {}\r\n", word(122)), "!line_too_long close; ~2");
    narrow_check(&format!("set k 0 0 1 {}\r\na\r\n", word(122)), "!line_too_long close; ~11");
    narrow_check(&format!("{}get {}\r\n", " ".repeat(100), word(54)), &format!("~100; get({})", word(54)));
    narrow_check(&format!("{}get {}\r\n", " ".repeat(101), word(53)), "!line_too_long close; ~32");
    narrow_check(&" ".repeat(128), "!line_too_long close");

    // The standard limits: 2048 and, for get, what the configuration allows.
    check(format!("{}\r\n", word(2046)), "!unknown_command");
    check(word(2048), "!line_too_long close");
    let keys = vec!["a"; 4000].join(" ");
    let many = request_events(limits(), [format!("get {keys}\r\n").as_bytes()]);
    assert!(matches!(many.as_slice(), [Event::Request { keys, .. }] if keys.len() == 4000));
}

#[test]
fn limits_are_never_wider_than_memcached() {
    let wide = Limits {
        key_bytes: usize::MAX,
        line_bytes: usize::MAX,
        retrieval_line_bytes: usize::MAX,
        value_bytes: usize::MAX,
    };
    let events = |input: String| brief(&request_events(wide, [input.as_bytes()]));
    assert_eq!(events(format!("get {}\r\n", key(251))), "!key_too_long");
    assert_eq!(events("x".repeat(2048)), "!line_too_long close");
    assert_eq!(events("set k 0 0 2147483646\r\n".into()), "!bad_line close");
    assert_eq!(events("set k 0 0 2147483645\r\n".into()), "");
}

#[test]
fn noreply_is_cut_out_with_the_space_before_it() {
    check_forwarded("set k 0 0 1 noreply\r\na\r\n", "set k 0 0 1\r\na\r\n");
    check_forwarded("set k 0 0 1   noreply  \r\na\r\n", "set k 0 0 1    \r\na\r\n");
    check_forwarded("set k 0 0 9\r\n  noreply\r\n", "set k 0 0 9\r\n  noreply\r\n");
    check_forwarded("cas k 0 0 1 5 noreply\r\na\r\n", "cas k 0 0 1 5\r\na\r\n");
    check_forwarded("delete k noreply\r\n", "delete k\r\n");
    check_forwarded("delete k 0 noreply\n", "delete k 0\n");
    check_forwarded("incr k 1 noreply\r\n", "incr k 1\r\n");
    check_forwarded("touch k 1 noreply\r\n", "touch k 1\r\n");
    check_forwarded("flush_all noreply\r\n", "flush_all\r\n");
    check_forwarded("flush_all 5 noreply\r\n", "flush_all 5\r\n");
    check_forwarded("verbosity 1 noreply\r\n", "verbosity 1\r\n");
    check_forwarded("get a  b\r\n", "get a  b\r\n");
}

#[test]
fn every_error_has_its_name_and_words() {
    let mut names = Vec::new();
    for (at, error) in RequestError::ALL.into_iter().enumerate() {
        assert_eq!(error as usize, at);
        assert!(error.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        let reply = error.reply();
        assert_eq!(reply.is_empty(), error == RequestError::HttpRequest);
        assert!(reply.is_empty() || reply.ends_with(b"\r\n"));
        assert_eq!(reply.iter().filter(|byte| **byte == b'\n').count(), usize::from(!reply.is_empty()));
        names.push(error.name());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RequestError::COUNT);
}

#[test]
fn a_frame_on_its_way_says_how_long_it_will_be() {
    let mut parser = RequestParser::new(limits());
    assert_eq!(parser.frame_bytes(), None);
    let _ = parser.parse(b"set k 0 0 100");
    assert_eq!(parser.frame_bytes(), None);
    let _ = parser.parse(b"set k 0 0 100\r\nabc");
    assert_eq!(parser.frame_bytes(), Some(15 + 100 + 2));
}
