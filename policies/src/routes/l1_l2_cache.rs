//! L1L2CacheRoute: a small cache near by in front of a large one, which is filled as items are asked for.
//!
//! | operation | what happens |
//! |---|---|
//! | get | L1; without a hit L2, whose hit is the answer and is added to L1 behind it |
//! | gets, gat, gats | L1; without a hit L2; its hit is added to L1, and L1 is asked again, so that the cas is L1's |
//! | delete | L2, then L1; the worse of both. With `delete_both` off L1 alone, as in mcrouter |
//! | everything else | L1 |
//!
//! What is filled in lives `upgrading_l1_exptime` seconds, or what is left of its life at L2 if that is less (mcrouter: always
//! the former). With `ncache_update_period` a key that L2 doesn't have either gets a negative entry in L1, which is answered
//! as a miss; every so many of such answers, L2 is asked anew behind one, and its item takes the entry's place.

use super::backfill::{self, Backfill, FAR, NEAR, Phase, parts_of};
use super::{Collapse, NodeState, Policy, Shape};
use crate::decimal::{self, Decimal};
use crate::outcome::OutcomeClass;
use crate::plan::{Frame, Place, Run, Seat, Settled, Started};
use crate::request::ItemView;
use crate::variant::{VariantId, Written};
use crate::{LocalReply, Outcome};
use keyway_protocol::memcached::text::{Parts, ReplyKind};
use keyway_protocol::{Operation, OperationClass};

/// The flag of a negative entry, and its data: mcrouter's.
const NEGATIVE_FLAG: u64 = 0x1_0000;
const NEGATIVE_DATA: &[u8] = b"ncache";

/// `Frame::words` of a refresh: the cas of the negative entry.
const ENTRY_CAS: usize = 1;

/// L1L2CacheRoute. Its children: L1, L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1L2Cache {
    /// How L1 is filled.
    pub fill: Backfill,
    /// Seconds that a negative entry lives; 0 for no end.
    pub ncache_exptime: u32,
    /// After how many negative answers L2 is asked anew; 0 for no negative entries.
    pub ncache_update_period: u64,
}

