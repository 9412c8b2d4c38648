//! The audit log: appended to in the transaction that makes the change.

use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError, Tx};
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, TypedId};

/// One change.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Its id, in the order of time.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// The actor: a source's name, or a person's.
    pub actor: String,
    /// The action: `created`, `changed`, `published`, …
    pub action: String,
    /// The kind of entry: `template`, `rule`, `event_type`, `partial`, …
    pub kind: String,
    /// Its name or key.
    pub subject: String,
    /// The content before.
    pub before: Option<Value>,
    /// The content after.
    pub after: Option<Value>,
    /// The reason, in the person's words.
    pub note: String,
    /// The key that was used, if one was.
    pub key: Option<KeyId>,
}

/// Inserts changes.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn append(tx: &mut Tx, entries: &[AuditEntry]) -> Result<(), StoreError> {
    let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
    sqlx::query(
        "INSERT INTO audit_log (id, at, actor, action, kind, subject, before, after, note, key_id)
         SELECT id, at, actor, action, kind, subject, before::json, after::json, note, key_id
         FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::text[], $9::text[], $10::uuid[])
            AS n (id, at, actor, action, kind, subject, before, after, note, key_id)",
    )
    .bind(entries.iter().map(|e| e.id).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.at).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.actor.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.action.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.subject.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| text(&e.before)).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| text(&e.after)).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.note.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.key.map(TypedId::uuid)).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

impl Store {
    /// Whether a template's version was live at any time.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn was_live(&self, template: &str, number: i32) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (
                SELECT 1 FROM audit_log
                WHERE kind = 'template' AND subject = $1
                  AND action IN ('published', 'rolled_back')
                  AND (after ->> 'version')::integer = $2
             )",
        )
        .bind(template)
        .bind(number)
        .fetch_one(self.pool())
        .await?)
    }

    /// Whether a version may be sent other than as a test: its template needs no approval, or it was approved or live
    /// before. `false` if there is no such version.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn may_reach_people(&self, template: &str, number: i32) -> Result<bool, StoreError> {
        let allowed: Option<bool> = sqlx::query_scalar(
            "SELECT NOT t.needs_approval OR v.approved_by IS NOT NULL OR EXISTS (
                SELECT 1 FROM audit_log a
                WHERE a.kind = 'template' AND a.subject = t.key
                  AND a.action IN ('published', 'rolled_back')
                  AND (a.after ->> 'version')::integer = v.number
             )
             FROM templates t
             JOIN template_versions v ON v.template_id = t.id
             WHERE t.key = $1 AND v.number = $2",
        )
        .bind(template)
        .bind(number)
        .fetch_optional(self.pool())
        .await?;
        Ok(allowed.unwrap_or_default())
    }

    /// Changes, newest first, optionally before `before` and of one entry, if `kind` and `subject` are given.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn audit(
        &self,
        (kind, subject): (Option<&str>, Option<&str>),
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM audit_log
             WHERE ($1::text IS NULL OR kind = $1)
               AND ($2::text IS NULL OR subject = $2)
               AND ($3::uuid IS NULL OR id < $3)
             ORDER BY id DESC
             LIMIT $4",
        )
        .bind(kind)
        .bind(subject)
        .bind(before)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(AuditEntry {
                    id: row.try_get("id")?,
                    at: row.try_get("at")?,
                    actor: row.try_get("actor")?,
                    action: row.try_get("action")?,
                    kind: row.try_get("kind")?,
                    subject: row.try_get("subject")?,
                    before: row.try_get("before")?,
                    after: row.try_get("after")?,
                    note: row.try_get("note")?,
                    key: row.try_get::<Option<Uuid>, _>("key_id")?.map(KeyId::from_uuid),
                })
            })
            .collect()
    }
}
