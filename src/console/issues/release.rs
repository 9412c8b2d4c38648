//! Releasing all held deliveries of an issue: a confirmation, then each delivery individually.

use axum::body::Body;
use axum::extract::Query;
use maud::html;
use serde::Deserialize;
use serde_json::Value;

use super::super::components::{count, empty};
use super::super::delivery::{read_values, read_version};
use super::super::failure::Failure;
use super::super::forms;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View, done};
use super::group::GroupName;
use crate::domain::id::TypedId;
use crate::pipeline::operator::release::{Release, ReleaseError};

/// Maximum deliveries per release.
const MAX: i64 = 1_000;

pub(in super::super) async fn plan(view: View, Query(group): Query<GroupName>) -> Shown {
    let held = view.console.store.held_like(&group.key(), MAX).await?;
    let total = i64::try_from(held.len()).unwrap_or(MAX);
    let body = if let Some(example) = held.first() {
        html! {
            h1 { "Release " (count(total, "held delivery", "held deliveries")) }
            p { "Template " strong { (group.template) } ", rule " strong { (group.rule) } ", held because of " strong { (group.code.replace('_', " ")) } @if !group.detail.is_empty() { ": " (group.detail) } "." }
            @if total == MAX { p.soft { "There may be more: at most " (MAX) " are released at a time." } }
            p { a href={ "/deliveries/" (example) } { "View oldest" } }
            form.stack method="post" action="/issues/release" {
                (group.hidden())
                label { "Values to add to each event's data, as JSON " span.soft { "(optional)" }
                    textarea name="values" rows="4" spellcheck="false" placeholder="{\"name\": \"there\"}" {}
                }
                label { "Template version " span.soft { "(default: the pinned one)" } input type="number" name="version" min="1"; }
                div.actions {
                    button.primary { "Release " (count(total, "delivery", "deliveries")) }
                    a.button href="/issues" { "Back" }
                }
            }
        }
    } else {
        empty("This issue is resolved", &html! { p { a href="/issues" { "Back to Issues" } } })
    };
    view.page(Place::Issues, &[Crumb::to("Issues", "/issues"), Crumb::here("Release")], body).await
}

/// How to release.
#[derive(Debug, Deserialize)]
pub(in super::super) struct ReleaseForm {
    #[serde(flatten)]
    group: GroupName,
    #[serde(default)]
    values: String,
    #[serde(default)]
    version: String,
}

pub(in super::super) async fn release(view: View, body: Body) -> Shown {
    let form: ReleaseForm = forms::read(body).await?;
    let values: Option<Value> = read_values(&form.values)?;
    let release = Release { version: read_version(&form.version)?, values };
    let held = view.console.store.held_like(&form.group.key(), MAX).await?;
    let (mut released, mut others, mut why) = (0_i64, 0_i64, None);
    for id in held {
        match view.console.pipeline.release(id, release.clone(), view.person.id.uuid()).await {
            Ok(()) => released += 1,
            Err(ReleaseError::Store(error)) => return Err(error.into()),
            Err(error) => {
                others += 1;
                why.get_or_insert_with(|| error.to_string());
            }
        }
    }
    if let (0, Some(why)) = (released, &why) {
        return Err(Failure::Invalid(format!("No delivery could be released: {why}.")));
    }
    let mut said = format!("Released {}.", count(released, "delivery", "deliveries"));
    if let Some(why) = why {
        said = format!("{said} {others} could not be released: {why}.");
    }
    Ok(done("/issues", &said))
}
