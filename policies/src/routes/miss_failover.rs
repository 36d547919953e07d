//! MissFailoverRoute: children one after the other until one succeeds. Any operation, as in gomcrouter.
//!
//! When none succeeds:
//!
//! | outcomes so far | answer |
//! |---|---|
//! | misses (END, NOT_FOUND, NOT_STORED, EXISTS), whatever else | the last miss: a definite answer beats a later error |
//! | errors (ERROR, CLIENT_ERROR, SERVER_ERROR) and failures | the last error: a reply beats a failure on the way |
//! | failures only | the last failure |
//!
//! gomcrouter's table is the same but for a miss followed by an error, where the error won. mcrouter answered the last
//! reply whatever it was, or the least severe one with `return_best_on_error`, and gave operations other than get-like
//! and delete-like ones to the first child alone: both can be had (`Rule`).

use super::walk::{Rule, Walk, walk_route};

walk_route!(
    /// MissFailoverRoute.
    MissFailover
);

impl Default for MissFailover {
    fn default() -> MissFailover {
        MissFailover(Walk::new(Rule::MISS_FAILOVER))
    }
}
