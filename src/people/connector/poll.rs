//! One poll: from the connector's position until the source has nothing more.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::definition::{Definition, OnDelete};
use super::page::{Batch, Kind};
use super::reader::{Begun, Reader, SourceCount, SourceRow};
use super::{Connectors, PollError, definition_of, postgres};
use crate::domain::app::App;
use crate::domain::clock::Timestamp;
use crate::store::connectors::{self, Connector, PollEnd};
use crate::store::{StoreError, connector_rows};

/// Pages of one poll. The next poll goes on, so that others get their turn.
pub(super) const PAGES: usize = 200;
/// People of connectors in an app's outbox above which no more rows are read.
const MAX_WAITING: i64 = 5_000;
/// Rows that a connector may have set aside.
const MAX_SET_ASIDE: i64 = 10_000;
/// The maximum number of statements at the source between two transactions.
const STATEMENTS: u32 = 7;
/// How much longer than these a lease lasts.
const LEASE_MARGIN: Duration = Duration::from_mins(1);
/// How long a poll with more to read, or one whose rows wait, is put off.
const SOON: TimeDelta = TimeDelta::seconds(1);
/// After an error, the source is tried again after a minute at the latest.
const LONGEST_AFTER_ERROR: TimeDelta = TimeDelta::minutes(1);

/// A connector during a poll.
pub(super) struct Poll<'a> {
    pub connector: &'a Connector,
    pub definition: &'a Definition,
    pub app: &'a App,
    pub begun: Begun,
}

impl Poll<'_> {
    /// How long the lease lasts from `now` on.
    pub fn lease_until(&self, now: Timestamp) -> Timestamp {
        lease_until(self.definition, now)
    }
}

/// Long enough for the statements between two transactions, each as slow as it may be.
fn lease_until(definition: &Definition, now: Timestamp) -> Timestamp {
    now + span(definition.statement_timeout * STATEMENTS + LEASE_MARGIN)
}

