//! A fleet moved from twemproxy keeps its keys: with every hash function and distribution that nutcracker has, keys go
//! to the server Keyway sends them to.
//!
//! The servers behind both know nothing and remember what they were asked for. All keys go through nutcracker, and each
//! is compared with the placement that the pool's own configuration makes; the first of them also go through a running
//! Keyway with that configuration. Distribution random is left out: there is nothing in it to agree about.

use crate::support::{Client, Folder, Keyway, Process, Scripted, any_port, eventually, full_file};
use keyway::config::{Config, Overrides};
use keyway_policies::{KeyHash, Placement};
use std::net::SocketAddr;
use std::process::Command;

const KEYS: usize = 100_000;
/// So many of them go through a running Keyway too.
const KEYS_THROUGH_KEYWAY: usize = 1000;
const KEYS_PER_GET: usize = 100;
/// So many gets are asked before the first answer is read.
const GETS_AT_ONCE: usize = 50;

/// The names and weights of a fleet with a history. twemproxy sorts by length, then by bytes: not the order here.
const NAMED: [(&str, u32); 5] = [("cache-10", 1), ("cache-9", 3), ("b", 7), ("alpha", 2), ("cache-1", 1)];

/// A pool in both files.
struct Case {
    name: String,
    /// In nutcracker.yml, from the pool's name on.
    of_twemproxy: String,
    /// In router.yaml, the pool's map.
    of_keyway: String,
    port: u16,
}

fn case(hash: KeyHash, distribution: &str, is_named: bool, servers: &[Scripted]) -> Case {
    let (function, port) = (hash.name(), any_port([127, 0, 0, 1].into()));
    let name = format!("{function}-{distribution}-{}", if is_named { "named" } else { "plain" });
    let tag = if is_named { "  hash_tag: \"{}\"\n" } else { "" };
    let mut of_twemproxy = format!(
        "{name}:\n  listen: 127.0.0.1:{port}\n  hash: {function}\n  distribution: {distribution}\n{tag}  \
         timeout: 30000\n  servers:\n"
    );
    let mut of_keyway = Vec::new();
    for (server, (label, weight)) in servers.iter().zip(NAMED) {
        let address = server.address();
        if is_named {
            of_twemproxy += &format!("    - {address}:{weight} {label}\n");
            of_keyway.push(format!("{{address: \"{address}\", name: {label}, weight: {weight}}}"));
        } else {
            of_twemproxy += &format!("    - {address}:1\n");
            of_keyway.push(format!("\"{address}\""));
        }
    }
    let tag = if is_named { ", tag: \"{}\"" } else { "" };
    let servers = of_keyway.join(", ");
    let of_keyway =
        format!("{{servers: [{servers}], hash: {{function: {function}, distribution: {distribution}{tag}}}}}");
    Case { name, of_twemproxy, of_keyway, port }
}

/// Keys of every kind: readable ones that differ little, tags that are whole, empty, open and turned round, and any
/// bytes a key may have, up to its longest.
fn keys() -> Vec<Vec<u8>> {
    let mut state = 7_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let key = |number: usize| match number % 8 {
        0 => format!("key:{number}").into_bytes(),
        1 => format!("user:{{{number}}}:name").into_bytes(),
        2 => format!("{{}}{number}").into_bytes(),
        3 => format!("a}}{number}{{open").into_bytes(),
        _ => {
            let mut key = format!("{number}").into_bytes();
            let length = if number % 64 == 4 { 250 } else { key.len() as u64 + random(30) };
            while (key.len() as u64) < length {
                // Everything but spaces, control characters and 0x7f.
                key.push(b'!' + random(222) as u8);
                if key.last() == Some(&0x7f) {
                    key.pop();
                }
            }
            key
        }
    };
    (0..KEYS).map(key).collect()
}

/// Asks for the keys in gets of many, and sees each get missed.
fn ask(client: &mut Client, keys: &[Vec<u8>]) {
    for batch in keys.chunks(KEYS_PER_GET * GETS_AT_ONCE) {
        let mut frames = Vec::new();
        let gets = batch.chunks(KEYS_PER_GET);
        for get in gets.clone() {
            frames.extend_from_slice(b"get ");
            frames.extend_from_slice(&get.join(&b' '));
            frames.extend_from_slice(b"\r\n");
        }
        client.send(frames);
        for _ in gets {
            assert_eq!(client.reply(), b"END\r\n");
        }
    }
}

/// Every key that was asked for was asked for at its home, once.
fn check_homes(through: &str, case: &Case, placement: &Placement, servers: &[Scripted], keys: &[Vec<u8>]) {
    let mut heard = Vec::with_capacity(keys.len());
    for (at, server) in servers.iter().enumerate() {
        for line in server.heard() {
            let line = line.strip_prefix(b"get ").and_then(|rest| rest.strip_suffix(b"\r\n"));
            let line = line.expect("a server hears gets").trim_ascii_end();
            for key in line.split(|byte| *byte == b' ') {
                let home = placement.home(key);
                let shown = String::from_utf8_lossy(key);
                assert_eq!(at, home, "{}: {shown:?} went to {at} through {through}", case.name);
                heard.push(key.to_vec());
            }
        }
    }
    let mut wanted = keys.to_vec();
    wanted.sort_unstable();
    heard.sort_unstable();
    assert!(heard == wanted, "{}: {} keys of {} through {through}", case.name, heard.len(), wanted.len());
}

#[test]
fn keys_go_to_the_same_servers_as_through_nutcracker() {
    let servers: Vec<Scripted> = NAMED.iter().map(|_| Scripted::start("END\r\n")).collect();
    let mut cases = Vec::new();
    for distribution in ["ketama", "modula"] {
        cases.extend(KeyHash::ALL.map(|function| case(function, distribution, true, &servers)));
        cases.push(case(KeyHash::Fnv1a64, distribution, false, &servers));
    }
    let folder = Folder::new();
    let of_twemproxy: String = cases.iter().map(|case| case.of_twemproxy.as_str()).collect();
    let file = folder.write("nutcracker.yml", of_twemproxy);
    let stats = any_port([127, 0, 0, 1].into()).to_string();
    let mut command = Command::new("nutcracker");
    command.args(["-s", &stats, "-a", "127.0.0.1", "-c"]).arg(&file);
    let _nutcracker = Process::start(&mut command, folder.path().join("nutcracker"));

    let keys = keys();
    for case in &cases {
        let yaml = full_file(&format!("pools: {{web: {}}}\nroute: PoolRoute|web", case.of_keyway));
        let config = Config::parse(yaml.as_bytes(), &case.name, &Overrides::default());
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let placement = Placement::new(&config.pools[0].placement()).expect("a good placement");
        let address = SocketAddr::from(([127, 0, 0, 1], case.port));
        let mut client = eventually("nutcracker listens", || Client::try_connect(address).ok());
        ask(&mut client, &keys);
        check_homes("nutcracker", case, &placement, &servers, &keys);
        let keyway = Keyway::start(&yaml);
        ask(&mut keyway.client(), &keys[..KEYS_THROUGH_KEYWAY]);
        check_homes("Keyway", case, &placement, &servers, &keys[..KEYS_THROUGH_KEYWAY]);
    }
}
