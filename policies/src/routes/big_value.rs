//! BigValueRoute: large values are stored in chunks, so that they fit servers with a small item limit and spread over them.
//!
//! ```text
//!  set k, large ──► set k:0:S .. set k:n:S ── all STORED ──► set k "1-n-S", with the flag of a parent ──► its reply
//!                                          └── one isn't ──► what it said
//!  get k ──► k ── a parent ──► k:0:S .. k:n:S ── all there ──► the value, with the parent's flags and cas
//!                                             └── one missing ──► a miss
//! ```
//!
//! The form is mcrouter's: flag 0x8000 and `1-<chunks>-<suffix>`. The suffix is new for each set, so that a reader never mixes
//! two values; the parent is written last. add, replace and cas are done on the parent, so they hold for the whole value. What
//! the client's own flags say comes back: where they have 0x8000 themselves the parent begins with 2 (mcrouter takes that for
//! a miss). An item that has the flag but isn't of this form is one of the client's own.
//!
//! A delete removes the parent alone: the value is gone, and the chunks, which nobody finds any more, leave with their exptime or
//! when their server needs the room. To remove them too every delete would have to read first. append and prepend to a
//! large value make it a miss, incr and decr an error, touch lengthens only the parent's life; gat moves all.
//!
//! At most `batch_size` chunks are under way at once. A value is held whole while it is written or put together; one
//! that is too large for that, or makes more than `MOST_CHUNKS`, or has a key too long for a suffix, is passed on whole.

use super::{Collapse, Policy, Shape};
use crate::decimal::{self, Decimal};
use crate::outcome::OutcomeClass;
use crate::plan::{Frame, Run, Seat, Settled, Started};
use crate::request::{Answer, ItemView};
use crate::variant::{VariantId, Written};
use crate::{Failure, LocalReply, Outcome};
use keyway_protocol::memcached::text::{KEY_BYTES_MAX, Parts, ReplyKind};
use keyway_protocol::{Operation, OperationClass};

/// Most chunks of a value.
pub const MOST_CHUNKS: usize = 100;
/// What marks a parent: mcrouter's.
const PARENT_FLAG: u64 = 0x8000;

/// The seat of the parent, among those of chunks from 0.
const PARENT: usize = MOST_CHUNKS;

/// `Frame::words`: the mode in the low byte, how many chunks above it.
const MODE: usize = 0;
/// `Frame::words`: reading, the suffix; writing, the number of the first chunk's form.
const DETAIL: usize = 1;

/// `MODE`: waits for the parent, or what may be one.
const READ_PARENT: u64 = 0;
/// `MODE`: waits for chunks. Their client's flags are those of the parent without, or with, the parent's own.
const READ_CHUNKS: u64 = 1;
const READ_CHUNKS_FLAGGED: u64 = 2;
/// `MODE`: waits for chunks being stored.
const WRITE_CHUNKS: u64 = 3;
/// `MODE`: waits for the parent being stored.
const WRITE_PARENT: u64 = 4;

/// BigValueRoute. Its child: the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BigValue {
    /// Values above so many bytes are split, into chunks of that size; at least 1.
    pub split_threshold: usize,
    /// Most chunks under way at once; 0 for all.
    pub batch_size: usize,
    /// The parent's flag is taken out of what clients get.
    pub hide_reply_flag: bool,
}

