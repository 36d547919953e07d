//! ModifyExptimeRoute: the request goes on with another time to live: set, touch, gat and their like.
//!
//! A selector. delete, incr and what has no exptime go on as they are. memcached's exptime has four forms, and `min`
//! compares what they mean, where mcrouter compares the numbers:
//!
//! | exptime | means |
//! |---|---|
//! | 0 | without end |
//! | below 0 | over at once |
//! | 1 to 2,592,000 | so many seconds from now |
//! | above | that second since 1970 |

use super::{Policy, Shape};
use crate::plan::{Run, Seat, Started};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::Parts;

use crate::variant::Written;

/// Where memcached begins to take a number for a date: 30 days.
const LONGEST_RELATIVE: i64 = 60 * 60 * 24 * 30;

/// What happens to the request's own exptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExptimeAction {
    /// It is replaced.
    Set,
    /// It is replaced where it ends later.
    Min,
}

impl ExptimeAction {
    /// Every action.
    pub const ALL: [ExptimeAction; 2] = [ExptimeAction::Set, ExptimeAction::Min];

    /// The name in configs.
    pub const fn name(self) -> &'static str {
        match self {
            ExptimeAction::Set => "set",
            ExptimeAction::Min => "min",
        }
    }

    /// The action of that name.
    pub fn from_name(name: &str) -> Option<ExptimeAction> {
        ExptimeAction::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// ModifyExptimeRoute. Its child: the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModifyExptime {
    exptime: i64,
    /// As it is sent.
    token: String,
    action: ExptimeAction,
}

impl ModifyExptime {
    /// `exptime` in memcached's forms.
    pub fn new(exptime: i32, action: ExptimeAction) -> ModifyExptime {
        ModifyExptime { exptime: exptime.into(), token: exptime.to_string(), action }
    }

    /// True when a request's own exptime is to be replaced.
    fn replaces(&self, own: &[u8], unix_ms: u64) -> bool {
        match self.action {
            ExptimeAction::Set => own != self.token.as_bytes(),
            ExptimeAction::Min => {
                let unix = (unix_ms / 1000) as i64;
                ends(number(own), unix) > ends(self.exptime, unix)
            }
        }
    }
}

impl Policy for ModifyExptime {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        if !has_exptime(run.operation(seat.variant)) {
            return run.pass(seat, 0);
        }
        let unix_ms = run.env.unix_ms;
        if run.parts(seat.variant).is_some_and(|parts| !self.replaces(parts.exptime, unix_ms)) {
            return run.pass(seat, 0);
        }
        let exptime = self.token.as_bytes();
        match run.derive(seat.variant, |parts, _, out| Some(Written::write(Parts { exptime, ..parts }, out))) {
            Ok(variant) => run.pass(seat.with_variant(variant), 0),
            Err(reply) => Started::Settled(run.settled(reply, seat.variant)),
        }
    }
}

fn has_exptime(operation: Operation) -> bool {
    match operation {
        Operation::Set
        | Operation::Add
        | Operation::Replace
        | Operation::Append
        | Operation::Prepend
        | Operation::Cas
        | Operation::Touch
        | Operation::Gat
        | Operation::Gats => true,
        Operation::Get
        | Operation::Gets
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

/// The number of a token the request's parser let through.
fn number(token: &[u8]) -> i64 {
    std::str::from_utf8(token).ok().and_then(|token| token.parse().ok()).unwrap_or(0)
}

/// The second since 1970 in which an exptime is over.
fn ends(exptime: i64, unix: i64) -> i64 {
    match exptime {
        0 => i64::MAX,
        i64::MIN..0 => i64::MIN,
        1..=LONGEST_RELATIVE => unix + exptime,
        _ => exptime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_compares_what_the_forms_mean() {
        let unix_ms = 1_700_000_000_000;
        let cases: [(i32, &str, bool); 14] = [
            (60, "0", true),
            (60, "61", true),
            (60, "60", false),
            (60, "59", false),
            (60, "-1", false),
            (60, "1700000030", false),
            (60, "1700000061", true),
            (1_700_000_030, "60", true),
            (1_700_000_030, "20", false),
            (1_700_000_030, "1700000031", true),
            (0, "1", false),
            (0, "0", false),
            (-1, "1", true),
            (-1, "-7", false),
        ];
        for (exptime, own, replaces) in cases {
            let route = ModifyExptime::new(exptime, ExptimeAction::Min);
            assert_eq!(route.replaces(own.as_bytes(), unix_ms), replaces, "{exptime} for {own}");
        }
    }
}
