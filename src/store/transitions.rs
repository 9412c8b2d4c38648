//! Results: the answer of attempts and the moves of their deliveries, many batches in one statement.

use std::collections::HashSet;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::StoreError;
use super::ordering_lanes::Turns;
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
    /// What it came back with.
    pub answer: &'a BatchAnswer,
}

/// One delivery's move: from a state held under a claim to the state in `after`.
#[derive(Debug)]
pub struct Move<'a> {
    /// The delivery as it is afterwards.
    pub after: &'a Delivery,
    /// The owner under whose claim it moves; `None` for rows that nobody owns.
    pub worker: Option<WorkerId>,
    /// The epoch of that claim.
    pub epoch: i32,
    /// The batch it was in, or is still in while retrying.
    pub batch: Option<BatchId>,
    /// Whether a process died with it.
    pub crashed: bool,
}

/// Notes the answers of attempts.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn answer_attempts(
    connection: &mut PgConnection,
    results: &[AttemptResult<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = results.iter().map(|r| r.batch.uuid()).collect();
    sqlx::query(include_str!("sql/answer_attempts.sql"))
        .bind(ids)
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

/// Carries out moves. Each is guarded by owner and epoch; what was taken over meanwhile stays as it is.
/// Returns the claims, by delivery and epoch, under which deliveries did move: a process that lost its lease may write
/// two answers about one delivery at once, and only one of them holds. And whose turns have ended with it.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn carry_out(
    connection: &mut PgConnection,
    moves: &[Move<'_>],
    now: Timestamp,
) -> Result<(HashSet<(DeliveryId, i32)>, Turns), StoreError> {
    let (open, last): (Vec<&Move<'_>>, Vec<&Move<'_>>) =
        moves.iter().partition(|m| m.after.state.name().is_open());
    let mut moved = HashSet::with_capacity(moves.len());
    let mut ended = Turns::new();
    if !last.is_empty() {
        for (claim, turn) in finish(connection, &last, now).await? {
            moved.insert(claim);
            ended.extend(turn);
        }
    }
    if !open.is_empty() {
        moved.extend(reopen(connection, &open).await?);
    }
    Ok((moved, ended))
}

async fn finish(
    connection: &mut PgConnection,
    moves: &[&Move<'_>],
    now: Timestamp,
) -> Result<Vec<((DeliveryId, i32), Option<[u8; 32]>)>, StoreError> {
    let ids: Vec<Uuid> = moves.iter().map(|m| m.after.id.uuid()).collect();
    let finished = sqlx::query(include_str!("sql/finish_deliveries.sql"))
        .bind(ids)
        .bind(moves.iter().map(|m| m.worker.map(TypedId::uuid)).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.epoch).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.after.state.name().as_str()).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.batch.map(TypedId::uuid)).collect::<Vec<_>>())
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
    moves: &[&Move<'_>],
) -> Result<Vec<(DeliveryId, i32)>, StoreError> {
    let count = |value: u16| i16::try_from(value).unwrap_or(i16::MAX);
    let kept = |m: &Move<'_>| match m.after.state {
        DeliveryState::Retrying { .. } => m.batch.map(TypedId::uuid),
        _ => None,
    };
    let reopened: Vec<(Uuid, i32)> = sqlx::query_as(include_str!("sql/reopen_deliveries.sql"))
        .bind(moves.iter().map(|m| m.after.id.uuid()).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.worker.map(TypedId::uuid)).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.epoch).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.after.state.name().as_str()).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| due_of(m.after)).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| kept(m)).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| count(m.after.attempts)).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| count(m.after.generation)).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| count(m.after.pack_limit)).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.after.is_rechecked).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.after.first_attempt_at).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.after.first_ambiguous_at).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.crashed).collect::<Vec<_>>())
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
