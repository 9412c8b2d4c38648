//! Retention, and storage used per day.

use chrono::{Days, NaiveDate};
use maud::{Markup, html};

use super::super::components::number;
use super::super::page_context::{Shown, View};
use super::below;
use crate::pipeline::KeepDays;
use crate::store::retention::KeptDay;

/// Number of listed days, newest first.
const LISTED: usize = 60;

pub(in super::super) async fn page(view: View) -> Shown {
    let kept = view.console.store.kept_days().await?;
    let KeepDays { history: days, payloads, keys } = view.console.pipeline.kept_days();
    let today = view.now().date_naive();
    // Partitions created in advance are empty.
    let past: Vec<&KeptDay> = kept.iter().filter(|kept| kept.day <= today).collect();
    let body = html! {
        h1 { "Retention" }
        dl.facts {
            dt { "Events, deliveries and decisions" } dd { (days) " days; deleted by whole days. A day with unfinished deliveries is kept until they end." }
            dt { "Event data" } dd { (payloads) " days. Without it a delivery can't be replayed." }
            dt { "Deduplication keys" } dd { (keys) " days: an event posted again in this time is a duplicate." }
            dt { "Imports of users" } dd { (payloads) " days, with their rejected rows. Accepted rows are deleted when an import ends." }
            dt { "Sensitive values" } dd { "Erased an hour after the last delivery of their event has ended." }
            dt { "Drafts, versions and the audit log" } dd { "Forever." }
        }
        p.soft { "Configured with " code { "retention.days" } ", " code { "retention.payload_days" } " and " code { "retention.key_days" } " in " code { "herald.toml" } ", or " code { "HERALD_RETENTION_DAYS" } ". OneSignal keeps message statistics for 30 days." }
        h2 { "Days" }
        @if past.is_empty() { p.soft { "No data stored yet." } }
        @else { (table(&past, (today, u64::from(days)))) }
    };
    below(&view, "Retention", body).await
}

fn table(past: &[&KeptDay], (today, days): (NaiveDate, u64)) -> Markup {
    let whole: i64 = past.iter().map(|kept| kept.bytes).sum();
    html! {
        p { (number(i64::try_from(past.len()).unwrap_or(i64::MAX))) " days use " strong { (size(whole)) } "." }
        table.rows {
            thead { tr { th { "Day (UTC)" } th.num { "Size" } th { "Deleted on" } } }
            tbody {
                @for kept in past.iter().rev().take(LISTED) {
                    tr {
                        td { (kept.day) @if kept.day == today { span.soft { " today" } } }
                        td.num { (size(kept.bytes)) }
                        td { @match kept.day.checked_add_days(Days::new(days + 1)) { Some(goes) if goes > today => (goes), _ => "when all its deliveries have ended" } }
                    }
                }
            }
        }
        @if past.len() > LISTED { p.soft { "Oldest day: " (past[0].day) "." } }
    }
}

/// A human-readable size.
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
