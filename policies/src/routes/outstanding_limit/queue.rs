//! Who has a slot and who waits for one: per lane (a server) clients in turn, and each client's requests in order.
//!
//! Owns the counts of slots and the entries of those that wait. Everything is a chain through two vectors, so that any
//! entry leaves at once from anywhere, and no request allocates once the vectors have grown.
//!
//! Invariants: a lane that has requests waiting has all its slots taken; an entry to which a slot was handed is in no
//! chain, and counts as waiting no more.

use std::collections::HashMap;

/// Nothing, where an index is expected.
const NONE: u32 = u32::MAX;

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) request: u64,
    pub(super) frame: u16,
    pub(super) client: u32,
    pub(super) lane: u32,
    /// A slot was handed to it.
    pub(super) granted: bool,
}

/// What the node remembers.
#[derive(Debug, Default)]
pub struct State {
    lanes: Vec<Lane>,
    /// The requests of each client that wait in one lane, all in that lane's chain.
    lines: Slab<Chain>,
    /// By lane and client.
    line_of: HashMap<(u32, u32), u32>,
    /// Requests that wait, each in its line's chain.
    entries: Slab<Waiting>,
    waiting: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    taken: u32,
    lines: Chain,
}

impl State {
    /// Takes a slot, if one is free.
    pub(super) fn take(&mut self, lane: u32, most: u32) -> bool {
        let at = lane as usize;
        if at >= self.lanes.len() {
            self.lanes.resize(at + 1, Lane::default());
        }
        let free = self.lanes[at].taken < most;
        self.lanes[at].taken += u32::from(free);
        free
    }

    /// Gives a slot back: to the request whose turn it is, or to the lane.
    pub(super) fn release(&mut self, lane: u32) -> Option<Waiting> {
        let line = self.lanes[lane as usize].lines.first;
        if line == NONE {
            self.lanes[lane as usize].taken -= 1;
            return None;
        }
        let entry = self.lines[line].first;
        self.unlink(entry);
        self.entries[entry].granted = true;
        // Its client comes last now, if it has more.
        if self.line_of.get(&(lane, self.entries[entry].client)) == Some(&line) {
            self.lines.remove_from(&mut self.lanes[lane as usize].lines, line);
            self.lines.append_to(&mut self.lanes[lane as usize].lines, line);
        }
        Some(self.entries[entry])
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Queues a request; its entry.
    pub(super) fn push(&mut self, waiting: Waiting) -> u32 {
        let (lane, client) = (waiting.lane, waiting.client);
        let line = match self.line_of.get(&(lane, client)) {
            Some(line) => *line,
            None => {
                let line = self.lines.add(Chain::default());
                self.line_of.insert((lane, client), line);
                self.lines.append_to(&mut self.lanes[lane as usize].lines, line);
                line
            }
        };
        let entry = self.entries.add(waiting);
        self.entries.append_to(&mut self.lines[line], entry);
        self.waiting += 1;
        entry
    }

    /// The lane of an entry to which a slot was handed.
    pub(super) fn granted(&self, entry: u32) -> Option<u32> {
        let waiting = &self.entries[entry];
        waiting.granted.then_some(waiting.lane)
    }

    /// Frees an entry. The slot that was handed to it, if so, is the caller's.
    pub(super) fn remove(&mut self, entry: u32) {
        if !self.entries[entry].granted {
            self.unlink(entry);
        }
        self.entries.free(entry);
    }

    /// Takes an entry out of its line, and the line out of its lane when it was the last.
    fn unlink(&mut self, entry: u32) {
        let Waiting { lane, client, .. } = self.entries[entry];
        let line = self.line_of[&(lane, client)];
        self.entries.remove_from(&mut self.lines[line], entry);
        self.waiting -= 1;
        if self.lines[line].first == NONE {
            self.lines.remove_from(&mut self.lanes[lane as usize].lines, line);
            self.line_of.remove(&(lane, client));
            self.lines.free(line);
        }
    }
}

/// A doubly linked list through a slab.
#[derive(Clone, Copy, Debug)]
struct Chain {
    first: u32,
    last: u32,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { first: NONE, last: NONE }
    }
}