fn span(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// What a poll reached.
#[derive(Debug, Default)]
pub(super) struct Reached {
    /// What it saw.
    pub observed: Value,
    /// The number of rows of the source, if they were counted.
    pub known_rows: Option<i64>,
    /// Whether there is more to read.
    pub has_more: bool,
}

impl Connectors {
    /// Polls a connector that is due. Returns whether there was one.
    ///
    /// # Errors
    /// [`StoreError`] when Herald's database is unavailable; the lease expires then.
    pub async fn run_once(&self) -> Result<bool, StoreError> {
        let now = self.people.clock.now();
        let until = now + span(LEASE_MARGIN);
        let Some(connector) = self.people.store.claim_connector(until, now).await? else { return Ok(false) };
        let definition = definition_of(&connector)?;
        let ended = self.poll(&connector, &definition).await;
        let now = self.people.clock.now();
        let interval = span(definition.interval);
        let (end, wait) = match ended {
            Ok(Reached { observed, known_rows, has_more }) => {
                let wait = if has_more { SOON.min(interval) } else { interval };
                (PollEnd { observed: Some(observed), known_rows, ..PollEnd::default() }, wait)
            }
            Err(PollError::Waits) => {
                let observed = json!({"waits": true});
                (PollEnd { observed: Some(observed), ..PollEnd::default() }, SOON.min(interval))
            }
            Err(PollError::Lost) => return Ok(true),
            Err(PollError::Stops(why)) => (PollEnd { stops: why, ..PollEnd::default() }, interval),
            Err(PollError::Store(error)) => {
                (PollEnd { error: error.with_causes(), ..PollEnd::default() }, SOON.min(interval))
            }
            Err(PollError::Source(error)) => {
                let wait = interval.min(LONGEST_AFTER_ERROR);
                (PollEnd { error: error.to_string(), ..PollEnd::default() }, wait)
            }
        };
        log_change(&connector, &end);
        self.people.store.finish_poll(&connector, &end, now + wait, now).await?;
        Ok(true)
    }

    async fn poll(&self, connector: &Connector, definition: &Definition) -> Result<Reached, PollError> {
        let app = self.app(definition).await?;
        self.hold(connector, definition).await?;
        if definition.shared_role().is_some() {
            return self.poll_shared(connector, definition, &app).await;
        }
        let mut reader = self.open(connector, definition).await?;
        self.poll_reader(connector, definition, &app, reader.as_mut()).await
    }

    /// Prolongs the lease by as long as the source may take.
    async fn hold(&self, connector: &Connector, definition: &Definition) -> Result<(), PollError> {
        let until = lease_until(definition, self.people.clock.now());
        let mut tx = self.people.store.begin().await?;
        if !connectors::hold(&mut tx, connector.id, connector.epoch, until).await? {
            return Err(PollError::Lost);
        }
        Ok(tx.commit().await.map_err(StoreError::from)?)
    }

    /// Opens a connector's source.
    pub(super) async fn open(
        &self,
        connector: &Connector,
        definition: &Definition,
    ) -> Result<Box<dyn Reader>, PollError> {
        let corrupt = |column| StoreError::corrupt("connectors", column, connector.id);
        let source = definition.source().ok_or_else(|| corrupt("definition"))?;
        let address = connector.connection.as_ref().ok_or_else(|| corrupt("connection"))?;
        let reading = postgres::Reading {
            name: connector.name.clone(),
            rows: definition.rows,
            statement_timeout: definition.statement_timeout,
        };
        Ok(postgres::open(address, source, reading).await?)
    }

    async fn poll_reader(
        &self,
        connector: &Connector,
        definition: &Definition,
        app: &App,
        reader: &mut dyn Reader,
    ) -> Result<Reached, PollError> {
        self.remove_consumed(connector, reader).await?;
        let begun = reader.begin(connector.position.as_ref()).await?;
        let counted = self.guard_count(connector, definition, reader).await?;
        let poll = Poll { connector, definition, app, begun };
        self.retry_set_aside(&poll, reader).await?;
        let mut reached = Reached { observed: observed(&poll, counted), ..Reached::default() };
        reached.known_rows = counted.map(|count| count.rows);
        for page in 0.. {
            self.wait_for_outbox(app).await?;
            let without = self.set_aside_ids(&poll).await?;
            let read = reader.page(&without, definition.batch.into()).await?;
            // The first page stores where the connector begins, even if there is nothing to read yet.
            let position = read.position.clone().or_else(|| poll.begun.position.clone());
            let read_again_from = read.read_again_from;
            let batch = Batch { rows: &read.rows, position, read_again_from, kind: Kind::New };
            let consumed = self.store_page(&poll, batch).await?;
            self.remove(connector, reader, &consumed).await?;
            if read.is_last || page + 1 >= PAGES {
                reached.has_more = !read.is_last;
                break;
            }
        }
        Ok(reached)
    }

    /// Stops if rows are missing that were there at the last count. Where rows can be marked as deleted, they are counted
    /// before each poll, otherwise now and then.
    async fn guard_count(
        &self,
        connector: &Connector,
        definition: &Definition,
        reader: &mut dyn Reader,
    ) -> Result<Option<SourceCount>, PollError> {
        let Some(query) = &definition.query else { return Ok(None) };
        let now = self.people.clock.now();
        let is_due = connector.counted_at.is_none_or(|at| at + span(query.count_every) <= now || at > now);
        if !is_due && query.on_delete == OnDelete::Nothing {
            return Ok(None);
        }
        let Some(count) = reader.count().await? else { return Ok(None) };
        let Some(known) = connector.known_rows.filter(|known| *known > 0) else { return Ok(Some(count)) };
        let missing = percent(known - count.rows, known);
        if missing > query.max_missing_percent {
            return Err(PollError::Stops(format!(
                "{missing:.0} % of rows are missing: the query has {} rows, and had {known}; nothing was changed",
                count.rows
            )));
        }
        Ok(Some(count))
    }

    /// Tries rows again that were set aside, with what the source has for them now.
    async fn retry_set_aside(&self, poll: &Poll<'_>, reader: &mut dyn Reader) -> Result<(), PollError> {
        let now = self.people.clock.now();
        let due =
            self.people.store.due_set_aside(poll.connector.id, poll.definition.batch.into(), now).await?;
        if due.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = due.iter().map(|row| row.row_id.clone()).collect();
        let rows = reader.rows(&ids).await?;
        let gone = gone_of(&ids, &rows);
        let kind = Kind::Again { due: &due, gone: &gone };
        let batch = Batch { rows: &rows, position: None, read_again_from: None, kind };
        let consumed = self.store_page(poll, batch).await?;
        self.remove(poll.connector, reader, &consumed).await
    }

    /// Ids of rows that pages leave out, because they were set aside.
    pub(super) async fn set_aside_ids(&self, poll: &Poll<'_>) -> Result<Vec<String>, PollError> {
        let ids = self.people.store.set_aside_ids(poll.connector.id, MAX_SET_ASIDE).await?;
        if i64::try_from(ids.len()).unwrap_or(i64::MAX) >= MAX_SET_ASIDE {
            return Err(PollError::Stops(format!(
                "{MAX_SET_ASIDE} rows are set aside: correct them at the source, or the mapping"
            )));
        }
        Ok(ids)
    }

    /// Reads no further while too many people of connectors wait in the outbox.
    pub(super) async fn wait_for_outbox(&self, app: &App) -> Result<(), PollError> {
        let mut tx = self.people.store.begin().await?;
        let waiting = connector_rows::count_waiting(&mut tx, app.id, MAX_WAITING + 1).await?;
        if waiting > MAX_WAITING { Err(PollError::Waits) } else { Ok(()) }
    }

    /// Deletes rows at the source that an earlier poll was done with.
    async fn remove_consumed(&self, connector: &Connector, reader: &mut dyn Reader) -> Result<(), PollError> {
        let consumed = self.people.store.consumed_rows(connector.id).await?;
        self.remove(connector, reader, &consumed).await
    }

    async fn remove(
        &self,
        connector: &Connector,
        reader: &mut dyn Reader,
        consumed: &[String],
    ) -> Result<(), PollError> {
        if consumed.is_empty() {
            return Ok(());
        }
        reader.remove(consumed).await?;
        Ok(self.people.store.forget_consumed(connector.id, consumed).await?)
    }
}

/// Those of these ids that a source has no row for any more.
pub(super) fn gone_of(ids: &[String], rows: &[SourceRow]) -> Vec<String> {
    let there: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    ids.iter().filter(|id| !there.contains(id.as_str())).cloned().collect()
}

/// What a poll saw, for display. Rows without a watermark are known from the last count.
fn observed(poll: &Poll<'_>, counted: Option<SourceCount>) -> Value {
    let begun = &poll.begun;
    let held_back = begun.held_back.as_ref().map(|held| json!({"by": held.by, "since": held.since}));
    let without = match counted {
        Some(count) => json!(count.without_watermark),
        None => poll.connector.observed["without_watermark"].clone(),
    };
    json!({
        "behind_seconds": (begun.now - begun.until).num_seconds().max(0),
        "held_back": held_back,
        "sees_transactions": begun.sees_transactions,
        "without_watermark": without,
    })
}

/// A share of rows in percent.
#[expect(clippy::cast_precision_loss, reason = "a share for comparison and display")]
fn percent(part: i64, whole: i64) -> f64 {
    part.max(0) as f64 * 100.0 / whole.max(1) as f64
}

/// Logs when a source fails, when it answers again, and when a connector stops; not each failure.
fn log_change(connector: &Connector, end: &PollEnd) {
    let (id, name) = (connector.id, &connector.name);
    if !end.stops.is_empty() {
        tracing::error!(connector.id = %id, "connector {name} was stopped: {}", end.stops);
    } else if !end.error.is_empty() && connector.last_error.is_empty() {
        tracing::error!(connector.id = %id, "connector {name} can't read its source: {}; trying again", end.error);
    } else if end.error.is_empty() && !connector.last_error.is_empty() {
        tracing::info!(connector.id = %id, "connector {name} reads its source again");
    }
}
