//! Herald's integration tests: one binary, one module per capability.

#![expect(clippy::expect_used, reason = "a test stops where something fails")]

mod access;
mod answers;
mod architecture;
mod audit;
mod batches;
mod cancelled_batches;
mod catalog;
mod catalog_files;
mod catalog_slips;
mod cli;
mod cloudevents;
mod crash_recovery;
mod delivery;
mod dev;
mod documents;
mod draft_revisions;
mod event_types;
mod generated;
mod hostile;
mod inference;
mod ingest;
mod languages;
mod licences;
mod onesignal_import;
mod open_secrets;
mod outages;
mod partials;
mod planning;
mod previews;
mod release;
mod replicas;
mod requests;
mod retries;
mod rules;
mod sandbox;
mod store;
mod support;
mod template_care;
mod templates;
mod templates_cli;
mod timing;
mod traffic;
mod webhooks;
