//! Route trees as mcrouter writes them, to a typed tree that refers to pools and servers by index.
//!
//! Owns the forms (object with `type`, `Type|argument`, a name, a list of children) and the defaults gomcrouter's file
//! counts on. Never builds the arena (`table` does). Recursion and size are bounded: names that refer to each other
//! can't go round in a circle or blow up.

use super::address::is_name;
use super::error::{Faults, Path, Position, did_you_mean, seen};
use super::keys::{
    CHILDREN_ROUTE, LOCAL_ROUTE, NAME_FORM, OPERATION_SELECTOR_ROUTE, POOL_ROUTE, ROUTE_TYPES, Section,
    UNSUPPORTED_ROUTE_TYPES, is_named,
};
use super::pools::Pool;
use super::reader::{Map, entries};
use super::tree::{Entry, Node, Value};
use keyway_protocol::Operation;

/// Most named routes.
pub const MAX_ROUTES: usize = 1000;
/// Deepest nesting of routes, names followed.
pub const MAX_ROUTE_DEPTH: usize = 32;
/// Most routes in all trees together, with names followed and pools spelled out.
pub const MAX_ROUTE_NODES: usize = 100_000;
/// The name of the tree that `route` makes.
pub const MAIN_ROUTE: &str = "main";

/// A named tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRoute {
    /// The configured name.
    pub name: String,
    /// The tree.
    pub route: Route,
}

/// A route of the tree. Pools and servers are indices into `Config::pools` and their servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// One route per operation.
    OperationSelector {
        /// The operations that have one; none twice.
        policies: Vec<(Operation, Route)>,
        /// For the others.
        default: Box<Route>,
    },
    /// All children at once.
    AllFastest(Vec<Route>),
    /// One child after the other.
    MissFailover(Vec<Route>),
    /// The first child that can be used.
    Default(Vec<Route>),
    /// The router itself.
    Local,
    /// The server of a pool that the hash gives.
    Pool {
        /// Which pool.
        pool: usize,
    },
    /// One server.
    Server {
        /// Which pool.
        pool: usize,
        /// Which of its servers.
        server: usize,
    },
}

/// The routes with children, by their word.
#[derive(Clone, Copy)]
enum Joined {
    AllFastest,
    MissFailover,
    Default,
}

impl Joined {
    fn of(word: &str) -> Option<Joined> {
        match word {
            "AllFastestRoute" => Some(Joined::AllFastest),
            "MissFailoverRoute" => Some(Joined::MissFailover),
            "DefaultRoute" => Some(Joined::Default),
            _ => None,
        }
    }

    /// mcrouter's rule: with one child it is that child.
    fn over(self, mut children: Vec<Route>) -> Option<Route> {
        if children.len() <= 1 {
            return children.pop();
        }
        Some(match self {
            Joined::AllFastest => Route::AllFastest(children),
            Joined::MissFailover => Route::MissFailover(children),
            Joined::Default => Route::Default(children),
        })
    }
}

/// Reads `routes`: a map of ours.
pub(super) fn read_routes(node: &Node, path: &Path<'_>, pools: &[Pool], faults: &mut Faults) -> Vec<NamedRoute> {
    if let Value::List(_) = node.value {
        let problem = "a list, mcrouter's form with prefixes, isn't supported by this version".to_owned();
        faults.at(node.position, path, problem, "a map of name to route".to_owned());
        return Vec::new();
    }
    let named = entries(node, path, faults).unwrap_or_default();
    if named.is_empty() || named.len() > MAX_ROUTES {
        faults.at(node.position, path, format!("{} routes", named.len()), format!("1 to {MAX_ROUTES}"));
        return Vec::new();
    }
    let mut reader = Reader { pools, named, following: Vec::new(), nodes: 0, faults };
    let mut routes = Vec::with_capacity(named.len());
    for entry in named {
        let path = Path::Key(path, &entry.key);
        if !is_name(&entry.key) || is_type(&entry.key) || entry.key == "Pool" {
            let allowed = format!("{NAME_FORM}, and not a route's type");
            reader.faults.at(entry.position, path, format!("{} is no good name", seen(&entry.key)), allowed);
        }
        reader.following.push(&entry.key);
        // A route with faults is kept under its name, so that listeners which name it aren't called wrong too.
        let route = reader.single(&entry.value, &path, 0).unwrap_or(Route::Local);
        reader.following.clear();
        routes.push(NamedRoute { name: entry.key.clone(), route });
    }
    routes
}

