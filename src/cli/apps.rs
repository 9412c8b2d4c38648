//! `herald apps`: the OneSignal apps that Herald sends through.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ClientArgs, plain};

#[derive(Debug, Subcommand)]
pub enum AppsCommand {
    /// List apps
    List(ClientArgs),
    /// Create or update an app (settings that you leave out are kept)
    Set(SetArgs),
}

#[derive(Debug, Args)]
pub struct SetArgs {
    /// OneSignal's App ID; for an existing app, its name works too
    app: String,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// Read the App API key from standard input
    #[arg(long)]
    key_stdin: bool,
    /// Base URL of its API
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Rate limit of the app's plan: 150 (free) or 6000 (paid)
    #[arg(long, value_name = "NUMBER")]
    calls_per_second: Option<u32>,
    /// Number of subscribed subscriptions, used by the volume guard; 0 = unknown
    #[arg(long, value_name = "NUMBER")]
    subscriptions: Option<u32>,
    /// Make it the default app, used by rules that don't name one
    #[arg(long)]
    default: bool,
    /// An alias label that its users have, such as `crm_id`; repeatable; replaces the existing list
    #[arg(long = "alias-label", value_name = "LABEL")]
    alias_labels: Vec<String>,
    /// Its users have no custom aliases: events identify them by `external_id` or OneSignal's own labels
    #[arg(long, conflicts_with = "alias_labels")]
    no_alias_labels: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(command: AppsCommand) -> anyhow::Result<ExitCode> {
    match command {
        AppsCommand::List(client) => {
            let apps = client.call(Method::GET, "/v1/apps", None).await?;
            if client.json { println!("{apps:#}") } else { println!("{}", table(&apps)) }
        }
        AppsCommand::Set(args) => set(&args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(args: &SetArgs) -> anyhow::Result<()> {
    let apps = args.client.call(Method::GET, "/v1/apps", None).await?;
    let is_meant = |app: &&Value| app["id"] == args.app.as_str() || app["name"] == args.app.as_str();
    let present = apps.as_array().into_iter().flatten().find(is_meant).cloned().unwrap_or_default();
    let id = present["id"].as_str().unwrap_or(&args.app).to_owned();
    let subscriptions = match args.subscriptions {
        Some(0) => Value::Null,
        Some(count) => json!(count),
        None => present["subscriptions"].clone(),
    };
    let Some(name) = args.name.as_deref().or(present["name"].as_str()) else {
        bail!("a new app needs a name: --name shop");
    };
    let mut said = json!({
        "name": name, "subscriptions": subscriptions,
        "is_default": args.default || present["is_default"] == true,
    });
    let kept = |given: Option<Value>, name: &str| given.unwrap_or_else(|| present[name].clone());
    said["base_url"] = kept(args.base_url.as_ref().map(|url| json!(url)), "base_url");
    said["calls_per_second"] = kept(args.calls_per_second.map(|calls| json!(calls)), "calls_per_second");
    said["alias_labels"] = if args.alias_labels.is_empty() && !args.no_alias_labels {
        present["alias_labels"].clone()
    } else {
        json!(args.alias_labels)
    };
    if args.key_stdin {
        let mut key = String::new();
        std::io::stdin().read_to_string(&mut key).context("can't read standard input")?;
        said["api_key"] = json!(key.trim());
    }
    let path = format!("/v1/apps/{id}");
    let app = args.client.put_seen(&path, !present.is_null(), &said).await?;
    if args.client.json {
        println!("{app:#}");
    } else {
        println!("{}", table(&json!([app])));
    }
    Ok(())
}

fn table(apps: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["NAME", "ID", "CALLS/S", "SUBSCRIPTIONS", "ALIAS LABELS", "STATE"]);
    for app in apps.as_array().into_iter().flatten() {
        let subscriptions =
            if app["subscriptions"].is_null() { "unknown".to_owned() } else { plain(&app["subscriptions"]) };
        let mut state = if app["is_sandbox"] == true { "sandbox" } else { "real" }.to_owned();
        if app["is_default"] == true {
            state.push_str(", default");
        }
        if let Some(why) = app["paused"].as_str() {
            state = format!("{state}, paused by {why}");
        }
        table.add_row([
            plain(&app["name"]),
            plain(&app["id"]),
            plain(&app["calls_per_second"]),
            subscriptions,
            labels(&app["alias_labels"]),
            state,
        ]);
    }
    table
}

fn labels(labels: &Value) -> String {
    match labels.as_array().map(Vec::as_slice) {
        None => "not declared".to_owned(),
        Some([]) => "none".to_owned(),
        Some(labels) => labels.iter().map(plain).collect::<Vec<_>>().join(" "),
    }
}
