//! The configuration from the outside: what is accepted and what it comes to, what is refused and with which words, and
//! that nothing read makes it panic.

use keyway::config::{Config, ListenAddress, MAX_FILE_BYTES, Overrides, Route, ServerIdentity, Shards};
use keyway::table::ServerKey;
use keyway::trouble::DownRules;
use keyway_policies::hash::{HashStop, RingMode, WideHash};
use keyway_policies::routes::all_fastest::AllFastest;
use keyway_policies::routes::default::Default;
use keyway_policies::routes::explain::ExplainAt;
use keyway_policies::routes::local::Local;
use keyway_policies::routes::miss_failover::MissFailover;
use keyway_policies::routes::operation_selector::OperationSelector;
use keyway_policies::routes::walk::{Rule, Walk};
use keyway_policies::{Distribution, HealthView, KeyHash, OnDown, RequestView, RouteNode};
use keyway_protocol::Operation;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const GOMCROUTER: &str = "
orderedPool:
  - memcache1:11211
  - memcache2:11211
route:
  type: OperationSelectorRoute
  operationPolicies:
    add: AllFastestRoute
    append: AllFastestRoute
    decr: AllFastestRoute
    delete: AllFastestRoute
    get: MissFailoverRoute
    gets: MissFailoverRoute
    incr: AllFastestRoute
    prepend: AllFastestRoute
    quit: LocalRoute
    replace: AllFastestRoute
    set: AllFastestRoute
    version: LocalRoute
";

const FULL: &str = r#"
listeners:
  - {address: "tcp://0.0.0.0:11211", protocol: memcached, route: web}
  - {address: "tcp://[::]:6379", route: local}
  - {address: "unix:///run/keyway/mc.sock", route: web}
pools:
  web:
    protocol: memcached
    servers: ["10.0.0.1:11211", {address: "10.0.0.2:11211", name: b, weight: 2}, "[::1]:11211", unix:/run/a]
    hash: {function: fnv1a_64, distribution: ketama, tag: "{}"}
    connections: 2
    connect_timeout_ms: 200
    timeout_ms: 500
    deadline_ms: 700
    on_down: rehash
  local: {servers: ["embedded:a", "embedded:b"]}
routes:
  web:
    type: OperationSelectorRoute
    operation_policies:
      get: {type: MissFailoverRoute, children: [PoolRoute|web, PoolRoute|local]}
    default_policy: PoolRoute|web
  local: AllFastestRoute|Pool|local
shards: 3
metrics: {address: "127.0.0.1:9190"}
admin: {address: off}
batching: {mode: fixed, max_delay_us: 50, batch: 16}
limits:
  clients: 11
  client_idle_ms: 12
  value_bytes: 13
  retrieval_line_bytes: 4096
  requests_per_client: 15
  reply_bytes_per_client: 4097
  queued_bytes_per_connection: 4098
  requests_per_connection: 18
  max_replay_bytes: 19
  timeouts_per_connection: 20
  drain_ms: 21
health: {interval_ms: 1000, timeout_ms: 22, failures: 4, connect_failures: 6, failure_percent: 7, successes: 5,
  probe_initial_ms: 31, probe_max_ms: 32, min_down_ms: 33, max_down_ms: 34}
dns: {ttl_ms: 2000}
embedded: {memory_bytes: 1048576}
"#;

fn read(yaml: &str) -> Result<Config, String> {
    Config::parse(yaml.as_bytes(), "f.yaml", &Overrides::default()).map_err(|errors| errors.to_string())
}

fn good(yaml: &str) -> Config {
    read(yaml).unwrap_or_else(|errors| panic!("{errors}\nin\n{yaml}"))
}

/// The yaml must have exactly these faults, each where a `^` (taken out before it is read) stands: given as the beginning
/// of its line behind the position, in the order of the file. `^^` are two faults at one place.
fn check_faults(marked: &str, wanted: &[&str]) {
    let mut yaml = String::new();
    let mut places = Vec::new();
    for (number, line) in marked.split('\n').enumerate() {
        let mut column = 1;
        for c in line.chars() {
            match c {
                '^' => places.push((number + 1, column)),
                _ => {
                    column += 1;
                    yaml.push(c);
                }
            }
        }
        yaml.push('\n');
    }
    let errors = read(&yaml).err().unwrap_or_else(|| panic!("this was to be refused:\n{yaml}"));
    assert_eq!(places.len(), wanted.len(), "as many marks as faults are wanted in\n{marked}");
    let wanted: Vec<String> =
        places.iter().zip(wanted).map(|((l, c), text)| format!("f.yaml:{l}:{c}: {text}")).collect();
    let lines: Vec<&str> = errors.lines().collect();
    let is_same =
        lines.len() == wanted.len() && lines.iter().zip(&wanted).all(|(line, wanted)| line.starts_with(wanted));
    assert!(is_same, "wanted {wanted:#?}\nfound {lines:#?}\nin\n{yaml}");
}

fn server(pool: usize, server: usize) -> Route {
    Route::Server { pool, server }
}

fn miss_failover() -> MissFailover {
    MissFailover(Walk::new(Rule::MISS_FAILOVER))
}

fn leaf() -> Route {
    Route::leaf(Local)
}

fn over(route: impl Into<RouteNode>, children: Vec<Route>) -> Route {
    Route::over(route, children).expect("routes with children")
}

fn operation(name: &str) -> Operation {
    Operation::from_name(name.as_bytes()).expect("an operation")
}

fn selector(policies: Vec<(Operation, Route)>, default: Route) -> Route {
    let (operations, routes): (Vec<Operation>, Vec<Route>) = policies.into_iter().unzip();
    let selector = OperationSelector::new(&operations).expect("no operation twice");
    Route::Node(selector.into(), std::iter::once(default).chain(routes).collect())
}

