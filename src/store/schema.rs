//! Migrations, partitions and the checks before serving.

use std::collections::HashMap;

use chrono::{NaiveDate, TimeDelta};
use uuid::Uuid;

use super::migrations::MIGRATIONS;
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;

/// How many days ahead partitions are created.
const DAYS_AHEAD: i64 = 3;

/// The schema's state for this binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// Every migration is applied.
    Current,
    /// This many are missing.
    Behind(usize),
    /// The applied migration of this number is another one: a development version of Herald created the database.
    Different(i64),
}

impl Store {
    /// Applies missing migrations, under an advisory lock, and creates the partitions around `now`. `namespace` becomes
    /// this deployment's secret if it has none yet.
    ///
    /// # Errors
    /// [`StoreError::Migration`] when an applied migration was changed, [`StoreError::Database`] when unavailable.
    pub async fn migrate(&self, namespace: Uuid, now: Timestamp) -> Result<(), StoreError> {
        MIGRATIONS.run(&self.pool).await?;
        sqlx::query("INSERT INTO deployment (namespace, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(namespace)
            .bind(now)
            .execute(self.pool())
            .await?;
        self.ensure_partitions(now).await
    }

    /// The schema's state; a database that was never migrated lacks all migrations.
    ///
    /// # Errors
    /// [`StoreError::Database`] when unavailable.
    pub async fn schema_state(&self) -> Result<SchemaState, StoreError> {
        let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(self.pool())
            .await?;
        let applied: HashMap<i64, Vec<u8>> = if exists {
            sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
                .fetch_all(self.pool())
                .await?
                .into_iter()
                .collect()
        } else {
            HashMap::new()
        };
        let mut missing = 0;
        for migration in MIGRATIONS.iter() {
            match applied.get(&migration.version) {
                Some(checksum) if *checksum == *migration.checksum => {}
                Some(_) => return Ok(SchemaState::Different(migration.version)),
                None => missing += 1,
            }
        }
        Ok(if missing == 0 { SchemaState::Current } else { SchemaState::Behind(missing) })
    }

    /// Creates the day partitions from yesterday to a few days ahead.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn ensure_partitions(&self, now: Timestamp) -> Result<(), StoreError> {
        let today = now.date_naive();
        let mut tx = self.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock(72810001)").execute(&mut *tx).await?;
        for offset in -1..=DAYS_AHEAD {
            let day: NaiveDate = today + TimeDelta::days(offset);
            sqlx::query("SELECT create_day_partitions($1)").bind(day).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Rejects a server that can lose commits.
    ///
    /// # Errors
    /// [`StoreError::Unsafe`] names the setting.
    pub async fn check_durability(&self) -> Result<(), StoreError> {
        for setting in ["fsync", "full_page_writes"] {
            let value: String =
                sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(self.pool()).await?;
            if value != "on" {
                return Err(StoreError::Unsafe { setting });
            }
        }
        Ok(())
    }

    /// The secret seed of every idempotency key.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the schema does not exist yet.
    pub async fn namespace(&self) -> Result<Uuid, StoreError> {
        Ok(sqlx::query_scalar("SELECT namespace FROM deployment").fetch_one(self.pool()).await?)
    }
}
