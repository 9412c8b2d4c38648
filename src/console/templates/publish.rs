//! Publishing: changes, checks, comparison with real traffic, and then the button.

use axum::body::Body;
use axum::extract::Path;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::components::{count, number};
use super::super::event::path_segment;
use super::super::failure::Failure;
use super::super::forms;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View, done};
use super::Known;
use super::diff_view::diff_view;
use super::preview::problem_list;
use crate::access::Use;
use crate::catalog::diff::diff;
use crate::catalog::templates::Publishing;
use crate::catalog::traffic::{DEFAULT_EVENTS, TrafficReport};
use crate::compute::Purpose;
use crate::domain::template::Content;
use crate::store::templates::Draft;

/// Maximum differences shown.
const SHOWN: usize = 5;

async fn draft_of(view: &View, known: &Known) -> Result<Draft, Failure> {
    let draft = view.console.store.find_draft(known.template.id).await?;
    draft.ok_or_else(|| {
        Failure::Conflict(format!(
            "Template {} has no draft: it was published or discarded.",
            known.template.key
        ))
    })
}

pub(in super::super) async fn page(view: View, Path(key): Path<String>) -> Shown {
    let known = Known::find(&view, &key).await?;
    let draft = draft_of(&view, &known).await?;
    let (problems, traffic) =
        view.console.publisher.check_template(&key, &draft.content, DEFAULT_EVENTS).await?;
    let empty = Content { default_locale: draft.content.default_locale.clone(), ..Content::default() };
    let before = known.live().map_or(&empty, |live| &live.content);
    let (old, new) = (before.clone(), draft.content.clone());
    let changes = view.console.compute.run(Purpose::People, move |_| diff(&old, &new)).await?;
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let waits = known.template.needs_approval && draft.approved_by.is_none();
    let is_own = draft.author == view.person.email;
    let latest = view.console.store.version_records(&key, None, 1).await?.pop();
    let next = latest.map_or(1, |latest| latest.version.number + 1);
    let base = format!("/templates/{}", path_segment(&key));
    let body = html! {
        h1 { "Publish version " (next) " of " (key) }
        h2 { "Changes" }
        @if changes.is_empty() { p.soft { "None: the draft is the same as the live version." } }
        (diff_view(&changes))
        (problem_list(&problems))
        (traffic_view(&traffic))
        @if errors > 0 {
            p.problem { "▲ " (count(i64::try_from(errors).unwrap_or(i64::MAX), "error has", "errors have")) " to be fixed before it can be published." }
            p { a.button href=(base) { "Back to the editor" } }
        } @else if waits {
            h2 { "Approval" }
            p { "A second person has to approve this draft." @if is_own { " You saved it last, so it can't be you." } }
            @if !is_own && view.person.may(Use::Publish) {
                form.stack method="post" action={ (base) "/approve" } {
                    input type="hidden" name="revision" value=(draft.revision);
                    label { "Note" input type="text" name="note" maxlength="1000"; }
                    button.primary { "Approve this draft" }
                }
            }
        } @else if view.person.may(Use::Publish) {
            form.stack method="post" action={ (base) "/publish" } {
                input type="hidden" name="revision" value=(draft.revision);
                label { "Version note" input type="text" name="note" maxlength="1000" placeholder="shorter title for iOS"; }
                @if traffic.newly_held > 0 {
                    label { input type="checkbox" name="accepts_held_events" value="yes" required; " I know that " (count(i64::try_from(traffic.newly_held).unwrap_or(i64::MAX), "event like these would be held", "events like these would be held")) }
                }
                div.actions {
                    button.primary { "Publish version " (next) }
                    a.button href=(base) { "Back to the editor" }
                }
            }
        } @else {
            p.soft { "Your role does not allow publishing. The draft is saved; ask a publisher." }
        }
    };
    let editor = base.clone();
    view.page(
        Place::Templates,
        &[Crumb::to("Templates", "/templates"), Crumb::to(&key, &editor), Crumb::here("Publish")],
        body,
    )
    .await
}

fn traffic_view(traffic: &TrafficReport) -> Markup {
    let figure = |value: usize| number(i64::try_from(value).unwrap_or(i64::MAX));
    let what = if traffic.based_on == "events" { "real events" } else { "samples" };
    html! {
        h2 { "Real traffic" }
        @if traffic.checked == 0 {
            p.soft { "There are no events of its types yet, and no samples." }
        } @else {
            p { (figure(traffic.checked)) " " (what) ": " strong { (figure(traffic.same)) } " unchanged, " strong { (figure(traffic.differs)) } " changed, " strong { (figure(traffic.would_be_held)) } " would be held." }
            @if !traffic.missing.is_empty() {
                p.warning { "▲ Missing: " @for (place, (path, events)) in traffic.missing.iter().enumerate() { @if place > 0 { ", " } code { (path) } " in " (figure(*events)) } }
            }
            @for (place, difference) in traffic.differences.iter().take(SHOWN).enumerate() {
                details open[place == 0] {
                    summary { "In event " code { (difference.event) } ", " (difference.locale) }
                    @for (field, change) in &difference.fields {
                        p.soft { (field) }
                        pre.gone { code { (change.now) } }
                        pre.new { code { (change.then) } }
                    }
                }
            }
            @for hole in traffic.held_events.iter().take(SHOWN) { p { "◆ " (hole.event) ": " (hole.detail) } }
        }
    }
}

/// What is published.
#[derive(Debug, Deserialize)]
pub(in super::super) struct PublishForm {
    revision: i32,
    #[serde(default)]
    note: String,
    #[serde(default)]
    accepts_held_events: String,
}

pub(in super::super) async fn publish(view: View, Path(key): Path<String>, body: Body) -> Shown {
    let form: PublishForm = forms::read(body).await?;
    let how = Publishing {
        revision: form.revision,
        accepts_held_events: !form.accepts_held_events.is_empty(),
        events: DEFAULT_EVENTS,
    };
    let published = view.console.publisher.publish_draft(&key, how, view.by(form.note.trim())).await?;
    view.console.pipeline.wake();
    let said = format!("Version {} is live. New deliveries use it.", published.version);
    Ok(done(&format!("/templates/{}/history", path_segment(&key)), &said))
}

pub(in super::super) async fn approve(view: View, Path(key): Path<String>, body: Body) -> Shown {
    let form: PublishForm = forms::read(body).await?;
    view.console.publisher.approve_draft(&key, form.revision, view.by(form.note.trim())).await?;
    Ok(done(&format!("/templates/{}/publish", path_segment(&key)), "Approved. It can be published now."))
}
