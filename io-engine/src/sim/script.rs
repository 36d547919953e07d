//! A client (or server) that follows a list of steps and keeps what it heard.

use super::peer::{Peer, PeerEnd, PeerOut, PeerReading};
use crate::Nanos;
use std::collections::VecDeque;

/// A peer made of steps, begun when its stream is there, each after the one before it.
#[derive(Debug, Default)]
pub struct Script {
    steps: VecDeque<Step>,
    received: Vec<u8>,
    /// How many of the received bytes earlier `expect` steps were about.
    expected: usize,
    pausing: bool,
    connects: usize,
    end: Option<PeerEnd>,
}

#[derive(Debug)]
enum Step {
    Send(Vec<u8>),
    Expect(usize),
    Pause(Nanos),
    Read(PeerReading),
    Finish,
    Close,
    Reset,
}

impl Script {
    /// One without steps: it connects and listens.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends.
    #[must_use]
    pub fn send(self, bytes: &[u8]) -> Self {
        self.step(Step::Send(bytes.to_vec()))
    }

    /// Waits until so many more bytes have come.
    #[must_use]
    pub fn expect(self, bytes: usize) -> Self {
        self.step(Step::Expect(bytes))
    }

    /// Waits.
    #[must_use]
    pub fn pause(self, nanos: Nanos) -> Self {
        self.step(Step::Pause(nanos))
    }

    /// Changes how it reads.
    #[must_use]
    pub fn read(self, reading: PeerReading) -> Self {
        self.step(Step::Read(reading))
    }

    /// Closes the sending side and reads on. It is done when the other side closes.
    #[must_use]
    pub fn finish(self) -> Self {
        self.step(Step::Finish)
    }

    /// Closes.
    #[must_use]
    pub fn close(self) -> Self {
        self.step(Step::Close)
    }

    /// Resets the stream.
    #[must_use]
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    /// All that came.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Why the stream is over; `None` while it isn't, and after the script's own `close` or `reset`.
    #[must_use]
    pub fn end(&self) -> Option<PeerEnd> {
        self.end
    }

    /// Whether the stream was there at all.
    #[must_use]
    pub fn was_connected(&self) -> bool {
        self.connects > 0
    }

    /// Whether all steps were made.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.steps.is_empty()
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    fn proceed(&mut self, out: &mut PeerOut) {
        while !self.pausing {
            match self.steps.front() {
                Some(Step::Send(bytes)) => out.send(bytes),
                Some(&Step::Expect(bytes)) => {
                    if self.received.len() - self.expected < bytes {
                        return;
                    }
                    self.expected += bytes;
                }
                Some(&Step::Pause(nanos)) => {
                    self.pausing = true;
                    out.tick_in(nanos);
                }
                Some(&Step::Read(reading)) => out.read(reading),
                Some(Step::Finish) => out.finish(),
                Some(Step::Close) => out.close(),
                Some(Step::Reset) => out.reset(),
                None => {
                    return out.done();
                }
            }
            let finished = matches!(self.steps.pop_front(), Some(Step::Finish));
            if finished && self.steps.is_empty() {
                // Not done before the other side has closed too.
                return;
            }
        }
    }
}

impl Peer for Script {
    fn on_connect(&mut self, out: &mut PeerOut) {
        self.connects += 1;
        self.proceed(out);
    }

    fn on_bytes(&mut self, bytes: &[u8], out: &mut PeerOut) {
        self.received.extend_from_slice(bytes);
        if !self.steps.is_empty() {
            self.proceed(out);
        }
    }

    fn on_close(&mut self, end: PeerEnd, out: &mut PeerOut) {
        let _ = out;
        self.end = Some(end);
    }

    fn on_tick(&mut self, out: &mut PeerOut) {
        self.pausing = false;
        if self.end.is_none() {
            self.proceed(out);
        }
    }
}
