//! The completion ring and all that touches the kernel: sockets, buffers, deadlines, placement, mailboxes.
//!
//! The only crate with `unsafe`. It knows bytes and connections, never memcached or Redis. `Io` and `Handler` are the
//! seam: the router's core is written against them and runs on the ring (`ring`) or on the simulator (`sim`) alike.

mod io;
pub mod batching;

pub use batching::{Batching, BatchingMode};
pub use io::{Address, Closing, Conn, ConnectError, Ended, Handler, Io, ListenerId, Nanos, Reading, Wait};
