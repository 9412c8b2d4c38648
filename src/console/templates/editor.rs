//! The editor: content on the left, device previews on the right. Saving never overwrites someone else's changes.

use axum::body::Body;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::assets;
use super::super::components::when;
use super::super::event::path_segment;
use super::super::failure::Failure;
use super::super::forms;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View, done};
use super::super::policy_with_styles;
use super::Known;
use super::fields::{Sent, boxes, settings};
use crate::access::Use;
use crate::catalog::preview_data::types_of;
use crate::catalog::templates::TemplateError;
use crate::domain::template::{Content, Fields};
use crate::store::templates::Draft;
use crate::templating::liquid::{TAGS, filter_names};

/// Past events to choose from.
const EVENTS: i64 = 20;

/// What the editor shows.
struct Sheet<'a> {
    known: &'a Known,
    draft: Option<&'a Draft>,
    /// The content of the fields.
    content: &'a Content,
    /// The draft's revision that saving is based on.
    revision: i32,
    /// What someone else saved in the meantime.
    theirs: Option<&'a Draft>,
}

pub(in super::super) async fn page(view: View, Path(key): Path<String>) -> Shown {
    let known = Known::find(&view, &key).await?;
    let draft = view.console.store.find_draft(known.template.id).await?;
    let content = present(&known, draft.as_ref());
    let revision = draft.as_ref().map_or(0, |draft| draft.revision);
    let sheet = Sheet { known: &known, draft: draft.as_ref(), content: &content, revision, theirs: None };
    show(&view, &sheet).await
}

/// The edited content: the draft, else the live version, else empty.
fn present(known: &Known, draft: Option<&Draft>) -> Content {
    let live = || known.live().map(|live| live.content.clone());
    let mut content = draft.map(|draft| draft.content.clone()).or_else(live).unwrap_or_default();
    if content.contents.is_empty() {
        content.contents.insert(content.default_locale.clone(), Fields::new());
    }
    content
}

async fn show(view: &View, sheet: &Sheet<'_>) -> Shown {
    let template = &sheet.known.template;
    let key = template.key.as_str();
    let base = format!("/templates/{}", path_segment(key));
    let nonce = view.console.ids.secret_text();
    let may_edit = view.person.may(Use::EditDraft) && !template.is_archived;
    let body = html! {
        (heading(view, sheet, (&base, may_edit)))
        @if template.is_archived { p.warning { "▲ Archived: no rule can send it." } }
        @if let Some(theirs) = sheet.theirs {
            p.warning role="alert" {
                "▲ " (theirs.author) " saved this draft " (when(theirs.updated_at, view.now())) " while you were editing. Nothing is lost: your text is in the fields, and theirs is above each field that differs. Merge them and save."
            }
        }
        form.editor #editor method="post" action={ (base) "/draft" } data-keeps=(key) data-variables=(variables(sheet)) data-filters=(filter_names().collect::<Vec<_>>().join(" ")) data-tags=(TAGS.join(" ")) data-nonce=(nonce) {
            input type="hidden" name="revision" value=(sheet.revision);
            div.write {
                @if may_edit {
                    div.actions {
                        button.save { "Save draft" }
                        label.inline { span.hide { "Add a locale" } input.short type="text" name="add_locale" placeholder="add locale: de" maxlength="12" autocomplete="off" spellcheck="false"; }
                        span.soft data-saved="" {}
                    }
                }
                (boxes(template.channel, sheet.content, sheet.theirs.map(|draft| &draft.content)))
                (settings(sheet.content, &layouts(sheet.known)))
            }
            div.look {
                (samples(view, sheet.known).await?)
                div #preview hx-post={ (base) "/preview" } hx-trigger="load, input delay:120ms from:#editor, change from:#editor" hx-include="#editor" hx-sync="this:queue last" {
                    p.soft { "The preview requires JavaScript; the publish page also shows it." }
                }
            }
        }
        script src=(assets::url("editor.min.js")) defer {}
        @if may_edit && sheet.draft.is_some() {
            form method="post" action={ (base) "/discard" } data-asks="Discard this draft? The live version is not affected." {
                input type="hidden" name="revision" value=(sheet.revision);
                button.link { "Discard draft" }
            }
        }
    };
    let crumbs = [Crumb::to("Templates", "/templates"), Crumb::here(key)];
    let mut page = view.page(Place::Templates, &crumbs, body).await?;
    if let Ok(policy) = policy_with_styles(&nonce) {
        page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(page)
}

