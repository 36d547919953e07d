//! The program, as it is shipped.

use super::{Client, Folder, PATIENCE, Process, eventually, signal};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A `keyway` of this test's own.
#[derive(Debug)]
pub(crate) struct Keyway {
    process: Process,
    file: PathBuf,
    /// Its file and its log are there.
    _folder: Folder,
}

impl Keyway {
    /// Starts it with this configuration and waits until it serves.
    pub(crate) fn start(configuration: &str) -> Keyway {
        Keyway::with(configuration, &[])
    }

    /// With these flags.
    pub(crate) fn with(configuration: &str, flags: &[&str]) -> Keyway {
        Keyway::under(&[], configuration, flags)
    }

    /// Started by another program, as `taskset -c 0`, which becomes it.
    pub(crate) fn under(starter: &[&str], configuration: &str, flags: &[&str]) -> Keyway {
        Keyway::launch(starter, configuration, flags).until_it_serves()
    }

    /// Starts it with this file and waits until it serves.
    pub(crate) fn of(file: &Path, flags: &[&str]) -> Keyway {
        Keyway::launch_of(&[], Folder::new(), file, flags).until_it_serves()
    }

    fn until_it_serves(mut self) -> Keyway {
        eventually("keyway serves", || {
            if let Some(status) = self.process.ended() {
                panic!("keyway ended with {status} at the start: {}", self.log());
            }
            self.serves().then_some(())
        });
        self
    }

    /// Starts it and does not wait.
    pub(crate) fn launch(starter: &[&str], configuration: &str, flags: &[&str]) -> Keyway {
        let folder = Folder::new();
        let file = folder.write("router.yaml", configuration);
        Keyway::launch_of(starter, folder, &file, flags)
    }

    /// The same with a file that lies anywhere.
    pub(crate) fn launch_of(starter: &[&str], folder: Folder, file: &Path, flags: &[&str]) -> Keyway {
        let file = file.to_owned();
        let binary = env!("CARGO_BIN_EXE_keyway");
        let words: Vec<&str> = starter.iter().copied().chain([binary, "-f"]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&file).args(flags).current_dir(folder.path()).env("RUST_BACKTRACE", "1");
        let process = Process::start(&mut command, folder.path().join("keyway.log"));
        Keyway { process, file, _folder: folder }
    }

    /// True once it said that it serves.
    pub(crate) fn serves(&self) -> bool {
        self.log().contains(" serves with ")
    }

    pub(crate) fn log(&self) -> String {
        self.process.said()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for a line with this in the log, and returns it.
    pub(crate) fn logged(&self, words: &str) -> String {
        eventually(&format!("{words:?} in the log"), || {
            self.log().lines().find(|line| line.contains(words)).map(str::to_owned)
        })
    }

    /// Where its only (or first) TCP listener is.
    pub(crate) fn socket(&self) -> SocketAddr {
        let line = self.logged("listening on tcp://");
        line.split("tcp://").nth(1).and_then(|address| address.trim().parse().ok()).expect("an address")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.socket())
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    /// Waits for it to end; the exit code, or the signal as a negative number.
    pub(crate) fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = self.process.wait();
        status.code().unwrap_or_else(|| -status.signal().expect("a code or a signal"))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    pub(crate) fn rewrite(&self, configuration: &str) {
        std::fs::write(&self.file, configuration).expect("the test's file");
    }

    // --- the metrics port ---

    /// Status and body of a page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let line = self.logged("metrics on http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        let mut stream = TcpStream::connect(address).expect("the metrics port");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        (status, body.to_owned())
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let (status, body) = self.page("/metrics");
        assert_eq!(status, 200);
        Metrics::parse(&body)
    }

    /// Waits until a series has this value; the counters lie up to a second behind.
    pub(crate) fn metric_becomes(&self, series: &str, value: f64) {
        eventually(&format!("{series} becomes {value}"), || {
            (self.metrics().find(series).unwrap_or(0.0) == value).then_some(())
        });
    }
}

/// A scrape.
#[derive(Debug)]
pub(crate) struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// Reads the text format, and fails the test where it isn't that.
    pub(crate) fn parse(text: &str) -> Metrics {
        let mut series = Vec::new();
        let mut declared = std::collections::HashSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
                assert!(declared.insert(name.to_owned()), "{name} is declared twice");
            } else if !line.starts_with('#') && !line.is_empty() {
                let (name, value) = line.rsplit_once(' ').expect("a name and a value");
                let base = name.split('{').next().unwrap_or_default();
                let known = |name: &str| declared.contains(name);
                let is_known = known(base)
                    || ["_bucket", "_sum", "_count"].iter().any(|end| base.strip_suffix(end).is_some_and(known));
                assert!(is_known, "{line}: not declared");
                let value = value.parse().unwrap_or_else(|_| panic!("{line}: no number"));
                assert!(!series.iter().any(|(seen, _)| seen == name), "{name} stands twice");
                series.push((name.to_owned(), value));
            }
        }
        Metrics(series)
    }

    /// The value of a series, written as in the text.
    pub(crate) fn find(&self, series: &str) -> Option<f64> {
        self.0.iter().find(|(name, _)| name == series).map(|(_, value)| *value)
    }

    /// The sum over all series of a name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let of = |series: &str| series.split('{').next() == Some(name);
        self.0.iter().filter(|(series, _)| of(series)).map(|(_, value)| *value).sum()
    }
}
