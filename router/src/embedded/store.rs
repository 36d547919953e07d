//! The embedded server's store: items under keys, with memcached's semantics and a bound on memory.
//!
//! Owns: the items, their order of use, expiry, cas uniques. Never does I/O and reads no clock: every call takes `now`,
//! in Unix seconds, as memcached's own clock ticks.
//!
//! The memory bound: `buckets + slots.len() * SLOT_BYTES + the sum of charge(item) <= memory_bytes`, always. A slot is an
//! item's entry in the table; slots are never given back, so at most a quarter of the memory may become slots. `charge` is
//! an item's key and value in one allocation, rounded as the allocator rounds. What was used least recently makes room.
//!
//! Invariants: an item is in exactly one bucket's chain and in the list of use; a free slot is in neither.

use std::hash::{BuildHasher, RandomState};

/// Longest relative exptime; what is larger is a Unix time. memcached's 30 days.
const RELATIVE_EXPTIME_MAX_S: i64 = 60 * 60 * 24 * 30;
/// memcached's limit on an item with its header, key and value (`-I 1m`).
const ITEM_BYTES_MAX: usize = 1 << 20;
/// What memcached adds to key and value in that sum: header, cas unique, the key's NUL and the value's line end.
const ITEM_HEADER_BYTES: usize = 48 + 8 + 1 + 2;
/// And for flags other than 0.
const ITEM_FLAGS_BYTES: usize = 4;
/// Smallest memory a store can be made with. An item may take half of it, whatever memcached's limit.
pub(super) const MEMORY_BYTES_MIN: usize = 1 << 20;

const NONE: u32 = u32::MAX;
const NEVER: u64 = 0;
const LONG_AGO: u64 = 1;

const SLOT_BYTES: usize = size_of::<Slot>();

/// What an item's bytes cost in the allocator: 8 bytes of header, rounded up to 16, 32 at least.
fn charge(data_bytes: usize) -> usize {
    (data_bytes + 8).next_multiple_of(16).max(32)
}

/// How a value is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    /// Only if the item's unique is still this.
    Cas(u64),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "they are the names of the replies")]
pub(super) enum Stored {
    Stored,
    NotStored,
    Exists,
    NotFound,
    /// Over memcached's item size. A `set` deletes what was there, so that nobody reads what the writer meant to replace.
    TooLarge,
}

/// Which way an incr or decr goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Wraps at 2^64.
    Incr,
    /// Stops at 0.
    Decr,
}

/// What came of an incr or decr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Now(u64),
    NotFound,
    NotANumber,
}

/// An item that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    pub(super) flags: u32,
    pub(super) cas: u64,
    pub(super) value: &'a [u8],
}

/// Counts for `stats`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StoreCounts {
    pub(super) items: u64,
    pub(super) total_items: u64,
    pub(super) evictions: u64,
}

#[derive(Debug)]
struct Slot {
    /// Key, then value. Empty when the slot is free.
    data: Box<[u8]>,
    cas: u64,
    /// Unix seconds; `NEVER`.
    expires_at: u64,
    flags: u32,
    /// The bucket's chain; of a free slot, the list of free ones.
    next: u32,
    newer: u32,
    older: u32,
    key_bytes: u8,
}

impl Slot {
    fn key(&self) -> &[u8] {
        &self.data[..usize::from(self.key_bytes)]
    }

    fn value(&self) -> &[u8] {
        &self.data[usize::from(self.key_bytes)..]
    }
}

/// The items of one embedded server.
#[derive(Debug)]
pub(super) struct Store {
    memory_bytes: usize,
    item_bytes_max: usize,
    data_bytes: usize,
    slots: Vec<Slot>,
    slots_max: usize,
    buckets: Vec<u32>,
    free: u32,
    newest: u32,
    oldest: u32,
    cas: u64,
    /// Items with a unique up to this were flushed.
    flushed_cas: u64,
    /// A `flush_all` with a delay: everything stored before this time goes then.
    flush_at: Option<u64>,
    counts: StoreCounts,
    hasher: RandomState,
}

