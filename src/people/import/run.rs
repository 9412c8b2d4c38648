//! Checking and running imports: a chunk of rows per transaction, together with the position.

use serde_json::{Value, json};
use uuid::Uuid;

use super::Format;
use super::mapping::{Mapping, RowProblem};
use super::records;
use super::stage::{read_format, read_settings, stop};
use crate::domain::app::App;
use crate::domain::clock::Timestamp;
use crate::domain::id::TypedId;
use crate::domain::user::{Known, Origin, next_call};
use crate::people::People;
use crate::people::accept::{AcceptedUser, Accepting, ChangeError, Mode, UserChange, aliases_of};
use crate::store::import_rows::{self, StagedRow};
use crate::store::imports::{self, Import, ImportState};
use crate::store::{StoreError, Tx};

/// Rows that are checked or accepted in one transaction.
const CHUNK: i64 = 1_000;
/// People of imports in an app's outbox above which no more are accepted.
const MAX_WAITING: i64 = 5_000;

impl People {
    /// Takes the next step of the oldest import that can take one. Returns the number of rows.
    ///
    /// # Errors
    /// [`StoreError`]; the step is repeated then.
    pub(in crate::people) async fn import_step(&self) -> Result<usize, StoreError> {
        let mut tried = Vec::new();
        loop {
            let mut tx = self.store.begin().await?;
            let Some(import) = imports::lock_active(&mut tx, &tried).await? else { return Ok(0) };
            tried.push(import.id);
            // One that waits, for its people or for its app, does not hold up the others.
            let rows = self.step(tx, import).await?;
            if rows > 0 {
                return Ok(rows);
            }
        }
    }

    async fn step(&self, mut tx: Tx, mut import: Import) -> Result<usize, StoreError> {
        let Some(app) = self.store.apps().await?.into_iter().find(|app| app.id == import.app) else {
            return Ok(0);
        };
        if import.format.is_some() && mapping_of(&import, &app).is_err() {
            stop(
                &mut import,
                "its columns can't be read any more: the app's alias labels have changed".to_owned(),
            );
            imports::update(&mut tx, &import).await?;
            tx.commit().await?;
            return Ok(0);
        }
        let now = self.clock.now();
        let runs = import.state == ImportState::Running;
        if runs && imports::count_waiting(&mut tx, app.id, MAX_WAITING + 1).await? > MAX_WAITING {
            return Ok(0);
        }
        let rows = import_rows::next_rows(&mut tx, import.id, import.position, CHUNK).await?;
        let count = rows.len();
        if let Some(last) = rows.last() {
            import.position = last.line;
            if !self.take_rows(&mut tx, &mut import, &app, &rows, runs).await? {
                return Ok(0);
            }
        }
        if i64::try_from(count).unwrap_or(i64::MAX) < CHUNK {
            self.end_of_rows(&mut tx, &mut import, now).await?;
        }
        imports::update(&mut tx, &import).await?;
        tx.commit().await?;
        Ok(count)
    }

    /// Compares rows with what is known, and accepts what changed if the import runs. `false`: someone else changed the
    /// same people; the step has to be repeated.
    async fn take_rows(
        &self,
        tx: &mut Tx,
        import: &mut Import,
        app: &App,
        rows: &[StagedRow],
        runs: bool,
    ) -> Result<bool, StoreError> {
        let (changes, lines) = changes_of(import, app, rows)?;
        let accepting =
            Accepting { app: app.id, origin: Origin::Import, skips_unchanged: true, is_dry: !runs };
        let Some(accepted) = self.try_accept(tx, accepting, &changes, self.clock.now()).await? else {
            return Ok(false);
        };
        let mut rejected = Vec::new();
        for (result, line) in accepted.results.iter().zip(&lines) {
            if let Err(error) = result {
                rejected.push((*line, json!(RowProblem { column: String::new(), reason: reason_of(error) })));
            }
        }
        let changed: Vec<Uuid> = accepted.changed.iter().copied().collect();
        if runs {
            import.counts.accepted += count(changed.len());
            imports::mark(tx, import.id, app.id, &changed).await?;
            import_rows::reject(tx, import.id, &rejected).await?;
            return Ok(true);
        }
        let is_new =
            |result: &&Result<AcceptedUser, ChangeError>| result.as_ref().is_ok_and(|user| user.is_new);
        let people: std::collections::BTreeSet<_> =
            accepted.results.iter().filter_map(|result| Some(result.as_ref().ok()?.user.uuid())).collect();
        let counts = &mut import.counts;
        counts.conflicts += count(rejected.len());
        counts.changed += count(changed.len());
        counts.unchanged += count(people.len()) - count(changed.len());
        let new: std::collections::BTreeSet<_> = accepted
            .results
            .iter()
            .filter(is_new)
            .filter_map(|result| Some(result.as_ref().ok()?.user.uuid()))
            .collect();
        counts.new_users += count(new.len());
        counts.removed_tags += count(accepted.removed_tags);
        Ok(true)
    }

