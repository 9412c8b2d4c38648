//! The catalog: read as a whole at one revision; event types, partials and rules are written individually. Templates
//! are in `templates`.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};

use super::templates::{TEMPLATES, read_template, versions};
use super::{Store, StoreError, Tx};
use crate::domain::clock::Timestamp;
use crate::domain::id::{RuleId, TemplateVersionId, TypedId};
use crate::domain::rule::{Action, Definition, Rule};
use crate::domain::snapshot::{CatalogSnapshot, EventTypeEntry, Partial};

impl Store {
    /// The catalog at its current revision.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`], [`StoreError::Sealed`].
    pub async fn snapshot(&self) -> Result<CatalogSnapshot, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *tx).await?;
        let snapshot = self.snapshot_within(&mut tx).await?;
        tx.commit().await?;
        Ok(snapshot)
    }

    /// The same within a transaction that has [`lock`]ed the catalog: it needs no second connection.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`], [`StoreError::Sealed`].
    pub async fn snapshot_within(&self, tx: &mut Tx) -> Result<CatalogSnapshot, StoreError> {
        let revision =
            sqlx::query_scalar("SELECT revision FROM catalog_revision").fetch_one(&mut **tx).await?;
        let rules = rows(tx, "SELECT * FROM rules ORDER BY key", read_rule).await?;
        let templates = rows(tx, TEMPLATES, read_template).await?;
        let mut wanted: Vec<TemplateVersionId> = templates.iter().filter_map(|t| t.live).collect();
        wanted.extend(canary_versions(tx, &rules).await?);
        Ok(CatalogSnapshot {
            revision,
            event_types: rows(tx, "SELECT * FROM event_types ORDER BY name", read_event_type).await?,
            partials: rows(tx, "SELECT * FROM partials ORDER BY key", read_partial).await?,
            versions: versions(tx, &wanted).await?,
            uploads: super::template_uploads::uploaded(tx, &wanted).await?,
            sources: super::webhooks::settings(tx).await?,
            apps: super::apps::list(tx, self.vault()).await?,
            rules,
            templates,
        })
    }

    /// The catalog's current revision.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn revision(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT revision FROM catalog_revision").fetch_one(self.pool()).await?)
    }
}

/// The versions that canaries of `rules` use.
async fn canary_versions(
    connection: &mut PgConnection,
    rules: &[Rule],
) -> Result<Vec<TemplateVersionId>, StoreError> {
    let (mut keys, mut numbers) = (Vec::new(), Vec::new());
    for rule in rules {
        if let Action::Send { template, canary: Some(canary), .. } = &rule.definition.action {
            keys.push(template.as_str());
            numbers.push(canary.version);
        }
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT v.id
         FROM unnest($1::text[], $2::integer[]) AS c (key, number)
         JOIN templates t ON t.key = c.key
         JOIN template_versions v ON v.template_id = t.id AND v.number = c.number",
    )
    .bind(keys)
    .bind(numbers)
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(TemplateVersionId::from_uuid).collect())
}

async fn rows<T>(
    connection: &mut PgConnection,
    query: &'static str,
    read: fn(&PgRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    sqlx::query(query).fetch_all(connection).await?.iter().map(read).collect()
}

fn read_event_type(row: &PgRow) -> Result<EventTypeEntry, StoreError> {
    let name: String = row.try_get("name")?;
    let corrupt = |column| StoreError::corrupt("event_types", column, &name);
    let life: Option<i32> = row.try_get("time_to_live_s")?;
    let samples: Value = row.try_get("samples")?;
    Ok(EventTypeEntry {
        version: row.try_get("version")?,
        description: row.try_get("description")?,
        owner: row.try_get("owner")?,
        schema: row.try_get("schema")?,
        sensitive: row.try_get("sensitive")?,
        time_to_live: life.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs),
        samples: serde_json::from_value(samples).map_err(|_| corrupt("samples"))?,
        name: name.parse().map_err(|_| corrupt("name"))?,
    })
}

fn read_partial(row: &PgRow) -> Result<Partial, StoreError> {
    Ok(Partial {
        key: row.try_get("key")?,
        version: row.try_get("version")?,
        description: row.try_get("description")?,
        body: row.try_get("body")?,
    })
}

