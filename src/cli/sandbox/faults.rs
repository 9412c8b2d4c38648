//! `herald sandbox faults`: faults of a running sandbox.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum FaultsCommand {
    /// List active faults and how often each was triggered
    List(WhereArgs),
    /// Add a fault
    Add(AddArgs),
    /// Remove one fault, or all
    Clear {
        /// Fault ID from the list [default: all]
        id: Option<u64>,
        #[command(flatten)]
        sandbox: WhereArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct WhereArgs {
    /// The sandbox's URL
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    url: Url,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Kind: `status`, `delay`, `hang`, `reset_before`, `reset_after`, `reply_lost`, `truncate`, `html`, `rate_limit`,
    /// `key_revoked` and `app_disabled`
    kind: String,
    /// Endpoint: notifications, templates, users, events, segments, exports or all
    #[arg(long, value_name = "ENDPOINT", default_value = "all")]
    endpoint: String,
    /// Probability for each call, from 0 to 1
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    probability: f64,
    /// Random seed; the same seed affects the same calls
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Maximum number of occurrences
    #[arg(long, value_name = "N")]
    times: Option<u64>,
    /// HTTP status for `status` and `html`
    #[arg(long, value_name = "CODE")]
    status: Option<u16>,
    /// Duration of `delay`
    #[arg(long, value_name = "MS")]
    delay_ms: Option<u64>,
    /// Calls per second for `rate_limit`
    #[arg(long, value_name = "N")]
    limit_per_second: Option<u32>,
    /// Retry-After header, in seconds
    #[arg(long, value_name = "SECONDS")]
    retry_after: Option<u64>,
    #[command(flatten)]
    sandbox: WhereArgs,
}

pub(super) async fn run(command: FaultsCommand) -> anyhow::Result<ExitCode> {
    match command {
        FaultsCommand::List(sandbox) => {
            let faults = sandbox.call(Method::GET, "", None).await?;
            if sandbox.json { println!("{faults:#}") } else { print_list(&faults) }
        }
        FaultsCommand::Add(args) => {
            let set = args.sandbox.call(Method::POST, "", Some(&args.fault())).await?;
            if args.sandbox.json {
                println!("{set:#}");
            } else {
                println!("fault {} added; remove it with `herald sandbox faults clear {0}`", set["id"]);
            }
        }
        FaultsCommand::Clear { id, sandbox } => {
            let query = id.map(|id| format!("?id={id}")).unwrap_or_default();
            let cleared = sandbox.call(Method::DELETE, &query, None).await?;
            if id.is_some() && cleared["cleared"] == 0 {
                bail!("the sandbox has no fault {}", id.unwrap_or_default());
            }
            if sandbox.json { println!("{cleared:#}") } else { println!("cleared {}", cleared["cleared"]) }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl AddArgs {
    fn fault(&self) -> Value {
        let said = [
            ("kind", json!(self.kind)),
            ("endpoint", json!(self.endpoint)),
            ("probability", json!(self.probability)),
            ("seed", json!(self.seed)),
            ("times", json!(self.times)),
            ("status", json!(self.status)),
            ("delay_ms", json!(self.delay_ms)),
            ("limit_per_second", json!(self.limit_per_second)),
            ("retry_after", json!(self.retry_after)),
        ];
        let said = said.into_iter().filter(|(_, value)| !value.is_null());
        Value::Object(said.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
    }
}

impl WhereArgs {
    async fn call(&self, method: Method, query: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let url = self.url.join(&format!("/_sandbox/faults{query}"))?;
        let mut request = reqwest::Client::builder().no_proxy().build()?.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| {
            format!("no sandbox at {}; start one with `herald sandbox`, or pass its URL with --url", self.url)
        })?;
        let status = answer.status();
        let body: Value = answer.json().await.context("that is not a sandbox: its response is not JSON")?;
        if !status.is_success() {
            bail!(
                "the sandbox rejected the request: {}",
                body["errors"][0].as_str().unwrap_or("no reason given")
            );
        }
        Ok(body)
    }
}

fn print_list(faults: &Value) {
    let faults = faults["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if faults.is_empty() {
        println!(
            "no active faults; add one with `herald sandbox faults add status --status 503 --probability 0.1`"
        );
        return;
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "ID",
        "KIND",
        "ENDPOINT",
        "PROBABILITY",
        "SEED",
        "STRUCK",
        "OF CALLS",
        "DETAILS",
    ]);
    for fault in faults {
        let text = |name: &str| fault[name].as_str().map_or_else(|| fault[name].to_string(), str::to_owned);
        table.add_row([
            text("id"),
            text("kind"),
            text("endpoint"),
            text("probability"),
            text("seed"),
            text("strikes"),
            text("calls"),
            details(fault),
        ]);
    }
    println!("{table}");
}

fn details(fault: &Value) -> String {
    let names = ["status", "delay_ms", "limit_per_second", "retry_after", "times"];
    let said = names.iter().filter(|name| !fault[**name].is_null());
    said.map(|name| format!("{name} {}", fault[*name])).collect::<Vec<_>>().join(", ")
}
