//! `keyway import`, and mcrouter's JSON with `-f`: what becomes of each router's file, and what is said of the rest.
//!
//! What is printed is read again as YAML and must mean what was read in the first place.

use keyway::cli::{self, Exit, Invocation};
use keyway::config::{Config, Overrides, Pool};
use keyway::import::{Imported, Source, import};
use keyway::moved_keys::{Fate, Sample, moved_keys};
use keyway_policies::OnDown;
use std::path::PathBuf;
use std::time::Duration;

fn overrides(params: &[(&str, &str)]) -> Overrides {
    let config_params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Overrides { config_params, ..Overrides::default() }
}

fn imported(text: &str) -> Imported {
    import(text.as_bytes(), "file", None, &Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The configuration a file comes to, by way of the YAML.
fn config(text: &str) -> Config {
    let imported = imported(text);
    assert_eq!(imported.refused, None, "{}", imported.yaml);
    Config::parse(imported.yaml.as_bytes(), "printed.yaml", &Overrides::default())
        .unwrap_or_else(|errors| panic!("{errors}\n{}", imported.yaml))
}

fn pool<'c>(config: &'c Config, name: &str) -> &'c Pool {
    config.pools.iter().find(|pool| pool.name == name).unwrap_or_else(|| panic!("no pool {name}"))
}

/// The notes without the file's name.
fn notes(text: &str) -> Vec<String> {
    imported(text).notes.to_string().lines().map(|line| line.trim_start_matches("file:").to_owned()).collect()
}

#[track_caller]
fn noted(text: &str, wanted: &[&str]) {
    let seen = notes(text);
    for wanted in wanted {
        assert!(seen.iter().any(|note| note.starts_with(wanted)), "{wanted}\n{}", seen.join("\n"));
    }
    assert_eq!(seen.len(), wanted.len(), "{}", seen.join("\n"));
}

#[track_caller]
fn faulty(text: &str, from: Option<Source>, wanted: &[&str]) {
    let errors = import(text.as_bytes(), "file", from, &Overrides::default()).expect_err(text).to_string();
    for wanted in wanted {
        assert!(errors.contains(wanted), "{wanted}\n{errors}");
    }
    assert_eq!(errors.lines().count(), wanted.len(), "{errors}");
}

const NUTCRACKER: &str = "
alpha:
  listen: 127.0.0.1:22121
  hash: fnv1a_64
  hash_tag: \"{}\"
  distribution: ketama
  timeout: 400
  backlog: 1024
  preconnect: true
  tcpkeepalive: true
  reuseport: true
  client_connections: 100
  auto_eject_hosts: true
  server_retry_timeout: 2000
  server_failure_limit: 5
  server_connections: 2
  servers:
   - 10.0.0.1:11211:1 one
   - cache-2:11211:7
   - /run/mc.sock:1 three
