//! Sending what waits: failures on the way, restarts between, what servers say, quarantine.

use super::server::Mood;
use super::{Folder, LIMIT, Opened, Server, keys, settings};
use keyway::async_log::Settings;
use keyway_io_engine::Address;

#[test]
fn a_failure_on_the_way_loses_nothing() {
    let folder = Folder::new();
    let server = Server::start();
    let mut opened = Opened::new(&settings(&folder));
    opened.deletes(&server.name(), keys("k", 100));
    server.is(Mood { says: "NOT_FOUND\r\n", left: 10 });
    opened.up(&server);
    let facts = opened.until(&server.name(), "a failure", |facts| facts.failures == 1);
    // Replies that were on their way when it closed may be lost: then the entry is sent again.
    assert!(facts.replayed <= 10 && facts.entries + facts.replayed == 100, "{facts:?}");
    server.is(Mood { says: "DELETED\r\n", left: usize::MAX });
    let facts = opened.until(&server.name(), "the end", |facts| facts.bytes == 0);
    assert_eq!(facts.replayed, 100);
    // What was sent twice came in one piece, from where the failure was.
    let mut heard = Vec::new();
    for key in server.hears(100) {
        if !heard.contains(&key) {
            heard.push(key);
        }
    }
    assert_eq!(heard, keys("k", heard.len()).collect::<Vec<_>>(), "in order");
    opened.log.close();
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let folder = Folder::new();
    let server = Server::start();
    // One at a time, so that it is known how far it got.
    let slowly = Settings { replay_per_second: 10, ..settings(&folder) };
    let mut opened = Opened::new(&slowly);
    opened.deletes(&server.name(), keys("k", 10));
    server.is(Mood { says: "DELETED\r\n", left: 3 });
    opened.up(&server);
    let facts = opened.until(&server.name(), "a failure", |facts| facts.failures == 1);
    assert_eq!((facts.replayed, facts.entries), (3, 7));
    opened.log.close();
    assert_eq!(server.hears(3), ["k0", "k1", "k2"]);

    let opened = Opened::new(&settings(&folder));
    let facts = opened.facts(&server.name());
    assert_eq!(facts.entries, 7);
    server.is(Mood { says: "DELETED\r\n", left: usize::MAX });
    opened.up(&server);
    assert_eq!(server.hears(7), keys("k", 10).skip(3).collect::<Vec<_>>());
    opened.until(&server.name(), "the end", |facts| facts.bytes == 0);
    opened.log.close();
    assert_eq!(server.heard_more(), 0, "nothing is sent twice");
}

#[test]
fn a_position_that_does_not_fit_repeats_and_loses_nothing() {
    for position in ["", "1 5", "7 0 0\n", "1 99999999 1\n", "1 0 99\n", "1 -1 0\n", "nonsense\n"] {
        let folder = Folder::new();
        let server = Server::start();
        let mut opened = Opened::new(&settings(&folder));
        opened.deletes(&server.name(), keys("k", 3));
        opened.log.close();
        let (path, _) = folder.logs().remove(0);
        std::fs::write(path.with_file_name("position"), position).expect("written");
        let opened = Opened::new(&settings(&folder));
        opened.up(&server);
        assert_eq!(server.hears(3), ["k0", "k1", "k2"], "{position:?}");
        opened.until(&server.name(), "the end", |facts| facts.bytes == 0);
        opened.log.close();
    }
}

#[test]
fn what_a_server_refuses_is_dropped_and_what_it_fails_is_not() {
    let folder = Folder::new();
    let server = Server::start();
    let mut opened = Opened::new(&settings(&folder));
    opened.deletes(&server.name(), keys("k", 2));
    server.is(Mood { says: "CLIENT_ERROR bad key\r\n", left: usize::MAX });
    opened.up(&server);
    let facts = opened.until(&server.name(), "the refusals", |facts| facts.bytes == 0);
    assert_eq!((facts.rejected, facts.replayed, facts.failures), (2, 0, 0));

    for says in ["SERVER_ERROR out of memory\r\n", "ERROR\r\n", "DELETED\r\nDELETED\r\nDELETED\r\n"] {
        let server = Server::start();
        opened.deletes(&server.name(), std::iter::once("k".to_string()));
        server.is(Mood { says, left: usize::MAX });
        opened.up(&server);
        opened.until(&server.name(), says, |facts| facts.failures > 0);
        server.is(Mood { says: "TOUCHED\r\n", left: usize::MAX });
        opened.until(&server.name(), "the end", |facts| facts.bytes == 0);
    }
    opened.log.close();
}

#[test]
fn a_server_that_is_down_is_sent_nothing() {
    let folder = Folder::new();
    let (down, up) = (Server::start(), Server::start());
    let mut opened = Opened::new(&settings(&folder));
    opened.up(&down);
    opened.down(&down);
    opened.deletes(&down.name(), keys("k", 3));
    opened.deletes(&up.name(), keys("k", 3));
    opened.up(&up);
    opened.until(&up.name(), "the other's end", |facts| facts.bytes == 0);
    assert_eq!((down.heard_more(), opened.facts(&down.name()).entries), (0, 3));
    // Entries that come while a server is up, for requests that failed now and then, follow by themselves.
    opened.deletes(&up.name(), keys("later", 2));
    assert_eq!(up.hears(5)[3..], ["later0", "later1"]);
    opened.log.close();
}

#[test]
fn without_replay_nothing_is_sent() {
    let folder = Folder::new();
    let (server, control) = (Server::start(), Server::start());
    let mut opened = Opened::new(&Settings { replay: false, ..settings(&folder) });
    opened.deletes(&server.name(), keys("k", 3));
    opened.up(&server);
    // Settings can change: then what waits is sent.
    opened.deletes(&control.name(), keys("k", 1));
    assert_eq!(server.heard_more(), 0);
    opened.log.adopt(&settings(&folder));
    assert_eq!(server.hears(3), ["k0", "k1", "k2"]);
    opened.log.close();
}

#[test]
fn a_command_that_is_no_delete_is_sent_whole() {
    let folder = Folder::new();
    let server = Server::start();
    let mut opened = Opened::new(&settings(&folder));
    assert_eq!(opened.spool(&server.name(), &[b"touch k\xff\" 30\r\n".to_vec()]), [true]);
    opened.up(&server);
    assert_eq!(server.next_line(), b"touch k\xff\" 30\r\n");
    opened.log.close();
}

#[test]
fn a_held_server_is_released_when_it_has_everything() {
    let folder = Folder::new();
    let server = Server::start();
    let mut opened = Opened::new(&settings(&folder));
    let hold = |opened: &Opened| opened.log.server(&server.name(), Some(Address::Tcp(server.address)), true);
    // Nothing waits: at once.
    hold(&opened);
    assert_eq!(opened.released.wait(Some(LIMIT)), Some(server.name()));
    opened.down(&server);
    opened.deletes(&server.name(), keys("k", 500));
    hold(&opened);
    assert_eq!(opened.released.wait(Some(LIMIT)), Some(server.name()));
    assert_eq!(server.heard_more(), 500, "all of it was sent before");
    assert_eq!(opened.released.take(), None);
    opened.log.close();
}
