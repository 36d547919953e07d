//! The shape of the repository, held: which crate may know which, where `unsafe` may stand, how long a file may be, what
//! lies at the top, and that the documentation's links lead somewhere.
//!
//! Reads the files as text, so that a broken rule is said with its place.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the words stand that are looked for.
const THIS_FILE: &str = "router/tests/structure.rs";

/// Most lines of a source file, its tests not counted.
const FILE_LINES: usize = 600;

/// Longer files, each with its own bound and the reason. Bounds only go down.
const LONG_FILES: [(&str, usize, &str); 0] = [];

/// Our crates, and those of ours each may use. Tests and examples may use what their crate may.
const CRATES: [(&str, &str, &[&str]); 7] = [
    ("protocol", "keyway-protocol", &[]),
    ("policies", "keyway-policies", &["keyway-protocol"]),
    ("io-engine", "keyway-io-engine", &[]),
    ("router", "keyway", &["keyway-io-engine", "keyway-policies", "keyway-protocol"]),
    ("bench", "keyway-bench", &["keyway-io-engine"]),
    ("protocol/fuzz", "keyway-protocol-fuzz", &["keyway-protocol"]),
    ("router/fuzz", "keyway-fuzz", &["keyway"]),
];

/// What lies at the top, dot-files apart.
const TOP: [&str; 14] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "bench",
    "docs",
    "examples",
    "io-engine",
    "policies",
    "protocol",
    "router",
    "router.yaml",
    "rust-toolchain.toml",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_owned()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path from the root, as the lists above write it.
fn name(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").display().to_string()
}

/// Every file below `folder` with that ending, in order. What a build or a fuzzer leaves behind is passed over.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let entry = entry.expect("an entry of a folder");
            let path = entry.path();
            let name = entry.file_name();
            let is_left_behind = ["target", "corpus", "artifacts"].iter().any(|left| name == *left);
            if entry.file_type().expect("a type").is_dir() {
                if !is_left_behind && !name.to_string_lossy().starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<PathBuf> {
    let found = files(&root(), "rs");
    assert!(found.len() > 100, "the sources weren't found");
    found
}

/// The names under a manifest's tables of dependencies, `[target.*]` ones and those written as `[dependencies.name]` too.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            if let Some((_, name)) = table.split_once("dependencies.") {
                names.insert(name.to_owned());
            }
        } else if inside && let Some((key, _)) = line.split_once('=') {
            names.insert(key.trim().split('.').next().unwrap_or_default().to_owned());
        }
    }
    names
}

#[test]
fn dependencies_are_read_in_every_form() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb.workspace = true\n[dependencies.c]\nversion = \"1\"\n\
                    [target.'cfg(unix)'.dev-dependencies]\nd = { version = \"1\" }\n[lints]\nworkspace = true\n";
    assert_eq!(dependencies(manifest).into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
}

