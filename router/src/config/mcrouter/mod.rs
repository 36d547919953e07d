//! mcrouter's configuration to ours, as trees: what its pools say in other words, and pools that stand within routes.
//!
//! Routes are left as they are, since ours are written as mcrouter writes them; but their names are made good (`handles`). What can't be carried over and does no
//! harm is noted; what would change what a request does, or send in the clear what was encrypted, is a fault. Keys of
//! ours are passed through, so that a JSON file may use them too.

mod handles;

use crate::config::address::is_name;
use crate::config::error::{Faults, Path, Position, seen};
use crate::config::keys;
use crate::config::note::Notes;
use crate::config::pools::MAX_POOLS;
use crate::config::tree::{Entry, MAX_TREE_BYTES, Node, Size, Value};
use std::collections::{HashMap, HashSet};

/// Keys of the top that are read here or by the reader of routes.
const ROUTE_KEYS: [&str; 3] = ["route", "routes", "named_handles"];

/// Keys of pools without a meaning here, each with what is to know about it.
const DROPPED: [(&str, &str); 18] = [
    ("additional_fanout_in_flight", "has no counterpart"),
    ("cluster", "there are no timeouts by cluster; give the pool its own `timeout_ms`"),
    ("disable_request_deadline_check", "has no counterpart: deadlines are `deadline_ms`"),
    ("enable_compression", "nothing is compressed"),
    ("error_on_empty", "a pool has at least one server"),
    ("failure_domains", "failure domains aren't supported by this version"),
    ("hostnames", "a server is shown by its address"),
    ("keep_routing_prefix", "the prefix is cut off"),
    ("pool_id", "a pool is known by its name"),
    ("port_override_cross_dc", "there are no data centres; write the port at each server"),
    ("port_override_within_dc", "there are no data centres; write the port at each server"),
    ("qos", "packets aren't marked"),
    ("region", "there are no timeouts by region; give the pool its own `timeout_ms`"),
    ("service_id_override", "has no counterpart"),
    ("services", "has no counterpart"),
    ("shard_splits", "has no effect here in mcrouter either; it goes to the PoolRoute"),
    ("type", "a pool has no type"),
    ("use_tls_fizz", "has no counterpart"),
];

/// Words of `security_mech` that mean no encryption.
const PLAIN: [&str; 3] = ["plain", "none", ""];

/// The configuration in our words. With faults noted it must not be used.
pub(crate) fn translate(top: Node, notes: &mut Notes, faults: &mut Faults) -> Node {
    let Value::Map(entries) = top.value else { return top };
    let mut pools = Vec::new();
    let mut rest = Vec::new();
    for entry in entries {
        match entry.key.as_str() {
            "pools" => pools = inherited(entry, faults),
            key if ROUTE_KEYS.contains(&key) || keys::TOP.key_of(key).is_some() => rest.push(entry),
            _ => {
                notes.at(entry.position, Path::Key(&Path::Top, &entry.key), "isn't carried over: it has no counterpart")
            }
        }
    }
    let mut lifted = Lifted { known: pools.iter().map(|pool| pool.key.clone()).collect(), pools, faults };
    for entry in rest.iter_mut().filter(|entry| ROUTE_KEYS.contains(&entry.key.as_str())) {
        lifted.lift(&mut entry.value);
    }
    let mut pools = lifted.pools;
    if pools.len() > MAX_POOLS {
        // The reader refuses them; until then nothing is to be done for each of them.
        let problem = format!("{} pools", pools.len());
        faults.at(top.position, "pools", problem, format!("at most {MAX_POOLS}"));
        return Node { position: top.position, value: Value::Map(rest) };
    }
    let mut room = MAX_TREE_BYTES;
    let renamed = good_names(&mut pools, notes);
    let hashes: HashMap<String, Node> =
        pools.iter_mut().filter_map(|pool| hash_of(pool).map(|hash| (pool.key.clone(), hash))).collect();
    for entry in rest.iter_mut().filter(|entry| ROUTE_KEYS.contains(&entry.key.as_str())) {
        rename(&mut entry.value, &renamed);
        add_hashes(&mut entry.value, &hashes, &mut room, notes);
    }
    if room == 0 {
        faults.at(top.position, "pools", "weights of pools make too much of too many routes".to_owned(), String::new());
    }
    for pool in &mut pools {
        let path = Path::Key(&Path::Key(&Path::Top, "pools"), &pool.key);
        if let Value::Map(entries) = &mut pool.value.value {
            *entries = pool_of(std::mem::take(entries), &path, notes, faults);
        }
    }
    handles::make_good(&mut rest, notes);
    if let Some(first) = pools.first() {
        let (position, value) = (first.position, Value::Map(pools));
        rest.insert(0, Entry { key: "pools".to_owned(), position, value: Node { position, value } });
    }
    Node { position: top.position, value: Value::Map(rest) }
}

