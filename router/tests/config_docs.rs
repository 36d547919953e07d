//! The documentation says what the code does: the tables of keys in `docs/configuration.md` are those of `config::keys`,
//! its flags are those of the command line, and every YAML example in the docs is a configuration.
//!
//! How examples are marked: a block opened with `yaml` is a whole file, `yaml part` is a piece that gets a route and a
//! pool where it lacks them, `yaml refused` must have faults. YAML of other programs is opened with `yml`.

use keyway::admin::Command;
use keyway::cli::{self, Invocation};
use keyway::config::keys::{Default, Kind, SECTIONS, Section};
use keyway::config::{Config, Overrides, ROUTE_SECTIONS};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_owned()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A section's table as the docs must have it.
fn table(section: &Section) -> String {
    let mut table = "| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n".to_owned();
    for key in section.keys {
        let shape = match key.kind {
            Kind::Number { .. } => "number",
            Kind::Word { .. } => "word",
            Kind::Shape { shape, .. } => shape,
        };
        let default = match key.kind.default() {
            Default::Required => "**required**".to_owned(),
            Default::Number(number) => number.to_string(),
            Default::Word(word) => format!("`{word}`"),
            Default::Said(said) => said.to_owned(),
        };
        let row = [format!("`{}`", key.name), shape.to_owned(), default, key.kind.allowed(), key.meaning.to_owned()];
        table += &format!("| {} |\n", row.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    table
}

/// The docs with every table as the code has it, those that lack one behind the rest. What `KEYWAY_WRITE_DOCS=1` writes.
fn with_tables(docs: &str) -> String {
    let mut written = docs.to_owned();
    for section in SECTIONS.into_iter().chain(ROUTE_SECTIONS.iter().copied()) {
        let marker = format!("<!-- keys: {} -->\n", section.name);
        match written.find(&marker) {
            Some(at) => {
                let start = at + marker.len();
                let blank = written[start..].len() - written[start..].trim_start_matches('\n').len();
                let end = written[start + blank..].find("\n\n").map_or(written.len(), |end| start + blank + end);
                written.replace_range(start + blank..end, table(section).trim_end());
            }
            None => written += &format!("\n### {}\n\n{marker}\n{}", section.name, table(section)),
        }
    }
    written
}

#[test]
fn every_table_of_keys_in_the_docs_is_the_one_in_the_code() {
    let docs = text(&root().join("docs/configuration.md"));
    if std::env::var_os("KEYWAY_WRITE_DOCS").is_some() {
        std::fs::write(root().join("docs/configuration.md"), with_tables(&docs)).expect("the docs can be written");
        return;
    }
    let mut documented = BTreeSet::new();
    for part in docs.split("<!-- keys: ").skip(1) {
        let (name, rest) = part.split_once(" -->\n").expect("a marker ends with -->");
        let section = SECTIONS.into_iter().chain(ROUTE_SECTIONS.iter().copied()).find(|section| section.name == name);
        let section = section.unwrap_or_else(|| panic!("the docs have keys for {name}, which isn't in the code"));
        let found = rest.trim_start_matches('\n').split("\n\n").next().unwrap_or_default();
        let wanted = table(section);
        assert_eq!(found.trim_end(), wanted.trim_end(), "the docs' table for {name}; it should be\n\n{wanted}");
        assert!(documented.insert(name), "{name} stands twice");
    }
    for section in SECTIONS.into_iter().chain(ROUTE_SECTIONS.iter().copied()) {
        assert!(
            documented.contains(section.name),
            "the docs lack <!-- keys: {} -->\n\n{}",
            section.name,
            table(section)
        );
    }
}

#[test]
fn every_admin_command_is_in_the_docs() {
    let mut wanted = "| Command | Arguments | Answer |\n|---|---|---|\n".to_owned();
    for command in Command::ALL {
        let arguments = match command.arguments() {
            "" => String::new(),
            arguments => format!("`{arguments}`"),
        };
        wanted += &format!("| `{}` | {arguments} | {} |\n", command.name(), command.meaning());
    }
    let docs = text(&root().join("docs/admin.md"));
    assert!(docs.contains(&format!("\n\n{wanted}\n")), "docs/admin.md should have\n\n{wanted}");
}

#[test]
fn every_flag_is_in_the_docs_and_every_flag_in_the_docs_exists() {
    let Invocation::Exit(help) = cli::read(["--help".into()]) else { panic!("help is text") };
    let flags = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        words.filter(|word| word.len() > 3 && word.starts_with("--")).map(str::to_owned).collect()
    };
    let mut wanted = flags(help.out.split("Options:").nth(1).expect("help lists options"));
    for verb in ["check", "explain", "replay", "import", "moved-keys"] {
        let Invocation::Exit(help) = cli::read([verb.into(), "--help".into()]) else { panic!("help is text") };
        wanted.extend(flags(&help.out));
    }
    let docs = text(&root().join("docs/configuration.md"));
    let section = docs.split("## Command line").nth(1).expect("the docs have the command line");
    let documented = flags(section.split("\n## ").next().unwrap_or_default());
    // `--flag=value` stands for all of them, and rows of a table aren't flags.
    let documented: BTreeSet<_> =
        documented.into_iter().filter(|flag| flag != "--flag" && !flag.ends_with("--")).collect();
    assert_eq!(wanted, documented);
}

#[test]
fn every_yaml_example_is_a_configuration() {
    let root = root();
    let mut files = vec![root.join("README.md")];
    files.extend(listing(&root.join("docs"), "md"));
    let mut seen = 0;
    for file in files.iter().filter(|file| file.exists()) {
        let text = text(file);
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let Some(mark) = line.trim_start().strip_prefix("```yaml") else { continue };
            let block: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim_start().starts_with("```")).collect();
            seen += 1;
            check_example(&format!("{}:{}", file.display(), at + 1), mark.trim(), &block.join("\n"));
        }
    }
    assert!(seen >= 5, "the examples weren't found");
    for file in listing(&root.join("examples"), "yaml").into_iter().chain([root.join("router.yaml")]) {
        check_example(&file.display().to_string(), "", &text(&file));
    }
}

fn check_example(place: &str, mark: &str, yaml: &str) {
    let gives = |key: &str| yaml.lines().any(|line| line.starts_with(&format!("{key}:")));
    let mut whole = format!("{yaml}\n");
    if mark == "part" {
        if !gives("route") && !gives("routes") {
            whole += "route: LocalRoute\n";
        }
        if !gives("pools") && !gives("orderedPool") {
            whole += "pools: {web: {servers: [\"10.0.0.1:11211\", \"10.0.0.2:11211\"]}}\n";
        }
    }
    let result = Config::parse(whole.as_bytes(), place, &Overrides::default());
    match (mark, result) {
        ("" | "part", Ok(_)) | ("refused", Err(_)) => {}
        ("" | "part", Err(errors)) => panic!("{errors}"),
        ("refused", Ok(_)) => panic!("{place}: this was to be refused"),
        (mark, _) => panic!("{place}: unknown mark {mark:?}"),
    }
}

fn listing(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}
