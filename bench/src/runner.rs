//! Runs subjects side by side: every subject under every shape, in turn, round by round, and keeps what was measured.
//!
//! Owns the order: within a round the subjects take turns, and each round begins with another one, so that whatever the
//! machine does to a round it does to all. Each subject runs from a shape's first round to its last; only one is under
//! load at a time.

use crate::process::{CommandLine, Cpu, Process, Scratch, find_program};
use crate::subjects::{Running, Subject, start_memcached};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::str::FromStr;

/// Keys stored before a shape's first round, and asked for.
const KEYS: u64 = 10_000;

/// How the load looks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) clients: usize,
    pub(crate) pipeline: usize,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let parsed = text.split_once('x').and_then(|(clients, pipeline)| {
            Some(Shape { clients: clients.parse().ok()?, pipeline: pipeline.parse().ok()? })
        });
        match parsed {
            Some(shape) if (1..=50_000).contains(&shape.clients) && (1..=1024).contains(&shape.pipeline) => Ok(shape),
            Some(_) | None => Err(format!("shape {text:?}: CLIENTSxPIPELINE, as 50x1")),
        }
    }
}

impl Shape {
    pub(crate) fn label(self) -> String {
        format!("{} x {}", self.clients, self.pipeline)
    }
}

/// Who makes the load.
#[derive(Clone, Debug)]
pub(crate) enum Loader {
    /// This program.
    Own,
    Memtier(PathBuf),
}

impl Loader {
    /// `own`, `memtier`, or `auto`: memtier_benchmark where there is one.
    pub(crate) fn from_name(name: &str) -> Result<Loader, String> {
        let memtier = find_program("memtier_benchmark");
        match (name, memtier) {
            ("own", _) | ("auto", None) => Ok(Loader::Own),
            ("memtier" | "auto", Some(path)) => Ok(Loader::Memtier(path)),
            ("memtier", None) => Err("memtier_benchmark is not on PATH".to_owned()),
            _ => Err(format!("load {name:?}: own, memtier or auto")),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Loader::Own => "keyway-bench",
            Loader::Memtier(_) => "memtier_benchmark",
        }
    }
}

/// What all measurements of one run have in common.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) memcached: PathBuf,
    pub(crate) loader: Loader,
    /// Cores of the forwarder, and of the load with memcached; `None` pins nothing.
    pub(crate) proxy_core: Option<usize>,
    pub(crate) load_core: Option<usize>,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) value_bytes: String,
    pub(crate) ratio: String,
    /// Requests a second in the open loop; `None` for the closed one.
    pub(crate) rate: Option<f64>,
}

/// What one load saw.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Loaded {
    pub(crate) answered: u64,
    pub(crate) errors: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// One subject under one shape in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) subject: String,
    pub(crate) shape: Shape,
    pub(crate) round: usize,
    #[serde(flatten)]
    pub(crate) loaded: Loaded,
    pub(crate) cpu_seconds: f64,
    pub(crate) requests_per_cpu_second: f64,
    pub(crate) user_share: f64,
    /// False where the scheduler's clock and the ticks disagreed and the ticks were taken.
    pub(crate) cpu_clocks_agree: bool,
}

/// Every round's numbers of one subject under one shape, in the order of the rounds.
pub(crate) fn series(samples: &[Sample], subject: &str, shape: Shape, number: impl Fn(&Sample) -> f64) -> Vec<f64> {
    let its = samples.iter().filter(|sample| sample.subject == subject && sample.shape == shape);
    its.map(number).collect()
}

