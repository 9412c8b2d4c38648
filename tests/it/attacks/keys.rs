//! Keys and roles that reach further than they promise.
