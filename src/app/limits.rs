//! Converts settings to the pipeline's limits.

use crate::config::{DeliverySettings, Settings};
use crate::domain::retry::{PriorityRetry, RetryPolicy};
use crate::pipeline::rate::budget::BreakerPolicy;
use crate::pipeline::{KeepDays, PipelineLimits};

/// The pipeline's limits from the settings.
pub fn pipeline_limits(settings: &Settings) -> PipelineLimits {
    let (ingest, delivery) = (&settings.ingest, &settings.delivery);
    PipelineLimits {
        group_events: ingest.group_events,
        waiting_events: ingest.waiting_requests,
        backlog: ingest.backlog,
        release_over: delivery.release_over,
        calls_in_flight: delivery.calls_in_flight,
        plan_share: delivery.plan_share,
        memory_queue_size: delivery.memory_queue_size,
        max_targets: delivery.max_targets,
        default_ttl: delivery.default_ttl,
        urgent_min_remaining: delivery.urgent_min_remaining,
        lease: delivery.lease,
        lease_renewal: delivery.lease_renewal,
        restored_window: delivery.restored_window,
        poll_interval: delivery.poll_interval,
        reconcile: delivery.reconcile,
        call_timeout: delivery.call_timeout,
        gate: (delivery.gate_backoff_min, delivery.gate_backoff_max),
        breaker: breaker(delivery),
        keep_days: KeepDays {
            history: settings.retention.days,
            payloads: settings.retention.payload_days.min(settings.retention.days),
            keys: settings.retention.key_days,
        },
        retry: retry_policy(settings),
    }
}

fn breaker(delivery: &DeliverySettings) -> BreakerPolicy {
    BreakerPolicy {
        window: delivery.breaker_window,
        first: delivery.breaker_first,
        longest: delivery.breaker_longest,
        probe_gap: delivery.breaker_probe_gap,
        ramp: delivery.breaker_ramp,
        ..BreakerPolicy::default()
    }
}

fn retry_policy(settings: &Settings) -> RetryPolicy {
    let retry = &settings.retry;
    let standard = RetryPolicy::default();
    RetryPolicy {
        urgent: PriorityRetry { base: retry.urgent_base, ..standard.urgent },
        normal: PriorityRetry { base: retry.normal_first_delay, ..standard.normal },
        bulk: PriorityRetry { base: retry.bulk_base, ..standard.bulk },
        ambiguous_gap: retry.ambiguous_gap,
        conflict_wait: retry.conflict_wait,
        recheck_wait: retry.recheck_wait,
        default_retry_after: retry.default_retry_after,
        max_retry_after: retry.max_retry_after,
        ..standard
    }
}