impl Store {
    /// An empty store. Memory under `MEMORY_BYTES_MIN` is raised to it.
    pub(super) fn new(memory_bytes: usize) -> Store {
        let memory_bytes = memory_bytes.max(MEMORY_BYTES_MIN);
        let slots_max = (memory_bytes / 4 / SLOT_BYTES).min(NONE as usize - 1);
        // The largest power of two not above: at most one bucket to a slot.
        let buckets = 1 << slots_max.ilog2();
        Store {
            memory_bytes: memory_bytes - buckets * size_of::<u32>(),
            item_bytes_max: ITEM_BYTES_MAX.min(memory_bytes / 2),
            data_bytes: 0,
            // Reserved, not touched: no copy on growth, so the bound holds then too.
            slots: Vec::with_capacity(slots_max),
            slots_max,
            buckets: vec![NONE; buckets],
            free: NONE,
            newest: NONE,
            oldest: NONE,
            cas: 0,
            flushed_cas: 0,
            flush_at: None,
            counts: StoreCounts::default(),
            hasher: RandomState::new(),
        }
    }

    /// The bound on slots and items: what the store was made with, less the buckets.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// What of it is in use.
    pub(super) fn used_bytes(&self) -> usize {
        self.slots.len() * SLOT_BYTES + self.data_bytes
    }

    pub(super) fn counts(&self) -> StoreCounts {
        self.counts
    }

