//! FailoverWithExptimeRoute: a gutter pool. The normal child, and others in its stead while it fails, which keep nothing
//! for longer than a short while: when the normal child is back, what was written elsewhere is soon gone.
//!
//! FailoverRoute whose children after the first get requests with a capped exptime (`walk::gutter`). mcrouter caps what
//! stores; here touch, gat and gats are capped too, or a touch would make an item of the gutter last.

super::walk::walk_route!(
    /// FailoverWithExptimeRoute. Its children: the normal one, then those that stand in for it.
    FailoverWithExptime
);
