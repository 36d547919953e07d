//! A configuration as the control plane publishes it: the table for the shards, and what to watch.

use super::fleet::FleetSettings;
use super::health::HealthSettings;
use super::servers::{ServerKeys, Target, WatchedServer};
use super::standing::{FailOpen, PoolRules, WatchedPool};
use crate::config::{Config, ServerAddress, ServerIdentity};
use crate::table::{ServerKey, Table};
use keyway_io_engine::Address;
use keyway_policies::{OnDown, ServerId};
use std::sync::Arc;
use std::time::Duration;

/// Where an embedded server of this name listens inside the process.
pub type Embedded = Box<dyn Fn(&str) -> Option<Address> + Send>;

/// What follows from one configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration itself.
    pub config: Arc<Config>,
    /// For the shards.
    pub table: Arc<Table>,
    /// One per configured address.
    pub servers: Vec<WatchedServer>,
    /// What becomes of them in each pool, in the table's order.
    pub pools: Vec<WatchedPool>,
    /// How they are watched.
    pub settings: FleetSettings,
    /// How long a stopping process waits for its clients.
    pub drain: Duration,
    /// The async log, where there is one.
    pub async_log: Option<crate::async_log::Settings>,
}

impl Loaded {
    /// What follows from `config`, or why it can't be used.
    pub fn new(
        config: Arc<Config>,
        generation: u64,
        keys: &mut ServerKeys,
        embedded: &dyn Fn(&str) -> Option<Address>,
    ) -> Result<Loaded, String> {
        keys.admit(&config.identities())?;
        let servers = watched(&config, keys, embedded)?;
        let table = config.table(generation, &mut |identity| keys.key(identity));
        let health = HealthSettings {
            interval: config.health.interval,
            timeout: config.health.timeout,
            failures: config.health.down.failures,
            successes: config.health.successes,
            probe_initial: config.health.probe_initial,
            probe_max: config.health.probe_max,
            min_down: config.health.min_down,
            max_down: config.health.max_down,
        };
        let settings = FleetSettings { health, dns_ttl: config.dns_ttl };
        let pools = watched_pools(&config, &table);
        let (drain, async_log) = (config.drain, config.async_log.clone());
        Ok(Loaded { config, table: Arc::new(table), servers, pools, settings, drain, async_log })
    }
}

/// The pools of the table, whose servers stand in it one pool after the other.
fn watched_pools(config: &Config, table: &Table) -> Vec<WatchedPool> {
    let mut ids = 0u32..;
    let mut in_table = table.servers.iter();
    let pools = config.pools.iter().map(|pool| {
        let ejection = &pool.ejection;
        let rules = PoolRules {
            rehash: pool.on_down == OnDown::Rehash,
            fail_open: ejection.fail_open.map(|(upper, lower)| FailOpen { upper, lower }),
            max_ejected: ejection.max_ejected,
            min_ejected: ejection.min_ejected,
            slow_start: ejection.slow_start,
        };
        let servers = in_table.by_ref().take(pool.servers.len()).zip(ids.by_ref());
        let servers = servers.map(|(server, id)| (ServerId(id), server.key)).collect();
        WatchedPool { name: pool.name.clone(), rules, servers }
    });
    pools.collect()
}

/// One server per address, under the way it was written first.
fn watched(
    config: &Config,
    keys: &mut ServerKeys,
    embedded: &dyn Fn(&str) -> Option<Address>,
) -> Result<Vec<WatchedServer>, String> {
    let mut by_address = std::collections::HashMap::new();
    let mut servers: Vec<WatchedServer> = Vec::new();
    for pool in &config.pools {
        for server in &pool.servers {
            let identity = ServerIdentity { address: server.address.clone(), connection: pool.connection };
            let key = keys.key(&identity);
            match by_address.get(&identity.address) {
                Some(at) => add_key(&mut servers[*at], key),
                None => {
                    let target = target(&server.address, embedded)?;
                    by_address.insert(identity.address, servers.len());
                    servers.push(WatchedServer { host: server.configured.clone(), target, keys: vec![key] });
                }
            }
        }
    }
    Ok(servers)
}

fn add_key(server: &mut WatchedServer, key: ServerKey) {
    if !server.keys.contains(&key) {
        server.keys.push(key);
    }
}

fn target(address: &ServerAddress, embedded: &dyn Fn(&str) -> Option<Address>) -> Result<Target, String> {
    Ok(match address {
        ServerAddress::Ip(address) => Target::Address(Address::Tcp(*address)),
        ServerAddress::Unix(path) => Target::Address(Address::Unix(path.clone())),
        ServerAddress::Name(name, port) => Target::Name(name.clone(), *port),
        ServerAddress::Embedded(name) => match embedded(name) {
            Some(address) => Target::Address(address),
            None => return Err(format!("embedded:{name} was not there at the start; embedded servers need a restart")),
        },
    })
}
