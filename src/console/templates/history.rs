//! A template's versions: author, time, note, changes, results, and rollback.

use axum::body::Body;
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use super::super::components::when;
use super::super::event::path_segment;
use super::super::failure::Failure;
use super::super::forms;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View, done};
use super::Known;
use super::diff_view::diff_view;
use crate::access::Use;
use crate::catalog::diff::{FieldDiff, diff};
use crate::compute::Purpose;
use crate::domain::budget::Budget;
use crate::store::templates::VersionRecord;

/// Versions of a page.
const PAGE: i64 = 20;

/// Which versions.
#[derive(Debug, Default, Deserialize)]
pub(in super::super) struct HistoryQuery {
    before: Option<i32>,
}

pub(in super::super) async fn page(
    view: View,
    Path(key): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Shown {
    let known = Known::find(&view, &key).await?;
    let records = view.console.store.version_records(&key, query.before, PAGE + 1).await?;
    let live = known.live().map(|live| live.number);
    let base = format!("/templates/{}", path_segment(&key));
    let shown = records.len().min(usize::try_from(PAGE).unwrap_or(usize::MAX));
    let contents: Vec<_> = records.iter().map(|record| record.version.content.clone()).collect();
    // Each version is compared with the previous one; the oldest has none.
    let compare = move |_: &Budget| -> Vec<Vec<FieldDiff>> {
        contents.windows(2).map(|pair| diff(&pair[1], &pair[0])).collect()
    };
    let changes = view.console.compute.run(Purpose::People, compare).await?;
    let body = html! {
        div.heading { h1 { "History of " (key) } }
        @if records.is_empty() { p.soft { "Never published." } }
        @if query.before.is_none() { (super::version_comparison::section(&view, &known).await?) h2 { "Versions" } }
        ol.versions {
            @for (place, record) in records.iter().take(shown).enumerate() {
                (version(&view, record, changes.get(place).map(Vec::as_slice), live, &base))
            }
        }
        @if records.len() > shown { p.pages { a.button rel="next" href={ (base) "/history?before=" (records[shown - 1].version.number) } { "Older" } } }
    };
    let editor = base.clone();
    view.page(
        Place::Templates,
        &[Crumb::to("Templates", "/templates"), Crumb::to(&key, &editor), Crumb::here("History")],
        body,
    )
    .await
}

fn version(
    view: &View,
    record: &VersionRecord,
    changes: Option<&[FieldDiff]>,
    live: Option<i32>,
    base: &str,
) -> Markup {
    let number = record.version.number;
    html! {
        li {
            div.heading {
                strong { "v" (number) }
                @if live == Some(number) { span.chip.good { "● live" } }
                span { (record.author) } span.soft { (when(record.created_at, view.now())) }
                @if let Some(restores) = record.restores { span.soft { "restores v" (restores) } }
                @if let Some(by) = &record.approved_by { span.soft { "approved by " (by) } }
            }
            @if !record.note.is_empty() { p { (record.note) } }
            details {
                summary.soft { @match &changes { Some(changes) => { (changes.len()) @if changes.len() == 1 { " change" } @else { " changes" } }, None => "first version" } }
                @if let Some(changes) = changes { (diff_view(changes)) }
            }
            @if live != Some(number) && view.person.may(Use::Publish) {
                form.actions method="post" action={ (base) "/rollback" } data-asks={ "Roll back to version " (number) "?" } {
                    input type="hidden" name="version" value=(number);
                    input.short type="text" name="note" placeholder="Version note" maxlength="1000" aria-label={ "Version note for the rollback to " (number) };
                    button { "Roll back to v" (number) }
                }
            }
        }
    }
}

/// The version to roll back to.
#[derive(Debug, Deserialize)]
pub(in super::super) struct BackForm {
    version: i32,
    #[serde(default)]
    note: String,
}

pub(in super::super) async fn roll_back(view: View, Path(key): Path<String>, body: Body) -> Shown {
    let form: BackForm = forms::read(body).await?;
    if form.version < 1 {
        return Err(Failure::Invalid("A version must be a number from 1.".to_owned()));
    }
    let back = view.console.publisher.roll_back(&key, form.version, view.by(form.note.trim())).await?;
    view.console.pipeline.wake();
    let said = format!("Version {} is live and restores version {}.", back.version, form.version);
    Ok(done(&format!("/templates/{}/history", path_segment(&key)), &said))
}
