//! From settings to the pipeline's figures.

use crate::config::{DeliverySettings, Settings};
use crate::domain::retry::{LaneRetry, RetryPolicy};
use crate::pipeline::budget::BreakerPolicy;
use crate::pipeline::{KeepDays, PipelineLimits};

/// The pipeline's figures as set.
pub fn pipeline_limits(settings: &Settings) -> PipelineLimits {
    let (ingest, delivery) = (&settings.ingest, &settings.delivery);
    PipelineLimits {
        group_events: ingest.group_events,
        waiting_events: ingest.waiting_requests,
        backlog: ingest.backlog,
        release_over: delivery.release_over,
        calls_in_flight: delivery.calls_in_flight,
        plan_share: delivery.plan_share,
        hand_over: delivery.hand_over,
        max_targets: delivery.max_targets,
        default_life: delivery.default_life,
        urgent_margin: delivery.urgent_margin,
        lease: delivery.lease,
        lease_renewal: delivery.lease_renewal,
        restored_window: delivery.restored_window,
        poll: delivery.poll,
        reconcile: delivery.reconcile,
        call_timeout: delivery.call_timeout,
        gate: (delivery.gate_first, delivery.gate_longest),
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
        urgent: LaneRetry { base: retry.urgent_base, ..standard.urgent },
        normal: LaneRetry { base: retry.normal_base, ..standard.normal },
        bulk: LaneRetry { base: retry.bulk_base, ..standard.bulk },
        ambiguous_gap: retry.ambiguous_gap,
        conflict_wait: retry.conflict_wait,
        recheck_wait: retry.recheck_wait,
        default_retry_after: retry.default_retry_after,
        max_retry_after: retry.max_retry_after,
        ..standard
    }
}
