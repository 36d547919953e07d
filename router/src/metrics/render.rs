//! The exposition text Prometheus scrapes, made anew for each scrape.
//!
//! Counters and gauges go through a recorder that lives for one scrape, so that servers and pools that left the
//! configuration leave the text too. Histograms come from our own arrays and are written with the same crate's
//! formatting. Series that never counted are left out where their number is a product of two labels.

use super::list::{self, Metric};
use super::{CloseReason, Folded, Histogram, ServerMetrics, octave_bounds_ns};
use crate::async_log::LogFacts;
use crate::control::events::{EventCounts, EventKind, FoundBy};
use crate::trouble::Trouble;
use keyway_io_engine::EngineCounters;
use keyway_policies::{Failure, RouteEvent};
use keyway_protocol::memcached::text::{ReplyKind, RequestError};
use keyway_protocol::{Operation, OperationClass};
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};
use metrics_exporter_prometheus::{LabelSet, PrometheusBuilder, PrometheusRecorder};

/// What the control plane knows of one server.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    /// The configured address: the label `server`.
    pub name: String,
    /// `ServerKey.0` of each key it has: pools with other connection settings have their own.
    pub keys: Vec<usize>,
    /// True when it takes requests.
    pub up: bool,
    /// Times it was taken out.
    pub downs: u64,
    /// Health checks it passed.
    pub checks_ok: u64,
    /// Health checks it failed.
    pub checks_failed: u64,
    /// Those since one passed.
    pub checks_failed_in_row: u32,
    /// What took it out, when it is down.
    pub trouble: Option<Trouble>,
}

/// What the control plane knows of one pool.
#[derive(Clone, Debug, Default)]
pub struct PoolFacts {
    /// The configured name: the label `pool`.
    pub name: String,
    /// Its servers.
    pub servers: usize,
    /// Those that take requests.
    pub servers_up: usize,
    /// Those whose keys go elsewhere, or fail.
    pub servers_left_out: usize,
    /// True while servers of it that are down are asked all the same.
    pub fails_open: bool,
}

/// What the control plane knows of one server's entries in the async log.
#[derive(Clone, Debug, Default)]
pub struct AsyncLogFacts {
    /// The configured address, or the one in the log where there is none: the label `server`.
    pub server: String,
    /// What the log knows.
    pub log: LogFacts,
    /// Age of the oldest entry that waits.
    pub oldest_seconds: f64,
    /// Entries not kept because too many waited to be written.
    pub refused_busy: u64,
    /// True while it is kept out of use until it has what it missed.
    pub is_held: bool,
}

/// What the control plane knows of the process.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// Servers of the configuration in use.
    pub servers: Vec<ServerFacts>,
    /// What happened to servers and pools, how often.
    pub health_events: EventCounts,
    /// Pools of the configuration in use.
    pub pools: Vec<PoolFacts>,
    /// Since the process started.
    pub uptime_seconds: f64,
    /// Counts configurations in use, from 1.
    pub config_generation: u64,
    /// Since the configuration in use was loaded.
    pub config_age_seconds: f64,
    /// Reloads that worked.
    pub reloads_succeeded: u64,
    /// Reloads that left the old configuration in use.
    pub reloads_failed: u64,
    /// The configuration in use is what the file held when it was read last.
    pub file_is_good: bool,
    /// The process runs on the last good configuration, not on its file's.
    pub last_good_in_use: bool,
    /// Name lookups that worked.
    pub lookups_ok: u64,
    /// Name lookups that failed.
    pub lookups_failed: u64,
    /// User CPU time of the process.
    pub cpu_user_seconds: f64,
    /// System CPU time of the process.
    pub cpu_system_seconds: f64,
    /// Resident memory of the process.
    pub resident_bytes: u64,
    /// The async log's servers; none where there is no log.
    pub async_log: Vec<AsyncLogFacts>,
}

/// The exposition text.
pub fn render(folded: &Folded, facts: &ProcessFacts) -> String {
    let scrape = Scrape { recorder: PrometheusBuilder::new().build_recorder() };
    scrape.requests(folded);
    scrape.bytes_and_clients(folded);
    for server in &facts.servers {
        scrape.upstream(&server.name, &folded.server(&server.keys));
        scrape.health(server);
    }
    for server in &facts.async_log {
        scrape.async_log(server);
    }
    scrape.shards(folded);
    scrape.health_events(&facts.health_events);
    scrape.process(facts);
    let mut text = scrape.recorder.handle().render();
    cpu_time(&mut text, facts);
    histograms(&mut text, folded, facts);
    text
}

