//! Bytes that were read and not consumed. Owns the copy; invariant: consuming is O(1), and bytes move at most once each.

/// Memory kept when everything is consumed, in bytes of capacity. None at all for idle clients: see `Input::advance`.
const KEPT_BYTES: usize = 16 * 1024;

/// A queue of bytes that is read in place.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    at: usize,
}

impl Input {
    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Adds `more` at the end, first closing the gap that consumed bytes left when it is the larger part.
    pub(crate) fn push(&mut self, more: &[u8]) {
        if self.at > 0 && self.at >= self.bytes.len() - self.at {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Consumes `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        self.at += count;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops everything, and the memory when it is much.
    pub(crate) fn clear(&mut self) {
        self.at = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Input;

    #[test]
    fn what_is_pushed_comes_out_in_order() {
        let mut input = Input::default();
        let mut expected = Vec::new();
        let mut seen = Vec::new();
        for round in 0..1000u32 {
            let piece = round.to_le_bytes();
            input.push(&piece);
            expected.extend_from_slice(&piece);
            let take = (round as usize * 7) % (input.len() + 1);
            seen.extend_from_slice(&input.rest()[..take]);
            input.advance(take);
        }
        seen.extend_from_slice(input.rest());
        assert_eq!(seen, expected);
    }
}
