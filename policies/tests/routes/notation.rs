//! Trees and courses of events as text, for tables that can be read at a glance.
//!
//! Trees: `0` is server 0; `M(..)`, `A(..)`, `D(..)` MissFailover, AllFastest and Default of children; `L` Local;
//! `P(..)` a ch3 pool of servers that errors when down; `O(get=X stats=Y Z)` an operation selector with default Z.

use keyway_policies::{
    Action, Answer, BuildError, ClientView, Distribution, Env, Failure, HealthView, LocalReply, NodeId, OnDown,
    Outcome, PlacementSpec, Plan, PoolSpec, Reported, RequestView, RouteStates, Routes, RoutesBuilder, ServerId, Step,
    Verdict,
};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::ReplyKind;

pub(crate) const KINDS: [(&str, ReplyKind); 15] = [
    ("VALUE", ReplyKind::Value),
    ("END", ReplyKind::End),
    ("STORED", ReplyKind::Stored),
    ("NOT_STORED", ReplyKind::NotStored),
    ("EXISTS", ReplyKind::Exists),
    ("NOT_FOUND", ReplyKind::NotFound),
    ("DELETED", ReplyKind::Deleted),
    ("TOUCHED", ReplyKind::Touched),
    ("OK", ReplyKind::Ok),
    ("NUMBER", ReplyKind::Number),
    ("VERSION", ReplyKind::Version),
    ("STATS", ReplyKind::Stats),
    ("ERROR", ReplyKind::Error),
    ("CLIENT_ERROR", ReplyKind::ClientError),
    ("SERVER_ERROR", ReplyKind::ServerError),
];

/// The tree a text describes.
pub(crate) fn tree(text: &str) -> Routes {
    try_tree(text).expect("a tree that can be built")
}

pub(crate) fn try_tree(text: &str) -> Result<Routes, BuildError> {
    let mut builder = Routes::builder();
    let mut rest = text;
    let root = node(&mut builder, &mut rest)?;
    assert_eq!(rest, "", "all of {text:?} is read");
    builder.build(root)
}

fn node(builder: &mut RoutesBuilder, rest: &mut &str) -> Result<NodeId, BuildError> {
    let first = rest.chars().next().expect("a node");
    if first.is_ascii_digit() {
        return builder.server(ServerId(number(rest)));
    }
    *rest = &rest[1..];
    if first == 'L' {
        return builder.local();
    }
    expect(rest, "(");
    if first == 'P' {
        return pool(builder, rest);
    }
    let mut entries = Vec::new();
    let mut children = Vec::new();
    while !rest.starts_with(')') {
        let word = rest.split([' ', '(', ')']).next().unwrap_or_default();
        if let Some((name, _)) = word.split_once('=') {
            *rest = &rest[name.len() + 1..];
            let operation = Operation::from_name(name.as_bytes()).expect("an operation");
            entries.push((operation, node(builder, rest)?));
        } else {
            children.push(node(builder, rest)?);
        }
        *rest = rest.trim_start();
    }
    expect(rest, ")");
    match first {
        'M' => builder.miss_failover(&children),
        'A' => builder.all_fastest(&children),
        'D' => builder.default_route(&children),
        'O' => builder.operation_selector(&entries, children[0]),
        other => panic!("no route is written {other}"),
    }
}

fn pool(builder: &mut RoutesBuilder, rest: &mut &str) -> Result<NodeId, BuildError> {
    let mut servers = Vec::new();
    while !rest.starts_with(')') {
        servers.push(ServerId(number(rest)));
        *rest = rest.trim_start();
    }
    expect(rest, ")");
    let placement = PlacementSpec::new(Distribution::Ch3, servers.iter().map(|server| format!("s{}", server.0)));
    builder.pool(&PoolSpec { servers, placement, on_down: OnDown::Error })
}

fn number(rest: &mut &str) -> u32 {
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (number, behind) = rest.split_at(digits);
    *rest = behind;
    number.parse().expect("a server's number")
}

fn expect(rest: &mut &str, what: &str) {
    *rest = rest.strip_prefix(what).unwrap_or_else(|| panic!("{what} before {rest:?}"));
}

