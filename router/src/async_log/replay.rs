//! `keyway replay`: sends what another router left, or what waits for a server that is in no configuration any more.
//!
//! Reads files and directories in the order of their names, which is that of time in mcrouter's spool and in ours. Entries
//! of one destination keep their order. Changes nothing unless told to remove what was replayed, and never touches a
//! directory that a running keyway has.

use super::line::Command;
use super::lines::{Found, Lines};
use super::lock::{LOCK_FILE, Lock};
use super::spool::POSITION_FILE;
use super::wire::{Connection, Pace, Verdict};
use super::{address, recover};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Entries looked at together: those of one destination are sent together.
const CHUNK: usize = 4096;
/// How deep directories are followed.
const MAX_DEPTH: usize = 8;
/// Most connections kept.
const MAX_CONNECTIONS: usize = 256;

/// What is to be replayed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayOptions {
    /// A file, or a directory with files.
    pub path: PathBuf,
    /// Where everything goes, instead of where it was meant to go.
    pub to: Option<String>,
    /// Only count.
    pub dry_run: bool,
    /// Remove each file that was replayed whole.
    pub remove: bool,
    /// Most entries a second, to each server.
    pub per_second: u32,
    /// Longest wait for a server.
    pub timeout: Duration,
}

/// What came of it. Its text is the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Files read.
    pub files: u64,
    /// Files removed.
    pub removed: u64,
    /// What came of each destination's entries.
    pub destinations: BTreeMap<String, Counts>,
    /// Lines that can't be used.
    pub unreadable: u64,
    /// Files that end within a line: it was promised to nobody.
    pub torn: u64,
    /// Nothing was sent.
    pub dry_run: bool,
}

/// What came of a destination's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent and answered; with `dry_run`, to be sent.
    pub replayed: u64,
    /// Refused by the server for what they say.
    pub rejected: u64,
    /// Not sent, or not answered.
    pub failed: u64,
    /// Why, of the last failure.
    pub why: String,
}

impl Replayed {
    /// True when every entry was replayed.
    pub fn is_complete(&self) -> bool {
        self.unreadable == 0 && self.destinations.values().all(|counts| counts.rejected == 0 && counts.failed == 0)
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: u64 =
            self.destinations.values().map(|counts| counts.replayed + counts.rejected + counts.failed).sum();
        writeln!(out, "{} files, {entries} entries", self.files)?;
        let replayed = if self.dry_run { "to be replayed" } else { "replayed" };
        for (destination, counts) in &self.destinations {
            let Counts { replayed: count, rejected, failed, why } = counts;
            write!(out, "{destination}: {count} {replayed}")?;
            if *rejected > 0 {
                write!(out, ", {rejected} refused by it")?;
            }
            if *failed > 0 {
                write!(out, ", {failed} failed: {why}")?;
            }
            writeln!(out)?;
        }
        if self.unreadable > 0 {
            writeln!(out, "{} lines can't be read", self.unreadable)?;
        }
        if self.torn > 0 {
            writeln!(out, "{} files end within a line, which was not kept", self.torn)?;
        }
        if self.removed > 0 {
            writeln!(out, "{} files removed", self.removed)?;
        }
        Ok(())
    }
}

/// Replays. The error is ready to be printed: nothing was sent then.
pub fn replay(options: &ReplayOptions) -> Result<Replayed, String> {
    let problem = |error: std::io::Error| format!("{}: {error}", options.path.display());
    let path = options.path.canonicalize().map_err(problem)?;
    let to = match &options.to {
        Some(to) => Some(address::checked(to).ok_or_else(|| format!("--to {to} is no address of a server"))?),
        None => None,
    };
    // Held to the end.
    let mut locks = Vec::new();
    for above in path.ancestors().skip(1) {
        locks.extend(Lock::take_if_there(above)?);
    }
    let mut files = Vec::new();
    find(&path, 0, &mut files, &mut locks)?;
    files.sort();
    let mut replay = Replay {
        options,
        to,
        connections: BTreeMap::new(),
        given_up: BTreeMap::new(),
        result: Replayed { dry_run: options.dry_run, ..Replayed::default() },
    };
    for file in &files {
        replay.file(file).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(replay.result)
}

/// The files below a path. Links to directories aren't followed.
fn find(path: &Path, depth: usize, files: &mut Vec<PathBuf>, locks: &mut Vec<Lock>) -> Result<(), String> {
    let problem = |error: std::io::Error| format!("{}: {error}", path.display());
    if !fs::symlink_metadata(path).map_err(problem)?.is_dir() {
        if path.is_file() {
            files.push(path.to_path_buf());
        }
        return Ok(());
    }
    if depth == MAX_DEPTH {
        return Err(format!("{}: more than {MAX_DEPTH} directories deep", path.display()));
    }
    locks.extend(Lock::take_if_there(path)?);
    for entry in fs::read_dir(path).map_err(problem)? {
        let entry = entry.map_err(problem)?;
        let name = entry.file_name();
        let is_ours = [LOCK_FILE, POSITION_FILE, "position.new"].iter().any(|ours| name == *ours);
        if !is_ours {
            find(&entry.path(), depth + 1, files, locks)?;
        }
    }
    Ok(())
}

struct Replay<'a> {
    options: &'a ReplayOptions,
    to: Option<String>,
    connections: BTreeMap<String, (Connection, Pace)>,
    /// Destinations that can't be reached, and why: asked once, not for each chunk.
    given_up: BTreeMap<String, String>,
    result: Replayed,
}

