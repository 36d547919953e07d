//! When a get is asked a second time because the first server is slow for once: hedging.
//!
//! Owns the estimate of a route's own latency on a shard: a histogram of fixed size whose counts are halved as they grow,
//! so that it follows the servers. Never estimates from fewer samples than the settings ask for.

/// Hedged gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// The share of requests that are answered before a second server is asked, in millionths.
    quantile: u32,
    /// Samples there must be before anything is hedged.
    min_samples: u32,
    /// Least time to wait before a second server is asked, in nanoseconds.
    min_delay: u64,
}

impl Hedge {
    /// Least and greatest `quantile`.
    pub const QUANTILES: (f64, f64) = (0.5, 0.9999);
    /// Most samples that can be asked for: counts are halved at this many.
    pub const MAX_SAMPLES: u32 = 1024;
    /// The default `min_samples`.
    pub const DEFAULT_SAMPLES: u32 = 100;
    /// The default `min_delay`, in microseconds.
    pub const DEFAULT_DELAY_US: u64 = 500;

    /// None for numbers out of range.
    pub fn new(quantile: f64, min_samples: u32, min_delay_us: u64) -> Option<Hedge> {
        let good = (Hedge::QUANTILES.0..=Hedge::QUANTILES.1).contains(&quantile)
            && (1..=Hedge::MAX_SAMPLES).contains(&min_samples);
        good.then(|| Hedge {
            quantile: (quantile * 1e6).round() as u32,
            min_samples,
            min_delay: min_delay_us.saturating_mul(1000),
        })
    }
}

/// Four buckets for each doubling, from 16 microseconds to 16 seconds.
const BUCKETS: usize = 80;
/// The upper end of the first bucket, in nanoseconds: 2^14.
const FIRST_BIT: u32 = 14;
/// The estimate is made anew after so many samples.
const FRESH: u32 = 32;

/// A route's latency on a shard.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    counts: [u32; BUCKETS],
    samples: u32,
    /// Samples since the last estimate.
    since: u32,
    estimate: Option<u64>,
}

impl Latency {
    pub(super) const fn new() -> Latency {
        Latency { counts: [0; BUCKETS], samples: 0, since: 0, estimate: None }
    }

    /// An answer came after so many nanoseconds.
    pub(super) fn note(&mut self, hedge: Hedge, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.samples += 1;
        self.since += 1;
        if self.samples >= 2 * Hedge::MAX_SAMPLES {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.samples = self.counts.iter().sum();
        }
        if self.samples >= hedge.min_samples && (self.estimate.is_none() || self.since >= FRESH) {
            self.since = 0;
            self.estimate = Some(self.quantile(hedge.quantile).max(hedge.min_delay));
        }
    }

    /// How long to wait before a second server is asked; none while there are too few samples.
    pub(super) const fn delay(&self) -> Option<u64> {
        self.estimate
    }

    /// The upper end of the bucket that the quantile falls in.
    fn quantile(&self, millionths: u32) -> u64 {
        let wanted = (u64::from(self.samples) * u64::from(millionths)).div_ceil(1_000_000);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return upper_end(at);
            }
        }
        upper_end(BUCKETS - 1)
    }
}

/// Which bucket a time falls in.
fn bucket(ns: u64) -> usize {
    let bits = 63 - ns.max(1).leading_zeros();
    if bits < FIRST_BIT {
        return 0;
    }
    let quarter = (ns >> (bits - 2)) & 3;
    (((bits - FIRST_BIT) * 4) as usize + quarter as usize).min(BUCKETS - 1)
}

/// The first nanosecond behind a bucket.
const fn upper_end(bucket: usize) -> u64 {
    let (doubling, quarter) = (bucket as u32 / 4, bucket as u64 % 4);
    (5 + quarter) << (FIRST_BIT + doubling - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_meet() {
        for at in 0..BUCKETS - 1 {
            assert_eq!(bucket(upper_end(at) - 1), at);
            assert_eq!(bucket(upper_end(at)), at + 1);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_estimate_is_the_quantile_and_follows() {
        let hedge = Hedge::new(0.9, 10, 0).expect("a hedge");
        let mut latency = Latency::new();
        for sample in 1..=10 {
            assert_eq!(latency.delay(), None, "too few samples before sample {sample}");
            latency.note(hedge, if sample <= 9 { 1_000_000 } else { 900_000_000 });
        }
        let first = latency.delay().expect("enough samples");
        assert!((1_000_000..=1_250_000).contains(&first), "{first}");
        for _ in 0..10_000 {
            latency.note(hedge, 8_000_000);
        }
        let later = latency.delay().expect("enough samples");
        assert!((8_000_000..=10_000_000).contains(&later), "{later}");
        assert!(latency.samples < 2 * Hedge::MAX_SAMPLES);
    }

    #[test]
    fn the_least_delay_holds() {
        let hedge = Hedge::new(0.5, 1, 2000).expect("a hedge");
        let mut latency = Latency::new();
        latency.note(hedge, 10);
        assert_eq!(latency.delay(), Some(2_000_000));
    }

    #[test]
    fn numbers_are_checked() {
        for (quantile, samples) in [(0.4, 1), (1.0, 1), (f64::NAN, 1), (0.9, 0), (0.9, Hedge::MAX_SAMPLES + 1)] {
            assert_eq!(Hedge::new(quantile, samples, 1), None, "{quantile} {samples}");
        }
    }
}