/// The label and value of each event the engine counts. Taken apart field by field, so that none is forgotten.
fn ring_events(engine: &EngineCounters) -> [(&'static str, u64); 16] {
    let EngineCounters {
        enters,
        submission_queue_full,
        interrupted,
        completions,
        cq_overflow,
        accepted,
        accept_errors,
        accept_refused,
        connects,
        enobufs,
        rearms,
        cancels,
        sends,
        short_sends,
        linger_cuts,
        doorbells,
    } = *engine;
    [
        ("enter", enters),
        ("submission_queue_full", submission_queue_full),
        ("interrupted", interrupted),
        ("completion", completions),
        ("cq_overflow", cq_overflow),
        ("accepted", accepted),
        ("accept_error", accept_errors),
        ("accept_refused", accept_refused),
        ("connect", connects),
        ("enobufs", enobufs),
        ("rearm", rearms),
        ("cancel", cancels),
        ("send", sends),
        ("short_send", short_sends),
        ("linger_cut", linger_cuts),
        ("doorbell", doorbells),
    ]
}

/// The `error` label of a reply that is an error; `None` for the others.
const fn reply_error(kind: ReplyKind) -> Option<&'static str> {
    match kind {
        ReplyKind::Value
        | ReplyKind::End
        | ReplyKind::Stored
        | ReplyKind::NotStored
        | ReplyKind::Exists
        | ReplyKind::NotFound
        | ReplyKind::Deleted
        | ReplyKind::Touched
        | ReplyKind::Ok
        | ReplyKind::Number
        | ReplyKind::Version
        | ReplyKind::Stats => None,
        ReplyKind::Error => Some("error"),
        ReplyKind::ClientError => Some("client_error"),
        ReplyKind::ServerError => Some("server_error"),
    }
}

struct Scrape {
    recorder: PrometheusRecorder,
}

impl Scrape {
    fn requests(&self, folded: &Folded) {
        let total = &folded.total;
        for operation in Operation::ALL {
            let command = &total.commands[operation as usize];
            let name = operation.name();
            self.counter(list::REQUESTS, &[name], command.latency.count());
            if operation.class() == OperationClass::GetLike {
                self.counter(list::REQUEST_HITS, &[name], command.replies[ReplyKind::Value as usize]);
                self.counter(list::REQUEST_MISSES, &[name], command.replies[ReplyKind::End as usize]);
            }
        }
        for failure in Failure::ALL {
            self.counter(list::REQUEST_ERRORS, &[failure.name()], total.failed[failure as usize]);
        }
        self.counter(list::REQUEST_ERRORS, &["no_healthy_server"], total.no_healthy_server);
        self.counter(list::REQUEST_ERRORS, &["not_local"], total.not_local);
        for error in RequestError::ALL {
            self.counter(list::PROTOCOL_ERRORS, &[error.name()], total.protocol_errors[error as usize]);
        }
        self.counter(list::FAILOVERS, &[], total.failovers);
        for event in RouteEvent::ALL {
            self.counter(list::ROUTE_EVENTS, &[event.name()], total.route_events[event as usize]);
        }
        self.gauge(list::IN_FLIGHT, &[], total.in_flight as f64);
        self.gauge(list::SLOTS, &[], total.slots as f64);
    }

    fn bytes_and_clients(&self, folded: &Folded) {
        let total = &folded.total;
        self.counter(list::CLIENTS_ACCEPTED, &[], total.clients_accepted);
        self.counter(list::CLIENTS_REFUSED, &[], total.clients_refused);
        for reason in CloseReason::ALL {
            self.counter(list::CLIENTS_CLOSED, &[reason.name()], total.clients_closed[reason as usize]);
        }
        self.counter(list::CLIENT_BYTES_RECEIVED, &[], total.client_bytes_in);
        self.counter(list::CLIENT_BYTES_SENT, &[], total.client_bytes_out);
        self.counter(list::UPSTREAM_BYTES_RECEIVED, &[], total.upstream_bytes_in);
        self.counter(list::UPSTREAM_BYTES_SENT, &[], total.upstream_bytes_out);
    }

