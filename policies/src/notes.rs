//! What a frame notes in its plan beyond its best outcome: other outcomes that may yet become its own, and marks on its
//! children.
//!
//! Owns the two lists. Both keep their memory from request to request. Invariant: the reply of an outcome held here is
//! kept (`Plan::holds`) as long as anybody waits for its frame.

use crate::plan::{Best, Plan, Run};
use crate::request::Answer;

/// An outcome held for a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    frame: u16,
    /// What the route calls it.
    pub(crate) slot: u8,
    /// How many children had it, for those who count.
    pub(crate) votes: u16,
    pub(crate) best: Best,
}

/// Marks on the children of a frame: one bit for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    first_word: u32,
}

impl Plan {
    /// True when a frame that somebody waits for holds this answer.
    pub(crate) fn is_held(&self, answer: Answer) -> bool {
        self.held
            .iter()
            .any(|held| held.best.settled.answer == answer && self.is_awaited(&self.frames[usize::from(held.frame)]))
    }
}

impl Run<'_> {
    /// What the frame holds in that slot.
    pub(crate) fn held(&self, at: usize, slot: u8) -> Option<Held> {
        self.plan.held.iter().find(|held| usize::from(held.frame) == at && held.slot == slot).copied()
    }

    /// Holds another outcome in that slot.
    pub(crate) fn hold(&mut self, at: usize, slot: u8, best: Best, votes: u16) {
        let held = Held { frame: at as u16, slot, votes, best };
        match self.plan.held.iter_mut().find(|other| usize::from(other.frame) == at && other.slot == slot) {
            Some(place) => *place = held,
            None => self.plan.held.push(held),
        }
    }

    /// Holds nothing in that slot any more.
    pub(crate) fn let_go(&mut self, at: usize, slot: u8) {
        self.plan.held.retain(|held| usize::from(held.frame) != at || held.slot != slot);
    }

    /// All that the frame holds.
    pub(crate) fn all_held(&self, at: usize) -> impl Iterator<Item = &Held> {
        self.plan.held.iter().filter(move |held| usize::from(held.frame) == at)
    }

    /// Marks for so many children, none set.
    pub(crate) fn new_marks(&mut self, children: usize) -> Marks {
        let first_word = self.plan.marks.len() as u32;
        self.plan.marks.resize(self.plan.marks.len() + children.div_ceil(64), 0);
        Marks { first_word }
    }

    pub(crate) fn mark(&mut self, marks: Marks, child: usize) {
        self.plan.marks[marks.first_word as usize + child / 64] |= 1 << (child % 64);
    }

    pub(crate) fn is_marked(&self, marks: Marks, child: usize) -> bool {
        self.plan.marks[marks.first_word as usize + child / 64] & 1 << (child % 64) != 0
    }
}
