//! The sandbox over real HTTP: it has to answer as OneSignal's contract says.

mod control;
mod create;
mod faults;
mod inbox;
mod persistence;
mod rendering;
mod support;
mod templates;
