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

#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Also grant this Postgres role exactly the privileges that `herald serve` needs
    #[arg(long, value_name = "ROLE")]
    grants: Option<String>,
}

pub(super) async fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let mut settings = super::settings(&[])?;
    // sqlx creates its own table with IF NOT EXISTS, and Postgres reports every time that it exists.
    settings.log.filter.push_str(",sqlx::postgres::notice=warn");
    super::start_logs(&settings);
    let store = open_store(&settings)?;
    let before = store.schema_state().await.context("the database is unreachable; check `database_url`")?;
    migrate(&store, "create an empty database and name it in `database_url`").await?;
    match before {
        SchemaState::Current | SchemaState::Different(_) => println!("the schema is up to date"),
        SchemaState::Behind(missing) => println!("applied {missing} migrations"),
    }
    if let Some(role) = args.grants {
        store.grant_service(&role).await?;
        println!("{role} has the privileges that `herald serve` needs, and can't change the audit log");
    }
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Applies pending migrations, using the database's clock. `remedy` is what to do about a database that other
/// migrations have created.
pub(super) async fn migrate(store: &Store, remedy: &str) -> anyhow::Result<()> {
    let now = match PgClock::start(store).await {
        Ok(clock) => clock.now(),
        Err(_) => SystemClock::new().now(),
    };
    let namespace = uuid::Builder::from_random_bytes(first_half(IdSource::random().secret())).into_uuid();
    store.migrate(namespace, now).await.map_err(|error| super::database::not_migrated(error, remedy))
}

fn first_half(random: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&random[..16]);
    half
}
