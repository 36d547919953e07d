//! The fleet told results and the time.

use super::*;
use crate::control::standing::PoolRules;
use crate::table::WhenDown;
use crate::trouble::Rule;

const SETTINGS: FleetSettings = FleetSettings {
    health: HealthSettings {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        failures: 3,
        successes: 2,
        probe_initial: Duration::from_millis(500),
        probe_max: Duration::from_secs(2),
        min_down: Duration::from_secs(1),
        max_down: Duration::from_secs(10),
    },
    dns_ttl: Duration::from_secs(30),
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn socket(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 11211))
}

fn fixed(n: u8, keys: &[u32]) -> WatchedServer {
    let target = Target::Address(Address::Tcp(socket(n)));
    WatchedServer { host: socket(n).to_string(), target, keys: keys.iter().copied().map(ServerKey).collect() }
}

fn named(name: &str, key: u32) -> WatchedServer {
    let target = Target::Name(name.to_string(), 11211);
    WatchedServer { host: format!("{name}:11211"), target, keys: vec![ServerKey(key)] }
}

fn actions(fleet: &mut Fleet, now: Duration) -> Vec<Action> {
    std::iter::from_fn(|| fleet.action(now)).collect()
}

fn publish(key: u32, up: bool, at: Option<u8>) -> Action {
    publish_why(key, up, None, at)
}

fn publish_why(key: u32, up: bool, why: Option<Trouble>, at: Option<u8>) -> Action {
    Action::Publish { keys: vec![ServerKey(key)], up, held: false, why, address: at.map(|n| Address::Tcp(socket(n))) }
}

fn refused() -> Result<(), FailedCheck> {
    Err(FailedCheck { trouble: Trouble::Refused, words: "connecting failed".to_string() })
}

const LATE: Suspicion = Suspicion { rule: Rule::InARow(3), last: Trouble::Timeout };

fn check(id: u64, epoch: u32, n: u8) -> Action {
    Action::Check { id, epoch, address: Address::Tcp(socket(n)) }
}

fn look_up(id: u64, name: &str) -> Action {
    Action::LookUp { id, name: name.to_string(), port: 11211 }
}

#[test]
fn a_server_is_published_checked_and_followed() {
    let mut fleet = Fleet::new(SETTINGS);
    assert_eq!(fleet.next_due(), None);
    fleet.adopt(vec![fixed(1, &[0, 7])], SETTINGS, seconds(0));
    let both = |up, why| Action::Publish {
        keys: vec![ServerKey(0), ServerKey(7)],
        up,
        held: false,
        why,
        address: Some(Address::Tcp(socket(1))),
    };
    assert_eq!(actions(&mut fleet, seconds(0)), [both(true, None), check(1, 0, 1)]);
    assert_eq!((fleet.next_due(), fleet.count_proven()), (None, (1, 0)));
    fleet.checked(1, 0, refused(), seconds(1));
    assert_eq!(actions(&mut fleet, seconds(1)), [both(false, Some(Trouble::Refused))]);
    assert_eq!(fleet.up_by_key(8), [false; 8]);
    for at in [2, 3] {
        assert_eq!(actions(&mut fleet, seconds(at)), [check(1, 0, 1)]);
        fleet.checked(1, 0, Ok(()), seconds(at));
    }
    assert_eq!(actions(&mut fleet, seconds(3)), [both(true, None)]);
    assert_eq!(fleet.up_by_key(8), [true, false, false, false, false, false, false, true]);
    // Either key will do for a suspicion, and a second one is answered although nothing changes.
    fleet.suspected(0, ServerKey(7), LATE, seconds(4));
    fleet.suspected(1, ServerKey(0), LATE, seconds(4));
    fleet.suspected(1, ServerKey(99), LATE, seconds(4));
    assert_eq!(
        actions(&mut fleet, seconds(4)),
        [both(false, Some(Trouble::Timeout)), both(false, Some(Trouble::Timeout))]
    );
    let facts = fleet.facts();
    assert_eq!((facts[0].downs, facts[0].checks_ok, facts[0].checks_failed, facts[0].up), (2, 2, 1, false));
}

