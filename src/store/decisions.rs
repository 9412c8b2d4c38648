//! Decisions: stored for everything that did not go as expected.

use sqlx::PgConnection;

use super::StoreError;
use crate::domain::decision::Decision;
use crate::domain::id::{DecisionId, EventId, TypedId};

/// A decision to be stored.
#[derive(Debug)]
pub struct NewDecision<'a> {
    /// Its id.
    pub id: DecisionId,
    /// The event.
    pub event: EventId,
    /// What was decided.
    pub decision: &'a Decision,
}

/// Stores decisions, in one statement.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_all(connection: &mut PgConnection, new: &[NewDecision<'_>]) -> Result<(), StoreError> {
    let facts =
        |n: &NewDecision<'_>| serde_json::to_string(&n.decision.facts).unwrap_or_else(|_| "{}".to_owned());
    sqlx::query(
        "INSERT INTO decisions (id, event_id, delivery_id, rule_key, code, detail, facts)
         SELECT id, event_id, delivery_id, rule_key, code, detail, facts::json
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[])
            AS d (id, event_id, delivery_id, rule_key, code, detail, facts)",
    )
    .bind(new.iter().map(|n| n.id.uuid()).collect::<Vec<_>>())
    .bind(new.iter().map(|n| n.event.uuid()).collect::<Vec<_>>())
    .bind(new.iter().map(|n| n.decision.delivery.map(TypedId::uuid)).collect::<Vec<_>>())
    .bind(new.iter().map(|n| n.decision.rule.as_deref()).collect::<Vec<_>>())
    .bind(new.iter().map(|n| n.decision.code.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|n| n.decision.detail.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(facts).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
