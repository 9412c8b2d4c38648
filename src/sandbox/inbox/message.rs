//! A message as one of its recipients sees it, with recipient actions.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Router, routing};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::Sandbox;
use super::super::actions::{Act, RecipientAction};
use super::super::message::{Channel, Message, ReceivedMessage, ReceivedRecipient};
use super::super::refusal::Refusal;
use super::super::render;
use super::card::{held_events, text, time};
use super::{framed, host_of, page};
use crate::domain::budget::Budget;
use crate::templating::liquid::{Strictness, Template as Liquid};

/// How many recipients can be chosen from.
const LISTED: usize = 200;
/// Characters of a single-part SMS, and of each part of a longer one: GSM alphabet, and others.
const PARTS: [(usize, usize); 2] = [(160, 153), (70, 67)];

/// Common HTML entities; the ampersand last, since it starts the others.
const ENTITIES: [(&str, &str); 6] =
    [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];

pub(super) fn routes() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/inbox/{id}", routing::get(show))
        .route("/inbox/{id}/{place}/{deed}", routing::post(act))
}

#[derive(Deserialize)]
struct Chosen {
    to: Option<String>,
}

async fn show(
    State(sandbox): State<Arc<Sandbox>>,
    Path(id): Path<String>,
    Query(chosen): Query<Chosen>,
    headers: HeaderMap,
) -> Response {
    let found = id.parse().ok().and_then(|id| sandbox.state.lock().any_message(id));
    let Some(message) = found else { return gone() };
    let seen = render::received_by(&message, &sandbox.options, LISTED);
    let wanted: usize = chosen.to.and_then(|place| place.parse().ok()).unwrap_or_default();
    let place = wanted.min(seen.recipients.len().saturating_sub(1));
    let acts: Vec<Act> = sandbox.state.lock().acts().of(message.id).to_vec();
    let key = sandbox.options.apps.iter().find(|app| app.id == message.app_id).map(|app| app.key.clone());
    let shown = Shown {
        message: &message,
        seen: &seen,
        acts: &acts,
        place,
        key: key.unwrap_or_default(),
        host: host_of(&headers),
    };
    framed(&page::frame("Message", &view(&shown)))
}

fn gone() -> Response {
    let body = html! {
        h2 { "Message not found" }
        p.what { "It was deleted, or the sandbox was reset.  " a href="/" { "Back to the inbox" } }
    };
    (StatusCode::NOT_FOUND, framed(&page::frame("Message", &body))).into_response()
}

async fn act(
    State(sandbox): State<Arc<Sandbox>>,
    Path((id, place, deed)): Path<(Uuid, usize, String)>,
) -> Result<Redirect, Response> {
    let message = sandbox.state.lock().any_message(id).ok_or_else(gone)?;
    let deed = RecipientAction::parse(&deed).filter(|deed| deed.fits(message.channel));
    let deed =
        deed.ok_or_else(|| Refusal::bad("this action is not possible for this message").into_response())?;
    sandbox.act(&message, place, deed, None).map_err(|error| Refusal::not_kept(&error).into_response())?;
    Ok(Redirect::to(&format!("/inbox/{id}?to={place}")))
}

struct Shown<'a> {
    message: &'a Message,
    seen: &'a ReceivedMessage,
    acts: &'a [Act],
    place: usize,
    key: String,
    host: String,
}

fn view(shown: &Shown<'_>) -> Markup {
    let (message, seen) = (shown.message, shown.seen);
    let recipient = seen.recipients.get(shown.place).or(seen.recipients.first());
    html! {
        p.meta {
            span class={ "channel " (message.channel.name()) } { (message.channel.name()) }
            @if let Some(name) = &seen.template_name { span { "template " b { (name) } } }
            code { (message.id) }
            (time(message.received_at))
        }
        @for note in &seen.notes { p.warning { (note) } }
        (recipients(shown))
        @if let Some(recipient) = recipient {
            (held_events(recipient))
            (devices(message.channel, recipient))
            (simulator(shown))
        }
        h2 { "Request" }
        pre tabindex="0" { (serde_json::to_string_pretty(&seen.request).unwrap_or_default()) }
        h2 { "curl" }
        pre.wrapped #curl tabindex="0" { (curl(shown)) }
        // Shown by the script, which it needs.
        p { button data-copy="curl" hidden { "Copy as curl" } }
    }
}

fn recipients(shown: &Shown<'_>) -> Markup {
    let listed = &shown.seen.recipients;
    html! {
        @if listed.len() > 1 {
            form.choose method="get" {
                label { "As seen by "
                    select name="to" {
                        @for (place, to) in listed.iter().enumerate() {
                            option value=(place) selected[place == shown.place] { (to.id) @if !to.blanks.is_empty() { " (blanks)" } }
                        }
                    }
                }
                button { "Show" }
            }
            @if shown.message.recipients > listed.len() {
                p.none { "The first " (listed.len()) " of " (shown.message.recipients) "; all are in " code { "/_sandbox/messages" } "." }
            }
        } @else if let Some(only) = listed.first() {
            p.what { "To " b { (only.id) } }
        }
    }
}

