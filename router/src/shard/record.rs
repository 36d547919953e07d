//! A server's record on one shard: what it did of late, and whether that is enough to hold it for down.
//!
//! Decides only, by the numbers of `DownRules`. Counts, and never looks at a clock: an idle server's record stays as it is.

use crate::trouble::{DownRules, Rule, Suspicion, Trouble};

/// Tries that the share of failures is judged by, at least; at twice as many, all counts are halved.
const FEWEST_TRIES: u32 = 100;

/// What a server did of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    failures_in_row: u32,
    connects_failed_in_row: u32,
    /// Of the last `FEWEST_TRIES` to twice as many.
    tries: u32,
    failures: u32,
}

impl Record {
    /// It replied so many times.
    pub(crate) fn replied(&mut self, count: u32) {
        self.failures_in_row = 0;
        self.connects_failed_in_row = 0;
        self.tried(count, 0);
    }

    /// A connection was made. That it accepts says nothing about its replies.
    pub(crate) fn connected(&mut self) {
        self.connects_failed_in_row = 0;
    }

    /// Failures since it replied last, or was looked into.
    pub(crate) fn failures_in_row(&self) -> u32 {
        self.failures_in_row
    }

    /// It failed `count` requests (a failed connect is one) at once, which is one failure in a row: all that were under way
    /// on a connection are lost with it. Says by which rule that was one too many.
    pub(crate) fn failed(&mut self, trouble: Trouble, count: u32, rules: &DownRules) -> Option<Suspicion> {
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        if trouble.is_of_connecting() {
            self.connects_failed_in_row = self.connects_failed_in_row.saturating_add(1);
        }
        self.tried(count, count);
        let rule = if self.connects_failed_in_row >= rules.connect_failures {
            Rule::Connects(self.connects_failed_in_row)
        } else if self.failures_in_row >= rules.failures {
            Rule::InARow(self.failures_in_row)
        } else if self.fails_too_large_a_share(rules.failure_percent) {
            Rule::Share { failures: self.failures, tries: self.tries }
        } else {
            return None;
        };
        Some(Suspicion { rule, last: trouble })
    }

    fn fails_too_large_a_share(&self, percent: u32) -> bool {
        percent > 0
            && self.tries >= FEWEST_TRIES
            && u64::from(self.failures) * 100 >= u64::from(self.tries) * u64::from(percent)
    }

    fn tried(&mut self, tries: u32, failures: u32) {
        // More at once than are counted: their proportion is all that matters.
        self.tries += tries.min(FEWEST_TRIES);
        self.failures += failures.min(FEWEST_TRIES);
        while self.tries >= 2 * FEWEST_TRIES {
            self.tries /= 2;
            self.failures /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Trouble::{ConnectTimeout, ConnectionLost, Misaligned, Refused, Timeout};

    const RULES: DownRules = DownRules { failures: 3, connect_failures: 2, failure_percent: 50 };

    enum Step {
        Reply(u32),
        Connected,
        Fail(Trouble, u32),
    }
    use Step::{Connected, Fail, Reply};

    /// Plays the steps; only the last may bring a suspicion, and that must be this one.
    fn check(steps: &[Step], expected: Option<(Rule, Trouble)>) {
        let mut record = Record::default();
        let mut found = None;
        for (at, step) in steps.iter().enumerate() {
            assert_eq!(found, None, "before step {at}");
            match step {
                Reply(count) => record.replied(*count),
                Connected => record.connected(),
                Fail(trouble, count) => found = record.failed(*trouble, *count, &RULES),
            }
        }
        assert_eq!(found, expected.map(|(rule, last)| Suspicion { rule, last }));
    }

    #[test]
    fn failures_in_a_row_of_whatever_kind() {
        check(&[Fail(Timeout, 1), Fail(Timeout, 1), Fail(Timeout, 1)], Some((Rule::InARow(3), Timeout)));
        check(&[Fail(Timeout, 9), Fail(ConnectionLost, 9)], None);
        check(&[Fail(Timeout, 1), Fail(Refused, 1), Fail(Misaligned, 1)], Some((Rule::InARow(3), Misaligned)));
        check(&[Fail(Timeout, 1), Fail(Timeout, 1), Reply(1), Fail(Timeout, 1), Fail(Timeout, 1)], None);
    }

    #[test]
    fn accepting_connections_excuses_no_missing_reply() {
        let lost = || Fail(ConnectionLost, 1);
        check(&[lost(), Connected, lost(), Connected, lost()], Some((Rule::InARow(3), ConnectionLost)));
    }

    #[test]
    fn failed_connects_in_a_row() {
        check(&[Fail(Refused, 1)], None);
        check(&[Fail(Refused, 1), Fail(ConnectTimeout, 1)], Some((Rule::Connects(2), ConnectTimeout)));
        check(&[Fail(Refused, 1), Connected, Fail(Refused, 1)], None);
        check(&[Fail(Timeout, 1), Fail(Refused, 1), Fail(Refused, 1)], Some((Rule::Connects(2), Refused)));
    }

    #[test]
    fn a_share_of_failures_whatever_comes_between() {
        // Each failure is followed by a reply: never two in a row.
        let mut steps = Vec::new();
        for _ in 0..49 {
            steps.push(Fail(Timeout, 1));
            steps.push(Reply(1));
        }
        check(&steps, None);
        steps.push(Reply(1));
        steps.push(Fail(Timeout, 1));
        check(&steps, Some((Rule::Share { failures: 50, tries: 100 }, Timeout)));
    }

    #[test]
    fn a_long_good_record_is_forgotten_soon() {
        let mut steps = vec![Reply(u32::MAX)];
        for _ in 0..149 {
            steps.push(Fail(Timeout, 1));
            steps.push(Reply(1));
        }
        // 100 of 100 good, then every second one: halved twice on the way.
        let mut record = Record::default();
        let mut suspected = 0;
        for step in &steps {
            match step {
                Reply(count) => record.replied(*count),
                Connected => record.connected(),
                Fail(trouble, count) => {
                    suspected += usize::from(
                        record.failed(*trouble, *count, &DownRules { failure_percent: 40, ..RULES }).is_some(),
                    );
                }
            }
        }
        assert!(suspected > 0);
        check(
            &[Reply(100), Fail(ConnectionLost, u32::MAX)],
            Some((Rule::Share { failures: 50, tries: 100 }, ConnectionLost)),
        );
    }
}
