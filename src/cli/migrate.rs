//! `herald migrate`: the schema.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::app::open_store;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::id::IdSource;
use crate::store::Store;
use crate::store::clock::PgClock;
use crate::store::schema::SchemaState;

/// What to do beside.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Give this role of Postgres what `herald serve` needs, and no more
    #[arg(long, value_name = "ROLE")]
    grants: Option<String>,
}

pub(super) async fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let settings = super::settings(&[])?;
    super::start_logs(&settings);
    let store = open_store(&settings)?;
    let before = store.schema_state().await.context("the database can't be reached; check `database_url`")?;
    migrate(&store).await?;
    match before {
        SchemaState::Current => println!("the schema was up to date"),
        SchemaState::Behind(missing) => println!("applied {missing} migrations"),
    }
    if let Some(role) = args.grants {
        store.grant_service(&role).await?;
        println!("{role} may do what `herald serve` needs, and can't change the record of changes");
    }
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Brings the schema up to date, under the database's own time.
pub(super) async fn migrate(store: &Store) -> anyhow::Result<()> {
    let now = match PgClock::start(store).await {
        Ok(clock) => clock.now(),
        Err(_) => SystemClock::new().now(),
    };
    let namespace = uuid::Builder::from_random_bytes(first_half(IdSource::random().secret())).into_uuid();
    store.migrate(namespace, now).await.context("the schema could not be brought up to date")
}

fn first_half(random: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&random[..16]);
    half
}