    /// The item under `key`, which counts as a use of it.
    pub(super) fn fetch(&mut self, key: &[u8], now: u64) -> Option<Item<'_>> {
        let slot = self.find(key, now)?;
        self.use_now(slot);
        let slot = &self.slots[slot as usize];
        Some(Item { flags: slot.flags, cas: slot.cas, value: slot.value() })
    }

    /// Stores `value` under `key` as `mode` says.
    pub(super) fn store(&mut self, mode: Mode, key: &[u8], flags: u32, exptime: i64, value: &[u8], now: u64) -> Stored {
        let found = self.find(key, now);
        if item_bytes(key, flags, value.len()) > self.item_bytes_max {
            if let (Mode::Set, Some(slot)) = (mode, found) {
                self.remove(slot);
            }
            return Stored::TooLarge;
        }
        match (mode, found) {
            (Mode::Add, Some(slot)) => {
                self.use_now(slot);
                Stored::NotStored
            }
            (Mode::Replace | Mode::Append | Mode::Prepend, None) => Stored::NotStored,
            (Mode::Cas(_), None) => Stored::NotFound,
            (Mode::Cas(unique), Some(slot)) if self.slots[slot as usize].cas != unique => {
                self.use_now(slot);
                Stored::Exists
            }
            (Mode::Append | Mode::Prepend, Some(slot)) => self.join(mode, slot, key, value),
            (Mode::Set | Mode::Add | Mode::Replace | Mode::Cas(_), found) => {
                let expires_at = expires_at(exptime, now);
                self.put(found, key, flags, expires_at, &[value]);
                Stored::Stored
            }
        }
    }

    /// Removes `key`; true when it was there.
    pub(super) fn delete(&mut self, key: &[u8], now: u64) -> bool {
        match self.find(key, now) {
            Some(slot) => {
                self.remove(slot);
                true
            }
            None => false,
        }
    }

    /// Changes the number under `key`. A shorter number is padded with spaces, as memcached does it.
    pub(super) fn count(&mut self, key: &[u8], direction: Direction, delta: u64, now: u64) -> Counted {
        let Some(at) = self.find(key, now) else { return Counted::NotFound };
        let slot = &self.slots[at as usize];
        let Some(number) = parse_number(slot.value()) else { return Counted::NotANumber };
        let number = match direction {
            Direction::Incr => number.wrapping_add(delta),
            Direction::Decr => number.saturating_sub(delta),
        };
        let digits = number.to_string();
        let digits = digits.as_bytes();
        if digits.len() > slot.value().len() {
            let (flags, expires_at) = (slot.flags, slot.expires_at);
            self.put(Some(at), key, flags, expires_at, &[digits]);
            return Counted::Now(number);
        }
        self.cas += 1;
        let slot = &mut self.slots[at as usize];
        let value = &mut slot.data[usize::from(slot.key_bytes)..];
        value[..digits.len()].copy_from_slice(digits);
        value[digits.len()..].fill(b' ');
        slot.cas = self.cas;
        self.use_now(at);
        Counted::Now(number)
    }

    /// Gives `key` a new exptime; true when it was there.
    pub(super) fn touch(&mut self, key: &[u8], exptime: i64, now: u64) -> bool {
        match self.find(key, now) {
            Some(slot) => {
                self.slots[slot as usize].expires_at = expires_at(exptime, now);
                self.use_now(slot);
                true
            }
            None => false,
        }
    }

    /// As `fetch`, and gives the item a new exptime. What expires by that is still answered.
    pub(super) fn fetch_and_touch(&mut self, key: &[u8], exptime: i64, now: u64) -> Option<Item<'_>> {
        let slot = self.find(key, now)?;
        self.use_now(slot);
        let slot = &mut self.slots[slot as usize];
        slot.expires_at = expires_at(exptime, now);
        Some(Item { flags: slot.flags, cas: slot.cas, value: slot.value() })
    }

    /// Drops everything stored before now, or before the time that `exptime` names.
    pub(super) fn flush_all(&mut self, exptime: i64, now: u64) {
        if exptime > 0 {
            self.flush_at = Some(expires_at(exptime, now));
            return;
        }
        self.flush_at = None;
        // memcached spends a unique on it.
        self.cas += 1;
        self.flushed_cas = self.cas;
    }

    fn join(&mut self, mode: Mode, at: u32, key: &[u8], value: &[u8]) -> Stored {
        let slot = &mut self.slots[at as usize];
        let (flags, expires_at) = (slot.flags, slot.expires_at);
        if item_bytes(key, flags, slot.value().len() + value.len()) > self.item_bytes_max {
            return Stored::NotStored;
        }
        // Taken out to be read while the new item is made; `put` replaces the slot's data anyway.
        let old = std::mem::take(&mut slot.data);
        self.data_bytes -= charge(old.len());
        let old_value = &old[key.len()..];
        let parts = if mode == Mode::Prepend { [value, old_value] } else { [old_value, value] };
        self.put(Some(at), key, flags, expires_at, &parts);
        Stored::Stored
    }

    /// Writes an item, over the one in slot `found` if there is one.
    fn put(&mut self, found: Option<u32>, key: &[u8], flags: u32, expires_at: u64, parts: &[&[u8]]) {
        let value_bytes: usize = parts.iter().map(|part| part.len()).sum();
        let data_bytes = key.len() + value_bytes;
        let at = match found {
            Some(at) => {
                self.drop_data(at);
                self.use_now(at);
                at
            }
            None => {
                let at = self.take_slot();
                self.insert(at, key);
                at
            }
        };
        while self.used_bytes() + charge(data_bytes) > self.memory_bytes {
            // The slot being written is the newest: it is never the one evicted, as the largest item fits alone.
            assert!(self.oldest != at, "the largest item fits beside all slots");
            self.counts.evictions += 1;
            self.remove(self.oldest);
        }
        let mut data = Vec::with_capacity(data_bytes);
        data.extend_from_slice(key);
        for part in parts {
            data.extend_from_slice(part);
        }
        self.data_bytes += charge(data_bytes);
        self.cas += 1;
        self.counts.total_items += 1;
        let slot = &mut self.slots[at as usize];
        slot.data = data.into_boxed_slice();
        slot.cas = self.cas;
        slot.expires_at = expires_at;
        slot.flags = flags;
        slot.key_bytes = key.len() as u8;
    }

    fn drop_data(&mut self, at: u32) {
        let data = std::mem::take(&mut self.slots[at as usize].data);
        if !data.is_empty() {
            self.data_bytes -= charge(data.len());
        }
    }

    /// The live item under `key`. One that expired or was flushed is removed on the way.
    fn find(&mut self, key: &[u8], now: u64) -> Option<u32> {
        if self.flush_at.is_some_and(|at| at <= now) {
            // Nothing was stored between that time and now: every store looks for its key first.
            self.flush_at = None;
            self.flushed_cas = self.cas;
        }
        let mut at = self.buckets[self.bucket(key)];
        while at != NONE {
            let slot = &self.slots[at as usize];
            if slot.key() == key {
                let expired = slot.expires_at != NEVER && slot.expires_at <= now;
                if !expired && slot.cas > self.flushed_cas {
                    return Some(at);
                }
                self.remove(at);
                return None;
            }
            at = slot.next;
        }
        None
    }

    fn bucket(&self, key: &[u8]) -> usize {
        self.hasher.hash_one(key) as usize & (self.buckets.len() - 1)
    }

    /// A free slot: one used before, a new one, or the one of the item used least recently.
    fn take_slot(&mut self) -> u32 {
        if self.free == NONE && self.slots.len() == self.slots_max {
            self.counts.evictions += 1;
            self.remove(self.oldest);
        }
        if self.free != NONE {
            let at = self.free;
            self.free = self.slots[at as usize].next;
            return at;
        }
        self.slots.push(Slot {
            data: Box::default(),
            cas: 0,
            expires_at: NEVER,
            flags: 0,
            next: NONE,
            newer: NONE,
            older: NONE,
            key_bytes: 0,
        });
        (self.slots.len() - 1) as u32
    }

    fn insert(&mut self, at: u32, key: &[u8]) {
        let bucket = self.bucket(key);
        self.slots[at as usize].next = self.buckets[bucket];
        self.buckets[bucket] = at;
        self.link_newest(at);
        self.counts.items += 1;
    }

    fn remove(&mut self, at: u32) {
        let bucket = self.bucket(self.slots[at as usize].key());
        let next = self.slots[at as usize].next;
        if self.buckets[bucket] == at {
            self.buckets[bucket] = next;
        } else {
            let mut before = self.buckets[bucket] as usize;
            while self.slots[before].next != at {
                before = self.slots[before].next as usize;
            }
            self.slots[before].next = next;
        }
        self.unlink(at);
        self.drop_data(at);
        self.slots[at as usize].key_bytes = 0;
        self.slots[at as usize].next = self.free;
        self.free = at;
        self.counts.items -= 1;
    }

    fn use_now(&mut self, at: u32) {
        if self.newest != at {
            self.unlink(at);
            self.link_newest(at);
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = self.newest;
        self.slots[at as usize].older = before;
        self.slots[at as usize].newer = NONE;
        match before {
            NONE => self.oldest = at,
            before => self.slots[before as usize].newer = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let (newer, older) = (self.slots[at as usize].newer, self.slots[at as usize].older);
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
    }
}

/// When an item with this exptime expires: 0 never, negative long ago, up to 30 days from now, else a Unix time.
fn expires_at(exptime: i64, now: u64) -> u64 {
    match exptime {
        0 => NEVER,
        i64::MIN..0 => LONG_AGO,
        1..=RELATIVE_EXPTIME_MAX_S => now + exptime as u64,
        _ => exptime as u64,
    }
}

fn item_bytes(key: &[u8], flags: u32, value_bytes: usize) -> usize {
    let flags_bytes = if flags == 0 { 0 } else { ITEM_FLAGS_BYTES };
    ITEM_HEADER_BYTES + flags_bytes + key.len() + value_bytes
}

/// A number as memcached reads it, which is C's `strtoull`: space before it and a plus sign are fine, and after a space
/// anything may follow.
pub(super) fn parse_number(text: &[u8]) -> Option<u64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !is_space(byte))?;
    let text = text[start..].strip_prefix(b"+").unwrap_or(&text[start..]);
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    if digits == 0 || text.get(digits).is_some_and(|byte| !is_space(byte) && *byte != 0) {
        return None;
    }
    text[..digits].iter().try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const NOW: u64 = 1_700_000_000;

    fn value(store: &mut Store, key: &[u8], now: u64) -> Option<Vec<u8>> {
        store.fetch(key, now).map(|item| item.value.to_vec())
    }

    #[test]
    fn expiry_is_relative_absolute_or_past() {
        let check = |exptime: i64, seconds: u64, there: bool| {
            let mut store = Store::new(0);
            assert_eq!(store.store(Mode::Set, b"k", 0, exptime, b"v", NOW), Stored::Stored);
            assert_eq!(value(&mut store, b"k", NOW + seconds).is_some(), there, "{exptime} after {seconds} s");
        };
        check(0, 1 << 40, true);
        check(-1, 0, false);
        check(10, 9, true);
        check(10, 10, false);
        check(RELATIVE_EXPTIME_MAX_S, RELATIVE_EXPTIME_MAX_S as u64 - 1, true);
        check(RELATIVE_EXPTIME_MAX_S + 1, 0, false);
        check(NOW as i64 + 5, 4, true);
        check(NOW as i64 + 5, 5, false);
    }

    #[test]
    fn a_delayed_flush_takes_what_was_stored_before_its_time() {
        let mut store = Store::new(0);
        store.store(Mode::Set, b"a", 0, 0, b"1", NOW);
        store.flush_all(10, NOW);
        store.store(Mode::Set, b"b", 0, 0, b"1", NOW + 9);
        assert!(store.fetch(b"a", NOW + 9).is_some());
        store.store(Mode::Set, b"c", 0, 0, b"1", NOW + 10);
        assert!(store.fetch(b"a", NOW + 10).is_none());
        assert!(store.fetch(b"b", NOW + 10).is_none());
        assert!(store.fetch(b"c", NOW + 10).is_some());
        store.flush_all(0, NOW + 10);
        assert!(store.fetch(b"c", NOW + 10).is_none());
    }

    #[test]
    fn numbers_are_read_as_strtoull_does() {
        let check = |text: &[u8], expected: Option<u64>| assert_eq!(parse_number(text), expected, "{text:?}");
        check(b"", None);
        check(b" ", None);
        check(b"12", Some(12));
        check(b"\t+12 x", Some(12));
        check(b"12x", None);
        check(b"-1", None);
        check(b"18446744073709551615", Some(u64::MAX));
        check(b"18446744073709551616", None);
    }

    /// Random operations against a plain map with no bound, as long as nothing is evicted; then the memory bound under
    /// all sizes.
    #[test]
    fn random_operations_agree_with_a_map_and_memory_stays_bounded() {
        let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64) | 1;
        eprintln!("seed {seed}");
        let mut state = seed;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut store = Store::new(MEMORY_BYTES_MIN);
        let mut model: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        for step in 0..200_000u64 {
            let key = format!("key{}", random(500)).into_bytes();
            let text = vec![b'a' + random(26) as u8; random(200) as usize];
            match random(6) {
                0 => {
                    store.store(Mode::Set, &key, 1, 0, &text, NOW);
                    model.insert(key, text);
                }
                1 => {
                    let stored = store.store(Mode::Append, &key, 0, 0, b"+", NOW);
                    assert_eq!(stored == Stored::Stored, model.contains_key(&key));
                    model.entry(key).and_modify(|value| value.push(b'+'));
                }
                2 => assert_eq!(store.delete(&key, NOW), model.remove(&key).is_some()),
                _ => assert_eq!(value(&mut store, &key, NOW), model.get(&key).cloned(), "step {step}"),
            }
        }
        assert_eq!(store.counts().evictions, 0);
        assert_eq!(store.counts().items, model.len() as u64);
        for step in 0..50_000u64 {
            let bytes = if step % 50 == 0 { random(1 << 19) } else { random(64) };
            let key = step.to_string().into_bytes();
            store.store(Mode::Set, &key, 0, 0, &vec![b'x'; bytes as usize], NOW);
            assert!(store.used_bytes() <= store.memory_bytes());
            if step % 1000 == 0 {
                let used = store.slots.iter().filter(|slot| !slot.data.is_empty());
                assert_eq!(store.data_bytes, used.map(|slot| charge(slot.data.len())).sum::<usize>());
            }
        }
        assert!(store.counts().evictions > 0);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut store = Store::new(MEMORY_BYTES_MIN);
        store.store(Mode::Set, b"old", 0, 0, b"1", NOW);
        store.store(Mode::Set, b"kept", 0, 0, b"1", NOW);
        let mut step = 0;
        while store.counts().evictions == 0 {
            store.fetch(b"kept", NOW);
            store.store(Mode::Set, format!("{step}").as_bytes(), 0, 0, &[b'x'; 1000], NOW);
            step += 1;
        }
        assert!(store.fetch(b"old", NOW).is_none());
        assert!(store.fetch(b"kept", NOW).is_some());
    }
}
