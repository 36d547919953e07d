//! A client that asks at random and believes nothing: every reply must be its own, in order, whole and of the right shape,
//! and say what a server that did as asked would say.
//!
//! Each value carries its key and who wrote it when (`[key|client|sequence|padding]`, appended to one another by append),
//! so that a reply that went astray is recognized wherever it turns up. Keys are private to their client, though others
//! may read them: a client that knows what became of all its writes knows what a read must bring.

use crate::server::{BUSY, TOO_LARGE};
use crate::store::{self, Store};
use keyway::metrics::VERSION_LINE;
use keyway_io_engine::Nanos;
use keyway_io_engine::sim::{Peer, PeerEnd, PeerOut, PeerReading, Prng};
use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

/// All values written so far, by whomever: key, client, sequence.
pub(crate) type Written = Rc<RefCell<HashSet<(Vec<u8>, usize, u64)>>>;

/// How much a client may conclude from what it knows of its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Nothing fails: all replies are those of a single server, items of a multi-key get in any order.
    Exact,
    /// As `Exact`, items in the order asked.
    ExactInOrder,
    /// One copy of each key: what is known of a key holds until a write's fate is unknown.
    OneCopy,
    /// Several copies, or servers that shift replies: a read brings something once written to that key, or nothing.
    AnyCopy,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It says quit, and more that nobody is to hear.
    Quit,
    /// It closes its sending side and reads on.
    Finish,
    /// It closes when it has all its answers.
    Close,
    /// It closes in the middle, answers or not.
    Abandon,
    /// It says something that the router closes over.
    Refused,
    /// It speaks HTTP.
    Http,
    /// It has its answers and stays, until the router is tired of it.
    Stay,
}

/// What a client is to do.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) number: usize,
    /// How many clients there are: it reads their keys too.
    pub(crate) clients: usize,
    pub(crate) requests: usize,
    /// Requests it has unanswered at once.
    pub(crate) depth: usize,
    /// Waits for all answers before it asks again, and then asks for no key twice.
    pub(crate) in_batches: bool,
    pub(crate) keys: usize,
    /// Largest value it writes.
    pub(crate) value_bytes: usize,
    /// Largest value the router takes, if that is to be tried.
    pub(crate) value_limit: Option<usize>,
    pub(crate) noreply: bool,
    pub(crate) invalid: bool,
    pub(crate) flush: bool,
    /// Cuts what it sends, with pauses.
    pub(crate) cuts: bool,
    /// Reads this many bytes at a time, with pauses.
    pub(crate) reads: Option<usize>,
    pub(crate) trust: Trust,
    pub(crate) leaving: Leaving,
}

/// What the router says to a client that makes it hold too much, before it closes.
const TOLD_OFF: &[u8] = b"SERVER_ERROR out of memory reading request\r\n";

/// What it says to a client beyond its limit of them.
const TURNED_AWAY: &[u8] = b"ERROR Too many open connections\r\n";

/// What was asked and is not answered.
struct Asked {
    /// Without noreply.
    frame: Vec<u8>,
    wanted: Wanted,
}

enum Wanted {
    /// These bytes.
    Exactly(Vec<u8>),
    /// A server's reply.
    Reply,
    /// A STAT list.
    Stats,
    /// Nothing at all.
    Silence,
}

/// What a line says of a request's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It was not done.
    NotDone,
    /// Nobody knows.
    Unknown,
}

pub(crate) struct McClient {
    orders: Orders,
    written: Written,
    prng: Prng,
    model: Store,
    /// Keys of which the model isn't sure any more.
    doubtful: HashSet<Vec<u8>>,
    sequence: u64,
    left: usize,
    asked: VecDeque<Asked>,
    input: Vec<u8>,
    /// Everything that was to be said has been said.
    said_all: bool,
    closed: bool,
    pub(crate) told_off: bool,
    pub(crate) turned_away: bool,
    pub(crate) replies: usize,
    /// Of them those that were errors.
    pub(crate) errors: usize,
    pub(crate) end: Option<PeerEnd>,
}

impl McClient {
    pub(crate) fn new(orders: Orders, written: Written, prng: Prng) -> McClient {
        McClient {
            left: orders.requests,
            orders,
            written,
            prng,
            model: Store::default(),
            doubtful: HashSet::new(),
            sequence: 0,
            asked: VecDeque::new(),
            input: Vec::new(),
            said_all: false,
            closed: false,
            told_off: false,
            turned_away: false,
            replies: 0,
            errors: 0,
            end: None,
        }
    }

