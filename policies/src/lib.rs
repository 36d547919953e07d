//! The route tree: which servers a request goes to, in which order or at once, and how their replies join.
//!
//! One policy per file under `routes/`, named as mcrouter names it. Never does I/O, reads a clock, parses YAML or knows
//! a socket: the caller hands in health and replies, and carries out what the plan says.

pub mod outcome;
pub mod plan;
pub mod routes;

pub use outcome::{Failure, Outcome};
pub use plan::{Answer, Dispatch, LocalReply, Plan, RequestView, Step, TryId, Verdict};
pub use routes::{NodeId, RouteNode, Routes, ServerId};
