//! BigValueRoute over server 0, with chunks of 4 bytes.

use crate::cases::tree;
use crate::play::Play;
use keyway_policies::routes::backfill::Backfill;
use keyway_policies::routes::big_value::{BigValue, MOST_CHUNKS};
use keyway_policies::routes::warm_up::WarmUp;
use keyway_policies::{Routes, ServerId};

const FOURS: BigValue = BigValue { split_threshold: 4, batch_size: 2, hide_reply_flag: true };

fn big_value(route: BigValue) -> Routes {
    tree(1, |builder, servers| builder.add(route, servers).expect("a route"))
}

fn check(request: &str, steps: &[(&str, &str)]) {
    let routes = big_value(FOURS);
    Play::new(&routes).check(request, steps);
}

/// The suffix in what the first step of a set sent.
fn suffix_of(sent: &str) -> String {
    let key = sent.split(' ').nth(2).expect("a key");
    key.rsplit(':').next().expect("a suffix").to_owned()
}

#[test]
fn small_values_are_left_alone() {
    check("set k 1 2 4|abcd|", &[("go", ">0 set k 1 2 4|abcd"), ("0 STORED", "=STORED")]);
    check("get k|", &[("go", ">0 get k"), ("0 VALUE abcd f=1", "=VALUE abcd f=1")]);
    check("get k|", &[("go", ">0 get k"), ("0 END", "=END")]);
    check("get k|", &[("go", ">0 get k"), ("0 timeout", "=timeout")]);
    check("get k|", &[("up=0", ""), ("go", "=no_healthy_server")]);
    for other in ["delete k|", "touch k 9|", "incr k 1|", "append k 0 0 5|abcde|", "prepend k 0 0 5|abcde|"] {
        let sent = format!(">0 {}", other.trim_end_matches('|'));
        check(other, &[("go", &sent), ("0 ERROR", "=ERROR")]);
    }
}

#[test]
fn a_large_set_is_chunks_and_then_a_parent() {
    for (request, parent) in [
        ("set k 1 60 9|abcdefghi|", "set k 32769 60"),
        ("add k 1 60 9|abcdefghi|", "add k 32769 60"),
        ("replace k 1 60 9|abcdefghi|", "replace k 32769 60"),
        ("cas k 1 60 9 77|abcdefghi|", "cas k 32769 60"),
    ] {
        let routes = big_value(FOURS);
        let mut play = Play::new(&routes);
        let told = play.tell_all(request, &["go", "0 STORED", "0 STORED", "0 STORED", "0 STORED"]);
        let suffix = suffix_of(&told[0]);
        let chunk = |at: usize, value: &str| format!(">0 set k:{at}:{suffix} 1 60 {}|{value}", value.len());
        assert_eq!(told[0], format!("{} {}", chunk(0, "abcd"), chunk(1, "efgh")), "two at once");
        assert_eq!(told[1], chunk(2, "i"));
        assert_eq!(told[2], "");
        let data = format!("1-3-{suffix}");
        let cas = if request.starts_with("cas") { " 77" } else { "" };
        assert_eq!(told[3], format!(">0 {parent} {}{cas}|{data}", data.len()));
        assert_eq!(told[4], "=STORED");
    }
}

#[test]
fn every_set_has_its_own_suffix() {
    let routes = big_value(FOURS);
    let mut play = Play::new(&routes);
    let first = suffix_of(&play.tell_all("set k 0 0 5|abcde|", &["go"])[0]);
    let second = suffix_of(&play.tell_all("set k 0 0 5|abcde|", &["go"])[0]);
    assert_ne!(first, second);
}

#[test]
fn without_all_chunks_there_is_no_parent() {
    for (word, answer) in [("SERVER_ERROR", "=SERVER_ERROR"), ("timeout", "=timeout"), ("NOT_STORED", "=NOT_STORED")] {
        let routes = big_value(FOURS);
        let mut play = Play::new(&routes);
        let told = play.tell_all("set k 0 0 9|abcdefghi|", &["go", "0 STORED", &format!("0 {word}"), "0 STORED"]);
        assert_eq!(told[2], answer);
        assert_eq!(told[3], "");
    }
    check("set k 0 0 9|abcdefghi|", &[("up=0", ""), ("go", "=no_healthy_server")]);
}

#[test]
fn what_can_t_be_split_is_passed_on() {
    let routes = big_value(FOURS);
    let mut play = Play::new(&routes);
    let long = "x".repeat(4 * MOST_CHUNKS + 1);
    let request = format!("set k 0 0 {}|{long}|", long.len());
    play.check(&request, &[("go", &format!(">0 set k 0 0 {}|{long}", long.len()))]);
    let key = "k".repeat(230);
    play.check(&format!("set {key} 0 0 5|abcde|"), &[("go", &format!(">0 set {key} 0 0 5|abcde"))]);
    play.spare_bytes = 20;
    play.check("set k 0 0 5|abcde|", &[("go", ">0 set k 0 0 5|abcde"), ("0 STORED", "=STORED")]);
}

