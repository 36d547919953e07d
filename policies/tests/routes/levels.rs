//! L1L2CacheRoute, L1L2SizeSplitRoute and StagingRoute: server 0 is L1 or warm, server 1 L2 or staging.

use crate::cases::tree;
use crate::play::Play;
use keyway_policies::Routes;
use keyway_policies::routes::backfill::Backfill;
use keyway_policies::routes::l1_l2_cache::L1L2Cache;
use keyway_policies::routes::l1_l2_size_split::L1L2SizeSplit;
use keyway_policies::routes::staging::Staging;
use keyway_policies::{RouteNode, RoutesBuilder};

fn two(route: impl Into<RouteNode>) -> Routes {
    tree(2, |builder: &mut RoutesBuilder, servers| builder.add(route, servers).expect("a route"))
}

const CACHE: L1L2Cache = L1L2Cache {
    fill: Backfill { exptime: Some(60), ask_ttl: true, delete_both: true },
    ncache_exptime: 0,
    ncache_update_period: 0,
};
const NEGATIVE: L1L2Cache = L1L2Cache { ncache_exptime: 30, ncache_update_period: 2, ..CACHE };

const MG: &str = "kept >1 mg k k f t c v";

#[test]
fn l1_is_filled_from_l2() {
    let routes = two(CACHE);
    let mut play = Play::new(&routes);
    play.check("get k|", &[("go", ">0 get k"), ("0 VALUE x", "=VALUE x f=0")]);
    for (ttl, exptime) in [("-1", "60"), ("90", "60"), ("9", "9")] {
        play.check(
            "get k|",
            &[
                ("go", ">0 get k"),
                ("0 END", MG),
                (&format!("1 VALUE x f=3 t={ttl} c=1"), &format!(">0 add k 3 {exptime} 1|x =VALUE x f=3")),
                ("0 STORED", ">1 mg k k f t c"),
                ("1 VALUE  t=9 c=1", ""),
            ],
        );
    }
    play.check("get k|", &[("go", ">0 get k"), ("0 timeout", ">1 mg k k f t c v"), ("1 END", "=END")]);
    play.check(
        "gets k|",
        &[
            ("go", ">0 gets k"),
            ("0 END", MG),
            ("1 VALUE x t=9 c=1", ">0 add k 0 9 1|x"),
            ("0 STORED", ">1 mg k k f t c >0 gets k"),
            ("0 VALUE x c=2", "=VALUE x f=0"),
        ],
    );
    play.check("delete k|", &[("go", ">1 delete k"), ("1 DELETED", "kept >0 delete k"), ("0 DELETED", "=DELETED")]);
    play.check("set k 0 0 1|x|", &[("go", ">0 set k 0 0 1|x"), ("0 STORED", "=STORED")]);
    let routes = two(L1L2Cache { fill: Backfill { delete_both: false, ask_ttl: false, ..CACHE.fill }, ..CACHE });
    let mut play = Play::new(&routes);
    play.check("delete k|", &[("go", ">0 delete k"), ("0 DELETED", "=DELETED")]);
    play.check(
        "get k|",
        &[
            ("go", ">0 get k"),
            ("0 END", "kept >1 get k"),
            ("1 VALUE x", ">0 add k 0 60 1|x =VALUE x f=0"),
            ("0 STORED", ""),
        ],
    );
}

#[test]
fn what_l2_lacks_is_remembered_in_l1() {
    let routes = two(NEGATIVE);
    let mut play = Play::new(&routes);
    let entry = ">0 add k 65536 30 6|ncache =END";
    play.check("get k|", &[("go", ">0 get k"), ("0 END", MG), ("1 END", entry), ("0 STORED", "")]);
    // An L2 that fails says nothing.
    for failed in ["1 timeout", "1 SERVER_ERROR"] {
        play.check("get k|", &[("go", ">0 get k"), ("0 END", MG), (failed, "=END")]);
    }
    let negative = "0 VALUE ncache f=65536";
    play.check("get k|", &[("go", ">0 get k"), (negative, "=null")]);
    // Every second answer L2 is asked anew, and the item takes the entry's place if that is still there.
    play.check(
        "get k|",
        &[
            ("go", ">0 get k"),
            (negative, ">0 gets k =null"),
            ("0 VALUE ncache f=65536 c=4", ">1 get k"),
            ("1 VALUE new f=3", ">0 cas k 3 60 3 4|new"),
            ("0 STORED", ""),
        ],
    );
    play.check("get k|", &[("go", ">0 get k"), (negative, "=null")]);
    play.check(
        "get k|",
        &[
            ("go", ">0 get k"),
            (negative, ">0 gets k =null"),
            ("0 VALUE ncache f=65536 c=4", ">1 get k"),
            ("1 END", ">0 cas k 65536 30 6 4|ncache"),
        ],
    );
    play.check("get k|", &[("go", ">0 get k"), (negative, "=null")]);
    play.check("get k|", &[("go", ">0 get k"), (negative, ">0 gets k =null"), ("0 VALUE other c=4", "")]);
    // Without the data it is a client's own flag.
    play.check("get k|", &[("go", ">0 get k"), ("0 VALUE x f=65536", "=VALUE x f=65536")]);
    // Entries of a time when there were some are still misses.
    let routes = two(CACHE);
    Play::new(&routes).check("get k|", &[("go", ">0 get k"), (negative, "=null")]);
}

