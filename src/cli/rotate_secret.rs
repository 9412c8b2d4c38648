//! `herald keys rotate-secret`: seals again what earlier secret keys have sealed, while everything runs.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use uuid::Uuid;

use crate::app::open_store;
use crate::domain::clock::Clock;
use crate::store::clock::PgClock;
use crate::store::rotation::{SEALED_KINDS, SealedKind};
use crate::store::{Store, StoreError};

/// Times that everything is gone through, in case that a process still seals with the earlier key.
const ROUNDS: usize = 3;

/// How to print.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: RotateArgs) -> anyhow::Result<ExitCode> {
    let settings = super::settings(&[])?;
    let store = open_store(&settings)?;
    let mut sealed = Vec::new();
    for kind in SEALED_KINDS {
        sealed.push((kind.name, seal_all_again(&store, kind).await?));
    }
    let left = left(&store).await?;
    let clock = PgClock::start(&store).await.context("the database can't be used")?;
    let behind = store.hosts_with_another_key(clock.now()).await.context("the database can't be used")?;
    store.close().await;
    let total: usize = sealed.iter().map(|(_, count)| count).sum();
    if args.json {
        let kinds: serde_json::Map<_, _> =
            sealed.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
        println!(
            "{:#}",
            json!({"sealed_again": kinds, "left": left, "hosts_with_another_key": behind, "is_complete": left == 0 && behind.is_empty()})
        );
    } else if total == 0 && left == 0 {
        println!("everything is sealed with the present secret key");
    } else {
        for (name, count) in sealed.iter().filter(|(_, count)| *count > 0) {
            println!("{name}: {count} sealed again");
        }
    }
    if !behind.is_empty() {
        bail!(
            "a process on {} still seals with an earlier key: restart it with the new one, and run this again",
            behind.join(", ")
        );
    }
    if left > 0 {
        bail!(
            "{left} values are still sealed with an earlier key: some process still has it as HERALD_SECRET_KEY; \
             restart that with the new one, and run this again"
        );
    }
    if !args.json {
        println!(
            "HERALD_PREVIOUS_SECRET_KEYS can be taken out now. From then on an event that is posted again and was first \
             posted before the rotation is answered as a duplicate without a comparison of its content."
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn left(store: &Store) -> anyhow::Result<i64> {
    let mut left = 0;
    for kind in SEALED_KINDS {
        left += store.count_sealed_before(kind).await?;
    }
    Ok(left)
}

/// Seals every value of a kind again; returns how many there were.
async fn seal_all_again(store: &Store, kind: SealedKind) -> anyhow::Result<usize> {
    let unknown = |error: StoreError| match error {
        StoreError::Sealed(_) => anyhow::Error::new(error).context(format!(
            "some {} can't be opened: set every earlier key in HERALD_PREVIOUS_SECRET_KEYS",
            kind.name
        )),
        other => anyhow::Error::new(other).context("the database can't be used; has `herald migrate` run?"),
    };
    let mut done = 0;
    for _ in 0..ROUNDS {
        let total = store.count_sealed_before(kind).await.context("the database can't be used")?;
        if total == 0 {
            break;
        }
        let mut after = Uuid::nil();
        while let Some((count, last)) = store.seal_again(kind, after).await.map_err(unknown)? {
            done += count;
            after = last;
            show_progress(kind.name, done, total);
        }
    }
    if done > 0 && std::io::stderr().is_terminal() {
        eprintln!();
    }
    Ok(done)
}

fn show_progress(name: &str, done: usize, total: i64) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // A terminal that is gone is no reason to stop half way.
        let _ = write!(out, "\r{name}: {done} of {total}");
        let _ = out.flush();
    }
}
