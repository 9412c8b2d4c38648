//! `herald sync`: connectors to other databases.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ClientArgs, plain};

#[derive(Debug, Subcommand)]
pub enum SyncCommand {
    /// Save a connector from a file, and show what it would read; it reads nothing before `herald sync run`
    Save(SaveArgs),
    /// Look at a connector's source: columns, what rows would become, guarantee, warnings (exit code 2 if it can't be read)
    Check(NamedArgs),
    /// Start a connector, or let it go on after it was paused or stopped
    Run {
        /// Connector name
        name: String,
        /// Read all rows of its query again
        #[arg(long)]
        reread: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Pause a connector
    Pause(NamedArgs),
    /// Show connectors with their lag and errors; with a name, one of them with the rows that were set aside
    Status {
        /// Connector name
        name: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Delete a connector; users and events that it brought stay
    Delete {
        /// Connector name
        name: String,
        /// Delete without asking
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Args)]
pub struct NamedArgs {
    /// Connector name
    name: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct SaveArgs {
    /// File with the connector's definition (TOML)
    file: PathBuf,
    /// Connector name [default: the file's name without its ending]
    #[arg(long)]
    name: Option<String>,
    /// Read the source's address, `postgres://user:password@host/database`, from this environment variable
    #[arg(long, value_name = "VARIABLE")]
    connection_env: Option<String>,
    /// Read the source's address from standard input
    #[arg(long, conflicts_with = "connection_env")]
    connection_stdin: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(command: SyncCommand) -> anyhow::Result<ExitCode> {
    match command {
        SyncCommand::Save(args) => save(&args).await,
        SyncCommand::Check(args) => check(&args.client, &args.name).await,
        SyncCommand::Run { name, reread, client } => {
            let path = path(&name, if reread { "/start?reread=true" } else { "/start" });
            change(&client, &path, &format!("{name} is running")).await
        }
        SyncCommand::Pause(args) => {
            change(&args.client, &path(&args.name, "/pause"), &format!("{} is paused", args.name)).await
        }
        SyncCommand::Status { name: None, client } => list(&client).await,
        SyncCommand::Status { name: Some(name), client } => show(&client, &name).await,
        SyncCommand::Delete { name, yes, client } => delete(&client, &name, yes).await,
    }
}

/// A path below a connector's.
fn path(name: &str, rest: &str) -> String {
    let name = url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20");
    format!("/v1/connectors/{name}{rest}")
}

async fn save(args: &SaveArgs) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("{} can't be read", args.file.display()))?;
    let mut definition: Value =
        toml::from_str(&text).with_context(|| format!("{} is not valid TOML", args.file.display()))?;
    let name = args.name.clone().map_or_else(|| name_of(&args.file), Ok)?;
    if let Some(address) = connection(args)? {
        definition["connection"] = json!(address);
    }
    let listed = args.client.call(Method::GET, "/v1/connectors", None).await?;
    let is_there =
        listed.as_array().is_some_and(|known| known.iter().any(|known| known["name"] == name.as_str()));
    let saved = args.client.put_seen(&path(&name, ""), is_there, &definition).await?;
    if args.client.json {
        println!("{saved:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{name} is saved and {}", plain(&saved["state"]));
    if let Some(detail) = saved["detail"].as_str().filter(|detail| !detail.is_empty()) {
        println!("  {detail}");
    }
    check(&args.client, &name).await
}

fn name_of(file: &Path) -> anyhow::Result<String> {
    let name = file.file_stem().map(|name| name.to_string_lossy().into_owned());
    name.context("the file has no name: pass `--name`")
}

fn connection(args: &SaveArgs) -> anyhow::Result<Option<String>> {
    if let Some(variable) = &args.connection_env {
        let address = std::env::var(variable).with_context(|| format!("{variable} is not set"))?;
        return Ok(Some(address));
    }
    if !args.connection_stdin {
        return Ok(None);
    }
    let mut address = String::new();
    std::io::stdin().read_to_string(&mut address).context("standard input can't be read")?;
    Ok(Some(address.trim().to_owned()))
}

async fn check(client: &ClientArgs, name: &str) -> anyhow::Result<ExitCode> {
    let found = client.call(Method::POST, &path(name, "/check"), None).await?;
    let is_well = found["problem"] == "";
    if client.json {
        println!("{found:#}");
        return Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(2) });
    }
    if !is_well {
        println!("problem    {}", plain(&found["problem"]));
    }
    if let Some(guarantee) = found["guarantee"].as_str().filter(|text| !text.is_empty()) {
        println!("guarantee  {guarantee}");
    }
    if let Some(rows) = found["rows"].as_i64() {
        println!("rows       {rows}");
    }
    for warning in found["warnings"].as_array().into_iter().flatten() {
        println!("warning    {}", plain(warning));
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["COLUMN", "TYPE", "MEANING"]);
    for column in found["columns"].as_array().into_iter().flatten() {
        table.add_row([plain(&column["name"]), plain(&column["type"]), plain(&column["meaning"])]);
    }
    if table.row_count() > 0 {
        println!("\n{table}");
    }
    for row in found["preview"].as_array().into_iter().flatten() {
        println!("\n{}: {}", plain(&row["row"]), row["becomes"]);
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

async fn change(client: &ClientArgs, path: &str, text: &str) -> anyhow::Result<ExitCode> {
    let connector = client.call(Method::POST, path, None).await?;
    if client.json {
        println!("{connector:#}");
    } else {
        println!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &ClientArgs) -> anyhow::Result<ExitCode> {
    let connectors = client.call(Method::GET, "/v1/connectors", None).await?;
    if client.json {
        println!("{connectors:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "NAME",
        "STATE",
        "LAST POLL",
        "READ",
        "ACCEPTED",
        "SET ASIDE",
        "NOTE",
    ]);
    for connector in connectors.as_array().into_iter().flatten() {
        let note = [&connector["detail"], &connector["last_error"]]
            .into_iter()
            .chain(connector["notes"].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .find(|text| !text.is_empty());
        table.add_row([
            plain(&connector["name"]),
            state(connector),
            format!("{} s ago", plain(&connector["poll_age_seconds"])),
            plain(&connector["counts"]["read"]),
            plain(&connector["counts"]["accepted"]),
            plain(&connector["waiting_rows"]),
            note.unwrap_or_default().to_owned(),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

/// The state, or that a running connector is not polled.
fn state(connector: &Value) -> String {
    if connector["stale"] == true { "stalled".to_owned() } else { plain(&connector["state"]) }
}

async fn show(client: &ClientArgs, name: &str) -> anyhow::Result<ExitCode> {
    let connector = client.call(Method::GET, &path(name, ""), None).await?;
    let aside = client.call(Method::GET, &path(name, "/set-aside"), None).await?;
    if client.json {
        println!("{:#}", json!({"connector": connector, "set_aside": aside["data"]}));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}  {}  {}", plain(&connector["name"]), state(&connector), plain(&connector["source"]));
    for text in [&connector["detail"], &connector["last_error"]] {
        if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
            println!("  {text}");
        }
    }
    for note in connector["notes"].as_array().into_iter().flatten() {
        println!("  {}", plain(note));
    }
    let behind = plain(&connector["behind_seconds"]);
    println!("  last poll {} s ago, {behind} s behind the source", plain(&connector["poll_age_seconds"]));
    let counts = connector["counts"].as_object().cloned().unwrap_or_default();
    let shown =
        ["read", "accepted", "unchanged", "repeated", "too_old", "deleted", "set_aside", "superseded"];
    let counts = shown.map(|name| {
        let value = counts.get(name).unwrap_or(&Value::Null);
        format!("{} {}", plain(value), name.replace('_', " "))
    });
    println!("  rows: {}", counts.join(", "));
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["ROW", "COLUMN", "REASON", "ATTEMPTS", "NEXT"]);
    for row in aside["data"].as_array().into_iter().flatten() {
        let cell = |name: &str| plain(&row[name]);
        table.add_row([cell("row"), cell("column"), cell("reason"), cell("attempts"), cell("retry_at")]);
    }
    if table.row_count() > 0 {
        println!("\nset aside:\n{table}");
    }
    Ok(ExitCode::SUCCESS)
}

async fn delete(client: &ClientArgs, name: &str, yes: bool) -> anyhow::Result<ExitCode> {
    if !yes {
        if !std::io::stdin().is_terminal() {
            bail!("pass `--yes` to delete {name} without a terminal");
        }
        print!("delete {name}? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            println!("nothing was deleted");
            return Ok(ExitCode::SUCCESS);
        }
    }
    client.call(Method::DELETE, &path(name, ""), None).await?;
    println!("{name} is deleted");
    Ok(ExitCode::SUCCESS)
}
