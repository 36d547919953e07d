//! The metrics as they are seen from outside: the exposition text, its documentation, and memcached's `stats`.

use keyway::metrics::{
    AsyncLogFacts, CloseReason, METRICS, Metric, MetricKind, PoolFacts, ProcessFacts, ServerFacts, ServerLists,
    ShardMetrics, StatsSummary, fold, render, write_stats,
};
use keyway_policies::{Failure, LocalReply};
use keyway_protocol::Operation;
use keyway_protocol::memcached::text::{ReplyKind, RequestError};
use std::collections::{BTreeMap, BTreeSet};

/// A shard that counted a little of everything, `times` times.
fn busy_shard(times: u64) -> ShardMetrics {
    let mut shard = ShardMetrics::new(2);
    for _ in 0..times {
        shard.request(Operation::Get, 150_000);
        shard.answered(Operation::Get, ReplyKind::Value);
        shard.answered(Operation::Get, ReplyKind::End);
        shard.answered(Operation::Gat, ReplyKind::End);
        shard.request(Operation::Set, 90_000);
        shard.answered(Operation::Set, ReplyKind::Stored);
        shard.request(Operation::Cas, 90_000);
        shard.answered(Operation::Cas, ReplyKind::Exists);
        shard.answered(Operation::Delete, ReplyKind::Deleted);
        shard.answered_locally(LocalReply::Failed(Failure::Timeout));
        shard.answered_locally(LocalReply::NoHealthyServer);
        shard.protocol_error(RequestError::BadKey);
        shard.upstream_reply(0, Operation::Get, ReplyKind::Value, 100_000);
        shard.upstream_reply(0, Operation::Get, ReplyKind::End, 100_000);
        shard.upstream_reply(1, Operation::Set, ReplyKind::ServerError, 3_000_000);
        shard.upstream_failure(1, Failure::Timeout);
        shard.upstream_failure(1, Failure::QueueFull);
        shard.upstream_bytes_in(1000);
        shard.upstream_bytes_out(100);
        shard.failover();
        shard.client_accepted();
        shard.client_refused();
        shard.client_closed(CloseReason::Idle);
        shard.client_bytes_in(50);
        shard.client_bytes_out(500);
        shard.turn(20_000, 7);
    }
    shard.clients = times;
    shard.in_flight = times;
    shard.slots = 2 * times;
    shard.upstream_connected(0);
    shard.upstream_connected(0);
    shard.upstream_disconnected(0);
    shard.engine.enobufs = times;
    shard
}

fn facts() -> ProcessFacts {
    let server =
        |key, name: &str, up| ServerFacts { keys: vec![key], name: name.to_string(), up, ..ServerFacts::default() };
    ProcessFacts {
        servers: vec![server(0, "cache1:11211", true), server(1, "/run/\"odd\".sock", false)],
        pools: vec![PoolFacts {
            name: "web".to_string(),
            servers: 2,
            servers_up: 1,
            servers_left_out: 1,
            fails_open: false,
        }],
        uptime_seconds: 12.5,
        config_generation: 3,
        config_age_seconds: 4.0,
        reloads_succeeded: 2,
        reloads_failed: 1,
        file_is_good: true,
        lookups_ok: 5,
        cpu_user_seconds: 1.25,
        resident_bytes: 4096,
        async_log: vec![AsyncLogFacts { server: "cache1:11211".to_string(), ..AsyncLogFacts::default() }],
        ..ProcessFacts::default()
    }
}

/// The exposition text taken apart: TYPE by family, and value by series.
struct Scraped {
    types: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
    series: BTreeMap<String, f64>,
}

/// Parses the text and checks its syntax on the way.
fn scrape(text: &str) -> Scraped {
    let mut scraped = Scraped { types: BTreeMap::new(), helps: BTreeMap::new(), series: BTreeMap::new() };
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("TYPE has a kind");
            assert!(scraped.types.insert(name.to_string(), kind.to_string()).is_none(), "{name} twice");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("HELP has a text");
            assert!(scraped.helps.insert(name.to_string(), help.to_string()).is_none(), "{name} twice");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            check_series(series);
            assert!(scraped.series.insert(series.to_string(), value).is_none(), "{series} twice");
        }
    }
    scraped
}

/// `name` or `name{label="value",...}`, with quotes inside values escaped.
fn check_series(series: &str) {
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("no brace: {series}"))),
        None => (series, ""),
    };
    assert!(name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()), "{series}");
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no value: {series}"));
        assert!(!label.is_empty() && label.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()), "{series}");
        let mut end = None;
        let mut escaped = false;
        for (at, byte) in after.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let end = end.unwrap_or_else(|| panic!("value has no end: {series}"));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// The metric a series belongs to: histograms have three names each.
