//! The label values that come from the protocol's closed sets, in the order of their discriminants.

use keyway_protocol::memcached::text::{ReplyKind, RequestError};

/// Every way a server or the router can reply.
pub(super) const REPLY_KINDS: [ReplyKind; 15] = [
    ReplyKind::Value,
    ReplyKind::End,
    ReplyKind::Stored,
    ReplyKind::NotStored,
    ReplyKind::Exists,
    ReplyKind::NotFound,
    ReplyKind::Deleted,
    ReplyKind::Touched,
    ReplyKind::Ok,
    ReplyKind::Number,
    ReplyKind::Version,
    ReplyKind::Stats,
    ReplyKind::Error,
    ReplyKind::ClientError,
    ReplyKind::ServerError,
];

/// Every reason to refuse a request.
pub(super) const PROTOCOL_ERRORS: [RequestError; 10] = [
    RequestError::UnknownCommand,
    RequestError::BadLine,
    RequestError::KeyTooLong,
    RequestError::BadKey,
    RequestError::LineTooLong,
    RequestError::ValueTooLarge,
    RequestError::BadDataChunk,
    RequestError::BadExptime,
    RequestError::BadDelta,
    RequestError::NotSupported,
];

/// The `error` label of a reply that is an error; `None` for the others.
///
/// Spelled out, so that a new kind of reply can't be added without coming past here and `REPLY_KINDS`.
pub(super) const fn reply_error(kind: ReplyKind) -> Option<&'static str> {
    match kind {
        ReplyKind::Value
        | ReplyKind::End
        | ReplyKind::Stored
        | ReplyKind::NotStored
        | ReplyKind::Exists
        | ReplyKind::NotFound
        | ReplyKind::Deleted
        | ReplyKind::Touched
        | ReplyKind::Ok
        | ReplyKind::Number
        | ReplyKind::Version
        | ReplyKind::Stats => None,
        ReplyKind::Error => Some("error"),
        ReplyKind::ClientError => Some("client_error"),
        ReplyKind::ServerError => Some("server_error"),
    }
}

/// The `error` label of a refused request.
pub(super) const fn protocol_error(error: RequestError) -> &'static str {
    match error {
        RequestError::UnknownCommand => "unknown_command",
        RequestError::BadLine => "bad_line",
        RequestError::KeyTooLong => "key_too_long",
        RequestError::BadKey => "bad_key",
        RequestError::LineTooLong => "line_too_long",
        RequestError::ValueTooLarge => "value_too_large",
        RequestError::BadDataChunk => "bad_data_chunk",
        RequestError::BadExptime => "bad_exptime",
        RequestError::BadDelta => "bad_delta",
        RequestError::NotSupported => "not_supported",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_index_the_lists() {
        for (at, kind) in REPLY_KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
        }
        for (at, error) in PROTOCOL_ERRORS.into_iter().enumerate() {
            assert_eq!(error as usize, at);
        }
    }
}
