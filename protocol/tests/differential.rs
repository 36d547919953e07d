//! The parsers against others that are written to be obviously right: they take the whole input at once, split it into
//! owned pieces and remember nothing. Both must see the same in random streams, cut at random.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so")]

mod common;

use common::{Event, Random, ReplyEvent, limits, reply_events, request_events, shown, stream};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{Expect, ReplyKind, RequestError};

/// Everything in `input`, one request after the other.
fn naive_requests(mut input: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut swallow = 0;
    while !input.is_empty() {
        if swallow > 0 {
            let bytes = swallow.min(input.len());
            push_skip(&mut events, bytes);
            swallow -= bytes;
            input = &input[bytes..];
            continue;
        }
        let Some((event, consumed, swallow_behind)) = naive_request(input) else {
            break;
        };
        match event {
            Event::Skip(bytes) => push_skip(&mut events, bytes),
            other => events.push(other),
        }
        input = &input[consumed..];
        swallow = swallow_behind;
    }
    events
}

fn push_skip(events: &mut Vec<Event>, bytes: usize) {
    match events.last_mut() {
        Some(Event::Skip(total)) => *total += bytes,
        _ => events.push(Event::Skip(bytes)),
    }
}

/// The first event of `input`, how many bytes it takes, and how many behind it are to be swallowed.
fn naive_request(input: &[u8]) -> Option<(Event, usize, usize)> {
    let spaces = input.iter().take_while(|byte| **byte == b' ').count();
    let trimmed = &input[spaces..];
    let may_grow = spaces <= 100 && (trimmed.starts_with(b"get ") || trimmed.starts_with(b"gets "));
    let limit = if may_grow { limits().retrieval_line_bytes } else { limits().line_bytes };
    let line_feed = input.iter().position(|byte| *byte == b'\n');
    if line_feed.map_or(input.len() >= limit, |at| at >= limit) {
        return Some((refused(RequestError::LineTooLong, limit, false, true), limit, usize::MAX));
    }
    let line_feed = line_feed?;
    let mut line = &input[..line_feed];
    if line.ends_with(b"\r") {
        line = &line[..line.len() - 1];
    }
    if line.starts_with(b" ") {
        return Some((Event::Skip(spaces), spaces, 0));
    }
    let line_bytes = line_feed + 1;
    let tokens: Vec<&[u8]> = line.split(|byte| *byte == b' ').filter(|token| !token.is_empty()).collect();
    let noreply = tokens.last() == Some(&b"noreply".as_slice());
    let word = tokens.first().map_or("", |word| std::str::from_utf8(word).unwrap_or(""));
    match naive_verdict(word, &tokens, noreply) {
        Verdict::Refuse(error, silent) => Some((refused(error, line_bytes, silent, false), line_bytes, 0)),
        Verdict::RefuseData(error, silent, Some(length)) => {
            Some((refused(error, line_bytes, silent, false), line_bytes, length + 2))
        }
        Verdict::RefuseData(error, silent, None) => {
            Some((refused(error, line_bytes, silent, true), line_bytes, usize::MAX))
        }
        Verdict::Pass { operation, keys, exptime, with_noreply, length } => {
            let frame_bytes = line_bytes + length.map_or(0, |length| length + 2);
            let frame = input.get(..frame_bytes)?;
            let mut forwarded = frame.to_vec();
            if with_noreply {
                let text = b" noreply";
                let at = line.windows(text.len()).rposition(|window| window == text).unwrap();
                forwarded.drain(at..at + text.len());
            }
            if length.is_some() && !frame.ends_with(b"\r\n") {
                return Some((refused(RequestError::BadDataChunk, frame_bytes, with_noreply, false), frame_bytes, 0));
            }
            let value = length.map_or(Vec::new(), |length| frame[line_bytes..line_bytes + length].to_vec());
            let keys = keys.iter().map(|key| key.to_vec()).collect();
            let exptime = exptime.to_vec();
            let event =
                Event::Request { operation, frame_bytes, forwarded, keys, exptime, value, noreply: with_noreply };
            let behind = if operation == Operation::Quit { usize::MAX } else { 0 };
            Some((event, frame_bytes, behind))
        }
    }
}

fn refused(error: RequestError, consumed: usize, noreply: bool, close: bool) -> Event {
    Event::Refused { error, consumed, noreply, close }
}

enum Verdict<'t> {
    Refuse(RequestError, bool),
    RefuseData(RequestError, bool, Option<usize>),
    Pass { operation: Operation, keys: Vec<&'t [u8]>, exptime: &'t [u8], with_noreply: bool, length: Option<usize> },
}

