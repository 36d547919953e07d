//! A client of bytes: sends what the test says, and reads whole replies of the text protocol.

use super::PATIENCE;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;

/// One connection. Reading and writing give up, and fail the test, when nothing moves for too long.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    buffer: Vec<u8>,
    at: usize,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Client> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        socket.set_tcp_nodelay(true)?;
        Client::new(socket)
    }

    pub(crate) fn connect_unix(path: &Path) -> Client {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        socket.connect(&SockAddr::unix(path).expect("a path")).expect("the Unix socket is listened on");
        Client::new(socket).expect("a socket with timeouts")
    }

    fn new(socket: Socket) -> io::Result<Client> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { socket, buffer: Vec::new(), at: 0 })
    }

    /// The same connection a second time, to write from another thread.
    pub(crate) fn writer(&self) -> Socket {
        self.socket.try_clone().expect("a descriptor")
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("the router takes what is sent");
    }

    /// Nothing more will be sent.
    pub(crate) fn finish_sending(&self) {
        self.socket.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// Sends, and reads one reply.
    pub(crate) fn ask(&mut self, bytes: impl AsRef<[u8]>) -> String {
        self.send(bytes);
        shown(&self.reply())
    }

    /// Stores a value and expects that to work.
    pub(crate) fn set(&mut self, key: &str, value: impl AsRef<[u8]>) {
        let answer = self.store("set", key, value);
        assert_eq!(answer, "STORED\r\n", "set {key}");
    }

    pub(crate) fn store(&mut self, operation: &str, key: &str, value: impl AsRef<[u8]>) -> String {
        let value = value.as_ref();
        let mut frame = format!("{operation} {key} 0 0 {}\r\n", value.len()).into_bytes();
        frame.extend_from_slice(value);
        frame.extend_from_slice(b"\r\n");
        self.ask(frame)
    }

    /// The value of a key, `None` for a miss.
    pub(crate) fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.send(format!("get {key}\r\n"));
        let reply = self.reply();
        if reply == b"END\r\n" {
            return None;
        }
        let line = reply.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        assert!(reply.starts_with(format!("VALUE {key} ").as_bytes()), "get {key}: {}", shown(&reply));
        Some(reply[line..reply.len() - b"\r\nEND\r\n".len()].to_vec())
    }

    /// One reply: a line; or values and statistics to their end.
    pub(crate) fn reply(&mut self) -> Vec<u8> {
        self.try_reply().unwrap_or_else(|error| panic!("waiting for a reply: {error}"))
    }

    /// The same; an error when the connection ends before or in it.
    pub(crate) fn try_reply(&mut self) -> io::Result<Vec<u8>> {
        let mut reply = Vec::new();
        loop {
            let start = reply.len();
            self.line(&mut reply)?;
            let line = &reply[start..];
            if line.starts_with(b"VALUE ") {
                let text = shown(line);
                let bytes: usize = text.split_whitespace().nth(3).and_then(|word| word.parse().ok()).expect("a length");
                self.bytes(&mut reply, bytes + 2)?;
            } else if !line.starts_with(b"STAT ") {
                return Ok(reply);
            }
        }
    }

    fn line(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let mut searched = 0;
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest[searched..].iter().position(|byte| *byte == b'\n') {
                return self.bytes(into, searched + end + 1);
            }
            searched = rest.len();
            self.fill()?;
        }
    }

    fn bytes(&mut self, into: &mut Vec<u8>, count: usize) -> io::Result<()> {
        while self.buffer.len() - self.at < count {
            self.fill()?;
        }
        into.extend_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.read_more()? == 0 {
            let rest = shown(&self.buffer[self.at..(self.at + 100).min(self.buffer.len())]);
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("end of file behind {} bytes: {rest:?}", self.buffer.len() - self.at),
            ));
        }
        Ok(())
    }

    fn read_more(&mut self) -> io::Result<usize> {
        if self.at > 1 << 20 || self.at == self.buffer.len() {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let mut piece = [0; 64 * 1024];
        let count = self.socket.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    /// Everything up to the end of the connection, which must come in order, without a reset.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.read_more().expect("an end in order") > 0 {}
        self.buffer.drain(..self.at);
        self.at = 0;
        std::mem::take(&mut self.buffer)
    }

    /// The connection ends here, with nothing more said.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(shown(&self.rest()), "");
    }

    /// True when the connection is closed or broken, now or soon; what came is dropped.
    pub(crate) fn is_cut(&mut self) -> bool {
        loop {
            match self.read_more() {
                Ok(0) => return true,
                Ok(_) => self.at = self.buffer.len(),
                Err(error) => {
                    return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                }
            }
        }
    }
}

/// Bytes as a test shows and compares them.
pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
