//! What a turn waits for: deadlines, doorbells, signals, and the batching window.

mod world;

use keyway_io_engine::{Batching, BatchingMode, Io, RingConfig, Wait, mailbox};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use world::{Event, World, buffers};

#[test]
fn a_deadline_ends_the_wait_and_now_moves() {
    let mut world = World::new(buffers(8, 4096), Vec::new());
    let before = world.io().now();
    let deadline = before + 5_000_000;
    world
        .engine
        .turn(&mut world.recorder, Wait { deadline: Some(deadline), immediate: false, in_flight: 0 })
        .expect("a turn");
    assert!(world.io().now() >= deadline);
    // One that has passed doesn't wait, and neither does an immediate turn.
    let start = Instant::now();
    for (deadline, immediate) in [(Some(0), false), (None, true), (Some(u64::MAX), true)] {
        world.engine.turn(&mut world.recorder, Wait { deadline, immediate, in_flight: 0 }).expect("a turn");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(world.recorder.turns, 4);
    assert!(world.events().is_empty());
}

#[test]
fn the_doorbell_wakes_the_shard_and_is_armed_again() {
    let (sender, mut receiver) = mailbox::<u32>().expect("an eventfd");
    let config = RingConfig { doorbell: Some(receiver.doorbell()), ..buffers(8, 4096) };
    let mut world = World::new(config, Vec::new());
    let mut all = Vec::new();
    for round in 0..3 {
        // Rung before the wait, and from another thread during it.
        let sender = sender.clone();
        let ring = move || (0..10).for_each(|n| sender.send(round * 10 + n).expect("room"));
        if round == 0 {
            ring();
            world.turn();
        } else {
            let thread = std::thread::spawn(ring);
            while all.len() < (round as usize + 1) * 10 {
                world.turn();
                all.extend(std::iter::from_fn(|| receiver.take()));
            }
            thread.join().expect("sender");
        }
        all.extend(std::iter::from_fn(|| receiver.take()));
    }
    assert_eq!(all, (0..30).collect::<Vec<_>>());
    assert!(world.events().iter().all(|event| *event == Event::Doorbell));
    assert_eq!(world.counters().doorbells, world.events().len() as u64);
}

#[test]
fn a_signal_ends_the_wait_and_nothing_else() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: installs a handler that does nothing, for a signal nothing else here uses.
    unsafe { libc::signal(libc::SIGUSR1, nothing as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    let mut world = World::new(buffers(8, 4096), Vec::new());
    // SAFETY: has no preconditions.
    let thread = unsafe { libc::pthread_self() };
    let heard = Arc::new(AtomicBool::new(false));
    let signaller = std::thread::spawn({
        let heard = heard.clone();
        move || {
            while !heard.load(Ordering::Relaxed) {
                // SAFETY: the thread joins us before it ends.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                std::thread::yield_now();
            }
        }
    });
    world.until("interruption", |world| (world.counters().interrupted > 0).then_some(()));
    heard.store(true, Ordering::Relaxed);
    signaller.join().expect("signaller");
    assert!(world.events().is_empty());
}

/// Two clients write one after the other; how many turns told of it?
fn check_window(mode: BatchingMode, one_turn: bool) {
    let (mut world, address) = World::listening(buffers(8, 4096));
    let (mut first, one) = world.client(address);
    let (mut second, two) = world.client(address);
    world.settle();
    world.engine.set_batching(Batching { mode, max_delay_us: 2_000_000 });
    let writer = std::thread::spawn(move || {
        first.write_all(b"1").expect("write");
        (first, second.write_all(b"2").map(|()| second).expect("write"))
    });
    let turns = world.recorder.turns;
    world.until("both", |world| (!world.received(one).is_empty() && !world.received(two).is_empty()).then_some(()));
    let turns = world.recorder.turns - turns;
    writer.join().expect("writer");
    assert!(!one_turn || turns == 1, "{mode:?}: {turns} turns");
}

#[test]
fn a_window_gathers_what_comes_apart() {
    check_window(BatchingMode::Fixed { batch: 2 }, true);
    check_window(BatchingMode::Off, false);
    check_window(BatchingMode::Adaptive, false);
}

#[test]
fn a_window_ends_with_its_delay_and_with_the_deadline() {
    let (mut world, address) = World::listening(buffers(8, 4096));
    let (mut client, conn) = world.client(address);
    world.settle();
    let never_full = BatchingMode::Fixed { batch: 1000 };
    world.engine.set_batching(Batching { mode: never_full, max_delay_us: 1000 });
    client.write_all(b"alone").expect("write");
    let turns = world.recorder.turns;
    world.until("bytes", |world| (!world.received(conn).is_empty()).then_some(()));
    assert_eq!(world.recorder.turns - turns, 1, "one event is enough after the delay, and none is not");

    // A window far longer than the deadline.
    world.engine.set_batching(Batching { mode: never_full, max_delay_us: 60_000_000 });
    let start = Instant::now();
    let deadline = Some(world.io().now() + 1_000_000);
    client.write_all(b"again").expect("write");
    world.engine.turn(&mut world.recorder, Wait { deadline, immediate: false, in_flight: 9 }).expect("a turn");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(world.received(conn), b"aloneagain");
}
