//! What a pool says about servers that are down or come back: fail-open, ejection, slow start.
//!
//! Numbers come out as counts of the pool's servers, so that nobody after this knows of percent.

use super::error::{Faults, Path};
use super::keys::TKO_TRACKER;
use super::reader::Map;
use keyway_policies::OnDown;
use std::time::Duration;

/// What becomes of a pool's servers that are down, or come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Numbers of servers down from which, and down to which, the pool fails open.
    pub fail_open: Option<(usize, usize)>,
    /// Most servers ejected at once.
    pub max_ejected: usize,
    /// Least time a server is ejected.
    pub min_ejected: Duration,
    /// How long a server takes to get all its keys back.
    pub slow_start: Duration,
}

/// Reads a pool's keys; beside them the failures that take one of its servers out, where the pool says. `ejects` tells whether
/// twemproxy's `auto_eject_hosts` is on.
pub(super) fn read(
    pool: &Map<'_, '_>,
    on_down: OnDown,
    ejects: bool,
    servers: usize,
    faults: &mut Faults,
) -> (Ejection, Option<u32>) {
    let percent = pool.number("max_ejected_percent", faults);
    let slow_start_ms = pool.number("slow_start_ms", faults);
    let retry_ms = pool.given_number("server_retry_timeout", faults);
    let failure_limit = pool.given_number("server_failure_limit", faults);
    // As with twemproxy: without ejection they are allowed, and say nothing.
    let rehashes = on_down == OnDown::Rehash;
    let ejection = Ejection {
        fail_open: read_fail_open(pool, servers, faults),
        max_ejected: share_of(servers, percent).max(1),
        min_ejected: Duration::from_millis(retry_ms.filter(|_| ejects).unwrap_or(0)),
        slow_start: Duration::from_millis(if rehashes { slow_start_ms } else { 0 }),
    };
    (ejection, failure_limit.filter(|_| ejects).and_then(|limit| u32::try_from(limit).ok()))
}

fn read_fail_open(pool: &Map<'_, '_>, servers: usize, faults: &mut Faults) -> Option<(usize, usize)> {
    let node = pool.find("tko_tracker")?;
    let path = Path::Key(pool.path, "tko_tracker");
    let map = Map::read(node, &TKO_TRACKER, &path, faults);
    let mut threshold = |number: &str, percent: &str, least: usize| {
        // As with mcrouter, a number goes before a percentage.
        let given = map.given_number(number, faults).map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        let share = map.given_number(percent, faults).map(|percent| share_of(servers, percent).max(least));
        given.or(share)
    };
    let upper = threshold("num_tko_threshold_upper", "percent_tko_threshold_upper", 1);
    let lower = threshold("num_tko_threshold_lower", "percent_tko_threshold_lower", 0);
    match (upper, lower) {
        (Some(upper), Some(lower)) if lower < upper => Some((upper, lower)),
        (Some(upper), Some(lower)) => {
            let problem = format!("the lower threshold, {lower} servers, isn't below the upper one, {upper}");
            faults.at(node.position, path, problem, String::new());
            None
        }
        // A number that is given and wrong was noted already; this doesn't make it worse.
        _ => {
            let allowed = "an upper and a lower threshold, each by num or by percent".to_owned();
            faults.at(node.position, path, "a threshold is missing".to_owned(), allowed);
            None
        }
    }
}

fn share_of(servers: usize, percent: u64) -> usize {
    servers * usize::try_from(percent).unwrap_or(100) / 100
}
