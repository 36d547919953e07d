//! Spare send buffers of a shard, so that connections hold none while idle and a busy shard allocates none.

/// Largest buffer kept, in bytes of capacity. Larger ones are given back to the allocator.
const KEPT_BYTES: usize = 64 * 1024;
/// Most buffers kept: 16 MiB at the very most.
const KEPT: usize = 256;

/// A bounded stack of empty vectors; the last one used is the warmest in the cache.
#[derive(Default)]
pub(crate) struct Buffers {
    spare: Vec<Vec<u8>>,
}

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= KEPT_BYTES && self.spare.len() < KEPT {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
