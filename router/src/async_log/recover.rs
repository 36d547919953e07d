//! What the last process left in the directory: found, counted and kept.
//!
//! A file without a line end at its end was being written when that process ended; the rest was promised to nobody. Files
//! found are closed: nothing is appended to them. What isn't ours is left alone and said.

use super::address;
use super::lines::{Found, Lines};
use super::lock::{LOCK_FILE, Lock};
use super::spool::{Destination, LogFile, POSITION_FILE, Position, Spool};
use super::{LogFacts, Settings};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Opens the directory of `settings` and takes its lock. The error is ready to be printed.
pub(super) fn open(settings: &Settings) -> Result<Spool, String> {
    let directory = &settings.directory;
    let problem = |error: io::Error| format!("async log {}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(problem)?;
    let lock = Lock::take(directory)?;
    let mut destinations = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(problem)? {
        let entry = entry.map_err(problem)?;
        let name = entry.file_name();
        if name == LOCK_FILE {
            continue;
        }
        let destination = name.to_str().and_then(address::of_folder);
        let Some(destination) = destination.filter(|_| entry.path().is_dir()) else {
            log::warn!("async log: {} is none of ours and left alone", entry.path().display());
            continue;
        };
        let found = folder(&entry.path()).map_err(|error| format!("async log {}: {error}", entry.path().display()))?;
        destinations.insert(destination, found);
    }
    let bytes = destinations.values().flat_map(|of| &of.files).map(|file| file.bytes).sum();
    let spool = Spool { settings: settings.clone(), destinations, bytes, _lock: lock };
    for (destination, facts) in spool.all_facts() {
        let LogFacts { entries, bytes, unreadable, .. } = facts;
        log::info!("async log: {entries} entries ({bytes} bytes) wait for {destination}");
        if unreadable > 0 {
            log::warn!(
                "async log: {unreadable} entries for {destination} were not written to their end, and are passed over"
            );
        }
    }
    Ok(spool)
}

fn folder(path: &Path) -> io::Result<Destination> {
    let mut of = Destination { folder: path.to_path_buf(), ..Destination::default() };
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(number_of);
        match number {
            Some(number) => files.push(number),
            None if entry.file_name() == POSITION_FILE || entry.file_name() == "position.new" => {}
            None => log::warn!("async log: {} is none of ours and left alone", entry.path().display()),
        }
    }
    files.sort_unstable();
    for number in files {
        let (file, is_torn) = log_file(&of.path(number), number)?;
        of.last_number = number;
        of.facts.unreadable += u64::from(is_torn);
        if file.entries > 0 {
            of.files.push_back(file);
        } else {
            fs::remove_file(of.path(number))?;
        }
    }
    if let Some(first) = of.files.front() {
        of.position = position(path, first).unwrap_or_default();
    }
    Ok(of)
}

/// The number of a file of ours.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (format!("{number:010}.log") == name).then_some(number)
}

/// What a file holds, and whether its last line is torn.
fn log_file(path: &Path, number: u64) -> io::Result<(LogFile, bool)> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; 64 << 10];
    let (mut bytes, mut entries, mut last) = (0, 0, b'\n');
    loop {
        let length = file.read(&mut piece)?;
        let Some(end) = piece[..length].last() else { break };
        last = *end;
        bytes += length as u64;
        entries += memchr::memchr_iter(b'\n', &piece[..length]).count() as u64;
    }
    let first_ms = match Lines::new(File::open(path)?, 0).next_line()? {
        Some(Found::Entry(entry)) => Some(entry.at_ms),
        Some(Found::Unreadable(_) | Found::Torn) | None => None,
    };
    Ok((LogFile { number, bytes, entries, first_ms, begun: None, is_dirty: false }, last != b'\n'))
}

/// The note of how far the first file was replayed. One that doesn't fit the file is passed over: entries are then sent
/// again.
fn position(folder: &Path, first: &LogFile) -> Option<Position> {
    let text = fs::read_to_string(folder.join(POSITION_FILE)).ok()?;
    let mut numbers = text.strip_suffix('\n')?.split(' ').map(str::parse::<u64>);
    let (number, offset, entries) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    let fits = number == first.number && offset <= first.bytes && entries <= first.entries;
    fits.then_some(Position { offset, entries })
}

/// Where to begin in a file that may be the first of a folder of ours.
pub(super) fn position_in(path: &Path) -> u64 {
    let found = || {
        let number = number_of(path.file_name()?.to_str()?)?;
        let (file, _) = log_file(path, number).ok()?;
        Some(position(path.parent()?, &file)?.offset)
    };
    found().unwrap_or(0)
}
