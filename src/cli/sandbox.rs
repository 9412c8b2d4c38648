//! `herald sandbox`: the OneSignal sandbox alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tokio::io::AsyncReadExt;

use crate::app::stop_signal;
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::telemetry;

/// How the sandbox runs.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Where to answer
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Keep messages, keys and templates in this file, or in sandbox.jsonl in this folder
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Create and cancel calls a second before 429: 150 on the free plan, 6000 on a paid one, 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 150)]
    calls_per_second: u32,
    /// Know only people that were made known with POST /_sandbox/users
    #[arg(long)]
    strict_users: bool,
    /// Stop when standard input ends: `herald dev` starts it so, and it never outlives that
    #[arg(long, hide = true)]
    with_parent: bool,
}

pub(super) async fn run(args: SandboxArgs) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(false, "info");
    let listener = super::serve::bind(args.listen, "--listen").await?;
    let address = listener.local_addr()?;
    let data_file = args.data.map(|path| if path.is_dir() { path.join("sandbox.jsonl") } else { path });
    let sandbox = Sandbox::open(SandboxOptions {
        calls_per_second: args.calls_per_second,
        strict_users: args.strict_users,
        data_file,
        ..SandboxOptions::default()
    })
    .context("the sandbox could not be opened")?;
    if !args.with_parent {
        eprintln!("OneSignal sandbox on http://{address} (inbox at /)");
        eprintln!("app 5a0d0000-0000-4000-8000-000000000001, key os_v2_app_sandbox");
    }
    let stop = async move {
        if args.with_parent {
            wait_for_parent().await;
        } else if let Err(error) = stop_signal().await {
            tracing::error!("signals can't be listened to: {error}");
        }
    };
    sandbox.serve(listener, stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until the parent is gone: it holds the other end of standard input.
async fn wait_for_parent() {
    let mut sink = [0; 64];
    let mut input = tokio::io::stdin();
    while matches!(input.read(&mut sink).await, Ok(read) if read > 0) {}
}
