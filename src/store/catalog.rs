//! The catalog: read whole at one revision, written piece by piece under one transaction.

use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError, Tx};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{RuleId, TemplateId, TemplateVersionId, TypedId};
use crate::domain::rule::Rule;
use crate::domain::snapshot::{CatalogSnapshot, EventTypeEntry};
use crate::domain::template::{Fields, Mode, Template, TemplateVersion};

impl Store {
    /// The catalog at its present revision.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`], [`StoreError::Sealed`].
    pub async fn snapshot(&self) -> Result<CatalogSnapshot, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *tx).await?;
        let revision =
            sqlx::query_scalar("SELECT revision FROM catalog_revision").fetch_one(&mut *tx).await?;
        let live = "SELECT live_version FROM templates WHERE live_version IS NOT NULL";
        let snapshot = CatalogSnapshot {
            revision,
            event_types: rows(&mut tx, "SELECT * FROM event_types ORDER BY name", read_event_type).await?,
            rules: rows(&mut tx, "SELECT *, lane::text AS lane_text FROM rules ORDER BY key", read_rule)
                .await?,
            templates: rows(
                &mut tx,
                "SELECT *, channel::text AS channel_text FROM templates ORDER BY key",
                read_template,
            )
            .await?,
            versions: versions(&mut tx, live).await?,
            uploads: rows(
                &mut tx,
                "SELECT u.* FROM template_uploads u
                 JOIN templates t ON t.live_version = u.version_id
                 WHERE u.provider_template_id IS NOT NULL",
                super::uploads::read_upload,
            )
            .await?,
            apps: super::apps::list(&mut tx, self.vault()).await?,
        };
        tx.commit().await?;
        Ok(snapshot)
    }

    /// The catalog's present revision.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn revision(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT revision FROM catalog_revision").fetch_one(self.pool()).await?)
    }

    /// One version, live or not.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn find_version(&self, id: TemplateVersionId) -> Result<Option<TemplateVersion>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        let query = format!("SELECT '{}'::uuid", id.uuid());
        Ok(versions(&mut connection, &query).await?.pop())
    }

    /// A template's version by number.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn find_version_number(
        &self,
        template: &str,
        number: i32,
    ) -> Result<Option<TemplateVersion>, StoreError> {
        let id: Option<Uuid> = sqlx::query_scalar(
            "SELECT v.id FROM template_versions v JOIN templates t ON t.id = v.template_id
             WHERE t.key = $1 AND v.number = $2",
        )
        .bind(template)
        .bind(number)
        .fetch_optional(self.pool())
        .await?;
        match id {
            Some(id) => self.find_version(TemplateVersionId::from_uuid(id)).await,
            None => Ok(None),
        }
    }
}

async fn rows<T>(
    connection: &mut PgConnection,
    query: &'static str,
    read: fn(&PgRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    sqlx::query(query).fetch_all(connection).await?.iter().map(read).collect()
}

fn seconds(value: Option<i32>) -> Option<Duration> {
    value.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs)
}

fn read_event_type(row: &PgRow) -> Result<EventTypeEntry, StoreError> {
    let name: String = row.try_get("name")?;
    Ok(EventTypeEntry {
        description: row.try_get("description")?,
        schema: row.try_get("schema")?,
        sensitive: row.try_get("sensitive")?,
        time_to_live: seconds(row.try_get("time_to_live_s")?),
        name: name.parse().map_err(|_| StoreError::corrupt("event_types", "name", &name))?,
    })
}

fn read_rule(row: &PgRow) -> Result<Rule, StoreError> {
    let id = RuleId::from_uuid(row.try_get("id")?);
    let corrupt = |column| StoreError::corrupt("rules", column, id);
    Ok(Rule {
        id,
        key: row.try_get("key")?,
        event_type: row.try_get::<&str, _>("event_type")?.parse().map_err(|_| corrupt("event_type"))?,
        app: row.try_get::<Option<Uuid>, _>("app_id")?.map(AppId),
        template: row.try_get("template_key")?,
        audience: serde_json::from_value(row.try_get("audience")?).map_err(|_| corrupt("audience"))?,
        lane: row.try_get::<&str, _>("lane_text")?.parse().map_err(|_| corrupt("lane"))?,
        delay: seconds(Some(row.try_get("delay_s")?)).unwrap_or_default(),
        expires_in: seconds(row.try_get("expires_in_s")?),
        is_enabled: row.try_get("is_enabled")?,
    })
}

