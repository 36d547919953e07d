//! Bytes to messages and back. Owns the codecs and the one request model every dialect is turned into.
//!
//! Never does I/O, reads a clock, allocates from a size a peer declared, or panics on bytes a peer sent.

pub mod memcached;
pub mod operation;

pub use operation::{Operation, OperationClass};