const SPLIT: L1L2SizeSplit =
    L1L2SizeSplit { threshold: 4, ttl_threshold: 10, failure_ttl: 60, both_full_set: false, retries: 1 };

#[test]
fn large_values_live_in_l2() {
    let routes = two(SPLIT);
    let mut play = Play::new(&routes);
    for small in ["set k 1 20 3|abc|", "set k 1 9 4|abcd|", "set k 1 -1 4|abcd|", "add k 1 20 4|abcd|", "delete k|"] {
        play.check(small, &[("go", &format!(">0 {}", small.trim_end_matches('|'))), ("0 ERROR", "=ERROR")]);
    }
    for exptime in ["0", "10", "2000000000"] {
        play.check(
            &format!("set k 1 {exptime} 4|abcd|"),
            &[
                ("go", &format!(">1 set k 1 {exptime} 4|abcd")),
                ("1 STORED", &format!("kept >0 set k 33 {exptime} 0")),
                ("0 STORED", "=STORED"),
            ],
        );
    }
    let off = two(L1L2SizeSplit { threshold: 0, ..SPLIT });
    Play::new(&off).check("set k 1 0 4|abcd|", &[("go", ">0 set k 1 0 4|abcd")]);
}

#[test]
fn l1_takes_a_large_value_while_l2_fails() {
    let routes = two(SPLIT);
    let mut play = Play::new(&routes);
    for (exptime, short) in [("0", "60"), ("61", "60"), ("59", "59"), ("2000000000", "60")] {
        let in_l1 = format!(">0 set k 1 {short} 4|abcd");
        let request = format!("set k 1 {exptime} 4|abcd|");
        let sent = format!(">1 set k 1 {exptime} 4|abcd");
        play.check(&request, &[("up=11", ""), ("go", &sent), ("1 timeout", &in_l1), ("0 STORED", "=STORED")]);
        play.check(&request, &[("up=10", ""), ("go", &in_l1), ("0 STORED", "=STORED")]);
    }
    play.check("set k 1 0 4|abcd|", &[("up=00", ""), ("go", "=no_healthy_server")]);
}

#[test]
fn large_values_in_both() {
    let routes = two(L1L2SizeSplit { both_full_set: true, ..SPLIT });
    let mut play = Play::new(&routes);
    let sent = ("go", ">0 set k 1 0 4|abcd");
    play.check("set k 1 0 4|abcd|", &[sent, ("0 STORED", ">1 set k 1 0 4|abcd =STORED")]);
    play.check("set k 1 0 4|abcd|", &[sent, ("0 SERVER_ERROR", "=SERVER_ERROR")]);
}

#[test]
fn a_sentinel_leads_to_l2() {
    let routes = two(SPLIT);
    let mut play = Play::new(&routes);
    for ask in ["get k", "gat 9 k"] {
        play.check(
            &format!("{ask}|"),
            &[
                ("go", &format!(">0 {ask}")),
                ("0 VALUE  f=33", &format!(">1 {ask}")),
                ("1 VALUE abcd f=1", "=VALUE abcd f=1"),
            ],
        );
    }
    // mcrouter's lease-set leaves a number.
    play.check(
        "get k|",
        &[("go", ">0 get k"), ("0 VALUE 77 f=32", ">1 get k|==|77"), ("1 VALUE abcd f=1", "=VALUE abcd f=1")],
    );
    // A client's own flag.
    play.check("get k|", &[("go", ">0 get k"), ("0 VALUE abc f=32", "=VALUE abc f=32")]);
    play.check("get k|", &[("go", ">0 get k"), ("0 END", "=END")]);
    play.check(
        "gets k|",
        &[("go", ">0 gets k"), ("0 VALUE  f=33 c=8", ">1 gets k"), ("1 VALUE abcd f=1 c=5", "=VALUE abcd f=1")],
    );
    assert_eq!(play.composed_cas(), "8");
    for failed in ["timeout", "SERVER_ERROR"] {
        play.check(
            "get k|",
            &[("go", ">0 get k"), ("0 VALUE  f=32", ">1 get k"), (&format!("1 {failed}"), &format!("={failed}"))],
        );
    }
}

