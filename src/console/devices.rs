//! Device previews: phone notification, email, SMS.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use super::assets;

use crate::domain::channel::Channel;
use crate::pipeline::operator::preview::Previewed;
use crate::templating::check::meters;

/// Rendered fields by their names.
struct Fields<'a>(&'a BTreeMap<String, String>);

impl Fields<'_> {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// The message of a channel.
pub(super) fn message(channel: &str, shown: &Previewed) -> Markup {
    if let Some(held) = &shown.held {
        return html! {
            div.held-preview {
                p { strong { "◆ This message would be held.  " } (held.detail) }
            }
        };
    }
    let fields = Fields(&shown.fields);
    html! {
        @match channel {
            "push" => (push(&fields)),
            "email" => (email(&fields)),
            _ => (sms(&fields)),
        }
        @if !shown.blanks.is_empty() {
            p.problem { "▲ These values render empty:  " (shown.blanks.join(", ")) }
        }
    }
}

fn push(fields: &Fields<'_>) -> Markup {
    html! {
        div.devices {
            figure.phone.ios {
                figcaption { "iPhone" }
                div.notification {
                    div.app-name { span { "YOUR APP" } span { "now" } }
                    @if !fields.get("headings").is_empty() { div.title { (fields.get("headings")) } }
                    @if !fields.get("subtitle").is_empty() { div.subtitle { (fields.get("subtitle")) } }
                    div.text { (fields.get("contents")) }
                }
            }
            figure.phone.android {
                figcaption { "Android" }
                div.notification {
                    div.app-name { span { "Your app · now" } }
                    @if !fields.get("headings").is_empty() { div.title { (fields.get("headings")) } }
                    div.text { (fields.get("contents")) }
                }
            }
        }
        @if !fields.get("url").is_empty() { p.soft { "Opens " code { (fields.get("url")) } } }
    }
}

fn email(fields: &Fields<'_>) -> Markup {
    html! {
        div.mail {
            div.mail-head {
                strong { (fields.get("subject")) }
                @if !fields.get("preheader").is_empty() { span.soft { " – " (fields.get("preheader")) } }
            }
            @if loads_images(fields.get("body")) {
                p.images { "Images are not loaded, because that would reveal the view, and values in their URLs, to their servers.  " button type="button" data-loads-images { "Load images" } }
            }
            div.frames {
                @for (class, title) in [("wide", "Email on a computer"), ("narrow", "Email on a phone")] {
                    iframe.(class) sandbox="allow-scripts" src="/mail-frame" title=(title) data-html=(fields.get("body")) {}
                }
            }
            details { summary { "Source" } pre tabindex="0" { code { (fields.get("body")) } } }
        }
    }
}

fn sms(fields: &Fields<'_>) -> Markup {
    let text = fields.get("contents");
    html! {
        div.devices { figure.phone.sms { figcaption { "SMS" } div.bubble { (text) } } }
        @for meter in meters(Channel::Sms, "contents", text) {
            p.soft { (meter.used) @if meter.used == 1 { " segment: " } @else { " segments: " } (meter.note) }
        }
    }
}

/// Whether an email refers to external images.
fn loads_images(body: &str) -> bool {
    let body = body.to_ascii_lowercase();
    let names_one = ["src=", "srcset=", "background=", "url("].iter().any(|part| body.contains(part));
    names_one && body.contains("//")
}

/// The policy of an email's frame: inline styles and embedded images. Its only script inserts the
/// email.
const FRAME_POLICY: &str = "sandbox allow-scripts; default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; \
     img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'";

/// Whether to load images.
#[derive(Debug, Default, Deserialize)]
pub(super) struct FrameQuery {
    #[serde(default)]
    images: String,
}

/// The empty page that an email is inserted into, without any permissions in the console.
pub(super) async fn mail_frame(Query(query): Query<FrameQuery>) -> Response {
    let page = html! { (DOCTYPE) html { head { script src=(assets::url("mail-frame.js")) {} } body {} } };
    let policy = match query.images.as_str() {
        "yes" => FRAME_POLICY.replace("img-src data:", "img-src https: data:"),
        _ => FRAME_POLICY.to_owned(),
    };
    ([(header::CONTENT_SECURITY_POLICY, policy)], page).into_response()
}
