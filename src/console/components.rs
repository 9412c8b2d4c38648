//! Small parts of pages: chips, times, empty states.

use chrono::TimeDelta;
use maud::{Markup, html};

use crate::domain::clock::Timestamp;

/// A state as a chip: a shape, a word and a colour.
pub(super) fn chip(state: &str) -> Markup {
    let (kind, shape) = match state {
        "accepted" | "done" | "in sync" => ("good", "●"),
        "held" => ("held", "◆"),
        "rejected" | "exhausted" | "unknown" | "refused" => ("bad", "▲"),
        "unreachable" | "stalled" => ("warn", "▲"),
        "skipped" | "cancelled" | "expired" | "stopped" => ("off", "–"),
        _ => ("wait", "◌"),
    };
    html! { span.chip.(kind) { span aria-hidden="true" { (shape) } " " (state) } }
}

/// A time relative to now, with the exact time on hover.
pub(super) fn when(at: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(at.to_rfc3339()) title=(at.format("%Y-%m-%d %H:%M:%S%.3f UTC")) { (ago(at, now)) }
    }
}

/// The exact time of day, to the millisecond.
pub(super) fn clock_time(at: Timestamp) -> Markup {
    html! {
        time.exact datetime=(at.to_rfc3339()) title=(at.format("%Y-%m-%d %H:%M:%S%.3f UTC")) { (at.format("%H:%M:%S%.3f")) }
    }
}

/// `2 min ago`, `in 3 h`.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let (past, gap) = if at <= now { (true, now - at) } else { (false, at - now) };
    let text = span(gap);
    match (past, text.as_str()) {
        (true, "0 s") => "now".to_owned(),
        (true, text) => format!("{text} ago"),
        (false, text) => format!("in {text}"),
    }
}

/// A duration in its largest unit.
pub(super) fn span(gap: TimeDelta) -> String {
    match gap.num_seconds() {
        seconds @ ..60 => format!("{} s", seconds.max(0)),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// An empty state, with a next step.
pub(super) fn empty(title: &str, rest: &Markup) -> Markup {
    html! { div.empty { h2 { (title) } (rest) } }
}

/// A number with thousands separators.
pub(super) fn number(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

/// `1 delivery`, `2 deliveries`.
pub(super) fn count(value: i64, one: &str, many: &str) -> String {
    if value == 1 { format!("1 {one}") } else { format!("{} {many}", number(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_their_largest_unit() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let reported = |seconds| ago(now - TimeDelta::seconds(seconds), now);
        assert_eq!(reported(0), "now");
        assert_eq!(reported(59), "59 s ago");
        assert_eq!(reported(61), "1 min ago");
        assert_eq!(reported(3_700), "1 h ago");
        assert_eq!(reported(200_000), "2 d ago");
        assert_eq!(reported(-90), "in 1 min");
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(
            [number(0), number(999), number(1_000), number(-1_234_567)],
            ["0", "999", "1,000", "-1,234,567"]
        );
        assert_eq!(count(1, "delivery", "deliveries"), "1 delivery");
        assert_eq!(count(0, "delivery", "deliveries"), "0 deliveries");
    }

    #[test]
    fn a_state_is_never_shown_by_colour_alone() {
        for state in ["accepted", "held", "failed", "queued", "skipped", "<b>"] {
            let text = chip(state).into_string();
            assert!(text.contains(&state.replace('<', "&lt;").replace('>', "&gt;")), "{text}");
        }
    }
}
