//! `keyway-bench`: the load generator, comparisons with other forwarders, and the measurements beside them.
//!
//! Reads the command line and hands on. `keyway-bench --target ...` is `keyway-bench load --target ...`.

mod generate;
mod keys;
mod load;
mod measures;
mod pacing;
mod plot;
mod process;
mod replies;
mod report;
mod runner;
mod spread;
mod stats;
mod subjects;
mod values;

use argh::FromArgs;
use generate::{Order, THREADS_MAX, parse_ratio, parse_target};
use load::Until;
use process::find_program;
use report::Report;
use runner::{Loader, Sample, Setting, Shape};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use subjects::{Subject, Window};

/// Keyway's load generator and comparisons, memcached text.
#[derive(FromArgs)]
struct Bench {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Load(LoadArgs),
    Compare(CompareArgs),
    Sweep(SweepArgs),
    Measure(MeasureArgs),
}

/// Load one address, check every reply, and say how fast they came.
#[derive(FromArgs)]
#[argh(subcommand, name = "load")]
struct LoadArgs {
    /// HOST:PORT or unix:PATH
    #[argh(option)]
    target: String,
    /// connections (50)
    #[argh(option, default = "50")]
    clients: usize,
    /// requests in flight per connection (1)
    #[argh(option, default = "1")]
    pipeline: usize,
    /// end after so many requests
    #[argh(option)]
    requests: Option<u64>,
    /// end after so many seconds (10, without --requests)
    #[argh(option)]
    seconds: Option<f64>,
    /// sets to gets (1:10)
    #[argh(option, default = "\"1:10\".to_owned()")]
    ratio: String,
    /// value size, N or MIN-MAX (100)
    #[argh(option, default = "\"100\".to_owned()")]
    value_bytes: String,
    /// how many keys (10000)
    #[argh(option, default = "10_000")]
    keys: u64,
    /// uniform or zipf:EXPONENT (uniform)
    #[argh(option, default = "\"uniform\".to_owned()")]
    distribution: String,
    /// open loop: requests a second, timed from when they were meant to be sent
    #[argh(option)]
    rate: Option<f64>,
    /// store every key first
    #[argh(switch)]
    warm: bool,
    /// write the result to this file as JSON
    #[argh(option)]
    json: Option<PathBuf>,
    /// a line every second on standard error
    #[argh(switch)]
    progress: bool,
    /// threads (1)
    #[argh(option, default = "1")]
    threads: usize,
    /// seed of the choice of keys (1)
    #[argh(option, default = "1")]
    seed: u64,
}

/// Load Keyway, twemproxy and the floor in turn, side by side on one memcached, and compare.
#[derive(FromArgs)]
#[argh(subcommand, name = "compare")]
struct CompareArgs {
    /// keyway's binary
    #[argh(option)]
    keyway: Option<PathBuf>,
    /// keyway's windows: off, adaptive, adaptive:US, fixed:US:BATCH, comma separated (adaptive,off)
    #[argh(option, default = "\"adaptive,off\".to_owned()")]
    windows: String,
    /// the floor's binary
    #[argh(option)]
    floor: Option<PathBuf>,
    /// twemproxy (nutcracker on PATH), or "none"
    #[argh(option, default = "\"nutcracker\".to_owned()")]
    nutcracker: String,
    /// another forwarder: "NAME=PROGRAM ARGUMENTS" with {{listen}} and {{server}} for the ports; may be repeated
    #[argh(option)]
    other: Vec<String>,
    /// shapes, CLIENTSxPIPELINE, comma separated (50x1,200x1,50x16)
    #[argh(option, default = "\"50x1,200x1,50x16\".to_owned()")]
    shapes: String,
    /// memcached (on PATH)
    #[argh(option, default = "\"memcached\".to_owned()")]
    memcached: String,
    /// who loads: own, memtier, or auto: memtier_benchmark if it is on PATH (own)
    #[argh(option, default = "\"own\".to_owned()")]
    load: String,
    /// rounds (5)
    #[argh(option, default = "5")]
    rounds: usize,
    /// seconds of load per subject, shape and round (5)
    #[argh(option, default = "5.0")]
    seconds: f64,
    /// value size, N or MIN-MAX (100)
    #[argh(option, default = "\"100\".to_owned()")]
    value_bytes: String,
    /// sets to gets (1:10)
    #[argh(option, default = "\"1:10\".to_owned()")]
    ratio: String,
    /// core of the forwarder (0)
    #[argh(option, default = "0")]
    proxy_core: usize,
    /// core of the load and memcached (1)
    #[argh(option, default = "1")]
    load_core: usize,
    /// where the record, the table and the plot go (bench/records)
    #[argh(option, default = "PathBuf::from(\"bench/records\")")]
    records: PathBuf,
}

