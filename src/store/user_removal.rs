//! Removes what is stored about a person besides the history: identity, preferences, and what is about to be written.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::erased_history::Names;
use super::users::Alias;
use super::{StoreError, users};
use crate::domain::erasure::Identifier;
use crate::domain::user::Changes;

/// A row of the outbox: its changes, and the import that it is of.
type PendingWrite = (Json<Map<String, Value>>, Option<Uuid>);

/// What was removed about people.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    /// Everything by which they are recognised, including addresses that were about to be written.
    pub identifiers: BTreeSet<Identifier>,
    /// The imports that they are no longer written for, once for each person.
    pub imports: Vec<Uuid>,
    /// Rules' actions that waited for their writes, or were about to be sent.
    pub actions: Vec<Uuid>,
}

/// Removes the people whom these aliases name, with everything that refers to them.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn remove(connection: &mut PgConnection, aliases: &BTreeSet<Alias>) -> Result<Removed, StoreError> {
    let found: BTreeSet<Uuid> = users::resolve(connection, aliases).await?.into_values().collect();
    if found.is_empty() {
        return Ok(Removed::default());
    }
    let ids: Vec<Uuid> = found.iter().copied().collect();
    users::lock(connection, &found).await?;
    let mut removed = Removed::default();
    let names: Vec<(String, String)> =
        sqlx::query_as("SELECT label, alias FROM user_aliases WHERE user_id = ANY ($1)")
            .bind(&ids)
            .fetch_all(&mut *connection)
            .await?;
    removed.identifiers.extend(names.into_iter().map(|(label, id)| Identifier { label, id }));
    // Before the people themselves: a write that is being recorded locks its row first.
    let writes: Vec<PendingWrite> =
        sqlx::query_as("DELETE FROM user_writes WHERE user_id = ANY ($1) RETURNING changes, import_id")
            .bind(&ids)
            .fetch_all(&mut *connection)
            .await?;
    for (Json(changes), import) in writes {
        let changes =
            Changes::from_json(changes).map_err(|_| StoreError::corrupt("user_writes", "changes", ids[0]))?;
        removed.identifiers.extend(changes.subscriptions().map(|one| Identifier::from(&one)));
        removed.imports.extend(import);
    }
    let actions: Vec<Uuid> =
        sqlx::query_scalar("DELETE FROM tag_actions WHERE user_id = ANY ($1) RETURNING action_id")
            .bind(&ids)
            .fetch_all(&mut *connection)
            .await?;
    removed.actions.extend(actions);
    for query in ["DELETE FROM fact_waits WHERE user_id = ANY ($1)", "DELETE FROM users WHERE id = ANY ($1)"]
    {
        sqlx::query(query).bind(&ids).execute(&mut *connection).await?;
    }
    Ok(removed)
}

/// Removes custom events for a person, and their entries among test recipients; returns the ids of the former, which are
/// also those of rules' actions.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn remove_mentions(connection: &mut PgConnection, names: &Names) -> Result<Vec<Uuid>, StoreError> {
    let (labels, ids) = names.columns();
    sqlx::query(
        "DELETE FROM test_recipients WHERE (label, id) IN (SELECT * FROM unnest($1::text[], $2::text[]))",
    )
    .bind(labels)
    .bind(ids)
    .execute(&mut *connection)
    .await?;
    let events = sqlx::query_scalar(
        "DELETE FROM custom_events
         WHERE (recipient_label, recipient_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
         RETURNING id",
    );
    Ok(events.bind(labels).bind(ids).fetch_all(connection).await?)
}
