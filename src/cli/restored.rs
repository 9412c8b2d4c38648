//! `herald restored`: after a database restore, deliveries are sent individually instead of in batches, until it is
//! ended.

use std::process::ExitCode;

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDate, NaiveTime};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::app::open_store;
use crate::domain::clock::{Clock, SystemClock, Timestamp};
use crate::domain::retry::delta;
use crate::store::clock::PgClock;
use crate::store::watch::DatabaseWatch;

#[derive(Debug, Subcommand)]
pub enum RestoredCommand {
    /// Show whether a restore was detected, and until when deliveries are sent individually
    Show(ShowArgs),
    /// Send deliveries individually from now on: after a restore that Herald can't detect, such as a disk snapshot
    Begin {
        /// Commits after this time may be missing: a time (RFC 3339), a date, or a duration ago such as 2h
        #[arg(long, value_name = "TIME", value_parser = past)]
        lost_since: Timestamp,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Send deliveries in batches again, once all sources have re-posted lost events
    End(ShowArgs),
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: RestoredCommand) -> anyhow::Result<ExitCode> {
    let settings = super::settings(&[])?;
    let store = open_store(&settings)?;
    let clock = PgClock::start(&store).await.context("the database is unreachable; check `database_url`")?;
    let now = clock.now();
    let show = match command {
        RestoredCommand::Show(show) => show,
        RestoredCommand::Begin { lost_since, show } => {
            if lost_since > now {
                bail!(
                    "--lost-since is in the future: pass the time of the snapshot or of the last commit in the backup"
                );
            }
            let until = now + delta(settings.delivery.restored_window);
            store.begin_sending_alone(lost_since, until, now).await?;
            show
        }
        RestoredCommand::End(show) => {
            if !store.end_sending_alone(now).await? && !show.json {
                println!("deliveries were already sent in batches");
            }
            show
        }
    };
    print(store.database_watch().await?, now, &show);
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Parses a time, a date (from midnight UTC), or a duration ago.
fn past(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN).and_utc());
    }
    let ago = humantime_serde::re::humantime::parse_duration(text).ok();
    ago.and_then(|ago| SystemClock::new().now().checked_sub_signed(delta(ago))).ok_or_else(|| {
        "write a time such as 2026-11-30T08:00:00Z, a date, or a duration ago such as 2h".to_owned()
    })
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
        None => println!("no restore was detected"),
        Some(restore) => {
            println!(
                "a restore was detected at {}; commits after {} may be missing",
                restore.at, restore.lost_since
            );
            if now < restore.alone_until {
                println!("each delivery is sent individually until {}", restore.alone_until);
            } else {
                println!("deliveries are sent in batches again");
            }
        }
    }
}
