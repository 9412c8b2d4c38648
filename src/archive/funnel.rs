//! Funnels: counts with their denominators. What was not measured has no rate, and is not 0.

use chrono::NaiveDate;

use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::outcome::{Counts, WINDOW};
use crate::store::outcome_stats::GroupCounts;

/// People who did something, of those for whom it can be known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// People who did it.
    pub people: i64,
    /// People for whom it can be known.
    pub of: i64,
}

impl Share {
    /// The rate; `None` if it was not measured.
    #[expect(clippy::cast_precision_loss, reason = "counts of people are far below 2^52")]
    pub fn rate(self) -> Option<f64> {
        (self.of > 0).then(|| self.people as f64 / self.of as f64)
    }

    /// Unless it was not measured.
    pub fn measured(self) -> Option<Self> {
        (self.of > 0).then_some(self)
    }
}

/// What became of the messages of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Funnel {
    /// The group.
    pub group: (String, String),
    /// The sums.
    pub counts: Counts,
    /// Accepted deliveries with any outcome.
    pub coverage: Share,
    /// Confirmed, of the people whose devices can confirm.
    pub delivered: Share,
    /// Opened; emails only.
    pub opened: Share,
    /// Clicked; not for text messages.
    pub clicked: Share,
    /// Not delivered.
    pub failed: Share,
    /// Bounced permanently; emails only.
    pub bounced: Share,
    /// Not sent because of OneSignal's suppression list; emails only.
    pub suppressed: Share,
    /// Unsubscribed; not for text messages.
    pub unsubscribed: Share,
    /// Reported as spam; emails only.
    pub complained: Share,
    /// Whether outcomes of its newest day still count.
    pub is_still_counting: bool,
}

/// The funnel of each group.
pub fn funnels(rows: &[GroupCounts], now: Timestamp) -> Vec<Funnel> {
    let mut funnels = Vec::new();
    for part in rows.chunk_by(|one, other| one.group == other.group) {
        funnels.extend(part.first().map(|first| funnel(first.group.clone(), part, now)));
    }
    funnels
}

fn funnel(group: (String, String), rows: &[GroupCounts], now: Timestamp) -> Funnel {
    let on = |channels: &[Channel]| {
        let rows = rows.iter().filter(|row| channels.contains(&row.channel));
        rows.fold(Counts::default(), |sum, row| sum + row.counts)
    };
    let (all, email) = (on(&Channel::ALL), on(&[Channel::Email]));
    let clickable = on(&[Channel::Push, Channel::Email]);
    let last_day = rows.iter().map(|row| row.last_day).max();
    Funnel {
        group,
        counts: all,
        coverage: Share { people: all.reported, of: all.accepted },
        delivered: Share { people: all.delivered, of: all.measurable },
        opened: Share { people: email.opened, of: email.reported },
        clicked: Share { people: clickable.clicked, of: clickable.reported },
        failed: Share { people: all.failed, of: all.reported },
        bounced: Share { people: email.bounced, of: email.reported },
        suppressed: Share { people: email.suppressed, of: email.reported },
        unsubscribed: Share { people: clickable.unsubscribed, of: clickable.reported },
        complained: Share { people: email.complained, of: email.reported },
        is_still_counting: last_day.is_some_and(|day| counts_until(day) > now),
    }
}

/// Until when outcomes of a day's messages count.
fn counts_until(day: NaiveDate) -> Timestamp {
    day.succ_opt().unwrap_or(day).and_time(chrono::NaiveTime::MIN).and_utc() + WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, channel: Channel, counts: Counts) -> GroupCounts {
        let last_day = "2026-11-24".parse().unwrap();
        GroupCounts { group: (group.to_owned(), String::new()), channel, last_day, counts }
    }

    #[test]
    fn what_was_not_measured_is_not_zero() {
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let sent = Counts { accepted: 5, ..Counts::default() };
        let [funnel] = funnels(&[row("a", Channel::Push, sent)], now).try_into().unwrap();
        assert_eq!(
            (funnel.coverage.rate(), funnel.delivered.rate(), funnel.clicked.measured()),
            (Some(0.0), None, None)
        );
        assert!(funnel.is_still_counting);
        let later = now + chrono::TimeDelta::days(4);
        assert!(!funnels(&[row("a", Channel::Push, sent)], later)[0].is_still_counting);
    }

    #[test]
    fn opens_are_of_emails_only_and_clicks_not_of_text_messages() {
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let some =
            Counts { accepted: 10, reported: 10, measurable: 10, opened: 4, clicked: 2, ..Counts::default() };
        let rows =
            [row("a", Channel::Push, some), row("a", Channel::Email, some), row("a", Channel::Sms, some)];
        let [funnel] = funnels(&rows, now).try_into().unwrap();
        assert_eq!((funnel.coverage.of, funnel.opened.of, funnel.clicked.of), (30, 10, 20));
    }
}
