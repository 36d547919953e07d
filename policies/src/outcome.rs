//! What became of one try: a reply of a server, or a failure on the way; and how good that is.
//!
//! Owns the one classification every join decides by. It goes by the reply's kind, never by its text: a value that
//! contains `ERROR` is a value. Invariant: a better class compares as less.

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

    /// True when no further try of the same request can be made either, whatever the server.
    pub const fn ends_tries(self) -> bool {
        match self {
            Failure::DeadlineExceeded | Failure::NotReplayable => true,
            Failure::Timeout
            | Failure::Unavailable
            | Failure::ConnectionLost
            | Failure::QueueFull
            | Failure::Misaligned => false,
        }
    }

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

/// How good an outcome is, best first: joins take the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutcomeClass {
    /// The request did what it asked for. Every other class is what gomcrouter calls a failed reply.
    Success,
    /// A definite answer that isn't the one hoped for: a miss, a refused store, a cas conflict.
    Miss,
    /// The server (or the router in its stead) refused: ERROR, CLIENT_ERROR, SERVER_ERROR.
    Error,
    /// No reply at all.
    Lost,
}

/// How bad an outcome is, least first: mcrouter's order ("awfulness"), with two of its ranks put right. TOUCHED is done,
/// not the worst of all, and EXISTS ranks behind what was done, so that a cas which only some replicas took says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// It was done.
    Done,
    /// EXISTS.
    Conflict,
    /// END, NOT_FOUND, NOT_STORED.
    Miss,
    /// No reply, though the next one may come: timeout, unavailable, queue_full.
    Failed,
    /// The request's time was over.
    Deadline,
    /// The server refused, or its connection broke: SERVER_ERROR, ERROR, connection_lost, misaligned.
    Remote,
    /// The router could not: not_replayable.
    Local,
    /// The client is at fault: CLIENT_ERROR.
    Client,
}

impl Outcome {
    /// How bad it is.
    pub const fn severity(self) -> Severity {
        match self {
            Outcome::Reply(kind) => match kind {
                ReplyKind::Value
                | ReplyKind::Stored
                | ReplyKind::Deleted
                | ReplyKind::Touched
                | ReplyKind::Ok
                | ReplyKind::Number
                | ReplyKind::Version
                | ReplyKind::Stats => Severity::Done,
                ReplyKind::Exists => Severity::Conflict,
                ReplyKind::End | ReplyKind::NotStored | ReplyKind::NotFound => Severity::Miss,
                ReplyKind::Error | ReplyKind::ServerError => Severity::Remote,
                ReplyKind::ClientError => Severity::Client,
            },
            Outcome::Failure(failure) => match failure {
                Failure::Timeout | Failure::Unavailable | Failure::QueueFull => Severity::Failed,
                Failure::DeadlineExceeded => Severity::Deadline,
                Failure::ConnectionLost | Failure::Misaligned => Severity::Remote,
                Failure::NotReplayable => Severity::Local,
            },
        }
    }

    /// A number for each different outcome, below `CODES`.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Outcome::Failure(failure) => failure as u8,
            Outcome::Reply(kind) => Failure::COUNT as u8 + kind as u8,
        }
    }

    /// How good it is.
    pub const fn class(self) -> OutcomeClass {
        match self {
            Outcome::Reply(kind) => match kind {
                ReplyKind::Value
                | ReplyKind::Stored
                | ReplyKind::Deleted
                | ReplyKind::Touched
                | ReplyKind::Ok
                | ReplyKind::Number
                | ReplyKind::Version
                | ReplyKind::Stats => OutcomeClass::Success,
                ReplyKind::End | ReplyKind::NotStored | ReplyKind::Exists | ReplyKind::NotFound => OutcomeClass::Miss,
                ReplyKind::Error | ReplyKind::ClientError | ReplyKind::ServerError => OutcomeClass::Error,
            },
            Outcome::Failure(_) => OutcomeClass::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_index_all_and_names_differ() {
        for (at, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, at);
            assert!(Failure::ALL[..at].iter().all(|other| other.name() != failure.name()));
        }
    }

    #[test]
    fn classes_follow_the_kind_and_order_from_best_to_worst() {
        let order = [
            Outcome::Reply(ReplyKind::Value),
            Outcome::Reply(ReplyKind::NotFound),
            Outcome::Reply(ReplyKind::ServerError),
            Outcome::Failure(Failure::Timeout),
        ];
        assert!(order.windows(2).all(|pair| pair[0].class() < pair[1].class()));
    }
}
