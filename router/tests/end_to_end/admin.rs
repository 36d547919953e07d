//! What a running router says of itself over the wire: mcrouter's `get __mcrouter__.<command>` and `stats servers`.

use crate::support::{Client, Keyway, Memcached, eventually, full_file, pool_file};

/// What a get of the command brings; its key is taken off.
fn asked(client: &mut Client, command: &str) -> String {
    let value = client.get(&format!("__mcrouter__.{command}")).expect("the router answers");
    String::from_utf8(value).expect("text")
}

/// The value behind `STAT <name> `.
fn stat(client: &mut Client, kind: &str, name: &str) -> Option<String> {
    let stats = client.ask(format!("stats {kind}\r\n"));
    let lines = stats.strip_suffix("END\r\n").expect("END at the end");
    lines.lines().find_map(|line| Some(line.strip_prefix(&format!("STAT {name} "))?.to_owned()))
}

#[test]
fn the_router_says_what_it_is_and_does() {
    let server = Memcached::start();
    let file = pool_file(&[&server], "PoolRoute|web", "limits: {clients: 77}");
    let keyway = Keyway::start(&file);
    let mut client = keyway.client();
    assert_eq!(asked(&mut client, "version"), format!("keyway {}", env!("CARGO_PKG_VERSION")));
    assert!(asked(&mut client, "config_file").ends_with("router.yaml"));
    assert!(asked(&mut client, "config_age").parse::<u64>().is_ok());
    assert_eq!(asked(&mut client, "options(limits.clients)"), "77");
    assert!(asked(&mut client, "options").contains("\nlimits.clients 77\n"));
    assert!(asked(&mut client, "preprocessed_config").contains("\"clients\": 77"));
    assert_eq!(asked(&mut client, "hostid"), asked(&mut client, "hostid"));
    let handle = format!("host|pool=web|id=0|ap={}:ascii:plain:notcompressed|timeout=1000ms", server.address());
    assert_eq!(asked(&mut client, "pools"), format!("{{\n  \"web\": [\n    \"{handle}\"\n  ]\n}}"));
    assert_eq!(asked(&mut client, "route_handles(set,k)"), format!("root\n PoolRoute\n  {handle}"));
    assert!(asked(&mut client, "nonsense").starts_with("ERROR: unknown command: nonsense (there are: version, "));
    // What was read: another file has another digest.
    let digest = asked(&mut client, "config_md5_digest");
    keyway.rewrite(&file.replace("77", "78"));
    keyway.signal("HUP");
    eventually("the new configuration", || (asked(&mut client, "options(limits.clients)") == "78").then_some(()));
    let other = asked(&mut client, "config_md5_digest");
    assert!(digest.len() == 32 && other.len() == 32 && digest != other, "{digest} {other}");
}

#[test]
fn such_keys_are_answered_among_others_and_never_reach_a_server() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_file(&[&server], "PoolRoute|web", ""));
    let mut client = keyway.client();
    client.set("k", "v");
    let version = format!("keyway {}", env!("CARGO_PKG_VERSION"));
    let item = format!("VALUE __mcrouter__.version 0 {}\r\n{version}\r\n", version.len());
    assert_eq!(client.ask("get __mcrouter__.version\r\n"), format!("{item}END\r\n"));
    let with_cas = item.replacen("\r\n", " 0\r\n", 1);
    assert_eq!(client.ask("gets __mcrouter__.version\r\n"), format!("{with_cas}END\r\n"));
    let both = client.ask("get none k __mcrouter__.version\r\n");
    assert!(both.contains(&item) && both.contains("VALUE k 0 1\r\nv\r\n") && both.ends_with("\r\nEND\r\n"), "{both}");
    assert_eq!(both.matches("END").count(), 1, "{both}");
    // In its place in a pipeline.
    client.send("get k\r\nget __mcrouter__.version\r\nget k\r\n");
    let replies: Vec<Vec<u8>> = (0..3).map(|_| client.reply()).collect();
    assert_eq!(replies[1], format!("{item}END\r\n").into_bytes());
    assert_eq!((&replies[0], &replies[2]), (&b"VALUE k 0 1\r\nv\r\nEND\r\n".to_vec(), &replies[0]));
    for request in
        ["set __mcrouter__.version 0 0 1\r\nv\r\n", "delete __mcrouter__.version\r\n", "gat 0 __mcrouter__.x\r\n"]
    {
        let refused = client.ask(request);
        assert!(refused.starts_with("CLIENT_ERROR keyway: keys beginning with __mcrouter__. "), "{request}: {refused}");
    }
    client.send("delete __mcrouter__.version noreply\r\nget k\r\n");
    assert_eq!(client.reply(), replies[0]);
    // More than a turn has room for: all are answered, the last ones with a refusal.
    let many = client.ask(format!("get{}\r\n", " __mcrouter__.version".repeat(200)));
    assert_eq!(many.matches("VALUE __mcrouter__.version ").count(), 200);
    assert!(many.contains("ERROR: too many of these at once"));
    let stats = server.client().ask("stats\r\n");
    assert!(stats.contains("STAT cmd_set 1\r\n") && stats.contains("STAT cmd_touch 0\r\n"), "{stats}");
}

