//! `stats` for memcached clients: memcached's names for what the router counts, so that exporters and monitoring plugins
//! written for memcached work unchanged.
//!
//! A shard can't wait for the others, so the control plane publishes the sum of all of them once a second and every
//! shard answers from that. What only a cache has (items, evictions, memory limit) is 0.

use super::{Folded, ProcessFacts, ServerLists};
use keyway_policies::Failure;
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::ReplyKind;
use std::io::Write;

/// What the router answers to `version`: first the memcached whose text protocol it speaks, since libmemcached reads three
/// numbers and takes a major of 0, or a word, for a broken server.
pub const VERSION_LINE: &[u8] = concat!("VERSION 1.6.18 keyway ", env!("CARGO_PKG_VERSION"), "\r\n").as_bytes();

/// The process's counters under memcached's names, as published last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatsSummary {
    /// Seconds since the process started.
    pub uptime_seconds: u64,
    /// Seconds since 1970.
    pub time_seconds: u64,
    /// User CPU time.
    pub cpu_user_seconds: f64,
    /// System CPU time.
    pub cpu_system_seconds: f64,
    /// Shards.
    pub threads: usize,
    /// Most clients the process takes.
    pub max_connections: usize,
    /// Connected clients, ever accepted, ever refused.
    pub clients: [u64; 3],
    /// Bytes from and to clients.
    pub client_bytes: [u64; 2],
    /// Answered requests by operation.
    pub requests: [u64; Operation::COUNT],
    /// Hits and misses of get (and gets), gat (and gats), delete, incr, decr, touch.
    pub hits_and_misses: [[u64; 2]; 6],
    /// Hits, misses and conflicts of cas.
    pub cas: [u64; 3],
    /// Requests waiting for servers.
    pub in_flight: u64,
    /// Requests refused because a server's queue was full.
    pub queue_full: u64,
    /// Servers, those that are down, times one was taken out.
    pub servers: [u64; 3],
    /// Reloads tried, reloads that failed.
    pub reloads: [u64; 2],
    /// What is said of each server.
    pub lists: ServerLists,
}

impl StatsSummary {
    /// The summary of what all shards counted. `now_seconds` counts from 1970.
    pub fn new(folded: &Folded, facts: &ProcessFacts, now_seconds: u64, max_connections: usize) -> StatsSummary {
        let total = &folded.total;
        let said = |operation: Operation, kind: ReplyKind| total.commands[operation as usize].replies[kind as usize];
        let pair = |operation, hit, miss| [said(operation, hit), said(operation, miss)];
        let both = |a: [u64; 2], b: [u64; 2]| [a[0] + b[0], a[1] + b[1]];
        let found = |operation| pair(operation, ReplyKind::Value, ReplyKind::End);
        let queue_full = total.servers.iter().map(|server| server.failures[Failure::QueueFull as usize]).sum();
        let down = facts.servers.iter().filter(|server| !server.up).count() as u64;
        StatsSummary {
            uptime_seconds: facts.uptime_seconds as u64,
            time_seconds: now_seconds,
            cpu_user_seconds: facts.cpu_user_seconds,
            cpu_system_seconds: facts.cpu_system_seconds,
            threads: folded.shards.len(),
            max_connections,
            clients: [total.clients, total.clients_accepted, total.clients_refused],
            client_bytes: [total.client_bytes_in, total.client_bytes_out],
            requests: Operation::ALL.map(|operation| total.commands[operation as usize].latency.count()),
            hits_and_misses: [
                both(found(Operation::Get), found(Operation::Gets)),
                both(found(Operation::Gat), found(Operation::Gats)),
                pair(Operation::Delete, ReplyKind::Deleted, ReplyKind::NotFound),
                pair(Operation::Incr, ReplyKind::Number, ReplyKind::NotFound),
                pair(Operation::Decr, ReplyKind::Number, ReplyKind::NotFound),
                pair(Operation::Touch, ReplyKind::Touched, ReplyKind::NotFound),
            ],
            cas: [ReplyKind::Stored, ReplyKind::NotFound, ReplyKind::Exists].map(|kind| said(Operation::Cas, kind)),
            in_flight: total.in_flight,
            queue_full,
            servers: [facts.servers.len() as u64, down, facts.servers.iter().map(|server| server.downs).sum()],
            reloads: [facts.reloads_succeeded + facts.reloads_failed, facts.reloads_failed],
            lists: ServerLists::default(),
        }
    }

    /// Writes the reply to bare `stats`, its END included.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_stats(out, b"", self);
    }

    fn requests_of(&self, operations: &[Operation]) -> u64 {
        operations.iter().map(|operation| self.requests[*operation as usize]).sum()
    }
}

