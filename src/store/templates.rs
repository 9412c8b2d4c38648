//! Templates, their drafts and their immutable versions.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError, Tx};
use crate::domain::clock::Timestamp;
use crate::domain::id::{TemplateId, TemplateVersionId, TypedId};
use crate::domain::template::{Content, LanguageBy, Mode, Template, TemplateVersion};

/// A template's draft.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its `ETag`.
    pub revision: i32,
    /// Its content.
    pub content: Content,
    /// The number of the version that it is based on.
    pub based_on: Option<i32>,
    /// Who saved it last.
    pub author: String,
    /// When.
    pub updated_at: Timestamp,
    /// Who approved this exact revision.
    pub approved_by: Option<String>,
}

/// A version with its author and reason.
#[derive(Debug, Clone)]
pub struct VersionRecord {
    /// The version.
    pub version: TemplateVersion,
    /// SHA-256 of its canonical content.
    pub content_hash: Vec<u8>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub note: String,
    /// When.
    pub created_at: Timestamp,
    /// The version that it restores, if it is a rollback.
    pub restores: Option<i32>,
    /// Who approved it.
    pub approved_by: Option<String>,
}

/// The author of a new version, and its origin.
#[derive(Debug, Clone, Copy)]
pub struct VersionNote<'a> {
    /// SHA-256 of its canonical content.
    pub content_hash: &'a [u8],
    /// Who makes it.
    pub author: &'a str,
    /// Why.
    pub note: &'a str,
    /// The version that it restores, if it is a rollback: then it is a new one even if the latest has the same content.
    pub restores: Option<i32>,
    /// Who approved it.
    pub approved_by: Option<&'a str>,
}

pub(super) const TEMPLATES: &str = "SELECT *, channel::text AS channel_text FROM templates ORDER BY key";

pub(super) fn read_template(row: &PgRow) -> Result<Template, StoreError> {
    let id: Uuid = row.try_get("id")?;
    Ok(Template {
        id: TemplateId::from_uuid(id),
        key: row.try_get("key")?,
        channel: super::events::read_channel(row.try_get("channel_text")?, "templates", id)?,
        version: row.try_get("version")?,
        description: row.try_get("description")?,
        owner: row.try_get("owner")?,
        event_type: row.try_get("event_type")?,
        needs_approval: row.try_get("needs_approval")?,
        is_archived: row.try_get::<Option<Timestamp>, _>("archived_at")?.is_some(),
        live: row.try_get::<Option<Uuid>, _>("live_version")?.map(TemplateVersionId::from_uuid),
    })
}

const VERSIONS: &str = "
    SELECT v.*, t.key, t.channel::text AS channel_text,
        (SELECT json_object_agg(c.locale, c.fields) FROM template_contents c WHERE c.version_id = v.id) AS contents
    FROM template_versions v
    JOIN templates t ON t.id = v.template_id";

/// The versions with these ids.
pub(super) async fn versions(
    connection: &mut PgConnection,
    ids: &[TemplateVersionId],
) -> Result<Vec<TemplateVersion>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{VERSIONS} WHERE v.id = ANY ($1)")))
        .bind(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    rows.iter().map(read_version).collect()
}

fn read_version(row: &PgRow) -> Result<TemplateVersion, StoreError> {
    let id: Uuid = row.try_get("id")?;
    let corrupt = |column| StoreError::corrupt("template_versions", column, TemplateVersionId::from_uuid(id));
    let contents: Option<Value> = row.try_get("contents")?;
    let options: Value = row.try_get("options")?;
    let partials: Value = row.try_get("partials")?;
    Ok(TemplateVersion {
        id: TemplateVersionId::from_uuid(id),
        template: row.try_get("key")?,
        number: row.try_get("number")?,
        channel: super::events::read_channel(row.try_get("channel_text")?, "template_versions", id)?,
        content: Content {
            mode: if row.try_get::<&str, _>("mode")? == "inline" { Mode::Inline } else { Mode::Provider },
            language_by: match row.try_get::<&str, _>("language_by")? {
                "onesignal" => LanguageBy::Onesignal,
                _ => LanguageBy::Herald,
            },
            default_locale: row.try_get("default_locale")?,
            layout: row.try_get("layout")?,
            options: serde_json::from_value(options).map_err(|_| corrupt("options"))?,
            contents: serde_json::from_value(
                contents.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            )
            .map_err(|_| corrupt("contents"))?,
        },
        partials: serde_json::from_value(partials).map_err(|_| corrupt("partials"))?,
    })
}

