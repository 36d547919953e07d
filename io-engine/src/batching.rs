//! The batching window: how many completions a turn waits for, and for how long at most.
//!
//! Full batches spare the kernel, the servers and the clients, but a wait for what can't come costs a closed loop its
//! rate. So the adaptive window waits for a share of the requests on their way: they come back without anybody's doing.
//!
//! Pure: reads no clock, knows no ring.

/// How the window is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchingMode {
    /// Return at the first completion.
    Off,
    /// Wait for `batch` completions, at most `max_delay_us`.
    Fixed {
        /// Completions to wait for.
        batch: u32,
    },
    /// Wait for a share of the requests in flight, at most `max_delay_us`.
    Adaptive,
}

/// The configured window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// How the batch is chosen.
    pub mode: BatchingMode,
    /// Longest delay the window adds, in microseconds.
    pub max_delay_us: u32,
}

/// What a turn waits for: `count` completions, but after `max_delay_us` one is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Completions, those of the sends just submitted included.
    pub count: u32,
    /// In microseconds, at least 1.
    pub max_delay_us: u32,
}

/// The window's state: a moving average of the requests in flight at the moment of sleeping.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    batching: Batching,
    /// In 1/16 requests, so that the average needs no floating point.
    in_flight_x16: u64,
}

/// Share of the requests in flight that is worth waiting for.
const SHARE: u64 = 4;
/// Below this a batch isn't one.
const SMALLEST_BATCH: u64 = 2;

impl Window {
    /// A window that has seen nothing yet.
    pub fn new(batching: Batching) -> Window {
        Window { batching, in_flight_x16: 0 }
    }

    /// What to wait for now, with `in_flight` requests on their way and `sends` sends about to be submitted. `None` is
    /// one completion, at once. The window never outlasts `left_us`, the time to the next deadline.
    pub fn wait_for(&mut self, in_flight: usize, sends: u32, left_us: Option<u64>) -> Option<Batch> {
        let in_flight = in_flight as u64;
        // Moves a sixteenth of the way towards what is seen, at every sleep.
        self.in_flight_x16 = self.in_flight_x16 - self.in_flight_x16 / 16 + in_flight;
        let batch = match self.batching.mode {
            BatchingMode::Off => return None,
            BatchingMode::Fixed { batch } => u64::from(batch),
            BatchingMode::Adaptive => self.in_flight_x16 / 16 / SHARE,
        };
        let max_delay_us = left_us.map_or(u64::from(self.batching.max_delay_us), |left_us| {
            left_us.min(u64::from(self.batching.max_delay_us))
        });
        if batch < SMALLEST_BATCH || max_delay_us == 0 {
            return None;
        }
        // A send mostly completes while it is submitted: without counting it, it would fill the batch by itself.
        let count = batch.saturating_add(u64::from(sends)).min(u64::from(u32::MAX));
        Some(Batch { count: count as u32, max_delay_us: max_delay_us as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: BatchingMode, in_flight: usize, sends: u32, left_us: Option<u64>, expected: Option<(u32, u32)>) {
        let mut window = Window::new(Batching { mode, max_delay_us: 100 });
        for _ in 0..200 {
            window.wait_for(in_flight, 0, None);
        }
        let batch = window.wait_for(in_flight, sends, left_us).map(|batch| (batch.count, batch.max_delay_us));
        assert_eq!(batch, expected, "{mode:?} {in_flight} in flight, {sends} sends, {left_us:?} us left");
    }

    #[test]
    fn windows() {
        use BatchingMode::{Adaptive, Fixed, Off};
        check(Off, 1000, 5, None, None);
        check(Fixed { batch: 32 }, 0, 0, None, Some((32, 100)));
        check(Fixed { batch: 32 }, 0, 7, None, Some((39, 100)));
        check(Fixed { batch: 1 }, 1000, 7, None, None);
        check(Fixed { batch: 32 }, 0, 0, Some(40), Some((32, 40)));
        check(Fixed { batch: 32 }, 0, 0, Some(0), None);
        check(Adaptive, 0, 3, None, None);
        check(Adaptive, 1, 1, None, None);
        check(Adaptive, 7, 1, None, None);
        check(Adaptive, 9, 1, None, Some((3, 100)));
        check(Adaptive, 201, 10, None, Some((60, 100)));
        check(Adaptive, 201, 10, Some(3), Some((60, 3)));
        check(Adaptive, 201, 10, Some(1_000_000), Some((60, 100)));
    }

    #[test]
    fn the_average_follows_in_some_dozen_turns() {
        let mut window = Window::new(Batching { mode: BatchingMode::Adaptive, max_delay_us: 100 });
        assert_eq!(window.wait_for(100, 0, None), None, "one busy moment is no load");
        let up = (0..).find(|_| window.wait_for(100, 0, None).is_some_and(|batch| batch.count >= 20));
        assert!(up.is_some_and(|turns| turns < 64), "{up:?}");
        let down = (0..).find(|_| window.wait_for(0, 0, None).is_none());
        assert!(down.is_some_and(|turns| turns < 64), "{down:?}");
    }

    #[test]
    fn no_delay_is_no_window() {
        let mut window = Window::new(Batching { mode: BatchingMode::Fixed { batch: 32 }, max_delay_us: 0 });
        assert_eq!(window.wait_for(1000, 0, None), None);
    }
}