/// The pools with what they `inherit`.
fn inherited(pools: Entry, faults: &mut Faults) -> Vec<Entry> {
    let Value::Map(mut entries) = pools.value.value else {
        let problem = format!("{} where a map is needed", pools.value.seen());
        faults.at(pools.value.position, "pools", problem, String::new());
        return Vec::new();
    };
    let by_name: HashMap<String, Vec<Entry>> = entries
        .iter()
        .filter_map(|pool| match &pool.value.value {
            Value::Map(entries) => Some((pool.key.clone(), entries.clone())),
            Value::Scalar { .. } | Value::List(_) => None,
        })
        .collect();
    let mut room = if entries.len() > MAX_POOLS { 0 } else { MAX_TREE_BYTES };
    for pool in &mut entries {
        let Value::Map(own) = &mut pool.value.value else { continue };
        let mut above = HashSet::from([pool.key.clone()]);
        while let Some(at) = own.iter().position(|entry| entry.key == "inherit") {
            let inherit = own.remove(at);
            let name = inherit.value.text().unwrap_or_default().to_owned();
            let path = Path::Key(&Path::Top, "pools");
            let path = Path::Key(&path, &pool.key);
            let path = Path::Key(&path, "inherit");
            let Some(parent) = by_name.get(&name) else {
                faults.at(inherit.value.position, path, format!("no pool {}", seen(&name)), String::new());
                break;
            };
            if !above.insert(name) {
                faults.at(inherit.value.position, path, "leads back to itself".to_owned(), String::new());
                break;
            }
            let size: usize = parent.iter().map(|entry| Size::of(&entry.value.value).bytes + entry.key.len()).sum();
            room = room.saturating_sub(size);
            if room == 0 {
                faults.at(
                    inherit.value.position,
                    path,
                    "pools inherit too much of each other".to_owned(),
                    String::new(),
                );
                return entries;
            }
            let known: HashSet<String> = own.iter().map(|entry| entry.key.clone()).collect();
            own.extend(parent.iter().filter(|entry| !known.contains(&entry.key)).cloned());
        }
    }
    entries
}

/// Takes pools out of routes.
struct Lifted<'f> {
    known: HashSet<String>,
    pools: Vec<Entry>,
    faults: &'f mut Faults,
}

impl Lifted<'_> {
    /// Recursion is bounded by the depth of the file.
    fn lift(&mut self, node: &mut Node) {
        let position = node.position;
        let is_pool = self.is_pool(node);
        match &mut node.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| self.lift(item)),
            Value::Map(entries) if is_pool => {
                if let Some(name) = self.take(std::mem::take(entries), position) {
                    node.value = Value::Scalar { text: format!("Pool|{name}"), plain: false };
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    let inner = entry.value.position;
                    match &mut entry.value.value {
                        Value::Map(pool) if entry.key == "pool" => {
                            if let Some(name) = self.take(std::mem::take(pool), inner) {
                                entry.value.value = Value::Scalar { text: name, plain: false };
                            }
                        }
                        Value::Scalar { .. } | Value::List(_) | Value::Map(_) => self.lift(&mut entry.value),
                    }
                }
            }
        }
    }

    fn is_pool(&self, node: &Node) -> bool {
        let Value::Map(entries) = &node.value else { return false };
        let has = |key: &str| entries.iter().any(|entry| entry.key == key);
        has("servers") && entries.iter().any(|entry| entry.key == "type" && entry.value.text() == Some("Pool"))
    }

    /// Keeps a pool and gives its name. mcrouter's rule: the first of a name counts.
    fn take(&mut self, mut entries: Vec<Entry>, position: Position) -> Option<String> {
        let at = entries.iter().position(|entry| entry.key == "name");
        let name = at.map(|at| entries.remove(at)).and_then(|entry| entry.value.text().map(str::to_owned));
        let Some(name) = name else {
            self.faults.at(position, "pool", "a pool within a route needs a name".to_owned(), String::new());
            return None;
        };
        entries.retain(|entry| entry.key != "type");
        if self.known.insert(name.clone()) {
            let value = Node { position, value: Value::Map(entries) };
            self.pools.push(Entry { key: name.clone(), position, value });
        }
        Some(name)
    }
}

