//! How fast and whether calls are made: tokens, concurrency, the volume guard and the breaker of each app in [`budget`], the
//! share of each replica in `rate_sharing`, and the gates of apps, versions and rules.

pub mod app_gates;
pub mod budget;
pub mod rate_sharing;
pub mod version_gates;