#[test]
fn gomcrouters_file_works_unchanged() {
    let config = good(GOMCROUTER);
    assert_eq!(config.listeners[0].address, ListenAddress::AllTcp(8080));
    assert_eq!((&config.metrics, &config.admin), (&Some(ListenAddress::AllTcp(9090)), &None));
    let hosts: Vec<&str> = config.pools[0].servers.iter().map(|server| server.configured.as_str()).collect();
    assert_eq!(hosts, ["memcache1:11211", "memcache2:11211"]);
    // As its file names them.
    let operations =
        ["add", "append", "decr", "delete", "get", "gets", "incr", "prepend", "quit", "replace", "set", "version"];
    let both = || vec![server(0, 0), server(0, 1)];
    let policies: Vec<(Operation, Route)> = operations
        .into_iter()
        .map(|name| {
            let route = match name {
                "get" | "gets" => over(miss_failover(), both()),
                "version" | "quit" => leaf(),
                _ => over(AllFastest::default(), both()),
            };
            (operation(name), route)
        })
        .collect();
    assert_eq!(config.routes[0].route, selector(policies, over(Default, both())));
}

#[test]
fn every_key_of_the_full_form_arrives() {
    let config = good(FULL);
    let addresses: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["tcp://0.0.0.0:11211", "tcp://[::]:6379", "unix:///run/keyway/mc.sock"]);
    assert_eq!(config.listeners.iter().map(|listener| listener.route).collect::<Vec<_>>(), [0, 1, 0]);
    let web = &config.pools[0];
    assert_eq!(web.hash.distribution, Distribution::Ketama(KeyHash::Fnv1a64));
    assert_eq!(web.hash.tag.map(|tag| (tag.open, tag.close)), Some((b'{', b'}')));
    assert_eq!(web.on_down, OnDown::Rehash);
    assert_eq!(web.connection.connections, 2);
    assert_eq!(web.connection.connect_timeout, Duration::from_millis(200));
    assert_eq!(web.connection.timeout, Duration::from_millis(500));
    assert_eq!(web.deadline, Duration::from_millis(700));
    let labels: Vec<String> = web.servers.iter().map(|server| server.label(web.hash.distribution)).collect();
    assert_eq!(labels, ["10.0.0.1", "b", "::1", "/run/a"]);
    assert_eq!(web.servers.iter().map(|server| server.weight.whole()).collect::<Vec<_>>(), [1, 2, 1, 1].map(Some));
    let local = &config.pools[1];
    assert_eq!((local.hash.distribution, local.hash.tag, local.on_down), (Distribution::Ch3, None, OnDown::Error));
    assert_eq!((local.connection.timeout, local.deadline), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!((config.shards, &config.admin), (Shards::Count(3), &None));
    assert_eq!(config.metrics.as_ref().map(ToString::to_string).as_deref(), Some("tcp://127.0.0.1:9190"));
    assert_eq!(format!("{:?}", config.batching), "Batching { mode: Fixed { batch: 16 }, max_delay_us: 50 }");
    let limits = config.limits;
    assert_eq!((limits.clients_per_shard, limits.client_idle, limits.value_bytes), (11, Duration::from_millis(12), 13));
    assert_eq!((limits.retrieval_line_bytes, limits.requests_per_client), (4096, 15));
    assert_eq!((limits.reply_bytes_per_client, limits.queued_bytes_per_connection), (4097, 4098));
    assert_eq!((limits.requests_per_connection, limits.max_replay_bytes), (18, 19));
    assert_eq!(limits.timeouts_per_connection, 20);
    assert_eq!((config.drain, config.dns_ttl), (Duration::from_millis(21), Duration::from_secs(2)));
    assert_eq!((config.health.interval, config.health.timeout), (Duration::from_secs(1), Duration::from_millis(22)));
    let down = DownRules { failures: 4, connect_failures: 6, failure_percent: 7 };
    assert_eq!((config.health.down, config.health.successes), (down, 5));
    assert_eq!(
        (config.health.probe_initial, config.health.probe_max),
        (Duration::from_millis(31), Duration::from_millis(32))
    );
    assert_eq!(
        (config.health.min_down, config.health.max_down),
        (Duration::from_millis(33), Duration::from_millis(34))
    );
    assert_eq!(config.embedded_memory_bytes, 1 << 20);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = good("listeners: [{address: 'tcp://127.0.0.1:0'}]\nroute: LocalRoute\nlimits:\nhealth: ~\n");
    assert_eq!(config.metrics.as_ref().map(ToString::to_string).as_deref(), Some("tcp://127.0.0.1:9090"));
    assert_eq!(config.admin.as_ref().map(ToString::to_string).as_deref(), Some("tcp://127.0.0.1:9091"));
    assert_eq!(format!("{:?}", config.batching), "Batching { mode: Adaptive, max_delay_us: 100 }");
    assert_eq!((config.shards, config.limits.clients_per_shard), (Shards::Auto, 10_000));
    assert_eq!((config.limits.value_bytes, config.limits.queued_bytes_per_connection), (64 << 20, 16 << 20));
    assert_eq!((config.health.interval, config.dns_ttl), (Duration::from_secs(10), Duration::from_secs(30)));
    let down = DownRules { failures: 3, connect_failures: 2, failure_percent: 0 };
    assert_eq!((config.health.down, config.health.successes), (down, 2));
    assert_eq!(config.embedded_memory_bytes, 64 << 20);
}