/// Sweep the batching window over clients and pipelines, of Keyway or of the floor.
#[derive(FromArgs)]
#[argh(subcommand, name = "sweep")]
struct SweepArgs {
    /// keyway's binary
    #[argh(option)]
    keyway: Option<PathBuf>,
    /// the floor's binary, where keyway is not given
    #[argh(option)]
    floor: Option<PathBuf>,
    /// connections, comma separated (1,10,50,200,1000)
    #[argh(option, default = "\"1,10,50,200,1000\".to_owned()")]
    clients: String,
    /// requests in flight per connection, comma separated (1,4,16,64)
    #[argh(option, default = "\"1,4,16,64\".to_owned()")]
    pipelines: String,
    /// memcached (on PATH)
    #[argh(option, default = "\"memcached\".to_owned()")]
    memcached: String,
    /// who loads: own, memtier or auto (own)
    #[argh(option, default = "\"own\".to_owned()")]
    load: String,
    /// rounds (3)
    #[argh(option, default = "3")]
    rounds: usize,
    /// seconds of load per window, cell and round (3)
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// value size, N or MIN-MAX (100)
    #[argh(option, default = "\"100\".to_owned()")]
    value_bytes: String,
    /// sets to gets (1:10)
    #[argh(option, default = "\"1:10\".to_owned()")]
    ratio: String,
    /// core of the forwarder (0)
    #[argh(option, default = "0")]
    proxy_core: usize,
    /// core of the load and memcached (1)
    #[argh(option, default = "1")]
    load_core: usize,
    /// where the record, the table and the plot go (bench/records)
    #[argh(option, default = "PathBuf::from(\"bench/records\")")]
    records: PathBuf,
}

