//! Lists of the history, newest first: they read the latest days, and older ones only if the page is not full.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{Days as Span, NaiveDate, NaiveTime};
use parking_lot::Mutex;
use uuid::Uuid;

use super::days::{Days, day_of};
use super::{Store, StoreError};
use crate::domain::id::floor;

/// How long it is believed which of the older days have no rows. None are added to them unless the database's clock goes
/// back by more than a day.
const BELIEVED: Duration = Duration::from_mins(1);
/// The days up to the newest partition that the first window contains: those that are created ahead, today and yesterday.
const RECENT: u64 = 4;
/// How many days with rows the windows after the first one contain; a last one contains the rest.
const OLDER: [usize; 2] = [8, 64];

/// The days of a table.
#[derive(Debug, Clone)]
struct Known {
    /// The first of the recent days.
    recent: Uuid,
    /// Older days that have rows, newest first.
    older: Vec<Uuid>,
}

/// What is known about the days of each table, and since when.
#[derive(Debug, Default)]
pub(super) struct KnownDays(Mutex<HashMap<&'static str, (Instant, Known)>>);

impl Store {
    /// The windows in which rows of a table with ids from `low` to `high` are searched, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(super) async fn windows(
        &self,
        table: &'static str,
        low: Uuid,
        high: Uuid,
    ) -> Result<Vec<Days>, StoreError> {
        let known = self.known_days(table).await?;
        let mut windows = Vec::new();
        if high >= known.recent {
            windows.push(Days::since(known.recent.max(low)));
        }
        let days: Vec<Uuid> =
            known.older.into_iter().filter(|day| day_of(low) <= day_of(*day) && *day <= high).collect();
        let mut rest = days.as_slice();
        for size in OLDER.into_iter().chain([usize::MAX]) {
            let (window, after) = rest.split_at(size.min(rest.len()));
            if let [newest, ..] = window
                && let Some(oldest) = window.last()
            {
                windows.push(Days::between(*oldest, *newest));
            }
            rest = after;
        }
        Ok(windows)
    }

    /// Each day of a table that may have rows, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(super) async fn each_day(&self, table: &'static str) -> Result<Vec<Days>, StoreError> {
        let known = self.known_days(table).await?;
        let recent = (0..=RECENT).map(|later| Days::days_after(known.recent, later)).rev();
        Ok(recent.chain(known.older.into_iter().map(Days::of)).collect())
    }

    async fn known_days(&self, table: &'static str) -> Result<Known, StoreError> {
        if let Some((at, known)) = self.known_days.0.lock().get(table)
            && at.elapsed() < BELIEVED
        {
            return Ok(known.clone());
        }
        // By its size: a day without rows has no pages. Statistics may be missing.
        let days: Vec<(String, bool)> = sqlx::query_as(
            "SELECT right(c.relname, 8), pg_relation_size(c.oid) > 0
             FROM pg_class c
             WHERE c.relname >= $1 || '_0' AND c.relname < $1 || '_:' AND c.relkind = 'r'
               AND c.relnamespace = current_schema()::regnamespace
             ORDER BY c.relname DESC",
        )
        .bind(table)
        .fetch_all(self.pool())
        .await?;
        let start = |day: NaiveDate| floor(day.and_time(NaiveTime::MIN).and_utc());
        let days: Vec<(NaiveDate, bool)> = days
            .into_iter()
            .filter_map(|(day, has_rows)| Some((NaiveDate::parse_from_str(&day, "%Y%m%d").ok()?, has_rows)))
            .collect();
        let newest = days.first().map(|(day, _)| *day).unwrap_or_default();
        let recent = newest.checked_sub_days(Span::new(RECENT)).unwrap_or(newest);
        let older = days.into_iter().filter(|(day, has_rows)| *has_rows && *day < recent);
        let known = Known { recent: start(recent), older: older.map(|(day, _)| start(day)).collect() };
        self.known_days.0.lock().insert(table, (Instant::now(), known.clone()));
        Ok(known)
    }
}