#[test]
fn every_key_may_be_written_in_camel_case() {
    let mut camel = String::new();
    for word in FULL.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        let is_key = word.ends_with(':') && word.contains('_');
        let mut upper = false;
        for c in word.chars() {
            match (is_key, c) {
                (true, '_') => upper = true,
                (_, c) => {
                    camel.push(if std::mem::take(&mut upper) { c.to_ascii_uppercase() } else { c });
                }
            }
        }
    }
    assert!(camel.contains("connectTimeoutMs") && camel.contains("defaultPolicy") && !camel.contains("_ms"), "{camel}");
    // But for the text itself, which is told as it was read.
    let about = Arc::default();
    assert_eq!(Config { about, ..good(&camel) }, Config { about: Arc::default(), ..good(FULL) });
}

#[test]
fn routes_are_written_as_mcrouter_writes_them() {
    let all = || vec![server(0, 0), server(0, 1)];
    let check = |routes: &str, wanted: Route| {
        let yaml = format!("pools: {{web: {{servers: ['a:1', 'b:2']}}}}\n{routes}\n");
        assert_eq!(good(&yaml).routes[0].route, wanted, "{yaml}");
    };
    check("route: LocalRoute", leaf());
    check("route: {type: LocalRoute}", leaf());
    check("route: [LocalRoute]", leaf());
    check("route: PoolRoute|web", Route::Pool { pool: 0 });
    check("route: {type: PoolRoute, pool: web}", Route::Pool { pool: 0 });
    check("route: AllFastestRoute", over(AllFastest::default(), all()));
    check("route: AllFastestRoute|Pool|web", over(AllFastest::default(), all()));
    check("route: {type: AllFastestRoute}", over(AllFastest::default(), all()));
    check("route: {type: AllFastestRoute, children: Pool|web}", over(AllFastest::default(), all()));
    check("route: {type: AllFastestRoute, children: [Pool|web]}", over(AllFastest::default(), all()));
    check("route: {type: MissFailoverRoute, children: [[Pool|web], [LocalRoute]]}", {
        over(miss_failover(), vec![server(0, 0), server(0, 1), leaf()])
    });
    check("route: MissFailoverRoute|Pool|web", over(miss_failover(), all()));
    check("route: DefaultRoute", over(Default, all()));
    // One child is the child itself.
    check("route: DefaultRoute|LocalRoute", leaf());
    check("route: AllFastestRoute|MissFailoverRoute|PoolRoute|web", Route::Pool { pool: 0 });
    check("route: {type: AllFastestRoute, children: PoolRoute|web}", Route::Pool { pool: 0 });
    check("routes: {main: b, b: [c], c: DefaultRoute}", over(Default, all()));
    check("routes: {main: AllFastestRoute|b, b: LocalRoute}", leaf());
    check(
        "route: {type: OperationSelectorRoute, operation_policies: {flushAll: LocalRoute}}",
        selector(vec![(Operation::FlushAll, leaf())], over(Default, all())),
    );
    check(
        "route: {type: OperationSelectorRoute, default_policy: {type: OperationSelectorRoute, operationPolicies: \
         {get: PoolRoute|web}, defaultPolicy: LocalRoute}}",
        selector(vec![], selector(vec![(Operation::Get, Route::Pool { pool: 0 })], leaf())),
    );
}

#[test]
fn pools_take_from_others_what_they_do_not_say() {
    let config = good(
        "pools:\n  a: {servers: ['a:1', 'b:2'], timeout_ms: 70, connections: 2}\n  b: {inherit: a, timeoutMs: 80}\n  \
         c: {inherit: b, servers: ['c:3'], connect_timeout_ms: 5}\nroute: PoolRoute|b\n",
    );
    let told: Vec<_> = config
        .pools
        .iter()
        .map(|pool| (pool.servers.len(), pool.connection.timeout.as_millis(), pool.connection.connections))
        .collect();
    assert_eq!(told, [(2, 70, 2), (2, 80, 2), (1, 80, 2)]);
    let refused = |pools: &str, wanted: &[&str]| check_faults(&format!("route: LocalRoute\npools:\n{pools}\n"), wanted);
    refused("  a: {inherit: ^x, servers: ['a:1']}", &["pools.a.inherit: no pool `x` (allowed: a)"]);
    refused("  a: {inherit: ^a, servers: ['a:1']}", &["pools.a.inherit: `a` inherits from itself"]);
    refused("  a: {servers: ['a:1'], inherit: ^[b]}", &["pools.a.inherit: a list where text is needed"]);
}

#[test]
fn routes_have_names_of_their_own() {
    let all = || vec![server(0, 0), server(0, 1)];
    let check = |routes: &str, wanted: Route| {
        let yaml = format!("pools: {{web: {{servers: ['a:1', 'b:2']}}}}\n{routes}\n");
        assert_eq!(good(&yaml).routes[0].route, wanted, "{yaml}");
    };
    check("named_handles: {a: AllFastestRoute|Pool|web}\nroute: a", over(AllFastest::default(), all()));
    check(
        "named_handles: [{type: AllFastestRoute, name: a, children: Pool|web}]\nroute: DefaultRoute|a",
        over(AllFastest::default(), all()),
    );
    check(
        "route: {type: OperationSelectorRoute, operation_policies: {get: {type: LocalRoute, name: l}}, default_policy: l}",
        selector(vec![(Operation::Get, leaf())], leaf()),
    );
    check("namedHandles: {a: b, b: PoolRoute|web}\nroutes: {main: a}", Route::Pool { pool: 0 });
    let refused = |routes: &str, wanted: &[&str]| {
        check_faults(&format!("pools: {{web: {{servers: ['a:1', 'b:2']}}}}\n{routes}\n"), wanted);
    };
    refused(
        "route: {type: DefaultRoute, children: [{type: LocalRoute, name: x}, {type: LocalRoute, name: ^x}]}",
        &["two routes are called `x`; the first is in line 2"],
    );
    refused("named_handles: {^LocalRoute: LocalRoute}\nroute: LocalRoute", &["`LocalRoute` is no good name"]);
    refused("named_handles: [^LocalRoute]\nroute: LocalRoute", &["named_handles[0]: a route without a name"]);
}