/// A decimal within bounds, written with no more digits than the largest needs.
fn number(token: &[u8], least: i128, most: i128) -> Option<i128> {
    let text = std::str::from_utf8(token).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if text.starts_with('-') && least == 0 || digits.len() > most.to_string().len() || digits.is_empty() {
        return None;
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<i128>().ok().filter(|number| (least..=most).contains(number))
}

fn is_i32(token: &[u8]) -> bool {
    number(token, i128::from(i32::MIN), i128::from(i32::MAX)).is_some()
}

fn is_u32(token: &[u8]) -> bool {
    number(token, 0, i128::from(u32::MAX)).is_some()
}

fn is_u64(token: &[u8]) -> bool {
    number(token, 0, i128::from(u64::MAX)).is_some()
}

fn is_dirty(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| *byte < 32 || *byte == 127)
}

fn naive_verdict<'t>(word: &str, tokens: &[&'t [u8]], noreply: bool) -> Verdict<'t> {
    use RequestError as Error;
    let token = |at: usize| tokens.get(at).copied().unwrap_or(b"");
    let count = tokens.len();
    let pass = |operation, keys: &[&'t [u8]], exptime, with_noreply, length| Verdict::Pass {
        operation,
        keys: keys.to_vec(),
        exptime,
        with_noreply,
        length,
    };
    let length = number(token(4), 0, i128::from(u32::MAX)).filter(|length| *length <= 2_147_483_645);
    let length = length.map(|length| length as usize);
    let operation = Operation::from_name(word.as_bytes());
    let bad_key = |key: &[u8]| match () {
        () if key.len() > 250 => Some(Error::KeyTooLong),
        () if is_dirty(key) => Some(Error::BadKey),
        () => None,
    };
    let any_dirty = tokens.iter().any(|token| is_dirty(token));
    match word {
        "get" | "gets" | "gat" | "gats" => {
            let touches = word.starts_with("ga");
            let keys = if touches { tokens.get(2..) } else { tokens.get(1..) }.unwrap_or(&[]);
            if keys.is_empty() {
                return Verdict::Refuse(Error::TokenCount, false);
            }
            if touches && !is_i32(token(1)) {
                return Verdict::Refuse(Error::BadExptime, false);
            }
            for key in keys {
                if key.len() > 250 {
                    return Verdict::Refuse(Error::KeyTooLong, false);
                }
                if !touches && *key == b"noreply" {
                    return Verdict::Refuse(Error::BadKey, false);
                }
            }
            if keys.iter().any(|key| is_dirty(key)) {
                return Verdict::Refuse(Error::BadKey, false);
            }
            pass(operation.unwrap(), keys, if touches { token(1) } else { b"" }, false, None)
        }
        "set" | "add" | "replace" | "append" | "prepend" | "cas" => {
            let required = if word == "cas" { 6 } else { 5 };
            if count != required && count != required + 1 {
                return Verdict::RefuseData(Error::TokenCount, false, length);
            }
            if let Some(error) = bad_key(token(1)) {
                return Verdict::RefuseData(error, noreply, length);
            }
            let numbers = is_u32(token(2)) && is_i32(token(3)) && (word != "cas" || is_u64(token(5)));
            if length.is_none() || !numbers || any_dirty {
                return Verdict::RefuseData(Error::BadLine, noreply, length);
            }
            if length.unwrap() > limits().value_bytes {
                return Verdict::RefuseData(Error::ValueTooLarge, noreply, length);
            }
            pass(operation.unwrap(), &tokens[1..2], token(3), noreply, length)
        }
        "delete" => {
            if !(2..=4).contains(&count) {
                return Verdict::Refuse(Error::TokenCount, false);
            }
            let silent = noreply && count > 2;
            let rest: Vec<&[u8]> = tokens[2..].to_vec();
            let allowed: [&[&[u8]]; 4] = [&[], &[b"0"], &[b"noreply"], &[b"0", b"noreply"]];
            if !allowed.contains(&rest.as_slice()) {
                return Verdict::Refuse(Error::DeleteUsage, silent);
            }
            if let Some(error) = bad_key(token(1)) {
                return Verdict::Refuse(error, silent);
            }
            if token(1) == b"noreply" && token(2) != b"0" {
                return Verdict::Refuse(Error::BadKey, silent);
            }
            pass(Operation::Delete, &tokens[1..2], b"", silent, None)
        }
        "incr" | "decr" | "touch" => {
            if count != 3 && count != 4 {
                return Verdict::Refuse(Error::TokenCount, false);
            }
            if let Some(error) = bad_key(token(1)) {
                return Verdict::Refuse(error, noreply);
            }
            let touches = word == "touch";
            if touches && !is_i32(token(2)) {
                return Verdict::Refuse(Error::BadExptime, noreply);
            }
            if !touches && !is_u64(token(2)) {
                return Verdict::Refuse(Error::BadDelta, noreply);
            }
            if any_dirty {
                return Verdict::Refuse(Error::BadLine, noreply);
            }
            pass(operation.unwrap(), &tokens[1..2], if touches { token(2) } else { b"" }, noreply, None)
        }
        "version" | "quit" if any_dirty => Verdict::Refuse(Error::BadLine, false),
        "version" | "quit" => pass(operation.unwrap(), &[], b"", false, None),
        "stats" if any_dirty => Verdict::Refuse(Error::BadLine, false),
        "stats" => match token(1) {
            b"" | b"items" | b"slabs" | b"sizes" | b"settings" | b"reset" | b"extstore" => {
                pass(Operation::Stats, &[], b"", false, None)
            }
            b"servers" | b"suspect_servers" | b"count" | b"all" | b"detailed" | b"version" | b"ods" | b"cmd-error" => {
                pass(Operation::Stats, &[], b"", false, None)
            }
            b"cachedump" | b"conns" | b"detail" | b"sizes_enable" | b"sizes_disable" | b"proxy" | b"proxyfuncs"
            | b"proxybe" => Verdict::Refuse(Error::NotSupported, false),
            _ => Verdict::Refuse(Error::UnknownCommand, false),
        },
        "verbosity" if count != 2 && count != 3 => Verdict::Refuse(Error::TokenCount, false),
        "verbosity" if !is_u32(token(1)) || any_dirty => Verdict::Refuse(Error::BadLine, noreply),
        "verbosity" => pass(Operation::Verbosity, &[], b"", noreply, None),
        "flush_all" => {
            let arguments = count - 1 - usize::from(noreply);
            if count > 3 {
                return Verdict::Refuse(Error::TokenCount, false);
            }
            if arguments > 0 && !is_i32(token(1)) {
                return Verdict::Refuse(Error::BadExptime, noreply);
            }
            if any_dirty {
                return Verdict::Refuse(Error::BadLine, noreply);
            }
            pass(Operation::FlushAll, &[], if arguments > 0 { token(1) } else { b"" }, noreply, None)
        }
        "ms" => {
            let length = number(token(2), 0, i128::from(u32::MAX)).filter(|length| *length <= 2_147_483_645);
            Verdict::RefuseData(Error::UnknownCommand, false, length.map(|length| length as usize))
        }
        "mg" | "md" | "ma" | "mn" | "me" => Verdict::Refuse(Error::UnknownCommand, false),
        "cache_memlimit" | "slabs" | "lru" | "lru_crawler" | "watch" | "shutdown" | "extstore" | "refresh_certs" => {
            Verdict::Refuse(Error::NotSupported, noreply)
        }
        _ if tokens.last().is_some_and(|last| last.starts_with(b"HTTP/")) => {
            Verdict::RefuseData(Error::HttpRequest, true, None)
        }
        _ => Verdict::Refuse(Error::UnknownCommand, false),
    }
}

