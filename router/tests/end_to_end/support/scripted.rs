//! A server that says what the test tells it to, byte for byte: for replies a real memcached won't give on demand.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

/// Answers `version` as a healthy server does, and every other request with the next of its words: `reply`, or `None` to
/// close the connection, or an empty reply for silence.
#[derive(Debug)]
pub(crate) struct Scripted {
    address: SocketAddr,
    says: Arc<Mutex<Option<Vec<u8>>>>,
    heard: mpsc::Receiver<Vec<u8>>,
    ending: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Scripted {
    pub(crate) fn start(says: &str) -> Scripted {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let says = Arc::new(Mutex::new(Some(says.as_bytes().to_vec())));
        let (tell, heard) = mpsc::channel();
        let ending = Arc::new(AtomicBool::new(false));
        let accepting = {
            let (says, ending) = (says.clone(), ending.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if ending.load(Ordering::Acquire) {
                        return;
                    }
                    let (says, tell) = (says.clone(), tell.clone());
                    // Ends with its connection, which ends with the router.
                    std::thread::spawn(move || converse(stream, &says, &tell));
                }
            })
        };
        Scripted { address, says, heard, ending, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on this is said to every request; `None` closes the connection instead.
    pub(crate) fn say(&self, words: Option<&str>) {
        *self.says.lock().expect("no thread panicked") = words.map(|words| words.as_bytes().to_vec());
    }

    /// Requests that arrived since the last call, at least until now.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.try_iter().collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Takes requests as the router sends them: a line, and behind a storage command's its data.
fn converse(mut stream: TcpStream, says: &Mutex<Option<Vec<u8>>>, heard: &mpsc::Sender<Vec<u8>>) {
    let mut input = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(length) = whole_request(&input) {
            let request: Vec<u8> = input.drain(..length).collect();
            let answer = match request.as_slice() {
                b"version\r\n" => Some(b"VERSION 1.6.18\r\n".to_vec()),
                _ => {
                    let _ = heard.send(request);
                    says.lock().expect("no thread panicked").clone()
                }
            };
            let Some(answer) = answer else { return };
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
        match stream.read(&mut piece) {
            Ok(count @ 1..) => input.extend_from_slice(&piece[..count]),
            Ok(0) | Err(_) => return,
        }
    }
}

fn whole_request(input: &[u8]) -> Option<usize> {
    let line = input.iter().position(|byte| *byte == b'\n')? + 1;
    let text = String::from_utf8_lossy(&input[..line]);
    let words: Vec<&str> = text.split_whitespace().collect();
    let stores = ["set", "add", "replace", "append", "prepend", "cas"].contains(words.first()?);
    let data = if stores { words.get(4)?.parse::<usize>().ok()? + 2 } else { 0 };
    (input.len() >= line + data).then_some(line + data)
}
