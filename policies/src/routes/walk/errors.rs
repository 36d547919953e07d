//! Which outcomes a walk passes over: `failover_errors`.
//!
//! Owns the names: those of Keyway's own failures and error lines, and mcrouter's results, of which each stands for what
//! it comes to here.

use crate::{Failure, Outcome};
use keyway_protocol::memcached::text::ReplyKind;

/// A set of outcomes that are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorSet(u32);

/// What each name stands for. mcrouter's `try_again` and `shutdown` are replies only Facebook's own servers give.
const NAMES: [(&str, ErrorSet); 17] = [
    ("timeout", ErrorSet::of_failure(Failure::Timeout)),
    ("deadline_exceeded", ErrorSet::of_failure(Failure::DeadlineExceeded)),
    ("unavailable", ErrorSet::of_failure(Failure::Unavailable)),
    ("connection_lost", ErrorSet::of_failure(Failure::ConnectionLost)),
    ("queue_full", ErrorSet::of_failure(Failure::QueueFull)),
    ("misaligned", ErrorSet::of_failure(Failure::Misaligned)),
    ("server_error", ErrorSet::of_reply(ReplyKind::ServerError)),
    ("client_error", ErrorSet::of_reply(ReplyKind::ClientError)),
    ("error", ErrorSet::of_reply(ReplyKind::Error)),
    ("tko", ErrorSet::of_failure(Failure::Unavailable)),
    ("connect_error", ErrorSet::of_failure(Failure::Unavailable)),
    ("connect_timeout", ErrorSet::of_failure(Failure::Unavailable)),
    ("remote_error", ErrorSet::REMOTE),
    ("local_error", ErrorSet::of_failure(Failure::NotReplayable)),
    ("busy", ErrorSet::of_failure(Failure::QueueFull)),
    ("try_again", ErrorSet::NONE),
    ("shutdown", ErrorSet::NONE),
];

impl ErrorSet {
    /// Nothing.
    pub const NONE: ErrorSet = ErrorSet(0);
    /// mcrouter's remote_error: the server refused, or its connection broke.
    const REMOTE: ErrorSet = ErrorSet::of_reply(ReplyKind::ServerError)
        .and(ErrorSet::of_reply(ReplyKind::Error))
        .and(ErrorSet::of_failure(Failure::ConnectionLost))
        .and(ErrorSet::of_failure(Failure::Misaligned));
    /// mcrouter's default: every failure, and every error line but the one that blames the client.
    pub const FAILOVER: ErrorSet = ErrorSet::REMOTE
        .and(ErrorSet::of_failure(Failure::Timeout))
        .and(ErrorSet::of_failure(Failure::DeadlineExceeded))
        .and(ErrorSet::of_failure(Failure::Unavailable))
        .and(ErrorSet::of_failure(Failure::QueueFull))
        .and(ErrorSet::of_failure(Failure::NotReplayable));
    /// The same, and CLIENT_ERROR.
    pub const ALL: ErrorSet = ErrorSet::FAILOVER.and(ErrorSet::of_reply(ReplyKind::ClientError));

    const fn of_failure(failure: Failure) -> ErrorSet {
        ErrorSet(1 << Outcome::Failure(failure).code())
    }

    const fn of_reply(kind: ReplyKind) -> ErrorSet {
        ErrorSet(1 << Outcome::Reply(kind).code())
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: ErrorSet) -> ErrorSet {
        ErrorSet(self.0 | other.0)
    }

    /// What a name stands for, in lower case.
    pub fn from_name(name: &str) -> Option<ErrorSet> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, set)| *set)
    }

    /// Every name, for the message about a wrong one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// True when the outcome is in it.
    pub const fn contains(self, outcome: Outcome) -> bool {
        self.0 & 1 << outcome.code() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_mcrouters() {
        let names = ["busy", "shutdown", "tko", "try_again", "local_error", "connect_error", "connect_timeout"];
        let more = ["timeout", "remote_error", "deadline_exceeded"];
        let set = names.iter().chain(&more).fold(ErrorSet::NONE, |set, name| {
            set.and(ErrorSet::from_name(name).unwrap_or_else(|| panic!("{name} is known")))
        });
        assert_eq!(set, ErrorSet::FAILOVER);
        assert!(!set.contains(Outcome::Reply(ReplyKind::ClientError)));
        assert!(!ErrorSet::ALL.contains(Outcome::Reply(ReplyKind::End)));
    }

    #[test]
    fn each_failure_but_the_last_has_its_name() {
        for failure in Failure::ALL {
            let set = ErrorSet::from_name(failure.name());
            assert_eq!(set, (failure != Failure::NotReplayable).then(|| ErrorSet::of_failure(failure)), "{failure:?}");
        }
        assert_eq!(ErrorSet::names().count(), NAMES.len());
        assert_eq!(ErrorSet::from_name("TKO"), None);
    }
}
