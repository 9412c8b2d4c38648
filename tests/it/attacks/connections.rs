//! Slow, idle and too many connections.