beta:
  listen: /run/beta.sock 0660
  auto_eject_hosts: false
  server_failure_limit: 9
  servers: [\"::1:11212:1\"]
sessions:
  listen: 127.0.0.1:22122
  redis: true
  redis_auth: secret
  servers: [10.0.0.9:6379:1]
";

#[test]
fn every_key_of_a_nutcracker_yml_is_carried_over_or_named() {
    let config = config(NUTCRACKER);
    let listeners: Vec<_> = config.listeners.iter().map(|it| (it.address.to_string(), it.route)).collect();
    assert_eq!(listeners, [("tcp://127.0.0.1:22121".to_owned(), 0), ("unix:///run/beta.sock".to_owned(), 1)]);
    assert_eq!(config.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["alpha", "beta"]);
    let alpha = pool(&config, "alpha");
    let servers: Vec<_> = alpha
        .servers
        .iter()
        .map(|it| (it.address.to_string(), it.label(alpha.hash.distribution), it.weight.whole()))
        .collect();
    let wanted = [("10.0.0.1:11211", "one", 1), ("cache-2:11211", "cache-2", 7), ("unix:/run/mc.sock", "three", 1)];
    assert_eq!(servers, wanted.map(|(address, label, weight)| (address.to_owned(), label.to_owned(), Some(weight))));
    assert_eq!((alpha.hash.distribution.name(), alpha.on_down), ("ketama", OnDown::Rehash));
    assert_eq!(alpha.hash.tag.map(|tag| (tag.open, tag.close)), Some((b'{', b'}')));
    assert_eq!(alpha.connection.timeout, Duration::from_millis(400));
    assert_eq!(alpha.connection.connect_timeout, Duration::from_millis(400));
    assert_eq!(alpha.connection.connections, 2);
    assert_eq!((alpha.ejection.min_ejected, alpha.failure_limit), (Duration::from_secs(2), Some(5)));
    let beta = pool(&config, "beta");
    assert_eq!((beta.hash.distribution.name(), beta.on_down, beta.hash.tag), ("ketama", OnDown::Error, None));
    assert_eq!(beta.servers[0].address.to_string(), "[::1]:11212");
    noted(
        NUTCRACKER,
        &[
            "8:12: note: alpha.backlog: isn't carried over",
            "9:15: note: alpha.preconnect: isn't carried over",
            "10:17: note: alpha.tcpkeepalive: isn't carried over",
            "11:14: note: alpha.reuseport: isn't carried over",
            "12:23: note: alpha.client_connections: isn't carried over",
            "21:1: note: beta.timeout: twemproxy waits for ever",
            "22:11: note: beta.listen: permissions `0660` aren't carried over",
            "28:10: note: sessions.redis: Redis isn't supported by this version",
        ],
    );
}

#[test]
fn twemproxys_defaults_count_and_names_are_made_good() {
    let text = "a: {listen: \"127.0.0.1:1\", timeout: 1, auto_eject_hosts: true, servers: [\"a:1:1\"]}\n";
    noted(text, &[]);
    let eject = config(text);
    assert_eq!(eject.pools[0].ejection.min_ejected, Duration::from_secs(30));
    assert_eq!(eject.pools[0].failure_limit, Some(2));
    // A Unix socket's label has the colon behind its path; a random server has none, and no share.
    let text = "a: {listen: \"127.0.0.1:1\", timeout: 1, servers: [\"/run/a:1\", \"b:2:100000 x:y\"]}\n\
                b: {listen: \"127.0.0.1:2\", timeout: 1, distribution: random, servers: [\"a:1:1 x\", \"b:1:1\"]}\n";
    let labels: Vec<_> = config(text).pools[0].servers.iter().map(|server| server.name.clone()).collect();
    assert_eq!(labels, [Some("/run/a:".to_owned()), Some("x:y".to_owned())]);
    assert_eq!(config(text).pools[1].servers[0].name, None);
    noted(text, &["2:72: note: b.servers[0]: its name and weight have no effect with distribution random"]);
    // Names that are none of ours.
    let text = "\"a b\": {listen: \"127.0.0.1:1\", timeout: 1, servers: [\"a:1:1\"]}\n\
                a-b: {listen: \"127.0.0.1:2\", timeout: 1, servers: [\"b:1:1\"]}\n\
                PoolRoute: {listen: \"127.0.0.1:3\", timeout: 1, servers: [\"b:1:1\"]}\n";
    let names: Vec<_> = config(text).pools.into_iter().map(|pool| pool.name).collect();
    assert_eq!(names, ["a-b", "a-b-2", "PoolRoute-pool"]);
}

#[test]
fn what_twemproxy_would_refuse_is_refused_all_at_once() {
    let text = "a:\n  listn: x\n  timeout: soon\n  preconnect: 1\n  servers: [\"a:1\", \"b:1:0\", [c]]\nb: 5\nc: {listen: \"d:1\", servers: []}\n";
    faulty(
        text,
        Some(Source::Nutcracker),
        &[
            "file:2:3: a.listn: unknown key, did you mean listen?",
            "file:2:3: a: listen is missing",
            "file:3:12: a.timeout: `soon` where a whole number is needed",
            "file:4:15: a.preconnect: `1` where true or false is needed",
            "file:5:13: a.servers[0]: `a:1` is no server (allowed: host:port:weight [name], /path:weight [name])",
            "file:5:20: a.servers[1]: `b:1:0` is no server",
            "file:5:29: a.servers: a list where a text is needed",
            "file:6:4: b: `5` where a map is needed",
            "file:7:29: c.servers: a list where a list with something in it is needed",
        ],
    );
    faulty(
        "a: {listen: \"x:1\", redis: true, servers: [\"a:1:1\"]}\n",
        None,
        &["file:1:1: none of the pools is one of memcached"],
    );
}

const MCROUTER: &str = r#"
// The pools.
{
  "macros": {
    "hosts": {"type": "constDef", "result": ["10.0.0.1", "10.0.0.2"]},
    "pool": {"type": "macroDef", "params": ["port"], "result": {
      "servers": {"type": "transform", "dictionary": "%hosts%", "itemTransform": "%item%:%port%"},
      "server_timeout": 300
    }}
  },
  "pools": {
    "web": "@pool(11211)",
    "spare": {"inherit": "web", "connect_timeout": 50, "servers": ["[::1]:11213:ascii:plain:notcompressed", "[name]:11214"],
              "protocol": "ascii", "qos": {"class": 1}, "additional_fanout": 1, "keep_routing_prefix": false},
    "by port": {"servers": ["h:1", "unix:/run/mc.sock:ascii"], "port_override": 5, "keep_routing_prefix": true,
                "server_timeout": 0, "hostnames": ["a", "b"], "made_up": 1},
  },
  /* And the route. */
  "route": {
    "type": "OperationSelectorRoute",
    "operation_policies": {
      "get": {"type": "MissFailoverRoute", "children": ["PoolRoute|web", "Pool|by port",
              {"type": "PoolRoute", "pool": {"name": "inline", "servers": ["i:1"]}},
              {"type": "Pool", "name": "other", "servers": ["o:1"]}]}
    },
    "default_policy": {"type": "PoolRoute", "pool": "by port"}
  },
  "routing_options": {"x": true}
}
"#;

#[test]
fn an_mcrouter_configuration_is_carried_over() {
    let config = config(MCROUTER);
    let names: Vec<_> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["web", "spare", "by-port", "inline", "other"]);
    let servers = |name: &str| -> Vec<String> {
        pool(&config, name).servers.iter().map(|server| server.address.to_string()).collect()
    };
    assert_eq!(servers("web"), ["10.0.0.1:11211", "10.0.0.2:11211"]);
    assert_eq!(servers("spare"), ["[::1]:11213", "name:11214"]);
    assert_eq!(servers("by-port"), ["h:5", "unix:/run/mc.sock"]);
    assert_eq!((servers("inline"), servers("other")), (vec!["i:1".to_owned()], vec!["o:1".to_owned()]));
    let (web, spare) = (&pool(&config, "web").connection, &pool(&config, "spare").connection);
    let ms = Duration::from_millis;
    assert_eq!((web.timeout, web.connect_timeout, web.connections), (ms(300), ms(300), 1));
    assert_eq!((spare.timeout, spare.connect_timeout, spare.connections), (ms(300), ms(50), 2));
    assert_eq!(pool(&config, "by-port").connection.timeout, ms(3_600_000));
    noted(
        MCROUTER,
        &[
            "14:36: note: pools.spare.qos: isn't carried over",
            "15:5: note: pools.by port: is called by-port here",
            "15:84: note: pools.by-port.keep_routing_prefix: isn't carried over",
            "16:35: note: pools.by-port.server_timeout: 0, no timeout, is 3600000 here",
            "16:38: note: pools.by-port.hostnames: isn't carried over",
            "16:63: note: pools.by-port.made_up: is left out: it is no key of a pool",
            "28:3: note: routing_options: isn't carried over",
        ],
    );
}

