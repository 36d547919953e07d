//! PoolRoute: which server a key goes to, and what a dead one's keys do.

use crate::notation::Course;
use keyway_policies::{Distribution, HashTag, KeyHash, OnDown, PlacementSpec, PoolSpec, RouteNode, Routes, ServerId};
use keyway_protocol::Operation;

const SERVERS: u32 = 5;

fn pool(distribution: Distribution, on_down: OnDown) -> Routes {
    let placement = PlacementSpec {
        tag: HashTag::from_pair(b"{}"),
        ..PlacementSpec::new(distribution, (0..SERVERS).map(|id| format!("10.0.0.{id}")))
    };
    let servers = (0..SERVERS).map(ServerId).collect();
    let mut builder = Routes::builder();
    let root = builder.pool(&PoolSpec { servers, placement, on_down }).expect("it can be built");
    builder.build(root).expect("it can be built")
}

fn sent(routes: &Routes, key: &str, up: &[u8]) -> String {
    Course::new(routes, Operation::Get, key.as_bytes()).begin(up)
}

#[test]
fn a_dead_servers_keys_fail_or_move_and_nobody_elses_do() {
    for distribution in [Distribution::Ch3, Distribution::Ketama(KeyHash::Fnv1a64)] {
        let error = pool(distribution, OnDown::Error);
        let rehash = pool(distribution, OnDown::Rehash);
        let RouteNode::Pool(homes) = error.node(error.root()) else { panic!("the root is the pool") };
        let mut moved = 0;
        for number in 0..2000 {
            let key = format!("key{number}");
            let home = homes.home(key.as_bytes()).expect("a pool with servers").0 as usize;
            let all = [u8::MAX; SERVERS as usize];
            let mut one_down = all;
            one_down[2] = 0;
            let mut one_up = [0; SERVERS as usize];
            one_up[4] = u8::MAX;
            assert_eq!(sent(&error, &key, &all), format!(">{home}"));
            assert_eq!(sent(&rehash, &key, &all), format!(">{home}"));
            assert_eq!(sent(&rehash, &key, &one_up), ">4");
            assert_eq!(sent(&rehash, &key, &[0; SERVERS as usize]), "=no_healthy_server");
            if home == 2 {
                moved += 1;
                assert_eq!(sent(&error, &key, &one_down), "=unavailable");
                assert_ne!(sent(&rehash, &key, &one_down), ">2");
            } else {
                assert_eq!(sent(&error, &key, &one_down), format!(">{home}"));
                assert_eq!(sent(&rehash, &key, &one_down), format!(">{home}"));
            }
        }
        assert!((200..800).contains(&moved), "{distribution:?}: {moved} of 2000 keys were on one of five servers");
    }
}

#[test]
fn tags_and_hash_stops_keep_keys_together() {
    let up = [u8::MAX; SERVERS as usize];
    let ch3 = pool(Distribution::Ch3, OnDown::Error);
    let ketama = pool(Distribution::Ketama(KeyHash::Fnv1a64), OnDown::Error);
    for number in 0..100 {
        for routes in [&ch3, &ketama] {
            let tagged = sent(routes, &format!("user:{{{number}}}:name"), &up);
            assert_eq!(tagged, sent(routes, &format!("{{{number}}}"), &up));
            assert_eq!(tagged, sent(routes, &number.to_string(), &up));
        }
        assert_eq!(sent(&ch3, &format!("k{number}|#|x"), &up), sent(&ch3, &format!("k{number}"), &up));
    }
}
