//! What a connector reads, and what becomes of its rows, as a file or a request says it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::people::import::mapping::ImportSettings;

/// The limits of the times in a definition.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
const MAX_LOOKBACK: Duration = Duration::from_hours(24);
const MAX_BATCH: u16 = 2_000;
const STATEMENT_TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// What the rows of a source become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// Users.
    Users,
    /// Events.
    Events,
}

/// A connector's definition. Exactly one of `query` and `outbox` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// What rows become.
    pub rows: RowKind,
    /// The app of users, by name or OneSignal ID; the default app if omitted.
    #[serde(default)]
    pub app: Option<String>,
    /// How often the source is read.
    #[serde(default = "half_a_minute", with = "humantime_serde")]
    pub interval: Duration,
    /// The longest statement at the source.
    #[serde(default = "half_a_minute", with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// Rows that are read and stored at once.
    #[serde(default = "five_hundred")]
    pub batch: u16,
    /// Rows of a query, by a watermark.
    #[serde(default)]
    pub query: Option<QuerySource>,
    /// Rows of an outbox table, which are deleted once they are accepted.
    #[serde(default)]
    pub outbox: Option<OutboxSource>,
    /// What the columns of users mean.
    #[serde(default)]
    pub users: Option<ImportSettings>,
    /// How a row becomes an event.
    #[serde(default)]
    pub events: Option<EventMapping>,
}

/// Rows of a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuerySource {
    /// One SELECT statement.
    pub sql: String,
    /// The column that identifies a row.
    pub key: String,
    /// The column with the time of a row's last change.
    pub watermark: String,
    /// The time zone of a watermark of type `timestamp`.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// Where the first run begins.
    #[serde(default)]
    pub start: Start,
    /// How far each poll reads back, for rows that were committed late.
    #[serde(default = "five_minutes", with = "humantime_serde")]
    pub lookback: Duration,
    /// The column that marks a row as deleted: by any value other than NULL, the empty text and `false`.
    #[serde(default)]
    pub deleted: Option<String>,
    /// What becomes of the user of such a row.
    #[serde(default)]
    pub on_delete: OnDelete,
    /// The connector stops if more rows than this share of the last count are missing, in percent.
    #[serde(default = "ten")]
    pub max_missing_percent: f64,
    /// How often the rows are counted.
    #[serde(default = "one_hour", with = "humantime_serde")]
    pub count_every: Duration,
}

/// Rows of an outbox table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxSource {
    /// The table, such as `crm.herald_outbox`.
    pub table: String,
    /// The column with the rows' order, an integer.
    #[serde(default = "id")]
    pub id: String,
    /// The column that says whose row it is; every row stands alone if omitted.
    #[serde(default)]
    pub key: Option<String>,
    /// The channel that the source notifies of new rows.
    #[serde(default)]
    pub channel: Option<String>,
    /// For a table in Herald's own database: the role that may read it and delete from it.
    #[serde(default)]
    pub shared_role: Option<String>,
}

/// Where the first run begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With rows that change from then on.
    #[default]
    Now,
    /// With the oldest row.
    Beginning,
}

/// What becomes of the user of a row that is marked as deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// Nothing.
    #[default]
    Nothing,
    /// The row's email and SMS subscriptions are switched off.
    Unsubscribe,
    /// The row's tags are removed.
    Clear,
}

/// How a row becomes an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventMapping {
    /// The source that the events belong to.
    pub source: String,
    /// The type of every event.
    #[serde(default)]
    pub r#type: Option<String>,
    /// Or the column with the type.
    #[serde(default)]
    pub type_column: Option<String>,
    /// The column with the event's id; the row's key or outbox id if omitted.
    #[serde(default)]
    pub id: Option<String>,
    /// The recipient: one label with the column of its id, and facts with theirs.
    pub recipient: BTreeMap<String, String>,
    /// The columns of the event's data; all that have no other role if omitted.
    #[serde(default)]
    pub data: Option<Vec<String>>,
    /// The column with the time of the event.
    #[serde(default)]
    pub time: Option<String>,
    /// Rows that are older become no events.
    #[serde(default = "one_day", with = "humantime_serde")]
    pub max_age: Duration,
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}
fn five_hundred() -> u16 {
    500
}
fn five_minutes() -> Duration {
    Duration::from_mins(5)
}
fn one_hour() -> Duration {
    Duration::from_hours(1)
}
fn one_day() -> Duration {
    Duration::from_hours(24)
}
fn ten() -> f64 {
    10.0
}
fn id() -> String {
    "id".to_owned()
}

