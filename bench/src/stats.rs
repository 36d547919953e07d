//! What a load measured: counts, errors by kind, latencies; their summary as text and JSON.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What went wrong with a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// A connection could not be made.
    Connect,
    /// A connection was closed or reset with requests in flight; counted per request.
    ConnectionLost,
    /// `SERVER_ERROR`.
    ServerError,
    /// `CLIENT_ERROR`.
    ClientError,
    /// `ERROR`.
    Error,
    /// The right key with the wrong bytes under it.
    WrongValue,
    /// A reply to some other request.
    WrongReply,
    /// Bytes that are no reply.
    Misaligned,
    /// No reply until the load ended.
    Unanswered,
}

impl ErrorKind {
    const ALL: [(ErrorKind, &'static str); 9] = [
        (ErrorKind::Connect, "connect"),
        (ErrorKind::ConnectionLost, "connection_lost"),
        (ErrorKind::ServerError, "server_error"),
        (ErrorKind::ClientError, "client_error"),
        (ErrorKind::Error, "error"),
        (ErrorKind::WrongValue, "wrong_value"),
        (ErrorKind::WrongReply, "wrong_reply"),
        (ErrorKind::Misaligned, "misaligned"),
        (ErrorKind::Unanswered, "unanswered"),
    ];
}

/// What one thread, or all together, measured.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) stored: u64,
    pub(crate) value_bytes: u64,
    errors: [u64; ErrorKind::ALL.len()],
    latencies: Histogram<u64>,
    pub(crate) elapsed: Duration,
}

impl Stats {
    pub(crate) fn new() -> Stats {
        // 100 ns to a minute, three digits: 200 KiB. These bounds are legal.
        let latencies = Histogram::new_with_bounds(100, 60_000_000_000, 3).unwrap_or_else(|_| unreachable!());
        Stats { hits: 0, misses: 0, stored: 0, value_bytes: 0, errors: [0; 9], latencies, elapsed: Duration::ZERO }
    }

    pub(crate) fn error(&mut self, kind: ErrorKind, count: u64) {
        self.errors[kind as usize] += count;
    }

    #[cfg(test)]
    pub(crate) fn errors_of(&self, kind: ErrorKind) -> u64 {
        self.errors[kind as usize]
    }

    pub(crate) fn latency_ns(&mut self, nanoseconds: u64) {
        self.latencies.saturating_record(nanoseconds);
    }

    /// Requests answered with the right content.
    pub(crate) fn answered(&self) -> u64 {
        self.hits + self.misses + self.stored
    }

    pub(crate) fn error_count(&self) -> u64 {
        self.errors.iter().sum()
    }

    pub(crate) fn merge(&mut self, other: &Stats) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.stored += other.stored;
        self.value_bytes += other.value_bytes;
        for (mine, others) in self.errors.iter_mut().zip(other.errors) {
            *mine += others;
        }
        // Both have the same bounds, so adding can't fail.
        self.latencies.add(&other.latencies).unwrap_or_else(|_| unreachable!());
        self.elapsed = self.elapsed.max(other.elapsed);
    }

    pub(crate) fn requests_per_second(&self) -> f64 {
        self.answered() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn latency_us(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Everything, for records and other programs.
    pub(crate) fn to_json(&self) -> Value {
        let errors: Map<String, Value> = ErrorKind::ALL
            .iter()
            .filter(|(kind, _)| self.errors[*kind as usize] > 0)
            .map(|(kind, name)| ((*name).to_owned(), json!(self.errors[*kind as usize])))
            .collect();
        json!({
            "answered": self.answered(),
            "hits": self.hits,
            "misses": self.misses,
            "stored": self.stored,
            "value_bytes": self.value_bytes,
            "errors": errors,
            "seconds": self.elapsed.as_secs_f64(),
            "requests_per_second": self.requests_per_second(),
            "latency_us": {
                "mean": self.latencies.mean() / 1000.0,
                "p50": self.latency_us(0.50),
                "p90": self.latency_us(0.90),
                "p99": self.latency_us(0.99),
                "p999": self.latency_us(0.999),
                "max": self.latencies.max() as f64 / 1000.0,
            },
        })
    }

    /// Everything, for a reader.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "{} requests in {:.2} s: {:.0} per second\n{} hits, {} misses, {} stored\n",
            self.answered(),
            self.elapsed.as_secs_f64(),
            self.requests_per_second(),
            self.hits,
            self.misses,
            self.stored,
        );
        text += &format!(
            "latency us: mean {:.1}  p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}\n",
            self.latencies.mean() / 1000.0,
            self.latency_us(0.50),
            self.latency_us(0.90),
            self.latency_us(0.99),
            self.latency_us(0.999),
            self.latencies.max() as f64 / 1000.0,
        );
        for (kind, name) in ErrorKind::ALL {
            if self.errors[kind as usize] > 0 {
                text += &format!("errors: {name} {}\n", self.errors[kind as usize]);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_kinds_index_their_names_and_merge_adds_all() {
        for (at, (kind, _)) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
        }
        let (mut one, mut two) = (Stats::new(), Stats::new());
        one.hits = 3;
        one.latency_ns(1_000);
        one.elapsed = Duration::from_secs(2);
        two.stored = 1;
        two.latency_ns(3_000);
        two.error(ErrorKind::WrongReply, 2);
        two.elapsed = Duration::from_secs(1);
        one.merge(&two);
        let json = one.to_json();
        assert_eq!(json["answered"], 4);
        assert_eq!(json["requests_per_second"], 2.0);
        assert_eq!(json["errors"], json!({"wrong_reply": 2}));
        assert!((json["latency_us"]["mean"].as_f64().unwrap_or(0.0) - 2.0).abs() < 0.1);
        assert!(one.to_text().contains("wrong_reply 2"));
    }
}
