//! `herald sources`: the systems that send events, their webhook secrets, and received bodies.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{ClientArgs, plain};

/// How much of a body a terminal shows without `--full`.
const SHOWN_CHARS: usize = 2_048;

#[derive(Debug, Subcommand)]
pub enum SourcesCommand {
    /// List sources
    List(ClientArgs),
    /// Show a source, with hints of its secrets
    Show(NamedArgs),
    /// Create, import and revoke webhook secrets
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Show which event a body would create, or which expression fails (exit code 2 if none); stores nothing
    Test(TestArgs),
    /// Show the latest bodies that a webhook received
    Bodies(BodiesArgs),
    /// Reprocess a stored body with the current mapping (exit code 2 if it creates no event)
    Replay {
        /// Source name
        name: String,
        /// Body ID (bod_…)
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Args)]
pub struct NamedArgs {
    /// Source name
    name: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Create a secret and show it once; existing ones stay active
    Add {
        /// Source name
        name: String,
        /// Read the sender's secret from standard input instead of generating one
        #[arg(long)]
        stdin: bool,
        /// Test secret: its events reach sandbox apps only
        #[arg(long)]
        test: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Revoke a secret
    Revoke {
        /// Source name
        name: String,
        /// Secret ID (whs_…)
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Source name
    name: String,
    /// File with the body exactly as sent; - reads standard input
    body: PathBuf,
    /// A header, such as x-topic=orders/paid; repeatable
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Use the mapping in this file (sources/NAME.toml) instead of Herald's
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct BodiesArgs {
    /// Source name
    name: String,
    /// Only this state: accepted, unmatched or refused
    #[arg(long)]
    state: Option<String>,
    /// Print whole bodies; a terminal shows the first 2 KB of each otherwise
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(command: SourcesCommand) -> anyhow::Result<ExitCode> {
    match command {
        SourcesCommand::List(client) => {
            let sources = client.call(Method::GET, "/v1/sources", None).await?;
            if client.json { println!("{sources:#}") } else { println!("{}", table(&sources)) }
        }
        SourcesCommand::Show(args) => {
            let source = args.client.call(Method::GET, &path(&args.name, ""), None).await?;
            if args.client.json { println!("{source:#}") } else { show(&source) }
        }
        SourcesCommand::Secret(command) => secret(command).await?,
        SourcesCommand::Test(args) => return test(&args).await,
        SourcesCommand::Bodies(args) => bodies(&args).await?,
        SourcesCommand::Replay { name, id, client } => {
            let path = path(&name, &format!("/bodies/{}/replay", encoded(&id)));
            let answer = client.call(Method::POST, &path, None).await?;
            match (client.json, answer["id"].as_str()) {
                (true, _) => println!("{answer:#}"),
                (false, Some(event)) => println!("it created {event}; see `herald why {event}`"),
                (false, None) => {
                    println!("it is still {}; see `herald sources bodies {name}`", plain(&answer["state"]));
                }
            }
            return Ok(exit_of(&answer));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A path below a source's.
fn path(name: &str, rest: &str) -> String {
    format!("/v1/sources/{}{rest}", encoded(name))
}

/// Encodes a text as one path segment.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

fn exit_of(answer: &Value) -> ExitCode {
    if answer["state"] == "accepted" { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

async fn secret(command: SecretCommand) -> anyhow::Result<()> {
    match command {
        SecretCommand::Add { name, stdin, test, client } => {
            let mut wish = json!({ "test": test });
            if stdin {
                wish["secret"] = Value::from(read(Path::new("-"))?.trim());
            }
            let made = client.call(Method::POST, &path(&name, "/secrets"), Some(&wish)).await?;
            match (client.json, made["secret"].as_str()) {
                (true, _) => println!("{made:#}"),
                (false, Some(secret)) => {
                    println!("{secret}");
                    eprintln!("{} of {name}; it is not shown again", plain(&made["id"]));
                }
                (false, None) => println!("{} of {name} is active", plain(&made["id"])),
            }
        }
        SecretCommand::Revoke { name, id, client } => {
            client.call(Method::DELETE, &path(&name, &format!("/secrets/{}", encoded(&id))), None).await?;
            if client.json {
                println!("{:#}", json!({"id": id, "revoked": true}));
            } else {
                println!("{id} is revoked");
            }
        }
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file != Path::new("-") {
        return std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("can't read standard input")?;
    Ok(text)
}

async fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let body = read(&args.body)?;
    let mut headers = Map::new();
    for header in &args.headers {
        let Some((name, value)) = header.split_once('=') else {
            bail!("`{header}` is not a header; write NAME=VALUE");
        };
        headers.insert(name.to_owned(), Value::from(value));
    }
    let mut request = json!({"text": body, "headers": headers});
    if let Some(file) = &args.mapping {
        let settings: Value =
            toml::from_str(&read(file)?).with_context(|| format!("{} is not valid TOML", file.display()))?;
        request["settings"] = settings;
    }
    let answer = args.client.call(Method::POST, &path(&args.name, "/test"), Some(&request)).await?;
    if args.client.json {
        println!("{answer:#}");
        return Ok(exit_of(&answer));
    }
    if let Some(place) = answer["mapping"].as_u64() {
        println!("mapping[{place}] matches");
    }
    if answer["event"].is_object() {
        println!("{:#}", answer["event"]);
    }
    match answer["detail"].as_str() {
        Some(detail) => println!("{}: {detail}", plain(&answer["state"])),
        None => println!("this would be accepted; nothing was stored"),
    }
    Ok(exit_of(&answer))
}

async fn bodies(args: &BodiesArgs) -> anyhow::Result<()> {
    let state = args.state.as_ref().map(|state| format!("?state={}", encoded(state))).unwrap_or_default();
    let page = args.client.call(Method::GET, &path(&args.name, &format!("/bodies{state}")), None).await?;
    if args.client.json {
        println!("{page:#}");
        return Ok(());
    }
    let received = page["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if received.is_empty() {
        println!("no stored bodies match");
    }
    let is_cut = !args.full && std::io::stdout().is_terminal();
    for body in received {
        let made = body["event"].as_str().map_or_else(|| plain(&body["detail"]), str::to_owned);
        println!(
            "{}  {}  {}  {made}",
            plain(&body["id"]),
            plain(&body["received_at"]),
            plain(&body["state"])
        );
        let text = match body["text"].as_str() {
            Some(text) => format!("{text:?}"),
            None => body["body"].to_string(),
        };
        match text.char_indices().nth(SHOWN_CHARS).filter(|_| is_cut) {
            Some((end, _)) => println!("{} … ({} bytes; --full shows all)\n", &text[..end], text.len()),
            None => println!("{text}\n"),
        }
    }
    Ok(())
}

fn table(sources: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["NAME", "TYPES", "WEBHOOK"]);
    for source in sources.as_array().into_iter().flatten() {
        let types = source["allowed_types"].as_array();
        let types = types
            .map_or_else(|| "all".to_owned(), |types| types.iter().map(plain).collect::<Vec<_>>().join(" "));
        table.add_row([plain(&source["name"]), types, plain(&source["webhook_path"])]);
    }
    table
}

fn show(source: &Value) {
    println!("{} ({})", plain(&source["name"]), plain(&source["id"]));
    println!("webhook: {}", plain(&source["webhook_path"]));
    for secret in source["secrets"].as_array().into_iter().flatten() {
        let state = if secret["revoked_at"].is_null() { "active" } else { "revoked" };
        println!("secret {} {} {state}", plain(&secret["id"]), plain(&secret["hint"]));
    }
    for reason in source["rejected"].as_array().into_iter().flatten() {
        let calls = if reason["calls"] == 1 {
            "1 call was rejected".to_owned()
        } else {
            format!("{} calls were rejected", plain(&reason["calls"]))
        };
        println!(
            "{calls}, last at {}: {} ({})",
            plain(&reason["last_at"]),
            plain(&reason["detail"]),
            plain(&reason["reason"])
        );
    }
    if source["settings"].is_object() {
        // What was stored came from this same form.
        println!("\n{}", toml::to_string(&source["settings"]).unwrap_or_default());
    }
}
