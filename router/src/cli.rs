//! The command line: gomcrouter's flags and the verbs.
//!
//! Owns the forms flags may take and what the program says before it serves. Never starts anything: `check` and
//! `explain` are answered here, as text; to run is the caller's.

mod migrate;
mod replay;

use crate::async_log::ReplayOptions;
use crate::config::keys::{self, Kind, Section};
use crate::config::{Config, ConfigErrors, ListenAddress, Overrides, Shards};
use crate::control::last_good::{DEFAULT_MAX_AGE, LastGood};
use crate::explain::{Question, explain};
use argh::FromArgs;
use log::LevelFilter;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file read when no flag names one, as gomcrouter has it.
pub const DEFAULT_FILE: &str = "router.yaml";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Serve.
    Run(RunOptions),
    /// Replay an async log, say what came of it, and end.
    Replay(ReplayOptions),
    /// Say this and end.
    Exit(Exit),
}

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// The configuration file; read again at each reload.
    pub file: PathBuf,
    /// True when a flag named it.
    pub file_was_named: bool,
    /// What the flags say instead of the file.
    pub overrides: Overrides,
    /// Where the last good configuration is kept, if anywhere.
    pub last_good: Option<LastGood>,
    /// What is logged.
    pub log_level: LevelFilter,
}

/// How the program ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 is good, 1 a configuration with faults, 2 a command line with faults.
    pub code: u8,
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub error: String,
}

impl RunOptions {
    /// Reads the configuration; the error is ready to be printed.
    pub fn load(&self) -> Result<Config, String> {
        if !self.file_was_named && !self.file.exists() {
            return Err(format!(
                "no configuration: there is no {DEFAULT_FILE} in the current directory, and no -f FILE was given.\n\
                 The smallest one, for two memcached servers that hold the same:\n\n\
                 orderedPool: [10.0.0.1:11211, 10.0.0.2:11211]\n\
                 route:\n  type: OperationSelectorRoute\n  operationPolicies: {{set: AllFastestRoute, get: MissFailoverRoute}}\n\n\
                 Write it to {DEFAULT_FILE}, try it with `keyway check`, then run `keyway`."
            ));
        }
        Config::load(&self.file, &self.overrides).map_err(|errors| errors.to_string())
    }

    /// What the bytes of the configuration file mean.
    pub fn parse(&self, bytes: &[u8]) -> Result<Config, ConfigErrors> {
        Config::parse(bytes, &self.file.display().to_string(), &self.overrides)
    }
}

/// Reads the arguments after the program's name.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Invocation {
    let mut texts = Vec::new();
    for argument in arguments {
        match argument.into_string() {
            Ok(text) => texts.push(text),
            Err(argument) => return refuse(format!("{} is not UTF-8", argument.display())),
        }
    }
    let normal = normalise(&texts);
    let normal: Vec<&str> = normal.iter().map(String::as_str).collect();
    match Arguments::from_args(&["keyway"], &normal) {
        Ok(arguments) => invocation(arguments),
        Err(early) if early.status.is_ok() => say(early.output.trim_end().to_owned() + "\n"),
        Err(early) => refuse(early.output.trim_end().to_owned()),
    }
}

/// A thread-per-core router for memcached. Without a verb it serves, by the route tree of a YAML file.
///
/// Flags are those of gomcrouter and stand over the file. Also written --flag=value, -n4 and -n=4.
#[derive(FromArgs, Debug)]
#[argh(
    help_triggers("-h", "--help"),
    example = "keyway -f router.yaml\nkeyway check -f router.yaml\nkeyway explain -f router.yaml get user:1 --down 10.0.0.1:11211",
    error_code(0, "all is well"),
    error_code(1, "the configuration has faults, or serving failed"),
    error_code(2, "the command line has faults")
)]
struct Arguments {
    /// configuration file (default: router.yaml)
    #[argh(option, short = 'f', arg_name = "file")]
    router_config: Option<String>,

    /// listen here instead of the file's listeners, for the only route or the one named main: tcp://127.0.0.1:8080,
    /// tcp://:8080, unix:///path
    #[argh(option, short = 'l', arg_name = "address", from_str_fn(listen_flag))]
    listen: Option<ListenAddress>,

    /// off, error, warn, info, debug or trace (default: info)
    #[argh(option, arg_name = "level", from_str_fn(level_flag))]
    log_level: Option<LevelFilter>,

