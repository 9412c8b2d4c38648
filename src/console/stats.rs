//! OneSignal's message statistics.

use super::components::number;
use crate::domain::answer::MessageStats;
use crate::pipeline::operator::message_stats::MessageStatsError;

/// Every count with its name.
pub(super) fn words_of(figures: &MessageStats) -> Vec<(&'static str, String)> {
    let figure = |value: u64| number(i64::try_from(value).unwrap_or(i64::MAX));
    let mut words = vec![
        ("Sent", figure(figures.successful)),
        ("Clicked", figure(figures.clicked)),
        ("Unsubscribed", figure(figures.failed)),
        ("Failed", figure(figures.errored)),
    ];
    if let Some(received) = figures.received {
        words.push(("Confirmed delivery", figure(received)));
    }
    match figures.remaining {
        Some(0) => {}
        Some(remaining) => words.push(("Remaining", figure(remaining))),
        None => words.push(("Remaining", "not known yet".to_owned())),
    }
    if figures.is_cancelled {
        words.push(("Cancelled", "yes".to_owned()));
    }
    words
}

/// Why there are no statistics, and what to do.
pub(super) fn why_none(error: &MessageStatsError) -> String {
    match error {
        MessageStatsError::AppGone => format!("No statistics: {error}."),
        MessageStatsError::Provider(_) => {
            format!("Statistics are unavailable: {error}. Try again in a moment.")
        }
        MessageStatsError::Store(_) => "The database is unavailable. Try again in a moment.".to_owned(),
    }
}

/// A percentage with one decimal place.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let thousandths = (u128::from(part) * 1_000 + u128::from(whole) / 2) / u128::from(whole);
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_and_nothing_of_nothing_is_no_share() {
        assert_eq!(
            (share(1, 3), share(2, 3), share(5, 5)),
            ("33.3 %".into(), "66.7 %".into(), "100.0 %".into())
        );
        assert_eq!(share(0, 0), "–");
    }

    #[test]
    fn what_is_nought_or_not_counted_is_left_out_where_it_says_nothing() {
        let names =
            |figures: &MessageStats| words_of(figures).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let done = MessageStats { successful: 3, remaining: Some(0), ..MessageStats::default() };
        assert_eq!(names(&done), ["Sent", "Clicked", "Unsubscribed", "Failed"]);
        assert!(names(&MessageStats { remaining: None, ..done }).contains(&"Remaining"));
    }
}
