//! KeySplitRoute and ShardSplitRoute over server 0.

use crate::cases::tree;
use crate::play::Play;
use keyway_policies::routes::key_split::KeySplit;
use keyway_policies::routes::shard_split::{MAX_SPLITS, ShardSplit};
use keyway_policies::{RouteNode, Routes};

const THREE: KeySplit = KeySplit { replicas: 3, all_sync: false, first_hit: false, delete_sync: true };

fn one(route: impl Into<RouteNode>) -> Routes {
    tree(1, |builder, servers| builder.add(route, servers).expect("a route"))
}

/// A play on a router of that number.
fn on_host(routes: &Routes, host_id: u64) -> Play<'_> {
    let mut play = Play::new(routes);
    play.state = routes.states(1, host_id);
    play
}

#[test]
fn a_router_reads_and_writes_its_own_replica() {
    let routes = one(THREE);
    for (host_id, key) in [(0, "k"), (1, "k::1"), (2, "k::2"), (3, "k"), (100, "k::1")] {
        let mut play = on_host(&routes, host_id);
        for ask in ["get KEY", "gets KEY", "gat 5 KEY", "incr KEY 1", "set KEY 0 0 1|x"] {
            let sent = format!(">0 {}", ask.replace("KEY", key));
            play.check(&format!("{}|", ask.replace("KEY", "k")), &[("go", &sent), ("0 ERROR", "=ERROR")]);
        }
    }
    // Before what isn't hashed.
    on_host(&routes, 1).check("get a¦#¦b|", &[("go", ">0 get a::1|#|b")]);
    let long = "k".repeat(248);
    on_host(&routes, 1).check(&format!("get {long}|"), &[("go", &format!(">0 get {long}"))]);
    let fits = "k".repeat(247);
    on_host(&routes, 1).check(&format!("get {fits}|"), &[("go", &format!(">0 get {fits}::1"))]);
    on_host(&routes, 1).check("get k|", &[("up=0", ""), ("go", "=no_healthy_server")]);
}

#[test]
fn a_delete_is_for_all_replicas() {
    let routes = one(THREE);
    let all = ("go", ">0 delete k::1 >0 delete k::2 >0 delete k");
    let check = |replies: &[(&str, &str)]| on_host(&routes, 1).check("delete k|", &[&[all][..], replies].concat());
    check(&[("0 DELETED", "kept"), ("0 DELETED", ""), ("0 DELETED", "=DELETED")]);
    check(&[("0 DELETED", "kept"), ("0 timeout", ""), ("0 DELETED", "=timeout")]);
    check(&[("0 DELETED", "kept"), ("0 DELETED", ""), ("0 SERVER_ERROR", "=SERVER_ERROR")]);
    on_host(&routes, 1).check("delete k|", &[("up=0", ""), ("go", "=no_healthy_server")]);
    // mcrouter's: the own one answers.
    let routes = one(KeySplit { delete_sync: false, ..THREE });
    on_host(&routes, 1).check("delete k|", &[all, ("0 DELETED", "=DELETED"), ("0 timeout", "")]);
    on_host(&routes, 1).check("delete k|", &[("up=0", ""), ("go", "=no_healthy_server")]);
}

#[test]
fn sets_for_all_and_gets_of_all() {
    let routes = one(KeySplit { all_sync: true, first_hit: true, ..THREE });
    let mut play = on_host(&routes, 2);
    play.check(
        "set k 0 0 1|x|",
        &[
            ("go", ">0 set k::2 0 0 1|x >0 set k 0 0 1|x >0 set k::1 0 0 1|x"),
            ("0 STORED", "=STORED"),
            ("0 timeout", ""),
        ],
    );
    play.check("add k 0 0 1|x|", &[("go", ">0 add k::2 0 0 1|x")]);
    let all = ("go", ">0 get k::2 >0 get k >0 get k::1");
    play.check("get k|", &[all, ("0 END", "kept"), ("0 VALUE x", "=VALUE x f=0"), ("0 timeout", "")]);
    play.check("get k|", &[all, ("0 timeout", ""), ("0 END", "kept"), ("0 timeout", "=END")]);
    play.check("gets k|", &[("go", ">0 gets k::2")]);
}

#[test]
fn shards_that_are_split() {
    let routes = one(ShardSplit::new(vec![(b"7".to_vec(), 3), (b"x9".to_vec(), MAX_SPLITS), (b"8".to_vec(), 1)]));
    for (host_id, asked, sent) in [
        (0, "p:7:a", "p:7:a"),
        (1, "p:7:a", "p:7aa:a"),
        (2, "p:7:a", "p:7ba:a"),
        (3, "p:7:a", "p:7:a"),
        (26, "p:x9:", "p:x9za:"),
        (27, "p:x9:", "p:x9ab:"),
        (676, "p:x9:", "p:x9zz:"),
        (677, "p:x9:", "p:x9:"),
        (1, ":7:a", ":7aa:a"),
        // Not split, or not of that form.
        (1, "p:8:a", "p:8:a"),
        (1, "p:5:a", "p:5:a"),
        (1, "p:7", "p:7"),
        (1, "7", "7"),
        (1, "p::7:", "p::7:"),
    ] {
        on_host(&routes, host_id).check(&format!("get {asked}|"), &[("go", &format!(">0 get {sent}"))]);
    }
    let mut play = on_host(&routes, 1);
    let all = ("go", ">0 delete p:7:a >0 delete p:7aa:a >0 delete p:7ba:a");
    play.check("delete p:7:a|", &[all, ("0 NOT_FOUND", "kept"), ("0 DELETED", ""), ("0 DELETED", "=NOT_FOUND")]);
    play.check("delete p:8:a|", &[("go", ">0 delete p:8:a")]);
    let long = format!("p:7:{}", "k".repeat(245));
    play.check(&format!("get {long}|"), &[("go", "=bad_key")]);
}