/// Reads `route`: the only tree.
pub(super) fn read_route(node: &Node, path: &Path<'_>, pools: &[Pool], faults: &mut Faults) -> NamedRoute {
    let mut reader = Reader { pools, named: &[], following: Vec::new(), nodes: 0, faults };
    let route = reader.single(node, path, 0).unwrap_or(Route::Local);
    NamedRoute { name: MAIN_ROUTE.to_owned(), route }
}

struct Reader<'a> {
    pools: &'a [Pool],
    named: &'a [Entry],
    /// Names being read, outermost first.
    following: Vec<&'a str>,
    nodes: usize,
    faults: &'a mut Faults,
}

impl<'a> Reader<'a> {
    /// One route where one is needed. `None` after a fault.
    fn single(&mut self, node: &'a Node, path: &Path<'_>, depth: usize) -> Option<Route> {
        self.count(node.position, path, depth, 1)?;
        match &node.value {
            Value::Map(_) => self.object(node, path, depth),
            Value::List(items) => match items.as_slice() {
                [only] => self.single(only, &Path::Item(path, 0), depth + 1),
                items => {
                    let problem = format!("a list of {} where one route is needed", items.len());
                    let allowed = "a route that joins them, as {type: MissFailoverRoute, children: [...]}".to_owned();
                    self.fault(node.position, path, problem, allowed)
                }
            },
            Value::Scalar { .. } => match node.text() {
                Some(text) => self.short(text, node.position, path, depth),
                None => {
                    let allowed = "an object with `type`, `Type|argument`, or a name".to_owned();
                    self.fault(node.position, path, "nothing where a route is needed".to_owned(), allowed)
                }
            },
        }
    }

    /// The routes in child position: a list's items one after the other, `Pool|name` as one per server.
    fn children(&mut self, node: &'a Node, path: &Path<'_>, depth: usize, out: &mut Vec<Route>) -> Option<()> {
        match (&node.value, node.text()) {
            (Value::List(items), _) => {
                self.count(node.position, path, depth, 1)?;
                let mut good = Some(());
                for (at, item) in items.iter().enumerate() {
                    good = good.and(self.children(item, &Path::Item(path, at), depth + 1, out));
                }
                good
            }
            (_, Some(text)) if text.starts_with("Pool|") => self.short_children(text, node.position, path, depth, out),
            _ => {
                out.push(self.single(node, path, depth)?);
                Some(())
            }
        }
    }

    /// `{type: ..., ...}`
    fn object(&mut self, node: &'a Node, path: &Path<'_>, depth: usize) -> Option<Route> {
        let entries = entries(node, path, self.faults)?;
        let Some(kind) = entries.iter().find(|entry| entry.key == "type") else {
            let allowed = format!("{{type: ...}} with one of {}", ROUTE_TYPES.join(", "));
            return self.fault(node.position, path, "type is missing".to_owned(), allowed);
        };
        let kind_path = Path::Key(path, "type");
        let Some(word) = kind.value.text() else {
            let problem = format!("{} where a route's type is needed", kind.value.seen());
            return self.fault(kind.value.position, &kind_path, problem, ROUTE_TYPES.join(", "));
        };
        let map = |section: &'static Section, faults: &mut Faults| Map::read(node, section, path, faults);
        match (word, Joined::of(word)) {
            (_, Some(joined)) => {
                let map = map(&CHILDREN_ROUTE, self.faults);
                let Some(node) = map.find("children") else {
                    return joined.over(self.only_pool(word, "children", node.position, path)?);
                };
                let children_path = Path::Key(path, "children");
                let mut children = Vec::new();
                self.children(node, &children_path, depth + 1, &mut children)?;
                if children.is_empty() {
                    let allowed = "at least one route".to_owned();
                    return self.fault(node.position, &children_path, "no children".to_owned(), allowed);
                }
                joined.over(children)
            }
            ("OperationSelectorRoute", _) => {
                let map = map(&OPERATION_SELECTOR_ROUTE, self.faults);
                self.operation_selector(&map, depth)
            }
            ("PoolRoute", _) => {
                let map = map(&POOL_ROUTE, self.faults);
                map.required("pool", self.faults);
                let (name, node) = map.given_text("pool", self.faults)?;
                let pool = self.pool(name, node.position, &Path::Key(path, "pool"))?;
                Some(Route::Pool { pool })
            }
            ("LocalRoute", _) => {
                map(&LOCAL_ROUTE, self.faults);
                Some(Route::Local)
            }
            (word, None) => self.unknown_type(word, kind.value.position, &kind_path),
        }
    }

