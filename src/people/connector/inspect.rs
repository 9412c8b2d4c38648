//! A look at a connector's source: what it has, what its rows would become, and what should be changed.

use serde_json::{Value, json};

use super::reader::{Inspection, SourceRow};
use super::rows::{Reading, RowMapping};
use super::{Connectors, PollError, definition_of};
use crate::domain::app::App;
use crate::domain::user::{Known, next_call};
use crate::people::accept::aliases_of;
use crate::store::StoreError;
use crate::store::connectors::Connector;

/// What a look at a source found.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Why the source can't be read, or the mapping does not fit; empty if all is well.
    pub problem: String,
    /// The columns with their types and what they mean.
    pub columns: Vec<(String, String, String)>,
    /// The number of rows, if the source has one.
    pub rows: Option<i64>,
    /// What the first rows would become.
    pub preview: Vec<Value>,
    /// Which guarantee holds.
    pub guarantee: String,
    /// What should be changed at the source.
    pub warnings: Vec<String>,
}

impl Connectors {
    /// Looks at a connector's source. Nothing is stored, and nothing is deleted there.
    ///
    /// # Errors
    /// [`StoreError`] when Herald's database is unavailable.
    pub async fn look(&self, connector: &Connector) -> Result<Look, StoreError> {
        match self.try_look(connector).await {
            Ok(look) => Ok(look),
            Err(PollError::Store(error)) => Err(error),
            Err(error) => Ok(Look { problem: error.to_string(), ..Look::default() }),
        }
    }

    async fn try_look(&self, connector: &Connector) -> Result<Look, PollError> {
        let definition = definition_of(connector)?;
        let app = self.app(&definition).await?;
        let found = if definition.shared_role().is_some() {
            self.inspect_shared(connector, &definition).await?
        } else {
            self.open(connector, &definition).await?.inspect().await?
        };
        let names: Vec<String> = found.columns.iter().map(|(name, _)| name.clone()).collect();
        let Inspection { columns, rows, count, guarantee, warnings } = found;
        let look = Look { rows: count.map(|count| count.rows), guarantee, warnings, ..Look::default() };
        let mapping = match RowMapping::of(&definition, &names, &app) {
            Ok(mapping) => mapping,
            Err(problem) => return Ok(Look { problem, ..look }),
        };
        let meanings = mapping.described();
        let meaning = |name: &str| {
            let found = meanings.iter().find(|(column, _)| column == name);
            found.map_or_else(String::new, |(_, meaning)| meaning.clone())
        };
        Ok(Look {
            columns: columns
                .into_iter()
                .map(|(name, kind)| {
                    let meaning = meaning(&name);
                    (name, kind, meaning)
                })
                .collect(),
            preview: rows.iter().map(|row| self.previewed(row, &mapping, &app)).collect(),
            ..look
        })
    }

    /// What a row would become, for a user as the request that a new user would get.
    fn previewed(&self, row: &SourceRow, mapping: &RowMapping, app: &App) -> Value {
        // Its age does not matter here: `now` is the row's own time.
        let now = row.changed_at.unwrap_or_else(|| self.people.clock.now());
        let what = match mapping.read(row, now) {
            Reading::Deleted => json!({"deleted": true}),
            Reading::TooOld => json!({"too_old": true}),
            Reading::Wrong(problem) => json!({"problem": problem}),
            Reading::Event(event) => json!({"event": event}),
            Reading::User(change) => {
                let known =
                    Known { aliases: aliases_of(&change.input).collect(), creates: true, ..Known::default() };
                let changes = change.input.changes(true, |text| self.people.hash(text));
                match next_call(&changes, &known).call {
                    Some(call) => {
                        let (method, path, body) = self.people.provider.user_request(app, &call);
                        json!({"method": method, "path": path, "body": body})
                    }
                    None => json!({"unchanged": true}),
                }
            }
        };
        json!({"row": row.id, "becomes": what})
    }
}