/// One measurement of Keyway, as a line of JSON: roundtrip, user-share, shards, tree or idle.
#[derive(FromArgs)]
#[argh(subcommand, name = "measure")]
struct MeasureArgs {
    /// roundtrip, user-share, shards, tree or idle
    #[argh(positional)]
    what: String,
    /// keyway's binary
    #[argh(option)]
    keyway: PathBuf,
    /// twemproxy (nutcracker on PATH), or "none"
    #[argh(option, default = "\"nutcracker\".to_owned()")]
    nutcracker: String,
    /// memcached (on PATH)
    #[argh(option, default = "\"memcached\".to_owned()")]
    memcached: String,
    /// rounds (5)
    #[argh(option, default = "5")]
    rounds: usize,
    /// seconds of load per subject and round (5)
    #[argh(option, default = "5.0")]
    seconds: f64,
    /// idle clients (10000)
    #[argh(option, default = "10_000")]
    clients: usize,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let (name, rest) = normalise(&args);
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let bench = match Bench::from_args(&[name.as_str()], &rest) {
        Ok(bench) => bench,
        Err(exit) => {
            say(&exit.output);
            return if exit.status.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    let done = match bench.command {
        Command::Load(args) => load(&args),
        Command::Compare(args) => compare(&args),
        Command::Sweep(args) => sweep(&args),
        Command::Measure(args) => measure(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("keyway-bench: {error}");
        ExitCode::from(2)
    })
}

/// To standard output; whoever closes it has read enough.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// The short forms: options at once are a load's, a measurement's name stands alone, `--name=value` is two words.
fn normalise(args: &[String]) -> (String, Vec<String>) {
    let name = args.first().map_or("keyway-bench", String::as_str).to_owned();
    let mut rest: Vec<String> = Vec::new();
    for arg in args.iter().skip(1) {
        match arg.split_once('=') {
            Some((option, value)) if option.starts_with("--") => rest.extend([option.to_owned(), value.to_owned()]),
            Some(_) | None => rest.push(arg.clone()),
        }
    }
    match rest.first().map(String::as_str) {
        Some("roundtrip" | "user-share" | "shards" | "tree" | "idle") => rest.insert(0, "measure".to_owned()),
        Some(first) if first.starts_with("--") && first != "--help" => rest.insert(0, "load".to_owned()),
        Some(_) | None => {}
    }
    (name, rest)
}

fn load(args: &LoadArgs) -> Result<ExitCode, String> {
    let (sets, gets) = parse_ratio(&args.ratio)?;
    let until = match (args.requests, args.seconds) {
        (Some(_), Some(_)) => return Err("--requests and --seconds exclude each other".to_owned()),
        (Some(requests), None) => Until::Requests(requests),
        (None, seconds) => Until::Elapsed(duration(seconds.unwrap_or(10.0))?),
    };
    if args.clients == 0 || args.pipeline == 0 || args.keys == 0 || args.keys > 1_000_000_000_000 {
        return Err("--clients and --pipeline want 1 at least, --keys 1 to 10^12".to_owned());
    }
    if args.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err("--rate wants a number above 0".to_owned());
    }
    let order = Order {
        target: parse_target(&args.target)?,
        // A thread without a client would have nothing to do.
        threads: args.threads.clamp(1, args.clients.min(THREADS_MAX)),
        clients: args.clients,
        pipeline: args.pipeline,
        until,
        rate: args.rate,
        sets,
        gets,
        keys: args.keys,
        distribution: args.distribution.parse()?,
        value_bytes: args.value_bytes.parse()?,
        warm: args.warm,
        seed: args.seed,
        progress: args.progress,
    };
    let stats = order.run()?;
    say(&stats.to_text());
    if let Some(path) = &args.json {
        let text = format!("{}\n", stats.to_json());
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(if stats.error_count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn duration(seconds: f64) -> Result<Duration, String> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err(format!("{seconds} seconds: a number above 0")),
    }
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(|part| parse(part.trim())).collect()
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text:?}: a number"))
}

fn program(name: &str) -> Result<PathBuf, String> {
    find_program(name).ok_or_else(|| format!("{name} is not there or not on PATH"))
}

/// A program that may be missing: said, and done without.
fn optional_program(name: &str) -> Option<PathBuf> {
    if name == "none" {
        return None;
    }
    let found = find_program(name);
    if found.is_none() {
        eprintln!("{name} is not on PATH: left out");
    }
    found
}

fn tell(sample: &Sample) {
    eprintln!(
        "{} round {} {}: {:.0} requests per CPU-second, {:.0} per second, p99 {:.0} us",
        sample.shape.label(),
        sample.round + 1,
        sample.subject,
        sample.requests_per_cpu_second,
        sample.loaded.requests_per_second,
        sample.loaded.p99_us,
    );
}

fn finish(report: &Report, records: &Path) -> Result<ExitCode, String> {
    say(&report.markdown);
    let kept = report.keep(records)?;
    eprintln!("kept as {} with its .json and .svg", kept.display());
    Ok(ExitCode::SUCCESS)
}

fn compare(args: &CompareArgs) -> Result<ExitCode, String> {
    let setting = Setting {
        memcached: program(&args.memcached)?,
        loader: Loader::from_name(&args.load)?,
        proxy_core: Some(args.proxy_core),
        load_core: Some(args.load_core),
        rounds: args.rounds.max(1),
        seconds: duration(args.seconds)?.as_secs_f64(),
        value_bytes: args.value_bytes.clone(),
        ratio: args.ratio.clone(),
        rate: None,
    };
    let mut subjects = Vec::new();
    if let Some(keyway) = &args.keyway {
        let windows = list(&args.windows, str::parse::<Window>)?;
        subjects.extend(windows.into_iter().map(|window| Subject::keyway(keyway, window)));
    }
    subjects.extend(optional_program(&args.nutcracker).map(|path| Subject::nutcracker(&path)));
    if let Some(floor) = &args.floor {
        let fixed = Window::Fixed { max_delay_us: 100, batch: 32 };
        let windows = [Window::Off, fixed, Window::Adaptive { max_delay_us: 200 }];
        subjects.extend(windows.map(|window| Subject::floor(floor, window)));
    }
    for other in &args.other {
        subjects.push(Subject::other(other)?);
    }
    let shapes = list(&args.shapes, str::parse::<Shape>)?;
    let samples = runner::run(&setting, &subjects, &shapes, tell)?;
    finish(&report::comparison(&setting, &subjects, &shapes, &samples), &args.records)
}

fn sweep(args: &SweepArgs) -> Result<ExitCode, String> {
    let setting = Setting {
        memcached: program(&args.memcached)?,
        loader: Loader::from_name(&args.load)?,
        proxy_core: Some(args.proxy_core),
        load_core: Some(args.load_core),
        rounds: args.rounds.max(1),
        seconds: duration(args.seconds)?.as_secs_f64(),
        value_bytes: args.value_bytes.clone(),
        ratio: args.ratio.clone(),
        rate: None,
    };
    let (fixed_32, fixed_64) =
        (Window::Fixed { max_delay_us: 100, batch: 32 }, Window::Fixed { max_delay_us: 200, batch: 64 });
    let windows = |max_delay_us| [Window::Off, fixed_32, fixed_64, Window::Adaptive { max_delay_us }];
    let subjects = match (&args.keyway, &args.floor) {
        (Some(keyway), _) => windows(100).map(|window| Subject::keyway(keyway, window)),
        (None, Some(floor)) => windows(200).map(|window| Subject::floor(floor, window)),
        (None, None) => return Err("sweep wants --keyway or --floor".to_owned()),
    };
    let (clients, pipelines) = (list(&args.clients, count)?, list(&args.pipelines, count)?);
    let cells = clients
        .iter()
        .flat_map(|clients| pipelines.iter().map(|pipeline| Shape { clients: *clients, pipeline: *pipeline }));
    let shapes: Vec<Shape> = cells.collect();
    let samples = runner::run(&setting, &subjects, &shapes, tell)?;
    finish(&report::sweep(&setting, &subjects, &clients, &pipelines, &samples), &args.records)
}

fn measure(args: &MeasureArgs) -> Result<ExitCode, String> {
    let setting = Setting {
        memcached: program(&args.memcached)?,
        loader: Loader::Own,
        proxy_core: Some(0),
        load_core: Some(1),
        rounds: args.rounds.max(1),
        seconds: duration(args.seconds)?.as_secs_f64(),
        value_bytes: "100".to_owned(),
        ratio: "1:10".to_owned(),
        rate: None,
    };
    let result = match args.what.as_str() {
        "roundtrip" => measures::roundtrip(&setting, &args.keyway, optional_program(&args.nutcracker).as_deref())?,
        "user-share" => measures::user_share(&setting, &args.keyway)?,
        "shards" => measures::shards(&setting, &args.keyway)?,
        "tree" => measures::tree(&setting, &args.keyway)?,
        "idle" => measures::idle(&setting, &args.keyway, args.clients)?,
        other => return Err(format!("measure {other:?}: roundtrip, user-share, shards, tree or idle")),
    };
    say(&result.to_string());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_made_long() {
        let check = |args: &str, expected: &str| {
            let args: Vec<String> = format!("keyway-bench {args}").split_whitespace().map(str::to_owned).collect();
            assert_eq!(normalise(&args).1.join(" "), expected);
        };
        check("--target=1:2 --warm", "load --target 1:2 --warm");
        check("idle --keyway k", "measure idle --keyway k");
        check("compare --other x=y", "compare --other x=y");
        check("--help", "--help");
        check("", "");
    }
}
