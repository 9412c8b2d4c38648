//! What is kept, how long, and how much room each day takes.

use chrono::{Days, NaiveDate};
use maud::{Markup, html};

use super::super::components::number;
use super::super::page_context::{Shown, View};
use super::below;
use crate::pipeline::KeepDays;
use crate::store::retention::KeptDay;

/// Days that are listed, newest first.
const LISTED: usize = 60;

pub(in super::super) async fn page(view: View) -> Shown {
    let kept = view.console.store.kept_days().await?;
    let KeepDays { history: days, payloads, keys } = view.console.pipeline.kept_days();
    let today = view.now().date_naive();
    // Days that are made ahead are empty.
    let past: Vec<&KeptDay> = kept.iter().filter(|kept| kept.day <= today).collect();
    let body = html! {
        h1 { "Retention" }
        dl.facts {
            dt { "Events, deliveries and decisions" } dd { (days) " days, then whole days are dropped. A day that an open delivery lies in waits for it." }
            dt { "What events said" } dd { (payloads) " days. Without it a delivery can't be replayed." }
            dt { "Keys against repeats" } dd { (keys) " days: an event posted again within them is one event." }
            dt { "Sealed values" } dd { "Erased an hour after the last delivery of their event has ended." }
            dt { "Drafts, versions and the record of changes" } dd { "For ever." }
        }
        p.soft { "Set it with " code { "retention.days" } ", " code { "retention.payload_days" } " and " code { "retention.key_days" } " in " code { "herald.toml" } ", or " code { "HERALD_RETENTION_DAYS" } ". OneSignal itself tells of a message for 30 days." }
        h2 { "Days" }
        @if past.is_empty() { p.soft { "No day has been stored yet." } }
        @else { (table(&past, (today, u64::from(days)))) }
    };
    below(&view, "Retention", body).await
}

fn table(past: &[&KeptDay], (today, days): (NaiveDate, u64)) -> Markup {
    let whole: i64 = past.iter().map(|kept| kept.bytes).sum();
    html! {
        p { (number(i64::try_from(past.len()).unwrap_or(i64::MAX))) " days take " strong { (size(whole)) } "." }
        table.rows {
            thead { tr { th { "Day (UTC)" } th.num { "Room" } th { "Goes" } } }
            tbody {
                @for kept in past.iter().rev().take(LISTED) {
                    tr {
                        td { (kept.day) @if kept.day == today { span.soft { " today" } } }
                        td.num { (size(kept.bytes)) }
                        td { @match kept.day.checked_add_days(Days::new(days + 1)) { Some(goes) if goes > today => (goes), _ => "when nothing in it is open" } }
                    }
                }
            }
        }
        @if past.len() > LISTED { p.soft { "The oldest is of " (past[0].day) "." } }
    }
}

/// Bytes as people say them.
fn size(bytes: i64) -> String {
    const STEP: i64 = 1_024;
    match bytes {
        ..STEP => format!("{bytes} B"),
        STEP..1_048_576 => format!("{} KiB", bytes / STEP),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes / 1_048_576),
        _ => format!("{}.{} GiB", bytes / 1_073_741_824, bytes % 1_073_741_824 * 10 / 1_073_741_824),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_said_in_the_unit_that_fits() {
        let said: Vec<String> = [0, 1_023, 1_024, 5_242_880, 1_610_612_736].into_iter().map(size).collect();
        assert_eq!(said, ["0 B", "1023 B", "1 KiB", "5 MiB", "1.5 GiB"]);
    }
}
