//! Processes that end with the test, and folders that go with it.

use super::{PATIENCE, eventually};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// A folder of this test's own.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static MADE: AtomicU32 = AtomicU32::new(0);
        // Short, because a Unix socket's path has little room.
        let name = format!("keyway-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and tells where it is.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file for the test");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed with its owner. What it writes is kept, and shown when the test fails.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    written: PathBuf,
}

impl Process {
    /// Starts it, its standard error into `written`.
    pub(crate) fn start(command: &mut Command, written: PathBuf) -> Process {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::create(&written).expect("a file for what it says");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start ({error}); .ci/install installs what is needed"));
        Process { name, child, written }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.written).unwrap_or_default()).into_owned()
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("one's own child can be asked")
    }

    /// Waits for it to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually(&format!("{} ends", self.name), || self.ended())
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ({}) said:\n{}---", self.name, self.child.id(), self.said());
        }
    }
}

/// Sends a signal, as `TERM` or `STOP`, to a process this test started.
pub(crate) fn signal(process: u32, name: &str) {
    // The shell's own kill: no crate of the workspace offers one without `unsafe`.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    assert!(status.expect("sh").success(), "kill -{name} {process}");
}

/// Runs a command to its end, at most for as long as anything here; its standard output when it succeeds.
pub(crate) fn output_of(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let folder = Folder::new();
    let (out, error) = (folder.path().join("out"), folder.path().join("error"));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("a file"))
        .stderr(File::create(&error).expect("a file"))
        .spawn()
        .unwrap_or_else(|error| panic!("{program} does not start ({error}); .ci/install installs what is needed"));
    let until = Instant::now() + PATIENCE * 2;
    let status = loop {
        if let Some(status) = child.try_wait().expect("one's own child can be asked") {
            break Some(status);
        }
        if Instant::now() >= until {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let text = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let (out, error) = (text(out), text(error));
    assert!(status.is_some_and(|status| status.success()), "{program}: {status:?}\n{out}\n{error}");
    out
}
