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
/// Deliveries waiting in this process's memory.
pub const HANDED_OVER: &str = "herald_handed_over_deliveries";
/// Writes that came too late: another process had taken the delivery over.
pub const FENCED: &str = "herald_fenced_writes_total";
/// Deliveries taken over from a process that died.
pub const RESCUED: &str = "herald_rescued_deliveries_total";
/// Open deliveries by lane and state, counted to a bound.
pub const BACKLOG: &str = "herald_open_deliveries";
/// Seconds since the oldest of them was due.
pub const OLDEST_SECONDS: &str = "herald_oldest_due_seconds";
/// Messages that went out through an app within the volume guard's window, over all replicas.
pub const VOLUME: &str = "herald_volume_messages";
/// Times that the database's clock went back.
pub const CLOCK_STEPS: &str = "herald_clock_steps_total";
/// Connections of clients that were closed (`displaced`) or `refused` because there were too many.
pub const CONNECTIONS_TURNED_AWAY: &str = "herald_connections_turned_away_total";
/// Calls of webhooks that were not taken, by source and reason.
pub const REJECTED_CALLS: &str = "herald_rejected_webhook_calls_total";
