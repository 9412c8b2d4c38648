//! `herald dev`: everything on one machine, with a sample message.

mod children;
mod folder;
mod show;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use secrecy::ExposeSecret;

use self::children::{Sandbox, start_postgres};
use self::folder::DataFolder;
use super::client::Connection;
use crate::app::{Herald, Overrides, Running, Stop, open_store, raise_descriptor_limit, stop_signal};
use crate::catalog::{Applying, By, sample};
use crate::config::{Loader, Settings};
use crate::telemetry;
use local_postgres::LocalPostgres;

/// The sandbox's app ID and key.
const APP_ID: &str = "5a0d0000-0000-4000-8000-000000000001";
const APP_KEY: &str = "os_v2_app_sandbox";

/// Flags of the development setup.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Herald's port
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The sandbox's port
    #[arg(long, default_value_t = 8081)]
    sandbox_port: u16,
    /// Data folder [default: ~/.local/state/herald, or /var/lib/herald-dev for root]
    #[arg(long, env = "HERALD_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Delete all data and start over
    #[arg(long)]
    fresh: bool,
}

pub(super) async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let folder = DataFolder::open(args.data.clone())?;
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = super::serve::bind(local(args.port), "--port").await?;
    children::wait_for_port(local(args.sandbox_port), "--sandbox-port").await?;
    step(&format!("Data in {}", folder.path().display()));
    let mut postgres = None;
    let outcome = run_all(&args, &folder, listener, &mut postgres, began).await;
    if let Some(postgres) = postgres {
        stop_postgres(postgres).await;
    }
    outcome
}

async fn run_all(
    args: &DevArgs,
    folder: &DataFolder,
    listener: tokio::net::TcpListener,
    postgres: &mut Option<LocalPostgres>,
    began: Instant,
) -> anyhow::Result<ExitCode> {
    let mut loader = Loader::from_process()
        .flag("listen", listener.local_addr()?.to_string())
        .flag("onesignal.app_id", APP_ID)
        .flag("onesignal.api_key", APP_KEY)
        .flag("onesignal.base_url", format!("http://127.0.0.1:{}", args.sandbox_port));
    let given = Loader::from_process().load().context("the configuration can't be used")?;
    telemetry::log_to_stderr(false, "warn");
    raise_descriptor_limit();
    if Settings::given(&given.database_url).is_none() {
        if args.fresh {
            folder.forget_database()?;
        }
        let started = Instant::now();
        let server = start_postgres(folder).await?;
        step(&format!("Postgres {} ready ({:.1} s)", server.version(), started.elapsed().as_secs_f64()));
        loader = loader.flag("database_url", server.url());
        *postgres = Some(server);
    }
    let settings = with_secrets(loader, &given, folder)?.load().context("the configuration can't be used")?;
    let stream_secret = settings.event_streams.secret.clone();
    if args.fresh {
        folder.forget_messages()?;
    }
    let sandbox = Sandbox::start(folder, args.sandbox_port).await?;
    step(&format!("Sandbox ready on {}", sandbox.url()));
    let other_database = match postgres {
        Some(_) => format!(
            "start over with `--fresh`, which deletes all data in {}, or choose another folder with `--data`",
            folder.path().display()
        ),
        None => "create an empty database and name it in `database_url`".to_owned(),
    };
    let running = start_herald(settings, listener, &other_database).await?;
    sandbox.report_to(&format!("http://127.0.0.1:{}", args.port), &stream_secret).await?;
    let outcome = show_and_wait(&running, &sandbox, began).await;
    let how = outcome.as_ref().map_or(Stop::Interrupt, |how| *how);
    eprintln!("\nStopping …");
    // There is no load balancer here that would need notice.
    running.stop(if how == Stop::Terminate { Stop::Interrupt } else { how }).await;
    sandbox.stop().await;
    outcome.map(|_| ExitCode::SUCCESS)
}

/// The settings with the folder's secrets, unless others are given.
fn with_secrets(mut loader: Loader, given: &Settings, folder: &DataFolder) -> anyhow::Result<Loader> {
    if Settings::given(&given.secret_key).is_none() {
        loader = loader.flag("secret_key", folder.secret_key()?.expose_secret());
    }
    if Settings::given(&given.dev_key).is_none() {
        loader = loader.flag("dev_key", folder.dev_key()?.expose_secret());
    }
    if Settings::given(&given.event_streams.secret).is_none() {
        loader = loader.flag("event_streams.secret", folder.stream_secret()?.expose_secret());
    }
    Ok(loader)
}

/// The author of the sample catalog in the version history.
const BY: By<'_> = By::unlimited("herald dev", "the sample catalog");

/// Migrates the database and starts Herald. `other_database` is what to do if other migrations have created it.
async fn start_herald(
    settings: Settings,
    listener: tokio::net::TcpListener,
    other_database: &str,
) -> anyhow::Result<Running> {
    let store = open_store(&settings)?;
    super::migrate::migrate(&store, other_database).await?;
    store.close().await;
    let metrics = telemetry::collect_metrics().ok();
    let herald =
        Herald::build(settings, Overrides { metrics, lets_local_in: true, ..Overrides::default() }).await?;
    step(&start_catalog(&herald).await?);
    Running::start(herald, Some(listener), true).await
}

/// Applies the sample catalog if the catalog is empty, and returns a status line. Existing changes are kept.
async fn start_catalog(herald: &Herald) -> anyhow::Result<String> {
    let present = herald.api.store.snapshot().await?;
    if !present.event_types.is_empty() || !present.templates.is_empty() {
        return Ok("Existing catalog kept (`--fresh` starts over with the sample)".to_owned());
    }
    let applied = herald.publisher.apply(&sample::files(), Applying::default(), BY).await;
    let applied = applied.context("the sample catalog could not be applied")?;
    Ok(format!("Sample catalog applied ({} changes)", applied.changes.len()))
}

/// Posts one sample event, shows the message that arrived, and waits until it is stopped.
async fn show_and_wait(running: &Running, sandbox: &Sandbox, began: Instant) -> anyhow::Result<Stop> {
    let settings = &running.herald().settings;
    let url = format!("http://{}", running.address.context("there is no address")?);
    let connection = Connection::new(&url, settings.dev_key.clone())?;
    let now = running.herald().api.clock.now();
    tokio::select! {
        shown = show::first_message(&connection, sandbox, now) => {
            for line in shown.unwrap_or_else(|error| show::nothing_arrived(&error)) {
                println!("{line}");
            }
            println!("{}", show::what_next(&url, &sandbox.url(), settings.dev_key.expose_secret(), now, began.elapsed()));
        }
        how = stop_signal() => return Ok(how?),
    }
    tokio::select! {
        how = stop_signal() => Ok(how?),
        status = sandbox.ended() => {
            anyhow::bail!("the sandbox exited ({status}); see its output above");
        }
    }
}

async fn stop_postgres(postgres: LocalPostgres) {
    let stopped = tokio::task::spawn_blocking(move || postgres.stop()).await;
    if !matches!(stopped, Ok(Ok(()))) {
        eprintln!("Postgres did not stop cleanly; it recovers at the next start");
    }
}

fn step(text: &str) {
    eprintln!("  {text}");
}
