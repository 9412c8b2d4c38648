//! What a row of a source becomes: the change of a user, or an event.

use serde_json::{Map, Value, json};

use super::definition::{Definition, EventMapping, OnDelete};
use super::reader::SourceRow;
use crate::domain::app::App;
use crate::domain::clock::Timestamp;
use crate::people::accept::{Mode, UserChange};
use crate::people::import::mapping::{ImportSettings, Mapping, RowProblem};

/// What a row becomes.
#[derive(Debug, Clone)]
pub enum Reading {
    /// A change of a user.
    User(Box<UserChange>),
    /// An event, as it could be posted.
    Event(Value),
    /// Nothing: it is marked as deleted.
    Deleted,
    /// Nothing: it is too old to become an event.
    TooOld,
    /// It is set aside.
    Wrong(RowProblem),
}

/// How rows are read, for a source with known columns.
#[derive(Debug)]
pub enum RowMapping {
    /// As users.
    Users {
        /// The columns, in the mapping's order.
        header: Vec<String>,
        /// What they mean.
        mapping: Box<Mapping>,
        /// What becomes of users whose row is marked as deleted.
        on_delete: OnDelete,
    },
    /// As events.
    Events {
        /// What becomes of the columns.
        events: Box<EventMapping>,
        /// Columns that are no data of the event, unless they are listed as such.
        roles: Vec<String>,
    },
}

impl RowMapping {
    /// The mapping of a source with these columns.
    ///
    /// # Errors
    /// What does not fit, in one sentence.
    pub fn of(definition: &Definition, columns: &[String], app: &App) -> Result<Self, String> {
        let Some(events) = &definition.events else {
            let settings = definition.users.clone().unwrap_or_default();
            let settings = without_roles(settings, definition, columns);
            let mapping = Mapping::of(columns, &settings, app.alias_labels.clone())
                .map_err(|problem| problem.replace("the file has", "the source has"))?;
            let on_delete = definition.query.as_ref().map(|query| query.on_delete).unwrap_or_default();
            return Ok(Self::Users { header: columns.to_vec(), mapping: Box::new(mapping), on_delete });
        };
        let named = events
            .recipient
            .values()
            .chain(&events.type_column)
            .chain(&events.id)
            .chain(&events.time)
            .chain(events.data.iter().flatten());
        for name in named {
            if !columns.contains(name) {
                return Err(format!("the source has no column `{name}`; it has {}", columns.join(", ")));
            }
        }
        let roles = events
            .recipient
            .values()
            .chain(&events.type_column)
            .chain(&events.time)
            .cloned()
            .chain(roles_of(definition))
            .collect();
        Ok(Self::Events { events: Box::new(events.clone()), roles })
    }

    /// Each column with what it means, for display.
    pub fn described(&self) -> Vec<(String, String)> {
        match self {
            Self::Users { mapping, .. } => mapping.described(),
            Self::Events { events, .. } => {
                let recipient = events.recipient.iter();
                let recipient =
                    recipient.map(|(label, column)| (column.clone(), format!("recipient {label}")));
                let one = |column: &Option<String>, meaning: &str| {
                    column.iter().map(|column| (column.clone(), meaning.to_owned())).collect::<Vec<_>>()
                };
                recipient
                    .chain(one(&events.type_column, "type"))
                    .chain(one(&events.id, "id"))
                    .chain(one(&events.time, "time"))
                    .chain(events.data.iter().flatten().map(|column| (column.clone(), "data".to_owned())))
                    .collect()
            }
        }
    }

    /// What a row becomes at the source's time `now`.
    pub fn read(&self, row: &SourceRow, now: Timestamp) -> Reading {
        if row.id.is_empty() {
            let reason = "the row has no key".to_owned();
            return Reading::Wrong(RowProblem { column: String::new(), reason });
        }
        match self {
            Self::Users { header, mapping, on_delete } => user(row, header, mapping, *on_delete),
            Self::Events { .. } if row.is_deleted => Reading::Deleted,
            Self::Events { events, roles } => event(row, events, roles, now),
        }
    }
}