#[test]
fn a_parent_is_read_with_its_chunks() {
    let parent = ("0 VALUE 1-3-77 f=32769 c=5", ">0 get k:0:77 >0 get k:1:77");
    check(
        "get k|",
        &[
            ("go", ">0 get k"),
            parent,
            ("0 VALUE abcd", ">0 get k:2:77"),
            ("0 VALUE efgh", ""),
            ("0 VALUE i", "=VALUE abcdefghi f=1"),
        ],
    );
    // As mcrouter, with the flag.
    let routes = big_value(BigValue { hide_reply_flag: false, ..FOURS });
    Play::new(&routes).check(
        "get k|",
        &[("go", ">0 get k"), ("0 VALUE 1-1-77 f=32769", ">0 get k:0:77"), ("0 VALUE ab", "=VALUE ab f=32769")],
    );
    // The time is moved of all.
    check(
        "gat 30 k|",
        &[("go", ">0 gat 30 k"), ("0 VALUE 1-1-77 f=32768", ">0 gat 30 k:0:77"), ("0 VALUE ab", "=VALUE ab f=0")],
    );
    // All at once.
    let routes = big_value(BigValue { batch_size: 0, ..FOURS });
    Play::new(&routes).check(
        "get k|",
        &[("go", ">0 get k"), ("0 VALUE 1-3-77 f=32768", ">0 get k:0:77 >0 get k:1:77 >0 get k:2:77")],
    );
}

#[test]
fn a_cas_is_the_parent_s() {
    let routes = big_value(FOURS);
    let mut play = Play::new(&routes);
    play.check(
        "gets k|",
        &[("go", ">0 gets k"), ("0 VALUE 1-1-77 f=32768 c=5", ">0 get k:0:77"), ("0 VALUE ab", "=VALUE ab f=0")],
    );
    assert_eq!(play.composed_cas(), "5");
}

#[test]
fn the_order_of_chunks_is_not_that_of_replies() {
    // Two servers by hash: chunks of "k" go to both.
    let routes = tree(0, |builder, _| {
        let servers = [ServerId(0), ServerId(1)].map(|server| builder.server(server).expect("a server"));
        let choose = builder.all_fastest(&servers).expect("a route");
        builder.add(FOURS, &[choose]).expect("a route")
    });
    Play::new(&routes).check(
        "get k|",
        &[
            ("go", ">0 get k >1 get k"),
            ("1 VALUE 1-2-77 f=32768", ">0 get k:0:77 >1 get k:0:77 >0 get k:1:77 >1 get k:1:77"),
            ("0 END", ""),
            ("1 END", "kept"),
            // Chunk 1 before chunk 0.
            ("1 VALUE ef", ""),
            ("0 VALUE abcd", "=VALUE abcdef f=0"),
        ],
    );
}

#[test]
fn a_missing_chunk_is_a_miss() {
    for (chunk, answer) in [("END", "=null"), ("SERVER_ERROR", "=SERVER_ERROR"), ("timeout", "=timeout")] {
        check(
            "get k|",
            &[
                ("go", ">0 get k"),
                ("0 VALUE 1-2-77 f=32768", ">0 get k:0:77 >0 get k:1:77"),
                (&format!("0 {chunk}"), answer),
                ("0 VALUE ab", ""),
            ],
        );
    }
}

#[test]
fn what_only_looks_like_a_parent_is_an_item() {
    for data in ["abc", "1-2", "1-0-7", "1-101-7", "3-1-7", "1-1-7x", "1-1-7-8", "-1-7", "1--7"] {
        let item = format!("0 VALUE {data} f=32768");
        check("get k|", &[("go", ">0 get k"), (&item, &format!("=VALUE {data} f=32768"))]);
    }
    check("get k|", &[("go", ">0 get k"), ("0 VALUE 1-1-7 f=1", "=VALUE 1-1-7 f=1")]);
}

#[test]
fn a_client_s_own_flag_comes_back() {
    let routes = big_value(FOURS);
    let mut play = Play::new(&routes);
    let told = play.tell_all("set k 32770 0 5|abcde|", &["go", "0 STORED", "0 STORED"]);
    assert!(told[2].contains(">0 set k 32770 0 ") && told[2].contains("|2-2-"), "{told:?}");
    play.check(
        "get k|",
        &[("go", ">0 get k"), ("0 VALUE 2-1-77 f=32770", ">0 get k:0:77"), ("0 VALUE ab", "=VALUE ab f=32770")],
    );
}

#[test]
fn a_value_there_is_no_room_for() {
    let routes = big_value(FOURS);
    let mut play = Play::new(&routes);
    play.spare_bytes = 100;
    let piece = "x".repeat(80);
    play.check(
        "get k|",
        &[
            ("go", ">0 get k"),
            ("0 VALUE 1-2-77 f=32768", ">0 get k:0:77 >0 get k:1:77"),
            (&format!("0 VALUE {piece}"), "=not_replayable"),
        ],
    );
}

#[test]
fn a_large_value_is_filled_in_as_one() {
    // Cold and warm are both split.
    let routes = tree(2, |builder, servers| {
        let [cold, warm] = [0, 1].map(|at| builder.add(FOURS, &servers[at..=at]).expect("a route"));
        let fill = Backfill { exptime: None, ask_ttl: true, delete_both: true };
        builder.add(WarmUp { fill, invalidate_warm: false }, &[cold, warm]).expect("a route")
    });
    let mut play = Play::new(&routes);
    let told = play.tell_all(
        "get k|",
        &[
            "go",
            "0 END",
            "1 VALUE 1-2-77 f=32769 t=50 c=9",
            "1 VALUE abcd",
            "1 VALUE ef",
            "0 STORED",
            "0 STORED",
            "0 STORED",
            "1 VALUE  f=32769 t=50 c=9",
        ],
    );
    let suffix = suffix_of(&told[4]);
    let parent = format!("1-2-{suffix}");
    let expected = [
        ">0 get k",
        "kept >1 mg k k f t c v",
        ">1 get k:0:77 >1 get k:1:77",
        "",
        &format!(">0 set k:0:{suffix} 1 50 4|abcd >0 set k:1:{suffix} 1 50 2|ef =VALUE abcdef f=1"),
        "",
        &format!(">0 add k 32769 50 {}|{parent}", parent.len()),
        ">1 mg k k f t c",
        "",
    ];
    assert_eq!(told, expected);
}
