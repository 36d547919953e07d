//! What the reply parser makes of every reply to every command, whole and cut everywhere.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so")]

mod common;

use common::{ReplyEvent, cuts, limits, reply_events, shown};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{
    Expect, Limits, Outcome, REPLY_LINE_BYTES_MAX, ReplyKind, ReplyParsed, ReplyParser, STATS_BYTES_MAX,
};

const GET: Expect = Expect::from_operation(Operation::Get);
const GETS: Expect = Expect::from_operation(Operation::Gets);

/// Events in short: `key=data`, `key=data#cas`, a `.` behind the last item; a line's kind; `misaligned`.
fn brief(events: &[ReplyEvent]) -> String {
    let one = |event: &ReplyEvent| match event {
        ReplyEvent::Value { key, data, cas, last, .. } => {
            let cas = if cas.is_empty() { String::new() } else { format!("#{}", shown(cas)) };
            format!("{}={}{cas}{}", shown(key), shown(data), if *last { "." } else { "" })
        }
        ReplyEvent::Line { kind, .. } => kind.name().to_string(),
        ReplyEvent::Misaligned => "misaligned".to_string(),
    };
    events.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// `input`, in answer to requests that call for `expects`, gives `expected`, however it is cut.
#[track_caller]
fn check(expects: &[Expect], input: impl AsRef<[u8]>, expected: &str) {
    let input = input.as_ref();
    let whole = reply_events(limits(), expects, [input]);
    assert_eq!(brief(&whole), expected, "for {}", shown(input));
    for pieces in cuts(input) {
        let cut = reply_events(limits(), expects, pieces.iter().copied());
        assert_eq!(cut, whole, "for {} cut as {pieces:?}", shown(input));
    }
}

#[test]
fn meta_gets() {
    const META: Expect = Expect::Meta;
    check(&[META], "VA 1 kk f0 t-1 c7\r\na\r\n", "k=a#7.");
    check(
        &[META, META],
        "VA 3 kkey f9 t60 c18446744073709551615 W\r\nE\r\n\r\nEN\r\n",
        "key=E\\r\\n#18446744073709551615. end",
    );
    check(&[META, GET], "EN kk\r\nEND\r\n", "end end");
    check(&[META], "SERVER_ERROR busy\r\n", "server_error");
    check(&[META], "ERROR\r\n", "error");
    // Not what was asked for: a part is missing, or it is another dialect's reply.
    for bad in ["VA 1 kk f0 c7\r\na\r\n", "VA 1 f0 t1 c7\r\na\r\n", "VA x kk f0 t1 c7\r\n", "END\r\n", "HD\r\n", "EN\n"]
    {
        check(&[META], bad, "misaligned");
    }
}

#[test]
fn values() {
    check(&[GET], "END\r\n", "end");
    check(&[GET], "VALUE k 0 1\r\na\r\nEND\r\n", "k=a.");
    check(&[GET], "VALUE k 0 0\r\n\r\nEND\r\n", "k=.");
    check(&[GET], "VALUE k 4294967295 5\r\nEND\r\n\r\nEND\r\n", "k=END\\r\\n.");
    check(&[GET], "VALUE k 18446744073709551615 1\r\na\r\nEND\r\n", "k=a.");
    check(&[GET], "VALUE k 0 1\r\na\r\nVALUE l 0 1\r\nb\r\nEND\r\n", "k=a l=b.");
    check(
        &[GETS],
        "VALUE k 0 1 7\r\na\r\nVALUE l 0 1 18446744073709551615\r\nb\r\nEND\r\n",
        "k=a#7 l=b#18446744073709551615.",
    );
    check(&[GET, GET], "VALUE k 0 1\r\na\r\nEND\r\nEND\r\n", "k=a. end");
    check(&[GET], b"VALUE \xff\x80 0 1\r\n\0\r\nEND\r\n", "\\xff\\x80=\\x00.");
    check(&[GET], "VALUE xERRORx 0 7\r\nERROR\r\n\r\nEND\r\n", "xERRORx=ERROR\\r\\n.");
    let key = "k".repeat(250);
    check(&[GET], format!("VALUE {key} 0 1\r\na\r\nEND\r\n"), &format!("{key}=a."));
    let data = "v".repeat(1000);
    check(&[GET], format!("VALUE k 0 1000\r\n{data}\r\nEND\r\n"), &format!("k={data}."));
    // An item is reported only once it is known whether it is the last.
    check(&[GET], "VALUE k 0 1\r\na\r\n", "");
    check(&[GET], "VALUE k 0 1\r\na\r\nEND\r", "");
    check(&[GET], "VALUE k 0 1\r\na\r\nV", "k=a");
}

#[test]
fn errors_in_place_of_values() {
    check(&[GET], "ERROR\r\n", "error");
    check(&[GETS], "CLIENT_ERROR bad command line format\r\n", "client_error");
    check(&[GET], "SERVER_ERROR out of memory writing get response\r\n", "server_error");
    check(&[GET, GET], "SERVER_ERROR busy\r\nEND\r\n", "server_error end");
    check(&[GET], "VALUE k 0 1\r\na\r\nSERVER_ERROR out of memory\r\n", "k=a server_error");
    check(&[GET], "VALUE k 0 1\r\na\r\nCLIENT_ERROR bad\r\n", "k=a client_error");
    check(&[GET], "VALUE k 0 1\r\na\r\nERROR\r\n", "k=a error");
}

#[test]
fn misaligned_values() {
    for line in [
        "VALUE k 0 1 7",
        "VALUE k 0",
        "VALUE k",
        "VALUE",
        "VALUE ",
        "VALUE  k 0 1",
        "VALUE k  0 1",
        "VALUE k 0  1",
        "VALUE k x 1",
        "VALUE k 0 x",
        "VALUE k 0 -1",
        "VALUE k 0 +1",
        "VALUE k 0 1 ",
        "VALUE k  1",
        "VALUE k 0 1001",
        "VALUE k 0 99999999999999999999",
        "VALUE k 18446744073709551616 1",
        "VALUE a\tb 0 1",
        "value k 0 1",
        "VALUEk 0 1",
        "STORED",
        "NOT_FOUND",
        "STAT a b",
        "1",
        "OK",
        "",
        "ENDx",
        "END ",
        "ERRORx",
        "HD",
        " END",
        "VERSION 1",
    ] {
        check(&[GET], format!("{line}\r\na\r\nEND\r\n"), "misaligned");
    }
    for line in ["VALUE k 0 1", "VALUE k 0 1 ", "VALUE k 0 1 x", "VALUE k 0 1 -1", "VALUE k 0 1 2 3", "VALUE k 0  1 2"]
    {
        check(&[GETS], format!("{line}\r\na\r\nEND\r\n"), "misaligned");
    }
    check(&[GET], format!("VALUE {} 0 1\r\na\r\nEND\r\n", "k".repeat(251)), "misaligned");
    check(&[GET], "END\n", "misaligned");
    check(&[GET], "VALUE k 0 1\na\r\nEND\r\n", "misaligned");
    check(&[GET], "VALUE k 0 1\r\nab\r\nEND\r\n", "misaligned");
    check(&[GET], "VALUE k 0 1\r\nabc", "misaligned");
    check(&[GET], "VALUE k 0 1\r\na\nEND\r\n", "misaligned");
    check(&[GET], "VALUE k 0 1\r\na\r\nEND\n", "misaligned");
    check(&[GET], "VALUE k 0 1\r\na\r\nxEND\r\n", "misaligned");
    check(&[GET], "VALUE k 0 1\r\na\r\nEXISTS\r\n", "misaligned");
    check(&[GET], "VALUE k 0 1\r\na\r\nSTORED\r\n", "k=a misaligned");
    check(&[GET], "x".repeat(REPLY_LINE_BYTES_MAX), "misaligned");
    check(&[GET], "x".repeat(REPLY_LINE_BYTES_MAX - 1), "");
}

/// Every operation with one line, and every line some memcached can say: who may say what.
#[test]
fn lines() {
    let lines: &[(&str, ReplyKind, &[Operation])] = &[
        (
            "STORED",
            ReplyKind::Stored,
            &[
                Operation::Set,
                Operation::Add,
                Operation::Replace,
                Operation::Append,
                Operation::Prepend,
                Operation::Cas,
            ],
        ),
        (
            "NOT_STORED",
            ReplyKind::NotStored,
            &[
                Operation::Set,
                Operation::Add,
                Operation::Replace,
                Operation::Append,
                Operation::Prepend,
                Operation::Cas,
            ],
        ),
        ("EXISTS", ReplyKind::Exists, &[Operation::Cas]),
        (
            "NOT_FOUND",
            ReplyKind::NotFound,
            &[Operation::Cas, Operation::Delete, Operation::Incr, Operation::Decr, Operation::Touch],
        ),
        ("DELETED", ReplyKind::Deleted, &[Operation::Delete]),
        ("TOUCHED", ReplyKind::Touched, &[Operation::Touch]),
        ("OK", ReplyKind::Ok, &[Operation::Verbosity, Operation::FlushAll]),
        ("0", ReplyKind::Number, &[Operation::Incr, Operation::Decr]),
        ("18446744073709551615", ReplyKind::Number, &[Operation::Incr, Operation::Decr]),
        ("1  ", ReplyKind::Number, &[Operation::Incr, Operation::Decr]),
        ("VERSION 1.6.18", ReplyKind::Version, &[Operation::Version]),
        ("VERSION a b", ReplyKind::Version, &[Operation::Version]),
        ("END", ReplyKind::End, &[]),
        ("RESET", ReplyKind::Stats, &[]),
        ("VALUE k 0 1", ReplyKind::Value, &[]),
        ("STAT a b", ReplyKind::Stats, &[]),
        ("18446744073709551616", ReplyKind::Number, &[]),
        ("-1", ReplyKind::Number, &[]),
        (" 1", ReplyKind::Number, &[]),
        ("1 2", ReplyKind::Number, &[]),
        ("", ReplyKind::Ok, &[]),
        (" ", ReplyKind::Ok, &[]),
        ("STORED ", ReplyKind::Ok, &[]),
        ("stored", ReplyKind::Ok, &[]),
        ("VERSION", ReplyKind::Ok, &[]),
        ("ERRORS", ReplyKind::Ok, &[]),
        ("HD", ReplyKind::Ok, &[]),
    ];
    let errors = [
        ("ERROR", ReplyKind::Error),
        ("ERROR Too many open connections", ReplyKind::Error),
        ("CLIENT_ERROR bad data chunk", ReplyKind::ClientError),
        ("SERVER_ERROR out of memory storing object", ReplyKind::ServerError),
        ("SERVER_ERROR", ReplyKind::ServerError),
    ];
    for operation in Operation::ALL {
        let expect = Expect::from_operation(operation);
        if !matches!(expect, Expect::Line(_)) {
            continue;
        }
        for (line, kind, operations) in lines {
            let fits = operations.contains(&operation);
            check(&[expect], format!("{line}\r\n"), if fits { kind.name() } else { "misaligned" });
            check(&[expect], format!("{line}\n"), "misaligned");
        }
        for (line, kind) in errors {
            let expected = if operation == Operation::Quit { "misaligned" } else { kind.name() };
            check(&[expect], format!("{line}\r\n"), expected);
        }
    }
    let three = [Operation::Set, Operation::Incr, Operation::Delete].map(Expect::from_operation);
    check(&three, "STORED\r\n12\r\nNOT_FOUND\r\n", "stored number not_found");
    check(&three, "STORED\r\nSTORED\r\nNOT_FOUND\r\n", "stored misaligned");
    check(&[three[0]], "y".repeat(REPLY_LINE_BYTES_MAX), "misaligned");
    let longest = format!("SERVER_ERROR {}\r\n", "y".repeat(REPLY_LINE_BYTES_MAX - 15));
    check(&[three[0]], &longest, "server_error");
    check(&[three[0]], longest.replace('R', "RR"), "misaligned");
}

#[test]
fn stats() {
    let stats = &[Expect::Stats];
    check(stats, "END\r\n", "stats");
    check(stats, "STAT pid 1\r\nEND\r\n", "stats");
    check(stats, "STAT pid 1\r\nSTAT version 1.6.18\r\nSTAT a \r\nEND\r\n", "stats");
    check(&[Expect::Stats, GET], "STAT pid 1\r\nEND\r\nEND\r\n", "stats end");
    check(stats, "RESET\r\n", "stats");
    check(stats, "OK\r\n", "ok");
    check(stats, "ERROR\r\n", "error");
    check(stats, "CLIENT_ERROR usage: stats detail on|off|dump\r\n", "client_error");
    check(stats, "SERVER_ERROR out of memory writing stats\r\n", "server_error");
    for input in [
        "STORED\r\n",
        "STAT\r\n",
        "stat a b\r\n",
        "STAT a b\nEND\r\n",
        "STAT a b\r\nRESET\r\n",
        "STAT a b\r\nOK\r\n",
        "STAT a b\r\nERROR\r\n",
        "STAT a b\r\nEND\n",
        "END \r\n",
        "VALUE k 0 1\r\na\r\nEND\r\n",
        "\r\n",
        "ITEM k [1 b; 0 s]\r\n",
    ] {
        check(stats, input, "misaligned");
    }
    check(stats, format!("STAT {}", "y".repeat(REPLY_LINE_BYTES_MAX)), "misaligned");
    check(stats, format!("STAT {}\r\nEND\r\n", "y".repeat(REPLY_LINE_BYTES_MAX - 7)), "stats");
    check(stats, format!("STAT {}\r\nEND\r\n", "y".repeat(REPLY_LINE_BYTES_MAX - 6)), "misaligned");
}

#[test]
fn a_stat_list_has_a_limit() {
    let line = format!("STAT {}\r\n", "y".repeat(1024 - 7));
    assert_eq!(STATS_BYTES_MAX % line.len(), 0);
    let lines = STATS_BYTES_MAX / line.len();
    let events =
        |input: &str, piece: usize| brief(&reply_events(limits(), &[Expect::Stats], input.as_bytes().chunks(piece)));
    let fits = format!("{}STAT {}\r\nEND\r\n", line.repeat(lines - 1), "y".repeat(1024 - 12));
    assert_eq!(fits.len(), STATS_BYTES_MAX);
    let over = format!("{}STAT {}\r\nEND\r\n", line.repeat(lines - 1), "y".repeat(1024 - 11));
    for piece in [STATS_BYTES_MAX * 2, 60_000, 4096] {
        assert_eq!(events(&fits, piece), "stats");
        assert_eq!(events(&over, piece), "misaligned");
        assert_eq!(events(&line.repeat(lines), piece), "misaligned");
        assert_eq!(events(&line.repeat(lines * 2), piece), "misaligned");
    }
}

#[test]
fn an_item_on_its_way_says_how_long_it_will_be() {
    let mut parser = ReplyParser::new(Limits::default());
    assert_eq!(parser.parse(GET, b""), ReplyParsed::NeedMore);
    assert_eq!(parser.item_bytes(), None);
    assert_eq!(parser.parse(GET, b"VALUE k 0 100\r\nab"), ReplyParsed::NeedMore);
    assert_eq!(parser.item_bytes(), Some(15 + 100 + 2));
}

#[test]
fn every_kind_means_one_thing() {
    for (at, kind) in ReplyKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, at);
        let line = match kind {
            ReplyKind::Value => "VALUE k 0 1".into(),
            other => other.name().to_uppercase(),
        };
        // gomcrouter's rule: failed is what holds ERROR in its line, or is exactly one of these.
        let failed = line.contains("ERROR") || ["END", "NOT_STORED", "EXISTS", "NOT_FOUND"].contains(&line.as_str());
        assert_eq!(kind.is_failed(), failed, "{line}");
        assert_eq!(kind.is_error(), line.contains("ERROR"), "{line}");
        assert_eq!(kind.is_miss(), ["END", "NOT_FOUND"].contains(&line.as_str()), "{line}");
        assert_eq!(kind.is_hit(), kind.outcome() == Outcome::Hit, "{line}");
        assert!(!(kind.is_hit() && kind.is_failed()), "{line}");
    }
}