/// Columns with a role of their own: they say nothing about a user.
fn roles_of(definition: &Definition) -> Vec<String> {
    let query = definition.query.iter();
    let query = query.flat_map(|query| std::iter::once(query.watermark.clone()).chain(query.deleted.clone()));
    let outbox = definition.outbox.iter().map(|outbox| outbox.id.clone());
    query.chain(outbox).collect()
}

/// The settings with columns of another role left out, unless they are mapped.
fn without_roles(
    mut settings: ImportSettings,
    definition: &Definition,
    columns: &[String],
) -> ImportSettings {
    for role in roles_of(definition).into_iter().filter(|role| columns.contains(role)) {
        settings.columns.entry(role).or_insert_with(|| "ignore".to_owned());
    }
    settings
}

fn user(row: &SourceRow, header: &[String], mapping: &Mapping, on_delete: OnDelete) -> Reading {
    if row.is_deleted && on_delete == OnDelete::Nothing {
        return Reading::Deleted;
    }
    let text = |name: &String| match row.cells.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let fields: Vec<String> = header.iter().map(text).collect();
    let mut input = match mapping.user(&fields) {
        Ok(input) => input,
        Err(problem) => return Reading::Wrong(problem),
    };
    if row.is_deleted {
        let subscriptions = std::mem::take(&mut input.subscriptions);
        let tags = input.tags.take();
        input.properties.clear();
        match on_delete {
            OnDelete::Nothing => {}
            OnDelete::Unsubscribe => {
                let off =
                    |subscription| crate::domain::user::Subscription { enabled: Some(false), ..subscription };
                input.subscriptions = subscriptions.into_iter().map(off).collect();
            }
            OnDelete::Clear => {
                input.tags = tags.map(|tags| tags.into_keys().map(|name| (name, String::new())).collect());
            }
        }
    }
    Reading::User(Box::new(UserChange { input, mode: Mode::Upsert }))
}

fn event(row: &SourceRow, events: &EventMapping, roles: &[String], now: Timestamp) -> Reading {
    let cell = |column: &String| row.cells.get(column).filter(|value| !value.is_null());
    let text = |column: &String| {
        cell(column).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let at = |column: &str, reason: &str| {
        Reading::Wrong(RowProblem { column: column.to_owned(), reason: reason.to_owned() })
    };
    let kind = events.r#type.clone().or_else(|| events.type_column.as_ref().and_then(text));
    let Some(kind) = kind else {
        return at(events.type_column.as_deref().unwrap_or_default(), "the event's type is empty");
    };
    let time = match &events.time {
        None => None,
        Some(column) => match text(column).map(|text| text.parse::<Timestamp>()) {
            None => None,
            Some(Ok(time)) => Some(time),
            Some(Err(_)) => return at(column, "this is not a time with a time zone"),
        },
    };
    let oldest = now - chrono::TimeDelta::from_std(events.max_age).unwrap_or(chrono::TimeDelta::MAX);
    if time.or(row.changed_at).is_some_and(|time| time < oldest) {
        return Reading::TooOld;
    }
    let recipient: Map<String, Value> = events
        .recipient
        .iter()
        .filter_map(|(label, column)| Some((label.clone(), json!(text(column)?))))
        .collect();
    let data: Map<String, Value> = row
        .cells
        .iter()
        .filter(|(name, value)| {
            !value.is_null()
                && events
                    .data
                    .as_ref()
                    .map_or_else(|| !roles.contains(*name), |listed| listed.contains(*name))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let id = events.id.as_ref().map_or_else(|| Some(row.id.clone()), text);
    let mut event = json!({"id": id, "type": kind, "recipient": recipient, "data": data});
    if let Some(time) = time {
        event["time"] = json!(time);
    }
    Reading::Event(event)
}
