//! An outbox in Herald's own database: its rows are deleted in the transaction that stores them.
//!
//! The table is read and deleted from as the role that the definition names, never with Herald's own privileges. So a
//! definition can't reach a table of Herald, and the administrator decides which tables it can reach.

use serde_json::json;

use super::definition::{Definition, OutboxSource};
use super::page::{Batch, Kind};
use super::poll::{PAGES, Poll, Reached, gone_of};
use super::postgres::outbox;
use super::reader::{Begun, Inspection, SourceError, SourceRow};
use super::{Connectors, PollError};
use crate::domain::app::App;
use crate::store::connector_rows::SetAsideRow;
use crate::store::connectors::Connector;
use crate::store::{Committed, StoreError, Tx, commit};

/// Rows that a look at a source returns.
const LOOKED_AT: i64 = 5;

impl Connectors {
    pub(super) async fn poll_shared(
        &self,
        connector: &Connector,
        definition: &Definition,
        app: &App,
    ) -> Result<Reached, PollError> {
        let outbox = outbox_of(connector, definition)?;
        let now = self.people.clock.now();
        let begun = Begun { now, until: now, held_back: None, sees_transactions: true, position: None };
        let poll = Poll { connector, definition, app, begun };
        let due = self.people.store.due_set_aside(connector.id, definition.batch.into(), now).await?;
        if !due.is_empty() {
            self.take_shared(&poll, outbox, &due).await?;
        }
        let observed = json!({"behind_seconds": 0, "sees_transactions": true});
        let mut reached = Reached { observed, ..Reached::default() };
        for page in 0.. {
            self.wait_for_outbox(app).await?;
            let count = self.take_shared(&poll, outbox, &[]).await?;
            reached.has_more = i64::try_from(count).unwrap_or(i64::MAX) >= i64::from(definition.batch);
            if !reached.has_more || page + 1 >= PAGES {
                break;
            }
        }
        Ok(reached)
    }

    /// Takes the next rows, or those that were set aside and are due: read, stored and deleted in one transaction.
    async fn take_shared(
        &self,
        poll: &Poll<'_>,
        outbox: &OutboxSource,
        due: &[SetAsideRow],
    ) -> Result<usize, PollError> {
        let without = self.set_aside_ids(poll).await?;
        let mut tx = self.people.store.begin().await?;
        become_role(&mut tx, outbox).await?;
        let ids: Vec<String> = due.iter().map(|row| row.row_id.clone()).collect();
        let rows: Vec<SourceRow> = if due.is_empty() {
            outbox::next_rows(&mut tx, outbox, poll.definition.rows, &without, poll.definition.batch.into())
                .await?
        } else {
            outbox::rows_of(&mut tx, outbox, poll.definition.rows, &ids).await?
        };
        become_herald(&mut tx).await?;
        if rows.is_empty() && due.is_empty() {
            return Ok(0);
        }
        let gone = gone_of(&ids, &rows);
        let kind = if due.is_empty() { Kind::New } else { Kind::Again { due, gone: &gone } };
        let batch = Batch { rows: &rows, position: None, read_again_from: None, kind };
        let prepared = self.prepare(poll, batch).await?;
        let Some(consumed) = self.store_prepared(&mut tx, poll, &prepared).await? else {
            return Err(
                SourceError("the same users are being changed by others; trying again".to_owned()).into()
            );
        };
        if !consumed.is_empty() {
            become_role(&mut tx, outbox).await?;
            outbox::delete_rows(&mut tx, outbox, &consumed).await?;
            become_herald(&mut tx).await?;
        }
        match commit(tx).await {
            Committed::Yes => {
                self.people.wake();
                Ok(rows.len())
            }
            Committed::No(error) | Committed::Unclear(error) => Err(error.into()),
        }
    }

    /// Looks at an outbox in Herald's own database.
    pub(super) async fn inspect_shared(
        &self,
        connector: &Connector,
        definition: &Definition,
    ) -> Result<Inspection, PollError> {
        let outbox = outbox_of(connector, definition)?;
        let mut tx = self.people.store.begin().await?;
        become_role(&mut tx, outbox).await?;
        let columns = outbox::described(&mut tx, outbox).await?;
        let rows = outbox::next_rows(&mut tx, outbox, definition.rows, &[], LOOKED_AT).await?;
        let guarantee = if definition.events.is_none() {
            "every row is read exactly once: it is deleted in the transaction that stores the user"
        } else {
            "every row is read, at least once; an event that is read again is recognized by its id"
        };
        Ok(Inspection { columns, rows, guarantee: guarantee.to_owned(), ..Inspection::default() })
    }
}

fn outbox_of<'a>(connector: &Connector, definition: &'a Definition) -> Result<&'a OutboxSource, StoreError> {
    definition.outbox.as_ref().ok_or_else(|| StoreError::corrupt("connectors", "definition", connector.id))
}

/// Goes on as the role that the definition names, until [`become_herald`].
async fn become_role(tx: &mut Tx, outbox: &OutboxSource) -> Result<(), PollError> {
    let role = outbox.shared_role.as_deref().unwrap_or_default();
    let sees_herald: Option<bool> = sqlx::query_scalar(
        "SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = $1)
            OR has_table_privilege($1, 'connectors'::regclass, 'SELECT')
         WHERE EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)",
    )
    .bind(role)
    .fetch_optional(&mut **tx)
    .await
    .map_err(SourceError::from)?
    .flatten();
    match sees_herald {
        Some(false) => {}
        Some(true) => {
            let detail =
                format!("the role `{role}` may read Herald's tables: use one that may use the outbox only");
            return Err(SourceError(detail).into());
        }
        None => return Err(SourceError(format!("there is no role `{role}`")).into()),
    }
    sqlx::query("SELECT set_config('role', $1, true)")
        .bind(role)
        .execute(&mut **tx)
        .await
        .map_err(SourceError::from)?;
    Ok(())
}

async fn become_herald(tx: &mut Tx) -> Result<(), PollError> {
    sqlx::query("SELECT set_config('role', 'none', true)")
        .execute(&mut **tx)
        .await
        .map_err(SourceError::from)?;
    Ok(())
}
