//! Logs and metrics: their set-up and their names.
//!
//! Payloads, keys and addresses never become a field or a label.

pub mod names;
mod sampled;

pub use sampled::Sampled;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Sends logs to standard error: for people, or one JSON object per line. A second call has no effect.
pub fn log_to_stderr(json: bool, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = if json {
        logs.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        use std::io::IsTerminal;
        logs.compact().with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    if installed.is_err() {
        tracing::debug!("logging was set up already");
    }
}

/// Collects metrics for `/metrics`.
///
/// # Errors
/// [`BuildError`] if this process already collects them.
pub fn collect_metrics() -> Result<PrometheusHandle, BuildError> {
    let seconds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
    let counts = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0];
    let of = |name: &str| Matcher::Full(name.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets(&seconds)?
        .set_buckets_for_metric(of(names::BATCH_SIZE), &counts)?
        .set_buckets_for_metric(of(names::GROUP_SIZE), &counts)?
        .install_recorder()?;
    names::describe();
    Ok(handle)
}
