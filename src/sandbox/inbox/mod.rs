//! The inbox: a page that shows every message as its recipient sees it, live.
//!
//! Rendered here, brought in by a small script that listens to `/_sandbox/events`. Nothing comes from elsewhere, and
//! nothing from a message runs: texts are escaped, emails lie in a sandboxed frame.

mod card;
mod faults;
mod live;
mod page;

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::from_fn;
use axum::response::{Html, IntoResponse, Response};
use axum::{Router, routing};
use maud::Markup;
use serde::Deserialize;

use super::Sandbox;
use super::message::Message;
use super::render;

const SCRIPT: &str = include_str!("inbox.js");
const STYLE: &str = include_str!("inbox.css");
/// How many messages a page shows, and how far the live list may be behind before it skips some.
const PAGE: usize = 50;
/// How many recipients a card shows.
const RECIPIENTS_SHOWN: usize = 10;
/// Emails carry their styles in themselves, and a frame inherits this policy: hence the inline styles.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; \
    img-src data:; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const NOSNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

/// Routes the page and what it loads.
pub(super) fn routes() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/", routing::get(show))
        .route("/_sandbox/inbox.js", routing::get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
        .route("/_sandbox/inbox.css", routing::get(async || asset("text/css; charset=utf-8", STYLE)))
        .route("/_sandbox/events", routing::get(live::events))
        .merge(faults::routes())
        .layer(from_fn(super::control::refuse_other_sites))
}

/// A page with the headers that keep it to itself.
fn framed(page: &Markup) -> Response {
    let policy = (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    let referrer = (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let fresh = (header::CACHE_CONTROL, "no-store");
    ([policy, referrer], [NOSNIFF, fresh], Html(page.clone().into_string())).into_response()
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache"), NOSNIFF], text).into_response()
}

#[derive(Deserialize)]
struct Place {
    before: Option<u64>,
}

async fn show(
    State(sandbox): State<Arc<Sandbox>>,
    headers: HeaderMap,
    Query(place): Query<Place>,
) -> Response {
    let host =
        headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8081").to_owned();
    let (newest, mut found) = {
        let state = sandbox.state.lock();
        (state.newest(), state.messages_before(place.before.unwrap_or(u64::MAX), PAGE + 1))
    };
    let older = found.len() > PAGE;
    found.truncate(PAGE);
    let cards = found.iter().map(|message| card_of(&sandbox, message)).collect();
    let view = page::View {
        cards,
        newest,
        older: found.last().filter(|_| older).map(|message| message.sequence),
        live: place.before.is_none(),
        host,
        app: sandbox.options.apps.first(),
    };
    framed(&page::page(&view))
}

fn card_of(sandbox: &Sandbox, message: &Message) -> Markup {
    let seen = render::received_by(message, &sandbox.options, RECIPIENTS_SHOWN);
    card::card(message, &seen, sandbox.now())
}
