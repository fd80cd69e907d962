//! Holds the picture of `ARCHITECTURE.md` and the house style, so that neither rots.
//!
//! What it checks: which crate may know which, `//!` on every module, the length of files, and that what the
//! documentation links to or names is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The edges that the picture allows; every crate may know `event`. An edge that is missing here is added to
/// the picture first, on purpose.
const EDGES: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("journal", &["event"]),
    ("lake", &["event"]),
    ("ingest", &["event", "journal"]),
    ("postgres", &[]),
    ("sink", &["event", "journal", "lake", "postgres"]),
    ("analytics", &["event", "journal", "lake"]),
    ("sources", &["event", "journal", "postgres"]),
    ("assign", &["event", "journal", "postgres"]),
    (
        "server",
        &[
            "analytics",
            "assign",
            "event",
            "ingest",
            "journal",
            "lake",
            "sink",
            "sources",
        ],
    ),
    (
        "benches",
        &[
            "analytics",
            "event",
            "ingest",
            "journal",
            "lake",
            "server",
            "sink",
        ],
    ),
    ("xtask", &[]),
];

/// Heavy dependencies and the only crates that may name them.
const WALLS: &[(&str, &[&str])] = &[
    ("croner", &["sources"]),
    ("datafusion", &["analytics"]),
    ("datafusion-functions-json", &["analytics"]),
    ("delta_kernel", &["lake"]),
    ("delta_kernel_default_engine", &["lake"]),
    ("lapin", &["sink", "sources", "assign", "server"]),
    ("mysql_async", &["sink"]),
    ("parquet", &["lake", "analytics", "benches"]),
    ("rdkafka", &["journal"]),
    ("redis", &["sink", "assign", "server"]),
    ("tokio-postgres", &["postgres", "sink", "sources", "assign"]),
    ("tokio-postgres-rustls", &["postgres"]),
];

/// Longest file without its tests, in lines.
const FILE_LINES_MAX: usize = 500;

/// Files that must be longer, each with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "helpers", "helper", "common", "commons", "manager", "misc", "impl",
];

#[test]
fn crates_know_only_what_the_picture_allows() {
    let allowed: BTreeMap<_, _> = EDGES.iter().copied().collect();
    for member in members() {
        let known = dependencies(&member, &["dependencies", "build-dependencies"]);
        let edges = allowed
            .get(member.as_str())
            .unwrap_or_else(|| panic!("crate `{member}` is not in the picture"));
        for dependency in known.iter().filter(|name| allowed.contains_key(name.as_str())) {
            assert!(
                edges.contains(&dependency.as_str()),
                "the picture has no edge {member} -> {dependency}"
            );
        }
    }
}

#[test]
fn heavy_dependencies_stay_behind_their_wall() {
    for member in members() {
        let known = dependencies(
            &member,
            &["dependencies", "build-dependencies", "dev-dependencies"],
        );
        for (heavy, owners) in WALLS {
            assert!(
                !known.contains(*heavy) || owners.contains(&member.as_str()),
                "`{heavy}` belongs to {owners:?}, `{member}` names it too"
            );
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for file in rust_files() {
        let text = fs::read_to_string(root().join(&file)).expect("source is readable");
        let first = text
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        assert!(
            first.starts_with("//!"),
            "{} does not begin with `//!`",
            file.display()
        );
    }
}

#[test]
fn no_file_is_too_long_to_be_opened() {
    for file in rust_files().into_iter().filter(|file| !is_test(file)) {
        let text = fs::read_to_string(root().join(&file)).expect("source is readable");
        let lines = text
            .lines()
            .take_while(|line| line.trim() != "#[cfg(test)]")
            .count();
        let name = file.to_string_lossy().into_owned();
        let excused = LONG_FILES.iter().any(|(long, _)| *long == name);
        assert!(
            excused || lines <= FILE_LINES_MAX,
            "{name} has {lines} lines, the limit is {FILE_LINES_MAX}"
        );
        assert!(
            !excused || lines > FILE_LINES_MAX,
            "{name} is short enough now: take it off the list"
        );
    }
}

#[test]
fn files_are_named_after_what_they_hold() {
    for file in rust_files() {
        for part in file.with_extension("").components() {
            let part = part.as_os_str().to_string_lossy();
            assert!(
                !EMPTY_NAMES.contains(&part.as_ref()),
                "`{part}` in {} says nothing",
                file.display()
            );
        }
    }
}

#[test]
fn documents_link_to_what_is_there() {
    let mut checked = 0;
    for document in files_with("md") {
        let text = fs::read_to_string(root().join(&document)).expect("document is readable");
        let folder = document.parent().unwrap_or(Path::new("")).to_owned();
        for target in links(&text).into_iter().chain(named_paths(&text)) {
            checked += 1;
            let beside = root().join(&folder).join(&target).exists();
            assert!(
                beside || root().join(&target).exists(),
                "{}: `{target}` does not exist",
                document.display()
            );
        }
    }
    assert!(checked > 0, "no link was found, so this test checks nothing");
}

/// Targets of `[text](target)` that are files, without their anchors.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("](") {
        let target = text[at + 2..].split(')').next().unwrap_or_default();
        let file = target.split('#').next().unwrap_or_default();
        if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") {
            found.push(file.to_owned());
        }
    }
    found
}

/// Words in backticks that are paths of the repository: they contain a slash and begin with a folder that the
/// repository has, or they end in `.rs`.
fn named_paths(text: &str) -> Vec<String> {
    let folders: BTreeSet<String> = members()
        .into_iter()
        .chain([".ci", "datasets", "deploy", "tracker"].map(str::to_owned))
        .collect();
    let prose: String = text.split("```").step_by(2).collect();
    let is_path = |word: &str| {
        word.chars()
            .all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c))
    };
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| is_path(word) && word.contains('/') && !word.starts_with('/'))
        .filter(|word| folders.contains(word.split('/').next().unwrap_or_default()))
        .map(|word| word.trim_end_matches('/').to_owned())
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the root")
        .to_owned()
}

fn manifest(folder: &Path) -> toml::Table {
    let text = fs::read_to_string(folder.join("Cargo.toml")).expect("manifest is readable");
    text.parse().expect("manifest is TOML")
}

fn members() -> Vec<String> {
    let manifest = manifest(&root());
    let members = manifest["workspace"]["members"]
        .as_array()
        .expect("members are a list");
    members
        .iter()
        .map(|member| member.as_str().expect("a member is text").to_owned())
        .collect()
}

fn dependencies(member: &str, sections: &[&str]) -> BTreeSet<String> {
    let manifest = manifest(&root().join(member));
    let tables = sections
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

fn is_test(file: &Path) -> bool {
    let in_folder = file.components().any(|part| part.as_os_str() == "tests");
    in_folder || file.file_name().is_some_and(|name| name == "tests.rs")
}

fn rust_files() -> Vec<PathBuf> {
    files_with("rs")
}

/// Files of the repository with that extension, relative to its root, build output and hidden folders left out.
fn files_with(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("folder is readable") {
            let entry = entry.expect("entry is readable");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            if entry.file_type().expect("type is readable").is_dir() {
                let foreign = ["target", "tidemill-data", "node_modules"].contains(&name.as_str());
                if !name.starts_with('.') && !foreign {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
