//! PoolRoute: one server of a pool, by the key's hash.
//!
//! A selector: it is resolved on the way down and leaves no trace in the plan. Owns what a pool does about a server that
//! is down: nothing (mcrouter: the key's requests fail, or a parent route takes them elsewhere), or the next server the
//! key would fall to (twemproxy's auto_eject_hosts).

use super::ServerId;
use crate::hash::{Distribution, HashTag, Placement, routing_key};
use crate::{Failure, HealthView, LocalReply};

/// What happens to the keys of a server that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// They fail.
    Error,
    /// They go to the next server that is up.
    Rehash,
}

impl OnDown {
    /// Every value, for the message about a wrong one.
    pub const ALL: [OnDown; 2] = [OnDown::Error, OnDown::Rehash];

    /// The name in configs.
    pub const fn name(self) -> &'static str {
        match self {
            OnDown::Error => "error",
            OnDown::Rehash => "rehash",
        }
    }

    /// The value of that name.
    pub fn from_name(name: &str) -> Option<OnDown> {
        OnDown::ALL.into_iter().find(|on_down| on_down.name() == name)
    }
}

/// One server of a pool to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolServer {
    /// Where its keys go.
    pub server: ServerId,
    /// What ketama hashes in its stead: `hash::ketama::label` makes it from the address and the configured name.
    pub label: String,
    /// Its share of the keys, from 1.
    pub weight: u32,
}

/// A pool to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// The servers, in the order configured: ch3 goes by the position.
    pub servers: Vec<PoolServer>,
    /// How keys are spread.
    pub distribution: Distribution,
    /// Which part of a key is hashed.
    pub tag: Option<HashTag>,
    /// What happens to the keys of a server that is down.
    pub on_down: OnDown,
}

/// A hash-sharded pool.
#[derive(Debug)]
pub struct Pool {
    servers: Vec<ServerId>,
    placement: Placement,
    tag: Option<HashTag>,
    on_down: OnDown,
}

impl Pool {
    /// The pool as specified; the builder has checked it.
    pub(super) fn new(spec: &PoolSpec) -> Pool {
        Pool {
            servers: spec.servers.iter().map(|server| server.server).collect(),
            placement: Placement::new(spec),
            tag: spec.tag,
            on_down: spec.on_down,
        }
    }

    /// Its servers, in the order configured.
    pub fn servers(&self) -> &[ServerId] {
        &self.servers
    }

    /// The server a key belongs to while all are up; none in a pool without servers.
    pub fn home(&self, key: &[u8]) -> Option<ServerId> {
        if self.servers.is_empty() {
            return None;
        }
        let key = routing_key(key, self.tag, &self.placement);
        Some(self.servers[self.placement.home(key, self.servers.len())])
    }

    /// The server to send a key's request to now, or what to answer.
    pub(crate) fn server(&self, key: &[u8], health: HealthView<'_>) -> Result<ServerId, LocalReply> {
        let Some(home) = self.home(key) else { return Err(LocalReply::NoHealthyServer) };
        if health.is_up(home) {
            return Ok(home);
        }
        match self.on_down {
            OnDown::Error => Err(LocalReply::Failed(Failure::Unavailable)),
            OnDown::Rehash => {
                let is_up = |index: usize| health.is_up(self.servers[index]);
                // Asked first so that no walk over the ring is made in vain.
                if !(0..self.servers.len()).any(is_up) {
                    return Err(LocalReply::NoHealthyServer);
                }
                let key = routing_key(key, self.tag, &self.placement);
                Ok(self.servers[self.placement.first_up(key, self.servers.len(), is_up)])
            }
        }
    }
}