/// Measures all `subjects` under all `shapes`. `told` hears of every sample.
pub(crate) fn run(
    setting: &Setting,
    subjects: &[Subject],
    shapes: &[Shape],
    mut told: impl FnMut(&Sample),
) -> Result<Vec<Sample>, String> {
    let scratch = Scratch::new().map_err(|error| format!("scratch directory: {error}"))?;
    let mut samples = Vec::new();
    for shape in shapes {
        let memcached = start_memcached(&setting.memcached, setting.load_core, &scratch)?;
        load(setting, *shape, memcached.port, Purpose::Warm, &scratch)?;
        let mut running = Vec::new();
        for subject in subjects {
            running.push(subject.start(memcached.port, setting.proxy_core, &scratch)?);
        }
        for round in 0..setting.rounds {
            for turn in 0..subjects.len() {
                let at = (round + turn) % subjects.len();
                let sample = measure(setting, &subjects[at], &running[at], *shape, round, &scratch)?;
                told(&sample);
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

fn measure(
    setting: &Setting,
    subject: &Subject,
    running: &Running,
    shape: Shape,
    round: usize,
    scratch: &Scratch,
) -> Result<Sample, String> {
    let pid = running.process.pid();
    let before = Cpu::of(pid)?;
    let loaded = load(setting, shape, running.port, Purpose::Measure, scratch).map_err(|error| {
        format!("{} at {}: {error}; it says: {}", subject.name, shape.label(), running.process.said())
    })?;
    let cpu = Cpu::of(pid)?.since(before);
    Ok(Sample {
        subject: subject.name.clone(),
        shape,
        round,
        loaded,
        cpu_seconds: cpu.seconds(),
        requests_per_cpu_second: loaded.answered as f64 / cpu.seconds().max(1e-9),
        user_share: cpu.user_share(),
        cpu_clocks_agree: cpu.agrees(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Store every key.
    Warm,
    Measure,
}

fn load(setting: &Setting, shape: Shape, port: u16, purpose: Purpose, scratch: &Scratch) -> Result<Loaded, String> {
    let json = scratch.file("load.json");
    let path = json.display().to_string();
    let (name, line) = match &setting.loader {
        Loader::Own => {
            let own = std::env::current_exe().map_err(|error| error.to_string())?;
            ("load", CommandLine::new(&own, own_args(setting, shape, port, purpose, &path)))
        }
        Loader::Memtier(memtier) => {
            ("memtier_benchmark", CommandLine::new(memtier, memtier_args(setting, shape, port, purpose, &path)))
        }
    };
    let mut process = Process::start(name, &line.pinned(setting.load_core), scratch)?;
    let status = process.wait()?;
    let text = std::fs::read_to_string(&json).map_err(|_| format!("{name} ended ({status}): {}", process.said()))?;
    // The next load's file must be its own.
    std::fs::remove_file(&json).map_err(|error| format!("{path}: {error}"))?;
    let parsed: Value = serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
    let loaded = match &setting.loader {
        Loader::Own => read_own(&parsed),
        Loader::Memtier(_) => read_memtier(&parsed),
    };
    loaded.ok_or_else(|| format!("{name} left no measurement ({status}): {}", process.said()))
}

fn own_args(setting: &Setting, shape: Shape, port: u16, purpose: Purpose, json: &str) -> Vec<String> {
    let mut args: Vec<String> = ["load", "--target"].map(str::to_owned).to_vec();
    args.push(format!("127.0.0.1:{port}"));
    let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
    add("--clients", shape.clients.to_string());
    add("--pipeline", shape.pipeline.to_string());
    add("--keys", KEYS.to_string());
    add("--value-bytes", setting.value_bytes.clone());
    add("--ratio", setting.ratio.clone());
    add("--json", json.to_owned());
    match purpose {
        Purpose::Warm => {
            add("--requests", "1".to_owned());
            args.push("--warm".to_owned());
        }
        Purpose::Measure => {
            add("--seconds", setting.seconds.to_string());
            if let Some(rate) = setting.rate {
                add("--rate", rate.to_string());
            }
        }
    }
    args
}

fn memtier_args(setting: &Setting, shape: Shape, port: u16, purpose: Purpose, json: &str) -> Vec<String> {
    let mut args: Vec<String> = ["--hide-histogram", "--protocol", "memcache_text"].map(str::to_owned).to_vec();
    let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
    add("--server", "127.0.0.1".to_owned());
    add("--port", port.to_string());
    add("--threads", "1".to_owned());
    add("--key-minimum", "1".to_owned());
    add("--key-maximum", KEYS.to_string());
    add("--json-out-file", json.to_owned());
    match setting.value_bytes.contains('-') {
        true => add("--data-size-range", setting.value_bytes.clone()),
        false => add("--data-size", setting.value_bytes.clone()),
    }
    match purpose {
        Purpose::Warm => {
            add("--clients", "1".to_owned());
            add("--pipeline", "16".to_owned());
            add("--ratio", "1:0".to_owned());
            add("--key-pattern", "S:S".to_owned());
            add("--requests", KEYS.to_string());
        }
        Purpose::Measure => {
            add("--clients", shape.clients.to_string());
            add("--pipeline", shape.pipeline.to_string());
            add("--ratio", setting.ratio.clone());
            add("--key-pattern", "R:R".to_owned());
            add("--test-time", setting.seconds.ceil().to_string());
            if let Some(rate) = setting.rate {
                // memtier's limit is per connection.
                add("--rate-limiting", ((rate / shape.clients as f64).ceil().max(1.0)).to_string());
            }
        }
    }
    args
}

fn read_own(json: &Value) -> Option<Loaded> {
    let errors = json["errors"].as_object()?.values().filter_map(Value::as_u64).sum();
    Some(Loaded {
        answered: json["answered"].as_u64()?,
        errors,
        requests_per_second: json["requests_per_second"].as_f64()?,
        p50_us: json["latency_us"]["p50"].as_f64()?,
        p99_us: json["latency_us"]["p99"].as_f64()?,
    })
}

/// memtier counts what was answered, not whether it was right; its latencies are milliseconds.
fn read_memtier(json: &Value) -> Option<Loaded> {
    let totals = &json["ALL STATS"]["Totals"];
    let percentiles = &totals["Percentile Latencies"];
    Some(Loaded {
        answered: totals["Count"].as_u64()?,
        errors: totals["Connection Errors"].as_u64().unwrap_or(0),
        requests_per_second: totals["Ops/sec"].as_f64()?,
        p50_us: percentiles["p50.00"].as_f64()? * 1000.0,
        p99_us: percentiles["p99.00"].as_f64()? * 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_loads_results_are_read() {
        let own = json!({"answered": 5, "errors": {"error": 2, "misaligned": 1}, "requests_per_second": 2.5,
            "latency_us": {"p50": 10.0, "p99": 20.0}});
        let loaded = read_own(&own).expect("a result");
        assert_eq!((loaded.answered, loaded.errors, loaded.p99_us), (5, 3, 20.0));
        assert!(read_own(&json!({})).is_none());
        let memtier = json!({"ALL STATS": {"Totals": {"Count": 7, "Ops/sec": 3.5,
            "Percentile Latencies": {"p50.00": 0.25, "p99.00": 1.5}}}});
        let loaded = read_memtier(&memtier).expect("a result");
        assert_eq!((loaded.answered, loaded.p50_us, loaded.p99_us), (7, 250.0, 1500.0));
        assert!(read_memtier(&own).is_none());
    }

    #[test]
    fn shapes_parse() {
        assert_eq!("50x16".parse(), Ok(Shape { clients: 50, pipeline: 16 }));
        for wrong in ["", "50", "x", "0x1", "1x0", "50x1x1"] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
    }
}
