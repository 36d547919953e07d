//! The files: one folder per destination, numbered files in it, and a note of how far the first was replayed.
//!
//! ```text
//! directory/keyway.lock
//! directory/10.0.0.1%3A11211/0000000007.log     the oldest: replayed up to ...
//!                            0000000008.log     the newest: may still grow
//!                            position           "7 4711 93": number, offset, entries before it
//! ```
//!
//! Holds no descriptor between two calls, so that any number of servers may be down. A file that was closed is never
//! written again: only closed files are replayed.
//!
//! Invariants: `bytes` is the sum of all files' bytes; only the last file of a destination is open; entries are in the
//! order they were given.

use super::line::Entry;
use super::lock::Lock;
use super::{LogFacts, Settings, SyncPolicy, address};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How far the first file was replayed.
pub(super) const POSITION_FILE: &str = "position";

/// The whole directory.
#[derive(Debug)]
pub(super) struct Spool {
    pub(super) settings: Settings,
    pub(super) destinations: BTreeMap<String, Destination>,
    pub(super) bytes: u64,
    pub(super) _lock: Lock,
}

/// One destination's folder.
#[derive(Debug, Default)]
pub(super) struct Destination {
    pub(super) folder: PathBuf,
    pub(super) files: VecDeque<LogFile>,
    pub(super) last_number: u64,
    pub(super) position: Position,
    /// When the last entry that was replayed was written: what still waits is younger.
    pub(super) replayed_ms: Option<u64>,
    pub(super) facts: LogFacts,
    /// It was said that there is no room, or that the disk fails.
    pub(super) is_refusing: bool,
}

/// A file of a destination.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) first_ms: Option<u64>,
    /// When it was begun; `None` once it is closed.
    pub(super) begun: Option<Instant>,
    /// Written since it was last synced.
    pub(super) is_dirty: bool,
}

/// How far the first file was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: u64,
    /// Lines before it.
    pub(super) entries: u64,
}

/// What there is to replay.
#[derive(Debug)]
pub(super) struct Backlog {
    /// Closed files with their numbers, oldest first.
    pub(super) files: Vec<(u64, PathBuf)>,
    /// Where to begin in the first.
    pub(super) offset: u64,
}

impl Spool {
    // --- writing ---

