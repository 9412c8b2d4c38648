//! The house's plan, held against the code: which room may import which, where other people's crates may be named, and
//! what no file may do. Changing a table here is a decision: one paragraph in `docs/decisions/`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A room, and what of ours it may import beside itself and `telemetry::names`. `*` is everything but `cli`.
const ROOMS: [(&str, &[&str]); 17] = [
    ("domain", &[]),
    ("config", &[]),
    ("telemetry", &[]),
    ("vault", &["domain"]),
    ("store", &["domain", "vault"]),
    ("templating", &["domain"]),
    ("provider", &["domain"]),
    ("sandbox", &["templating::liquid", "domain::clock"]),
    ("local_postgres", &[]),
    ("catalog", &["domain", "store", "templating", "provider"]),
    ("pipeline", &["domain", "store", "templating", "vault", "provider"]),
    ("access", &["domain", "store", "vault"]),
    ("api", &["domain", "access", "catalog", "pipeline", "templating", "store"]),
    ("app", &["*"]),
    ("cli", &["*", "cli"]),
    ("main.rs", &["*", "cli"]),
    ("lib.rs", &["*", "cli"]),
];

/// Other people's crates that may be named in some rooms only.
const WALLS: [(&str, &[&str]); 5] = [
    ("sqlx", &["store", "local_postgres"]),
    ("reqwest", &["provider/onesignal", "sandbox", "cli"]),
    ("axum", &["api", "sandbox", "app"]),
    ("clap", &["cli"]),
    ("anyhow", &["cli", "app"]),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helpers", "core", "types", "models", "misc"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file as (path below `src`, text).
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let src = root().join("src");
    let mut found = Vec::new();
    walk(&src, &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("text");
        (path.strip_prefix(&src).expect("below src").to_string_lossy().into_owned(), text)
    };
    found.into_iter().map(read).collect()
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file)
}

/// A line of code without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// The paths behind each `crate::` in a file, with their lines; groups are opened.
fn imports(text: &str) -> Vec<(usize, String)> {
    let plain = text.lines().map(code).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in plain.match_indices("crate::") {
        let before = plain[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = plain[..at].matches('\n').count() + 1;
        let rest = &plain[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = group.split(';').next().unwrap_or_default();
            for part in group.split(',') {
                let name: String =
                    part.trim().chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
                if !name.is_empty() {
                    found.push((line, name));
                }
            }
        } else {
            let path: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
            found.push((line, path));
        }
    }
    found
}

#[test]
fn arrows_point_down_the_table_and_never_up() {
    let mut broken = String::new();
    for (file, text) in sources() {
        let room = room_of(&file);
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            let _ = writeln!(broken, "src/{file}: the room `{room}` is in no table");
            continue;
        };
        for (line, path) in imports(&text) {
            let target = path.split("::").next().unwrap_or_default();
            let is_name = target == "telemetry" && path.contains("names");
            let is_allowed = |rule: &str| match rule {
                "*" => target != "cli",
                rule => path == rule || path.starts_with(&format!("{rule}::")),
            };
            if target != room && !is_name && !allowed.iter().any(|rule| is_allowed(rule)) {
                let _ = writeln!(broken, "src/{file}:{line}: {room} -> {path}");
            }
        }
    }
    assert!(broken.is_empty(), "these arrows are not in the table:\n{broken}");
}

#[test]
fn other_people_s_crates_stay_behind_their_walls() {
    let mut broken = String::new();
    for (file, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for (name, rooms) in WALLS {
                let is_named =
                    code(line).split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).any(|word| {
                        word.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"))
                            || (word == name && line.contains("use "))
                    });
                if is_named && !rooms.iter().any(|room| file.starts_with(&format!("{room}/"))) {
                    let _ = writeln!(broken, "src/{file}:{}: {name}", number + 1);
                }
            }
        }
    }
    assert!(broken.is_empty(), "these crates are named outside their rooms:\n{broken}");
}

#[test]
fn time_comes_from_the_clock_and_never_from_sql() {
    let mut broken = String::new();
    let mut texts = sources();
    for entry in std::fs::read_dir(root().join("src/store/sql")).expect("the folder").flatten() {
        let name = format!("store/sql/{}", entry.file_name().to_string_lossy());
        texts.push((name, std::fs::read_to_string(entry.path()).expect("text")));
    }
    for (file, text) in &texts {
        let is_clock = file == "store/clock.rs";
        for (number, line) in text.lines().enumerate().filter(|_| file.starts_with("store/") && !is_clock) {
            let line = code(line).to_lowercase();
            if ["now()", "clock_timestamp", "current_timestamp", "localtimestamp"]
                .iter()
                .any(|word| line.contains(word))
            {
                let _ = writeln!(broken, "src/{file}:{}", number + 1);
            }
        }
    }
    for entry in std::fs::read_dir(root().join("migrations")).expect("the folder").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("text").to_lowercase();
        for line in text.lines().filter(|line| line.contains("timestamptz") && line.contains("default")) {
            let _ = writeln!(broken, "{}: {line}", entry.path().display());
        }
    }
    assert!(broken.is_empty(), "time is passed in:\n{broken}");
}

#[test]
fn every_room_says_what_it_does_and_no_name_is_empty() {
    let mut broken = String::new();
    for (file, text) in sources() {
        if !text.starts_with("//!") {
            let _ = writeln!(broken, "src/{file} does not say what it is");
        }
        if file.split(['/', '.']).any(|part| EMPTY_NAMES.contains(&part)) {
            let _ = writeln!(broken, "src/{file} has a name that says nothing");
        }
        let lines = text.lines().count();
        if lines > 500 {
            let _ = writeln!(broken, "src/{file} has {lines} lines: look for the seam");
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

#[test]
fn a_broken_arrow_is_seen() {
    let text = "use crate::{store::Store, api};\n// crate::cli\nfn x() { crate::access::y(); }\n";
    let found: Vec<String> = imports(text).into_iter().map(|(line, path)| format!("{line} {path}")).collect();
    assert_eq!(found, ["1 store::Store", "1 api", "3 access::y"]);
}