fn read_record(row: &PgRow) -> Result<VersionRecord, StoreError> {
    Ok(VersionRecord {
        version: read_version(row)?,
        content_hash: row.try_get("content_hash")?,
        author: row.try_get("author")?,
        note: row.try_get("note")?,
        created_at: row.try_get("created_at")?,
        restores: row.try_get("restores")?,
        approved_by: row.try_get("approved_by")?,
    })
}

impl Store {
    /// One version, live or not.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn find_version(&self, id: TemplateVersionId) -> Result<Option<TemplateVersion>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        Ok(versions(&mut connection, &[id]).await?.pop())
    }

    /// A template's version by number.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn find_version_number(
        &self,
        template: &str,
        number: i32,
    ) -> Result<Option<VersionRecord>, StoreError> {
        let query = format!("{VERSIONS} WHERE t.key = $1 AND v.number = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(template)
            .bind(number)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(read_record).transpose()
    }

    /// A template's versions below `before`, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn version_records(
        &self,
        template: &str,
        before: Option<i32>,
        limit: i64,
    ) -> Result<Vec<VersionRecord>, StoreError> {
        let query = format!(
            "{VERSIONS} WHERE t.key = $1 AND ($2::integer IS NULL OR v.number < $2) ORDER BY v.number DESC LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(template)
            .bind(before)
            .bind(limit)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(read_record).collect()
    }

    /// A template's draft, if it has one.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn find_draft(&self, template: TemplateId) -> Result<Option<Draft>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        find_draft(&mut connection, template).await
    }

    /// The keys of templates that have a draft.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn drafted_templates(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT t.key FROM template_drafts d JOIN templates t ON t.id = d.template_id ORDER BY t.key",
        )
        .fetch_all(self.pool())
        .await?)
    }
}

/// A template's draft, if it has one.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn find_draft(
    connection: &mut PgConnection,
    template: TemplateId,
) -> Result<Option<Draft>, StoreError> {
    let row = sqlx::query("SELECT * FROM template_drafts WHERE template_id = $1")
        .bind(template.uuid())
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let content: Value = row.try_get("content")?;
    Ok(Some(Draft {
        revision: row.try_get("revision")?,
        content: serde_json::from_value(content)
            .map_err(|_| StoreError::corrupt("template_drafts", "content", template))?,
        based_on: row.try_get("based_on")?,
        author: row.try_get("author")?,
        updated_at: row.try_get("updated_at")?,
        approved_by: row.try_get("approved_by")?,
    }))
}

/// Saves a draft over `revision` (0: there must be none); `false` if another save came first. A new draft continues the
/// revision numbers of the template's last one (each save is in the audit log), so that no one approves or publishes
/// one that they mistake for the other.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn save_draft(
    tx: &mut Tx,
    template: TemplateId,
    draft: (&Content, Option<i32>, &str),
    revision: i32,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let (content, based_on, author) = draft;
    let query = if revision == 0 {
        "INSERT INTO template_drafts (template_id, revision, content, based_on, author, updated_at)
         SELECT $1, $6 + 1 + (
            SELECT count(*)
            FROM audit_log a
            JOIN templates t ON t.key = a.subject
            WHERE t.id = $1 AND a.kind = 'template' AND a.action = 'draft_saved'
         )::integer, $2, $3, $4, $5
         ON CONFLICT DO NOTHING"
    } else {
        "UPDATE template_drafts
         SET revision = revision + 1, content = $2, based_on = coalesce($3, based_on), author = $4, updated_at = $5,
            approved_by = NULL
         WHERE template_id = $1 AND revision = $6"
    };
    let saved = sqlx::query(query)
        .bind(template.uuid())
        .bind(Json(content))
        .bind(based_on)
        .bind(author)
        .bind(now)
        .bind(revision)
        .execute(&mut **tx)
        .await?;
    Ok(saved.rows_affected() > 0)
}

/// Records who approved a draft's revision; `false` if the revision has changed.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn approve_draft(
    tx: &mut Tx,
    template: TemplateId,
    revision: i32,
    by: &str,
) -> Result<bool, StoreError> {
    let approved = sqlx::query(
        "UPDATE template_drafts SET approved_by = $3 WHERE template_id = $1 AND revision = $2 AND author <> $3",
    )
    .bind(template.uuid())
    .bind(revision)
    .bind(by)
    .execute(&mut **tx)
    .await?;
    Ok(approved.rows_affected() > 0)
}

/// Deletes a draft at this revision; `false` if the revision has changed.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn delete_draft(tx: &mut Tx, template: TemplateId, revision: i32) -> Result<bool, StoreError> {
    let gone = sqlx::query("DELETE FROM template_drafts WHERE template_id = $1 AND revision = $2")
        .bind(template.uuid())
        .bind(revision)
        .execute(&mut **tx)
        .await?;
    Ok(gone.rows_affected() > 0)
}

