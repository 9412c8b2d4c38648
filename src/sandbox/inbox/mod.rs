//! The inbox: a page that shows every message as its recipient sees it, live.
//!
//! Rendered on the server and updated by a small script that listens to `/_sandbox/events`. No external resources are
//! loaded, and no message content runs: texts are escaped, emails are in a sandboxed frame.

mod card;
mod faults;
mod live;
mod message;
mod page;
mod search;

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
use search::Search;

const SCRIPT: &str = include_str!("inbox.js");
const STYLE: &str = include_str!("inbox.css");
/// How many messages a page shows, and how far the live list may be behind before it skips some.
const PAGE: usize = 50;
/// Maximum messages per search; the next page continues from there.
const LOOKED_THROUGH: usize = 5_000;
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
        .merge(message::routes())
        .layer(from_fn(super::control::refuse_other_sites))
}

/// Where the reader reached the sandbox.
fn host_of(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.unwrap_or("127.0.0.1:8081").to_owned()
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
    before: Option<String>,
    q: Option<String>,
}

async fn show(
    State(sandbox): State<Arc<Sandbox>>,
    headers: HeaderMap,
    Query(place): Query<Place>,
) -> Response {
    let host = host_of(&headers);
    let asked = place.q.clone().unwrap_or_default();
    let looking = Search::parse(&asked, sandbox.now());
    let wrong = looking.as_ref().err().cloned();
    let search = looking.unwrap_or_default();
    let is_search = !search.is_empty();
    let newest = sandbox.state.lock().newest();
    let before = place.before.and_then(|before| before.parse().ok());
    let of = sandbox.clone();
    // Looking through messages renders them, which takes a while; other calls must not wait for it.
    let found = tokio::task::spawn_blocking(move || find(&of, &search, before.unwrap_or(u64::MAX))).await;
    let Found { cards, older } = found.unwrap_or_default();
    let view = page::View {
        cards,
        newest,
        older,
        live: before.is_none() && !is_search,
        host,
        app: sandbox.options.apps.first(),
        asked: &asked,
        wrong,
    };
    framed(&page::page(&view))
}

/// A page of cards, and where the next older one begins.
#[derive(Default)]
struct Found {
    cards: Vec<Markup>,
    older: Option<u64>,
}

/// The newest messages before `before` that fit.
fn find(sandbox: &Sandbox, search: &Search, before: u64) -> Found {
    let now = sandbox.now();
    let mut cards = Vec::new();
    let mut from = before;
    for _ in 0..LOOKED_THROUGH / PAGE {
        let some = sandbox.state.lock().messages_before(from, PAGE);
        let Some(last) = some.last().map(|message| message.sequence) else {
            return Found { cards, older: None };
        };
        for message in some.iter().filter(|message| search.may_fit(message, now)) {
            let seen = render::received_by(message, &sandbox.options, RECIPIENTS_SHOWN);
            if !search.fits(&seen, sandbox.state.lock().acts()) {
                continue;
            }
            if cards.len() == PAGE {
                return Found { cards, older: Some(message.sequence + 1) };
            }
            cards.push(card::card(message, &seen, now));
        }
        from = last;
    }
    Found { cards, older: Some(from) }
}

fn card_of(sandbox: &Sandbox, message: &Message) -> Markup {
    let seen = render::received_by(message, &sandbox.options, RECIPIENTS_SHOWN);
    card::card(message, &seen, sandbox.now())
}
