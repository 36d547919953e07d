//! Lines: round trips, mcrouter's own, and what must be refused.

use keyway::async_log::{Command, Entry, Found, Lines, MAX_KEY_BYTES, Unreadable};

fn entry(key: &[u8]) -> Entry {
    Entry {
        at_ms: 1_289_416_829_836,
        destination: "10.0.0.1:11302".to_string(),
        name: "web".to_string(),
        command: Command::delete(key).expect("a key"),
    }
}

fn line(entry: &Entry) -> Vec<u8> {
    let mut line = Vec::new();
    entry.write(&mut line);
    line
}

#[test]
fn a_line_is_mcrouters_second_format() {
    let wanted =
        "[\"AS2.0\",1289416829.836,\"C\",{\"f\":\"keyway\",\"h\":\"[10.0.0.1]:11302\",\"p\":\"web\",\"k\":\"foo\"}]\n";
    assert_eq!(String::from_utf8(line(&entry(b"foo"))).expect("text"), wanted);
}

#[test]
fn every_key_comes_back() {
    let all: Vec<u8> = (0x21..=0xff).filter(|byte| *byte != 0x7f).collect();
    let mut keys: Vec<Vec<u8>> = all.iter().map(|byte| vec![*byte]).collect();
    keys.push(all);
    keys.push(vec![b'"'; MAX_KEY_BYTES]);
    keys.push(vec![b'\\'; MAX_KEY_BYTES]);
    keys.push(vec![0xff; MAX_KEY_BYTES]);
    keys.push(b"\\u0041\\n\"]}]".to_vec());
    keys.push("schl\u{fc}ssel\u{2028}\u{1f511}".as_bytes().to_vec());
    for key in keys {
        let entry = entry(&key);
        let line = line(&entry);
        assert_eq!(line.iter().filter(|byte| **byte < b' ').count(), 1, "only the line end is a control character");
        assert_eq!(Entry::read(&line), Ok(entry), "{key:?}");
    }
}

#[test]
fn other_commands_and_addresses_come_back() {
    for destination in ["[::1]:11211", "cache-1.example:11211", "unix:/run/a \"b\".sock", "10.0.0.1:1"] {
        for frame in [&b"delete k\r\n"[..], b"touch k\xff 0\r\n", b"touch k -1\r\n"] {
            let command = Command::parse(frame).expect("it can be replayed");
            let entry = Entry { destination: destination.to_string(), command, ..entry(b"x") };
            let read = Entry::read(&line(&entry)).expect("it is read");
            assert_eq!((&read, read.command.frame()), (&entry, frame));
        }
    }
}

