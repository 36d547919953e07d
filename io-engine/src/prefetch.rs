//! A hint to the processor. Owns nothing; has no effect but on time.

/// Asks for the cache lines of `value`'s first `LINES` lines, so that a later look doesn't wait for memory.
///
/// The shard knows which request the next reply belongs to while it works on the one before: its entry was last touched
/// a round trip to the server ago, and the kernel's network stack has used the cache since.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        const LINE_BYTES: usize = 64;
        let start = std::ptr::from_ref(value).cast::<i8>();
        for line in 0..size_of::<T>().div_ceil(LINE_BYTES).min(LINES) {
            // SAFETY: a prefetch reads nothing and faults on nothing; the address lies inside or just behind `value`.
            unsafe {
                std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                    start.wrapping_add(line * LINE_BYTES),
                );
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Most lines asked for at once: more would push each other out of the processor's queue of misses.
const LINES: usize = 4;

#[cfg(test)]
mod tests {
    #[test]
    fn a_hint_changes_nothing() {
        let value = [7u8; 1000];
        super::prefetch(&value);
        super::prefetch(&());
        assert!(value.iter().all(|byte| *byte == 7));
    }
}
