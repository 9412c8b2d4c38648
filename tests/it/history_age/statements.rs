//! The statements that Herald executes, and those that its source contains.

use std::collections::BTreeSet;
use std::path::Path;

use herald::store::retention::{HISTORY, PAYLOADS};
use serde_json::Value;
use tracing_subscriber::filter::LevelFilter;

use crate::architecture::reading;
use crate::attacks::logs::{self, Log};

/// Commands that read the whole history, because that is what they are for.
const WHOLE: [&str; 3] = ["rotation.rs", "consistency.sql", "outcome_stats.rs"];

/// What is executed on this thread.
pub struct Executed(Log);

impl Executed {
    /// Collects from now on.
    pub fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(LevelFilter::DEBUG)
            .with_writer(log.clone())
            .finish();
        logs::have_another_subscriber();
        (Self(log), tracing::subscriber::set_default(subscriber))
    }

    /// The statements on tables of the history, each once.
    pub fn on_history(&self) -> BTreeSet<String> {
        let text = self.0.text();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["target"] == "sqlx::query")
            .map(|line| {
                let field =
                    |name: &str| line["fields"][name].as_str().map(str::trim).unwrap_or_default().to_owned();
                let whole = field("db.statement");
                if whole.is_empty() { field("summary") } else { whole }
            })
            .filter(|statement| is_on_history(statement))
            .collect()
    }
}

fn is_on_history(statement: &str) -> bool {
    let words: Vec<&str> = statement.split_whitespace().collect();
    words.windows(2).any(|pair| {
        let table = pair[1].trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        ["FROM", "JOIN", "UPDATE", "INTO", "USING"].contains(&pair[0])
            && (HISTORY.contains(&table) || PAYLOADS.contains(&table))
    })
}

/// A statement, or a part of one, in the source.
pub struct Written {
    /// The file and the line.
    pub place: String,
    /// What it says between the values that it is completed with.
    fragments: Vec<String>,
}

impl Written {
    /// Every one on the history.
    pub fn all() -> Vec<Self> {
        let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
        let mut found = Vec::new();
        for (folder, kind) in [(store.clone(), "rs"), (store.join("sql"), "sql")] {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                let name = entry.file_name().to_string_lossy().into_owned();
                if path.extension().is_none_or(|extension| extension != kind)
                    || WHOLE.contains(&name.as_str())
                {
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("a text");
                let literals = if kind == "sql" { vec![(1, text)] } else { reading::read(&text).literals };
                let statements = literals.into_iter().filter(|(_, literal)| is_on_history(literal));
                found.extend(statements.map(|(line, literal)| Self {
                    place: format!("{name}:{line}"),
                    fragments: fragments(&literal),
                }));
            }
        }
        found
    }

    /// Whether it was executed, as a whole or as a part of another.
    pub fn is_among(&self, executed: &BTreeSet<String>) -> bool {
        executed.iter().any(|statement| {
            let statement = words(statement);
            let mut rest = statement.as_str();
            self.fragments.iter().all(|fragment| {
                let found = rest.split_once(fragment.as_str());
                rest = found.map_or("", |(_, after)| after);
                found.is_some()
            })
        })
    }
}

/// A text with one blank wherever it has several.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A literal between its placeholders, without what escapes line ends.
fn fragments(literal: &str) -> Vec<String> {
    let literal = literal.replace("\\\n", " ");
    let pieces = literal.split('{').enumerate().map(|(n, piece)| match piece.split_once('}') {
        Some((_, after)) if n > 0 => after.trim_start_matches('}').to_owned(),
        _ => piece.to_owned(),
    });
    pieces.map(|piece| words(&piece)).filter(|piece| !piece.is_empty()).collect()
}

/// The beginning of a statement, for a report.
pub fn short(statement: &str) -> String {
    let code: Vec<&str> = statement.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    words(&code.join(" ")).chars().take(110).collect()
}