impl Replay<'_> {
    fn file(&mut self, path: &Path) -> std::io::Result<()> {
        let mut file = File::open(path)?;
        let offset = recover::position_in(path);
        file.seek(SeekFrom::Start(offset))?;
        let mut lines = Lines::new(file, offset);
        self.result.files += 1;
        let mut is_whole = true;
        let mut is_end = false;
        while !is_end {
            let mut chunk: BTreeMap<String, Vec<Command>> = BTreeMap::new();
            for _ in 0..CHUNK {
                match lines.next_line()? {
                    Some(Found::Entry(entry)) => {
                        let destination = self.to.clone().unwrap_or(entry.destination);
                        chunk.entry(destination).or_default().push(entry.command);
                    }
                    Some(Found::Unreadable(_)) => {
                        self.result.unreadable += 1;
                        is_whole = false;
                    }
                    Some(Found::Torn) => self.result.torn += 1,
                    None => {
                        is_end = true;
                        break;
                    }
                }
            }
            for (destination, commands) in chunk {
                is_whole &= self.send(&destination, &commands);
            }
        }
        if self.options.remove && !self.options.dry_run && is_whole {
            remove(path)?;
            self.result.removed += 1;
        }
        Ok(())
    }

    /// Sends these in order; true when each was done.
    fn send(&mut self, destination: &str, commands: &[Command]) -> bool {
        let mut counts = self.result.destinations.remove(destination).unwrap_or_default();
        let bad_before = counts.rejected + counts.failed;
        let mut rest = commands;
        while !rest.is_empty() {
            if self.options.dry_run {
                counts.replayed += rest.len() as u64;
                break;
            }
            match self.send_batch(destination, rest) {
                Ok(verdicts) => {
                    rest = &rest[verdicts.len()..];
                    for verdict in verdicts {
                        match verdict {
                            Verdict::Done => counts.replayed += 1,
                            Verdict::Rejected(_) => counts.rejected += 1,
                        }
                    }
                }
                Err(why) => {
                    counts.failed += rest.len() as u64;
                    counts.why = why.clone();
                    self.given_up.insert(destination.to_string(), why);
                    break;
                }
            }
        }
        let is_good = counts.rejected + counts.failed == bad_before;
        self.result.destinations.insert(destination.to_string(), counts);
        is_good
    }

    /// Sends as many as go at once, over the destination's connection, and gives what it got, which is something. A
    /// connection that breaks is made again once it got us further.
    fn send_batch(&mut self, destination: &str, commands: &[Command]) -> Result<Vec<Verdict>, String> {
        if let Some(why) = self.given_up.get(destination) {
            return Err(why.clone());
        }
        let timeout = self.options.timeout;
        let (mut connection, mut pace) = match self.connections.remove(destination) {
            Some(both) => both,
            None => {
                let connection = Connection::to_destination(destination, timeout)
                    .map_err(|error| format!("no connection: {error}"))?;
                (connection, Pace::new(self.options.per_second))
            }
        };
        let batch = &commands[..commands.len().min(pace.batch())];
        pace.wait_for(batch.len());
        let played = connection.play(batch.iter());
        match played.problem {
            Some(why) if played.verdicts.is_empty() => return Err(why),
            Some(_) => {}
            None => {
                if self.connections.len() >= MAX_CONNECTIONS {
                    self.connections.clear();
                }
                self.connections.insert(destination.to_string(), (connection, pace));
            }
        }
        Ok(played.verdicts)
    }
}

/// Removes a file, and its folder with it when that is then empty.
fn remove(path: &Path) -> std::io::Result<()> {
    fs::remove_file(path)?;
    let Some(folder) = path.parent() else { return Ok(()) };
    let number = path.file_name().and_then(|name| name.to_str()).and_then(recover::number_of);
    if number.is_some() {
        // It is about the file that is gone.
        let _ = fs::remove_file(folder.join(POSITION_FILE));
    }
    let _ = fs::remove_dir(folder);
    Ok(())
}