    fn upstream(&self, server: &str, metrics: &ServerMetrics) {
        for operation in Operation::ALL {
            self.counted(list::UPSTREAM_REQUESTS, &[server, operation.name()], metrics.requests[operation as usize]);
        }
        for failure in Failure::ALL {
            self.counter(list::UPSTREAM_FAILURES, &[server, failure.name()], metrics.failures[failure as usize]);
        }
        for kind in ReplyKind::ALL {
            if let Some(error) = reply_error(kind) {
                self.counter(list::UPSTREAM_ERROR_REPLIES, &[server, error], metrics.replies[kind as usize]);
            }
        }
        self.counter(list::UPSTREAM_HITS, &[server], metrics.hits);
        self.counter(list::UPSTREAM_MISSES, &[server], metrics.misses);
        self.gauge(list::UPSTREAM_CONNECTIONS, &[server], metrics.connections() as f64);
        self.counter(list::UPSTREAM_CONNECTS, &[server], metrics.connects);
    }

    fn health(&self, server: &ServerFacts) {
        let name = server.name.as_str();
        self.gauge(list::SERVER_UP, &[name], f64::from(u8::from(server.up)));
        self.counter(list::SERVER_DOWNS, &[name], server.downs);
        self.counter(list::HEALTH_CHECKS, &[name, "ok"], server.checks_ok);
        self.counter(list::HEALTH_CHECKS, &[name, "failed"], server.checks_failed);
    }

    fn health_events(&self, counts: &EventCounts) {
        for kind in EventKind::ALL {
            self.counter(list::HEALTH_EVENTS, &[kind.name()], counts.events[kind as usize]);
        }
        for found_by in FoundBy::ALL {
            for trouble in Trouble::ALL {
                let count = counts.downs[found_by as usize][trouble as usize];
                self.counter(list::DOWN_CAUSES, &[found_by.name(), trouble.name()], count);
            }
        }
    }

    fn async_log(&self, facts: &AsyncLogFacts) {
        let AsyncLogFacts { server, log, oldest_seconds, refused_busy, is_held } = facts;
        let name = server.as_str();
        self.gauge(list::SERVER_QUARANTINED, &[name], f64::from(u8::from(*is_held)));
        self.gauge(list::ASYNC_LOG_ENTRIES, &[name], log.entries as f64);
        self.gauge(list::ASYNC_LOG_BYTES, &[name], log.bytes as f64);
        self.gauge(list::ASYNC_LOG_OLDEST, &[name], *oldest_seconds);
        self.counter(list::ASYNC_LOG_SPOOLED, &[name], log.spooled);
        self.counter(list::ASYNC_LOG_REFUSED, &[name, "full"], log.refused_full);
        self.counter(list::ASYNC_LOG_REFUSED, &[name, "disk"], log.refused_disk);
        self.counter(list::ASYNC_LOG_REFUSED, &[name, "busy"], *refused_busy);
        self.counter(list::ASYNC_LOG_REFUSED, &[name, "command"], log.refused_command);
        self.counter(list::ASYNC_LOG_REPLAYED, &[name], log.replayed);
        self.counter(list::ASYNC_LOG_REJECTED, &[name], log.rejected);
        self.counter(list::ASYNC_LOG_REPLAY_FAILURES, &[name], log.failures);
        self.counter(list::ASYNC_LOG_UNREADABLE, &[name], log.unreadable);
    }

    fn shards(&self, folded: &Folded) {
        for (shard, fold) in folded.shards.iter().enumerate() {
            let shard = shard.to_string();
            self.gauge(list::CLIENTS, &[&shard], fold.clients as f64);
            self.counter(list::TURN_REQUESTS, &[&shard], fold.turn_requests);
            for (event, count) in ring_events(&fold.engine) {
                self.counter(list::RING_EVENTS, &[&shard, event], count);
            }
        }
        self.gauge(list::SHARDS, &[], folded.shards.len() as f64);
    }

