//! The async log against real memcached: what an earlier process left is sent, quarantine lets no stale value through, and
//! `keyway replay` brings mcrouter's spool home.

use crate::support::{Folder, Keyway, Memcached, eventually, full_file};
use std::path::Path;
use std::process::{Command, Output};

/// Deletes of these keys that a server missed, in our files.
fn missed(folder: &Folder, server: &Memcached, keys: impl Iterator<Item = String>) {
    let address = server.socket();
    let line = |key| {
        format!(
            "[\"AS2.0\",1.5,\"C\",{{\"h\":\"[{}]:{}\",\"p\":\"web\",\"k\":\"{key}\"}}]\n",
            address.ip(),
            address.port()
        )
    };
    let within = folder.path().join(server.address().replace(':', "%3A"));
    std::fs::create_dir_all(&within).expect("a folder");
    std::fs::write(within.join("0000000001.log"), keys.map(line).collect::<String>()).expect("a file");
}

fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|at| format!("key-{at}"))
}

fn configuration(server: &Memcached, folder: &Folder, rest: &str) -> String {
    full_file(&format!(
        "pools: {{web: {{servers: [\"{}\"]}}}}\nshards: 1\nroute: PoolRoute|web\nhealth: {{interval_ms: 200}}\n\
         async_log: {{directory: \"{}\"{rest}}}",
        server.address(),
        folder.path().display()
    ))
}

fn series(name: &str, server: &Memcached) -> String {
    format!("{name}{{server=\"{}\"}}", server.address())
}

/// The verb, run to its end.
fn replay(arguments: &[&str], path: &Path) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
    let Output { status, stdout, stderr } = command.arg("replay").args(arguments).arg(path).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("a code"), text(stdout), text(stderr))
}

#[test]
fn what_an_earlier_process_left_is_sent() {
    let (server, folder) = (Memcached::start(), Folder::new());
    let mut direct = server.client();
    for key in keys(200) {
        direct.set(&key, "stale");
    }
    direct.set("another", "fresh");
    missed(&folder, &server, keys(200));
    let mut keyway = Keyway::start(&configuration(&server, &folder, ""));
    keyway.metric_becomes(&series("keyway_async_log_replayed_total", &server), 200.0);
    keyway.metric_becomes(&series("keyway_async_log_bytes", &server), 0.0);
    for key in keys(200) {
        assert_eq!(direct.get(&key), None);
    }
    assert_eq!(direct.get("another").as_deref(), Some(&b"fresh"[..]));
    keyway.signal("TERM");
    assert_eq!(keyway.wait(), 0);
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).expect("it is there").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["keyway.lock"]);
}

#[test]
fn quarantine_lets_no_stale_value_through() {
    let (server, folder) = (Memcached::start(), Folder::new());
    let mut direct = server.client();
    for key in keys(300) {
        direct.set(&key, "stale");
    }
    direct.set("another", "fresh");
    missed(&folder, &server, keys(300));
    server.freeze();
    let keyway = Keyway::start(&configuration(&server, &folder, ", quarantine: true"));
    let mut client = keyway.client();
    assert!(client.ask("get key-299\r\n").starts_with("SERVER_ERROR"));
    keyway.metric_becomes(&series("keyway_server_quarantined", &server), 1.0);
    server.thaw();
    // Whatever is answered meanwhile, it is not what the deletes were for.
    let answer = eventually("it is used again", || {
        let answer = client.ask("get key-299\r\n");
        (!answer.starts_with("SERVER_ERROR")).then_some(answer)
    });
    assert_eq!(answer, "END\r\n");
    assert_eq!(client.get("another").as_deref(), Some(&b"fresh"[..]));
    for key in keys(300) {
        assert_eq!(client.get(&key), None);
    }
    keyway.metric_becomes(&series("keyway_server_quarantined", &server), 0.0);
}

#[test]
fn mcrouters_spool_is_brought_home() {
    let (meant, other, folder) = (Memcached::start(), Memcached::start(), Folder::new());
    let hour = folder.path().join("20260101T01-1767229200");
    std::fs::create_dir_all(&hour).expect("a folder");
    let address = meant.socket();
    let lines: String = keys(100)
        .map(|key| format!("[\"AS1.0\",1.5,\"C\",[\"{}\",{},\"delete {key}\\r\\n\"]]\n", address.ip(), address.port()))
        .collect();
    std::fs::write(hour.join("20260101T010000-1767229200-mcrouter-0-t17-0x7f00"), lines).expect("a file");
    for server in [&meant, &other] {
        let mut direct = server.client();
        keys(100).for_each(|key| direct.set(&key, "stale"));
    }
    let (code, out, error) = replay(&["--dry-run"], folder.path());
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(out, format!("1 files, 100 entries\n{}: 100 to be replayed\n", meant.address()));
    assert!(keys(100).all(|key| meant.client().get(&key).is_some()));

    let (code, out, error) = replay(&[], folder.path());
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(out, format!("1 files, 100 entries\n{}: 100 replayed\n", meant.address()));
    assert!(keys(100).all(|key| meant.client().get(&key).is_none()));
    assert!(keys(100).all(|key| other.client().get(&key).is_some()));

    let (code, out, _) = replay(&["--to", &other.address(), "--rate=100000", "--remove"], folder.path());
    assert_eq!(code, 0, "{out}");
    assert!(keys(100).all(|key| other.client().get(&key).is_none()));
    assert!(!hour.exists());
}

#[test]
fn replay_says_what_it_could_not_do() {
    let (mut server, folder) = (Memcached::start(), Folder::new());
    missed(&folder, &server, keys(3));
    server.kill();
    let (code, out, _) = replay(&[], folder.path());
    assert_eq!(code, 1);
    assert!(out.contains(": 0 replayed, 3 failed: no connection: "), "{out}");

    let keyway = Keyway::start(&configuration(&server, &folder, ""));
    let (code, out, error) = replay(&[], folder.path());
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains(&format!("is in use by process {} ", keyway.id())), "{error}");
}
