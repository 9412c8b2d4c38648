//! OneSignal's API: `wire` is what is said, `client` says it, `classify` understands the answer.

pub mod classify;
mod client;
mod templates;
mod wire;

pub use client::{ClientTimeouts, OneSignal};
