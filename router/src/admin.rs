//! What a router says of itself through `get __mcrouter__.<command>`: mcrouter's commands, in its forms.
//!
//! Makes text of what it is shown and nothing else; `shard::admin` is where the gets come in. Not on a request's path: it
//! allocates. Bound: an answer has at most `MOST_BYTES`.

use crate::config::quoted;
use crate::explain::{Way, handle};
use crate::table::Table;
use keyway_policies::routes::explain::ExplainAt;
use keyway_policies::{HealthView, RequestView};
use keyway_protocol::{Operation, OperationClass};
use std::fmt::Write as _;

/// What the keys begin with.
pub const PREFIX: &[u8] = b"__mcrouter__.";
/// Most bytes of an answer; what is longer ends there, and says so.
pub const MOST_BYTES: usize = 512 * 1024;

/// What stands at the end of an answer that was too long.
const CUT: &str = "\n... cut here";

macro_rules! commands {
    ($($command:ident = $name:literal ($($arguments:literal)?) $meaning:literal;)*) => {
        /// What can be asked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Command {
            $(#[doc = $meaning] $command,)*
        }

        impl Command {
            /// All of them, in the order of the docs.
            pub const ALL: &[Command] = &[$(Command::$command),*];

            /// As it stands in the key.
            pub const fn name(self) -> &'static str {
                match self { $(Command::$command => $name,)* }
            }

            /// What it may be given in brackets.
            pub const fn arguments(self) -> &'static str {
                match self { $(Command::$command => concat!($($arguments)?),)* }
            }

            /// What it answers.
            pub const fn meaning(self) -> &'static str {
                match self { $(Command::$command => $meaning,)* }
            }
        }
    };
}

commands! {
    Version = "version" () "The program and its version.";
    ConfigAge = "config_age" () "Seconds since this shard got the configuration in use.";
    ConfigFile = "config_file" () "The file it was read from.";
    ConfigDigest = "config_md5_digest" () "The MD5 digest of that file's bytes, to compare routers by.";
    Options = "options" ("name, or nothing for all") "The settings and their values in use, `name value` a line; of one, its value alone.";
    HostId = "hostid" () "The number this host goes by where routes choose by host.";
    Pools = "pools" () "The pools and their servers, as JSON.";
    Route = "route" ("operation,key") "The servers such a request would be sent to now, a line each; nothing when there is none.";
    RouteHandles = "route_handles" ("operation,key") "The routes such a request would take, indented, down to the servers.";
    PreprocessedConfig = "preprocessed_config" () "The configuration as it was read, as JSON.";
    Verbosity = "verbosity" () "What is logged: `off`, `error`, `warn`, `info`, `debug` or `trace`. It can't be set here.";
}

/// What answers are made of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The table requests are routed by.
    pub table: &'a Table,
    /// Which of its trees the asking client's requests take.
    pub route: usize,
    /// Which servers take requests, as its shard sees it.
    pub health: HealthView<'a>,
    /// Time and client.
    pub at: ExplainAt,
    /// Since the shard got the table.
    pub config_age_seconds: u64,
}

/// The answer to what follows `PREFIX` in a key. Faults are answers too, and begin with `ERROR: `.
pub fn answer(asked: &[u8], view: &View<'_>) -> Vec<u8> {
    let (name, arguments) = taken_apart(asked);
    let found = Command::ALL.iter().find(|command| command.name().as_bytes() == name);
    let mut text = match found {
        Some(command) => command.answer(&arguments, view).unwrap_or_else(|fault| format!("ERROR: {fault}")),
        None => {
            let names: Vec<&str> = Command::ALL.iter().map(|command| command.name()).collect();
            format!("ERROR: unknown command: {} (there are: {})", String::from_utf8_lossy(name), names.join(", "))
        }
    };
    if text.ends_with('\n') {
        text.pop();
    }
    if text.len() > MOST_BYTES {
        text.truncate(text.floor_char_boundary(MOST_BYTES - CUT.len()));
        text.push_str(CUT);
    }
    text.into_bytes()
}

/// The command, and what stands in brackets behind it: as mcrouter takes keys apart, only the first comma of
/// `route(op,key)` counts, since keys may have commas.
fn taken_apart(asked: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let Some(open) = asked.iter().position(|byte| *byte == b'(').filter(|_| asked.ends_with(b")")) else {
        return (asked, Vec::new());
    };
    let (name, inside) = (&asked[..open], &asked[open + 1..asked.len() - 1]);
    let most = if name.starts_with(b"route") { 2 } else { usize::MAX };
    let arguments = if inside.is_empty() { Vec::new() } else { inside.splitn(most, |byte| *byte == b',').collect() };
    (name, arguments)
}

