//! The nouns of Herald and their rules: no I/O, no async, nothing of ours imported.

pub mod clock;
