//! What happened to servers and pools, and why: one line in the log each, the last `KEPT` on the metrics port, all counted.
//!
//! Bounded: the oldest event makes room for the newest.

use crate::trouble::Trouble;
use std::collections::VecDeque;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// Events kept.
pub const KEPT: usize = 512;

/// What kind of thing happened. The name is the metric label `event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A server takes no requests from now on.
    Down,
    /// A server that is down passed a check.
    HalfOpen,
    /// A server takes requests from now on.
    Up,
    /// A server's name means another address.
    Moved,
    /// A pool fails open.
    PoolOpened,
    /// A pool no longer fails open.
    PoolClosed,
    /// A pool asks a server all the same.
    Exempt,
    /// A pool may not eject a server.
    Held,
    /// A server gets the first of its keys back.
    Returns,
    /// A server has all its keys back.
    Returned,
}

impl EventKind {
    /// How many there are; `kind as usize` is below it.
    pub const COUNT: usize = 10;
    /// All of them, in the order of the discriminant.
    pub const ALL: [EventKind; EventKind::COUNT] = [
        EventKind::Down,
        EventKind::HalfOpen,
        EventKind::Up,
        EventKind::Moved,
        EventKind::PoolOpened,
        EventKind::PoolClosed,
        EventKind::Exempt,
        EventKind::Held,
        EventKind::Returns,
        EventKind::Returned,
    ];

    /// The metric label.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Down => "down",
            EventKind::HalfOpen => "half_open",
            EventKind::Up => "up",
            EventKind::Moved => "moved",
            EventKind::PoolOpened => "pool_opened",
            EventKind::PoolClosed => "pool_closed",
            EventKind::Exempt => "exempt",
            EventKind::Held => "held",
            EventKind::Returns => "returns",
            EventKind::Returned => "returned",
        }
    }

    /// True when somebody may have to do something.
    const fn is_bad(self) -> bool {
        match self {
            EventKind::Down | EventKind::PoolOpened | EventKind::Exempt | EventKind::Held => true,
            EventKind::HalfOpen
            | EventKind::Up
            | EventKind::Moved
            | EventKind::PoolClosed
            | EventKind::Returns
            | EventKind::Returned => false,
        }
    }
}

/// Who found a server to be down. The name is the metric label `found_by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// A shard, at its requests.
    Requests,
    /// The control plane, by a check.
    Check,
}

impl FoundBy {
    /// How many there are; `found_by as usize` is below it.
    pub const COUNT: usize = 2;
    /// All of them, in the order of the discriminant.
    pub const ALL: [FoundBy; FoundBy::COUNT] = [FoundBy::Requests, FoundBy::Check];

    /// The metric label.
    pub const fn name(self) -> &'static str {
        match self {
            FoundBy::Requests => "requests",
            FoundBy::Check => "check",
        }
    }
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// By `EventKind`.
    pub events: [u64; EventKind::COUNT],
    /// Servers that went down, by `FoundBy` and `Trouble`.
    pub downs: [[u64; Trouble::COUNT]; FoundBy::COUNT],
}

/// The last events, and the counts of all.
#[derive(Debug, Default)]
pub struct Events {
    kept: VecDeque<Event>,
    counts: EventCounts,
}

#[derive(Debug)]
struct Event {
    /// Since the process started.
    at: Duration,
    kind: EventKind,
    words: String,
}

impl Events {
    /// None yet.
    pub fn new() -> Events {
        Events::default()
    }

    /// Something happened; `words` say what and why.
    pub fn add(&mut self, kind: EventKind, words: String, now: Duration) {
        if kind.is_bad() {
            log::warn!("{words}");
        } else {
            log::info!("{words}");
        }
        self.counts.events[kind as usize] += 1;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Event { at: now, kind, words });
    }

    /// A server went down for this.
    pub fn count_down(&mut self, found_by: FoundBy, trouble: Trouble) {
        self.counts.downs[found_by as usize][trouble as usize] += 1;
    }

    /// How often what happened.
    pub fn counts(&self) -> &EventCounts {
        &self.counts
    }

    /// The kept ones, the oldest first, a line each: the time, the kind, the words. It is `wall` now, `now` since the start.
    pub fn text(&self, now: Duration, wall: SystemTime) -> String {
        let mut text = String::new();
        for event in &self.kept {
            let at = wall.checked_sub(now.saturating_sub(event.at)).unwrap_or(SystemTime::UNIX_EPOCH);
            let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            // Writing to a String can't fail.
            let _ = writeln!(text, "{} {} {}", utc(since_epoch), event.kind.name(), event.words);
        }
        if text.is_empty() {
            text.push_str("nothing has happened yet\n");
        }
        text
    }
}

/// As RFC 3339 writes it, in milliseconds.
fn utc(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since_epoch.subsec_millis())
}

/// Year, month and day of a day since 1970-01-01, counted in years that begin in March, so that a leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_expect() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn the_oldest_make_room_and_all_are_counted() {
        let mut events = Events::new();
        let second = Duration::from_secs(1);
        assert_eq!(events.text(second, SystemTime::UNIX_EPOCH), "nothing has happened yet\n");
        for at in 0..KEPT as u64 + 3 {
            events.add(EventKind::Up, format!("number {at}"), Duration::from_millis(at));
        }
        let text = events.text(second, SystemTime::UNIX_EPOCH + Duration::from_secs(61));
        assert_eq!(text.lines().count(), KEPT);
        assert_eq!(text.lines().next(), Some("1970-01-01T00:01:00.003Z up number 3"));
        assert_eq!(events.counts().events[EventKind::Up as usize], KEPT as u64 + 3);
    }

    #[test]
    fn discriminants_index_all() {
        for (at, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
        }
        for (at, found_by) in FoundBy::ALL.into_iter().enumerate() {
            assert_eq!(found_by as usize, at);
        }
    }
}
