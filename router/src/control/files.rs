//! The thread that touches the configuration's files: it reads them, watches them and keeps the last good one.
//!
//! Files may hang (network filesystems) and reading a large configuration takes time, which the control loop hasn't. The
//! thread decides when contents are worth reading; whether they are used is the control loop's business.
//!
//! Invariant: what the control loop is given is what was read at that moment, once per change of contents or per request.

use super::last_good::LastGood;
use super::watch::{Contents, PathWatch, Settling};
use crate::config::{Config, ReloadSettings, WatchMode, read_file};
use crate::moved_keys::{Sample, moved_keys};
use keyway_io_engine::mailbox::{Receiver, Sender};
use nix::poll::{PollFd, PollFlags, poll};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads and validates the bytes of a configuration. An error is every fault there is, in words.
pub type Parse = Box<dyn Fn(&[u8]) -> Result<Config, String> + Send>;

/// Keys tried to estimate the share of keys that move: within a percent. Fewer where there are many trees and pools to
/// try them on, since nothing is read meanwhile.
const MOVED_SAMPLE: std::ops::RangeInclusive<usize> = 1_000..=20_000;
/// Keys tried on all trees and pools together, as far as the range above allows.
const MOVED_WORK: usize = 1_000_000;
/// How often the last good configuration is confirmed while the file still holds it.
const CONFIRM_EVERY: Duration = Duration::from_secs(10 * 60);
/// Longest sleep.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The file a process gets its configuration from.
pub struct ConfigFile {
    /// Its absolute path, links not followed.
    pub path: PathBuf,
    /// What its bytes mean.
    pub parse: Parse,
    /// What it held at the start.
    pub contents: Contents,
    /// Where the last good one is kept, if anywhere.
    pub last_good: Option<LastGood>,
    /// True when the process was started with the last good one, because the file was no good.
    pub started_with_last_good: bool,
}

/// What the control loop wants of the thread.
pub(super) enum FileTask {
    /// Read the file, whatever it holds.
    Read,
    /// A configuration is in use now.
    Adopted(Box<Adopted>),
}

/// A configuration in use.
pub(super) struct Adopted {
    /// The configuration.
    pub(super) config: Arc<Config>,
    /// The one before it.
    pub(super) before: Option<Arc<Config>>,
    /// Its generation.
    pub(super) generation: u64,
    /// The bytes it was made of, to be kept as the last good ones; `None` where they were taken from there.
    pub(super) bytes: Option<Arc<[u8]>>,
}

/// The file was read.
pub(super) struct FileRead {
    /// True when that was asked for; else its contents have changed.
    pub(super) asked: bool,
    /// What it holds.
    pub(super) contents: Contents,
    /// What that means.
    pub(super) config: Result<Arc<Config>, String>,
}

/// Starts the thread. It ends when its tasks' sender is gone.
pub(super) fn start(file: ConfigFile, tasks: Receiver<FileTask>, reads: Sender<FileRead>) -> io::Result<()> {
    let settling = Settling::new(file.contents.clone(), Duration::ZERO);
    let files = Files {
        file,
        tasks,
        reads,
        settling,
        settings: ReloadSettings { watch: WatchMode::Off, delay: Duration::ZERO, poll: LONGEST },
        watch: None,
        next_poll: None,
        said: None,
        kept: None,
        next_confirm: Instant::now(),
    };
    std::thread::Builder::new().name("keyway-files".to_string()).spawn(move || files.run())?;
    Ok(())
}

struct Files {
    file: ConfigFile,
    tasks: Receiver<FileTask>,
    reads: Sender<FileRead>,
    settling: Settling,
    settings: ReloadSettings,
    watch: Option<PathWatch>,
    next_poll: Option<Instant>,
    /// What was said of the watch last, so that it isn't said again.
    said: Option<String>,
    /// What is kept as the last good one.
    kept: Option<Arc<[u8]>>,
    next_confirm: Instant,
}

impl Files {
    fn run(mut self) {
        while !self.tasks.is_closed() {
            self.wait();
            self.do_tasks();
            if self.watch.as_ref().is_some_and(PathWatch::has_changed) {
                self.begin_watch();
            }
            let now = Instant::now();
            if self.settling.look_at().is_some_and(|at| at <= now) {
                self.look();
            }
            if self.next_poll.is_some_and(|at| at <= now) {
                self.next_poll = Some(now + self.settings.poll);
                let contents = self.contents();
                self.settling.polled(contents, Instant::now());
            }
            if self.kept.is_some() && self.next_confirm <= now {
                self.confirm();
            }
        }
    }

