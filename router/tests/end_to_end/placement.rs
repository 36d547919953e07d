//! Few CPUs, many shards, little memory to lock: it works, or says in words what it needs.

use crate::support::{Keyway, Memcached, pool_file};

fn serves(keyway: &Keyway) {
    for number in 0..32 {
        let mut client = keyway.client();
        client.set(&format!("k{number}"), "v");
        assert_eq!(client.get(&format!("k{number}")).as_deref(), Some(&b"v"[..]));
    }
}

#[test]
fn more_shards_than_cpus_share_them() {
    let server = Memcached::start();
    let keyway = Keyway::under(&["taskset", "-c", "0"], &pool_file(&[&server], "PoolRoute|web", ""), &["-n", "4"]);
    assert!(keyway.log().contains("serves with 4 shard(s)"), "{}", keyway.log());
    assert!(keyway.log().contains("4 shards on 1 allowed CPUs"), "{}", keyway.log());
    serves(&keyway);
}

#[test]
fn one_allowed_cpu_is_one_shard_and_no_thread_leaves_it() {
    let server = Memcached::start();
    let keyway = Keyway::under(&["taskset", "-c", "0"], &pool_file(&[&server], "PoolRoute|web", ""), &[]);
    assert!(keyway.log().contains("serves with 1 shard(s)"), "{}", keyway.log());
    serves(&keyway);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", keyway.id())).expect("its threads");
    for task in tasks.flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(str::trim);
        assert!(matches!(allowed, None | Some("0")), "{allowed:?}");
    }
}

#[test]
fn little_memory_to_lock_works_or_is_said() {
    let server = Memcached::start();
    let file = pool_file(&[&server], "PoolRoute|web", "shards: 1");
    // The soft limit alone is raised.
    serves(&Keyway::under(&["sh", "-c", "ulimit -S -l 64; exec \"$@\"", "sh"], &file, &[]));
    // The hard one can't be. Root may lock memory whatever it says.
    let starter = ["sh", "-c", "ulimit -S -l 64; ulimit -H -l 64; exec \"$@\"", "sh"];
    let mut keyway = Keyway::launch(&starter, &file, &[]);
    crate::support::eventually("it serves or ends", || (keyway.serves() || !keyway.is_running()).then_some(()));
    if keyway.is_running() {
        serves(&keyway);
    } else {
        let said = keyway.log();
        assert!(said.contains("memlock") || said.contains("lock") && said.contains("ulimit"), "{said}");
    }
}

#[test]
fn few_descriptors_are_said_and_lived_with() {
    let server = Memcached::start();
    let file = pool_file(&[&server], "PoolRoute|web", "shards: 1");
    let starter = ["sh", "-c", "ulimit -S -n 64; ulimit -H -n 64; exec \"$@\"", "sh"];
    let keyway = Keyway::under(&starter, &file, &[]);
    assert!(keyway.log().contains("descriptors"), "{}", keyway.log());
    let mut served = keyway.client();
    served.set("k", "v");
    // More connections than there are descriptors: they wait in the kernel, nobody else is hurt.
    let waiting: Vec<_> = (0..100).map(|_| keyway.client()).collect();
    for _ in 0..100 {
        served.set("k", "w");
    }
    drop(waiting);
    let mut late = keyway.client();
    assert_eq!(late.get("k").as_deref(), Some(&b"w"[..]), "room was made");
}