    /// After the last row: what was checked is ready, what was accepted is done once it left the outbox.
    async fn end_of_rows(&self, tx: &mut Tx, import: &mut Import, now: Timestamp) -> Result<(), StoreError> {
        if import.state == ImportState::Checking {
            import.position = 0;
            import.state = ImportState::Ready;
            let max = read_settings(import)?.max_removed_tags;
            if max.is_some_and(|max| import.counts.removed_tags > max) {
                let removed = import.counts.removed_tags;
                stop(import, format!("{removed} tags would be removed, more than `max_removed_tags`"));
            }
        } else if !imports::is_waiting(tx, import.id).await? {
            import.state = ImportState::Done;
            import.finished_at = Some(now);
            import_rows::delete_good_rows(tx, import.id).await?;
        }
        Ok(())
    }

    /// Starts an import that is ready. Returns whether it was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start_import(&self, import: Uuid) -> Result<Option<ImportState>, StoreError> {
        let mut tx = self.store.begin().await?;
        let Some(mut import) = imports::lock(&mut tx, import).await? else { return Ok(None) };
        if import.state == ImportState::Ready {
            import.state = ImportState::Running;
            import.started_at = Some(self.clock.now());
            imports::update(&mut tx, &import).await?;
        }
        tx.commit().await?;
        self.wake();
        Ok(Some(import.state))
    }

    /// Cancels an import that has not ended; what was accepted before is written nevertheless. Returns its state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel_import(&self, import: Uuid) -> Result<Option<ImportState>, StoreError> {
        let mut tx = self.store.begin().await?;
        let Some(mut import) = imports::lock(&mut tx, import).await? else { return Ok(None) };
        if !matches!(import.state, ImportState::Done | ImportState::Cancelled) {
            import.state = ImportState::Cancelled;
            import.finished_at = Some(self.clock.now());
            import.tail = Vec::new();
            imports::update(&mut tx, &import).await?;
            import_rows::delete_good_rows(&mut tx, import.id).await?;
        }
        tx.commit().await?;
        Ok(Some(import.state))
    }
}

/// A good row, with the request that it makes for a new user.
#[derive(Debug, Clone)]
pub struct PreviewedRow {
    /// The physical line that it begins with.
    pub line: i64,
    /// The HTTP method.
    pub method: &'static str,
    /// The path below the app's base URL.
    pub path: String,
    /// The JSON body.
    pub body: Value,
}

impl People {
    /// What each column of an import means, and the request that each of its first good rows makes for a new user.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn preview(
        &self,
        import: &Import,
        app: &App,
        rows: i64,
    ) -> Result<(Vec<(String, String)>, Vec<PreviewedRow>), StoreError> {
        // Without a first line there are no columns; after a change of the app's labels they may not be readable.
        let Ok((_, mapping)) = mapping_of(import, app) else { return Ok((Vec::new(), Vec::new())) };
        let rows = self.store.import_rows(import.id, false, 0, rows).await?;
        let (changes, lines) = changes_of(import, app, &rows)?;
        let requests = changes.iter().zip(lines).filter_map(|(change, line)| {
            let known =
                Known { aliases: aliases_of(&change.input).collect(), creates: true, ..Known::default() };
            let call = next_call(&change.input.changes(true, |text| self.hash(text)), &known).call?;
            let (method, path, body) = self.provider.user_request(app, &call);
            Some(PreviewedRow { line, method, path, body: body.unwrap_or_default() })
        });
        Ok((mapping.described(), requests.collect()))
    }
}

fn mapping_of(import: &Import, app: &App) -> Result<(Format, Mapping), StoreError> {
    let corrupt = |column| StoreError::corrupt("imports", column, import.id);
    let format = read_format(import, import.format.as_ref().ok_or_else(|| corrupt("format"))?)?;
    let settings = read_settings(import)?;
    let mapping = Mapping::of(&format.header, &settings, app.alias_labels.clone());
    Ok((format, mapping.map_err(|_| corrupt("settings"))?))
}

/// The changes of rows, with the lines that they come from. Rows were checked when they were staged; one that is not
/// readable any more, because the app's labels changed, is left out.
fn changes_of(
    import: &Import,
    app: &App,
    rows: &[StagedRow],
) -> Result<(Vec<UserChange>, Vec<i64>), StoreError> {
    let (format, mapping) = mapping_of(import, app)?;
    let read = rows.iter().filter_map(|row| {
        let fields = records::fields(&row.raw, format.delimiter_byte());
        let input = mapping.user(&fields).ok()?;
        Some((UserChange { input, mode: Mode::Upsert }, row.line))
    });
    Ok(read.unzip())
}

fn reason_of(error: &ChangeError) -> String {
    error.to_string()
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
