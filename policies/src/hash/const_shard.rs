//! ConstShard, mcrouter's: the key says its position itself.

/// The number in `x:NUMBER:rest`, if it is the position of one of so many members.
pub(super) fn shard(key: &[u8], members: u32) -> Option<u32> {
    let mut parts = key.splitn(3, |byte| *byte == b':');
    let (_, digits, _) = (parts.next()?, parts.next()?, parts.next()?);
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    let number = u32::try_from(number).ok()?;
    (!digits.is_empty() && number < members).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_is_the_number_between_the_first_two_colons() {
        let cases = [
            ("b:3:meh", Some(3)),
            ("bl:2:meh", Some(2)),
            ("bla:1:meh", Some(1)),
            ("blah:0:meh", Some(0)),
            (":002:", Some(2)),
            ("a:1:2:3", Some(1)),
            ("blah:meh", None),
            ("blah:1", None),
            ("blah::meh", None),
            ("blah:12c34:meh", None),
            ("blah:4:meh", None),
            ("blah:-1:meh", None),
            ("blah:99999999999999999999:meh", None),
            ("blahmeh", None),
        ];
        for (key, expected) in cases {
            assert_eq!(shard(key.as_bytes(), 4), expected, "{key}");
        }
    }
}