#[test]
fn faults_of_values() {
    let check = |pool: &str, wanted: &[&str]| {
        check_faults(&format!("route: LocalRoute\npools:\n  web:\n    {pool}\n"), wanted);
    };
    check(
        "servers: ['a:1', {address: 'b:1', weight: ^0}]",
        &["pools.web.servers[1].weight: `0` is out of range (allowed: 1 to 1000000)"],
    );
    check(
        "servers: ['a:1', {address: 'b:1', weight: ^2, name: ^b}]",
        &[
            "pools.web.servers[1].weight: `2` has no effect with ch3",
            "pools.web.servers[1].name: `b` has no effect with ch3",
        ],
    );
    check(
        "servers: [^a, 'b:1', ^'B:1', ^{name: ^x}, ^[], ^'', ^tcp://a:1]",
        &[
            "pools.web.servers[0]: `a` has no port (allowed: host:port, [v6]:port, unix:/path, embedded:name)",
            "pools.web.servers[2]: `B:1` is given twice; first as server 1",
            "pools.web.servers[3]: address is missing",
            "pools.web.servers[3].name: `x` has no effect",
            "pools.web.servers[4]: a list where text is needed",
            "pools.web.servers[5]: `` has no port",
            "pools.web.servers[6]: `tcp://a:1` has a scheme",
        ],
    );
    check("servers: ^embeded:a", &["pools.web.servers: `embeded:a` where a list is needed"]);
    check(
        "servers: [^'embeded:a']",
        &["pools.web.servers[0]: `embeded:a` has a port that is no number, did you mean embedded?"],
    );
    check("servers: ^[]", &["pools.web.servers: 0 servers (allowed: 1 to 10000)"]);
    check("^servers:", &["pools.web: servers is missing (allowed: host:port"]);
    check(
        "{servers: ['a:1'], timeout_ms: ^1.5, connections: ^65, deadline_ms: ^'9', connect_timeout_ms: ^-1}",
        &[
            "pools.web.timeout_ms: `1.5` is no whole number (allowed: 1 to 3600000)",
            "pools.web.connections: `65` is out of range (allowed: 1 to 64)",
            "pools.web.deadline_ms: `9` is no whole number",
            "pools.web.connect_timeout_ms: `-1` is out of range (allowed: 1 to 600000)",
        ],
    );
    check(
        "{servers: ['a:1'], timeout_ms: ^99999999999999999999999, deadline_ms: ^[1]}",
        &[
            "pools.web.timeout_ms: `99999999999999999999999` is no whole number",
            "pools.web.deadline_ms: a list is no whole number",
        ],
    );
    check(
        "{servers: ['a:1'], timeout_ms: 100, deadline_ms: ^99}",
        &["pools.web.deadline_ms: 99 is less than timeout_ms, 100"],
    );
    check(
        "{servers: ['a:1'], on_down: ^rehsah, protocol: ^redis, ^kind: cluster, ^x: 1}",
        &[
            "pools.web.on_down: `rehsah` is unknown, did you mean rehash? (allowed: error, rehash, miss)",
            "pools.web.protocol: `redis` isn't supported by this version (allowed: memcached)",
            "pools.web.kind: isn't supported by this version (allowed: protocol, servers,",
            "pools.web.x: unknown key (allowed: protocol, servers,",
        ],
    );
    check(
        "{servers: ['a:1'], timeout_ms: 1, ^timeoutMs: 2}",
        &["pools.web: `timeoutMs` is given twice; first in line 4"],
    );
    check(
        "{servers: ['a:1'], hash: ^{function: ch3, distribution: ketama, tag: ^'abc'}}",
        &[
            "pools.web.hash: function ch3 and distribution ketama don't go together",
            "pools.web.hash.tag: `abc` isn't two characters",
        ],
    );
    check(
        "{servers: ['a:1'], hash: {function: ^crc33, distribution: ^modulo}}",
        &[
            "pools.web.hash.function: `crc33` is unknown, did you mean crc32? (allowed: ch3, one_at_a_time,",
            "pools.web.hash.distribution: `modulo` is unknown, did you mean modula? (allowed: ch3, weighted_ch3,",
        ],
    );
    check(
        "{servers: ['a:11211', ^{address: 'b:1', name: a}], hash: {distribution: ketama}}",
        &["pools.web.servers[1]: `a` is taken already, by server 0"],
    );
}

