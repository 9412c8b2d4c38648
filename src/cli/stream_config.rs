//! `herald onesignal stream-config`: what to enter in OneSignal's dashboard.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::archive::stream;
use crate::config::Settings;

#[derive(Debug, Subcommand)]
pub enum OneSignalCommand {
    /// Print what to enter in OneSignal's dashboard, so that it reports outcomes
    StreamConfig(StreamConfigArgs),
}

#[derive(Debug, Args)]
pub struct StreamConfigArgs {
    /// Herald's public URL [default: `console.public_url` of the settings]
    #[arg(long)]
    url: Option<String>,
    /// Print the secret instead of its setting's name
    #[arg(long)]
    show_secret: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Kinds of events that Herald uses.
const KINDS: [(&str, &str); 3] = [
    ("push", "sent, received, clicked, failed, unsubscribed"),
    ("email", "sent, received, opened, clicked, unsubscribed, reported_as_spam, bounced, failed, suppressed"),
    ("sms", "sent, delivered, undelivered, failed"),
];

pub(super) fn run(command: OneSignalCommand) -> anyhow::Result<ExitCode> {
    let OneSignalCommand::StreamConfig(args) = command;
    let settings = super::settings(&[])?;
    let base = args.url.clone().unwrap_or_else(|| match settings.console.public_url.as_str() {
        "" => "https://HERALD".to_owned(),
        url => url.to_owned(),
    });
    let url = format!("{}/v1/onesignal/events", base.trim_end_matches('/'));
    let secret = Settings::given(&settings.event_streams.secret);
    let shown = match secret {
        Some(secret) if args.show_secret => secret.expose_secret(),
        _ => "<event_streams.secret>",
    };
    let header = format!("Bearer {shown}");
    if args.json {
        let kinds: serde_json::Map<_, _> = KINDS
            .iter()
            .map(|(channel, kinds)| ((*channel).to_owned(), kinds.split(", ").collect::<serde_json::Value>()))
            .collect();
        let config = json!({
            "method": "POST", "url": url, "headers": {"Authorization": header, "Content-Type": "application/json"},
            "body": stream::template(), "kinds": kinds,
        });
        println!("{config:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("In OneSignal's dashboard: Data > Event Streams > New Event Stream\n");
    println!("Method   POST");
    println!("URL      {url}");
    println!("Headers  Authorization: {header}");
    println!("         Content-Type: application/json");
    println!("Events");
    for (channel, kinds) in KINDS {
        println!("  {channel:6} {kinds}");
    }
    println!("Body\n{}", stream::template());
    if secret.is_none() {
        eprintln!(
            "\nevent_streams.secret is not set, so Herald refuses events: set HERALD_EVENT_STREAMS__SECRET to the"
        );
        eprintln!("output of `openssl rand -hex 32`, and enter the same in the header.");
    }
    Ok(ExitCode::SUCCESS)
}
