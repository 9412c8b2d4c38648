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

/// What to do with a catalog.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// Make Herald's catalog say what these files say; templates are live afterwards
    Apply(ApplyArgs),
    /// Say what applying them would change, and what the last real events say to it (exit 2 if anything)
    Plan(PlanArgs),
    /// Check the files here, without Herald (exit 2 if something is wrong)
    Check(CheckArgs),
    /// Write Herald's catalog into a folder; applying it again changes nothing
    Pull(PullArgs),
    /// Make a JSON Schema of the last events of a type
    Infer(infer::InferArgs),
    /// Compare the templates in OneSignal with what was uploaded (exit 2 if any differs)
    Drift(onesignal::DriftArgs),
    /// Bring templates that were written in OneSignal into the catalog's files
    ImportOnesignal(onesignal::ImportArgs),
    /// Show how the files differ from Herald's catalog, line by line (exit 2 if they do)
    Diff(FilesArgs),
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

/// What to plan.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// What the files don't mention goes: rules, partials and event types are deleted, templates put away
    #[arg(long)]
    delete: bool,
}

/// What to apply.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Why, for the history of new versions
    #[arg(long, default_value = "")]
    note: String,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on though events that get their message today would be held
    #[arg(long)]
    accept_held: bool,
    /// Don't ask before something is deleted
    #[arg(long, short)]
    yes: bool,
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

/// Where to write the catalog.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// The folder; it is made if it is not there
    dir: PathBuf,
    /// Delete catalog files in the folder that Herald's catalog does not have
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
                "{} would go, and there is no terminal to ask at: say --yes; nothing was changed",
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

/// Asks before something goes.
fn confirm(gone: &[&Value]) -> anyhow::Result<bool> {
    for change in gone {
        eprintln!("{:8} {} {}", plain(&change["change"]), plain(&change["kind"]), plain(&change["name"]));
    }
    eprint!("{} would go. Go on? [y/N] ", gone.len());
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
            (0, 0) => println!("nothing is wrong"),
            (errors, all) => println!("{}, {}", counted(errors, "error"), counted(all - errors, "warning")),
        }
    }
    Ok(exit(!problems.iter().any(CatalogProblem::is_error)))
}

async fn pull(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let answer = args.client.call(Method::GET, "/v1/catalog", None).await?;
    let files: BTreeMap<String, String> =
        serde_json::from_value(answer["files"].clone()).context("the answer holds no files")?;
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
    println!("{} written, {} the same as before", counted(written.changed.len(), "file"), written.same);
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
        serde_json::from_value(answer["files"].clone()).context("the answer holds no files")?;
    let elsewhere: Vec<&String> = there.keys().filter(|path| !here.contains_key(*path)).collect();
    let mut changed = Vec::new();
    for (path, text) in &here {
        // Line ends and a byte order mark are no difference, here as for `plan`.
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
        println!("the files say what Herald's catalog says");
    }
    for (path, lines) in changed.iter().filter(|_| !args.client.json) {
        println!("--- herald/{path}\n+++ {path}");
        for line in lines.iter().filter(|line| line.op != "same") {
            println!("{}{}", if line.op == "new" { '+' } else { '-' }, line.text);
        }
    }
    if !elsewhere.is_empty() && !args.client.json {
        println!(
            "{} of Herald's catalog not in the folder, which leaves them alone",
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
        println!("the catalog says the same already");
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
        println!("{}; nothing was changed", counted(changes.len(), "change"));
    } else {
        let count = counted(changes.len(), "change");
        println!("{count} applied; the catalog is at revision {}", applied["revision"]);
    }
}

/// What the last events say to a template, in two lines at most.
pub(super) fn print_traffic(report: &Value) {
    let Some(checked) = report["checked"].as_u64().filter(|checked| *checked > 0) else { return };
    let what = if report["based_on"] == "events" { "events" } else { "samples" };
    println!(
        "         of the last {checked} {what}: {} the same, {} different, {} would be held",
        report["same"], report["differs"], report["would_be_held"]
    );
    for (path, count) in report["missing"].as_object().into_iter().flatten() {
        println!("         {count} lack {path}");
    }
}
