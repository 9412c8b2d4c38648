//! Storing what was read: users, rows that were set aside and the position in one transaction.

use std::collections::{BTreeSet, HashMap};

use chrono::TimeDelta;
use serde_json::Value;

use super::poll::Poll;
use super::reader::{SourceError, SourceRow};
use super::rows::{Reading, RowMapping};
use super::{Connectors, PollError, Taken};
use crate::domain::clock::Timestamp;
use crate::domain::id::TypedId;
use crate::domain::user::Origin;
use crate::people::accept::{Accepting, ChangeError, UserChange};
use crate::people::import::mapping::RowProblem;
use crate::store::connector_rows::{self, SeenRow, SetAsideRow};
use crate::store::connectors::{self, RowCounts};
use crate::store::{Committed, Tx, commit};

/// How often a transaction is repeated because someone else changed the same people.
const TRIES: usize = 5;
/// When a row that was set aside is tried again at first, and at the latest.
const FIRST_RETRY: TimeDelta = TimeDelta::minutes(1);
const LAST_RETRY: TimeDelta = TimeDelta::hours(1);

/// Rows with what they are stored with.
pub(super) struct Batch<'a> {
    pub rows: &'a [SourceRow],
    pub position: Option<Value>,
    /// Rows of this time and later are read again by the next poll.
    pub read_again_from: Option<Timestamp>,
    pub kind: Kind<'a>,
}

/// Why rows were read.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// They come next.
    New,
    /// They were set aside. Those in `gone` are no longer in the source.
    Again { due: &'a [SetAsideRow], gone: &'a [String] },
}

/// Rows with what each became so far. Events are accepted, users are not yet.
pub(super) struct Prepared<'a> {
    rows: Vec<(&'a SourceRow, Outcome)>,
    seen: Vec<SeenRow>,
    position: Option<Value>,
    read_again_from: Option<Timestamp>,
    kind: Kind<'a>,
}

impl Prepared<'_> {
    /// Whether it has nothing to store but a position.
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && matches!(self.kind, Kind::New)
    }
}

/// What a row became so far.
enum Outcome {
    /// A user, who is yet to be accepted.
    User(Box<UserChange>),
    /// Its end is known.
    Ended(End),
}

/// The end of a row.
#[derive(Clone)]
enum End {
    Accepted,
    Unchanged,
    Repeated,
    Deleted,
    TooOld,
    Wrong(RowProblem),
}

impl Connectors {
    /// Stores rows. Returns the ids of an outbox's rows that are done with.
    pub(super) async fn store_page(
        &self,
        poll: &Poll<'_>,
        batch: Batch<'_>,
    ) -> Result<Vec<String>, PollError> {
        let prepared = self.prepare(poll, batch).await?;
        if prepared.is_empty() && prepared.position == poll.connector.position {
            return Ok(Vec::new());
        }
        for _ in 0..TRIES {
            let mut tx = self.people.store.begin().await?;
            let Some(consumed) = self.store_prepared(&mut tx, poll, &prepared).await? else { continue };
            if !consumed.is_empty() {
                connector_rows::note_consumed(&mut tx, poll.connector.id, &consumed).await?;
            }
            return match commit(tx).await {
                Committed::Yes => {
                    self.people.wake();
                    Ok(consumed)
                }
                Committed::No(error) | Committed::Unclear(error) => Err(error.into()),
            };
        }
        Err(SourceError("the same users are being changed by others; trying again".to_owned()).into())
    }