impl Policy for L1L2Cache {
    fn shape(&self) -> Shape {
        Shape::Join(backfill::TIMES + 2, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        match run.operation(seat.variant).class() {
            OperationClass::GetLike => self.fill.read(run, seat),
            OperationClass::DeleteLike if self.fill.delete_both => self.fill.delete(run, seat),
            OperationClass::UpdateLike
            | OperationClass::ArithmeticLike
            | OperationClass::TouchLike
            | OperationClass::DeleteLike
            | OperationClass::Control => run.pass(seat, NEAR),
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        match Phase::of(run.frame(at)) {
            Phase::Own => return self.refreshed(run, at, child, settled),
            Phase::Near if run.item(settled.answer).is_some_and(|item| is_negative(&item)) => {
                return Some(self.negative_hit(run, at));
            }
            Phase::Far | Phase::FarPlain
                if self.ncache_update_period > 0 && settled.outcome == Outcome::Reply(ReplyKind::End) =>
            {
                let frame = run.frame(at);
                let (node, variant) = (frame.node, frame.variant);
                if let Ok(entry) = self.negative_entry(run, variant) {
                    run.background(node, NEAR, entry);
                }
            }
            Phase::Near
            | Phase::Far
            | Phase::FarPlain
            | Phase::Fill
            | Phase::Again
            | Phase::FillBehind
            | Phase::Look
            | Phase::DeleteFar
            | Phase::DeleteNear => {}
        }
        self.fill.settled(run, at, settled)
    }

    fn may_start_more(&self, frame: &Frame, _children: usize) -> bool {
        backfill::may_start_more(frame)
    }

    fn lingers(&self, operation: Operation) -> bool {
        operation.class() == OperationClass::DeleteLike && self.fill.delete_both
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn state(&self, _children: usize) -> NodeState {
        NodeState::NegativeHits(0)
    }
}

impl L1L2Cache {
    /// A negative entry is a miss; now and then L2 is asked whether it still is.
    fn negative_hit(&self, run: &mut Run<'_>, at: usize) -> Settled {
        let frame = run.frame(at);
        let (node, variant) = (frame.node, frame.variant);
        let is_due = match run.state(node) {
            NodeState::NegativeHits(hits) if self.ncache_update_period > 0 => {
                *hits += 1;
                let is_due = *hits >= self.ncache_update_period;
                if is_due {
                    *hits = 0;
                }
                is_due
            }
            _ => false,
        };
        if is_due {
            let behind = run.open(Seat { node, place: Place::NOBODY, variant });
            Phase::Own.enter(run.frame(behind));
            if let Some(settled) = self.ask(run, behind, NEAR, Operation::Gets) {
                run.close(behind, settled);
            }
        }
        run.settled(LocalReply::Null, variant)
    }

    /// One step of a refresh: the entry's cas, L2's item, and that item in the entry's place if it is still there.
    fn refreshed(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        if usize::from(child) == NEAR {
            let entry = run.item(settled.answer);
            let Some(cas) = entry.filter(is_negative).and_then(|item| decimal::parse(item.cas)) else {
                return Some(settled);
            };
            run.frame(at).words[ENTRY_CAS] = cas;
            return self.ask(run, at, FAR, Operation::Get);
        }
        let frame = run.frame(at);
        let (node, variant, cas) = (frame.node, frame.variant, Decimal::new(frame.words[ENTRY_CAS]));
        let unix_s = run.env.unix_ms / 1000;
        let exptime = match settled.class() {
            OutcomeClass::Success => self.fill.exptime.unwrap_or(0),
            OutcomeClass::Miss => self.ncache_exptime,
            OutcomeClass::Error | OutcomeClass::Lost => return Some(settled),
        };
        let exptime = backfill::exptime_token(u64::from(exptime), unix_s);
        let form = run.derive_of(variant, Some(settled.answer), |parts, item, out| {
            let parts = match &item {
                Some(item) => parts_of(Operation::Cas, parts.key, item),
                None => negative_parts(Operation::Cas, parts.key),
            };
            Some(Written::write(Parts { exptime: exptime.as_bytes(), number: cas.as_bytes(), ..parts }, out))
        });
        if let Ok(form) = form {
            run.background(node, NEAR, form);
        }
        Some(settled)
    }

    fn ask(&self, run: &mut Run<'_>, at: usize, child: usize, operation: Operation) -> Option<Settled> {
        let variant = run.frame(at).variant;
        let settled = match run.derive_from_key(variant, operation) {
            Err(reply) => return Some(run.settled(reply, variant)),
            Ok(form) => match run.start_child_as(at, child, form) {
                Started::Waiting => return None,
                Started::Settled(settled) => settled,
                Started::Unusable(reply) => return Some(run.settled(reply, variant)),
            },
        };
        self.refreshed(run, at, child as u16, settled)
    }

    fn negative_entry(&self, run: &mut Run<'_>, variant: VariantId) -> Result<VariantId, LocalReply> {
        let exptime = backfill::exptime_token(u64::from(self.ncache_exptime), run.env.unix_ms / 1000);
        run.derive(variant, |parts, _, out| {
            let entry = negative_parts(Operation::Add, parts.key);
            Some(Written::write(Parts { exptime: exptime.as_bytes(), ..entry }, out))
        })
    }
}

fn negative_parts(operation: Operation, key: &[u8]) -> Parts<'_> {
    // 0x10000 in decimal.
    Parts { flags: b"65536", value: NEGATIVE_DATA, ..Parts::of_key(operation, key) }
}

fn is_negative(item: &ItemView<'_>) -> bool {
    item.data == NEGATIVE_DATA && decimal::parse(item.flags).is_some_and(|flags| flags & NEGATIVE_FLAG != 0)
}
