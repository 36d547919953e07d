//! Reloading: asked for and noticed, under load, with requests in flight, and the last good configuration at the start.
//!
//! Files that are to be noticed say how: with `poll_ms` at an hour only the kernel can have told.

use crate::support::{Client, Folder, Keyway, Load, Memcached, eventually, full_file, output_of, pool_file, shown};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Only SIGHUP reloads.
const ASKED: &str = "reload: {watch: off}";
/// Only the kernel tells.
const TOLD: &str = "reload: {delay_ms: 50, poll_ms: 3600000}";
/// Only comparing finds out.
const COMPARED: &str = "reload: {watch: poll, delay_ms: 20, poll_ms: 20}";

fn pool_of(server: &Memcached, rest: &str) -> String {
    pool_file(&[server], "PoolRoute|web", rest)
}

const RESIDENT: &str = "process_resident_memory_bytes";

#[test]
fn a_hundred_reloads_under_load_fail_no_request_and_keep_no_memory() {
    let servers = [Memcached::start(), Memcached::start(), Memcached::start()];
    let [one, two, three] = servers.each_ref().map(Memcached::address);
    // Pools come and go, servers change their order, weight and timeouts, the tree its routes.
    let file = |turn: usize| {
        let web = match turn % 4 {
            0 => format!("servers: [\"{one}\", \"{two}\"]"),
            1 => format!(
                "servers: [{{address: \"{two}\", weight: {}}}, \"{one}\", \"{three}\"], hash: {{distribution: ketama}}",
                1 + turn % 3
            ),
            2 => format!("servers: [\"{three}\"], timeout_ms: {}", 5000 + turn % 3),
            _ => format!("servers: [\"{two}\", \"{one}\"], on_down: rehash"),
        };
        let (pools, routes) = match turn % 3 {
            0 => (String::new(), "route: PoolRoute|web".to_owned()),
            1 => (
                format!("  spare: {{servers: [\"{one}\", \"{three}\"], timeout_ms: 5000}}\n"),
                "routes:\n  main: {type: MissFailoverRoute, children: [PoolRoute|web, Pool|spare]}\n".to_owned(),
            ),
            _ => (
                format!("  before: {{servers: [\"{two}\"]}}\n"),
                "routes:\n  writes: AllFastestRoute|Pool|web\n  main: {type: OperationSelectorRoute, \
                 operation_policies: {set: writes}, default_policy: PoolRoute|before}\n"
                    .to_owned(),
            ),
        };
        full_file(&format!("pools:\n{pools}  web: {{{web}}}\n{routes}\nshards: 2\n{ASKED}"))
    };
    let keyway = Keyway::start(&file(0));
    let load = Load::start(keyway.socket(), 8);
    let reload = |turn: usize| {
        load.goes_on(200);
        keyway.rewrite(&file(turn));
        keyway.signal("HUP");
        keyway.logged(&format!("configuration {} in use", turn + 1));
    };
    (1..=12).for_each(reload);
    let resident = || keyway.metrics().find(RESIDENT).expect("resident memory");
    let early = resident();
    (13..=100).for_each(reload);
    load.goes_on(1000);
    let late = resident();
    let tally = load.finish();
    assert_eq!((tally.errors, tally.unanswered), (0, 0), "{tally:?}");
    keyway.metric_becomes("keyway_config_generation", 101.0);
    let metrics = keyway.metrics();
    assert_eq!(metrics.find("keyway_config_reloads_total{result=\"success\"}"), Some(100.0));
    assert_eq!(metrics.sum("keyway_request_errors_total"), 0.0);
    assert!(late < early + f64::from(2 << 20), "{early} bytes after 12 reloads, {late} after 100");
}