/// Values by index, with links.
#[derive(Debug)]
struct Slab<T> {
    nodes: Vec<Link<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Link<T> {
    value: T,
    before: u32,
    behind: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { nodes: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn add(&mut self, value: T) -> u32 {
        let node = Link { value, before: NONE, behind: NONE };
        match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        }
    }

    fn free(&mut self, at: u32) {
        self.free.push(at);
    }

    fn append_to(&mut self, chain: &mut Chain, at: u32) {
        self.nodes[at as usize].before = chain.last;
        self.nodes[at as usize].behind = NONE;
        match chain.last {
            NONE => chain.first = at,
            last => self.nodes[last as usize].behind = at,
        }
        chain.last = at;
    }

    fn remove_from(&mut self, chain: &mut Chain, at: u32) {
        let Link { before, behind, .. } = self.nodes[at as usize];
        match before {
            NONE => chain.first = behind,
            before => self.nodes[before as usize].behind = behind,
        }
        match behind {
            NONE => chain.last = before,
            behind => self.nodes[behind as usize].before = before,
        }
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.nodes[at as usize].value
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.nodes[at as usize].value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn waiting(request: u64, client: u32, lane: u32) -> Waiting {
        Waiting { request, frame: 0, client, lane, granted: false }
    }

    #[test]
    fn clients_take_turns_and_each_ones_requests_keep_their_order() {
        let mut state = State::default();
        assert!(state.take(0, 1) && !state.take(0, 1));
        for (request, client) in [(1, 7), (2, 7), (3, 7), (4, 8), (5, 9), (6, 8)] {
            state.push(waiting(request, client, 0));
        }
        let order: Vec<u64> = std::iter::from_fn(|| state.release(0)).map(|waiting| waiting.request).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
        assert!(state.take(0, 1), "the slot is back");
    }

    /// Against lists that do the same the slow way.
    #[test]
    fn random_courses_agree_with_plain_lists() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let (mut state, most) = (State::default(), 2);
        let mut taken = [0; 3];
        // Per lane: clients in turn with their requests.
        let mut plain: [VecDeque<(u32, VecDeque<u64>)>; 3] = Default::default();
        let mut entries: Vec<(u32, u64, u32, u32)> = Vec::new();
        for request in 0..50_000 {
            let lane = below(3) as u32;
            let lines = &mut plain[lane as usize];
            match below(3) {
                0 | 1 if taken[lane as usize] < most => {
                    assert!(state.take(lane, most));
                    taken[lane as usize] += 1;
                }
                0 | 1 if below(2) == 0 => {
                    assert!(!state.take(lane, most));
                    let client = below(4) as u32;
                    entries.push((state.push(waiting(request, client, lane)), request, client, lane));
                    match lines.iter_mut().find(|(other, _)| *other == client) {
                        Some((_, line)) => line.push_back(request),
                        None => lines.push_back((client, VecDeque::from([request]))),
                    }
                }
                2 if !entries.is_empty() && below(2) == 0 => {
                    let (entry, request, client, lane) = entries.swap_remove(below(entries.len() as u64) as usize);
                    state.remove(entry);
                    let lines = &mut plain[lane as usize];
                    let line = lines.iter_mut().find(|(other, _)| *other == client).expect("it waits");
                    line.1.retain(|other| *other != request);
                    lines.retain(|(_, line)| !line.is_empty());
                }
                _ if taken[lane as usize] > 0 => {
                    let expected = lines.pop_front().map(|(client, mut line)| {
                        let request = line.pop_front().expect("lines aren't empty");
                        if !line.is_empty() {
                            lines.push_back((client, line));
                        }
                        request
                    });
                    let handed = state.release(lane);
                    assert_eq!(handed.map(|waiting| waiting.request), expected);
                    taken[lane as usize] -= u32::from(expected.is_none());
                    if let Some(at) = entries.iter().position(|(_, request, ..)| Some(*request) == expected) {
                        let (entry, ..) = entries.swap_remove(at);
                        assert_eq!(state.granted(entry), Some(lane));
                        state.remove(entry);
                    }
                }
                _ => {}
            }
            assert_eq!(state.waiting() as usize, entries.len());
        }
    }
}
