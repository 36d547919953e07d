//! The one list of all metrics. `render` writes these and no others, and docs/metrics.md says the same (tests compare
//! both, in both directions).

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

impl MetricKind {
    /// As in the exposition format's TYPE line.
    pub const fn name(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// The whole name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: &Metric = &Metric {
            name: $name,
            kind: MetricKind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// Every metric there is.
        pub const METRICS: &[&Metric] = &[$($constant),*];
    };
}

metrics! {
    REQUESTS: Counter "keyway_requests_total" ["command"]
        "Client requests answered.";
    REQUEST_DURATION: Histogram "keyway_request_duration_seconds" ["command"]
        "Time from a client's request being whole to its answer being queued for sending.";
    REQUEST_HITS: Counter "keyway_request_hits_total" ["command"]
        "Keys that retrieval requests asked for and were given a value of.";
    REQUEST_MISSES: Counter "keyway_request_misses_total" ["command"]
        "Keys that retrieval requests asked for and that had none.";
    REQUEST_ERRORS: Counter "keyway_request_errors_total" ["error"]
        "Requests answered with an error made by the router, by the failure of the last try.";
    PROTOCOL_ERRORS: Counter "keyway_protocol_errors_total" ["error"]
        "Requests refused for what they say.";
    FAILOVERS: Counter "keyway_failovers_total" []
        "Times a request went on to another server.";
    ROUTE_EVENTS: Counter "keyway_route_events_total" ["event"]
        "Requests that a route turned away, held up or threw away, by what it did.";
    IN_FLIGHT: Gauge "keyway_requests_in_flight" []
        "Client requests waiting for servers.";
    SLOTS: Gauge "keyway_reply_slots" []
        "Reply slots held: requests taken in whose answers have not left.";
    CLIENTS: Gauge "keyway_clients" ["shard"]
        "Connected clients.";
    CLIENTS_ACCEPTED: Counter "keyway_clients_accepted_total" []
        "Clients let in.";
    CLIENTS_REFUSED: Counter "keyway_clients_refused_total" []
        "Clients turned away at the limit.";
    CLIENTS_CLOSED: Counter "keyway_clients_closed_total" ["reason"]
        "Client connections ended.";
    CLIENT_BYTES_RECEIVED: Counter "keyway_client_received_bytes_total" []
        "Bytes received from clients.";
    CLIENT_BYTES_SENT: Counter "keyway_client_sent_bytes_total" []
        "Bytes sent to clients.";
    UPSTREAM_REQUESTS: Counter "keyway_upstream_requests_total" ["server", "command"]
        "Requests a server replied to.";
    UPSTREAM_DURATION: Histogram "keyway_upstream_request_duration_seconds" ["server"]
        "Time from a request being queued for a server to its reply.";
    UPSTREAM_FAILURES: Counter "keyway_upstream_failures_total" ["server", "error"]
        "Requests a server did not reply to: timeouts, lost connections, full queues.";
    UPSTREAM_ERROR_REPLIES: Counter "keyway_upstream_error_replies_total" ["server", "error"]
        "Replies of a server that are errors.";
    UPSTREAM_HITS: Counter "keyway_upstream_hits_total" ["server"]
        "Retrieval replies of a server with a value.";
    UPSTREAM_MISSES: Counter "keyway_upstream_misses_total" ["server"]
        "Retrieval replies of a server without one.";
    UPSTREAM_CONNECTIONS: Gauge "keyway_upstream_connections" ["server"]
        "Open connections to a server, over all shards.";
    UPSTREAM_CONNECTS: Counter "keyway_upstream_connects_total" ["server"]
        "Connections made to a server, over all shards.";
    UPSTREAM_BYTES_RECEIVED: Counter "keyway_upstream_received_bytes_total" []
        "Bytes received from servers.";
    UPSTREAM_BYTES_SENT: Counter "keyway_upstream_sent_bytes_total" []
        "Bytes sent to servers.";
    SERVER_UP: Gauge "keyway_server_up" ["server"]
        "1 when the server takes requests, 0 when it is down.";
    SERVER_DOWNS: Counter "keyway_server_downs_total" ["server"]
        "Times the server was taken out.";
    DOWN_CAUSES: Counter "keyway_down_causes_total" ["found_by", "cause"]
        "Times a server was taken out, by who found it and the last failure.";
    HEALTH_EVENTS: Counter "keyway_health_events_total" ["event"]
        "What happened to servers and pools; the latest are at /events, in words.";
    HEALTH_CHECKS: Counter "keyway_health_checks_total" ["server", "result"]
        "Health checks, by result: ok or failed.";
    SERVER_QUARANTINED: Gauge "keyway_server_quarantined" ["server"]
        "1 while a server that is back is kept out of use until what it missed was sent to it.";
    ASYNC_LOG_ENTRIES: Gauge "keyway_async_log_entries" ["server"]
        "Entries of the async log that wait for a server.";
    ASYNC_LOG_BYTES: Gauge "keyway_async_log_bytes" ["server"]
        "Bytes of the files with a server's entries.";
    ASYNC_LOG_OLDEST: Gauge "keyway_async_log_oldest_seconds" ["server"]
        "Age of the oldest entry that waits for a server.";
    ASYNC_LOG_SPOOLED: Counter "keyway_async_log_spooled_total" ["server"]
        "Entries kept for a server.";
    ASYNC_LOG_REFUSED: Counter "keyway_async_log_refused_total" ["server", "reason"]
        "Entries that were not kept: their requests failed.";
    ASYNC_LOG_REPLAYED: Counter "keyway_async_log_replayed_total" ["server"]
        "Entries a server was sent and answered.";
    ASYNC_LOG_REJECTED: Counter "keyway_async_log_rejected_total" ["server"]
        "Entries a server was sent and refused for what they say; they are gone.";
    ASYNC_LOG_REPLAY_FAILURES: Counter "keyway_async_log_replay_failures_total" ["server"]
        "Replays that ended in a failure, to be tried again.";
    ASYNC_LOG_UNREADABLE: Counter "keyway_async_log_unreadable_total" ["server"]
        "Lines that were torn or damaged, and passed over.";
    POOL_SERVERS: Gauge "keyway_pool_servers" ["pool"]
        "Servers of a pool.";
    POOL_SERVERS_UP: Gauge "keyway_pool_servers_up" ["pool"]
        "Servers of a pool that take requests.";
    POOL_SERVERS_LEFT_OUT: Gauge "keyway_pool_servers_left_out" ["pool"]
        "Servers of a pool whose keys go elsewhere, or fail.";
    POOL_FAILS_OPEN: Gauge "keyway_pool_fails_open" ["pool"]
        "1 while servers of a pool that go down are asked all the same.";
    DNS_LOOKUPS: Counter "keyway_dns_lookups_total" ["result"]
        "Name lookups, by result: ok or failed.";
    TURN_DURATION: Histogram "keyway_turn_duration_seconds" ["shard"]
        "Working time of a shard's turns, without the waiting.";
    TURN_REQUESTS: Counter "keyway_turn_requests_total" ["shard"]
        "Requests taken in by a shard; over the count of turns, the batch size.";
    RING_EVENTS: Counter "keyway_ring_events_total" ["shard", "event"]
        "Events of a shard's completion ring.";
    SHARDS: Gauge "keyway_shards" []
        "Shards of this process.";
    BUILD_INFO: Gauge "keyway_build_info" ["version"]
        "Always 1; the version is the label.";
    UPTIME: Gauge "keyway_uptime_seconds" []
        "Time since the process started.";
    CONFIG_GENERATION: Gauge "keyway_config_generation" []
        "Counts the configurations in use since the start, from 1.";
    CONFIG_AGE: Gauge "keyway_config_age_seconds" []
        "Time since the configuration in use was loaded.";
    CONFIG_RELOADS: Counter "keyway_config_reloads_total" ["result"]
        "Reloads, by result: success or failure (the old configuration stays).";
    CONFIG_FILE_GOOD: Gauge "keyway_config_file_good" []
        "1 when the configuration in use is what the file held when it was read last, 0 when that had faults.";
    CONFIG_LAST_GOOD: Gauge "keyway_config_last_good_in_use" []
        "1 when the process runs on the last good configuration because its file had faults at the start.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" []
        "User and system CPU time of the process.";
    PROCESS_RESIDENT: Gauge "process_resident_memory_bytes" []
        "Resident memory of the process.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("keyway_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()), "{name}");
            assert_eq!(metric.kind == MetricKind::Counter, name.ends_with("_total"), "{name}");
            assert!(metric.kind != MetricKind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len(), "a name twice");
    }
}
