//! `stats servers` and `stats suspect_servers`, in mcrouter's words: how each server does, and which ones are doubtful.
//!
//! Made by the control plane with the other statistics, once a second, over all shards. Bound: `SERVERS_LISTED`.

use super::{ServerFacts, ServerMetrics, ShardMetrics};
use crate::explain::access_point;
use crate::table::Table;
use keyway_policies::Failure;
use keyway_protocol::memcached::text::ReplyKind;
use std::fmt::Write as _;

/// Most servers listed.
pub const SERVERS_LISTED: usize = 4096;
/// The share of the latest second in the moving average of a server's latency, as one divided by it.
const SMOOTHING: f64 = 4.0;

/// How quick each server was of late, kept from second to second.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// By `ServerKey.0`.
    of_key: Vec<Latency>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Latency {
    sum_ns: u64,
    count: u64,
    /// Moving average over the seconds in which it replied.
    average_us: f64,
}

impl Latencies {
    /// Takes in what all shards have counted by now.
    pub fn update(&mut self, total: &ShardMetrics) {
        if self.of_key.len() < total.servers.len() {
            self.of_key.resize(total.servers.len(), Latency::default());
        }
        for (known, metrics) in self.of_key.iter_mut().zip(&total.servers) {
            known.update(metrics.latency.sum_ns(), metrics.latency.count());
        }
    }

    fn average_us(&self, key: usize) -> f64 {
        self.of_key.get(key).map_or(0.0, |known| known.average_us)
    }
}

impl Latency {
    fn update(&mut self, sum_ns: u64, count: u64) {
        let replies = count.saturating_sub(self.count);
        if replies > 0 {
            let latest = sum_ns.saturating_sub(self.sum_ns) as f64 / replies as f64 / 1000.0;
            let is_first = self.count == 0;
            self.average_us = if is_first { latest } else { self.average_us + (latest - self.average_us) / SMOOTHING };
        }
        (self.sum_ns, self.count) = (sum_ns, count);
    }
}

/// What is said of the servers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerLists {
    /// A name and what is said of it; one for each set of connections.
    pub servers: Vec<(String, String)>,
    /// The same for those that are down or failed last; one for each address.
    pub suspects: Vec<(String, String)>,
}

impl ServerLists {
    /// The lists for a table whose servers the control plane knows these facts of.
    pub fn new(
        table: &Table,
        facts: &[ServerFacts],
        total: &ShardMetrics,
        shards: usize,
        latencies: &Latencies,
    ) -> ServerLists {
        let nothing = ServerMetrics::default();
        let mut of_key: Vec<Option<&ServerFacts>> = vec![None; total.servers.len()];
        for facts in facts {
            for key in &facts.keys {
                if let Some(place) = of_key.get_mut(*key) {
                    *place = Some(facts);
                }
            }
        }
        let mut lists = ServerLists::default();
        let mut listed = vec![false; total.servers.len()];
        for server in &table.servers {
            let (key, pool) = (server.key.0 as usize, &table.pools[server.pool]);
            // Not counted by any shard yet, or listed with a pool before.
            let is_new = listed.get_mut(key).is_some_and(|listed| !std::mem::replace(listed, true));
            if !is_new || lists.servers.len() == SERVERS_LISTED {
                continue;
            }
            let seen = Seen {
                metrics: total.servers.get(key).unwrap_or(&nothing),
                facts: of_key[key],
                connections: shards as u64 * u64::from(pool.connections),
                average_us: latencies.average_us(key),
            };
            let name = format!("{}-{}", access_point(&server.host), pool.timeout.as_millis());
            lists.servers.push((name, seen.words()));
        }
        let suspects = facts.iter().filter_map(|facts| suspect(facts, total)).take(SERVERS_LISTED);
        lists.suspects.extend(suspects);
        lists
    }
}

/// A server under one key.
struct Seen<'a> {
    metrics: &'a ServerMetrics,
    facts: Option<&'a ServerFacts>,
    /// What it has when all are open, on all shards.
    connections: u64,
    average_us: f64,
}

