//! Search filters: `type:order.* state:held to:user-42 since:2d`. They are part of the URL, and each can be
//! removed.

use chrono::{DateTime, TimeDelta};

use crate::domain::clock::Timestamp;
use crate::domain::delivery::StateName;
use crate::domain::event::Recipient;
use crate::store::search::ListFilter;

/// Rows of a page.
const PAGE: i64 = 50;

/// A parsed search.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    /// The distinct words as written.
    pub words: Vec<String>,
    /// The filter.
    pub filter: ListFilter,
    /// Invalid parts, with suggestions.
    pub problems: Vec<String>,
    /// A single ID or key, which is opened directly.
    pub named: Option<String>,
}

impl Search {
    /// Parses a search.
    pub fn read(text: &str, now: Timestamp) -> Self {
        let mut search =
            Self { filter: ListFilter { limit: PAGE, ..ListFilter::default() }, ..Self::default() };
        for word in text.split_whitespace().take(20) {
            if search.words.iter().any(|known| known == word) {
                continue;
            }
            if let Err(problem) = search.take(word, now) {
                search.problems.push(problem);
            }
            search.words.push(word.to_owned());
        }
        search
    }

    fn take(&mut self, word: &str, now: Timestamp) -> Result<(), String> {
        let filter = &mut self.filter;
        match word.split_once(':') {
            Some(("type", value)) if !value.is_empty() => filter.event_type = Some(value.to_owned()),
            Some(("state", value)) => filter.state = Some(state(value)?),
            Some(("to", value)) => filter.recipient = Some(recipient(value)?),
            Some(("since", value)) => filter.since = Some(moment(value, now)?),
            Some(("until", value)) => filter.until = Some(moment(value, now)?),
            Some(("type" | "id", "")) | None if word.contains(':') => {
                return Err(format!("`{word}` has no value after the colon"));
            }
            Some(("id", value)) => self.named = Some(value.to_owned()),
            Some((name, _)) => {
                return Err(format!(
                    "unknown filter `{name}:`; filters are type: state: to: since: until: id:"
                ));
            }
            None => self.named = Some(word.to_owned()),
        }
        Ok(())
    }

    /// The search's text without one of its words.
    pub fn without(&self, word: &str) -> String {
        let rest: Vec<&str> = self.words.iter().map(String::as_str).filter(|known| *known != word).collect();
        rest.join(" ")
    }

    /// The search's text.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }
}

fn state(word: &str) -> Result<StateName, String> {
    let word = if word == "scheduled" { "queued" } else { word };
    StateName::find(word).ok_or_else(|| {
        let known: Vec<&str> = StateName::ALL.into_iter().map(StateName::as_str).collect();
        format!("unknown state `{word}`; states are {}", known.join(", "))
    })
}

fn recipient(text: &str) -> Result<Recipient, String> {
    let (label, id) = text.split_once('=').unwrap_or(("external_id", text));
    Recipient::parse(label, id)
        .map_err(|error| format!("`to:{text}`: {error}; write to:user-42 or to:label=id"))
}

fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    if let Ok(day) = text.parse::<chrono::NaiveDate>() {
        return Ok(day.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    let unit = text.chars().last();
    let count = unit.and_then(|unit| text.strip_suffix(unit)).and_then(|count| count.parse::<u32>().ok());
    let gap = match (count.map(i64::from), unit) {
        (Some(count), Some('m')) => TimeDelta::try_minutes(count),
        (Some(count), Some('h')) => TimeDelta::try_hours(count),
        (Some(count), Some('d')) => TimeDelta::try_days(count),
        _ => None,
    };
    gap.and_then(|gap| now.checked_sub_signed(gap)).ok_or_else(|| {
        format!("`{text}` is not a time; write 30m, 6h, 2d, 2026-11-24 or 2026-11-24T08:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Search {
        Search::read(text, "2026-11-25T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn words_narrow_what_is_shown() {
        let search = read("type:order.*  state:held to:user-42 since:2d type:order.*");
        assert_eq!(search.words.len(), 4);
        assert!(search.problems.is_empty(), "{:?}", search.problems);
        assert_eq!(search.filter.event_type.as_deref(), Some("order.*"));
        assert_eq!(search.filter.since.unwrap().to_rfc3339(), "2026-11-23T10:00:00+00:00");
        assert_eq!(search.filter.recipient.as_ref().unwrap().id, "user-42");
        assert_eq!(search.without("state:held"), "type:order.* to:user-42 since:2d");
    }

    #[test]
    fn what_can_t_be_understood_is_said_and_hides_nothing() {
        for (text, part) in [
            ("state:lost", "states are queued"),
            ("colour:red", "filters are type:"),
            ("since:yesterday", "write 30m"),
            ("since:99999999999d", "write 30m"),
            ("since:4294967295d", "write 30m"),
            ("type:", "after the colon"),
            ("to:", "write to:user-42"),
            ("since:é", "write 30m"),
        ] {
            let search = read(text);
            assert!(search.problems[0].contains(part), "{text}: {:?}", search.problems);
        }
    }

    #[test]
    fn an_id_that_stands_alone_names_one_thing() {
        assert_eq!(read("order-1001-shipped").named.as_deref(), Some("order-1001-shipped"));
        assert_eq!(read("id:a:b").named.as_deref(), Some("a:b"));
        assert_eq!(read("").named, None);
    }
}
