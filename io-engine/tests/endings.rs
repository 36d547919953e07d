//! A panic in a shard, and a locked-memory limit too low: each in a process of its own, which it ends.

use keyway_io_engine::placement::Placement;
use std::process::Command;

/// Runs `act` in a child process (this test again, told apart by a variable) and returns what it wrote to stderr.
fn in_child(test: &str, act: fn()) -> Option<(std::process::ExitStatus, String)> {
    if std::env::var_os("KEYWAY_CHILD").is_some() {
        act();
        return None;
    }
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("KEYWAY_CHILD", "1")
        .output()
        .expect("a child");
    Some((output.status, String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn a_panic_in_a_shard_ends_the_process() {
    let panics = || {
        let placement = Placement::new(Some(1)).expect("placed");
        placement.spawn_shards("shard", |_| async { panic!("on purpose") }).expect("started").join();
        std::process::exit(0);
    };
    if let Some((status, words)) = in_child("a_panic_in_a_shard_ends_the_process", panics) {
        assert!(!status.success());
        assert!(words.contains("on purpose") && words.contains("thread shard-0 panicked"), "{words}");
    }
}

#[test]
fn too_little_locked_memory_is_said_in_words() {
    let starves = || {
        let limit = libc::rlimit { rlim_cur: 65536, rlim_max: 65536 };
        // SAFETY: reads one rlimit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }, 0);
        let placement = Placement::new(Some(2)).expect("placed");
        let error = placement.spawn_shards("shard", |_| async { unreachable!() }).expect_err("too little");
        eprintln!("{error}");
    };
    if let Some((status, words)) = in_child("too_little_locked_memory_is_said_in_words", starves) {
        assert!(status.success(), "{words}");
        assert!(words.contains("the limit is 64 KiB"), "{words}");
    }
}
