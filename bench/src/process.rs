//! The programs under measurement: started, pinned, waited for, their CPU and memory read, and ended by pid.
//!
//! Owns the children: whoever drops a `Process` ends it. Never pins itself and never ends a process it did not start.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take until it listens.
const START_TIME: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(10);

/// A directory of its own for configurations and logs, removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> io::Result<Scratch> {
        let since = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        let path = std::env::temp_dir().join(format!("keyway-bench-{}-{since}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Scratch { path })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind in a temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A loopback port nobody listens on now.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A command line, and the core it is to run on.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) core: Option<usize>,
}

impl CommandLine {
    pub(crate) fn new<S: Into<String>>(program: &Path, args: impl IntoIterator<Item = S>) -> CommandLine {
        CommandLine { program: program.to_owned(), args: args.into_iter().map(Into::into).collect(), core: None }
    }

    pub(crate) fn pinned(mut self, core: Option<usize>) -> CommandLine {
        self.core = core;
        self
    }

    /// As a command to be run. `taskset` sets the mask and becomes the program, under the same pid.
    fn command(&self) -> Command {
        match self.core {
            None => {
                let mut command = Command::new(&self.program);
                command.args(&self.args);
                command
            }
            Some(core) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(core.to_string()).arg(&self.program).args(&self.args);
                command
            }
        }
    }
}

/// A running program. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program; what it says goes into a file in `scratch`.
    pub(crate) fn start(name: &str, line: &CommandLine, scratch: &Scratch) -> Result<Process, String> {
        let log = scratch.file(&format!("{}-{}.log", name.replace(|c: char| !c.is_alphanumeric(), "-"), free_name()));
        let open = || -> io::Result<(File, File)> {
            let file = File::create(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().map_err(|error| format!("{}: {error}", log.display()))?;
        let child = line.command().stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.map_err(|error| format!("{name}: can't start {}: {error}", line.program.display()))?;
        Ok(Process { child, name: name.to_owned(), log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until somebody listens on the loopback `port`; an error when the program ended or takes too long.
    pub(crate) fn wait_for_port(&mut self, port: u16) -> Result<(), String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended ({status}): {}", self.name, self.said()));
            }
            if TcpStream::connect_timeout(&address, POLL_EVERY).is_ok() {
                return Ok(());
            }
            if began.elapsed() > START_TIME {
                return Err(format!("{} does not listen on port {port}: {}", self.name, self.said()));
            }
            thread::sleep(POLL_EVERY);
        }
    }

    /// Waits for a program that ends by itself.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus, String> {
        self.child.wait().map_err(|error| format!("{}: {error}", self.name))
    }

    /// What it said, at most the end of it.
    pub(crate) fn said(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let end = &text[text.len().saturating_sub(1000)..];
        String::from_utf8_lossy(end).trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number that tells one start's log from another's.
fn free_name() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// CPU time a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    /// By the scheduler's own clock, summed over the threads that live.
    pub(crate) run_ns: u64,
    /// In user space and in the kernel, in clock ticks; ended threads too.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
}

/// `USER_HZ`, which Linux has long fixed for user space on the platforms this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Cpu {
    /// What process `pid` has used so far.
    pub(crate) fn of(pid: u32) -> Result<Cpu, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let path = format!("/proc/{pid}/stat");
        let (user_ticks, system_ticks) =
            parse_stat(&read(&path)?).ok_or_else(|| format!("{path} has not the expected form"))?;
        let tasks = format!("/proc/{pid}/task");
        let mut run_ns = 0;
        for task in fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?.flatten() {
            // A thread may end between the listing and the reading.
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            run_ns += parse_schedstat(&text).unwrap_or(0);
        }
        Ok(Cpu { run_ns, user_ticks, system_ticks })
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Cpu) -> Cpu {
        Cpu {
            run_ns: self.run_ns.saturating_sub(before.run_ns),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
        }
    }

    fn tick_seconds(self) -> f64 {
        (self.user_ticks + self.system_ticks) as f64 / TICKS_PER_SECOND
    }

    /// User and system seconds: the scheduler's nanoseconds, unless they disagree with the ticks (a kernel without
    /// schedstats, threads that ended).
    pub(crate) fn seconds(self) -> f64 {
        if self.agrees() { self.run_ns as f64 / 1e9 } else { self.tick_seconds() }
    }

    /// True when both ways of counting say the same, to 2 % and three ticks.
    pub(crate) fn agrees(self) -> bool {
        let ticks = self.tick_seconds();
        (self.run_ns as f64 / 1e9 - ticks).abs() <= ticks * 0.02 + 3.0 / TICKS_PER_SECOND
    }

    /// How much of it was spent in user space.
    pub(crate) fn user_share(self) -> f64 {
        self.user_ticks as f64 / ((self.user_ticks + self.system_ticks) as f64).max(1.0)
    }
}

/// utime and stime of `/proc/PID/stat`. The name in parentheses may hold anything, parentheses and spaces too.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let after_name = &text[text.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Nanoseconds on a CPU, the first field of `/proc/PID/task/TID/schedstat`.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Resident memory of process `pid`, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    parse_status_kib(&text, "VmRSS").ok_or_else(|| format!("{path} has no VmRSS"))
}

fn parse_status_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// A program by name on PATH, or as a path.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        let path = PathBuf::from(name);
        return path.is_file().then_some(path);
    }
    // Debian keeps daemons where a user's PATH may not look.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(daemons).map(|directory| directory.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat = "21739 (a) b (c)) R 21737 21737 5341 0 -1 4194304 100 0 0 0 17 29 0 0 20 0 1 0 216871 3133440 394";
        assert_eq!(parse_stat(stat), Some((17, 29)));
        assert_eq!(parse_stat("21739 (cat"), None);
        assert_eq!(parse_stat("1 (cat) R 1 2"), None);
        assert_eq!(parse_schedstat("55633 120 1\n"), Some(55633));
        assert_eq!(parse_schedstat(""), None);
        let status = "Name:\tx\nVmHWM:\t    9999 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(parse_status_kib(status, "VmRSS"), Some(1234));
        assert_eq!(parse_status_kib(status, "VmSwap"), None);
    }

    #[test]
    fn cpu_time_prefers_the_finer_clock_when_both_agree() {
        let cpu = |run_ns, user_ticks, system_ticks| Cpu { run_ns, user_ticks, system_ticks };
        assert_eq!(cpu(1_005_000_000, 20, 80).seconds(), 1.005);
        assert_eq!(cpu(0, 20, 80).seconds(), 1.0);
        assert_eq!(cpu(5_000_000_000, 20, 80).seconds(), 1.0);
        assert_eq!(cpu(0, 20, 80).user_share(), 0.2);
        assert_eq!(cpu(9, 3, 4).since(cpu(4, 1, 1)), cpu(5, 2, 3));
    }

    #[test]
    fn our_own_process_can_be_read() {
        let pid = std::process::id();
        let before = Cpu::of(pid).expect("readable");
        let mut sum = 0u64;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(50) {
            sum = sum.wrapping_add(crate::keys::mix(sum));
        }
        assert!(Cpu::of(pid).expect("readable").since(before).run_ns > 0, "{sum}");
        assert!(resident_kib(pid).expect("readable") > 100);
        assert_eq!(find_program("no-such-program-anywhere"), None);
        assert!(find_program("sh").is_some());
    }
}
