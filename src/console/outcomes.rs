//! Outcomes: what became of messages, as funnels by template, version, rule and the like.

use axum::extract::Query;
use chrono::{Days, NaiveDate};
use maud::{Markup, html};
use serde::Deserialize;

use super::charts::meter;
use super::components::{empty, number};
use super::failure::Failure;
use super::layout::Place;
use super::page_context::{Crumb, Shown, View};
use crate::archive::funnel::{Funnel, Share, funnels};
use crate::archive::silence::stream_health;
use crate::store::outcome_reports::MalformedReport;
use crate::store::outcome_stats::{GroupBy, StatsFilter};

/// Days that are shown.
const DAYS: u64 = 30;
/// Malformed bodies that are listed.
const LISTED: i64 = 5;
/// The groups that the page offers, with their headings.
const GROUPS: [(GroupBy, &str); 7] = [
    (GroupBy::Version, "Template version"),
    (GroupBy::Template, "Template"),
    (GroupBy::Rule, "Rule"),
    (GroupBy::EventType, "Event type"),
    (GroupBy::Channel, "Channel"),
    (GroupBy::Locale, "Locale"),
    (GroupBy::Day, "Day"),
];

/// Query parameters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OutcomesQuery {
    /// What to group by; by version if it is unknown.
    #[serde(default)]
    by: String,
}

pub(super) async fn page(view: View, Query(query): Query<OutcomesQuery>) -> Shown {
    let chosen = GROUPS.into_iter().find(|(group, _)| group.as_str() == query.by);
    let (by, heading) = chosen.unwrap_or(GROUPS[0]);
    let (store, now) = (&view.console.store, view.now());
    let until = now.date_naive();
    let since = until.checked_sub_days(Days::new(DAYS - 1)).unwrap_or(until);
    let filter = StatsFilter { since, until, ..StatsFilter::default() };
    let groups = funnels(&store.outcome_stats(by, &filter).await?, now);
    let body = html! {
        div.heading { h1 { "Outcomes" } }
        (silence(&view).await?)
        nav aria-label="Group by" {
            @for (group, name) in GROUPS {
                a href={ "/outcomes?by=" (group.as_str()) } aria-current=[(group == by).then_some("page")] { (name) }
                " "
            }
        }
        @if groups.is_empty() {
            (nothing())
        } @else {
            (table(by, heading, &groups))
            p.soft {
                "People, by the day on which OneSignal accepted their messages, since " (since)
                ". Outcomes count for 72 hours. A dash means that it was not measured. Opens and clicks within 10 seconds of the \
                 delivery are probably automatic."
            }
        }
        (reports(&view, since).await?)
    };
    view.page(Place::Outcomes, &[Crumb::here("Outcomes")], body).await
}

/// A warning if OneSignal reports nothing.
async fn silence(view: &View) -> Result<Markup, Failure> {
    let health = stream_health(&view.console.store, view.now()).await?;
    Ok(html! {
        @if health.state() == "silent" {
            p.problem role="alert" {
                "▲ Event Streams is silent: OneSignal reported outcomes of " (number(health.reported)) " of "
                (number(health.messages)) " recent messages. Look in its dashboard whether the stream is active; "
                code { "herald onesignal stream-config" } " prints what to configure."
            }
        }
    })
}

fn nothing() -> Markup {
    empty(
        "No outcomes yet",
        &html! {
            p { "They appear once OneSignal has accepted a message and reports what happened to it. Connect its Event Streams:" }
            pre { code { "herald onesignal stream-config" } }
        },
    )
}

fn table(by: GroupBy, heading: &str, groups: &[Funnel]) -> Markup {
    html! {
        table.rows {
            thead {
                tr {
                    th { (heading) } th.num { "Accepted" } th { "Measured" } th.num { "Delivered" } th.num { "Opened" }
                    th.num { "Clicked" } th.num { "Failed" } th.num { "Bounced" } th.num { "Unsubscribed" }
                }
            }
            tbody { @for group in groups { (row(by, group)) } }
        }
    }
}

fn row(by: GroupBy, funnel: &Funnel) -> Markup {
    let counts = &funnel.counts;
    html! {
        tr {
            td {
                (name(by, &funnel.group))
                @if funnel.is_still_counting { div.sub { "still counting" } }
            }
            td.num { (number(counts.accepted)) }
            td { (meter(funnel.coverage.people, funnel.coverage.of)) }
            td.num { (share(funnel.delivered, 0)) }
            td.num { (share(funnel.opened, counts.opened_soon)) }
            td.num { (share(funnel.clicked, counts.clicked_soon)) }
            td.num { (share(funnel.failed, 0)) }
            td.num { (share(funnel.bounced, 0)) }
            td.num { (share(funnel.unsubscribed, 0)) }
        }
    }
}

fn name(by: GroupBy, (first, second): &(String, String)) -> Markup {
    let version = second.parse::<i32>().ok().filter(|_| by == GroupBy::Version);
    html! {
        @match by {
            GroupBy::Template | GroupBy::Version => a href={ "/templates/" (first) } { (first) },
            GroupBy::Rule => a href={ "/rules/" (first) } { (first) },
            GroupBy::EventType | GroupBy::Channel | GroupBy::Locale | GroupBy::Day => (first),
        }
        @if let Some(version) = version { " v" (version) }
    }
}

/// A count with its rate, and how many of it were probably automatic.
fn share(share: Share, soon: i64) -> Markup {
    html! {
        @match share.rate() {
            Some(rate) => {
                (number(share.people)) " (" (format!("{:.1} %", rate * 100.0)) ")"
                @if soon > 0 { div.sub { (number(soon)) " probably automatic" } }
            },
            None => span.soft title="not measured" { "–" },
        }
    }
}

/// What was received from OneSignal, and bodies that are not JSON.
async fn reports(view: &View, since: NaiveDate) -> Result<Markup, Failure> {
    let store = &view.console.store;
    let counts = store.report_counts(since).await?;
    let malformed: Vec<MalformedReport> = store.malformed_reports(LISTED).await?;
    Ok(html! {
        @if !counts.is_empty() {
            h2 { "Reports" }
            dl.facts { @for (name, count) in &counts { dt { (name) } dd { (number(*count)) } } }
        }
        @if !malformed.is_empty() {
            details {
                summary { "Malformed bodies" }
                ul { @for one in &malformed { li { (super::components::when(one.received_at, view.now())) ": " (one.detail) } } }
            }
        }
    })
}
