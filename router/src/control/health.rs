//! Is a server up? The decision, without doing anything about it: takes events and the time, says what changes.
//!
//! ```text
//!             passes                       `failures` in a row, or a shard's suspicion
//! Starting ───────────► Up ──────────────────────────────────────────────────────────► Down
//!     └──────── one failure ───────────────────────────────────────────────────────────► │
//!                       ▲──────────────────── `successes` in a row ──────────────────────┘
//! ```
//!
//! A server nothing is known of yet takes requests: holding them back until the first check would fail them for sure.
//! Checks come every `interval` while a server is up, and from `FAST` on, growing by half up to `interval`, while it is
//! down or failed its last check: so recovery is noticed within seconds and a dead server costs little. One that is
//! suspected again soon after it recovered (it passes checks but not requests) goes on where the growing had got to.
//!
//! Invariant: the result of a check that began before a suspicion or a change of address is not believed.

use std::time::Duration;

/// First delay between checks of a server that is in doubt.
const FAST: Duration = Duration::from_millis(500);
/// Longest delay between checks of a server that is down, where the interval isn't shorter: it is back within seconds.
const SLOWEST: Duration = Duration::from_secs(2);
/// A server that was up this long has recovered for good.
const STABLE: Duration = Duration::from_secs(60);

/// When a server is taken for down and for up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Time between two checks of a server that is up.
    pub interval: Duration,
    /// Longest time for one check.
    pub timeout: Duration,
    /// Failed checks in a row that make it down.
    pub failures: u32,
    /// Passed checks in a row that make it up again.
    pub successes: u32,
}

/// What is known of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not checked yet.
    Starting,
    /// Takes requests.
    Up {
        /// Failed checks in a row.
        failures: u32,
    },
    /// Takes none.
    Down {
        /// Passed checks in a row.
        successes: u32,
    },
}

/// What an event brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to tell the shards.
    Same,
    /// Nothing new, but the shard that suspected it is to be told.
    Again,
    /// It takes requests from now on.
    CameUp,
    /// It takes none from now on.
    WentDown,
}

/// The health of one server. Times are since the process started.
#[derive(Debug)]
pub struct Health {
    state: State,
    next_check: Duration,
    checking: bool,
    /// Tells apart the checks begun before and after a suspicion.
    epoch: u32,
    backoff: Duration,
    /// When it came up after having been down.
    recovered_at: Option<Duration>,
    random: u64,
}

impl Health {
    /// Of a server nothing is known of; it is to be checked at once. `seed` spreads the checks of many servers.
    pub fn new(seed: u64, now: Duration) -> Health {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Health {
            state: State::Starting,
            next_check: now,
            checking: false,
            epoch: 0,
            backoff: FAST,
            recovered_at: None,
            random,
        }
    }

    /// What is known.
    pub fn state(&self) -> State {
        self.state
    }

    /// True when it takes requests.
    pub fn is_up(&self) -> bool {
        !matches!(self.state, State::Down { .. })
    }

