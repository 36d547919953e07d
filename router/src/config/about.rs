//! What a running router says of its configuration: where it came from, what was read, and the value of each setting.
//!
//! Made once per configuration, for people who ask; nothing is decided by it. Bound: `READ_BYTES` of text.

use super::keys::{Default, POOL, SECTIONS, Section, TOP};
use super::tree::{Node, Value};
use super::{Config, ListenAddress, Shards, quoted};
use md5::{Digest, Md5};
use std::fmt::Write as _;

/// Most bytes kept of the configuration as it was read; what is longer ends there.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// What there is to say of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The name it was read under.
    pub file: String,
    /// The MD5 digest of its bytes, in hexadecimal: mcrouter's, to tell which routers have the same.
    pub md5: String,
    /// What was read, aliases and short sections expanded, as JSON; cut after `READ_BYTES`.
    pub read: String,
    /// Each setting by its path, as `limits.clients`, and its value in use.
    pub options: Vec<(String, String)>,
}

impl About {
    /// Of bytes read under this name, and the tree they hold.
    pub(super) fn of(file: &str, bytes: &[u8], top: &Node, config: &Config) -> About {
        let md5 = Md5::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
            // Writing to a String can't fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let mut read = String::new();
        write_json(&mut read, top, 0);
        if read.len() > READ_BYTES {
            read.truncate(read.floor_char_boundary(READ_BYTES));
            read.push_str("\n... cut here\n");
        }
        About { file: file.to_owned(), md5, read, options: options(top, config) }
    }
}

// --- what was read ---

/// A tree as JSON. Stops once there is more than is kept. Recursion is bounded by the tree's depth.
fn write_json(out: &mut String, node: &Node, depth: usize) {
    let indent = 2 * (depth + 1);
    let mut first = true;
    let mut separate = |out: &mut String| {
        let comma = if std::mem::take(&mut first) { "" } else { "," };
        let _ = write!(out, "{comma}\n{:indent$}", "");
        out.len() <= READ_BYTES
    };
    match &node.value {
        Value::Scalar { .. } if node.is_null() => out.push_str("null"),
        Value::Scalar { text, plain } => match *plain && is_json_literal(text) {
            true => out.push_str(text),
            false => out.push_str(&quoted(text)),
        },
        Value::List(items) => {
            out.push('[');
            for item in items {
                if !separate(out) {
                    return;
                }
                write_json(out, item, depth + 1);
            }
            close(out, items.is_empty(), depth, ']');
        }
        Value::Map(entries) => {
            out.push('{');
            for entry in entries {
                if !separate(out) {
                    return;
                }
                out.push_str(&quoted(&entry.key));
                out.push_str(": ");
                write_json(out, &entry.value, depth + 1);
            }
            close(out, entries.is_empty(), depth, '}');
        }
    }
}

fn close(out: &mut String, is_empty: bool, depth: usize, bracket: char) {
    if !is_empty {
        let _ = write!(out, "\n{:indent$}", "", indent = 2 * depth);
    }
    out.push(bracket);
}

fn is_json_literal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    matches!(text, "true" | "false") || (is_number && (digits == "0" || !digits.starts_with('0')))
}

// --- settings ---

/// Every setting: what the file gives, else the default; and what flags and other settings make of it.
fn options(top: &Node, config: &Config) -> Vec<(String, String)> {
    let listeners: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    let shards = match config.shards {
        Shards::Auto => "auto".to_owned(),
        Shards::Count(count) => count.to_string(),
    };
    let mut options = vec![("listeners".to_owned(), listeners.join(" ")), ("shards".to_owned(), shards)];
    for section in SECTIONS.into_iter().filter(|section| is_at_top(section)) {
        let given = child(top, &TOP, section.name);
        add_section(&mut options, section.name, section, given, &decided(section.name, config));
    }
    let pools = child(top, &TOP, "pools");
    for pool in &config.pools {
        let given = pools.and_then(|pools| entry(pools, |key| key == pool.name));
        let decided = [
            ("connections", pool.connection.connections.to_string()),
            ("timeout_ms", pool.connection.timeout.as_millis().to_string()),
            ("deadline_ms", pool.deadline.as_millis().to_string()),
        ];
        add_section(&mut options, &format!("pools.{}", pool.name), &POOL, given, &decided);
    }
    options
}

/// The settings of a section that flags or other keys have a say in.
fn decided(section: &str, config: &Config) -> Vec<(&'static str, String)> {
    let port = |port: &Option<ListenAddress>| port.as_ref().map_or("off".to_owned(), ToString::to_string);
    match section {
        "metrics" => vec![("address", port(&config.metrics))],
        "admin" => vec![("address", port(&config.admin))],
        "limits" => vec![("queued_bytes_per_connection", config.limits.queued_bytes_per_connection.to_string())],
        "health" => vec![("interval_ms", config.health.interval.as_millis().to_string())],
        "dns" => vec![("ttl_ms", config.dns_ttl.as_millis().to_string())],
        _ => Vec::new(),
    }
}

