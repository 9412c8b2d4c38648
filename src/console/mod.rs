//! The console: pages rendered on the server, for the people who keep the messages right.
//!
//! It asks the same use cases as the JSON edge. Every page belongs to a use of the permission table (`routes`), and the
//! guard before it knows who asks. Reading works without JavaScript; with it, pages stay fresh by themselves.

mod assets;
mod charts;
mod delivery;
mod devices;
mod doors;
mod event;
mod event_types;
mod failure;
mod figures;
mod forms;
mod guard;
mod health;
mod live;
mod page;
mod palette;
mod parts;
mod recipients;
mod routes;
mod rules;
mod search;
mod settings;
mod templates;
mod trouble;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::http::header::InvalidHeaderValue;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use url::Url;

use crate::access::{Access, Team};
use crate::catalog::Publisher;
use crate::compute::Compute;
use crate::domain::clock::Clock;
use crate::domain::id::IdSource;
use crate::pipeline::Pipeline;
use crate::store::Store;

pub use failure::page_for_people;
pub use routes::{RouteInfo, table};

use failure::Failure;

/// What the pages work with.
pub struct Console {
    /// Reads.
    pub store: Store,
    /// Events and deliveries.
    pub pipeline: Arc<Pipeline>,
    /// The catalog.
    pub publisher: Arc<Publisher>,
    /// The threads for work on input.
    pub compute: Arc<Compute>,
    /// Keys of sources.
    pub access: Arc<Access>,
    /// The people.
    pub team: Arc<Team>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids of changes.
    pub ids: Arc<IdSource>,
    /// What this installation is called.
    pub environment: String,
    /// Where people open it, if that is known.
    pub public_url: Option<Url>,
    /// Whoever opens it from this machine is let in: `herald dev` only.
    pub lets_local_in: bool,
}

/// What a page may load: only what comes with the binary. Frames hold rendered mail, which has no rights at all.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; \
     connect-src 'self'; font-src 'self'; form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'self'";

/// The policy of a page whose script makes styles of its own, as the editor does: those that carry `nonce` hold.
fn policy_with_styles(nonce: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    HeaderValue::from_str(&POLICY.replace("style-src 'self'", &format!("style-src 'self' 'nonce-{nonce}'")))
}

/// The console's pages.
pub fn router(console: Arc<Console>) -> Router {
    let set = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    routes::build(&console)
        .with_state(console)
        .layer(CatchPanicLayer::custom(|_| Failure::Internal.into_response()))
        .layer(set(header::CACHE_CONTROL, "no-store"))
        .layer(set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(set(header::REFERRER_POLICY, "same-origin"))
        .layer(set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .layer(set(header::CONTENT_SECURITY_POLICY, POLICY))
}
