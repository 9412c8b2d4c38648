//! `herald events`: sending events manually, cancelling their pending deliveries, and following outcomes.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::TimeDelta;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ClientArgs, plain};
use super::tail::{self, TailArgs};
use super::usage::recipient;
use super::{deliveries, why};
use crate::catalog::sample;
use crate::domain::clock::{Clock, SystemClock};

#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Send events: from a file, standard input (-), flags, or the built-in sample
    Send(SendArgs),
    /// Cancel the pending deliveries of an event (evt_…), or of a cancellation key (--under)
    Cancel(CancelArgs),
    /// Follow what happens to messages, as it is reported
    Tail(TailArgs),
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Event ID (evt_…)
    #[arg(conflicts_with = "under")]
    id: Option<String>,
    /// Cancel all pending deliveries with this cancellation key (of the source that the API key belongs to)
    #[arg(long, value_name = "CANCELLATION_KEY")]
    under: Option<String>,
    /// Show what would happen without changing anything
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

async fn cancel(args: CancelArgs) -> anyhow::Result<ExitCode> {
    let dry = deliveries::dry(args.dry_run);
    let answer = match (&args.id, &args.under) {
        (_, Some(key)) => {
            let body = json!({ "key": key });
            args.client.call(Method::POST, &format!("/v1/cancellations{dry}"), Some(&body)).await?
        }
        (Some(id), None) => {
            let path = format!("/v1/events/{}/cancel{dry}", deliveries::segment(id));
            args.client.call(Method::POST, &path, None).await?
        }
        (None, None) => bail!("pass an event ID (evt_…), or --under with a cancellation key"),
    };
    Ok(deliveries::print_cancellation(&args.client, &answer, args.dry_run))
}

#[derive(Debug, Args)]
pub struct SendArgs {
    /// JSON file with one event, a list of events, or one event per line; - reads standard input
    #[arg(conflicts_with_all = ["event_type", "sample"])]
    file: Option<PathBuf>,
    /// Event type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Recipient, such as external_id=user-42
    #[arg(long, value_name = "LABEL=ID", value_parser = recipient)]
    recipient: Option<String>,
    /// Event data, as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    data: String,
    /// Event ID of the source; generated from the time if omitted
    #[arg(long)]
    id: Option<String>,
    /// Send an order.shipped event of the sample catalog to user-42
    #[arg(long, conflicts_with = "event_type")]
    sample: bool,
    /// Wait until its deliveries have ended and explain them (exit code 2 if one was not accepted)
    #[arg(long)]
    wait: bool,
    /// Show what would happen without storing anything
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(command: EventsCommand) -> anyhow::Result<ExitCode> {
    let args = match command {
        EventsCommand::Send(args) => args,
        EventsCommand::Cancel(args) => return cancel(args).await,
        EventsCommand::Tail(args) => return tail::run(&args).await,
    };
    let body = args.body()?;
    let dry = if args.dry_run { "?dry_run=true" } else { "" };
    if body.is_array() {
        let answer = args.client.call(Method::POST, &format!("/v1/events/batch{dry}"), Some(&body)).await?;
        if args.client.json {
            println!("{answer:#}");
        } else {
            println!("{} accepted, {} rejected", answer["accepted"], answer["refused"]);
            print_refused(&answer);
        }
        return Ok(if answer["refused"] == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let answer = args.client.call(Method::POST, &format!("/v1/events{dry}"), Some(&body)).await?;
    if args.wait && !args.dry_run {
        let id = plain(&answer["id"]);
        let all_accepted = wait_until_final(&args.client, &id).await?;
        why::print_event(&args.client, &id).await?;
        return Ok(if all_accepted { ExitCode::SUCCESS } else { ExitCode::from(2) });
    }
    if args.client.json {
        println!("{answer:#}");
    } else {
        print_accepted(&answer, args.dry_run);
    }
    Ok(ExitCode::SUCCESS)
}

impl SendArgs {
    fn body(&self) -> anyhow::Result<Value> {
        let now = SystemClock::new().now();
        let id = self.id.clone().unwrap_or_else(|| format!("cli-{}", now.timestamp_micros()));
        if self.sample {
            let eta = (now + TimeDelta::days(2)).format("%Y-%m-%d").to_string();
            return Ok(sample::order_shipped(&id, &eta));
        }
        if let Some(event_type) = &self.event_type {
            let data: Value = serde_json::from_str(&self.data).context("--data is not JSON")?;
            let mut body = json!({"id": id, "type": event_type, "data": data});
            if let Some((label, value)) = self.recipient.as_ref().and_then(|text| text.split_once('=')) {
                body["recipient"] = json!({ label: value });
            }
            return Ok(body);
        }
        let Some(file) = &self.file else {
            bail!("nothing to send: pass a file, `-` for standard input, --type, or --sample");
        };
        let text = if file.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("can't read standard input")?;
            text
        } else {
            std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?
        };
        read_events(&text).with_context(|| format!("{} is not JSON", file.display()))
    }
}

/// One event, a list of events, or one event per line.
fn read_events(text: &str) -> anyhow::Result<Value> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let whole = serde_json::from_str(text);
    let lines: Vec<(usize, &str)> =
        (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty()).collect();
    let is_lines = lines.len() > 1 && lines[0].1.starts_with('{') && lines[0].1.ends_with('}');
    match whole {
        Ok(events) => Ok(events),
        Err(_) if is_lines => lines
            .into_iter()
            .map(|(number, line)| {
                serde_json::from_str::<Value>(line)
                    .with_context(|| format!("line {number} is not a JSON object"))
            })
            .collect(),
        Err(error) => Err(error).context("expected one event, a list of events, or one event per line"),
    }
}

fn print_accepted(answer: &Value, is_dry: bool) {
    let what = match (is_dry, answer["duplicate"] == true) {
        (true, _) => "would be accepted".to_owned(),
        (false, true) => format!("{} was already accepted", plain(&answer["id"])),
        (false, false) => format!("{} accepted", plain(&answer["id"])),
    };
    println!("{what}");
    for delivery in answer["deliveries"].as_array().into_iter().flatten() {
        println!(
            "  {} {} by {}",
            plain(&delivery["state"]),
            plain(&delivery["channel"]),
            plain(&delivery["rule"])
        );
    }
    for decision in answer["decisions"].as_array().into_iter().flatten() {
        println!("  {}: {}", plain(&decision["code"]), plain(&decision["detail"]));
    }
}

fn print_refused(answer: &Value) {
    for (place, item) in answer["results"].as_array().into_iter().flatten().enumerate() {
        if item["status"] != 202 {
            println!("  event {place}: {}", plain(&item["problem"]["detail"]));
        }
    }
}

/// Waits up to 30 seconds until no delivery of an event changes state on its own any more. Returns whether OneSignal
/// accepted all of them.
async fn wait_until_final(client: &ClientArgs, event: &str) -> anyhow::Result<bool> {
    const MOVING: [&str; 3] = ["queued", "sending", "retrying"];
    for _ in 0..300 {
        let trace = client.call(Method::GET, &format!("/v1/events/{event}"), None).await?;
        let deliveries = trace["deliveries"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !deliveries.iter().any(|d| d["state"].as_str().is_some_and(|state| MOVING.contains(&state))) {
            return Ok(deliveries.iter().all(|delivery| delivery["state"] == "accepted"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eprintln!("its deliveries are still in progress after 30 seconds");
    Ok(false)
}
