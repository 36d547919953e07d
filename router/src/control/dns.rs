//! Names of servers: when to look one up again, and which of the answers to use. Decides only; `lookups` does.
//!
//! A name with several addresses (round robin) is one server: its address stays as long as it is among the answers, in
//! whatever order they come, so that nothing reconnects because a name server shuffles. It moves when the address is no
//! longer given out, or when the server is down and another address answers. A failed lookup changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

/// Most answers looked at.
pub const MAX_ANSWERS: usize = 16;
/// First delay after a failed lookup; doubled each time, up to the configured time to live.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time between lookups of a server that is down: its name may have moved with it.
const WHILE_DOWN: Duration = Duration::from_secs(5);

/// What to do with the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Go on with the current address.
    Keep,
    /// Use this one.
    Take(SocketAddr),
    /// Use the first of these that answers a check; `settle` says what holds when none does.
    Try(Vec<SocketAddr>),
}

/// Which address to use, now that `answers` are known. `up` tells whether the server at the current one is.
pub fn choose(current: Option<SocketAddr>, up: bool, answers: &[SocketAddr]) -> Choice {
    let mut candidates: Vec<SocketAddr> = Vec::new();
    for answer in answers.iter().take(MAX_ANSWERS) {
        if Some(*answer) != current && !candidates.contains(answer) {
            candidates.push(*answer);
        }
    }
    let still_given = current.is_some_and(|current| answers.contains(&current));
    match (current, candidates.as_slice()) {
        (_, []) => Choice::Keep,
        (Some(_), _) if still_given && up => Choice::Keep,
        (None, [only]) => Choice::Take(*only),
        _ => Choice::Try(candidates),
    }
}

/// Which address to use, now that `tried` were checked and `answered` is the first that did.
pub fn settle(
    current: Option<SocketAddr>,
    up: bool,
    still_given: bool,
    tried: &[SocketAddr],
    answered: Option<SocketAddr>,
) -> Option<SocketAddr> {
    match (answered, current) {
        (Some(answered), _) => Some(answered),
        // The old one still serves, or is as good as any of those that don't answer.
        (None, Some(current)) if up || still_given => Some(current),
        (None, _) => tried.first().copied().or(current),
    }
}

/// When a name is looked up. Times are since the process started.
#[derive(Debug)]
pub struct Lookups {
    next: Duration,
    last: Option<Duration>,
    busy: bool,
    retry: Duration,
}

impl Lookups {
    /// Of a name that is to be looked up at once.
    pub fn new(now: Duration) -> Lookups {
        Lookups { next: now, last: None, busy: false, retry: RETRY }
    }

    /// When the next lookup is due; `None` while one is under way.
    pub fn next(&self) -> Option<Duration> {
        (!self.busy).then_some(self.next)
    }

    /// A lookup begins.
    pub fn begins(&mut self, now: Duration) {
        self.busy = true;
        self.last = Some(now);
    }

    /// The lookup, and the trying of its answers, is over.
    pub fn ended(&mut self, found: bool, up: bool, now: Duration, ttl: Duration) {
        self.busy = false;
        let delay = if found {
            self.retry = RETRY;
            if up { ttl } else { ttl.min(WHILE_DOWN) }
        } else {
            let delay = self.retry;
            self.retry *= 2;
            delay
        };
        self.retry = self.retry.min(ttl.max(RETRY));
        self.next = now + delay.min(ttl);
    }

    /// The server went down: its name may have moved. Brings the next lookup forward, but not to before a second after
    /// the last.
    pub fn hurry(&mut self, now: Duration) {
        let earliest = self.last.map_or(now, |last| (last + RETRY).max(now));
        self.next = self.next.min(earliest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|address| address.parse().expect("an address")).collect()
    }

    fn address(text: &str) -> Option<SocketAddr> {
        addresses(text).first().copied()
    }

