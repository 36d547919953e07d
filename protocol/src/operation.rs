//! The operations a request can ask for, whatever dialect it was written in.
//!
//! Names and classes are mcrouter's, so that they are the same in configs, metrics and docs.

/// What a request asks for. The closed set over which routes select and metrics count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "each variant is the command of its name")]
pub enum Operation {
    Get,
    Gets,
    Gat,
    Gats,
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
    Delete,
    Incr,
    Decr,
    Touch,
    Stats,
    Version,
    Verbosity,
    FlushAll,
    Quit,
}

/// mcrouter's routing groups, and `Control` for what is not routed by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationClass {
    /// get, gets, gat, gats
    GetLike,
    /// set, add, replace, append, prepend, cas
    UpdateLike,
    /// delete
    DeleteLike,
    /// incr, decr
    ArithmeticLike,
    /// touch: in none of mcrouter's groups
    TouchLike,
    /// stats, version, verbosity, flush_all, quit: these carry no key
    Control,
}

impl Operation {
    /// How many operations there are; `operation as usize` is below it.
    pub const COUNT: usize = 19;

    /// Every operation, in the order of its discriminant.
    pub const ALL: [Operation; Operation::COUNT] = [
        Operation::Get,
        Operation::Gets,
        Operation::Gat,
        Operation::Gats,
        Operation::Set,
        Operation::Add,
        Operation::Replace,
        Operation::Append,
        Operation::Prepend,
        Operation::Cas,
        Operation::Delete,
        Operation::Incr,
        Operation::Decr,
        Operation::Touch,
        Operation::Stats,
        Operation::Version,
        Operation::Verbosity,
        Operation::FlushAll,
        Operation::Quit,
    ];

    /// The name in configs, metrics and the text protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Get => "get",
            Operation::Gets => "gets",
            Operation::Gat => "gat",
            Operation::Gats => "gats",
            Operation::Set => "set",
            Operation::Add => "add",
            Operation::Replace => "replace",
            Operation::Append => "append",
            Operation::Prepend => "prepend",
            Operation::Cas => "cas",
            Operation::Delete => "delete",
            Operation::Incr => "incr",
            Operation::Decr => "decr",
            Operation::Touch => "touch",
            Operation::Stats => "stats",
            Operation::Version => "version",
            Operation::Verbosity => "verbosity",
            Operation::FlushAll => "flush_all",
            Operation::Quit => "quit",
        }
    }

    /// The operation of that exact, lower-case name.
    pub fn from_name(name: &[u8]) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| operation.name().as_bytes() == name)
    }

    /// The routing group.
    pub const fn class(self) -> OperationClass {
        match self {
            Operation::Get | Operation::Gets | Operation::Gat | Operation::Gats => OperationClass::GetLike,
            Operation::Set
            | Operation::Add
            | Operation::Replace
            | Operation::Append
            | Operation::Prepend
            | Operation::Cas => OperationClass::UpdateLike,
            Operation::Delete => OperationClass::DeleteLike,
            Operation::Incr | Operation::Decr => OperationClass::ArithmeticLike,
            Operation::Touch => OperationClass::TouchLike,
            Operation::Stats | Operation::Version | Operation::Verbosity | Operation::FlushAll | Operation::Quit => {
                OperationClass::Control
            }
        }
    }

    /// True where sending the request a second time cannot change what is stored: plain reads.
    ///
    /// gat and gats move a TTL to the same place twice, so they count as safe too.
    pub const fn is_safe_to_repeat(self) -> bool {
        matches!(self.class(), OperationClass::GetLike)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_discriminants_index_all() {
        for (at, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, at);
            assert_eq!(Operation::from_name(operation.name().as_bytes()), Some(operation));
        }
        assert_eq!(Operation::from_name(b"GET"), None);
    }
}
