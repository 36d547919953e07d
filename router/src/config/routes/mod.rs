//! Route trees as mcrouter writes them, to a typed tree that refers to pools and servers by index.
//!
//! Owns the forms (object with `type`, `Type|argument`, a name, a list of children), names that stand for trees, and the
//! defaults gomcrouter's file counts on. Each route's own keys are read in the file of its kind (`TYPES`). Never builds the
//! arena (`table` does). Recursion and size are bounded: names that refer to each other can't go round in a circle or
//! blow up.

mod basic;
mod changing;
mod choosing;
mod copies;
mod failover;
mod hash;
mod levels;
mod limiting;
mod names;
mod orders;
mod replicated;
mod replies;
mod root;
mod types;

pub(super) use root::{PREFIX_FORM, is_prefixed};
pub use types::ROUTE_SECTIONS;

use super::address::is_name;
use super::error::{Faults, Path, Position, did_you_mean, seen};
use super::keys::NAME_FORM;
use super::pools::Pool;
use super::reader::{Map, entries};
use super::tree::{Node, Value};
use keyway_policies::RouteNode;
use keyway_policies::routes::default::Default;
use keyway_policies::routes::local::Local;
use types::{RouteType, Short, UNSUPPORTED_ROUTE_TYPES, type_names, type_of};

/// Most named routes.
pub const MAX_ROUTES: usize = 1000;
/// Deepest nesting of routes, names followed.
pub const MAX_ROUTE_DEPTH: usize = 32;
/// Most routes in all trees together, with names followed and pools spelled out.
pub const MAX_ROUTE_NODES: usize = 100_000;
/// The name of the tree that `route` makes.
pub const MAIN_ROUTE: &str = "main";

/// A named tree.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedRoute {
    /// The configured name.
    pub name: String,
    /// The tree.
    pub route: Route,
}

/// A route of the tree. Pools and servers are indices into `Config::pools` and their servers.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// A route of the tree's own kinds over children, in the order its file in `keyway_policies::routes` gives.
    Node(RouteNode, Vec<Route>),
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

impl Route {
    /// A route without children.
    pub fn leaf(route: impl Into<RouteNode>) -> Route {
        Route::Node(route.into(), Vec::new())
    }

    /// A route over children. mcrouter's rule for joins: with one child it is that child. None without children.
    pub fn over(route: impl Into<RouteNode>, mut children: Vec<Route>) -> Option<Route> {
        let route = route.into();
        match children.len() {
            0 => None,
            1 if route.is_its_only_child() => children.pop(),
            _ => Some(Route::Node(route, children)),
        }
    }
}

/// Reads `routes`: a map of ours. `logs`: there is an async log.
pub(super) fn read_routes(
    node: &Node,
    path: &Path<'_>,
    handles: Option<&Node>,
    pools: &[Pool],
    logs: bool,
    faults: &mut Faults,
) -> Vec<NamedRoute> {
    let named = entries(node, path, faults).unwrap_or_default();
    if named.is_empty() || named.len() > MAX_ROUTES {
        faults.at(node.position, path, format!("{} routes", named.len()), format!("1 to {MAX_ROUTES}"));
        return Vec::new();
    }
    let mut known = named.iter().map(|entry| (entry.key.as_str(), &entry.value)).collect();
    read_names(node, handles, &mut known, faults);
    let mut reader = Reader { pools, logs, named: known, following: Vec::new(), nodes: 0, faults };
    let mut routes = Vec::with_capacity(named.len());
    for entry in named {
        let path = Path::Key(path, &entry.key);
        if !is_name(&entry.key) || is_type(&entry.key) || entry.key == "Pool" {
            let allowed = format!("{NAME_FORM}, and not a route's type");
            reader.faults.at(entry.position, path, format!("{} is no good name", seen(&entry.key)), allowed);
        }
        reader.following.push(&entry.key);
        // A route with faults is kept under its name, so that listeners which name it aren't called wrong too.
        let route = reader.single(&entry.value, &path, 0).unwrap_or_else(|| Route::leaf(Local));
        reader.following.clear();
        routes.push(NamedRoute { name: entry.key.clone(), route });
    }
    routes
}

/// Reads `route`: the only tree. `logs`: there is an async log.
pub(super) fn read_route(
    node: &Node,
    path: &Path<'_>,
    handles: Option<&Node>,
    pools: &[Pool],
    logs: bool,
    faults: &mut Faults,
) -> NamedRoute {
    let mut known = Vec::new();
    read_names(node, handles, &mut known, faults);
    let mut reader = Reader { pools, logs, named: known, following: Vec::new(), nodes: 0, faults };
    let route = reader.single(node, path, 0).unwrap_or_else(|| Route::leaf(Local));
    NamedRoute { name: MAIN_ROUTE.to_owned(), route }
}