#[test]
fn mcrouters_json_is_read_as_it_is() {
    let read = |text: &str| Config::parse(text.as_bytes(), "mcrouter", &overrides(&[("port", "11300")]));
    let direct = read(MCROUTER).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(direct.notes.notes.len(), 7);
    let printed = config(MCROUTER);
    assert_eq!((&direct.pools, &direct.routes), (&printed.pools, &printed.routes));
    assert!(printed.notes.is_empty());
    // Without listeners it is gomcrouter's default; the flag stands over it.
    assert_eq!(direct.listeners[0].address.to_string(), "tcp://:8080");
    let params = read(r#"{"pools": {"a": {"servers": ["h:%port%"]}}, "route": "PoolRoute|a"}"#).expect("good");
    assert_eq!(params.pools[0].servers[0].configured, "h:11300");
    // Faults have their places in the JSON, those of macros too.
    let errors = |text: &str| read(text).expect_err(text).to_string();
    assert_eq!(
        errors("{\"pools\": {\"a\": {\"servers\": [\"h:1\"]}},\n\"route\": \"PoolRoute|nope\"}"),
        "mcrouter:2:10: route: no pool `nope` (allowed: a)"
    );
    assert_eq!(errors("{\"route\":\n\"@x\"}"), "mcrouter:2:1: no macro `x`");
    assert_eq!(errors("{\"route\": tru}"), "mcrouter:1:11: not valid JSON: `tru` is no value; texts stand in quotes");
    // Keys of ours are taken too.
    let ours = r#"{"listeners": [{"address": "tcp://127.0.0.1:5000"}], "route": "PoolRoute|a", "pools": {"a":
        {"servers": [{"address": "h:1", "weight": 2}], "timeout_ms": 7, "hash": {"distribution": "ketama"}}}}"#;
    let ours = read(ours).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((ours.pools[0].servers[0].weight.whole(), ours.pools[0].connection.timeout.as_millis()), (Some(2), 7));
}

