//! Days of the history, as the planner sees them.
//!
//! The history is partitioned by the day of its ids. A statement is planned for every day that its text does not rule
//! out, and locks them all; a parameter rules out nothing, because plans are reused for other values. So each statement
//! on the history contains the days that it reads as constants, and costs the same however many days are kept. The text
//! stays the same for a day and is prepared once.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::id::floor;

const MILLISECONDS: u128 = 24 * 60 * 60 * 1000;
/// Days that are read by one statement if ids are from several days.
const MOST_DAYS: u128 = 4;
/// What stands for a condition on a column in the text of a statement: `{days of d.id}` for these days, and
/// `{days from d.id}` for these and all later ones.
const MARK: (&str, &str) = ("{days ", "}");

/// Consecutive whole days in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Days {
    first: u128,
    /// Inclusive; `None`: up to the newest.
    last: Option<u128>,
}

pub(super) fn day_of(id: Uuid) -> u128 {
    (id.as_u128() >> 80) / MILLISECONDS
}

/// The smallest id of a day; `None` after the last day that ids can have.
fn start_of(day: u128) -> Option<Uuid> {
    let millis = day * MILLISECONDS;
    (millis >> 48 == 0).then(|| Uuid::from_u128(millis << 80))
}

impl Days {
    /// The day of an id.
    pub fn of(id: Uuid) -> Self {
        Self::between(id, id)
    }

    /// A number of days after the day of an id.
    pub fn days_after(id: Uuid, later: u64) -> Self {
        let day = day_of(id) + u128::from(later);
        Self { first: day, last: Some(day) }
    }

    /// From the day of one id to the day of another.
    pub fn between(first: Uuid, last: Uuid) -> Self {
        Self { first: day_of(first), last: Some(day_of(last)) }
    }

    /// From the day of an id to the newest.
    pub fn since(id: Uuid) -> Self {
        Self { first: day_of(id), last: None }
    }

    /// Where what followed something is: from the day before it to the newest. Ids follow the database's clock, which
    /// can go back, but not by a day.
    pub fn after(id: Uuid) -> Self {
        Self { first: day_of(id).saturating_sub(1), last: None }
    }

    /// From the day of a time to the newest.
    pub fn since_time(at: Timestamp) -> Self {
        Self::since(floor(at))
    }

    /// The bounds of each hour of its first day.
    pub fn hours(self) -> impl Iterator<Item = (Uuid, Uuid)> {
        let first = self.first * 24;
        let at = |hour: u128| Uuid::from_u128((hour * (MILLISECONDS / 24)) << 80);
        (first..first + 24).map(move |hour| (at(hour), at(hour + 1)))
    }

    /// The statement with its marks replaced by conditions on the columns in them.
    pub fn fill(self, text: &str) -> AssertSqlSafe<String> {
        let mut filled = String::with_capacity(text.len() + 256);
        let mut rest = text;
        while let Some((before, (mark, after))) =
            rest.split_once(MARK.0).and_then(|(before, after)| Some((before, after.split_once(MARK.1)?)))
        {
            let days = if mark.starts_with("from ") { Self { last: None, ..self } } else { self };
            filled.push_str(before);
            filled.push_str(&days.contain(mark.split_once(' ').map_or(mark, |(_, column)| column)));
            rest = after;
        }
        filled.push_str(rest);
        AssertSqlSafe(filled)
    }

    /// The condition that a column is of these days.
    fn contain(self, column: &str) -> String {
        let first = start_of(self.first).unwrap_or(Uuid::max());
        match self.last.and_then(|last| start_of(last + 1)) {
            Some(end) => format!("({column} >= '{first}' AND {column} < '{end}')"),
            None => format!("{column} >= '{first}'"),
        }
    }
}

/// Rows sorted by id. No round contains two rows with the same id: the second one becomes part of another.
pub(super) fn rounds<T>(
    rows: impl IntoIterator<Item = T>,
    id: impl Fn(&T) -> Uuid,
) -> Vec<BTreeMap<Uuid, T>> {
    let mut rounds: Vec<BTreeMap<Uuid, T>> = Vec::new();
    for row in rows {
        let key = id(&row);
        let mut row = Some(row);
        for round in &mut rounds {
            if let std::collections::btree_map::Entry::Vacant(free) = round.entry(key)
                && let Some(row) = row.take()
            {
                free.insert(row);
                break;
            }
        }
        if let Some(row) = row {
            rounds.push(BTreeMap::from([(key, row)]));
        }
    }
    rounds
}

/// The same, with a few days together.
pub(super) fn parts<T>(rows: impl IntoIterator<Item = T>, id: impl Fn(&T) -> Uuid) -> Vec<(Days, Vec<T>)> {
    let mut parts: Vec<(Days, Vec<T>)> = Vec::new();
    for round in rounds(rows, id) {
        let begun = parts.len();
        for (id, row) in round {
            match parts.get_mut(begun..).and_then(<[_]>::last_mut) {
                Some((days, rows)) if day_of(id) < days.first + MOST_DAYS => {
                    days.last = Some(day_of(id));
                    rows.push(row);
                }
                _ => parts.push((Days::of(id), vec![row])),
            }
        }
    }
    parts
}

/// The same for ids alone.
pub(super) fn parts_of(ids: impl IntoIterator<Item = Uuid>) -> Vec<(Days, Vec<Uuid>)> {
    let mut ids: Vec<Uuid> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    parts(ids, |id| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(time: &str, low: u128) -> Uuid {
        let time: Timestamp = time.parse().unwrap();
        Uuid::from_u128(floor(time).as_u128() | low)
    }

    #[test]
    fn a_statement_contains_the_days_of_its_ids_as_constants() {
        let days = Days::of(id("2026-11-24T10:00:00Z", 1));
        let filled = days.fill("SELECT 1 FROM a WHERE {days of a.id} AND {days of b.id}").0;
        let (start, end) =
            (floor("2026-11-24T00:00:00Z".parse().unwrap()), floor("2026-11-25T00:00:00Z".parse().unwrap()));
        assert_eq!(
            filled,
            format!(
                "SELECT 1 FROM a WHERE (a.id >= '{start}' AND a.id < '{end}') AND (b.id >= '{start}' AND b.id < '{end}')"
            )
        );
        let open = Days::since_time("2026-11-24T10:00:00Z".parse().unwrap()).contain("a.id");
        assert_eq!(open, format!("a.id >= '{start}'"));
    }

    #[test]
    fn any_id_that_a_client_may_send_has_a_day() {
        assert!(Days::of(Uuid::nil()).contain("id").starts_with("(id >= '00000000-0000-0000"));
        assert!(!Days::of(Uuid::max()).contain("id").contains("id <"), "no day follows the last one");
    }

    #[test]
    fn rows_are_parted_by_a_few_days_and_no_part_has_two_of_the_same_id() {
        let (a, b) = (id("2026-11-24T10:00:00Z", 1), id("2026-11-25T10:00:00Z", 2));
        let far = id("2026-12-24T10:00:00Z", 3);
        let found = parts([far, b, a, b], |id| *id);
        assert_eq!(
            found,
            [(Days::between(a, b), vec![a, b]), (Days::of(far), vec![far]), (Days::of(b), vec![b])]
        );
        assert_eq!(parts_of([b, a, b]), [(Days::between(a, b), vec![a, b])]);
        assert!(parts_of([]).is_empty());
    }
}
