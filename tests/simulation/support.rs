//! The tests' own cluster, shared with the other tests.

pub mod app {
    pub use crate::world::start_of_time;
}

#[path = "../it/support/database.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
pub mod database;