    /// True when every request that deserved an answer got one, and nothing else came.
    pub(crate) fn is_complete(&self) -> bool {
        self.said_all && self.is_answered() && self.input.is_empty()
    }

    /// True when what came ended with a whole reply.
    pub(crate) fn is_at_a_boundary(&self) -> bool {
        self.input.is_empty()
    }

    /// True when it left before it had its answers, as it was told to.
    pub(crate) fn has_abandoned(&self) -> bool {
        self.orders.leaving == Leaving::Abandon && self.closed
    }

    fn is_answered(&self) -> bool {
        self.asked.iter().all(|asked| matches!(asked.wanted, Wanted::Silence))
    }

    fn waiting(&self) -> usize {
        self.asked.iter().filter(|asked| !matches!(asked.wanted, Wanted::Silence)).count()
    }
}

// --- asking

impl McClient {
    fn speak(&mut self, out: &mut PeerOut) {
        let mut bytes = Vec::new();
        let mut in_batch = HashSet::new();
        // Refills at half, so that it speaks in bursts; goes on at once over what brings no reply.
        while self.left > 0 {
            let waiting = self.waiting();
            if waiting > self.orders.depth / 2 || (waiting > 0 && self.orders.in_batches) {
                break;
            }
            for _ in waiting..self.orders.depth.min(waiting + self.left) {
                self.left -= 1;
                self.ask(&mut bytes, &mut in_batch);
            }
        }
        self.send(&bytes, out);
        if self.left == 0 && !self.said_all {
            self.leave(out);
        }
        if self.said_all && !self.closed && self.orders.leaving == Leaving::Close && self.is_answered() {
            self.closed = true;
            out.close();
        }
    }

    fn leave(&mut self, out: &mut PeerOut) {
        self.said_all = true;
        match self.orders.leaving {
            Leaving::Quit => self.send(b"quit\r\nget never\r\nversion\r\n", out),
            Leaving::Finish => out.finish(),
            Leaving::Close | Leaving::Stay => {}
            Leaving::Abandon => {
                self.closed = true;
                if self.prng.below(2) == 0 { out.reset() } else { out.close() }
            }
            Leaving::Refused => {
                self.expect(b"CLIENT_ERROR bad command line format\r\n");
                self.send(b"set k 0 0 -1\r\nget never\r\nversion\r\n", out);
            }
            Leaving::Http => self.send(b"GET / HTTP/1.1\r\nHost: version\r\n\r\nversion\r\n", out),
        }
    }

    fn send(&mut self, bytes: &[u8], out: &mut PeerOut) {
        let mut rest = bytes;
        while self.orders.cuts && !rest.is_empty() && self.prng.below(3) > 0 {
            let (piece, behind) = rest.split_at(self.prng.length(rest.len()));
            let pause = self.prng.below(2_000_000);
            out.send_in(pause, piece);
            rest = behind;
        }
        out.send(rest);
    }

    fn expect(&mut self, reply: &[u8]) {
        self.asked.push_back(Asked { frame: Vec::new(), wanted: Wanted::Exactly(reply.to_vec()) });
    }

    fn ask(&mut self, bytes: &mut Vec<u8>, in_batch: &mut HashSet<Vec<u8>>) {
        match self.prng.below(40) {
            0 => {
                bytes.extend_from_slice(b"version\r\n");
                return self.expect(VERSION_LINE);
            }
            1 if self.orders.invalid => return self.ask_nonsense(bytes),
            2 if self.prng.below(4) == 0 => {
                bytes.extend_from_slice(b"stats\r\n");
                return self.asked.push_back(Asked { frame: Vec::new(), wanted: Wanted::Stats });
            }
            3 if self.prng.below(4) == 0 => {
                bytes.extend_from_slice(b"verbosity 1\r\n");
                return self.expect(b"OK\r\n");
            }
            4 if self.orders.flush => return self.say(bytes, b"flush_all\r\n".to_vec()),
            _ => {}
        }
        let frame = if self.prng.below(2) == 0 { self.read(in_batch) } else { self.write(in_batch) };
        match frame {
            Some(frame) => self.say(bytes, frame),
            None => {
                bytes.extend_from_slice(b"version\r\n");
                self.expect(VERSION_LINE);
            }
        }
    }

