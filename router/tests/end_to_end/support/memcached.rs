//! A real memcached.

use super::{Client, Folder, Process, eventually, signal};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;

/// A memcached of this test's own.
#[derive(Debug)]
pub(crate) struct Memcached {
    process: Process,
    ip: IpAddr,
    port: u16,
    arguments: Vec<String>,
    folder: Folder,
}

/// A port that was free a moment ago, outside the range that outgoing connections take theirs from: so a server that was
/// killed finds its port still free.
pub(crate) fn any_port(ip: IpAddr) -> u16 {
    loop {
        let port = 12_000 + (RandomState::new().build_hasher().finish() % 20_000) as u16;
        if TcpListener::bind((ip, port)).is_ok() {
            return port;
        }
    }
}

impl Memcached {
    pub(crate) fn start() -> Memcached {
        Memcached::with(Ipv4Addr::LOCALHOST.into(), &[])
    }

    /// With these arguments beside its own.
    pub(crate) fn with(ip: IpAddr, arguments: &[&str]) -> Memcached {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_string()).collect();
        let folder = Folder::new();
        loop {
            let port = any_port(ip);
            let mut process = launch(ip, port, &arguments, &folder);
            if answers(&mut process, ip, port) {
                return Memcached { process, ip, port, arguments, folder };
            }
        }
    }

    pub(crate) fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> String {
        self.socket().to_string()
    }

    /// A connection straight to it.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.socket())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty, on the same port.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        let (ip, port) = (self.ip, self.port);
        self.process = eventually("memcached's port is free again", || {
            let mut process = launch(ip, port, &self.arguments, &self.folder);
            answers(&mut process, ip, port).then_some(process)
        });
    }

    /// Stops it where it stands: it accepts connections and answers nothing.
    pub(crate) fn freeze(&self) {
        signal(self.process.id(), "STOP");
        // The signal stops each thread when the kernel next looks at it, and one of them may answer until then.
        eventually("every thread of it has stopped", || self.is_stopped().then_some(()));
    }

    fn is_stopped(&self) -> bool {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.process.id())) else { return false };
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The state follows the name, which ends at the last bracket.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    pub(crate) fn thaw(&self) {
        signal(self.process.id(), "CONT");
    }

    /// One of its statistics.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let answer = self.client().ask("stats\r\n");
        let line = answer.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {answer}")).trim().parse().expect("a number")
    }
}

fn launch(ip: IpAddr, port: u16, arguments: &[String], folder: &Folder) -> Process {
    let mut command = Command::new("memcached");
    // As root it wants another user named.
    command.args(["-u", "nobody", "-U", "0", "-t", "1", "-c", "4096", "-l", &ip.to_string(), "-p", &port.to_string()]);
    Process::start(command.args(arguments), folder.path().join("memcached"))
}

/// False when it ended: something else took the port.
fn answers(process: &mut Process, ip: IpAddr, port: u16) -> bool {
    eventually("memcached answers", || {
        if process.ended().is_some() {
            return Some(false);
        }
        let mut client = Client::try_connect(SocketAddr::new(ip, port)).ok()?;
        client.ask("stats\r\n").contains(&format!("STAT pid {}\r\n", process.id())).then_some(true)
    })
}
