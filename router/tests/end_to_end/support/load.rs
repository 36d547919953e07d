//! Load: pipelining clients that write and read at once, and check every reply against the request it must belong to.

use super::{Client, shown};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// What came of a load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) good: u64,
    pub(crate) errors: u64,
    /// Requests without a reply: only an ending connection leaves some.
    pub(crate) unanswered: u64,
}

/// Clients at work in the background.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    good: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Tally>>,
}

/// One request on its way: what a good reply must be.
enum Awaited {
    Set,
    /// A value of this key, asked for at this sequence; an older one or a miss is no error of the router.
    Get {
        key: String,
        newest: u64,
    },
}

/// Requests of one client under way at most.
const DEPTH: usize = 64;

impl Load {
    /// Starts `clients` clients that set keys of their own and get them back, each with up to 64 requests under way.
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let good = Arc::new(AtomicU64::new(0));
        let threads = (0..clients)
            .map(|number| {
                let (stop, answered, good) = (stop.clone(), answered.clone(), good.clone());
                std::thread::spawn(move || work(Client::connect(address), number, &stop, &answered, &good))
            })
            .collect();
        Load { stop, answered, good, threads }
    }

    /// Replies so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until this many more good replies have come.
    pub(crate) fn goes_on(&self, more: u64) {
        let goal = self.good.load(Ordering::Relaxed) + more;
        super::eventually("the load goes on", || (self.good.load(Ordering::Relaxed) >= goal).then_some(()));
    }

    /// No more requests; waits for the replies to those that were sent.
    pub(crate) fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits until the router has ended every connection.
    pub(crate) fn join(self) -> Tally {
        let mut total = Tally::default();
        for thread in self.threads {
            let tally = thread.join().expect("a client of the load panicked");
            total.sent += tally.sent;
            total.good += tally.good;
            total.errors += tally.errors;
            total.unanswered += tally.unanswered;
        }
        total
    }
}

fn work(mut client: Client, number: usize, stop: &Arc<AtomicBool>, answered: &AtomicU64, good: &AtomicU64) -> Tally {
    let (expect, awaited) = sync_channel(DEPTH);
    let writing = {
        let (mut socket, stop) = (client.writer(), stop.clone());
        std::thread::spawn(move || write(&mut socket, number, &stop, &expect))
    };
    let mut tally = Tally::default();
    for request in awaited {
        tally.sent += 1;
        let Ok(reply) = client.try_reply() else {
            tally.unanswered += 1;
            continue;
        };
        answered.fetch_add(1, Ordering::Relaxed);
        if reply.starts_with(b"SERVER_ERROR keyway: ") {
            tally.errors += 1;
        } else {
            check(&request, &reply);
            tally.good += 1;
            good.fetch_add(1, Ordering::Relaxed);
        }
    }
    writing.join().expect("the writing half panicked");
    tally
}

/// Writes requests in small batches until told to stop or the connection breaks.
fn write(socket: &mut impl Write, number: usize, stop: &AtomicBool, expect: &SyncSender<Awaited>) {
    let mut sequence = 0u64;
    let mut batch = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        batch.clear();
        let mut asked = Vec::new();
        for _ in 0..8 {
            sequence += 1;
            let key = format!("load-{number}-{}", sequence / 4 % 16);
            if sequence.is_multiple_of(4) {
                let value = format!("{key}={sequence}.");
                batch.extend_from_slice(format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()).as_bytes());
                asked.push(Awaited::Set);
            } else {
                batch.extend_from_slice(format!("get {key}\r\n").as_bytes());
                asked.push(Awaited::Get { key, newest: sequence });
            }
        }
        if socket.write_all(&batch).is_err() {
            return;
        }
        for request in asked {
            if expect.send(request).is_err() {
                return;
            }
        }
    }
}

fn check(request: &Awaited, reply: &[u8]) {
    let reply = shown(reply);
    match request {
        Awaited::Set => assert_eq!(reply, "STORED\r\n"),
        Awaited::Get { .. } if reply == "END\r\n" => {}
        Awaited::Get { key, newest } => {
            assert!(reply.starts_with(&format!("VALUE {key} ")), "asked for {key}: {reply:?}");
            let (value, _) = reply.split_once('.').expect("a whole value");
            let (_, sequence) = value.split_once('=').expect("a value of the load");
            assert!(value.contains(&format!("\n{key}=")), "a value of another key: {reply:?}");
            let sequence: u64 = sequence.parse().expect("a sequence");
            // A read that failed over may find what was pipelined behind it, but nothing beyond.
            assert!(sequence <= newest + 2 * DEPTH as u64, "a value from the future: {reply:?}");
        }
    }
}
