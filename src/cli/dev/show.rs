//! The output of `herald dev`: the first message as it arrived, and next steps.

use std::time::Duration;

use anyhow::bail;
use chrono::TimeDelta;
use reqwest::Method;
use serde_json::Value;

use super::children::Sandbox;
use crate::catalog::sample;
use crate::cli::client::{Connection, plain};
use crate::domain::clock::Timestamp;

/// How long the first message may take.
const ARRIVAL_TIME: Duration = Duration::from_secs(20);

fn eta(now: Timestamp) -> String {
    (now + TimeDelta::days(2)).format("%Y-%m-%d").to_string()
}

/// Posts the sample event and waits for its messages; returns them in lines to print.
pub async fn first_message(
    herald: &Connection,
    sandbox: &Sandbox,
    now: Timestamp,
) -> anyhow::Result<Vec<String>> {
    let id = format!("sample-{}", now.format("%Y%m%d-%H%M%S%.3f"));
    let event = sample::order_shipped(&id, &eta(now));
    let accepted = herald.call(Method::POST, "/v1/events", Some(&event)).await?;
    let event_id = plain(&accepted["id"]);
    let expected = accepted["deliveries"].as_array().map_or(0, Vec::len);
    let deadline = tokio::time::Instant::now() + ARRIVAL_TIME;
    let trace = loop {
        let trace = herald.call(Method::GET, &format!("/v1/events/{event_id}"), None).await?;
        let deliveries = trace["deliveries"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_under_way =
            |d: &&Value| matches!(d["state"].as_str(), Some("queued" | "sending" | "retrying"));
        let accepted = deliveries.iter().filter(|d| d["state"] == "accepted").count();
        if accepted == expected && expected > 0 {
            break trace;
        }
        if deliveries.iter().filter(is_under_way).count() == 0 || tokio::time::Instant::now() >= deadline {
            bail!("{accepted} of {expected} messages arrived; run `herald why {event_id}`");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut lines = vec![String::new(), format!("Posted order.shipped ({id}) for user-42; it arrived as:")];
    let messages = sandbox.messages().await?;
    for delivery in trace["deliveries"].as_array().into_iter().flatten() {
        let path = format!("/v1/deliveries/{}", plain(&delivery["id"]));
        let trace = herald.call(Method::GET, &path, None).await?;
        let message_id =
            trace["attempts"].as_array().and_then(|a| a.last()).map(|a| a["provider_message_id"].clone());
        let message = messages.iter().rev().find(|m| Some(&m["id"]) == message_id.as_ref());
        lines.extend(message.map(show_message).unwrap_or_default());
    }
    Ok(lines)
}

/// Printed if the sample event sent nothing, which can happen after the catalog was changed.
pub fn nothing_arrived(error: &anyhow::Error) -> Vec<String> {
    vec![
        String::new(),
        format!("The sample event order.shipped failed: {error:#}."),
        "The catalog has been kept; `herald dev --fresh` starts over.".to_owned(),
    ]
}

fn show_message(message: &Value) -> Vec<String> {
    let rendered = &message["recipients"][0]["rendered"];
    let text = |names: &[&str]| {
        names.iter().find_map(|name| rendered[*name].as_str()).unwrap_or_default().to_owned()
    };
    let title = text(&["headings", "email_subject"]);
    let body = match message["channel"].as_str() {
        Some("email") => text(&["email_preheader"]),
        _ => text(&["contents"]),
    };
    let channel = plain(&message["channel"]);
    let mut lines = vec![String::new(), format!("  [{channel}] {title}")];
    lines.push(format!("  {}{body}", " ".repeat(channel.len() + 3)));
    let url = text(&["url"]);
    if !url.is_empty() {
        lines.push(format!("  {}{url}", " ".repeat(channel.len() + 3)));
    }
    lines
}

/// The addresses, and a command to paste.
pub fn what_next(url: &str, sandbox: &str, key: &str, now: Timestamp, took: Duration) -> String {
    let data = format!(r#"{{"order_id":"1002","carrier":"UPS","eta":"{}","name":"Ben"}}"#, eta(now));
    let event = format!(
        r#"{{"id":"order-1002-shipped-{}","type":"order.shipped","recipient":{{"external_id":"user-7"}},"data":{data}}}"#,
        now.format("%H%M%S")
    );
    format!(
        "
Herald is running (ready in {:.1} s)
  Console  {url}
  API      {url}/docs
  Inbox    {sandbox}
  Key      {key}

Send another event:
  curl -sS {url}/v1/events -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{event}'

Stop with Ctrl-C; data and inbox are kept for the next start.",
        took.as_secs_f64()
    )
}
