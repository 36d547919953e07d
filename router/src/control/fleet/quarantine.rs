//! Servers that are healthy and kept out of use, because what they missed has not been sent to them yet.
//!
//! Held servers are down for pools and shards. Why and for how long is not decided here.
//!
//! Invariant: only a healthy server is held.

use super::{Action, Fleet};
use crate::table::ServerKey;
use std::time::Duration;

impl Fleet {
    /// Whether a server that comes back is held from the same moment on, until it is released.
    pub fn hold_returning(&mut self, hold: bool) {
        self.holds_returning = hold;
    }

    /// Holds a server that takes requests.
    pub fn hold(&mut self, key: ServerKey, now: Duration) {
        self.set_held(key, true, now);
    }

    /// A server that is held takes requests again.
    pub fn release(&mut self, key: ServerKey, now: Duration) {
        self.set_held(key, false, now);
    }

    fn set_held(&mut self, key: ServerKey, held: bool, now: Duration) {
        let Some(watched) = self.servers.values_mut().find(|watched| watched.server.keys.contains(&key)) else {
            return;
        };
        if watched.held == held || !watched.health.is_up() {
            return;
        }
        watched.held = held;
        watched.trouble = watched.trouble.filter(|_| held);
        let (keys, publication) = (watched.server.keys.clone(), watched.publication());
        // What was to be said of it and wasn't yet is not so any more.
        self.actions.retain(|action| !matches!(action, Action::Publish { keys: of, .. } if *of == keys));
        self.update_standings(now);
        self.actions.push_back(publication);
    }
}