#[test]
fn requests() {
    let mut random = Random::from_environment("requests");
    let mut passed = 0;
    let mut refusals = [0; RequestError::COUNT];
    for _ in 0..20_000 {
        let input = stream::mutated(&mut random);
        let expected = naive_requests(&input);
        assert_eq!(request_events(limits(), [input.as_slice()]), expected, "whole: {}", shown(&input));
        let pieces = random.pieces(&input);
        assert_eq!(request_events(limits(), pieces), expected, "in pieces: {}", shown(&input));
        for event in &expected {
            match event {
                Event::Request { .. } => passed += 1,
                Event::Refused { error, .. } => refusals[*error as usize] += 1,
                Event::Skip(_) => {}
            }
        }
    }
    // The streams are worth something only if they reach everything.
    assert!(passed > 10_000, "{passed}");
    for error in RequestError::ALL {
        assert!(refusals[error as usize] > 0, "{} was never reached", error.name());
    }
}

/// The replies in `input` to requests that call for `expects`.
fn naive_replies(expects: &[Expect], mut input: &[u8]) -> Vec<ReplyEvent> {
    let mut events = Vec::new();
    for expect in expects {
        loop {
            let Some(event) = naive_reply(*expect, input) else {
                return events;
            };
            events.push(event.clone());
            match event {
                ReplyEvent::Misaligned => return events,
                ReplyEvent::Line { consumed, .. } => {
                    input = &input[consumed..];
                    break;
                }
                ReplyEvent::Value { consumed, last, .. } => {
                    input = &input[consumed..];
                    if last {
                        break;
                    }
                }
            }
        }
    }
    events
}