#[test]
fn hashes_are_read_in_every_form() {
    let ketama = |function| Distribution::Ketama(function);
    let xxh3 = |text: &str| WideHash::Xxh3 { seed: WideHash::seed_of(text) };
    let cases = [
        ("Ch3", Distribution::Ch3),
        ("weightedCh3", Distribution::WeightedCh3),
        ("Crc32", Distribution::Crc32),
        ("const_shard", Distribution::ConstShard),
        ("{hash_func: Rendezvous}", Distribution::Rendezvous),
        ("{hashFunc: WeightedRendezvous, weights: [0.5, 1], tags: [x, y]}", Distribution::WeightedRendezvous),
        ("ketama", ketama(KeyHash::Fnv1a64)),
        ("{function: crc32}", ketama(KeyHash::Crc32)),
        ("{function: hsieh, distribution: modula}", Distribution::Modula(KeyHash::Hsieh)),
        ("{function: md5, distribution: random}", Distribution::Random),
        ("{distribution: libmemcached_ketama_weighted}", Distribution::LibmemcachedKetamaWeighted(KeyHash::Md5)),
        ("{function: xxh3, seed: fleet}", Distribution::Jump(xxh3("fleet"))),
        (
            "{distribution: ring, omode: evcache, obuckets: 40}",
            Distribution::Ring { hash: WideHash::Xxh3 { seed: 0 }, mode: RingMode::EvCache, points: 40 },
        ),
        ("codis", Distribution::Codis),
        ("{distribution: kvstore, buckets: 256}", Distribution::Kvstore { buckets: 256 }),
    ];
    for (hash, expected) in cases {
        let file = format!("pools: {{web: {{servers: ['a:1', 'b:2'], hash: {hash}}}}}\nroute: PoolRoute|web\n");
        let config = Config::parse(file.as_bytes(), "r.yaml", &Overrides::default());
        let config = config.unwrap_or_else(|errors| panic!("{hash}: {errors}"));
        assert_eq!(config.pools[0].hash.distribution, expected, "{hash}");
    }
    let file = "pools: {web: {hash: {distribution: weighted_ch3, stop: '::', salt: 7x}, servers: [{address: 'a:1', weight: 0.25}, 'b:2']},
        codis: {hash: codis, servers: [{address: 'a:1', buckets: 0-99}, {address: 'b:2', buckets: ['100-1000, 1002-1023', 1001]}]},
        tagged: {hash: {hash_func: Rendezvous, stop: off, tags: [x, y]}, servers: ['a:1', 'b:2']}}\nroute: PoolRoute|web\n";
    let config = Config::parse(file.as_bytes(), "r.yaml", &Overrides::default());
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    let [web, codis, tagged] = [0, 1, 2].map(|pool| config.pools[pool].placement());
    assert_eq!((web.stop, web.salt.as_str()), (HashStop::new(b"::"), "7x"));
    assert_eq!(web.members.iter().map(|member| member.weight.as_f64()).collect::<Vec<_>>(), [0.25, 1.0]);
    assert_eq!(codis.members[1].buckets, [(100, 1000), (1002, 1023), (1001, 1001)]);
    assert_eq!((codis.stop, tagged.stop), (None, None));
    assert_eq!(tagged.members.iter().map(|member| member.label.as_str()).collect::<Vec<_>>(), ["x", "y"]);
}

#[test]
fn faults_of_hashes() {
    let check = |pool: &str, wanted: &[&str]| {
        check_faults(&format!("route: LocalRoute\npools: {{web: {pool}}}\n"), wanted);
    };
    let of = |hash: &str, wanted: &[&str]| check(&format!("{{servers: ['a:1', 'b:2'], hash: {hash}}}"), wanted);
    of("^Latest", &["pools.web.hash: `Latest` is unknown (allowed: ch3, weighted_ch3,"]);
    of("^fnv1a_64", &["pools.web.hash: `fnv1a_64` is a function (allowed: {function: fnv1a_64}, or ch3,"]);
    of("^[ketama]", &["pools.web.hash: a list where a map is needed"]);
    of(
        "^{function: murmur, distribution: jump}",
        &["pools.web.hash: function murmur and distribution jump don't go together (allowed: with jump: md5, xxh3)"],
    );
    of(
        "^{function: md5, distribution: codis}",
        &["pools.web.hash: function md5 and distribution codis don't go together (allowed: no function with codis)"],
    );
    of("^{hash_func: Ch3, function: md5}", &["pools.web.hash: hash_func stands beside function or distribution"]);
    of("{hash_func: ^WeightedCh4}", &["pools.web.hash.hash_func: `WeightedCh4` is unknown (allowed: Ch3,"]);
    of(
        "{distribution: ketama, seed: ^x, omode: ^ketama, obuckets: ^40, buckets: ^256}",
        &[
            "pools.web.hash.seed: seed has no effect with ketama (allowed: with distribution jump or ring",
            "pools.web.hash.omode: omode has no effect with ketama (allowed: with distribution ring)",
            "pools.web.hash.obuckets: obuckets has no effect with ketama",
            "pools.web.hash.buckets: buckets has no effect with ketama (allowed: with distribution kvstore)",
        ],
    );
    of(
        "^{distribution: ring, omode: ketama, obuckets: 41}",
        &["pools.web.hash: a ring can't have 41 points for each server"],
    );
    of("{stop: ^'a b'}", &["pools.web.hash.stop: `a b` can't end a key (allowed: 1 to 8 characters, off)"]);
    of("{weights: ^[1, 1]}", &["pools.web.hash.weights: weights have no effect with ch3"]);
    of("{tags: ^[a, b]}", &["pools.web.hash.tags: tags have no effect with ch3"]);
    of(
        "^{hash_func: WeightedCh3, weights: [1, ^2, ^x]}",
        &[
            "pools.web.hash.weights: 3 weights for 2 servers (allowed: 2, one for each server)",
            "pools.web.hash.weights[1]: `2` is out of range (allowed: 0 to 1)",
            "pools.web.hash.weights[2]: `x` is no number (allowed: 0 to 1)",
        ],
    );
    of("{hash_func: Rendezvous, tags: [a, ^a]}", &["pools.web.hash.tags[1]: `a` is given twice"]);
    check(
        "{servers: [{address: 'a:1', weight: ^2, name: ^a, buckets: ^0-9}], hash: ch3}",
        &[
            "pools.web.servers[0].weight: `2` has no effect with ch3, which goes by the order of servers",
            "pools.web.servers[0].name: `a` has no effect with ch3",
            "pools.web.servers[0].buckets: `0-9` has no effect with ch3, which goes by the order of servers (allowed: with `hash: codis`",
        ],
    );
    check(
        "{servers: [{address: 'a:1', weight: ^1.5}, {address: 'b:1', weight: ^0}], hash: ketama}",
        &[
            "pools.web.servers[0].weight: `1.5` is no whole number (allowed: 1 to 1000000)",
            "pools.web.servers[1].weight: `0` is out of range (allowed: 1 to 1000000)",
        ],
    );
    check(
        "{servers: [{address: 'a:1', buckets: 0-511}, {address: 'b:1', buckets: 513-1023}], hash: ^codis}",
        &["pools.web.hash: no server has bucket 512"],
    );
    check(
        "{servers: [{address: 'a:1', buckets: ^5-1024}, {address: 'b:1', buckets: ^x}], hash: codis}",
        &[
            "pools.web.servers[0].buckets: there are no buckets `5-1024` (allowed: 0-1023)",
            "pools.web.servers[1].buckets: `x` is no bucket",
        ],
    );
}

