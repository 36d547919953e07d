//! The batching window: how many completions a turn waits for, and for how long at most.

/// How the window is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchingMode {
    /// Return at the first completion.
    Off,
    /// Wait for `batch` completions, at most `max_delay_us`.
    Fixed {
        /// Completions to wait for.
        batch: u32,
    },
    /// Wait for a share of the requests in flight, at most `max_delay_us`.
    Adaptive,
}

/// The configured window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// How the batch is chosen.
    pub mode: BatchingMode,
    /// Longest delay the window adds, in microseconds.
    pub max_delay_us: u32,
}
