//! OneSignal apps, with sealed API keys.

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError, Tx};
use crate::domain::app::{App, AppId};
use crate::domain::clock::Timestamp;
use crate::vault::Vault;

pub(super) fn place(app: AppId) -> String {
    format!("apps/{app}")
}

/// Every app.
///
/// # Errors
/// [`StoreError::Sealed`] when a key was sealed with a secret key that is no longer configured.
pub(super) async fn list(connection: &mut PgConnection, vault: &Vault) -> Result<Vec<App>, StoreError> {
    let rows = sqlx::query("SELECT * FROM apps ORDER BY name").fetch_all(connection).await?;
    rows.iter().map(|row| read_app(row, vault)).collect()
}

fn read_app(row: &PgRow, vault: &Vault) -> Result<App, StoreError> {
    let id = AppId(row.try_get("id")?);
    let key = vault.open(&place(id), row.try_get("api_key")?)?;
    let key = String::from_utf8(key).map_err(|_| StoreError::corrupt("apps", "api_key", id))?;
    let calls: i32 = row.try_get("calls_per_second")?;
    Ok(App {
        id,
        name: row.try_get("name")?,
        base_url: row
            .try_get::<&str, _>("base_url")?
            .parse()
            .map_err(|_| StoreError::corrupt("apps", "base_url", id))?,
        api_key: SecretString::from(key),
        is_sandbox: row.try_get("is_sandbox")?,
        is_default: row.try_get("is_default")?,
        calls_per_second: u32::try_from(calls).unwrap_or(1),
        subscriptions: row
            .try_get::<Option<i32>, _>("subscriptions")?
            .and_then(|count| u32::try_from(count).ok()),
        paused: row.try_get("paused_reason")?,
        alias_labels: row.try_get("alias_labels")?,
    })
}

/// Sets the alias labels of an app's people.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn declare_labels(
    tx: &mut Tx,
    app: AppId,
    labels: &[String],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE apps SET alias_labels = $2, version = version + 1, updated_at = $3 WHERE id = $1")
        .bind(app.0)
        .bind(labels)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

impl Store {
    /// Every app.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::Sealed`] when the secret key was changed without its predecessor.
    pub async fn apps(&self) -> Result<Vec<App>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        list(&mut connection, self.vault()).await
    }

    /// Inserts or updates an app, as the default one if it says so. Raises the catalog's revision when anything
    /// changed.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn upsert_app(&self, app: &App, now: Timestamp) -> Result<(), StoreError> {
        let known = self.apps().await?.into_iter().find(|known| known.id == app.id);
        let is_same = |known: &App| {
            known.base_url == app.base_url
                && known.is_sandbox == app.is_sandbox
                && known.is_default == app.is_default
                && known.calls_per_second == app.calls_per_second
                && (app.subscriptions.is_none() || known.subscriptions == app.subscriptions)
                && known.api_key.expose_secret() == app.api_key.expose_secret()
        };
        let wanted = match known {
            Some(known) if is_same(&known) => return Ok(()),
            Some(known) => App {
                name: known.name,
                alias_labels: known.alias_labels,
                subscriptions: app.subscriptions.or(known.subscriptions),
                ..app.clone()
            },
            None => app.clone(),
        };
        // Another replica inserted the same app first: all replicas have the same settings.
        self.put_app(&wanted, self.app_version(app.id).await?, now).await.map(|_| ())
    }

    /// An app's version; 0 if there is none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn app_version(&self, id: AppId) -> Result<i32, StoreError> {
        let version = sqlx::query_scalar("SELECT version FROM apps WHERE id = $1").bind(id.0);
        Ok(version.fetch_optional(self.pool()).await?.unwrap_or_default())
    }

    /// Replaces an app's settings if its version is still `version` (0: if there is none). Its gate is reopened for a
    /// probe, unless a person closed it. Returns whether the version matched.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn put_app(&self, app: &App, version: i32, now: Timestamp) -> Result<bool, StoreError> {
        let sealed = self.vault().seal(&place(app.id), app.api_key.expose_secret().as_bytes())?;
        let mut tx = self.begin().await?;
        if app.is_default {
            sqlx::query(
                "UPDATE apps SET is_default = false, version = version + 1 WHERE is_default AND id <> $1",
            )
            .bind(app.id.0)
            .execute(&mut *tx)
            .await?;
        }
        let put = sqlx::query(
            "INSERT INTO apps (id, name, base_url, api_key, is_sandbox, is_default, calls_per_second, created_at, updated_at,
                subscriptions, alias_labels, version)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $11, 1
             WHERE $10 = 0 OR EXISTS (SELECT 1 FROM apps WHERE id = $1)
             ON CONFLICT (id) DO UPDATE
             SET name = $2, base_url = $3, api_key = $4, is_sandbox = $5, is_default = $6, calls_per_second = $7,
                updated_at = $8, subscriptions = $9, alias_labels = $11, version = apps.version + 1
             WHERE apps.version = $10",
        )
        .bind(app.id.0)
        .bind(&app.name)
        .bind(app.base_url.as_str())
        .bind(sealed)
        .bind(app.is_sandbox)
        .bind(app.is_default)
        .bind(i32::try_from(app.calls_per_second).unwrap_or(i32::MAX))
        .bind(now)
        .bind(app.subscriptions.map(|count| i32::try_from(count).unwrap_or(i32::MAX)))
        .bind(version)
        .bind(&app.alias_labels)
        .execute(&mut *tx)
        .await?;
        if put.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("DELETE FROM gates WHERE scope = 'app' AND subject = $1 AND code <> 'paused'")
            .bind(app.id.to_string())
            .execute(&mut *tx)
            .await?;
        super::catalog::raise_revision(&mut tx, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Pauses an app, or resumes it (`None`).
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn pause_app(
        &self,
        app: Uuid,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE apps
             SET paused_reason = $2, paused_at = CASE WHEN $2::text IS NULL THEN NULL ELSE $3::timestamptz END,
                updated_at = $3
             WHERE id = $1",
        )
        .bind(app)
        .bind(reason)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        super::catalog::raise_revision(&mut tx, now).await?;
        tx.commit().await?;
        Ok(changed.rows_affected() > 0)
    }
}
