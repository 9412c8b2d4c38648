//! The names of every metric.

/// Events by result: `accepted`, `duplicate`, `conflict`, `unavailable`.
pub const EVENTS: &str = "herald_events_total";
/// Events in each group commit.
pub const GROUP_SIZE: &str = "herald_ingest_group_events";
/// Seconds that a group commit took.
pub const GROUP_SECONDS: &str = "herald_ingest_group_seconds";
/// Deliveries that reached a state, by state.
pub const DELIVERIES: &str = "herald_deliveries_total";
/// Create message calls by classified answer.
pub const CALLS: &str = "herald_provider_calls_total";
/// Seconds that a Create message call took.
pub const CALL_SECONDS: &str = "herald_provider_call_seconds";
/// Deliveries in each call.
pub const BATCH_SIZE: &str = "herald_batch_deliveries";
/// Deliveries in this process's memory queue.
pub const IN_MEMORY: &str = "herald_memory_queue_deliveries";
/// Writes that came too late: another process had taken the delivery over.
pub const FENCED: &str = "herald_fenced_writes_total";
/// Deliveries taken over from a process that died.
pub const RESCUED: &str = "herald_rescued_deliveries_total";
/// Open deliveries by priority and state, counted up to a limit.
pub const BACKLOG: &str = "herald_open_deliveries";
/// Seconds since the oldest of them was due.
pub const OLDEST_SECONDS: &str = "herald_oldest_due_seconds";
/// Messages sent through an app within the volume guard's window, across all replicas.
pub const VOLUME: &str = "herald_volume_messages";
/// Times that the database's clock went back.
pub const CLOCK_STEPS: &str = "herald_clock_steps_total";
/// Connections of clients that were closed (`displaced`) or `refused` because there were too many.
pub const CONNECTIONS_TURNED_AWAY: &str = "herald_connections_turned_away_total";
/// Seconds since the oldest open erasure was requested; 0 without one.
pub const OLDEST_ERASURE: &str = "herald_oldest_open_erasure_seconds";
/// Calls about users by classified answer.
pub const USER_CALLS: &str = "herald_user_calls_total";
/// Seconds since a running connector's last successful poll.
pub const CONNECTOR_POLL_AGE: &str = "herald_connector_poll_age_seconds";
/// Rows of a connector that are set aside.
pub const CONNECTOR_SET_ASIDE: &str = "herald_connector_set_aside_rows";
/// Calls of Event Streams by result: `stored`, `unavailable`, `refused`.
pub const REPORTS: &str = "herald_stream_reports_total";
/// Recorded reports by result: `joined`, `foreign`, `parked`.
pub const OUTCOMES: &str = "herald_outcome_reports_total";
/// The share of recent messages that outcomes were reported of.
pub const STREAM_COVERAGE: &str = "herald_stream_coverage_ratio";
/// Webhook calls that were rejected, by source and reason.
pub const REJECTED_CALLS: &str = "herald_rejected_webhook_calls_total";

/// Describes each metric to the collector, with the text shown in `/metrics`.
pub(super) fn describe() {
    metrics::describe_counter!(EVENTS, "Events by result: accepted, duplicate, conflict, unavailable");
    metrics::describe_histogram!(GROUP_SIZE, "Events in each group commit");
    metrics::describe_histogram!(GROUP_SECONDS, "Seconds that a group commit took");
    metrics::describe_counter!(DELIVERIES, "Deliveries that reached a state, by state");
    metrics::describe_counter!(CALLS, "Create message calls by classified answer");
    metrics::describe_histogram!(CALL_SECONDS, "Seconds that a Create message call took");
    metrics::describe_gauge!(OLDEST_ERASURE, "Seconds since the oldest open erasure was requested");
    metrics::describe_counter!(USER_CALLS, "Calls about users by classified answer");
    metrics::describe_histogram!(BATCH_SIZE, "Deliveries in each call");
    metrics::describe_gauge!(IN_MEMORY, "Deliveries in this process's memory queue");
    metrics::describe_counter!(
        FENCED,
        "Writes that came too late: another process had taken the delivery over"
    );
    metrics::describe_counter!(RESCUED, "Deliveries taken over from a process that died");
    metrics::describe_gauge!(BACKLOG, "Open deliveries by priority and state, counted up to a limit");
    metrics::describe_gauge!(OLDEST_SECONDS, "Seconds since the oldest of them was due");
    metrics::describe_gauge!(
        VOLUME,
        "Messages sent through an app within the volume guard's window, across all replicas"
    );
    metrics::describe_counter!(CLOCK_STEPS, "Times that the database's clock went back");
    metrics::describe_counter!(
        CONNECTIONS_TURNED_AWAY,
        "Connections of clients that were closed (displaced) or refused because there were too many"
    );
    metrics::describe_gauge!(CONNECTOR_POLL_AGE, "Seconds since a running connector's last successful poll");
    metrics::describe_gauge!(CONNECTOR_SET_ASIDE, "Rows of a connector that are set aside");
    metrics::describe_counter!(REPORTS, "Calls of Event Streams by result: stored, unavailable, refused");
    metrics::describe_counter!(OUTCOMES, "Reports of outcomes by result: joined, foreign, parked");
    metrics::describe_gauge!(
        STREAM_COVERAGE,
        "Share of messages sent 15 to 75 minutes ago that outcomes were reported of; absent without messages"
    );
    metrics::describe_counter!(REJECTED_CALLS, "Webhook calls that were rejected, by source and reason");
}