/// The header: title, status and actions.
fn heading(view: &View, sheet: &Sheet<'_>, (base, may_edit): (&str, bool)) -> Markup {
    let template = &sheet.known.template;
    html! {
        // Enter in a single-line field saves: browsers use the first button of the form.
        @if may_edit { button form="editor" hidden { "Save draft" } }
        div.heading {
            h1 { (template.key) }
            span.chip.off { (template.channel.as_str()) }
            @match sheet.known.live() { Some(live) => span.chip.good { "● v" (live.number) " live" }, None => span.chip.off { "– not live" } }
            @if let Some(draft) = sheet.draft { span.soft { "draft, edited " (when(draft.updated_at, view.now())) " by " (draft.author) } }
            span.right {
                a.button href={ (base) "/history" } { "History" }
                " "
                @if may_edit {
                    a.button href={ (base) "/test" } { "Test send …" }
                    " "
                    @if sheet.theirs.is_none() { button.primary form="editor" name="then" value="publish" title="Save the draft and review before publishing" { "Publish …" } }
                } @else if sheet.draft.is_some() { a.button.primary href={ (base) "/publish" } { "Publish …" } }
            }
        }
    }
}

fn layouts(known: &Known) -> Vec<&str> {
    if known.template.channel.as_str() == "email" {
        known.snapshot.partials.iter().map(|partial| partial.key.as_str()).collect()
    } else {
        Vec::new()
    }
}

/// Event fields for completion: paths with types.
fn variables(sheet: &Sheet<'_>) -> String {
    let mut found: Vec<Value> = Vec::new();
    for entry in types_of(&sheet.known.snapshot, &sheet.known.template.key) {
        super::preview::walk(&entry.schema, "data", &mut |path, kind, is_required| {
            found.push(json!({"path": path, "type": kind, "required": is_required}));
        });
    }
    Value::Array(found).to_string()
}

/// The preview data: samples, recent events, custom data.
pub(super) async fn samples(view: &View, known: &Known) -> Result<Markup, Failure> {
    let types = types_of(&known.snapshot, &known.template.key);
    let names: Vec<String> = types.iter().map(|entry| entry.name.to_string()).collect();
    let events = if view.person.may(Use::ReadEvents) {
        view.console.store.last_events(&names, EVENTS).await?
    } else {
        Vec::new()
    };
    Ok(html! {
        label { "Preview data"
            select name="sample" {
                @for entry in &types {
                    @for name in entry.samples.keys() { option value={ "sample:" (entry.name.as_str()) ":" (name) } { "sample: " (name) @if types.len() > 1 { " of " (entry.name.as_str()) } } }
                }
                @for event in &events { option value={ "event:" (event.id) } { "real event: " (event.event_key) } }
                option value="own" { "Custom data" }
            }
        }
        details.own { summary { "Custom data" } textarea name="own" rows="5" spellcheck="false" placeholder="{\"order_id\": \"1001\"}" {} }
    })
}

pub(in super::super) async fn save(view: View, Path(key): Path<String>, body: Body) -> Shown {
    let sent = Sent::read(body).await?;
    let (content, revision) = (sent.content()?, sent.revision()?);
    let base = format!("/templates/{}", path_segment(&key));
    let to_publish = sent.text("then") == "publish";
    if to_publish {
        // Saving unchanged content would revoke an approval.
        let known = Known::find(&view, &key).await?;
        let draft = view.console.store.find_draft(known.template.id).await?;
        let is_saved =
            draft.as_ref().is_some_and(|draft| draft.revision == revision && draft.content == content);
        if is_saved {
            return Ok(Redirect::to(&format!("{base}/publish")).into_response());
        }
        if draft.is_none() && known.live().is_some_and(|live| live.content == content) {
            return Ok(done(&base, "No changes: this is the live version."));
        }
    }
    match view.console.publisher.save_draft(&key, &content, revision, view.by("")).await {
        Ok(_) if to_publish => Ok(Redirect::to(&format!("{base}/publish")).into_response()),
        Ok(_) => Ok(done(&base, "Draft saved.")),
        Err(TemplateError::Stale(Some(theirs))) => {
            let known = Known::find(&view, &key).await?;
            let sheet = Sheet {
                known: &known,
                draft: Some(&theirs),
                content: &content,
                revision: theirs.revision,
                theirs: Some(&theirs),
            };
            let page = show(&view, &sheet).await?;
            Ok((StatusCode::CONFLICT, page).into_response())
        }
        Err(TemplateError::Stale(None)) => {
            Err(Failure::Conflict("The draft was published or discarded in the meantime. Your text is stored in this browser: go back, copy it, and reload the page.".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Which draft.
#[derive(Debug, Deserialize)]
pub(in super::super) struct DiscardForm {
    revision: i32,
}

pub(in super::super) async fn discard(view: View, Path(key): Path<String>, body: Body) -> Shown {
    let form: DiscardForm = forms::read(body).await?;
    view.console.publisher.discard_draft(&key, form.revision, view.by("")).await?;
    Ok(done(
        &format!("/templates/{}", path_segment(&key)),
        "Draft discarded. The live version is not affected.",
    ))
}
