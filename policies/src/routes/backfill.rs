//! Two children, a near one that is asked first and a far one behind it, and items that are put into the near one when
//! only the far one has them: what WarmUpRoute and L1L2CacheRoute have in common.
//!
//! ```text
//!  get  ──► near ── hit ──► answer
//!            └── miss or error ──► far (mg) ── hit ──► answer; behind it: add to near, then look at far once more
//!  gets ──► the same, but: far hit ──► add to near ──► ask near again ──► answer: the cas is near's
//!  delete ──► far ──► near ──► the worse of both
//! ```
//!
//! The item goes into the near child with what is left of its life (a meta get tells it), its flags and its bytes. Where a
//! server knows no meta get, `gets` is asked in its place, and the item is put in only when the settings give it an end.
//!
//! **Why nothing stale stays.** An add can come late: the value was read, then deleted everywhere, then added. So a delete
//! is done at the far child before it is sent to the near one, and an add that was stored is followed by another look at
//! the far child: unless the item is there with the cas it had, it is deleted at the near one. If the delete reached near
//! before the add, it had reached far before that, and the look, which comes after the add, sees it; if it reached near
//! after the add, it removed what was added. This holds whoever deletes, as long as they do it in this order. An add whose
//! fate isn't known is deleted without looking. Until the look is done, about two round trips, what was added can be read by
//! others; by nobody where all requests go over one connection to each server, which keeps them in order.

use super::NodeId;
use crate::decimal::{self, Decimal};
use crate::outcome::OutcomeClass;
use crate::plan::{Best, Frame, Place, Run, Seat, Settled, Started};
use crate::request::{Answer, ItemView};
use crate::variant::{VariantId, Written};
use crate::{Failure, Outcome};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{Parts, ReplyKind};

/// The children, in order.
pub(super) const NEAR: usize = 0;
pub(super) const FAR: usize = 1;
/// Most tries at one child for one request: a read, an add, a read again, a delete.
pub(super) const TIMES: usize = 4;

/// The longest time memcached counts from now; anything above is seconds since 1970.
const LONGEST_RELATIVE_S: u64 = 60 * 60 * 24 * 30;

/// How a route fills its near child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// Seconds that what is filled in lives at most, 0 for no end: the shorter of this and what is left of it. `None`:
    /// what is left of it.
    pub exptime: Option<u32>,
    /// Ask the far child how long an item has left to live.
    pub ask_ttl: bool,
    /// Deletes go to both children, and what was filled in is looked at once more. Otherwise they go to the near one.
    pub delete_both: bool,
}

/// `Frame::words`: the phase in the low byte, then whether far knows meta gets.
const PHASE: usize = 0;
/// `Frame::words`: the cas that what was filled in has at the far child.
const CAS: usize = 1;

const SPOKE_META: u64 = 1 << 8;

/// What a frame waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// The near child's first reply.
    Near,
    /// The far child's.
    Far,
    /// The far child's, which knows no meta get.
    FarPlain,
    /// The add to near, before near is asked again.
    Fill,
    /// Near's second reply.
    Again,
    /// Behind the answer: the add to near.
    FillBehind,
    /// Behind the answer: the second look at far.
    Look,
    /// A delete, at far.
    DeleteFar,
    /// A delete, at near.
    DeleteNear,
    /// For the route's own use.
    Own,
}

impl Phase {
    const ALL: [Phase; 10] = [
        Phase::Near,
        Phase::Far,
        Phase::FarPlain,
        Phase::Fill,
        Phase::Again,
        Phase::FillBehind,
        Phase::Look,
        Phase::DeleteFar,
        Phase::DeleteNear,
        Phase::Own,
    ];

    pub(super) fn of(frame: &Frame) -> Phase {
        Phase::ALL[usize::from(frame.words[PHASE] as u8)]
    }

    pub(super) fn enter(self, frame: &mut Frame) {
        frame.words[PHASE] = frame.words[PHASE] & !0xff | self as u64;
    }
}

/// True while a frame may ask a child for more.
pub(super) fn may_start_more(frame: &Frame) -> bool {
    match Phase::of(frame) {
        Phase::Again | Phase::DeleteNear => false,
        Phase::Near
        | Phase::Far
        | Phase::FarPlain
        | Phase::Fill
        | Phase::FillBehind
        | Phase::Look
        | Phase::DeleteFar
        | Phase::Own => true,
    }
}

impl Backfill {
    /// A read, from the near child on.
    pub(super) fn read(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        self.begin(run, at, Phase::Near, NEAR)
    }

    /// A delete, at the far child first.
    pub(super) fn delete(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        self.begin(run, at, Phase::DeleteFar, FAR)
    }

    fn begin(&self, run: &mut Run<'_>, at: usize, phase: Phase, child: usize) -> Started {
        let actions = run.out.len();
        let variant = run.frame(at).variant;
        match self.ask(run, at, phase, child, variant) {
            None => Started::Waiting,
            Some(settled) if run.out.len() == actions && run.is_last_frame(at) => match settled.answer {
                // Neither child could be used, and nothing was done.
                Answer::Local(reply) if settled.class() == OutcomeClass::Lost => run.take_back(at, reply),
                Answer::Local(_) | Answer::Try(_) | Answer::Composed => run.close(at, settled),
            },
            Some(settled) => run.close(at, settled),
        }
    }