    fn process(&self, facts: &ProcessFacts) {
        for pool in &facts.pools {
            self.gauge(list::POOL_SERVERS, &[&pool.name], pool.servers as f64);
            self.gauge(list::POOL_SERVERS_UP, &[&pool.name], pool.servers_up as f64);
            self.gauge(list::POOL_SERVERS_LEFT_OUT, &[&pool.name], pool.servers_left_out as f64);
            self.gauge(list::POOL_FAILS_OPEN, &[&pool.name], f64::from(u8::from(pool.fails_open)));
        }
        self.gauge(list::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
        self.gauge(list::UPTIME, &[], facts.uptime_seconds);
        self.gauge(list::CONFIG_GENERATION, &[], facts.config_generation as f64);
        self.gauge(list::CONFIG_AGE, &[], facts.config_age_seconds);
        self.counter(list::CONFIG_RELOADS, &["success"], facts.reloads_succeeded);
        self.counter(list::CONFIG_RELOADS, &["failure"], facts.reloads_failed);
        self.gauge(list::CONFIG_FILE_GOOD, &[], f64::from(u8::from(facts.file_is_good)));
        self.gauge(list::CONFIG_LAST_GOOD, &[], f64::from(u8::from(facts.last_good_in_use)));
        self.counter(list::DNS_LOOKUPS, &["ok"], facts.lookups_ok);
        self.counter(list::DNS_LOOKUPS, &["failed"], facts.lookups_failed);
        self.gauge(list::PROCESS_RESIDENT, &[], facts.resident_bytes as f64);
    }

    fn counter(&self, metric: &'static Metric, values: &[&str], value: u64) {
        self.recorder.describe_counter(metric.name.into(), None, metric.help.into());
        self.recorder.register_counter(&key(metric, values), &METADATA).absolute(value);
    }

    /// A counter that is left out while it is zero.
    fn counted(&self, metric: &'static Metric, values: &[&str], value: u64) {
        if value > 0 {
            self.counter(metric, values, value);
        }
    }

    fn gauge(&self, metric: &'static Metric, values: &[&str], value: f64) {
        self.recorder.describe_gauge(metric.name.into(), None, metric.help.into());
        self.recorder.register_gauge(&key(metric, values), &METADATA).set(value);
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn key(metric: &'static Metric, values: &[&str]) -> Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let labels: Vec<Label> =
        metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value.to_string())).collect();
    Key::from_parts(metric.name, labels)
}

/// Written apart because the recorder's counters are integers, and whole seconds are too coarse here.
fn cpu_time(text: &mut String, facts: &ProcessFacts) {
    let metric = list::PROCESS_CPU;
    write_help_line(text, metric.name, None, None, metric.help);
    write_type_line(text, metric.name, None, None, metric.kind.name());
    let labels = LabelSet::from_key_and_global(&key(metric, &[]), &Default::default());
    let seconds = facts.cpu_user_seconds + facts.cpu_system_seconds;
    write_metric_line::<&str, f64>(text, metric.name, None, &labels, None, seconds, None);
    text.push('\n');
}

fn histograms(text: &mut String, folded: &Folded, facts: &ProcessFacts) {
    let commands = Operation::ALL
        .iter()
        .map(|operation| (operation.name().to_string(), folded.total.commands[*operation as usize].latency.clone()));
    family(text, list::REQUEST_DURATION, commands, 2);
    let servers = facts.servers.iter().map(|server| (server.name.clone(), folded.server(&server.keys).latency));
    family(text, list::UPSTREAM_DURATION, servers, 1);
    let shards = folded.shards.iter().enumerate().map(|(shard, fold)| (shard.to_string(), fold.turns.clone()));
    family(text, list::TURN_DURATION, shards, 1);
}

/// One histogram metric with its one label, `per_octave` buckets per power of two; what never counted is left out.
fn family(
    text: &mut String,
    metric: &'static Metric,
    series: impl Iterator<Item = (String, Histogram)>,
    per_octave: usize,
) {
    write_help_line(text, metric.name, None, None, metric.help);
    write_type_line(text, metric.name, None, None, metric.kind.name());
    let bounds = octave_bounds_ns(per_octave);
    for (label, histogram) in series.filter(|(_, histogram)| histogram.count() > 0) {
        let labels = LabelSet::from_key_and_global(&key(metric, &[&label]), &Default::default());
        let name = metric.name;
        for (bound, below) in histogram.cumulative(&bounds) {
            write_metric_line(text, name, Some("bucket"), &labels, Some(("le", seconds(bound))), below, None);
        }
        let count = histogram.count();
        write_metric_line(text, name, Some("bucket"), &labels, Some(("le", "+Inf")), count, None);
        write_metric_line::<&str, f64>(text, name, Some("sum"), &labels, None, seconds(histogram.sum_ns()), None);
        write_metric_line::<&str, u64>(text, name, Some("count"), &labels, None, count, None);
    }
    text.push('\n');
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