#[test]
fn a_file_with_faults_changes_nothing() {
    let server = Memcached::start();
    let keyway = Keyway::start(&pool_of(&server, ASKED));
    let mut client = keyway.client();
    client.set("k", "v");
    let faulty = pool_of(&server, "reload: {watch: off}\nshards: 1\nlimits:\n  clients: lots\n  clientz: 1");
    keyway.rewrite(&faulty);
    keyway.signal("HUP");
    let line = |words: &str| faulty.lines().position(|line| line.contains(words)).expect("a line") + 1;
    for place in [format!("router.yaml:{}:", line("lots")), format!("router.yaml:{}:", line("clientz"))] {
        keyway.logged(&place);
    }
    keyway.logged("the old one stays in use");
    assert_eq!(client.get("k").as_deref(), Some(&b"v"[..]));
    keyway.client().set("new", "client");
    // What only a start can do is refused in words.
    keyway.rewrite(&pool_of(&server, ASKED).replace("tcp://127.0.0.1:0", "tcp://127.0.0.1:1"));
    keyway.signal("HUP");
    keyway.logged("the listeners changed, which takes a restart");
    keyway.rewrite(&pool_of(&server, ASKED));
    keyway.signal("HUP");
    keyway.logged("configuration 2 in use");
    assert_eq!(client.get("k").as_deref(), Some(&b"v"[..]));
    keyway.metric_becomes("keyway_config_reloads_total{result=\"failure\"}", 2.0);
}

