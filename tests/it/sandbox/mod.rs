//! The sandbox over real HTTP: it has to answer as OneSignal's contract says.
#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod contract;
mod control;
mod create;
mod faults;
mod inbox;
mod inbox_pages;
mod persistence;
mod rendering;
pub mod support;
mod templates;
