//! What pools do with the health of their servers: who is left out, who is asked all the same, who comes back by and by.
//!
//! A server has one health; in each of its pools it stands as that pool's rules say:
//!
//! ```text
//!        goes down                        comes up, `min_ejected` over
//!   In ─────────────► Out ──────────────────────────────────────────────► Returning ──► In
//!    │                 ▲ the pool closes                                  share grows over `slow_start`
//!    └───────────────► Exempt ─── comes up ───► In
//!      goes down while the pool fails open
//! ```
//!
//! A pool fails open once `upper` of its servers are down: those that go down from then on are asked all the same, until no
//! more than `lower` are down. A pool that rehashes ejects `max_ejected` servers at most, those that went down first; the
//! keys of the others fail instead of burying the rest of the pool.
//!
//! Decides only: takes who is healthy and the time, says whose standing changed.

use crate::table::{ServerKey, Standing, WhenDown};
use keyway_policies::ServerId;
use std::collections::HashMap;
use std::time::Duration;

/// Steps in which a returning server's share grows.
const SLOW_START_STEPS: u32 = 10;

/// What a pool does about servers that are down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolRules {
    /// True when the keys of a server that is down go to others: it is ejected.
    pub rehash: bool,
    /// When the pool fails open, if ever.
    pub fail_open: Option<FailOpen>,
    /// Most servers ejected at once.
    pub max_ejected: usize,
    /// Least time a server is left out.
    pub min_ejected: Duration,
    /// How long a server takes to get all its keys back; only where the others take them meanwhile.
    pub slow_start: Duration,
}

/// Numbers of a pool's servers that are down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailOpen {
    /// From this on, those that go down are asked all the same.
    pub upper: usize,
    /// No more than this, and nobody is.
    pub lower: usize,
}

/// A pool to be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedPool {
    /// The configured name.
    pub name: String,
    /// Its rules.
    pub rules: PoolRules,
    /// Its servers, in order: their places in the table, and whose health counts.
    pub servers: Vec<(ServerId, ServerKey)>,
}

/// What became of a pool, or of a server in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolChange {
    /// The pool fails open.
    Opened {
        /// Its servers that are down.
        down: usize,
    },
    /// It no longer does.
    Closed {
        /// Its servers that are down.
        down: usize,
    },
    /// A server is down and asked all the same.
    Exempt(ServerKey),
    /// A server is down and its keys fail, because the pool has ejected as many as it may.
    Held(ServerKey),
    /// A server that was left out gets the first of its keys back.
    Returns(ServerKey),
    /// A server that returned has all its keys.
    Returned(ServerKey),
}

/// What follows from an update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For the shards.
    pub standings: Vec<(ServerId, Standing)>,
    /// For the log, each with the pool's name.
    pub changes: Vec<(String, PoolChange)>,
}

/// What a pool's metrics show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCount {
    /// Servers whose keys go elsewhere, or fail.
    pub left_out: usize,
    /// True while it fails open.
    pub open: bool,
}

/// All pools.
#[derive(Debug, Default)]
pub struct Standings {
    pools: Vec<Pool>,
    due: Option<Duration>,
}

#[derive(Debug)]
struct Pool {
    name: String,
    rules: PoolRules,
    open: bool,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    id: ServerId,
    key: ServerKey,
    place: Place,
    /// As the shards were told last.
    told: Standing,
    /// Out, and its keys fail.
    held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    In,
    Out { since: Duration },
    Exempt,
    Returning { since: Duration },
}

impl Standings {
    /// None yet.
    pub fn new() -> Standings {
        Standings::default()
    }

    /// These pools and no others from now on. What is known of a server in a pool of the same name is kept. Shards take
    /// every server of a new table for `Standing::default`, so `update` is to follow.
    pub fn adopt(&mut self, pools: Vec<WatchedPool>) {
        let mut before: HashMap<String, Pool> = self.pools.drain(..).map(|pool| (pool.name.clone(), pool)).collect();
        for pool in pools {
            let (open, known) = match before.remove(&pool.name) {
                Some(known) => (known.open, known.members),
                None => (false, Vec::new()),
            };
            let known: HashMap<ServerKey, Member> = known.into_iter().map(|member| (member.key, member)).collect();
            let members = pool.servers.into_iter().map(|(id, key)| {
                let (place, held) = known.get(&key).map_or((Place::In, false), |member| (member.place, member.held));
                Member { id, key, place, told: Standing::default(), held }
            });
            let open = open && pool.rules.fail_open.is_some();
            self.pools.push(Pool { name: pool.name, rules: pool.rules, open, members: members.collect() });
        }
    }

