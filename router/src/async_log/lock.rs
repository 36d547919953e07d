//! One process per directory: an advisory lock on a file in it, held as long as the value lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// The lock file's name.
pub(super) const LOCK_FILE: &str = "keyway.lock";

/// The lock on a directory. The kernel gives it back when the process ends, however that comes about.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a directory of ours, making its file if need be.
    pub(super) fn take(directory: &Path) -> Result<Lock, String> {
        let path = directory.join(LOCK_FILE);
        let problem = |error: std::io::Error| format!("async log {}: {error}", path.display());
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(problem)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is said if it can be read; the refusal doesn't depend on it.
                let _ = (&mut file).take(20).read_to_string(&mut holder);
                let directory = directory.display();
                return Err(format!(
                    "async log {directory} is in use by process {} (keyway.lock is held)",
                    holder.trim()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(problem(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(problem)?;
        writeln!(file, "{}", std::process::id()).map_err(problem)?;
        Ok(Lock { _file: file })
    }

    /// Takes the lock of a directory that may not be ours: without a lock file there is nothing to take.
    pub(super) fn take_if_there(directory: &Path) -> Result<Option<Lock>, String> {
        match directory.join(LOCK_FILE).exists() {
            true => Lock::take(directory).map(Some),
            false => Ok(None),
        }
    }
}