/// Reads `routes` in mcrouter's forms: the tree that chooses by routing prefix.
pub(super) fn read_prefixed(
    top: &Map<'_, '_>,
    node: &Node,
    path: &Path<'_>,
    handles: Option<&Node>,
    pools: &[Pool],
    logs: bool,
    faults: &mut Faults,
) -> NamedRoute {
    let mut known = Vec::new();
    read_names(node, handles, &mut known, faults);
    let default = root::default_of(top, faults);
    let lenient = top.word("send_invalid_route_to_default", faults) == "true";
    let mut reader = Reader { pools, logs, named: known, following: Vec::new(), nodes: 0, faults };
    let route = default.and_then(|default| reader.prefixed(node, path, 0, (&default, node.position), lenient));
    NamedRoute { name: MAIN_ROUTE.to_owned(), route: route.unwrap_or_else(|| Route::leaf(Local)) }
}

fn read_names<'a>(
    node: &'a Node,
    handles: Option<&'a Node>,
    known: &mut Vec<(&'a str, &'a Node)>,
    faults: &mut Faults,
) {
    if let Some(handles) = handles {
        names::read_handles(handles, &Path::Key(&Path::Top, "named_handles"), known, faults);
    }
    names::collect(node, known, faults);
}

/// Reads trees, with what is common to all of them.
pub(super) struct Reader<'a> {
    pools: &'a [Pool],
    /// There is an async log.
    pub(super) logs: bool,
    /// Trees by name.
    named: Vec<(&'a str, &'a Node)>,
    /// Names being read, outermost first.
    following: Vec<&'a str>,
    nodes: usize,
    pub(super) faults: &'a mut Faults,
}

impl<'a> Reader<'a> {
    /// One route where one is needed. `None` after a fault.
    pub(super) fn single(&mut self, node: &'a Node, path: &Path<'_>, depth: usize) -> Option<Route> {
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
    pub(super) fn children(
        &mut self,
        node: &'a Node,
        path: &Path<'_>,
        depth: usize,
        out: &mut Vec<Route>,
    ) -> Option<()> {
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
            let allowed = format!("{{type: ...}} with one of {}", type_names().join(", "));
            return self.fault(node.position, path, "type is missing".to_owned(), allowed);
        };
        let kind_path = Path::Key(path, "type");
        let Some(word) = kind.value.text() else {
            let problem = format!("{} where a route's type is needed", kind.value.seen());
            return self.fault(kind.value.position, &kind_path, problem, type_names().join(", "));
        };
        match type_of(word) {
            Some(kind) => {
                let map = Map::read(node, kind.section, path, self.faults);
                (kind.read)(self, &map, depth)
            }
            None => self.unknown_type(word, kind.value.position, &kind_path),
        }
    }

    /// The route under a key of a route; a fault when it isn't given.
    pub(super) fn child(&mut self, map: &Map<'a, '_>, key: &str, depth: usize) -> Option<Route> {
        let node = map.required(key, self.faults)?;
        self.single(node, &Path::Key(map.path, key), depth + 1)
    }

    /// The routes under `children`; each server of the only pool when it isn't given.
    pub(super) fn children_of(&mut self, kind: &str, map: &Map<'a, '_>, depth: usize) -> Option<Vec<Route>> {
        let Some(node) = map.find("children") else {
            return self.only_pool(kind, "children", map.position, map.path);
        };
        let path = Path::Key(map.path, "children");
        let mut children = Vec::new();
        self.children(node, &path, depth + 1, &mut children)?;
        if children.is_empty() {
            return self.fault(node.position, &path, "no children".to_owned(), "at least one route".to_owned());
        }
        Some(children)
    }