#[test]
fn a_sentinel_without_its_value_is_removed() {
    let routes = two(SPLIT);
    let mut play = Play::new(&routes);
    let until = [
        ("go", ">0 get k"),
        ("0 VALUE  f=32", ">1 get k"),
        ("1 END", ">0 gets k"),
        ("0 VALUE  f=32 c=6", ">0 cas k 0 -1 0 6"),
        ("0 STORED", ">0 get k"),
    ];
    play.check("get k|", &[&until[..], &[("0 END", "=END")]].concat());
    play.check("get k|", &[&until[..], &[("0 VALUE new", "=VALUE new f=0")]].concat());
    // One more of them, and it is enough.
    let again = [
        ("0 VALUE  f=32", ">1 get k"),
        ("1 END", ">0 gets k"),
        ("0 VALUE  f=32 c=7", ">0 cas k 0 -1 0 7"),
        ("0 EXISTS", "=null"),
    ];
    play.check("get k|", &[&until[..], &again[..]].concat());
    // Another one by now: it stays, and L1 is asked again.
    play.check(
        "get k|",
        &[&until[..3], &[("0 VALUE abc c=9", ">0 get k"), ("0 VALUE abc", "=VALUE abc f=0")]].concat(),
    );
}

#[test]
fn staging_follows_warm() {
    let routes = two(Staging);
    let mut play = Play::new(&routes);
    let got = [("go", ">0 get k"), ("0 VALUE x f=3", ">1 mg k k f t c =VALUE x f=3")];
    let missing = [("1 END", ">0 mg k k f t c v")];
    play.check("get k|", &[&got[..], &[("1 VALUE  t=5 c=1", "")]].concat());
    play.check(
        "get k|",
        &[&got[..], &missing[..], &[("0 VALUE x f=3 t=50 c=1", ">1 add k 3 50 1|x"), ("1 STORED", "")]].concat(),
    );
    play.check("get k|", &[&got[..], &missing[..], &[("0 VALUE x f=3 t=-1 c=1", ">1 add k 3 0 1|x")]].concat());
    for nothing in ["0 END", "0 ERROR", "0 timeout", "0 VALUE x t=0 c=1"] {
        play.check("get k|", &[&got[..], &missing[..], &[(nothing, "")]].concat());
    }
    for unwell in ["1 SERVER_ERROR", "1 timeout", "1 ERROR"] {
        play.check("get k|", &[&got[..], &[(unwell, "")]].concat());
    }
    play.check("get k|", &[("go", ">0 get k"), ("0 END", "=END")]);
    play.check("gets k|", &[("go", ">0 gets k"), ("0 VALUE x c=1", ">1 mg k k f t c =VALUE x f=0"), ("1 END", "")]);
    play.check("gets k|", &[("go", ">0 gets k"), ("0 END", "=END")]);
    play.check("set k 1 2 3|abc|", &[("go", ">0 set k 1 2 3|abc"), ("0 STORED", ">1 set k 1 2 3|abc =STORED")]);
    play.check("cas k 1 2 3 9|abc|", &[("go", ">0 cas k 1 2 3 9|abc"), ("0 STORED", ">1 set k 1 2 3|abc =STORED")]);
    play.check("cas k 1 2 3 9|abc|", &[("go", ">0 cas k 1 2 3 9|abc"), ("0 EXISTS", "=EXISTS")]);
    play.check("set k 1 2 3|abc|", &[("go", ">0 set k 1 2 3|abc"), ("0 timeout", "=timeout")]);
    play.check("incr k 1|", &[("go", ">0 incr k 1"), ("0 NUMBER", ">1 incr k 1 =NUMBER"), ("1 NOT_FOUND", "")]);
    play.check("touch k 1|", &[("go", ">0 touch k 1"), ("0 NOT_FOUND", ">1 touch k 1 =NOT_FOUND")]);
    play.check("touch k 1|", &[("go", ">0 touch k 1"), ("0 SERVER_ERROR", "=SERVER_ERROR")]);
    play.check("get k|", &[("up=01", ""), ("go", "=no_healthy_server")]);
    play.check("get k|", &[("up=10", ""), ("go", ">0 get k"), ("0 VALUE x", "=VALUE x f=0")]);
}

#[test]
fn staging_deletes_both() {
    let routes = two(Staging);
    let mut play = Play::new(&routes);
    let both = ("go", ">0 delete k >1 delete k");
    play.check("delete k|", &[both, ("1 NOT_FOUND", "kept"), ("0 DELETED", "=NOT_FOUND")]);
    play.check("delete k|", &[both, ("1 DELETED", "kept"), ("0 DELETED", "=DELETED")]);
    play.check("delete k|", &[both, ("0 DELETED", "kept"), ("1 timeout", "=timeout")]);
    play.check("delete k|", &[("up=10", ""), ("go", ">0 delete k"), ("0 DELETED", "=no_healthy_server")]);
    play.check("delete k|", &[("up=00", ""), ("go", "=no_healthy_server")]);
}
