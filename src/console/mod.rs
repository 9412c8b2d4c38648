//! The console: server-rendered pages.
//!
//! It calls the same use cases as the API. Every page has an entry in the permission table (`routes`), enforced by the
//! guard. Reading works without JavaScript; with it, pages refresh automatically.

mod assets;
mod caller;
mod charts;
mod components;
mod confirm;
mod connectors;
mod cookies;
mod delivery;
mod denials;
mod devices;
mod event;
mod event_feed;
mod event_types;
mod failure;
mod forms;
mod guard;
mod headers;
mod health;
mod imports;
mod issues;
mod layout;
mod login;
mod outcomes;
mod page_context;
mod palette;
mod provider;
mod recipients;
mod routes;
mod rules;
mod search;
mod second_step;
mod settings;
mod stats;
mod templates;
mod user_state;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::InvalidHeaderValue;
use axum::response::IntoResponse;
use tower_http::catch_panic::CatchPanicLayer;
use url::Url;

use crate::access::{Access, Team, TrustedProxies};
use crate::catalog::Publisher;
use crate::compute::Compute;
use crate::domain::clock::Clock;
use crate::domain::id::IdSource;
use crate::people::People;
use crate::people::connector::Connectors;
use crate::pipeline::Pipeline;
use crate::store::Store;

pub use denials::Denials;
pub use failure::page_for_people;
pub use headers::with_security_headers;
pub use provider::Provider;
pub use routes::{RouteInfo, table};

use failure::Failure;

/// The state shared by all pages.
pub struct Console {
    /// Reads.
    pub store: Store,
    /// Events and deliveries.
    pub pipeline: Arc<Pipeline>,
    /// Connectors to other databases.
    pub connectors: Arc<Connectors>,
    /// Users, and imports of them.
    pub people: Arc<People>,
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
    /// The name of this installation.
    pub environment: String,
    /// The public URL, if configured.
    pub public_url: Option<Url>,
    /// Whether local users are logged in automatically: `herald dev` only.
    pub lets_local_in: bool,
    /// Proxies whose client address header is trusted.
    pub proxies: TrustedProxies,
    /// Whether people who log in with a password need a second factor.
    pub require_second_factor: bool,
    /// The single sign-on provider.
    pub provider: Option<Provider>,
    /// Logs denied requests.
    pub denials: Denials,
    /// How long a page may take.
    pub request_timeout: Duration,
}

impl Console {
    /// Whether its public URL uses https.
    fn is_secure(&self) -> bool {
        self.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
    }
}

/// The content security policy: only embedded assets. Frames contain rendered emails without any permissions.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'self'";

/// The policy of a page whose script creates styles, such as the editor: those with `nonce` are allowed.
fn policy_with_styles(nonce: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    HeaderValue::from_str(&POLICY.replace("style-src 'self'", &format!("style-src 'self' 'nonce-{nonce}'")))
}

/// The console's routes, to be wrapped in [`with_security_headers`].
pub fn router(console: Arc<Console>) -> Router {
    routes::build(&console)
        .with_state(console)
        .layer(CatchPanicLayer::custom(|_| Failure::Internal.into_response()))
}
