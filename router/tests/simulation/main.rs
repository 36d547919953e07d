//! The shard's core under the deterministic engine: clients that check every reply, servers that misbehave, a network that
//! loses, a control plane that changes its mind; all drawn from a seed.
//!
//! `KEYWAY_SEED=n` replays one seed of each test, `KEYWAY_SEEDS=n` runs so many; a failure prints its seed and the last
//! events.

mod client;
mod coverage;
mod server;
mod store;
mod trees;
mod world;

use coverage::Coverage;
use keyway::config::{Config, Overrides};
use keyway::table::TableLimits;
use keyway::trouble::DownRules;
use keyway_io_engine::sim::{Faults, Prng};
use std::time::Duration;
use trees::TREES;
use world::{MILLI, Plot, World};

/// Runs what `plot_of` makes of each seed, or of the one asked for; what was seen over all.
fn check(seeds: u64, plot_of: impl Fn(u64) -> Plot) -> Option<Coverage> {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    if let Some(seed) = number("KEYWAY_SEED") {
        let plot = plot_of(seed);
        eprintln!("{}: {plot:?}", TREES[plot.tree].name);
        eprintln!("{:?}", World::new(seed, &plot).play());
        return None;
    }
    let mut seen = Coverage::default();
    for seed in 0..number("KEYWAY_SEEDS").unwrap_or(seeds) {
        seen.add(&World::new(seed, &plot_of(seed)).play());
    }
    eprintln!("{seen:?}");
    Some(seen)
}

#[test]
fn replies_are_never_crossed_lost_or_left_behind() {
    let Some(mut seen) = check(256, everything) else { return };
    assert_eq!(seen.missing(), [""; 0], "never happened");
}

#[test]
fn without_faults_it_is_one_server() {
    let Some(seen) = check(96, |seed| flawless(seed, Faults::none())) else { return };
    assert_eq!((seen.errors, seen.timeouts, seen.lost, seen.misaligned), (0, 0, 0, 0));
}

#[test]
fn however_the_bytes_are_cut_it_is_one_server() {
    let Some(seen) = check(96, |seed| flawless(seed, Faults::lossless())) else { return };
    assert_eq!((seen.errors, seen.timeouts, seen.lost, seen.misaligned), (0, 0, 0, 0));
}

#[test]
fn a_seed_is_a_history() {
    for seed in 0..8 {
        let [first, second] = [(); 2].map(|()| World::new(seed, &everything(seed)).play().history);
        assert_eq!(first, second, "seed {seed}");
    }
}

/// What a seed says, all of it possible.
fn everything(seed: u64) -> Plot {
    let mut prng = Prng::new(seed);
    let prng = &mut prng;
    let faults = match prng.below(6) {
        0 => Faults::none(),
        1 => Faults::lossless(),
        2 => Faults::wild(),
        _ => Faults::drawn(prng),
    };
    let drain_at = (prng.below(5) == 0).then(|| prng.between(5 * MILLI, 200 * MILLI));
    let client_faults = match prng.below(4) {
        0 => Faults::none(),
        1 if drain_at.is_none() => Faults::drawn(prng),
        _ => Faults::lossless(),
    };
    let bad_manners = prng.below(2) == 0;
    Plot {
        tree: (seed % TREES.len() as u64) as usize,
        faults,
        client_faults,
        timeout_ms: [100, 300, 1000][prng.below(3) as usize],
        limits: if prng.below(3) == 0 { small_limits(prng) } else { default_limits() },
        down: down_rules(prng),
        bad_manners,
        strays: bad_manners && prng.below(3) == 0,
        outages: prng.below(2) == 0,
        reloads: prng.below(5) == 0,
        drain_at,
        exact: false,
    }
}

/// Nothing is lost, nobody misbehaves, nothing is limited.
fn flawless(seed: u64, faults: Faults) -> Plot {
    let trees: Vec<usize> = (0..TREES.len()).filter(|&tree| TREES[tree].exact.is_some()).collect();
    Plot {
        tree: trees[seed as usize % trees.len()],
        faults,
        client_faults: faults,
        timeout_ms: 600_000,
        limits: default_limits(),
        down: DownRules { failures: 3, connect_failures: 2, failure_percent: 0 },
        bad_manners: false,
        strays: false,
        outages: false,
        reloads: false,
        drain_at: None,
        exact: true,
    }
}

fn default_limits() -> TableLimits {
    let config = Config::parse(b"route: LocalRoute", "defaults", &Overrides::default());
    config.expect("a configuration").limits
}

fn down_rules(prng: &mut Prng) -> DownRules {
    DownRules {
        failures: prng.between(1, 10) as u32,
        connect_failures: prng.between(1, 5) as u32,
        failure_percent: if prng.below(3) == 0 { prng.between(10, 100) as u32 } else { 0 },
    }
}

/// So small that they are met.
fn small_limits(prng: &mut Prng) -> TableLimits {
    let mut pick = |small: usize, large: usize| if prng.below(2) == 0 { small } else { large };
    TableLimits {
        value_bytes: 2000,
        clients_per_shard: pick(4, 10_000),
        client_idle: Duration::from_millis(pick(0, 300) as u64),
        keys_per_get: pick(100, 10_000),
        buffered_bytes: pick(40_000, 1 << 30),
        requests_per_client: pick(4, 64),
        reply_bytes_per_client: pick(1024, 16 * 1024),
        queued_bytes_per_connection: pick(2048, 64 * 1024),
        requests_per_connection: pick(8, 256),
        max_replay_bytes: pick(100, 4096),
        timeouts_per_connection: pick(2, 10) as u32,
        ..default_limits()
    }
}