/// Adds the settings of a map that are one value each, whether or not it stands in the file.
fn add_section(
    options: &mut Vec<(String, String)>,
    path: &str,
    section: &Section,
    given: Option<&Node>,
    decided: &[(&str, String)],
) {
    for key in section.keys {
        let node = given.and_then(|given| child(given, section, key.name)).filter(|node| !node.is_null());
        let default = || match key.kind.default() {
            Default::Required => None,
            Default::Number(number) => Some(number.to_string()),
            Default::Word(word) => Some(word.to_owned()),
            Default::Said(said) => Some(said.replace('`', "")),
        };
        let value = match (decided.iter().find(|(name, _)| *name == key.name), node) {
            (Some((_, value)), _) => Some(value.clone()),
            (None, Some(node)) => node.text().map(str::to_owned),
            (None, None) => default(),
        };
        if let Some(value) = value {
            options.push((format!("{path}.{}", key.name), value));
        }
    }
}

/// True for a section that stands at the file's top under its name.
fn is_at_top(section: &Section) -> bool {
    TOP.keys.iter().any(|key| key.name == section.name)
}

fn child<'n>(node: &'n Node, section: &Section, name: &str) -> Option<&'n Node> {
    entry(node, |key| section.key_of(key).is_some_and(|key| key.name == name))
}

fn entry(node: &Node, is_it: impl Fn(&str) -> bool) -> Option<&Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|entry| is_it(&entry.key)).map(|entry| &entry.value)
}

#[cfg(test)]
mod tests {
    use super::super::Overrides;
    use super::*;

    fn about(yaml: &str, overrides: &Overrides) -> About {
        let config = Config::parse(yaml.as_bytes(), "x.yaml", overrides).unwrap_or_else(|errors| panic!("{errors}"));
        config.about.as_ref().clone()
    }

    fn option(about: &About, name: &str) -> Option<String> {
        about.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    const FILE: &str = "pools:\n  web: {servers: ['a:1'], timeoutMs: 7}\nroute: PoolRoute|web\nlimits: {clients: 12}\n";

    #[test]
    fn where_it_came_from() {
        let about = about(FILE, &Overrides::default());
        assert_eq!(about.file, "x.yaml");
        // What the program md5sum says of these bytes.
        assert_eq!(about.md5, "014c8a60a66c8c41748ab7e7014cca06");
        let wanted = "{\n  \"pools\": {\n    \"web\": {\n      \"servers\": [\n        \"a:1\"\n      ],\n      \
                      \"timeoutMs\": 7\n    }\n  },\n  \"route\": \"PoolRoute|web\",\n  \"limits\": {\n    \"clients\": 12\n  }\n}";
        assert_eq!(about.read, wanted);
    }

    #[test]
    fn what_was_read_is_bounded() {
        let servers: Vec<String> = (0..900).map(|at| format!("'{}:{}'", "host".repeat(60), at + 1)).collect();
        let yaml =
            format!("pools: {{p: {{servers: &s [{0}]}}, q: {{servers: *s}}}}\nroute: PoolRoute|p", servers.join(","));
        let about = about(&yaml, &Overrides::default());
        assert!(about.read.len() > READ_BYTES && about.read.len() < READ_BYTES + 64, "{}", about.read.len());
        assert!(about.read.ends_with("\n... cut here\n"));
    }

    #[test]
    fn every_setting_has_its_value_in_use() {
        let plain = about(FILE, &Overrides::default());
        for (name, value) in [
            ("listeners", "tcp://:8080"),
            ("shards", "auto"),
            ("limits.clients", "12"),
            ("limits.value_bytes", "67108864"),
            ("health.interval_ms", "10000"),
            ("admin.address", "off"),
            ("admin.keys", "true"),
            ("pools.web.timeout_ms", "7"),
            ("pools.web.deadline_ms", "14"),
            ("pools.web.connect_timeout_ms", "250"),
        ] {
            assert_eq!(option(&plain, name).as_deref(), Some(value), "{name}");
        }
        let mut names: Vec<&str> = plain.options.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a name twice");
        for section in SECTIONS.into_iter().filter(|section| is_at_top(section)) {
            let wanted = section.keys.iter().filter(|key| !matches!(key.kind.default(), Default::Required));
            for key in wanted {
                assert!(option(&plain, &format!("{}.{}", section.name, key.name)).is_some(), "{}", key.name);
            }
        }
    }

    #[test]
    fn flags_show_in_the_settings() {
        let overrides = Overrides {
            listen: Some(ListenAddress::parse("tcp://:81").expect("an address")),
            metrics: Some(ListenAddress::parse(":82").expect("an address")),
            shards: Some(3),
            connections: Some(4),
            timeout_ms: Some(5),
            queued_bytes: Some(6000),
            health_interval_ms: Some(700),
            dns_ttl_ms: Some(800),
            ..Overrides::default()
        };
        let about = about(FILE, &overrides);
        for (name, value) in [
            ("listeners", "tcp://:81"),
            ("metrics.address", "tcp://:82"),
            ("shards", "3"),
            ("pools.web.connections", "4"),
            ("pools.web.timeout_ms", "5"),
            ("pools.web.deadline_ms", "10"),
            ("limits.queued_bytes_per_connection", "6000"),
            ("health.interval_ms", "700"),
            ("dns.ttl_ms", "800"),
        ] {
            assert_eq!(option(&about, name).as_deref(), Some(value), "{name}");
        }
    }
}
