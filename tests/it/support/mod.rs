//! What the tests stand on: a throw-away Postgres, one database a test, the real service with a clock that the test
//! moves, and the sandbox over real HTTP.

pub mod app;
pub mod database;
pub mod openapi;
pub mod processes;