impl Seen<'_> {
    fn words(&self) -> String {
        let metrics = self.metrics;
        let mut out = String::new();
        // Writing to a String can't fail.
        let _ = write!(
            out,
            "avg_latency_us:{:.3} pending_reqs:{} inflight_reqs:{}",
            self.average_us, metrics.pending, metrics.in_flight
        );
        let down = self.facts.filter(|facts| !facts.up);
        if let Some(facts) = down {
            let is_hard = facts.trouble.is_some_and(|trouble| trouble.is_of_connecting());
            out.push_str(if is_hard { " hard_tko;" } else { " soft_tko;" });
        }
        let open = metrics.connections().min(self.connections);
        let others = match (metrics.connects, down) {
            (0, _) => "new",
            (_, Some(_)) => "down",
            (_, None) => "closed",
        };
        for (state, count) in [("up", open), (others, self.connections - open)] {
            if count > 0 {
                let _ = write!(out, " {state}:{count}");
            }
        }
        let mut separator = ";";
        for (name, count) in results(metrics) {
            let _ = write!(out, "{separator} {name}:{count}");
            separator = "";
        }
        out
    }
}

/// What became of the tries, by mcrouter's names of results; those that never happened are left out.
fn results(metrics: &ServerMetrics) -> Vec<(&'static str, u64)> {
    let mut counts: Vec<(&'static str, u64)> = Vec::new();
    let replies = ReplyKind::ALL.map(|kind| (name_of_reply(kind), metrics.replies[kind as usize]));
    let failures = Failure::ALL.map(|failure| (name_of_failure(failure), metrics.failures[failure as usize]));
    for (name, count) in replies.into_iter().chain(failures).filter(|(_, count)| *count > 0) {
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += count,
            None => counts.push((name, count)),
        }
    }
    counts
}

const fn name_of_reply(kind: ReplyKind) -> &'static str {
    match kind {
        ReplyKind::Value => "found",
        ReplyKind::End | ReplyKind::NotFound => "notfound",
        ReplyKind::Stored | ReplyKind::Number => "stored",
        ReplyKind::NotStored => "notstored",
        ReplyKind::Exists => "exists",
        ReplyKind::Deleted => "deleted",
        ReplyKind::Touched => "touched",
        ReplyKind::Ok | ReplyKind::Version | ReplyKind::Stats => "ok",
        ReplyKind::ClientError => "client_error",
        ReplyKind::Error | ReplyKind::ServerError => "remote_error",
    }
}

const fn name_of_failure(failure: Failure) -> &'static str {
    match failure {
        Failure::Timeout => "timeout",
        Failure::DeadlineExceeded => "deadline_exceeded",
        Failure::Unavailable => "tko",
        Failure::ConnectionLost | Failure::Misaligned => "remote_error",
        Failure::QueueFull => "busy",
        Failure::NotReplayable => "local_error",
    }
}

