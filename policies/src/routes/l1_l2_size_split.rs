//! L1L2SizeSplitRoute: large values live in L2, and L1 has a sentinel in their place.
//!
//! ```text
//!  set, large ──► L2: the value ── STORED ──► L1: an empty item with the sentinel's flag ──► its reply
//!                              └── failed ──► L1: the value, for `failure_ttl` seconds at most
//!  set, small ──► L1
//!  get ──► L1 ── sentinel ──► L2 ── hit ──► answer, with the cas of the sentinel
//!                                 └── miss ──► the sentinel is deleted if it is still that one, and L1 asked again
//! ```
//!
//! gets, gat and gats are read as get is. Every other operation goes to L1, whatever its size: a delete there is enough,
//! since nothing in L2 is read without a sentinel. Large is a value of at least `threshold` bytes that is to live for at least
//! `ttl_threshold` seconds. With `both_full_set` L1 has large values too, and L2 a copy.
//!
//! A sentinel is mcrouter's: flag 0x20 with no data, or with a number `n` as its data, when the value lies under `key|==|n`. An
//! item that has the flag and other data is one of the client's own. When L2 has nothing and the retries are used up the
//! answer is a miss (mcrouter: an error).

use super::{Collapse, Policy, Shape};
use crate::decimal::{self, Decimal};
use crate::outcome::OutcomeClass;
use crate::plan::{Best, Frame, Run, Seat, Settled, Started};
use crate::request::{Answer, ItemView};
use crate::variant::{VariantId, Written};
use crate::{LocalReply, Outcome};
use keyway_protocol::memcached::text::{Parts, ReplyKind};
use keyway_protocol::{Operation, OperationClass};

const L1: usize = 0;
const L2: usize = 1;

/// What marks a sentinel, and what stands between a key and its number: mcrouter's.
const SENTINEL_FLAG: u64 = 0x20;
const ALIAS: &[u8] = b"|==|";

/// `Frame::words`: the step in the low byte, how often L1 may be asked again above it.
const STEP: usize = 0;
/// `Frame::words`: the sentinel's cas.
const CAS: usize = 1;

/// What a frame waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    /// A read: L1's reply.
    Small,
    /// A read: L2's, behind a sentinel.
    Large,
    /// A read: the sentinel with its cas.
    Sentinel,
    /// A read: the sentinel is being deleted.
    Removal,
    /// A set: L2's reply to the value.
    SetLarge,
    /// A set: L1's reply.
    SetSmall,
    /// A set with `both_full_set`: L1's reply.
    SetBoth,
}

impl Step {
    const ALL: [Step; 7] =
        [Step::Small, Step::Large, Step::Sentinel, Step::Removal, Step::SetLarge, Step::SetSmall, Step::SetBoth];

    fn of(frame: &Frame) -> Step {
        Step::ALL[usize::from(frame.words[STEP] as u8)]
    }
}

/// L1L2SizeSplitRoute. Its children: L1, L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1L2SizeSplit {
    /// From how many bytes on a value is large; 0: none is.
    pub threshold: usize,
    /// How many seconds a large value must have to live at least.
    pub ttl_threshold: u32,
    /// How many seconds at most a large value lives in L1 when L2 fails.
    pub failure_ttl: u32,
    /// Large values are stored in both.
    pub both_full_set: bool,
    /// How often L1 is asked again when L2 lacks what a sentinel stands for.
    pub retries: u8,
}

