//! People: users by API, their outbox, and what rules do to them.

mod connectors;
mod erasure;
mod facts;
mod imports;
mod outbox;
mod preferences;
mod rules;
mod users;

use herald::sandbox::{SandboxOptions, SandboxPlan};
use serde_json::{Value, json};

use crate::support::app::{TestApp, Wanted};

/// A service whose OneSignal allows everything, and knows only the users who were created there.
async fn with_strict_onesignal() -> TestApp {
    let options =
        SandboxOptions { plan: SandboxPlan::PAID, strict_users: true, ..SandboxOptions::unhurried() };
    TestApp::start_with(Wanted { sandbox: Some(options), ..Wanted::default() }).await
}

/// Ann, as a CRM knows her.
fn ann() -> Value {
    json!({
        "aliases": {"crm_id": "77"},
        "subscriptions": [{"type": "email", "token": "ann@shop.example"}],
        "tags": {"plan": "gold", "orders": 3},
        "language": "de",
        "time_zone": "Europe/Berlin",
    })
}

/// The calls that the sandbox got for one kind of endpoint.
async fn calls(app: &TestApp, endpoint: &str) -> u64 {
    let stats = app.stats().await;
    let of_endpoint = stats["calls"][endpoint].as_object().cloned().unwrap_or_default();
    of_endpoint.values().filter_map(Value::as_u64).sum()
}
