//! Numbers as the text protocol writes them, without memory of their own: keys, flags and times that routes put together.

/// A number in decimal digits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decimal {
    digits: [u8; Decimal::MOST],
    start: usize,
}

impl Decimal {
    /// Digits of the largest number of 64 bits.
    const MOST: usize = 20;

    pub(crate) fn new(mut number: u64) -> Decimal {
        let mut decimal = Decimal { digits: [b'0'; Decimal::MOST], start: Decimal::MOST };
        loop {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// The number that decimal digits write, nothing else; `None` for what is none of 64 bits.
pub(crate) fn parse(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_and_read() {
        for number in [0, 1, 9, 10, 2_592_000, u64::MAX - 1, u64::MAX] {
            assert_eq!(Decimal::new(number).as_bytes(), number.to_string().as_bytes());
            assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }
        for wrong in ["", "-1", "1x", " 1", "18446744073709551616"] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
