//! DefaultRoute: the first child that can be used now, and its reply whatever it is.
//!
//! A selector: it is resolved on the way down and leaves no trace in the plan, so a failure on the way is the answer
//! and no second child is tried (MissFailoverRoute is for that). A child made of routes can be used when anything below
//! it can take this very request.

use super::NodeId;
use crate::LocalReply;
use crate::plan::{Place, Run, Started};

/// Starts the first usable child in its parent's place.
pub(crate) fn start(run: &mut Run<'_>, children: &[NodeId], place: Place) -> Started {
    for &child in children {
        match run.start(child, place) {
            Started::Unusable(_) => {}
            started @ (Started::Waiting | Started::Settled(_)) => return started,
        }
    }
    Started::Unusable(LocalReply::NoHealthyServer)
}
