//! Clients as people use them, straight and over servers that share the keys.

use crate::support::{Folder, Keyway, Memcached, full_file, gomcrouter_file, output_of, pool_file};

/// Debian's python3-pymemcache belongs to this one.
const PYTHON: &str = "/usr/bin/python3";

fn python(script: &str, keyway: &Keyway) -> String {
    let folder = Folder::new();
    let path = folder.write("test.py", script);
    output_of(PYTHON, [path.to_string_lossy().into_owned(), keyway.socket().port().to_string()])
}

/// Everything pymemcache does, against one router.
const PYMEMCACHE: &str = r#"
import sys, threading
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.retrying import RetryingClient

address = ("127.0.0.1", int(sys.argv[1]))
c = Client(address, timeout=20, connect_timeout=20)

assert c.set("a", "1", noreply=False)
assert c.get("a") == b"1"
assert c.get("none") is None
assert c.get("none", "default") == "default"
assert c.set("quiet", "2", noreply=True)
assert c.get("quiet") == b"2"
value, cas = c.gets("a")
assert value == b"1"
assert c.cas("a", "3", cas, noreply=False) is True
assert c.cas("a", "4", cas, noreply=False) is False
assert c.cas("gone", "4", cas, noreply=False) is None
assert c.get("a") == b"3"

many = {"many-%d" % n: ("value-%d" % n).encode() * (n % 50 + 1) for n in range(500)}
assert c.set_many(many, noreply=False) == []
assert c.get_many(list(many) + ["none-%d" % n for n in range(100)]) == many
assert {k: v for k, (v, _) in c.gets_many(list(many)).items()} == many
assert c.set_many(many, noreply=True) == []
assert c.get_many(list(many)) == many
assert c.delete_many(list(many)[:250], noreply=False)
assert c.get_many(list(many)) == dict(list(many.items())[250:])

assert c.add("b", "1", noreply=False) is True
assert c.add("b", "2", noreply=False) is False
assert c.replace("b", "10", noreply=False) is True
assert c.replace("none", "10", noreply=False) is False
assert c.append("b", "0", noreply=False) and c.prepend("b", "5", noreply=False)
assert c.get("b") == b"5100"
assert c.incr("b", 5) == 5105
assert c.decr("b", 105) == 5000
assert c.incr("none", 1) is None
assert c.touch("b", 1000, noreply=False) is True
assert c.touch("none", 1000, noreply=False) is False
if sys.version_info >= (3,) and hasattr(c, "gat"):
    assert c.gat("b", 1000) == b"5000"
assert c.delete("b", noreply=False) is True
assert c.delete("b", noreply=False) is False
assert c.delete("a", noreply=True)
assert c.get("a") is None

assert b"keyway" in c.version()
assert int(c.stats()[b"pid"]) > 0
big = b"x" * 1000000
assert c.set("big", big, noreply=False) and c.get("big") == big
try:
    c.get("k" * 251)
    raise AssertionError("a key of 251 bytes")
except Exception as error:
    assert "too long" in str(error)

pool = PooledClient(address, max_pool_size=8, timeout=20, connect_timeout=20)
failed = []
def work(number):
    try:
        for turn in range(200):
            key, value = "t-%d-%d" % (number, turn), ("v-%d-%d" % (number, turn)).encode()
            assert pool.set(key, value, noreply=False)
            assert pool.get(key) == value
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
assert not failed, failed
assert RetryingClient(c, attempts=2).get("t-0-0") == b"v-0-0"
assert c.flush_all(noreply=False)
c.quit()
print("done")
"#;

#[test]
fn pymemcache_over_one_server() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_file(&[&server], "PoolRoute|web", ""));
    assert_eq!(python(PYMEMCACHE, &keyway), "done\n");
    assert_eq!(server.stat("cmd_flush"), 1);
}

#[test]
fn pymemcache_over_three_servers() {
    let servers = [Memcached::start(), Memcached::start(), Memcached::start()];
    let addresses: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    for hash in ["{function: ch3}", "{function: fnv1a_64, distribution: ketama}"] {
        let keyway = Keyway::start(&full_file(&format!(
            "pools: {{web: {{servers: [{}], hash: {hash}}}}}\nroute: PoolRoute|web",
            addresses.join(", ")
        )));
        assert_eq!(python(PYMEMCACHE, &keyway), "done\n", "{hash}");
    }
    for server in &servers {
        assert!(server.stat("cmd_set") > 500, "every server had its part");
    }
}

#[test]
fn a_bare_python_socket() {
    let servers = [Memcached::start(), Memcached::start()];
    let keyway =
        Keyway::with(&gomcrouter_file(&[&servers[0], &servers[1]]), &["-l", "tcp://127.0.0.1:0", "-L", "127.0.0.1:0"]);
    let script = r#"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
f = s.makefile("rb")
s.sendall(b"set k 5 0 3\r\nabc\r\nget k\r\nincr k 1\r\nversion\r\n")
assert f.readline() == b"STORED\r\n"
assert f.readline() == b"VALUE k 5 3\r\n"
assert f.readline() == b"abc\r\n"
assert f.readline() == b"END\r\n"
assert f.readline() == b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
assert f.readline().startswith(b"VERSION ")
s.sendall(b"quit\r\n")
assert f.read() == b""
print("done")
"#;
    assert_eq!(python(script, &keyway), "done\n");
}

#[test]
fn libmemcacheds_tools() {
    let servers = [Memcached::start(), Memcached::start(), Memcached::start()];
    let addresses: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let keyway = Keyway::start(&full_file(&format!(
        "pools: {{web: {{servers: [{}]}}}}\nroute: PoolRoute|web",
        addresses.join(", ")
    )));
    let at = format!("--servers=127.0.0.1:{}", keyway.socket().port());
    let run = |tool: &str, arguments: &[&str]| output_of(tool, [&[at.as_str()], arguments].concat());
    run("memcping", &[]);
    let folder = Folder::new();
    let value = "a value of a file\n".repeat(1000);
    let path = folder.write("kept", &value);
    run("memccp", &[&path.to_string_lossy()]);
    assert!(run("memccat", &["kept"]).starts_with(&value));
    run("memcexist", &["kept"]);
    run("memctouch", &["--expire=1000", "kept"]);
    let stats = run("memcstat", &[]);
    assert!(stats.contains("curr_connections"), "{stats}");
    run("memcrm", &["kept"]);
    assert_eq!(keyway.client().get("kept"), None);
    // Its load generator checks for itself.
    run("memcslap", &["--concurrency=4", "--execute-number=500", "--test=set"]);
    run("memcslap", &["--concurrency=4", "--execute-number=200", "--test=mget"]);
    run("memcflush", &[]);
}
