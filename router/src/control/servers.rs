//! Which server is which over the life of the process.
//!
//! Invariant: an identity keeps its key across reloads and a key is never given to another one, so that connections,
//! health and counters of a server survive a reload and never turn into another server's.

use crate::config::ServerIdentity;
use crate::table::ServerKey;
use keyway_io_engine::Address;
use std::collections::HashMap;

/// Most server keys of one process, over all its reloads: each costs every shard about 2 KiB.
pub const MAX_SERVER_KEYS: usize = 1 << 16;

/// Gives out server keys.
#[derive(Debug, Default)]
pub struct ServerKeys {
    keys: HashMap<ServerIdentity, ServerKey>,
}

impl ServerKeys {
    /// None given out yet.
    pub fn new() -> ServerKeys {
        ServerKeys::default()
    }

    /// Whether all of these can have keys. To be asked before a configuration is taken: only a restart forgets a server.
    pub fn admit(&self, identities: &[ServerIdentity]) -> Result<(), String> {
        let fresh = identities.iter().filter(|identity| !self.keys.contains_key(identity)).count();
        let known = self.keys.len();
        if known + fresh <= MAX_SERVER_KEYS {
            return Ok(());
        }
        Err(format!(
            "{fresh} new servers on top of the {known} this process has known: at most {MAX_SERVER_KEYS} until it is restarted"
        ))
    }

    /// The key of a server, the same one for the same identity.
    pub fn key(&mut self, identity: &ServerIdentity) -> ServerKey {
        if let Some(key) = self.keys.get(identity) {
            return *key;
        }
        let key = ServerKey(self.keys.len() as u32);
        self.keys.insert(identity.clone(), key);
        key
    }

    /// How many were given out; every key is below it.
    pub fn count(&self) -> usize {
        self.keys.len()
    }
}

/// Where a server is, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Known without asking anyone.
    Address(Address),
    /// A name to be resolved, and a port.
    Name(String, u16),
}

/// A server to be watched. One per configured address, however many pools use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedServer {
    /// The configured address, as logs and metrics show it (`TableServer::host`).
    pub host: String,
    /// Where it is.
    pub target: Target,
    /// Its keys: pools with other connection settings have their own.
    pub keys: Vec<ServerKey>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConnectionSettings, ServerAddress};
    use std::time::Duration;

    fn identity(port: usize) -> ServerIdentity {
        let second = Duration::from_secs(1);
        ServerIdentity {
            address: ServerAddress::Name("cache".to_string(), port as u16),
            // So that there are more identities than ports.
            connection: ConnectionSettings {
                connections: 1 + (port >> 16) as u16,
                connect_timeout: second,
                timeout: second,
            },
        }
    }

    #[test]
    fn identities_keep_their_keys() {
        let mut keys = ServerKeys::new();
        assert_eq!((keys.key(&identity(1)), keys.key(&identity(2))), (ServerKey(0), ServerKey(1)));
        assert_eq!(keys.key(&identity(1)), ServerKey(0));
        assert_eq!(keys.count(), 2);
    }

    #[test]
    fn keys_are_bounded() {
        let mut keys = ServerKeys::new();
        let all: Vec<ServerIdentity> = (0..=MAX_SERVER_KEYS).map(identity).collect();
        assert!(keys.admit(&all).is_err());
        assert_eq!(keys.admit(&all[1..]), Ok(()));
        for identity in &all[1..] {
            keys.key(identity);
        }
        assert_eq!(keys.admit(&all[1..]), Ok(()));
        assert!(keys.admit(&all[..1]).is_err());
    }
}
