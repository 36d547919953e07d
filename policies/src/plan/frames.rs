//! The beginning of a walk, and what routes with one child and a frame of their own do with it: those that count, wait
//! or watch.

use super::{Frame, Place, Plan, Run, Seat, Settled, Started};
use crate::LocalReply;
use crate::request::{Action, Env, RequestView};
use crate::routes::{NodeId, RouteNode, Routes, ServerId};
use crate::variant::VariantId;

impl<'a> Run<'a> {
    /// A walk with no reply at hand.
    pub(crate) fn new(
        routes: &'a Routes,
        plan: &'a mut Plan,
        request: &'a RequestView<'a>,
        env: Env<'a>,
        out: &'a mut Vec<Action>,
    ) -> Run<'a> {
        Run { routes, plan, request, env, out, reported: None, frozen: false, trace: None }
    }
}

impl Run<'_> {
    /// True when the request is answered: what is still under way is so for its effect.
    pub(crate) fn is_answered(&self) -> bool {
        self.plan.decided
    }

    /// Takes back the frame at `at`, the last one: nothing was dispatched below it.
    pub(crate) fn take_back(&mut self, at: usize, reply: LocalReply) -> Started {
        debug_assert_eq!(at + 1, self.plan.frames.len());
        self.plan.frames.truncate(at);
        Started::Unusable(reply)
    }

    /// True when no frame was opened after the one at `at`.
    pub(crate) fn is_last_frame(&self, at: usize) -> bool {
        at + 1 == self.plan.frames.len()
    }

    /// Starts a child of the frame at `at`, whose outcome is reported as that of `seat`: to tell apart what one child is
    /// asked several times.
    pub(crate) fn start_child_for(&mut self, at: usize, child: usize, seat: usize, variant: VariantId) -> Started {
        let routes = self.routes;
        let node = self.frame(at).node;
        self.start(routes.children(node)[child], Place::new(at, seat), variant)
    }

    /// The seat of the frame at `at`.
    pub(crate) fn seat(&self, at: usize) -> Seat {
        let Frame { node, place, variant, .. } = self.plan.frames[at];
        Seat { node, place, variant }
    }

    /// The outcome of a child that can't be used, for the frame at `at`.
    pub(crate) fn unusable_at(&self, at: usize, reply: LocalReply) -> Settled {
        self.settled(reply, self.plan.frames[at].variant)
    }

    /// The server that a node which comes down to a server or a pool sends a form to now. An error where it can't be used; none where
    /// it is no such node.
    pub(crate) fn server_of(&self, node: NodeId, variant: VariantId) -> Result<Option<ServerId>, LocalReply> {
        match self.routes.node(node) {
            RouteNode::Server(server) if self.env.health.is_up(server.0) => Ok(Some(server.0)),
            RouteNode::Server(_) => Err(LocalReply::NoHealthyServer),
            RouteNode::Pool(pool) => pool.server(self.routing_key(variant), self.env.health).map(Some),
            RouteNode::Hash(hash) => match self.routes.children(node).get(hash.home(self.routing_key(variant))) {
                Some(child) => self.server_of(*child, variant),
                None => Err(LocalReply::NoHealthyServer),
            },
            RouteNode::KeepRoutingPrefix(_) => self.server_of(self.routes.children(node)[0], variant),
            _ => Ok(None),
        }
    }
}
