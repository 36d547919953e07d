//! What a request would do, in words: the way through the tree, for `keyway explain`.
//!
//! Mirrors `plan`'s walk without dispatching. Not on a request's path: it allocates. Invariant, held by a test: the
//! servers used `Now` are exactly those `begin` dispatches to, in order.

use super::pool::Pool;
use super::{NodeId, RouteNode, Routes, ServerId, local, operation_selector};
use crate::LocalReply;
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

/// What would become of a node as soon as it is started, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Begun {
    /// It succeeds on the spot.
    Success,
    /// It waits for a server.
    Waits,
    /// It fails on the spot.
    Fails,
    /// Nothing in it can be used.
    Unusable,
}

impl Walk<'_> {
    /// Adds a node and what is below it. Recursion is bounded by the tree's depth.
    fn visit(&mut self, node: NodeId, depth: usize, usage: ExplainUse) -> Begun {
        let routes = self.routes;
        let at = self.steps.len();
        let route = routes.node(node);
        self.push(depth, route.name(), None, usage);
        let begun = match route {
            RouteNode::Server(server) => {
                self.steps[at].server = Some(*server);
                if self.health.is_up(*server) { Begun::Waits } else { Begun::Unusable }
            }
            RouteNode::OperationSelector { policies, default } => {
                let child = operation_selector::select(policies, *default, self.request.operation);
                self.visit(child, depth + 1, usage)
            }
            RouteNode::AllFastest(children) => {
                children.iter().map(|child| self.visit(*child, depth + 1, usage)).min().unwrap_or(Begun::Unusable)
            }
            RouteNode::MissFailover(children) => self.visit_in_order(children, depth + 1, usage),
            RouteNode::Default(children) => children
                .iter()
                .map(|child| self.visit(*child, depth + 1, usage))
                .find(|begun| *begun != Begun::Unusable)
                .unwrap_or(Begun::Unusable),
            RouteNode::Local => match local::reply(self.request.operation) {
                LocalReply::Router => Begun::Success,
                LocalReply::NotLocal | LocalReply::NoHealthyServer | LocalReply::Failed(_) => Begun::Fails,
            },
            RouteNode::Pool(pool) => self.visit_pool(pool, depth + 1, usage),
        };
        if begun == Begun::Unusable {
            self.steps[at].usage = ExplainUse::Skipped;
        }
        begun
    }

    /// MissFailoverRoute: at once up to the first child that waits, later what follows, nothing behind a sure success.
    fn visit_in_order(&mut self, children: &[NodeId], depth: usize, usage: ExplainUse) -> Begun {
        let mut whole = Begun::Unusable;
        for child in children {
            let child_usage = if whole == Begun::Waits { ExplainUse::Later } else { usage };
            let begun = self.visit(*child, depth, child_usage);
            if whole != Begun::Waits {
                whole = whole.min(begun);
            }
            if begun == Begun::Success {
                break;
            }
        }
        whole
    }

    fn visit_pool(&mut self, pool: &Pool, depth: usize, usage: ExplainUse) -> Begun {
        let home = pool.home(self.request.key);
        let now = pool.server(self.request.key, self.health).ok();
        if home != now {
            self.push(depth, "Server", home, ExplainUse::Skipped);
        }
        if now.is_none() {
            return Begun::Unusable;
        }
        self.push(depth, "Server", now, usage);
        Begun::Waits
    }

    fn push(&mut self, depth: usize, route: &'static str, server: Option<ServerId>, usage: ExplainUse) {
        self.steps.push(ExplainStep { depth, route, server, usage });
    }
}