    fn say(&mut self, bytes: &mut Vec<u8>, frame: Vec<u8>) {
        let is_quiet = self.orders.noreply && !frame.starts_with(b"g") && self.prng.below(6) == 0;
        let line = store::line_bytes(&frame).expect("frames have lines");
        bytes.extend_from_slice(&frame[..line - 2]);
        if is_quiet {
            bytes.extend_from_slice(b" noreply");
        }
        bytes.extend_from_slice(&frame[line - 2..]);
        self.asked.push_back(Asked { frame, wanted: if is_quiet { Wanted::Silence } else { Wanted::Reply } });
    }

    fn ask_nonsense(&mut self, bytes: &mut Vec<u8>) {
        let long = "k".repeat(251);
        let fixed: [(&str, &[&str]); 8] = [
            ("bogus\r\n", &["ERROR\r\n"]),
            ("get\r\n", &["ERROR\r\n"]),
            ("incr k x\r\n", &["CLIENT_ERROR invalid numeric delta argument\r\n"]),
            ("touch k x\r\n", &["CLIENT_ERROR invalid exptime argument\r\n"]),
            ("shutdown\r\n", &["SERVER_ERROR not supported by keyway\r\n"]),
            // The declared bytes are gone, and what is behind them is a line of its own.
            ("set k 0 0 3\r\nabcde\r\n", &["CLIENT_ERROR bad data chunk\r\n", "ERROR\r\n"]),
            ("set k abc 0 3\r\nget\r\n", &["CLIENT_ERROR bad command line format\r\n"]),
            ("\r\n", &["ERROR\r\n"]),
        ];
        match (self.prng.below(10), self.orders.value_limit) {
            (8, _) => {
                bytes.extend_from_slice(format!("get good {long}\r\n").as_bytes());
                self.expect(b"CLIENT_ERROR bad command line format\r\n");
            }
            (9, Some(limit)) => {
                let data = "x".repeat(limit + 1);
                bytes.extend_from_slice(format!("set k 0 0 {}\r\n{data}\r\n", limit + 1).as_bytes());
                self.expect(TOO_LARGE);
            }
            (at, _) => {
                let (nonsense, replies) = fixed[at as usize % fixed.len()];
                bytes.extend_from_slice(nonsense.as_bytes());
                replies.iter().for_each(|reply| self.expect(reply.as_bytes()));
            }
        }
    }

    fn read(&mut self, in_batch: &mut HashSet<Vec<u8>>) -> Option<Vec<u8>> {
        let count = match self.prng.below(4) {
            0 => self.prng.between(2, 12),
            1 if self.prng.below(8) == 0 => self.prng.between(13, 80),
            _ => 1,
        };
        let mut frame = match self.prng.below(8) {
            0 | 1 => b"gets".to_vec(),
            2 => b"gat 100".to_vec(),
            3 => b"gats 0".to_vec(),
            _ => b"get".to_vec(),
        };
        let mut any = false;
        for _ in 0..count {
            let Some(key) = self.key(in_batch, true) else { continue };
            // What gets says must fit one request line where servers bound it.
            if frame.len() + key.len() > 1900 {
                break;
            }
            any = true;
            frame.push(b' ');
            frame.extend_from_slice(&key);
        }
        frame.extend_from_slice(b"\r\n");
        any.then_some(frame)
    }

    fn write(&mut self, in_batch: &mut HashSet<Vec<u8>>) -> Option<Vec<u8>> {
        let key = self.key(in_batch, false)?;
        let name = String::from_utf8_lossy(&key).into_owned();
        let flags = self.prng.below(1000);
        let drawn = self.prng.below(16);
        let command = match drawn {
            0 => format!("delete {name}\r\n"),
            1 => format!("incr {name} {}\r\n", self.prng.below(100)),
            2 => format!("decr {name} {}\r\n", self.prng.below(100)),
            3 => format!("touch {name} 100\r\n"),
            _ => {
                let data = self.value(&key);
                let length = data.len();
                match drawn {
                    4 | 5 => format!("add {name} {flags} 0 {length}\r\n{data}\r\n"),
                    6 => format!("replace {name} {flags} 0 {length}\r\n{data}\r\n"),
                    7 => format!("append {name} 0 0 {length}\r\n{data}\r\n"),
                    8 => format!("prepend {name} 0 0 {length}\r\n{data}\r\n"),
                    9 => {
                        let unique = self.model.item(&key).map_or(1, |item| item.cas);
                        format!("cas {name} {flags} 0 {length} {unique}\r\n{data}\r\n")
                    }
                    _ => format!("set {name} {flags} 0 {length}\r\n{data}\r\n"),
                }
            }
        };
        Some(command.into_bytes())
    }

