//! `herald keys rotate-secret`: re-encrypts values from previous secret keys, without downtime.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::json;
use uuid::Uuid;

use crate::app::open_store;
use crate::domain::clock::Clock;
use crate::store::clock::PgClock;
use crate::store::rotation::{SEALED_KINDS, SealedKind};
use crate::store::{Store, StoreError};

/// Maximum number of passes, in case a process still encrypts with the previous key.
const ROUNDS: usize = 3;

#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: RotateArgs) -> anyhow::Result<ExitCode> {
    let settings = super::settings(&[])?;
    let store = open_store(&settings)?;
    let clock = PgClock::start(&store).await.map_err(super::database::unusable)?;
    let behind = async || store.hosts_with_another_key(clock.now()).await.map_err(super::database::unusable);
    // Before: a process that ends meanwhile may have encrypted values after the last pass. After: one that has started.
    let mut hosts: BTreeSet<String> = behind().await?.into_iter().collect();
    let mut sealed = Vec::new();
    for kind in SEALED_KINDS {
        sealed.push((kind.name, seal_all_again(&store, kind).await?));
    }
    let left = left(&store).await?;
    hosts.extend(behind().await?);
    let behind: Vec<String> = hosts.into_iter().collect();
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
        println!("everything is encrypted with the current secret key");
    } else {
        for (name, count) in sealed.iter().filter(|(_, count)| *count > 0) {
            println!("{name}: {count} re-encrypted");
        }
    }
    if !behind.is_empty() {
        bail!(
            "a process on {} still encrypts with a previous key: restart it with the new one, then run this again",
            behind.join(", ")
        );
    }
    if left > 0 {
        bail!(
            "{left} values are still encrypted with a previous key: some process still has it as HERALD_SECRET_KEY; \
             restart it with the new one, then run this again"
        );
    }
    if !args.json {
        println!(
            "HERALD_PREVIOUS_SECRET_KEYS can be removed now. After that, an event that is posted again and was first \
             posted before the rotation is treated as a duplicate without comparing its content."
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

/// Re-encrypts every value of a kind; returns how many there were.
async fn seal_all_again(store: &Store, kind: SealedKind) -> anyhow::Result<usize> {
    let unknown = |error: StoreError| match error {
        StoreError::Sealed(_) => anyhow::Error::new(error).context(format!(
            "some {} can't be decrypted: set every previous key in HERALD_PREVIOUS_SECRET_KEYS",
            kind.name
        )),
        other => super::database::unusable(other),
    };
    let mut done = 0;
    for _ in 0..ROUNDS {
        let total = store.count_sealed_before(kind).await.map_err(super::database::unusable)?;
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
        // A closed terminal must not stop the rotation.
        let _ = write!(out, "\r{name}: {done} of {total}");
        let _ = out.flush();
    }
}
