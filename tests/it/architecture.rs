//! The architecture, checked against the code: which module may import which, where third-party crates may be used, and
//! what no file may do. Changing a table here is a decision: one paragraph in `docs/decisions/`.

pub mod reading;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use reading::{climbs, paths, read};

/// A module, and which of our modules it may import besides itself and `telemetry::names`. `*` is everything but `cli`.
const MODULES: [(&str, &[&str]); 23] = [
    ("domain", &[]),
    ("config", &[]),
    ("telemetry", &[]),
    ("vault", &["domain"]),
    ("compute", &["domain"]),
    ("schemas", &["domain"]),
    ("store", &["domain", "vault"]),
    ("templating", &["domain"]),
    ("expressions", &["domain"]),
    ("webhooks", &["domain", "expressions"]),
    ("provider", &["domain"]),
    ("sandbox", &["templating::liquid", "domain::clock", "domain::budget"]),
    (
        "catalog",
        &["domain", "compute", "schemas", "store", "templating", "expressions", "webhooks", "provider"],
    ),
    (
        "pipeline",
        &["domain", "compute", "schemas", "store", "templating", "expressions", "vault", "provider"],
    ),
    ("people", &["domain", "store", "provider"]),
    ("archive", &["domain", "store"]),
    ("access", &["domain", "store", "vault"]),
    (
        "api",
        &[
            "domain",
            "telemetry",
            "compute",
            "access",
            "catalog",
            "pipeline",
            "people",
            "archive",
            "templating",
            "expressions",
            "webhooks",
            "store",
        ],
    ),
    (
        "console",
        &[
            "domain",
            "compute",
            "access",
            "catalog",
            "pipeline",
            "people",
            "archive",
            "templating",
            "expressions",
            "store",
            "vault",
        ],
    ),
    ("app", &["*"]),
    ("cli", &["*", "cli"]),
    ("main.rs", &["*", "cli"]),
    ("lib.rs", &["*", "cli"]),
];

/// Third-party crates that may be used in some modules only.
const WALLS: [(&str, &[&str]); 6] = [
    ("cel", &["expressions"]),
    ("sqlx", &["store", "people/connector"]),
    ("reqwest", &["provider/onesignal", "access/oidc", "sandbox", "cli"]),
    ("axum", &["api", "console", "sandbox", "app"]),
    ("clap", &["cli"]),
    ("anyhow", &["cli", "app"]),
];

/// Private parts of a module that others must not use, even if they may import the module: they use its port.
const INSIDES: [(&str, &[&str]); 1] = [("provider::onesignal", &["provider", "app", "cli"])];

/// What SQL must not ask the server for; `localtime` stands for `localtimestamp` too.
const SERVER_TIMES: [&str; 8] = [
    "now()",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helpers", "core", "types", "models", "misc"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `folder` whose name ends in `.end`, as (path below `folder`, text).
fn files(folder: &str, end: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let folder = root().join(folder);
    let mut found = Vec::new();
    walk(&folder, &mut found);
    found.retain(|path| path.extension().is_some_and(|found| found == end));
    found.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("text");
        (path.strip_prefix(&folder).expect("below it").to_string_lossy().into_owned(), text)
    };
    found.into_iter().map(read).collect()
}

fn module_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file)
}

/// How many modules lie between the crate's root and the end of this file's path.
fn depth_of(file: &str) -> usize {
    file.split('/').filter(|part| !["mod.rs", "lib.rs", "main.rs"].contains(part)).count()
}

/// The crate paths that a file uses, with lines.
fn ours(file: &str, text: &str) -> Vec<(usize, String)> {
    let reading = read(text);
    let mut found = paths(&reading.code, "crate");
    found.extend(climbs(&reading.code, depth_of(file)));
    // Attributes such as `serde(with = "…")` name paths in text.
    for (line, literal) in &reading.literals {
        found.extend(paths(literal, "crate").into_iter().map(|(_, path)| (*line, path)));
    }
    found
}

fn is_below(path: &str, rule: &str) -> bool {
    path == rule || path.starts_with(&format!("{rule}::"))
}

/// Whether `module` may use `path`, according to the two tables of our own modules.
fn is_import_allowed(module: &str, allowed: &[&str], path: &str) -> bool {
    let target = path.split("::").next().unwrap_or_default();
    let is_inside =
        INSIDES.iter().any(|(inside, modules)| is_below(path, inside) && !modules.contains(&module));
    let is_allowed = |rule: &&str| match *rule {
        "*" => target != "cli" && target != "*",
        rule => is_below(path, rule),
    };
    let is_free = target == module || is_below(path, "telemetry::names");
    !is_inside && (is_free || allowed.iter().any(is_allowed))
}

#[test]
fn arrows_point_down_the_table_and_never_up() {
    let mut broken = String::new();
    for (file, text) in files("src", "rs") {
        let module = module_of(&file);
        let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == module) else {
            let _ = writeln!(broken, "src/{file}: the module `{module}` is in no table");
            continue;
        };
        for (line, path) in ours(&file, &text) {
            if !is_import_allowed(module, allowed, &path) {
                let _ = writeln!(broken, "src/{file}:{line}: {module} -> {path}");
            }
        }
    }
    assert!(broken.is_empty(), "these arrows are not in the table:\n{broken}");
}