#[test]
fn a_server_that_comes_back_is_held_until_it_is_released() {
    let mut fleet = Fleet::new(SETTINGS);
    fleet.hold_returning(true);
    fleet.adopt(vec![fixed(1, &[0])], SETTINGS, seconds(0));
    let held = |why| Action::Publish {
        keys: vec![ServerKey(0)],
        up: false,
        held: true,
        why,
        address: Some(Address::Tcp(socket(1))),
    };
    assert_eq!(actions(&mut fleet, seconds(0)), [publish(0, true, Some(1)), check(1, 0, 1)]);
    fleet.checked(1, 0, Ok(()), seconds(0));
    assert_eq!(actions(&mut fleet, seconds(0)), [publish(0, true, Some(1))], "the first check is no return");

    fleet.suspected(0, ServerKey(0), LATE, seconds(1));
    fleet.release(ServerKey(0), seconds(1));
    let down = publish_why(0, false, Some(Trouble::Timeout), Some(1));
    assert_eq!(actions(&mut fleet, seconds(2)), [down.clone(), check(1, 1, 1)], "what is down isn't released");
    for at in [2, 3] {
        fleet.checked(1, 1, Ok(()), seconds(at));
        actions(&mut fleet, seconds(at + 1))
            .into_iter()
            .for_each(|action| assert_ne!(action, publish(0, true, Some(1))));
    }
    assert_eq!((fleet.up_by_key(1), fleet.facts()[0].up, fleet.count_proven()), (vec![false], false, (1, 1)));
    fleet.release(ServerKey(0), seconds(5));
    fleet.release(ServerKey(0), seconds(5));
    assert_eq!(actions(&mut fleet, seconds(5)), [publish(0, true, Some(1))]);

    fleet.hold(ServerKey(0), seconds(6));
    assert_eq!(actions(&mut fleet, seconds(6)), [held(None)]);
    assert_eq!(fleet.up_by_key(1), [false]);
    fleet.suspected(0, ServerKey(0), LATE, seconds(7));
    assert_eq!(actions(&mut fleet, seconds(7)), [down]);
}

#[test]
fn checks_under_way_are_bounded() {
    let mut fleet = Fleet::new(SETTINGS);
    fleet.adopt((0..200).map(|n| fixed(n, &[u32::from(n)])).collect(), SETTINGS, seconds(0));
    let begun = |actions: &[Action]| actions.iter().filter(|action| matches!(action, Action::Check { .. })).count();
    assert_eq!(begun(&actions(&mut fleet, seconds(0))), CHECKS_AT_ONCE);
    assert_eq!(fleet.next_due(), None, "only a result makes room");
    for id in 1..=10 {
        fleet.checked(id, 0, Ok(()), seconds(0));
    }
    assert_eq!(fleet.next_due(), Some(seconds(0)));
    assert_eq!(begun(&actions(&mut fleet, seconds(0))), 10);
}

