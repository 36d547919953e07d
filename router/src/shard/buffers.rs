//! Spare buffers of a shard, so that connections hold none while idle and a busy shard allocates none.

/// A request's entry keeps its own buffers up to this capacity, in bytes; larger ones come from here and go back.
pub(crate) const SMALL_BYTES: usize = 4096;
/// Largest buffer kept, in bytes of capacity. Larger ones are given back to the allocator.
const LARGE_BYTES: usize = 256 * 1024;
/// Most bytes of capacity kept.
const SPARE_BYTES: usize = 16 << 20;
/// Most buffers kept of either size.
const SPARE: usize = 16 * 1024;

/// Two bounded stacks of empty vectors; the last one used is the warmest in the cache.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Of more than `SMALL_BYTES`. Taken first: what once grew large will again.
    large: Vec<Vec<u8>>,
    small: Vec<Vec<u8>>,
    /// Their capacities added up.
    bytes: usize,
}

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let buffer = self.large.pop().or_else(|| self.small.pop()).unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        let spare = if bytes > SMALL_BYTES { &mut self.large } else { &mut self.small };
        if bytes > 0 && bytes <= LARGE_BYTES && self.bytes + bytes <= SPARE_BYTES && spare.len() < SPARE {
            buffer.clear();
            self.bytes += bytes;
            spare.push(buffer);
        }
    }

    /// Makes an empty buffer of an entry ready for `bytes`: with a spare one where they are more than the entry keeps.
    pub(crate) fn prepare(&mut self, buffer: &mut Vec<u8>, bytes: usize) {
        if bytes > SMALL_BYTES && bytes > buffer.capacity() && buffer.is_empty() {
            let larger = self.take();
            self.give(std::mem::replace(buffer, larger));
        }
    }

    /// Takes what an entry doesn't keep.
    pub(crate) fn take_back(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() > SMALL_BYTES {
            self.give(std::mem::take(buffer));
        }
    }
}
