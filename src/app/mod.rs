//! The composition root: builds database, clock, provider, pipeline and router from the settings, starts them, and
//! stops them in order.
//!
//! No rule of the domain lives here; a caller that needs one asks the module that has it.

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
    // It fails only if one was chosen before, which is this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
