//! Comparison of the live version's results with the previous version's.

use axum::extract::Path;
use maud::{Markup, html};

use super::super::components::{count, number};
use super::super::event::path_segment;
use super::super::failure::Failure;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View};
use super::super::stats::{share, why_none};
use super::Known;
use crate::domain::template::TemplateVersion;
use crate::store::version_stats::VersionStats;

/// Number of recent deliveries per version.
const LAST: i64 = 1_000;
/// Number of recent messages per version for which clicks are loaded: ten for two versions.
const MESSAGES: i64 = 5;

/// The live version and the previous one.
async fn pair(view: &View, known: &Known) -> Result<Vec<TemplateVersion>, Failure> {
    let Some(live) = known.live() else { return Ok(Vec::new()) };
    let records = view.console.store.version_records(&known.template.key, Some(live.number + 1), 2).await?;
    Ok(records.into_iter().map(|record| record.version).collect())
}

/// The comparison; empty without a live version.
pub(super) async fn section(view: &View, known: &Known) -> Result<Markup, Failure> {
    let versions = pair(view, known).await?;
    let Some(live) = versions.first() else { return Ok(html! {}) };
    let mut rows = Vec::new();
    for version in &versions {
        rows.push((version.number, view.console.store.version_stats(version.id, LAST).await?));
    }
    let clicks = format!("/templates/{}/clicks", path_segment(&known.template.key));
    Ok(html! {
        h2 { "Performance of version " (live.number) }
        @if rows.iter().all(|(_, figures)| figures.looked_at == 0) {
            p.soft { "Nothing has been sent with it yet. The next matching event will appear here." }
        } @else {
            table.rows.figures {
                thead { tr { th { "Version" } th.num { "Deliveries" } th.num { "Accepted" } th.num { "Held" } th.num { "Failed" } th.num { "Unreachable" } th.num { "Open" } } }
                tbody { @for (number, figures) in &rows { (row(*number, figures)) } }
            }
            p.soft { "Based on the last " (number(LAST)) " deliveries of each version." }
            div { a.button href=(clicks) hx-get=(clicks) hx-target="closest div" { "Load clicks" } }
        }
    })
}

fn row(version: i32, figures: &VersionStats) -> Markup {
    let cell = |value: i64| {
        let (part, whole) = (value.unsigned_abs(), figures.looked_at.unsigned_abs());
        html! { td.num { (number(value)) @if value > 0 { div.sub { (share(part, whole)) } } } }
    };
    html! {
        tr {
            td { "v" (version) }
            td.num { (number(figures.looked_at)) }
            (cell(figures.accepted)) (cell(figures.held)) (cell(figures.failed)) (cell(figures.unreachable)) (cell(figures.open))
        }
    }
}

/// Clicks of both versions according to OneSignal.
pub(in super::super) async fn clicks(view: View, Path(key): Path<String>) -> Shown {
    let known = Known::find(&view, &key).await?;
    let mut lines = Vec::new();
    for version in pair(&view, &known).await? {
        let messages = view.console.store.last_messages_of(version.id, LAST, MESSAGES).await?;
        let figures = match view.console.pipeline.message_stats(&messages).await {
            Ok(figures) => figures,
            Err(error) => {
                return clicks_part(&view, &key, html! { p.problem { "▲ " (why_none(&error)) } }).await;
            }
        };
        let reported: Vec<_> = figures.into_iter().flatten().collect();
        let clicked = reported.iter().map(|message| message.clicked).sum();
        let reached = reported.iter().map(|message| message.successful).sum();
        lines.push((version.number, reported.len(), clicked, reached));
    }
    let figure = |value: u64| number(i64::try_from(value).unwrap_or(i64::MAX));
    let markup = html! {
        ul.plain {
            @for (version, messages, clicked, reached) in lines {
                li {
                    "v" (version) ": "
                    @if messages == 0 { span.soft { "OneSignal has no statistics for it; it keeps them for 30 days." } }
                    @else { strong { (figure(clicked)) " of " (figure(reached)) " clicked (" (share(clicked, reached)) ")" } ", in its last " (count(i64::try_from(messages).unwrap_or(i64::MAX), "message", "messages")) }
                }
            }
        }
    };
    clicks_part(&view, &key, markup).await
}

async fn clicks_part(view: &View, key: &str, part: Markup) -> Shown {
    let base = format!("/templates/{}", path_segment(key));
    let history = format!("{base}/history");
    let crumbs = [
        Crumb::to("Templates", "/templates"),
        Crumb::to(key, &base),
        Crumb::to("History", &history),
        Crumb::here("Clicks"),
    ];
    view.part(Place::Templates, &crumbs, part).await
}