fn family<'a>(name: &'a str, types: &BTreeMap<String, String>) -> &'a str {
    for suffix in ["_bucket", "_sum", "_count"] {
        if let Some(base) = name.strip_suffix(suffix)
            && types.get(base).is_some_and(|kind| kind == "histogram")
        {
            return base;
        }
    }
    name
}

fn scraped() -> Scraped {
    scrape(&render(&fold(&[busy_shard(1), busy_shard(2)]), &facts()))
}

#[test]
fn every_listed_metric_is_rendered_and_no_other() {
    let scraped = scraped();
    let listed: BTreeMap<&str, &Metric> = METRICS.iter().map(|metric| (metric.name, *metric)).collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for series in scraped.series.keys() {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let name = family(name, &scraped.types);
        let metric = listed.get(name).unwrap_or_else(|| panic!("{name} is not in METRICS"));
        assert_eq!(scraped.types[name], metric.kind.name(), "{name}");
        assert_eq!(scraped.helps[name], metric.help, "{name}");
        let used: BTreeSet<&str> = labels
            .split("\",")
            .filter_map(|label| label.split_once('=').map(|(label, _)| label))
            .filter(|label| *label != "le")
            .collect();
        assert_eq!(used, metric.labels.iter().copied().collect(), "{series}");
        seen.insert(name);
    }
    assert_eq!(seen, listed.keys().copied().collect());
}

#[test]
fn values_are_the_sums_over_the_shards() {
    let scraped = scraped();
    let check = |series: &str, expected: f64| {
        assert_eq!(scraped.series.get(series), Some(&expected), "{series}");
    };
    check("keyway_requests_total{command=\"get\"}", 3.0);
    check("keyway_requests_total{command=\"touch\"}", 0.0);
    check("keyway_request_duration_seconds_count{command=\"set\"}", 3.0);
    check("keyway_request_duration_seconds_bucket{command=\"get\",le=\"0.000131072\"}", 0.0);
    check("keyway_request_duration_seconds_bucket{command=\"get\",le=\"0.000196608\"}", 3.0);
    check("keyway_request_duration_seconds_bucket{command=\"get\",le=\"+Inf\"}", 3.0);
    check("keyway_request_errors_total{error=\"timeout\"}", 3.0);
    check("keyway_request_errors_total{error=\"no_healthy_server\"}", 3.0);
    check("keyway_protocol_errors_total{error=\"bad_key\"}", 3.0);
    check("keyway_upstream_requests_total{server=\"cache1:11211\",command=\"get\"}", 6.0);
    check("keyway_upstream_hits_total{server=\"cache1:11211\"}", 3.0);
    check("keyway_upstream_misses_total{server=\"cache1:11211\"}", 3.0);
    check("keyway_upstream_received_bytes_total", 3000.0);
    check("keyway_upstream_connects_total{server=\"cache1:11211\"}", 4.0);
    check("keyway_upstream_connections{server=\"cache1:11211\"}", 2.0);
    check("keyway_upstream_failures_total{server=\"/run/\\\"odd\\\".sock\",error=\"timeout\"}", 3.0);
    check("keyway_upstream_error_replies_total{server=\"/run/\\\"odd\\\".sock\",error=\"server_error\"}", 3.0);
    check("keyway_server_up{server=\"/run/\\\"odd\\\".sock\"}", 0.0);
    check("keyway_pool_servers_up{pool=\"web\"}", 1.0);
    check("keyway_clients{shard=\"1\"}", 2.0);
    check("keyway_clients_closed_total{reason=\"idle\"}", 3.0);
    check("keyway_ring_events_total{shard=\"0\",event=\"enobufs\"}", 1.0);
    check("keyway_turn_requests_total{shard=\"1\"}", 14.0);
    check("keyway_shards", 2.0);
    check("keyway_config_reloads_total{result=\"failure\"}", 1.0);
    check("keyway_config_generation", 3.0);
    check("keyway_config_file_good", 1.0);
    check("keyway_config_last_good_in_use", 0.0);
}

#[test]
fn buckets_ascend_and_end_with_the_count() {
    let text = render(&fold(&[busy_shard(5)]), &facts());
    let mut last: Option<(String, f64)> = None;
    for line in text.lines().filter(|line| line.contains("_bucket{")) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().expect("a number");
        let owner = series.split(",le=").next().expect("a label").replace("le=", "");
        if let Some((before, count)) = &last
            && *before == owner
        {
            assert!(value >= *count, "{line}");
        }
        last = Some((owner, value));
    }
    assert!(last.is_some());
}

#[test]
fn servers_of_other_generations_are_left_out() {
    let text = render(&fold(&[busy_shard(1)]), &ProcessFacts { servers: Vec::new(), async_log: Vec::new(), ..facts() });
    assert!(!text.contains("server="), "{text}");
}

