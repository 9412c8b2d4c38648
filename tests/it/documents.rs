//! What documents and deployment files name has to be there: files, functions, settings, metrics, commands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use herald::domain::delivery::StateName;
use herald::pipeline::worker::failpoints::POINTS;

const NAMES: &str = include_str!("../../src/telemetry/names.rs");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const COMPOSE: &str = include_str!("../../docker-compose.yml");
/// Variables that are no settings, and who reads them.
const NOT_SETTINGS: [&str; 7] = [
    "HERALD_URL",         // commands that report HTTP
    "HERALD_KEY",         // the same
    "HERALD_DATA",        // `dev`
    "HERALD_CONFIG",      // where the settings' file is
    "HERALD_CRASH_POINT", // debug builds
    "HERALD_CRASH_AFTER", // debug builds
    "HERALD_UPDATE_DOCS", // tests
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every page as (path below the root, text).
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = vec![PathBuf::from("README.md")];
    for folder in ["docs", "docs/decisions"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder").flatten() {
            if entry.path().extension().is_some_and(|end| end == "md") {
                paths.push(Path::new(folder).join(entry.file_name()));
            }
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(root().join(path)).expect("text")))
        .collect()
}

/// What stands between backticks on a page, blocks left out.
fn quoted(page: &str) -> Vec<&str> {
    let mut is_block = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// The words of a text that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &'a str) -> BTreeSet<&'a str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).filter(|word| word.starts_with(prefix) && *word != prefix).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    for (page, text) in pages() {
        let folder = root().join(page.parent().unwrap_or(Path::new("")));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_outside = target.contains("://") || target.starts_with('#');
            let path = target.split('#').next().unwrap_or_default();
            assert!(is_outside || folder.join(path).exists(), "{} -> {target}", page.display());
        }
    }
}

#[test]
fn files_that_documents_name_are_there() {
    for (page, text) in pages() {
        for word in quoted(&text) {
            let is_path = ["src/", "docs/", "tests/", "migrations/", "benches/", ".ci/"]
                .iter()
                .any(|p| word.starts_with(p));
            let is_plain = !word.contains([' ', '*', '…', '{', '<']) && !word.contains("NNNN");
            assert!(!is_path || !is_plain || root().join(word).exists(), "{}: {word}", page.display());
        }
    }
}

/// All code below a folder of `src`.
fn code_of(room: &str) -> String {
    fn walk(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                walk(&entry.path(), text);
            } else {
                text.push_str(&std::fs::read_to_string(entry.path()).expect("text"));
            }
        }
    }
    let mut text = String::new();
    walk(&root().join("src").join(room), &mut text);
    text
}

#[test]
fn functions_and_types_that_documents_name_are_there() {
    let rooms: BTreeSet<String> = std::fs::read_dir(root().join("src"))
        .expect("a folder")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    for (page, text) in pages() {
        for path in quoted(&text).into_iter().filter(|word| word.contains("::") && !word.contains(' ')) {
            let mut parts = path.trim_end_matches("()").split("::");
            let Some(room) = parts.next().filter(|room| rooms.contains(*room)) else { continue };
            let Some(name) = parts.last() else { continue };
            let code = code_of(room);
            let is_there = ["fn", "struct", "enum", "trait", "mod", "const"].iter().any(|kind| {
                code.match_indices(&format!("{kind} {name}")).any(|(at, found)| {
                    !code[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
                })
            });
            assert!(is_there, "{}: {path}", page.display());
        }
    }
}

#[test]
fn every_metric_is_explained_and_no_other() {
    let quoted = NAMES.split('"').skip(1).step_by(2);
    let known: BTreeSet<&str> = quoted.filter(|text| text.starts_with("herald_")).collect();
    assert_eq!(words(OPERATIONS, "herald_"), known);
}

#[test]
fn every_crash_point_is_explained() {
    let quoted = quoted(OPERATIONS);
    for point in POINTS {
        assert!(quoted.contains(&point), "{point}");
    }
}

/// The variables that set something: one for each setting, and one for a file that holds it.
fn settings() -> BTreeSet<String> {
    fn walk(prefix: &str, table: &toml::Table, found: &mut BTreeSet<String>) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.to_uppercase());
            if let Some(inner) = value.as_table() {
                walk(&format!("{name}__"), inner, found);
            } else {
                found.insert(format!("{name}_FILE"));
                found.insert(name);
            }
        }
    }
    let mut found = NOT_SETTINGS.map(str::to_owned).into();
    walk("HERALD_", &herald::config::reference().parse().expect("TOML"), &mut found);
    found
}

#[test]
fn variables_that_documents_and_deployments_name_are_settings() {
    let settings = settings();
    let mut texts: Vec<(PathBuf, String)> = pages();
    texts.push(("docker-compose.yml".into(), COMPOSE.to_owned()));
    texts.push(("Dockerfile".into(), include_str!("../../Dockerfile").to_owned()));
    for (file, text) in texts {
        for name in words(&text, "HERALD_") {
            assert!(settings.contains(name), "{}: {name} sets nothing", file.display());
        }
    }
}

#[test]
fn the_commands_of_the_compose_file_are_herald_s() {
    let commands: Vec<Vec<String>> = COMPOSE
        .lines()
        .filter_map(|line| line.trim().strip_prefix("command: "))
        .map(|list| serde_json::from_str(list).expect("a list in JSON's way"))
        .collect();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let output =
            Command::new(env!("CARGO_BIN_EXE_herald")).args(&command).arg("--help").output().expect("a run");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_states_are_the_database_s_in_the_same_order() {
    let migration = include_str!("../../migrations/0002_events.sql");
    let list = migration.split("CREATE TYPE delivery_state AS ENUM (").nth(1).expect("the type");
    let words: Vec<&str> = list.split(')').next().expect("its end").split('\'').skip(1).step_by(2).collect();
    assert_eq!(words, StateName::ALL.map(StateName::as_str));
}