#[test]
fn a_name_is_looked_up_then_checked_and_moves() {
    let mut fleet = Fleet::new(SETTINGS);
    fleet.adopt(vec![named("cache", 0)], SETTINGS, seconds(0));
    assert_eq!(actions(&mut fleet, seconds(0)), [publish(0, true, None), look_up(1, "cache")]);
    assert_eq!(fleet.up_by_key(1), [false], "not without an address");
    fleet.looked_up(1, Err("no such name".to_string()), seconds(0));
    assert_eq!(actions(&mut fleet, seconds(1)), [look_up(1, "cache")]);
    fleet.looked_up(1, Ok(vec![socket(1)]), seconds(1));
    assert_eq!(actions(&mut fleet, seconds(1)), [publish(0, true, Some(1)), check(1, 1, 1)]);
    fleet.checked(1, 1, Ok(()), seconds(1));
    actions(&mut fleet, seconds(1));

    // Round robin: nothing happens while the address is among the answers.
    assert_eq!(actions(&mut fleet, seconds(40)), [check(1, 1, 1), look_up(1, "cache")]);
    fleet.checked(1, 1, Ok(()), seconds(40));
    fleet.looked_up(1, Ok(vec![socket(2), socket(1)]), seconds(40));
    assert_eq!(actions(&mut fleet, seconds(40)), []);

    // No longer given out: the first that answers.
    actions(&mut fleet, seconds(80));
    fleet.checked(1, 1, Ok(()), seconds(80));
    fleet.looked_up(1, Ok(vec![socket(2), socket(3)]), seconds(80));
    let candidates = vec![socket(2), socket(3)];
    let expected = Action::Try { id: 1, candidates: candidates.clone(), still_given: false };
    assert_eq!(actions(&mut fleet, seconds(80)), [expected]);
    fleet.tried(1, &candidates, false, Some(socket(3)), seconds(81));
    assert_eq!(actions(&mut fleet, seconds(81)), [publish(0, true, Some(3)), check(1, 2, 3)]);
    assert_eq!(fleet.count_lookups(), (3, 1));
}

#[test]
fn a_server_that_goes_down_is_looked_up_soon() {
    let mut fleet = Fleet::new(SETTINGS);
    fleet.adopt(vec![named("cache", 0)], SETTINGS, seconds(0));
    actions(&mut fleet, seconds(0));
    fleet.looked_up(1, Ok(vec![socket(1)]), seconds(0));
    actions(&mut fleet, seconds(0));
    fleet.checked(1, 1, Ok(()), seconds(0));
    actions(&mut fleet, seconds(0));
    fleet.suspected(0, ServerKey(0), LATE, seconds(5));
    assert_eq!(
        actions(&mut fleet, seconds(5)),
        [publish_why(0, false, Some(Trouble::Timeout), Some(1)), check(1, 2, 1), look_up(1, "cache")],
    );
    fleet.looked_up(1, Ok(vec![socket(1), socket(2)]), seconds(5));
    let candidates = vec![socket(2)];
    let expected = Action::Try { id: 1, candidates: candidates.clone(), still_given: true };
    assert_eq!(actions(&mut fleet, seconds(5)), [expected]);
    fleet.tried(1, &candidates, true, None, seconds(6));
    assert_eq!(actions(&mut fleet, seconds(6)), [], "both dead: it stays");
}

#[test]
fn a_reload_keeps_what_is_known_and_forgets_who_left() {
    let mut fleet = Fleet::new(SETTINGS);
    fleet.adopt(vec![fixed(1, &[0]), fixed(2, &[1])], SETTINGS, seconds(0));
    actions(&mut fleet, seconds(0));
    fleet.checked(1, 0, refused(), seconds(0));
    actions(&mut fleet, seconds(0));
    // 2 leaves while its check is under way; 3 comes; 1 stays down.
    fleet.adopt(vec![fixed(3, &[2]), fixed(1, &[0])], SETTINGS, seconds(0));
    assert_eq!(
        actions(&mut fleet, seconds(0)),
        [publish(2, true, Some(3)), publish_why(0, false, Some(Trouble::Refused), Some(1)), check(3, 0, 3)],
    );
    fleet.checked(2, 0, refused(), seconds(0));
    assert_eq!(actions(&mut fleet, seconds(0)), []);
    assert_eq!(fleet.facts().len(), 2);
    // Back again it starts anew.
    fleet.adopt(vec![fixed(2, &[1])], SETTINGS, seconds(1));
    assert_eq!(actions(&mut fleet, seconds(1)), [publish(1, true, Some(2)), check(4, 0, 2)]);
}

