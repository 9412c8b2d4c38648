//! Health: queue, throughput, OneSignal's responses, and usage of its limits.

use std::collections::BTreeMap;

use axum::response::IntoResponse;
use chrono::TimeDelta;
use maud::{Markup, html};

use super::charts::{bars, meter};
use super::components::{number, span, when};
use super::failure::Failure;
use super::layout::Place;
use super::page_context::{Crumb, Shown, View};
use crate::domain::app::App;
use crate::domain::clock::Timestamp;
use crate::store::health::Backlog;
use crate::store::health_metrics::{Answers, MinuteVolume};

/// Maximum counted queue rows.
const COUNTED: i64 = 20_000;
/// Minutes of the chart.
const MINUTES: i64 = 60;
/// OneSignal disables an app that sends ten times its subscriptions within this time.
const GUARDED: TimeDelta = TimeDelta::minutes(15);
/// Time range of responses.
const ANSWERS: TimeDelta = TimeDelta::minutes(15);

pub(super) async fn page(view: View) -> Shown {
    let parts = parts(&view).await?;
    let body = html! {
        div.heading { h1 { "Health" } }
        div data-live="/health/parts?" { (parts) }
    };
    view.page(Place::Health, &[Crumb::here("Health")], body).await
}

/// The part with automatic refreshes.
pub(super) async fn fresh(view: View) -> Shown {
    Ok(parts(&view).await?.into_response())
}

async fn parts(view: &View) -> Result<Markup, Failure> {
    let (store, now) = (&view.console.store, view.now());
    let backlog = store.backlog(COUNTED).await?;
    let volumes = store.volumes(now - TimeDelta::minutes(MINUTES)).await?;
    let answers = store.answers(now - ANSWERS).await?;
    let workers = store.alive_workers(now).await?;
    let apps = store.apps().await?;
    Ok(html! {
        h2 { "Queue" }
        (waiting(&backlog, now))
        h2 { "Throughput" }
        (bars("Messages per minute, last hour", "per minute", &by_minute(&volumes, now)))
        h2 { "OneSignal" }
        (of_onesignal(&answers))
        (guarded(&apps, &volumes, now))
        h2 { "Workers" }
        @if workers.is_empty() {
            p.problem { "▲ None: events are accepted but not sent. Start  " code { "herald serve" } "." }
        } @else {
            table.rows {
                thead { tr { th { "Host" } th { "Since" } } }
                tbody { @for worker in &workers { tr { td { (worker.host) } td { (when(worker.started_at, now)) } } } }
            }
        }
    })
}

fn waiting(backlog: &[Backlog], now: Timestamp) -> Markup {
    let total: i64 = backlog.iter().map(|row| row.deliveries).sum();
    html! {
        @if backlog.is_empty() {
            p.soft { "Nothing." }
        } @else {
            table.rows {
                thead { tr { th { "Priority" } th { "State" } th.num { "Deliveries" } th { "Oldest overdue by" } } }
                tbody {
                    @for row in backlog {
                        @let late = row.oldest_due_at.filter(|due| *due < now && row.state != "held").map(|due| now - due);
                        tr {
                            td { (row.priority) } td { (row.state) }
                            td.num { (number(row.deliveries)) }
                            td { @match late { Some(late) => (span(late)), None => span.soft { "–" } } }
                        }
                    }
                }
            }
            @if total >= COUNTED { p.soft { "Only the first " (number(COUNTED)) " are counted." } }
        }
    }
}

fn by_minute(volumes: &[MinuteVolume], now: Timestamp) -> Vec<(String, i64)> {
    let mut sums: BTreeMap<i64, i64> = BTreeMap::new();
    for volume in volumes {
        *sums.entry(volume.minute.timestamp() / 60).or_default() += volume.messages;
    }
    let last = now.timestamp() / 60;
    (last - MINUTES + 1..=last)
        .map(|minute| {
            let name = Timestamp::from_timestamp(minute * 60, 0).map(|at| at.format("%H:%M").to_string());
            (name.unwrap_or_default(), sums.get(&minute).copied().unwrap_or_default())
        })
        .collect()
}

fn of_onesignal(answers: &Answers) -> Markup {
    let calls: i64 = answers.by_answer.iter().map(|(_, calls)| calls).sum();
    html! {
        @match answers.seconds {
            Some((half, nearly_all)) => p {
                (number(calls)) " calls in the last 15 minutes. Latency: p50  " strong { (milliseconds(half)) } ", p99  " strong { (milliseconds(nearly_all)) } "."
            },
            None => p.soft { "No calls in the last 15 minutes." },
        }
        @if !answers.by_answer.is_empty() {
            table.rows {
                thead { tr { th { "Answer" } th.num { "Calls" } th.num { "Share" } } }
                tbody {
                    @for (answer, count) in &answers.by_answer {
                        tr { td { (answer.replace('_', " ")) } td.num { (number(*count)) } td.num { (count * 100 / calls.max(1)) " %" } }
                    }
                }
            }
        }
    }
}

fn milliseconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1_000.0) } else { format!("{seconds:.1} s") }
}

fn guarded(apps: &[App], volumes: &[MinuteVolume], now: Timestamp) -> Markup {
    html! {
        @if !apps.is_empty() {
            table.rows {
                thead { tr { th { "App" } th.num { "Messages, last 15 min" } th { "OneSignal volume limit used" } } }
                tbody {
                    @for app in apps {
                        @let sent: i64 = volumes.iter().filter(|v| v.app == app.id && v.minute > now - GUARDED).map(|v| v.messages).sum();
                        tr {
                            td { (app.name) @if app.paused.is_some() { " " span.chip.held { "◆ paused" } } }
                            td.num { (number(sent)) }
                            td {
                                @match app.subscriptions {
                                    Some(count) => (meter(sent, i64::from(count) * 10)),
                                    None => span.soft { "unknown: set the app's subscription count with " code { "herald apps set" } },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