fn read_rule(row: &PgRow) -> Result<Rule, StoreError> {
    let id = RuleId::from_uuid(row.try_get("id")?);
    Ok(Rule {
        id,
        key: row.try_get("key")?,
        version: row.try_get("version")?,
        event_type: row.try_get("event_type")?,
        is_enabled: row.try_get("is_enabled")?,
        definition: serde_json::from_value(row.try_get("definition")?)
            .map_err(|_| StoreError::corrupt("rules", "definition", id))?,
    })
}

/// Locks the catalog for the rest of the transaction: changes are serialized.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock(tx: &mut Tx) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT revision FROM catalog_revision FOR UPDATE").fetch_one(&mut **tx).await?)
}

/// Raises the revision; what is planned from now on sees the change.
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

/// Inserts or replaces an event type, with its next version.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn upsert_event_type(
    tx: &mut Tx,
    entry: &EventTypeEntry,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO event_types (name, description, owner, schema, sensitive, time_to_live_s, samples, version,
            updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8)
         ON CONFLICT (name) DO UPDATE
         SET description = $2, owner = $3, schema = $4, sensitive = $5, time_to_live_s = $6, samples = $7,
            version = event_types.version + 1, updated_at = $8",
    )
    .bind(entry.name.as_str())
    .bind(&entry.description)
    .bind(&entry.owner)
    .bind(&entry.schema)
    .bind(&entry.sensitive)
    .bind(entry.time_to_live.and_then(|d| i32::try_from(d.as_secs()).ok()))
    .bind(Value::Object(entry.samples.clone()))
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Inserts or replaces a partial, with its next version.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn upsert_partial(tx: &mut Tx, partial: &Partial, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO partials (key, description, body, version, updated_at)
         VALUES ($1, $2, $3, 1, $4)
         ON CONFLICT (key) DO UPDATE
         SET description = $2, body = $3, version = partials.version + 1, updated_at = $4",
    )
    .bind(&partial.key)
    .bind(&partial.description)
    .bind(&partial.body)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Inserts or replaces a rule by key, keeping its id, with its next version.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn upsert_rule(tx: &mut Tx, rule: &Rule, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rules (id, key, event_type, template_key, definition, is_enabled, version, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, 1, $7)
         ON CONFLICT (key) DO UPDATE
         SET event_type = $3, template_key = $4, definition = $5, is_enabled = $6, version = rules.version + 1,
            updated_at = $7",
    )
    .bind(rule.id.uuid())
    .bind(&rule.key)
    .bind(&rule.event_type)
    .bind(rule.template())
    .bind(Json(&rule.definition))
    .bind(rule.is_enabled)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

impl Store {
    /// The definitions of rules that were deleted.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn deleted_rules(&self, ids: &[RuleId]) -> Result<HashMap<RuleId, Definition>, StoreError> {
        let rows = sqlx::query("SELECT id, definition FROM deleted_rules WHERE id = ANY ($1)")
            .bind(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
            .fetch_all(self.pool())
            .await?;
        let read = |row: &PgRow| {
            let id = RuleId::from_uuid(row.try_get("id")?);
            let corrupt = |_| StoreError::corrupt("deleted_rules", "definition", id);
            Ok((id, serde_json::from_value(row.try_get("definition")?).map_err(corrupt)?))
        };
        rows.iter().map(read).collect()
    }
}

/// What can be deleted from the catalog. Templates are archived instead: their versions are history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletable {
    /// An event type, by name.
    EventType,
    /// A partial, by key.
    Partial,
    /// A rule, by key.
    Rule,
}

/// Deletes an entry; `false` if there is none.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn delete(tx: &mut Tx, what: Deletable, name: &str) -> Result<bool, StoreError> {
    let query = match what {
        Deletable::EventType => "DELETE FROM event_types WHERE name = $1",
        Deletable::Partial => "DELETE FROM partials WHERE key = $1",
        Deletable::Rule => {
            "WITH gone AS (DELETE FROM rules WHERE key = $1 RETURNING id, key, definition)
             INSERT INTO deleted_rules (id, key, definition) SELECT id, key, definition FROM gone"
        }
    };
    Ok(sqlx::query(query).bind(name).execute(&mut **tx).await?.rows_affected() > 0)
}
