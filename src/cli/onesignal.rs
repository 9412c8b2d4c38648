//! `herald catalog drift` and `import-onesignal`: templates in OneSignal.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{ClientArgs, plain};
use super::counted;

#[derive(Debug, Args)]
pub struct DriftArgs {
    /// Overwrite templates that were edited in OneSignal (deleted ones are always uploaded again)
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Folder to write the files to
    dir: PathBuf,
    /// App name or ID
    #[arg(long)]
    app: String,
    /// Only this channel: push, email or sms
    #[arg(long)]
    channel: Option<String>,
    /// Only templates whose name starts with this
    #[arg(long, default_value = "")]
    prefix: String,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Compares all templates; exit code 2 if any differs.
pub(super) async fn drift(args: &DriftArgs) -> anyhow::Result<ExitCode> {
    let (mut found, mut before) = (Vec::new(), Value::Null);
    loop {
        let mut body = json!({"repair": args.repair});
        if !before.is_null() {
            body["before"] = before;
        }
        let report = args.client.call(Method::POST, "/v1/catalog/drift", Some(&body)).await?;
        found.extend(report["data"].as_array().cloned().unwrap_or_default());
        let left = report["unchecked"].as_u64().unwrap_or_default();
        if left == 0 {
            break;
        }
        eprintln!("{} compared, {left} left", found.len());
        before = report["before"].clone();
    }
    let drifted: Vec<&Value> = found.iter().filter(|looked| !looked["drift"].is_null()).collect();
    if args.client.json {
        println!("{:#}", json!({ "data": found }));
    } else {
        for looked in &drifted {
            let repaired = if looked["repaired"] == true { "; uploaded again" } else { "" };
            let place =
                format!("{}@{}/{}", plain(&looked["template"]), looked["version"], plain(&looked["locale"]));
            println!("{:8} {place} in app {}{repaired}", plain(&looked["drift"]), plain(&looked["app"]));
        }
        println!("{} compared, {} differ", counted(found.len(), "template"), drifted.len());
    }
    Ok(if drifted.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// Imports templates and writes them; prints notes for whatever needs a review.
pub(super) async fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let (files, notes) = fetch(args).await?;
    let paths = files.keys().map(|path| Ok((args.dir.join(safe(path)?), &files[path])));
    let paths: Vec<(PathBuf, &Value)> = paths.collect::<anyhow::Result<_>>()?;
    let there: Vec<String> =
        paths.iter().filter(|(path, _)| path.exists()).map(|(path, _)| path.display().to_string()).collect();
    if !there.is_empty() && !args.force {
        bail!(
            "nothing was written because these files exist (use --force to overwrite them): {}",
            there.join(", ")
        );
    }
    for (path, text) in &paths {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("can't create {}", folder.display()))?;
        }
        let text = text.as_str().unwrap_or_default();
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
    }
    if args.client.json {
        println!("{:#}", json!({"files": files.keys().collect::<Vec<_>>(), "notes": notes}));
        return Ok(ExitCode::SUCCESS);
    }
    let templates: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').nth(1)).collect();
    println!(
        "{} in {} in {}",
        counted(templates.len(), "template"),
        counted(files.len(), "file"),
        args.dir.display()
    );
    for note in &notes {
        let place = note["file"].as_str().or(note["name"].as_str()).unwrap_or_default();
        let field = note["field"].as_str().map(|field| format!(" {field}")).unwrap_or_default();
        let line = note["line"].as_u64().map(|line| format!(", line {line}")).unwrap_or_default();
        println!("  {place}{field}{line}: {}", plain(&note["message"]));
    }
    Ok(ExitCode::SUCCESS)
}

async fn fetch(args: &ImportArgs) -> anyhow::Result<(Map<String, Value>, Vec<Value>)> {
    let (mut files, mut notes, mut cursor) = (Map::new(), Vec::new(), Value::Null);
    loop {
        let taken: BTreeSet<&str> = files.keys().filter_map(|path: &String| path.split('/').nth(1)).collect();
        let body = json!({
            "app": args.app, "channel": args.channel, "prefix": args.prefix, "cursor": cursor, "taken": taken,
        });
        let mut page = args.client.call(Method::POST, "/v1/catalog/import", Some(&body)).await?;
        files.extend(page["files"].as_object().cloned().unwrap_or_default());
        notes.extend(page["notes"].as_array().cloned().unwrap_or_default());
        cursor = page["next_cursor"].take();
        if cursor.is_null() {
            return Ok((files, notes));
        }
        eprintln!("{} so far", counted(files.len(), "file"));
    }
}

/// A path from a response, if it is inside the folder.
fn safe(path: &str) -> anyhow::Result<&str> {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']);
    if path.split('/').all(is_plain) {
        Ok(path)
    } else {
        bail!("the response contains an invalid path: {path}")
    }
}