#[test]
fn the_route_goes_by_health() {
    let (mut first, second) = (Memcached::start(), Memcached::start());
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [\"{}\", \"{}\"]}}}}\nroute: MissFailoverRoute\nshards: 1\n\
         health: {{interval_ms: 200, timeout_ms: 1000}}",
        first.address(),
        second.address()
    )));
    let mut client = keyway.client();
    let host = |server: &Memcached| server.address().to_string();
    assert_eq!(asked(&mut client, "route(get,k)"), host(&first));
    assert!(asked(&mut client, "route_handles(get,k)").ends_with("|used=later"));
    first.kill();
    eventually("it is down here", || (asked(&mut client, "route(get,a,b)") == host(&second)).then_some(()));
    let tree = asked(&mut client, "route_handles(get,k)");
    assert!(tree.contains("|used=no, down\n") && tree.contains(&host(&second)), "{tree}");
}

#[test]
fn statistics_of_each_server() {
    let (mut first, second) = (Memcached::start(), Memcached::start());
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [\"{}\", \"{}\"], timeout_ms: 900}}}}\nroute: AllFastestRoute\nshards: 2\n\
         health: {{interval_ms: 200, timeout_ms: 1000}}",
        first.address(),
        second.address()
    )));
    let mut client = keyway.client();
    client.set("k", "v");
    assert_eq!(client.get("k").as_deref(), Some(&b"v"[..]));
    let name = |server: &Memcached| format!("{}:ascii:plain:notcompressed-900", server.address());
    let good = eventually("both replies are counted", || {
        stat(&mut client, "servers", &name(&first)).filter(|said| said.contains("; found:1 stored:1"))
    });
    assert!(good.starts_with("avg_latency_us:") && good.contains(" pending_reqs:0 inflight_reqs:0 up:"), "{good}");
    assert!(!good.contains("tko") && !good.starts_with("avg_latency_us:0.000"), "{good}");
    eventually("nobody is doubtful", || (client.ask("stats suspect_servers\r\n") == "END\r\n").then_some(()));
    first.kill();
    eventually("it is listed as down", || {
        stat(&mut client, "servers", &name(&first)).filter(|said| said.contains("_tko;") && said.contains(" down:"))
    });
    let suspect = eventually("it is a suspect", || stat(&mut client, "suspect_servers", &first.address().to_string()));
    let failures = suspect.strip_prefix("status:tko num_failures:").expect("mcrouter's words");
    assert!(failures.parse::<u64>().is_ok_and(|failures| failures > 0), "{suspect}");
    assert_eq!(stat(&mut client, "suspect_servers", &second.address().to_string()), None);
    assert_eq!(client.ask("stats slabs\r\n"), "END\r\n");
    assert!(client.ask("stats all\r\n").contains("STAT cmd_get "));
}

#[test]
fn switched_off_they_are_keys_like_others() {
    let server = Memcached::start();
    let file = full_file(&format!("pools: {{web: {{servers: [\"{}\"]}}}}\nroute: PoolRoute|web", server.address()));
    let keyway = Keyway::start(&file.replace("admin: {address: off}", "admin: {address: off, keys: false}"));
    let mut client = keyway.client();
    assert_eq!(client.get("__mcrouter__.version"), None);
    client.set("__mcrouter__.version", "mine");
    assert_eq!(client.get("__mcrouter__.version").as_deref(), Some(&b"mine"[..]));
    assert_eq!(server.client().get("__mcrouter__.version").as_deref(), Some(&b"mine"[..]));
}
