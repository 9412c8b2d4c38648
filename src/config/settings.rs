//! One struct per topic; `default.toml` explains each key.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct Settings {
    pub listen: SocketAddr,
    pub database_url: SecretString,
    pub secret_key: SecretString,
    pub previous_secret_keys: SecretString,
    pub dev_key: SecretString,
    pub allow_unsafe_postgres: bool,
    pub http: HttpSettings,
    pub onesignal: OneSignalSettings,
    pub ingest: IngestSettings,
    pub delivery: DeliverySettings,
    pub people: PeopleSettings,
    pub event_streams: EventStreamSettings,
    pub retry: RetrySettings,
    pub retention: RetentionSettings,
    pub templates: TemplateSettings,
    pub console: ConsoleSettings,
    pub oidc: OidcSettings,
    pub log: LogSettings,
}

impl Settings {
    /// A secret setting, unless it is empty.
    pub fn given(secret: &SecretString) -> Option<&SecretString> {
        (!secret.expose_secret().is_empty()).then_some(secret)
    }
}

/// The default app.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct OneSignalSettings {
    pub app_id: String,
    pub api_key: SecretString,
    pub base_url: Url,
    pub allowed_base_urls: String,
    pub calls_per_second: u32,
    pub subscriptions: u32,
}

/// Answering HTTP.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct HttpSettings {
    pub max_connections: usize,
    pub max_connections_per_address: usize,
    pub max_anonymous_connections_per_address: usize,
    #[serde(with = "humantime_serde")]
    pub head_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
}

/// Ingesting events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct IngestSettings {
    pub committers: usize,
    pub group_events: usize,
    pub waiting_requests: usize,
    pub backlog: u64,
    #[serde(with = "humantime_serde")]
    pub lock_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    pub max_event_bytes: usize,
    pub max_batch_bytes: usize,
}

/// Sending.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct DeliverySettings {
    pub calls_in_flight: usize,
    pub plan_share: f64,
    pub memory_queue_size: usize,
    pub release_over: u32,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub urgent_call_timeout: Duration,
    pub max_targets: usize,
    #[serde(with = "humantime_serde")]
    pub default_ttl: Duration,
    #[serde(with = "humantime_serde")]
    pub urgent_min_remaining: Duration,
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    #[serde(with = "humantime_serde")]
    pub lease_renewal: Duration,
    #[serde(with = "humantime_serde")]
    pub restored_window: Duration,
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub reconcile: Duration,
    #[serde(with = "humantime_serde")]
    pub gate_backoff_min: Duration,
    #[serde(with = "humantime_serde")]
    pub gate_backoff_max: Duration,
    #[serde(with = "humantime_serde")]
    pub breaker_window: Duration,
    #[serde(with = "humantime_serde")]
    pub breaker_first: Duration,
    #[serde(with = "humantime_serde")]
    pub breaker_longest: Duration,
    #[serde(with = "humantime_serde")]
    pub breaker_probe_gap: Duration,
    #[serde(with = "humantime_serde")]
    pub breaker_ramp: Duration,
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
}

/// The console.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct ConsoleSettings {
    pub environment: String,
    pub public_url: String,
    pub trusted_proxies: String,
    pub client_address_header: String,
    #[serde(with = "humantime_serde")]
    pub session_idle: Duration,
    #[serde(with = "humantime_serde")]
    pub session_max_age: Duration,
    pub password_log_in: bool,
    pub require_second_factor: bool,
}

/// Logging in to the console through an OpenID Connect provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct OidcSettings {
    pub issuer: String,
    pub client_id: String,
    pub client_secret: SecretString,
    pub name: String,
    pub allowed_domains: String,
    pub default_role: String,
}

/// Limits of writing users and custom events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeopleSettings {
    /// Calls about users that write, per second and app.
    pub user_calls_per_second: u32,
    /// Requests with custom events, per second and app.
    pub event_calls_per_second: u32,
    /// Concurrent calls.
    pub calls_in_flight: usize,
    /// The file in which erasures are recorded outside the database; empty: none.
    pub erasure_record: String,
}

/// OneSignal's Event Streams.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct EventStreamSettings {
    pub secret: SecretString,
    pub previous_secret: SecretString,
    #[serde(with = "humantime_serde")]
    pub foreign_after: Duration,
}

/// Retries.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct RetrySettings {
    #[serde(with = "humantime_serde")]
    pub ambiguous_gap: Duration,
    #[serde(with = "humantime_serde")]
    pub conflict_wait: Duration,
    #[serde(with = "humantime_serde")]
    pub recheck_wait: Duration,
    #[serde(with = "humantime_serde")]
    pub default_retry_after: Duration,
    #[serde(with = "humantime_serde")]
    pub max_retry_after: Duration,
    #[serde(with = "humantime_serde")]
    pub normal_first_delay: Duration,
    #[serde(with = "humantime_serde")]
    pub urgent_base: Duration,
    #[serde(with = "humantime_serde")]
    pub bulk_base: Duration,
}

/// Retention.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct RetentionSettings {
    pub days: u32,
    pub payload_days: u32,
    pub key_days: u32,
}

/// Templates in OneSignal.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct TemplateSettings {
    #[serde(with = "humantime_serde")]
    pub view_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub drift_check_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub keep_unused: Duration,
}

/// Logging.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct LogSettings {
    pub format: LogFormat,
    pub filter: String,
}

/// The log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}
