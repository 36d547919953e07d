//! The load generator as a program: threads, each with a ring and its share of the load.
//!
//! Owns the threads and the division of the load among them. One thread by default: in a comparison the load shares a
//! core with the server.

use crate::keys::{Distribution, KeyPicker};
use crate::load::{Load, Plan, Until};
use crate::stats::Stats;
use crate::values::{ValueBytes, Values};
use keyway_io_engine::ring::BufferConfig;
use keyway_io_engine::{Address, Batching, BatchingMode, Io, Nanos, RingConfig, RingEngine, Wait};
use std::net::ToSocketAddrs;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const PROGRESS_EVERY: Nanos = 1_000_000_000;
/// Clients of one thread: what the engine's table holds.
const CLIENTS_MAX: usize = 60_000;
pub(crate) const THREADS_MAX: usize = 256;

/// The whole load, before it is divided.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) target: Address,
    pub(crate) threads: usize,
    pub(crate) clients: usize,
    pub(crate) pipeline: usize,
    pub(crate) until: Until,
    pub(crate) rate: Option<f64>,
    pub(crate) sets: u32,
    pub(crate) gets: u32,
    pub(crate) keys: u64,
    pub(crate) distribution: Distribution,
    pub(crate) value_bytes: ValueBytes,
    pub(crate) warm: bool,
    pub(crate) seed: u64,
    pub(crate) progress: bool,
}

/// `HOST:PORT` or `unix:PATH`.
pub(crate) fn parse_target(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Address::Unix(path.into()));
    }
    let mut addresses = text.to_socket_addrs().map_err(|error| format!("target {text:?}: {error}"))?;
    addresses.next().map(Address::Tcp).ok_or_else(|| format!("target {text:?}: no address"))
}

/// `SETS:GETS`.
pub(crate) fn parse_ratio(text: &str) -> Result<(u32, u32), String> {
    let parsed = text.split_once(':').and_then(|(sets, gets)| Some((sets.parse().ok()?, gets.parse().ok()?)));
    match parsed {
        Some((sets, gets)) if sets > 0 || gets > 0 => Ok((sets, gets)),
        Some(_) | None => Err(format!("ratio {text:?}: SETS:GETS, not both 0")),
    }
}