fn devices(channel: Channel, to: &ReceivedRecipient) -> Markup {
    html! {
        div.devices {
            @match channel {
                Channel::Push => {
                    (phone("iPhone", "ios", to))
                    (phone("Android", "android", to))
                }
                Channel::Email => (mail(to)),
                Channel::Sms => (sms(to)),
            }
        }
    }
}

fn phone(name: &str, class: &str, to: &ReceivedRecipient) -> Markup {
    html! {
        figure class={ "phone " (class) } {
            figcaption { (name) }
            div.notification {
                p.app { "Your app · now" }
                @if let Some(title) = text(to, "headings") { p.title { (title) } }
                @if class == "ios" { @if let Some(subtitle) = text(to, "subtitle") { p.subtitle { (subtitle) } } }
                p.text { (text(to, "contents").unwrap_or_default()) }
            }
            @for name in ["url", "web_url", "app_url"] {
                @if let Some(url) = text(to, name) { p.link { "opens " code { (url) } } }
            }
        }
    }
}

fn mail(to: &ReceivedRecipient) -> Markup {
    let body = text(to, "email_body").unwrap_or_default();
    html! {
        figure.mail {
            p.title { (text(to, "email_subject").unwrap_or("(no subject)")) }
            @if let Some(preheader) = text(to, "email_preheader") { p.subtitle { (preheader) } }
            iframe sandbox="" title="Email" srcdoc=(body) {}
            details { summary { "Plain text" } pre tabindex="0" { (plain(body)) } }
            details { summary { "Source" } pre tabindex="0" { (body) } }
        }
    }
}

fn sms(to: &ReceivedRecipient) -> Markup {
    let words = text(to, "contents").unwrap_or_default();
    let (count, parts) = sms_parts(words);
    html! {
        figure.phone.sms {
            figcaption { "SMS · " (count) " characters in " (parts) @if parts == 1 { " part" } @else { " parts" } }
            div.notification { p.text { (words) } }
        }
    }
}

/// The characters of an SMS, and how many parts it is sent and paid in.
fn sms_parts(text: &str) -> (usize, usize) {
    let in_alphabet = text.is_ascii() && !text.contains('`');
    let (one, each) = if in_alphabet { PARTS[0] } else { PARTS[1] };
    let doubled = text.chars().filter(|c| "^{}\\[~]|".contains(*c)).count();
    let length = if in_alphabet { text.len() + doubled } else { text.encode_utf16().count() };
    (length, if length <= one { 1 } else { length.div_ceil(each) })
}

/// An email as plain text.
fn plain(html: &str) -> String {
    let body = Value::String(html.to_owned());
    let stripped = Liquid::parse("{{ body | strip_html }}", &Budget::default())
        .ok()
        .and_then(|liquid| liquid.render(&[("body", &body)], Strictness::Lenient, &Budget::default()).ok());
    let text = stripped.map(|stripped| stripped.text).unwrap_or_default();
    let text = ENTITIES.iter().fold(text, |text, (entity, c)| text.replace(entity, c));
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// What the recipient may do, and what they did.
fn simulator(shown: &Shown<'_>) -> Markup {
    let did = shown.acts.iter().filter(|act| act.place == shown.place);
    html! {
        h2 { "Recipient actions" }
        p.what { "Simulate recipient actions (counted in stats and Event Streams)." }
        div.deeds {
            @for deed in RecipientAction::ALL.into_iter().filter(|deed| deed.fits(shown.message.channel)) {
                form method="post" action={ "/inbox/" (shown.message.id) "/" (shown.place) "/" (deed.name()) } {
                    button { (in_words(deed)) }
                }
            }
        }
        ul.did { @for act in did { li { b { (in_words(act.deed)) } " " (time(act.at)) } } }
    }
}

fn in_words(deed: RecipientAction) -> &'static str {
    match deed {
        RecipientAction::Open => "Open",
        RecipientAction::Click => "Click",
        RecipientAction::Bounce => "Bounce",
        RecipientAction::Fail => "Fail",
        RecipientAction::ReportSpam => "Report as spam",
        RecipientAction::Unsubscribe => "Unsubscribe",
        RecipientAction::Subscribe => "Subscribe",
    }
}

/// The call as a developer would make it by hand.
fn curl(shown: &Shown<'_>) -> String {
    // Shell quoting: a quote ends the single-quoted string, is escaped, and starts a new one.
    let body = shown.seen.request.to_string().replace('\'', r"'\''");
    format!(
        "curl http://{}/notifications \\\n  -H 'Authorization: Key {}' \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'",
        shown.host, shown.key
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sms_is_counted_as_phones_do() {
        assert_eq!(sms_parts(&"a".repeat(160)), (160, 1));
        assert_eq!(sms_parts(&"a".repeat(161)), (161, 2));
        assert_eq!(sms_parts("10 {}"), (7, 1), "braces count twice");
        assert_eq!(sms_parts(&"я".repeat(71)), (71, 2));
    }

    #[test]
    fn a_mail_is_readable_without_its_markup() {
        assert_eq!(plain("<h1>Hi</h1>\n<p>Your <b>order</b></p>"), "Hi\nYour order");
        let styled = "<style>p { color: red }</style><p>A &amp; B&nbsp;&lt;3</p><script>x()</script>";
        assert_eq!(plain(styled), "A & B <3");
    }
}
