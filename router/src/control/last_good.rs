//! The last configuration known to be good, kept on disk for a start that finds the given file broken or missing.
//!
//! A copy of the file's bytes behind a line that says which file they are of, in a folder the command line names: a key
//! of the file itself couldn't be read when it is needed. Written to a new file, synced and renamed, so that there is
//! always a whole one; readable by its owner alone. Its time of modification says when the given file held it last.
//!
//! Never used by a reload, nor by `keyway check`, nor when it is too old, cut short or of another file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::MAX_FILE_BYTES;

/// How old it may be when nobody says: mcrouter's 12 hours.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(12 * 60 * 60);

/// The first words of a kept file; the number is the format's.
const MAGIC: &str = "keyway-last-good 1";
/// Longest first line: the magic, a length, and a path of at most 4096 bytes with every byte escaped.
const MAX_HEAD_BYTES: usize = 20 * 1024;

/// Where to keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastGood {
    /// The folder; it has to be there.
    pub folder: PathBuf,
    /// An older one isn't used.
    pub max_age: Duration,
}

/// What was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// How long ago the file held them.
    pub age: Duration,
    /// Where they are kept.
    pub path: PathBuf,
}

impl LastGood {
    /// Keeps `bytes` as what `file` (an absolute path) holds; the error names the place.
    pub fn keep(&self, file: &Path, bytes: &[u8]) -> Result<(), String> {
        let path = self.path(file);
        let fresh = path.with_extension("new");
        let write = || -> io::Result<()> {
            // What a process that was killed left behind.
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            out.write_all(head(file, bytes.len()).as_bytes())?;
            out.write_all(bytes)?;
            out.sync_all()?;
            fs::rename(&fresh, &path)?;
            // The name too should outlast a power cut.
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Says that `file` still holds what was kept.
    pub fn confirm(&self, file: &Path) -> Result<(), String> {
        let path = self.path(file);
        let touch = || OpenOptions::new().write(true).open(&path)?.set_modified(SystemTime::now());
        touch().map_err(|error| format!("{}: {error}", path.display()))
    }

    /// What was kept of `file`, or why it can't be used.
    pub fn load(&self, file: &Path, now: SystemTime) -> Result<Kept, String> {
        let path = self.path(file);
        let unreadable = |error: io::Error| format!("{} can't be read: {error}", path.display());
        let opened = File::open(&path).map_err(unreadable)?;
        let modified = opened.metadata().and_then(|metadata| metadata.modified()).map_err(unreadable)?;
        // A clock that was set back makes it new, not unusable.
        let age = now.duration_since(modified).unwrap_or_default();
        if age > self.max_age {
            return Err(format!(
                "{} is {} s old, at most {} s are allowed",
                path.display(),
                age.as_secs(),
                self.max_age.as_secs()
            ));
        }
        let mut bytes = Vec::new();
        let most = (MAX_HEAD_BYTES + MAX_FILE_BYTES) as u64;
        opened.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
        let head_end = bytes.iter().take(MAX_HEAD_BYTES).position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rest = bytes.split_off(head_end);
        if bytes != head(file, rest.len()).as_bytes() {
            return Err(format!("{} isn't whole, or not of {}", path.display(), file.display()));
        }
        Ok(Kept { bytes: rest, age, path })
    }

    /// Where `file` is kept: under its own name, told apart from others of that name.
    fn path(&self, file: &Path) -> PathBuf {
        let bytes = file.as_os_str().as_encoded_bytes();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let start: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(64).collect();
        self.folder.join(format!("{start}-{:016x}.last-good", xxh3_64(bytes)))
    }
}

fn head(file: &Path, length: usize) -> String {
    // Debug escapes line ends.
    format!("{MAGIC} {length} {:?}\n", file.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const FILE: &str = "/etc/keyway/router.yaml";

    struct Folder(LastGood);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("keyway-last-good-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).expect("a folder for the test");
            Folder(LastGood { folder, max_age: Duration::from_secs(60) })
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.folder);
        }
    }

    fn refused(last_good: &LastGood, file: &str, now: SystemTime, wanted: &str) {
        let why = last_good.load(Path::new(file), now).expect_err("it can't be used");
        assert!(why.contains(wanted), "{why}");
    }

    #[test]
    fn what_is_kept_comes_back_whole_and_for_its_owner_alone() {
        let folder = Folder::new("whole");
        let file = Path::new(FILE);
        refused(&folder.0, FILE, SystemTime::now(), "No such file");
        for bytes in [&b"first: \xff\n\nsecond"[..], b"", b"another"] {
            folder.0.keep(file, bytes).expect("kept");
            let kept = folder.0.load(file, SystemTime::now()).expect("there");
            assert_eq!(kept.bytes, bytes);
            assert_eq!(kept.path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(&folder.0.folder).expect("the folder").count(), 1);
        // Left behind by a process that was killed, and in nobody's way.
        fs::write(folder.0.path(file).with_extension("new"), "half").expect("written");
        folder.0.keep(file, b"next").expect("kept");
        let gone = LastGood { folder: folder.0.folder.join("missing"), ..folder.0.clone() };
        assert!(gone.keep(file, b"x").expect_err("no folder").contains("missing/router.yaml-"));
        assert!(gone.confirm(file).is_err());
    }

    #[test]
    fn what_is_old_cut_short_or_of_another_file_is_refused() {
        let folder = Folder::new("refused");
        let file = Path::new(FILE);
        folder.0.keep(file, b"contents").expect("kept");
        let later = SystemTime::now() + Duration::from_secs(100);
        refused(&folder.0, FILE, later, "s old, at most 60 s are allowed");
        let path = folder.0.path(file);
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        OpenOptions::new().write(true).open(&path).expect("there").set_modified(long_ago).expect("set");
        refused(&folder.0, FILE, SystemTime::now(), "s old");
        folder.0.confirm(file).expect("confirmed");
        assert!(folder.0.load(file, SystemTime::now()).expect("young again").age < Duration::from_secs(60));
        assert!(folder.0.load(file, SystemTime::UNIX_EPOCH).is_ok(), "a clock that was set back");
        let other = "/etc/other/router.yaml";
        refused(&folder.0, other, SystemTime::now(), "No such file");
        fs::copy(&path, folder.0.path(Path::new(other))).expect("copied");
        refused(&folder.0, other, SystemTime::now(), "isn't whole, or not of /etc/other/router.yaml");
        let whole = fs::read(&path).expect("there");
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).expect("written");
            refused(&folder.0, FILE, SystemTime::now(), "isn't whole");
        }
    }
}