    /// Keeps entries of one destination; true for each that is kept.
    pub(super) fn append(&mut self, destination: &str, entries: &[Entry], now: Instant) -> Vec<bool> {
        let total = self.bytes;
        let Some(of) = self.destination(destination) else { return vec![false; entries.len()] };
        let used: u64 = of.files.iter().map(|file| file.bytes).sum();
        let mut lines = Vec::new();
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            let length = lines.len();
            entry.write(&mut lines);
            let added = lines.len() as u64;
            let fits = used + added <= self.settings.server_bytes && total + added <= self.settings.max_bytes;
            if !fits {
                lines.truncate(length);
            }
            kept.push(fits);
        }
        let count = kept.iter().filter(|kept| **kept).count() as u64;
        self.refuse_for_room(destination, entries.len() as u64 - count);
        let first_ms = entries.iter().zip(&kept).find(|(_, kept)| **kept).map(|(entry, _)| entry.at_ms);
        let (Some(first_ms), Some(of)) = (first_ms, self.destinations.get_mut(destination)) else { return kept };
        match of.write(&lines, count, first_ms, &self.settings, now) {
            Ok(()) => {
                self.bytes += lines.len() as u64;
                of.facts.spooled += count;
                of.is_refusing &= kept.contains(&false);
                kept
            }
            Err(error) => {
                of.facts.refused_disk += count;
                if !std::mem::replace(&mut of.is_refusing, true) {
                    log::error!("async log: entries for {destination} can't be kept: {}: {error}", of.folder.display());
                }
                vec![false; entries.len()]
            }
        }
    }

    fn refuse_for_room(&mut self, destination: &str, count: u64) {
        let Some(of) = self.destinations.get_mut(destination).filter(|_| count > 0) else { return };
        of.facts.refused_full += count;
        if !std::mem::replace(&mut of.is_refusing, true) {
            log::error!("async log: no room for more entries for {destination}: their requests fail from now on");
        }
    }

    pub(super) fn refuse_command(&mut self, destination: &str) {
        if let Some(of) = self.destination(destination) {
            of.facts.refused_command += 1;
        }
    }

    /// The destination's own, made if it is new; `None` when its name can't be a folder's.
    fn destination(&mut self, destination: &str) -> Option<&mut Destination> {
        if !self.destinations.contains_key(destination) {
            let folder = self.settings.directory.join(address::folder_name(destination)?);
            self.destinations.insert(destination.to_string(), Destination { folder, ..Destination::default() });
        }
        self.destinations.get_mut(destination)
    }

    /// Syncs what was written since the last time. A failure is said: those entries were promised already.
    pub(super) fn sync(&mut self) {
        for (destination, of) in &mut self.destinations {
            for at in 0..of.files.len() {
                if !std::mem::take(&mut of.files[at].is_dirty) {
                    continue;
                }
                let path = of.path(of.files[at].number);
                if let Err(error) = OpenOptions::new().append(true).open(&path).and_then(|file| file.sync_data()) {
                    log::error!("async log: entries for {destination} may not outlive a power cut: {error}");
                }
            }
        }
    }

    /// True when something is to be synced.
    pub(super) fn is_dirty(&self) -> bool {
        self.destinations.values().any(|of| of.files.back().is_some_and(|file| file.is_dirty))
    }

    // --- replaying ---

    /// What waits for a destination. Its open file is closed, so that all of it can be replayed.
    pub(super) fn backlog(&mut self, destination: &str) -> Option<Backlog> {
        let of = self.destinations.get_mut(destination)?;
        if let Some(last) = of.files.back_mut() {
            last.begun = None;
        }
        let files: Vec<(u64, PathBuf)> = of.files.iter().map(|file| (file.number, of.path(file.number))).collect();
        (!files.is_empty()).then_some(Backlog { files, offset: of.position.offset })
    }

    /// The first file was replayed up to `offset`, `entries` lines further than before, the last written at `at_ms`.
    pub(super) fn replayed(&mut self, destination: &str, number: u64, offset: u64, entries: u64, at_ms: Option<u64>) {
        let Some(of) = self.destinations.get_mut(destination) else { return };
        if of.files.front().is_none_or(|first| first.number != number) {
            return;
        }
        of.position = Position { offset, entries: of.position.entries + entries };
        of.replayed_ms = at_ms.or(of.replayed_ms);
        if let Err(error) = of.note_position(number) {
            log::warn!("async log: after a crash, some entries for {destination} will be sent again: {error}");
        }
    }

    /// The first file was replayed to its end: it goes.
    pub(super) fn finished(&mut self, destination: &str, number: u64) {
        let Some(of) = self.destinations.get_mut(destination) else { return };
        let Some(first) = of.files.pop_front_if(|first| first.number == number) else { return };
        if let Err(error) = fs::remove_file(of.path(number)) {
            log::error!("async log: {} is done with and can't be removed: {error}", of.path(number).display());
        }
        // What the note says is about a file that is gone; without one, nothing of the next file counts as replayed.
        let _ = fs::remove_file(of.folder.join(POSITION_FILE));
        of.position = Position::default();
        self.bytes -= first.bytes;
        if of.files.is_empty() {
            // It is made again when it is needed; something else in it keeps it.
            let _ = fs::remove_dir(&of.folder);
        }
    }

    // --- what others want to know ---

    pub(super) fn has_files(&self, destination: &str) -> bool {
        self.destinations.get(destination).is_some_and(|of| !of.files.is_empty())
    }

    pub(super) fn facts(&self, destination: &str) -> Option<LogFacts> {
        self.destinations.get(destination).map(Destination::facts)
    }

    pub(super) fn all_facts(&self) -> BTreeMap<String, LogFacts> {
        self.destinations.iter().map(|(destination, of)| (destination.clone(), of.facts())).collect()
    }
}

