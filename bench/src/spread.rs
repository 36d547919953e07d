//! Several rounds' numbers as one: the median with the least and the most, and ratios taken round by round.

use serde::Serialize;
use std::fmt;

/// What several rounds gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of no numbers: not a number.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Spread {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        let Some(last) = numbers.len().checked_sub(1) else {
            return Spread { median: f64::NAN, min: f64::NAN, max: f64::NAN };
        };
        let median = (numbers[last / 2] + numbers[last.div_ceil(2)]) / 2.0;
        Spread { median, min: numbers[0], max: numbers[last] }
    }

    /// The ratios of numbers measured in the same round: what the machine did in a round, it did to both.
    pub(crate) fn of_ratios(numbers: &[f64], to: &[f64]) -> Spread {
        Spread::of(numbers.iter().zip(to).map(|(number, to)| number / to))
    }
}

/// `1.30 (1.28..1.36)`, with the formatter's precision.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.median.is_nan() {
            return f.write_str("-");
        }
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$}..{:.digits$})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let check = |numbers: &[f64], text: &str| assert_eq!(format!("{:.1}", Spread::of(numbers.to_vec())), text);
        check(&[], "-");
        check(&[3.0], "3.0 (3.0..3.0)");
        check(&[3.0, 1.0], "2.0 (1.0..3.0)");
        check(&[9.0, 1.0, 2.0], "2.0 (1.0..9.0)");
        assert_eq!(Spread::of_ratios(&[2.0, 9.0], &[1.0, 3.0]), Spread { median: 2.5, min: 2.0, max: 3.0 });
    }
}
