//! What routes count that no reply tells: requests turned away, held up, thrown away.
//!
//! Owns the list and its names, which are metric labels.

/// Something a route did to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteEvent {
    /// DevNullRoute took it.
    DevNull,
    /// RateLimitRoute had no token for it.
    RateLimited,
    /// OutstandingLimitRoute let it wait.
    OutstandingQueued,
    /// OutstandingLimitRoute had no room for it to wait.
    OutstandingRefused,
    /// It waited in OutstandingLimitRoute for as long as it may.
    OutstandingExpired,
    /// SlowWarmUpRoute sent it elsewhere, as the server is cold.
    WarmingUp,
    /// LoggingRoute had written enough lines in this second.
    LogSkipped,
}

/// A count for each event, by `RouteEvent as usize`.
pub type RouteEvents = [u64; RouteEvent::COUNT];

impl RouteEvent {
    /// How many there are; `event as usize` is below it.
    pub const COUNT: usize = 7;
    /// All of them, in the order of the discriminant.
    pub const ALL: [RouteEvent; RouteEvent::COUNT] = [
        RouteEvent::DevNull,
        RouteEvent::RateLimited,
        RouteEvent::OutstandingQueued,
        RouteEvent::OutstandingRefused,
        RouteEvent::OutstandingExpired,
        RouteEvent::WarmingUp,
        RouteEvent::LogSkipped,
    ];

    /// The metric label.
    pub const fn name(self) -> &'static str {
        match self {
            RouteEvent::DevNull => "dev_null",
            RouteEvent::RateLimited => "rate_limited",
            RouteEvent::OutstandingQueued => "outstanding_queued",
            RouteEvent::OutstandingRefused => "outstanding_refused",
            RouteEvent::OutstandingExpired => "outstanding_expired",
            RouteEvent::WarmingUp => "warming_up",
            RouteEvent::LogSkipped => "log_skipped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_index_all_and_names_differ() {
        for (at, event) in RouteEvent::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, at);
            assert!(RouteEvent::ALL[..at].iter().all(|other| other.name() != event.name()));
        }
    }
}
