//! The deterministic twin of the ring: the same core, a virtual clock, and a network that fails as its seed says.
//!
//! A `SimNet` holds nodes (cores under test, any `Handler<SimIo>`), peers (scripted servers and clients, see `Peer`) and
//! the streams between them. Everything is drawn from one seed: latencies, where a read is cut, who is reset and when. The
//! same seed with the same script gives the same run, byte for byte (`SimNet::trace_hash`).
//!
//! Never: threads, the real clock, the kernel, iteration over a hash map.
//!
//! Invariants: those of `Io` and `Handler`, asserted. Bytes of one stream keep their order; streams know no order among
//! each other. Time moves only between turns. A panic while a `SimNet` lives prints its seed and its last events.
//!
//! ```
//! use keyway_io_engine::sim::{Faults, Ran, Script, SimIo, SimNet, address};
//! use keyway_io_engine::{Conn, Closing, ConnectError, Ended, Handler, Io, ListenerId, Wait};
//!
//! struct Echo;
//! impl Handler<SimIo> for Echo {
//!     fn accepted(&mut self, _: &mut SimIo, _: ListenerId, _: Conn) {}
//!     fn connected(&mut self, _: &mut SimIo, _: Conn, _: Result<(), ConnectError>) {}
//!     fn received(&mut self, io: &mut SimIo, conn: Conn, bytes: &[u8]) {
//!         io.send(conn, bytes.to_vec());
//!     }
//!     fn ended(&mut self, io: &mut SimIo, conn: Conn, _: Ended) {
//!         io.close(conn, Closing::Now);
//!     }
//!     fn sent(&mut self, _: &mut SimIo, _: Conn, _: Vec<u8>, _: Result<(), i32>) {}
//!     fn doorbell(&mut self, _: &mut SimIo) {}
//!     fn turn_ended(&mut self, _: &mut SimIo) {}
//! }
//!
//! let mut net = SimNet::new(7, Faults::none());
//! net.node(&[address(1)]);
//! let client = net.client("client", &address(1), 0, Script::new().send(b"hello").expect(5).close());
//! let wait = |_: &mut Echo| Wait { deadline: None, immediate: false, in_flight: 0 };
//! assert_eq!(net.run(&mut Echo, wait, 1_000_000_000), Ran::Quiet);
//! assert_eq!(net.peer::<Script>(client).received(), b"hello");
//! ```

mod clock;
mod endings;
mod faults;
mod link;
mod net;
mod node;
mod peer;
mod peers;
mod prng;
mod script;
mod trace;
mod wire;

pub use faults::{FaultCounts, FaultKind, Faults, Span};
pub use net::{NodeId, Ran, ServerMode, SimNet, Totals};
pub use node::SimIo;
pub use peer::{Peer, PeerEnd, PeerId, PeerOut, PeerReading};
pub use prng::Prng;
pub use script::Script;

use crate::Address;
use std::net::{Ipv4Addr, SocketAddr};

/// A made-up address, the same for the same number: 10.0.0.n:11211.
#[must_use]
pub fn address(n: u8) -> Address {
    Address::Tcp(SocketAddr::from((Ipv4Addr::new(10, 0, 0, n), 11211)))
}