#[test]
fn faults_of_routes() {
    let check = |routes: &str, wanted: &[&str]| {
        let pools = "pools: {web: {servers: ['a:1', 'b:2']}, other: {servers: ['c:1']}}\nlisteners: [{address: ':1', route: main}]";
        check_faults(&format!("{routes}\n{pools}\n"), wanted);
    };
    let types = "All";
    check("^shards: 1", &["route is missing (allowed: route: ..., or routes:"]);
    check("route: ^LocalRoute\nroutes: {main: LocalRoute}", &["route: can't stand beside routes"]);
    check(
        "route: ^LocalRote",
        &[&format!("route: unknown route `LocalRote`, did you mean LocalRoute? (allowed: {types}")],
    );
    check("route: ^McBucketRoute|Pool|web", &["route: McBucketRoute isn't supported by this version"]);
    check("route: ^web", &["route: `web` is a pool, not a route, did you mean PoolRoute|web?"]);
    check("route: ^PoolRoute|wbe", &["route: no pool `wbe`, did you mean web? (allowed: web, other)"]);
    check("route: ^{type: PoolRoute}", &["route: pool is missing (allowed: a pool's name)"]);
    check("route: {type: PoolRoute, pool: web, ^server_timeout_ms: 5}", &["route.server_timeout_ms: isn't supported"]);
    check("route: ^PoolRoute", &["route: PoolRoute lacks its pool (allowed: PoolRoute|web, PoolRoute|other)"]);
    check("route: ^Pool|web", &["route: `Pool|web` is a list of servers, not a route (allowed: PoolRoute|web"]);
    check("route: ^{children: []}", &["route: type is missing"]);
    check("route: {type: ^[x]}", &[&format!("route.type: a list where a route's type is needed (allowed: {types}")]);
    check(
        "route: ^AllFastestRoute",
        &["route: AllFastestRoute needs children, as there are 2 pools (allowed: Pool|web"],
    );
    check("route: {type: AllFastestRoute, children: ^[]}", &["route.children: no children"]);
    check(
        "route: {type: AllFastestRoute, children: [^PoolRoute|x, ^~, {type: ^Y}]}",
        &[
            "route.children[0]: no pool `x`",
            "route.children[1]: nothing where a route is needed",
            "route.children[2].type: unknown route `Y`",
        ],
    );
    check("route: ^[LocalRoute, LocalRoute]", &["route: a list of 2 where one route is needed"]);
    check("route: ^LocalRoute|x", &["route: LocalRoute takes no argument"]);
    check(
        "route: ^{type: OperationSelectorRoute, operation_policies: {^gte: LocalRoute, get: ^x, set: ^5}}",
        &[
            "route: OperationSelectorRoute needs default_policy, as there are 2 pools (allowed: PoolRoute|web",
            "route.operation_policies.gte: unknown operation, did you mean get? (allowed: get, gets, gat,",
            "route.operation_policies.get: unknown route `x`",
            "route.operation_policies.set: unknown route `5`",
        ],
    );
    check(
        "route: {type: OperationSelectorRoute, default_policy: LocalRoute, operation_policies: \
         {flush_all: LocalRoute, ^flushAll: LocalRoute}}",
        &["route.operation_policies.flushAll: `flushAll` is given twice"],
    );
    check("routes: ^[{aliases: [/a/b/], route: PoolRoute|web}]", &["routes: the default routing prefix"]);
    check("routes: ^{}", &["routes: 0 routes (allowed: 1 to 1000)"]);
    check(
        "routes: {main: ^b, b: ^c, c: ^main, d: ^d}",
        &[
            "routes.main: `b` leads back to itself through b, c, main",
            "routes.b: `c` leads back to itself through c, main, b",
            "routes.c: `main` leads back to itself through main, b, c",
            "routes.d: `d` leads back to itself through d",
        ],
    );
    check(
        "routes: {main: LocalRoute, ^LocalRoute: LocalRoute, ^'a|b': LocalRoute}",
        &["routes.LocalRoute: `LocalRoute` is no good name", "routes.a|b: `a|b` is no good name"],
    );
    // A pool with faults of its own is still there to be named.
    let yaml = "route: AllFastestRoute\npools: {web: {servers: [^x]}}\nlimits: {^y: 1}";
    check_faults(yaml, &["pools.web.servers[0]: `x` has no port", "limits.y: unknown key"]);
}

