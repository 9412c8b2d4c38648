//! Settings: plain data, loaded from `herald.toml`, then `HERALD_…` variables, then flags.
//!
//! Nothing in here builds a client or opens a connection. An unknown key is an error that names the nearest known one.

mod limits;
mod load;
mod settings;

pub use load::{ConfigError, Loader, reference};
pub use settings::{
    ConsoleSettings, DeliverySettings, EventStreamSettings, HttpSettings, IngestSettings, LogFormat,
    LogSettings, OidcSettings, OneSignalSettings, RetentionSettings, RetrySettings, Settings,
    TemplateSettings,
};
