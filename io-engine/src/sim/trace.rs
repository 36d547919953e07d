//! What happened, as text: the last lines for people, a hash over all of them for the determinism test.

use crate::Nanos;
use std::collections::VecDeque;
use std::fmt::{self, Write};

/// How many of a payload's bytes a line shows.
const SHOWN_BYTES: usize = 40;

pub(super) struct Trace {
    lines: VecDeque<String>,
    capacity: usize,
    count: u64,
    hash: u64,
}

impl Trace {
    pub(super) fn new(capacity: usize) -> Self {
        Self { lines: VecDeque::new(), capacity, count: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }

    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        let surplus = self.lines.len().saturating_sub(capacity);
        self.lines.drain(..surplus);
    }

    pub(super) fn push(&mut self, now: Nanos, text: fmt::Arguments<'_>) {
        // The oldest line's memory is used again, so a long run doesn't live in the allocator.
        let mut line =
            if self.lines.len() >= self.capacity { self.lines.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        let micros = now / 1000;
        // Writing to a String can't fail.
        let _ = write!(line, "{:>7}.{:03} ms  {text}", micros / 1000, micros % 1000);
        for &byte in line.as_bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.count += 1;
        if self.capacity > 0 {
            self.lines.push_back(line);
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.count - self.lines.len() as u64
    }
}

/// A payload in a line: its length, its beginning, and a check over all of it.
pub(super) struct Shown<'a>(pub(super) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_BYTES)];
        let check = self.0.iter().fold(0u32, |sum, &byte| sum.rotate_left(5) ^ u32::from(byte));
        let more = if shown.len() < self.0.len() { "..." } else { "" };
        write!(f, "{} bytes \"{}\"{more} #{check:08x}", self.0.len(), shown.escape_ascii())
    }
}
