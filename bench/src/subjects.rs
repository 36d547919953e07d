//! What is compared: Keyway in its window modes, twemproxy, the floor, and any other forwarder by its command line.
//!
//! Owns how each is configured and started. Every subject forwards one loopback port to one memcached.

use crate::process::{CommandLine, Process, Scratch, free_port};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The tree of a pool alone.
pub(crate) const POOL_TREE: &str = "PoolRoute|bench";
/// gomcrouter's: the first server that can be used.
pub(crate) const DEFAULT_TREE: &str = "{type: DefaultRoute, children: [Pool|bench, LocalRoute]}";
/// By prefix, then by operation, then with failover, then by hash.
pub(crate) const DEEP_TREE: &str = "{type: PrefixSelectorRoute, policies: {other: NullRoute}, wildcard: \
    {type: OperationSelectorRoute, operation_policies: {get: {type: FailoverRoute, children: [PoolRoute|bench, NullRoute]}, \
    set: {type: FailoverRoute, children: [PoolRoute|bench, NullRoute]}}, default_policy: PoolRoute|bench}}";

/// Keyway's batching window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    Off,
    Fixed { max_delay_us: u32, batch: u32 },
    Adaptive { max_delay_us: u32 },
}

impl Window {
    fn yaml(self) -> String {
        match self {
            Window::Off => "{mode: off}".to_owned(),
            Window::Fixed { max_delay_us, batch } => {
                format!("{{mode: fixed, max_delay_us: {max_delay_us}, batch: {batch}}}")
            }
            Window::Adaptive { max_delay_us } => format!("{{mode: adaptive, max_delay_us: {max_delay_us}}}"),
        }
    }

    /// What the floor calls it: no argument, or the delay and the batch, 0 for adaptive.
    fn floor_args(self) -> Vec<String> {
        match self {
            Window::Off => Vec::new(),
            Window::Fixed { max_delay_us, batch } => vec![max_delay_us.to_string(), batch.to_string()],
            Window::Adaptive { max_delay_us } => vec![max_delay_us.to_string(), "0".to_owned()],
        }
    }

    fn name(self) -> String {
        match self {
            Window::Off => "off".to_owned(),
            Window::Fixed { max_delay_us, batch } => format!("{max_delay_us} us/{batch}"),
            Window::Adaptive { max_delay_us: MAX_DELAY_US } => "adaptive".to_owned(),
            Window::Adaptive { max_delay_us } => format!("adaptive {max_delay_us} us"),
        }
    }
}

/// The longest delay where none is said.
const MAX_DELAY_US: u32 = 100;

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Window, String> {
        let number = |part: Option<&str>, default| part.map_or(Some(default), |part| part.parse().ok());
        let mut parts = text.split(':');
        let window = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("off"), None, None, None) => Some(Window::Off),
            (Some("adaptive"), delay, None, None) => {
                number(delay, MAX_DELAY_US).map(|max_delay_us| Window::Adaptive { max_delay_us })
            }
            (Some("fixed"), delay @ Some(_), batch @ Some(_), None) => number(delay, 0)
                .zip(number(batch, 0))
                .map(|(max_delay_us, batch)| Window::Fixed { max_delay_us, batch }),
            _ => None,
        };
        window.ok_or_else(|| format!("window {text:?}: off, adaptive, adaptive:US or fixed:US:BATCH"))
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Keyway {
        window: Window,
        shards: usize,
        clients: usize,
        /// The tree `main`, over the pool `bench`.
        route: &'static str,
    },
    Nutcracker,
    Floor {
        window: Window,
    },
    /// Arguments with `{listen}` and `{server}` for the two ports.
    Other {
        args: Vec<String>,
    },
}

/// One forwarder to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: String,
    program: PathBuf,
    kind: Kind,
}

/// A subject that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

impl Subject {
    pub(crate) fn keyway(program: &Path, window: Window) -> Subject {
        let kind = Kind::Keyway { window, shards: 1, clients: 10_000, route: POOL_TREE };
        Subject { name: format!("keyway {}", window.name()), program: program.to_owned(), kind }
    }

    /// Keyway with another tree than a pool alone.
    pub(crate) fn keyway_tree(program: &Path, window: Window, name: &str, route: &'static str) -> Subject {
        let kind = Kind::Keyway { window, shards: 1, clients: 10_000, route };
        Subject { name: format!("keyway {name}"), program: program.to_owned(), kind }
    }

    /// Keyway with other numbers of shards and of clients than usual.
    pub(crate) fn keyway_with(program: &Path, window: Window, shards: usize, clients: usize) -> Subject {
        let kind = Kind::Keyway { window, shards, clients, route: POOL_TREE };
        Subject { name: format!("keyway {} x{shards}", window.name()), program: program.to_owned(), kind }
    }

    pub(crate) fn nutcracker(program: &Path) -> Subject {
        Subject { name: "twemproxy".to_owned(), program: program.to_owned(), kind: Kind::Nutcracker }
    }

    pub(crate) fn floor(program: &Path, window: Window) -> Subject {
        let kind = Kind::Floor { window };
        Subject { name: format!("floor {}", window.name()), program: program.to_owned(), kind }
    }

    /// `NAME=PROGRAM ARG... {listen} ... {server}`.
    pub(crate) fn other(text: &str) -> Result<Subject, String> {
        let form = || format!("{text:?}: NAME=PROGRAM ARGUMENTS with {{listen}} and {{server}} for the ports");
        let (name, line) = text.split_once('=').ok_or_else(form)?;
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let program = words.next().ok_or_else(form)?;
        if !line.contains("{listen}") || !line.contains("{server}") {
            return Err(form());
        }
        Ok(Subject { name: name.to_owned(), program: program.into(), kind: Kind::Other { args: words.collect() } })
    }

