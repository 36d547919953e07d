//! What can speak against a server, and how much of it takes it out: the words that shards, the control plane, metrics and
//! logs share. Knows no time and no socket.

use std::fmt;

/// How a server failed, at a request or at a check. The name in snake_case is the metric label `cause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// No reply in time.
    Timeout,
    /// It closed or reset a connection with requests on it.
    ConnectionLost,
    /// It answered something that is no answer to what was asked.
    Misaligned,
    /// Nobody listens at its address.
    Refused,
    /// No connection in time.
    ConnectTimeout,
    /// No way to its address: no route, no such socket, no permission.
    Unreachable,
}

impl Trouble {
    /// How many there are; `trouble as usize` is below it.
    pub const COUNT: usize = 6;
    /// All of them, in the order of the discriminant.
    pub const ALL: [Trouble; Trouble::COUNT] = [
        Trouble::Timeout,
        Trouble::ConnectionLost,
        Trouble::Misaligned,
        Trouble::Refused,
        Trouble::ConnectTimeout,
        Trouble::Unreachable,
    ];

    /// What a failed connect with this errno means.
    pub fn from_connect_errno(errno: i32) -> Trouble {
        match errno {
            libc::ECONNREFUSED => Trouble::Refused,
            libc::ETIMEDOUT => Trouble::ConnectTimeout,
            _ => Trouble::Unreachable,
        }
    }

    /// The metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Trouble::Timeout => "timeout",
            Trouble::ConnectionLost => "connection_lost",
            Trouble::Misaligned => "misaligned",
            Trouble::Refused => "refused",
            Trouble::ConnectTimeout => "connect_timeout",
            Trouble::Unreachable => "unreachable",
        }
    }

    /// For people, to go behind "the last one:".
    pub const fn words(self) -> &'static str {
        match self {
            Trouble::Timeout => "no reply in time",
            Trouble::ConnectionLost => "the connection was lost",
            Trouble::Misaligned => "the reply was no answer to the request",
            Trouble::Refused => "connecting was refused",
            Trouble::ConnectTimeout => "no connection in time",
            Trouble::Unreachable => "no way to its address",
        }
    }

    /// True when there was not even a connection.
    pub const fn is_of_connecting(self) -> bool {
        match self {
            Trouble::Refused | Trouble::ConnectTimeout | Trouble::Unreachable => true,
            Trouble::Timeout | Trouble::ConnectionLost | Trouble::Misaligned => false,
        }
    }
}

/// How many failures take a server out. Any number that is reached does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownRules {
    /// The soft rule: failures of any kind in a row; any reply starts the count anew.
    pub failures: u32,
    /// The hard rule: failed connects in a row; a connection that is made starts the count anew.
    pub connect_failures: u32,
    /// Of the last hundred or so tries, the share that failed, in percent; 0 for no such rule.
    pub failure_percent: u32,
}

impl DownRules {
    /// The stricter of two, number by number: of pools that share a server.
    pub fn strictest(self, other: DownRules) -> DownRules {
        let percent = match (self.failure_percent, other.failure_percent) {
            (0, percent) | (percent, 0) => percent,
            (one, two) => one.min(two),
        };
        DownRules {
            failures: self.failures.min(other.failures),
            connect_failures: self.connect_failures.min(other.connect_failures),
            failure_percent: percent,
        }
    }
}

/// Which rule a shard took a server out by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// So many failures in a row.
    InARow(u32),
    /// So many failed connects in a row.
    Connects(u32),
    /// So many failures among so many tries.
    Share {
        /// Tries that failed.
        failures: u32,
        /// All of them.
        tries: u32,
    },
}

/// Why a shard took a server out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// By which rule.
    pub rule: Rule,
    /// The failure that was one too many.
    pub last: Trouble,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.last.words();
        match self.rule {
            Rule::InARow(count) => write!(f, "{count} failures in a row at its requests, the last one: {last}"),
            Rule::Connects(count) => write!(f, "{count} connects in a row failed, the last one: {last}"),
            Rule::Share { failures, tries } => {
                write!(f, "{failures} of the last {tries} requests failed, the last one: {last}")
            }
        }
    }
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCheck {
    /// The kind of failure.
    pub trouble: Trouble,
    /// What was wrong, for people.
    pub words: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_index_all_and_names_differ() {
        for (at, trouble) in Trouble::ALL.into_iter().enumerate() {
            assert_eq!(trouble as usize, at);
            assert!(Trouble::ALL[..at].iter().all(|other| other.name() != trouble.name()));
        }
    }

    #[test]
    fn of_two_rules_the_stricter_counts() {
        let rules =
            |failures, connect_failures, failure_percent| DownRules { failures, connect_failures, failure_percent };
        assert_eq!(rules(3, 2, 0).strictest(rules(2, 5, 0)), rules(2, 2, 0));
        assert_eq!(rules(3, 2, 0).strictest(rules(3, 2, 50)), rules(3, 2, 50));
        assert_eq!(rules(3, 2, 20).strictest(rules(3, 2, 50)), rules(3, 2, 20));
    }
}
