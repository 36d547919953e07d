//! Sends the entries of closed files to one server, on a thread of its own, and says how far it got.
//!
//! An entry counts as replayed once its reply is here, and replies come in order: after a failure the place reported is
//! that of the first entry without one. Decides nothing: the worker starts it, stops it and starts it again.

use super::line::Command;
use super::lines::{Found, Lines};
use super::spool::Backlog;
use super::wire::{Connection, Pace, Verdict};
use super::worker::Told;
use keyway_io_engine::Address;
use keyway_io_engine::mailbox::{SendError, Sender};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long to wait before a report is tried again when the worker's mailbox is full.
const AGAIN: Duration = Duration::from_millis(10);

/// What is to be sent where.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) destination: String,
    pub(super) address: Address,
    pub(super) backlog: Backlog,
    pub(super) per_second: u32,
    pub(super) timeout: Duration,
    /// Set by the worker when it is to end.
    pub(super) stop: Arc<AtomicBool>,
    pub(super) reports: Sender<Told>,
}

/// How far a job got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Everything in the file before `offset` is done with.
    Progress {
        /// The file.
        number: u64,
        /// Up to where.
        offset: u64,
        /// What was done since the last report.
        done: Done,
    },
    /// The file is done with.
    Finished {
        /// Which.
        number: u64,
    },
    /// The job is over: every file is done with, it was stopped, or this happened.
    Ended(Result<(), String>),
}

/// Lines done with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) replayed: u64,
    pub(super) rejected: u64,
    pub(super) unreadable: u64,
    /// When the last was written.
    pub(super) at_ms: Option<u64>,
}

/// A command read from the file, and where the next line begins.
struct Next {
    command: Command,
    at_ms: u64,
    end: u64,
    /// Lines before it that can't be used.
    unreadable: u64,
}

impl Job {
    /// The whole life of a player's thread.
    pub(super) fn run(self) {
        let how = self.play();
        self.report(Report::Ended(how));
    }

    fn play(&self) -> Result<(), String> {
        let mut connection =
            Connection::to(&self.address, self.timeout).map_err(|error| format!("no connection: {error}"))?;
        let mut pace = Pace::new(self.per_second);
        let mut offset = self.backlog.offset;
        for (number, path) in &self.backlog.files {
            if !self.play_file(*number, path, offset, &mut connection, &mut pace)? {
                return Ok(());
            }
            self.report(Report::Finished { number: *number });
            offset = 0;
        }
        Ok(())
    }

    /// True when it came to the file's end, false when it was stopped.
    fn play_file(
        &self,
        number: u64,
        path: &Path,
        offset: u64,
        connection: &mut Connection,
        pace: &mut Pace,
    ) -> Result<bool, String> {
        let problem = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut file = File::open(path).map_err(problem)?;
        file.seek(SeekFrom::Start(offset)).map_err(problem)?;
        let mut lines = Lines::new(file, offset);
        // Lines behind the last command.
        let mut trailing = 0;
        loop {
            let batch = read_batch(&mut lines, pace.batch(), &mut trailing).map_err(problem)?;
            if batch.is_empty() {
                let done = Done { unreadable: trailing, ..Done::default() };
                self.report(Report::Progress { number, offset: lines.offset(), done });
                return Ok(true);
            }
            if self.stop.load(Ordering::Acquire) {
                return Ok(false);
            }
            pace.wait_for(batch.len());
            let played = connection.play(batch.iter().map(|next| &next.command));
            let mut done = Done::default();
            for (next, verdict) in batch.iter().zip(&played.verdicts) {
                done.unreadable += next.unreadable;
                done.at_ms = Some(next.at_ms);
                match verdict {
                    Verdict::Done => done.replayed += 1,
                    Verdict::Rejected(why) => {
                        done.rejected += 1;
                        let key = String::from_utf8_lossy(next.command.key());
                        log::warn!("async log: {} refused the entry for {key:?}: {why}", self.destination);
                    }
                }
            }
            if let Some(last) = played.verdicts.len().checked_sub(1) {
                self.report(Report::Progress { number, offset: batch[last].end, done });
            }
            if let Some(problem) = played.problem {
                return Err(problem);
            }
        }
    }

    fn report(&self, report: Report) {
        let mut told = Told::Player { destination: self.destination.clone(), report };
        while let Err(SendError::Full(back)) = self.reports.send(told) {
            told = back;
            std::thread::sleep(AGAIN);
        }
    }
}

/// The next commands. `unreadable` counts the lines behind the last that can't be used.
fn read_batch(lines: &mut Lines<File>, most: usize, unreadable: &mut u64) -> std::io::Result<Vec<Next>> {
    let mut batch = Vec::with_capacity(most);
    while batch.len() < most {
        match lines.next_line()? {
            Some(Found::Entry(entry)) => {
                let unreadable = std::mem::take(unreadable);
                batch.push(Next { command: entry.command, at_ms: entry.at_ms, end: lines.offset(), unreadable });
            }
            Some(Found::Unreadable(_)) => *unreadable += 1,
            // Counted when the file was found.
            Some(Found::Torn) | None => break,
        }
    }
    Ok(batch)
}
