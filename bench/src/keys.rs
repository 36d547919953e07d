//! Which key a request is for: random numbers, uniform and Zipf distributions, and the keys' names.
//!
//! Owns its own generator, so that a seed gives the same load everywhere. Invariant: a key's name has the same length
//! whatever its number, so that all distributions move the same bytes.

use std::str::FromStr;

/// A small, fast generator (xorshift64*): good enough to pick keys, nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        // The state must not be 0, and seeds that differ in one bit should not start alike.
        Random { state: mix(seed) | 1 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Evenly in `0..below`; `below` is not 0.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(below)) >> 64) as u64
    }

    /// Evenly in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Scatters the bits of a number (the finaliser of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// How requests spread over the keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Distribution {
    Uniform,
    /// The key of rank r is asked for in proportion to 1 / r^exponent.
    Zipf {
        exponent: f64,
    },
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Distribution, String> {
        if text == "uniform" {
            return Ok(Distribution::Uniform);
        }
        let exponent = text.strip_prefix("zipf:").and_then(|exponent| exponent.parse::<f64>().ok());
        match exponent {
            Some(exponent) if exponent > 0.0 && exponent < 10.0 => Ok(Distribution::Zipf { exponent }),
            Some(_) | None => Err(format!("distribution {text:?}: uniform, or zipf:EXPONENT above 0 and below 10")),
        }
    }
}

/// Draws key numbers in `0..keys`.
#[derive(Clone, Debug)]
pub(crate) struct KeyPicker {
    keys: u64,
    zipf: Option<Zipf>,
}

impl KeyPicker {
    pub(crate) fn new(keys: u64, distribution: Distribution) -> KeyPicker {
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipf { exponent } => Some(Zipf::new(keys, exponent)),
        };
        KeyPicker { keys, zipf }
    }

    pub(crate) fn pick(&self, random: &mut Random) -> u64 {
        match &self.zipf {
            None => random.below(self.keys),
            // Rank 1 is key 0: the names are hashed by whatever routes them, so neighbours don't matter.
            Some(zipf) => zipf.rank(random) - 1,
        }
    }
}

/// Zipf ranks by rejection from the integral of x^-exponent (W. Hörmann and G. Derflinger, 1996): no table, and time
/// that does not depend on the number of keys.
#[derive(Clone, Debug)]
struct Zipf {
    keys: u64,
    exponent: f64,
    area_at_first: f64,
    area_at_last: f64,
    sure: f64,
}

impl Zipf {
    fn new(keys: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf { keys, exponent, area_at_first: 0.0, area_at_last: 0.0, sure: 0.0 };
        zipf.area_at_first = zipf.area(1.5) - 1.0;
        zipf.area_at_last = zipf.area(keys as f64 + 0.5);
        zipf.sure = 2.0 - zipf.area_inverse(zipf.area(2.5) - zipf.weight(2.0));
        zipf
    }

    fn weight(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// The integral of the weight: (x^(1-e) - 1) / (1-e), which is ln x at e = 1.
    fn area(&self, x: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { x.ln() } else { ((power * x.ln()).exp() - 1.0) / power }
    }

    fn area_inverse(&self, area: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { area.exp() } else { ((power * area).max(-1.0).ln_1p() / power).exp() }
    }

    fn rank(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.area_at_last + random.unit() * (self.area_at_first - self.area_at_last);
            let x = self.area_inverse(area);
            let rank = (x.round().max(1.0) as u64).min(self.keys);
            let nearest = rank as f64;
            if nearest - x <= self.sure || area >= self.area(nearest + 0.5) - self.weight(nearest) {
                return rank;
            }
        }
    }
}

/// Bytes of every key: `key:` and twelve digits.
pub(crate) const KEY_BYTES: usize = 16;

/// The name of key `number` (below 10^12).
pub(crate) fn key_name(number: u64) -> [u8; KEY_BYTES] {
    let mut name = *b"key:000000000000";
    let mut rest = number;
    for digit in name[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 200_000;

    fn shares(keys: u64, distribution: Distribution) -> Vec<f64> {
        let picker = KeyPicker::new(keys, distribution);
        let mut random = Random::new(7);
        let mut counts = vec![0u32; keys as usize];
        for _ in 0..DRAWS {
            counts[picker.pick(&mut random) as usize] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / DRAWS as f64).collect()
    }

    /// Every key's share lies within six standard deviations of what the distribution says.
    #[test]
    fn keys_are_drawn_as_the_distribution_says() {
        let check = |keys: u64, distribution: Distribution| {
            let exponent = match distribution {
                Distribution::Uniform => 0.0,
                Distribution::Zipf { exponent } => exponent,
            };
            let weights: Vec<f64> = (1..=keys).map(|rank| (rank as f64).powf(-exponent)).collect();
            let sum: f64 = weights.iter().sum();
            for (key, (share, weight)) in shares(keys, distribution).iter().zip(&weights).enumerate() {
                let expected = weight / sum;
                let deviation = (expected * (1.0 - expected) / DRAWS as f64).sqrt();
                assert!(
                    (share - expected).abs() <= 6.0 * deviation,
                    "{distribution:?} key {key}: {share} not {expected}"
                );
            }
        };
        check(1, Distribution::Uniform);
        check(100, Distribution::Uniform);
        check(1, Distribution::Zipf { exponent: 0.99 });
        check(2, Distribution::Zipf { exponent: 0.99 });
        check(100, Distribution::Zipf { exponent: 0.5 });
        check(100, Distribution::Zipf { exponent: 0.99 });
        check(100, Distribution::Zipf { exponent: 1.0 });
        check(1000, Distribution::Zipf { exponent: 1.5 });
    }

    #[test]
    fn names_and_distributions_parse() {
        assert_eq!(&key_name(0), b"key:000000000000");
        assert_eq!(&key_name(1234), b"key:000000001234");
        assert_eq!("uniform".parse(), Ok(Distribution::Uniform));
        assert_eq!("zipf:0.99".parse(), Ok(Distribution::Zipf { exponent: 0.99 }));
        for wrong in ["zipf", "zipf:", "zipf:0", "zipf:-1", "zipf:nan", "normal"] {
            assert!(wrong.parse::<Distribution>().is_err(), "{wrong}");
        }
    }
}