fn naive_reply(expect: Expect, input: &[u8]) -> Option<ReplyEvent> {
    let Some(line_feed) = input.iter().position(|byte| *byte == b'\n').filter(|at| *at < 2048) else {
        return (input.len() >= 2048).then_some(ReplyEvent::Misaligned);
    };
    let consumed = line_feed + 1;
    let Some(line) = input[..consumed].strip_suffix(b"\r\n") else {
        return Some(ReplyEvent::Misaligned);
    };
    let text = String::from_utf8_lossy(line).into_owned();
    let is_line = |kind| Some(ReplyEvent::Line { kind, consumed });
    for (word, kind) in [
        ("ERROR", ReplyKind::Error),
        ("CLIENT_ERROR", ReplyKind::ClientError),
        ("SERVER_ERROR", ReplyKind::ServerError),
    ] {
        if text == word || text.starts_with(&format!("{word} ")) {
            return is_line(kind);
        }
    }
    match expect {
        Expect::Values { with_cas } => {
            if text == "END" {
                return is_line(ReplyKind::End);
            }
            naive_value(with_cas, line, input)
        }
        Expect::Meta | Expect::Peek => unreachable!("no operation of the text protocol calls for it"),
        Expect::Stats => match text.as_str() {
            "END" | "RESET" => is_line(ReplyKind::Stats),
            "OK" => is_line(ReplyKind::Ok),
            _ if text.starts_with("STAT ") => naive_stats(input),
            _ => Some(ReplyEvent::Misaligned),
        },
        Expect::Line(operation) => {
            use Operation as Op;
            let stores = matches!(operation, Op::Set | Op::Add | Op::Replace | Op::Append | Op::Prepend | Op::Cas);
            let counts = matches!(operation, Op::Incr | Op::Decr);
            let finds = counts || matches!(operation, Op::Cas | Op::Delete | Op::Touch);
            match text.as_str() {
                "STORED" if stores => is_line(ReplyKind::Stored),
                "NOT_STORED" if stores => is_line(ReplyKind::NotStored),
                "EXISTS" if operation == Op::Cas => is_line(ReplyKind::Exists),
                "NOT_FOUND" if finds => is_line(ReplyKind::NotFound),
                "DELETED" if operation == Op::Delete => is_line(ReplyKind::Deleted),
                "TOUCHED" if operation == Op::Touch => is_line(ReplyKind::Touched),
                "OK" if matches!(operation, Op::Verbosity | Op::FlushAll) => is_line(ReplyKind::Ok),
                text if operation == Op::Version && text.starts_with("VERSION ") => is_line(ReplyKind::Version),
                text if counts && is_u64(text.trim_end_matches(' ').as_bytes()) => is_line(ReplyKind::Number),
                _ => Some(ReplyEvent::Misaligned),
            }
        }
    }
}

fn naive_value(with_cas: bool, line: &[u8], input: &[u8]) -> Option<ReplyEvent> {
    let tokens: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let fits = tokens.len() == if with_cas { 5 } else { 4 }
        && tokens[0] == b"VALUE"
        && (1..=250).contains(&tokens[1].len())
        && !is_dirty(tokens[1])
        && is_u64(tokens[2])
        && number(tokens[3], 0, i128::from(u32::MAX)).is_some_and(|length| length <= limits().value_bytes as i128)
        && (!with_cas || is_u64(tokens[4]));
    if !fits {
        return Some(ReplyEvent::Misaligned);
    }
    let length: usize = String::from_utf8_lossy(tokens[3]).parse().unwrap();
    let data_start = line.len() + 2;
    let item_end = data_start + length + 2;
    let item = input.get(..item_end)?.to_vec();
    let behind = &input[item_end..];
    if !item.ends_with(b"\r\n") {
        return Some(ReplyEvent::Misaligned);
    }
    let (last, consumed) = if behind.starts_with(b"END\r\n") {
        (true, item_end + 5)
    } else if b"END\r\n".starts_with(behind) {
        return None;
    } else if [b"V".as_slice(), b"S", b"C", b"ER"].iter().any(|start| behind.starts_with(start)) {
        (false, item_end)
    } else {
        return Some(ReplyEvent::Misaligned);
    };
    Some(ReplyEvent::Value {
        key: tokens[1].to_vec(),
        flags: tokens[2].to_vec(),
        data: input[data_start..data_start + length].to_vec(),
        cas: if with_cas { tokens[4].to_vec() } else { Vec::new() },
        item,
        last,
        consumed,
    })
}

