//! The composition root: builds database, clock, provider, pipeline and router from the settings, starts them, and
//! shuts them down in order.
//!
//! It contains no domain rules.

mod drift_check;
mod http;
mod limits;
mod log_in;
mod runtime;
mod serve;
mod signals;
mod uploads;

pub use http::{DescriptorLimit, IsProxy, raise_descriptor_limit, serve as serve_http};
pub use limits::pipeline_limits;
pub use log_in::team_options;
pub use runtime::{Herald, Overrides, default_app, open_store};
pub use serve::{Roles, Running, is_proxy, router};
pub use signals::{Stop, stop_signal};

/// Chooses the one TLS implementation; a second call changes nothing.
pub fn choose_tls() {
    // It only fails if one was already chosen, which is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