fn read_template(row: &PgRow) -> Result<Template, StoreError> {
    let id: Uuid = row.try_get("id")?;
    Ok(Template {
        id: TemplateId::from_uuid(id),
        key: row.try_get("key")?,
        channel: super::events::read_channel(row.try_get("channel_text")?, "templates", id)?,
        description: row.try_get("description")?,
        live: row.try_get::<Option<Uuid>, _>("live_version")?.map(TemplateVersionId::from_uuid),
    })
}

/// The versions whose ids `which` selects, with their contents.
async fn versions(connection: &mut PgConnection, which: &str) -> Result<Vec<TemplateVersion>, StoreError> {
    let query = format!(
        "SELECT v.*, t.key, t.channel::text AS channel_text,
            (SELECT json_object_agg(c.locale, c.fields) FROM template_contents c WHERE c.version_id = v.id) AS contents
         FROM template_versions v
         JOIN templates t ON t.id = v.template_id
         WHERE v.id IN ({which})"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(connection).await?;
    rows.iter().map(read_version).collect()
}

fn read_version(row: &PgRow) -> Result<TemplateVersion, StoreError> {
    let id: Uuid = row.try_get("id")?;
    let corrupt = |column| StoreError::corrupt("template_versions", column, TemplateVersionId::from_uuid(id));
    let mode: &str = row.try_get("mode")?;
    let contents: Option<Value> = row.try_get("contents")?;
    let options: Value = row.try_get("options")?;
    Ok(TemplateVersion {
        id: TemplateVersionId::from_uuid(id),
        template: row.try_get("key")?,
        number: row.try_get("number")?,
        channel: super::events::read_channel(row.try_get("channel_text")?, "template_versions", id)?,
        mode: if mode == "inline" { Mode::Inline } else { Mode::Provider },
        default_locale: row.try_get("default_locale")?,
        options: serde_json::from_value(options).map_err(|_| corrupt("options"))?,
        contents: serde_json::from_value(contents.unwrap_or_else(|| Value::Object(serde_json::Map::new())))
            .map_err(|_| corrupt("contents"))?,
    })
}

/// Takes the catalog's lock for the rest of the transaction: changes come one after the other.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock(tx: &mut Tx) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT revision FROM catalog_revision FOR UPDATE").fetch_one(&mut **tx).await?)
}

/// Raises the revision; what is planned from here on sees the change.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn raise_revision(connection: &mut PgConnection, now: Timestamp) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "UPDATE catalog_revision SET revision = revision + 1, changed_at = $1 RETURNING revision",
    )
    .bind(now)
    .fetch_one(connection)
    .await?)
}

/// Enters an event type or replaces it.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn upsert_event_type(
    tx: &mut Tx,
    entry: &EventTypeEntry,
    samples: &Value,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO event_types (name, description, schema, sensitive, time_to_live_s, samples, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (name) DO UPDATE
         SET description = $2, schema = $3, sensitive = $4, time_to_live_s = $5, samples = $6, updated_at = $7",
    )
    .bind(entry.name.as_str())
    .bind(&entry.description)
    .bind(&entry.schema)
    .bind(&entry.sensitive)
    .bind(entry.time_to_live.and_then(|d| i32::try_from(d.as_secs()).ok()))
    .bind(samples)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Enters a template, or finds the one with this key.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find_or_insert_template(
    tx: &mut Tx,
    template: &Template,
    now: Timestamp,
) -> Result<TemplateId, StoreError> {
    let id: Uuid = sqlx::query_scalar(
        "INSERT INTO templates (id, key, channel, description, created_at)
         VALUES ($1, $2, $3::channel, $4, $5)
         ON CONFLICT (key) DO UPDATE SET description = $4
         RETURNING id",
    )
    .bind(template.id.uuid())
    .bind(&template.key)
    .bind(template.channel.as_str())
    .bind(&template.description)
    .bind(now)
    .fetch_one(&mut **tx)
    .await?;
    Ok(TemplateId::from_uuid(id))
}

