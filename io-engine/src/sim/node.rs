//! The engine of one node as its core sees it: `SimIo`, the table of connections, what is asked and not yet done.
//!
//! Owns every vector between `Io::send` and `Handler::sent`. Never touches the network: what the core asks is checked
//! here, noted as an `Op`, and done by the net when the handler's method has returned.
//!
//! Invariants: a slot is used again only when its send was given back and its close has completed (`release`), and then
//! first of all free ones, under the next generation: stale names are met as early as can be.

use super::prng::Prng;
use crate::io::EngineCounters;
use crate::{Address, Closing, Conn, ConnectError, Ended, Io, ListenerId, Nanos, Reading};
use std::collections::VecDeque;

/// Connections a node has at most, unless told otherwise.
const CONNECTIONS_MAX: usize = 4096;

/// A node's engine, in the hands of its core.
pub struct SimIo {
    pub(super) now: Nanos,
    pub(super) slots: Vec<Slot>,
    free: Vec<u32>,
    pub(super) ops: Vec<Op>,
    pub(super) ready: VecDeque<Ready>,
    pub(super) prng: Prng,
    pub(super) connections_max: usize,
    pub(super) no_descriptors_ppm: u32,
    /// Connects that failed for want of a descriptor.
    pub(super) no_descriptors: u64,
    pub(super) accepting: bool,
    /// Bytes handed over and not yet told to the core: clients', upstreams'.
    pub(super) held_bytes: [usize; 2],
    pub(super) counters: EngineCounters,
    pub(super) sends_ended: u64,
}

pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) state: State,
    /// The stream and our side of it.
    pub(super) link: Option<(usize, usize)>,
    pub(super) reading: Reading,
    /// After `Off`, until when the cancel may still be on its way.
    pub(super) late_until: Nanos,
    pub(super) sending: Option<Sending>,
    pub(super) waited_for_room: bool,
    /// The end of reading is in the queue or told.
    pub(super) ended: bool,
    /// The core was told that it is there.
    pub(super) announced: bool,
    /// All cancelled by the close has come back.
    pub(super) released: bool,
    /// Until when a lingering close may last.
    pub(super) linger_until: Nanos,
    /// Bytes dropped by a lingering close.
    pub(super) lingered: usize,
    /// 0 for accepted ones, 1 for those we made.
    pub(super) group: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Connecting,
    Open,
    /// Closed by the core, being drained.
    Lingering,
    /// Closed by the core, in flight things coming back.
    Closing,
}

pub(super) struct Sending {
    pub(super) bytes: Vec<u8>,
    pub(super) offset: usize,
    /// How it went; set once.
    pub(super) result: Option<Result<(), i32>>,
}

/// What a core asked for.
#[derive(Debug)]
pub(super) enum Op {
    Connect { conn: Conn, address: Address },
    Send { conn: Conn },
    SetReading { conn: Conn, reading: Reading },
    Close { conn: Conn, closing: Closing, was: State },
    StopAccepting,
}

/// What a core is to be told, in this order.
pub(super) enum Ready {
    Accepted {
        listener: ListenerId,
        conn: Conn,
    },
    Connected {
        conn: Conn,
        result: Result<(), ConnectError>,
    },
    Received {
        conn: Conn,
        bytes: Vec<u8>,
        group: usize,
    },
    Ended {
        conn: Conn,
        ended: Ended,
    },
    Sent {
        conn: Conn,
    },
    /// A send on a connection that was gone, or not there yet.
    Returned {
        conn: Conn,
        bytes: Vec<u8>,
    },
    Doorbell,
}

impl SimIo {
    pub(super) fn new(prng: Prng, no_descriptors_ppm: u32) -> Self {
        Self {
            now: 0,
            slots: Vec::new(),
            free: Vec::new(),
            ops: Vec::new(),
            ready: VecDeque::new(),
            prng,
            connections_max: CONNECTIONS_MAX,
            no_descriptors_ppm,
            no_descriptors: 0,
            accepting: true,
            held_bytes: [0; 2],
            counters: EngineCounters::default(),
            sends_ended: 0,
        }
    }

