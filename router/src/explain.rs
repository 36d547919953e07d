//! The way of one request through the route tree, in words: for `keyway explain`, and for who asks a running router.
//!
//! `explain` works on a configuration alone: no server is asked, all count as up but those given as down. `Way` is told
//! who is up.

use crate::config::{Config, MAIN_ROUTE};
use crate::table::{ServerKey, Table, TablePool, TableServer};
use keyway_policies::routes::explain::{ExplainAt, Sent};
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
    let way = Way { steps: &steps, table: &table };
    Ok(format!(
        "{}{space}{key} by route {}\n{}{}",
        operation.name(),
        table.routes[route].name,
        way.in_words(),
        way.servers_in_words()
    ))
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

/// The way of a request, to be told.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// As `Routes::explain` gave them.
    pub steps: &'a [ExplainStep],
    /// Whose servers they name.
    pub table: &'a Table,
}

// Writing to a String can't fail.
impl<'a> Way<'a> {
    /// The tree walked, a line each.
    fn in_words(self) -> String {
        let mut out = String::new();
        for step in self.steps {
            let indent = 2 * (step.depth + 1);
            let usage = match step.usage {
                ExplainUse::Now => "",
                ExplainUse::Later => "  (when the one before fails or misses)",
                ExplainUse::Skipped => "  (down)",
            };
            let sent = step.sent.as_ref().map_or(String::new(), |sent| format!(" as {}", request_in_words(sent)));
            let _ = match self.server(step) {
                Some((_, server, pool)) => {
                    writeln!(out, "{:indent$}{} of pool {}{sent}{usage}", "", server.host, pool.name)
                }
                None => writeln!(out, "{:indent$}{}{usage}", "", step.route),
            };
        }
        out
    }

    /// The servers alone, in the order they are asked.
    fn servers_in_words(self) -> String {
        let mut asked = 0;
        let mut out = "servers, in order:\n".to_owned();
        for step in self.steps {
            let usage = match step.usage {
                ExplainUse::Now => "now",
                ExplainUse::Later => "later",
                ExplainUse::Skipped => continue,
            };
            if let Some((_, server, _)) = self.server(step) {
                asked += 1;
                let _ = writeln!(out, "  {asked}. {} {usage}", server.host);
            }
        }
        if asked == 0 {
            let local = self.steps.iter().any(|step| step.route == "LocalRoute" && step.usage == ExplainUse::Now);
            out.push_str(if local { "  none: the router answers\n" } else { "  none is up: the request fails\n" });
        }
        out
    }

    /// The tree walked as mcrouter shows it: a space for each level, servers as `host|name=value|...`. What isn't asked
    /// at once says so at its end.
    pub fn as_handles(self) -> String {
        let mut out = "root\n".to_owned();
        for step in self.steps {
            let indent = step.depth + 1;
            let usage = match step.usage {
                ExplainUse::Now => "",
                ExplainUse::Later => "|used=later",
                ExplainUse::Skipped => "|used=no, down",
            };
            let _ = match self.server(step) {
                Some((at, server, pool)) => {
                    let before = self.table.servers[..at].iter().rev();
                    let id = before.take_while(|before| before.pool == server.pool).count();
                    let sent =
                        step.sent.as_ref().map_or(String::new(), |sent| format!("|sent={}", request_in_words(sent)));
                    writeln!(out, "{:indent$}{}{sent}{usage}", "", handle(server, pool, id))
                }
                None => writeln!(out, "{:indent$}{}{usage}", "", step.route),
            };
        }
        out
    }

    /// The servers asked at once, in order.
    pub fn asked_now(self) -> impl Iterator<Item = &'a str> {
        let now = self.steps.iter().filter(|step| step.usage == ExplainUse::Now);
        now.filter_map(move |step| self.server(step)).map(|(_, server, _)| server.host.as_str())
    }

    fn server(self, step: &ExplainStep) -> Option<(usize, &'a TableServer, &'a TablePool)> {
        let at = step.server?.0 as usize;
        let server = self.table.servers.get(at)?;
        Some((at, server, self.table.pools.get(server.pool)?))
    }
}

/// What is sent instead of what was asked.
fn request_in_words(sent: &Sent) -> String {
    format!("{} {}", sent.operation.name(), String::from_utf8_lossy(&sent.key))
}

/// A server as mcrouter names it in its trees. `id` is its place in the pool.
pub fn handle(server: &TableServer, pool: &TablePool, id: usize) -> String {
    format!("host|pool={}|id={id}|ap={}|timeout={}ms", pool.name, access_point(&server.host), pool.timeout.as_millis())
}

/// A server's address and what is spoken with it, as mcrouter writes it.
pub fn access_point(host: &str) -> String {
    format!("{host}:ascii:plain:notcompressed")
}