/// Gives pools names we take; the old ones and the new ones.
fn good_names(pools: &mut [Entry], notes: &mut Notes) -> HashMap<String, String> {
    let mut taken: HashSet<String> = pools.iter().map(|pool| pool.key.clone()).collect();
    let mut renamed = HashMap::new();
    for pool in pools.iter_mut().filter(|pool| !is_name(&pool.key)) {
        let name = good_name(&pool.key, &mut taken);
        let path = Path::Key(&Path::Top, "pools");
        notes.at(pool.position, Path::Key(&path, &pool.key), format!("is called {name} here"));
        renamed.insert(std::mem::replace(&mut pool.key, name.clone()), name);
    }
    renamed
}

/// A name we take that is like `name`, and not in `taken`.
pub(crate) fn good_name(name: &str, taken: &mut HashSet<String>) -> String {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut like: String = name.chars().take(50).map(|c| if is_good(c) { c } else { '-' }).collect();
    if like.is_empty() {
        like.push_str("pool");
    }
    let mut good = like.clone();
    let mut number = 2;
    while !taken.insert(good.clone()) {
        good = format!("{like}-{number}");
        number += 1;
    }
    good
}

/// Lets routes say the new names.
fn rename(node: &mut Node, renamed: &HashMap<String, String>) {
    if renamed.is_empty() {
        return;
    }
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        Value::Map(entries) => {
            for entry in entries {
                match (&mut entry.value.value, entry.key.as_str()) {
                    (Value::Scalar { text, .. }, "pool") => {
                        if let Some(name) = renamed.get(text) {
                            name.clone_into(text);
                        }
                    }
                    _ => rename(&mut entry.value, renamed),
                }
            }
        }
        Value::Scalar { text, .. } => {
            let name = ["PoolRoute|", "Pool|"].iter().find_map(|kind| text.rfind(kind).map(|at| at + kind.len()));
            if let Some((at, new)) = name.and_then(|at| renamed.get(&text[at..]).map(|new| (at, new))) {
                text.replace_range(at.., new);
            }
        }
    }
}

/// Takes from a pool what mcrouter gives on to the hash of every PoolRoute over it: weights and tags.
fn hash_of(pool: &mut Entry) -> Option<Node> {
    let Value::Map(entries) = &mut pool.value.value else { return None };
    let mut hash = Vec::new();
    for key in ["weights", "tags"] {
        if let Some(at) = entries.iter().position(|entry| entry.key == key) {
            let entry = entries.remove(at);
            if key == "weights" {
                let (position, word) = (entry.position, "WeightedCh3".to_owned());
                let value = Node { position, value: Value::Scalar { text: word, plain: false } };
                hash.push(Entry { key: "hash_func".to_owned(), position, value });
            }
            hash.push(entry);
        }
    }
    let position = hash.first()?.position;
    Some(Node { position, value: Value::Map(hash) })
}

/// Writes that hash into the PoolRoutes; what they say themselves counts.
fn add_hashes(node: &mut Node, hashes: &HashMap<String, Node>, room: &mut usize, notes: &mut Notes) {
    if hashes.is_empty() || *room == 0 {
        return;
    }
    let position = node.position;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| add_hashes(item, hashes, room, notes)),
        Value::Scalar { text, .. } => {
            let Some(at) = text.find("PoolRoute|") else { return };
            let pool = text[at + "PoolRoute|".len()..].to_owned();
            match hashes.get(&pool) {
                Some(hash) if at == 0 => {
                    *room = room.saturating_sub(Size::of(&hash.value).bytes);
                    let word =
                        |text: &str| Node { position, value: Value::Scalar { text: text.to_owned(), plain: false } };
                    let part = |key: &str, value: Node| Entry { key: key.to_owned(), position, value };
                    let parts = [("type", word("PoolRoute")), ("pool", word(&pool)), ("hash", hash.clone())];
                    node.value = Value::Map(parts.map(|(key, value)| part(key, value)).into());
                }
                Some(_) => notes.at(
                    position,
                    "route",
                    format!("write PoolRoute|{pool} out, with the pool's weights as its hash"),
                ),
                None => {}
            }
        }
        Value::Map(entries) => {
            let text_of =
                |key: &str| entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.value.text());
            let hash = match (text_of("type"), text_of("pool")) {
                (Some("PoolRoute"), Some(pool)) => hashes.get(pool),
                _ => None,
            };
            if let Some(hash) = hash {
                *room = room.saturating_sub(Size::of(&hash.value).bytes);
                merge_hash(entries, hash, position);
            }
            for entry in entries.iter_mut().filter(|entry| entry.key != "hash") {
                add_hashes(&mut entry.value, hashes, room, notes);
            }
        }
    }
}

