//! `herald sandbox`: the standalone OneSignal sandbox, and the faults of a running one.

mod faults;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use tokio::io::AsyncReadExt;

use crate::app::stop_signal;
use crate::sandbox::{FrequencyCap, Sandbox, SandboxOptions};
use crate::telemetry;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SandboxArgs {
    #[command(subcommand)]
    command: Option<SandboxCommand>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum SandboxCommand {
    /// List, add or remove faults of a running sandbox
    #[command(subcommand)]
    Faults(faults::FaultsCommand),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Also accept this host name besides localhost and IP addresses, such as a container's; repeatable
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Keep messages, keys, templates, users and segments in this file, or in sandbox.jsonl in this folder
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Plan to simulate: rate limit, tags per user, segments, custom events, message history
    #[arg(long, value_enum, default_value_t = Preset::Free)]
    preset: Preset,
    /// Create and cancel calls per second before 429; 0 for no limit [default: 150 free, 6000 paid]
    #[arg(long, value_name = "N")]
    calls_per_second: Option<u32>,
    /// Accept only users created through the Users API or POST /_sandbox/users
    #[arg(long)]
    strict_users: bool,
    /// Simulated number of subscriptions; the app is disabled above ten messages per subscription in 15 minutes
    #[arg(long, value_name = "N")]
    subscriptions: Option<u64>,
    /// Frequency cap for a push with `enable_frequency_cap`, as messages/hours per recipient, such as 2/24
    #[arg(long, value_name = "MESSAGES/HOURS", value_parser = frequency_cap)]
    frequency_cap: Option<FrequencyCap>,
    /// Stop when standard input is closed (used by `herald dev`, so that it never outlives it)
    #[arg(long, hide = true)]
    with_parent: bool,
}

/// The plans that a sandbox simulates.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Preset {
    /// 150 calls per second, 2 tags per user, no custom events, no segments by API, no message history
    Free,
    /// 6000 calls per second, 100 tags per user, custom events, segments, message history
    Paid,
}

pub(super) async fn run(args: SandboxArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(SandboxCommand::Faults(command)) => faults::run(command).await,
        None => serve(args.run).await,
    }
}

async fn serve(args: RunArgs) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(false, "info");
    let listener = super::serve::bind(args.listen, "--listen").await?;
    let address = listener.local_addr()?;
    let (name, options) = match args.preset {
        Preset::Free => ("free", SandboxOptions::default()),
        Preset::Paid => ("paid", SandboxOptions::paid()),
    };
    let sandbox = Sandbox::open(SandboxOptions {
        calls_per_second: args.calls_per_second.unwrap_or(options.calls_per_second),
        hosts: args.hosts,
        strict_users: args.strict_users,
        subscriptions: args.subscriptions,
        frequency_cap: args.frequency_cap,
        data_file: args.data.map(|path| if path.is_dir() { path.join("sandbox.jsonl") } else { path }),
        ..options
    })
    .context("the sandbox could not be opened")?;
    if !args.with_parent {
        eprintln!("OneSignal sandbox on http://{address} (inbox at /), {name} plan");
        eprintln!("app 5a0d0000-0000-4000-8000-000000000001, key os_v2_app_sandbox");
    }
    let stop = async move {
        if args.with_parent {
            wait_for_parent().await;
        } else if let Err(error) = stop_signal().await {
            tracing::error!("can't listen for signals: {error}");
        }
    };
    sandbox.serve(listener, stop).await?;
    Ok(ExitCode::SUCCESS)
}

fn frequency_cap(text: &str) -> Result<FrequencyCap, String> {
    let numbers = text.split_once('/').and_then(|(messages, hours)| {
        Some(FrequencyCap { messages: messages.parse().ok()?, hours: hours.parse().ok()? })
    });
    numbers
        .filter(|cap| cap.messages > 0 && cap.hours > 0)
        .ok_or_else(|| "write messages/hours, such as 2/24".to_owned())
}

/// Waits until the parent exits: it holds the other end of standard input.
async fn wait_for_parent() {
    let mut sink = [0; 64];
    let mut input = tokio::io::stdin();
    while matches!(input.read(&mut sink).await, Ok(read) if read > 0) {}
}
