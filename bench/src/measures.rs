//! The single measurements beside the comparison: round trips of one client, the share of user space, what a second
//! shard costs, the memory of idle clients. Each gives one JSON value.

use crate::process::{Scratch, resident_kib};
use crate::report::circumstances;
use crate::runner::{Sample, Setting, Shape, run, series};
use crate::spread::Spread;
use crate::subjects::{DEEP_TREE, DEFAULT_TREE, Subject, Window, start_memcached};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Of one shard's CPU, what the open loop may ask for.
const SHARD_CPU_SHARE: f64 = 0.35;
const ADAPTIVE: Window = Window::Adaptive { max_delay_us: 100 };

fn ratios(samples: &[Sample], shape: Shape, one: &str, other: &str, number: fn(&Sample) -> f64) -> Spread {
    Spread::of_ratios(&series(samples, one, shape, number), &series(samples, other, shape, number))
}

/// One client that waits for every answer: there is nothing to batch, and the window must see that.
pub(crate) fn roundtrip(setting: &Setting, keyway: &Path, nutcracker: Option<&Path>) -> Result<Value, String> {
    let shape = Shape { clients: 1, pipeline: 1 };
    let mut subjects = vec![Subject::keyway(keyway, ADAPTIVE), Subject::keyway(keyway, Window::Off)];
    subjects.extend(nutcracker.map(Subject::nutcracker));
    let samples = run(setting, &subjects, &[shape], |_| {})?;
    let per_second = |sample: &Sample| sample.loaded.requests_per_second;
    let to_off = ratios(&samples, shape, &subjects[0].name, &subjects[1].name, per_second);
    let to_twemproxy = subjects.get(2).map(|other| ratios(&samples, shape, &subjects[0].name, &other.name, per_second));
    Ok(json!({
        "measure": "roundtrip",
        "adaptive_vs_off": to_off, "adaptive_vs_off_to_reach": 0.97,
        "adaptive_vs_twemproxy": to_twemproxy, "adaptive_vs_twemproxy_to_reach": 0.95,
        "circumstances": circumstances(setting), "samples": samples,
    }))
}

/// How much of its CPU the router spends outside the kernel.
pub(crate) fn user_share(setting: &Setting, keyway: &Path) -> Result<Value, String> {
    let shape = Shape { clients: 50, pipeline: 1 };
    let subjects = [Subject::keyway(keyway, ADAPTIVE), Subject::keyway(keyway, Window::Off)];
    let samples = run(setting, &subjects, &[shape], |_| {})?;
    let share = |at: usize| Spread::of(series(&samples, &subjects[at].name, shape, |sample| sample.user_share));
    Ok(json!({
        "measure": "user_share", "adaptive": share(0), "off": share(1), "at_most": 0.10,
        "circumstances": circumstances(setting), "samples": samples,
    }))
}

/// What a request costs through a deep tree, against the shortest one that is a tree at all.
pub(crate) fn tree(setting: &Setting, keyway: &Path) -> Result<Value, String> {
    let shapes = [Shape { clients: 50, pipeline: 1 }, Shape { clients: 50, pipeline: 16 }];
    let subjects = [
        Subject::keyway_tree(keyway, ADAPTIVE, "DefaultRoute", DEFAULT_TREE),
        Subject::keyway_tree(keyway, ADAPTIVE, "prefix, operation, failover, pool", DEEP_TREE),
    ];
    let samples = run(setting, &subjects, &shapes, |_| {})?;
    let cpu = |sample: &Sample| 1.0 / sample.requests_per_cpu_second;
    let ratio = |shape| ratios(&samples, shape, &subjects[1].name, &subjects[0].name, cpu);
    Ok(json!({
        "measure": "tree", "cpu_per_request_deep_vs_default_50x1": ratio(shapes[0]),
        "cpu_per_request_deep_vs_default_50x16": ratio(shapes[1]), "at_most": 1.05,
        "circumstances": circumstances(setting), "samples": samples,
    }))
}