/// The share of thread `at` of `of` in `whole`: shares differ by 1 at most and add up.
fn share(whole: u64, at: usize, of: usize) -> Range<u64> {
    let boundary = |at: usize| (u128::from(whole) * at as u128 / of as u128) as u64;
    boundary(at)..boundary(at + 1)
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

impl Order {
    /// What thread `at` is to do.
    fn plan(&self, at: usize) -> Plan {
        let clients = length(&share(self.clients as u64, at, self.threads));
        let part = clients as f64 / self.clients as f64;
        Plan {
            target: self.target.clone(),
            clients: clients as usize,
            pipeline: self.pipeline,
            until: match self.until {
                Until::Requests(requests) => Until::Requests(length(&share(requests, at, self.threads))),
                Until::Elapsed(time) => Until::Elapsed(time),
            },
            rate: self.rate.map(|rate| rate * part),
            sets: self.sets,
            gets: self.gets,
            keys: KeyPicker::new(self.keys, self.distribution),
            warm: if self.warm { share(self.keys, at, self.threads) } else { 0..0 },
            seed: self.seed.wrapping_add(at as u64),
        }
    }

    /// Runs the load to its end.
    pub(crate) fn run(&self) -> Result<Stats, String> {
        let values = Values::new(self.value_bytes);
        let answered: Vec<AtomicU64> = (0..self.threads).map(|_| AtomicU64::new(0)).collect();
        let parts: Vec<Result<Stats, String>> = thread::scope(|scope| {
            let (values, answered) = (&values, &answered[..]);
            let threads: Vec<_> =
                (0..self.threads).map(|at| scope.spawn(move || self.run_thread(at, values, answered))).collect();
            let panicked = || Err("a load thread panicked".to_owned());
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        let mut stats = Stats::new();
        for part in parts {
            stats.merge(&part?);
        }
        Ok(stats)
    }

    fn run_thread(&self, at: usize, values: &Values, answered: &[AtomicU64]) -> Result<Stats, String> {
        let plan = self.plan(at);
        if plan.clients > CLIENTS_MAX {
            return Err(format!("{} clients on one thread; at most {CLIENTS_MAX}", plan.clients));
        }
        let config = RingConfig {
            upstream_buffers: BufferConfig { count: 1024, bytes: 16 << 10 },
            // Nobody is accepted.
            client_buffers: BufferConfig { count: 1, bytes: 4 << 10 },
            // Lost connections may still be closing when their successors begin.
            max_connections: (plan.clients as u32 + 64) * 2,
            ..RingConfig::default()
        };
        let batching = Batching { mode: BatchingMode::Off, max_delay_us: 0 };
        let mut engine = RingEngine::new(config, Vec::new(), batching).map_err(|error| error.to_string())?;
        let mut load = Load::new(plan, values);
        load.begin(engine.io());
        let mut progress = Progress::new(self.progress && at == 0);
        while !load.is_over() {
            let now = engine.io().now();
            answered[at].store(load.stats().answered(), Ordering::Relaxed);
            progress.tell(now, answered);
            let deadline = Some(load.deadline(now));
            let wait = Wait { deadline, immediate: false, in_flight: load.in_flight() };
            engine.turn(&mut load, wait).map_err(|error| error.to_string())?;
        }
        Ok(load.into_stats())
    }
}

/// A line a second on standard error.
struct Progress {
    next_at: Nanos,
    last: u64,
}

impl Progress {
    fn new(wanted: bool) -> Progress {
        Progress { next_at: if wanted { PROGRESS_EVERY } else { Nanos::MAX }, last: 0 }
    }

    fn tell(&mut self, now: Nanos, answered: &[AtomicU64]) {
        if now < self.next_at {
            return;
        }
        let all: u64 = answered.iter().map(|answered| answered.load(Ordering::Relaxed)).sum();
        eprintln!("{} s: {all} requests, {} in the last second", now / PROGRESS_EVERY, all - self.last);
        self.last = all;
        self.next_at = now - now % PROGRESS_EVERY + PROGRESS_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::ErrorKind;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::time::Duration;

    #[test]
    fn shares_add_up() {
        for whole in [0, 1, 7, 100] {
            for of in [1, 2, 3, 8] {
                let shares: Vec<u64> = (0..of).map(|at| length(&share(whole, at, of))).collect();
                assert_eq!(shares.iter().sum::<u64>(), whole);
                assert!(shares.iter().max().unwrap_or(&0) - shares.iter().min().unwrap_or(&0) <= 1);
            }
        }
        assert_eq!(parse_ratio("1:10"), Ok((1, 10)));
        assert!(parse_ratio("0:0").is_err() && parse_ratio("1").is_err());
    }

    /// A server of one thread per connection, which forgets: gets miss, or hit with a value that is another key's.
    fn serve(listener: &TcpListener, wrong: bool) {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut writer = stream.try_clone().expect("a second descriptor");
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                    let reply: &[u8] = if line.starts_with("set ") {
                        let bytes: usize = line.trim().rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a size");
                        let mut data = vec![0; bytes + 2];
                        reader.read_exact(&mut data).expect("the data block");
                        b"STORED\r\n"
                    } else if wrong {
                        b"VALUE key:000000000000 0 1\r\nx\r\nEND\r\n"
                    } else {
                        b"END\r\n"
                    };
                    writer.write_all(reply).expect("the client reads");
                    line.clear();
                }
            });
        }
    }

    fn order(wrong: bool) -> Order {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let target = listener.local_addr().expect("its address");
        // Ends with the test's process.
        thread::spawn(move || serve(&listener, wrong));
        Order {
            target: Address::Tcp(target),
            threads: 2,
            clients: 6,
            pipeline: 4,
            until: Until::Requests(2000),
            rate: None,
            sets: 1,
            gets: 10,
            keys: 100,
            distribution: Distribution::Zipf { exponent: 0.99 },
            value_bytes: ValueBytes { min: 1, max: 100 },
            warm: true,
            seed: 1,
            progress: false,
        }
    }

    #[test]
    fn a_load_over_sockets_counts_what_comes_back() {
        let stats = order(false).run().expect("a ring");
        assert_eq!((stats.answered(), stats.error_count(), stats.hits), (2000, 0, 0));
        let stats = order(true).run().expect("a ring");
        assert_eq!(stats.errors_of(ErrorKind::WrongReply) + stats.stored, 2000);
        let timed = Order { until: Until::Elapsed(Duration::from_millis(200)), rate: Some(5000.0), ..order(false) };
        let stats = timed.run().expect("a ring");
        // How many a busy machine lets through is its own affair; never more than the rate asks for.
        assert!((1..=1002).contains(&stats.answered()), "{}", stats.answered());
    }

    #[test]
    fn nobody_there_is_an_error_not_a_wait() {
        let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let target = Address::Tcp(unused.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))));
        let stats = Order { target, ..order(false) }.run().expect("a ring");
        assert_eq!(stats.answered(), 0);
        assert!(stats.errors_of(ErrorKind::Connect) >= 6);
    }
}