/// Writes the reply to `stats` with `arguments` (what follows the word on the line, without spaces around it).
///
/// memcached's and mcrouter's kinds are answered with what there is. Every other kind is one the router has none of, which
/// memcached says with a lone END, and exporters expect just that.
pub fn write_stats(out: &mut Vec<u8>, arguments: &[u8], summary: &StatsSummary) {
    match arguments {
        b"" | b"detailed" => write_general(out, summary),
        b"all" => {
            write_general(out, summary);
            write_list(out, &summary.lists.servers);
        }
        b"count" => write_counts(out, summary),
        b"servers" => write_list(out, &summary.lists.servers),
        b"settings" => write_settings(out, summary),
        b"suspect_servers" => write_list(out, &summary.lists.suspects),
        b"version" => line(out, "version", env!("CARGO_PKG_VERSION")),
        _ => {}
    }
    out.extend_from_slice(b"END\r\n");
}

fn write_general(out: &mut Vec<u8>, summary: &StatsSummary) {
    let version = env!("CARGO_PKG_VERSION");
    line(out, "pid", std::process::id());
    line(out, "uptime", summary.uptime_seconds);
    line(out, "time", summary.time_seconds);
    line(out, "version", version);
    line(out, "pointer_size", usize::BITS);
    line(out, "rusage_user", format_args!("{:.6}", summary.cpu_user_seconds));
    line(out, "rusage_system", format_args!("{:.6}", summary.cpu_system_seconds));
    let [clients, accepted, refused] = summary.clients;
    line(out, "max_connections", summary.max_connections);
    line(out, "curr_connections", clients);
    line(out, "total_connections", accepted);
    line(out, "rejected_connections", refused);
    write_commands(out, summary);
    line(out, "bytes_read", summary.client_bytes[0]);
    line(out, "bytes_written", summary.client_bytes[1]);
    line(out, "threads", summary.threads);
    line(out, "accepting_conns", 1);
    for name in ["limit_maxbytes", "bytes", "curr_items", "total_items", "evictions", "reclaimed"] {
        line(out, name, 0);
    }
    for name in ["conn_yields", "listen_disabled_num"] {
        line(out, name, 0);
    }
    let [servers, down, downs] = summary.servers;
    line(out, "proxy_req_active", summary.in_flight);
    line(out, "proxy_request_failed_depth", summary.queue_full);
    line(out, "proxy_config_reloads", summary.reloads[0]);
    line(out, "proxy_config_reload_fails", summary.reloads[1]);
    line(out, "proxy_backend_total", servers);
    line(out, "proxy_backend_failed", down);
    line(out, "proxy_backend_marked_bad", downs);
}

/// memcached counts gat as a get and as a touch, its hits and misses as the touch's, and cas as a set too.
fn write_commands(out: &mut Vec<u8>, summary: &StatsSummary) {
    use Operation::{Add, Append, Cas, FlushAll, Gat, Gats, Prepend, Replace, Set, Touch};
    let [get, gat, delete, incr, decr, touch] = summary.hits_and_misses;
    // By key, as memcached counts: its hits and misses are by key, and exporters divide them by this.
    line(out, "cmd_get", [get, gat].iter().flatten().sum::<u64>());
    line(out, "cmd_set", summary.requests_of(&[Set, Add, Replace, Append, Prepend, Cas]));
    line(out, "cmd_flush", summary.requests_of(&[FlushAll]));
    line(out, "cmd_touch", summary.requests_of(&[Touch, Gat, Gats]));
    line(out, "cmd_meta", 0);
    line(out, "get_hits", get[0]);
    line(out, "get_misses", get[1] + gat[1]);
    line(out, "get_expired", 0);
    line(out, "get_flushed", 0);
    line(out, "delete_misses", delete[1]);
    line(out, "delete_hits", delete[0]);
    line(out, "incr_misses", incr[1]);
    line(out, "incr_hits", incr[0]);
    line(out, "decr_misses", decr[1]);
    line(out, "decr_hits", decr[0]);
    line(out, "cas_misses", summary.cas[1]);
    line(out, "cas_hits", summary.cas[0]);
    line(out, "cas_badval", summary.cas[2]);
    line(out, "touch_hits", touch[0] + gat[0]);
    line(out, "touch_misses", touch[1] + gat[1]);
}

/// mcrouter's names.
fn write_counts(out: &mut Vec<u8>, summary: &StatsSummary) {
    for operation in Operation::ALL {
        let count = summary.requests_of(&[operation]);
        if count > 0 {
            line(out, format_args!("cmd_{}_count", operation.name()), count);
        }
    }
}

fn write_list(out: &mut Vec<u8>, list: &[(String, String)]) {
    list.iter().for_each(|(name, said)| line(out, name, said));
}

fn write_settings(out: &mut Vec<u8>, summary: &StatsSummary) {
    line(out, "maxbytes", 0);
    line(out, "maxconns", summary.max_connections);
    line(out, "verbosity", 0);
    line(out, "num_threads", summary.threads);
    line(out, "cas_enabled", "yes");
    line(out, "lru_crawler", "no");
    line(out, "binding_protocol", "ascii");
}

fn line(out: &mut Vec<u8>, name: impl std::fmt::Display, value: impl std::fmt::Display) {
    // Writing to a vector can't fail.
    let _ = write!(out, "STAT {name} {value}\r\n");
}
