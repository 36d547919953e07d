//! A provided-buffer ring: memory the kernel picks a buffer from when bytes arrive, so an idle connection pins none.
//!
//! Owns the buffers and the ring they are offered in. The memory is mapped, not allocated: what was never filled is not
//! resident. Only a part of the buffers is offered at first, because the kernel takes them in turn and a large ring
//! walks through the cache; every time the kernel finds none, twice as many are offered, up to all.
//!
//! Invariants: a buffer is either offered to the kernel, lent to us by a completion, or in `spare`; the mappings outlive
//! the kernel ring (`RingEngine` drops its ring first).

use io_uring::types::BufRingEntry;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffers offered before the kernel ever ran out of them.
const FIRST_OFFER: u16 = 64;

/// One group of provided buffers.
pub(super) struct Buffers {
    ring: Mapping,
    memory: Mapping,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
    spare: Vec<u16>,
    /// How many of `count` take part now.
    offer: u16,
}

impl Buffers {
    /// Maps `count` buffers (a power of two) of `buffer_bytes` and registers them as group `id`.
    pub(super) fn register(ring: &io_uring::IoUring, id: u16, count: u16, buffer_bytes: usize) -> io::Result<Buffers> {
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * buffer_bytes)?;
        // SAFETY: `entries` is page aligned and holds `count` entries; it lives until after the kernel ring is gone (see
        // the invariants above).
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.start() as u64, count, id, 0)? };
        let offer = FIRST_OFFER.min(count);
        let mut buffers = Buffers {
            ring: entries,
            memory,
            count,
            buffer_bytes,
            tail: 0,
            spare: (offer..count).rev().collect(),
            offer,
        };
        for id in 0..offer {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// The bytes of buffer `id` that a completion lent.
    pub(super) fn lent(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < self.count && len <= self.buffer_bytes, "the kernel names a buffer it was given");
        // SAFETY: in bounds (asserted), and the kernel filled these bytes and won't touch them before `give_back`, which
        // takes `&mut self` and so can't happen while the slice lives.
        unsafe { std::slice::from_raw_parts(self.memory.start().add(usize::from(id) * self.buffer_bytes), len) }
    }

    /// Offers buffer `id` to the kernel again.
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count, "the kernel names a buffer it was given");
        let entries = self.ring.start().cast::<BufRingEntry>();
        let address = self.memory.start() as u64 + (usize::from(id) * self.buffer_bytes) as u64;
        // SAFETY: the index is masked to the ring's size, a power of two, and the slot is free: no more buffers exist
        // than slots. The mapping starts zeroed, which is a valid entry. The tail is the field the kernel reads with
        // acquire, so it sees the entry filled.
        unsafe {
            let entry = &mut *entries.add(usize::from(self.tail & (self.count - 1)));
            entry.set_addr(address);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            (*BufRingEntry::tail(entries).cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }

    /// The kernel found no buffer: offer twice as many from now on.
    pub(super) fn ran_out(&mut self) {
        let wanted = self.offer.saturating_mul(2).min(self.count);
        while self.offer < wanted {
            let Some(id) = self.spare.pop() else { break };
            self.offer += 1;
            self.give_back(id);
        }
    }
}

/// Anonymous memory of its own, zeroed and not resident until touched.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh anonymous mapping aliases nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast())
            .map(|start| Mapping { start, bytes })
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and unmapped once.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
