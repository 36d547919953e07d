//! RootRoute, and mcrouter's forms of `routes` that make one: a list of aliases with their route, or a map of prefixes.

use super::super::error::{Faults, Path, Position, seen};
use super::super::keys::{Default as Given, Section, TYPE, shape};
use super::super::reader::{Map, entries, text_of};
use super::super::tree::{Node, Value};
use super::choosing::switch;
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::routes::root::Root;

/// mcrouter's.
const DEFAULT_PREFIX: &str = "/././";
pub(in super::super) const PREFIX_FORM: &str = "`/region/cluster/`";

/// RootRoute.
pub(super) static ROOT_KEYS: Section = Section {
    name: "RootRoute",
    keys: &[
        TYPE,
        shape(
            "routes",
            "list of `{aliases, route}`, or map of prefix to route",
            "each with one or more routing prefixes of its own",
            Given::Required,
            "The route of each routing prefix.",
        ),
        shape("default_route", "text", PREFIX_FORM, Given::Said("`/././`"), "The prefix of keys that have none."),
        switch("send_invalid_route_to_default", "Whether a prefix that nobody has goes to the default route."),
    ],
    unsupported: &[],
};

/// One entry of a list of routes.
pub(super) static ALIASES_KEYS: Section = Section {
    name: "RootRoute.routes[]",
    keys: &[
        shape(
            "aliases",
            "list of text",
            PREFIX_FORM,
            Given::Required,
            "The routing prefixes that stand for this route.",
        ),
        shape("route", "route", super::super::keys::ROUTE_FORMS, Given::Required, "The route."),
    ],
    unsupported: &[],
};

pub(super) static ROOT: RouteType = RouteType {
    names: &["RootRoute"],
    section: &ROOT_KEYS,
    read: |reader, map, depth| {
        let node = map.required("routes", reader.faults)?;
        let default = default_of(map, reader.faults);
        let lenient = map.word("send_invalid_route_to_default", reader.faults) == "true";
        reader.prefixed(node, &Path::Key(map.path, "routes"), depth, (&default?, map.position), lenient)
    },
    short: Short::None,
};

/// True for `routes` in one of mcrouter's forms.
pub(in super::super) fn is_prefixed(node: &Node) -> bool {
    match &node.value {
        Value::List(_) => true,
        Value::Map(entries) => entries.first().is_some_and(|entry| entry.key.starts_with('/')),
        Value::Scalar { .. } => false,
    }
}

/// The `default_route` of a map. None after a fault.
pub(super) fn default_of(map: &Map<'_, '_>, faults: &mut Faults) -> Option<String> {
    let Some((text, node)) = map.given_text("default_route", faults) else {
        return Some(DEFAULT_PREFIX.to_owned());
    };
    let prefix = prefix_of(text);
    if prefix.is_none() {
        map.refuse("default_route", node, format!("{} is no routing prefix", seen(text)), faults);
    }
    prefix
}

impl<'a> Reader<'a> {
    /// Reads prefixes with their routes, in one of mcrouter's forms.
    pub(super) fn prefixed(
        &mut self,
        node: &'a Node,
        path: &Path<'_>,
        depth: usize,
        (default, default_at): (&str, Position),
        lenient: bool,
    ) -> Option<Route> {
        let mut aliases: Vec<(String, usize)> = Vec::new();
        let mut children = Vec::new();
        let mut good = Some(());
        match &node.value {
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    let path = Path::Item(path, at);
                    match read_aliases(self, item, &path, depth, children.len(), &mut aliases) {
                        Some(child) => children.push(child),
                        None => good = None,
                    }
                }
            }
            Value::Map(_) | Value::Scalar { .. } => {
                for entry in entries(node, path, self.faults)? {
                    let path = Path::Key(path, &entry.key);
                    good = good.and(add_alias(self, &entry.key, entry.position, &path, children.len(), &mut aliases));
                    match self.single(&entry.value, &path, depth + 1) {
                        Some(child) => children.push(child),
                        None => good = None,
                    }
                }
            }
        }
        good?;
        let named: Vec<(&str, usize)> = aliases.iter().map(|(prefix, child)| (prefix.as_str(), *child)).collect();
        match Root::new(&named, default, lenient) {
            Ok(root) => Route::over(root, children),
            Err(error) => {
                let prefixes: Vec<&str> = named.iter().map(|(prefix, _)| *prefix).take(20).collect();
                self.fault(
                    default_at,
                    path,
                    error.to_string(),
                    format!("default_route: one of {}", prefixes.join(", ")),
                )
            }
        }
    }
}

fn read_aliases<'a>(
    reader: &mut Reader<'a>,
    item: &'a Node,
    path: &Path<'_>,
    depth: usize,
    child: usize,
    aliases: &mut Vec<(String, usize)>,
) -> Option<Route> {
    let map = Map::read(item, &ALIASES_KEYS, path, reader.faults);
    let route = reader.child(&map, "route", depth);
    let node = map.required("aliases", reader.faults)?;
    let path = Path::Key(path, "aliases");
    let one = std::slice::from_ref(node);
    let texts = if let Value::List(items) = &node.value { items.as_slice() } else { one };
    if texts.is_empty() {
        return reader.fault(node.position, &path, "no aliases".to_owned(), PREFIX_FORM.to_owned());
    }
    for (at, item) in texts.iter().enumerate() {
        let path = Path::Item(&path, at);
        let text = text_of(item, &path, PREFIX_FORM, reader.faults)?;
        add_alias(reader, text, item.position, &path, child, aliases)?;
    }
    route
}

fn add_alias(
    reader: &mut Reader<'_>,
    text: &str,
    at: Position,
    path: &Path<'_>,
    child: usize,
    aliases: &mut Vec<(String, usize)>,
) -> Option<()> {
    let Some(prefix) = prefix_of(text).filter(|prefix| !prefix.contains('*')) else {
        return reader.fault(at, path, format!("{} is no routing prefix", seen(text)), PREFIX_FORM.to_owned());
    };
    if aliases.iter().any(|(known, _)| *known == prefix) {
        return reader.fault(at, path, format!("{} is given twice", seen(&prefix)), String::new());
    }
    aliases.push((prefix, child));
    Some(())
}

/// `/region/cluster/`, as mcrouter takes it: the slashes at both ends may be left out.
pub(super) fn prefix_of(text: &str) -> Option<String> {
    let inner = text.strip_prefix('/').unwrap_or(text);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let (region, cluster) = inner.split_once('/')?;
    let good = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte > b' ' && byte != 127 && byte != b'/');
    (good(region) && good(cluster) && inner.len() < 200).then(|| format!("/{region}/{cluster}/"))
}
