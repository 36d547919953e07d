//! `keyway replay`, on what mcrouter leaves and on ours.

use super::server::Mood;
use super::{Folder, Opened, Server, keys, settings};
use keyway::async_log::{ReplayOptions, replay};
use keyway::cli::{self, Invocation};
use std::path::Path;
use std::time::Duration;

fn options(path: &Path) -> ReplayOptions {
    ReplayOptions {
        path: path.to_path_buf(),
        to: None,
        dry_run: false,
        remove: false,
        per_second: 1_000_000,
        timeout: Duration::from_secs(5),
    }
}

/// A spool as mcrouter leaves it: directories by hour, files by quarter of an hour.
fn spool(folder: &Folder, a: &Server, b: &Server) {
    let first = |server: &Server, key: &str| {
        format!(
            "[\"AS1.0\",1.5,\"C\",[\"{}\",{},\"delete {key}\\r\\n\"]]\n",
            server.address.ip(),
            server.address.port()
        )
    };
    let second = |server: &Server, key: &str| {
        let (ip, port) = (server.address.ip(), server.address.port());
        format!("[\"AS2.0\",1.5,\"C\",{{\"f\":\"f\",\"h\":\"[{ip}]:{port}\",\"p\":\"pool\",\"k\":\"{key}\"}}]\n")
    };
    let hours = ["20260101T01-1767229200", "20260101T02-1767232800"];
    let file = |hour: &str, name: &str, text: String| folder.write(&format!("{hour}/{name}"), text.as_bytes());
    file(hours[1], "20260101T020000-1767232800-svc-0-t1-0x1", second(a, "a3") + &second(a, "a4"));
    file(hours[0], "20260101T010000-1767229200-svc-0-t1-0x1", first(a, "a0") + &first(b, "b0") + &first(a, "a1"));
    file(hours[0], "20260101T011500-1767230100-svc-0-t1-0x1", second(a, "a2") + &second(b, "b1"));
}

#[test]
fn mcrouters_spool_is_replayed_in_order() {
    let folder = Folder::new();
    let (a, b) = (Server::start(), Server::start());
    spool(&folder, &a, &b);

    let dry = replay(&ReplayOptions { dry_run: true, remove: true, ..options(folder.path()) }).expect("it runs");
    assert!(dry.is_complete());
    let mut servers = [(a.name(), 5), (b.name(), 2)];
    servers.sort();
    let rows: String = servers.iter().map(|(name, count)| format!("{name}: {count} to be replayed\n")).collect();
    assert_eq!(dry.to_string(), format!("3 files, 7 entries\n{rows}"));
    assert_eq!(a.heard_more() + b.heard_more(), 0);

    let replayed = replay(&options(folder.path())).expect("it runs");
    assert!(replayed.is_complete(), "{replayed}");
    assert_eq!(a.hears(5), keys("a", 5).collect::<Vec<_>>());
    assert_eq!(b.hears(2), keys("b", 2).collect::<Vec<_>>());

    let replayed =
        replay(&ReplayOptions { to: Some(b.name()), remove: true, ..options(folder.path()) }).expect("it runs");
    assert_eq!(replayed.to_string(), format!("3 files, 7 entries\n{}: 7 replayed\n3 files removed\n", b.name()));
    assert_eq!(b.hears(7), ["a0", "b0", "a1", "a2", "b1", "a3", "a4"]);
    assert!(!folder.path().join("20260101T01-1767229200").exists(), "an empty directory goes with its last file");
}