#[test]
fn documentation_lists_the_same_metrics() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let text = std::fs::read_to_string(path).expect("docs/metrics.md");
    let documented: BTreeSet<String> = text
        .lines()
        .filter(|line| line.starts_with("| `keyway_") || line.starts_with("| `process_"))
        .map(str::to_string)
        .collect();
    let listed: BTreeSet<String> = METRICS.iter().map(|metric| documentation_row(metric)).collect();
    let missing: Vec<&String> = listed.difference(&documented).collect();
    let stale: Vec<&String> = documented.difference(&listed).collect();
    assert!(missing.is_empty() && stale.is_empty(), "missing in docs/metrics.md:\n{missing:#?}\nstale:\n{stale:#?}");
}

#[test]
fn documentation_lists_the_label_values() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let text = std::fs::read_to_string(path).expect("docs/metrics.md");
    let errors = RequestError::ALL.map(RequestError::name);
    let failures = Failure::ALL.map(Failure::name);
    let reasons = CloseReason::ALL.map(CloseReason::name);
    for value in errors.iter().chain(&failures).chain(&reasons) {
        assert!(text.contains(&format!("`{value}`")), "{value}");
    }
}

fn documentation_row(metric: &Metric) -> String {
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {} | {} | {} |", metric.name, metric.kind.name(), labels.join(", "), metric.help)
}

fn stats(arguments: &[u8]) -> Vec<(String, String)> {
    let said = |name: &str, words: &str| (name.to_string(), words.to_string());
    let servers = vec![said("h:1", "up:1"), said("h:2", "new:1")];
    let lists = ServerLists { servers, suspects: vec![said("h:2", "status:tko num_failures:1")] };
    let folded = fold(&[busy_shard(1), busy_shard(2)]);
    let summary = StatsSummary { lists, ..StatsSummary::new(&folded, &facts(), 1_700_000_000, 10_000) };
    let mut out = Vec::new();
    write_stats(&mut out, arguments, &summary);
    let text = String::from_utf8(out).expect("text");
    let lines = text.strip_suffix("END\r\n").expect("END at the end");
    lines
        .split_terminator("\r\n")
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            assert_eq!(words.next(), Some("STAT"));
            let name = words.next().expect("a name").to_string();
            (name, words.next().expect("a value").to_string())
        })
        .collect()
}

#[test]
fn stats_has_memcacheds_names() {
    let stats = stats(b"");
    let by_name: BTreeMap<&str, &str> = stats.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(by_name.len(), stats.len(), "a name twice");
    for (name, expected) in [
        ("pointer_size", "64"),
        ("uptime", "12"),
        ("time", "1700000000"),
        ("rusage_user", "1.250000"),
        ("curr_connections", "3"),
        ("total_connections", "3"),
        ("rejected_connections", "3"),
        ("cmd_get", "9"),
        ("cmd_set", "6"),
        ("cmd_flush", "0"),
        ("get_hits", "3"),
        ("get_misses", "6"),
        ("touch_misses", "3"),
        ("delete_hits", "3"),
        ("cas_badval", "3"),
        ("bytes_read", "150"),
        ("bytes_written", "1500"),
        ("limit_maxbytes", "0"),
        ("threads", "2"),
        ("proxy_backend_total", "2"),
        ("proxy_backend_failed", "1"),
        ("proxy_request_failed_depth", "3"),
        ("proxy_config_reloads", "3"),
        ("proxy_config_reload_fails", "1"),
    ] {
        assert_eq!(by_name.get(name).copied(), Some(expected), "{name}");
    }
    let numeric = stats.iter().filter(|(name, _)| name != "version");
    for (name, value) in numeric {
        assert!(value.parse::<f64>().is_ok(), "{name} {value}");
    }
}

#[test]
fn stats_arguments() {
    let general = stats(b"").len();
    for (arguments, lines) in [
        (&b"settings"[..], 7),
        (b"items", 0),
        (b"slabs", 0),
        (b"cmd-error", 0),
        (b"nonsense 1 2", 0),
        (b"detailed", general),
        (b"all", general + 2),
        (b"servers", 2),
        (b"suspect_servers", 1),
        (b"count", 3),
        (b"version", 1),
    ] {
        assert_eq!(stats(arguments).len(), lines, "{arguments:?}");
    }
    assert_eq!(stats(b"servers")[0], ("h:1".to_string(), "up:1".to_string()));
    let count = stats(b"count").into_iter().find(|(name, _)| name == "cmd_get_count");
    assert_eq!(count.map(|(_, value)| value).as_deref(), Some("3"));
}

#[test]
fn kinds_have_the_names_of_the_format() {
    for (kind, name) in
        [(MetricKind::Counter, "counter"), (MetricKind::Gauge, "gauge"), (MetricKind::Histogram, "histogram")]
    {
        assert_eq!(kind.name(), name);
    }
}
