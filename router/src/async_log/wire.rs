//! A blocking connection that sends commands and takes one line of reply for each.
//!
//! For threads of their own only. Every wait has the timeout given; a reply is at most `MAX_REPLY_BYTES` long.

use super::line::Command;
use crate::config::ServerAddress;
use keyway_io_engine::Address;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest line a server may answer with.
const MAX_REPLY_BYTES: usize = 2048;
/// Most commands sent before their replies are read: all of them fit the sockets' buffers, so that neither side waits for
/// the other to read.
pub(super) const BATCH: usize = 64;

/// What a server did with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Done, or there was nothing to do.
    Done,
    /// Refused for what it says: it would be refused again.
    Rejected(String),
}

/// How far a batch came.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// In the order of the commands.
    pub(super) verdicts: Vec<Verdict>,
    /// Why it went no further; the connection is of no more use.
    pub(super) problem: Option<String>,
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    input: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Paces what is sent to at most so many a second.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: u32,
    next: Instant,
}

impl Connection {
    pub(super) fn to(address: &Address, timeout: Duration) -> io::Result<Connection> {
        let stream = match address {
            Address::Tcp(address) => Stream::Tcp(TcpStream::connect_timeout(address, timeout)?),
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        };
        match &stream {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
            }
        }
        Ok(Connection { stream, input: Vec::new() })
    }

    /// To a destination as a log writes it; its name is looked up.
    pub(super) fn to_destination(destination: &str, timeout: Duration) -> io::Result<Connection> {
        let none = || io::Error::new(io::ErrorKind::NotFound, "no address of a server");
        let addresses: Vec<SocketAddr> = match ServerAddress::parse(destination).map_err(|_| none())? {
            ServerAddress::Ip(address) => vec![address],
            ServerAddress::Name(name, port) => (name.as_str(), port).to_socket_addrs()?.collect(),
            ServerAddress::Unix(path) => return Connection::to(&Address::Unix(path), timeout),
            ServerAddress::Embedded(_) => return Err(none()),
        };
        let mut problem = none();
        for address in addresses {
            match Connection::to(&Address::Tcp(address), timeout) {
                Ok(connection) => return Ok(connection),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    /// Sends the commands, at most `BATCH` of them, and takes their replies.
    pub(super) fn play<'a>(&mut self, commands: impl ExactSizeIterator<Item = &'a Command>) -> Played {
        let count = commands.len();
        let mut played = Played::default();
        let frames: Vec<u8> = commands.flat_map(|command| command.frame().iter().copied()).collect();
        if let Err(error) = self.stream.write_all(&frames) {
            played.problem = Some(in_words("sending to it failed", &error));
            return played;
        }
        while played.verdicts.len() < count {
            match self.reply() {
                Ok(verdict) => played.verdicts.push(verdict),
                Err(problem) => {
                    played.problem = Some(problem);
                    return played;
                }
            }
        }
        // A line too many means that the lines before it were not what they were taken for.
        if !self.input.is_empty() {
            played.problem = Some("it answers more than it was asked".to_string());
        }
        played
    }

    fn reply(&mut self) -> Result<Verdict, String> {
        let mut piece = [0; 4096];
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return verdict(line.trim_ascii_end());
            }
            if self.input.len() > MAX_REPLY_BYTES {
                return Err("it answers with a line without an end".to_string());
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err("it closed the connection".to_string()),
                Ok(length) => self.input.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(in_words("its reply did not come", &error)),
            }
        }
    }
}

/// What a reply means. An error of the server's may pass; one of the client's will not.
fn verdict(line: &[u8]) -> Result<Verdict, String> {
    match line {
        b"DELETED" | b"NOT_FOUND" | b"TOUCHED" => Ok(Verdict::Done),
        _ if line.starts_with(b"CLIENT_ERROR") => Ok(Verdict::Rejected(String::from_utf8_lossy(line).into_owned())),
        _ => Err(format!("it answered {:?}", String::from_utf8_lossy(line))),
    }
}

fn in_words(what: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("{what} in time"),
        _ => format!("{what}: {error}"),
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Pace {
        Pace { per_second: per_second.max(1), next: Instant::now() }
    }

    /// How many to send at once: few enough that a second holds at least ten batches, or one by one.
    pub(super) fn batch(&self) -> usize {
        (self.per_second as usize / 10).clamp(1, BATCH)
    }

    /// Waits until as many may be sent.
    pub(super) fn wait_for(&mut self, count: usize) {
        let now = Instant::now();
        std::thread::sleep(self.next.saturating_duration_since(now));
        self.next = self.next.max(now) + Duration::from_secs(1) * count as u32 / self.per_second;
    }
}
