//! Hedged gets: a second child is asked when the first is slow for once.

use crate::cases::tree;
use crate::play::Play;
use keyway_policies::Routes;
use keyway_policies::routes::failover::Failover;
use keyway_policies::routes::walk::{Budget, Hedge, Rule, Walk};

/// Three servers; after the second get that took 8 ms a third one waits about 8 ms.
fn hedged(rule: Rule, budget: Option<Budget>) -> Routes {
    let hedge = Hedge::new(0.9, 2, 500);
    tree(3, |builder, servers| {
        builder.add(Failover(Walk { hedge, budget, ..Walk::new(rule) }), servers).expect("a route")
    })
}

/// What is waited for when 8 ms are usual: the upper end of the histogram's bucket, in whole milliseconds.
const WAIT: &str = ">0 get k ~8";

fn warm(play: &mut Play<'_>) {
    for _ in 0..2 {
        play.check("get k|", &[("go", ">0 get k"), ("+8", ""), ("0 VALUE x", "=VALUE x f=0")]);
    }
}

#[test]
fn the_second_is_asked_when_the_first_is_slow() {
    let routes = hedged(Rule::FAILOVER, Some(Budget::DEFAULT));
    let mut play = Play::new(&routes);
    warm(&mut play);
    // In time: nobody else is asked.
    play.check("get k|", &[("go", WAIT), ("+5", ""), ("0 VALUE x", "=VALUE x f=0"), ("+10", "")]);
    // Late: the first hit is the answer, whoever has it.
    play.check("get k|", &[("go", WAIT), ("+9", ">1 get k"), ("1 VALUE y", "=VALUE y f=0"), ("0 VALUE x", "")]);
    play.check("get k|", &[("go", WAIT), ("+9", ">1 get k"), ("0 VALUE x", "=VALUE x f=0"), ("1 VALUE y", "")]);
    let counts = play.state.walk_counts();
    assert_eq!((counts.hedges, counts.hedge_wins, counts.failovers), (2, 1, 0));
    // Only get is asked twice: a cas belongs to one server, a gat has an effect.
    play.check("gets k|", &[("go", ">0 gets k"), ("+100", ""), ("0 END", "=END")]);
    play.check("gat 1 k|", &[("go", ">0 gat 1 k"), ("+100", ""), ("0 END", "=END")]);
    play.check("delete k|", &[("go", ">0 delete k"), ("+100", ""), ("0 DELETED", "=DELETED")]);
    // Nobody else is there to be asked.
    play.check("get k|", &[("up=001", ""), ("go", ">2 get k"), ("2 END", "=END")]);
    play.check("get k|", &[("up=100", ""), ("go", WAIT), ("+100", ""), ("0 END", "=END")]);
}

#[test]
fn a_hedges_miss_waits_for_the_first() {
    let routes = hedged(Rule::FAILOVER, Some(Budget::DEFAULT));
    let mut play = Play::new(&routes);
    warm(&mut play);
    play.check("get k|", &[("go", WAIT), ("+9", ">1 get k"), ("1 END", "kept"), ("0 VALUE x", "=VALUE x f=0")]);
    play.check("get k|", &[("go", WAIT), ("+9", ">1 get k"), ("1 END", "kept"), ("0 END", "=END")]);
    // A miss that was seen beats a later error.
    play.check("get k|", &[("go", WAIT), ("+9", ">1 get k"), ("1 END", "kept"), ("0 timeout", "=END")]);
    // The first child's miss is an answer, as without a hedge.
    play.check("get k|", &[("go", WAIT), ("+9", ">1 get k"), ("0 END", "=END"), ("1 VALUE y", "")]);
}

#[test]
fn errors_of_a_hedged_get_go_on_to_the_third() {
    let routes = hedged(Rule::FAILOVER, Some(Budget::DEFAULT));
    let mut play = Play::new(&routes);
    warm(&mut play);
    play.check(
        "get k|",
        &[
            ("go", WAIT),
            ("+9", ">1 get k"),
            ("1 SERVER_ERROR", "kept"),
            ("0 timeout", ">2 get k"),
            ("2 VALUE z", "=VALUE z f=0"),
        ],
    );
    play.check("get k|", &[("go", WAIT), ("+9", ">1 get k"), ("0 timeout", ""), ("1 VALUE y", "=VALUE y f=0")]);
    // The walk has gone on before the time was over.
    play.check(
        "get k|",
        &[("go", WAIT), ("+2", ""), ("0 timeout", ">1 get k"), ("+9", ""), ("1 VALUE y", "=VALUE y f=0")],
    );
}

#[test]
fn with_misses_passed_over_both_must_miss() {
    let routes = hedged(Rule::MISS_FAILOVER, Some(Budget::DEFAULT));
    let mut play = Play::new(&routes);
    warm(&mut play);
    play.check(
        "get k|",
        &[
            ("go", WAIT),
            ("+9", ">1 get k"),
            ("1 END", "kept"),
            ("0 END", "kept >2 get k"),
            ("2 VALUE z", "=VALUE z f=0"),
        ],
    );
}

#[test]
fn a_hedge_takes_a_token() {
    let routes = hedged(Rule::FAILOVER, Budget::new(0.0, 1));
    let mut play = Play::new(&routes);
    warm(&mut play);
    play.check("get k|", &[("go", WAIT), ("+9", ">1 get k"), ("1 VALUE y", "=VALUE y f=0")]);
    play.check("get k|", &[("go", WAIT), ("+9", ""), ("0 VALUE x", "=VALUE x f=0")]);
    let counts = play.state.walk_counts();
    assert_eq!((counts.hedges, counts.limited), (1, 1));
}

#[test]
fn what_a_hedge_cut_short_counts_as_slow() {
    let routes = hedged(Rule::FAILOVER, None);
    let mut play = Play::new(&routes);
    warm(&mut play);
    // The first server has become slow for good. Its own times are never seen, as the second is faster; yet the estimate
    // follows, so that not every get is sent twice for ever.
    let mut waits = Vec::new();
    for _ in 0..400 {
        let told = play.go("get k|");
        let wait: u64 = told.rsplit('~').next().and_then(|ms| ms.parse().ok()).expect("a wish to be woken");
        waits.push(wait);
        let ms = format!("+{}", wait + 1);
        assert_eq!(play.step(&ms), ">1 get k");
        assert_eq!(play.step("1 VALUE y"), "=VALUE y f=0");
    }
    assert!(waits[0] < 10 && waits[399] > 4 * waits[0], "{waits:?}");
}
