//! How a route that asks several children makes one answer of their outcomes: settings, and what counts as what.
//!
//! Owns the words of the configuration. Never sees a plan: `routes::fan_out` and `routes::walk` go by these.

use crate::outcome::OutcomeClass;
use crate::{Outcome, outcome::Severity};
use keyway_protocol::Operation;

/// Implements a closed set of words.
macro_rules! words {
    ($kind:ident: $($variant:ident = $name:literal,)*) => {
        impl $kind {
            /// All of them, for the message about a wrong word.
            pub const ALL: &[$kind] = &[$($kind::$variant),*];

            /// The word in configs.
            pub const fn name(self) -> &'static str {
                match self { $($kind::$variant => $name,)* }
            }

            /// The value of that word.
            pub fn from_name(name: &str) -> Option<$kind> {
                $kind::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

/// How many children must have a definite answer, a success or a miss, for the request to have succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// All.
    All,
    /// More than half.
    Quorum,
    /// One.
    Any,
}

words! { Success: All = "all", Quorum = "quorum", Any = "any", }

impl Success {
    /// How many of `children` that is; at least one.
    pub(crate) const fn needed(self, children: usize) -> usize {
        match self {
            Success::All if children == 0 => 1,
            Success::All => children,
            Success::Quorum => children / 2 + 1,
            Success::Any => 1,
        }
    }
}

/// Which of several replies is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choose {
    /// The first definite answer, be it a miss.
    FirstOk,
    /// The first success; a miss only when all are in.
    FirstHit,
    /// When all are in, the least severe.
    Best,
    /// When all are in, the most severe.
    Worst,
    /// When all are in, that of the first child which has a definite answer.
    Primary,
}

words! {
    Choose: FirstOk = "first_ok", FirstHit = "first_hit", Best = "best", Worst = "worst", Primary = "primary",
}

/// How outcomes of children asked at once become one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyPolicy {
    /// How many must have a definite answer.
    pub success: Success,
    /// Children that are down don't count.
    pub ignore_down: bool,
    /// Which definite answer it is.
    pub answer: Choose,
}

impl ReplyPolicy {
    /// AllSyncRoute's.
    pub const ALL_SYNC: ReplyPolicy = ReplyPolicy { success: Success::All, ignore_down: false, answer: Choose::Worst };
    /// AllFastestRoute's.
    pub const ALL_FASTEST: ReplyPolicy =
        ReplyPolicy { success: Success::Any, ignore_down: true, answer: Choose::FirstHit };
}

/// What a get of several keys says when some of them failed. Read where the keys' answers are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultigetErrors {
    /// The hits, then the error in place of END.
    #[default]
    Partial,
    /// The error alone, as mcrouter.
    Error,
    /// The hits and END: a key that failed is a miss.
    Miss,
}

words! { MultigetErrors: Partial = "partial", Error = "error", Miss = "miss", }

/// A setting that each operation may have its own of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByOperation<T>(Box<[T; Operation::COUNT]>);

impl<T: Copy> ByOperation<T> {
    /// The same for all.
    pub fn same(value: T) -> ByOperation<T> {
        ByOperation(Box::new([value; Operation::COUNT]))
    }

    /// The value of each.
    pub fn from_fn(value: impl Fn(Operation) -> T) -> ByOperation<T> {
        ByOperation(Box::new(Operation::ALL.map(value)))
    }

    /// Another for one of them.
    pub fn set(&mut self, operation: Operation, value: T) {
        self.0[operation as usize] = value;
    }

    /// That operation's.
    pub fn of(&self, operation: Operation) -> T {
        self.0[operation as usize]
    }
}

/// True for a definite answer: a success, or a server that knew better.
pub(crate) fn is_ok(outcome: Outcome) -> bool {
    outcome.class() <= OutcomeClass::Miss
}

/// How an outcome compares with others where `choose` says what is wanted: less is wanted more. Ties go by the child.
pub(crate) fn rank(choose: Choose, outcome: Outcome, child: u16) -> (u8, u16) {
    let severity = outcome.severity() as u8;
    let rank = match choose {
        // No child is better than another, but a reply says more than a failure, and a miss more than an error.
        Choose::FirstOk | Choose::FirstHit => outcome.class() as u8,
        Choose::Best => severity,
        Choose::Worst => Severity::Client as u8 - severity,
        Choose::Primary if is_ok(outcome) => 0,
        Choose::Primary => 1 + outcome.class() as u8,
    };
    (rank, child)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;
    use keyway_protocol::memcached::text::ReplyKind;

    #[test]
    fn how_many_are_needed() {
        for (children, expected) in [(0, [1, 1, 1]), (1, [1, 1, 1]), (2, [2, 2, 1]), (3, [3, 2, 1]), (5, [5, 3, 1])] {
            assert_eq!([Success::All, Success::Quorum, Success::Any].map(|success| success.needed(children)), expected);
        }
    }

    #[test]
    fn ranks_by_choice() {
        let [stored, exists, miss, refused] =
            [ReplyKind::Stored, ReplyKind::Exists, ReplyKind::NotFound, ReplyKind::ServerError].map(Outcome::Reply);
        let timeout = Outcome::Failure(Failure::Timeout);
        let order = |choose| {
            let mut all = [timeout, refused, miss, exists, stored];
            all.sort_by_key(|outcome| rank(choose, *outcome, 0));
            all
        };
        // sort_by_key keeps equals as they were.
        assert_eq!(order(Choose::FirstHit), [stored, miss, exists, refused, timeout]);
        assert_eq!(order(Choose::Best), [stored, exists, miss, timeout, refused]);
        assert_eq!(order(Choose::Worst), [refused, timeout, miss, exists, stored]);
        assert_eq!(order(Choose::Primary), [miss, exists, stored, refused, timeout]);
        assert!(rank(Choose::Worst, refused, 0) < rank(Choose::Worst, refused, 1), "ties go by the child");
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for choose in Choose::ALL {
            assert_eq!(Choose::from_name(choose.name()), Some(*choose));
        }
        assert_eq!(MultigetErrors::from_name("partial"), Some(MultigetErrors::default()));
        assert_eq!(Success::from_name("most"), None);
    }
}
