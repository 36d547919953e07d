//! ErrorRoute: an error line, without a server. In a pool it keeps the place of a server that was taken out.

use super::{Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// ErrorRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    line: String,
}

impl Error {
    /// Answers `SERVER_ERROR response`; without words of its own it says who speaks.
    pub fn new(response: &str) -> Error {
        let response = if response.is_empty() { "keyway: ErrorRoute" } else { response };
        Error { line: format!("SERVER_ERROR {response}") }
    }
}

impl Policy for Error {
    fn shape(&self) -> Shape {
        Shape::Leaf
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        Started::Settled(run.settled(LocalReply::Said(seat.node), seat.variant))
    }

    fn words(&self) -> &str {
        &self.line
    }
}
