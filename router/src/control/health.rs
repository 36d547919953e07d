//! Is a server up? The decision, without doing anything about it: takes events and the time, says what changes.
//!
//! ```text
//!             passes                       `failures` in a row, or a shard's suspicion
//! Starting ───────────► Up ──────────────────────────────────────────────────────────► Down
//!     └──────── one failure ───────────────────────────────────────────────────────────► │ ◄─┐ a check fails
//!                       ▲                                                                ▼   │
//!                       └── `successes` in a row, and the least time down is over ── half open
//! ```
//!
//! A server nothing is known of takes requests: holding them back until the first check would fail them for sure. Checks
//! come every `interval` while a server is up, whether or not anybody asks it. While it is down they come after
//! `probe_initial`, growing by half up to `probe_max` (never more than `interval`), and a twentieth to a half more by chance.
//! So recovery is noticed within seconds, a dead server costs little, and routers don't check in step.
//!
//! Against flapping: it stays down for `min_down` at least. One that goes down again within `STABLE` of its recovery (it
//! passes checks but not requests) stays down twice as long each time, up to `max_down`, and its checks go on where their
//! growing had got to.
//!
//! Invariant: the result of a check that began before a suspicion or a change of address is not believed.

use std::time::Duration;

/// A server that was up this long has recovered for good.
const STABLE: Duration = Duration::from_secs(60);
/// Relapses beyond this many lengthen nothing any more.
const MOST_RELAPSES: u32 = 16;

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
    /// First delay between checks of a server that is down or failed its last check.
    pub probe_initial: Duration,
    /// Longest delay between checks of a server that is down.
    pub probe_max: Duration,
    /// Least time it is down.
    pub min_down: Duration,
    /// Least time it is down after many relapses.
    pub max_down: Duration,
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
    /// Takes none. Half open once a check has passed.
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
    /// The first check since it went down passed; it takes no requests yet.
    HalfOpen,
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
    /// When it went down last.
    down_at: Option<Duration>,
    /// Not up again before.
    down_until: Duration,
    /// A check has passed since it went down.
    was_half_open: bool,
    /// When it came up after having been down.
    recovered_at: Option<Duration>,
    /// Times it went down again within `STABLE`.
    relapses: u32,
    /// Checks that failed since one passed.
    failed_in_row: u32,
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
            backoff: Duration::ZERO,
            down_at: None,
            down_until: now,
            was_half_open: false,
            recovered_at: None,
            relapses: 0,
            failed_in_row: 0,
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

    /// When it went down last.
    pub fn down_at(&self) -> Option<Duration> {
        self.down_at
    }

    /// Times in a row that it went down soon after it had recovered.
    pub fn relapses(&self) -> u32 {
        self.relapses
    }

    /// Checks that failed since one passed.
    pub fn failed_in_row(&self) -> u32 {
        self.failed_in_row
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
        self.failed_in_row = 0;
        match self.state {
            State::Down { successes } => self.passed_while_down(successes.saturating_add(1), now, settings),
            State::Starting => {
                self.comes_up(now, settings);
                Verdict::CameUp
            }
            State::Up { .. } => {
                self.comes_up(now, settings);
                Verdict::Same
            }
        }
    }

    fn passed_while_down(&mut self, successes: u32, now: Duration, settings: &HealthSettings) -> Verdict {
        if successes >= settings.successes && now >= self.down_until {
            self.recovered_at = Some(now);
            self.comes_up(now, settings);
            return Verdict::CameUp;
        }
        self.state = State::Down { successes };
        let mut delay = settings.probe_initial.min(settings.interval);
        if successes + 1 >= settings.successes {
            // The next one may bring it back, so it had better not come too early.
            delay = delay.max(self.down_until.saturating_sub(now));
        }
        self.probe_in(delay, now);
        if std::mem::replace(&mut self.was_half_open, true) { Verdict::Same } else { Verdict::HalfOpen }
    }

    fn comes_up(&mut self, now: Duration, settings: &HealthSettings) {
        self.state = State::Up { failures: 0 };
        self.check_in(settings.interval, now);
    }

    /// The check failed.
    pub fn failed(&mut self, epoch: u32, now: Duration, settings: &HealthSettings) -> Verdict {
        self.checking = false;
        if epoch != self.epoch {
            return Verdict::Same;
        }
        self.failed_in_row = self.failed_in_row.saturating_add(1);
        match self.state {
            State::Up { failures } if failures + 1 < settings.failures => {
                self.state = State::Up { failures: failures + 1 };
                self.probe_in(settings.probe_initial.min(settings.interval), now);
                Verdict::Same
            }
            State::Up { .. } | State::Starting => {
                self.goes_down(now, settings);
                let delay = self.grow_backoff(settings);
                self.probe_in(delay, now);
                Verdict::WentDown
            }
            State::Down { .. } => {
                self.state = State::Down { successes: 0 };
                let delay = self.grow_backoff(settings);
                self.probe_in(delay, now);
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
        self.goes_down(now, settings);
        let delay = if self.relapses > 0 { self.grow_backoff(settings) } else { Duration::ZERO };
        self.probe_in(delay, now);
        Verdict::WentDown
    }

    /// Its address is another one now: what was seen of the old one says nothing about it.
    pub fn moved(&mut self, now: Duration, settings: &HealthSettings) {
        self.epoch = self.epoch.wrapping_add(1);
        self.backoff = settings.probe_initial;
        self.relapses = 0;
        self.failed_in_row = 0;
        self.down_until = now;
        self.next_check = now;
        self.state = match self.state {
            State::Starting => State::Starting,
            State::Up { .. } => State::Up { failures: 0 },
            State::Down { .. } => State::Down { successes: 0 },
        };
    }

    fn goes_down(&mut self, now: Duration, settings: &HealthSettings) {
        self.state = State::Down { successes: 0 };
        self.down_at = Some(now);
        self.was_half_open = false;
        if self.recovered_at.is_some_and(|at| now.saturating_sub(at) < STABLE) {
            self.relapses = (self.relapses + 1).min(MOST_RELAPSES);
        } else {
            self.relapses = 0;
            self.backoff = settings.probe_initial;
        }
        self.down_until = now + self.least_down(settings);
    }

    /// How long it is down at least, this time.
    fn least_down(&self, settings: &HealthSettings) -> Duration {
        (settings.min_down * (1 << self.relapses)).min(settings.max_down.max(settings.min_down))
    }

    /// The delay now, and a longer one the next time.
    fn grow_backoff(&mut self, settings: &HealthSettings) -> Duration {
        let most = settings.probe_max.max(settings.probe_initial).min(settings.interval);
        let delay = self.backoff.max(settings.probe_initial).min(most);
        self.backoff = (delay * 3 / 2).min(most);
        delay
    }

    /// A tenth less to a tenth more.
    fn check_in(&mut self, delay: Duration, now: Duration) {
        let permille = self.random_between(900, 1100);
        self.next_check = now + delay * permille / 1000;
    }

    /// A twentieth to a half more, so that servers that went down together aren't checked together for ever.
    fn probe_in(&mut self, delay: Duration, now: Duration) {
        let permille = self.random_between(1050, 1500);
        self.next_check = now + delay * permille / 1000;
    }

    fn random_between(&mut self, least: u32, most: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        least + (self.random % u64::from(most - least + 1)) as u32
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
        probe_initial: Duration::from_millis(500),
        probe_max: Duration::from_secs(2),
        min_down: Duration::from_secs(1),
        max_down: Duration::from_secs(6),
    };

    #[derive(Clone, Copy)]
    enum Event {
        Pass,
        Fail,
        Suspect,
        Move,
    }
    use Event::{Fail, Move, Pass, Suspect};

    /// The delay to the next check, before chance has its say.
    #[derive(Clone, Copy)]
    enum Next {
        /// A regular check: a tenth less to a tenth more.
        Check(f64),
        /// A check of one in doubt: a twentieth to a half more.
        Probe(f64),
        /// The same, with the least time down, from when it went down, if that is longer.
        Least(f64),
    }
    use Next::{Check, Least, Probe};

    /// Plays events, each when its check is due; says what each brought about and the delay to the next check.
    fn check(events: &[(Event, Verdict, State, Next)]) {
        for seed in 0..50 {
            let mut now = Duration::from_secs(100);
            let mut health = Health::new(seed, now);
            assert!(health.is_up() && !health.is_proven());
            for (at, (event, verdict, state, next)) in events.iter().enumerate() {
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
                        health.moved(now, &SETTINGS);
                        Verdict::Same
                    }
                };
                assert_eq!((said, health.state()), (*verdict, *state), "event {at}, seed {seed}");
                let found = (health.next_check().expect("none under way") - now).as_secs_f64();
                let down_for = (now - health.down_at().unwrap_or(now)).as_secs_f64();
                let (least, most) = match next {
                    Check(delay) => (delay * 0.9, delay * 1.1),
                    Probe(delay) => (delay * 1.05, delay * 1.5),
                    Least(down) => ((down - down_for).max(0.5) * 1.05, (down - down_for).max(0.5) * 1.5),
                };
                assert!(
                    (least - 1e-6..=most + 1e-6).contains(&found),
                    "event {at}, seed {seed}: {found} for {least} to {most}"
                );
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
        check(&[(Pass, Verdict::CameUp, up(0), Check(10.0)), (Pass, Verdict::Same, up(0), Check(10.0))]);
        check(&[(Fail, Verdict::WentDown, down(0), Probe(0.5)), (Fail, Verdict::Same, down(0), Probe(0.75))]);
    }

    #[test]
    fn failures_in_a_row_take_it_down() {
        check(&[
            (Pass, Verdict::CameUp, up(0), Check(10.0)),
            (Fail, Verdict::Same, up(1), Probe(0.5)),
            (Fail, Verdict::Same, up(2), Probe(0.5)),
            (Pass, Verdict::Same, up(0), Check(10.0)),
            (Fail, Verdict::Same, up(1), Probe(0.5)),
            (Fail, Verdict::Same, up(2), Probe(0.5)),
            (Fail, Verdict::WentDown, down(0), Probe(0.5)),
        ]);
    }

    #[test]
    fn successes_in_a_row_bring_it_back() {
        check(&[
            (Fail, Verdict::WentDown, down(0), Probe(0.5)),
            (Pass, Verdict::HalfOpen, down(1), Least(1.0)),
            (Fail, Verdict::Same, down(0), Probe(0.75)),
            (Pass, Verdict::Same, down(1), Least(1.0)),
            (Pass, Verdict::CameUp, up(0), Check(10.0)),
        ]);
    }

    #[test]
    fn every_second_check_is_not_enough() {
        let mut events =
            vec![(Fail, Verdict::WentDown, down(0), Probe(0.5)), (Pass, Verdict::HalfOpen, down(1), Least(1.0))];
        for delay in [0.75, 1.125, 1.6875, 2.0, 2.0] {
            events.push((Fail, Verdict::Same, down(0), Probe(delay)));
            events.push((Pass, Verdict::Same, down(1), Least(1.0)));
        }
        check(&events);
        // And while it is up they take nothing out.
        let mut events = vec![(Pass, Verdict::CameUp, up(0), Check(10.0))];
        for _ in 0..5 {
            events.push((Fail, Verdict::Same, up(1), Probe(0.5)));
            events.push((Pass, Verdict::Same, up(0), Check(10.0)));
        }
        check(&events);
    }

    #[test]
    fn checks_of_a_dead_server_slow_down_to_the_longest_delay() {
        let mut events = vec![(Fail, Verdict::WentDown, down(0), Probe(0.5))];
        for delay in [0.75, 1.125, 1.6875, 2.0, 2.0, 2.0] {
            events.push((Fail, Verdict::Same, down(0), Probe(delay)));
        }
        check(&events);
    }

    #[test]
    fn a_suspicion_takes_it_down_at_once_and_is_always_answered() {
        check(&[
            (Pass, Verdict::CameUp, up(0), Check(10.0)),
            (Suspect, Verdict::WentDown, down(0), Probe(0.0)),
            (Suspect, Verdict::Again, down(0), Probe(0.0)),
            // The second check could bring it back, so it waits for the least time down.
            (Pass, Verdict::HalfOpen, down(1), Least(1.0)),
            (Suspect, Verdict::Again, down(1), Least(1.0)),
            (Pass, Verdict::CameUp, up(0), Check(10.0)),
        ]);
        check(&[(Suspect, Verdict::WentDown, down(0), Probe(0.0))]);
    }

    #[test]
    fn relapses_keep_it_down_longer_each_time() {
        check(&[
            (Pass, Verdict::CameUp, up(0), Check(10.0)),
            (Suspect, Verdict::WentDown, down(0), Probe(0.0)),
            (Pass, Verdict::HalfOpen, down(1), Least(1.0)),
            (Pass, Verdict::CameUp, up(0), Check(10.0)),
            (Suspect, Verdict::WentDown, down(0), Probe(0.5)),
            (Pass, Verdict::HalfOpen, down(1), Least(2.0)),
            (Pass, Verdict::CameUp, up(0), Check(10.0)),
            (Suspect, Verdict::WentDown, down(0), Probe(0.75)),
            (Pass, Verdict::HalfOpen, down(1), Least(4.0)),
            (Pass, Verdict::CameUp, up(0), Check(10.0)),
            (Suspect, Verdict::WentDown, down(0), Probe(1.125)),
            // Not 8: `max_down`.
            (Pass, Verdict::HalfOpen, down(1), Least(6.0)),
            (Pass, Verdict::CameUp, up(0), Check(10.0)),
            // Seven checks later it has been up for more than a minute.
            (Pass, Verdict::Same, up(0), Check(10.0)),
            (Pass, Verdict::Same, up(0), Check(10.0)),
            (Pass, Verdict::Same, up(0), Check(10.0)),
            (Pass, Verdict::Same, up(0), Check(10.0)),
            (Pass, Verdict::Same, up(0), Check(10.0)),
            (Pass, Verdict::Same, up(0), Check(10.0)),
            (Pass, Verdict::Same, up(0), Check(10.0)),
            (Suspect, Verdict::WentDown, down(0), Probe(0.0)),
            (Pass, Verdict::HalfOpen, down(1), Least(1.0)),
        ]);
    }

    #[test]
    fn with_one_success_wanted_the_least_time_down_holds_too() {
        let settings = HealthSettings { successes: 1, ..SETTINGS };
        let second = Duration::from_secs(1);
        let mut health = Health::new(3, second);
        assert_eq!(health.suspected(second, &settings), Verdict::WentDown);
        let epoch = health.check_begins();
        assert_eq!(health.passed(epoch, second, &settings), Verdict::HalfOpen);
        let due = health.next_check().expect("none under way");
        assert!(due >= 2 * second, "{due:?}");
        let epoch = health.check_begins();
        assert_eq!(health.passed(epoch, due, &settings), Verdict::CameUp);
    }

    #[test]
    fn a_new_address_is_checked_at_once() {
        check(&[
            (Fail, Verdict::WentDown, down(0), Probe(0.5)),
            (Fail, Verdict::Same, down(0), Probe(0.75)),
            (Move, Verdict::Same, down(0), Probe(0.0)),
            (Fail, Verdict::Same, down(0), Probe(0.5)),
        ]);
        check(&[(Pass, Verdict::CameUp, up(0), Check(10.0)), (Move, Verdict::Same, up(0), Check(0.0))]);
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
        health.moved(now, &SETTINGS);
        assert_eq!(health.failed(stale, now, &SETTINGS), Verdict::Same);
        assert_eq!(health.next_check(), Some(now));
    }
}
