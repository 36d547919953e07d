//! What a new configuration changes, in lines for the log: pools and their servers, routes, listeners, settings.
//!
//! Compares what the files come to, not their text: comments, order of keys and the short forms make no difference.
//! Bound: at most `MAX_CHANGES` lines; the rest is counted.

use super::error::seen;
use super::pools::{Pool, Server};
use super::{Config, NamedRoute};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Most changes said one by one.
pub const MAX_CHANGES: usize = 100;

/// What changes from one configuration to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// One change each, in words.
    pub lines: Vec<String>,
    /// How many more there are.
    pub more: usize,
    /// Names of sections that changed and that only a start reads.
    pub need_restart: Vec<&'static str>,
}

impl Changes {
    /// What `new` changes of `old`.
    pub fn between(old: &Config, new: &Config) -> Changes {
        let mut changes = Changes::default();
        changes.pools(old, new);
        changes.routes(old, new);
        changes.listeners(old, new);
        changes.settings(old, new);
        changes
    }

    /// True when both mean the same.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.need_restart.is_empty()
    }

    fn note(&mut self, line: String) {
        if self.lines.len() < MAX_CHANGES {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    fn pools(&mut self, old: &Config, new: &Config) {
        let before: HashMap<&str, &Pool> = old.pools.iter().map(|pool| (pool.name.as_str(), pool)).collect();
        let after: HashSet<&str> = new.pools.iter().map(|pool| pool.name.as_str()).collect();
        for pool in old.pools.iter().filter(|pool| !after.contains(pool.name.as_str())) {
            self.note(format!("pool {}: removed", pool.name));
        }
        for pool in &new.pools {
            match before.get(pool.name.as_str()) {
                None => self.note(format!("pool {}: added, {} servers", pool.name, pool.servers.len())),
                Some(before) if *before != pool => self.pool(before, pool),
                Some(_) => {}
            }
        }
    }

    fn pool(&mut self, old: &Pool, new: &Pool) {
        let name = &new.name;
        let label = |server: &Server| server.label(new.hash.distribution);
        let before: HashMap<_, &Server> = old.servers.iter().map(|server| (&server.address, server)).collect();
        let after: HashSet<_> = new.servers.iter().map(|server| &server.address).collect();
        for server in old.servers.iter().filter(|server| !after.contains(&server.address)) {
            self.note(format!("pool {name}: server {} removed", server.configured));
        }
        for server in &new.servers {
            match before.get(&server.address) {
                None => self.note(format!("pool {name}: server {} added", server.configured)),
                Some(before) if before.weight != server.weight => self.note(format!(
                    "pool {name}: server {} has weight {}, was {}",
                    server.configured, server.weight, before.weight
                )),
                Some(before) if label(before) != label(server) => self.note(format!(
                    "pool {name}: server {} stands in the hash as {}, was {}",
                    server.configured,
                    seen(&label(server)),
                    seen(&label(before))
                )),
                Some(before) if before.buckets != server.buckets => {
                    self.note(format!("pool {name}: server {} has other buckets", server.configured));
                }
                Some(_) => {}
            }
        }
        // Of the servers that stay; ch3 goes by their order.
        let stay_before = old.servers.iter().map(|server| &server.address).filter(|address| after.contains(address));
        let stay = new.servers.iter().map(|server| &server.address).filter(|address| before.contains_key(address));
        if !stay_before.eq(stay) {
            self.note(format!("pool {name}: servers are in another order"));
        }
        if old.hash != new.hash {
            self.note(format!(
                "pool {name}: hash changed, {} (was {})",
                new.hash.distribution.name(),
                old.hash.distribution.name()
            ));
        }
        if old.connection != new.connection {
            self.note(format!("pool {name}: connections or timeouts changed, so its servers are connected to anew"));
        }
        // Whatever else a pool has, now or in time to come.
        let rest = |pool: &Pool| Pool {
            servers: Vec::new(),
            hash: new.hash.clone(),
            connection: new.connection,
            ..pool.clone()
        };
        if rest(old) != rest(new) {
            self.note(format!("pool {name}: other settings changed"));
        }
    }

    fn routes(&mut self, old: &Config, new: &Config) {
        let before: HashMap<&str, &NamedRoute> = old.routes.iter().map(|route| (route.name.as_str(), route)).collect();
        let after: HashSet<&str> = new.routes.iter().map(|route| route.name.as_str()).collect();
        for route in old.routes.iter().filter(|route| !after.contains(route.name.as_str())) {
            self.note(format!("route {}: removed", route.name));
        }
        let same_pools = old.pools.iter().map(|pool| &pool.name).eq(new.pools.iter().map(|pool| &pool.name));
        for route in &new.routes {
            match before.get(route.name.as_str()) {
                None => self.note(format!("route {}: added", route.name)),
                Some(before) => {
                    let is_same = match same_pools {
                        true => before.route == route.route,
                        false => spelled(before, &old.pools) == spelled(route, &new.pools),
                    };
                    if !is_same {
                        self.note(format!("route {}: changed", route.name));
                    }
                }
            }
        }
    }

    fn listeners(&mut self, old: &Config, new: &Config) {
        let addresses =
            |config: &Config| -> Vec<_> { config.listeners.iter().map(|one| one.address.clone()).collect() };
        if addresses(old) != addresses(new) {
            self.need_restart.push("listeners");
            return;
        }
        for (before, listener) in old.listeners.iter().zip(&new.listeners) {
            let (was, is) = (&old.routes[before.route].name, &new.routes[listener.route].name);
            if was != is {
                self.note(format!("listener {}: takes route {is}, was {was}", listener.address));
            }
        }
    }

    fn settings(&mut self, old: &Config, new: &Config) {
        let taken = [
            ("limits", old.limits != new.limits || old.drain != new.drain),
            ("health", old.health != new.health),
            ("dns", old.dns_ttl != new.dns_ttl),
            ("reload", old.reload != new.reload),
            ("admin.keys", old.admin_keys != new.admin_keys),
        ];
        for (section, _) in taken.into_iter().filter(|(_, changed)| *changed) {
            self.note(format!("{section}: changed"));
        }
        let left = [
            ("shards", old.shards != new.shards),
            ("metrics", old.metrics != new.metrics),
            ("admin", old.admin != new.admin),
            ("batching", old.batching != new.batching),
            ("embedded", old.embedded_memory_bytes != new.embedded_memory_bytes),
        ];
        self.need_restart.extend(left.into_iter().filter(|(_, changed)| *changed).map(|(section, _)| section));
    }
}

impl fmt::Display for Changes {
    /// Lines without an end; "nothing changed" when there are none.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return out.write_str("nothing changed");
        }
        let mut lines = self.lines.clone();
        if self.more > 0 {
            lines.push(format!("and {} changes more", self.more));
        }
        if !self.need_restart.is_empty() {
            lines.push(format!("takes a restart, the old stays in use: {}", self.need_restart.join(", ")));
        }
        out.write_str(&lines.join("\n"))
    }
}

