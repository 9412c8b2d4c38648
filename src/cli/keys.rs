//! `herald keys`: API keys. The first key is created directly in the database, since no key exists yet to authorize it.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::client::{ClientArgs, plain};
use super::rotate_secret::RotateArgs;
use crate::access::{Access, KeyRequest, Scope};
use crate::app::open_store;
use crate::config::Settings;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::event::is_pattern;
use crate::domain::id::IdSource;
use crate::store::clock::PgClock;

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a key; it is shown only once
    Create(CreateArgs),
    /// List keys
    List(ClientArgs),
    /// Revoke a key
    Revoke {
        /// Key ID (key_…)
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Re-encrypt everything with the current secret key, so that the previous one can be removed
    RotateSecret(RotateArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The system that will use it; created if new
    #[arg(long)]
    source: String,
    /// Test key: reaches sandbox apps only
    #[arg(long)]
    test: bool,
    /// A scope, such as events:write; repeatable; the first key gets all scopes by default
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// An event type that it may post, such as order.*; repeatable [default: all]
    #[arg(long = "allow-type", value_name = "TYPE")]
    types: Vec<String>,
    /// A source whose events and deliveries it may read and change; repeatable [default: all]
    #[arg(long = "allow-source", value_name = "SOURCE")]
    sources: Vec<String>,
    /// When it expires: a duration such as 90d, or a time (RFC 3339) [default: never]
    #[arg(long, value_name = "WHEN", value_parser = end)]
    expires: Option<DateTime<Utc>>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(command: KeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::Create(args) => {
            let created = match first_key(&args).await? {
                Some(created) => created,
                None => args.client.call(Method::POST, "/v1/keys", Some(&request(&args))).await?,
            };
            if args.client.json {
                println!("{created:#}");
            } else {
                println!("{}", plain(&created["key"]));
                eprintln!("{} for {}; it is not shown again", plain(&created["id"]), args.source);
            }
        }
        KeysCommand::List(client) => {
            let keys = client.call(Method::GET, "/v1/keys", None).await?;
            if client.json { println!("{keys:#}") } else { println!("{}", table(&keys)) }
        }
        KeysCommand::Revoke { id, client } => {
            client.call(Method::DELETE, &format!("/v1/keys/{id}"), None).await?;
            println!("{id} is revoked; all processes reject it within two seconds");
        }
        KeysCommand::RotateSecret(args) => return super::rotate_secret::run(args).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn request(args: &CreateArgs) -> Value {
    let types = (!args.types.is_empty()).then_some(&args.types);
    let sources = (!args.sources.is_empty()).then_some(&args.sources);
    json!({
        "source": args.source, "test": args.test, "scopes": args.scopes, "allowed_types": types,
        "allowed_sources": sources, "expires_at": args.expires,
    })
}

/// Parses a time, or a duration from now.
fn end(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let ahead = humantime_serde::re::humantime::parse_duration(text)
        .map_err(|_| "write a duration such as 90d, or a time such as 2027-03-01T00:00:00Z")?;
    let ahead = chrono::TimeDelta::from_std(ahead).map_err(|_| "that is too far in the future")?;
    SystemClock::new()
        .now()
        .checked_add_signed(ahead)
        .ok_or_else(|| "that is too far in the future".to_owned())
}

/// Creates the first key directly in the database, if one is configured and has no keys yet.
async fn first_key(args: &CreateArgs) -> anyhow::Result<Option<Value>> {
    let settings = super::settings(&[])?;
    if Settings::given(&settings.database_url).is_none() || Settings::given(&settings.secret_key).is_none() {
        return Ok(None);
    }
    let store = open_store(&settings)?;
    if store.has_keys().await.map_err(super::database::unusable)? {
        return Ok(None);
    }
    let mut scopes = Vec::new();
    for word in &args.scopes {
        match Scope::find(word) {
            Some(scope) => scopes.push(scope),
            None => {
                bail!("unknown scope `{word}`; scopes are {}", Scope::ALL.map(Scope::as_str).join(", "))
            }
        }
    }
    if let Some(text) = args.types.iter().find(|text| !is_pattern(text)) {
        bail!("`{text}` is not an event type pattern; write `order.shipped`, `order.*` for a family, or `*`");
    }
    if scopes.is_empty() {
        scopes = Scope::ALL.to_vec();
    }
    let clock = Arc::new(PgClock::start(&store).await?);
    let access = Access::new(store.clone(), clock, Arc::new(IdSource::random()));
    let allowed_types = (!args.types.is_empty()).then(|| args.types.clone());
    let allowed_sources = (!args.sources.is_empty()).then(|| args.sources.clone());
    let request = KeyRequest {
        allowed_types,
        allowed_sources,
        expires_at: args.expires,
        ..KeyRequest::new(&args.source, args.test, scopes)
    };
    let created =
        access.create_key(&request).await.context("the key could not be stored; check the source's name")?;
    store.close().await;
    Ok(Some(json!({"id": created.id, "key": created.text.expose_secret(), "hint": created.hint})))
}

fn state_of(key: &Value) -> String {
    match (key["revoked_at"].is_null(), key["expires_at"].is_null()) {
        (false, _) => "revoked".to_owned(),
        (true, false) => format!("until {}", plain(&key["expires_at"])),
        (true, true) => "active".to_owned(),
    }
}

fn table(keys: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["ID", "SOURCE", "KEY", "SCOPES", "LAST USED", "STATE"]);
    for key in keys.as_array().into_iter().flatten() {
        let scopes: Vec<String> = key["scopes"].as_array().into_iter().flatten().map(plain).collect();
        table.add_row([
            plain(&key["id"]),
            plain(&key["source"]),
            plain(&key["hint"]),
            scopes.join(" "),
            if key["last_used_at"].is_null() { "never".to_owned() } else { plain(&key["last_used_at"]) },
            state_of(key),
        ]);
    }
    table
}