impl Destination {
    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:010}.log"))
    }

    fn facts(&self) -> LogFacts {
        let entries: u64 = self.files.iter().map(|file| file.entries).sum();
        let oldest_ms = match self.position.entries {
            0 => self.files.front().and_then(|first| first.first_ms),
            _ => self.replayed_ms.or(self.files.front().and_then(|first| first.first_ms)),
        };
        LogFacts {
            entries: entries.saturating_sub(self.position.entries),
            bytes: self.files.iter().map(|file| file.bytes).sum(),
            oldest_ms: oldest_ms.filter(|_| entries > self.position.entries),
            ..self.facts.clone()
        }
    }

    /// Appends whole lines to the open file, or to a new one when that is large or old enough.
    fn write(
        &mut self,
        lines: &[u8],
        entries: u64,
        first_ms: u64,
        settings: &Settings,
        now: Instant,
    ) -> io::Result<()> {
        let is_open = |file: &LogFile| {
            let age = file.begun.map(|begun| now.saturating_duration_since(begun));
            age.is_some_and(|age| age < settings.rotate) && file.bytes < settings.file_bytes
        };
        if !self.files.back().is_some_and(is_open) {
            self.begin_file(now, settings)?;
        }
        let Some(last) = self.files.back() else { return Ok(()) };
        let (path, before) = (self.path(last.number), last.bytes);
        let written = append(&path, lines, settings.sync == SyncPolicy::Always);
        let Some(last) = self.files.back_mut() else { return written };
        match written {
            Ok(()) => {
                last.bytes += lines.len() as u64;
                last.entries += entries;
                last.first_ms.get_or_insert(first_ms);
                last.is_dirty = settings.sync == SyncPolicy::Interval;
            }
            // Half a line may stand there: whatever comes next goes into another file.
            Err(_) if before > 0 => {
                last.begun = None;
                cut(&path, before);
            }
            Err(_) => {
                self.files.pop_back();
                let _ = fs::remove_file(&path);
            }
        }
        written
    }

    fn begin_file(&mut self, now: Instant, settings: &Settings) -> io::Result<()> {
        let is_first = self.files.is_empty();
        fs::create_dir_all(&self.folder)?;
        let number = self.last_number + 1;
        // Counted first: should a file be made and not be kept, the next one has another name.
        self.last_number = number;
        OpenOptions::new().write(true).create_new(true).open(self.path(number))?;
        if settings.sync != SyncPolicy::Never {
            File::open(&self.folder)?.sync_all()?;
            if is_first {
                File::open(&settings.directory)?.sync_all()?;
            }
        }
        if let Some(last) = self.files.back_mut() {
            last.begun = None;
        }
        self.files.push_back(LogFile {
            number,
            bytes: 0,
            entries: 0,
            first_ms: None,
            begun: Some(now),
            is_dirty: false,
        });
        Ok(())
    }

    /// Written beside and put in place, so that there is always a whole one. Not synced: an old one only repeats entries.
    fn note_position(&self, number: u64) -> io::Result<()> {
        let Position { offset, entries } = self.position;
        let fresh = self.folder.join("position.new");
        fs::write(&fresh, format!("{number} {offset} {entries}\n"))?;
        fs::rename(&fresh, self.folder.join(POSITION_FILE))
    }
}

fn append(path: &Path, lines: &[u8], sync: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(lines)?;
    match sync {
        true => file.sync_data(),
        false => Ok(()),
    }
}

/// Takes off what was written in vain. If that fails too, the reader passes over half a line.
fn cut(path: &Path, bytes: u64) {
    let _ = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(bytes));
}