    /// Reads rows as users or events, without those that are recognized, and accepts the events.
    pub(super) async fn prepare<'a>(
        &self,
        poll: &Poll<'_>,
        batch: Batch<'a>,
    ) -> Result<Prepared<'a>, PollError> {
        let (fresh, seen) = self.without_seen(poll, &batch).await?;
        let Batch { position, read_again_from, kind, .. } = batch;
        let mut prepared = Prepared { rows: Vec::new(), seen, position, read_again_from, kind };
        let Some(first) = fresh.first() else { return Ok(prepared) };
        if let Some(query) = &poll.definition.query {
            refuse_equal_keys(&query.key, &fresh)?;
        }
        let columns: Vec<String> = first.cells.keys().cloned().collect();
        let mapping = RowMapping::of(poll.definition, &columns, poll.app).map_err(PollError::Stops)?;
        let (mut events, mut places) = (Vec::new(), Vec::new());
        for (place, row) in fresh.into_iter().enumerate() {
            let outcome = match mapping.read(row, poll.begun.now) {
                Reading::User(change) => Outcome::User(change),
                Reading::Event(event) => {
                    events.push(event);
                    places.push(place);
                    Outcome::Ended(End::Accepted)
                }
                Reading::Deleted => Outcome::Ended(End::Deleted),
                Reading::TooOld => Outcome::Ended(End::TooOld),
                Reading::Wrong(problem) => Outcome::Ended(End::Wrong(problem)),
            };
            prepared.rows.push((row, outcome));
        }
        for (place, taken) in places.into_iter().zip(self.accept_events(poll, events).await?) {
            prepared.rows[place].1 = Outcome::Ended(match taken {
                Taken::New => End::Accepted,
                Taken::Repeated => End::Repeated,
                Taken::Wrong(problem) => End::Wrong(problem),
            });
        }
        Ok(prepared)
    }

    async fn accept_events(&self, poll: &Poll<'_>, events: Vec<Value>) -> Result<Vec<Taken>, PollError> {
        let Some(mapping) = poll.definition.events.as_ref().filter(|_| !events.is_empty()) else {
            return Ok(Vec::new());
        };
        let count = events.len();
        let taken = self.intake.accept(poll.connector.id, &mapping.source, events).await;
        let taken = taken.map_err(SourceError)?;
        if taken.len() == count {
            Ok(taken)
        } else {
            Err(SourceError("events were accepted in part; trying again".to_owned()).into())
        }
    }

    /// Rows of the lookback window that were not read before, with how they are recognized later.
    async fn without_seen<'a>(
        &self,
        poll: &Poll<'_>,
        batch: &Batch<'a>,
    ) -> Result<(Vec<&'a SourceRow>, Vec<SeenRow>), PollError> {
        let Some(from) = batch.read_again_from else {
            return Ok((batch.rows.iter().collect(), Vec::new()));
        };
        let prints: Vec<(String, String)> = batch
            .rows
            .iter()
            .map(|row| {
                let content = format!("{:?}{}", row.changed_at, Value::Object(row.cells.clone()));
                (self.people.hash(&row.key), self.people.hash(&content))
            })
            .collect();
        let keys: Vec<String> = prints.iter().map(|(key, _)| key.clone()).collect();
        let known = self.people.store.seen_rows(poll.connector.id, &keys).await?;
        let mut fresh = Vec::new();
        let mut seen: HashMap<String, SeenRow> = HashMap::new();
        for (row, (key_hash, row_hash)) in batch.rows.iter().zip(prints) {
            if known.get(&key_hash) == Some(&row_hash) {
                continue;
            }
            fresh.push(row);
            if let Some(changed_at) = row.changed_at.filter(|at| *at >= from) {
                seen.insert(key_hash.clone(), SeenRow { key_hash, row_hash, changed_at });
            }
        }
        Ok((fresh, seen.into_values().collect()))
    }

    /// Stores prepared rows within a transaction. Returns the ids of an outbox's rows that are done with; `None`: someone
    /// else changed the same people, and it has to be repeated.
    pub(super) async fn store_prepared(
        &self,
        tx: &mut Tx,
        poll: &Poll<'_>,
        prepared: &Prepared<'_>,
    ) -> Result<Option<Vec<String>>, PollError> {
        let now = self.people.clock.now();
        let (id, epoch) = (poll.connector.id, poll.connector.epoch);
        if !connectors::hold(tx, id, epoch, poll.lease_until(now)).await? {
            return Err(PollError::Lost);
        }
        let Some(ends) = self.accept_users(tx, poll, prepared, now).await? else { return Ok(None) };
        let sorted = Sorted::of(prepared, &ends, now);
        let gone: &[String] = match prepared.kind {
            Kind::New => &[],
            Kind::Again { gone, .. } => gone,
        };
        let ids: Vec<String> = sorted.done.iter().chain(gone).cloned().collect();
        let dropped = connector_rows::drop_set_aside(tx, id, &ids, &sorted.keys).await?;
        if !sorted.set_aside.is_empty() {
            connector_rows::set_aside(tx, id, &sorted.set_aside).await?;
        }
        if let Some(from) = prepared.read_again_from {
            connector_rows::remember(tx, id, &prepared.seen, from).await?;
        }
        connectors::advance(tx, id, prepared.position.as_ref(), sorted.counts).await?;
        if poll.definition.outbox.is_none() {
            return Ok(Some(Vec::new()));
        }
        let waits: BTreeSet<&str> = sorted.set_aside.iter().map(|row| row.row_id.as_str()).collect();
        let consumed: BTreeSet<String> = sorted.done.into_iter().chain(dropped).collect();
        Ok(Some(consumed.into_iter().filter(|row| !waits.contains(row.as_str())).collect()))
    }

    /// Puts users into the outbox; returns the end of each row.
    async fn accept_users(
        &self,
        tx: &mut Tx,
        poll: &Poll<'_>,
        prepared: &Prepared<'_>,
        now: Timestamp,
    ) -> Result<Option<Vec<End>>, PollError> {
        let change = |(_, outcome): &(&SourceRow, Outcome)| match outcome {
            Outcome::User(change) => Some((**change).clone()),
            Outcome::Ended(_) => None,
        };
        let changes: Vec<UserChange> = prepared.rows.iter().filter_map(change).collect();
        let how =
            Accepting { app: poll.app.id, origin: Origin::Connector, skips_unchanged: true, is_dry: false };
        let (mut results, mut changed) = (Vec::new(), BTreeSet::new());
        if !changes.is_empty() {
            let Some(accepted) = self.people.try_accept(tx, how, &changes, now).await? else {
                return Ok(None);
            };
            (results, changed) = (accepted.results, accepted.changed);
        }
        let mut results = results.into_iter();
        let mut end = |outcome: &Outcome| match outcome {
            Outcome::Ended(end) => end.clone(),
            Outcome::User(_) => match results.next() {
                Some(Ok(user)) if changed.contains(&user.user.uuid()) => End::Accepted,
                Some(Ok(_)) | None => End::Unchanged,
                // Nothing of an erased person is kept, not even that there was a row.
                Some(Err(ChangeError::Erased)) => End::Deleted,
                Some(Err(error)) => {
                    End::Wrong(RowProblem { column: String::new(), reason: error.to_string() })
                }
            },
        };
        Ok(Some(prepared.rows.iter().map(|(_, outcome)| end(outcome)).collect()))
    }
}