    /// This node's own chance, for a core that needs some and is to stay deterministic.
    pub fn prng(&mut self) -> &mut Prng {
        &mut self.prng
    }

    /// Connections in use, closing ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The slot `conn` names, unless it was used again or is free.
    pub(super) fn slot(&mut self, conn: Conn) -> Option<&mut Slot> {
        self.slots
            .get_mut(conn.index as usize)
            .filter(|slot| slot.generation == conn.generation && slot.state != State::Free)
    }

    /// The same for one that is open to the core.
    pub(super) fn open(&mut self, conn: Conn) -> Option<&mut Slot> {
        self.slot(conn).filter(|slot| matches!(slot.state, State::Open | State::Connecting))
    }

    pub(super) fn allocate(&mut self, state: State, group: usize) -> Option<Conn> {
        let fresh = |generation| Slot {
            generation,
            state,
            link: None,
            reading: Reading::On,
            late_until: 0,
            sending: None,
            waited_for_room: false,
            ended: false,
            announced: false,
            released: false,
            linger_until: 0,
            lingered: 0,
            group,
        };
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            let generation = slot.generation.wrapping_add(1);
            *slot = fresh(generation);
            return Some(Conn { index, generation });
        }
        if self.slots.len() >= self.connections_max {
            return None;
        }
        let index = self.slots.len() as u32;
        self.slots.push(fresh(0));
        Some(Conn { index, generation: 0 })
    }

    /// Frees the slot if everything of it has come back.
    pub(super) fn release(&mut self, conn: Conn) {
        if let Some(slot) = self.slot(conn)
            && slot.state == State::Closing
            && slot.released
            && slot.sending.is_none()
        {
            slot.state = State::Free;
            slot.link = None;
            self.free.push(conn.index);
        }
    }
}

impl Io for SimIo {
    fn now(&self) -> Nanos {
        self.now
    }

    fn connect(&mut self, address: &Address) -> Result<Conn, ConnectError> {
        let unlucky = self.prng.chance(self.no_descriptors_ppm);
        let conn = if unlucky { None } else { self.allocate(State::Connecting, 1) };
        let Some(conn) = conn else {
            self.no_descriptors += 1;
            return Err(ConnectError::OutOfDescriptors);
        };
        self.counters.connects += 1;
        self.ops.push(Op::Connect { conn, address: address.clone() });
        Ok(conn)
    }

    fn send(&mut self, conn: Conn, bytes: Vec<u8>) {
        assert!(!bytes.is_empty(), "the core sends nothing on {conn:?}");
        self.counters.sends += 1;
        let Some(slot) = self.open(conn).filter(|slot| slot.announced) else {
            self.ready.push_back(Ready::Returned { conn, bytes });
            return;
        };
        assert!(slot.sending.is_none(), "the core sends on {conn:?} while a send is in flight there");
        slot.sending = Some(Sending { bytes, offset: 0, result: None });
        slot.waited_for_room = false;
        self.ops.push(Op::Send { conn });
    }

    fn set_reading(&mut self, conn: Conn, reading: Reading) {
        let Some(slot) = self.open(conn) else { return };
        slot.reading = reading;
        // A cancel still on its way is overtaken by the new order.
        slot.late_until = 0;
        self.ops.push(Op::SetReading { conn, reading });
    }

    fn close(&mut self, conn: Conn, closing: Closing) {
        let Some(slot) = self.open(conn) else { return };
        let was = slot.state;
        slot.state = match (was, closing) {
            (State::Open, Closing::Linger) => State::Lingering,
            _ => State::Closing,
        };
        self.ops.push(Op::Close { conn, closing, was });
    }

    fn stop_accepting(&mut self) {
        self.ops.push(Op::StopAccepting);
    }

    fn counters(&self) -> EngineCounters {
        self.counters
    }
}
