//! A file's lines, read from a place on, with the place after each.

use super::line::{Entry, Unreadable};
use std::io::{self, BufRead, BufReader, Read};

/// Longest line that is looked at: far above the longest one written.
const MAX_LINE_BYTES: u64 = 16 << 10;

/// What stands at a place of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole entry.
    Entry(Entry),
    /// A line that can't be used.
    Unreadable(Unreadable),
    /// Bytes without a line end at the end: whoever wrote them did not get to the end, and promised nothing.
    Torn,
}

/// Reads lines. Lives as long as one reading of a file.
#[derive(Debug)]
pub struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    offset: u64,
}

impl<R: Read> Lines<R> {
    /// Reads `input`, which stands at `offset` of its file.
    pub fn new(input: R, offset: u64) -> Lines<R> {
        Lines { input: BufReader::with_capacity(64 << 10, input), line: Vec::new(), offset }
    }

    /// How far it was read: the place of the next line.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line; `None` at the end. An empty line is passed over.
    pub fn next_line(&mut self) -> io::Result<Option<Found>> {
        loop {
            self.line.clear();
            (&mut self.input).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line)?;
            self.offset += self.line.len() as u64;
            let is_whole = self.line.last() == Some(&b'\n');
            return Ok(match self.line.as_slice() {
                [] => None,
                [b'\n'] => continue,
                line if is_whole => Some(Entry::read(line).map_or_else(Found::Unreadable, Found::Entry)),
                line if (line.len() as u64) < MAX_LINE_BYTES => Some(Found::Torn),
                _ => Some(self.pass_over()?),
            });
        }
    }

    /// The rest of a line that is too long.
    fn pass_over(&mut self) -> io::Result<Found> {
        loop {
            let buffered = self.input.fill_buf()?;
            let (length, is_end) = match memchr::memchr(b'\n', buffered) {
                Some(at) => (at + 1, true),
                None => (buffered.len(), false),
            };
            self.input.consume(length);
            self.offset += length as u64;
            if is_end {
                return Ok(Found::Unreadable(Unreadable::BadLine));
            }
            if length == 0 {
                return Ok(Found::Torn);
            }
        }
    }
}
