//! Items that a plan puts together: replies kept in pieces until all are there, and the item made of them.
//!
//! Invariant: what is kept and what is made of it fits the bytes the plan may hold; what doesn't is refused before it is
//! copied.

use crate::LocalReply;
use crate::decimal;
use crate::plan::Run;
use crate::request::{Answer, ItemView};
use crate::variant::KeptItem;

/// The item of one of several replies that a frame collects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    frame: u16,
    number: u16,
    item: KeptItem,
}

impl Run<'_> {
    /// Keeps the item of a settled child as the frame's piece of that number. False when it has none, or there is no room.
    pub(crate) fn keep_piece(&mut self, at: usize, number: usize, answer: Answer) -> bool {
        let Some(bytes) = self.item(answer).map(|item| item.flags.len() + item.data.len() + item.cas.len()) else {
            return false;
        };
        if self.fits(bytes).is_err() {
            return false;
        }
        let item = self.copy_item(answer, None);
        if let Some(item) = item {
            self.plan.pieces.push(Piece { frame: at as u16, number: number as u16, item });
        }
        item.is_some()
    }

    /// The flags of the frame's piece of that number.
    pub(crate) fn piece_flags(&self, at: usize, number: usize) -> Option<u64> {
        let piece = self.piece(at, number)?;
        decimal::parse(&self.plan.bytes[piece.flags_range()])
    }

    fn piece(&self, at: usize, number: usize) -> Option<KeptItem> {
        let is_it = |piece: &&Piece| usize::from(piece.frame) == at && usize::from(piece.number) == number;
        self.plan.pieces.iter().find(is_it).map(|piece| piece.item)
    }

    /// Makes the item `Answer::Composed` of the data of pieces 0 up to `count`; flags, cas and life are those of piece
    /// `head`, the flags changed. False when one is missing, or there is no room.
    pub(crate) fn join_pieces(&mut self, at: usize, count: usize, head: usize, flags: &[u8]) -> bool {
        let Some(head) = self.piece(at, head) else { return false };
        let mut bytes = flags.len();
        for number in 0..count {
            match self.piece(at, number) {
                Some(item) => bytes += item.data_range().len(),
                None => return false,
            }
        }
        if self.fits(bytes).is_err() {
            return false;
        }
        let start = self.plan.bytes.len();
        for number in 0..count {
            if let Some(item) = self.piece(at, number) {
                self.plan.bytes.extend_from_within(item.data_range());
            }
        }
        let data = start..self.plan.bytes.len();
        self.plan.bytes.extend_from_slice(flags);
        let flags = data.end..self.plan.bytes.len();
        self.plan.composed = Some(head.with(flags, data));
        true
    }

    /// Makes the item `Answer::Composed` of a settled child's, with another cas. Refused when there is no room.
    pub(crate) fn compose_with_cas(&mut self, answer: Answer, cas: &[u8]) -> Result<(), LocalReply> {
        let bytes = self.item(answer).map_or(0, |item| item.flags.len() + item.data.len());
        self.fits(bytes + cas.len())?;
        self.plan.composed = self.copy_item(answer, Some(cas));
        Ok(())
    }

    fn copy_item(&mut self, answer: Answer, cas: Option<&[u8]>) -> Option<KeptItem> {
        // Taken out of the plan, as the item may lie in the plan's own bytes.
        let mut bytes = std::mem::take(&mut self.plan.scratch);
        bytes.clear();
        let copied = self.item(answer).map(|item| {
            for part in [item.flags, item.data, cas.unwrap_or(item.cas)] {
                bytes.extend_from_slice(part);
            }
            (item.flags.len(), item.data.len(), item.ttl)
        });
        let kept = copied.map(|(flags, data, ttl)| {
            let (flags, rest) = bytes.split_at(flags);
            let (data, cas) = rest.split_at(data);
            self.plan.keep_item(ItemView { flags, data, cas, ttl })
        });
        self.plan.scratch = bytes;
        kept
    }
}