#[test]
fn what_would_be_sent_in_the_clear_or_not_understood_is_refused() {
    let check = |pool: &str, wanted: &[&str]| {
        faulty(&format!("{{\"pools\": {{\"a\": {pool}}}, \"route\": \"PoolRoute|a\"}}"), None, wanted);
    };
    check(r#"{"servers": ["h:1"], "security_mech": "ssl"}"#, &["1:55: pools.a.security_mech: `ssl` isn't supported"]);
    check(r#"{"servers": ["h:1"], "use_ssl": true}"#, &["pools.a.use_ssl: `true` isn't supported"]);
    check(r#"{"servers": ["h:1"], "protocol": "caret"}"#, &["pools.a.protocol: `caret` isn't supported"]);
    check(
        r#"{"servers": ["h:1:caret", "g:1:ascii:ssl"]}"#,
        &["pools.a.servers[0]: `caret` isn't supported", "pools.a.servers[1]: `ssl` isn't supported"],
    );
    check(r#"{"inherit": "b"}"#, &["pools.a.inherit: no pool `b`"]);
    check(r#"{"inherit": "a"}"#, &["pools.a.inherit: leads back to itself"]);
    faulty(
        r#"{"route": {"type": "PoolRoute", "pool": {"servers": ["h:1"]}}}"#,
        None,
        &["a pool within a route needs a name"],
    );
}

#[test]
fn routes_are_printed_as_they_are() {
    // Types and keys of mcrouter's are not looked at.
    let text = r#"{"pools": {"a": {"servers": ["h:1", "h:2"], "weights": [1, 0.5]}, "b": {"servers": ["h:1"], "tags": ["x"]}},
        "named_handles": {"one": {"type": "SomeRoute", "child": "PoolRoute|a", "n": 0.25}},
        "routes": {"/a/b/": "one", "/c/*/": {"type": "PoolRoute", "pool": "b", "hash": {"hash_func": "Rendezvous"}}}}"#;
    let printed = imported(text).yaml;
    let seen: serde_yaml::Value = serde_yaml::from_str(&printed).expect("YAML");
    let wanted: serde_yaml::Value = serde_yaml::from_str(
        r#"{"pools": {"a": {"servers": ["h:1", "h:2"]}, "b": {"servers": ["h:1"]}},
        "named_handles": {"one": {"type": "SomeRoute", "n": 0.25, "child":
            {"type": "PoolRoute", "pool": "a", "hash": {"hash_func": "WeightedCh3", "weights": [1, 0.5]}}}},
        "routes": {"/a/b/": "one", "/c/*/":
            {"type": "PoolRoute", "pool": "b", "hash": {"hash_func": "Rendezvous", "tags": ["x"]}}}}"#,
    )
    .expect("YAML");
    assert_eq!(seen, wanted, "{printed}");
}

#[test]
fn names_of_routes_are_made_good_and_the_first_of_a_name_counts() {
    let text = r#"{"pools": {"a": {"servers": ["h:1"]}, "x:y": {"servers": ["g:1"]}},
        "named_handles": {"x:y": {"type": "MissFailoverRoute", "name": "x:y", "children": ["PoolRoute|a", "PoolRoute|x:y"]}},
        "route": {"type": "OperationSelectorRoute", "default_policy": "x:y", "operation_policies": {
            "get": {"type": "AllFastestRoute", "name": "all", "children": ["DefaultRoute|x:y", "PoolRoute|a"]},
            "set": {"type": "AllFastestRoute", "name": "all", "children": "PoolRoute|a"}}}}"#;
    let seen: serde_yaml::Value = serde_yaml::from_str(&imported(text).yaml).expect("YAML");
    let wanted: serde_yaml::Value = serde_yaml::from_str(
        r#"{"pools": {"a": {"servers": ["h:1"]}, "x-y": {"servers": ["g:1"]}},
        "named_handles": {"x-y": {"type": "MissFailoverRoute", "children": ["PoolRoute|a", "PoolRoute|x-y"]}},
        "route": {"type": "OperationSelectorRoute", "default_policy": "x-y", "operation_policies": {
            "get": {"type": "AllFastestRoute", "name": "all", "children": ["DefaultRoute|x-y", "PoolRoute|a"]},
            "set": "all"}}}"#,
    )
    .expect("YAML");
    assert_eq!(seen, wanted);
    assert_eq!(config(text).routes.len(), 1);
    noted(
        text,
        &[
            "1:39: note: pools.x:y: is called x-y here",
            "2:27: note: named_handles.x:y: is called x-y here",
            "5:20: note: name: all is the route of that name met first",
        ],
    );
}

#[test]
fn gomcrouters_file_is_passed_through() {
    let text = "orderedPool: [a:1, b:1]\nextra: 1\nroute:\n  type: OperationSelectorRoute\n  operationPolicies:\n    \
                get: MissFailoverRoute\n    set: AllFastest\n    fetch: LocalRoute\n    delete: OperationSelectorRoute\n";
    let config = config(text);
    assert_eq!((config.pools.len(), config.pools[0].servers.len()), (1, 2));
    noted(
        text,
        &[
            "1:1: note: the file: where gomcrouter's own defaults are meant",
            "2:1: note: extra: is left out",
            "7:10: note: route.operationPolicies.set: `AllFastest` is no policy of gomcrouter's",
            "8:5: note: route.operationPolicies.fetch: is left out",
            "9:13: note: route.operationPolicies.delete: `OperationSelectorRoute` is no policy of gomcrouter's",
        ],
    );
}

const OVERLORD: &str = r#"
[[clusters]]
name = "mc"
hash_method = "fnv1a_64"
hash_distribution = "ketama"
hash_tag = ""
cache_type = "memcache"
listen_proto = "tcp"
listen_addr = "127.0.0.1:21211"
redis_auth = ""
dial_timeout = 100
read_timeout = 1_000
write_timeout = 1000
node_connections = 3
node_pipe_count = 32
ping_fail_limit = 4
ping_auto_eject = true
slowlog_slower_than = 0
servers = [
    "127.0.0.1:11211:1 one",
    "127.0.0.1:11212:10 two",
]

[[clusters]]
name = "r"
cache_type = "redis_cluster"
listen_addr = "127.0.0.1:27000"
servers = ["127.0.0.1:7000"]
"#;

#[test]
fn an_overlord_cluster_file_is_carried_over() {
    let seen: serde_yaml::Value = serde_yaml::from_str(&imported(OVERLORD).yaml).expect("YAML");
    let wanted: serde_yaml::Value = serde_yaml::from_str(
        r#"{"listeners": [{"address": "tcp://127.0.0.1:21211", "route": "mc"}],
        "pools": {"mc": {"servers": [{"address": "127.0.0.1:11211", "name": "one"},
                                     {"address": "127.0.0.1:11212", "name": "two", "weight": 10}],
            "hash": {"function": "fnv1a_64", "distribution": "overlord_ketama", "tag": "{}"},
            "connect_timeout_ms": 100, "timeout_ms": 1000, "connections": 3,
            "auto_eject_hosts": true, "server_failure_limit": 4}},
        "routes": {"mc": "PoolRoute|mc"}}"#,
    )
    .expect("YAML");
    assert_eq!(seen, wanted);
    noted(
        OVERLORD,
        &[
            "13:17: note: clusters[0].write_timeout: isn't carried over",
            "15:19: note: clusters[0].node_pipe_count: isn't carried over",
            "26:14: note: clusters[1].cache_type: redis_cluster isn't supported by this version",
        ],
    );
    let one = |more: &str| {
        format!(
            "[[clusters]]\ncache_type = \"memcache\"\nlisten_addr = \"1\"\ndial_timeout = 1\nread_timeout = 1\n{more}\n"
        )
    };
    noted(
        &one("hash_method = \"sha1\"\nhash_distribution = \"random\"\nservers = [\"a:1:1\"]"),
        &[
            "6:15: note: clusters[0].hash_method: `sha1` is unknown",
            "7:21: note: clusters[0].hash_distribution: `random` is ignored",
        ],
    );
    faulty(
        &one("servers = [\"a:1\"]\nserver = 1"),
        None,
        &["clusters[0].servers[0]: `a:1` is no server", "7:1: clusters[0].server: unknown key"],
    );
    faulty("[proxy]\nread_timeout = 0\n[[x]]\n", Some(Source::Overlord), &["clusters is missing"]);
    faulty("a = \n[[b", Some(Source::Overlord), &["file:1:5: not valid TOML", "file:2:4: not valid TOML"]);
}

