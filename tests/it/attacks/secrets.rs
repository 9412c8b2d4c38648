//! Sensitive values where they must not be: beside their events, in answers, in hashes.
