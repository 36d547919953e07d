//! A fake memcached: a real small store behind manners as bad as the seed says.

use crate::store::{self, Store};
use keyway_io_engine::Nanos;
use keyway_io_engine::sim::{Peer, PeerEnd, PeerOut, Prng};
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

/// What it says instead of doing as asked. Clients know by it that nothing was done.
pub(crate) const BUSY: &[u8] = b"SERVER_ERROR fake is busy\r\n";
/// What it says to a value over its limit, before the value has come.
pub(crate) const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";

/// How a server misbehaves, each in parts per million of requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// Answers late by up to `slow_nanos`.
    pub(crate) slow_ppm: u32,
    pub(crate) slow_nanos: Nanos,
    /// Says one line more than it was asked for.
    pub(crate) stray_ppm: u32,
    /// Answers something that is no answer to this request.
    pub(crate) wrong_ppm: u32,
    /// Breaks off in the middle of an answer and closes.
    pub(crate) truncate_ppm: u32,
    /// Answers in tiny pieces.
    pub(crate) pieces_ppm: u32,
    /// Refuses with `BUSY`.
    pub(crate) busy_ppm: u32,
    /// Largest value it takes; larger ones are refused before they have come, and swallowed.
    pub(crate) value_bytes: usize,
}

impl Manners {
    /// A good server.
    pub(crate) fn good() -> Manners {
        Manners { value_bytes: usize::MAX, ..Manners::default() }
    }

    /// What the seed says. Stray lines only where clients are told not to wonder about wrong misses (`strays`).
    pub(crate) fn drawn(prng: &mut Prng, timeout: Nanos, strays: bool) -> Manners {
        let mut rare = |ppm: u32| if prng.below(3) == 0 { ppm } else { 0 };
        let mut manners = Manners {
            slow_ppm: rare(20_000),
            slow_nanos: timeout * 2,
            stray_ppm: rare(8_000),
            wrong_ppm: rare(8_000),
            truncate_ppm: rare(6_000),
            pieces_ppm: rare(200_000),
            busy_ppm: rare(30_000),
            value_bytes: usize::MAX,
        };
        if !strays {
            manners.stray_ppm = 0;
        }
        if prng.below(4) == 0 {
            manners.value_bytes = 1500;
        }
        manners
    }
}

/// What the connections of one server share.
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) manners: Manners,
    /// The writes it was sent, each of them unlike any other; kept where none may come twice.
    writes: Option<HashSet<Vec<u8>>>,
}

impl Server {
    /// With `once`, one that panics over a write that it is sent twice.
    pub(crate) fn new(manners: Manners, once: bool) -> Rc<RefCell<Server>> {
        let writes = once.then(HashSet::new);
        Rc::new(RefCell::new(Server { store: Store::default(), manners, writes }))
    }

    fn note_write(&mut self, frame: &[u8]) {
        if let Some(writes) = &mut self.writes
            && frame.ends_with(b"]\r\n")
        {
            assert!(writes.insert(frame.to_vec()), "sent twice: {}", frame.escape_ascii());
        }
    }
}

/// One connection to a fake server.
pub(crate) struct FakeMc {
    server: Rc<RefCell<Server>>,
    input: Vec<u8>,
    swallowing: usize,
    over: bool,
}

impl FakeMc {
    pub(crate) fn new(server: Rc<RefCell<Server>>) -> FakeMc {
        FakeMc { server, input: Vec::new(), swallowing: 0, over: false }
    }

    fn proceed(&mut self, out: &mut PeerOut) {
        let shared = self.server.clone();
        let mut server = shared.borrow_mut();
        while !self.over {
            let swallowed = self.swallowing.min(self.input.len());
            self.input.drain(..swallowed);
            self.swallowing -= swallowed;
            let too_large = store::announced_bytes(&self.input).filter(|bytes| *bytes > server.manners.value_bytes);
            if let Some(bytes) = too_large {
                let line = store::line_bytes(&self.input).unwrap_or_default();
                self.input.drain(..line);
                self.swallowing = bytes + 2;
                out.send(TOO_LARGE);
                continue;
            }
            let Some(bytes) = store::frame_bytes(&self.input) else { return };
            let frame: Vec<u8> = self.input.drain(..bytes).collect();
            self.answer(&mut server, &frame, out);
        }
    }

    fn answer(&mut self, server: &mut Server, frame: &[u8], out: &mut PeerOut) {
        let manners = server.manners;
        server.note_write(frame);
        if out.prng().chance(manners.busy_ppm) {
            return out.send(BUSY);
        }
        let mut reply = server.store.execute(frame);
        if out.prng().chance(manners.wrong_ppm) {
            reply = wrong_answer(frame, out.prng());
        }
        if out.prng().chance(manners.slow_ppm) {
            let late = out.prng().below(manners.slow_nanos);
            out.send_in(late, &reply);
        } else if out.prng().chance(manners.truncate_ppm) {
            let kept = out.prng().below(reply.len() as u64) as usize;
            out.send(&reply[..kept]);
            out.close();
            self.over = true;
        } else if out.prng().chance(manners.pieces_ppm) {
            send_in_pieces(&reply, out);
        } else {
            out.send(&reply);
        }
        if out.prng().chance(manners.stray_ppm) {
            const STRAYS: [&[u8]; 4] = [b"END\r\n", b"STORED\r\n", b"VALUE stray 0 1\r\nx\r\nEND\r\n", b"what?\r\n"];
            let stray = STRAYS[out.prng().below(4) as usize];
            out.send(stray);
        }
    }
}

fn wrong_answer(frame: &[u8], prng: &mut Prng) -> Vec<u8> {
    let is_read = frame.starts_with(b"g");
    let wrong: [&[u8]; 4] = match is_read {
        true => [b"STORED\r\n", b"VALUE stray 0 1\r\nx\r\nEND\r\n", b"VALUE stray 0 1\r\nxEND\r\n", b"\r\n"],
        false => [b"END\r\n", b"VALUE stray 0 1\r\nx\r\nEND\r\n", b"SERVER_ERRORS\r\n", b"stored\r\n"],
    };
    wrong[prng.below(4) as usize].to_vec()
}

fn send_in_pieces(reply: &[u8], out: &mut PeerOut) {
    let mut rest = &reply[..reply.len().min(200)];
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(out.prng().length(rest.len().min(7)));
        let pause = out.prng().below(30_000);
        out.send_in(pause, piece);
        rest = behind;
    }
    out.send(&reply[reply.len().min(200)..]);
}

impl Peer for FakeMc {
    fn on_bytes(&mut self, bytes: &[u8], out: &mut PeerOut) {
        self.input.extend_from_slice(bytes);
        self.proceed(out);
    }

    fn on_close(&mut self, end: PeerEnd, out: &mut PeerOut) {
        let _ = (end, out);
        self.over = true;
    }
}
