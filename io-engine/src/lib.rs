//! The completion ring and all that touches the kernel: sockets, buffers, deadlines, placement, mailboxes.
//!
//! The only crate with `unsafe`. It knows bytes and connections, never memcached or Redis. `Io` and `Handler` are the
//! seam: the router's core is written against them and runs on the ring (`ring`) or on the simulator (`sim`) alike.

pub mod batching;
mod io;
pub mod listen;
pub mod mailbox;
pub mod placement;
mod prefetch;
pub mod probe;
pub mod ring;
pub mod sim;

pub use batching::{Batching, BatchingMode};
pub use io::{
    Address, BufferGroup, Closing, Conn, ConnectError, Ended, EngineCounters, Handler, Io, LINGER_BYTES, LINGER_NANOS,
    ListenerId, Nanos, Reading, Wait,
};
pub use listen::{BindError, Listener, bind, bind_all_addresses, bind_spread};
pub use mailbox::{Doorbell, Receiver, Sender, mailbox};
pub use prefetch::prefetch;
pub use probe::SetupError;
pub use ring::{EngineError, RingConfig, RingEngine, RingIo};