    /// A key of its own; to read now and then another's. `None` when the batch has it already.
    fn key(&mut self, in_batch: &mut HashSet<Vec<u8>>, to_read: bool) -> Option<Vec<u8>> {
        let stranger = to_read && self.orders.trust == Trust::AnyCopy && self.prng.below(5) == 0;
        let owner = if stranger { self.prng.below(self.orders.clients as u64) as usize } else { self.orders.number };
        let number = self.prng.below(self.orders.keys as u64);
        let mut key = match number % 3 {
            0 => format!("n{number}:{owner}"),
            _ => format!("k{number}:{owner}"),
        };
        if number % 7 == 6 {
            key.push_str(&"_".repeat(250 - key.len()));
        }
        let key = key.into_bytes();
        (!self.orders.in_batches || in_batch.insert(key.clone())).then_some(key)
    }

    fn value(&mut self, key: &[u8]) -> String {
        if key[0] == b'n' {
            return self.prng.below(1_000_000).to_string();
        }
        self.sequence += 1;
        self.written.borrow_mut().insert((key.to_vec(), self.orders.number, self.sequence));
        let most = if self.prng.below(8) == 0 { self.orders.value_bytes } else { 60 };
        let padding = "~".repeat(self.prng.below(most as u64) as usize);
        let mut value =
            format!("[{}|{}|{}|{padding}]", String::from_utf8_lossy(key), self.orders.number, self.sequence);
        if let Some(limit) = self.orders.value_limit
            && value.len() > limit
        {
            value = value.replace('~', "");
        }
        value
    }
}

// --- hearing

impl McClient {
    fn hear(&mut self) {
        loop {
            while let Some(Asked { wanted: Wanted::Silence, .. }) = self.asked.front() {
                if let Some(asked) = self.asked.pop_front() {
                    self.not_heard_of(&asked.frame);
                }
            }
            let Some(asked) = self.asked.front() else {
                assert!(self.input.is_empty(), "nobody asked for {}", self.input.escape_ascii());
                return;
            };
            if self.input.starts_with(TOLD_OFF) {
                assert_eq!(self.input.len(), TOLD_OFF.len(), "nothing follows that");
                return self.told_off = true;
            }
            if self.replies == 0 && self.input == TURNED_AWAY {
                return self.turned_away = true;
            }
            if TOLD_OFF.starts_with(&self.input) || TURNED_AWAY.starts_with(&self.input) {
                return;
            }
            let whole = match &asked.wanted {
                Wanted::Exactly(reply) => (self.input.len() >= reply.len()).then_some(reply.len()),
                Wanted::Stats => stats_bytes(&self.input),
                Wanted::Reply => reply_bytes(&asked.frame, &self.input),
                Wanted::Silence => unreachable!("taken off above"),
            };
            let Some(whole) = whole else { return };
            let reply: Vec<u8> = self.input.drain(..whole).collect();
            let Some(asked) = self.asked.pop_front() else { return };
            self.replies += 1;
            match asked.wanted {
                Wanted::Exactly(wanted) => {
                    assert_eq!(reply.escape_ascii().to_string(), wanted.escape_ascii().to_string())
                }
                Wanted::Reply => self.judge(&asked.frame, &reply),
                Wanted::Stats | Wanted::Silence => {}
            }
        }
    }

    /// A write without a reply: done for certain only where nothing fails.
    fn not_heard_of(&mut self, frame: &[u8]) {
        match self.orders.trust {
            Trust::Exact | Trust::ExactInOrder => drop(self.model.execute(frame)),
            Trust::OneCopy | Trust::AnyCopy => self.doubt(frame),
        }
    }

    fn doubt(&mut self, frame: &[u8]) {
        if frame.starts_with(b"flush_all") {
            return;
        }
        let key = store::words(&frame[..store::line_bytes(frame).unwrap_or_default()])[1].to_vec();
        self.doubtful.insert(key);
    }

