//! The nouns of Herald and their rules.
//!
//! No I/O, no async, and no imports of other modules. Input has been parsed at an edge; output is a decision that
//! others carry out. Time, jitter and ids come in as arguments.

pub mod answer;
pub mod app;
pub mod batch;
pub mod budget;
pub mod channel;
pub mod clock;
pub mod custom_event;
pub mod decision;
pub mod delivery;
pub mod digest;
pub mod erasure;
pub mod event;
pub mod facts;
pub mod gate;
pub mod id;
pub mod labels;
pub mod locale;
pub mod objects;
pub mod outcome;
pub mod rejection;
pub mod remedy;
pub mod retry;
pub mod rule;
pub mod snapshot;
pub mod stack;
pub mod tag;
pub mod template;
pub mod timing;
pub mod user;
pub mod visible;