    const A: &str = "10.0.0.1:11211";
    const B: &str = "10.0.0.2:11211";
    const AB: &str = "10.0.0.1:11211 10.0.0.2:11211";
    const BA: &str = "10.0.0.2:11211 10.0.0.1:11211";
    const SIX: &str = "[fd00::1]:11211";

    #[test]
    fn choices() {
        let take = |text| Choice::Take(address(text).expect("one"));
        let try_these = |text| Choice::Try(addresses(text));
        for (current, up, answers, expected, why) in [
            ("", true, A, take(A), "the only answer"),
            ("", true, SIX, take(SIX), "IPv6 alone is fine"),
            ("", true, AB, try_these(AB), "the first that answers"),
            ("", true, "", Choice::Keep, "nothing to choose from"),
            (A, true, A, Choice::Keep, "unchanged"),
            (A, true, BA, Choice::Keep, "shuffled"),
            (A, true, AB, Choice::Keep, "still among them"),
            (A, true, B, try_these(B), "no longer given out"),
            (A, true, "", Choice::Keep, "an empty answer is a failed lookup"),
            (A, false, A, Choice::Keep, "down and nothing else"),
            (A, false, BA, try_these(B), "down, and there is another"),
            (A, false, B, try_these(B), "down and no longer given out"),
            ("", true, "10.0.0.1:11211 10.0.0.1:11211", take(A), "the same twice"),
        ] {
            assert_eq!(choose(address(current), up, &addresses(answers)), expected, "{why}");
        }
    }

    #[test]
    fn answers_are_bounded() {
        let many: Vec<SocketAddr> = (1..=200).map(|n| SocketAddr::from(([10, 0, 0, n], 1))).collect();
        assert_eq!(choose(None, true, &many), Choice::Try(many[..MAX_ANSWERS].to_vec()));
        // Also what is current may come late in a long list.
        assert_eq!(choose(Some(many[150]), true, &many), Choice::Keep);
    }

    #[test]
    fn settling() {
        for (current, up, still_given, tried, answered, expected, why) in [
            ("", true, false, AB, B, B, "the one that answered"),
            ("", true, false, AB, "", A, "none answers: the first, so that there is one to check"),
            (A, true, false, B, "", A, "the old one still serves"),
            (A, false, false, B, "", B, "the old one is gone and down"),
            (A, false, true, B, "", A, "both are dead"),
            (A, false, true, B, B, B, "the other one lives"),
        ] {
            let settled = settle(address(current), up, still_given, &addresses(tried), address(answered));
            assert_eq!(settled, address(expected), "{why}");
        }
    }

    #[test]
    fn times_of_lookups() {
        let seconds = Duration::from_secs;
        let ttl = seconds(30);
        let mut lookups = Lookups::new(seconds(10));
        assert_eq!(lookups.next(), Some(seconds(10)));
        lookups.begins(seconds(10));
        assert_eq!(lookups.next(), None);
        for (now, delay) in [(11, 1), (20, 2), (30, 4), (40, 8), (50, 16), (90, 30), (130, 30)] {
            lookups.begins(seconds(now));
            lookups.ended(false, true, seconds(now), ttl);
            assert_eq!(lookups.next(), Some(seconds(now + delay)), "failed at {now}");
        }
        lookups.ended(true, true, seconds(200), ttl);
        assert_eq!(lookups.next(), Some(seconds(230)));
        lookups.ended(false, true, seconds(230), ttl);
        assert_eq!(lookups.next(), Some(seconds(231)), "a success resets the delay");
        lookups.begins(seconds(231));
        lookups.ended(true, true, seconds(231), ttl);
        lookups.hurry(seconds(231));
        assert_eq!(lookups.next(), Some(seconds(232)), "not sooner than a second after the last");
        lookups.hurry(seconds(240));
        assert_eq!(lookups.next(), Some(seconds(232)), "never later");
        lookups.ended(true, false, seconds(240), ttl);
        assert_eq!(lookups.next(), Some(seconds(245)), "more often while down");
    }
}