    fn judge(&mut self, frame: &[u8], reply: &[u8]) {
        let what = || format!("\"{}\" answers \"{}\"", reply.escape_ascii(), frame.escape_ascii());
        let refusal = refusal_at_end(reply);
        let is_exact = matches!(self.orders.trust, Trust::Exact | Trust::ExactInOrder);
        assert!(refusal.is_none() || !is_exact, "{}", what());
        self.errors += usize::from(refusal.is_some());
        if frame.starts_with(b"g") {
            return self.judge_items(frame, reply, refusal.is_none());
        }
        match refusal {
            Some(Refusal::NotDone) => {}
            Some(Refusal::Unknown) => self.doubt(frame),
            None => {
                let words = store::words(frame);
                let is_known = words.get(1).is_some_and(|key| !self.doubtful.contains(*key));
                if self.orders.trust != Trust::AnyCopy && is_known {
                    let wanted = self.model.execute(frame);
                    assert_eq!(reply.escape_ascii().to_string(), wanted.escape_ascii().to_string(), "{}", what());
                }
            }
        }
    }

    fn judge_items(&mut self, frame: &[u8], reply: &[u8], is_whole: bool) {
        let what = || format!("\"{}\" answers \"{}\"", reply.escape_ascii(), frame.escape_ascii());
        let words = store::words(frame);
        let with_cas = words[0].ends_with(b"s");
        let mut keys: Vec<&[u8]> = words[if words[0].starts_with(b"gat") { 2 } else { 1 }..].to_vec();
        if self.orders.trust == Trust::ExactInOrder {
            let wanted = self.model.execute(frame);
            assert_eq!(reply.escape_ascii().to_string(), wanted.escape_ascii().to_string(), "{}", what());
        }
        for item in items(reply) {
            let key = store::words(&item[..store::line_bytes(item).unwrap_or_default()])[1];
            let place = keys.iter().position(|asked| *asked == key);
            let place = place.unwrap_or_else(|| panic!("not asked for, or once too often: {}", what()));
            keys.swap_remove(place);
            self.check_data(key, item);
            if self.knows(key) {
                let mut wanted = Vec::new();
                let stored = self.model.item(key).unwrap_or_else(|| panic!("nothing is stored: {}", what()));
                store::write_item(&mut wanted, key, stored, with_cas);
                assert_eq!(item.escape_ascii().to_string(), wanted.escape_ascii().to_string(), "{}", what());
            }
        }
        for missed in keys {
            let is_lost = is_whole && self.knows(missed) && self.model.item(missed).is_some();
            assert!(!is_lost, "a lost item: {}", what());
        }
    }

    fn knows(&self, key: &[u8]) -> bool {
        self.orders.trust != Trust::AnyCopy && !self.doubtful.contains(key)
    }

    /// Data must be what was once written to that very key.
    fn check_data(&self, key: &[u8], item: &[u8]) {
        let line = store::line_bytes(item).unwrap_or_default();
        let data = std::str::from_utf8(&item[line..item.len() - 2]).expect("values are text");
        let name = std::str::from_utf8(key).expect("keys are text");
        if name.starts_with('n') {
            // Digits, more of them where something was appended.
            return assert!(data.bytes().all(|byte| byte.is_ascii_digit()), "{name} has {data}");
        }
        let mut rest = data;
        while !rest.is_empty() {
            let end = rest.find(']').unwrap_or_else(|| panic!("{name} has {data}"));
            let parts: Vec<&str> = rest[..end].trim_start_matches('[').split('|').collect();
            let [owner, client, sequence, _] = parts[..] else { panic!("{name} has {data}") };
            let written = (key.to_vec(), client.parse().expect("a number"), sequence.parse().expect("a number"));
            assert!(owner == name && self.written.borrow().contains(&written), "{name} has {data}");
            rest = &rest[end + 1..];
        }
    }
}