    /// shards: threads that carry requests (default: one per CPU)
    #[argh(option, short = 'n', arg_name = "count", from_str_fn(shards_flag))]
    server_event_loops: Option<u64>,

    /// connections per server and shard (default: 1)
    #[argh(option, short = 'C', arg_name = "count", from_str_fn(connections_flag))]
    upstream_connections: Option<u64>,

    /// longest time for one try, in milliseconds; a request gets twice that (default: 1000)
    #[argh(option, short = 'r', arg_name = "ms", from_str_fn(timeout_flag))]
    timeout_ms: Option<u64>,

    /// bytes queued per connection to a server (default: 16777216)
    #[argh(option, short = 'b', arg_name = "bytes", from_str_fn(buffer_flag))]
    buffer_size: Option<u64>,

    /// time between health checks, as 10s, 500ms, 1m30s (default: 10s)
    #[argh(option, short = 'H', arg_name = "duration", from_str_fn(interval_flag))]
    healthcheck_interval: Option<u64>,

    /// how long a resolved name is used (default: 30s)
    #[argh(option, short = 't', arg_name = "duration", from_str_fn(ttl_flag))]
    dns_cache_ttl: Option<u64>,

    /// where /metrics is served, as 127.0.0.1:9090 or :9090
    #[argh(option, short = 'L', arg_name = "address", from_str_fn(metrics_flag))]
    metrics_listen_addr: Option<ListenAddress>,

    /// keep the last good configuration in this folder, and start with it when the file has faults or is missing
    #[argh(option, arg_name = "folder")]
    last_good: Option<PathBuf>,

    /// an older one isn't used, as 12h, 30m (default: 12h)
    #[argh(option, arg_name = "duration", from_str_fn(max_age_flag))]
    last_good_max_age: Option<Duration>,
    /// parameters for the macros of an mcrouter file: name:value,name:value
    #[argh(option, arg_name = "params", from_str_fn(params_flag))]
    config_params: Option<ConfigParams>,

    /// print the version
    #[argh(switch)]
    version: bool,

    #[argh(subcommand)]
    verb: Option<Verb>,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum Verb {
    Check(CheckArguments),
    Explain(ExplainArguments),
    Replay(replay::ReplayArguments),
    Import(migrate::ImportArguments),
    MovedKeys(migrate::MovedKeysArguments),
}

/// Read a configuration and print every fault in it, or what it comes to.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help"))]
struct CheckArguments {
    /// configuration file (default: router.yaml)
    #[argh(option, short = 'f', arg_name = "file")]
    router_config: Option<String>,
}

/// Print the way of a request through the route tree and the servers it goes to, in order.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "explain", help_triggers("-h", "--help"))]
struct ExplainArguments {
    /// configuration file (default: router.yaml)
    #[argh(option, short = 'f', arg_name = "file")]
    router_config: Option<String>,

    /// a server that counts as down, as it is configured; may be given several times
    #[argh(option, arg_name = "host:port")]
    down: Vec<String>,

    /// the route tree, where there are several and none is named main
    #[argh(option, arg_name = "name")]
    route: Option<String>,

    /// the operation, as get or set
    #[argh(positional)]
    operation: String,

    /// the key; a key that begins with - goes after --
    #[argh(positional)]
    key: Option<String>,
}

/// The value of --config-params.
type ConfigParams = Vec<(String, String)>;

/// Options that take a value: long names, with the short one where there is one.
const OPTIONS: [(&str, Option<char>); 20] = [
    ("--router-config", Some('f')),
    ("--listen", Some('l')),
    ("--log-level", None),
    ("--server-event-loops", Some('n')),
    ("--upstream-connections", Some('C')),
    ("--timeout-ms", Some('r')),
    ("--buffer-size", Some('b')),
    ("--healthcheck-interval", Some('H')),
    ("--dns-cache-ttl", Some('t')),
    ("--metrics-listen-addr", Some('L')),
    ("--last-good", None),
    ("--last-good-max-age", None),
    ("--down", None),
    ("--route", None),
    ("--to", None),
    ("--rate", None),
    ("--config-params", None),
    ("--from", None),
    ("--keys", None),
    ("--sample", None),
];

/// `--flag=value`, `-n4` and `-n=4` to a flag and a value, which is all argh knows. Values are left alone.
fn normalise(arguments: &[String]) -> Vec<String> {
    let mut normal = Vec::with_capacity(arguments.len());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            normal.push(argument.clone());
            normal.extend(rest.by_ref().cloned());
            break;
        }
        let long = OPTIONS.iter().find(|(long, _)| argument.split('=').next() == Some(long));
        let short = argument
            .strip_prefix('-')
            .and_then(|flag| flag.chars().next())
            .filter(|flag| OPTIONS.iter().any(|(_, short)| *short == Some(*flag)));
        match (long, argument.split_once('='), short) {
            (Some(_), Some((flag, value)), _) => normal.extend([flag.to_owned(), value.to_owned()]),
            (None, _, Some(_)) if argument.len() > 2 => {
                let value = &argument[2..];
                let value = value.strip_prefix('=').unwrap_or(value);
                normal.extend([argument[..2].to_owned(), value.to_owned()]);
            }
            (Some(_), None, _) | (None, _, Some(_)) => {
                normal.push(argument.clone());
                normal.extend(rest.next().cloned());
            }
            (None, _, None) => normal.push(argument.clone()),
        }
    }
    normal
}

