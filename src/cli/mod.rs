//! The commands, one file each. `dev`, `serve`, `migrate`, `doctor`, `restored`, `team` and the first `keys create` use
//! the database;
//! `sandbox`, `healthcheck`, `onesignal stream-config` and `catalog check` need nothing; the others are clients of the HTTP API.
//!
//! Results go to standard output; progress and logs go to standard error.

mod apps;
mod catalog;
mod client;
mod consistency;
mod database;
mod deliveries;
mod dev;
mod doctor;
mod erasures;
mod events;
mod gates;
mod healthcheck;
mod issues;
mod keys;
mod migrate;
mod onesignal;
mod replay;
mod restored;
mod rotate_secret;
mod sandbox;
mod serve;
mod sources;
mod stats;
mod stream_config;
mod sync;
mod tail;
mod team;
mod templates;
mod usage;
mod users;
mod why;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::config::{Loader, LogFormat, Settings};
use crate::telemetry;

/// Domain events in, OneSignal messages out.
#[derive(Debug, Parser)]
#[command(name = "herald", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything locally (private Postgres, sandbox, sample catalog) and show a message arriving
    Dev(dev::DevArgs),
    /// Run the service: HTTP API, console and workers
    Serve(serve::ServeArgs),
    /// Apply pending database migrations
    Migrate(migrate::MigrateArgs),
    /// Run only the OneSignal sandbox
    Sandbox(sandbox::SandboxArgs),
    /// Check configuration, database and OneSignal keys, with a fix for each finding
    Doctor(doctor::DoctorArgs),
    /// Check whether a running Herald is ready (the image's health check)
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Manage who can log in to the console, and their roles
    #[command(subcommand)]
    Team(team::TeamCommand),
    /// Create, list and revoke API keys; rotate the secret key
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// List sources, manage webhook secrets, test mappings, reprocess received bodies
    #[command(subcommand)]
    Sources(sources::SourcesCommand),
    /// Send and cancel events
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Show what happened to messages, compare versions, check the counts
    #[command(subcommand)]
    Stats(stats::StatsCommand),
    /// Connect OneSignal's Event Streams
    #[command(subcommand)]
    Onesignal(stream_config::OneSignalCommand),
    /// List and change the OneSignal apps that Herald sends through
    #[command(subcommand)]
    Apps(apps::AppsCommand),
    /// List what is paused or stopped and why; pause and resume
    #[command(subcommand)]
    Gates(gates::GatesCommand),
    /// List issues by reason
    Issues(issues::IssuesArgs),
    /// Replay failed deliveries (shows a plan first)
    Replay(replay::ReplayArgs),
    /// Show or end the precautions after a database restore
    #[command(subcommand)]
    Restored(restored::RestoredCommand),
    /// Cancel pending deliveries
    #[command(subcommand)]
    Deliveries(deliveries::DeliveriesCommand),
    /// Import users from CSV; show what Herald holds about one
    #[command(subcommand)]
    Users(users::UsersCommand),
    /// Read users or events from other databases
    #[command(subcommand)]
    Sync(sync::SyncCommand),
    /// Explain what happened to an event, a delivery or a recipient
    Why(why::WhyArgs),
    /// Manage the catalog as files
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// List and preview templates, check and publish drafts, roll back
    #[command(subcommand)]
    Templates(templates::TemplatesCommand),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| usage::exit(error));
    end_quietly_on_closed_pipes();
    crate::app::choose_tls();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("no async runtime")),
    };
    let result = runtime.block_on(carry_out(cli.command));
    // Blocking threads (a server's log reader) must not keep a finished command alive.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(args) => Box::pin(dev::run(args)).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Sandbox(args) => sandbox::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Healthcheck(args) => healthcheck::run(args).await,
        Command::Team(command) => team::run(command).await,
        Command::Keys(command) => keys::run(command).await,
        Command::Sources(command) => sources::run(command).await,
        Command::Events(command) => events::run(command).await,
        Command::Stats(command) => stats::run(command).await,
        Command::Onesignal(command) => stream_config::run(command),
        Command::Apps(command) => apps::run(command).await,
        Command::Gates(command) => gates::run(command).await,
        Command::Issues(args) => issues::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Restored(command) => restored::run(command).await,
        Command::Deliveries(command) => deliveries::run(command).await,
        Command::Users(command) => users::run(command).await,
        Command::Sync(command) => sync::run(command).await,
        Command::Why(args) => why::run(args).await,
        Command::Catalog(command) => catalog::run(command).await,
        Command::Templates(command) => templates::run(command).await,
    }
}

/// Prints an error on one line, followed by its causes.
fn failed(error: &anyhow::Error) -> ExitCode {
    let mut line = format!("herald: {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    eprintln!("{line}");
    ExitCode::FAILURE
}

/// The settings, overridden by a command's flags.
fn settings(overrides: &[(&str, String)]) -> anyhow::Result<Settings> {
    let mut loader = Loader::from_process();
    for (key, value) in overrides {
        loader = loader.flag(key, value);
    }
    for name in loader.overridden_variables() {
        eprintln!("herald: {name} is ignored, because {name}_FILE is set");
    }
    loader.load().context("invalid configuration")
}

/// A count with its noun, such as `1 file` or `2 files`.
fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Starts logging as configured.
fn start_logs(settings: &Settings) {
    telemetry::log_to_stderr(settings.log.format == LogFormat::Json, &settings.log.filter);
}

/// Exits quietly if the reader of our output closes the pipe, as `head` does.
fn end_quietly_on_closed_pipes() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        if text.starts_with("failed printing to") && text.contains("Broken pipe") {
            std::process::exit(0);
        }
        usual(panic);
    }));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn no_command_contradicts_itself() {
        super::Cli::command().debug_assert();
    }
}
