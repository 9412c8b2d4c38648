//! The commands: one file each. `dev`, `serve`, `migrate`, `doctor`, `restored`, `team` and the first `keys create` open the database;
//! `sandbox`, `healthcheck` and `catalog check` need nothing; the others are clients of the HTTP API.
//!
//! Everything that a command prints for scripts goes to standard output; progress and logs go to standard error.

mod apps;
mod catalog;
mod client;
mod consistency;
mod deliveries;
mod dev;
mod doctor;
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
mod team;
mod templates;
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
    /// Run everything on one machine: a private Postgres, the sandbox, a sample catalog; shows a message arriving
    Dev(dev::DevArgs),
    /// Run the service: HTTP and workers
    Serve(serve::ServeArgs),
    /// Bring the database's schema up to date
    Migrate(migrate::MigrateArgs),
    /// Run the OneSignal sandbox alone
    Sandbox(sandbox::SandboxArgs),
    /// Check configuration, database and OneSignal keys, with a remedy for each finding
    Doctor(doctor::DoctorArgs),
    /// Ask a running Herald whether it is ready (the image's probe)
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Say who may log in to the console, and what they may do
    #[command(subcommand)]
    Team(team::TeamCommand),
    /// Make, list and revoke API keys; rotate the secret key
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show sources, manage their webhook secrets, try mappings, read received bodies again
    #[command(subcommand)]
    Sources(sources::SourcesCommand),
    /// Send and cancel events
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Show and change the OneSignal apps that Herald sends through
    #[command(subcommand)]
    Apps(apps::AppsCommand),
    /// Show what is stopped and why; stop and go on
    #[command(subcommand)]
    Gates(gates::GatesCommand),
    /// Show what needs attention, grouped by reason
    Issues(issues::IssuesArgs),
    /// Make deliveries again that ended badly, after a look at what that means
    Replay(replay::ReplayArgs),
    /// Show what a restore of the database means for what is sent, and end it
    #[command(subcommand)]
    Restored(restored::RestoredCommand),
    /// Cancel deliveries that still wait
    #[command(subcommand)]
    Deliveries(deliveries::DeliveriesCommand),
    /// Tell the story of an event, a delivery or a recipient
    Why(why::WhyArgs),
    /// The catalog as files
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// Look at templates, check and publish drafts, go back to an older version
    #[command(subcommand)]
    Templates(templates::TemplatesCommand),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    end_quietly_on_closed_pipes();
    crate::app::choose_tls();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("no async runtime")),
    };
    let result = runtime.block_on(carry_out(cli.command));
    // What is still blocking (a server's log reader) must not keep a finished command alive.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(args) => dev::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Sandbox(args) => sandbox::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Healthcheck(args) => healthcheck::run(args).await,
        Command::Team(command) => team::run(command).await,
        Command::Keys(command) => keys::run(command).await,
        Command::Sources(command) => sources::run(command).await,
        Command::Events(command) => events::run(command).await,
        Command::Apps(command) => apps::run(command).await,
        Command::Gates(command) => gates::run(command).await,
        Command::Issues(args) => issues::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Restored(command) => restored::run(command).await,
        Command::Deliveries(command) => deliveries::run(command).await,
        Command::Why(args) => why::run(args).await,
        Command::Catalog(command) => catalog::run(command).await,
        Command::Templates(command) => templates::run(command).await,
    }
}

/// One clear line, the causes behind it.
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

/// The settings, with what a command's flags say on top.
fn settings(overrides: &[(&str, String)]) -> anyhow::Result<Settings> {
    let mut loader = Loader::from_process();
    for (key, value) in overrides {
        loader = loader.flag(key, value);
    }
    loader.load().context("the configuration can't be used")
}

/// A number of things, such as `1 file` or `2 files`.
fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Starts logging as set.
fn start_logs(settings: &Settings) {
    telemetry::log_to_stderr(settings.log.format == LogFormat::Json, &settings.log.filter);
}

/// Whoever reads our output may stop reading, as `head` does: then there is nobody to tell, and what was done is done.
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