/// Who made a version, and of what.
#[derive(Debug, Clone, Copy)]
pub struct VersionNote<'a> {
    /// SHA-256 of its canonical content.
    pub content_hash: &'a [u8],
    /// Who made it.
    pub author: &'a str,
    /// Why.
    pub note: &'a str,
}

/// Stores a new version under the next number. It is not live yet. The same content again is found, not stored twice.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find_or_insert_version(
    tx: &mut Tx,
    template: TemplateId,
    version: &TemplateVersion,
    by: VersionNote<'_>,
    now: Timestamp,
) -> Result<(TemplateVersionId, i32), StoreError> {
    let latest = sqlx::query(
        "SELECT id, number, content_hash FROM template_versions WHERE template_id = $1 ORDER BY number DESC LIMIT 1",
    )
    .bind(template.uuid())
    .fetch_optional(&mut **tx)
    .await?;
    let mut number = 1;
    if let Some(row) = latest {
        number = row.try_get::<i32, _>("number")? + 1;
        if row.try_get::<&[u8], _>("content_hash")? == by.content_hash {
            return Ok((TemplateVersionId::from_uuid(row.try_get("id")?), number - 1));
        }
    }
    sqlx::query(
        "INSERT INTO template_versions
            (id, template_id, number, mode, default_locale, options, content_hash, author, note, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(version.id.uuid())
    .bind(template.uuid())
    .bind(number)
    .bind(match version.mode {
        Mode::Provider => "provider",
        Mode::Inline => "inline",
    })
    .bind(&version.default_locale)
    .bind(Value::Object(version.options.clone()))
    .bind(by.content_hash)
    .bind(by.author)
    .bind(by.note)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    for (locale, fields) in &version.contents {
        insert_content(tx, version.id, locale, fields).await?;
    }
    Ok((version.id, number))
}

async fn insert_content(
    tx: &mut Tx,
    version: TemplateVersionId,
    locale: &str,
    fields: &Fields,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO template_contents (version_id, locale, fields) VALUES ($1, $2, $3)")
        .bind(version.uuid())
        .bind(locale)
        .bind(sqlx::types::Json(fields))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Makes a version the live one.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_live(tx: &mut Tx, template_key: &str, version: TemplateVersionId) -> Result<(), StoreError> {
    sqlx::query("UPDATE templates SET live_version = $2 WHERE key = $1")
        .bind(template_key)
        .bind(version.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Enters a rule or replaces the one with the same key, whose id stays.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn upsert_rule(
    tx: &mut Tx,
    rule: &Rule,
    description: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rules (id, key, event_type, description, app_id, template_key, audience, lane, delay_s,
            expires_in_s, is_enabled, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::lane, $9, $10, $11, $12)
         ON CONFLICT (key) DO UPDATE
         SET event_type = $3, description = $4, app_id = $5, template_key = $6, audience = $7, lane = $8::lane,
            delay_s = $9, expires_in_s = $10, is_enabled = $11, updated_at = $12",
    )
    .bind(rule.id.uuid())
    .bind(&rule.key)
    .bind(rule.event_type.as_str())
    .bind(description)
    .bind(rule.app.map(|app| app.0))
    .bind(&rule.template)
    .bind(sqlx::types::Json(&rule.audience))
    .bind(rule.lane.as_str())
    .bind(i32::try_from(rule.delay.as_secs()).unwrap_or(i32::MAX))
    .bind(rule.expires_in.and_then(|d| i32::try_from(d.as_secs()).ok()))
    .bind(rule.is_enabled)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