/// The length of the whole reply to a server's request at the start of `bytes`. Panics when it isn't one.
fn reply_bytes(frame: &[u8], bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = at + store::line_bytes(&bytes[at..])?;
        let words = store::words(&bytes[at..line]);
        let text = bytes[at..line].escape_ascii();
        let is_read = frame.starts_with(b"g");
        if is_read && words[0] == b"VALUE" {
            let with_cas = store::words(frame)[0].ends_with(b"s");
            assert_eq!(words.len(), if with_cas { 5 } else { 4 }, "{text}");
            let length: usize = String::from_utf8_lossy(words[3]).parse().expect("a length");
            at = line + length + 2;
            if bytes.len() < at {
                return None;
            }
            assert_eq!(&bytes[at - 2..at], b"\r\n", "behind the data of {text}");
            continue;
        }
        let is_number = !words[0].is_empty() && words[0].iter().all(u8::is_ascii_digit);
        let fits = match (store::words(frame)[0], &bytes[at..line]) {
            (_, line) if line.starts_with(b"SERVER_ERROR ") => true,
            (b"get" | b"gets" | b"gat" | b"gats", line) => line == b"END\r\n",
            (b"set" | b"add" | b"replace" | b"append" | b"prepend", b"STORED\r\n" | b"NOT_STORED\r\n") => true,
            (b"cas", b"STORED\r\n" | b"EXISTS\r\n" | b"NOT_FOUND\r\n" | b"NOT_STORED\r\n") => true,
            (b"delete", b"DELETED\r\n" | b"NOT_FOUND\r\n") => true,
            (b"touch", b"TOUCHED\r\n" | b"NOT_FOUND\r\n") => true,
            (b"incr" | b"decr", b"NOT_FOUND\r\n") => true,
            (b"incr" | b"decr", line) => is_number || line.starts_with(b"CLIENT_ERROR cannot increment"),
            (b"flush_all", b"OK\r\n") => true,
            _ => false,
        };
        assert!(fits, "\"{text}\" answers \"{}\"", frame.escape_ascii());
        return Some(line);
    }
}

fn stats_bytes(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = at + store::line_bytes(&bytes[at..])?;
        match &bytes[at..line] {
            b"END\r\n" => return Some(line),
            stat => assert!(stat.starts_with(b"STAT "), "{}", stat.escape_ascii()),
        }
        at = line;
    }
}

/// What the error at the end of a whole reply means; `None` when there is no error.
fn refusal_at_end(reply: &[u8]) -> Option<Refusal> {
    let start = reply[..reply.len() - 2].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = &reply[start..];
    if !line.starts_with(b"SERVER_ERROR") {
        return None;
    }
    Some(match line {
        b"SERVER_ERROR keyway: unavailable\r\n"
        | b"SERVER_ERROR keyway: queue_full\r\n"
        | b"SERVER_ERROR keyway: no healthy server\r\n" => Refusal::NotDone,
        b"SERVER_ERROR keyway: timeout\r\n"
        | b"SERVER_ERROR keyway: deadline_exceeded\r\n"
        | b"SERVER_ERROR keyway: connection_lost\r\n"
        | b"SERVER_ERROR keyway: misaligned\r\n"
        | b"SERVER_ERROR keyway: not_replayable\r\n" => Refusal::Unknown,
        line if line == BUSY || line == TOO_LARGE => Refusal::NotDone,
        line if line.starts_with(b"SERVER_ERROR keyway: LocalRoute cannot answer ") => Refusal::Unknown,
        other => panic!("nobody says {}", other.escape_ascii()),
    })
}

/// The items of a whole reply.
fn items(reply: &[u8]) -> Vec<&[u8]> {
    let mut items = Vec::new();
    let mut rest = reply;
    while rest.starts_with(b"VALUE ") {
        let line = store::line_bytes(rest).expect("a whole reply");
        let length: usize = String::from_utf8_lossy(store::words(&rest[..line])[3]).parse().expect("a length");
        let (item, behind) = rest.split_at(line + length + 2);
        items.push(item);
        rest = behind;
    }
    items
}

impl Peer for McClient {
    fn on_connect(&mut self, out: &mut PeerOut) {
        if let Some(bytes) = self.orders.reads {
            out.read(PeerReading::UpTo(bytes));
            out.tick_in(READ_PAUSE);
        }
        self.speak(out);
    }

    fn on_bytes(&mut self, bytes: &[u8], out: &mut PeerOut) {
        self.input.extend_from_slice(bytes);
        self.hear();
        if !self.closed {
            self.speak(out);
        }
    }

    fn on_close(&mut self, end: PeerEnd, out: &mut PeerOut) {
        let _ = out;
        self.hear();
        self.end = Some(end);
    }

    fn on_tick(&mut self, out: &mut PeerOut) {
        if self.end.is_none()
            && !self.closed
            && let Some(bytes) = self.orders.reads
        {
            out.read(PeerReading::UpTo(bytes));
            out.tick_in(READ_PAUSE);
        }
    }
}

/// A slow reader's pause between two reads.
const READ_PAUSE: Nanos = 5_000_000;
