//! The `herald` binary: everything lives in the library.

fn main() {}
