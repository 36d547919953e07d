//! What of another router's file isn't carried over: no fault, but to be said, each with its place.

use super::error::Position;
use std::fmt;

/// Most notes kept; beyond that they are only counted.
const MAX_NOTES: usize = 1000;

/// One thing that isn't carried over, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Where in the file.
    pub position: Position,
    /// The key's path, as `pools.web.qos`.
    pub path: String,
    /// What becomes of it, or what to do.
    pub text: String,
}

/// The notes on one file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The file, as it was named.
    pub file: String,
    /// The notes.
    pub notes: Vec<Note>,
    /// How many more there were.
    pub more: usize,
}

impl Notes {
    pub(crate) fn of(file: &str) -> Notes {
        Notes { file: file.to_owned(), ..Notes::default() }
    }

    pub(crate) fn at(&mut self, position: Position, path: impl fmt::Display, text: impl Into<String>) {
        if self.notes.len() == MAX_NOTES {
            self.more += 1;
            return;
        }
        let note = Note { position, path: path.to_string(), text: text.into() };
        let place = self.notes.partition_point(|known| known.position <= note.position);
        // What a macro's body says is met once for each call of it.
        if !self.notes[..place].contains(&note) {
            self.notes.insert(place, note);
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }
}

impl fmt::Display for Notes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Note { position, path, text } in &self.notes {
            writeln!(out, "{}:{}:{}: note: {path}: {text}", self.file, position.line, position.column)?;
        }
        if self.more > 0 {
            writeln!(out, "and {} notes more", self.more)?;
        }
        Ok(())
    }
}