impl Policy for L1L2SizeSplit {
    fn shape(&self) -> Shape {
        // A read, the sentinel and its removal, each time.
        Shape::Join(3 * (1 + usize::from(self.retries)), Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        match run.operation(seat.variant) {
            Operation::Get | Operation::Gets | Operation::Gat | Operation::Gats if !run.is_peek(seat.variant) => {
                let at = run.open(seat);
                run.frame(at).words[STEP] = u64::from(self.retries) << 8;
                self.begin(run, at, Step::Small, L1)
            }
            Operation::Set if self.is_large(run, seat.variant) => {
                let at = run.open(seat);
                match self.both_full_set {
                    true => self.begin(run, at, Step::SetBoth, L1),
                    false => self.begin(run, at, Step::SetLarge, L2),
                }
            }
            _ => run.pass(seat, L1),
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, _child: u16, settled: Settled) -> Option<Settled> {
        match Step::of(run.frame(at)) {
            Step::Small => self.small_read(run, at, settled),
            Step::Large => self.large_read(run, at, settled),
            Step::Sentinel => self.remove_sentinel(run, at, settled),
            Step::Removal => self.again_or_miss(run, at),
            Step::SetLarge => self.large_set(run, at, settled),
            Step::SetSmall => Some(settled),
            Step::SetBoth => {
                if settled.outcome == Outcome::Reply(ReplyKind::Stored) {
                    let frame = run.frame(at);
                    let (node, variant) = (frame.node, frame.variant);
                    run.background(node, L2, variant);
                }
                Some(settled)
            }
        }
    }

    fn may_start_more(&self, frame: &Frame, _children: usize) -> bool {
        Step::of(frame) != Step::SetSmall
    }

    /// A set that is half done is finished whoever has gone away meanwhile.
    fn lingers(&self, operation: Operation) -> bool {
        operation.class() == OperationClass::UpdateLike
    }

    fn goes_on(&self) -> bool {
        true
    }
}

impl L1L2SizeSplit {
    fn is_large(&self, run: &Run<'_>, variant: VariantId) -> bool {
        let Some(parts) = run.parts(variant) else { return false };
        // Without an end it lives long enough, past its end it doesn't.
        let lives = match decimal::parse(parts.exptime) {
            Some(0) => true,
            Some(seconds) => seconds >= u64::from(self.ttl_threshold),
            None => self.ttl_threshold == 0,
        };
        self.threshold > 0 && parts.value.len() >= self.threshold && lives
    }

    fn begin(&self, run: &mut Run<'_>, at: usize, step: Step, child: usize) -> Started {
        let variant = run.frame(at).variant;
        enter(run, at, step);
        match run.start_child_as(at, child, variant) {
            Started::Waiting => Started::Waiting,
            Started::Settled(settled) => match self.child_settled(run, at, child as u16, settled) {
                Some(settled) => run.close(at, settled),
                None => Started::Waiting,
            },
            // L1 may still take it.
            Started::Unusable(reply) if step == Step::SetLarge => {
                let settled = run.settled(reply, variant);
                match self.large_set(run, at, settled) {
                    Some(_) if run.is_last_frame(at) => run.take_back(at, reply),
                    Some(settled) => run.close(at, settled),
                    None => Started::Waiting,
                }
            }
            Started::Unusable(reply) => run.take_back(at, reply),
        }
    }

    fn ask(&self, run: &mut Run<'_>, at: usize, step: Step, child: usize, form: VariantId) -> Option<Settled> {
        enter(run, at, step);
        let settled = match run.start_child_as(at, child, form) {
            Started::Waiting => return None,
            Started::Settled(settled) => settled,
            Started::Unusable(reply) => run.settled(reply, form),
        };
        self.child_settled(run, at, child as u16, settled)
    }

    /// L1 has answered a read.
    fn small_read(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> Option<Settled> {
        let variant = run.frame(at).variant;
        let Some((number, cas)) = run.item(settled.answer).and_then(|item| sentinel(&item)) else {
            return Some(settled);
        };
        run.frame(at).words[CAS] = cas;
        let form = match number {
            None => Ok(variant),
            Some(number) => run.with_key(variant, |key, out| {
                out.extend_from_slice(key);
                out.extend_from_slice(ALIAS);
                out.extend_from_slice(Decimal::new(number).as_bytes());
            }),
        };
        match form {
            Ok(form) => self.ask(run, at, Step::Large, L2, form),
            Err(reply) => Some(run.settled(reply, variant)),
        }
    }

    /// L2 has answered a read.
    fn large_read(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> Option<Settled> {
        let variant = run.frame(at).variant;
        match settled.class() {
            OutcomeClass::Success => Some(match run.operation(variant) {
                Operation::Gets | Operation::Gats => with_cas_of_sentinel(run, at, settled),
                _ => settled,
            }),
            OutcomeClass::Miss => match run.derive_from_key(variant, Operation::Gets) {
                Ok(form) => self.ask(run, at, Step::Sentinel, L1, form),
                Err(_) => Some(settled),
            },
            OutcomeClass::Error | OutcomeClass::Lost => Some(settled),
        }
    }

    /// A sentinel that stands for nothing: a cas that ends its life, so that one which is new by now stays.
    fn remove_sentinel(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> Option<Settled> {
        let found = run.item(settled.answer).and_then(|item| sentinel(&item));
        let Some((_, cas)) = found else { return self.again_or_miss(run, at) };
        let variant = run.frame(at).variant;
        let cas = Decimal::new(cas);
        let form = run.derive(variant, |parts, _, out| {
            let parts = Parts { exptime: b"-1", number: cas.as_bytes(), ..Parts::of_key(Operation::Cas, parts.key) };
            Some(Written::write(parts, out))
        });
        match form {
            Ok(form) => self.ask(run, at, Step::Removal, L1, form),
            Err(_) => Some(run.settled(LocalReply::Null, variant)),
        }
    }

    fn again_or_miss(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        let frame = run.frame(at);
        let variant = frame.variant;
        if frame.words[STEP] >> 8 == 0 {
            return Some(run.settled(LocalReply::Null, variant));
        }
        frame.words[STEP] -= 1 << 8;
        self.ask(run, at, Step::Small, L1, variant)
    }

    /// L2 has answered the set of a large value.
    fn large_set(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> Option<Settled> {
        let variant = run.frame(at).variant;
        let is_stored = settled.outcome == Outcome::Reply(ReplyKind::Stored);
        let form = run.derive(variant, |parts, _, out| match is_stored {
            true => {
                let flags = Decimal::new(decimal::parse(parts.flags)? | SENTINEL_FLAG);
                Some(Written::write(Parts { flags: flags.as_bytes(), value: b"", ..parts }, out))
            }
            false => {
                let most = u64::from(self.failure_ttl);
                let short = decimal::parse(parts.exptime).is_none_or(|seconds| seconds > 0 && seconds <= most);
                let most = Decimal::new(most);
                let exptime = if short { parts.exptime } else { most.as_bytes() };
                Some(Written::write(Parts { exptime, ..parts }, out))
            }
        });
        match form {
            Ok(form) => {
                run.frame(at).best = Some(Best { settled, child: L2 as u16 });
                self.ask(run, at, Step::SetSmall, L1, form)
            }
            // L1 can't say anything without the request.
            Err(reply) if is_stored => Some(run.settled(reply, variant)),
            Err(_) => Some(settled),
        }
    }
}

fn enter(run: &mut Run<'_>, at: usize, step: Step) {
    let frame = run.frame(at);
    frame.words[STEP] = frame.words[STEP] & !0xff | step as u64;
}

/// What a sentinel says: the number of its value if it has one, and its cas.
fn sentinel(item: &ItemView<'_>) -> Option<(Option<u64>, u64)> {
    let is_flagged = decimal::parse(item.flags).is_some_and(|flags| flags & SENTINEL_FLAG != 0);
    let number = decimal::parse(item.data);
    (is_flagged && (item.data.is_empty() || number.is_some()))
        .then(|| (number, decimal::parse(item.cas).unwrap_or_default()))
}

/// L2's item with the cas of L1's sentinel: the one a cas will be compared with.
fn with_cas_of_sentinel(run: &mut Run<'_>, at: usize, settled: Settled) -> Settled {
    let frame = run.frame(at);
    let (variant, cas) = (frame.variant, Decimal::new(frame.words[CAS]));
    match run.compose_with_cas(settled.answer, cas.as_bytes()) {
        Ok(()) => Settled { answer: Answer::Composed, ..settled },
        Err(reply) => run.settled(reply, variant),
    }
}
