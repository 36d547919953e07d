//! The form in which children after the first are asked: with a key that says so, with a shorter life.

use super::{Walk, Walking, walking};
use crate::LocalReply;
use crate::plan::Run;
use crate::variant::{VariantId, Written};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::Parts;
use smallvec::SmallVec;

/// What `failover_tag` puts behind a key with a hash stop.
const TAG: &[u8] = b":failover=1";
/// mcrouter's hash stop: what follows isn't hashed, so the tag doesn't change the server.
const HASH_STOP: &[u8] = b"|#|";
/// Longer exptimes are points in time: memcached's rule.
const LONGEST_RELATIVE: i64 = 30 * 24 * 3600;

impl Walk {
    /// The form for a child that is asked now.
    pub(super) fn form(&self, run: &mut Run<'_>, at: usize, child: usize) -> Result<VariantId, LocalReply> {
        let asked = run.frame(at).variant;
        let is_first = run.frame(at).next == 1;
        let Walking { later, any_missed, .. } = *walking(run, at);
        let form = match later {
            _ if is_first => asked,
            Some(later) => later,
            None => self.later_form(run, asked)?,
        };
        if !is_first {
            walking(run, at).later = Some(form);
        }
        match self.backfill && any_missed && run.operation(form) == Operation::Get {
            true => Ok(self.meta_form(run, at, child, form)),
            false => Ok(form),
        }
    }

    fn later_form(&self, run: &mut Run<'_>, asked: VariantId) -> Result<VariantId, LocalReply> {
        let tagged = match self.tag && contains(run.key(asked), HASH_STOP) {
            // A key that has no room for the tag goes without it.
            true => run
                .with_key(asked, |key, out| {
                    out.extend_from_slice(key);
                    out.extend_from_slice(TAG);
                })
                .unwrap_or(asked),
            false => asked,
        };
        match self.gutter_exptime {
            Some(most) => capped(run, tagged, most),
            None => Ok(tagged),
        }
    }
}

/// The form with an exptime of at most so many seconds; itself where it has none or a shorter one.
fn capped(run: &mut Run<'_>, variant: VariantId, most: u32) -> Result<VariantId, LocalReply> {
    if !has_exptime(run.operation(variant)) {
        return Ok(variant);
    }
    let now = (run.env.unix_ms / 1000) as i64;
    let Some(exptime) = run.parts(variant).and_then(|parts| capped_exptime(parts.exptime, most, now)) else {
        return Ok(variant);
    };
    let exptime = decimal(exptime);
    run.derive(variant, |parts, _, out| Some(Written::write(Parts { exptime: &exptime, ..parts }, out)))
}

fn has_exptime(operation: Operation) -> bool {
    match operation {
        Operation::Set
        | Operation::Add
        | Operation::Replace
        | Operation::Cas
        | Operation::Touch
        | Operation::Gat
        | Operation::Gats => true,
        Operation::Get
        | Operation::Gets
        | Operation::Append
        | Operation::Prepend
        | Operation::Delete
        | Operation::Incr
        | Operation::Decr
        | Operation::Stats
        | Operation::Version
        | Operation::Verbosity
        | Operation::FlushAll
        | Operation::Quit => false,
    }
}

/// What to send for an exptime, with at most so many seconds left from `now`, the seconds since 1970. None where it
/// can stay as it is. What has expired already (below 0) stays so.
pub(crate) fn capped_exptime(asked: &[u8], most: u32, now: i64) -> Option<u64> {
    let asked: i64 = std::str::from_utf8(asked).ok()?.parse().ok()?;
    let left = match asked {
        ..0 => return None,
        0 => i64::MAX,
        relative if relative <= LONGEST_RELATIVE => relative,
        absolute => absolute.saturating_sub(now),
    };
    (left > i64::from(most)).then(|| exptime_for(u64::from(most), now))
}

/// The exptime that gives an item so many seconds more.
pub(crate) fn exptime_for(seconds: u64, now: i64) -> u64 {
    if seconds <= LONGEST_RELATIVE as u64 { seconds } else { seconds.saturating_add_signed(now) }
}

/// A number as a token.
pub(crate) fn decimal(mut number: u64) -> SmallVec<[u8; 20]> {
    let mut digits = SmallVec::new();
    loop {
        digits.insert(0, b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            return digits;
        }
    }
}

fn contains(key: &[u8], part: &[u8]) -> bool {
    key.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exptimes_are_capped() {
        let now = 1_700_000_000;
        for (asked, most, expected) in [
            ("0", 60, Some(60)),
            ("59", 60, None),
            ("60", 60, None),
            ("61", 60, Some(60)),
            ("-1", 60, None),
            ("1700000030", 60, None),
            ("1700000090", 60, Some(60)),
            ("1600000000", 60, None),
            ("0", 3_000_000, Some(1_703_000_000)),
            ("2592000", 3_000_000, None),
            ("x", 60, None),
            ("", 60, None),
        ] {
            assert_eq!(capped_exptime(asked.as_bytes(), most, now), expected, "{asked} at most {most}");
        }
    }
}
