//! Catalog files: a line with `=== path` begins each of them.
#![no_main]

use herald::catalog::files::{Files, check};
use herald::domain::budget::Budget;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let parts = input.split("=== ").filter_map(|part| part.split_once('\n'));
    let files: Files = parts.map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
    check(&files, &Budget::default());
});
