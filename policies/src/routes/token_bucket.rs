//! A bucket of tokens that time fills: how often something may happen.
//!
//! Knows no clock: it is told the time. Starts full, so that neither a start nor a reload turns requests away.

/// How a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Tokens per second.
    pub per_second: f64,
    /// Most tokens it holds; at least 1, or nothing ever passes.
    pub burst: f64,
}

/// A bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    tokens: f64,
    filled_at: Option<u64>,
}

impl TokenBucket {
    pub(super) fn full(rate: Rate) -> TokenBucket {
        TokenBucket { tokens: rate.burst, filled_at: None }
    }

    /// Takes a token, if there is one at `now`, in nanoseconds.
    pub(super) fn take(&mut self, rate: Rate, now: u64) -> bool {
        let passed = now.saturating_sub(self.filled_at.unwrap_or(now));
        self.filled_at = Some(now);
        self.tokens = rate.burst.min(self.tokens + passed as f64 * 1e-9 * rate.per_second);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    /// Gives back a token that wasn't used.
    pub(super) fn give_back(&mut self, rate: Rate) {
        self.tokens = rate.burst.min(self.tokens + 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_fills_it_up_to_its_burst() {
        let rate = Rate { per_second: 2.0, burst: 3.0 };
        let mut bucket = TokenBucket::full(rate);
        let second = 1_000_000_000;
        let taken = |bucket: &mut TokenBucket, now| (0..10).filter(|_| bucket.take(rate, now)).count();
        assert_eq!(taken(&mut bucket, 5 * second), 3);
        assert_eq!(taken(&mut bucket, 5 * second + second / 4), 0, "half a token");
        assert_eq!(taken(&mut bucket, 5 * second + second / 2), 1, "and the other half");
        assert_eq!(taken(&mut bucket, 100 * second), 3, "no more than it holds");
        assert_eq!(taken(&mut bucket, 99 * second), 0, "time that went back fills nothing");
        bucket.give_back(rate);
        assert_eq!(taken(&mut bucket, 99 * second), 1);
    }
}