#[test]
fn dependencies_point_one_way() {
    let ours: BTreeSet<&str> = CRATES.iter().map(|(_, name, _)| *name).collect();
    for (folder, name, allowed) in CRATES {
        let manifest = text(&root().join(folder).join("Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{folder} is {name}");
        for dependency in dependencies(&manifest) {
            let is_wrong = ours.contains(dependency.as_str()) && !allowed.contains(&dependency.as_str());
            assert!(!is_wrong, "{name} may not use {dependency}");
        }
    }
    let workspace = text(&root().join("Cargo.toml"));
    for member in
        workspace.lines().find(|line| line.starts_with("members")).expect("members").split('"').skip(1).step_by(2)
    {
        assert!(CRATES.iter().any(|(folder, _, _)| *folder == member), "{member} has no place in the list of crates");
    }
}

#[test]
fn lints_are_the_workspaces() {
    for (folder, name, _) in CRATES {
        let manifest = text(&root().join(folder).join("Cargo.toml"));
        // It alone may hold unsafe blocks, and so writes its own table.
        let own_table = folder == "io-engine";
        assert_eq!(manifest.contains("[lints]\nworkspace = true"), !own_table, "{name}");
        assert_eq!(manifest.contains("undocumented_unsafe_blocks = \"deny\""), own_table, "{name}");
    }
}

#[test]
fn unsafe_stands_in_io_engine_only() {
    let word = "unsafe";
    for path in sources() {
        if name(&path).starts_with("io-engine/") || name(&path) == THIS_FILE {
            continue;
        }
        for (at, line) in text(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            // Also `allow(..._code)`, which would let it in.
            assert!(!code.contains(word), "{}:{}: {word} belongs in io-engine", name(&path), at + 1);
        }
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    for path in sources() {
        let first = text(&path).lines().next().unwrap_or_default().to_owned();
        assert!(first.starts_with("//! ") && first.len() > 10, "{} begins with {first:?}", name(&path));
    }
}

#[test]
fn files_are_short_enough_to_read() {
    let is_test = |name: &str| name.contains("/tests/") || name.ends_with("/tests.rs") || name.ends_with("_tests.rs");
    for path in sources() {
        let name = name(&path);
        if is_test(&name) {
            continue;
        }
        let lines = text(&path).lines().take_while(|line| *line != "#[cfg(test)]").count();
        let long = LONG_FILES.iter().find(|(file, _, _)| *file == name);
        let most = long.map_or(FILE_LINES, |(_, most, _)| *most);
        assert!(lines <= most, "{name} has {lines} lines without its tests; at most {most}");
        assert!(long.is_none() || lines > FILE_LINES, "{name} is short enough now: take it off the list of long files");
    }
    for (file, _, why) in LONG_FILES {
        assert!(root().join(file).exists() && !why.is_empty(), "{file}");
    }
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("];
    for extension in ["rs", "md", "toml", "yaml"] {
        for path in files(&root(), extension).into_iter().filter(|path| name(path) != THIS_FILE) {
            for (at, line) in text(&path).lines().enumerate() {
                for word in words {
                    assert!(!line.contains(word), "{}:{}: {word}", name(&path), at + 1);
                }
            }
        }
    }
}

#[test]
fn names_say_what_things_are() {
    let vague = ["Manager", "Helper", "Utils"];
    let prefix = "fn get_";
    for path in sources() {
        if name(&path) == THIS_FILE {
            continue;
        }
        for (at, line) in text(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let defined = ["struct ", "enum ", "trait ", "mod ", "type "].iter().find_map(|word| {
                let (_, rest) = code.split_once(word)?;
                Some(rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default())
            });
            let is_vague = defined.is_some_and(|name| vague.iter().any(|word| name.ends_with(word)));
            assert!(!is_vague && !code.contains(prefix), "{}:{}: {line}", name(&path), at + 1);
        }
    }
}

#[test]
fn the_top_holds_what_was_agreed() {
    let entries = fs::read_dir(root()).expect("the root");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let found: BTreeSet<String> = names.filter(|name| !name.starts_with('.') && name != "target").collect();
    let wanted: BTreeSet<String> = TOP.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, wanted);
}

#[test]
fn every_example_has_a_readme_and_a_configuration() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("examples")).expect("examples") {
        let folder = entry.expect("an entry").path();
        if folder.is_dir() {
            seen += 1;
            for file in ["README.md", "router.yaml"] {
                assert!(folder.join(file).is_file(), "{} lacks {file}", name(&folder));
            }
        }
    }
    assert!(seen > 0, "there are no examples");
}

#[test]
fn the_readme_names_the_test_command_the_gate_runs() {
    let readme = text(&root().join("README.md"));
    assert_eq!(readme.matches("<!-- test-command -->\n```sh\nbash .ci/test\n```\n").count(), 1);
    assert!(root().join(".ci/test").is_file());
}

#[test]
fn links_in_the_documentation_lead_to_files_and_headings() {
    let mut seen = 0;
    for path in files(&root(), "md") {
        let page = text(&path);
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            seen += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().expect("a folder").join(file),
            };
            assert!(target.exists(), "{} links to {link}, which isn't there", name(&path));
            let is_there =
                || text(&target).lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
            assert!(heading.is_empty() || is_there(), "{} links to {link}, which has no such heading", name(&path));
        }
    }
    assert!(seen >= 5, "the links weren't found");
}

/// A heading's name in links, as hosts of repositories make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
