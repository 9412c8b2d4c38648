//! `herald sources`: the systems that send events, their webhooks' secrets, and what these received.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{ClientArgs, plain};

/// What to do with sources.
#[derive(Debug, Subcommand)]
pub enum SourcesCommand {
    /// List sources
    List(ClientArgs),
    /// Show what is said about a source, and its secrets' hints
    Show(NamedArgs),
    /// Make, take and revoke webhook secrets
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Say what event a body would make, or which expression fails (exit 2 if it makes none); nothing is stored
    Test(TestArgs),
    /// Show the last bodies that a webhook received
    Bodies(BodiesArgs),
    /// Read a kept body again, by the mapping as it is now (exit 2 if it makes no event)
    Replay {
        /// The source's name
        name: String,
        /// The body's id, `bod_…`
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Which source.
#[derive(Debug, Args)]
pub struct NamedArgs {
    /// The source's name
    name: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// What to do with a webhook's secrets.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Make a secret and show it this once; earlier ones stay in use
    Add {
        /// The source's name
        name: String,
        /// Read the sender's own secret from standard input instead
        #[arg(long)]
        stdin: bool,
        /// Its events reach sandbox apps only
        #[arg(long)]
        test: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Revoke a secret
    Revoke {
        /// The source's name
        name: String,
        /// The secret's id, `whs_…`
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// What to try.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The source's name
    name: String,
    /// A file with the body, as it is sent; - reads standard input
    body: PathBuf,
    /// A header, such as x-topic=orders/paid
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Try this file (sources/NAME.toml) instead of what Herald has
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Which bodies.
#[derive(Debug, Args)]
pub struct BodiesArgs {
    /// The source's name
    name: String,
    /// accepted, unmatched or refused
    #[arg(long)]
    state: Option<String>,
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
                (false, Some(event)) => println!("it made {event}; `herald why {event}` tells its story"),
                (false, None) => println!(
                    "it is still {}; `herald sources bodies {name}` says why",
                    plain(&answer["state"])
                ),
            }
            return Ok(exit_of(&answer));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An address below a source's.
fn path(name: &str, rest: &str) -> String {
    format!("/v1/sources/{}{rest}", encoded(name))
}

/// A text as one part of an address.
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
                (false, None) => println!("{} of {name} is in use", plain(&made["id"])),
            }
        }
        SecretCommand::Revoke { name, id, client } => {
            client.call(Method::DELETE, &path(&name, &format!("/secrets/{}", encoded(&id))), None).await?;
            if client.json {
                println!("{:#}", json!({"id": id, "revoked": true}));
            } else {
                println!("{id} is refused from now on");
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
            bail!("write a header as NAME=VALUE, not `{header}`");
        };
        headers.insert(name.to_owned(), Value::from(value));
    }
    let mut request = json!({"text": body, "headers": headers});
    if let Some(file) = &args.mapping {
        let settings: Value =
            toml::from_str(&read(file)?).with_context(|| format!("{} is no TOML", file.display()))?;
        request["settings"] = settings;
    }
    let answer = args.client.call(Method::POST, &path(&args.name, "/test"), Some(&request)).await?;
    if args.client.json {
        println!("{answer:#}");
        return Ok(exit_of(&answer));
    }
    if let Some(place) = answer["mapping"].as_u64() {
        println!("mapping[{place}] fits");
    }
    if answer["event"].is_object() {
        println!("{:#}", answer["event"]);
    }
    match answer["detail"].as_str() {
        Some(detail) => println!("{}: {detail}", plain(&answer["state"])),
        None => println!("this would be taken; nothing was stored"),
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
        println!("nothing was received, or nothing in that state is kept");
    }
    for body in received {
        let made = body["event"].as_str().map_or_else(|| plain(&body["detail"]), str::to_owned);
        println!(
            "{}  {}  {}  {made}",
            plain(&body["id"]),
            plain(&body["received_at"]),
            plain(&body["state"])
        );
        match body["text"].as_str() {
            Some(text) => println!("{text:?}\n"),
            None => println!("{}\n", body["body"]),
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
        let state = if secret["revoked_at"].is_null() { "in use" } else { "revoked" };
        println!("secret {} {} {state}", plain(&secret["id"]), plain(&secret["hint"]));
    }
    for reason in source["rejected"].as_array().into_iter().flatten() {
        let calls = if reason["calls"] == 1 {
            "1 call was refused".to_owned()
        } else {
            format!("{} calls were refused", plain(&reason["calls"]))
        };
        println!(
            "{calls}, last at {}: {} ({})",
            plain(&reason["last_at"]),
            plain(&reason["detail"]),
            plain(&reason["reason"])
        );
    }
    if source["settings"].is_object() {
        // What was stored came from this very form.
        println!("\n{}", toml::to_string(&source["settings"]).unwrap_or_default());
    }
}
