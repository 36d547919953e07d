//! A slab whose entries keep their memory when freed, named by index and generation.
//!
//! Owns: which entries are in use. Invariant: an id taken before an entry was freed never finds the entry's next
//! tenant, so a late reply or timer can't reach another request.

use keyway_io_engine::prefetch;
use std::marker::PhantomData;

/// Names an entry of one kind of slab.
pub(crate) struct Id<T> {
    index: u32,
    generation: u32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// Names no entry of any slab.
    pub(crate) const NONE: Id<T> = Id { index: u32::MAX, generation: 0, kind: PhantomData };

    /// As one number, for keeping ids in ordered collections.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// The id that `to_bits` gave.
    pub(crate) fn from_bits(bits: u64) -> Id<T> {
        Id { index: (bits >> 32) as u32, generation: bits as u32, kind: PhantomData }
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}

impl<T> Eq for Id<T> {}

impl<T> std::fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.index, self.generation)
    }
}

/// An entry that can be made ready for its next tenant without giving up its memory.
pub(crate) trait Recycle: Default {
    /// Forgets everything but allocated memory (of which it keeps a bounded amount).
    fn recycle(&mut self);
}

#[repr(C)]
struct Entry<T> {
    generation: u32,
    used: bool,
    value: T,
}

/// Entries of one kind.
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T: Recycle> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { entries: Vec::new(), free: Vec::new() }
    }

    /// How many entries are in use.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Takes an entry into use. It is as `Default` or `recycle` left it.
    pub(crate) fn take(&mut self) -> Id<T> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.entries.push(Entry { generation: 0, used: false, value: T::default() });
                (self.entries.len() - 1) as u32
            }
        };
        let entry = &mut self.entries[index as usize];
        entry.used = true;
        Id { index, generation: entry.generation, kind: PhantomData }
    }

    /// Frees an entry; ids of it find nothing from now on.
    pub(crate) fn free(&mut self, id: Id<T>) {
        let entry = &mut self.entries[id.index as usize];
        assert!(entry.used && entry.generation == id.generation, "an entry is freed once, by its own id");
        entry.used = false;
        entry.generation = entry.generation.wrapping_add(1);
        entry.value.recycle();
        self.free.push(id.index);
    }

    /// Says that the entry will be looked at soon.
    #[inline]
    pub(crate) fn expect_soon(&self, id: Id<T>) {
        if let Some(entry) = self.entries.get(id.index as usize) {
            prefetch(entry);
        }
    }

    /// The entry, unless it was freed.
    pub(crate) fn find(&self, id: Id<T>) -> Option<&T> {
        let entry = self.entries.get(id.index as usize)?;
        (entry.used && entry.generation == id.generation).then_some(&entry.value)
    }

    /// The entry, unless it was freed.
    pub(crate) fn find_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        (entry.used && entry.generation == id.generation).then_some(&mut entry.value)
    }

    /// The id of the entry in use at a position below `capacity`, for walks over all entries.
    pub(crate) fn id_at(&self, index: usize) -> Option<Id<T>> {
        let entry = self.entries.get(index)?;
        entry.used.then_some(Id { index: index as u32, generation: entry.generation, kind: PhantomData })
    }

    /// One more than the highest position ever used.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.len()
    }
}

impl<T> std::ops::Index<Id<T>> for Slab<T> {
    type Output = T;

    /// Panics when the entry was freed: the caller holds an id it should have dropped.
    fn index(&self, id: Id<T>) -> &T {
        let entry = &self.entries[id.index as usize];
        assert!(entry.used && entry.generation == id.generation, "{id:?} was freed");
        &entry.value
    }
}

impl<T> std::ops::IndexMut<Id<T>> for Slab<T> {
    fn index_mut(&mut self, id: Id<T>) -> &mut T {
        let entry = &mut self.entries[id.index as usize];
        assert!(entry.used && entry.generation == id.generation, "{id:?} was freed");
        &mut entry.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Recycle for Vec<u8> {
        fn recycle(&mut self) {
            self.clear();
        }
    }

    #[test]
    fn a_freed_id_never_finds_the_next_tenant_and_memory_is_kept() {
        let mut slab: Slab<Vec<u8>> = Slab::new();
        let first = slab.take();
        slab[first].extend_from_slice(b"first");
        slab.free(first);
        let second = slab.take();
        assert_eq!(second.index, first.index);
        assert!(slab.find(first).is_none());
        assert!(slab[second].is_empty() && slab[second].capacity() >= 5);
        assert_eq!(slab.len(), 1);
        assert!(slab.find(Id::NONE).is_none());
    }
}
