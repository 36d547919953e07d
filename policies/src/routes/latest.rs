//! LatestRoute: a few of many children, chosen by the host the router runs on and not by the key; one after the other
//! while they fail.
//!
//! So that the routers of a large fleet spread over many servers that may each serve any key, and one router has few
//! connections. mcrouter's hosts were all the same where containers have no name of their own; here each shard can be
//! given its own choice too (`per_shard`).

super::walk::walk_route!(
    /// LatestRoute.
    Latest
);
