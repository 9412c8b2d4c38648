//! `herald gates`: listing, pausing and resuming.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ClientArgs, plain};

#[derive(Debug, Subcommand)]
pub enum GatesCommand {
    /// List closed gates with their reasons
    List(ClientArgs),
    /// Pause an app, a rule or a template version until it is resumed; pending deliveries stay queued
    Close {
        #[command(flatten)]
        gate: GateArgs,
        /// Reason, shown wherever the pause is displayed
        #[arg(long)]
        reason: String,
    },
    /// Resume
    Open(GateArgs),
}

#[derive(Debug, Args)]
pub struct GateArgs {
    /// app, rule or `template_version`
    scope: String,
    /// App name or ID (`all` for every app), rule key, or template@3 for version 3
    subject: String,
    #[command(flatten)]
    client: ClientArgs,
}

impl GateArgs {
    fn path(&self) -> String {
        let encoded = |text: &str| {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
        };
        format!("/v1/gates/{}/{}", encoded(&self.scope), encoded(&self.subject))
    }
}

pub(super) async fn run(command: GatesCommand) -> anyhow::Result<ExitCode> {
    match command {
        GatesCommand::List(client) => {
            let gates = client.call(Method::GET, "/v1/gates", None).await?;
            show(&gates, client.json);
        }
        GatesCommand::Close { gate, reason } => {
            let reason = json!({ "reason": reason });
            let gates = gate.client.call(Method::PUT, &gate.path(), Some(&reason)).await?;
            show(&gates, gate.client.json);
        }
        GatesCommand::Open(gate) => {
            gate.client.call(Method::DELETE, &gate.path(), None).await?;
            if gate.client.json {
                println!("{:#}", json!({"scope": gate.scope, "subject": gate.subject, "open": true}));
            } else {
                println!("{} {} resumed", gate.scope, gate.subject);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(gates: &Value, as_json: bool) {
    if as_json {
        println!("{gates:#}");
        return;
    }
    let gates = gates.as_array().map(Vec::as_slice).unwrap_or_default();
    if gates.is_empty() {
        println!("nothing is paused");
    }
    for gate in gates {
        let until = match gate["closed_until"].as_str() {
            Some(until) => format!("until at least {until}"),
            None => "until resumed".to_owned(),
        };
        println!("{} {}: {}, {until}", plain(&gate["scope"]), plain(&gate["subject"]), plain(&gate["code"]));
        println!("  {} (since {})", plain(&gate["detail"]), plain(&gate["closed_at"]));
    }
}
