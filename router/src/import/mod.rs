//! `keyway import`: another router's configuration to ours, with every key that isn't carried over named.
//!
//! The way: text -> tree with positions (YAML, JSON or TOML) -> tree of our configuration (one file per router) -> the
//! reader of configurations, which finds what we don't take -> YAML. Never invents a value without saying so, and never
//! leaves a key out in silence.

mod gomcrouter;
mod made;
mod nutcracker;
mod overlord;
mod section;
mod toml;
mod yaml;

use crate::config::error::{Faults, Position};
use crate::config::tree::{self, Node, Value};
use crate::config::{Config, ConfigErrors, MAX_FILE_BYTES, Notes, Overrides, json, mcrouter};
use std::path::Path;

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// twemproxy's nutcracker.yml.
    Nutcracker,
    /// mcrouter's JSON.
    Mcrouter,
    /// gomcrouter's router.yaml.
    Gomcrouter,
    /// The cluster file of Overlord's proxy.
    Overlord,
}

impl Source {
    /// Every one.
    pub const ALL: [Source; 4] = [Source::Nutcracker, Source::Mcrouter, Source::Gomcrouter, Source::Overlord];

    /// The name `--from` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Nutcracker => "nutcracker",
            Source::Mcrouter => "mcrouter",
            Source::Gomcrouter => "gomcrouter",
            Source::Overlord => "overlord",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.name() == name)
    }
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Whose it was.
    pub source: Source,
    /// Our configuration, as YAML.
    pub yaml: String,
    /// What isn't carried over, or not as it was.
    pub notes: Notes,
    /// What in it Keyway doesn't take, with places in the file that was read.
    pub refused: Option<ConfigErrors>,
}

/// Reads a configuration of any of the routers; `from` says whose it is where the text can't. The error is a file that
/// isn't one.
pub fn import(bytes: &[u8], file: &str, from: Option<Source>, overrides: &Overrides) -> Result<Imported, ConfigErrors> {
    let (source, tree, notes) = translate(bytes, file, from, overrides)?;
    let refused = Config::from_tree(&tree, file, &Overrides::default()).err();
    let yaml = yaml::print(&tree, &format!("Made by keyway import from {}'s {}.", source.name(), yaml::comment(file)));
    Ok(Imported { source, yaml, notes, refused })
}

/// Reads a configuration of ours or of another router, whichever it is.
pub fn load_any(path: &Path, overrides: &Overrides) -> Result<Config, ConfigErrors> {
    let file = path.display().to_string();
    let bytes = Config::read_file(path)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    match told_apart(&file, text) {
        Some(source @ (Source::Nutcracker | Source::Overlord)) => {
            let (_, tree, _) = translate(&bytes, &file, Some(source), overrides)?;
            Config::from_tree(&tree, &file, overrides)
        }
        Some(Source::Mcrouter | Source::Gomcrouter) | None => Config::parse(&bytes, &file, overrides),
    }
}

/// Whose configuration a text is, by what it holds.
fn told_apart(file: &str, text: &str) -> Option<Source> {
    if json::is_json(file, text) {
        return Some(Source::Mcrouter);
    }
    if toml::is_toml(text) {
        return Some(Source::Overlord);
    }
    let top = tree::parse(text, &mut Faults::default())?;
    let Value::Map(entries) = &top.value else { return None };
    let has = |names: &[&str]| entries.iter().any(|entry| names.contains(&entry.key.as_str()));
    let is_pool = |node: &Node| match &node.value {
        Value::Map(keys) => keys.iter().any(|entry| entry.key == "listen"),
        Value::Scalar { .. } | Value::List(_) => false,
    };
    if has(&["orderedPool", "ordered_pool"]) {
        Some(Source::Gomcrouter)
    } else if entries.iter().any(|entry| is_pool(&entry.value)) {
        Some(Source::Nutcracker)
    } else {
        has(&["pools", "route", "routes", "named_handles"]).then_some(Source::Mcrouter)
    }
}

fn translate(
    bytes: &[u8],
    file: &str,
    from: Option<Source>,
    overrides: &Overrides,
) -> Result<(Source, Node, Notes), ConfigErrors> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(ConfigErrors::whole_file(file, format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let Position { line, column } = tree::position_of_byte(bytes, error.valid_up_to());
        ConfigErrors::whole_file(file, format!("not UTF-8 in line {line}, column {column}"))
    })?;
    let names = Source::ALL.map(Source::name).join(", ");
    let source = from.or_else(|| told_apart(file, text)).ok_or_else(|| {
        let problem = "holds no configuration that is known".to_owned();
        ConfigErrors::whole_file(file, format!("{problem}; say whose it is with --from: {names}"))
    })?;
    let mut faults = Faults::default();
    let mut notes = Notes::of(file);
    let tree = match source {
        Source::Nutcracker => {
            tree::parse(text, &mut faults).and_then(|top| nutcracker::translate(&top, &mut notes, &mut faults))
        }
        Source::Gomcrouter => {
            tree::parse(text, &mut faults).and_then(|top| gomcrouter::translate(top, &mut notes, &mut faults))
        }
        Source::Overlord => {
            toml::parse(text, &mut faults).and_then(|top| overlord::translate(&top, &mut notes, &mut faults))
        }
        Source::Mcrouter => Config::tree(text, file, overrides, &mut notes, &mut faults).map(|top| {
            // YAML is no form of mcrouter's; who writes its routes so means them all the same.
            let is_translated = json::is_json(file, text);
            if is_translated { top } else { mcrouter::translate(top, &mut notes, &mut faults) }
        }),
    };
    match (faults.into_errors(file), tree) {
        (None, Some(tree)) => Ok((source, tree, notes)),
        (Some(errors), _) => Err(errors),
        (None, None) => Err(ConfigErrors::whole_file(file, "holds no configuration".to_owned())),
    }
}
