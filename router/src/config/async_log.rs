//! The section `async_log`: its keys, and what they come to. Without the section there is no async log.

use super::error::Faults;
use super::keys::{self, Default, Key, Kind, Section};
use super::reader::Map;
use super::{Path, narrow};
use crate::async_log::{Settings, SyncPolicy};
use std::path::PathBuf;
use std::time::Duration;

const fn word(
    name: &'static str,
    allowed: &'static [&'static str],
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, kind: Kind::Word { allowed, unsupported: &[], default: Default::Word(default) }, meaning }
}

/// The async log.
pub(super) static ASYNC_LOG: Section = Section {
    name: "async_log",
    keys: &[
        keys::shape(
            "directory",
            "text",
            "a directory",
            Default::Required,
            "Where the files are; made if need be. One process at a time. Another one takes a restart.",
        ),
        keys::number(
            "max_bytes",
            1 << 30,
            4096,
            1 << 44,
            "Most bytes of all files together; beyond it nothing is kept.",
        ),
        keys::number("server_bytes", 256 << 20, 4096, 1 << 44, "Most bytes of the files of one server."),
        keys::number("file_bytes", 16 << 20, 4096, 1 << 34, "A file of this size is followed by a new one."),
        keys::number("rotate_ms", 900_000, 1000, 86_400_000, "A file of this age is followed by a new one."),
        word(
            "sync",
            &["always", "interval", "never"],
            "always",
            "When an entry counts as kept: once it is on the disk, or once the kernel has it, to be synced every `sync_interval_ms` or when the kernel likes.",
        ),
        keys::number("sync_interval_ms", 1000, 10, 600_000, "Time between two syncs, with sync interval."),
        word(
            "replay",
            &["true", "false"],
            "true",
            "Send entries once their server is up; otherwise they wait for `keyway replay`.",
        ),
        keys::number("replay_per_second", 5000, 1, 1_000_000, "Most entries a second sent to one server."),
        keys::number("replay_timeout_ms", 1000, 1, 600_000, "Longest wait for a server that is being sent entries."),
        word(
            "quarantine",
            &["true", "false"],
            "false",
            "Keep a server that is back out of use until its entries were sent. Needs replay.",
        ),
        keys::number(
            "quarantine_ms",
            60_000,
            100,
            86_400_000,
            "Longest quarantine: after that the server is used all the same, which is said in the log.",
        ),
    ],
    unsupported: &[],
};

/// Reads the section.
pub(super) fn read(top: &Map<'_, '_>, faults: &mut Faults) -> Option<Settings> {
    let node = top.find("async_log")?;
    let path = Path::Key(top.path, "async_log");
    let map = Map::read(node, &ASYNC_LOG, &path, faults);
    map.required("directory", faults);
    let (directory, _) = map.given_text("directory", faults).unwrap_or(("", node));
    let replay = map.word("replay", faults) == "true";
    let quarantine = map.word("quarantine", faults) == "true";
    if let (Some(node), true, false) = (map.find("quarantine"), quarantine, replay) {
        map.refuse("quarantine", node, "needs replay: nothing would end it".to_owned(), faults);
    }
    let mut millis = |name| Duration::from_millis(map.number(name, faults));
    let (rotate, sync_interval) = (millis("rotate_ms"), millis("sync_interval_ms"));
    let (replay_timeout, longest) = (millis("replay_timeout_ms"), millis("quarantine_ms"));
    Some(Settings {
        directory: PathBuf::from(directory),
        max_bytes: map.number("max_bytes", faults),
        server_bytes: map.number("server_bytes", faults),
        file_bytes: map.number("file_bytes", faults),
        rotate,
        sync: match map.word("sync", faults) {
            "interval" => SyncPolicy::Interval,
            "never" => SyncPolicy::Never,
            _ => SyncPolicy::Always,
        },
        sync_interval,
        replay,
        replay_per_second: narrow(map.number("replay_per_second", faults)),
        replay_timeout,
        quarantine: quarantine.then_some(longest),
    })
}