fn invocation(arguments: Arguments) -> Invocation {
    if arguments.version {
        return say(format!("keyway {}\n", env!("CARGO_PKG_VERSION")));
    }
    let overrides = Overrides {
        listen: arguments.listen,
        metrics: arguments.metrics_listen_addr,
        shards: arguments.server_event_loops,
        connections: arguments.upstream_connections,
        timeout_ms: arguments.timeout_ms,
        queued_bytes: arguments.buffer_size,
        health_interval_ms: arguments.healthcheck_interval,
        dns_ttl_ms: arguments.dns_cache_ttl,
        config_params: arguments.config_params.unwrap_or_default(),
    };
    if arguments.last_good_max_age.is_some() && arguments.last_good.is_none() {
        return refuse("--last-good-max-age has an effect with --last-good only".to_owned());
    }
    let max_age = arguments.last_good_max_age.unwrap_or(DEFAULT_MAX_AGE);
    let last_good = arguments.last_good.map(|folder| LastGood { folder, max_age });
    let log_level = arguments.log_level.unwrap_or(LevelFilter::Info);
    let options = |of_verb: Option<String>| {
        let named = of_verb.or(arguments.router_config);
        let file_was_named = named.is_some();
        let file = PathBuf::from(named.unwrap_or_else(|| DEFAULT_FILE.to_owned()));
        RunOptions { file, file_was_named, overrides, last_good, log_level }
    };
    match arguments.verb {
        None => Invocation::Run(options(None)),
        Some(Verb::Replay(verb)) => Invocation::Replay(verb.options()),
        Some(Verb::Check(verb)) => check(&options(verb.router_config)),
        Some(Verb::Import(verb)) => verb.answer(options(None).overrides),
        Some(Verb::MovedKeys(verb)) => verb.answer(&options(None).overrides),
        Some(Verb::Explain(verb)) => {
            let question = Question { operation: verb.operation, key: verb.key, route: verb.route, down: verb.down };
            match options(verb.router_config).load() {
                Err(error) => fail(error),
                Ok(config) => match explain(&config, &question) {
                    Ok(answer) => say(answer),
                    Err(error) => refuse(error),
                },
            }
        }
    }
}

/// `keyway check`
fn check(options: &RunOptions) -> Invocation {
    match options.load() {
        Ok(config) => say(summary(&options.file, &config)),
        Err(error) => fail(error),
    }
}

/// What a configuration comes to, in a few lines. Also worth logging at start.
pub fn summary(file: &Path, config: &Config) -> String {
    let mut text = format!("{}: ok\n{}", file.display(), config.notes);
    for listener in &config.listeners {
        text += &format!("listener {} -> route {}\n", listener.address, config.routes[listener.route].name);
    }
    for pool in &config.pools {
        text += &format!(
            "pool {}: {} servers, {}, {} connections per server and shard, timeout {} ms, deadline {} ms\n",
            pool.name,
            pool.servers.len(),
            pool.hash.distribution.name(),
            pool.connection.connections,
            pool.connection.timeout.as_millis(),
            pool.deadline.as_millis(),
        );
    }
    let port = |address: &Option<ListenAddress>| address.as_ref().map_or("off".to_owned(), ToString::to_string);
    text += &format!("metrics {}, admin {}\n", port(&config.metrics), port(&config.admin));
    let (shards, said) = match config.shards {
        Shards::Auto => {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            (cpus, format!("shards auto: {cpus} here"))
        }
        Shards::Count(count) => (count, format!("shards {count}")),
    };
    text += &format!("{said}\nmemory: {}\n", config.memory_bound(shards));
    text
}