/// What a request costs on two shards, at a rate that one could carry: nothing is pinned but the shards.
pub(crate) fn shards(setting: &Setting, keyway: &Path) -> Result<Value, String> {
    let shape = Shape { clients: 50, pipeline: 1 };
    let closed = Setting { proxy_core: None, load_core: None, rate: None, ..setting.clone() };
    let subjects = [1, 2].map(|shards| Subject::keyway_with(keyway, ADAPTIVE, shards, 10_000));
    let first = run(&Setting { rounds: 1, ..closed.clone() }, &subjects[..1], &[shape], |_| {})?;
    // On few CPUs the load and the server need their share too: beyond what the machine carries, queues are measured.
    let carried = |sample: &Sample| sample.requests_per_cpu_second.min(sample.loaded.requests_per_second);
    let rate = first.first().map_or(0.0, |sample| carried(sample) * SHARD_CPU_SHARE);
    let open = Setting { rate: Some(rate), ..closed };
    let samples = run(&open, &subjects, &[shape], |_| {})?;
    let cpu = |sample: &Sample| 1.0 / sample.requests_per_cpu_second;
    let ratio = ratios(&samples, shape, &subjects[1].name, &subjects[0].name, cpu);
    Ok(json!({
        "measure": "shards", "rate": rate, "cpu_per_request_two_vs_one": ratio, "at_most": 1.1,
        "circumstances": circumstances(&open), "samples": samples,
    }))
}

/// Resident memory of many clients that say nothing, beyond that of the same process without them.
pub(crate) fn idle(setting: &Setting, keyway: &Path, clients: usize) -> Result<Value, String> {
    let scratch = Scratch::new().map_err(|error| error.to_string())?;
    let memcached = start_memcached(&setting.memcached, None, &scratch)?;
    let subject = Subject::keyway_with(keyway, ADAPTIVE, 1, clients + 100);
    let running = subject.start(memcached.port, None, &scratch)?;
    let connect = || -> Result<TcpStream, String> {
        let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, running.port)).and_then(|stream| {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            Ok(stream)
        });
        connected.map_err(|error| format!("{error}; is `ulimit -n` above {clients}?"))
    };
    // One request each way first, so that what is made on first use is there on both sides of the difference.
    let mut probe = connect()?;
    ask(&mut probe)?;
    let before_kib = resident_kib(running.process.pid())?;
    let mut held = Vec::new();
    for _ in 0..clients {
        held.push(connect()?);
    }
    // The last one's answer shows that all were accepted.
    if let Some(last) = held.last_mut() {
        ask(last)?;
    }
    let after_kib = resident_kib(running.process.pid())?;
    let refused = count_closed(&mut held);
    let grown_mib = (after_kib as f64 - before_kib as f64) / 1024.0;
    Ok(json!({
        "measure": "idle", "clients": clients, "closed_by_server": refused, "empty_kib": before_kib,
        "with_clients_kib": after_kib, "grown_mib": grown_mib, "at_most_mib": 20.0,
        "bytes_per_client": grown_mib * 1024.0 * 1024.0 / clients.max(1) as f64,
    }))
}

fn ask(stream: &mut TcpStream) -> Result<(), String> {
    let mut reply = [0; 5];
    let asked = stream.write_all(b"get idle\r\n").and_then(|()| stream.read_exact(&mut reply));
    match asked {
        Ok(()) if &reply == b"END\r\n" => Ok(()),
        Ok(()) => Err(format!("not a miss: {:?}", String::from_utf8_lossy(&reply))),
        Err(error) => Err(format!("no answer: {error}")),
    }
}

/// Connections that the server gave up.
fn count_closed(held: &mut [TcpStream]) -> usize {
    let is_closed = |stream: &mut TcpStream| {
        let mut byte = [0];
        stream.set_nonblocking(true).is_err() || matches!(stream.read(&mut byte), Ok(0))
    };
    held.iter_mut().map(is_closed).filter(|closed| *closed).count()
}
