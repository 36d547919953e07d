//! What is kept, what isn't, and what a restart finds.

use super::{Folder, Opened, Server, delete, keys, settings};
use keyway::async_log::{AsyncLog, Settings, SyncPolicy};
use keyway_io_engine::mailbox::mailbox;

const NOBODY: &str = "10.0.0.1:11211";

fn open_error(settings: &Settings) -> String {
    let (release, _released) = mailbox().expect("eventfd");
    match AsyncLog::open(settings, Vec::new(), release) {
        Ok(_) => panic!("it was to be refused"),
        Err(error) => error,
    }
}

#[test]
fn what_is_kept_is_on_disk_in_order() {
    for sync in [SyncPolicy::Always, SyncPolicy::Interval, SyncPolicy::Never] {
        let folder = Folder::new();
        let mut opened = Opened::new(&Settings { sync, ..settings(&folder) });
        opened.deletes(NOBODY, keys("k", 300));
        opened.deletes("unix:/run/mc.sock", keys("u", 1));
        let facts = opened.until(NOBODY, "the entries", |facts| facts.entries == 300);
        let logs = folder.logs();
        assert_eq!(logs.len(), 2, "one file per destination");
        let (path, text) = &logs[0];
        assert!(path.ends_with("10.0.0.1%3A11211/0000000001.log"), "{}", path.display());
        assert_eq!((facts.spooled, facts.bytes), (300, text.len() as u64));
        assert!(facts.oldest_ms.is_some());
        let found: Vec<&str> = text.lines().map(|line| line.split("\"k\":\"").nth(1).expect("a key")).collect();
        assert_eq!(found, keys("k", 300).map(|key| key + "\"}]").collect::<Vec<_>>());
        assert!(logs[1].1.contains("\"h\":\"unix:/run/mc.sock\",\"p\":\"web\",\"k\":\"u0\""));
        opened.log.close();
    }
}

#[test]
fn what_there_is_no_room_for_is_refused() {
    let folder = Folder::new();
    let one = settings(&folder);
    let mut opened = Opened::new(&Settings { server_bytes: 1000, max_bytes: 1500, ..one });
    let frames: Vec<Vec<u8>> = keys("k", 100).map(|key| delete(&key)).collect();
    let kept = opened.spool(NOBODY, &frames);
    let count = kept.iter().filter(|kept| **kept).count();
    assert!((5..20).contains(&count), "{count}");
    assert!(kept.is_sorted_by(|before, after| before >= after), "what came first is kept");
    // The whole bound is lower than two servers' own.
    let other = opened.spool("10.0.0.2:11211", &frames).iter().filter(|kept| **kept).count();
    assert!((1..count).contains(&other), "{other}");
    let facts = opened.until(NOBODY, "the refusals", |facts| facts.refused_full > 0);
    assert_eq!((facts.spooled, facts.refused_full), (count as u64, 100 - count as u64));
    assert!(facts.bytes <= 1000);
    let bytes: usize = folder.logs().iter().map(|(_, text)| text.len()).sum();
    assert!(bytes <= 1500, "{bytes}");
    opened.log.close();
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let folder = Folder::new();
    let mut opened = Opened::new(&settings(&folder));
    let frames = [&b"delete k noreply\r\n"[..], b"delete k\r\n", b"incr k 1\r\n", b"delete a b c\r\n"];
    assert_eq!(opened.spool(NOBODY, &frames.map(<[u8]>::to_vec)), [false, true, false, false]);
    opened.until(NOBODY, "the refusals", |facts| facts.refused_command == 3);
    opened.log.close();
}

#[test]
fn a_disk_that_fails_refuses_and_keeps_what_it_had() {
    let folder = Folder::new();
    let mut opened = Opened::new(&settings(&folder));
    // A file stands where the destination's folder would be.
    let in_the_way = folder.write("10.0.0.1%3A11211", b"");
    assert_eq!(opened.spool(NOBODY, &[delete("a"), delete("b")]), [false, false]);
    opened.until(NOBODY, "the refusals", |facts| facts.refused_disk == 2);
    std::fs::remove_file(in_the_way).expect("removed");
    assert_eq!(opened.spool(NOBODY, &[delete("c")]), [true]);
    let facts = opened.until(NOBODY, "an entry", |facts| facts.entries == 1);
    assert_eq!(facts.spooled, 1);
    opened.log.close();
}

