//! Herald turns domain events into OneSignal messages.
//!
//! Each module has its own rules about what it may import; `docs/architecture.md` draws them and
//! `tests/it/architecture.rs` enforces them.

pub mod access;
pub mod api;
pub mod app;
pub mod archive;
pub mod catalog;
pub mod cli;
pub mod compute;
pub mod config;
pub mod console;
pub mod domain;
pub mod expressions;
pub mod people;
pub mod pipeline;
pub mod provider;
pub mod sandbox;
pub mod schemas;
pub mod store;
pub mod telemetry;
pub mod templating;
pub mod vault;
pub mod webhooks;
