//! A server that says what the test tells it to, and says what it was sent.

use super::LIMIT;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};

/// How a server behaves.
#[derive(Clone, Copy)]
pub(crate) struct Mood {
    /// What it answers to everything but `version`.
    pub(crate) says: &'static str,
    /// How many more it answers; then it closes connections instead. Also `version`, which isn't counted.
    pub(crate) left: usize,
}

/// Its thread lives as long as the test process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    heard: mpsc::Receiver<Vec<u8>>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mood = Arc::new(Mutex::new(Mood { says: "DELETED\r\n", left: usize::MAX }));
        let (tell, heard) = mpsc::channel();
        let shared = mood.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mood, tell) = (shared.clone(), tell.clone());
                std::thread::spawn(move || converse(&stream, &mood, &tell));
            }
        });
        Server { address, mood, heard }
    }

    /// As the log names it.
    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn is(&self, mood: Mood) {
        *self.mood.lock().expect("no panic") = mood;
    }

    /// Waits for so many requests and gives what they were about: the line without `delete ` and its end.
    pub(crate) fn hears(&self, count: usize) -> Vec<String> {
        (0..count)
            .map(|at| {
                let line =
                    self.heard.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("request {at} of {count} did not come"));
                let text = String::from_utf8(line).expect("text");
                text.strip_prefix("delete ").and_then(|rest| rest.strip_suffix("\r\n")).expect("a delete").to_string()
            })
            .collect()
    }

    /// Requests that came and weren't asked for yet.
    pub(crate) fn heard_more(&self) -> usize {
        self.heard.try_iter().count()
    }

    /// The next request, as it came.
    pub(crate) fn next_line(&self) -> Vec<u8> {
        self.heard.recv_timeout(LIMIT).expect("a request")
    }
}

fn converse(mut stream: &TcpStream, mood: &Mutex<Mood>, tell: &mpsc::Sender<Vec<u8>>) {
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).is_ok_and(|length| length == 0) || line.is_empty() {
            return;
        }
        let says = {
            let mut mood = mood.lock().expect("no panic");
            if mood.left == 0 {
                return;
            }
            if line == b"version\r\n" {
                "VERSION 1.6.0\r\n"
            } else {
                mood.left -= 1;
                mood.says
            }
        };
        if line != b"version\r\n" {
            let _ = tell.send(line);
        }
        if stream.write_all(says.as_bytes()).is_err() {
            return;
        }
    }
}