#[test]
fn keys_stay_where_they_were() {
    // The same file by two ways, and one whose servers are the same under other words.
    let ours = "listeners: [{address: \"tcp://127.0.0.1:22121\", route: alpha}, {address: \"unix:///run/beta.sock\", route: beta}]\n\
                pools:\n  alpha:\n    servers: [{address: \"10.0.0.1:11211\", name: one}, {address: \"cache-2:11211\", weight: 7},\n      \
                {address: \"unix:/run/mc.sock\", name: three}]\n    hash: {distribution: ketama, tag: \"{}\"}\n  \
                beta: {servers: [\"[::1]:11212\"]}\nroutes: {alpha: PoolRoute|alpha, beta: PoolRoute|beta}\n";
    let ours =
        Config::parse(ours.as_bytes(), "ours", &Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"));
    let moved = moved_keys(&config(NUTCRACKER), &ours, &Sample::Generated(5_000));
    assert!(moved.listeners.iter().all(|change| change.fate == Fate::Stays { moved: 0 }), "{moved}");
}

/// Files of one test, gone with it.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Files {
        let folder = std::env::temp_dir().join(format!("keyway-import-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder for temporary files takes folders");
        Files(folder)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("the folder takes files");
        path.to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn exit(arguments: &[&str]) -> Exit {
    match cli::read(arguments.iter().map(Into::into)) {
        Invocation::Exit(exit) => exit,
        Invocation::Run(_) | Invocation::Replay(_) => panic!("{arguments:?} is answered with text"),
    }
}

#[test]
fn the_verbs_say_what_became_of_a_file_and_end_so() {
    let files = Files::new("verbs");
    let nutcracker = files.write("nutcracker.yml", NUTCRACKER);
    let seen = exit(&["import", &nutcracker]);
    assert_eq!(seen.code, 0);
    assert!(
        seen.out.starts_with("# Made by keyway import from nutcracker's ") && seen.out.contains("\npools:\n"),
        "{}",
        seen.out
    );
    assert!(seen.error.contains("/nutcracker.yml:28:10: note: sessions.redis: "), "{}", seen.error);
    let printed = files.write("router.yaml", &seen.out);
    assert_eq!(exit(&["check", "-f", &printed]).code, 0);
    // What we don't take is said with its place in the file that was read, and the YAML is there to be worked on.
    let strange =
        files.write("strange.json", "{\"pools\": {\"a\": {\"servers\": [\"h:1\"]}},\n\"route\": \"NoSuchRoute|x\"}");
    let seen = exit(&["import", &strange]);
    assert_eq!(seen.code, 1);
    assert!(
        seen.out.contains("route: NoSuchRoute|x") && seen.error.contains("strange.json:2:10: route: unknown route"),
        "{seen:?}"
    );
    // A file that is none.
    let seen = exit(&["import", &files.write("none", "just text\n")]);
    assert_eq!((seen.code, seen.out.as_str()), (1, ""));
    assert!(seen.error.contains("say whose it is with --from: nutcracker, mcrouter, gomcrouter, overlord"), "{seen:?}");
    assert_eq!(exit(&["import", "--from", "haproxy", &nutcracker]).code, 2);
    assert_eq!(exit(&["import", &files.write("missing", "")]).code, 1);
    let params =
        files.write("params.json", "{\"pools\": {\"a\": {\"servers\": [\"h:%p%\"]}}, \"route\": \"PoolRoute|a\"}");
    assert!(exit(&["import", "--config-params", "p:7", &params]).out.contains("h:7"));
    assert!(exit(&["--config-params=p:8", "import", &params]).out.contains("h:8"));
    // The share of keys that move, also between files of two routers.
    let seen = exit(&["moved-keys", "--sample", "1000", &nutcracker, &printed]);
    assert_eq!(seen.code, 0, "{seen:?}");
    assert!(
        seen.out.starts_with("of 1000 keys change their server:\nlistener tcp://127.0.0.1:22121: 0, 0.00 %\n"),
        "{seen:?}"
    );
    let keys = files.write("keys", "a\nb\nc\n");
    let seen = exit(&["moved-keys", "--keys", &keys, "--json", &printed, &params]);
    assert_eq!(seen.code, 1, "a parameter is missing: {seen:?}");
    let seen = exit(&["--config-params", "p:1", "moved-keys", "--keys", &keys, "--json", &printed, &params]);
    assert!(seen.out.starts_with("{\"keys\": 3, \"listeners\": ["), "{seen:?}");
    assert_eq!(exit(&["moved-keys", "--keys", &keys, "--sample", "5", &printed, &params]).code, 2);
    assert_eq!(exit(&["moved-keys", "--sample", "0", &printed, &params]).code, 2);
}

#[test]
fn every_source_is_told_by_its_text() {
    let told = |text: &str| imported(text).source;
    assert_eq!(told(NUTCRACKER), Source::Nutcracker);
    assert_eq!(told(MCROUTER), Source::Mcrouter);
    assert_eq!(told(OVERLORD), Source::Overlord);
    assert_eq!(told("orderedPool: [a:1]\nroute: {type: DefaultRoute}\n"), Source::Gomcrouter);
    assert_eq!(told("pools: {a: {servers: [\"h:1:ascii\"]}}\nroute: PoolRoute|a\n"), Source::Mcrouter);
}

#[test]
fn hostile_files_end_soon_and_with_a_fault() {
    let many =
        |part: &str, times: usize| (0..times).map(|n| part.replace('#', &n.to_string())).collect::<Vec<_>>().join(",");
    let hostile = [
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
        format!("{{\"pools\": {{{}}}}}", many("\"p#\": {\"inherit\": \"p#0\", \"servers\": []}", 3_000)),
        // Each pool inherits all the others have.
        format!(
            "{{\"pools\": {{\"q\": {{{}}}, {}}}, \"route\": 1}}",
            many("\"k#\": 1", 5_000),
            many("\"p#\": {\"inherit\": \"q\"}", 900)
        ),
        // Weights for many routes.
        format!(
            "{{\"pools\": {{\"q\": {{\"servers\": [\"h:1\"], \"weights\": [{}]}}}}, \"route\": [{}]}}",
            many("#", 5_000),
            many("\"PoolRoute|q\"", 5_000)
        ),
        format!(
            "{{\"route\": [{}]}}",
            many("{\"type\": \"Pool\", \"name\": \"\u{fc}\u{fc}#\", \"servers\": []}", 3_000)
        ),
        "a.".repeat(100_000) + "a = 1",
        format!("a: {}", "&x [".repeat(10_000)),
    ];
    for text in hostile {
        for source in Source::ALL {
            let shown: String = text.chars().take(40).collect();
            let seen = import(text.as_bytes(), "file", Some(source), &Overrides::default());
            assert!(!matches!(seen, Ok(Imported { refused: None, .. })), "{shown}");
        }
    }
    assert!(import(&vec![b'x'; 2 << 20], "file", None, &Overrides::default()).is_err());
    assert!(import(b"\xff", "file", None, &Overrides::default()).is_err());
}
