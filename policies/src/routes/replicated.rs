//! A replicated pool as a tree: servers that hold the same, each operation in the way that is safe among them.
//!
//! | operation | what happens |
//! |---|---|
//! | get | one after the other until one has it, or all at once |
//! | gets, gats | the first alone: a cas belongs to one server |
//! | cas | the first decides; when it stored, the others forget the key |
//! | add, replace | the first decides; when it stored, the others store the same |
//! | set, delete, flush_all | all that are up, and the worst of their replies |
//! | append, prepend, incr, decr | all that are up, and the reply of the first of them |
//! | touch, gat | all that are up, and the best of their replies |
//!
//! Owns which route stands for which operation. The replies of those that ask all can be joined in another way.

use super::all_fastest::AllFastest;
use super::all_sync::AllSync;
use super::builder::{BuildError, RoutesBuilder};
use super::miss_failover::MissFailover;
use super::operation_selector::OperationSelector;
use super::primary::{Follow, Primary};
use super::walk::{Rule, Walk};
use super::{NodeId, RouteNode};
use crate::reply::{ByOperation, Choose, ReplyPolicy, Success};
use keyway_protocol::Operation;

/// The settings of a replicated pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Replicated {
    /// How get finds a replica.
    pub reads: Reads,
    /// How the replies of those operations become one that go to all replicas.
    pub replies: ByOperation<ReplyPolicy>,
}

/// How get finds a replica.
#[derive(Clone, Debug, PartialEq)]
pub enum Reads {
    /// One after the other.
    InOrder(Walk),
    /// All at once.
    AtOnce,
}

impl Default for Replicated {
    fn default() -> Replicated {
        Replicated {
            reads: Reads::InOrder(Walk::new(Rule::MISS_FAILOVER)),
            replies: ByOperation::from_fn(default_replies),
        }
    }
}

/// How replies become one unless it is configured.
const fn default_replies(operation: Operation) -> ReplyPolicy {
    match operation {
        Operation::Get => ReplyPolicy::ALL_FASTEST,
        Operation::Touch | Operation::Gat => {
            ReplyPolicy { success: Success::Any, ignore_down: true, answer: Choose::Best }
        }
        Operation::Append | Operation::Prepend | Operation::Incr | Operation::Decr => {
            ReplyPolicy { success: Success::Any, ignore_down: true, answer: Choose::Primary }
        }
        Operation::Set
        | Operation::Delete
        | Operation::FlushAll
        | Operation::Gets
        | Operation::Gats
        | Operation::Add
        | Operation::Replace
        | Operation::Cas
        | Operation::Stats
        | Operation::Version
        | Operation::Verbosity
        | Operation::Quit => ReplyPolicy { success: Success::All, ignore_down: true, answer: Choose::Worst },
    }
}

impl Replicated {
    /// The tree over servers (or whatever holds the same), its nodes made by `join`: a route over children, in the order
    /// of its file. One replica is that replica.
    pub fn tree<N: Clone>(
        &self,
        replicas: &[N],
        mut join: impl FnMut(RouteNode, Vec<N>) -> Result<N, BuildError>,
    ) -> Result<N, BuildError> {
        let mut over = |route: RouteNode| join(route, replicas.to_vec());
        let to_all = over(AllSync { replies: self.replies.clone() }.into())?;
        let [first, _, ..] = replicas else { return Ok(to_all) };
        let reads = match &self.reads {
            Reads::InOrder(walk) => over(MissFailover(walk.clone()).into())?,
            Reads::AtOnce => over(AllFastest { replies: self.replies.clone() }.into())?,
        };
        let forget = over(Primary { follow: Follow::Delete }.into())?;
        let store = over(Primary { follow: Follow::Set }.into())?;
        let entries = [
            (Operation::Get, reads),
            (Operation::Gets, first.clone()),
            (Operation::Gats, first.clone()),
            (Operation::Cas, forget),
            (Operation::Add, store.clone()),
            (Operation::Replace, store),
        ];
        let operations = entries.each_ref().map(|(operation, _)| *operation);
        let children = std::iter::once(to_all).chain(entries.map(|(_, route)| route)).collect();
        join(OperationSelector::new(&operations)?.into(), children)
    }
}

impl RoutesBuilder {
    /// The tree of a replicated pool.
    pub fn replicated(&mut self, replicas: &[NodeId], settings: &Replicated) -> Result<NodeId, BuildError> {
        settings.tree(replicas, |route, children| self.add(route, &children))
    }
}
