//! FailoverRoute: children one after the other while what comes is a failover error; a miss is an answer.
//!
//! The last child's reply when all fail. Which results are failover errors, in which order children come, and what all
//! that may cost is in `walk`. Leases, whose tokens mcrouter could pair with a child, don't exist in memcached.

use super::walk::{Rule, Walk, walk_route};

walk_route!(
    /// FailoverRoute.
    Failover
);

impl Default for Failover {
    fn default() -> Failover {
        Failover(Walk::new(Rule::FAILOVER))
    }
}
