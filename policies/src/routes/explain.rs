//! What a request would do, in words: the way through the tree, for `keyway explain`.
//!
//! Watches a walk of `plan` over states of its own, whose dispatches go nowhere; then lists the children that may follow.
//! Not on a request's path: it allocates. Invariant: the servers used `Now` are exactly those `begin` dispatches to,
//! in order, where nothing is left to chance or to what nodes remember.

use super::{NodeId, RouteNode, Routes, ServerId};
use crate::plan::{Place, Plan, Run, Seat, Started};
use crate::request::{ClientView, Env, HealthView, RequestView};
use crate::variant::VariantId;
use keyway_protocol::Operation;

/// One node on a request's way, parents before children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainStep {
    /// How deep it stands, from 0.
    pub depth: usize,
    /// The route's name.
    pub route: &'static str,
    /// The server, where it is one.
    pub server: Option<ServerId>,
    /// Whether and when it is used.
    pub usage: ExplainUse,
    /// What reaches it, where that isn't what was asked.
    pub sent: Option<Sent>,
}

/// A request other than the one asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What it asks.
    pub operation: Operation,
    /// Its key.
    pub key: Vec<u8>,
}

/// Whether and when a node is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainUse {
    /// At once.
    Now,
    /// When what stands before it had no success.
    Later,
    /// Not at all: it is down, or all below it is.
    Skipped,
}

/// What is known about the time and the asking client while explaining.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExplainAt {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Who asks.
    pub client: ClientView,
    /// As for `Routes::states`.
    pub host_id: u64,
}

/// The steps so far.
#[derive(Debug)]
pub(crate) struct Trace {
    steps: Vec<ExplainStep>,
    /// The node of each step; none for a pool's server.
    nodes: Vec<Option<NodeId>>,
    depth: usize,
    usage: ExplainUse,
    /// What reaches the node at hand, where that isn't what was asked.
    sent: Option<Sent>,
}

impl Routes {
    /// The way of a request. Children that can't be reached, such as those behind DefaultRoute's choice, are left out.
    pub fn explain(&self, request: &RequestView<'_>, health: HealthView<'_>, at: ExplainAt) -> Vec<ExplainStep> {
        let mut trace = Trace { steps: Vec::new(), nodes: Vec::new(), depth: 0, usage: ExplainUse::Now, sent: None };
        let mut state = self.states(1, at.host_id);
        let env = Env {
            health,
            now: 0,
            unix_ms: at.unix_ms,
            client: at.client,
            request: 0,
            spare_bytes: usize::MAX,
            state: &mut state,
        };
        let (mut plan, mut out) = (Plan::default(), Vec::new());
        let mut run = Run::new(self, &mut plan, request, env, &mut out);
        run.trace = Some(&mut trace);
        run.enter();
        trace.steps
    }
}

impl Run<'_> {
    /// `start`, looked on. Recursion is bounded by the tree's depth.
    pub(crate) fn start_traced(&mut self, seat: Seat) -> Started {
        let routes = self.routes;
        let route = routes.node(seat.node);
        let server = if let RouteNode::Server(server) = route { Some(server.0) } else { None };
        let sent = self.sent_as(seat.variant);
        let Some(trace) = self.trace.as_mut() else { unreachable!("called with a trace") };
        let above = std::mem::replace(&mut trace.sent, sent);
        let first = trace.steps.len();
        trace.push(route.name(), server, trace.usage, Some(seat.node));
        trace.depth += 1;
        let frames = self.plan.frames.len();
        let started = route.start(self, seat);
        // A route may pass some operations on: then it has no frame to go on from.
        let is_join = self.plan.frames.get(frames).is_some_and(|frame| frame.node == seat.node);
        if started == Started::Waiting && route.goes_on() && is_join {
            self.trace_later(seat, first);
        }
        if let Some(trace) = self.trace.as_mut() {
            trace.depth -= 1;
            trace.sent = above;
            if let Started::Unusable(_) = started {
                trace.steps[first..].iter_mut().for_each(|step| step.usage = ExplainUse::Skipped);
            }
        }
        started
    }

    /// What a form asks, where that isn't what was asked.
    fn sent_as(&self, variant: VariantId) -> Option<Sent> {
        let (operation, key) = (self.operation(variant), self.key(variant));
        let same = operation == self.request.operation && key == self.request.key;
        (!same).then(|| Sent { operation, key: key.to_owned() })
    }

    /// Lists the children that weren't started, as what may follow.
    fn trace_later(&mut self, seat: Seat, first: usize) {
        let routes = self.routes;
        let Some(trace) = self.trace.as_mut() else { return };
        let mut started: Vec<NodeId> = (first + 1..trace.steps.len())
            .filter(|step| trace.steps[*step].depth == trace.depth)
            .filter_map(|step| trace.nodes[step])
            .collect();
        let usage = std::mem::replace(&mut trace.usage, ExplainUse::Later);
        for child in routes.children(seat.node).iter().copied() {
            match started.iter().position(|node| *node == child) {
                Some(at) => {
                    started.swap_remove(at);
                }
                None => {
                    self.start(child, Place::NOBODY, seat.variant);
                }
            }
        }
        if let Some(trace) = self.trace.as_mut() {
            trace.usage = usage;
        }
    }

    /// Notes the server that a pool chose, and the key's home where that is another.
    pub(crate) fn note_choice(&mut self, home: Option<ServerId>, chosen: Option<ServerId>) {
        let Some(trace) = self.trace.as_mut() else { return };
        if home != chosen {
            trace.push("Server", home, ExplainUse::Skipped, None);
        }
        if chosen.is_some() {
            trace.push("Server", chosen, trace.usage, None);
        }
    }

    /// Notes that the router answers without looking at the tree.
    pub(crate) fn note_router(&mut self) {
        if let Some(trace) = self.trace.as_mut() {
            trace.push("LocalRoute", None, trace.usage, None);
        }
    }
}

impl Trace {
    fn push(&mut self, route: &'static str, server: Option<ServerId>, usage: ExplainUse, node: Option<NodeId>) {
        let sent = self.sent.clone();
        self.steps.push(ExplainStep { depth: self.depth, route, server, usage, sent });
        self.nodes.push(node);
    }
}
