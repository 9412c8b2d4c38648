//! Guessing, replaying and outliving passwords, links and sessions.
