//! The open loop: when requests are meant to be sent, whatever became of those before.
//!
//! Invariants: request i of a load is meant for `start + i / rate` and belongs to client `i mod clients`; a request that
//! goes out late keeps the time it was meant for, so that waiting behind a slow server counts as latency (no
//! coordinated omission); nothing is queued but a number per client.

use keyway_io_engine::Nanos;

/// The schedule of all clients' requests.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start: Nanos,
    interval_ns: f64,
    clients: u64,
    /// How many requests have come due.
    due: u64,
}

impl Schedule {
    /// `rate` requests a second over `clients` clients, from `start` on.
    pub(crate) fn new(start: Nanos, rate: f64, clients: usize) -> Schedule {
        Schedule { start, interval_ns: 1e9 / rate, clients: clients as u64, due: 0 }
    }

    /// When request `index` is meant to be sent.
    fn meant_for(&self, index: u64) -> Nanos {
        self.start + (index as f64 * self.interval_ns) as Nanos
    }

    /// When the next request comes due.
    pub(crate) fn next_at(&self) -> Nanos {
        self.meant_for(self.due)
    }

    /// How many requests have come due so far.
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Takes the next request that is due by `now`: the client it belongs to.
    pub(crate) fn take_due(&mut self, now: Nanos) -> Option<usize> {
        if self.next_at() > now {
            return None;
        }
        self.due += 1;
        Some(((self.due - 1) % self.clients) as usize)
    }

    /// When the `nth` request (from 0) of `client` is meant to be sent.
    pub(crate) fn meant_for_client(&self, client: usize, nth: u64) -> Nanos {
        self.meant_for(nth * self.clients + client as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_due_in_turn_and_keep_their_times() {
        let mut schedule = Schedule::new(1_000, 1_000_000.0, 3);
        let mut taken = Vec::new();
        while let Some(client) = schedule.take_due(5_500) {
            taken.push(client);
        }
        assert_eq!(taken, [0, 1, 2, 0, 1]);
        assert_eq!(schedule.next_at(), 6_000);
        assert_eq!(schedule.meant_for_client(0, 0), 1_000);
        assert_eq!(schedule.meant_for_client(1, 1), 5_000);
        assert_eq!(schedule.meant_for_client(2, 1), 6_000);
    }

    /// An odd rate over a long time: no drift.
    #[test]
    fn the_rate_is_kept() {
        let mut schedule = Schedule::new(0, 33_333.0, 7);
        let mut count = 0u64;
        while schedule.take_due(30_000_000_000).is_some() {
            count += 1;
        }
        assert!(count.abs_diff(999_990) <= 1, "{count}");
    }
}