    fn operation_selector(&mut self, map: &Map<'a, '_>, depth: usize) -> Option<Route> {
        let mut good = Some(());
        let mut policies: Vec<(Operation, Route)> = Vec::new();
        if let Some(node) = map.find("operation_policies") {
            let path = Path::Key(map.path, "operation_policies");
            for entry in entries(node, &path, self.faults)? {
                let path = Path::Key(&path, &entry.key);
                let Some(operation) = Operation::ALL.into_iter().find(|o| is_named(o.name(), &entry.key)) else {
                    let names = Operation::ALL.map(Operation::name);
                    let near = did_you_mean(&entry.key, names);
                    good = self.fault(entry.position, &path, format!("unknown operation{near}"), names.join(", "));
                    continue;
                };
                if policies.iter().any(|(known, _)| *known == operation) {
                    let problem = format!("{} is given twice", seen(&entry.key));
                    good = self.fault(entry.position, &path, problem, String::new());
                    continue;
                }
                match self.single(&entry.value, &path, depth + 1) {
                    Some(route) => policies.push((operation, route)),
                    None => good = None,
                }
            }
        }
        let default = match map.find("default_policy") {
            Some(node) => self.single(node, &Path::Key(map.path, "default_policy"), depth + 1)?,
            // gomcrouter's rule for operations without a policy.
            None => Joined::Default.over(self.only_pool(
                "OperationSelectorRoute",
                "default_policy",
                map.position,
                map.path,
            )?)?,
        };
        good?;
        Some(Route::OperationSelector { policies, default: Box::new(default) })
    }

    /// `Type|argument`, a bare type, or a name.
    fn short(&mut self, text: &'a str, at: Position, path: &Path<'_>, depth: usize) -> Option<Route> {
        self.count(at, path, depth, 1)?;
        let Some((word, argument)) = text.split_once('|') else { return self.bare(text, at, path, depth) };
        match (word, Joined::of(word)) {
            (_, Some(joined)) => {
                let mut children = Vec::new();
                self.short_children(argument, at, path, depth + 1, &mut children)?;
                joined.over(children)
            }
            ("PoolRoute", _) => self.pool(argument, at, path).map(|pool| Route::Pool { pool }),
            ("Pool", _) => {
                let allowed = format!("PoolRoute|{}, or a route with children", seen(argument).trim_matches('`'));
                self.fault(at, path, format!("{} is a list of servers, not a route", seen(text)), allowed)
            }
            ("LocalRoute" | "OperationSelectorRoute", _) => {
                self.fault(at, path, format!("{word} takes no argument; seen {}", seen(text)), String::new())
            }
            (word, None) => self.unknown_type(word, at, path),
        }
    }

    /// The argument of a route with children, as in `AllFastestRoute|Pool|web`.
    fn short_children(
        &mut self,
        text: &'a str,
        at: Position,
        path: &Path<'_>,
        depth: usize,
        out: &mut Vec<Route>,
    ) -> Option<()> {
        match text.strip_prefix("Pool|") {
            Some(name) => {
                let pool = self.pool(name, at, path)?;
                out.extend(self.servers(pool, at, path)?);
            }
            None => out.push(self.short(text, at, path, depth)?),
        }
        Some(())
    }

    /// A word alone: a type without arguments, or the name of another tree.
    fn bare(&mut self, word: &'a str, at: Position, path: &Path<'_>, depth: usize) -> Option<Route> {
        match (word, Joined::of(word)) {
            (_, Some(joined)) => joined.over(self.only_pool(word, "children", at, path)?),
            ("LocalRoute", _) => Some(Route::Local),
            ("OperationSelectorRoute", _) => Joined::Default.over(self.only_pool(word, "default_policy", at, path)?),
            ("PoolRoute", _) => {
                self.fault(at, path, "PoolRoute lacks its pool".to_owned(), self.pool_names("PoolRoute|"))
            }
            (name, None) => {
                let named = self.named;
                match named.iter().find(|entry| entry.key == name) {
                    Some(entry) => self.follow(entry, at, path, depth),
                    None => self.unknown_type(name, at, path),
                }
            }
        }
    }

