//! Reading a catalog folder, and writing it so that only changed files are touched.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};

use crate::catalog::files::is_leftover;

/// The subfolders of a catalog; anything else in the folder is neither read nor deleted.
const FOLDERS: [&str; 5] = ["events", "templates", "partials", "rules", "sources"];

/// The result of writing a folder.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Files that are new or changed.
    pub changed: Vec<String>,
    /// Files that were deleted.
    pub deleted: Vec<String>,
    /// Files that are not in the catalog and were kept.
    pub left: Vec<String>,
    /// How many files were already up to date.
    pub same: usize,
}

/// Reads every file in a folder, except READMEs and files of editors and operating systems.
pub(super) fn read_folder(dir: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    if !dir.is_dir() {
        bail!("{} is not a folder", dir.display());
    }
    let found = read_below(dir)?;
    if found.is_empty() {
        bail!(
            "{} contains no catalog files; a catalog has events/, templates/, rules/ and sources/",
            dir.display()
        );
    }
    Ok(found)
}

fn read_below(dir: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(dir.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_leftover(&name) || name.eq_ignore_ascii_case("readme.md") {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if !kind.is_dir() && !kind.is_file() {
                bail!(
                    "{} is not a regular file; a catalog contains only regular files",
                    entry.path().display()
                );
            }
            if kind.is_dir() {
                folders.push((entry.path(), format!("{path}/")));
            } else {
                let text = std::fs::read_to_string(entry.path()).map_err(|error| match error.kind() {
                    std::io::ErrorKind::InvalidData => anyhow::anyhow!(
                        "{} is not a text file, so it can't be part of a catalog; move it out of the folder",
                        entry.path().display()
                    ),
                    _ => anyhow::Error::new(error).context(format!("can't read {}", entry.path().display())),
                })?;
                found.insert(path, text);
            }
        }
    }
    Ok(found)
}

/// Makes a folder match `files`.
pub(super) fn write_folder(
    dir: &Path,
    files: &BTreeMap<String, String>,
    deletes: bool,
) -> anyhow::Result<Written> {
    let present = if dir.is_dir() { read_below(dir)? } else { BTreeMap::new() };
    let mut written = Written::default();
    for (path, text) in files {
        if Path::new(path).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            bail!("`{path}` is not a path inside the folder");
        }
        if present.get(path) == Some(text) {
            written.same += 1;
            continue;
        }
        let file = dir.join(path);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("can't create {}", folder.display()))?;
        }
        std::fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
        written.changed.push(path.clone());
    }
    let is_ours = |path: &&String| FOLDERS.iter().any(|folder| path.starts_with(&format!("{folder}/")));
    for path in present.keys().filter(is_ours).filter(|path| !files.contains_key(*path)) {
        if deletes {
            let file = dir.join(path);
            std::fs::remove_file(&file).with_context(|| format!("can't delete {}", file.display()))?;
            written.deleted.push(path.clone());
        } else {
            written.left.push(path.clone());
        }
    }
    Ok(written)
}
