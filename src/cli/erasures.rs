//! `herald users erase`, `erasures` and `export`: erase a person, follow it, and export what Herald holds about one.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ClientArgs, plain};
use super::usage;
use super::users::{path_of, segment};

/// How often the state is read.
const POLL: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The user, such as `external_id=user-42`; someone known by an address only: `email=ann@shop.example`
    #[arg(value_parser = usage::recipient)]
    user: String,
    /// Erase without asking
    #[arg(long)]
    yes: bool,
    /// Wait until the erasure is done
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Subcommand)]
pub enum ErasuresCommand {
    /// List erasures, newest first
    List(ClientArgs),
    /// Show what an erasure has erased where
    Show {
        /// Erasure (`ers_…`)
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Let a person come back who was erased: their identifiers are no longer refused
    Lift {
        /// Erasure (`ers_…`)
        id: String,
        /// Why, for the audit log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The user, such as `external_id=user-42`
    #[arg(value_parser = usage::recipient)]
    user: String,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn erase(args: &EraseArgs) -> anyhow::Result<ExitCode> {
    if !args.yes && !confirmed(&args.user)? {
        println!("nothing was erased");
        return Ok(ExitCode::SUCCESS);
    }
    let mut erasure = args.client.call(Method::DELETE, &path_of(&args.user), None).await?;
    while args.wait && erasure["state"] == "open" {
        tokio::time::sleep(POLL).await;
        erasure =
            args.client.call(Method::GET, &format!("/v1/erasures/{}", plain(&erasure["id"])), None).await?;
    }
    print(&erasure, &args.client);
    if erasure["state"] == "open" && !args.client.json {
        println!("follow it: herald users erasures show {}", plain(&erasure["id"]));
    }
    Ok(ExitCode::SUCCESS)
}

fn confirmed(user: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("pass --yes to erase without a terminal");
    }
    let id = user.split_once('=').map_or(user, |(_, id)| id);
    print!("This deletes the person here and at OneSignal, and can't be undone. Type `{id}` to erase them: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == id)
}

pub(super) async fn run(command: ErasuresCommand) -> anyhow::Result<ExitCode> {
    match command {
        ErasuresCommand::List(client) => list(&client).await?,
        ErasuresCommand::Show { id, client } => {
            let erasure = client.call(Method::GET, &format!("/v1/erasures/{}", segment(&id)), None).await?;
            print(&erasure, &client);
        }
        ErasuresCommand::Lift { id, reason, client } => {
            let path = format!("/v1/erasures/{}/lift", segment(&id));
            let erasure = client.call(Method::POST, &path, Some(&json!({"reason": reason}))).await?;
            print(&erasure, &client);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &ClientArgs) -> anyhow::Result<()> {
    let page = client.call(Method::GET, "/v1/erasures", None).await?;
    if client.json {
        println!("{page:#}");
        return Ok(());
    }
    let erasures = page["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if erasures.is_empty() {
        println!("no erasures: herald users erase external_id=…");
    }
    for erasure in erasures {
        let text = |name: &str| plain(&erasure[name]);
        println!(
            "{} {} requested {} by {}",
            text("id"),
            text("state"),
            text("requested_at"),
            text("requested_by")
        );
    }
    Ok(())
}

fn print(erasure: &Value, client: &ClientArgs) {
    if client.json {
        println!("{erasure:#}");
        return;
    }
    let text = |name: &str| plain(&erasure[name]);
    println!(
        "{} {}: requested {} by {}",
        text("id"),
        text("state"),
        text("requested_at"),
        text("requested_by")
    );
    for app in erasure["apps"].as_array().into_iter().flatten() {
        let gone = if app["state"] == "gone" { plain(&app["gone_at"]) } else { "not yet".to_owned() };
        println!(
            "  app {}: gone {gone} ({} deletions, last answer: {})",
            plain(&app["app"]),
            plain(&app["deletions"]),
            plain(&app["last_answer"])
        );
    }
    for (kind, count) in erasure["erased"].as_object().into_iter().flatten() {
        if count.as_u64() > Some(0) {
            println!("  {}: {count}", kind.replace('_', " "));
        }
    }
    if erasure["recorded"] == false {
        println!("  not recorded outside the database: a restore from a backup would bring the person back");
    }
    for limit in erasure["limits"].as_array().into_iter().flatten() {
        println!("  note: {}", plain(limit));
    }
}

pub(super) async fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let text = args.client.get_text(&format!("{}/export", path_of(&args.user))).await?;
    if !text.trim_end().ends_with(r#"{"kind":"end"}"#) {
        bail!("the export was cut off; try again");
    }
    match &args.output {
        Some(file) => write(file, &text)?,
        None => print!("{text}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("{} can't be written", file.display()))?;
    eprintln!("{}: {} lines", file.display(), text.lines().count());
    Ok(())
}
