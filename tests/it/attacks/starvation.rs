//! One caller that takes what everybody needs: commits, connections to the database, slots for calls.