#[test]
fn what_mcrouter_writes_is_read() {
    let lines: [(&str, &str, &[u8]); 6] = [
        (r#"["AS1.0",1289416829.836,"C",["10.0.0.1",11302,"delete foo\r\n"]]"#, "10.0.0.1:11302", b"foo"),
        (r#"["AS1.0", 1289416829.836, "C", ["::1", 11302, "delete foo 0\r\n"]]"#, "[::1]:11302", b"foo"),
        (
            r#"["AS2.0", 1289416829.836, "C", {"f":"flavor","h":"[10.0.0.1]:11302","p":"pool","k":"foo\r\n"}]"#,
            "10.0.0.1:11302",
            b"foo",
        ),
        (
            r#"["AS2.0",1.5,"C",{"a":{"x":1},"k":"a/b:\"c\"\\","r":["r"],"s":null,"h":"[::1]:5"}]"#,
            "[::1]:5",
            b"a/b:\"c\"\\",
        ),
        (r#"["AS2.0",1,"C",{"h":"cache1:11211","k":"\u00e9"}]"#, "cache1:11211", "\u{e9}".as_bytes()),
        (r#"["AS2.0",1,"C",{"h":"[cache1]:11211","k":"k","c":"delete k\r\n"}]"#, "cache1:11211", b"k"),
    ];
    for (line, destination, key) in lines {
        let read = Entry::read(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!((read.destination.as_str(), read.command.key()), (destination, key), "{line}");
        assert_eq!(read.command.frame(), [b"delete ", key, b"\r\n"].concat(), "{line}");
    }
}

#[test]
fn commands_are_taken_as_clients_write_them() {
    for (given, wanted) in [
        ("delete k\n", "delete k\r\n"),
        ("delete  k \r\n", "delete k\r\n"),
        ("delete k 0\r\n", "delete k\r\n"),
        ("touch  k  7\n", "touch k 7\r\n"),
    ] {
        let command = Command::parse(given.as_bytes()).expect("it can be replayed");
        assert_eq!((command.frame(), command.key()), (wanted.as_bytes(), &b"k"[..]), "{given:?}");
    }
}

#[test]
fn what_cannot_be_used_is_refused() {
    let first =
        |host: &str, port: &str, command: &str| format!("[\"AS1.0\",1,\"C\",[\"{host}\",{port},\"{command}\"]]");
    let second = |fields: &str| format!("[\"AS2.0\",1,\"C\",{{{fields}}}]");
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    let cases = [
        (String::new(), Unreadable::NoLogLine),
        ("[\"AS3.0\",1,\"C\",{}]".to_string(), Unreadable::NoLogLine),
        ("some words".to_string(), Unreadable::NoLogLine),
        ("[\"AS2.0\"]".to_string(), Unreadable::BadLine),
        (second("\"h\":\"[a]:1\""), Unreadable::BadLine),
        (second("\"h\":\"[a]:1\",\"k\":\"k\"") + "]", Unreadable::BadLine),
        (first("a", "99999", "delete k\\r\\n"), Unreadable::BadLine),
        (first("a", "0", "delete k\\r\\n"), Unreadable::BadDestination),
        (first("", "1", "delete k\\r\\n"), Unreadable::BadDestination),
        (second("\"h\":\"embedded:a\",\"k\":\"k\""), Unreadable::BadDestination),
        (second("\"h\":\"[a]\",\"k\":\"k\""), Unreadable::BadDestination),
        (first("a", "1", "delete k"), Unreadable::BadCommand),
        (first("a", "1", "delete k noreply\\r\\n"), Unreadable::BadCommand),
        (first("a", "1", "delete k\\r\\nflush_all\\r\\n"), Unreadable::BadCommand),
        (first("a", "1", "flush_all\\r\\n"), Unreadable::BadCommand),
        (first("a", "1", "incr k 1\\r\\n"), Unreadable::BadCommand),
        (first("a", "1", "set k 0 0 1\\r\\nx\\r\\n"), Unreadable::BadCommand),
        (first("a", "1", &format!("delete {long}\\r\\n")), Unreadable::BadCommand),
        (second("\"h\":\"[a]:1\",\"k\":\"\""), Unreadable::BadCommand),
        (second("\"h\":\"[a]:1\",\"k\":\"a b\""), Unreadable::BadCommand),
        (second("\"h\":\"[a]:1\",\"k\":\"a\\u007f\""), Unreadable::BadCommand),
        (second("\"h\":\"[a]:1\",\"k\":\"a\\r\\nflush_all\""), Unreadable::BadCommand),
        (second("\"h\":\"[a]:1\",\"k\":\"k\",\"c\":\"quit\\r\\n\""), Unreadable::BadCommand),
    ];
    for (line, wanted) in cases {
        assert_eq!(Entry::read(line.as_bytes()), Err(wanted), "{line}");
    }
}

#[test]
fn a_file_cut_anywhere_gives_whole_entries_only() {
    let entries: Vec<Entry> = [&b"a"[..], b"\"\\\xff", b"c"].map(entry).to_vec();
    let bytes: Vec<u8> = entries.iter().flat_map(line).collect();
    let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    for cut in 0..=bytes.len() {
        let mut lines = Lines::new(&bytes[..cut], 0);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        for (entry, end) in entries.iter().zip(&ends).take(whole) {
            assert_eq!(lines.next_line().expect("read"), Some(Found::Entry(entry.clone())));
            assert_eq!(lines.offset(), *end as u64);
        }
        let is_torn = cut > 0 && !ends.contains(&cut);
        assert_eq!(lines.next_line().expect("read"), is_torn.then_some(Found::Torn), "cut at {cut}");
        assert_eq!(lines.offset(), cut as u64);
    }
}

#[test]
fn lines_without_end_are_passed_over() {
    let good = line(&entry(b"good"));
    let bytes = [&vec![b'x'; 100_000][..], b"\n\n", &good, &vec![0; 100_000]].concat();
    let mut lines = Lines::new(&bytes[..], 0);
    assert_eq!(lines.next_line().expect("read"), Some(Found::Unreadable(Unreadable::BadLine)));
    assert_eq!(lines.offset(), 100_001);
    assert_eq!(lines.next_line().expect("read"), Some(Found::Entry(entry(b"good"))));
    assert_eq!(lines.next_line().expect("read"), Some(Found::Torn));
    assert_eq!(lines.next_line().expect("read"), None);
}
