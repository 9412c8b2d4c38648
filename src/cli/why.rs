//! `herald why`: explains what happened to an event, a delivery or a recipient.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::client::{ClientArgs, plain};
use super::usage::recipient;
use super::users;

#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Event ID (evt_…) or delivery ID (dlv_…)
    id: Option<String>,
    /// Show the latest deliveries of this recipient, such as external_id=user-42
    #[arg(long, value_name = "LABEL=ID", conflicts_with = "id", value_parser = recipient)]
    recipient: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: WhyArgs) -> anyhow::Result<ExitCode> {
    match (&args.id, &args.recipient) {
        (_, Some(recipient)) => print_recipient(&args.client, recipient).await,
        (Some(id), None) if id.starts_with("evt_") => print_event(&args.client, id).await,
        (Some(id), None) if id.starts_with("dlv_") => print_delivery_by_id(&args.client, id).await,
        (Some(id), None) => bail!(
            "`{id}` is neither an event ID (evt_…) nor a delivery ID (dlv_…); to find an event by the ID of its source, \
             search for it in the console, or run `herald why --recipient external_id=user-42`"
        ),
        (None, None) => bail!("pass an event ID (evt_…), a delivery ID (dlv_…), or --recipient LABEL=ID"),
    }
}

/// Prints an event's history.
pub(super) async fn print_event(client: &ClientArgs, id: &str) -> anyhow::Result<ExitCode> {
    let event = client.call(Method::GET, &format!("/v1/events/{id}"), None).await?;
    if client.json {
        println!("{event:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} {} (id {})", plain(&event["id"]), plain(&event["type"]), plain(&event["key"]));
    println!("  received {}", plain(&event["received_at"]));
    for decision in event["decisions"].as_array().into_iter().flatten().filter(|d| d["delivery"].is_null()) {
        print_decision("  ", decision);
    }
    for action in event["actions"].as_array().into_iter().flatten() {
        print_action(action);
    }
    for delivery in event["deliveries"].as_array().into_iter().flatten() {
        println!();
        let id = plain(&delivery["id"]);
        let trace = client.call(Method::GET, &format!("/v1/deliveries/{id}"), None).await?;
        print_delivery(&trace);
    }
    Ok(ExitCode::SUCCESS)
}

/// A tag or custom event of a rule.
fn print_action(action: &Value) {
    let reason = match plain(&action["detail"]) {
        text if text.is_empty() => String::new(),
        text => format!(": {text}"),
    };
    println!(
        "  {} {} for {} (rule {}){reason}",
        plain(&action["kind"]),
        plain(&action["state"]).to_uppercase(),
        action["recipient"],
        plain(&action["rule"])
    );
}

async fn print_delivery_by_id(client: &ClientArgs, id: &str) -> anyhow::Result<ExitCode> {
    let trace = client.call(Method::GET, &format!("/v1/deliveries/{id}"), None).await?;
    if client.json {
        println!("{trace:#}");
    } else {
        print_delivery(&trace);
    }
    Ok(ExitCode::SUCCESS)
}

async fn print_recipient(client: &ClientArgs, recipient: &str) -> anyhow::Result<ExitCode> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("recipient", recipient).append_pair("limit", "20");
    let page = client.call(Method::GET, &format!("/v1/deliveries?{}", query.finish()), None).await?;
    if client.json {
        println!("{page:#}");
        return Ok(ExitCode::SUCCESS);
    }
    // A key without `users:read` shows the deliveries alone.
    if let Ok(user) = users::get(recipient, client).await {
        users::print(&user);
    }
    let deliveries = page["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if deliveries.is_empty() {
        println!("no deliveries to {recipient}");
    }
    for (place, delivery) in deliveries.iter().enumerate() {
        if place > 0 {
            println!();
        }
        let id = plain(&delivery["id"]);
        print_delivery(&client.call(Method::GET, &format!("/v1/deliveries/{id}"), None).await?);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_delivery(delivery: &Value) {
    let to = match &delivery["recipient"] {
        Value::Object(labels) => {
            labels.iter().map(|(label, id)| format!("{label}={}", plain(id))).collect::<Vec<_>>().join(", ")
        }
        _ => "segment".to_owned(),
    };
    let version = delivery["version"].as_i64().map(|n| format!(" v{n}")).unwrap_or_default();
    println!("{} {}", plain(&delivery["id"]), plain(&delivery["state"]).to_uppercase());
    println!(
        "  {} to {to}, {}{version}, rule {}",
        plain(&delivery["channel"]),
        plain(&delivery["template"]),
        plain(&delivery["rule"])
    );
    println!("  planned  {}", plain(&delivery["created_at"]));
    if let Some(due) = delivery["due_at"].as_str() {
        println!("  due      {due}");
    }
    if let Some(old) = delivery["replay_of"].as_str() {
        println!("  replays  {old}");
    }
    if delivery["gate"].is_object() {
        let gate = &delivery["gate"];
        let until = gate["closed_until"].as_str().unwrap_or("resumed");
        println!(
            "  waits    {} {} is paused until {until}: {}",
            plain(&gate["scope"]),
            plain(&gate["subject"]),
            plain(&gate["detail"])
        );
    }
    if let Some(after) = delivery["send_after"].as_str() {
        println!("  scheduled at OneSignal for {after}");
    }
    if delivery["waits_for_turn"] == true {
        println!("  waiting for earlier deliveries with the same ordering key");
    }
    for decision in delivery["decisions"].as_array().into_iter().flatten() {
        print_decision("  ", decision);
    }
    for attempt in delivery["attempts"].as_array().into_iter().flatten() {
        let answer = attempt["answer"].as_str().unwrap_or("no response yet");
        let message =
            attempt["provider_message_id"].as_str().map(|id| format!(", message {id}")).unwrap_or_default();
        let company = match attempt["members"].as_i64() {
            Some(members) if members > 1 => format!(", with {} others", members - 1),
            _ => String::new(),
        };
        println!("  call {}   {} {answer}{message}{company}", attempt["n"], plain(&attempt["started_at"]));
    }
    if let Some(finished) = delivery["finished_at"].as_str() {
        println!("  finished {finished}");
    }
    for outcome in delivery["outcomes"].as_array().into_iter().flatten() {
        print_outcome(outcome);
    }
    if let Some(note) = delivery["outcome"]["note"].as_str() {
        println!("  note     {note}");
    }
}

/// What a device or mailbox reported.
fn print_outcome(outcome: &Value) {
    let on = match plain(&outcome["device"]) {
        device if device.is_empty() => String::new(),
        device => format!(" on {device}"),
    };
    let until = outcome["last_at"].as_str().map(|at| format!(", last {at}")).unwrap_or_default();
    let reason = outcome["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    println!("  {:9} {}{until}{on}{reason}", plain(&outcome["kind"]), plain(&outcome["at"]));
}

fn print_decision(indent: &str, decision: &Value) {
    let at = decision["at"].as_str().unwrap_or_default();
    println!("{indent}{}: {} {at}", plain(&decision["code"]), plain(&decision["detail"]));
}