impl Command {
    fn answer(self, arguments: &[&[u8]], view: &View<'_>) -> Result<String, String> {
        let about = &view.table.about;
        match (self, arguments) {
            (Command::Version, []) => Ok(concat!("keyway ", env!("CARGO_PKG_VERSION")).to_owned()),
            (Command::ConfigAge, []) => Ok(view.config_age_seconds.to_string()),
            (Command::ConfigFile, []) => Ok(about.file.clone()),
            (Command::ConfigDigest, []) => Ok(about.md5.clone()),
            (Command::Options, []) => Ok(all_options(&about.options)),
            (Command::Options, [name]) => one_option(&about.options, name),
            (Command::HostId, []) => Ok(view.table.host_id.to_string()),
            (Command::Pools, []) => Ok(pools(view.table)),
            (Command::Route, [operation, key]) => {
                self.explained(operation, key, view, |way| way.asked_now().collect::<Vec<_>>().join("\r\n"))
            }
            (Command::RouteHandles, [operation, key]) => self.explained(operation, key, view, |way| way.as_handles()),
            (Command::PreprocessedConfig, []) => Ok(about.read.clone()),
            (Command::Verbosity, []) => Ok(log::max_level().as_str().to_lowercase()),
            (
                Command::Version
                | Command::ConfigAge
                | Command::ConfigFile
                | Command::ConfigDigest
                | Command::Options
                | Command::HostId
                | Command::Pools
                | Command::Route
                | Command::RouteHandles
                | Command::PreprocessedConfig
                | Command::Verbosity,
                _,
            ) => Err(self.usage(arguments.len())),
        }
    }

    fn usage(self, given: usize) -> String {
        match self.arguments() {
            "" => format!("{}: no arguments expected, got {given}", self.name()),
            arguments => format!("{0}: expected {0}({arguments}), got {given} arguments", self.name()),
        }
    }

    fn explained(
        self,
        operation: &[u8],
        key: &[u8],
        view: &View<'_>,
        tell: impl FnOnce(Way<'_>) -> String,
    ) -> Result<String, String> {
        let known = Operation::from_name(operation).filter(|operation| goes_to_servers(*operation));
        let operation =
            known.ok_or_else(|| format!("{}: unknown request {}", self.name(), String::from_utf8_lossy(operation)))?;
        if key.is_empty() {
            return Err(format!("{}: the key is empty", self.name()));
        }
        let request = RequestView::of_key(operation, key);
        let steps = view.table.routes[view.route].routes.explain(&request, view.health, view.at);
        Ok(tell(Way { steps: &steps, table: view.table }))
    }
}

/// True for what has a key to be routed by.
fn goes_to_servers(operation: Operation) -> bool {
    operation.class() != OperationClass::Control
}

fn all_options(options: &[(String, String)]) -> String {
    let mut out = String::new();
    for (name, value) in options {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{name} {value}");
        if out.len() > MOST_BYTES {
            break;
        }
    }
    out
}

fn one_option(options: &[(String, String)], name: &[u8]) -> Result<String, String> {
    let found = options.iter().find(|(known, _)| known.as_bytes() == name);
    let missing = || format!("options: option {} not found", String::from_utf8_lossy(name));
    found.map(|(_, value)| value.clone()).ok_or_else(missing)
}

fn pools(table: &Table) -> String {
    let mut out = "{".to_owned();
    // The pool before, and how many of its servers there were.
    let mut before: Option<(usize, usize)> = None;
    for server in &table.servers {
        let pool = &table.pools[server.pool];
        let id = match before {
            Some((same, count)) if same == server.pool => count,
            Some(_) | None => {
                let end = if before.is_some() { "\n  ]," } else { "" };
                let _ = write!(out, "{end}\n  {}: [", quoted(&pool.name));
                0
            }
        };
        let comma = if id > 0 { "," } else { "" };
        let _ = write!(out, "{comma}\n    {}", quoted(&handle(server, pool, id)));
        before = Some((server.pool, id + 1));
        if out.len() > MOST_BYTES {
            return out;
        }
    }
    out.push_str(if before.is_some() { "\n  ]\n}" } else { "}" });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};
    use crate::table::ServerKey;

    const YAML: &str = "listeners: [{address: 'tcp://:1', route: main}, {address: 'tcp://:2', route: spare}]\n\
        pools:\n  a: {servers: ['h:1', 'h:2'], timeout_ms: 70}\n  b: {servers: ['h:3']}\n\
        routes:\n  main: {type: OperationSelectorRoute, operation_policies: {set: AllFastestRoute|Pool|a, \
        get: MissFailoverRoute|Pool|a}, default_policy: PoolRoute|b}\n  spare: PoolRoute|b\n";

