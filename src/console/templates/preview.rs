//! The editor's preview: devices, problems with positions, meters, event fields.

use axum::body::Body;
use axum::extract::Path;
use axum::response::IntoResponse;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::super::devices;
use super::super::failure::Failure;
use super::super::page_context::{Shown, View};
use super::Known;
use super::fields::{Sent, label};
use crate::access::Use;
use crate::catalog::CatalogProblem;
use crate::catalog::preview_data::{draft_version, shown_data, types_of};
use crate::compute::Purpose;
use crate::domain::budget::Budget;
use crate::domain::digest;
use crate::domain::event::{Recipient, RecipientLabel};
use crate::domain::id::EventId;
use crate::domain::template::Content;
use crate::pipeline::operator::preview::{PreviewWish, Previewed};
use crate::templating::check::{Meter, Unit, meters};

/// The maximum depth of listed fields.
const DEPTH: usize = 4;

pub(in super::super) async fn show(view: View, Path(key): Path<String>, body: Body) -> Shown {
    let known = Known::find(&view, &key).await?;
    let sent = Sent::read(body).await?;
    let content = match sent.content() {
        Ok(content) => content,
        Err(Failure::Invalid(why)) => return Ok(html! { p.problem { "▲ " (why) } }.into_response()),
        Err(other) => return Err(other),
    };
    let data = match example(&view, &known, &sent).await? {
        Ok(data) => gathered(&known, data),
        Err(why) => return Ok(html! { p.problem { "▲ " (why) } }.into_response()),
    };
    let (problems, _) = view.console.publisher.check_template(&key, &content, 0).await?;
    let locales: Vec<String> = content.contents.keys().cloned().collect();
    let mut shown = Vec::new();
    for locale in &locales {
        shown.push(preview(&view, &known, &content, locale, &data).await?);
    }
    let rows = variables_of(&view, &known, &content).await?;
    let channel = known.template.channel;
    let markup = html! {
        @for (locale, one) in locales.iter().zip(&shown) {
            section.shown data-locale=(locale) hidden[*locale != content.default_locale && locales.len() > 1] {
                @if locales.len() > 1 { p.soft { "In " (locale) } }
                (devices::message(channel.as_str(), one))
                ul.meters {
                    @for (name, text) in &one.fields {
                        @for meter in meters(channel, name, text) {
                            li.over[meter.used > meter.limit] { (label(name)) ": " (meter.used) " of " (meter.limit) " " (unit(&meter)) }
                        }
                    }
                    @if let Some(bytes) = custom_data(one) { li.over[bytes > channel.custom_data_limit()] { "Values: " (bytes) " of " (channel.custom_data_limit()) " bytes; about " (channel.custom_data_limit() / bytes.max(1)) " recipients per API call" } }
                }
            }
        }
        (problem_list(&problems))
        (variables(&rows))
    };
    Ok(markup.into_response())
}

async fn preview(
    view: &View,
    known: &Known,
    content: &Content,
    locale: &str,
    data: &Value,
) -> Result<Previewed, Failure> {
    let version = draft_version(&known.snapshot, &known.template.key, content.clone());
    let version = version.ok_or_else(|| Failure::NotFound("The template was deleted.".to_owned()))?;
    let recipient = Recipient { label: RecipientLabel::ExternalId, id: "user-42".to_owned() };
    let wish = PreviewWish { version, locale: Some(locale), data, recipient, user: json!({}) };
    Ok(view.console.pipeline.preview(wish).await?)
}

fn unit(meter: &Meter) -> &'static str {
    match meter.unit {
        Unit::Segments => "segments",
        Unit::Characters => "characters",
    }
}

/// The size of one recipient's values in the call.
fn custom_data(shown: &Previewed) -> Option<usize> {
    let data = shown.request.as_ref()?.get("custom_data")?;
    Some(data.to_string().len())
}

/// The selected preview data, or the error in the custom data.
pub(super) async fn example(
    view: &View,
    known: &Known,
    sent: &Sent,
) -> Result<Result<Value, String>, Failure> {
    let chosen = sent.text("sample");
    if chosen == "own" {
        let text = sent.text("own").trim();
        let text = if text.is_empty() { "{}" } else { text };
        return Ok(match serde_json::from_str::<Value>(text) {
            Ok(data) if data.is_object() => Ok(data),
            Ok(_) => Err("Enter a JSON object, such as {\"order_id\": \"1001\"}.".to_owned()),
            Err(error) => Err(format!("Not valid JSON: {error}.")),
        });
    }
    if let Some(id) = chosen.strip_prefix("event:") {
        if !view.person.may(Use::ReadEvents) {
            return Err(Failure::Forbidden("Your role does not allow viewing events.".to_owned()));
        }
        let gone = || Failure::NotFound("That event was deleted. Choose another.".to_owned());
        let id: EventId = id.parse().map_err(|_| gone())?;
        let event = view.console.store.find_event(id).await?.ok_or_else(gone)?.event;
        return Ok(Ok(shown_data(&known.snapshot, &event.event_type, &event.data)));
    }
    let types = types_of(&known.snapshot, &known.template.key);
    let named = chosen.strip_prefix("sample:").and_then(|rest| rest.split_once(':'));
    let sample =
        named.and_then(|(of, name)| types.iter().find(|entry| entry.name.as_str() == of)?.samples.get(name));
    let first = || types.iter().find_map(|entry| entry.samples.values().next());
    Ok(Ok(sample.or_else(first).cloned().unwrap_or_else(|| json!({}))))
}

