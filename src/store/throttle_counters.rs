//! How much of a rule's throttle each person has used.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{RuleId, TypedId};

/// One person under one rule, in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThrottleKey {
    /// The rule.
    pub rule: RuleId,
    /// SHA-256 of the person's label and id.
    pub person: [u8; 32],
    /// When the window began.
    pub window_start: Timestamp,
}

/// A request: how many messages, and how many are allowed in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// How many messages are to be sent.
    pub wanted: i32,
    /// How many are allowed in the window.
    pub max: i32,
}

/// Takes what is left of each throttle; returns how many messages may be sent. Rows are locked in the order of keys, so
/// that transactions can't deadlock.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn take(
    connection: &mut PgConnection,
    wishes: &BTreeMap<ThrottleKey, Wish>,
) -> Result<BTreeMap<ThrottleKey, i32>, StoreError> {
    let rules: Vec<Uuid> = wishes.keys().map(|k| k.rule.uuid()).collect();
    let people: Vec<Vec<u8>> = wishes.keys().map(|k| k.person.to_vec()).collect();
    let starts: Vec<Timestamp> = wishes.keys().map(|k| k.window_start).collect();
    sqlx::query(
        "INSERT INTO throttle_counters (rule_id, person, window_start, used)
         SELECT rule_id, person, window_start, 0
         FROM unnest($1::uuid[], $2::bytea[], $3::timestamptz[]) AS w (rule_id, person, window_start)
         ORDER BY rule_id, person, window_start
         ON CONFLICT DO NOTHING",
    )
    .bind(&rules)
    .bind(&people)
    .bind(&starts)
    .execute(&mut *connection)
    .await?;
    let used = lock_used(connection, (&rules, &people, &starts)).await?;
    let granted: BTreeMap<ThrottleKey, i32> = wishes
        .iter()
        .map(|(key, wish)| {
            let left = wish.max - used.get(key).copied().unwrap_or_default();
            (*key, wish.wanted.min(left).max(0))
        })
        .collect();
    sqlx::query(
        "UPDATE throttle_counters t SET used = t.used + g.granted
         FROM unnest($1::uuid[], $2::bytea[], $3::timestamptz[], $4::integer[])
            AS g (rule_id, person, window_start, granted)
         WHERE t.rule_id = g.rule_id AND t.person = g.person AND t.window_start = g.window_start",
    )
    .bind(&rules)
    .bind(&people)
    .bind(&starts)
    .bind(granted.values().copied().collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(granted)
}

/// Locks the rows of these keys and reads how much is used of each.
async fn lock_used(
    connection: &mut PgConnection,
    (rules, people, starts): (&[Uuid], &[Vec<u8>], &[Timestamp]),
) -> Result<BTreeMap<ThrottleKey, i32>, StoreError> {
    let rows = sqlx::query(
        "SELECT t.rule_id, t.person, t.window_start, t.used
         FROM throttle_counters t
         JOIN unnest($1::uuid[], $2::bytea[], $3::timestamptz[]) AS w (rule_id, person, window_start)
            USING (rule_id, person, window_start)
         ORDER BY t.rule_id, t.person, t.window_start
         FOR UPDATE OF t",
    )
    .bind(rules)
    .bind(people)
    .bind(starts)
    .fetch_all(connection)
    .await?;
    let mut used = BTreeMap::new();
    for row in rows {
        let rule: Uuid = row.try_get("rule_id")?;
        let person: Vec<u8> = row.try_get("person")?;
        let key = ThrottleKey {
            rule: RuleId::from_uuid(rule),
            person: person
                .try_into()
                .map_err(|_| StoreError::corrupt("throttle_counters", "person", rule))?,
            window_start: row.try_get("window_start")?,
        };
        used.insert(key, row.try_get::<i32, _>("used")?);
    }
    Ok(used)
}

impl Store {
    /// Deletes throttles whose windows began before `before`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_throttle_counters(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let gone = sqlx::query(
            "DELETE FROM throttle_counters
             WHERE ctid = ANY (ARRAY(SELECT ctid FROM throttle_counters WHERE window_start < $1 LIMIT $2))",
        )
        .bind(before)
        .bind(limit)
        .execute(self.pool())
        .await?;
        Ok(gone.rows_affected())
    }
}