    fn table() -> Table {
        let config = Config::parse(YAML.as_bytes(), "dir/x.yaml", &Overrides::default());
        let mut next = 0;
        config.unwrap_or_else(|errors| panic!("{errors}")).table(1, &mut |_| {
            next += 1;
            ServerKey(next - 1)
        })
    }

    fn asked_of(route: usize, health: &[u8], asked: &str) -> String {
        let table = table();
        let at = ExplainAt { host_id: table.host_id, ..ExplainAt::default() };
        let view = View { table: &table, route, health: HealthView(health), at, config_age_seconds: 12 };
        String::from_utf8(answer(asked.as_bytes(), &view)).expect("text")
    }

    #[test]
    fn every_command_answers() {
        let check = |asked: &str, wanted: &str| assert_eq!(asked_of(0, &[255; 3], asked), wanted, "{asked}");
        check("version", concat!("keyway ", env!("CARGO_PKG_VERSION")));
        check("config_age", "12");
        check("config_age()", "12");
        check("config_file", "dir/x.yaml");
        check("hostid", &table().host_id.to_string());
        check("options(pools.a.timeout_ms)", "70");
        check("verbosity", &log::max_level().as_str().to_lowercase());
        let handle = |pool, id, port, timeout| {
            format!("host|pool={pool}|id={id}|ap=h:{port}:ascii:plain:notcompressed|timeout={timeout}ms")
        };
        let (one, two, three) = (handle("a", 0, 1, 70), handle("a", 1, 2, 70), handle("b", 0, 3, 1000));
        check(
            "pools",
            &format!("{{\n  \"a\": [\n    \"{one}\",\n    \"{two}\"\n  ],\n  \"b\": [\n    \"{three}\"\n  ]\n}}"),
        );
        check("route(set,k)", "h:1\r\nh:2");
        check("route(get,k)", "h:1");
        check("route(delete,a,b(c))", "h:3");
        check(
            "route_handles(get,k)",
            &format!("root\n OperationSelectorRoute\n  MissFailoverRoute\n   {one}\n   {two}|used=later"),
        );
        let digest = asked_of(0, &[255; 3], "config_md5_digest");
        assert!(digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
        let read = asked_of(0, &[255; 3], "preprocessed_config");
        assert!(read.starts_with("{\n  \"listeners\": [\n") && read.ends_with('}'), "{read}");
        let options = asked_of(0, &[255; 3], "options");
        assert!(options.starts_with("listeners tcp://:1 tcp://:2\nshards auto\n"), "{options}");
    }

    #[test]
    fn the_way_goes_by_health_and_listener() {
        assert_eq!(asked_of(0, &[0, 255, 255], "route(get,k)"), "h:2");
        assert_eq!(asked_of(0, &[0, 0, 255], "route(get,k)"), "");
        assert_eq!(asked_of(1, &[255; 3], "route(get,k)"), "h:3");
        let tree = asked_of(0, &[0, 255, 255], "route_handles(get,k)");
        assert!(tree.contains("|id=0|ap=h:1:ascii:plain:notcompressed|timeout=70ms|used=no, down\n"), "{tree}");
        assert!(tree.ends_with("|id=1|ap=h:2:ascii:plain:notcompressed|timeout=70ms"), "{tree}");
    }

    #[test]
    fn faults_are_answers() {
        let check = |asked: &str, wanted: &str| {
            let said = asked_of(0, &[255; 3], asked);
            assert!(said.starts_with(&format!("ERROR: {wanted}")), "{asked}: {said}");
        };
        check("", "unknown command:  (there are: version, config_age, ");
        check("route", "route: expected route(operation,key), got 0 arguments");
        check("route(get)", "route: expected route(operation,key), got 1 arguments");
        check("route(get,)", "route: the key is empty");
        check("route(fly,k)", "route: unknown request fly");
        check("route_handles(version,k)", "route_handles: unknown request version");
        check("version(1)", "version: no arguments expected, got 1");
        check("verbosity(2)", "verbosity: no arguments expected, got 1");
        check("options(none)", "options: option none not found");
        check("options(a,b)", "options: expected options(name, or nothing for all), got 2 arguments");
        check("version)", "unknown command: version)");
        check("(", "unknown command: (");
    }

    #[test]
    fn an_answer_is_bounded() {
        let mut table = table();
        let server = table.servers[0].clone();
        table.servers = (0..10_000).map(|_| server.clone()).collect();
        let view =
            View { table: &table, route: 0, health: HealthView(&[]), at: ExplainAt::default(), config_age_seconds: 0 };
        let pools = answer(b"pools", &view);
        assert!(pools.len() <= MOST_BYTES && pools.ends_with(CUT.as_bytes()), "{}", pools.len());
    }
}
