//! Search in the inbox: words, and `to: template: channel: is: after:`.

use chrono::{DateTime, NaiveDate, TimeDelta};

use super::super::actions::{Acts, RecipientAction};
use super::super::message::{Channel, Message, ReceivedMessage};
use crate::domain::clock::Timestamp;

/// A parsed search. All parts must match.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Search {
    words: Vec<String>,
    to: Vec<String>,
    template: Vec<String>,
    channel: Option<Channel>,
    is: Vec<State>,
    after: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Failed,
    Blank,
    Scheduled,
    Cancelled,
    Odd,
}

const STATES: [(&str, State); 5] = [
    ("failed", State::Failed),
    ("blank", State::Blank),
    ("scheduled", State::Scheduled),
    ("cancelled", State::Cancelled),
    ("odd", State::Odd),
];

impl Search {
    /// Parses a search; returns errors as text.
    pub(super) fn parse(text: &str, now: Timestamp) -> Result<Self, String> {
        let mut search = Self::default();
        for part in text.split_whitespace() {
            let (name, value) = part.split_once(':').unwrap_or(("", part));
            let lower = value.to_lowercase();
            match name {
                "to" => search.to.push(lower),
                "template" => search.template.push(lower),
                "channel" => {
                    let channel = Channel::parse(&lower);
                    search.channel = Some(channel.ok_or("channel: must be push, email or sms")?);
                }
                "is" => {
                    let known = STATES.iter().find(|(name, _)| *name == lower).map(|(_, state)| *state);
                    search.is.push(known.ok_or("is: must be failed, blank, scheduled, cancelled or odd")?);
                }
                "after" => {
                    let at = moment(value, now).ok_or(
                        "after: must be a date, a time with an offset, or an age such as 10m, 2h, 3d",
                    )?;
                    search.after = Some(at);
                }
                _ => search.words.push(part.to_lowercase()),
            }
        }
        Ok(search)
    }

    /// Whether the search is empty.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the message may match, without rendering it.
    pub(super) fn may_fit(&self, message: &Message, now: Timestamp) -> bool {
        let state = |state: &State| match state {
            State::Scheduled => message.is_waiting(now),
            State::Cancelled => message.canceled,
            State::Odd => !message.notes.is_empty(),
            State::Failed | State::Blank => true,
        };
        self.channel.is_none_or(|channel| channel == message.channel)
            && self.after.is_none_or(|at| message.received_at >= at)
            && self.is.iter().all(state)
            && self.template.iter().all(|wanted| is_template(message, wanted))
    }

    /// Whether the rendered message fits.
    pub(super) fn fits(&self, seen: &ReceivedMessage, acts: &Acts) -> bool {
        let blank = || seen.recipients.iter().any(|to| !to.blanks.is_empty());
        let broken = || seen.recipients.iter().any(|to| !to.broken.is_empty());
        let bad = || {
            acts.of(seen.id)
                .iter()
                .any(|act| matches!(act.deed, RecipientAction::Fail | RecipientAction::Bounce))
        };
        let state = |state: &State| match state {
            State::Failed => broken() || bad(),
            State::Blank => blank(),
            State::Scheduled | State::Cancelled | State::Odd => true,
        };
        self.is.iter().all(state)
            && self
                .to
                .iter()
                .all(|wanted| seen.recipients.iter().any(|to| to.id.to_lowercase().contains(wanted)))
            && self.words.iter().all(|word| says(seen, word))
    }
}

fn is_template(message: &Message, wanted: &str) -> bool {
    let template = message.template.as_ref();
    template.is_some_and(|template| {
        template.name.to_lowercase().contains(wanted) || template.id.to_string() == wanted
    })
}

/// Whether an id or a rendered text contains the word.
fn says(seen: &ReceivedMessage, word: &str) -> bool {
    seen.id.to_string().contains(word)
        || seen.template_name.as_ref().is_some_and(|name| name.to_lowercase().contains(word))
        || seen.recipients.iter().any(|to| {
            let texts = to.rendered.values().filter_map(serde_json::Value::as_str);
            to.id.to_lowercase().contains(word)
                || texts.into_iter().any(|text| text.to_lowercase().contains(word))
        })
}

/// A date, a time with an offset, or how long ago.
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc());
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Some(day.and_hms_opt(0, 0, 0)?.and_utc());
    }
    let last = text.chars().next_back()?;
    let number: i64 =
        text.strip_suffix(last)?.parse().ok().filter(|number| (0..=100_000).contains(number))?;
    let ago = match last {
        'm' => TimeDelta::minutes(number),
        'h' => TimeDelta::hours(number),
        'd' => TimeDelta::days(number),
        _ => return None,
    };
    Some(now - ago)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn words_and_names_are_distinguished() {
        let search = Search::parse("shipped to:Anna channel:push is:blank after:2h", now()).unwrap();
        assert_eq!(
            (search.words.as_slice(), search.to.as_slice()),
            (["shipped".to_owned()].as_slice(), ["anna".to_owned()].as_slice())
        );
        assert_eq!((search.channel, search.is.as_slice()), (Some(Channel::Push), [State::Blank].as_slice()));
        assert_eq!(search.after, Some("2026-03-01T10:00:00Z".parse().unwrap()));
        assert!(Search::parse("  ", now()).unwrap().is_empty());
    }

    #[test]
    fn a_colon_in_a_word_is_part_of_it() {
        let search = Search::parse("https://shop.example 12:30", now()).unwrap();
        assert_eq!(search.words, ["https://shop.example", "12:30"]);
    }

    #[test]
    fn what_can_not_be_followed_says_what_could() {
        for (text, why) in [
            ("channel:pigeon", "push, email or sms"),
            ("is:odd-ish", "blank"),
            ("after:é", "an age such as 10m"),
            ("after:", "an age such as 10m"),
        ] {
            assert!(Search::parse(text, now()).unwrap_err().contains(why), "{text}");
        }
    }
}
