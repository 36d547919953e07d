//! Noticing that the configuration file has changed: what the kernel tells about its path, and when it has been quiet for
//! long enough.
//!
//! `PathWatch` watches every directory a walk from the root to the file passes, through every symbolic link on the way, and
//! the file itself. So it sees writes in place, an editor's rename over the file, and links that are swapped, as
//! Kubernetes does for a ConfigMap (`router.yaml` -> `..data/router.yaml`, `..data` -> a new folder). It is made anew after
//! each change, since the way leads elsewhere then.
//!
//! `Settling` decides when contents are used; it reads no file and no clock. What the kernel says is only ever a reason
//! to look: the contents decide, so that a touched file changes nothing.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most symbolic links followed, as the kernel does.
const MAX_LINKS: usize = 40;
/// Most buffers of events taken at once.
const READS_AT_ONCE: usize = 64;

/// The bytes of a configuration file, or why it can't be read.
pub type Contents = Result<Arc<[u8]>, String>;

/// Watches for one path. Its watches end with it.
#[derive(Debug)]
pub(super) struct PathWatch {
    inotify: Inotify,
    /// The names that count, by directory.
    names: HashMap<WatchDescriptor, Vec<OsString>>,
    /// Why not every change will be told, if so.
    gap: Option<String>,
}

impl PathWatch {
    /// Begins to watch an absolute path, as it leads now.
    pub(super) fn new(path: &Path) -> Result<PathWatch, String> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|error| format!("inotify can't be used: {error}"))?;
        let mut watch = PathWatch { inotify, names: HashMap::new(), gap: None };
        let entries =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_ONLYDIR;
        for Step { directory, name } in steps(path) {
            match watch.inotify.add_watch(&directory, entries) {
                Ok(descriptor) => watch.names.entry(descriptor).or_default().push(name),
                Err(error) => watch.gap_at(&directory, error),
            }
        }
        // The file's own: a directory isn't told of writes by way of a hard link or a bind mount.
        match watch.inotify.add_watch(path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE) {
            // A file that isn't there is waited for by its directory.
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(error) => watch.gap_at(path, error),
        }
        Ok(watch)
    }

    /// Why not every change will be told, if so.
    pub(super) fn gap(&self) -> Option<&str> {
        self.gap.as_deref()
    }

    fn gap_at(&mut self, path: &Path, error: Errno) {
        let hint = match error {
            Errno::ENOSPC => "; raise fs.inotify.max_user_watches",
            _ => "",
        };
        self.gap.get_or_insert_with(|| format!("{} can't be watched: {error}{hint}", path.display()));
    }

    /// Takes what was told; true when something of it concerns the path.
    pub(super) fn has_changed(&self) -> bool {
        let mut changed = false;
        // What is left of a flood is told again.
        for _ in 0..READS_AT_ONCE {
            let Ok(events) = self.inotify.read_events() else { break };
            for event in events {
                let concerns = match (self.names.get(&event.wd), &event.name) {
                    (Some(names), Some(name)) => names.contains(name),
                    // The file itself, a directory that is gone, or more than the queue holds.
                    (None, _) | (Some(_), None) => true,
                };
                changed |= concerns;
            }
        }
        changed
    }
}

impl AsFd for PathWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// One name looked up on the way to a file.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// A directory without links in its path.
    directory: PathBuf,
    name: OsString,
}

/// The names looked up on the way to an absolute path, links followed, as far as the way leads.
fn steps(path: &Path) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut directory = PathBuf::from("/");
    let mut ahead: VecDeque<PathBuf> = parts(path);
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == Path::new("/") {
            directory = PathBuf::from("/");
            continue;
        }
        if part == Path::new("..") {
            directory.pop();
            continue;
        }
        let at = directory.join(&part);
        steps.push(Step { directory: directory.clone(), name: part.into_os_string() });
        let Ok(found) = std::fs::symlink_metadata(&at) else { break };
        if !found.is_symlink() {
            directory = at;
            continue;
        }
        links += 1;
        let Ok(target) = std::fs::read_link(&at) else { break };
        if links > MAX_LINKS {
            break;
        }
        for part in parts(&target).into_iter().rev() {
            ahead.push_front(part);
        }
    }
    steps
}

