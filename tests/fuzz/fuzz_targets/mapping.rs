//! Webhook mappings: the first line of the input is a body, the rest a source's settings as TOML would say them in JSON.
#![no_main]

use herald::domain::budget::Budget;
use herald::webhooks::{Headers, SourceSettings, Webhook};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &str| {
    let (body, settings) = input.split_once('\n').unwrap_or(("{}", input));
    let Ok(settings) = serde_json::from_str::<SourceSettings>(settings) else { return };
    let budget = Budget::default();
    let Ok(webhook) = Webhook::new(&settings, &budget) else { return };
    let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    webhook.map(&body, &Headers::new(), Some("msg_1"), &budget);
});