    /// True when a check has shown that it does.
    pub fn is_proven(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// When the next check is due; `None` while one is under way.
    pub fn next_check(&self) -> Option<Duration> {
        (!self.checking).then_some(self.next_check)
    }

    /// A check begins. Its result is reported with the number returned.
    pub fn check_begins(&mut self) -> u32 {
        self.checking = true;
        self.epoch
    }

    /// The check passed.
    pub fn passed(&mut self, epoch: u32, now: Duration, settings: &HealthSettings) -> Verdict {
        self.checking = false;
        if epoch != self.epoch {
            return Verdict::Same;
        }
        match self.state {
            State::Down { successes } if successes + 1 < settings.successes => {
                self.state = State::Down { successes: successes + 1 };
                self.check_in(FAST.min(settings.interval), now);
                Verdict::Same
            }
            State::Down { .. } | State::Starting => {
                self.recovered_at = matches!(self.state, State::Down { .. }).then_some(now);
                self.state = State::Up { failures: 0 };
                self.check_in(settings.interval, now);
                Verdict::CameUp
            }
            State::Up { .. } => {
                self.state = State::Up { failures: 0 };
                self.check_in(settings.interval, now);
                Verdict::Same
            }
        }
    }

    /// The check failed.
    pub fn failed(&mut self, epoch: u32, now: Duration, settings: &HealthSettings) -> Verdict {
        self.checking = false;
        if epoch != self.epoch {
            return Verdict::Same;
        }
        match self.state {
            State::Up { failures } if failures + 1 < settings.failures => {
                self.state = State::Up { failures: failures + 1 };
                self.check_in(FAST.min(settings.interval), now);
                Verdict::Same
            }
            State::Up { .. } | State::Starting => {
                self.goes_down(now);
                let delay = self.grow_backoff(settings);
                self.check_in(delay, now);
                Verdict::WentDown
            }
            State::Down { .. } => {
                self.state = State::Down { successes: 0 };
                let delay = self.grow_backoff(settings);
                self.check_in(delay, now);
                Verdict::Same
            }
        }
    }

    /// A shard's requests to it fail: down everywhere, and to be checked.
    pub fn suspected(&mut self, now: Duration, settings: &HealthSettings) -> Verdict {
        if !self.is_up() {
            return Verdict::Again;
        }
        self.epoch = self.epoch.wrapping_add(1);
        let relapse = self.goes_down(now);
        let delay = if relapse { self.grow_backoff(settings) } else { Duration::ZERO };
        self.check_in(delay, now);
        Verdict::WentDown
    }

    /// Its address is another one now: what was seen of the old one says nothing about it.
    pub fn moved(&mut self, now: Duration) {
        self.epoch = self.epoch.wrapping_add(1);
        self.backoff = FAST;
        self.next_check = now;
        self.state = match self.state {
            State::Starting => State::Starting,
            State::Up { .. } => State::Up { failures: 0 },
            State::Down { .. } => State::Down { successes: 0 },
        };
    }

    /// True when it had recovered only just now.
    fn goes_down(&mut self, now: Duration) -> bool {
        let relapse = self.recovered_at.is_some_and(|at| now.saturating_sub(at) < STABLE);
        self.state = State::Down { successes: 0 };
        if !relapse {
            self.backoff = FAST;
        }
        relapse
    }

    /// The delay now, and a longer one the next time.
    fn grow_backoff(&mut self, settings: &HealthSettings) -> Duration {
        let delay = self.backoff.min(settings.interval);
        self.backoff = (self.backoff * 3 / 2).min(settings.interval.min(SLOWEST).max(FAST));
        delay
    }

    fn check_in(&mut self, delay: Duration, now: Duration) {
        self.next_check = now + self.jittered(delay);
    }

    /// A tenth less to a tenth more, so that servers that went down together aren't checked together for ever.
    fn jittered(&mut self, delay: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let permille = 900 + (self.random % 201) as u32;
        delay * permille / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: HealthSettings = HealthSettings {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        failures: 3,
        successes: 2,
    };

    enum Event {
        Pass,
        Fail,
        Suspect,
        Move,
    }
    use Event::{Fail, Move, Pass, Suspect};

    /// Plays events, each when its check is due; says what each brought about and the delay to the next check.
    fn check(events: &[(Event, Verdict, State, f64)]) {
        for seed in 0..50 {
            let mut now = Duration::from_secs(100);
            let mut health = Health::new(seed, now);
            assert!(health.is_up() && !health.is_proven());
            for (at, (event, verdict, state, delay)) in events.iter().enumerate() {
                let said = match event {
                    Pass | Fail => {
                        now = health.next_check().expect("none under way");
                        let epoch = health.check_begins();
                        assert_eq!(health.next_check(), None);
                        match event {
                            Pass => health.passed(epoch, now, &SETTINGS),
                            _ => health.failed(epoch, now, &SETTINGS),
                        }
                    }
                    Suspect => health.suspected(now, &SETTINGS),
                    Move => {
                        health.moved(now);
                        Verdict::Same
                    }
                };
                assert_eq!((said, health.state()), (*verdict, *state), "event {at}, seed {seed}");
                let next = (health.next_check().expect("none under way") - now).as_secs_f64();
                assert!((next - delay).abs() <= delay * 0.101, "event {at}, seed {seed}: {next} for {delay}");
            }
        }
    }

    const fn up(failures: u32) -> State {
        State::Up { failures }
    }
    const fn down(successes: u32) -> State {
        State::Down { successes }
    }

    #[test]
    fn one_check_decides_at_the_start() {
        check(&[(Pass, Verdict::CameUp, up(0), 10.0), (Pass, Verdict::Same, up(0), 10.0)]);
        check(&[(Fail, Verdict::WentDown, down(0), 0.5), (Fail, Verdict::Same, down(0), 0.75)]);
    }

    #[test]
    fn failures_in_a_row_take_it_down() {
        check(&[
            (Pass, Verdict::CameUp, up(0), 10.0),
            (Fail, Verdict::Same, up(1), 0.5),
            (Fail, Verdict::Same, up(2), 0.5),
            (Pass, Verdict::Same, up(0), 10.0),
            (Fail, Verdict::Same, up(1), 0.5),
            (Fail, Verdict::Same, up(2), 0.5),
            (Fail, Verdict::WentDown, down(0), 0.5),
        ]);
    }

    #[test]
    fn successes_in_a_row_bring_it_back() {
        check(&[
            (Fail, Verdict::WentDown, down(0), 0.5),
            (Pass, Verdict::Same, down(1), 0.5),
            (Fail, Verdict::Same, down(0), 0.75),
            (Pass, Verdict::Same, down(1), 0.5),
            (Pass, Verdict::CameUp, up(0), 10.0),
        ]);
    }

    #[test]
    fn checks_of_a_dead_server_slow_down_to_two_seconds() {
        let mut events = vec![(Fail, Verdict::WentDown, down(0), 0.5)];
        for delay in [0.75, 1.125, 1.6875, 2.0, 2.0, 2.0] {
            events.push((Fail, Verdict::Same, down(0), delay));
        }
        check(&events);
    }

    #[test]
    fn a_suspicion_takes_it_down_at_once_and_is_always_answered() {
        check(&[
            (Pass, Verdict::CameUp, up(0), 10.0),
            (Suspect, Verdict::WentDown, down(0), 0.0),
            (Suspect, Verdict::Again, down(0), 0.0),
            (Pass, Verdict::Same, down(1), 0.5),
            (Suspect, Verdict::Again, down(1), 0.5),
            (Pass, Verdict::CameUp, up(0), 10.0),
        ]);
        check(&[(Suspect, Verdict::WentDown, down(0), 0.0)]);
    }

    #[test]
    fn relapses_are_checked_later_each_time() {
        check(&[
            (Pass, Verdict::CameUp, up(0), 10.0),
            (Suspect, Verdict::WentDown, down(0), 0.0),
            (Pass, Verdict::Same, down(1), 0.5),
            (Pass, Verdict::CameUp, up(0), 10.0),
            (Suspect, Verdict::WentDown, down(0), 0.5),
            (Pass, Verdict::Same, down(1), 0.5),
            (Pass, Verdict::CameUp, up(0), 10.0),
            (Suspect, Verdict::WentDown, down(0), 0.75),
            (Pass, Verdict::Same, down(1), 0.5),
            (Pass, Verdict::CameUp, up(0), 10.0),
            // Seven checks later it has been up for more than a minute.
            (Pass, Verdict::Same, up(0), 10.0),
            (Pass, Verdict::Same, up(0), 10.0),
            (Pass, Verdict::Same, up(0), 10.0),
            (Pass, Verdict::Same, up(0), 10.0),
            (Pass, Verdict::Same, up(0), 10.0),
            (Pass, Verdict::Same, up(0), 10.0),
            (Pass, Verdict::Same, up(0), 10.0),
            (Suspect, Verdict::WentDown, down(0), 0.0),
        ]);
    }

    #[test]
    fn a_new_address_is_checked_at_once() {
        check(&[
            (Fail, Verdict::WentDown, down(0), 0.5),
            (Fail, Verdict::Same, down(0), 0.75),
            (Move, Verdict::Same, down(0), 0.0),
            (Fail, Verdict::Same, down(0), 0.5),
        ]);
        check(&[(Pass, Verdict::CameUp, up(0), 10.0), (Move, Verdict::Same, up(0), 0.0)]);
    }

    #[test]
    fn checks_begun_before_a_suspicion_are_not_believed() {
        let now = Duration::from_secs(5);
        let mut health = Health::new(1, now);
        let epoch = health.check_begins();
        assert_eq!(health.passed(epoch, now, &SETTINGS), Verdict::CameUp);
        let stale = health.check_begins();
        assert_eq!(health.suspected(now, &SETTINGS), Verdict::WentDown);
        assert_eq!(health.passed(stale, now, &SETTINGS), Verdict::Same);
        assert_eq!((health.state(), health.next_check()), (State::Down { successes: 0 }, Some(now)));
        let stale = health.check_begins();
        health.moved(now);
        assert_eq!(health.failed(stale, now, &SETTINGS), Verdict::Same);
        assert_eq!(health.next_check(), Some(now));
    }
}
