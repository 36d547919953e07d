//! Which member of a list a key belongs to: of a pool's servers, or of a route's children.
//!
//! Owns the functions and distributions other programs use, bit for bit, so that a fleet can be moved to Keyway without
//! its keys moving. A `PlacementSpec` says what is wanted, a `Placement` is that made ready. Never knows health: callers
//! hand in what is up.
//!
//! ```text
//!  key ──► tag or stop ──► + salt ──► function ──► distribution ──► member
//!          routing_key               functions/    ch3, ketama, ...
//! ```

mod buckets;
mod ch3;
mod const_shard;
mod functions;
mod jump;
mod ketama;
mod modula;
mod names;
mod placement;
mod random;
mod rendezvous;
mod routing_key;
mod spec;
#[cfg(test)]
mod vectors;

pub use functions::{KeyHash, WideHash};
pub use placement::{Candidates, MAX_DRAWS, Placement};
pub use routing_key::{HashStop, HashTag};
pub use spec::{
    CODIS_BUCKETS, Distribution, MAX_LABEL_BYTES, MAX_RING_POINTS, MAX_SALT_BYTES, Member, PlacementSpec, RingMode,
    SpecError, Weight, WeightRule,
};

/// mcrouter's hash of a key for all that isn't a pool: of what stands before its hash stop. Shadows and migrations go by it.
pub(crate) fn mcrouter_key_hash(key: &[u8]) -> u32 {
    functions::spooky::spooky_32(HashStop::MCROUTER.cut(key), 0)
}
