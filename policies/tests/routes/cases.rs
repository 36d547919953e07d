//! One route after the other, with the bytes it sends: config, request, health and replies, and what comes of them.

use crate::play::Play;
use keyway_policies::routes::all_async::AllAsync;
use keyway_policies::routes::error::Error;
use keyway_policies::routes::latency_injection::LatencyInjection;
use keyway_policies::routes::modify_key::ModifyKey;
use keyway_policies::routes::null::Null;
use keyway_policies::{NodeId, Routes, RoutesBuilder, ServerId};

/// A tree with servers 0 to `servers - 1` as the nodes `root` joins.
pub(crate) fn tree(servers: u32, root: impl FnOnce(&mut RoutesBuilder, &[NodeId]) -> NodeId) -> Routes {
    let mut builder = Routes::builder();
    let nodes: Vec<NodeId> = (0..servers).map(|id| builder.server(ServerId(id)).expect("a server")).collect();
    let root = root(&mut builder, &nodes);
    builder.build(root).expect("a tree")
}

#[test]
fn null_and_error() {
    let routes = tree(0, |builder, _| builder.add(Null, &[]).expect("a route"));
    for request in ["get k|", "set k 0 0 1|x|", "delete k|"] {
        Play::new(&routes).check(request, &[("go", "=null")]);
    }
    let routes = tree(0, |builder, _| builder.add(Error::new("gone"), &[]).expect("a route"));
    Play::new(&routes).check("get k|", &[("go", "=said")]);
    assert_eq!(routes.node(routes.root()).words(), "SERVER_ERROR gone");
}

#[test]
fn all_async_answers_at_once() {
    let routes = tree(2, |builder, servers| builder.add(AllAsync, servers).expect("a route"));
    let mut play = Play::new(&routes);
    play.check("delete k|", &[("go", ">0 delete k >1 delete k =null"), ("0 DELETED", ""), ("1 timeout", "")]);
    play.check("get k|", &[("up=01", ""), ("go", ">1 get k =null"), ("1 VALUE x", "")]);
    let routes = tree(1, |builder, servers| builder.add(AllAsync, servers).expect("a route"));
    Play::new(&routes).check("get k|", &[("go", ">0 get k =null"), ("0 VALUE x", "")]);
}

#[test]
fn modify_key_changes_the_key_alone() {
    let route = ModifyKey { ensure_prefix: b"a:".to_vec(), ..ModifyKey::default() };
    let routes = tree(1, |builder, servers| builder.add(route, servers).expect("a route"));
    let mut play = Play::new(&routes);
    play.check("get k|", &[("go", ">0 get a:k"), ("0 VALUE x", "=VALUE x f=0")]);
    play.check("get a:k|", &[("go", ">0 get a:k"), ("0 END", "=END")]);
    play.check("set k 1 2 3|abc|", &[("go", ">0 set a:k 1 2 3|abc"), ("0 STORED", "=STORED")]);
    let long = "k".repeat(249);
    play.check(&format!("get {long}|"), &[("go", "=bad_key")]);
}

#[test]
fn latency_injection_waits_before_and_behind() {
    let route = |before: u64, after: u64, total: u64| LatencyInjection {
        before: before * 1_000_000,
        after: after * 1_000_000,
        total: total * 1_000_000,
    };
    let one = |route: LatencyInjection| tree(1, |builder, servers| builder.add(route, servers).expect("a route"));
    let routes = one(route(10, 5, 0));
    Play::new(&routes).check(
        "get k|",
        &[("go", "~10"), ("+9", ""), ("+1", ">0 get k"), ("0 VALUE x", "kept ~5"), ("+5", "=VALUE x f=0")],
    );
    let routes = one(route(0, 0, 20));
    Play::new(&routes)
        .check("get k|", &[("go", ">0 get k"), ("+5", ""), ("0 END", "kept ~15"), ("+14", ""), ("+1", "=END")]);
    let routes = one(route(0, 0, 0));
    Play::new(&routes).check("get k|", &[("go", ">0 get k"), ("0 END", "=END")]);
}
