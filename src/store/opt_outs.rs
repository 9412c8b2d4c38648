//! Opt-outs that outcomes cause.

use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;

/// A channel that a person gets no more messages on, and why.
#[derive(Debug, Clone, Copy)]
pub struct OptOut {
    /// The person.
    pub user: Uuid,
    /// The channel.
    pub channel: Channel,
    /// What happened: `bounced`, `complained` …
    pub reason: &'static str,
}

/// Opts people out. An opt-out that exists keeps its reason.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_all(
    connection: &mut PgConnection,
    opt_outs: &[OptOut],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO user_opt_outs (user_id, channel, since, reason)
         SELECT o.user_id, o.channel::channel, $4, o.reason
         FROM unnest($1::uuid[], $2::text[], $3::text[]) AS o (user_id, channel, reason)
         ORDER BY 1, 2
         ON CONFLICT DO NOTHING",
    )
    .bind(opt_outs.iter().map(|out| out.user).collect::<Vec<_>>())
    .bind(opt_outs.iter().map(|out| out.channel.as_str()).collect::<Vec<_>>())
    .bind(opt_outs.iter().map(|out| out.reason).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}