#[test]
fn files_are_followed_by_new_ones_and_replayed_in_order() {
    let folder = Folder::new();
    let mut opened = Opened::new(&Settings { file_bytes: 500, ..settings(&folder) });
    let server = Server::start();
    for at in 0..40 {
        opened.deletes(&server.name(), std::iter::once(format!("k{at}")));
    }
    assert!(folder.logs().len() >= 4);
    opened.up(&server);
    assert_eq!(server.hears(40), keys("k", 40).collect::<Vec<_>>());
    let facts = opened.until(&server.name(), "all files gone", |facts| facts.bytes == 0);
    assert_eq!((facts.entries, facts.replayed, facts.oldest_ms), (0, 40, None));
    assert!(folder.logs().is_empty());
    opened.log.close();
}

#[test]
fn a_restart_finds_what_waits() {
    let folder = Folder::new();
    let server = Server::start();
    let mut opened = Opened::new(&settings(&folder));
    opened.deletes(&server.name(), keys("a", 5));
    opened.log.close();

    let mut opened = Opened::new(&settings(&folder));
    assert!(opened.log.has_backlog(&server.name()));
    let facts = opened.facts(&server.name());
    assert_eq!((facts.entries, facts.spooled, facts.unreadable), (5, 0, 0));
    assert!(facts.oldest_ms.is_some());
    opened.deletes(&server.name(), keys("b", 5));
    assert_eq!(folder.logs().len(), 2, "nothing is appended to a file that was found");
    opened.up(&server);
    assert_eq!(server.hears(10), keys("a", 5).chain(keys("b", 5)).collect::<Vec<_>>());
    opened.until(&server.name(), "the end", |facts| facts.bytes == 0);
    opened.log.close();
    assert!(folder.logs().is_empty());
}

#[test]
fn torn_and_damaged_lines_are_passed_over_and_counted() {
    let folder = Folder::new();
    let server = Server::start();
    let mut opened = Opened::new(&settings(&folder));
    opened.deletes(&server.name(), keys("k", 4));
    opened.log.close();
    let (path, text) = folder.logs().remove(0);
    let mut lines: Vec<String> = text.lines().map(|line| line.to_string() + "\n").collect();
    lines.insert(1, "[\"AS2.0\",17,\"C\",{\"h\":\"[\u{0}\u{0}\n".to_string());
    lines.insert(3, "not of this log\n".to_string());
    lines.push("[\"AS2.0\",17,\"C\",{\"h\":\"[10.0.".to_string());
    std::fs::write(&path, lines.concat()).expect("written");

    let opened = Opened::new(&settings(&folder));
    assert_eq!(opened.facts(&server.name()).unreadable, 1, "the torn one is seen at once");
    opened.up(&server);
    assert_eq!(server.hears(4), keys("k", 4).collect::<Vec<_>>());
    let facts = opened.until(&server.name(), "the end", |facts| facts.bytes == 0);
    assert_eq!((facts.replayed, facts.unreadable, facts.entries), (4, 3, 0));
    opened.log.close();
}

#[test]
fn a_file_with_nothing_whole_is_removed_and_others_things_are_left_alone() {
    let folder = Folder::new();
    folder.write("10.0.0.1%3A11211/0000000001.log", b"[\"AS2.0\",17,");
    let notes = folder.write("10.0.0.1%3A11211/notes.txt", b"mine");
    let other = folder.write("lost+found/0000000001.log", b"x\n");
    let opened = Opened::new(&settings(&folder));
    let facts = opened.facts(NOBODY);
    assert_eq!((facts.entries, facts.bytes, facts.unreadable), (0, 0, 1));
    opened.log.close();
    assert!(notes.exists() && other.exists() && folder.logs() == [(other, "x\n".to_string())]);
}

#[test]
fn one_process_has_a_directory() {
    let folder = Folder::new();
    let opened = Opened::new(&settings(&folder));
    let error = open_error(&settings(&folder));
    let wanted = format!("is in use by process {} (keyway.lock is held)", std::process::id());
    assert!(error.ends_with(&wanted), "{error}");
    opened.log.close();
    Opened::new(&settings(&folder)).log.close();
}

#[test]
fn a_directory_that_cannot_be_is_said() {
    let folder = Folder::new();
    let file = folder.write("file", b"");
    let error = open_error(&Settings { directory: file.join("below"), ..settings(&folder) });
    assert!(error.starts_with(&format!("async log {}: ", file.join("below").display())), "{error}");
}
