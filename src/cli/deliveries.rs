//! `herald deliveries`: cancelling deliveries, and printing the result of a cancellation.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ClientArgs, plain};

#[derive(Debug, Subcommand)]
pub enum DeliveriesCommand {
    /// Cancel pending deliveries
    Cancel(CancelArgs),
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Delivery IDs (dlv_…)
    #[arg(required = true)]
    ids: Vec<String>,
    /// Show what would happen without changing anything
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(command: DeliveriesCommand) -> anyhow::Result<ExitCode> {
    let DeliveriesCommand::Cancel(args) = command;
    let mut answers = Vec::with_capacity(args.ids.len());
    for id in &args.ids {
        let path = format!("/v1/deliveries/{}/cancel{}", segment(id), dry(args.dry_run));
        answers.push(args.client.call(Method::POST, &path, None).await?);
    }
    Ok(print_cancellation(&args.client, &sum(&answers), args.dry_run))
}

/// Encodes a text as one path segment.
pub(super) fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

pub(super) fn dry(is_dry: bool) -> &'static str {
    if is_dry { "?dry_run=true" } else { "" }
}

/// Merges several responses into one.
fn sum(answers: &[Value]) -> Value {
    let count = |name: &str| answers.iter().filter_map(|answer| answer[name].as_u64()).sum::<u64>();
    let deliveries: Vec<&Value> =
        answers.iter().filter_map(|answer| answer["deliveries"].as_array()).flatten().collect();
    json!({
        "cancelled": count("cancelled"), "taken_out": count("taken_out"), "recalling": count("recalling"), "too_late": count("too_late"),
        "over": count("over"), "deliveries": deliveries,
    })
}

/// Prints the result of a cancellation. Fails if a message will still reach someone.
pub(super) fn print_cancellation(client: &ClientArgs, answer: &Value, is_dry: bool) -> ExitCode {
    let code = if answer["too_late"] == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if client.json {
        println!("{answer:#}");
        return code;
    }
    let what = if is_dry { "would be cancelled" } else { "cancelled" };
    println!("{} {what}", answer["cancelled"]);
    for (name, words) in [
        ("taken_out", "removed from a message that is still sent"),
        ("recalling", "being cancelled at OneSignal"),
        ("too_late", "too late"),
        ("over", "already ended"),
    ] {
        if answer[name].as_u64().is_some_and(|count| count > 0) {
            println!("{} {words}", answer[name]);
        }
    }
    let deliveries = answer["deliveries"].as_array().map(Vec::as_slice).unwrap_or_default();
    for delivery in deliveries.iter().filter(|delivery| delivery["outcome"] != "cancelled") {
        let (id, rule) = (plain(&delivery["id"]), plain(&delivery["rule"]));
        println!("  {id} by {rule}: {}", plain(&delivery["outcome"]).replace('_', " "));
    }
    code
}