fn say(out: String) -> Invocation {
    Invocation::Exit(Exit { code: 0, out, error: String::new() })
}

fn fail(error: String) -> Invocation {
    Invocation::Exit(Exit { code: 1, out: String::new(), error: error + "\n" })
}

fn refuse(error: String) -> Invocation {
    let error = format!("{error}\nRun keyway --help for what there is.\n");
    Invocation::Exit(Exit { code: 2, out: String::new(), error })
}

fn listen_flag(text: &str) -> Result<ListenAddress, String> {
    let allowed = keys::LISTENER.key("address").kind.allowed();
    ListenAddress::parse(text).map_err(|problem| format!("{text} {problem} (allowed: {allowed})"))
}

fn metrics_flag(text: &str) -> Result<ListenAddress, String> {
    let allowed = "ip:port, [v6]:port, :port for all addresses";
    match ListenAddress::parse(text) {
        Ok(ListenAddress::Unix(_)) => Err(format!("{text} isn't TCP (allowed: {allowed})")),
        Ok(address) => Ok(address),
        Err(problem) => Err(format!("{text} {problem} (allowed: {allowed})")),
    }
}

fn level_flag(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| format!("{text} is no level (allowed: off, error, warn, info, debug, trace)"))
}

fn params_flag(text: &str) -> Result<ConfigParams, String> {
    let param = |param: &str| match param.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{param} is no parameter (allowed: name:value,name:value)")),
    };
    text.split(',').map(param).collect()
}

fn shards_flag(text: &str) -> Result<u64, String> {
    in_range(text, whole(text)?, &keys::SHARDS)
}

fn connections_flag(text: &str) -> Result<u64, String> {
    number_flag(text, &keys::POOL, "connections")
}

fn timeout_flag(text: &str) -> Result<u64, String> {
    number_flag(text, &keys::POOL, "timeout_ms")
}

fn buffer_flag(text: &str) -> Result<u64, String> {
    number_flag(text, &keys::LIMITS, "queued_bytes_per_connection")
}

fn interval_flag(text: &str) -> Result<u64, String> {
    in_range(text, duration_ms(text)?, &keys::HEALTH.key("interval_ms").kind)
}

fn ttl_flag(text: &str) -> Result<u64, String> {
    in_range(text, duration_ms(text)?, &keys::DNS.key("ttl_ms").kind)
}

fn max_age_flag(text: &str) -> Result<Duration, String> {
    duration_ms(text).map(Duration::from_millis)
}

fn number_flag(text: &str, section: &'static Section, name: &str) -> Result<u64, String> {
    in_range(text, whole(text)?, &section.key(name).kind)
}

fn whole(text: &str) -> Result<u64, String> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().map_err(|_| format!("{text} is out of range")),
        false => Err(format!("{text} is no whole number")),
    }
}

fn in_range(text: &str, number: u64, kind: &Kind) -> Result<u64, String> {
    match kind {
        Kind::Number { min, max, .. } if !(*min..=*max).contains(&number) => {
            Err(format!("{text} is out of range (allowed: {})", kind.allowed()))
        }
        Kind::Number { .. } | Kind::Word { .. } | Kind::Shape { .. } => Ok(number),
    }
}

/// A duration as Go writes it, in whole milliseconds: numbers with ns, us, ms, s, m, h one after the other.
fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text} is no duration (allowed: as 10s, 500ms, 1m30s)");
    let mut rest = text;
    let mut nanos: u128 = 0;
    if rest.is_empty() || text.len() > 40 {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let unit_end =
            rest[digits_end..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| digits_end + at);
        let unit: u128 = match &rest[digits_end..unit_end] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = rest[..digits_end].split_once('.').unwrap_or((&rest[..digits_end], ""));
        if (whole.is_empty() && fraction.is_empty())
            || whole.len() > 12
            || fraction.len() > 12
            || fraction.contains('.')
        {
            return Err(wrong());
        }
        let digits = |text: &str| text.bytes().fold(0_u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
        nanos += digits(whole) * unit + digits(fraction) * unit / 10_u128.pow(fraction.len() as u32);
        rest = &rest[unit_end..];
    }
    u64::try_from(nanos / 1_000_000).map_err(|_| wrong())
}
