//! The list of templates, and creating one.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use chrono::TimeDelta;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::components::{empty, number, when};
use super::super::event::path_segment;
use super::super::failure::Failure;
use super::super::forms;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View, done};
use crate::access::Use;
use crate::catalog::preview_data::types_of;
use crate::catalog::templates::new_template;
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::template::Content;

/// How far back issues are counted.
const LOOK_BACK: TimeDelta = TimeDelta::hours(24);

/// The locales, the default one first; incomplete ones with the share of translated fields.
fn locales(content: &Content) -> Markup {
    let whole = content.contents.get(&content.default_locale);
    let fields = |locale: &str| {
        let has = content.contents.get(locale);
        whole
            .into_iter()
            .flat_map(|whole| whole.keys())
            .filter(|name| has.is_some_and(|has| has.contains_key(*name)))
            .count()
    };
    let all = fields(&content.default_locale);
    html! {
        (content.default_locale)
        @for locale in content.contents.keys().filter(|locale| **locale != content.default_locale) {
            ", " (locale) @if fields(locale) < all { span.soft { " (" (fields(locale)) " of " (all) " fields)" } }
        }
    }
}

pub(in super::super) async fn page(view: View) -> Shown {
    let store = &view.console.store;
    let snapshot = store.snapshot().await?;
    let drafted: BTreeSet<String> = store.drafted_templates().await?.into_iter().collect();
    let (groups, _) = store.issues(view.now() - LOOK_BACK).await?;
    let mut issues: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for group in &groups {
        let (held, failed) = issues.entry(&group.key.template).or_default();
        *(if group.key.state == "held" { held } else { failed }) += group.count;
    }
    let last: BTreeMap<String, Timestamp> = store.last_planned().await?.into_iter().collect();
    let now = view.now();
    let body = html! {
        div.heading { h1 { "Templates" } }
        @if snapshot.templates.is_empty() {
            (empty("No templates yet", &html! { p { "A template is the content of a message for one channel, in one or more languages. A rule sends it when an event arrives." } }))
        } @else {
            table.rows {
                thead { tr { th { "Template" } th { "Channel" } th { "For events" } th { "Live" } th { "Draft" } th { "Locales" } th { "Last sent" } th.num { "Held, 24 h" } th.num { "Failed, 24 h" } th { "Owner" } } }
                tbody {
                    @for template in &snapshot.templates {
                        @let live = snapshot.versions.iter().find(|version| Some(version.id) == template.live);
                        tr {
                            td { a.whole href={ "/templates/" (path_segment(&template.key)) } { (template.key) } @if !template.description.is_empty() { div.sub { (template.description) } } }
                            td { (template.channel.as_str()) }
                            td { @for (place, entry) in types_of(&snapshot, &template.key).iter().enumerate() { @if place > 0 { ", " } (entry.name.as_str()) } }
                            td { @match live { Some(version) => { "v" (version.number) }, None if template.is_archived => span.chip.off { "– archived" }, None => span.soft { "not yet" } } }
                            td { @if drafted.contains(&template.key) { span.chip.wait { "◌ draft" } } }
                            td { @if let Some(version) = live { (locales(&version.content)) } }
                            td { @match last.get(&template.key) { Some(at) => (when(*at, now)), None => span.soft { "–" } } }
                            @let (held, failed) = issues.get(template.key.as_str()).copied().unwrap_or_default();
                            @for count in [held, failed] {
                                td.num { @if count > 0 { a href="/issues" { (number(count)) } } @else { span.soft { "–" } } }
                            }
                            td { (template.owner.as_deref().unwrap_or("")) }
                        }
                    }
                }
            }
        }
        @if view.person.may(Use::ChangeCatalog) {
            details.action {
                summary.button { "New template …" }
                form.stack method="post" action="/templates" {
                    label { "Key " span.soft { "(used by rules; can't be changed later)" } input type="text" name="key" required maxlength="100" placeholder="order-shipped-push" autocomplete="off" spellcheck="false"; }
                    label { "Channel" select name="channel" { @for channel in ["push", "email", "sms"] { option { (channel) } } } }
                    label { "Description" input type="text" name="description" maxlength="300"; }
                    button.primary { "Create template" }
                }
            }
        }
    };
    view.page(Place::Templates, &[Crumb::here("Templates")], body).await
}

/// A new template.
#[derive(Debug, Deserialize)]
pub(in super::super) struct NewForm {
    key: String,
    channel: String,
    #[serde(default)]
    description: String,
}

pub(in super::super) async fn create(view: View, body: Body) -> Shown {
    let form: NewForm = forms::read(body).await?;
    let key = form.key.trim();
    let channel: Channel = form
        .channel
        .parse()
        .map_err(|_| Failure::Invalid("The channel must be push, email or sms.".to_owned()))?;
    let mut template = new_template(key, channel);
    template.description = form.description.trim().to_owned();
    view.console.publisher.create_template(template, view.by("")).await?;
    Ok(done(
        &format!("/templates/{}", path_segment(key)),
        "Template created. Write its content, then publish it.",
    ))
}
