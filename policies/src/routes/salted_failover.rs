//! SaltedFailoverRoute: a pool, and its hosts in the order the key gives them when the key's own fails.
//!
//! mcrouter's short form of a FailoverRoute over the PoolRoute and the pool's hosts with DeterministicOrderPolicy or
//! RendezvousPolicy: `walk::order` has both.

super::walk::walk_route!(
    /// SaltedFailoverRoute. Its children: the pool, then the pool's servers.
    SaltedFailover
);