#[test]
fn faults_of_the_rest() {
    let check = |yaml: &str, wanted: &[&str]| check_faults(&format!("route: LocalRoute\n{yaml}\n"), wanted);
    check("listeners: ^{address: x}", &["listeners: a map where a list is needed"]);
    check("listeners: ^[]", &["listeners: 0 listeners (allowed: 1 to 64)"]);
    check(
        "listeners: [{address: ^'tcp://host:1'}, ^{route: ^x}, {address: ':1', protocol: ^redis}, ^{address: ':1'}]",
        &[
            "listeners[0].address: `tcp://host:1` has a name where an IP address is needed (allowed: tcp://ip:port",
            "listeners[1]: address is missing (allowed: tcp://ip:port",
            "listeners[1].route: no route `x` (allowed: main)",
            "listeners[2].protocol: `redis` isn't supported by this version",
            "listeners[3]: `tcp://:1` is given twice",
        ],
    );
    check("shards: ^0", &["shards: `0` is out of range (allowed: auto, 1 to 1024)"]);
    check("shards: ^many", &["shards: `many` is no whole number (allowed: auto, 1 to 1024)"]);
    check(
        "metrics: {address: ^'unix:///x'}\nadmin: ^1",
        &["metrics.address: `unix:///x` isn't TCP", "admin: `1` where a map is needed"],
    );
    check(
        "batching: {mode: ^adaptve, max_delay_us: ^0}\ndns: {^ttl: 1}",
        &[
            "batching.mode: `adaptve` is unknown, did you mean adaptive? (allowed: off, fixed, adaptive)",
            "batching.max_delay_us: `0` is out of range (allowed: 1 to 10000)",
            "dns.ttl: unknown key, did you mean ttl_ms? (allowed: ttl_ms)",
        ],
    );
    check("batching: {mode: off, batch: ^9}", &["batching.batch: has an effect with mode fixed only"]);
    check("orderedPool: ^['a:1']\npools: {}", &["ordered_pool: can't stand beside pools"]);
    check(
        "^cluster: []\n^limit: {}",
        &[
            "cluster: isn't supported by this version (allowed: listeners, pools,",
            "limit: unknown key, did you mean limits? (allowed: listeners,",
        ],
    );
    check(
        "shards: 1\n^shards: 2\nlimits: {clients: 1, ^clients: 1}",
        &["`shards` is given twice; first in line 2", "limits: `clients` is given twice; first in line 4"],
    );
    let routes = "routes: {a: LocalRoute, b: LocalRoute}\n";
    check_faults(&format!("^{routes}"), &["listeners is missing; tcp://:8080 needs a route, and of the 2"]);
    check_faults(
        &format!("{routes}listeners: [^{{address: ':1'}}]\n"),
        &["listeners[0]: route is missing (allowed: a, b)"],
    );
}

#[test]
fn what_yaml_allows_and_a_configuration_does_not() {
    let refused = |yaml: &str, wanted: &str| {
        let errors = read(yaml).expect_err("refused");
        assert!(errors.contains(wanted), "{errors}\nlacks {wanted}");
    };
    refused("", "f.yaml: holds no configuration");
    refused("# nothing\n---\n", "f.yaml: holds no configuration");
    check_faults("^^just text", &["`just text` where a map is needed", "route is missing"]);
    check_faults("route: LocalRoute\n^---\nroute: LocalRoute\n", &["a second YAML document"]);
    check_faults("route: ^!!str LocalRoute\n", &["route: YAML tags"]);
    check_faults("^{a: b}: c\n", &["a key that is a list or a map"]);
    refused("route: [LocalRoute\n", "f.yaml:2:1: route[1]: not valid YAML: while parsing a flow sequence");
    check_faults("route: Local^\0Route\n", &["a control character"]);
    check_faults("a: &a [^*a]\n", &["a[0]: an alias inside the value it names"]);
    check_faults("a: ^*b\n", &["a: not valid YAML:"]);
    check_faults("a: &a {b: c}\n^*a : d\n", &["a key that is a list or a map"]);
    check_faults(&format!("{}^{}", "[".repeat(48), "[".repeat(48)), &["[0][0]"]);
    check_faults(&format!("{}^{}x", "- ".repeat(48), "- ".repeat(48)), &["[0][0]"]);
    let bytes = |bytes: &[u8]| Config::parse(bytes, "f.yaml", &Overrides::default()).expect_err("refused").to_string();
    assert!(bytes(b"route: LocalRoute\n# \xff\n").starts_with("f.yaml:2:3: not UTF-8"));
    assert!(bytes(&vec![b' '; MAX_FILE_BYTES + 1]).starts_with("f.yaml: larger than 1048576 bytes"));
    // Each level doubles: without a bound that is 2^40 nodes.
    let mut bomb = "l0: &l0 [x, x]\n".to_owned();
    (1..40).for_each(|level| bomb += &format!("l{level}: &l{level} [*l{0}, *l{0}]\n", level - 1));
    refused(&bomb, "too large with its aliases expanded");
    // The same by names of routes.
    let mut bomb = "routes:\n  main: LocalRoute\n  r0: LocalRoute\n".to_owned();
    (1..30).for_each(|at| bomb += &format!("  r{at}: {{type: AllFastestRoute, children: [r{0}, r{0}]}}\n", at - 1));
    refused(&bomb, "more than 100000 routes in all");
    let mut deep = "routes:\n  main: LocalRoute\n  r0: LocalRoute\n".to_owned();
    (1..100).for_each(|at| deep += &format!("  r{at}: [r{}]\n", at - 1));
    refused(&deep, "nested deeper than 32");
    // The arena's own bound, found when the file is read.
    let servers: Vec<String> = (0..1001).map(|at| format!("h{at}:1")).collect();
    let wide = format!("orderedPool: [{}]\nroute: AllFastestRoute\n", servers.join(", "));
    refused(&wide, "f.yaml:2:8: route: one request could go to 1001 servers");
    // These are fine.
    good("\u{feff}route: LocalRoute\r\nshards: 2\r\n");
    good("route: &r LocalRoute\nlimits: &l {clients: 5}\n");
    assert_eq!(good("pools:\n  a: &a {servers: ['a:1']}\n  b: *a\nroute: PoolRoute|b").pools[1].servers.len(), 1);
}

