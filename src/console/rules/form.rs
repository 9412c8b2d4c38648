//! A rule's form: common fields as inputs, the rest as JSON.

use axum::body::Body;
use axum::extract::Path;
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::super::event::path_segment;
use super::super::failure::Failure;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View, done};
use super::super::templates::Sent;
use crate::access::Use;
use crate::catalog::ApplyError;
use crate::catalog::entries::{Entry, entry_version, rule_form};
use crate::catalog::forms::RuleForm;
use crate::domain::snapshot::CatalogSnapshot;

/// Fields with their own input; all others are in the JSON.
const BOXES: [&str; 9] = [
    "event",
    "description",
    "when",
    "template",
    "priority",
    "enabled",
    "delay",
    "expires_in",
    "recipient_zone",
];

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Compute(error) => error.into(),
            ApplyError::Store(error) => error.into(),
            ApplyError::Problems(problems) => {
                let words: Vec<String> = problems
                    .iter()
                    .map(|problem| match &problem.hint {
                        Some(hint) => format!("{}; {hint}", problem.message),
                        None => problem.message.clone(),
                    })
                    .collect();
                Self::Invalid(format!("{}. Go back to correct it.", words.join(". ")))
            }
            error @ (ApplyError::Changed(_) | ApplyError::Busy) => Self::Conflict(format!(
                "{} Reload the page; your changes are on the previous page.",
                super::super::login::sentence(&error)
            )),
            error => Self::Invalid(super::super::login::sentence(&error)),
        }
    }
}

pub(in super::super) async fn new(view: View) -> Shown {
    let snapshot = view.console.store.snapshot().await?;
    let form = serde_json::json!({"enabled": true, "priority": "normal"});
    let body = html! {
        h1 { "New rule" }
        (sheet(&view, &snapshot, None, &form, 0))
    };
    view.page(Place::Rules, &[Crumb::to("Rules", "/rules"), Crumb::here("New rule")], body).await
}

pub(in super::super) async fn page(view: View, Path(key): Path<String>) -> Shown {
    let snapshot = view.console.store.snapshot().await?;
    let rule = snapshot.rules.iter().find(|rule| rule.key == key);
    let rule = rule.ok_or_else(|| Failure::NotFound(format!("There is no rule {key}.")))?;
    let form = rule_form(rule, &snapshot);
    let body = html! {
        div.heading {
            h1 { (key) }
            @if rule.is_enabled { span.chip.good { "● enabled" } } @else { span.chip.off { "– disabled" } }
        }
        (sheet(&view, &snapshot, Some(&key), &form, rule.version))
        @if view.person.may(Use::ChangeCatalog) {
            form method="post" action={ "/rules/" (path_segment(&key)) "/delete" } data-asks={ "Delete the rule " (key) "? It no longer sends anything for new events; pending deliveries are still sent." } {
                input type="hidden" name="revision" value=(rule.version);
                button.link { "Delete this rule" }
            }
        }
    };
    view.page(Place::Rules, &[Crumb::to("Rules", "/rules"), Crumb::here(&key)], body).await
}

fn text<'a>(form: &'a Value, name: &str) -> &'a str {
    form[name].as_str().unwrap_or("")
}

fn sheet(view: &View, snapshot: &CatalogSnapshot, key: Option<&str>, form: &Value, version: i32) -> Markup {
    let action = key.map_or_else(|| "/rules".to_owned(), |key| format!("/rules/{}", path_segment(key)));
    let rest: Map<String, Value> = form
        .as_object()
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, _)| !BOXES.contains(&name.as_str()) && name != "key" && name != "version")
        .collect();
    let rest = if rest.is_empty() { String::new() } else { format!("{:#}", Value::Object(rest)) };
    let may = view.person.may(Use::ChangeCatalog);
    html! {
        form.rule #rule.stack method="post" action=(action) {
            input type="hidden" name="revision" value=(version);
            @if key.is_none() { label { "Key " span.soft { "(can't be changed later)" } input type="text" name="key" required maxlength="100" placeholder="order-shipped-push" autocomplete="off" spellcheck="false"; } }
            label { "Trigger event"
                input type="text" name="event" required value=(text(form, "event")) list="types" placeholder="order.shipped or order.*" autocomplete="off" spellcheck="false";
            }
            datalist #types { @for entry in &snapshot.event_types { option value=(entry.name.as_str()) {} } }
            label { "Condition " span.soft { "(optional)" }
                input type="text" name="when" value=(text(form, "when")) placeholder="data.total > 100.0" autocomplete="off" spellcheck="false";
            }
            (builder(snapshot, text(form, "event")))
            label { "Send template"
                select name="template" {
                    option value="" { "No template (other action)" }
                    @for template in &snapshot.templates { option value=(template.key) selected[template.key == text(form, "template")] { (template.key) } }
                }
            }
            label { "Priority"
                select name="priority" {
                    @for (priority, about) in [("urgent", "urgent: codes and alarms, before everything else"), ("normal", "normal"), ("bulk", "bulk: after everything else")] {
                        option value=(priority) selected[priority == text(form, "priority")] { (about) }
                    }
                }
            }
            label { "Delay " span.soft { "(such as 10m or 2h)" } input type="text" name="delay" value=(text(form, "delay")) maxlength="30"; }
            label { "Expires after " span.soft { "(such as 2d)" } input type="text" name="expires_in" value=(text(form, "expires_in")) maxlength="30"; }
            label { input type="checkbox" name="recipient_zone" value="yes" checked[form["recipient_zone"] == true]; " Use the recipient's time zone if known" }
            label { "Description" input type="text" name="description" value=(text(form, "description")) maxlength="300"; }
            label { input type="checkbox" name="enabled" value="yes" checked[form["enabled"] != false]; " Enabled" }
            details open[!rest.is_empty()] {
                summary { "Advanced (JSON)" }
                p.soft { "Windows, quiet hours, throttle, digest, canary, segments, filters, tags, Journeys, cancellation: as in  " code { "rules/*.toml" } "." }
                textarea name="rest" rows="8" spellcheck="false" placeholder="{\"throttle\": {\"max\": 3, \"within\": \"1h\"}}" { "\n" (rest) }
            }
            div #tried {}
            div.actions {
                @if may { button.primary { "Save" } }
                button type="button" hx-post="/rules/try" hx-include="#rule" hx-target="#tried" { "Test against past events" }
            }
        }
    }
}