    /// Asks a child and waits; what comes of it when it answers on the spot.
    pub(super) fn ask(
        &self,
        run: &mut Run<'_>,
        at: usize,
        phase: Phase,
        child: usize,
        variant: VariantId,
    ) -> Option<Settled> {
        phase.enter(run.frame(at));
        let settled = match run.start_child_as(at, child, variant) {
            Started::Waiting => return None,
            Started::Settled(settled) => settled,
            Started::Unusable(reply) => run.settled(reply, variant),
        };
        self.settled(run, at, settled)
    }

    /// Takes the outcome of the child that was asked last; the frame's own when that decides it.
    pub(super) fn settled(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> Option<Settled> {
        match Phase::of(run.frame(at)) {
            Phase::Near if settled.class() == OutcomeClass::Success || settled.ends_tries() => Some(settled),
            Phase::Near => {
                run.frame(at).best = Some(Best { settled, child: NEAR as u16 });
                self.ask_far(run, at, if self.ask_ttl { Phase::Far } else { Phase::FarPlain })
            }
            Phase::Far if is_refused(settled) => self.ask_far(run, at, Phase::FarPlain),
            Phase::Far | Phase::FarPlain => self.far_settled(run, at, settled),
            Phase::Fill => {
                self.filled(run, at, settled);
                let variant = run.frame(at).variant;
                self.ask(run, at, Phase::Again, NEAR, variant)
            }
            Phase::Again => Some(self.better(run, at, settled, FAR)),
            Phase::FillBehind => match self.filled_behind(run, at, settled) {
                true => self.look(run, at),
                false => Some(settled),
            },
            Phase::Look => {
                let cas = run.frame(at).words[CAS];
                let same = run.item(settled.answer).is_some_and(|item| decimal::parse(item.cas) == Some(cas));
                if !same {
                    self.delete_near(run, at);
                }
                Some(settled)
            }
            Phase::DeleteFar => {
                run.frame(at).best = Some(Best { settled, child: FAR as u16 });
                let variant = run.frame(at).variant;
                self.ask(run, at, Phase::DeleteNear, NEAR, variant)
            }
            Phase::DeleteNear => Some(worse(run, at, settled)),
            Phase::Own => Some(settled),
        }
    }

    /// Asks the far child, with a meta get or plainly.
    fn ask_far(&self, run: &mut Run<'_>, at: usize, phase: Phase) -> Option<Settled> {
        let variant = run.frame(at).variant;
        let form = match phase {
            Phase::Far => run.derive(variant, |parts, _, out| {
                let parts = Parts { meta: true, ..Parts::of_key(Operation::Get, parts.key) };
                Some(Written::write(parts, out))
            }),
            _ => run.derive_from_key(variant, if self.delete_both { Operation::Gets } else { Operation::Get }),
        };
        match form {
            Ok(form) => self.ask(run, at, phase, FAR, form),
            // No room: the near child's word stands.
            Err(_) => run.frame(at).best.map(|best| best.settled),
        }
    }

    fn far_settled(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> Option<Settled> {
        let operation = run.operation(run.plan.frames[at].variant);
        if settled.class() != OutcomeClass::Success {
            return Some(self.better(run, at, settled, FAR));
        }
        if Phase::of(run.frame(at)) == Phase::Far {
            run.frame(at).words[PHASE] |= SPOKE_META;
        }
        let cas = run.item(settled.answer).and_then(|item| decimal::parse(item.cas));
        run.frame(at).words[CAS] = cas.unwrap_or_default();
        match (operation, self.add(run, at, settled.answer)) {
            (Operation::Get, add) => {
                if let Some(add) = add {
                    self.fill_behind(run, at, add);
                }
                Some(settled)
            }
            (_, Some(add)) => self.ask(run, at, Phase::Fill, NEAR, add),
            // The time was moved nowhere, but the value is right.
            (Operation::Gat, None) => Some(settled),
            // A cas of the far child's must not be used at the near one.
            (_, None) => run.frame(at).best.map(|best| best.settled),
        }
    }

    /// The add of an item to the near child, unless its life isn't known, or over.
    fn add(&self, run: &mut Run<'_>, at: usize, answer: Answer) -> Option<VariantId> {
        let variant = run.frame(at).variant;
        let unix_s = run.env.unix_ms / 1000;
        let add = run.derive_of(variant, Some(answer), |parts, item, out| {
            let item = item?;
            let exptime = self.exptime_of(&item, unix_s);
            let exptime = match parts.operation {
                Operation::Gat | Operation::Gats => parts.exptime,
                _ => exptime.as_ref()?.as_bytes(),
            };
            Some(Written::write(Parts { exptime, ..parts_of(Operation::Add, parts.key, &item) }, out))
        });
        // What there is no room for is passed on without being filled in.
        add.ok()
    }

    /// The exptime an item is filled in with; none when it isn't to be.
    fn exptime_of(&self, item: &ItemView<'_>, unix_s: u64) -> Option<Decimal> {
        let seconds = match (item.ttl, self.exptime) {
            (None, exptime) => u64::from(exptime?),
            (Some(-1), exptime) => u64::from(exptime.unwrap_or(0)),
            (Some(left), exptime) => {
                // Its last second: 0 would mean no end.
                let left = u64::try_from(left).ok().filter(|left| *left > 0)?;
                exptime.filter(|most| *most > 0).map_or(left, |most| left.min(u64::from(most)))
            }
        };
        Some(exptime_token(seconds, unix_s))
    }

    fn fill_behind(&self, run: &mut Run<'_>, at: usize, add: VariantId) {
        let frame = run.frame(at);
        let (node, variant, words) = (frame.node, frame.variant, frame.words);
        if !self.delete_both {
            run.background(node, NEAR, add);
            return;
        }
        let behind = run.open(Seat { node, place: Place::NOBODY, variant });
        run.frame(behind).words = words;
        if let Some(settled) = self.ask(run, behind, Phase::FillBehind, NEAR, add) {
            run.close(behind, settled);
        }
    }

    /// What is to be done about an add that the answer waited for.
    fn filled(&self, run: &mut Run<'_>, at: usize, settled: Settled) {
        if !self.delete_both || !self.filled_behind(run, at, settled) {
            return;
        }
        let frame = run.frame(at);
        let (node, variant, words) = (frame.node, frame.variant, frame.words);
        let behind = run.open(Seat { node, place: Place::NOBODY, variant });
        run.frame(behind).words = words;
        if let Some(settled) = self.look(run, behind) {
            run.close(behind, settled);
        }
    }

    /// True when an add was stored and is to be looked after; one of which nothing is known is deleted.
    fn filled_behind(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> bool {
        match settled.outcome {
            Outcome::Reply(ReplyKind::Stored) => true,
            Outcome::Reply(_) => false,
            Outcome::Failure(failure) => {
                match failure {
                    Failure::Timeout | Failure::DeadlineExceeded | Failure::ConnectionLost | Failure::Misaligned => {
                        self.delete_near(run, at)
                    }
                    // It was never sent.
                    Failure::Unavailable | Failure::QueueFull | Failure::NotReplayable => {}
                }
                false
            }
        }
    }

    /// Looks whether the far child still has what was filled in.
    fn look(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        let frame = run.frame(at);
        let (variant, spoke_meta) = (frame.variant, frame.words[PHASE] & SPOKE_META != 0);
        let form = match spoke_meta {
            true => run.derive(variant, |parts, _, out| Some(Written::peek(parts.key, out))),
            false => run.derive_from_key(variant, Operation::Gets),
        };
        match form {
            Ok(form) => self.ask(run, at, Phase::Look, FAR, form),
            Err(reply) => {
                self.delete_near(run, at);
                Some(run.settled(reply, variant))
            }
        }
    }

    fn delete_near(&self, run: &mut Run<'_>, at: usize) {
        let frame = run.frame(at);
        let (node, variant) = (frame.node, frame.variant);
        background_delete(run, node, variant, NEAR);
    }

    /// The better of the best outcome so far and this one. Of equals, a get takes the far child's, others the near one's.
    fn better(&self, run: &mut Run<'_>, at: usize, settled: Settled, child: usize) -> Settled {
        let operation = run.operation(run.plan.frames[at].variant);
        let Some(best) = run.frame(at).best else { return settled };
        let takes_ties = operation == Operation::Get || child == NEAR;
        match settled.class().cmp(&best.settled.class()) {
            std::cmp::Ordering::Less => settled,
            std::cmp::Ordering::Equal if takes_ties => settled,
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => best.settled,
        }
    }
}

/// The worse of the outcome noted and this one, which wins where they are equal.
fn worse(run: &mut Run<'_>, at: usize, settled: Settled) -> Settled {
    match run.frame(at).best {
        Some(best) if best.settled.class() > settled.class() => best.settled,
        Some(_) | None => settled,
    }
}

/// Deletes a key at a child; nobody waits for it.
pub(super) fn background_delete(run: &mut Run<'_>, node: NodeId, variant: VariantId, child: usize) {
    if let Ok(form) = run.derive_from_key(variant, Operation::Delete) {
        run.background(node, child, form);
    }
}

/// A storage command for an item; its exptime is the caller's.
pub(super) fn parts_of<'a>(operation: Operation, key: &'a [u8], item: &ItemView<'a>) -> Parts<'a> {
    Parts { flags: item.flags, value: item.data, ..Parts::of_key(operation, key) }
}

/// Seconds from now as an exptime; 0 for no end.
pub(super) fn exptime_token(seconds: u64, unix_s: u64) -> Decimal {
    Decimal::new(if seconds > LONGEST_RELATIVE_S { unix_s + seconds } else { seconds })
}

/// True when a server doesn't know what was asked of it.
pub(super) fn is_refused(settled: Settled) -> bool {
    matches!(settled.outcome, Outcome::Reply(ReplyKind::Error | ReplyKind::ClientError))
}
