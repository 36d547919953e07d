//! ShadowRoute: server 0 is the normal one, servers 1 and on are shadows.

use crate::cases::tree;
use crate::notation;
use crate::play::Play;
use keyway_policies::routes::shadow::{Shadow, ShadowKeys, ShadowSettings};
use keyway_policies::{Distribution, OnDown, PlacementSpec, PoolSpec, Routes, ServerId};

fn all() -> ShadowSettings {
    ShadowSettings { keys: ShadowKeys::between(0.0, 1.0), hosts: None, requests: ShadowSettings::requests_of(1.0) }
}

fn shadows(shadows: Vec<ShadowSettings>, most_in_flight: u32) -> Routes {
    let servers = shadows.len() as u32 + 1;
    tree(servers, |builder, servers| builder.add(Shadow { shadows, most_in_flight }, servers).expect("a route"))
}

#[test]
fn copies_go_to_shadows_and_the_normal_reply_is_the_answer() {
    let routes = shadows(vec![all(), all()], 9);
    for request in ["get k", "set k 0 0 1|x", "delete k"] {
        let sent = format!(">0 {request} >1 {request} >2 {request}");
        let steps = [("go", &*sent), ("1 SERVER_ERROR", ""), ("0 STORED", "=STORED"), ("2 timeout", "")];
        Play::new(&routes).check(&format!("{request}|"), &steps);
    }
    // A shadow that is down is not missed.
    Play::new(&routes).check("get k|", &[("up=110", ""), ("go", ">0 get k >1 get k"), ("0 END", "=END")]);
    Play::new(&routes).check("get k|", &[("up=011", ""), ("go", "=no_healthy_server")]);
}

#[test]
fn which_keys() {
    let taken = |keys: ShadowKeys, key: &str| {
        let routes = shadows(vec![ShadowSettings { keys, ..all() }], 1);
        let told = Play::new(&routes).tell_all(&format!("get {key}|"), &["go"]);
        told[0].contains(">1")
    };
    let listed = || ShadowKeys::listed(vec![b"b".to_vec(), b"a".to_vec()]);
    assert!(taken(listed(), "a") && taken(listed(), "b¦#¦x") && !taken(listed(), "c"));
    let keys: Vec<String> = (0..400).map(|at| format!("key{at}")).collect();
    let share = |from, to| keys.iter().filter(|key| taken(ShadowKeys::between(from, to), key)).count();
    assert_eq!((share(0.0, 1.0), share(0.0, 0.0)), (400, 0));
    let [low, high] = [share(0.0, 0.5), share(0.5, 1.0)];
    assert_eq!(low + high, 400, "every key is in one half");
    assert!((150..250).contains(&low), "{low} of 400 in the lower half");
}

#[test]
fn how_many_requests() {
    let routes = shadows(vec![ShadowSettings { requests: ShadowSettings::requests_of(0.25), ..all() }], 1000);
    let mut play = Play::new(&routes);
    let copies = (0..1000).filter(|_| play.tell_all("get k|", &["go"])[0].contains(">1")).count();
    assert!((200..300).contains(&copies), "{copies} of 1000");
    let routes = shadows(vec![ShadowSettings { requests: 0, ..all() }], 1000);
    assert_eq!(Play::new(&routes).tell_all("get k|", &["go"]), [">0 get k"]);
}

#[test]
fn copies_under_way_are_bounded() {
    let routes = shadows(vec![all()], 2);
    let mut plays = [Play::new(&routes), Play::new(&routes), Play::new(&routes)];
    for (at, expected) in [(0, ">0 get k >1 get k"), (1, ">0 get k >1 get k"), (2, ">0 get k")] {
        plays[at].check("get k|", &[("go", expected), ("0 END", "=END")]);
        if at < 2 {
            let (before, behind) = plays.split_at_mut(at + 1);
            std::mem::swap(&mut before[at].state, &mut behind[0].state);
        }
    }
    // One comes back, behind its answer.
    let [first, _, last] = &mut plays;
    std::mem::swap(&mut first.state, &mut last.state);
    first.check_on(&[("1 timeout", "")]);
    first.check("get k|", &[("go", ">0 get k >1 get k")]);
    std::mem::swap(&mut first.state, &mut last.state);
}

#[test]
fn one_that_can_t_be_used_leaves_no_copy() {
    let routes = tree(3, |builder, servers| {
        let shadow = builder.add(Shadow { shadows: vec![all()], most_in_flight: 9 }, &servers[..2]).expect("a route");
        builder.miss_failover(&[shadow, servers[2]]).expect("a route")
    });
    Play::new(&routes).check("get k|", &[("up=011", ""), ("go", ">2 get k"), ("2 END", "=END")]);
}

#[test]
fn a_pool_s_shadow_takes_some_of_its_servers() {
    let routes = tree(0, |builder, _| {
        let placement = PlacementSpec::new(Distribution::Ch3, ["s0", "s1"].map(str::to_owned));
        let spec = PoolSpec { servers: vec![ServerId(0), ServerId(1)], placement, on_down: OnDown::Error };
        let pool = builder.pool(&spec).expect("a pool");
        let target = builder.server(ServerId(2)).expect("a server");
        let second = ShadowSettings { hosts: Some(1..=1), ..all() };
        builder.add(Shadow { shadows: vec![second], most_in_flight: 9 }, &[pool, target]).expect("a route")
    });
    let homes = notation::tree("P(0 1)");
    for key in ["key", "a", "b", "c", "d"] {
        let home = homes.destination(homes.root(), keyway_protocol::Operation::Get, key.as_bytes()).expect("a home");
        let copied = if home == ServerId(1) { format!(" >2 get {key}") } else { String::new() };
        Play::new(&routes).check(&format!("get {key}|"), &[("go", &format!(">{} get {key}{copied}", home.0))]);
    }
}
