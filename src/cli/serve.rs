//! `herald serve`: the service.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use url::Url;

use crate::app::{Herald, Overrides, Running, raise_descriptor_limit, stop_signal};
use crate::telemetry;

/// Flags of the service; everything else is in `herald.toml` and `HERALD_…` variables.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on, such as 0.0.0.0:8080
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Accept events, but leave sending to other processes
    #[arg(long)]
    no_workers: bool,
    /// Send, but don't serve HTTP
    #[arg(long, conflicts_with = "no_workers")]
    no_http: bool,
}

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let flags: Vec<(&str, String)> =
        args.listen.iter().map(|listen| ("listen", listen.to_string())).collect();
    let settings = super::settings(&flags)?;
    super::start_logs(&settings);
    raise_descriptor_limit();
    let listener = if args.no_http { None } else { Some(bind(settings.listen, "--listen").await?) };
    let metrics = telemetry::collect_metrics().ok();
    let herald = Herald::build(settings, Overrides { metrics, ..Overrides::default() }).await?;
    let running = Running::start(herald, listener, !args.no_workers).await?;
    if let Some(address) = running.address {
        tracing::info!("listening on http://{address}");
        offer_set_up(&running, address).await?;
    } else {
        tracing::info!("sending, without HTTP");
    }
    let how = stop_signal().await?;
    tracing::info!("stopping");
    running.stop(how).await;
    Ok(ExitCode::SUCCESS)
}

/// While there are no members, prints how the first one logs in. The token works once and is stored nowhere else.
async fn offer_set_up(running: &Running, address: SocketAddr) -> anyhow::Result<()> {
    let herald = running.herald();
    if let Some(token) = herald.team.offer_set_up().await? {
        let url =
            herald.console.public_url.as_ref().map_or_else(|| format!("http://{address}/"), Url::to_string);
        eprintln!(
            "\nThe console has no members yet. Open {url}set-up within a day and enter this token:\n\n  {}\n",
            token.expose_secret()
        );
    }
    Ok(())
}

/// Binds an address; if it is in use, the error names the flag that changes it.
pub(super) async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!(
                "port {} is in use by another program: stop it, or choose another port with {flag}",
                address.port()
            )
        }
        Err(error) => Err(error).with_context(|| format!("can't listen on {address} (see {flag})")),
    }
}