    /// What follows from who is healthy now. `is_up` is asked for every server of every pool.
    pub fn update(&mut self, is_up: impl Fn(ServerKey) -> bool, now: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        for pool in &mut self.pools {
            let mut changes = Vec::new();
            pool.move_members(&is_up, now, &mut changes);
            pool.tell(now, &mut outcome.standings, &mut changes);
            outcome.changes.extend(changes.into_iter().map(|change| (pool.name.clone(), change)));
        }
        let due = |pool: &Pool| pool.members.iter().filter_map(|member| pool.next_due(member, now)).min();
        self.due = self.pools.iter().filter_map(due).min();
        outcome
    }

    /// When the next update is due although nobody's health changed.
    pub fn next_due(&self) -> Option<Duration> {
        self.due
    }

    /// What the metrics show of each pool, in order.
    pub fn counts(&self) -> Vec<PoolCount> {
        self.pools.iter().map(|pool| PoolCount { left_out: pool.count_out(), open: pool.open }).collect()
    }
}

impl Pool {
    /// Moves every member to its place, and opens or closes the pool.
    fn move_members(&mut self, is_up: &impl Fn(ServerKey) -> bool, now: Duration, changes: &mut Vec<PoolChange>) {
        let rules = self.rules;
        let mut down = 0;
        for member in &mut self.members {
            if is_up(member.key) {
                member.comes_up(&rules, now, changes);
            } else if !matches!(member.place, Place::In | Place::Returning { .. }) {
                down += 1;
            }
        }
        if let Some(fail_open) = rules.fail_open
            && self.open
            && down <= fail_open.lower
        {
            self.open = false;
            changes.push(PoolChange::Closed { down });
        }
        for member in &mut self.members {
            if member.place == Place::Exempt && !self.open {
                member.place = Place::Out { since: now };
            }
            if matches!(member.place, Place::In | Place::Returning { .. }) && !is_up(member.key) {
                if self.open {
                    member.place = Place::Exempt;
                    changes.push(PoolChange::Exempt(member.key));
                } else {
                    member.place = Place::Out { since: now };
                }
                down += 1;
            }
            if let Some(fail_open) = rules.fail_open
                && !self.open
                && down >= fail_open.upper
            {
                self.open = true;
                changes.push(PoolChange::Opened { down });
            }
        }
    }

    /// Tells whose standing isn't what the shards know.
    fn tell(&mut self, now: Duration, standings: &mut Vec<(ServerId, Standing)>, changes: &mut Vec<PoolChange>) {
        let held = self.held();
        let may_eject_more = !self.rules.rehash || self.count_out() < self.rules.max_ejected;
        for (member, held) in self.members.iter_mut().zip(held) {
            if held && !member.held {
                changes.push(PoolChange::Held(member.key));
            }
            member.held = held;
            let when_down = match member.place {
                Place::Exempt => WhenDown::Asked,
                Place::Out { .. } if held => WhenDown::Fails,
                Place::Out { .. } => WhenDown::LeftOut,
                // What is to hold when a shard takes it for down, before it is heard of here.
                Place::In | Place::Returning { .. } if self.open => WhenDown::Asked,
                Place::In | Place::Returning { .. } if may_eject_more => WhenDown::LeftOut,
                Place::In | Place::Returning { .. } => WhenDown::Fails,
            };
            let share = match member.place {
                Place::In | Place::Exempt => Standing::ALL,
                Place::Out { .. } => 0,
                Place::Returning { since } => share_after(now.saturating_sub(since), self.rules.slow_start),
            };
            let standing = Standing { share, when_down };
            if standing != member.told {
                member.told = standing;
                standings.push((member.id, standing));
            }
        }
    }

    /// For each member, whether it is out but not ejected: it went out when `max_ejected` others were.
    fn held(&self) -> Vec<bool> {
        let since = |at: &usize| match self.members[*at].place {
            Place::Out { since } => Some(since),
            Place::In | Place::Exempt | Place::Returning { .. } => None,
        };
        let mut held = vec![false; self.members.len()];
        if self.rules.rehash {
            let mut out: Vec<usize> = (0..self.members.len()).filter(|at| since(at).is_some()).collect();
            // Stable: of those that went together, the first in the pool.
            out.sort_by_key(since);
            for at in out.into_iter().skip(self.rules.max_ejected) {
                held[at] = true;
            }
        }
        held
    }

    fn count_out(&self) -> usize {
        self.members.iter().filter(|member| matches!(member.place, Place::Out { .. })).count()
    }

    fn next_due(&self, member: &Member, now: Duration) -> Option<Duration> {
        match member.place {
            Place::In | Place::Exempt => None,
            // One that is down waits for its health instead.
            Place::Out { since } => Some(since + self.rules.min_ejected).filter(|at| *at > now),
            Place::Returning { since } => {
                let step = (self.rules.slow_start / SLOW_START_STEPS).max(Duration::from_millis(1));
                let steps = now.saturating_sub(since).as_nanos() / step.as_nanos() + 1;
                Some(since + step * u32::try_from(steps).unwrap_or(SLOW_START_STEPS))
            }
        }
    }
}

