//! The command line: gomcrouter's flags in all their forms, `check` and `explain`.

use keyway::cli::{self, Exit, Invocation, RunOptions};
use keyway::config::{ListenAddress, Overrides, ServerAddress};
use log::LevelFilter;
use std::path::{Path, PathBuf};

fn read(arguments: &[&str]) -> Invocation {
    cli::read(arguments.iter().map(Into::into))
}

fn run(arguments: &[&str]) -> RunOptions {
    match read(arguments) {
        Invocation::Run(options) => options,
        Invocation::Exit(exit) => panic!("{arguments:?}: {exit:?}"),
        Invocation::Replay(options) => panic!("{arguments:?}: {options:?}"),
    }
}

fn exit(arguments: &[&str]) -> Exit {
    match read(arguments) {
        Invocation::Exit(exit) => exit,
        Invocation::Run(options) => panic!("{arguments:?}: {options:?}"),
        Invocation::Replay(options) => panic!("{arguments:?}: {options:?}"),
    }
}

/// A file of this test alone, gone with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let path = std::env::temp_dir().join(format!("keyway-{}-{name}.yaml", std::process::id()));
        std::fs::write(&path, text).expect("the folder for temporary files takes files");
        File(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn flags_have_gomcrouters_forms() {
    let all = Overrides {
        listen: Some(ListenAddress::AllTcp(8080)),
        metrics: Some(ListenAddress::AllTcp(9090)),
        shards: Some(4),
        connections: Some(2),
        timeout_ms: Some(1000),
        queued_bytes: Some(1_048_576),
        health_interval_ms: Some(10_000),
        dns_ttl_ms: Some(30_000),
        config_params: vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x:y".to_owned())],
    };
    let check = |line: &str| {
        let options = run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(options.overrides, all, "{line}");
        assert_eq!((options.file.as_path(), options.log_level), (Path::new("r.yaml"), LevelFilter::Debug), "{line}");
    };
    check(
        "-f r.yaml -l tcp://:8080 --log-level debug -n 4 -C 2 -r 1000 -b 1048576 -H 10s -t 30s -L :9090 --config-params a:1,b:x:y",
    );
    check(
        "-fr.yaml -ltcp://:8080 --log-level=debug -n4 -C2 -r1000 -b1048576 -H10s -t30s -L:9090 --config-params=a:1,b:x:y",
    );
    check(
        "-f=r.yaml -l=tcp://:8080 --log-level=DEBUG -n=4 -C=2 -r=1000 -b=1048576 -H=10s -t=30s -L=:9090 --config-params=a:1,b:x:y",
    );
    check(
        "--router-config r.yaml --listen tcp://:8080 --log-level debug --server-event-loops 4 --upstream-connections 2 \
         --timeout-ms 1000 --buffer-size 1048576 --healthcheck-interval 10s --dns-cache-ttl 30s --metrics-listen-addr :9090 \
         --config-params a:1,b:x:y",
    );
    check(
        "--router-config=r.yaml --listen=tcp://:8080 --log-level=debug --server-event-loops=4 --upstream-connections=2 \
         --timeout-ms=1000 --buffer-size=1048576 --healthcheck-interval=10s --dns-cache-ttl=30s --metrics-listen-addr=:9090 \
         --config-params=a:1,b:x:y",
    );
    let none = run(&[]);
    assert_eq!((none.overrides, none.log_level, none.file_was_named), (Overrides::default(), LevelFilter::Info, false));
    assert_eq!(none.file, Path::new("router.yaml"));
    // A value that looks like a flag or has an equals sign is left alone.
    assert_eq!(run(&["-f", "-n4"]).file, Path::new("-n4"));
    assert_eq!(run(&["--router-config", "a=b"]).file, Path::new("a=b"));
    assert_eq!(run(&["-fa=b"]).file, Path::new("a=b"));
}

#[test]
fn durations_are_gos() {
    let check = |text: &str, wanted: Result<u64, &str>| match (read(&["-H", text]), wanted) {
        (Invocation::Run(options), Ok(wanted)) => {
            assert_eq!(options.overrides.health_interval_ms, Some(wanted), "{text}")
        }
        (Invocation::Exit(exit), Err(wanted)) => {
            assert_eq!(exit.code, 2, "{text}");
            assert!(exit.error.contains(wanted), "{text}: {}", exit.error);
        }
        (invocation, _) => panic!("{text}: {invocation:?}"),
    };
    check("10s", Ok(10_000));
    check("500ms", Ok(500));
    check("1m30s", Ok(90_000));
    check("0.5s", Ok(500));
    check(".5s", Ok(500));
    check("1h", Ok(3_600_000));
    check("20000us", Ok(20));
    check("20000µs", Ok(20));
    check("10000000ns", Ok(10));
    for wrong in ["10", "", "s", "10x", "1.2.3s", "-1s", "10 s", ".s", "1s5", "99999999999999999999s"] {
        check(wrong, Err("is no duration (allowed: as 10s, 500ms, 1m30s)"));
    }
    check("0s", Err("0s is out of range (allowed: 10 to 3600000)"));
    check("2h", Err("2h is out of range"));
}

#[test]
fn faults_of_the_command_line() {
    let check = |arguments: &[&str], wanted: &str| {
        let exit = exit(arguments);
        assert_eq!((exit.code, exit.out.as_str()), (2, ""), "{arguments:?}");
        assert!(exit.error.contains(wanted), "{arguments:?}: {}", exit.error);
        assert!(exit.error.ends_with("Run keyway --help for what there is.\n"));
    };
    check(&["-n", "0"], "0 is out of range (allowed: 1 to 1024)");
    check(&["-n", "four"], "four is no whole number");
    check(&["-C65"], "65 is out of range (allowed: 1 to 64)");
    check(&["-r", "99999999999999999999"], "is out of range");
    check(&["-b", "1"], "1 is out of range (allowed: 4096 to");
    check(&["-l", "tcp://host:1"], "tcp://host:1 has a name where an IP address is needed (allowed: tcp://ip:port");
    check(&["-L", "unix:///x"], "unix:///x isn't TCP");
    check(&["--log-level", "loud"], "loud is no level (allowed: off, error, warn, info, debug, trace)");
    check(&["--lisen", "x"], "Unrecognized argument: --lisen");
    check(&["top"], "Unrecognized argument: top");
    check(&["-f"], "No value provided for option '-f'");
    check(&["explain"], "operation");
}

#[test]
fn help_and_version() {
    let help = exit(&["--help"]);
    assert_eq!(help.code, 0);
    for wanted in ["-f, --router-config", "check", "explain", "keyway explain -f router.yaml get"] {
        assert!(help.out.contains(wanted), "{}", help.out);
    }
    assert_eq!(exit(&["-h"]), help);
    assert!(exit(&["explain", "--help"]).out.contains("--down"));
    assert_eq!(exit(&["--version"]).out, format!("keyway {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn check_prints_all_faults_or_what_a_file_comes_to() {
    let bad = File::new("check-bad", "orderedPool: [a]\nroute: AllFastestRoute\nlimits: {clients: x}\n");
    let refused = exit(&["check", "-f", bad.name()]);
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    let lines: Vec<&str> = refused.error.lines().collect();
    assert_eq!(lines.len(), 2, "{}", refused.error);
    assert!(lines[0].starts_with(&format!("{}:1:15: ordered_pool[0]: `a` has no port", bad.name())), "{}", lines[0]);
    assert!(lines[1].starts_with(&format!("{}:3:19: limits.clients: `x` is no whole number", bad.name())));

    let good = File::new("check-good", "orderedPool: ['a:1', 'embedded:b']\nroute: AllFastestRoute\n");
    // Flags before the verb count, and so does a file named there.
    let taken = exit(&["-n2", "-C3", "-f", good.name(), "check"]);
    assert_eq!((taken.code, taken.error.as_str()), (0, ""));
    let wanted = format!(
        "{}: ok\nlistener tcp://:8080 -> route main\n\
         pool ordered_pool: 2 servers, ch3, 3 connections per server and shard, timeout 1000 ms, deadline 2000 ms\n\
         metrics tcp://:9090, admin off\nshards 2\nmemory: 2 shards x (64.0 MiB + 10000 clients x ",
        good.name()
    );
    assert!(taken.out.starts_with(&wanted), "{}\nwanted\n{wanted}", taken.out);
    assert!(taken.out.contains(" + 6 server connections x ") && taken.out.ends_with(" at most\n"), "{}", taken.out);

    let missing = exit(&["check", "-f", "/nonexistent/r.yaml"]);
    assert_eq!(missing.code, 1);
    assert!(missing.error.starts_with("/nonexistent/r.yaml: can't be read: No such file"), "{}", missing.error);
    let begin = RunOptions { file: "/nonexistent/router.yaml".into(), ..run(&[]) }.load().expect_err("none");
    assert!(begin.contains("no -f FILE was given") && begin.contains("orderedPool:"), "{begin}");
}

#[test]
fn explain_prints_the_way_and_the_servers() {
    let file = File::new(
        "explain",
        "pools: {web: {servers: ['a:1', 'b:1'], hash: {distribution: ketama}, on_down: rehash}, spare: {servers: ['c:1']}}
routes:
  main:
    type: OperationSelectorRoute
    operation_policies:
      get: {type: MissFailoverRoute, children: [Pool|web, Pool|spare]}
      set: AllFastestRoute|Pool|web
    default_policy: PoolRoute|web
  other: LocalRoute
",
    );
    let check = |question: &[&str], code: u8, wanted: &str| {
        let arguments: Vec<&str> = ["explain", "-f", file.name()].into_iter().chain(question.iter().copied()).collect();
        let exit = exit(&arguments);
        assert_eq!(exit.code, code, "{question:?}: {}", exit.error);
        match code {
            0 => assert_eq!(exit.out, wanted, "{question:?}"),
            _ => assert!(exit.error.contains(wanted), "{question:?}: {}", exit.error),
        }
    };
    check(
        &["get", "k"],
        0,
        "get k by route main\n  OperationSelectorRoute\n    MissFailoverRoute\n      a:1 of pool web\n      \
         b:1 of pool web  (when the one before fails or misses)\n      \
         c:1 of pool spare  (when the one before fails or misses)\nservers, in order:\n  1. a:1 now\n  2. b:1 later\n  3. c:1 later\n",
    );
    check(
        &["get", "k", "--down", "a:1", "--down=c:1"],
        0,
        "get k by route main\n  OperationSelectorRoute\n    MissFailoverRoute\n      a:1 of pool web  (down)\n      \
         b:1 of pool web\n      c:1 of pool spare  (down)\nservers, in order:\n  1. b:1 now\n",
    );
    check(
        &["set", "k"],
        0,
        "set k by route main\n  OperationSelectorRoute\n    AllFastestRoute\n      a:1 of pool web\n      \
         b:1 of pool web\nservers, in order:\n  1. a:1 now\n  2. b:1 now\n",
    );
    check(&["version"], 0, "version by route main\n  LocalRoute\nservers, in order:\n  none: the router answers\n");
    check(
        &["get", "k", "--route", "other"],
        0,
        "get k by route other\n  LocalRoute\nservers, in order:\n  none: the router answers\n",
    );
    check(&["get"], 2, "get needs a key");
    check(&["version", "k"], 2, "version takes no key");
    check(&["get", "a b"], 2, "a key has no spaces");
    check(&["get", &"k".repeat(251)], 2, "a key has 1 to 250 bytes, this one 251");
    check(&["gte", "k"], 2, "unknown operation \"gte\" (allowed: get, gets,");
    check(&["get", "k", "--down", "x:1"], 2, "--down \"x:1\" is no configured server (allowed: a:1, b:1, c:1)");
    check(&["get", "k", "--route", "x"], 2, "no route \"x\" (allowed: main, other)");
    // A key that looks like a flag goes after --.
    let dashed = exit(&["explain", "-f", file.name(), "--", "delete", "-n4"]);
    assert!(dashed.out.starts_with("delete -n4 by route main\n"), "{dashed:?}");

    let down = exit(&["explain", "-f", file.name(), "delete", "k", "--down", "a:1", "--down", "b:1"]);
    assert!(down.out.ends_with("servers, in order:\n  none is up: the request fails\n"), "{}", down.out);
}

#[test]
fn the_shipped_file_needs_no_server() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../router.yaml");
    let config = RunOptions { file: shipped, ..run(&["-f", "x"]) }.load().expect("router.yaml is good");
    assert_eq!(config.listeners[0].address.to_string(), "tcp://127.0.0.1:8080");
    assert_eq!(config.metrics.map(|address| address.to_string()).as_deref(), Some("tcp://127.0.0.1:9090"));
    let servers = &config.pools[0].servers;
    assert_eq!(servers.len(), 2);
    assert!(servers.iter().all(|server| matches!(server.address, ServerAddress::Embedded(_))));
}