    pub(crate) fn is_floor(&self) -> bool {
        matches!(self.kind, Kind::Floor { .. })
    }

    pub(crate) fn is_keyway(&self) -> bool {
        matches!(self.kind, Kind::Keyway { .. })
    }

    /// Starts it in front of the memcached on `server_port`, pinned to `core`, and waits until it listens.
    pub(crate) fn start(&self, server_port: u16, core: Option<usize>, scratch: &Scratch) -> Result<Running, String> {
        let port = free_port().map_err(|error| error.to_string())?;
        let args = self.args(port, server_port, scratch)?;
        let line = CommandLine::new(&self.program, args).pinned(core);
        let mut process = Process::start(&self.name, &line, scratch)?;
        process.wait_for_port(port)?;
        Ok(Running { process, port })
    }

    fn args(&self, port: u16, server_port: u16, scratch: &Scratch) -> Result<Vec<String>, String> {
        let write = |name: &str, text: &str| {
            scratch.write(name, text).map(|path| path.display().to_string()).map_err(|error| error.to_string())
        };
        match &self.kind {
            Kind::Keyway { window, shards, clients, route } => {
                let text = keyway_yaml(port, server_port, *window, *clients, route);
                let file = write(&format!("router-{port}.yaml"), &text)?;
                Ok(["-f", &file, "-n", &shards.to_string()].map(str::to_owned).to_vec())
            }
            Kind::Nutcracker => {
                let text = format!(
                    "bench:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  preconnect: true\n  \
                     servers:\n   - 127.0.0.1:{server_port}:1\n"
                );
                let file = write(&format!("nutcracker-{port}.yml"), &text)?;
                let at = |name: &str| scratch.file(&format!("nutcracker-{port}.{name}")).display().to_string();
                let (log, pid, stats) =
                    (at("log"), at("pid"), free_port().map_err(|error| error.to_string())?.to_string());
                Ok(["-c", &file, "-o", &log, "-p", &pid, "-a", "127.0.0.1", "-s", &stats].map(str::to_owned).to_vec())
            }
            Kind::Floor { window } => {
                let mut args = vec!["mc".to_owned(), port.to_string(), server_port.to_string()];
                args.extend(window.floor_args());
                Ok(args)
            }
            Kind::Other { args } => {
                let (listen, server) = (port.to_string(), server_port.to_string());
                Ok(args.iter().map(|arg| arg.replace("{listen}", &listen).replace("{server}", &server)).collect())
            }
        }
    }
}

/// A configuration of one pool with one server, as a user would write it.
fn keyway_yaml(port: u16, server_port: u16, window: Window, clients: usize, route: &str) -> String {
    let batching = window.yaml();
    format!(
        "listeners:\n  - {{address: \"tcp://127.0.0.1:{port}\", protocol: memcached, route: main}}\npools:\n  \
         bench: {{protocol: memcached, servers: [\"127.0.0.1:{server_port}\"]}}\nroutes:\n  \
         main: {route}\nmetrics: {{address: \"127.0.0.1:0\"}}\n\
         admin: {{address: off}}\nbatching: {batching}\nlimits: {{clients: {clients}}}\n"
    )
}

/// Starts a memcached on a free port, pinned to `core`.
pub(crate) fn start_memcached(program: &Path, core: Option<usize>, scratch: &Scratch) -> Result<Running, String> {
    let port = free_port().map_err(|error| error.to_string())?;
    let text = port.to_string();
    // As root it wants a user to become; for anybody else the option is ignored.
    let args = ["-l", "127.0.0.1", "-p", &text, "-U", "0", "-t", "1", "-m", "256", "-c", "4096", "-u", "nobody"];
    let line = CommandLine::new(program, args).pinned(core);
    let mut process = Process::start("memcached", &line, scratch)?;
    process.wait_for_port(port)?;
    Ok(Running { process, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_as_each_program_wants_them() {
        let scratch = Scratch::new().expect("a temporary directory");
        let check = |subject: Subject, expected: &[&str]| {
            let args = subject.args(1, 2, &scratch).expect("arguments");
            assert_eq!(args, expected, "{}", subject.name);
        };
        let program = Path::new("p");
        check(Subject::floor(program, Window::Off), &["mc", "1", "2"]);
        check(Subject::floor(program, Window::Fixed { max_delay_us: 100, batch: 32 }), &["mc", "1", "2", "100", "32"]);
        check(Subject::floor(program, Window::Adaptive { max_delay_us: 200 }), &["mc", "1", "2", "200", "0"]);
        let file = scratch.file("router-1.yaml").display().to_string();
        check(Subject::keyway(program, Window::Off), &["-f", &file, "-n", "1"]);
        let other = Subject::other("x=prog -l {listen} -s 127.0.0.1:{server}").expect("a subject");
        check(other, &["-l", "1", "-s", "127.0.0.1:2"]);
        assert!(Subject::other("x=prog").is_err());
        assert!(Subject::other("prog {listen} {server}").is_err());
        assert_eq!("off".parse(), Ok(Window::Off));
        assert_eq!("adaptive".parse(), Ok(Window::Adaptive { max_delay_us: 100 }));
        assert_eq!("fixed:200:64".parse(), Ok(Window::Fixed { max_delay_us: 200, batch: 64 }));
        assert!("fixed:200".parse::<Window>().is_err() && "off:1".parse::<Window>().is_err());
    }
}
