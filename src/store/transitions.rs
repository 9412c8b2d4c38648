//! Results: the answers to attempts and the transitions of their deliveries, many batches in one statement.

use std::collections::HashSet;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::StoreError;
use super::days::{Days, parts, rounds};
use super::ordering_lanes::OrderDigests;
use crate::domain::answer::BatchAnswer;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::{Delivery, DeliveryState};
use crate::domain::id::{BatchId, DeliveryId, TypedId, WorkerId};

/// The answer to one attempt.
#[derive(Debug)]
pub struct AttemptResult<'a> {
    /// The batch.
    pub batch: BatchId,
    /// The attempt's number.
    pub n: i32,
    /// Its classified answer.
    pub answer: &'a BatchAnswer,
}

/// One delivery's transition: from a state held under a claim to the state in `after`.
#[derive(Debug)]
pub struct TransitionRow<'a> {
    /// The delivery afterwards.
    pub after: &'a Delivery,
    /// The owner of the claim; `None` for rows without an owner.
    pub worker: Option<WorkerId>,
    /// The epoch of that claim.
    pub epoch: i32,
    /// The batch it was in, or is still in while retrying.
    pub batch: Option<BatchId>,
    /// Whether a process died with it.
    pub crashed: bool,
}

/// Stores the answers to attempts.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn answer_attempts(
    connection: &mut PgConnection,
    results: &[AttemptResult<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    for (days, results) in parts(results, |r| r.batch.uuid()) {
        answer_part(connection, days, &results, now).await?;
    }
    Ok(())
}

async fn answer_part(
    connection: &mut PgConnection,
    days: Days,
    results: &[&AttemptResult<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(days.fill(include_str!("sql/answer_attempts.sql")))
        .bind(results.iter().map(|r| r.batch.uuid()).collect::<Vec<_>>())
        .bind(results.iter().map(|r| r.n).collect::<Vec<_>>())
        .bind(results.iter().map(|r| r.answer.verdict.code()).collect::<Vec<_>>())
        .bind(results.iter().map(|r| r.answer.status.and_then(|s| i16::try_from(s).ok())).collect::<Vec<_>>())
        .bind(results.iter().map(|r| message_of(r.answer)).collect::<Vec<_>>())
        .bind(results.iter().map(|r| r.answer.is_replay).collect::<Vec<_>>())
        .bind(results.iter().map(|r| r.answer.body.as_deref()).collect::<Vec<_>>())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

fn message_of(answer: &BatchAnswer) -> Option<&str> {
    use crate::domain::answer::Verdict;
    match &answer.verdict {
        Verdict::Accepted { message, .. } => Some(&message.0),
        Verdict::NobodySubscribed { .. }
        | Verdict::Refused { .. }
        | Verdict::KeyRefused { .. }
        | Verdict::AppUnusable { .. }
        | Verdict::TemplateUnknown
        | Verdict::RateLimited { .. }
        | Verdict::NotConnected { .. }
        | Verdict::Conflict
        | Verdict::Ambiguous { .. } => None,
    }
}

/// Applies transitions. Each is guarded by owner and epoch; what was taken over meanwhile is left alone. Returns the
/// claims, by delivery and epoch, whose transition took place: a process that lost its lease may write two answers for
/// one delivery at once, and only one of them is applied. Also returns the ordering lanes whose head has ended.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn apply(
    connection: &mut PgConnection,
    rows: &[TransitionRow<'_>],
    now: Timestamp,
) -> Result<(HashSet<(DeliveryId, i32)>, OrderDigests), StoreError> {
    let (open, last): (Vec<&TransitionRow<'_>>, Vec<&TransitionRow<'_>>) =
        rows.iter().partition(|m| m.after.state.name().is_open());
    let mut applied = HashSet::with_capacity(rows.len());
    let mut ended = OrderDigests::new();
    for (days, last) in parts(last, |m| m.after.id.uuid()) {
        for (claim, turn) in finish(connection, days, &last, now).await? {
            applied.insert(claim);
            ended.extend(turn);
        }
    }
    for open in rounds(open, |m| m.after.id.uuid()) {
        applied.extend(reopen(connection, &open.into_values().collect::<Vec<_>>()).await?);
    }
    Ok((applied, ended))
}

async fn finish(
    connection: &mut PgConnection,
    days: Days,
    rows: &[&TransitionRow<'_>],
    now: Timestamp,
) -> Result<Vec<((DeliveryId, i32), Option<[u8; 32]>)>, StoreError> {
    let finished = sqlx::query(days.fill(include_str!("sql/finish_deliveries.sql")))
        .bind(rows.iter().map(|m| m.after.id.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.worker.map(TypedId::uuid)).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.epoch).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.after.state.name().as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.batch.map(TypedId::uuid)).collect::<Vec<_>>())
        .bind(now)
        .fetch_all(connection)
        .await?;
    finished
        .iter()
        .map(|row| {
            let id = DeliveryId::from_uuid(row.try_get("id")?);
            let turn: Option<Vec<u8>> = row.try_get("order_digest")?;
            let corrupt = |_| StoreError::corrupt("queue", "order_digest", id);
            let claim = (id, row.try_get("claim_epoch")?);
            Ok((claim, turn.map(TryInto::try_into).transpose().map_err(corrupt)?))
        })
        .collect()
}

async fn reopen(
    connection: &mut PgConnection,
    rows: &[&TransitionRow<'_>],
) -> Result<Vec<(DeliveryId, i32)>, StoreError> {
    let count = |value: u16| i16::try_from(value).unwrap_or(i16::MAX);
    let kept = |m: &TransitionRow<'_>| match m.after.state {
        DeliveryState::Retrying { .. } => m.batch.map(TypedId::uuid),
        _ => None,
    };
    let reopened: Vec<(Uuid, i32)> = sqlx::query_as(include_str!("sql/reopen_deliveries.sql"))
        .bind(rows.iter().map(|m| m.after.id.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.worker.map(TypedId::uuid)).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.epoch).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.after.state.name().as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| due_of(m.after)).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| kept(m)).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| count(m.after.attempts)).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| count(m.after.generation)).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| count(m.after.pack_limit)).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.after.is_rechecked).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.after.first_attempt_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.after.first_ambiguous_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|m| m.crashed).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(reopened.into_iter().map(|(id, epoch)| (DeliveryId::from_uuid(id), epoch)).collect())
}

fn due_of(delivery: &Delivery) -> Option<Timestamp> {
    match delivery.state {
        DeliveryState::Queued { due_at } | DeliveryState::Retrying { due_at } => Some(due_at),
        _ => None,
    }
}
