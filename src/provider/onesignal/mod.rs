//! OneSignal's API: `wire` defines requests and responses, `client` makes the calls, `classify` interprets responses.

pub mod classify;
mod client;
mod people;
mod templates;
mod wire;

pub use client::{ClientTimeouts, OneSignal};