#[test]
fn what_fails_is_counted_and_kept() {
    let folder = Folder::new();
    let (a, b) = (Server::start(), Server::start());
    spool(&folder, &a, &b);
    folder.write("20260101T01-1767229200/z-notes", b"words\n[\"AS2.0\",1");
    a.is(Mood { says: "DELETED\r\n", left: 0 });
    let replayed = replay(&ReplayOptions { remove: true, ..options(folder.path()) }).expect("it runs");
    assert!(!replayed.is_complete());
    assert_eq!((replayed.files, replayed.removed, replayed.unreadable, replayed.torn), (4, 0, 1, 1));
    let (of_a, of_b) = (&replayed.destinations[&a.name()], &replayed.destinations[&b.name()]);
    assert_eq!((of_a.replayed, of_a.failed, of_b.replayed, of_b.failed), (0, 5, 2, 0));
    assert!(replayed.to_string().contains("5 failed: "), "{replayed}");

    a.is(Mood { says: "CLIENT_ERROR no\r\n", left: usize::MAX });
    let replayed = replay(&options(&folder.path().join("20260101T02-1767232800"))).expect("it runs");
    assert_eq!((replayed.destinations[&a.name()].rejected, replayed.is_complete()), (2, false));
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let folder = Folder::new();
    let (a, b) = (Server::start(), Server::start());
    spool(&folder, &a, &b);
    // Answers out of step with the questions: the connection is given up, what was answered counts.
    a.is(Mood { says: "DELETED\r\n", left: 2 });
    let replayed = replay(&options(folder.path())).expect("it runs");
    let counts = &replayed.destinations[&a.name()];
    assert_eq!((counts.replayed, counts.failed), (2, 3), "{replayed}");
}

#[test]
fn our_own_is_replayed_from_where_it_was_and_never_while_it_is_in_use() {
    let folder = Folder::new();
    let (server, other) = (Server::start(), Server::start());
    let mut opened = Opened::new(&keyway::async_log::Settings { replay_per_second: 10, ..settings(&folder) });
    opened.deletes(&server.name(), keys("k", 6));
    server.is(Mood { says: "DELETED\r\n", left: 2 });
    opened.up(&server);
    opened.until(&server.name(), "a failure", |facts| facts.failures == 1);

    let (file, _) = folder.logs().remove(0);
    for path in [folder.path(), file.parent().expect("a folder"), &file] {
        let error = replay(&options(path)).expect_err("it is in use");
        assert!(error.contains("is in use by process"), "{error}");
    }
    opened.log.close();

    let moved = ReplayOptions { to: Some(other.name()), remove: true, ..options(file.parent().expect("a folder")) };
    let replayed = replay(&moved).expect("it runs");
    assert!(replayed.is_complete() && replayed.removed == 1, "{replayed}");
    assert_eq!(other.hears(4), ["k2", "k3", "k4", "k5"]);
    assert!(!file.parent().expect("a folder").exists());
    let opened = Opened::new(&settings(&folder));
    assert!(!opened.log.has_backlog(&server.name()));
    opened.log.close();
}

#[test]
fn mistakes_are_said() {
    let folder = Folder::new();
    let error = replay(&options(&folder.path().join("nothing"))).expect_err("it isn't there");
    assert!(error.ends_with("No such file or directory (os error 2)"), "{error}");
    let error =
        replay(&ReplayOptions { to: Some("nonsense".to_string()), ..options(folder.path()) }).expect_err("no address");
    assert_eq!(error, "--to nonsense is no address of a server");
}

#[test]
fn the_command_line_asks_for_it() {
    let read = |arguments: &[&str]| cli::read(arguments.iter().map(Into::into));
    let asked = read(&["replay", "--dry-run", "--to=h:1", "--rate", "7", "spool"]);
    let wanted =
        ReplayOptions { to: Some("h:1".to_string()), dry_run: true, per_second: 7, ..options(Path::new("spool")) };
    assert_eq!(asked, Invocation::Replay(wanted));
    for wrong in [&["replay"][..], &["replay", "a", "b"], &["replay", "--rate=0", "a"], &["replay", "--rate=x", "a"]] {
        assert!(matches!(read(wrong), Invocation::Exit(exit) if exit.code == 2), "{wrong:?}");
    }
}
