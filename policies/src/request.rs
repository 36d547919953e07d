//! What the tree is told of a request, and what it asks for in return: the whole seam between routes and the shard.
//!
//! Owns nothing and decides nothing. Everything borrowed here lies with the caller.

use crate::outcome::Outcome;
use crate::routes::{RouteStates, ServerId};
use crate::{LocalReply, Plan};
use keyway_protocol::Operation;

/// What routes may see of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// What is asked.
    pub operation: Operation,
    /// The key; empty for control operations.
    pub key: &'a [u8],
    /// The frame up to where a noreply was cut out of it. Empty when it was too large to be kept for another try.
    pub head: &'a [u8],
    /// The frame behind that; empty when there was none.
    pub tail: &'a [u8],
}

impl<'a> RequestView<'a> {
    /// A request of which only the key is there.
    pub const fn of_key(operation: Operation, key: &'a [u8]) -> RequestView<'a> {
        RequestView { operation, key, head: b"", tail: b"" }
    }
}

/// Which share of their keys' requests the servers take now, as the shard sees it. Indexed by `ServerId`, in 255ths:
/// 0 is down, 255 is fully up, what lies between is a server that comes back slowly.
#[derive(Clone, Copy, Debug)]
pub struct HealthView<'a>(pub &'a [u8]);

impl HealthView<'_> {
    /// True when requests may be sent to `server`.
    pub fn is_up(&self, server: ServerId) -> bool {
        self.0[server.0 as usize] > 0
    }

    /// True when `server` takes requests for keys of this `hash`: a server that comes back takes the same share of keys
    /// each time, so that what was stored there is found there.
    pub fn takes(&self, server: ServerId, hash: u8) -> bool {
        let share = self.0[server.0 as usize];
        share == u8::MAX || hash < share
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientView {
    /// Counts the clients of a shard.
    pub number: u32,
    /// A hash of the client's address without its port; 0 where it has none.
    pub address_hash: u64,
}

/// What a decision may depend on besides the request.
#[derive(Debug)]
pub struct Env<'a> {
    /// Which servers take requests.
    pub health: HealthView<'a>,
    /// The shard's clock, in nanoseconds from any start. Never goes back.
    pub now: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Who asks.
    pub client: ClientView,
    /// The caller's name for the request, handed back in `Wake`.
    pub request: u64,
    /// How many bytes more the plan may hold.
    pub spare_bytes: usize,
    /// What the tree's nodes remember on this shard.
    pub state: &'a mut RouteStates,
}

/// What the tree wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the try's request to its server. `Plan::wire` has the bytes.
    Send(Dispatch),
    /// Write the try's request to the async log of its server. Reported like a reply: OK once it is durable.
    Spool(Dispatch),
    /// Call `Routes::wake`, when it is time.
    Wake(Wake),
    /// Write a line to the log: what came of the request, as a LoggingRoute sees it.
    Log(Outcome),
}

/// One try within a plan, counted from 0 in the order dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TryId(pub u16);

/// A try and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Names the try when its outcome is reported.
    pub try_id: TryId,
    /// Where to.
    pub server: ServerId,
}

/// "Come back to this frame of that request at this time." Harmless when both are gone by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Whose plan: the `Env::request` of an earlier call.
    pub request: u64,
    /// Which of its frames.
    pub frame: u16,
    /// When, on the shard's clock. Not after now: at once.
    pub at: u64,
}

/// An item of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemView<'a> {
    /// The flags token.
    pub flags: &'a [u8],
    /// The data.
    pub data: &'a [u8],
    /// The cas unique token; empty when it wasn't told.
    pub cas: &'a [u8],
    /// Seconds left to live, -1 without end; `None` when it wasn't told.
    pub ttl: Option<i64>,
}

/// What became of a try, with what a reply said.
#[derive(Clone, Copy, Debug)]
pub struct Reported<'a> {
    /// What became of it.
    pub outcome: Outcome,
    /// The item, of a reply that has one.
    pub item: Option<ItemView<'a>>,
    /// The reply line with its end, of a reply that has no item. Empty for a failure.
    pub line: &'a [u8],
}

impl Reported<'_> {
    /// An outcome without bytes.
    pub const fn bare(outcome: Outcome) -> Reported<'static> {
        Reported { outcome, item: None, line: b"" }
    }
}

/// What the request gets as its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The reply of this try: the one just reported, or one that was kept (`Plan::kept`).
    Try(TryId),
    /// An item that a route put together (`Plan::composed`).
    Composed,
    /// No server's reply: made by the router.
    Local(LocalReply),
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Carry out the actions (there may be none) and wait for outcomes.
    Wait,
    /// The request is decided. Actions of this step are still carried out: a policy wants them for their effect. Where
    /// `Routes::lingers` says so, outcomes are still to be reported.
    Answer(Answer),
}

/// The decision on one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do now.
    pub step: Step,
    /// True when the plan kept a copy of the reply just reported, as it may be the answer later.
    pub kept: bool,
}

/// The bytes of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire<'p> {
    /// The request's own frame.
    AsAsked,
    /// The request's own frame with this key in the place of its own.
    WithKey(&'p [u8]),
    /// Another frame.
    Frame {
        /// Its bytes.
        bytes: &'p [u8],
        /// Where its key lies in them.
        key: std::ops::Range<usize>,
    },
}

/// A reply the plan kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptReply<'p> {
    /// A line, with its end.
    Line(keyway_protocol::memcached::text::ReplyKind, &'p [u8]),
    /// An item.
    Item(ItemView<'p>),
}

impl Plan {
    /// How many bytes it holds for this request.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }
}