    /// The tree another name stands for.
    fn follow(&mut self, entry: &'a Entry, at: Position, path: &Path<'_>, depth: usize) -> Option<Route> {
        if self.following.contains(&entry.key.as_str()) {
            let round = format!("{} leads back to itself through {}", seen(&entry.key), self.following.join(", "));
            return self.fault(at, path, round, String::new());
        }
        self.following.push(&entry.key);
        let routes = Path::Key(&Path::Top, "routes");
        let route = self.single(&entry.value, &Path::Key(&routes, &entry.key), depth + 1);
        self.following.pop();
        route
    }

    /// The servers of the only pool: what a route means that doesn't say where to.
    fn only_pool(&mut self, word: &str, key: &str, at: Position, path: &Path<'_>) -> Option<Vec<Route>> {
        match self.pools.len() {
            1 => self.servers(0, at, path),
            0 => self.fault(at, path, format!("{word} needs {key}, as there is no pool"), String::new()),
            pools => {
                let allowed = self.pool_names(if key == "children" { "Pool|" } else { "PoolRoute|" });
                self.fault(at, path, format!("{word} needs {key}, as there are {pools} pools"), allowed)
            }
        }
    }

    fn servers(&mut self, pool: usize, at: Position, path: &Path<'_>) -> Option<Vec<Route>> {
        let servers = self.pools[pool].servers.len();
        self.count(at, path, 0, servers)?;
        // None means the pool has faults of its own, and they are noted.
        (servers > 0).then(|| (0..servers).map(|server| Route::Server { pool, server }).collect())
    }

    fn pool(&mut self, name: &str, at: Position, path: &Path<'_>) -> Option<usize> {
        let found = self.pools.iter().position(|pool| pool.name == name);
        if found.is_none() {
            let near = did_you_mean(name, self.pools.iter().map(|pool| pool.name.as_str()));
            return self.fault(at, path, format!("no pool {}{near}", seen(name)), self.pool_names(""));
        }
        found
    }

    fn unknown_type<T>(&mut self, word: &str, at: Position, path: &Path<'_>) -> Option<T> {
        let names = || self.named.iter().map(|entry| entry.key.as_str());
        let allowed: Vec<&str> = ROUTE_TYPES.into_iter().chain(names()).take(40).collect();
        let problem = if UNSUPPORTED_ROUTE_TYPES.contains(&word) {
            format!("{word} isn't supported by this version")
        } else if self.pools.iter().any(|pool| pool.name == word) {
            format!("{} is a pool, not a route, did you mean PoolRoute|{word}?", seen(word))
        } else {
            format!("unknown route {}{}", seen(word), did_you_mean(word, ROUTE_TYPES.into_iter().chain(names())))
        };
        self.fault(at, path, problem, allowed.join(", "))
    }

    fn pool_names(&self, prefix: &str) -> String {
        self.pools.iter().take(20).map(|pool| format!("{prefix}{}", pool.name)).collect::<Vec<_>>().join(", ")
    }

    /// Holds the trees to their size.
    fn count(&mut self, at: Position, path: &Path<'_>, depth: usize, routes: usize) -> Option<()> {
        self.nodes += routes;
        if depth > MAX_ROUTE_DEPTH {
            return self.fault(at, path, format!("routes nested deeper than {MAX_ROUTE_DEPTH}"), String::new());
        }
        if self.nodes > MAX_ROUTE_NODES {
            return self.fault(at, path, format!("more than {MAX_ROUTE_NODES} routes in all"), String::new());
        }
        Some(())
    }

    fn fault<T>(&mut self, at: Position, path: &Path<'_>, problem: String, allowed: String) -> Option<T> {
        self.faults.at(at, path, problem, allowed);
        None
    }
}

fn is_type(word: &str) -> bool {
    ROUTE_TYPES.contains(&word) || UNSUPPORTED_ROUTE_TYPES.contains(&word)
}
