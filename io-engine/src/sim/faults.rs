//! Which faults a network draws, how often, and which it has drawn.
//!
//! Probabilities are parts per million of the occasion each names (a delivery, a send, a connect, a turn). Integers, so
//! that a seed means the same on every machine.

use super::prng::Prng;
use crate::Nanos;
use std::ops::Index;

const MICRO: Nanos = 1_000;
const MILLI: Nanos = 1_000_000;

/// A range of times, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Shortest.
    pub min: Nanos,
    /// Longest.
    pub max: Nanos,
}

impl Span {
    /// From `min` to `max` nanoseconds.
    #[must_use]
    pub const fn new(min: Nanos, max: Nanos) -> Self {
        Self { min, max }
    }

    pub(super) fn draw(self, prng: &mut Prng) -> Nanos {
        prng.between(self.min, self.max)
    }
}

/// The network's manners. Kept per stream: by default the net's, or those of the address it was connected to
/// (`SimNet::set_faults`). What concerns a turn is always the net's.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// How long bytes, connects and resets travel.
    pub latency_nanos: Span,
    /// Of deliveries: how many travel `slow_nanos` more (what comes after them waits behind them).
    pub slow_ppm: u32,
    /// How much longer those travel.
    pub slow_nanos: Span,
    /// Of deliveries: how many are cut at any byte, the rest coming later.
    pub cut_ppm: u32,
    /// Of sends: how many enter the network in pieces, `late_nanos` apart.
    pub partial_send_ppm: u32,
    /// Of a core's sends: how many are reported only `late_nanos` after the last byte left.
    pub late_sent_ppm: u32,
    /// For the two above, and for buffers that are missing.
    pub late_nanos: Span,
    /// Of deliveries: after how many the stream is reset, at once in the middle of the bytes or up to `late_nanos` later, by
    /// the peer or between the two.
    pub reset_ppm: u32,
    /// Of deliveries: after how many the peer hangs up in order, perhaps in the middle of what it had to say.
    pub hang_up_ppm: u32,
    /// Of deliveries: after how many the peer is silent and deaf for `stall_nanos`.
    pub stall_ppm: u32,
    /// How long.
    pub stall_nanos: Span,
    /// Of connects: how many are refused.
    pub refuse_ppm: u32,
    /// Of connects: how many never come to an end. A client's is told `Refused` after `stall_nanos`.
    pub hang_ppm: u32,
    /// Of connects and accepts: how many find no descriptor (an accept is tried again).
    pub no_descriptors_ppm: u32,
    /// Of reads by a core: how many find no buffer and happen `late_nanos` later.
    pub no_buffers_ppm: u32,
    /// Of `Reading::Off`: after how many bytes are still handed over for `late_nanos`, as the cancel travels.
    pub late_off_ppm: u32,
    /// Of turns: before how many the doorbell rings for no reason.
    pub doorbell_ppm: u32,
    /// Of turns: after how many another without any event follows.
    pub empty_turn_ppm: u32,
    /// Of turns: how many take only a part of the events there are.
    pub split_turn_ppm: u32,
    /// Longest time a turn lets events gather before it takes them (the batching window).
    pub gather_nanos: Nanos,
    /// Bytes that are under way or unread in one direction of a stream; a send waits for room.
    pub window_bytes: usize,
}

