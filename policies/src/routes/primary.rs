//! PrimaryRoute, ours: the first child decides; when it took the write, the others are made to follow.
//!
//! ```text
//! cas ──► a ── STORED ──► b: delete ──┬──► STORED
//!           │             c: delete ──┘
//!           └── EXISTS, NOT_FOUND, an error: the answer; b and c are not asked
//! ```
//!
//! For what only one server can decide, among servers that hold the same: the cas of an item belongs to one server, and
//! whether an add finds the key is to have one answer. The others get a `delete`, after which they know nothing older,
//! or a `set` of what was stored. Of a delete they are told whatever the first says, of reads never. All of them are waited for, so that who has the answer reads nothing older, but what
//! they say changes nothing. While the first child is down nothing can be decided.

use super::{Collapse, Policy, Shape};
use crate::LocalReply;
use crate::outcome::OutcomeClass;
use crate::plan::{Best, Frame, Run, Seat, Settled, Started};
use crate::variant::{VariantId, Written};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::Parts;

/// What the other children are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// To forget the key.
    Delete,
    /// To store what the first has stored; where the request wasn't kept, to forget the key.
    Set,
}

impl Follow {
    /// Every value, for the message about a wrong one.
    pub const ALL: [Follow; 2] = [Follow::Delete, Follow::Set];

    /// The word in configs.
    pub const fn name(self) -> &'static str {
        match self {
            Follow::Delete => "delete",
            Follow::Set => "set",
        }
    }

    /// The value of that word.
    pub fn from_name(name: &str) -> Option<Follow> {
        Follow::ALL.into_iter().find(|follow| follow.name() == name)
    }
}

/// PrimaryRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Primary {
    /// What the others are asked.
    pub follow: Follow,
}

impl Policy for Primary {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::ToChild)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let at = run.open(seat);
        if run.routes.children(seat.node).is_empty() {
            return run.close_or_wait(at, true);
        }
        run.frame(at).next = 1;
        match run.start_child(at, 0) {
            Started::Waiting => Started::Waiting,
            Started::Unusable(_) => run.close_or_wait(at, true),
            Started::Settled(settled) => match self.decided(run, at, settled) {
                Some(settled) => run.close(at, settled),
                None => Started::Waiting,
            },
        }
    }

    fn child_settled(&self, run: &mut Run<'_>, at: usize, child: u16, settled: Settled) -> Option<Settled> {
        if child == 0 {
            return self.decided(run, at, settled);
        }
        let frame = run.frame(at);
        frame.outstanding -= 1;
        let over = frame.outstanding == 0;
        frame.best.filter(|_| over).map(|best| best.settled)
    }

    fn may_start_more(&self, frame: &Frame, children: usize) -> bool {
        frame.next < children
    }

    /// The others follow also when the request was answered elsewhere.
    fn lingers(&self, _operation: Operation) -> bool {
        true
    }

    fn goes_on(&self) -> bool {
        true
    }
}

/// What the others are to do.
enum Then {
    Nothing,
    /// What the first was asked.
    Same,
    Store,
    Forget,
}

impl Primary {
    /// The first child has spoken.
    fn decided(&self, run: &mut Run<'_>, at: usize, settled: Settled) -> Option<Settled> {
        let Frame { node, variant, .. } = *run.frame(at);
        let children = run.routes.children(node).len();
        run.frame(at).next = children;
        let then = self.then(run.operation(variant), settled.class() == OutcomeClass::Success);
        let Ok(Some(form)) = then_form(then, run, variant) else { return Some(settled) };
        for child in 1..children {
            if run.start_child_as(at, child, form) == Started::Waiting {
                run.frame(at).outstanding += 1;
            }
        }
        if run.frame(at).outstanding == 0 {
            return Some(settled);
        }
        run.frame(at).best = Some(Best { settled, child: 0 });
        None
    }

    fn then(&self, operation: Operation, success: bool) -> Then {
        match operation {
            Operation::Get | Operation::Gets | Operation::Gat | Operation::Gats => Then::Nothing,
            // Where the first hasn't the key, others may.
            Operation::Delete => Then::Same,
            _ if !success => Then::Nothing,
            Operation::Touch | Operation::FlushAll => Then::Same,
            Operation::Set | Operation::Add | Operation::Replace | Operation::Cas => match self.follow {
                Follow::Set => Then::Store,
                Follow::Delete => Then::Forget,
            },
            // What came of it isn't known.
            Operation::Append | Operation::Prepend | Operation::Incr | Operation::Decr => Then::Forget,
            Operation::Stats | Operation::Version | Operation::Verbosity | Operation::Quit => Then::Nothing,
        }
    }
}

fn then_form(then: Then, run: &mut Run<'_>, variant: VariantId) -> Result<Option<VariantId>, LocalReply> {
    let form = match then {
        Then::Nothing => return Ok(None),
        Then::Same => variant,
        Then::Forget => run.derive_from_key(variant, Operation::Delete)?,
        Then::Store => {
            let set = run.derive(variant, |parts, _, out| {
                Some(Written::write(Parts { operation: Operation::Set, number: b"", ..parts }, out))
            });
            // A request that wasn't kept can't be stored elsewhere, but forgotten.
            set.or_else(|_| run.derive_from_key(variant, Operation::Delete))?
        }
    };
    Ok(Some(form))
}