impl Policy for BigValue {
    fn shape(&self) -> Shape {
        Shape::Join(MOST_CHUNKS + 1, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        match run.operation(seat.variant) {
            Operation::Get | Operation::Gets | Operation::Gat | Operation::Gats if !run.is_peek(seat.variant) => {
                self.read(run, seat)
            }
            Operation::Set | Operation::Add | Operation::Replace | Operation::Cas => match self.chunks_of(run, seat) {
                Some(chunks) => self.write(run, seat, chunks),
                None => run.pass(seat, 0),
            },
            _ => run.pass(seat, 0),
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        match run.frame(at).words[MODE] & 0xff {
            READ_PARENT => self.parent_read(run, at, settled),
            WRITE_CHUNKS => {
                run.frame(at).outstanding -= 1;
                self.chunk_written(run, at, settled)
            }
            WRITE_PARENT => Some(settled),
            _ => {
                run.frame(at).outstanding -= 1;
                self.chunk_read(run, at, usize::from(child), settled)
            }
        }
    }

    fn may_start_more(&self, frame: &Frame, _children: usize) -> bool {
        match frame.words[MODE] & 0xff {
            READ_PARENT => true,
            READ_CHUNKS | READ_CHUNKS_FLAGGED => frame.next < chunks(frame),
            // All that is written lies in the plan.
            _ => false,
        }
    }

    /// A value that is half written is finished whoever has gone away meanwhile.
    fn lingers(&self, operation: Operation) -> bool {
        operation.class() == OperationClass::UpdateLike
    }
}

// --- read ---

impl BigValue {
    fn read(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        match run.start_child_for(at, 0, PARENT, seat.variant) {
            Started::Waiting => Started::Waiting,
            Started::Settled(settled) => match self.parent_read(run, at, settled) {
                Some(settled) => run.close(at, settled),
                None => Started::Waiting,
            },
            Started::Unusable(reply) => run.take_back(at, reply),
        }
    }

    fn parent_read(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> Option<Settled> {
        let Some(parent) = run.item(settled.answer).and_then(|item| Parent::of(&item)) else { return Some(settled) };
        if !run.keep_piece(at, PARENT, settled.answer) {
            return Some(self.no_room(run, at));
        }
        let mode = if parent.flagged { READ_CHUNKS_FLAGGED } else { READ_CHUNKS };
        let frame = run.frame(at);
        frame.words = [mode | (parent.chunks as u64) << 8, parent.suffix];
        self.ask_chunks(run, at)
    }

    /// Asks for chunks as long as there are some and the batch isn't full.
    fn ask_chunks(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        while self.has_room(run.frame(at)) {
            let frame = run.frame(at);
            let (chunk, variant, suffix) = (frame.next, frame.variant, frame.words[DETAIL]);
            frame.next += 1;
            let form = run.derive(variant, |parts, _, out| {
                let key = ChunkKey::new(parts.key, chunk, suffix)?;
                let operation = match parts.operation {
                    Operation::Gat | Operation::Gats => Operation::Gat,
                    _ => Operation::Get,
                };
                let exptime = parts.exptime;
                Some(Written::write(Parts { exptime, ..Parts::of_key(operation, key.as_bytes()) }, out))
            });
            let started = match form {
                Ok(form) => run.start_child_for(at, 0, chunk, form),
                Err(reply) => Started::Unusable(reply),
            };
            let settled = match started {
                Started::Waiting => {
                    run.frame(at).outstanding += 1;
                    continue;
                }
                Started::Settled(settled) => settled,
                Started::Unusable(reply) => run.settled(reply, variant),
            };
            if let Some(settled) = self.keep_chunk(run, at, chunk, settled) {
                return Some(settled);
            }
        }
        self.put_together(run, at)
    }

    fn chunk_read(&self, run: &mut Run<'_>, at: usize, chunk: usize, settled: Settled) -> Option<Settled> {
        match self.keep_chunk(run, at, chunk, settled) {
            Some(settled) => Some(settled),
            None => self.ask_chunks(run, at),
        }
    }

    /// Keeps a chunk; the outcome of the whole where it isn't one.
    fn keep_chunk(&self, run: &mut Run<'_>, at: usize, chunk: usize, settled: Settled) -> Option<Settled> {
        let variant = run.frame(at).variant;
        match settled.class() {
            OutcomeClass::Success if run.keep_piece(at, chunk, settled.answer) => None,
            OutcomeClass::Success => Some(self.no_room(run, at)),
            // Without a chunk there is no value.
            OutcomeClass::Miss => Some(run.settled(LocalReply::Null, variant)),
            OutcomeClass::Error | OutcomeClass::Lost => Some(settled),
        }
    }

    fn put_together(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        let frame = run.frame(at);
        if frame.outstanding > 0 {
            return None;
        }
        let (count, flagged) = (chunks(frame), frame.words[MODE] & 0xff == READ_CHUNKS_FLAGGED);
        let flags = run.piece_flags(at, PARENT).unwrap_or_default();
        let flags = if flagged || !self.hide_reply_flag { flags } else { flags & !PARENT_FLAG };
        Some(match run.join_pieces(at, count, PARENT, Decimal::new(flags).as_bytes()) {
            true => Settled { answer: Answer::Composed, outcome: Outcome::Reply(ReplyKind::Value) },
            false => self.no_room(run, at),
        })
    }

    fn no_room(&self, run: &mut Run<'_>, at: usize) -> Settled {
        let variant = run.frame(at).variant;
        run.settled(LocalReply::Failed(Failure::NotReplayable), variant)
    }

    fn has_room(&self, frame: &Frame) -> bool {
        frame.next < chunks(frame) && (self.batch_size == 0 || frame.outstanding < self.batch_size)
    }
}

// --- write ---

impl BigValue {
    /// How many chunks a value makes; none when it isn't to be split.
    fn chunks_of(&self, run: &Run<'_>, seat: Seat) -> Option<usize> {
        let parts = run.parts(seat.variant)?;
        let chunks = parts.value.len().div_ceil(self.split_threshold.max(1));
        let is_split = parts.value.len() > self.split_threshold
            && chunks <= MOST_CHUNKS
            && decimal::parse(parts.flags).is_some()
            && ChunkKey::new(parts.key, MOST_CHUNKS - 1, u64::MAX).is_some();
        is_split.then_some(chunks)
    }

    /// Writes all that is to be sent, so that the request's own bytes aren't needed any more, and sends the first chunks.
    fn write(&self, run: &mut Run<'_>, seat: Seat, chunks: usize) -> Started {
        let suffix = new_suffix(run);
        let mut first = None;
        for chunk in 0..=chunks {
            match self.form(run, seat.variant, chunk, chunks, suffix) {
                Ok(form) => {
                    first.get_or_insert(form);
                }
                // As it is: the server may still take it.
                Err(_) => return run.pass(seat, 0),
            }
        }
        let at = run.open(seat);
        let first = first.map_or(0, VariantId::number);
        run.frame(at).words = [WRITE_CHUNKS | (chunks as u64) << 8, u64::from(first)];
        match self.send_chunks(run, at) {
            None => Started::Waiting,
            Some(settled) => match settled.answer {
                Answer::Local(reply) if run.frame(at).next == 1 && run.is_last_frame(at) => run.take_back(at, reply),
                Answer::Local(_) | Answer::Try(_) | Answer::Composed => run.close(at, settled),
            },
        }
    }

    /// The request for a chunk, or for the parent behind the last.
    fn form(
        &self,
        run: &mut Run<'_>,
        variant: VariantId,
        chunk: usize,
        chunks: usize,
        suffix: u64,
    ) -> Result<VariantId, LocalReply> {
        run.derive(variant, |parts, _, out| {
            if chunk < chunks {
                let key = ChunkKey::new(parts.key, chunk, suffix)?;
                let from = chunk * self.split_threshold;
                let value = &parts.value[from..parts.value.len().min(from + self.split_threshold)];
                let parts = Parts { operation: Operation::Set, key: key.as_bytes(), number: b"", value, ..parts };
                return Some(Written::write(parts, out));
            }
            let flags = decimal::parse(parts.flags)?;
            let version = if flags & PARENT_FLAG == 0 { b"1" } else { b"2" };
            let mut value = ChunkKey::empty();
            value.push(version)?;
            value.push(b"-")?;
            value.push(Decimal::new(chunks as u64).as_bytes())?;
            value.push(b"-")?;
            value.push(Decimal::new(suffix).as_bytes())?;
            let flags = Decimal::new(flags | PARENT_FLAG);
            Some(Written::write(Parts { flags: flags.as_bytes(), value: value.as_bytes(), ..parts }, out))
        })
    }

    /// Sends chunks as long as there are some and the batch isn't full, then the parent.
    fn send_chunks(&self, run: &mut Run<'_>, at: usize) -> Option<Settled> {
        while self.has_room(run.frame(at)) {
            let frame = run.frame(at);
            let chunk = frame.next;
            frame.next += 1;
            match self.send(run, at, chunk) {
                None => run.frame(at).outstanding += 1,
                Some(settled) if is_stored(settled) => {}
                Some(settled) => return Some(settled),
            }
        }
        let frame = run.frame(at);
        if frame.outstanding > 0 {
            return None;
        }
        let count = chunks(frame);
        frame.words[MODE] = frame.words[MODE] & !0xff | WRITE_PARENT;
        self.send(run, at, count)
    }

    fn send(&self, run: &mut Run<'_>, at: usize, chunk: usize) -> Option<Settled> {
        let form = VariantId::from_number(run.frame(at).words[DETAIL] as u16 + chunk as u16);
        match run.start_child_for(at, 0, chunk, form) {
            Started::Waiting => None,
            Started::Settled(settled) => Some(settled),
            Started::Unusable(reply) => Some(run.settled(reply, form)),
        }
    }

    fn chunk_written(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> Option<Settled> {
        match is_stored(settled) {
            true => self.send_chunks(run, at),
            // The parent isn't written: whatever the key had, it still has.
            false => Some(settled),
        }
    }
}

fn is_stored(settled: Settled) -> bool {
    settled.outcome == Outcome::Reply(ReplyKind::Stored)
}

fn chunks(frame: &Frame) -> usize {
    (frame.words[MODE] >> 8) as usize
}

/// Other for each write, also by other routers: the dice, the time and the router, mixed.
fn new_suffix(run: &mut Run<'_>) -> u64 {
    let (dice, host, time) = (run.random(), run.host_id(), run.env.unix_ms);
    (dice ^ host.rotate_left(32) ^ time.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 1
}

/// What a parent says.
struct Parent {
    chunks: usize,
    suffix: u64,
    /// The client's own flags have the parent's.
    flagged: bool,
}

impl Parent {
    /// The parent an item is; none when it is none.
    fn of(item: &ItemView<'_>) -> Option<Parent> {
        decimal::parse(item.flags).filter(|flags| flags & PARENT_FLAG != 0)?;
        let mut parts = item.data.split(|byte| *byte == b'-');
        let flagged = match parts.next()? {
            b"1" => false,
            b"2" => true,
            _ => return None,
        };
        let chunks = parts.next().and_then(decimal::parse)?;
        let suffix = parts.next().and_then(decimal::parse)?;
        let chunks = usize::try_from(chunks).ok().filter(|chunks| (1..=MOST_CHUNKS).contains(chunks))?;
        parts.next().is_none().then_some(Parent { chunks, suffix, flagged })
    }
}

/// A short text: a chunk's key, `<key>:<chunk>:<suffix>`, or a parent's data.
struct ChunkKey {
    bytes: [u8; KEY_BYTES_MAX],
    length: usize,
}

impl ChunkKey {
    fn empty() -> ChunkKey {
        ChunkKey { bytes: [0; KEY_BYTES_MAX], length: 0 }
    }

    /// None where it would be too long for a key.
    fn new(key: &[u8], chunk: usize, suffix: u64) -> Option<ChunkKey> {
        let mut chunk_key = ChunkKey::empty();
        chunk_key.push(key)?;
        chunk_key.push(b":")?;
        chunk_key.push(Decimal::new(chunk as u64).as_bytes())?;
        chunk_key.push(b":")?;
        chunk_key.push(Decimal::new(suffix).as_bytes())?;
        Some(chunk_key)
    }

    fn push(&mut self, text: &[u8]) -> Option<()> {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end)?.copy_from_slice(text);
        self.length = end;
        Some(())
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
