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

/// What to do with apps.
#[derive(Debug, Subcommand)]
pub enum AppsCommand {
    /// List apps
    List(ClientArgs),
    /// Enter an app, or change what is said about one; what is not named stays
    Set(SetArgs),
}

/// What to say about an app.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// OneSignal's App ID; of a known one its name does, too
    app: String,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// Read the App API key from standard input
    #[arg(long)]
    key_stdin: bool,
    /// Where its API is
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// 150 on the free plan, 6000 on a paid one
    #[arg(long, value_name = "NUMBER")]
    calls_per_second: Option<u32>,
    /// Subscribed subscriptions, which the volume guard counts on; 0: nobody knows
    #[arg(long, value_name = "NUMBER")]
    subscriptions: Option<u32>,
    /// Rules that name no app use it
    #[arg(long)]
    default: bool,
    /// A label that its people have aliases under, such as `crm_id`; may be repeated, and takes the place of those before
    #[arg(long = "alias-label", value_name = "LABEL")]
    alias_labels: Vec<String>,
    /// Its people have no aliases: events name them by `external_id` and OneSignal's own labels alone
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
        let subscriptions = if app["subscriptions"].is_null() {
            "not known".to_owned()
        } else {
            plain(&app["subscriptions"])
        };
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
