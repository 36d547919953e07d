//! The route tree: which servers a request goes to, in which order or at once, and how their replies join.
//!
//! One policy per file under `routes/`, named as mcrouter names it; `plan` interprets the tree, `variant` holds the
//! forms in which a request is sent, `hash` places keys.
//! Never does I/O, reads a clock, parses YAML or knows a socket: the caller hands in health and replies, and carries
//! out what the plan says.

mod decimal;
pub mod hash;
mod notes;
pub mod outcome;
mod pieces;
pub mod plan;
pub mod reply;
pub mod request;
pub mod routes;
mod variant;

pub use hash::{Distribution, HashTag, KeyHash, Member, Placement, PlacementSpec, Weight};
pub use outcome::{Failure, Outcome, OutcomeClass, Severity};
pub use plan::{LocalReply, Plan, null_reply};
pub use reply::{ByOperation, Choose, MultigetErrors, ReplyPolicy, Success};
pub use request::{
    Action, Answer, ClientView, Dispatch, Env, HealthView, ItemView, KeptReply, Reported, RequestView, Step, TryId,
    Verdict, Wake, Wire,
};
pub use routes::builder::{BuildError, RoutesBuilder};
pub use routes::events::{RouteEvent, RouteEvents};
pub use routes::explain::{ExplainStep, ExplainUse, Sent};
pub use routes::pool::{OnDown, Pool, PoolSpec};
pub use routes::{NodeId, RouteNode, RouteStates, Routes, ServerId};
