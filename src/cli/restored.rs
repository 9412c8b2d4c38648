//! `herald restored`: deliveries are sent alone after the database was restored, and together again.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::app::open_store;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::retry::delta;
use crate::store::clock::PgClock;
use crate::store::watch::DatabaseWatch;

/// What to do about a restore.
#[derive(Debug, Subcommand)]
pub enum RestoredCommand {
    /// Show whether a restore was noticed, and until when deliveries are sent alone
    Show(ShowArgs),
    /// Send deliveries alone from now on: after a restore that Herald can't notice, such as a snapshot of the disk
    Begin {
        /// Commits after this time may be missing (RFC 3339)
        #[arg(long)]
        lost_since: Timestamp,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Send deliveries together again: once nobody posts again what was lost
    End(ShowArgs),
}

/// How to print.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: RestoredCommand) -> anyhow::Result<ExitCode> {
    let settings = super::settings(&[])?;
    let store = open_store(&settings)?;
    let clock =
        PgClock::start(&store).await.context("the database can't be reached; check `database_url`")?;
    let now = clock.now();
    let show = match command {
        RestoredCommand::Show(show) => show,
        RestoredCommand::Begin { lost_since, show } => {
            if lost_since > now {
                bail!(
                    "--lost-since lies ahead: name the time of the snapshot or the last commit in the backup"
                );
            }
            let until = now + delta(settings.delivery.restored_window);
            store.begin_sending_alone(lost_since, until, now).await?;
            show
        }
        RestoredCommand::End(show) => {
            if !store.end_sending_alone(now).await? && !show.json {
                println!("deliveries were not sent alone");
            }
            show
        }
    };
    print(store.database_watch().await?, now, &show);
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

fn print(watch: DatabaseWatch, now: Timestamp, show: &ShowArgs) {
    let restore = watch.restore;
    if show.json {
        let restore = restore.map(|restore| {
            json!({
                "noticed_at": restore.at, "lost_since": restore.lost_since, "alone_until": restore.alone_until,
                "sends_alone": now < restore.alone_until,
            })
        });
        println!("{:#}", json!({ "restore": restore }));
        return;
    }
    match restore {
        None => println!("no restore was noticed"),
        Some(restore) => {
            println!(
                "a restore was noticed at {}; commits after {} may be missing",
                restore.at, restore.lost_since
            );
            if now < restore.alone_until {
                println!("each delivery is sent alone until {}", restore.alone_until);
            } else {
                println!("deliveries are sent together again");
            }
        }
    }
}
