//! Copy that nobody approved must not reach a recipient, whichever path it takes.
