//! Routes that send another request than they were asked: with another key, or another time to live.

use super::super::error::seen;
use super::super::keys::{Default as Given, Key, Kind, Section, TYPE, shape};
use super::super::reader::Map;
use super::basic::TARGET;
use super::choosing::switch;
use super::root::prefix_of;
use super::types::{RouteType, Short};
use super::{Reader, Route};
use keyway_policies::routes::modify_exptime::{ExptimeAction, ModifyExptime};
use keyway_policies::routes::modify_key::ModifyKey;

const KEY_PART: &str = "text without spaces or control characters";

/// ModifyKeyRoute.
pub(super) static MODIFY_KEY_KEYS: Section = Section {
    name: "ModifyKeyRoute",
    keys: &[
        TYPE,
        TARGET,
        shape(
            "set_routing_prefix",
            "text",
            "`/region/cluster/`, or empty for none",
            Given::Said("as it is"),
            "The routing prefix, which is no part of the key.",
        ),
        shape("ensure_key_prefix", "text", KEY_PART, Given::Said("none"), "Put before keys that don't begin with it."),
        shape(
            "replace_key_prefix",
            "text",
            KEY_PART,
            Given::Said("none"),
            "Where the key begins with it, `ensure_key_prefix` takes its place.",
        ),
        shape("set_key_suffix", "text", KEY_PART, Given::Said("none"), "Put at the end of every key."),
        switch("modify_inplace", "Whether `ensure_key_prefix` takes the place of as many bytes of the key."),
    ],
    unsupported: &[],
};

/// ModifyExptimeRoute.
pub(super) static MODIFY_EXPTIME_KEYS: Section = Section {
    name: "ModifyExptimeRoute",
    keys: &[
        TYPE,
        TARGET,
        shape(
            "exptime",
            "number",
            "seconds up to 2592000, a second since 1970, 0 for no end, -1 for at once",
            Given::Required,
            "The time to live.",
        ),
        Key {
            name: "action",
            kind: Kind::Word { allowed: &["set", "min"], unsupported: &[], default: Given::Word("set") },
            meaning: "Whether it replaces the request's own always, or where that ends later.",
        },
    ],
    unsupported: &[],
};

pub(super) static MODIFY_KEY: RouteType =
    RouteType { names: &["ModifyKeyRoute"], section: &MODIFY_KEY_KEYS, read: read_modify_key, short: Short::None };

pub(super) static MODIFY_EXPTIME: RouteType = RouteType {
    names: &["ModifyExptimeRoute"],
    section: &MODIFY_EXPTIME_KEYS,
    read: |reader, map, depth| {
        map.required("exptime", reader.faults);
        let target = reader.child(map, "target", depth);
        let word = map.word("action", reader.faults);
        let action = ExptimeAction::from_name(word).unwrap_or(ExptimeAction::Set);
        let node = map.find("exptime")?;
        let Some(exptime) = node.text().and_then(|text| text.parse::<i32>().ok()) else {
            map.refuse("exptime", node, format!("{} is no exptime", node.seen()), reader.faults);
            return None;
        };
        // No end is the latest of all.
        if action == ExptimeAction::Min && exptime == 0 {
            return target;
        }
        Route::over(ModifyExptime::new(exptime, action), vec![target?])
    },
    short: Short::None,
};

fn read_modify_key<'a>(reader: &mut Reader<'a>, map: &Map<'a, '_>, depth: usize) -> Option<Route> {
    let mut route = ModifyKey {
        routing_prefix: None,
        ensure_prefix: key_part("ensure_key_prefix", reader, map)?.unwrap_or_default(),
        replace_prefix: key_part("replace_key_prefix", reader, map)?,
        suffix: key_part("set_key_suffix", reader, map)?.unwrap_or_default(),
        in_place: map.word("modify_inplace", reader.faults) == "true",
    };
    if let (true, Some(node)) = (route.replace_prefix.is_some(), map.find("modify_inplace")) {
        let problem = "replace_key_prefix and modify_inplace don't go together".to_owned();
        map.refuse("modify_inplace", node, problem, reader.faults);
        return None;
    }
    if let Some((text, node)) = map.given_text("set_routing_prefix", reader.faults) {
        let prefix = if text.is_empty() { Some(String::new()) } else { prefix_of(text) };
        let Some(prefix) = prefix else {
            map.refuse("set_routing_prefix", node, format!("{} is no routing prefix", seen(text)), reader.faults);
            return None;
        };
        route.routing_prefix = Some(prefix.into_bytes());
    }
    Route::over(route, vec![reader.child(map, "target", depth)?])
}

/// The outer None is after a fault.
fn key_part<'a>(name: &str, reader: &mut Reader<'a>, map: &Map<'a, '_>) -> Option<Option<Vec<u8>>> {
    let Some((text, node)) = map.given_text(name, reader.faults) else { return Some(None) };
    if text.bytes().any(|byte| byte <= b' ' || byte == 127) {
        map.refuse(name, node, format!("{} can't stand in a key", seen(text)), reader.faults);
        return None;
    }
    Some(Some(text.as_bytes().to_vec()))
}