#[test]
fn what_changed_is_said_and_how_many_keys_move() {
    let (first, second) = (Memcached::start(), Memcached::start());
    let keyway = Keyway::start(&pool_of(&first, ASKED));
    keyway.rewrite(&pool_file(&[&first, &second], "PoolRoute|web", &format!("{ASKED}\nshards: 1")));
    keyway.signal("HUP");
    keyway.logged(&format!("configuration 2: pool web: server {} added", second.address()));
    keyway.logged("configuration 2: takes a restart, the old stays in use: shards");
    let said = keyway.logged("configuration 2: keys that change their server: route main ");
    let share = said.split("route main ").nth(1).and_then(|rest| rest.split(['%', ' ']).next());
    let share: f64 = share.and_then(|share| share.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!((45.0..55.0).contains(&share), "{said}");
    keyway.signal("HUP");
    keyway.logged("configuration 3: nothing changed");
    keyway.logged("configuration 3: no key changes its server");
}

#[test]
fn servers_that_stay_keep_their_connections() {
    let (stays, goes) = (Memcached::start(), Memcached::start());
    let both = pool_file(&[&goes, &stays], "AllFastestRoute|Pool|web", &format!("shards: 1\n{ASKED}"));
    let alone = pool_of(&stays, &format!("shards: 1\n{ASKED}")).replace("web", "renamed");
    let keyway = Keyway::start(&both);
    let mut client = keyway.client();
    for turn in 0..6 {
        client.set("k", format!("{turn}"));
        keyway.rewrite(if turn % 2 == 0 { &alone } else { &both });
        keyway.signal("HUP");
        keyway.logged(&format!("configuration {} in use", turn + 2));
    }
    client.set("k", "last");
    let connects = |server: &Memcached| format!("keyway_upstream_connects_total{{server=\"{}\"}}", server.address());
    // Once in each configuration that has it.
    keyway.metric_becomes(&connects(&goes), 4.0);
    assert_eq!(keyway.metrics().find(&connects(&stays)), Some(1.0));
}

#[test]
fn a_server_that_leaves_answers_what_it_was_asked() {
    let (leaves, stays) = (Memcached::start(), Memcached::start());
    leaves.client().set("k", "of the server that leaves");
    let file = |server: &Memcached, more: &str| {
        let address = server.address();
        full_file(&format!(
            "pools: {{web: {{servers: [\"{address}\"], timeout_ms: 600000, deadline_ms: 600000}}{more}}}\n\
             health: {{interval_ms: 600000}}\nroute: PoolRoute|web\n{ASKED}"
        ))
    };
    let keyway = Keyway::start(&file(&leaves, ""));
    let mut client = keyway.client();
    client.set("other", "x");
    let connected = leaves.stat("curr_connections");
    leaves.freeze();
    let mut waiting: Vec<Client> = (0..4).map(|_| keyway.client()).collect();
    for client in &mut waiting {
        client.send("get k\r\nget k\r\n");
    }
    keyway.metric_becomes("keyway_requests_in_flight", 8.0);
    // Several in a row, each with requests in flight on tables before it.
    for turn in 0..5 {
        let extra = format!(", more{turn}: {{servers: [\"{}\"]}}", stays.address());
        keyway.rewrite(&file(&stays, &extra));
        keyway.signal("HUP");
        keyway.logged(&format!("configuration {} in use", turn + 2));
        client.set("other", format!("{turn}"));
    }
    assert_eq!(stays.client().get("other").as_deref(), Some(&b"4"[..]));
    leaves.thaw();
    for client in &mut waiting {
        for _ in 0..2 {
            assert_eq!(shown(&client.reply()), "VALUE k 0 25\r\nof the server that leaves\r\nEND\r\n");
        }
        client.set("k", "of the server that stays");
    }
    assert_eq!(leaves.client().get("k").as_deref(), Some(&b"of the server that leaves"[..]));
    // Its connections end with the last request on a table that has it.
    eventually("the server that left is let go", || (leaves.stat("curr_connections") < connected).then_some(()));
}

// --- noticing ---

/// Waits until a configuration with this number of servers in the pool is in use.
fn servers_become(keyway: &Keyway, servers: usize) {
    keyway.metric_becomes("keyway_pool_servers{pool=\"web\"}", servers as f64);
}

fn generation(keyway: &Keyway) -> Option<f64> {
    keyway.metrics().find("keyway_config_generation")
}

#[test]
fn writes_in_place_renames_and_touches_are_told_apart() {
    let (first, second) = (Memcached::start(), Memcached::start());
    let one = pool_of(&first, TOLD);
    let two = pool_file(&[&first, &second], "PoolRoute|web", TOLD);
    let folder = Folder::new();
    let file = folder.write("router.yaml", &one);
    let keyway = Keyway::of(&file, &["--log-level", "debug"]);
    let mut client = keyway.client();
    client.set("k", "v");
    keyway.logged("router.yaml is watched");
    // An editor writes beside it and renames over.
    fs::rename(folder.write("router.yaml.swp", &two), &file).expect("renamed");
    servers_become(&keyway, 2);
    // The new file, in place.
    folder.write("router.yaml", &one);
    servers_become(&keyway, 1);
    // Touched, and written with what it holds already: looked at, and nothing more.
    let looked = || keyway.log().matches("router.yaml holds what it held").count();
    let before = looked();
    folder.write("router.yaml", &one);
    eventually("it is looked at", || (looked() > before).then_some(()));
    assert_eq!(generation(&keyway), Some(3.0));
    // Removed for a while: the old one stays; then it is there again.
    fs::remove_file(&file).expect("removed");
    keyway.logged("can't be read: No such file");
    keyway.metric_becomes("keyway_config_file_good", 0.0);
    client.set("k", "still served");
    folder.write("router.yaml", &two);
    servers_become(&keyway, 2);
    keyway.metric_becomes("keyway_config_file_good", 1.0);
    assert_eq!(generation(&keyway), Some(4.0));
    assert_eq!(keyway.metrics().find("keyway_config_reloads_total{result=\"failure\"}"), Some(1.0));
}

/// What the kubelet does for a ConfigMap: a new folder, and `..data` swapped to it by a rename.
fn publish(volume: &Path, version: &str, text: &str) {
    fs::create_dir(volume.join(version)).expect("a folder");
    fs::write(volume.join(version).join("router.yaml"), text).expect("a file");
    symlink(version, volume.join("..data_tmp")).expect("a link");
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("renamed");
}

#[test]
fn a_configmap_that_is_swapped_under_load_is_noticed() {
    let (first, second) = (Memcached::start(), Memcached::start());
    let one = pool_of(&first, TOLD);
    let two = pool_file(&[&first, &second], "PoolRoute|web", TOLD);
    let folder = Folder::new();
    publish(folder.path(), "..v0", &one);
    symlink("..data/router.yaml", folder.path().join("router.yaml")).expect("a link");
    let keyway = Keyway::of(&folder.path().join("router.yaml"), &[]);
    let load = Load::start(keyway.socket(), 4);
    keyway.logged("router.yaml is watched");
    for turn in 1..=6 {
        load.goes_on(200);
        publish(folder.path(), &format!("..v{turn}"), if turn % 2 == 1 { &two } else { &one });
        // The old version goes at once, as the kubelet has it.
        fs::remove_dir_all(folder.path().join(format!("..v{}", turn - 1))).expect("removed");
        keyway.logged(&format!("configuration {} in use", turn + 1));
    }
    let tally = load.finish();
    assert_eq!((tally.errors, tally.unanswered), (0, 0), "{tally:?}");
    keyway.metric_becomes("keyway_config_generation", 7.0);
}

#[test]
fn a_broken_file_is_reported_once_and_a_mended_one_is_used() {
    let (first, second) = (Memcached::start(), Memcached::start());
    let keyway = Keyway::start(&pool_of(&first, COMPARED));
    let mut client = keyway.client();
    let whole = pool_file(&[&first, &second], "PoolRoute|web", COMPARED);
    // Half of it, as a full disk leaves it.
    keyway.rewrite(&whole[..whole.len() / 2]);
    keyway.logged("the configuration file has changed");
    keyway.logged("the old one stays in use");
    keyway.metric_becomes("keyway_config_file_good", 0.0);
    client.set("k", "v");
    assert_eq!(keyway.page("/readyz").0, 200);
    keyway.rewrite(&whole);
    servers_become(&keyway, 2);
    // Compared again and again meanwhile, and reported once.
    let metrics = keyway.metrics();
    assert_eq!(metrics.find("keyway_config_reloads_total{result=\"failure\"}"), Some(1.0));
    assert_eq!(metrics.find("keyway_config_reloads_total{result=\"success\"}"), Some(1.0));
    assert_eq!(client.get("k").map(|_| ()), client.get("k").map(|_| ()), "the client is still there");
    // What it says about watching counts from then on.
    keyway.rewrite(&pool_of(&first, ASKED));
    keyway.logged("configuration 3 in use");
    keyway.logged("changes of the configuration are read on SIGHUP only");
    keyway.signal("HUP");
    keyway.logged("configuration 4: nothing changed");
}

#[test]
fn a_file_that_can_be_read_once_only_is_left_alone() {
    let server = Memcached::start();
    let folder = Folder::new();
    let file = folder.write("real.yaml", pool_of(&server, TOLD));
    let pipe = folder.path().join("pipe");
    output_of("mkfifo", [&pipe]);
    let writing = {
        let (from, to) = (file.clone(), pipe.clone());
        std::thread::spawn(move || fs::copy(from, to).expect("the pipe is read"))
    };
    let keyway = Keyway::of(&pipe, &[]);
    writing.join().expect("the writer");
    keyway.logged("pipe is no regular file: it is read again on SIGHUP only");
    keyway.client().set("k", "v");
}

// --- the last good configuration ---

struct Kept {
    folder: Folder,
    file: PathBuf,
}

impl Kept {
    /// A folder with the last good configuration of a process that has ended since.
    fn new(configuration: &str) -> Kept {
        let folder = Folder::new();
        fs::create_dir(folder.path().join("kept")).expect("a folder");
        let kept = Kept { file: folder.write("router.yaml", configuration), folder };
        let mut keyway = kept.launch(&[]);
        kept.path();
        keyway.signal("TERM");
        keyway.wait();
        kept
    }

    fn launch(&self, flags: &[&str]) -> Keyway {
        let folder = self.folder.path().join("kept");
        let mut all = vec!["--last-good", folder.to_str().expect("UTF-8")];
        all.extend(flags);
        Keyway::launch_of(&[], Folder::new(), &self.file, &all)
    }

    /// Where it is kept.
    fn path(&self) -> PathBuf {
        eventually("it is kept", || {
            let entries = fs::read_dir(self.folder.path().join("kept")).expect("the folder");
            entries
                .flatten()
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|end| end == "last-good"))
        })
    }

    fn break_file(&self) {
        fs::write(&self.file, "pools: {web: 7}\n").expect("written");
    }
}

