//! `herald catalog`: the catalog as files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ClientArgs, plain};
use crate::catalog::{files, sample};

/// What to do with a catalog.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// Make Herald's catalog say what these files say; templates are live afterwards
    Apply(ApplyArgs),
    /// Say what applying them would change (exit 2 if anything)
    Plan(FilesArgs),
    /// Check the files here, without Herald (exit 2 if something is wrong)
    Check(CheckArgs),
}

/// Where the files are.
#[derive(Debug, Args)]
pub struct FilesArgs {
    /// The catalog's folder
    #[arg(required_unless_present = "sample")]
    dir: Option<PathBuf>,
    /// Take the built-in sample catalog instead of a folder
    #[arg(long, conflicts_with = "dir")]
    sample: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// What to apply.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Why, for the history of new versions
    #[arg(long, default_value = "")]
    note: String,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What to check.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The catalog's folder
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl FilesArgs {
    fn read(&self) -> anyhow::Result<BTreeMap<String, String>> {
        match &self.dir {
            Some(dir) => read_folder(dir),
            None => Ok(sample::files()),
        }
    }
}

pub(super) async fn run(command: CatalogCommand) -> anyhow::Result<ExitCode> {
    match command {
        CatalogCommand::Apply(args) => {
            let body = json!({"files": args.files.read()?, "note": args.note});
            let path = if args.dry_run { "/v1/catalog/apply?dry_run=true" } else { "/v1/catalog/apply" };
            let applied = args.files.client.call(Method::POST, path, Some(&body)).await?;
            print_changes(&applied, args.files.client.json, args.dry_run);
            Ok(ExitCode::SUCCESS)
        }
        CatalogCommand::Plan(args) => {
            let body = json!({"files": args.read()?});
            let planned = args.client.call(Method::POST, "/v1/catalog/plan", Some(&body)).await?;
            print_changes(&planned, args.client.json, true);
            let is_same = planned["changes"].as_array().is_none_or(Vec::is_empty);
            Ok(if is_same { ExitCode::SUCCESS } else { ExitCode::from(2) })
        }
        CatalogCommand::Check(args) => check(&args),
    }
}

fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let problems = files::check(&read_folder(&args.dir)?);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&problems)?);
    } else if problems.is_empty() {
        println!("nothing is wrong");
    } else {
        for problem in &problems {
            println!("{problem}");
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn print_changes(applied: &Value, as_json: bool, is_dry: bool) {
    if as_json {
        println!("{applied:#}");
        return;
    }
    let changes = applied["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if changes.is_empty() {
        println!("the catalog says the same already");
        return;
    }
    for change in changes {
        let version =
            change["version"].as_i64().map(|n| format!(" (version {n} is live)")).unwrap_or_default();
        let kind = plain(&change["kind"]).replace('_', " ");
        println!("{:8} {kind} {}{version}", plain(&change["change"]), plain(&change["name"]));
    }
    if is_dry {
        println!("{} changes; nothing was changed", changes.len());
    } else {
        println!("{} changes applied; the catalog is at revision {}", changes.len(), applied["revision"]);
    }
}

/// Reads every file below a folder, apart from hidden ones and READMEs.
fn read_folder(dir: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    if !dir.is_dir() {
        bail!("{} is no folder", dir.display());
    }
    let mut found = BTreeMap::new();
    let mut folders = vec![(dir.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name.eq_ignore_ascii_case("readme.md") {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                folders.push((entry.path(), format!("{path}/")));
            } else {
                let text = std::fs::read_to_string(entry.path());
                found.insert(path, text.with_context(|| format!("can't read {}", entry.path().display()))?);
            }
        }
    }
    if found.is_empty() {
        bail!("{} has no files; a catalog has events/, templates/, rules/ and sources/", dir.display());
    }
    Ok(found)
}
