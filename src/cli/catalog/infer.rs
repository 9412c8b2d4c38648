//! `herald catalog infer`: infers a schema from events.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::ClientArgs;
use crate::catalog::infer::infer;
use crate::domain::budget::Budget;

#[derive(Debug, Args)]
pub struct InferArgs {
    /// The event type
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// Number of recent events to use
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    last: u32,
    /// Read events from a file (one JSON object per line) instead of Herald
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: &InferArgs) -> anyhow::Result<ExitCode> {
    let inferred = if let Some(file) = &args.from {
        let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        let events = events_in(&text, &args.event_type)?;
        let last = usize::try_from(args.last).unwrap_or(usize::MAX);
        let inferred = infer(&events[events.len().saturating_sub(last)..], &Budget::default());
        json!({"based_on": inferred.based_on, "schema": inferred.schema})
    } else {
        let path = format!("/v1/event-types/{}/infer", args.event_type);
        args.client.call(Method::POST, &path, Some(&json!({"last": args.last}))).await?
    };
    if args.client.json {
        println!("{inferred:#}");
    } else {
        println!("{:#}", inferred["schema"]);
        eprintln!("inferred from {} events", inferred["based_on"]);
    }
    Ok(ExitCode::SUCCESS)
}

/// The `data` of the events of a type, from lines of JSON; a line that is not an event is taken as `data` itself.
fn events_in(text: &str, event_type: &str) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut value: Value =
            serde_json::from_str(line).with_context(|| format!("line {} is not valid JSON", number + 1))?;
        match value.get("type").and_then(Value::as_str).map(str::to_owned) {
            Some(named) if value.get("data").is_some() => {
                if named == event_type {
                    found.push(value["data"].take());
                }
            }
            _ => found.push(value),
        }
    }
    if found.is_empty() {
        bail!("it contains no event of type {event_type}");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_events_of_the_type_or_their_data() {
        let text = "{\"type\":\"a.b\",\"data\":{\"x\":1}}\n\n{\"type\":\"c.d\",\"data\":{}}\n{\"y\":2,\"type\":\"z\"}\n";
        assert_eq!(events_in(text, "a.b").unwrap(), [json!({"x": 1}), json!({"y": 2, "type": "z"})]);
        assert!(events_in("{\"type\":\"c.d\",\"data\":{}}", "a.b").unwrap_err().to_string().contains("a.b"));
        assert!(events_in("{}\n{", "a.b").unwrap_err().to_string().contains("line 2"));
    }
}