const IN_USE: &str = "keyway_config_last_good_in_use";

#[test]
fn a_start_with_a_broken_file_uses_the_last_good_one_until_it_is_mended() {
    let (first, second) = (Memcached::start(), Memcached::start());
    let kept = Kept::new(&pool_of(&first, TOLD));
    kept.break_file();
    let mut keyway = kept.launch(&[]);
    keyway.logged("STARTING WITH THE LAST GOOD CONFIGURATION");
    keyway.logged("router.yaml:1:");
    keyway.client().set("k", "v");
    eventually("it is ready", || (keyway.page("/readyz").0 == 200).then_some(()));
    let metrics = keyway.metrics();
    assert_eq!((metrics.find(IN_USE), metrics.find("keyway_config_file_good")), (Some(1.0), Some(0.0)));
    // Nothing but a start uses it: the file, as it is, is refused.
    keyway.signal("HUP");
    keyway.logged("the old one stays in use");
    fs::write(&kept.file, pool_file(&[&first, &second], "PoolRoute|web", TOLD)).expect("written");
    servers_become(&keyway, 2);
    keyway.metric_becomes(IN_USE, 0.0);
    keyway.metric_becomes("keyway_config_file_good", 1.0);
    keyway.signal("TERM");
    keyway.wait();
    // A file that isn't there, and what was kept since.
    fs::remove_file(&kept.file).expect("removed");
    let keyway = kept.launch(&[]);
    keyway.logged("STARTING WITH THE LAST GOOD CONFIGURATION");
    servers_become(&keyway, 2);
    keyway.client().set("k", "v");
}

