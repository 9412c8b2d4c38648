//! Counts of calls.

use std::collections::BTreeMap;

use serde::Serialize;

/// Statistics since the start or the last reset.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Stats {
    /// By endpoint, then by status. `lost` is a call whose reply was never sent, whether or not it was accepted.
    calls: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// Accepted messages.
    pub messages: u64,
    /// People that they reached.
    pub recipients: u64,
    /// Responses repeated for a known idempotency key.
    pub idempotent_replays: u64,
    /// Of those, how many had a different body, which is an error of the caller.
    pub idempotency_mismatches: u64,
    /// Calls that met a fault, by its kind.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// Counts a call by how it was answered; `None` when no reply was sent.
    pub(super) fn count(&mut self, endpoint: &'static str, status: Option<u16>) {
        let status = status.map_or_else(|| "lost".to_owned(), |status| status.to_string());
        *self.calls.entry(endpoint).or_default().entry(status).or_default() += 1;
    }
}