fn merge_hash(route: &mut Vec<Entry>, hash: &Node, position: Position) {
    let Some(own) = route.iter_mut().find(|entry| entry.key == "hash") else {
        route.push(Entry { key: "hash".to_owned(), position, value: hash.clone() });
        return;
    };
    let own_function = own.value.text().map(str::to_owned);
    let Value::Map(of_pool) = &hash.value else { return };
    let mut merged = of_pool.clone();
    let own_entries = match &own.value.value {
        Value::Map(entries) => entries.clone(),
        Value::Scalar { .. } | Value::List(_) => match own_function {
            Some(text) => {
                let value = Node { position: own.value.position, value: Value::Scalar { text, plain: false } };
                vec![Entry { key: "hash_func".to_owned(), position: own.position, value }]
            }
            None => return,
        },
    };
    merged.retain(|entry| own_entries.iter().all(|own| own.key != entry.key));
    merged.splice(0..0, own_entries);
    own.value.value = Value::Map(merged);
}

/// A pool's keys in our words.
fn pool_of(entries: Vec<Entry>, path: &Path<'_>, notes: &mut Notes, faults: &mut Faults) -> Vec<Entry> {
    let number = |key: &str| entries.iter().find(|e| e.key == key).and_then(|e| e.value.text()?.parse::<u64>().ok());
    let port = number("port_override").and_then(|port| u16::try_from(port).ok());
    let says_connect = entries.iter().any(|entry| entry.key == "connect_timeout" || entry.key == "connect_timeout_ms");
    let mut ours: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        let key_path = Path::Key(path, &entry.key);
        let (position, key) = (entry.position, entry.key.clone());
        let renamed = |name: &str, value: Node| Entry { key: name.to_owned(), position, value };
        match key.as_str() {
            "servers" => {
                let servers = servers_of(entry.value, &key_path, port, notes, faults);
                ours.push(renamed("servers", servers));
            }
            "server_timeout" => {
                let timeout = timeout_of(entry.value, &key_path, "timeout_ms", notes);
                // mcrouter's rule: what holds for a request holds for making the connection.
                if !says_connect {
                    ours.push(renamed("connect_timeout_ms", within(&timeout, "connect_timeout_ms")));
                }
                ours.push(renamed("timeout_ms", timeout));
            }
            "connect_timeout" => {
                let timeout = timeout_of(entry.value, &key_path, "connect_timeout_ms", notes);
                ours.push(renamed("connect_timeout_ms", timeout));
            }
            "additional_fanout" => ours.push(renamed("connections", one_more(entry.value))),
            "port_override" => {}
            "name" => {}
            "protocol" => match entry.value.text().map(str::to_ascii_lowercase).as_deref() {
                Some("ascii") => {}
                Some(word @ ("caret" | "thrift" | "xdp")) => {
                    refuse_protocol(word, entry.value.position, &key_path, faults)
                }
                _ => ours.push(entry),
            },
            "security_mech" | "security_mech_within_dc" | "security_mech_cross_dc" | "use_ssl" => {
                let word = entry.value.text().unwrap_or_default();
                if !PLAIN.contains(&word) && word != "false" {
                    let problem = format!("{} isn't supported by this version: there is no TLS", entry.value.seen());
                    faults.at(entry.value.position, key_path, problem, "plain".to_owned());
                }
            }
            "keep_routing_prefix" | "enable_compression" if entry.value.text() == Some("false") => {}
            key => match DROPPED.iter().find(|(dropped, _)| *dropped == key) {
                Some((_, why)) => notes.at(position, key_path, format!("isn't carried over: {why}")),
                None if keys::POOL.key_of(key).is_some() || keys::POOL.is_unsupported(key) => ours.push(entry),
                // mcrouter takes every key, and looks at those it knows.
                None => notes.at(position, key_path, "is left out: it is no key of a pool"),
            },
        }
    }
    ours
}