impl Faults {
    /// A fast, well-behaved network.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            latency_nanos: Span::new(20 * MICRO, 200 * MICRO),
            slow_ppm: 0,
            slow_nanos: Span::new(MILLI, 50 * MILLI),
            cut_ppm: 0,
            partial_send_ppm: 0,
            late_sent_ppm: 0,
            late_nanos: Span::new(10 * MICRO, 5 * MILLI),
            reset_ppm: 0,
            hang_up_ppm: 0,
            stall_ppm: 0,
            stall_nanos: Span::new(MILLI, 3_000 * MILLI),
            refuse_ppm: 0,
            hang_ppm: 0,
            no_descriptors_ppm: 0,
            no_buffers_ppm: 0,
            late_off_ppm: 0,
            doorbell_ppm: 0,
            empty_turn_ppm: 0,
            split_turn_ppm: 0,
            gather_nanos: 100 * MICRO,
            window_bytes: 64 * 1024,
        }
    }

    /// Everything that delays, cuts and reorders, nothing that loses a stream or refuses one: every byte arrives.
    #[must_use]
    pub const fn lossless() -> Self {
        Self {
            slow_ppm: 20_000,
            cut_ppm: 300_000,
            partial_send_ppm: 200_000,
            late_sent_ppm: 150_000,
            no_buffers_ppm: 50_000,
            late_off_ppm: 500_000,
            doorbell_ppm: 20_000,
            empty_turn_ppm: 50_000,
            split_turn_ppm: 200_000,
            gather_nanos: 300 * MICRO,
            ..Self::none()
        }
    }

    /// All of it.
    #[must_use]
    pub const fn wild() -> Self {
        Self {
            reset_ppm: 6_000,
            hang_up_ppm: 4_000,
            stall_ppm: 4_000,
            refuse_ppm: 60_000,
            hang_ppm: 30_000,
            no_descriptors_ppm: 20_000,
            ..Self::lossless()
        }
    }

    /// A mixture of its own for each seed: some faults absent, some rare, some frequent, the window often tiny. Finds what
    /// an even mixture hides (a fault that needs the absence of another).
    #[must_use]
    pub fn drawn(prng: &mut Prng) -> Self {
        let mut faults = Self::wild();
        let knobs = [
            &mut faults.slow_ppm,
            &mut faults.cut_ppm,
            &mut faults.partial_send_ppm,
            &mut faults.late_sent_ppm,
            &mut faults.reset_ppm,
            &mut faults.hang_up_ppm,
            &mut faults.stall_ppm,
            &mut faults.refuse_ppm,
            &mut faults.hang_ppm,
            &mut faults.no_descriptors_ppm,
            &mut faults.no_buffers_ppm,
            &mut faults.late_off_ppm,
            &mut faults.doorbell_ppm,
            &mut faults.empty_turn_ppm,
            &mut faults.split_turn_ppm,
        ];
        for knob in knobs {
            *knob = match prng.below(4) {
                0 => 0,
                1 => *knob / 5,
                2 => *knob,
                _ => (*knob * 3).min(900_000),
            };
        }
        faults.gather_nanos = [0, 20 * MICRO, 300 * MICRO, 2 * MILLI][prng.below(4) as usize];
        faults.window_bytes = [64, 1024, 16 * 1024, 64 * 1024][prng.below(4) as usize];
        faults
    }

    /// The same without what ends or refuses a stream, for one side of a test whose answers are to be exact.
    #[must_use]
    pub const fn without_loss(self) -> Self {
        Self { reset_ppm: 0, hang_up_ppm: 0, refuse_ppm: 0, hang_ppm: 0, no_descriptors_ppm: 0, ..self }
    }
}

/// What can happen. Each is counted, so that a test can show that it wasn't vacuous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A delivery was cut.
    Cut,
    /// A delivery was slow.
    Slow,
    /// A send entered the network in pieces.
    PartialSend,
    /// A send was reported late.
    LateSent,
    /// A send had to wait for the reader.
    Backpressure,
    /// A peer reset its stream.
    ResetByPeer,
    /// A stream was reset between its ends.
    ResetBetween,
    /// A reset overtook bytes: they are lost.
    LostOnReset,
    /// A reset was told by `ended` before the failed `sent`.
    EndedBeforeSent,
    /// And the other way round.
    SentBeforeEnded,
    /// A peer hung up in order.
    HangUp,
    /// A peer was silent.
    Stall,
    /// A connect was refused.
    Refused,
    /// A connect never came to an end.
    Hung,
    /// A read found no buffer (ENOBUFS).
    NoBuffers,
    /// `Io::connect` found no descriptor.
    NoDescriptors,
    /// An accept found none and backed off.
    AcceptBackoff,
    /// Bytes came after `Reading::Off`.
    LateOff,
    /// The doorbell rang for no reason.
    Doorbell,
    /// A turn had no event.
    EmptyTurn,
    /// A turn left events for the next.
    SplitTurn,
    /// A turn brought bytes of several connections.
    Batch,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Cut,
        Self::Slow,
        Self::PartialSend,
        Self::LateSent,
        Self::Backpressure,
        Self::ResetByPeer,
        Self::ResetBetween,
        Self::LostOnReset,
        Self::EndedBeforeSent,
        Self::SentBeforeEnded,
        Self::HangUp,
        Self::Stall,
        Self::Refused,
        Self::Hung,
        Self::NoBuffers,
        Self::NoDescriptors,
        Self::AcceptBackoff,
        Self::LateOff,
        Self::Doorbell,
        Self::EmptyTurn,
        Self::SplitTurn,
        Self::Batch,
    ];
}

/// How often each happened: `counts[FaultKind::Cut]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; FaultKind::ALL.len()]);

impl FaultCounts {
    /// Adds another net's counts.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// Those that never happened.
    pub fn missing(&self) -> impl Iterator<Item = FaultKind> {
        FaultKind::ALL.into_iter().filter(|&kind| self[kind] == 0)
    }

    pub(super) fn count(&mut self, kind: FaultKind) {
        self.0[kind as usize] += 1;
    }
}

impl Index<FaultKind> for FaultCounts {
    type Output = u64;

    fn index(&self, kind: FaultKind) -> &u64 {
        &self.0[kind as usize]
    }
}