/// Stops if a key names several rows: they would replace each other with each poll.
fn refuse_equal_keys(column: &str, rows: &[&SourceRow]) -> Result<(), PollError> {
    let mut seen = BTreeSet::new();
    if rows.iter().all(|row| row.id.is_empty() || seen.insert(row.id.as_str())) {
        return Ok(());
    }
    Err(PollError::Stops(format!("`{column}` does not identify a row: several rows have the same value")))
}

/// Rows by what is stored about them.
#[derive(Default)]
struct Sorted {
    counts: RowCounts,
    /// Ids of rows that are done with.
    done: Vec<String>,
    /// Keys with a row that succeeded: older rows of theirs need not be tried again.
    keys: Vec<String>,
    set_aside: Vec<SetAsideRow>,
}

impl Sorted {
    fn of(prepared: &Prepared<'_>, ends: &[End], now: Timestamp) -> Self {
        let is_good = |end: &End| !matches!(end, End::Wrong(_));
        let rows = || prepared.rows.iter().map(|(row, _)| *row).zip(ends).enumerate();
        let last_good: HashMap<&str, usize> = rows()
            .filter(|(_, (_, end))| is_good(end))
            .map(|(place, (row, _))| (row.key.as_str(), place))
            .collect();
        let mut sorted = Self::default();
        for (place, (row, end)) in rows() {
            sorted.counts.read += 1;
            let number = match end {
                End::Accepted => &mut sorted.counts.accepted,
                End::Unchanged => &mut sorted.counts.unchanged,
                End::Repeated => &mut sorted.counts.repeated,
                End::Deleted => &mut sorted.counts.deleted,
                End::TooOld => &mut sorted.counts.too_old,
                End::Wrong(_) if last_good.get(row.key.as_str()).is_some_and(|good| *good > place) => {
                    &mut sorted.counts.superseded
                }
                End::Wrong(problem) => {
                    sorted.set_aside.push(set_aside(row, problem, prepared.kind, now));
                    sorted.counts.set_aside += 1;
                    continue;
                }
            };
            *number += 1;
            sorted.done.push(row.id.clone());
        }
        sorted.keys = last_good.into_keys().map(str::to_owned).collect();
        sorted
    }
}

/// A row that is set aside, with when it is tried again: later each time.
fn set_aside(row: &SourceRow, problem: &RowProblem, kind: Kind<'_>, now: Timestamp) -> SetAsideRow {
    let earlier = match kind {
        Kind::New => None,
        Kind::Again { due, .. } => due.iter().find(|due| due.row_id == row.id),
    };
    let attempts = earlier.map_or(0, |earlier| earlier.attempts) + 1;
    let wait = FIRST_RETRY * 2_i32.saturating_pow(attempts.clamp(1, 8).unsigned_abs() - 1);
    SetAsideRow {
        row_id: row.id.clone(),
        key: row.key.clone(),
        field: problem.column.clone(),
        reason: problem.reason.clone(),
        attempts,
        first_at: earlier.map_or(now, |earlier| earlier.first_at),
        retry_at: now + wait.min(LAST_RETRY),
    }
}