#[test]
fn a_last_good_configuration_that_is_old_or_unasked_for_is_not_used() {
    let server = Memcached::start();
    let kept = Kept::new(&pool_of(&server, TOLD));
    let refused = |mut keyway: Keyway, why: &str| {
        assert_eq!(keyway.wait(), 1);
        let said = keyway.log();
        assert!(said.contains(why) && said.contains("router.yaml:1:"), "{said}");
    };
    kept.break_file();
    refused(Keyway::launch_of(&[], Folder::new(), &kept.file, &[]), "pools.web: `7` where a map is needed");
    // `check` is about the file.
    let checked = Command::new(env!("CARGO_BIN_EXE_keyway"))
        .args(["check", "-f"])
        .arg(&kept.file)
        .output()
        .expect("the program runs");
    assert_eq!(checked.status.code(), Some(1));
    let kept_file = fs::File::options().write(true).open(kept.path()).expect("it is kept");
    let hours_ago = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
    kept_file.set_modified(hours_ago(13)).expect("set");
    refused(kept.launch(&[]), "at most 43200 s are allowed");
    kept_file.set_modified(hours_ago(2)).expect("set");
    refused(kept.launch(&["--last-good-max-age", "1h"]), "at most 3600 s are allowed");
    kept.launch(&[]).logged("STARTING WITH THE LAST GOOD CONFIGURATION, which the file held 7");
    kept_file.set_len(40).expect("cut");
    refused(kept.launch(&[]), "isn't whole");
    fs::remove_file(kept.path()).expect("removed");
    refused(kept.launch(&[]), "there is no last good configuration to start with");
    // A folder that isn't there is said, and is no reason not to serve.
    let keyway = Keyway::with(&pool_of(&server, ASKED), &["--last-good", "/nonexistent/kept"]);
    keyway.logged("the configuration can't be kept as the last good one: /nonexistent/kept/");
    keyway.client().set("k", "v");
}
