//! Out of descriptors: accepting pauses without spinning and goes on when there are some again. Alone in its program,
//! since the limit is the process's.

mod world;

use keyway_io_engine::{Address, ConnectError, Io};
use std::fs::File;
use std::net::TcpStream;
use world::{World, buffers};

#[test]
fn accepting_pauses_when_descriptors_run_out() {
    let (mut world, address) = World::listening(buffers(8, 4096));
    let clients: Vec<_> = (0..4).map(|_| TcpStream::connect(address).expect("queued")).collect();
    let lowest_free = || std::os::fd::AsRawFd::as_raw_fd(&File::open("/dev/null").expect("a descriptor"));
    let limit = libc::rlimit { rlim_cur: lowest_free() as u64, rlim_max: 4096 };
    // SAFETY: reads one rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);

    world.until("a failed accept", |world| (world.counters().accept_errors > 0).then_some(()));
    assert_eq!(world.io().connect(&Address::Tcp(address)), Err(ConnectError::OutOfDescriptors));
    let turns = world.recorder.turns;
    world.until("another", |world| (world.counters().accept_errors > 3).then_some(()));
    assert!(world.recorder.turns - turns <= 6, "{} turns for 3 attempts", world.recorder.turns - turns);
    assert!(world.accepted().is_empty());

    let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    // SAFETY: reads one rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    world.until("every client", |world| (world.accepted().len() == clients.len()).then_some(()));
}
