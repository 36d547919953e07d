//! The section `reload`: whether a changed file is noticed by itself, and how long it must have been quiet before it is used.
//!
//! Where the last good configuration is kept is no key: it has to be known when this file can't be read.

use super::error::Faults;
use super::keys::{Default, Key, Kind, Section, number};
use super::reader::Map;
use std::time::Duration;

/// When a changed file is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadSettings {
    /// How a change is noticed.
    pub watch: WatchMode,
    /// How long a changed file must have been left alone before it is used.
    pub delay: Duration,
    /// Between two comparisons of the contents.
    pub poll: Duration,
}

/// How a change of the file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// The kernel tells, and the contents are compared now and then.
    Inotify,
    /// The contents are compared now and then.
    Poll,
    /// Not at all.
    Off,
}

/// The section's keys.
pub(super) static RELOAD: Section = Section {
    name: "reload",
    keys: &[
        Key {
            name: "watch",
            kind: Kind::Word {
                allowed: &["inotify", "poll", "off"],
                unsupported: &[],
                default: Default::Word("inotify"),
            },
            meaning: "How a changed file is noticed: the kernel tells, its contents are compared every `poll_ms` (done with inotify too), or not at all.",
        },
        number("delay_ms", 1000, 1, 600_000, "How long a changed file must have been left alone before it is used."),
        number("poll_ms", 60_000, 10, 86_400_000, "Time between two comparisons of the file's contents."),
    ],
    unsupported: &["last_good"],
};

/// Reads `reload`.
pub(super) fn read_reload(top: &Map<'_, '_>, faults: &mut Faults) -> ReloadSettings {
    super::section(top, "reload", &RELOAD, faults, |map, faults| ReloadSettings {
        watch: match map.word("watch", faults) {
            "poll" => WatchMode::Poll,
            "off" => WatchMode::Off,
            _ => WatchMode::Inotify,
        },
        delay: Duration::from_millis(map.number("delay_ms", faults)),
        poll: Duration::from_millis(map.number("poll_ms", faults)),
    })
}
