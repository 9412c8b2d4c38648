//! Words that code, comments, messages and documents do not use, because a reader would not know them.

use std::path::{Path, PathBuf};

/// A word that is not used, and what to write instead.
const UNUSED: [(&[&str], &str); 15] = [
    (&["births"], "admission"),
    (&["bury", "buries", "buried"], "fence or fenced"),
    (&["thaw", "thaws", "thawed"], "rebuild"),
    (&["heed", "heeds", "heeded"], "apply, follow or take into account"),
    (&["told"], "said, reported or returned"),
    (&["whoever"], "a person who, a process that, or the role"),
    (&["mend", "mends", "mended"], "repair or fix"),
    (&["doors"], "login or entry points"),
    (&["lane", "lanes"], "priority, queue or ordering lane"),
    (&["trouble", "troubles"], "issue or problem"),
    (&["withdraw", "withdraws", "withdrawn", "withdrew"], "recall or cancel"),
    (&["ledger", "ledgers"], "consistency check"),
    (&["house"], "Herald, the module or the code base"),
    (&["care_"], "drift check"),
    (&["handed_over"], "scheduled, or in the memory queue"),
];
/// What is read, below the root.
const READ: [&str; 4] = ["src", "docs", "migrations", "README.md"];
/// Endings of the files that are read.
const ENDINGS: [&str; 9] = ["rs", "sql", "md", "toml", "js", "css", "json", "yml", "liquid"];
/// Names that contain such a word and keep it: a file.
const KEPT: [&str; 0] = [];

/// The files at or below `path` that people write.
fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder").flatten() {
            files(&entry.path(), found);
        }
        return;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_text = path.extension().is_some_and(|end| ENDINGS.iter().any(|known| end == *known));
    if is_text && !name.contains(".min.") {
        found.push(path.to_owned());
    }
}

/// The words of a text, identifiers whole, each with its line.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.lines()
        .zip(1..)
        .flat_map(move |(line, number)| line.split(move |c| !is_part(c)).map(move |word| (number, word)))
        .filter(|(_, word)| !word.is_empty())
}

/// The parts of an identifier, in lower case: `writeMoves`, `WriteMoves` and `write_moves` have the same.
fn parts(word: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for c in word.chars() {
        if c == '_' || (c.is_ascii_uppercase() && was_lower) {
            parts.push(String::new());
        }
        was_lower = c.is_ascii_lowercase();
        if let (false, Some(part)) = (c == '_', parts.last_mut()) {
            part.push(c.to_ascii_lowercase());
        }
    }
    parts
}

/// The words that a text should not use, with lines and with what to write instead.
fn unused_in(text: &str) -> Vec<String> {
    let text = KEPT.iter().fold(text.to_owned(), |text, kept| text.replace(kept, ""));
    let mut found = Vec::new();
    let mut previous = String::new();
    for (line, word) in words(&text) {
        let parts = parts(word);
        for (unused, instead) in UNUSED {
            let is_whole = |unused: &&&str| match **unused {
                "care_" => word.to_ascii_lowercase().starts_with("care_"),
                "handed_over" => word.to_ascii_lowercase().contains("handed_over"),
                unused => parts.iter().enumerate().any(|(at, part)| {
                    let before = at.checked_sub(1).map_or(previous.as_str(), |before| &parts[before]);
                    part == unused && !(unused.starts_with("lane") && before == "ordering")
                }),
            };
            if let Some(unused) = unused.iter().find(is_whole) {
                found.push(format!("{line}: `{unused}` is not used here: write {instead}"));
            }
        }
        previous = parts.last().cloned().unwrap_or_default();
    }
    found
}

#[test]
fn words_are_found_in_identifiers_and_in_texts() {
    let found = |text: &str| unused_in(text).len();
    for text in
        ["it was told so", "fn told()", "struct Told;", "let was_told = 1", "care_every", "a_lane", "Lanes"]
    {
        assert_eq!(found(text), 1, "{text}");
    }
    for text in
        ["ordering_lanes", "an ordering lane", "of its ordering\n/// lane", "untold", "plane", "careful"]
    {
        assert_eq!(found(text), 0, "{text}");
    }
    assert_eq!(unused_in("a\ntold")[0], "2: `told` is not used here: write said, reported or returned");
}

#[test]
fn code_and_documents_use_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for path in READ {
        files(&root.join(path), &mut paths);
    }
    paths.sort();
    let found: Vec<String> = paths
        .iter()
        .filter_map(|path| Some((path, std::fs::read_to_string(path).ok()?)))
        .flat_map(|(path, text)| {
            let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
            unused_in(&text).into_iter().map(move |problem| format!("{name}:{problem}"))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
