//! What a request would do, in words: the way through the tree, for `keyway explain`.
//!
//! Mirrors `plan`'s walk without dispatching. Not on a request's path: it allocates. Invariant, held by a test: the
//! servers used `Now` are exactly those `begin` dispatches to, in order.

use super::{NodeId, RouteNode, Routes, ServerId, operation_selector};
use crate::plan::{Entry, HealthView, RequestView};

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

impl Routes {
    /// The way of a request. Children that can't be reached, such as those behind DefaultRoute's choice, are left out.
    pub fn explain(&self, request: RequestView<'_>, health: HealthView<'_>) -> Vec<ExplainStep> {
        let mut walk = Walk { routes: self, request, health, steps: Vec::new() };
        match self.entry(request.operation) {
            Entry::Node(node) => {
                walk.visit(node, 0, ExplainUse::Now);
            }
            Entry::Router => walk.push(0, RouteNode::Local.name(), None, ExplainUse::Now),
        }
        walk.steps
    }
}

struct Walk<'a> {
    routes: &'a Routes,
    request: RequestView<'a>,
    health: HealthView<'a>,
    steps: Vec<ExplainStep>,
}

impl Walk<'_> {
    /// Adds a node and what is below it; true when it can be used. Recursion is bounded by the tree's depth.
    fn visit(&mut self, node: NodeId, depth: usize, usage: ExplainUse) -> bool {
        let routes = self.routes;
        let at = self.steps.len();
        let route = routes.node(node);
        self.push(depth, route.name(), None, usage);
        let usable = match route {
            RouteNode::Server(server) => {
                self.steps[at].server = Some(*server);
                self.health.is_up(*server)
            }
            RouteNode::OperationSelector { policies, default } => {
                let child = operation_selector::select(policies, *default, self.request.operation);
                self.visit(child, depth + 1, usage)
            }
            RouteNode::AllFastest(children) => {
                children.iter().fold(false, |any, child| self.visit(*child, depth + 1, usage) || any)
            }
            RouteNode::MissFailover(children) => {
                let mut child_usage = usage;
                let mut any = false;
                for child in children {
                    if self.visit(*child, depth + 1, child_usage) {
                        any = true;
                        child_usage = ExplainUse::Later;
                    }
                }
                any
            }
            RouteNode::Default(children) => children.iter().any(|child| self.visit(*child, depth + 1, usage)),
            RouteNode::Local => true,
            RouteNode::Pool(pool) => {
                let home = pool.home(self.request.key);
                let now = pool.server(self.request.key, self.health).ok();
                if home != now {
                    self.push(depth + 1, "Server", home, ExplainUse::Skipped);
                }
                if now.is_some() {
                    self.push(depth + 1, "Server", now, usage);
                }
                now.is_some()
            }
        };
        if !usable {
            self.steps[at].usage = ExplainUse::Skipped;
        }
        usable
    }

    fn push(&mut self, depth: usize, route: &'static str, server: Option<ServerId>, usage: ExplainUse) {
        self.steps.push(ExplainStep { depth, route, server, usage });
    }
}