impl Member {
    fn comes_up(&mut self, rules: &PoolRules, now: Duration, changes: &mut Vec<PoolChange>) {
        match self.place {
            Place::In => {}
            // Its keys never went elsewhere.
            Place::Exempt => self.place = Place::In,
            Place::Out { .. } if self.held => self.place = Place::In,
            Place::Out { since } if now < since + rules.min_ejected => {}
            Place::Out { .. } if rules.rehash && !rules.slow_start.is_zero() => {
                self.place = Place::Returning { since: now };
                changes.push(PoolChange::Returns(self.key));
            }
            Place::Out { .. } => self.place = Place::In,
            Place::Returning { since } => {
                if share_after(now.saturating_sub(since), rules.slow_start) == Standing::ALL {
                    self.place = Place::In;
                    changes.push(PoolChange::Returned(self.key));
                }
            }
        }
    }
}

/// A tenth of the keys at once, and another one after each tenth of the time.
fn share_after(passed: Duration, slow_start: Duration) -> u8 {
    let step = (slow_start / SLOW_START_STEPS).max(Duration::from_millis(1));
    let steps = (passed.as_nanos() / step.as_nanos()).min(u128::from(SLOW_START_STEPS) - 1) as u32 + 1;
    (u32::from(Standing::ALL) * steps / SLOW_START_STEPS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use WhenDown::{Asked, Fails, LeftOut};

    const RULES: PoolRules = PoolRules {
        rehash: true,
        fail_open: None,
        max_ejected: 2,
        min_ejected: Duration::ZERO,
        slow_start: Duration::ZERO,
    };

    /// A pool of four, which has keys 10 to 13 at places 0 to 3.
    fn pool(rules: PoolRules) -> WatchedPool {
        let servers = (0..4).map(|at| (ServerId(at), ServerKey(10 + at))).collect();
        WatchedPool { name: "web".to_string(), rules, servers }
    }

    struct Game {
        standings: Standings,
        told: [Standing; 4],
    }

    impl Game {
        fn new(rules: PoolRules) -> Game {
            let mut standings = Standings::new();
            standings.adopt(vec![pool(rules)]);
            Game { standings, told: [Standing::default(); 4] }
        }

        /// `up` has a `+` for each server that is healthy. Returns the share of each server's keys that it gets, or what
        /// becomes of them.
        fn at(&mut self, seconds: u64, up: &str) -> (String, Vec<PoolChange>) {
            let up: Vec<bool> = up.chars().map(|c| c == '+').collect();
            let outcome = self.standings.update(|key| up[key.0 as usize - 10], Duration::from_secs(seconds));
            for (id, standing) in outcome.standings {
                assert_ne!(self.told[id.0 as usize], standing, "told for nothing");
                self.told[id.0 as usize] = standing;
            }
            let shown =
                self.told.iter().zip(up).map(|(standing, up)| match (standing.share_now(up), standing.is_asked(up)) {
                    (0, _) => "out".to_string(),
                    (_, false) => "fails".to_string(),
                    (255, true) => if up { "in" } else { "asked" }.to_string(),
                    (share, true) => share.to_string(),
                });
            let shown = shown.collect::<Vec<_>>().join(" ");
            (shown, outcome.changes.into_iter().map(|(_, change)| change).collect())
        }

        fn check(&mut self, seconds: u64, up: &str, expected: &str, changes: &[PoolChange]) {
            assert_eq!(self.at(seconds, up), (expected.to_string(), changes.to_vec()), "{seconds}: {up}");
        }
    }

    use PoolChange::{Closed, Exempt, Held, Opened, Returned, Returns};
    const fn key(at: u32) -> ServerKey {
        ServerKey(10 + at)
    }

    #[test]
    fn who_is_down_is_left_out_and_comes_back() {
        let mut game = Game::new(RULES);
        game.check(0, "++++", "in in in in", &[]);
        game.check(1, "+-++", "in out in in", &[]);
        game.check(2, "++++", "in in in in", &[]);
        assert_eq!(game.standings.next_due(), None);
    }

    #[test]
    fn a_pool_ejects_so_many_and_the_keys_of_the_others_fail() {
        let mut game = Game::new(RULES);
        game.check(1, "++-+", "in in out in", &[]);
        game.check(2, "-+-+", "out in out in", &[]);
        // A shard that takes another one for down does the same before it is heard.
        assert_eq!(game.told[1].when_down, Fails);
        game.check(3, "---+", "out fails out in", &[Held(key(1))]);
        // The first to have gone returns: the one that was held is ejected in its place.
        game.check(4, "--++", "out out in in", &[]);
        game.check(5, "---+", "out out fails in", &[Held(key(2))]);
        game.check(6, "++++", "in in in in", &[]);
        // Without ejection there is nothing to bound.
        let mut game = Game::new(PoolRules { rehash: false, ..RULES });
        game.check(1, "---+", "out out out in", &[]);
        assert_eq!(game.told[3].when_down, LeftOut);
    }

    #[test]
    fn a_pool_fails_open_from_upper_to_lower() {
        let fail_open = Some(FailOpen { upper: 2, lower: 1 });
        let mut game = Game::new(PoolRules { rehash: false, fail_open, ..RULES });
        game.check(1, "-+++", "out in in in", &[]);
        game.check(2, "--++", "out out in in", &[Opened { down: 2 }]);
        assert_eq!((game.told[2].when_down, game.told[3].when_down), (Asked, Asked));
        game.check(3, "---+", "out out asked in", &[Exempt(key(2))]);
        game.check(4, "----", "out out asked asked", &[Exempt(key(3))]);
        game.check(5, "+---", "in out asked asked", &[]);
        game.check(6, "++--", "in in asked asked", &[]);
        assert_eq!(game.standings.counts(), [PoolCount { left_out: 0, open: true }]);
        game.check(7, "+++-", "in in in out", &[Closed { down: 1 }]);
        game.check(8, "++++", "in in in in", &[]);
        // Many at once: `upper` of them are left out.
        game.check(9, "----", "out out asked asked", &[Opened { down: 2 }, Exempt(key(2)), Exempt(key(3))]);
        game.check(10, "++++", "in in in in", &[Closed { down: 0 }]);
    }

    #[test]
    fn a_share_grows_in_tenths() {
        let mut game = Game::new(PoolRules { slow_start: Duration::from_secs(100), ..RULES });
        game.check(0, "-+++", "out in in in", &[]);
        game.check(50, "++++", "25 in in in", &[Returns(key(0))]);
        let mut shares = Vec::new();
        while let Some(due) = game.standings.next_due() {
            let (shown, changes) = game.at(due.as_secs(), "++++");
            let first = shown.split(' ').next().unwrap_or_default().to_string();
            assert_eq!(changes.is_empty(), first != "in");
            shares.push((due.as_secs(), first));
        }
        let expected = [(60, "51"), (70, "76"), (80, "102"), (90, "127"), (100, "153"), (110, "178"), (120, "204")];
        assert_eq!(&shares[..7], expected.map(|(at, share)| (at, share.to_string())));
        assert_eq!(&shares[7..], [(130, "229".to_string()), (140, "in".to_string())]);
        // A relapse on the way starts it anew.
        game.check(200, "-+++", "out in in in", &[]);
        game.check(201, "++++", "25 in in in", &[Returns(key(0))]);
        game.check(232, "++++", "102 in in in", &[]);
        game.check(233, "-+++", "out in in in", &[]);
        game.check(234, "++++", "25 in in in", &[Returns(key(0))]);
        game.check(324, "++++", "in in in in", &[Returned(key(0))]);
    }

    #[test]
    fn an_ejected_server_stays_out_for_its_time() {
        let mut game = Game::new(PoolRules { min_ejected: Duration::from_secs(30), ..RULES });
        game.check(10, "-+++", "out in in in", &[]);
        game.check(11, "++++", "out in in in", &[]);
        assert_eq!(game.standings.next_due(), Some(Duration::from_secs(40)));
        game.check(39, "++++", "out in in in", &[]);
        game.check(40, "++++", "in in in in", &[]);
        // One whose keys fail helps nobody by waiting.
        game.check(50, "-+++", "out in in in", &[]);
        game.check(51, "---+", "out out fails in", &[Held(key(2))]);
        game.check(52, "--++", "out out in in", &[]);
    }

    #[test]
    fn a_reload_keeps_what_is_known_of_a_pool_of_the_same_name() {
        let fail_open = Some(FailOpen { upper: 1, lower: 0 });
        let rules = PoolRules { rehash: false, fail_open, ..RULES };
        let mut game = Game::new(rules);
        game.check(1, "-+++", "out in in in", &[Opened { down: 1 }]);
        game.check(2, "--++", "out asked in in", &[Exempt(key(1))]);
        game.standings.adopt(vec![pool(rules)]);
        game.told = [Standing::default(); 4];
        game.check(3, "--++", "out asked in in", &[]);
        // Without the rule nobody is exempt.
        game.standings.adopt(vec![pool(PoolRules { fail_open: None, ..rules })]);
        game.told = [Standing::default(); 4];
        game.check(4, "--++", "out out in in", &[]);
    }
}