fn parts(path: &Path) -> VecDeque<PathBuf> {
    let is_step = |part: &Component<'_>| !matches!(part, Component::CurDir);
    path.components().filter(is_step).map(|part| PathBuf::from(part.as_os_str())).collect()
}

/// When contents have been quiet for long enough.
#[derive(Debug)]
pub(super) struct Settling {
    /// What was read last to be used, good or bad.
    known: Contents,
    delay: Duration,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    look_at: Instant,
    /// What it held when that was found out by comparing: to be the same at the next look. Where the kernel told, its
    /// silence since shows that nobody wrote.
    held: Option<Contents>,
}

impl Settling {
    pub(super) fn new(known: Contents, delay: Duration) -> Settling {
        Settling { known, delay, pending: None }
    }

    /// From now on.
    pub(super) fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// What was read last to be used.
    pub(super) fn known(&self) -> &Contents {
        &self.known
    }

    /// The contents were read to be used, asked for or not.
    pub(super) fn take(&mut self, contents: Contents) {
        self.known = contents;
        self.pending = None;
    }

    /// The kernel told of a change: quiet begins anew.
    pub(super) fn touched(&mut self, now: Instant) {
        self.pending = Some(Pending { look_at: now + self.delay, held: None });
    }

    /// The contents were compared, whatever the kernel told.
    pub(super) fn polled(&mut self, contents: Contents, now: Instant) {
        if self.pending.is_none() && contents != self.known {
            self.pending = Some(Pending { look_at: now + self.delay, held: Some(contents) });
        }
    }