/// What is said of a server that is down or failed last: `tko` when it takes no requests. Failures in a row are those of
/// its checks and those of requests, of all shards.
fn suspect(facts: &ServerFacts, total: &ShardMetrics) -> Option<(String, String)> {
    let of_shards = facts.keys.iter().filter_map(|key| total.servers.get(*key)).map(|server| server.failures_in_row);
    let failures = u64::from(facts.checks_failed_in_row) + of_shards.sum::<u64>();
    let status = match (facts.up, failures) {
        (true, 0) => return None,
        (true, _) => "down",
        (false, _) => "tko",
    };
    // What took it out may be a check of long ago.
    Some((facts.name.clone(), format!("status:{status} num_failures:{}", failures.max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides, ServerIdentity};
    use crate::table::ServerKey;
    use crate::trouble::Trouble;
    use keyway_protocol::Operation;

    /// Two pools that share a server and its connections, and one with another timeout.
    fn table() -> Table {
        let yaml = "pools:\n  a: {servers: ['h:1', 'h:2'], connections: 2}\n  b: {servers: ['h:1'], connections: 2}\n  \
                    c: {servers: ['h:1'], timeout_ms: 50}\nroute: PoolRoute|a";
        let config = Config::parse(yaml.as_bytes(), "x", &Overrides::default());
        let mut known: Vec<ServerIdentity> = Vec::new();
        config.unwrap_or_else(|errors| panic!("{errors}")).table(1, &mut |identity| {
            let at = known.iter().position(|known| known == identity).unwrap_or_else(|| {
                known.push(identity.clone());
                known.len() - 1
            });
            ServerKey(at as u32)
        })
    }

    fn facts(name: &str, keys: &[usize], up: bool) -> ServerFacts {
        ServerFacts { name: name.to_owned(), keys: keys.to_vec(), up, ..ServerFacts::default() }
    }

    fn said(list: &[(String, String)], name: &str) -> String {
        let found: Vec<_> = list.iter().filter(|(known, _)| known == name).collect();
        assert_eq!(found.len(), 1, "{name} in {list:?}");
        found[0].1.clone()
    }

    #[test]
    fn servers_as_mcrouter_shows_them() {
        let mut total = ShardMetrics::new(3);
        total.upstream_reply(0, Operation::Get, ReplyKind::Value, 100_000);
        total.upstream_reply(0, Operation::Get, ReplyKind::End, 300_000);
        total.upstream_reply(0, Operation::Delete, ReplyKind::NotFound, 200_000);
        total.upstream_reply(0, Operation::Set, ReplyKind::Stored, 200_000);
        total.upstream_failure(0, Failure::Timeout);
        for _ in 0..3 {
            total.upstream_connected(0);
        }
        (total.servers[0].pending, total.servers[0].in_flight) = (4, 5);
        total.upstream_connected(1);
        total.upstream_disconnected(1);
        let mut latencies = Latencies::default();
        latencies.update(&total);
        let down = ServerFacts { trouble: Some(Trouble::Refused), ..facts("h:2", &[1], false) };
        let lists = ServerLists::new(&table(), &[facts("h:1", &[0, 2], true), down.clone()], &total, 2, &latencies);
        assert_eq!(lists.servers.len(), 3);
        assert_eq!(
            said(&lists.servers, "h:1:ascii:plain:notcompressed-1000"),
            "avg_latency_us:200.000 pending_reqs:4 inflight_reqs:5 up:3 closed:1; found:1 notfound:2 stored:1 timeout:1"
        );
        assert_eq!(
            said(&lists.servers, "h:2:ascii:plain:notcompressed-1000"),
            "avg_latency_us:0.000 pending_reqs:0 inflight_reqs:0 hard_tko; down:4"
        );
        assert_eq!(
            said(&lists.servers, "h:1:ascii:plain:notcompressed-50"),
            "avg_latency_us:0.000 pending_reqs:0 inflight_reqs:0 new:2"
        );
        let soft = ServerFacts { trouble: Some(Trouble::Timeout), ..down };
        let lists = ServerLists::new(&table(), &[soft], &total, 2, &latencies);
        assert!(said(&lists.servers, "h:2:ascii:plain:notcompressed-1000").contains(" soft_tko; "));
    }

    #[test]
    fn suspects_are_down_or_failed_last() {
        let mut total = ShardMetrics::new(3);
        (total.servers[0].failures_in_row, total.servers[2].failures_in_row) = (2, 1);
        let failing = ServerFacts { checks_failed_in_row: 4, ..facts("h:1", &[0, 2], true) };
        let down = facts("h:2", &[1], false);
        let lists = ServerLists::new(&table(), &[failing, down], &total, 1, &Latencies::default());
        assert_eq!(said(&lists.suspects, "h:1"), "status:down num_failures:7");
        assert_eq!(said(&lists.suspects, "h:2"), "status:tko num_failures:1");
        let good = [facts("h:1", &[0], true), facts("h:2", &[1], true)];
        let lists = ServerLists::new(&table(), &good, &ShardMetrics::new(3), 1, &Latencies::default());
        assert!(lists.suspects.is_empty());
    }

    #[test]
    fn the_average_follows_the_latest_seconds() {
        let mut latency = Latency::default();
        let check = |latency: &mut Latency, sum_ns, count, wanted: f64| {
            latency.update(sum_ns, count);
            assert!((latency.average_us - wanted).abs() < 1e-9, "{latency:?}");
        };
        check(&mut latency, 0, 0, 0.0);
        check(&mut latency, 200_000, 2, 100.0);
        check(&mut latency, 200_000, 2, 100.0);
        check(&mut latency, 700_000, 3, 200.0);
        // A server that was gone and is counted anew.
        check(&mut latency, 0, 0, 200.0);
    }
}