#[test]
fn the_table_itself_has_no_circle() {
    let names = MODULES.map(|(name, _)| name);
    for (place, (module, allowed)) in MODULES.iter().enumerate() {
        for target in allowed.iter().map(|rule| module_of(rule).split("::").next().unwrap_or_default()) {
            let is_below = names[..place].contains(&target) || target == "*" || target == "cli";
            assert!(is_below, "{module} -> {target} points up, or at no module");
        }
    }
}

#[test]
fn other_people_s_crates_stay_behind_their_walls() {
    let mut broken = String::new();
    for (file, text) in files("src", "rs") {
        let code = read(&text).code;
        for (name, modules) in WALLS {
            if modules.iter().any(|module| file.starts_with(&format!("{module}/"))) {
                continue;
            }
            for (place, line) in code.lines().enumerate() {
                let is_imported = line.trim_start().starts_with(&format!("use {name}"));
                if is_imported || !paths(line, name).is_empty() {
                    let _ = writeln!(broken, "src/{file}:{}: {} -> {name}", place + 1, module_of(&file));
                }
            }
        }
    }
    assert!(broken.is_empty(), "these crates are named outside their modules:\n{broken}");
}

/// SQL without its comments.
fn sql(text: &str) -> String {
    text.lines()
        .map(|line| line.split("--").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
        .to_lowercase()
}

fn asks_server_time(sql: &str) -> Option<&'static str> {
    SERVER_TIMES.into_iter().find(|word| sql.contains(word))
}

#[test]
fn time_comes_from_the_clock_and_never_from_sql() {
    let mut broken = String::new();
    for (file, text) in files("src", "rs") {
        if file == "store/clock.rs" || !["store", "local_postgres"].contains(&module_of(&file)) {
            continue;
        }
        for (line, literal) in read(&text).literals {
            if let Some(word) = asks_server_time(&sql(&literal)) {
                let _ = writeln!(broken, "src/{file}:{line}: {word}");
            }
        }
    }
    for folder in ["src", "migrations"] {
        for (file, text) in files(folder, "sql") {
            if let Some(word) = asks_server_time(&sql(&text)) {
                let _ = writeln!(broken, "{folder}/{file}: {word}");
            }
        }
    }
    assert!(broken.is_empty(), "time is passed in:\n{broken}");
}

#[test]
fn no_column_makes_up_a_time() {
    for (file, text) in files("migrations", "sql") {
        for column in sql(&text).split([',', ';']) {
            let is_made_up = column.contains("timestamp") && column.contains("default");
            assert!(!is_made_up, "migrations/{file}: {}", column.trim());
        }
    }
}

#[test]
fn every_module_says_what_it_does_and_no_name_is_empty() {
    let mut broken = String::new();
    for folder in ["src", "tests", "benches"] {
        for (file, text) in files(folder, "rs") {
            if !text.starts_with("//!") {
                let _ = writeln!(broken, "{folder}/{file} does not say what it is");
            }
            if file.split(['/', '.']).any(|part| EMPTY_NAMES.contains(&part)) {
                let _ = writeln!(broken, "{folder}/{file} has a name that says nothing");
            }
            let lines = text.lines().count();
            if lines > 500 {
                let _ = writeln!(broken, "{folder}/{file} has {lines} lines: look for the seam");
            }
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

fn named(file: &str, text: &str) -> Vec<String> {
    ours(file, text).into_iter().map(|(line, path)| format!("{line} {path}")).collect()
}

#[test]
fn groups_are_opened_and_comments_passed_over() {
    let text = "use crate::{\n    domain::{clock::Clock, id as number},\n    api,\n};\n// crate::cli\nlet x = crate::access::y::<T>();";
    let found = named("store/x.rs", text);
    assert_eq!(found, ["2 domain::clock::Clock", "2 domain::id", "3 api", "6 access::y"]);
}

#[test]
fn a_literal_hides_no_code_behind_it() {
    let text = "f(\"http://a\", 'x', r#\"\"//\"#, '\"', crate::api::g()); // \"\nlet s: &'a str = crate::cli::h; /* crate::x */";
    assert_eq!(named("store/x.rs", text), ["1 api::g", "2 cli::h"]);
}

#[test]
fn a_climb_out_of_the_module_is_seen() {
    assert_eq!(named("store/mod.rs", "use super::api;"), ["1 api"]);
    assert_eq!(named("store/x.rs", "use super::y;\nuse super::super::{api, cli};"), ["2 api", "2 cli"]);
    assert!(named("store/x.rs", "mod tests { use super::super::y; }").is_empty());
    assert_eq!(named("store/x.rs", "mod tests { use super::super::super::api; }"), ["1 api"]);
}

#[test]
fn a_port_is_open_where_its_adapter_is_not() {
    assert!(is_import_allowed("pipeline", &["provider"], "provider::MessageProvider"));
    assert!(!is_import_allowed("pipeline", &["provider"], "provider::onesignal::OneSignal"));
    assert!(!is_import_allowed("sandbox", &["domain::clock"], "domain::id"));
    assert!(!is_import_allowed("app", &["*"], "cli::run"));
    assert!(!is_import_allowed("app", &["*"], "*"));
}
