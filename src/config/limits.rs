//! Limits of values beyond their types: rejects values with which a service would start but not work.

use std::time::Duration;

use super::load::ConfigError;
use super::settings::Settings;

/// OneSignal's maximum targets per call.
const MAX_TARGETS: usize = 20_000;
/// Sources retry for three days: keys are kept at least twice as long.
const MIN_KEY_DAYS: u32 = 7;

/// A drift check takes one call per template.
const MIN_DRIFT_CHECK_INTERVAL: Duration = Duration::from_hours(1);

/// Checks values that depend on each other or on external limits.
///
/// # Errors
/// [`ConfigError::OutOfRange`] names the first invalid key and its allowed range.
pub(super) fn check(settings: &Settings) -> Result<(), ConfigError> {
    let Settings { ingest, delivery, retention, templates, .. } = settings;
    let rules: [(&str, bool, &str); 11] = [
        (
            "delivery.lease",
            delivery.lease_renewal > Duration::ZERO && delivery.lease >= delivery.lease_renewal * 2,
            "at least twice `delivery.lease_renewal`, or one late renewal loses it",
        ),
        (
            "delivery.plan_share",
            delivery.plan_share > 0.0 && delivery.plan_share <= 1.0,
            "above 0 and at most 1",
        ),
        ("delivery.max_targets", (1..=MAX_TARGETS).contains(&delivery.max_targets), "between 1 and 20000"),
        ("delivery.calls_in_flight", delivery.calls_in_flight > 0, "at least 1"),
        ("delivery.memory_queue_size", delivery.memory_queue_size > 0, "at least 1"),
        (
            "delivery.gate_backoff_max",
            delivery.gate_backoff_max >= delivery.gate_backoff_min,
            "at least `delivery.gate_backoff_min`",
        ),
        ("ingest.group_events", ingest.group_events > 0, "at least 1"),
        ("ingest.waiting_requests", ingest.waiting_requests > 0, "at least 1"),
        ("retention.days", retention.days > 0, "at least 1"),
        ("retention.key_days", retention.key_days >= MIN_KEY_DAYS, "at least 7: sources retry for days"),
        (
            "templates.drift_check_interval",
            templates.drift_check_interval >= MIN_DRIFT_CHECK_INTERVAL,
            "at least an hour: every template is compared",
        ),
    ];
    match rules.into_iter().find(|(_, is_well, _)| !is_well) {
        None => Ok(()),
        Some((key, _, rule)) => Err(ConfigError::OutOfRange { key, rule }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Loader;

    #[test]
    fn a_figure_with_which_nothing_would_work_is_refused_with_what_it_has_to_be() {
        for (name, value, words) in [
            (
                "HERALD_DELIVERY__LEASE",
                "15s",
                "`delivery.lease` must be at least twice `delivery.lease_renewal`",
            ),
            ("HERALD_DELIVERY__PLAN_SHARE", "1.5", "above 0 and at most 1"),
            ("HERALD_DELIVERY__MAX_TARGETS", "0", "between 1 and 20000"),
            ("HERALD_INGEST__GROUP_EVENTS", "0", "at least 1"),
            ("HERALD_RETENTION__KEY_DAYS", "1", "at least 7"),
        ] {
            let error = Loader::default().variable(name, value).load().unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
    }
}
