//! What the tests are made of: servers, the router, clients, and waiting with an end.

mod client;
mod keyway;
mod load;
mod memcached;
mod process;
mod scripted;

pub(crate) use client::{Client, shown};
pub(crate) use keyway::Keyway;
pub(crate) use load::Load;
pub(crate) use memcached::{Memcached, any_port};
pub(crate) use process::{Folder, Process, output_of, signal};
pub(crate) use scripted::Scripted;

use std::time::{Duration, Instant};

/// Far beyond what anything here takes on a loaded machine. Nothing waits longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer, and fails the test when there is none for too long.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "waited {PATIENCE:?} for this: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// gomcrouter's example file, over these servers.
pub(crate) fn gomcrouter_file(servers: &[&Memcached]) -> String {
    let servers: Vec<String> = servers.iter().map(|server| server.address()).collect();
    format!(
        "orderedPool: [{}]\nroute:\n  type: OperationSelectorRoute\n  operationPolicies:\n    add: AllFastestRoute\n    \
         append: AllFastestRoute\n    decr: AllFastestRoute\n    delete: AllFastestRoute\n    get: MissFailoverRoute\n    \
         gets: MissFailoverRoute\n    incr: AllFastestRoute\n    prepend: AllFastestRoute\n    replace: AllFastestRoute\n    \
         set: AllFastestRoute\n    version: LocalRoute\n    quit: LocalRoute\n",
        servers.join(", ")
    )
}

/// A file in the full form: one listener, metrics on any port, and what else is given.
pub(crate) fn full_file(rest: &str) -> String {
    format!(
        "listeners: [{{address: \"tcp://127.0.0.1:0\"}}]\nmetrics: {{address: \"127.0.0.1:0\"}}\nadmin: {{address: off}}\n{rest}\n"
    )
}

/// A file with one pool of these servers and this route.
pub(crate) fn pool_file(servers: &[&Memcached], route: &str, rest: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    full_file(&format!("pools: {{web: {{servers: [{}]}}}}\nroute: {route}\n{rest}", servers.join(", ")))
}
