//! PoolRoute: one server of a pool, by the key's hash.
//!
//! A selector: it is resolved on the way down and leaves no trace in the plan. Owns what a pool does about a server that
//! is down: nothing (mcrouter: the key's requests fail, or a parent route takes them elsewhere), or the next server the
//! key would fall to (twemproxy's auto_eject_hosts).

use super::{Policy, ServerId, Shape};
use crate::hash::{Placement, PlacementSpec, SpecError};
use crate::plan::{Run, Seat, Started};
use crate::{Failure, HealthView, LocalReply};

/// What happens to the keys of a server that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// They fail.
    Error,
    /// They go to the next server that is up.
    Rehash,
    /// They are misses, and what is stored is not stored.
    Miss,
}

impl OnDown {
    /// Every value, for the message about a wrong one.
    pub const ALL: [OnDown; 3] = [OnDown::Error, OnDown::Rehash, OnDown::Miss];

    /// The name in configs.
    pub const fn name(self) -> &'static str {
        match self {
            OnDown::Error => "error",
            OnDown::Rehash => "rehash",
            OnDown::Miss => "miss",
        }
    }

    /// The value of that name.
    pub fn from_name(name: &str) -> Option<OnDown> {
        OnDown::ALL.into_iter().find(|on_down| on_down.name() == name)
    }
}

/// A pool to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// The servers, in the order configured: one for each member of the placement.
    pub servers: Vec<ServerId>,
    /// How keys are spread over them.
    pub placement: PlacementSpec,
    /// What happens to the keys of a server that is down.
    pub on_down: OnDown,
}

/// A hash-sharded pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    servers: Vec<ServerId>,
    placement: Placement,
    on_down: OnDown,
}

impl Pool {
    /// The pool as specified, with as many members as servers.
    pub(super) fn new(spec: &PoolSpec) -> Result<Pool, SpecError> {
        assert_eq!(spec.servers.len(), spec.placement.members.len(), "a pool's members are its servers");
        Ok(Pool { servers: spec.servers.clone(), placement: Placement::new(&spec.placement)?, on_down: spec.on_down })
    }

    /// Its servers, in the order configured.
    pub fn servers(&self) -> &[ServerId] {
        &self.servers
    }

    /// The server a key belongs to while all are up; none in a pool without servers.
    pub fn home(&self, key: &[u8]) -> Option<ServerId> {
        self.home_index(key).map(|index| self.servers[index])
    }

    /// The position of that server.
    pub(super) fn home_index(&self, key: &[u8]) -> Option<usize> {
        Some(self.placement.home(key)).filter(|index| *index < self.servers.len())
    }

    /// The server to send a key's request to now, or what to answer.
    pub(crate) fn server(&self, key: &[u8], health: HealthView<'_>) -> Result<ServerId, LocalReply> {
        let Some(home) = self.home(key) else { return Err(LocalReply::NoHealthyServer) };
        match self.on_down {
            OnDown::Error if health.is_up(home) => Ok(home),
            OnDown::Error => Err(LocalReply::Failed(Failure::Unavailable)),
            OnDown::Miss if health.is_up(home) => Ok(home),
            OnDown::Miss => Err(LocalReply::Null),
            OnDown::Rehash => {
                let share = share_of(key);
                let is_up = |index: usize| health.takes(self.servers[index], share);
                if health.takes(home, share) {
                    return Ok(home);
                }
                // Asked first so that no walk over the ring is made in vain.
                if !(0..self.servers.len()).any(is_up) {
                    return match health.is_up(home) {
                        // All that is up comes back slowly: better early than not at all.
                        true => Ok(home),
                        false => Err(LocalReply::NoHealthyServer),
                    };
                }
                Ok(self.servers[self.placement.first_up(key, is_up)])
            }
        }
    }
}

impl Policy for Pool {
    fn shape(&self) -> Shape {
        Shape::Leaf
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let key = run.routing_key(seat.variant);
        let chosen = self.server(key, run.health());
        if run.trace.is_some() {
            let home = self.home(key);
            run.note_choice(home, chosen.ok());
        }
        match chosen {
            Ok(server) => run.dispatch(server, seat),
            // A miss is an answer: a parent needn't look elsewhere.
            Err(reply @ LocalReply::Null) => Started::Settled(run.settled(reply, seat.variant)),
            Err(reply) => Started::Unusable(reply),
        }
    }
}

/// Which share of a returning server's keys a key belongs to.
fn share_of(key: &[u8]) -> u8 {
    // FNV-1a: any hash will do that has nothing to do with the pool's own.
    let hash = key.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    ((hash >> 24) % 255) as u8
}
