//! `herald catalog`: the catalog as files.

mod folder;
mod infer;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ClientArgs, plain};
use super::counted;
use super::onesignal;
use crate::catalog::diff::lines;
use crate::catalog::{CatalogProblem, files, sample};
use crate::domain::budget::Budget;
use crate::domain::template::plain_lines;
use folder::{read_folder, write_folder};

#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// Apply these files to Herald's catalog; templates are published
    Apply(ApplyArgs),
    /// Show what applying would change, checked against recent events (exit code 2 if anything changes)
    Plan(PlanArgs),
    /// Check the files locally, without Herald (exit code 2 if there are errors)
    Check(CheckArgs),
    /// Write Herald's catalog to a folder; applying it unchanged has no effect
    Pull(PullArgs),
    /// Infer a JSON Schema from the latest events of a type
    Infer(infer::InferArgs),
    /// Compare the templates in OneSignal with what was uploaded (exit code 2 if any differs)
    Drift(onesignal::DriftArgs),
    /// Import templates from OneSignal into catalog files
    ImportOnesignal(onesignal::ImportArgs),
    /// Show a line diff between the files and Herald's catalog (exit code 2 if they differ)
    Diff(FilesArgs),
}

#[derive(Debug, Args)]
pub struct FilesArgs {
    /// Catalog folder
    #[arg(required_unless_present = "sample")]
    dir: Option<PathBuf>,
    /// Use the built-in sample catalog instead of a folder
    #[arg(long, conflicts_with = "dir")]
    sample: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Remove what is not in the files: rules, partials and event types are deleted, templates archived
    #[arg(long)]
    delete: bool,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Version note for the new versions
    #[arg(long, default_value = "")]
    note: String,
    /// Show what would change without changing anything
    #[arg(long)]
    dry_run: bool,
    /// Proceed even if events that are sent today would be held
    #[arg(long)]
    accept_held: bool,
    /// Don't ask for confirmation before deleting
    #[arg(long, short)]
    yes: bool,
}

