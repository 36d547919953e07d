//! `keyway explain`: the way of one request through the route tree, in words.
//!
//! Works on a configuration alone: no server is asked, all count as up but those given as down.

use crate::config::{Config, MAIN_ROUTE};
use crate::table::{ServerKey, Table};
use keyway_policies::routes::explain::ExplainAt;
use keyway_policies::{ExplainStep, ExplainUse, HealthView, RequestView};
use keyway_protocol::{Operation, OperationClass};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// memcached's longest key.
const KEY_BYTES: usize = 250;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The operation, by its name in the text protocol.
    pub operation: String,
    /// The key; may be left out for operations without one.
    pub key: Option<String>,
    /// The route tree; may be left out when there is one, or one named `main`.
    pub route: Option<String>,
    /// Servers that count as down, as they are configured.
    pub down: Vec<String>,
}

/// The answer, several lines; or what is wrong with the question.
pub fn explain(config: &Config, question: &Question) -> Result<String, String> {
    let names = || Operation::ALL.map(Operation::name).join(", ");
    let operation = Operation::from_name(question.operation.as_bytes())
        .ok_or_else(|| format!("unknown operation {:?} (allowed: {})", question.operation, names()))?;
    let key = checked_key(operation, question.key.as_deref())?;
    let mut next_key = 0;
    let table = config.table(1, &mut |_| {
        next_key += 1;
        ServerKey(next_key - 1)
    });
    let route = chosen_route(&table, question.route.as_deref())?;
    let up = health(&table, &question.down)?;
    let request = RequestView::of_key(operation, key.as_bytes());
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let at = ExplainAt { unix_ms, host_id: table.host_id, ..ExplainAt::default() };
    let steps = table.routes[route].routes.explain(&request, HealthView(&up), at);
    let space = if key.is_empty() { "" } else { " " };
    let mut answer = format!("{}{space}{key} by route {}\n", operation.name(), table.routes[route].name);
    for step in &steps {
        write_step(&mut answer, step, &table);
    }
    write_servers(&mut answer, &steps, &table);
    Ok(answer)
}

fn checked_key(operation: Operation, key: Option<&str>) -> Result<&str, String> {
    let needs_key = operation.class() != OperationClass::Control;
    match key {
        None if needs_key => Err(format!("{} needs a key", operation.name())),
        None => Ok(""),
        Some(_) if !needs_key => Err(format!("{} takes no key", operation.name())),
        Some(key) if key.is_empty() || key.len() > KEY_BYTES => {
            Err(format!("a key has 1 to {KEY_BYTES} bytes, this one {}", key.len()))
        }
        Some(key) if key.bytes().any(|byte| byte <= b' ' || byte == 127) => {
            Err("a key has no spaces or control characters".to_owned())
        }
        Some(key) => Ok(key),
    }
}

fn chosen_route(table: &Table, name: Option<&str>) -> Result<usize, String> {
    let find = |name: &str| table.routes.iter().position(|route| route.name == name);
    let all = || table.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, table.routes.as_slice()) {
        (Some(name), _) => find(name).ok_or_else(|| format!("no route {name:?} (allowed: {})", all())),
        (None, [_]) => Ok(0),
        (None, _) => {
            find(MAIN_ROUTE).ok_or_else(|| format!("there are several routes; say --route with one of {}", all()))
        }
    }
}

fn health(table: &Table, down: &[String]) -> Result<Vec<u8>, String> {
    for host in down {
        if !table.servers.iter().any(|server| server.host == *host) {
            let hosts: Vec<&str> = table.servers.iter().map(|server| server.host.as_str()).take(40).collect();
            return Err(format!("--down {host:?} is no configured server (allowed: {})", hosts.join(", ")));
        }
    }
    Ok(table.servers.iter().map(|server| if down.contains(&server.host) { 0 } else { u8::MAX }).collect())
}

fn write_step(answer: &mut String, step: &ExplainStep, table: &Table) {
    let indent = 2 * (step.depth + 1);
    let usage = match step.usage {
        ExplainUse::Now => "",
        ExplainUse::Later => "  (when the one before fails or misses)",
        ExplainUse::Skipped => "  (down)",
    };
    let sent = match (&step.server, &step.sent) {
        (Some(_), Some(sent)) => format!(" as {} {}", sent.operation.name(), String::from_utf8_lossy(&sent.key)),
        _ => String::new(),
    };
    // Writing to a String can't fail.
    let _ = match step.server.and_then(|server| table.servers.get(server.0 as usize)) {
        Some(server) => {
            let pool = table.pools.get(server.pool).map_or("", |pool| &pool.name);
            writeln!(answer, "{:indent$}{} of pool {pool}{sent}{usage}", "", server.host)
        }
        None => writeln!(answer, "{:indent$}{}{usage}", "", step.route),
    };
}

/// The servers alone, in the order they are asked.
fn write_servers(answer: &mut String, steps: &[ExplainStep], table: &Table) {
    let mut asked = 0;
    answer.push_str("servers, in order:\n");
    for step in steps {
        let usage = match step.usage {
            ExplainUse::Now => "now",
            ExplainUse::Later => "later",
            ExplainUse::Skipped => continue,
        };
        if let Some(server) = step.server.and_then(|server| table.servers.get(server.0 as usize)) {
            asked += 1;
            let _ = writeln!(answer, "  {asked}. {} {usage}", server.host);
        }
    }
    if asked == 0 {
        let local = steps.iter().any(|step| step.route == "LocalRoute" && step.usage == ExplainUse::Now);
        answer.push_str(if local { "  none: the router answers\n" } else { "  none is up: the request fails\n" });
    }
}
