//! Random, twemproxy's: any member, whatever the key.
//!
//! Each thread draws from a row of its own, so nothing is shared between shards and a simulation in one thread is the
//! same each time. Nobody's secret: the rows differ by thread and are otherwise fixed.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static STATE: Cell<u64> = Cell::new(seed_of_this_thread());
}

/// A number below `below`, which is at least 1.
pub(super) fn draw(below: u32) -> u32 {
    let word = STATE.with(|state| {
        // splitmix64.
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mixed = (next ^ next >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    });
    // The upper half scaled: even to within 2^-32.
    (((word >> 32) * u64::from(below)) >> 32) as u32
}

fn seed_of_this_thread() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    THREADS.fetch_add(1, Ordering::Relaxed) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_members_are_drawn_about_equally() {
        let mut counts = [0; 7];
        (0..70_000).for_each(|_| counts[draw(7) as usize] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(draw(1), 0);
    }
}