    /// `Type|argument`, a bare type, or a name.
    fn short(&mut self, text: &'a str, at: Position, path: &Path<'_>, depth: usize) -> Option<Route> {
        self.count(at, path, depth, 1)?;
        let Some((word, argument)) = text.split_once('|') else { return self.bare(text, at, path, depth) };
        if word == "Pool" {
            let allowed = format!("PoolRoute|{}, or a route with children", seen(argument).trim_matches('`'));
            return self.fault(at, path, format!("{} is a list of servers, not a route", seen(text)), allowed);
        }
        let Some(RouteType { short, .. }) = type_of(word) else { return self.unknown_type(word, at, path) };
        match short {
            Short::Children(join) | Short::Child(join) => {
                let mut children = Vec::new();
                self.short_children(argument, at, path, depth + 1, &mut children)?;
                join(children)
            }
            Short::Text(make) => Some(make(argument)),
            Short::Pool => self.pool(argument, at, path).and_then(|pool| copies::bare_pool(self.logs, pool)),
            Short::Alone(_) | Short::OnlyPool | Short::None => {
                self.fault(at, path, format!("{word} takes no argument; seen {}", seen(text)), String::new())
            }
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
        if let Some(RouteType { short, .. }) = type_of(word) {
            return match short {
                Short::Children(join) => join(self.only_pool(word, "children", at, path)?),
                Short::OnlyPool => Route::over(Default, self.only_pool(word, "default_policy", at, path)?),
                Short::Alone(make) => Some(make()),
                Short::Text(make) => Some(make("")),
                Short::Pool => {
                    let allowed = self.pool_names("PoolRoute|");
                    self.fault(at, path, "PoolRoute lacks its pool".to_owned(), allowed)
                }
                Short::Child(_) | Short::None => {
                    let allowed = format!("{{type: {word}, ...}}");
                    self.fault(at, path, format!("{word} alone says too little"), allowed)
                }
            };
        }
        match self.named.iter().find(|(name, _)| *name == word).copied() {
            Some((name, node)) => self.follow(name, node, at, path, depth),
            None => self.unknown_type(word, at, path),
        }
    }

    /// The tree another name stands for.
    fn follow(&mut self, name: &'a str, node: &'a Node, at: Position, path: &Path<'_>, depth: usize) -> Option<Route> {
        if self.following.contains(&name) {
            let round = format!("{} leads back to itself through {}", seen(name), self.following.join(", "));
            return self.fault(at, path, round, String::new());
        }
        self.following.push(name);
        let routes = Path::Key(&Path::Top, "routes");
        let route = self.single(node, &Path::Key(&routes, name), depth + 1);
        self.following.pop();
        route
    }

    /// The servers of the only pool: what a route means that doesn't say where to.
    pub(super) fn only_pool(&mut self, word: &str, key: &str, at: Position, path: &Path<'_>) -> Option<Vec<Route>> {
        match self.pools.len() {
            1 => self.servers(0, at, path),
            0 => self.fault(at, path, format!("{word} needs {key}, as there is no pool"), String::new()),
            pools => {
                let allowed = self.pool_names(if key == "children" { "Pool|" } else { "PoolRoute|" });
                self.fault(at, path, format!("{word} needs {key}, as there are {pools} pools"), allowed)
            }
        }
    }

    pub(super) fn servers(&mut self, pool: usize, at: Position, path: &Path<'_>) -> Option<Vec<Route>> {
        let servers = self.pools[pool].servers.len();
        self.count(at, path, 0, servers)?;
        // None means the pool has faults of its own, and they are noted.
        (servers > 0).then(|| (0..servers).map(|server| Route::Server { pool, server }).collect())
    }

    pub(super) fn pool(&mut self, name: &str, at: Position, path: &Path<'_>) -> Option<usize> {
        let found = self.pools.iter().position(|pool| pool.name == name);
        if found.is_none() {
            let near = did_you_mean(name, self.pools.iter().map(|pool| pool.name.as_str()));
            return self.fault(at, path, format!("no pool {}{near}", seen(name)), self.pool_names(""));
        }
        found
    }

    fn unknown_type<T>(&mut self, word: &str, at: Position, path: &Path<'_>) -> Option<T> {
        let names = || self.named.iter().map(|(name, _)| *name);
        let allowed: Vec<&str> = type_names().into_iter().chain(names()).take(80).collect();
        let problem = if UNSUPPORTED_ROUTE_TYPES.contains(&word) {
            format!("{word} isn't supported by this version")
        } else if self.pools.iter().any(|pool| pool.name == word) {
            format!("{} is a pool, not a route, did you mean PoolRoute|{word}?", seen(word))
        } else {
            format!("unknown route {}{}", seen(word), did_you_mean(word, type_names().into_iter().chain(names())))
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

    pub(super) fn fault<T>(&mut self, at: Position, path: &Path<'_>, problem: String, allowed: String) -> Option<T> {
        self.faults.at(at, path, problem, allowed);
        None
    }
}

fn is_type(word: &str) -> bool {
    type_of(word).is_some() || UNSUPPORTED_ROUTE_TYPES.contains(&word)
}