/// What to check.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Catalog folder
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct PullArgs {
    /// Folder to write to; created if missing
    dir: PathBuf,
    /// Delete catalog files in the folder that are not in Herald's catalog
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl FilesArgs {
    fn read(&self) -> anyhow::Result<BTreeMap<String, String>> {
        match &self.dir {
            Some(dir) => read_folder(dir),
            None => Ok(sample::files()),
        }
    }
}

impl PlanArgs {
    async fn plan(&self) -> anyhow::Result<Value> {
        let body = json!({"files": self.files.read()?, "delete": self.delete});
        self.files.client.call(Method::POST, "/v1/catalog/plan", Some(&body)).await
    }
}

pub(super) async fn run(command: CatalogCommand) -> anyhow::Result<ExitCode> {
    match command {
        CatalogCommand::Apply(args) => apply(&args).await,
        CatalogCommand::Plan(args) => {
            let planned = args.plan().await?;
            print_changes(&planned, args.files.client.json, true);
            Ok(exit(changes_of(&planned).is_empty()))
        }
        CatalogCommand::Check(args) => check(&args),
        CatalogCommand::Pull(args) => pull(&args).await,
        CatalogCommand::Diff(args) => diff(&args).await,
        CatalogCommand::Infer(args) => infer::run(&args).await,
        CatalogCommand::Drift(args) => onesignal::drift(&args).await,
        CatalogCommand::ImportOnesignal(args) => onesignal::import(&args).await,
    }
}

fn exit(is_same: bool) -> ExitCode {
    if is_same { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn changes_of(applied: &Value) -> &[Value] {
    applied["changes"].as_array().map(Vec::as_slice).unwrap_or_default()
}

async fn apply(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let client = &args.plan.files.client;
    if args.dry_run {
        print_changes(&args.plan.plan().await?, client.json, true);
        return Ok(ExitCode::SUCCESS);
    }
    if args.plan.delete && !args.yes {
        let planned = args.plan.plan().await?;
        let gone: Vec<&Value> =
            changes_of(&planned).iter().filter(|change| change["after"].is_null()).collect();
        if !gone.is_empty() && !std::io::stdin().is_terminal() {
            bail!(
                "{} would be removed and there is no terminal to ask at: pass --yes; nothing was changed",
                gone.len()
            );
        }
        if !gone.is_empty() && !confirm(&gone)? {
            bail!("nothing was changed");
        }
    }
    let body = json!({
        "files": args.plan.files.read()?, "note": args.note, "delete": args.plan.delete,
        "accept_held": args.accept_held,
    });
    let applied = client.call(Method::POST, "/v1/catalog/apply", Some(&body)).await?;
    print_changes(&applied, client.json, false);
    Ok(ExitCode::SUCCESS)
}

/// Asks for confirmation before something is removed.
fn confirm(gone: &[&Value]) -> anyhow::Result<bool> {
    for change in gone {
        eprintln!("{:8} {} {}", plain(&change["change"]), plain(&change["kind"]), plain(&change["name"]));
    }
    eprint!("{} will be removed. Continue? [y/N]  ", gone.len());
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("no answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let problems = files::check(&read_folder(&args.dir)?, &Budget::default());
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&problems)?);
    } else {
        for problem in &problems {
            println!("{}{problem}", if problem.is_error() { "error: " } else { "warning: " });
        }
        match (errors, problems.len()) {
            (0, 0) => println!("no problems found"),
            (errors, all) => println!("{}, {}", counted(errors, "error"), counted(all - errors, "warning")),
        }
    }
    Ok(exit(!problems.iter().any(CatalogProblem::is_error)))
}

async fn pull(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let answer = args.client.call(Method::GET, "/v1/catalog", None).await?;
    let files: BTreeMap<String, String> =
        serde_json::from_value(answer["files"].clone()).context("the response contains no files")?;
    let written = write_folder(&args.dir, &files, args.delete)?;
    if args.client.json {
        let body = json!({"written": written.changed, "deleted": written.deleted, "same": written.same});
        println!("{body:#}");
        return Ok(ExitCode::SUCCESS);
    }
    for path in &written.changed {
        println!("written  {path}");
    }
    for path in &written.deleted {
        println!("deleted  {path}");
    }
    println!("{} written, {} unchanged", counted(written.changed.len(), "file"), written.same);
    if !written.left.is_empty() {
        println!("not in Herald's catalog: {} (--delete deletes them):", counted(written.left.len(), "file"));
        written.left.iter().for_each(|path| println!("         {path}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn diff(args: &FilesArgs) -> anyhow::Result<ExitCode> {
    let here = args.read()?;
    let answer = args.client.call(Method::GET, "/v1/catalog", None).await?;
    let there: BTreeMap<String, String> =
        serde_json::from_value(answer["files"].clone()).context("the response contains no files")?;
    let elsewhere: Vec<&String> = there.keys().filter(|path| !here.contains_key(*path)).collect();
    let mut changed = Vec::new();
    for (path, text) in &here {
        // As for `plan`, line endings and a byte order mark don't count as differences.
        let known = there.get(path).map(|text| plain_lines(text)).unwrap_or_default();
        let lines = lines(&known, &plain_lines(text));
        if lines.iter().any(|line| line.op != "same") {
            changed.push((path, lines));
        }
    }
    if args.client.json {
        let body: Vec<Value> =
            changed.iter().map(|(path, lines)| json!({"file": path, "lines": lines})).collect();
        println!("{:#}", json!({"changed": body, "only_in_herald": elsewhere}));
    } else if changed.is_empty() {
        println!("the files match Herald's catalog");
    }
    for (path, lines) in changed.iter().filter(|_| !args.client.json) {
        println!("--- herald/{path}\n+++ {path}");
        for line in lines.iter().filter(|line| line.op != "same") {
            println!("{}{}", if line.op == "new" { '+' } else { '-' }, line.text);
        }
    }
    if !elsewhere.is_empty() && !args.client.json {
        println!(
            "{} of Herald's catalog not in the folder; applying it keeps them",
            counted(elsewhere.len(), "file")
        );
    }
    Ok(exit(changed.is_empty()))
}

fn print_changes(applied: &Value, as_json: bool, is_dry: bool) {
    if as_json {
        println!("{applied:#}");
        return;
    }
    for warning in applied["warnings"].as_array().into_iter().flatten() {
        println!(
            "warning: {}: {} [{}]",
            plain(&warning["file"]),
            plain(&warning["message"]),
            plain(&warning["code"])
        );
    }
    let changes = changes_of(applied);
    if changes.is_empty() {
        println!("no changes");
        return;
    }
    for change in changes {
        let version =
            change["version"].as_i64().map(|n| format!(" (version {n} is live)")).unwrap_or_default();
        let kind = plain(&change["kind"]).replace('_', " ");
        println!("{:8} {kind} {}{version}", plain(&change["change"]), plain(&change["name"]));
        print_traffic(&applied["traffic"][plain(&change["name"])]);
    }
    if is_dry {
        println!("{}; nothing was applied", counted(changes.len(), "change"));
    } else {
        let count = counted(changes.len(), "change");
        println!("{count} applied; the catalog is at revision {}", applied["revision"]);
    }
}

/// How recent events render with a template, in at most two lines.
pub(super) fn print_traffic(report: &Value) {
    let Some(checked) = report["checked"].as_u64().filter(|checked| *checked > 0) else { return };
    let what = if report["based_on"] == "events" { "events" } else { "samples" };
    println!(
        "         last {checked} {what}: {} unchanged, {} changed, {} would be held",
        report["same"], report["differs"], report["would_be_held"]
    );
    for (path, count) in report["missing"].as_object().into_iter().flatten() {
        println!("         {count} without {path}");
    }
}
