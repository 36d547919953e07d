//! Back-fill: a hit is added to the children before it that missed, with the time it has left to live.
//!
//! ```text
//! get k ──► a ── END
//!           b ◄── mg k f t c v     asked like this, so that the time left is known
//!           b ── the item, 60 s left ──► the answer
//!           a ◄── add k .. 60 ..   in the background
//! ```
//!
//! It is an `add`, so what a client has stored meanwhile stays. Only for `get`: the cas of gets belongs to one server.
//! A server that doesn't know meta get is asked once more with a plain one; its hits aren't added anywhere, since their
//! time is not known. A delete between the hit and the add is lost on the child that gets the add: who can't have that
//! leaves this off.

use super::{
    Walk,
    gutter::{decimal, exptime_for},
    state, walking,
};
use crate::outcome::OutcomeClass;
use crate::plan::{Run, Settled, Started};
use crate::variant::{VariantId, Written};
use crate::{Answer, LocalReply, Outcome};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{Parts, ReplyKind};

impl Walk {
    /// The form of a get that also asks for the time left. Where there is no room for it, as it was: then nothing is
    /// filled back.
    pub(super) fn meta_form(&self, run: &mut Run<'_>, at: usize, child: usize, form: VariantId) -> VariantId {
        match run.derive(form, |parts, _, out| Some(Written::write(Parts { meta: true, ..parts }, out))) {
            Ok(meta) => {
                walking(run, at).meta = Some(child as u16);
                meta
            }
            Err(_) => form,
        }
    }

    /// Asks the child again, as it was asked to be, when it doesn't know meta get. True when that is under way.
    pub(super) fn asks_again(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> bool {
        let refused = matches!(settled.outcome, Outcome::Reply(ReplyKind::Error | ReplyKind::ClientError));
        if !refused || walking(run, at).meta != Some(child) {
            return false;
        }
        walking(run, at).meta = None;
        let variant = run.frame(at).variant;
        let form = walking(run, at).later.unwrap_or(variant);
        let waits = run.start_child_as(at, usize::from(child), form) == Started::Waiting;
        if waits {
            run.frame(at).outstanding += 1;
        }
        waits
    }

    /// Adds the child's item to those that missed it.
    pub(super) fn fill_back(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) {
        if walking(run, at).meta != Some(child) || settled.class() != OutcomeClass::Success {
            return;
        }
        let (node, variant, missed) = (run.frame(at).node, run.frame(at).variant, walking(run, at).missed);
        let Ok(add) = add_form(run, variant, settled.answer) else { return };
        for child in 0..run.routes.children(node).len() {
            if run.is_marked(missed, child) {
                run.background(node, child, add);
                state(run, node).counts.backfills += 1;
            }
        }
    }
}

/// The form that adds the item of an answer. Fails where its time isn't known, is over, or there is no room for it.
fn add_form(run: &mut Run<'_>, variant: VariantId, answer: Answer) -> Result<VariantId, LocalReply> {
    let now = (run.env.unix_ms / 1000) as i64;
    run.derive_of(variant, Some(answer), |parts, item, out| {
        let item = item?;
        let exptime = match item.ttl? {
            ..0 => 0,
            0 => return None,
            left => exptime_for(left.unsigned_abs(), now),
        };
        let digits = decimal(exptime);
        let add =
            Parts { flags: item.flags, exptime: &digits, value: item.data, ..Parts::of_key(Operation::Add, parts.key) };
        Some(Written::write(add, out))
    })
}