fn naive_stats(input: &[u8]) -> Option<ReplyEvent> {
    let mut at = 0;
    loop {
        let Some(line_feed) = input[at..].iter().position(|byte| *byte == b'\n').filter(|line| *line < 2048) else {
            return (input.len() - at >= 2048).then_some(ReplyEvent::Misaligned);
        };
        let line = &input[at..at + line_feed + 1];
        at += line.len();
        if line == b"END\r\n" {
            return Some(ReplyEvent::Line { kind: ReplyKind::Stats, consumed: at });
        }
        if !line.starts_with(b"STAT ") || !line.ends_with(b"\r\n") {
            return Some(ReplyEvent::Misaligned);
        }
    }
}

/// A reply that fits `operation`, most of the time.
fn reply(random: &mut Random, operation: Operation) -> Vec<u8> {
    const LINES: &[&str] = &[
        "STORED",
        "NOT_STORED",
        "EXISTS",
        "NOT_FOUND",
        "DELETED",
        "TOUCHED",
        "OK",
        "17",
        "5   ",
        "VERSION 1.6.18",
        "END",
        "ERROR",
        "SERVER_ERROR out of memory",
        "CLIENT_ERROR bad data chunk",
        "RESET",
        "STAT a b",
        "VALUE k 0 0",
    ];
    if random.chance(15) {
        return format!("{}\r\n", random.pick(LINES)).into_bytes();
    }
    let mut out = Vec::new();
    match Expect::from_operation(operation) {
        Expect::Values { with_cas } => {
            for _ in 0..random.below(4) {
                let length = if random.chance(20) { 998 + random.below(5) } else { random.below(20) };
                let data: Vec<u8> = (0..length).map(|_| b"ab\r\nEND V"[random.below(9)]).collect();
                let cas = if with_cas != random.chance(60) { " 12" } else { "" };
                out.extend(format!("VALUE k{} {} {length}{cas}\r\n", random.below(9), random.below(99)).as_bytes());
                out.extend(data);
                out.extend(b"\r\n");
            }
            out.extend(if random.chance(20) { b"SERVER_ERROR x\r\n".as_slice() } else { b"END\r\n" });
        }
        Expect::Meta | Expect::Peek => unreachable!("no operation of the text protocol calls for it"),
        Expect::Stats => {
            for at in 0..random.below(4) {
                out.extend(format!("STAT name{at} {}\r\n", random.below(1000)).as_bytes());
            }
            out.extend(b"END\r\n");
        }
        Expect::Line(operation) => {
            let line = match operation {
                Operation::Delete => "DELETED",
                Operation::Touch => "TOUCHED",
                Operation::Incr => "123",
                Operation::Decr => "9  ",
                Operation::Version => "VERSION x y",
                Operation::Verbosity | Operation::FlushAll => "OK",
                Operation::Cas => random.pick(&["STORED", "EXISTS", "NOT_FOUND"]),
                _ => random.pick(&["STORED", "NOT_STORED"]),
            };
            out.extend(format!("{line}\r\n").as_bytes());
        }
    }
    out
}

#[test]
fn replies() {
    let mut random = Random::from_environment("replies");
    let mut seen = [0; ReplyKind::COUNT];
    let mut misaligned = 0;
    for _ in 0..20_000 {
        let operations: Vec<Operation> =
            (0..1 + random.below(5)).map(|_| Operation::ALL[random.below(Operation::COUNT - 1)]).collect();
        let expects: Vec<Expect> = operations.iter().map(|operation| Expect::from_operation(*operation)).collect();
        let mut input: Vec<u8> = operations.iter().flat_map(|operation| reply(&mut random, *operation)).collect();
        stream::mutate(&mut random, &mut input);
        let expected = naive_replies(&expects, &input);
        assert_eq!(reply_events(limits(), &expects, [input.as_slice()]), expected, "whole: {}", shown(&input));
        let pieces = random.pieces(&input);
        assert_eq!(reply_events(limits(), &expects, pieces), expected, "in pieces: {}", shown(&input));
        for event in &expected {
            match event {
                ReplyEvent::Value { .. } => seen[ReplyKind::Value as usize] += 1,
                ReplyEvent::Line { kind, .. } => seen[*kind as usize] += 1,
                ReplyEvent::Misaligned => misaligned += 1,
            }
        }
    }
    assert!(misaligned > 100, "{misaligned}");
    for kind in ReplyKind::ALL {
        assert!(seen[kind as usize] > 0, "{} was never reached", kind.name());
    }
}
