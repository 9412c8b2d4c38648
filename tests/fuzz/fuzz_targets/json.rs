//! The strict JSON parser: whatever it takes is the same for the usual one.
#![no_main]

use herald::api::parse_json;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(parsed) = parse_json(bytes) {
        assert_eq!(serde_json::from_slice::<Value>(bytes).ok(), Some(parsed));
    }
});