/// A tree as text, with names of pools where it has their indices: the same whatever the order of the pools. A tree that
/// holds an index under another key is called changed once too often, which harms nobody.
fn spelled(route: &NamedRoute, pools: &[Pool]) -> String {
    const KEY: &str = "pool: ";
    let text = format!("{:?}", route.route);
    let mut pieces = text.split(KEY);
    let mut spelled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
        let pool = piece[..end].parse().ok().and_then(|at: usize| pools.get(at));
        let name = pool.map_or(&piece[..end], |pool| pool.name.as_str());
        spelled += KEY;
        spelled += name;
        spelled += &piece[end..];
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    const BASE: &str = "pools:
  web: {servers: ['a:1', 'b:1'], hash: {distribution: ketama}}
  spare: {servers: ['c:1']}
routes:
  main: {type: MissFailoverRoute, children: [PoolRoute|web, PoolRoute|spare]}
  other: PoolRoute|spare
listeners: [{address: ':1', route: main}]
";

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes(), "t", &Overrides::default()).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
    }

    /// The base with one text put for another, against the base.
    fn check(replace: &str, by: &str, wanted: &str) {
        assert!(BASE.contains(replace), "{replace}");
        let changes = Changes::between(&config(BASE), &config(&BASE.replacen(replace, by, 1)));
        assert_eq!(changes.to_string(), wanted, "{replace} -> {by}");
    }

    #[test]
    fn each_change_is_said_in_words() {
        check("main:", "main: # a comment\n   ", "nothing changed");
        check("'b:1'", "'b:1', 'd:1'", "pool web: server d:1 added");
        check(", 'b:1'", "", "pool web: server b:1 removed");
        check("'b:1'", "'d:1'", "pool web: server b:1 removed\npool web: server d:1 added");
        check("'b:1'", "{address: 'b:1', weight: 3}", "pool web: server b:1 has weight 3, was 1");
        check("'b:1'", "{address: 'b:1', name: x}", "pool web: server b:1 stands in the hash as `x`, was `b:1`");
        check("'a:1', 'b:1'", "'b:1', 'a:1'", "pool web: servers are in another order");
        check("distribution: ketama", "function: ch3", "pool web: hash changed, ch3 (was ketama)");
        check("ketama}", "ketama, tag: '{}'}", "pool web: hash changed, ketama (was ketama)");
        check("ketama}", "ketama}, on_down: rehash", "pool web: other settings changed");
        let anew = "pool spare: connections or timeouts changed, so its servers are connected to anew";
        check("['c:1']", "['c:1'], connections: 2", anew);
        // `deadline_ms` goes with it.
        check("['c:1']", "['c:1'], timeout_ms: 9", &format!("{anew}\npool spare: other settings changed"));
        check("  spare:", "  more: {servers: ['e:1', 'f:1']}\n  spare:", "pool more: added, 2 servers");
        check("type: MissFailoverRoute", "type: AllFastestRoute", "route main: changed");
        check("other: PoolRoute|spare", "third: PoolRoute|spare", "route other: removed\nroute third: added");
        check("route: main", "route: other", "listener tcp://:1: takes route other, was main");
        check("listeners", "dns: {ttl_ms: 500}\nlimits: {drain_ms: 1}\nlisteners", "limits: changed\ndns: changed");
        check("listeners", "shards: 3\nlisteners", "takes a restart, the old stays in use: shards");
        check("':1'", "':2'", "takes a restart, the old stays in use: listeners");
    }

    #[test]
    fn changed_buckets_are_said() {
        let buckets = |first: &str, second: &str| {
            config(&format!(
                "pools: {{web: {{servers: [{{address: 'a:1', buckets: {first}}}, {{address: 'b:1', buckets: {second}}}], \
                 hash: {{distribution: codis}}}}}}\nroute: PoolRoute|web\n"
            ))
        };
        let changes = Changes::between(&buckets("0-511", "512-1023"), &buckets("0-255", "256-1023"));
        let wanted = "pool web: server a:1 has other buckets\npool web: server b:1 has other buckets";
        assert_eq!(changes.to_string(), wanted);
    }

    #[test]
    fn pools_that_change_places_change_no_route() {
        let swapped = BASE
            .replace("  spare: {servers: ['c:1']}\n", "")
            .replace("pools:\n", "pools:\n  spare: {servers: ['c:1']}\n");
        let changes = Changes::between(&config(BASE), &config(&swapped));
        assert!(changes.is_empty(), "{changes}");
        // And the same indices may mean another pool.
        let renamed = BASE.replace("spare", "extra");
        let said = Changes::between(&config(BASE), &config(&renamed)).to_string();
        let wanted = "pool spare: removed\npool extra: added, 1 servers\nroute main: changed\nroute other: changed";
        assert_eq!(said, wanted);
    }

    #[test]
    fn lines_are_bounded() {
        let pools = |prefix: &str| {
            let pools: String = (0..MAX_CHANGES).map(|n| format!("  {prefix}{n}: {{servers: ['a:1']}}\n")).collect();
            config(&format!("pools:\n{pools}route: LocalRoute\n"))
        };
        let changes = Changes::between(&pools("old"), &pools("new"));
        assert_eq!((changes.lines.len(), changes.more), (MAX_CHANGES, MAX_CHANGES));
        assert!(changes.to_string().ends_with("\nand 100 changes more"), "{changes}");
    }
}