/// A timeout of mcrouter's, where 0 is none, as one of ours, which has a longest value.
fn timeout_of(node: Node, path: &Path<'_>, key: &str, notes: &mut Notes) -> Node {
    let number = node.text().and_then(|text| text.parse::<u64>().ok());
    let most = most_of(key);
    if number == Some(0) {
        notes.at(node.position, path, format!("0, no timeout, is {most} here, the longest there is"));
        return Node { position: node.position, value: Value::Scalar { text: most.to_string(), plain: true } };
    }
    node
}

fn most_of(key: &str) -> u64 {
    match keys::POOL.key(key).kind {
        keys::Kind::Number { max, .. } => max,
        keys::Kind::Word { .. } | keys::Kind::Shape { .. } => panic!("{key} is no number"),
    }
}

/// The same number, at most what `key` takes.
fn within(node: &Node, key: &str) -> Node {
    let most = most_of(key);
    match node.text().and_then(|text| text.parse::<u64>().ok()) {
        Some(number) if number > most => {
            Node { position: node.position, value: Value::Scalar { text: most.to_string(), plain: true } }
        }
        _ => node.clone(),
    }
}

fn one_more(node: Node) -> Node {
    match node.text().and_then(|text| text.parse::<u64>().ok()) {
        Some(number) => {
            let text = number.saturating_add(1).to_string();
            Node { position: node.position, value: Value::Scalar { text, plain: true } }
        }
        None => node,
    }
}

fn servers_of(node: Node, path: &Path<'_>, port: Option<u16>, notes: &mut Notes, faults: &mut Faults) -> Node {
    let Value::List(items) = node.value else { return node };
    let items = items.into_iter().enumerate().map(|(at, item)| {
        let path = Path::Item(path, at);
        match item.text() {
            // A map: one of ours, or a route that stands for a server.
            None => item,
            Some(text) => {
                let text = address_of(text, item.position, &path, port, notes, faults);
                Node { position: item.position, value: Value::Scalar { text, plain: false } }
            }
        }
    });
    Node { position: node.position, value: Value::List(items.collect()) }
}

fn refuse_protocol(word: &str, at: Position, path: &Path<'_>, faults: &mut Faults) {
    let problem =
        format!("{} isn't supported by this version: servers are spoken to in memcached's text protocol", seen(word));
    faults.at(at, path, problem, "ascii".to_owned());
}

/// `host:port:protocol:security:compression` as an address. What isn't one is left to the reader to refuse.
fn address_of(
    text: &str,
    position: Position,
    path: &Path<'_>,
    port: Option<u16>,
    notes: &mut Notes,
    faults: &mut Faults,
) -> String {
    let (host, rest) = match text.find(']') {
        Some(close) if text.starts_with('[') => text.split_at(close + 1),
        _ => {
            let scheme = if text.starts_with("unix:") { "unix:".len() } else { 0 };
            let end = text[scheme..].find(':').map_or(text.len(), |at| scheme + at);
            text.split_at(end)
        }
    };
    if text.starts_with("embedded:") || (!rest.is_empty() && !rest.starts_with(':')) {
        return text.to_owned();
    }
    let mut parts = rest.split(':').skip(1);
    let own_port = if host.starts_with("unix:") { None } else { parts.next().filter(|port| !port.is_empty()) };
    let [protocol, security, compression] = [(); 3].map(|()| parts.next().unwrap_or_default());
    if parts.next().is_some() {
        return text.to_owned();
    }
    if !matches!(protocol, "" | "ascii") {
        refuse_protocol(protocol, position, path, faults);
    }
    if !PLAIN.contains(&security) {
        let problem = format!("{} isn't supported by this version: there is no TLS", seen(security));
        faults.at(position, path, problem, "plain".to_owned());
    }
    if !matches!(compression, "" | "notcompressed") {
        notes.at(position, path, "compression isn't carried over: nothing is compressed");
    }
    // mcrouter takes a name in brackets too.
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = inner.filter(|inner| !inner.contains(':')).unwrap_or(host);
    match (port, own_port) {
        _ if host.starts_with("unix:") => host.to_owned(),
        (Some(port), _) => format!("{host}:{port}"),
        (None, Some(port)) => format!("{host}:{port}"),
        (None, None) => host.to_owned(),
    }
}