    /// Until there is a task, the kernel tells something, or it is time for something.
    fn wait(&self) {
        let confirm = self.kept.as_ref().map(|_| self.next_confirm);
        let due = self.settling.look_at().into_iter().chain(self.next_poll).chain(confirm).min();
        let wait = due.map_or(LONGEST, |due| due.saturating_duration_since(Instant::now()).min(LONGEST));
        let mut polled = vec![PollFd::new(&self.tasks, PollFlags::POLLIN)];
        polled.extend(self.watch.as_ref().map(|watch| PollFd::new(watch, PollFlags::POLLIN)));
        // Rounded up, so that a wait below a millisecond doesn't spin. An interrupted one only ends sooner.
        let _ = poll(&mut polled, i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    }

    fn do_tasks(&mut self) {
        let mut asked = false;
        // A moment longer than nothing: that is what takes the doorbell's ring away.
        while let Some(task) = self.tasks.wait(Some(Duration::from_millis(1))) {
            match task {
                // Several at once are answered by one reading.
                FileTask::Read => asked = true,
                FileTask::Adopted(adopted) => self.adopted(&adopted),
            }
        }
        if asked {
            let contents = self.contents();
            self.settling.take(contents.clone());
            self.report(true, contents);
        }
    }

    // --- watching ---

    fn adopted(&mut self, adopted: &Adopted) {
        if let Some(bytes) = &adopted.bytes {
            self.keep(bytes);
        }
        if self.settings != adopted.config.reload {
            self.settings = adopted.config.reload;
            self.settling.set_delay(self.settings.delay);
            self.begin_watch();
        }
        if let Some(before) = &adopted.before {
            let config = &adopted.config;
            let trees = config.routes.len() + config.pools.len();
            let sample = (MOVED_WORK / trees.max(1)).clamp(*MOVED_SAMPLE.start(), *MOVED_SAMPLE.end());
            let moved = moved_keys(before, config, &Sample::Generated(sample));
            log::info!("configuration {}: {}", adopted.generation, moved.summary());
        }
    }

    /// Watches the file as its path leads now, and looks what it holds: it may have changed before it was watched.
    fn begin_watch(&mut self) {
        self.watch = None;
        self.next_poll = None;
        let path = &self.file.path;
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return self.say(format!("{} is no regular file: it is read again on SIGHUP only", path.display()));
        }
        let said = match self.settings.watch {
            WatchMode::Off => "changes of the configuration are read on SIGHUP only".to_owned(),
            WatchMode::Poll => format!("{} is compared every {} ms", path.display(), self.settings.poll.as_millis()),
            WatchMode::Inotify => match PathWatch::new(path) {
                Ok(watch) => {
                    let gap = watch.gap().map(|gap| format!(", though not every change is told at once: {gap}"));
                    self.watch = Some(watch);
                    format!("{} is watched{}", path.display(), gap.unwrap_or_default())
                }
                Err(why) => {
                    let every = self.settings.poll.as_millis();
                    format!("{} is compared every {every} ms only: {why}", path.display())
                }
            },
        };
        self.say(said);
        if self.settings.watch != WatchMode::Off {
            let now = Instant::now();
            self.next_poll = Some(now + self.settings.poll);
            match self.watch {
                Some(_) => self.settling.touched(now),
                None => self.settling.polled(self.contents(), now),
            }
        }
    }

    fn say(&mut self, words: String) {
        if self.said.as_ref() != Some(&words) {
            log::info!("{words}");
            self.said = Some(words);
        }
    }

    /// The file has been quiet: is there something new in it?
    fn look(&mut self) {
        let contents = self.contents();
        // Written to while it was read.
        if self.watch.as_ref().is_some_and(PathWatch::has_changed) {
            return self.begin_watch();
        }
        let same = contents == *self.settling.known();
        if self.settling.looked(contents.clone(), Instant::now()) {
            self.report(false, contents);
        } else if same {
            log::debug!("{} holds what it held", self.file.path.display());
        }
    }

    fn contents(&self) -> Contents {
        read_file(&self.file.path).map(Arc::from)
    }

    fn report(&self, asked: bool, contents: Contents) {
        let path = self.file.path.display();
        let config = match &contents {
            Ok(bytes) => (self.file.parse)(bytes).map(Arc::new),
            Err(why) => Err(format!("{path}: {why}")),
        };
        if self.reads.send(FileRead { asked, contents, config }).is_err() {
            log::error!("{path} was read for nothing: the control plane is gone or stuck");
        }
    }

    // --- the last good one ---

    fn keep(&mut self, bytes: &Arc<[u8]>) {
        let Some(last_good) = &self.file.last_good else { return };
        self.next_confirm = Instant::now() + CONFIRM_EVERY;
        match last_good.keep(&self.file.path, bytes) {
            Ok(()) => {
                log::debug!("kept as the last good configuration");
                self.kept = Some(bytes.clone());
            }
            Err(why) => {
                self.kept = None;
                log::warn!("the configuration can't be kept as the last good one: {why}");
            }
        }
    }

    /// Its age counts from when the file held it last.
    fn confirm(&mut self) {
        self.next_confirm = Instant::now() + CONFIRM_EVERY;
        if self.kept.as_ref() != self.settling.known().as_ref().ok() {
            return;
        }
        if let Some(Err(why)) = self.file.last_good.as_ref().map(|last_good| last_good.confirm(&self.file.path)) {
            log::warn!("the last good configuration can't be confirmed: {why}");
        }
    }
}

/// The path of a configuration file as it is watched and named in what is kept: absolute, links not followed.
pub fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}