/// Inserts a template, or finds the one with this key and updates its settings.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn upsert_template(
    tx: &mut Tx,
    template: &Template,
    now: Timestamp,
) -> Result<TemplateId, StoreError> {
    let id: Uuid = sqlx::query_scalar(
        "INSERT INTO templates (id, key, channel, description, owner, event_type, needs_approval, archived_at, version,
            created_at)
         VALUES ($1, $2, $3::channel, $4, $5, $6, $7, CASE WHEN $8 THEN $9::timestamptz END, 1, $9)
         ON CONFLICT (key) DO UPDATE
         SET description = $4, owner = $5, event_type = $6, needs_approval = $7,
            archived_at = CASE WHEN $8 THEN coalesce(templates.archived_at, $9) END, version = templates.version + 1
         RETURNING id",
    )
    .bind(template.id.uuid())
    .bind(&template.key)
    .bind(template.channel.as_str())
    .bind(&template.description)
    .bind(&template.owner)
    .bind(&template.event_type)
    .bind(template.needs_approval)
    .bind(template.is_archived)
    .bind(now)
    .fetch_one(&mut **tx)
    .await?;
    Ok(TemplateId::from_uuid(id))
}

/// Stores a new version under the next number. It is not live yet. If the latest has the same content, it is returned
/// instead; as long as it was never live, its author is the last person who stored it.
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
        if by.restores.is_none() && row.try_get::<&[u8], _>("content_hash")? == by.content_hash {
            let id: Uuid = row.try_get("id")?;
            take_over(tx, id, by, now).await?;
            return Ok((TemplateVersionId::from_uuid(id), number - 1));
        }
    }
    insert_version(tx, template, version, number, by, now).await?;
    Ok((version.id, number))
}

/// Records who stored a version again. One that was never live, created for a test or by a failed attempt, is
/// attributed to them: a live version names the person who published it, and why.
async fn take_over(
    tx: &mut Tx,
    version: Uuid,
    by: VersionNote<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE template_versions SET approved_by = coalesce(approved_by, $2) WHERE id = $1")
        .bind(version)
        .bind(by.approved_by)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "UPDATE template_versions v
         SET author = $2, note = $3, created_at = $4
         FROM templates t
         WHERE v.id = $1 AND t.id = v.template_id AND t.live_version IS DISTINCT FROM v.id
            AND NOT EXISTS (
                SELECT 1 FROM audit_log a
                WHERE a.kind = 'template' AND a.subject = t.key AND a.action IN ('published', 'rolled_back')
                    AND (a.after ->> 'version')::integer = v.number
            )",
    )
    .bind(version)
    .bind(by.author)
    .bind(by.note)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_version(
    tx: &mut Tx,
    template: TemplateId,
    version: &TemplateVersion,
    number: i32,
    by: VersionNote<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let content = &version.content;
    sqlx::query(
        "INSERT INTO template_versions (id, template_id, number, mode, default_locale, layout, options,
            partials, content_hash, author, note, restores, approved_by, created_at, language_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(version.id.uuid())
    .bind(template.uuid())
    .bind(number)
    .bind(match content.mode {
        Mode::Provider => "provider",
        Mode::Inline => "inline",
    })
    .bind(&content.default_locale)
    .bind(&content.layout)
    .bind(Value::Object(content.options.clone()))
    .bind(Json(&version.partials))
    .bind(by.content_hash)
    .bind(by.author)
    .bind(by.note)
    .bind(by.restores)
    .bind(by.approved_by)
    .bind(now)
    .bind(if content.language_by.is_herald() { "herald" } else { "onesignal" })
    .execute(&mut **tx)
    .await?;
    let fields: BTreeMap<&String, String> = content
        .contents
        .iter()
        .map(|(locale, fields)| (locale, serde_json::json!(fields).to_string()))
        .collect();
    sqlx::query(
        "INSERT INTO template_contents (version_id, locale, fields)
         SELECT $1, locale, fields::json FROM unnest($2::text[], $3::text[]) AS n (locale, fields)",
    )
    .bind(version.id.uuid())
    .bind(fields.keys().map(|locale| locale.as_str()).collect::<Vec<_>>())
    .bind(fields.into_values().collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Makes a version the live one.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_live(tx: &mut Tx, template_key: &str, version: TemplateVersionId) -> Result<(), StoreError> {
    sqlx::query("UPDATE templates SET live_version = $2, version = version + 1 WHERE key = $1")
        .bind(template_key)
        .bind(version.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
