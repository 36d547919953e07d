//! AsyncLogRoute over server 0, or over a pool.

use crate::cases::tree;
use crate::notation;
use crate::play::Play;
use keyway_policies::routes::all_async::AllAsync;
use keyway_policies::routes::async_log::AsyncLog;
use keyway_policies::routes::shadow::{Shadow, ShadowKeys, ShadowSettings};
use keyway_policies::{Distribution, OnDown, PlacementSpec, PoolSpec, Routes, ServerId};

const DELETES: AsyncLog = AsyncLog { writes: false };

fn one(route: AsyncLog) -> Routes {
    tree(1, |builder, servers| builder.add(route, servers).expect("a route"))
}

fn over_pool(on_down: OnDown) -> Routes {
    tree(0, |builder, _| {
        let placement = PlacementSpec::new(Distribution::Ch3, ["s0", "s1"].map(str::to_owned));
        let spec = PoolSpec { servers: vec![ServerId(0), ServerId(1)], placement, on_down };
        let pool = builder.pool(&spec).expect("a pool");
        builder.add(DELETES, &[pool]).expect("a route")
    })
}

#[test]
fn a_delete_that_failed_is_written_down() {
    let routes = one(DELETES);
    for failed in ["timeout", "connection_lost", "queue_full", "misaligned", "SERVER_ERROR"] {
        let kept = if failed == "SERVER_ERROR" { "kept @0 delete k" } else { "@0 delete k" };
        let until = [("go", ">0 delete k"), (&*format!("0 {failed}"), kept)];
        let said = format!("={failed}");
        Play::new(&routes).check("delete k|", &[&until[..], &[("spooled", "=null")]].concat());
        Play::new(&routes).check("delete k|", &[&until[..], &[("lost", &said)]].concat());
    }
    for good in ["DELETED", "NOT_FOUND", "CLIENT_ERROR", "ERROR"] {
        Play::new(&routes).check("delete k|", &[("go", ">0 delete k"), (&format!("0 {good}"), &format!("={good}"))]);
    }
    Play::new(&routes).check("delete k|", &[("up=0", ""), ("go", "@0 delete k"), ("spooled", "=null")]);
    Play::new(&routes).check("delete k|", &[("up=0", ""), ("go", "@0 delete k"), ("lost", "=no_healthy_server")]);
    for other in ["set k 0 0 1|x|", "get k|", "touch k 1|"] {
        let sent = format!(">0 {}", other.trim_end_matches('|'));
        Play::new(&routes).check(other, &[("go", &sent), ("0 timeout", "=timeout")]);
    }
}

#[test]
fn a_write_that_failed_counts_as_a_delete() {
    let routes = one(AsyncLog { writes: true });
    for write in ["set k 0 0 1|x|", "cas k 0 0 1 5|x|", "incr k 1|", "touch k 1|"] {
        let until = [("go", &*format!(">0 {}", write.trim_end_matches('|'))), ("0 timeout", "@0 delete k")];
        // It was not done, whatever the log says.
        for end in ["spooled", "lost"] {
            Play::new(&routes).check(write, &[&until[..], &[(end, "=timeout")]].concat());
        }
    }
    Play::new(&routes).check("get k|", &[("go", ">0 get k"), ("0 timeout", "=timeout")]);
}

#[test]
fn the_entry_is_for_the_key_s_home() {
    // ch3 puts "key" on the first server of two.
    let routes = over_pool(OnDown::Error);
    Play::new(&routes).check("delete key|", &[("up=01", ""), ("go", "@0 delete key"), ("spooled", "=null")]);
    Play::new(&routes).check("delete key|", &[("go", ">0 delete key"), ("0 DELETED", "=DELETED")]);
    // Another server took it, or none was asked: the home still has the item.
    let routes = over_pool(OnDown::Rehash);
    for end in ["spooled", "lost"] {
        let steps =
            [("up=01", ""), ("go", ">1 delete key"), ("1 NOT_FOUND", "kept @0 delete key"), (end, "=NOT_FOUND")];
        Play::new(&routes).check("delete key|", &steps);
    }
    let routes = over_pool(OnDown::Miss);
    Play::new(&routes).check("delete key|", &[("up=01", ""), ("go", "@0 delete key"), ("spooled", "=null")]);
}

#[test]
fn homes_are_found_through_selectors() {
    let key = b"key";
    let routes = notation::tree("O(get=0 P(1 2))");
    let root = routes.root();
    let delete = keyway_protocol::Operation::Delete;
    assert_eq!(routes.destination(root, delete, key), Some(ServerId(1)));
    assert_eq!(routes.destination(root, keyway_protocol::Operation::Get, key), Some(ServerId(0)));
    let routes = notation::tree("A(0 1)");
    assert_eq!(routes.destination(routes.root(), delete, key), None, "there is no single one");
}

#[test]
fn it_works_where_nobody_waits() {
    let routes = tree(1, |builder, servers| {
        let logged = builder.add(DELETES, servers).expect("a route");
        builder.add(AllAsync, &[logged]).expect("a route")
    });
    let steps = [("go", ">0 delete k =null"), ("0 timeout", "@0 delete k"), ("spooled", "")];
    Play::new(&routes).check("delete k|", &steps);
    // A shadow's deletes are nobody's loss.
    let routes = tree(2, |builder, servers| {
        let [normal, shadow] = [0, 1].map(|at| builder.add(DELETES, &servers[at..=at]).expect("a route"));
        let settings = ShadowSettings { keys: ShadowKeys::between(0.0, 1.0), hosts: None, requests: 1 << 32 };
        builder.add(Shadow { shadows: vec![settings], most_in_flight: 9 }, &[normal, shadow]).expect("a route")
    });
    let steps =
        [("go", ">0 delete k >1 delete k"), ("1 timeout", ""), ("0 timeout", "@0 delete k"), ("spooled", "=null")];
    Play::new(&routes).check("delete k|", &steps);
}