#[test]
fn pools_are_told_before_their_servers_and_everything_has_a_reason() {
    let mut fleet = Fleet::new(SETTINGS);
    let pool = |name: &str, first: u32, keys: [u32; 2], slow_start| WatchedPool {
        name: name.to_string(),
        rules: PoolRules { rehash: true, max_ejected: 1, slow_start, ..PoolRules::default() },
        servers: vec![(ServerId(first), ServerKey(keys[0])), (ServerId(first + 1), ServerKey(keys[1]))],
    };
    // The first server is in both pools, with settings of its own in each; it has one health.
    fleet.adopt(vec![fixed(1, &[0, 2]), fixed(2, &[1])], SETTINGS, seconds(0));
    let pools = vec![pool("web", 0, [0, 1], seconds(100)), pool("other", 2, [2, 1], seconds(0))];
    fleet.adopt_pools(pools, 7, seconds(0));
    let first = |up, why| Action::Publish {
        keys: vec![ServerKey(0), ServerKey(2)],
        up,
        held: false,
        why,
        address: Some(Address::Tcp(socket(1))),
    };
    let begin = [first(true, None), publish(1, true, Some(2)), check(1, 0, 1), check(2, 0, 2)];
    assert_eq!(actions(&mut fleet, seconds(0)), begin);
    for id in [1, 2] {
        fleet.checked(id, 0, Ok(()), seconds(0));
    }
    actions(&mut fleet, seconds(0));

    fleet.suspected(1, ServerKey(2), LATE, seconds(5));
    let standing = |share, when_down| Standing { share, when_down };
    let changes = vec![
        (ServerId(0), standing(0, WhenDown::LeftOut)),
        (ServerId(1), standing(255, WhenDown::Fails)),
        (ServerId(2), standing(0, WhenDown::LeftOut)),
        (ServerId(3), standing(255, WhenDown::Fails)),
    ];
    let expected = [Action::Stand { generation: 7, changes }, first(false, Some(Trouble::Timeout)), check(1, 1, 1)];
    assert_eq!(actions(&mut fleet, seconds(5)), expected);
    fleet.checked(1, 1, Ok(()), seconds(5));
    assert_eq!(actions(&mut fleet, seconds(7)), [check(1, 1, 1)]);
    fleet.checked(1, 1, Ok(()), seconds(7));
    let changes = vec![
        (ServerId(0), standing(25, WhenDown::LeftOut)),
        (ServerId(1), standing(255, WhenDown::LeftOut)),
        (ServerId(2), standing(255, WhenDown::LeftOut)),
        (ServerId(3), standing(255, WhenDown::LeftOut)),
    ];
    let back = [Action::Stand { generation: 7, changes }, first(true, None)];
    assert_eq!(actions(&mut fleet, seconds(7)), back);
    // Its share in the pool that has a slow start goes on growing by itself.
    assert!(fleet.next_due().is_some_and(|due| due <= seconds(17)));
    let grown = actions(&mut fleet, seconds(17));
    let changes = vec![(ServerId(0), standing(51, WhenDown::LeftOut))];
    assert!(grown.contains(&Action::Stand { generation: 7, changes }), "{grown:?}");

    let text = fleet.events().text(seconds(17), std::time::UNIX_EPOCH + seconds(17));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "1970-01-01T00:00:00.000Z up server 10.0.0.1:11211 is up: it passed its first check",
            "1970-01-01T00:00:00.000Z up server 10.0.0.2:11211 is up: it passed its first check",
            "1970-01-01T00:00:05.000Z down server 10.0.0.1:11211 is down: 3 failures in a row at its requests, the last one: \
             no reply in time (shard 1)",
            "1970-01-01T00:00:05.000Z half_open server 10.0.0.1:11211 passes checks again after 0.0 s down: it takes \
             requests once 2 in a row have passed and its least time down is over",
            "1970-01-01T00:00:07.000Z up server 10.0.0.1:11211 is up after 2.0 s down: 2 checks in a row passed",
            "1970-01-01T00:00:07.000Z returns pool web gives server 10.0.0.1:11211 its keys back, a tenth at a time",
        ]
    );
    let counts = fleet.events().counts();
    assert_eq!(counts.events[EventKind::Down as usize], 1);
    assert_eq!(counts.downs[FoundBy::Requests as usize][Trouble::Timeout as usize], 1);
}