/// One request under way, told as text.
pub(crate) struct Course<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) plan: Plan,
    state: RouteStates,
    pub(crate) operation: Operation,
    pub(crate) key: &'a [u8],
    /// Every dispatch so far; the try id is the index.
    pub(crate) dispatched: Vec<ServerId>,
}

impl<'a> Course<'a> {
    pub(crate) fn new(routes: &'a Routes, operation: Operation, key: &'a [u8]) -> Course<'a> {
        let state = routes.states(1, 1);
        Course { routes, plan: Plan::default(), state, operation, key, dispatched: Vec::new() }
    }

    pub(crate) fn request(&self) -> RequestView<'a> {
        RequestView::of_key(self.operation, self.key)
    }

    /// What `begin` does: `>0 >1` are dispatches to servers, `=..` the answer.
    pub(crate) fn begin(&mut self, up: &[u8]) -> String {
        let mut out = Vec::new();
        let request = self.request();
        let env = env(up, &mut self.state);
        let step = self.routes.begin(&mut self.plan, &request, env, &mut out);
        self.tell(Verdict { step, kept: false }, &out)
    }

    /// What `resume` does for the latest try at a server: the same, with `keep` before it when the reply is kept.
    pub(crate) fn resume(&mut self, server: ServerId, outcome: Outcome, up: &[u8]) -> String {
        let at = self.dispatched.iter().rposition(|other| *other == server).expect("a server that was dispatched to");
        let mut out = Vec::new();
        let try_id = keyway_policies::TryId(at as u16);
        let request = self.request();
        let env = env(up, &mut self.state);
        let reported = Reported::bare(outcome);
        let verdict = self.routes.resume(&mut self.plan, &request, env, try_id, &reported, &mut out);
        assert_eq!(verdict.kept, self.plan.holds(try_id), "what is held is kept");
        self.tell(verdict, &out)
    }

    fn tell(&mut self, verdict: Verdict, out: &[Action]) -> String {
        let mut words = Vec::new();
        if verdict.kept {
            words.push("keep".to_owned());
        }
        for action in out {
            let Action::Send(dispatch) = action else { panic!("{action:?} has no place in this notation") };
            assert_eq!(usize::from(dispatch.try_id.0), self.dispatched.len(), "tries count from 0");
            self.dispatched.push(dispatch.server);
            words.push(format!(">{}", dispatch.server.0));
        }
        match verdict.step {
            Step::Wait => {}
            Step::Answer(Answer::Try(try_id)) => {
                words.push(format!("={}", self.dispatched[usize::from(try_id.0)].0));
            }
            Step::Answer(Answer::Composed) => panic!("nothing composes here"),
            Step::Answer(Answer::Local(reply)) => words.push(format!("={}", local_name(reply))),
        }
        words.join(" ")
    }
}

pub(crate) fn local_name(reply: LocalReply) -> String {
    match reply {
        LocalReply::Router => "router".to_owned(),
        LocalReply::NotLocal => "not_local".to_owned(),
        LocalReply::NoHealthyServer => "no_healthy_server".to_owned(),
        LocalReply::Failed(failure) => failure.name().to_owned(),
        LocalReply::Null => "null".to_owned(),
        LocalReply::Said(_) => "said".to_owned(),
        LocalReply::BadKey => "bad_key".to_owned(),
    }
}

/// A reply's line or a failure's name.
pub(crate) fn outcome(name: &str) -> Outcome {
    let kind = KINDS.iter().find(|(line, _)| *line == name).map(|(_, kind)| Outcome::Reply(*kind));
    let failure = Failure::ALL.into_iter().find(|failure| failure.name() == name).map(Outcome::Failure);
    kind.or(failure).unwrap_or_else(|| panic!("no outcome is called {name}"))
}

/// The health of servers 0, 1, ..: `1` is up, `0` is down.
pub(crate) fn health(text: &str) -> Vec<u8> {
    text.bytes().map(|digit| if digit == b'1' { u8::MAX } else { 0 }).collect()
}

/// A quiet world with these servers up.
pub(crate) fn env<'a>(up: &'a [u8], state: &'a mut RouteStates) -> Env<'a> {
    Env {
        health: HealthView(up),
        now: 0,
        unix_ms: 0,
        client: ClientView::default(),
        request: 0,
        spare_bytes: usize::MAX,
        state,
    }
}
