//! What became of one try: a reply of a server, or a failure on the way.

use keyway_protocol::memcached::text::ReplyKind;

/// Why a try brought no reply. The name in snake_case is the metric label `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No reply within the pool's timeout.
    Timeout,
    /// The request's deadline passed before this try could be made.
    DeadlineExceeded,
    /// The server is down (health), or the connection could not be made.
    Unavailable,
    /// The connection was lost with the request in flight.
    ConnectionLost,
    /// The server's queue on this shard is full.
    QueueFull,
    /// The server answered something that is no answer to the request.
    Misaligned,
    /// The request is too large to be kept for another try.
    NotReplayable,
}

impl Failure {
    /// How many there are; `failure as usize` is below it.
    pub const COUNT: usize = 7;
    /// All of them, in the order of the discriminant.
    pub const ALL: [Failure; Failure::COUNT] = [
        Failure::Timeout,
        Failure::DeadlineExceeded,
        Failure::Unavailable,
        Failure::ConnectionLost,
        Failure::QueueFull,
        Failure::Misaligned,
        Failure::NotReplayable,
    ];

    /// The metric label, also used in the error line a client gets.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::Timeout => "timeout",
            Failure::DeadlineExceeded => "deadline_exceeded",
            Failure::Unavailable => "unavailable",
            Failure::ConnectionLost => "connection_lost",
            Failure::QueueFull => "queue_full",
            Failure::Misaligned => "misaligned",
            Failure::NotReplayable => "not_replayable",
        }
    }
}

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A server replied.
    Reply(ReplyKind),
    /// No reply.
    Failure(Failure),
}
