//! Herald's integration tests: one binary, one module per capability.

mod sandbox;
