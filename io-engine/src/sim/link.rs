//! One stream between two sides. Side 0 connected, side 1 accepted; `pipes[side]` carries what that side sends.

use super::faults::Faults;
use crate::{Conn, Nanos};
use std::collections::VecDeque;

pub(super) struct Link {
    pub(super) owners: [Owner; 2],
    pub(super) pipes: [Pipe; 2],
    /// Nobody reads on that side any more: what arrives there is answered with a reset.
    pub(super) closed: [bool; 2],
    pub(super) faults: Faults,
}

/// Who is at one side of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Node {
        node: usize,
        conn: Conn,
    },
    Peer(usize),
    /// Connected, not accepted yet.
    Backlog,
    /// Nobody sends from here any more.
    Gone,
}

/// One direction: under way in order, then arrived and unread.
#[derive(Default)]
pub(super) struct Pipe {
    pub(super) transit: VecDeque<(Nanos, Item)>,
    pub(super) transit_bytes: usize,
    /// Nothing arrives before what was sent earlier.
    pub(super) last_at: Nanos,
    pub(super) unread: VecDeque<u8>,
    pub(super) fin_sent: bool,
    pub(super) reset_sent: bool,
    pub(super) fin_arrived: bool,
    pub(super) fin_told: bool,
    pub(super) reset_arrived: bool,
    /// Bytes were lost to a reset that has arrived or will: no more may come, there would be a gap.
    pub(super) broken: bool,
    /// The sender goes on at this time (a send in pieces).
    pub(super) pump_at: Nanos,
    /// The reader goes on at this time (a cut, no buffer).
    pub(super) hand_over_at: Nanos,
}

pub(super) enum Item {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

impl Link {
    pub(super) fn new(owners: [Owner; 2], faults: Faults) -> Self {
        Self { owners, pipes: [Pipe::default(), Pipe::default()], closed: [false; 2], faults }
    }

    /// Bytes that side `from` may send now.
    pub(super) fn room(&self, from: usize) -> usize {
        let pipe = &self.pipes[from];
        self.faults.window_bytes.saturating_sub(pipe.transit_bytes + pipe.unread.len())
    }

    /// Nothing can happen here any more.
    pub(super) fn is_over(&self) -> bool {
        self.owners == [Owner::Gone; 2] && self.pipes.iter().all(|pipe| pipe.transit.is_empty())
    }
}
