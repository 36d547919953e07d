//! What a pool's keys about servers that are down come to: ours, twemproxy's and mcrouter's.

use keyway::config::{Config, Ejection, Overrides};
use keyway_policies::OnDown;
use std::time::Duration;

#[test]
fn ejection_and_fail_open() {
    let pool = |keys: &str| {
        let yaml =
            format!("pools: {{a: {{servers: ['a:1', 'b:1', 'c:1', 'd:1', 'e:1'], {keys}}}}}\nroute: PoolRoute|a\n");
        let config = Config::parse(yaml.as_bytes(), "test.yaml", &Overrides::default());
        config.map(|mut config| config.pools.remove(0)).map_err(|errors| errors.to_string())
    };
    let seconds = Duration::from_secs;
    let ejection = |fail_open, max_ejected, min_ejected, slow_start| Ejection {
        fail_open,
        max_ejected,
        min_ejected: seconds(min_ejected),
        slow_start: seconds(slow_start),
    };
    for (keys, on_down, expected, failure_limit) in [
        ("on_down: error", OnDown::Error, ejection(None, 2, 0, 0), None),
        ("on_down: rehash", OnDown::Rehash, ejection(None, 2, 0, 10), None),
        ("on_down: rehash, max_ejected_percent: 1, slow_start_ms: 0", OnDown::Rehash, ejection(None, 1, 0, 0), None),
        ("maxEjectedPercent: 100, slowStartMs: 3000", OnDown::Error, ejection(None, 5, 0, 0), None),
        // twemproxy's: without ejection its two numbers say nothing.
        (
            "auto_eject_hosts: true, server_retry_timeout: 30000, server_failure_limit: 7",
            OnDown::Rehash,
            ejection(None, 2, 30, 10),
            Some(7),
        ),
        ("auto_eject_hosts: true, on_down: rehash", OnDown::Rehash, ejection(None, 2, 0, 10), None),
        (
            "auto_eject_hosts: false, server_retry_timeout: 30000, server_failure_limit: 7",
            OnDown::Error,
            ejection(None, 2, 0, 0),
            None,
        ),
        // mcrouter's.
        (
            "tko_tracker: {num_tko_threshold_upper: 3, num_tko_threshold_lower: 1}",
            OnDown::Error,
            ejection(Some((3, 1)), 2, 0, 0),
            None,
        ),
        (
            "tko_tracker: {percent_tko_threshold_upper: 50, percent_tko_threshold_lower: 19}",
            OnDown::Error,
            ejection(Some((2, 0)), 2, 0, 0),
            None,
        ),
        (
            "tko_tracker: {num_tko_threshold_upper: 4, percent_tko_threshold_upper: 1, percent_tko_threshold_lower: 40}",
            OnDown::Error,
            ejection(Some((4, 2)), 2, 0, 0),
            None,
        ),
    ] {
        let pool = pool(keys).expect("a good pool");
        assert_eq!((pool.on_down, pool.ejection, pool.failure_limit), (on_down, expected, failure_limit), "{keys}");
    }
    for (keys, fault) in [
        ("auto_eject_hosts: true, on_down: error", "pools.a.on_down: error doesn't go together with auto_eject_hosts"),
        ("auto_eject_hosts: 1", "pools.a.auto_eject_hosts: "),
        ("tko_tracker: {num_tko_threshold_upper: 3}", "pools.a.tko_tracker: a threshold is missing"),
        (
            "tko_tracker: {num_tko_threshold_upper: 3, num_tko_threshold_lower: 3}",
            "pools.a.tko_tracker: the lower threshold, 3 servers, isn't below the upper one, 3",
        ),
        ("tko_tracker: 3", "pools.a.tko_tracker: "),
        ("max_ejected_percent: 0", "pools.a.max_ejected_percent: "),
    ] {
        let said = pool(keys).expect_err(keys);
        assert!(said.contains(fault), "{keys}: {said}");
    }
}