/// What is wrong with a definition, with a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionProblem {
    /// The field.
    pub pointer: &'static str,
    /// What is wrong, and what is right.
    pub detail: String,
}

/// Where a connector reads.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A query.
    Query(&'a QuerySource),
    /// An outbox.
    Outbox(&'a OutboxSource),
}

impl Definition {
    /// Reads a stored definition.
    pub fn of(value: &Value) -> Option<Self> {
        serde_json::from_value(value.clone()).ok()
    }

    /// Where it reads; `None` if it does not name exactly one place.
    pub fn source(&self) -> Option<Source<'_>> {
        match (&self.query, &self.outbox) {
            (Some(query), None) => Some(Source::Query(query)),
            (None, Some(outbox)) => Some(Source::Outbox(outbox)),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }

    /// The role in Herald's own database, if the source is there.
    pub fn shared_role(&self) -> Option<&str> {
        self.outbox.as_ref().and_then(|outbox| outbox.shared_role.as_deref())
    }

    /// Whether another definition reads other rows, or makes something else of them.
    pub fn reads_otherwise(&self, other: &Self) -> bool {
        let plain = |definition: &Self| Self {
            interval: Duration::ZERO,
            statement_timeout: Duration::ZERO,
            batch: 0,
            ..definition.clone()
        };
        plain(self) != plain(other)
    }

    /// What is wrong with it, as far as that is known without the source.
    pub fn problems(&self) -> Vec<DefinitionProblem> {
        let mut problems = Vec::new();
        let mut wrong =
            |pointer, detail: &str| problems.push(DefinitionProblem { pointer, detail: detail.to_owned() });
        if !(INTERVAL.0..=INTERVAL.1).contains(&self.interval) {
            wrong("/interval", "the interval must be between 1s and 24h");
        }
        if !(STATEMENT_TIMEOUT.0..=STATEMENT_TIMEOUT.1).contains(&self.statement_timeout) {
            wrong("/statement_timeout", "the statement timeout must be between 1s and 5m");
        }
        if !(1..=MAX_BATCH).contains(&self.batch) {
            wrong("/batch", "1 to 2000 rows can be read at once");
        }
        match self.source() {
            None => wrong("/query", "give either `query` or `outbox`"),
            Some(Source::Query(query)) => query.problems(&mut wrong),
            Some(Source::Outbox(outbox)) => outbox.problems(self.rows, &mut wrong),
        }
        match (self.rows, &self.users, &self.events) {
            (RowKind::Users, _, None) | (RowKind::Events, None, Some(_)) => {}
            (RowKind::Users, _, Some(_)) => wrong("/events", "`events` is for rows that become events"),
            (RowKind::Events, Some(_), _) => wrong("/users", "`users` is for rows that become users"),
            (RowKind::Events, None, None) => wrong("/events", "say in `events` how a row becomes an event"),
        }
        if let Some(events) = &self.events {
            events.problems(&mut wrong);
        }
        if let Some(query) = &self.query
            && self.rows == RowKind::Events
            && query.on_delete != OnDelete::Nothing
        {
            wrong("/query/on_delete", "`on_delete` is for rows that become users");
        }
        problems
    }
}

impl QuerySource {
    fn problems(&self, wrong: &mut impl FnMut(&'static str, &str)) {
        let words = self.sql.trim_start().to_ascii_lowercase();
        if !(words.starts_with("select") || words.starts_with("with")) || self.sql.contains('\0') {
            wrong("/query/sql", "the query must be one SELECT statement");
        }
        for (pointer, column) in [("/query/key", &self.key), ("/query/watermark", &self.watermark)] {
            if !is_name(column) {
                wrong(pointer, "name a column of the query");
            }
        }
        if self.time_zone.as_ref().is_some_and(|zone| zone.parse::<chrono_tz::Tz>().is_err()) {
            wrong("/query/time_zone", "write an IANA name such as `Europe/Berlin`");
        }
        if self.lookback > MAX_LOOKBACK {
            wrong("/query/lookback", "a poll can't read back more than 24h");
        }
        if !(0.0..=100.0).contains(&self.max_missing_percent) {
            wrong("/query/max_missing_percent", "a share is between 0 and 100 percent");
        }
        if self.on_delete != OnDelete::Nothing && self.deleted.is_none() {
            wrong("/query/on_delete", "name the column that marks a row as deleted in `deleted`");
        }
    }
}

impl OutboxSource {
    fn problems(&self, rows: RowKind, wrong: &mut impl FnMut(&'static str, &str)) {
        let parts: Vec<&str> = self.table.split('.').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) {
            wrong("/outbox/table", "name the table as `schema.table`");
        }
        if !is_name(&self.id) {
            wrong("/outbox/id", "name the column with the order of the rows");
        }
        if rows == RowKind::Users && self.key.is_none() {
            wrong("/outbox/key", "name the column that says whose row it is");
        }
        if self.channel.as_ref().is_some_and(|channel| !is_name(channel)) {
            wrong("/outbox/channel", "a channel has 1 to 63 characters");
        }
        if self.shared_role.as_ref().is_some_and(|role| !is_name(role)) {
            wrong("/outbox/shared_role", "a role has 1 to 63 characters");
        }
        if self.shared_role.is_some() && self.channel.is_some() {
            wrong(
                "/outbox/channel",
                "a table in Herald's own database is read at each interval, without notifications",
            );
        }
    }
}

impl EventMapping {
    fn problems(&self, wrong: &mut impl FnMut(&'static str, &str)) {
        if self.r#type.is_some() == self.type_column.is_some() {
            wrong("/events/type", "give either `type` or `type_column`");
        }
        if !self.recipient.keys().any(|label| !FACTS.contains(&label.as_str())) {
            wrong(
                "/events/recipient",
                "name a label with its column, such as `external_id = \"customer_no\"`",
            );
        }
    }
}

/// Facts about a recipient that an event can carry, besides tags.
const FACTS: [&str; 4] = ["email", "phone", "language", "time_zone"];

/// Whether a text can be an identifier in Postgres.
fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(definition: Value) -> Vec<&'static str> {
        let read: Definition = serde_json::from_value(definition).unwrap();
        read.problems().into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn a_definition_says_what_is_wrong_with_it() {
        let query = json!({"sql": "SELECT 1", "key": "a", "watermark": "b"});
        assert!(problems(json!({"rows": "users", "query": query})).is_empty());
        assert_eq!(problems(json!({"rows": "users"})), ["/query"]);
        assert_eq!(problems(json!({"rows": "events", "query": query})), ["/events"]);
        assert_eq!(problems(json!({"rows": "users", "interval": "10ms", "query": query})), ["/interval"]);
        let update = json!({"sql": "UPDATE x SET y = 1", "key": "a", "watermark": "b", "time_zone": "CET/X"});
        assert_eq!(problems(json!({"rows": "users", "query": update})), ["/query/sql", "/query/time_zone"]);
        let outbox = json!({"table": "a.b.c", "shared_role": "crm", "channel": "x"});
        assert_eq!(
            problems(json!({"rows": "users", "outbox": outbox})),
            ["/outbox/table", "/outbox/key", "/outbox/channel"]
        );
        let events = json!({"source": "crm", "recipient": {"email": "mail"}});
        assert_eq!(
            problems(json!({"rows": "events", "query": query, "events": events})),
            ["/events/type", "/events/recipient"]
        );
    }

    #[test]
    fn another_interval_does_not_read_otherwise_and_another_query_does() {
        let of = |sql: &str, interval: &str| -> Definition {
            let query = json!({"sql": sql, "key": "a", "watermark": "b"});
            serde_json::from_value(json!({"rows": "users", "interval": interval, "query": query})).unwrap()
        };
        assert!(!of("SELECT 1", "1s").reads_otherwise(&of("SELECT 1", "1m")));
        assert!(of("SELECT 1", "1s").reads_otherwise(&of("SELECT 2", "1s")));
    }
}