#[test]
fn flags_stand_over_the_file() {
    let overrides = Overrides {
        listen: Some(ListenAddress::AllTcp(1)),
        metrics: Some(ListenAddress::AllTcp(2)),
        shards: Some(7),
        connections: Some(5),
        timeout_ms: Some(50),
        queued_bytes: Some(5000),
        health_interval_ms: Some(60),
        dns_ttl_ms: Some(70_000),
        config_params: Vec::new(),
    };
    let yaml = FULL.replace("  local: AllFastest", "  main: AllFastest").replace("route: local", "route: main");
    let config = Config::parse(yaml.as_bytes(), "f.yaml", &overrides).expect("good");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!((&config.listeners[0].address, config.listeners[0].route), (&ListenAddress::AllTcp(1), 1));
    assert_eq!((config.metrics, config.shards), (Some(ListenAddress::AllTcp(2)), Shards::Count(7)));
    for pool in &config.pools {
        assert_eq!((pool.connection.connections, pool.connection.timeout), (5, Duration::from_millis(50)));
        assert_eq!(pool.deadline, Duration::from_millis(100));
    }
    assert_eq!(config.limits.queued_bytes_per_connection, 5000);
    assert_eq!((config.health.interval, config.dns_ttl), (Duration::from_millis(60), Duration::from_secs(70)));
    let errors = Config::parse(FULL.as_bytes(), "f.yaml", &overrides).expect_err("no route for -l").to_string();
    assert!(errors.starts_with("--listen: tcp://:1 needs a route, and of the 2 there is none named main"), "{errors}");
    // gomcrouter's command lines keep their metrics port when only -l is given.
    let only_listen = Overrides { listen: Some(ListenAddress::AllTcp(1)), ..Overrides::default() };
    let config = Config::parse(GOMCROUTER.as_bytes(), "f.yaml", &only_listen).expect("good");
    assert_eq!(config.metrics, Some(ListenAddress::AllTcp(9090)));
}

#[test]
fn a_table_names_each_server_once_and_routes_by_it() {
    let yaml = "
pools:
  a: {servers: ['h1:1', 'h2:1']}
  b: {servers: ['h2:1', 'H1:1'], deadline_ms: 5000}
  c: {servers: ['h2:1'], timeout_ms: 10}
routes:
  main: {type: MissFailoverRoute, children: [Pool|b, PoolRoute|c]}
  first: PoolRoute|a
listeners: [{address: ':1', route: first}, {address: ':2'}]
";
    let config = good(yaml);
    let mut known: HashMap<ServerIdentity, u32> = HashMap::new();
    let table = config.table(9, &mut |identity| {
        let next = known.len() as u32;
        ServerKey(*known.entry(identity.clone()).or_insert(next))
    });
    assert_eq!(table.generation, 9);
    let servers: Vec<_> = table.servers.iter().map(|s| (s.host.as_str(), s.pool, s.key.0)).collect();
    assert_eq!(servers, [("h1:1", 0, 0), ("h2:1", 0, 1), ("h2:1", 1, 1), ("H1:1", 1, 0), ("h2:1", 2, 2)]);
    assert_eq!(config.identities().len(), 3);
    assert_eq!(table.listener_routes, [1, 0]);
    assert_eq!(table.pools[1].deadline, Duration::from_secs(5));
    let names: Vec<_> = table.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["main", "first"]);
    assert_eq!(table.routes[0].routes.servers().iter().map(|id| id.0).collect::<Vec<_>>(), [2, 3, 4]);
    let up = [u8::MAX; 5];
    let request = RequestView::of_key(Operation::Get, b"k");
    let steps = table.routes[0].routes.explain(&request, HealthView(&up), ExplainAt::default());
    let order: Vec<_> = steps.iter().filter_map(|step| step.server.map(|id| id.0)).collect();
    assert_eq!(order, [2, 3, 4]);
}

/// Any bytes: a result, never a panic. What is accepted can be made a table.
#[test]
fn no_input_panics() {
    let seed = std::env::var("KEYWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        now.as_nanos() as u64
    });
    println!("KEYWAY_SEED={seed}");
    let mut random = Random(seed | 1);
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../router.yaml")).unwrap_or_default();
    let bases = [FULL, GOMCROUTER, shipped.as_str()];
    let pieces: Vec<&str> = FULL.split_inclusive(|c: char| c.is_whitespace() || "{},".contains(c)).collect();
    let mut accepted = 0;
    for _ in 0..3000 {
        let mut bytes = bases[random.below(3)].as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => drop(bytes.remove(at)),
                1 => bytes[at] = random.below(256) as u8,
                2 => bytes.truncate(at.max(1)),
                3 => drop(bytes.splice(at..at, pieces[random.below(pieces.len())].bytes())),
                4 => {
                    let end = (at + random.below(40)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    let to = random.below(bytes.len());
                    drop(bytes.splice(to..to, copy));
                }
                _ => bytes[at] = b" \n:-[]{}&*!|>'\"%@`#,?~0\t"[random.below(24)],
            }
        }
        if let Ok(config) = Config::parse(&bytes, "f.yaml", &Overrides::default()) {
            accepted += 1;
            let mut next = 0;
            config.table(1, &mut |_| {
                next += 1;
                ServerKey(next)
            });
        }
    }
    assert!(accepted > 100, "mutations are too wild to test anything: {accepted}");
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}