/// A digest's template gets several events.
fn gathered(known: &Known, data: Value) -> Value {
    let is_gathered = known
        .snapshot
        .rules
        .iter()
        .any(|rule| rule.template() == Some(&known.template.key) && rule.definition.digest.is_some());
    if is_gathered && data.get(digest::ITEMS).is_none() { digest::gathered(vec![data], 1) } else { data }
}

/// Problems with positions, errors first.
pub(super) fn problem_list(problems: &[CatalogProblem]) -> Markup {
    let errors = problems.iter().filter(|problem| problem.is_error());
    let rest = problems.iter().filter(|problem| !problem.is_error());
    html! {
        h2 { "Problems" @if !problems.is_empty() { " " span.count { (problems.len()) } } }
        @if problems.is_empty() { p.soft { "No problems. Ready to publish." } }
        ul.problems {
            @for problem in errors.chain(rest) {
                li.error[problem.is_error()] data-locale=[problem.locale.as_deref()] data-field=[problem.field.as_deref()] data-line=[problem.line] data-column=[problem.column] data-says=(problem.message) {
                    strong { @if problem.is_error() { "▲ " } @else { "◆ " } @if problem.field.is_some() { button.place type="button" data-goes="" title="Go there" { (place(problem)) } } @else { (place(problem)) } } " " (problem.message)
                    @if let Some(hint) = &problem.hint { span.soft { "; " (hint) } }
                }
            }
        }
    }
}

fn place(problem: &CatalogProblem) -> String {
    let mut text: Vec<String> = Vec::new();
    text.extend(problem.locale.clone());
    text.extend(problem.field.clone());
    if let Some(line) = problem.line {
        text.push(problem.column.map_or_else(|| line.to_string(), |column| format!("{line}:{column}")));
    }
    text.join(" ")
}

/// One of the event's values.
struct Variable {
    path: String,
    kind: String,
    is_required: bool,
    /// How often the content uses it.
    used: usize,
}

/// Maximum listed fields.
const MAX_VARIABLES: usize = 1_000;

/// Event fields, with the number of uses.
async fn variables_of(view: &View, known: &Known, content: &Content) -> Result<Vec<Variable>, Failure> {
    let texts: Vec<&str> =
        content.contents.values().flat_map(|fields| fields.values()).map(String::as_str).collect();
    let copy = texts.join("\n");
    let mut rows: Vec<Variable> = Vec::new();
    for entry in types_of(&known.snapshot, &known.template.key) {
        walk(&entry.schema, "data", &mut |path, kind, is_required| {
            if rows.len() < MAX_VARIABLES {
                rows.push(Variable { path: path.to_owned(), kind: kind.to_owned(), is_required, used: 0 });
            }
        });
    }
    let count = move |budget: &Budget| {
        for row in &mut rows {
            if budget.work(copy.len()).is_err() {
                break;
            }
            row.used = uses(&copy, &row.path);
        }
        rows
    };
    Ok(view.console.compute.run(Purpose::People, count).await?)
}

fn variables(rows: &[Variable]) -> Markup {
    html! {
        h2 { "Variables" }
        @if rows.is_empty() { p.soft { "No rule sends this template yet, so its fields are unknown." } }
        table.rows.variables {
            tbody {
                @for Variable { path, kind, is_required, used } in rows {
                    tr {
                        td { button.link type="button" data-inserts={ "{{ " (path) " }}" } title="Insert at the cursor" { code { (path) } } }
                        td { (kind) }
                        td { @if *is_required { "required" } @else { "optional" @if *used > 0 { span.soft { ", needs a default" } } } }
                        td { @if *used > 0 { "used " (used) "×" } @else { span.soft { "not used" } } }
                    }
                }
            }
        }
    }
}

/// How often content uses exactly this path.
fn uses(copy: &str, path: &str) -> usize {
    copy.match_indices(path)
        .filter(|(at, _)| {
            let next = copy[at + path.len()..].chars().next();
            next.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '.')
        })
        .count()
}

/// Lists the fields of a schema: path, type, whether it is required.
pub(in super::super) fn walk(schema: &Value, path: &str, tell: &mut impl FnMut(&str, &str, bool)) {
    walk_to(schema, path, DEPTH, tell);
}

fn walk_to(schema: &Value, path: &str, depth: usize, tell: &mut impl FnMut(&str, &str, bool)) {
    let Some(members) = schema["properties"].as_object() else { return };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, inner) in members {
        let path = format!("{path}.{name}");
        let kind = match &inner["type"] {
            Value::String(kind) => kind.clone(),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            _ => "any".to_owned(),
        };
        tell(&path, &kind, required.contains(&name.as_str()));
        if depth > 0 {
            walk_to(inner, &path, depth - 1, tell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_counted_by_whole_paths() {
        assert_eq!(
            uses(
                "{{ data.name }} {{ data.name_long }} {{ data.name | upcase }} {{data.name.first}}",
                "data.name"
            ),
            2
        );
    }

    #[test]
    fn a_schema_s_values_are_reported_with_type_and_need() {
        let schema = json!({"required": ["a"], "properties": {"a": {"type": "string"}, "b": {"type": ["object", "null"], "properties": {"c": {"type": "number"}}}}});
        let mut reported = Vec::new();
        walk(&schema, "data", &mut |path, kind, need| reported.push(format!("{path} {kind} {need}")));
        assert_eq!(reported, ["data.a string true", "data.b object or null false", "data.b.c number false"]);
    }
}
