//! A replicated pool, and PrimaryRoute under it.

use crate::cases::tree;
use crate::play::Play;
use keyway_policies::Routes;
use keyway_policies::routes::primary::{Follow, Primary};
use keyway_policies::routes::replicated::{Reads, Replicated};

fn replicated(settings: &Replicated) -> Routes {
    tree(3, |builder, servers| builder.replicated(servers, settings).expect("a tree"))
}

#[test]
fn each_operation_does_what_is_safe() {
    let routes = replicated(&Replicated::default());
    let mut play = Play::new(&routes);
    // One after the other until one has it.
    play.check("get k|", &[("go", ">0 get k"), ("0 END", "kept >1 get k"), ("1 VALUE x", "=VALUE x f=0")]);
    // A cas belongs to the first.
    play.check("gets k|", &[("go", ">0 gets k"), ("0 END", "=END")]);
    play.check("gats 5 k|", &[("go", ">0 gats 5 k"), ("0 VALUE x c=1", "=VALUE x f=0")]);
    play.check(
        "cas k 1 2 1 99|x|",
        &[
            ("go", ">0 cas k 1 2 1 99|x"),
            ("0 STORED", "kept >1 delete k >2 delete k"),
            ("2 NOT_FOUND", ""),
            ("1 timeout", "=STORED"),
        ],
    );
    play.check("cas k 1 2 1 99|x|", &[("go", ">0 cas k 1 2 1 99|x"), ("0 EXISTS", "=EXISTS")]);
    play.check("cas k 1 2 1 99|x|", &[("go", ">0 cas k 1 2 1 99|x"), ("0 timeout", "=timeout")]);
    // Whether the key is there is the first's to say.
    play.check(
        "add k 1 2 1|x|",
        &[
            ("go", ">0 add k 1 2 1|x"),
            ("0 STORED", "kept >1 set k 1 2 1|x >2 set k 1 2 1|x"),
            ("1 STORED", ""),
            ("2 STORED", "=STORED"),
        ],
    );
    play.check("replace k 1 2 1|x|", &[("go", ">0 replace k 1 2 1|x"), ("0 NOT_STORED", "=NOT_STORED")]);
    // To all; the worst of what they say.
    let set = ">0 set k 1 2 1|x >1 set k 1 2 1|x >2 set k 1 2 1|x";
    play.check("set k 1 2 1|x|", &[("go", set), ("0 STORED", "kept"), ("2 STORED", ""), ("1 timeout", "=timeout")]);
    let delete = ">0 delete k >1 delete k >2 delete k";
    play.check(
        "delete k|",
        &[("go", delete), ("0 DELETED", "kept"), ("2 NOT_FOUND", "kept"), ("1 DELETED", "=NOT_FOUND")],
    );
    // To all; what the first says.
    let incr = ">0 incr k 1 >1 incr k 1 >2 incr k 1";
    play.check("incr k 1|", &[("go", incr), ("2 NUMBER", "kept"), ("0 NUMBER", "kept"), ("1 NOT_FOUND", "=NUMBER")]);
    let append = ">0 append k 0 0 1|x >1 append k 0 0 1|x >2 append k 0 0 1|x";
    play.check(
        "append k 0 0 1|x|",
        &[("go", append), ("1 STORED", "kept"), ("0 NOT_STORED", "kept"), ("2 STORED", "=NOT_STORED")],
    );
    // To all; the best.
    let touch = ">0 touch k 5 >1 touch k 5 >2 touch k 5";
    play.check(
        "touch k 5|",
        &[("go", touch), ("0 NOT_FOUND", "kept"), ("1 TOUCHED", "kept"), ("2 timeout", "=TOUCHED")],
    );
    let gat = ">0 gat 5 k >1 gat 5 k >2 gat 5 k";
    play.check("gat 5 k|", &[("go", gat), ("0 END", "kept"), ("1 VALUE x", "kept"), ("2 VALUE x", "=VALUE x f=0")]);
    let flush = ">0 flush_all >1 flush_all >2 flush_all";
    play.check("flush_all|", &[("go", flush), ("0 OK", "kept"), ("1 OK", ""), ("2 SERVER_ERROR", "=SERVER_ERROR")]);
}