    /// When to look.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.look_at)
    }

    /// This is what a look found; true when it is to be used, and is then what is known.
    pub(super) fn looked(&mut self, contents: Contents, now: Instant) -> bool {
        let Some(pending) = self.pending.take() else { return false };
        if contents == self.known {
            return false;
        }
        if pending.held.is_some_and(|held| held != contents) {
            self.pending = Some(Pending { look_at: now + self.delay, held: Some(contents) });
            return false;
        }
        self.known = contents;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, poll};
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A folder of this test's own, its path without links.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("keyway-watch-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder for the test");
            Folder(path.canonicalize().expect("it is there"))
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// The names below the folder that the way to `path` passes, with their directories.
    fn way(folder: &Folder, path: &Path) -> Vec<String> {
        let below = |step: &Step| step.directory.join(&step.name).strip_prefix(&folder.0).map(Path::to_owned).ok();
        let found = steps(path).iter().filter_map(below).map(|path| path.display().to_string()).collect::<Vec<_>>();
        found.into_iter().filter(|name| !name.is_empty()).collect()
    }

    #[test]
    fn the_way_to_a_file_follows_every_link() {
        let folder = Folder::new("way");
        fs::create_dir_all(folder.at("..2024")).expect("a folder");
        fs::write(folder.at("..2024/router.yaml"), "x").expect("a file");
        symlink("..2024", folder.at("..data")).expect("a link");
        symlink("..data/router.yaml", folder.at("router.yaml")).expect("a link");
        symlink(folder.at("router.yaml"), folder.at("absolute")).expect("a link");
        symlink("loop", folder.at("loop")).expect("a link");
        let configmap = ["router.yaml", "..data", "..2024", "..2024/router.yaml"];
        assert_eq!(way(&folder, &folder.at("router.yaml")), configmap);
        let through = way(&folder, &folder.at("..2024/.././absolute"));
        assert_eq!(through[..2], ["..2024", "absolute"]);
        assert_eq!(through[through.len() - 4..], configmap);
        assert_eq!(way(&folder, &folder.at("missing/file")), ["missing"]);
        assert_eq!(way(&folder, &folder.at("..2024/router.yaml/x")).len(), 3, "a file is no directory");
        assert_eq!(way(&folder, &folder.at("loop")).len(), MAX_LINKS + 1);
    }

    /// Waits for the kernel to tell something, and takes it.
    fn is_told(watch: &PathWatch) -> bool {
        let mut polled = [PollFd::new(watch, PollFlags::POLLIN)];
        poll(&mut polled, 10_000).expect("a poll") > 0 && watch.has_changed()
    }

    #[test]
    fn every_way_to_change_a_file_is_told() {
        let folder = Folder::new("told");
        let file = folder.at("router.yaml");
        let start = || {
            for name in ["router.yaml", "other"] {
                let _ = fs::remove_file(folder.at(name));
            }
            fs::write(&file, "old").expect("a file");
            let watch = PathWatch::new(&file).expect("inotify");
            assert!(!watch.has_changed());
            watch
        };
        let watch = start();
        fs::write(&file, "in place").expect("written");
        assert!(is_told(&watch), "in place");
        let watch = start();
        fs::write(folder.at("other"), "new").expect("written");
        assert!(!watch.has_changed(), "another file");
        fs::rename(folder.at("other"), &file).expect("renamed");
        assert!(is_told(&watch), "renamed over");
        let watch = start();
        fs::hard_link(&file, folder.at("other")).expect("a hard link");
        fs::write(folder.at("other"), "by another name").expect("written");
        assert!(is_told(&watch), "a hard link");
        let watch = start();
        fs::remove_file(&file).expect("removed");
        assert!(is_told(&watch), "removed");
        let watch = PathWatch::new(&file).expect("inotify");
        fs::write(&file, "again").expect("written");
        assert!(is_told(&watch), "there again");
        assert_eq!(watch.gap(), None);
    }

    #[test]
    fn swapped_links_are_told() {
        let folder = Folder::new("swap");
        for name in ["one", "two"] {
            fs::create_dir_all(folder.at(name)).expect("a folder");
            fs::write(folder.at(name).join("router.yaml"), name).expect("a file");
        }
        symlink("one", folder.at("..data")).expect("a link");
        symlink("..data/router.yaml", folder.at("router.yaml")).expect("a link");
        let watch = PathWatch::new(&folder.at("router.yaml")).expect("inotify");
        symlink("two", folder.at("..data_tmp")).expect("a link");
        fs::rename(folder.at("..data_tmp"), folder.at("..data")).expect("renamed");
        assert!(is_told(&watch));
        // The old one no longer says anything about a file that lies elsewhere now.
        let watch = PathWatch::new(&folder.at("router.yaml")).expect("inotify");
        fs::write(folder.at("one/router.yaml"), "nobody's").expect("written");
        assert!(!watch.has_changed());
        fs::write(folder.at("two/router.yaml"), "ours").expect("written");
        assert!(is_told(&watch));
        // A directory on the way that is exchanged as a whole.
        let watch = PathWatch::new(&folder.at("one/router.yaml")).expect("inotify");
        fs::rename(folder.at("one"), folder.at("three")).expect("renamed");
        assert!(is_told(&watch));
    }

    fn held(text: &str) -> Contents {
        Ok(Arc::from(text.as_bytes()))
    }

    #[test]
    fn contents_are_used_when_they_have_been_quiet() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let at = |seconds: u32| start + second * seconds;
        let mut settling = Settling::new(held("a"), second * 3);
        assert_eq!(settling.look_at(), None);
        // Each event puts the look off.
        settling.touched(at(0));
        settling.touched(at(2));
        assert_eq!(settling.look_at(), Some(at(5)));
        assert!(settling.looked(held("b"), at(5)));
        assert_eq!((settling.known(), settling.look_at()), (&held("b"), None));
        // Touched, but the same.
        settling.touched(at(6));
        assert!(!settling.looked(held("b"), at(9)));
        // Found by comparing: twice the same.
        settling.polled(held("b"), at(10));
        assert_eq!(settling.look_at(), None);
        settling.polled(held("c1"), at(11));
        settling.polled(held("c2"), at(12));
        assert_eq!(settling.look_at(), Some(at(14)));
        assert!(!settling.looked(held("c123"), at(14)));
        assert_eq!(settling.look_at(), Some(at(17)));
        assert!(settling.looked(held("c123"), at(17)));
        // A file that is gone is a change, and so is its return.
        settling.touched(at(18));
        assert!(settling.looked(Err("gone".to_owned()), at(21)));
        settling.polled(held("c123"), at(22));
        assert!(settling.looked(held("c123"), at(25)));
        // What was asked for ends the waiting.
        settling.touched(at(26));
        settling.take(held("d"));
        assert_eq!(settling.look_at(), None);
        assert!(!settling.looked(held("e"), at(29)));
    }
}
