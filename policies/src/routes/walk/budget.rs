//! The retry budget: how many tries more than one a route may make, as a share of its requests.
//!
//! A bucket of tokens that is fed by requests, not by time (mcrouter's `failover_limit`): each request adds `rate` tokens,
//! each further try takes one. When servers fail, load on those that are left grows by that share at most, at any
//! request rate. The bucket starts full, so that a few failures after a quiet time are all retried.

/// A token, in the unit tokens are counted in.
const TOKEN: u64 = 1_000_000;

/// The retry budget of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Tokens each request adds, in millionths.
    rate: u64,
    /// Most there can be, in millionths.
    burst: u64,
}

impl Budget {
    /// mcrouter has no limit unless it is told. This one lets every fifth request be tried again in the long run, and
    /// a thousand at once.
    pub const DEFAULT: Budget = Budget { rate: TOKEN / 5, burst: 1000 * TOKEN };
    /// Largest burst.
    pub const MAX_BURST: u32 = 1_000_000;

    /// `rate` tokens for each request, from 0 to 1, and `burst` at most. None for other numbers.
    pub fn new(rate: f64, burst: u32) -> Option<Budget> {
        let good = (0.0..=1.0).contains(&rate) && (1..=Budget::MAX_BURST).contains(&burst);
        good.then(|| Budget { rate: (rate * TOKEN as f64).round() as u64, burst: u64::from(burst) * TOKEN })
    }
}

/// The tokens there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens(u64);

impl Tokens {
    pub(super) fn full(budget: Option<Budget>) -> Tokens {
        Tokens(budget.map_or(0, |budget| budget.burst))
    }

    /// A request came.
    pub(super) fn feed(&mut self, budget: Budget) {
        self.0 = (self.0 + budget.rate).min(budget.burst);
    }

    pub(super) fn has_one(self) -> bool {
        self.0 >= TOKEN
    }

    pub(super) fn take(&mut self) {
        self.0 = self.0.saturating_sub(TOKEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_feed_tries() {
        let budget = Budget::new(0.25, 2).expect("a budget");
        let mut tokens = Tokens::full(Some(budget));
        for _ in 0..2 {
            assert!(tokens.has_one());
            tokens.take();
        }
        for request in 1..=4 {
            assert!(!tokens.has_one());
            tokens.feed(budget);
            assert_eq!(tokens.has_one(), request == 4);
        }
        (0..100).for_each(|_| tokens.feed(budget));
        tokens.take();
        tokens.take();
        assert!(!tokens.has_one(), "no more than the burst is saved up");
    }

    #[test]
    fn numbers_are_checked() {
        for (rate, burst) in [(-0.1, 1), (1.1, 1), (f64::NAN, 1), (0.5, 0), (0.5, Budget::MAX_BURST + 1)] {
            assert_eq!(Budget::new(rate, burst), None, "{rate} {burst}");
        }
        assert_eq!(Budget::new(0.2, 1000), Some(Budget::DEFAULT));
        assert!(Budget::new(0.0, 1).is_some());
    }
}
