//! Random request streams: mostly well-formed, with every token now and then replaced by one that is just wrong.

use super::Random;

const WORDS: &[&str] = &[
    "get",
    "gets",
    "gat",
    "gats",
    "set",
    "add",
    "replace",
    "append",
    "prepend",
    "cas",
    "delete",
    "incr",
    "decr",
    "touch",
    "stats",
    "version",
    "verbosity",
    "flush_all",
];
const ODD_WORDS: &[&str] = &[
    "",
    "g",
    "GET",
    "Set",
    "gett",
    "ms",
    "mg",
    "mn",
    "ma",
    "md",
    "me",
    "mx",
    "bget",
    "slabs",
    "lru",
    "extstore",
    "cache_memlimit",
    "refresh_certs",
    "quit",
    "shutdown",
    "watch",
    "get\tk",
    "foo",
    "\u{0}",
];
const ODD_TOKENS: &[&str] = &[
    "noreply",
    "norepl",
    "0",
    "00",
    "1",
    "-1",
    "+1",
    "x",
    "1x",
    "4294967295",
    "4294967296",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "00000000001",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999",
    "HTTP/1.1",
    "a\u{0}b",
    "a\tb",
    "a\rb",
    "\u{7f}",
    "é",
    "items",
    "reset",
    "servers",
    "conns",
    "cachedump",
    "sizes_enable",
    "-",
    "2147483645",
    "2147483646",
    "4294967297",
    "1000",
    "1001",
];

/// A key, now and then an odd one.
fn key(random: &mut Random) -> String {
    match random.below(40) {
        0 => "k".repeat(250),
        1 => "k".repeat(251),
        2 => "noreply".into(),
        3 => "schlüssel".into(),
        4 => "a\u{1}b".into(),
        _ => format!("k{}", random.below(20)),
    }
}

/// One request with its data, and how it would be cut up were it right.
pub(crate) fn request(random: &mut Random) -> Vec<u8> {
    let word = if random.chance(25) { random.pick(ODD_WORDS) } else { random.pick(WORDS) };
    let data_bytes = match random.below(12) {
        0 => 999 + random.below(4),
        1 => 0,
        _ => random.below(30),
    };
    let data: Vec<u8> = (0..data_bytes).map(|_| *b"ab\r\n 019E".get(random.below(9)).unwrap_or(&b'a')).collect();
    let mut tokens: Vec<String> = vec![word.into()];
    let mut with_data = false;
    let number = |random: &mut Random| random.below(3000).to_string();
    match word {
        "get" | "gets" => tokens.extend((0..1 + random.below(4)).map(|_| key(random))),
        "gat" | "gats" => {
            tokens.push(number(random));
            tokens.extend((0..1 + random.below(4)).map(|_| key(random)));
        }
        "set" | "add" | "replace" | "append" | "prepend" | "cas" => {
            with_data = true;
            tokens.extend([key(random), number(random), number(random), data.len().to_string()]);
            if word == "cas" {
                tokens.push(number(random));
            }
        }
        "ms" => {
            with_data = true;
            tokens.extend([key(random), data.len().to_string()]);
        }
        "delete" => tokens.push(key(random)),
        "incr" | "decr" | "touch" => tokens.extend([key(random), number(random)]),
        "verbosity" | "flush_all" => tokens.push("0".into()),
        _ => {}
    }
    if random.chance(6) {
        tokens.push("noreply".into());
    }
    spoil(random, &mut tokens);
    assemble(random, &tokens, with_data, &data)
}

/// Now and then replaces, drops or adds a token.
fn spoil(random: &mut Random, tokens: &mut Vec<String>) {
    if random.chance(5) {
        let at = random.below(tokens.len());
        tokens[at] = random.pick(ODD_TOKENS).into();
    }
    if random.chance(12) {
        tokens.remove(random.below(tokens.len()));
    }
    if random.chance(12) {
        tokens.insert(random.below(tokens.len() + 1), random.pick(ODD_TOKENS).into());
    }
}

/// The tokens as a line, with odd spaces and ends now and then, and the data block.
fn assemble(random: &mut Random, tokens: &[String], with_data: bool, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let spaces = if random.chance(10) { 1 + random.below(5) } else { 0 };
    bytes.resize(spaces, b' ');
    for (at, token) in tokens.iter().enumerate() {
        if at > 0 {
            let wide = if random.chance(15) { 3 } else { 1 };
            bytes.resize(bytes.len() + wide, b' ');
        }
        bytes.extend_from_slice(token.as_bytes());
    }
    if random.chance(15) {
        bytes.push(b' ');
    }
    if random.chance(60) {
        let at = random.below(bytes.len() + 1);
        let long = 1500 + random.below(8000);
        let filler: Vec<u8> = (0..long).map(|at| if at % 50 == 49 { b' ' } else { b'y' }).collect();
        bytes.splice(at..at, filler);
    }
    bytes.extend_from_slice(if random.chance(10) { b"\n" } else { b"\r\n" });
    if with_data {
        bytes.extend_from_slice(data);
        match random.below(20) {
            0 => bytes.extend_from_slice(b"x\r\n"),
            1 => bytes.push(b'\n'),
            _ => bytes.extend_from_slice(b"\r\n"),
        }
    }
    bytes
}

/// A few requests, and now and then bytes flipped, dropped or doubled in the whole.
pub(crate) fn mutated(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(6) {
        bytes.extend(request(random));
    }
    mutate(random, &mut bytes);
    bytes
}

/// Every second time, spoils some bytes.
pub(crate) fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    if random.chance(2) {
        return;
    }
    for _ in 0..1 + random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] = *random.pick(&[&b' ', &b'\r', &b'\n', &b'0', &b'\0', &b'-']),
            1 => bytes[at] = random.next() as u8,
            2 => {
                bytes.remove(at);
            }
            3 => bytes.insert(at, bytes[at]),
            _ => bytes.truncate(at),
        }
    }
}