/// The condition builder.
fn builder(snapshot: &CatalogSnapshot, event: &str) -> Markup {
    let mut paths: Vec<(String, String)> = Vec::new();
    for entry in snapshot
        .event_types
        .iter()
        .filter(|entry| event.is_empty() || crate::domain::event::covers(event, &entry.name))
    {
        super::super::templates::walk(&entry.schema, "data", &mut |path, kind, _| {
            if !paths.iter().any(|(known, _)| known == path) {
                paths.push((path.to_owned(), kind.to_owned()));
            }
        });
    }
    html! {
        @if !paths.is_empty() {
            details.builder {
                summary { "Condition builder" }
                div.actions data-builds="when" {
                    select aria-label="Value" { @for (path, kind) in &paths { option value=(path) data-kind=(kind) { (path) } } }
                    select aria-label="Comparison" {
                        option value="==" { "is" } option value="!=" { "is not" } option value=">" { "greater than" } option value="<" { "less than" }
                        option value="has" { "exists" } option value="contains" { "contains" } option value="startsWith" { "starts with" }
                    }
                    input type="text" aria-label="Value" placeholder="Berlin";
                    button type="button" data-joins="&&" { "Add AND" }
                    button type="button" data-joins="||" { "Add OR" }
                }
            }
        }
    }
}

/// Converts the submitted form to the catalog's form.
pub(super) fn read(sent: &Sent) -> Result<RuleForm, Failure> {
    let rest = sent.text("rest").trim();
    let mut form: Map<String, Value> = if rest.is_empty() {
        Map::new()
    } else {
        serde_json::from_str(rest)
            .map_err(|error| Failure::Invalid(format!("Advanced: not a valid JSON object: {error}.")))?
    };
    for name in ["event", "when", "template", "priority", "delay", "expires_in", "description"] {
        let value = sent.text(name).trim();
        if !value.is_empty() {
            form.insert(name.to_owned(), Value::String(value.to_owned()));
        }
    }
    form.insert("enabled".to_owned(), Value::Bool(!sent.text("enabled").is_empty()));
    if !sent.text("recipient_zone").is_empty() {
        form.insert("recipient_zone".to_owned(), Value::Bool(true));
    }
    serde_json::from_value(Value::Object(form))
        .map_err(|error| Failure::Invalid(format!("Invalid rule: {error}.")))
}

pub(in super::super) async fn save(view: View, key: Option<Path<String>>, body: Body) -> Shown {
    let sent = Sent::read(body).await?;
    let key = key.map_or_else(|| sent.text("key").trim().to_owned(), |Path(key)| key);
    let form = read(&sent)?;
    let applied = view
        .console
        .publisher
        .put_entry(&key, Entry::Rule(Box::new(form)), (sent.revision()?, false), view.by(""))
        .await?;
    view.console.pipeline.wake();
    let said =
        if applied.changes.is_empty() { "No changes." } else { "Rule saved. It applies to new events." };
    Ok(done(&format!("/rules/{}", path_segment(&key)), said))
}

pub(in super::super) async fn delete(view: View, Path(key): Path<String>, body: Body) -> Shown {
    let sent = Sent::read(body).await?;
    let snapshot = view.console.store.snapshot().await?;
    if entry_version(&snapshot, "rule", &key) == 0 {
        return Err(Failure::NotFound(format!("There is no rule {key}.")));
    }
    view.console.publisher.delete_entry(("rule", &key), (sent.revision()?, false), view.by("")).await?;
    Ok(done("/rules", &format!("Rule {key} deleted.")))
}