#[test]
fn a_replica_that_is_down_is_left_out() {
    let routes = replicated(&Replicated::default());
    let mut play = Play::new(&routes);
    play.check(
        "set k 1 2 1|x|",
        &[("up=101", ""), ("go", ">0 set k 1 2 1|x >2 set k 1 2 1|x"), ("0 STORED", "kept"), ("2 STORED", "=STORED")],
    );
    play.check(
        "incr k 1|",
        &[("up=011", ""), ("go", ">1 incr k 1 >2 incr k 1"), ("2 NUMBER", "kept"), ("1 NUMBER", "=NUMBER")],
    );
    play.check("get k|", &[("go", ">1 get k"), ("1 VALUE x", "=VALUE x f=0")]);
    // Without the first nothing can be decided.
    for request in ["gets k|", "cas k 1 2 1 99|x|", "add k 1 2 1|x|"] {
        play.check(request, &[("go", "=no_healthy_server")]);
    }
}

#[test]
fn reads_may_go_to_all_at_once() {
    let routes = replicated(&Replicated { reads: Reads::AtOnce, ..Replicated::default() });
    let get = ">0 get k >1 get k >2 get k";
    Play::new(&routes).check("get k|", &[("go", get), ("2 END", "kept"), ("1 VALUE x", "=VALUE x f=0")]);
}

#[test]
fn one_replica_is_a_server() {
    let routes = tree(1, |builder, servers| builder.replicated(servers, &Replicated::default()).expect("a tree"));
    assert_eq!(routes.node(routes.root()).name(), "Server");
    let routes = tree(0, |builder, servers| builder.replicated(servers, &Replicated::default()).expect("a tree"));
    Play::new(&routes).check("get k|", &[("go", "=no_healthy_server")]);
}

#[test]
fn the_others_follow_the_primary() {
    let follow = |follow| tree(2, |builder, servers| builder.add(Primary { follow }, servers).expect("a route"));
    let routes = follow(Follow::Delete);
    let mut play = Play::new(&routes);
    for (request, success) in [("set k 1 2 1|x|", "STORED"), ("append k 0 0 1|x|", "STORED"), ("incr k 1|", "NUMBER")] {
        let sent = format!(">0 {}", request.trim_end_matches('|'));
        let (took, answer) = (format!("0 {success}"), format!("={success}"));
        play.check(request, &[("go", &sent), (&took, "kept >1 delete k"), ("1 DELETED", &answer)]);
    }
    // Of a delete they are told whatever the first says; of what it refused and of reads never.
    play.check("delete k|", &[("go", ">0 delete k"), ("0 NOT_FOUND", "kept >1 delete k"), ("1 DELETED", "=NOT_FOUND")]);
    play.check("touch k 9|", &[("go", ">0 touch k 9"), ("0 TOUCHED", "kept >1 touch k 9"), ("1 TOUCHED", "=TOUCHED")]);
    play.check("incr k 1|", &[("go", ">0 incr k 1"), ("0 NOT_FOUND", "=NOT_FOUND")]);
    play.check("get k|", &[("go", ">0 get k"), ("0 VALUE x", "=VALUE x f=0")]);
    // The other is down: it is left out.
    play.check("incr k 1|", &[("up=10", ""), ("go", ">0 incr k 1"), ("0 NUMBER", "=NUMBER")]);
    let routes = follow(Follow::Set);
    let mut play = Play::new(&routes);
    play.check(
        "cas k 1 2 1 9|x|",
        &[("go", ">0 cas k 1 2 1 9|x"), ("0 STORED", "kept >1 set k 1 2 1|x"), ("1 timeout", "=STORED")],
    );
    play.check("incr k 1|", &[("go", ">0 incr k 1"), ("0 NUMBER", "kept >1 delete k"), ("1 DELETED", "=NUMBER")]);
    play.check("delete k|", &[("go", ">0 delete k"), ("0 timeout", ">1 delete k"), ("1 DELETED", "=timeout")]);
}
