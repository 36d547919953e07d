//! A latency histogram: log-linear buckets in one fixed array, cheap enough for every request.
//!
//! Owns: which bucket a value falls in, merging, quantiles. Never allocates, locks or hashes when recording.
//! Invariants: buckets are contiguous and half open; 8 of them per power of two, so a bucket is at most an eighth as
//! wide as its lower bound and a quantile (its middle) is off by at most 1/16; below 8.192 us they are 1.024 us wide.

/// Buckets per power of two, as a power of two.
const SUB_BITS: u32 = 3;
/// Buckets per power of two, and how many linear ones there are below the first power of two told apart.
const SUBS: usize = 1 << SUB_BITS;
/// The smallest power of two told apart: 2^13 ns = 8.192 us.
const FIRST_OCTAVE: u32 = 13;
/// Values from here on (2^34 ns = 17.2 s) share the last bucket: longer than any timeout that is of use.
const LAST_OCTAVE: u32 = 34;
/// How many buckets there are, the overflow bucket included.
pub const BUCKETS: usize = (LAST_OCTAVE - FIRST_OCTAVE) as usize * SUBS + SUBS + 1;

/// Counts of durations by bucket.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl Histogram {
    /// An empty one.
    pub const fn new() -> Histogram {
        Histogram { buckets: [0; BUCKETS], sum_ns: 0 }
    }

    /// Counts one duration.
    #[inline]
    pub fn record(&mut self, duration_ns: u64) {
        self.buckets[bucket_of(duration_ns)] += 1;
        self.sum_ns = self.sum_ns.wrapping_add(duration_ns);
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All durations together, in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The duration below which `fraction` (0 to 1) of the counted ones lie, to 1/16; 0 when nothing was counted.
    pub fn quantile_ns(&self, fraction: f64) -> u64 {
        let count = self.count();
        let rank = ((fraction.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return if bucket + 1 == BUCKETS {
                    lower_bound_ns(bucket)
                } else {
                    (lower_bound_ns(bucket) + lower_bound_ns(bucket + 1)) / 2
                };
            }
        }
        0
    }

    /// How many durations lie below each of `bounds_ns`, which ascend and are bucket bounds (`octave_bounds_ns`).
    pub fn cumulative<'a>(&'a self, bounds_ns: &'a [u64]) -> impl Iterator<Item = (u64, u64)> + 'a {
        let mut bucket = 0;
        let mut seen = 0;
        bounds_ns.iter().map(move |&bound| {
            while bucket < BUCKETS && lower_bound_ns(bucket) < bound {
                seen += self.buckets[bucket];
                bucket += 1;
            }
            (bound, seen)
        })
    }
}

/// Bounds for a scrape: `per_octave` (1, 2, 4 or 8) per power of two from 16.384 us (2^14 ns) to 17.2 s (2^34 ns).
///
/// All are bucket bounds, so that what is scraped is exact and not interpolated; that is why they are no round numbers.
pub fn octave_bounds_ns(per_octave: usize) -> Vec<u64> {
    let per_octave = per_octave.clamp(1, SUBS);
    let mut bounds = Vec::with_capacity((LAST_OCTAVE as usize - 14) * per_octave + 1);
    for octave in 14..LAST_OCTAVE {
        for step in 0..per_octave {
            bounds.push((1u64 << octave) + ((step as u64) << octave) / per_octave as u64);
        }
    }
    bounds.push(1 << LAST_OCTAVE);
    bounds
}

#[inline]
fn bucket_of(duration_ns: u64) -> usize {
    if duration_ns < 1 << FIRST_OCTAVE {
        return (duration_ns >> (FIRST_OCTAVE - SUB_BITS)) as usize;
    }
    let octave = duration_ns.ilog2();
    if octave >= LAST_OCTAVE {
        return BUCKETS - 1;
    }
    let sub = (duration_ns >> (octave - SUB_BITS)) as usize & (SUBS - 1);
    (octave - FIRST_OCTAVE) as usize * SUBS + SUBS + sub
}

fn lower_bound_ns(bucket: usize) -> u64 {
    if bucket < SUBS {
        return (bucket as u64) << (FIRST_OCTAVE - SUB_BITS);
    }
    let octave = FIRST_OCTAVE + (bucket / SUBS - 1) as u32;
    (1 << octave) + (((bucket % SUBS) as u64) << (octave - SUB_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_hold_their_bounds() {
        assert_eq!(lower_bound_ns(0), 0);
        for bucket in 0..BUCKETS {
            let low = lower_bound_ns(bucket);
            assert_eq!(bucket_of(low), bucket, "lower bound {low}");
            if bucket + 1 < BUCKETS {
                let next = lower_bound_ns(bucket + 1);
                assert_eq!(bucket_of(next - 1), bucket, "last of bucket {bucket}");
                let width = next - low;
                assert!(width <= 1024 || width * 8 <= low, "bucket {bucket} is {width} wide from {low}");
            }
        }
        assert_eq!(lower_bound_ns(BUCKETS - 1), 1 << LAST_OCTAVE);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_a_sixteenth() {
        for scale in [1_000u64, 10_000, 123_456, 1_000_000] {
            let mut histogram = Histogram::new();
            for i in 1..=1000 {
                histogram.record(i * scale);
            }
            assert_eq!(histogram.count(), 1000);
            assert_eq!(histogram.sum_ns(), 500_500 * scale);
            for (fraction, rank) in [(0.5, 500), (0.9, 900), (0.99, 990), (0.999, 999)] {
                let exact = (rank * scale) as f64;
                let said = histogram.quantile_ns(fraction) as f64;
                let allowed = (exact / 16.0).max(1024.0) + 1.0;
                assert!((said - exact).abs() <= allowed, "p{fraction} of scale {scale}: {said} for {exact}");
            }
        }
        assert_eq!(Histogram::new().quantile_ns(0.99), 0);
    }

    #[test]
    fn scraped_bounds_are_exact_and_ascend() {
        for per_octave in [1, 2, 4, 8] {
            let bounds = octave_bounds_ns(per_octave);
            assert_eq!(bounds.len(), 20 * per_octave + 1);
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
            for bound in bounds {
                assert_eq!(lower_bound_ns(bucket_of(bound)), bound);
            }
        }
    }

    #[test]
    fn cumulative_counts_what_lies_below() {
        let mut histogram = Histogram::new();
        for ns in [0, (1 << 14) - 1, 1 << 14, (1 << 20) - 1, 1 << 33, 1 << 34, u64::MAX / 2] {
            histogram.record(ns);
        }
        let bounds = octave_bounds_ns(1);
        let below: Vec<(u64, u64)> = histogram.cumulative(&bounds).collect();
        for (bound, expected) in [(1u64 << 14, 2), (1 << 15, 3), (1 << 20, 4), (1 << 33, 4), (1 << 34, 5)] {
            assert!(below.contains(&(bound, expected)), "{bound}: {below:?}");
        }
        assert_eq!(histogram.count(), 7);
    }

    #[test]
    fn merging_adds() {
        let (mut a, mut b) = (Histogram::new(), Histogram::new());
        a.record(5_000);
        b.record(5_000);
        b.record(7_000_000);
        a.merge(&b);
        assert_eq!((a.count(), a.sum_ns()), (3, 7_010_000));
    }
}
