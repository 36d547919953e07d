//! What a completion says it belongs to: an operation's kind, a slot's index and its generation, packed into `user_data`.
//!
//! Invariant: a slot is reused only after the last completion of everything in flight on it, so a completion's
//! generation is its slot's; only cancellations, which name their target and don't hold its slot, may come late.

/// The operation a completion ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Recv,
    Send,
    Connect,
    Accept,
    /// A cancellation that found nothing to cancel; those that succeed are silent.
    CancelRecv,
    CancelSend,
    CancelConnect,
    /// A listener's inbox of handed-over descriptors rang.
    Inbox,
    Doorbell,
    /// Closes and other operations whose outcome changes nothing.
    Ignored,
}

/// Largest number of slots an index can name.
pub(super) const MAX_SLOTS: u32 = 1 << 24;

/// `user_data`, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl Token {
    pub(super) fn new(kind: Kind, index: u32, generation: u32) -> Token {
        debug_assert!(index < MAX_SLOTS);
        Token { kind, index, generation }
    }

    pub(super) fn pack(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.index) << 32 | u64::from(self.generation)
    }

    pub(super) fn unpack(user_data: u64) -> Token {
        let kind = match user_data >> 56 {
            0 => Kind::Recv,
            1 => Kind::Send,
            2 => Kind::Connect,
            3 => Kind::Accept,
            4 => Kind::CancelRecv,
            5 => Kind::CancelSend,
            6 => Kind::CancelConnect,
            7 => Kind::Inbox,
            8 => Kind::Doorbell,
            _ => Kind::Ignored,
        };
        Token { kind, index: (user_data >> 32) as u32 & (MAX_SLOTS - 1), generation: user_data as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_packing() {
        let kinds = [
            Kind::Recv,
            Kind::Send,
            Kind::Connect,
            Kind::Accept,
            Kind::CancelRecv,
            Kind::CancelSend,
            Kind::CancelConnect,
            Kind::Inbox,
            Kind::Doorbell,
            Kind::Ignored,
        ];
        for kind in kinds {
            for (index, generation) in [(0, 0), (1, u32::MAX), (MAX_SLOTS - 1, 7)] {
                let token = Token::new(kind, index, generation);
                assert_eq!(Token::unpack(token.pack()), token);
            }
        }
    }
}
