//! Outcomes: what devices and mailboxes report through Event Streams, joined to deliveries, counted and read.

mod faults;
mod feed;
mod joining;
mod people;
mod receiver;
mod statistics;
mod streams;

use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::app::{STREAM_SECRET, TestApp};

/// A report about a message.
pub fn report(event: &str, kind: &str, message: &str, person: &str) -> Value {
    json!({
        "kind": format!("message.{kind}"), "event_id": event, "ts": 1_795_514_400, "app_id": "a", "message_id": message,
        "template_id": "t", "subscription_id": format!("sub-{person}"), "device": "iOS", "onesignal_id": "",
        "external_id": person, "failure_reason": "",
    })
}

impl TestApp {
    /// Posts a body as OneSignal does.
    pub async fn post_report(&self, secret: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = reqwest::Client::new().post(format!("{}/v1/onesignal/events", self.url));
        request.bearer_auth(secret).body(body).send().await.expect("an answer")
    }

    /// Posts reports that have to be stored, and records them.
    pub async fn record(&self, reports: &[Value]) {
        for report in reports {
            let answer = self.post_report(STREAM_SECRET, report.to_string()).await;
            assert_eq!(answer.status(), 204, "{report}");
        }
        self.herald.api.archive.run_until_idle().await.expect("the database answers");
    }

    /// Has the sandbox report to this service, with the configured body.
    pub async fn connect_streams(&self) {
        let stream = json!({
            "url": format!("{}/v1/onesignal/events", self.url), "body": herald::archive::stream::template(),
            "headers": {"Authorization": format!("Bearer {STREAM_SECRET}")},
        });
        self.sandbox_call(Method::POST, "/_sandbox/event-streams", Some(stream)).await;
    }

    /// How many calls of one sort were counted.
    pub async fn counted(&self, name: &str) -> i64 {
        let counts = self.herald.store.report_counts(chrono::NaiveDate::default()).await.expect("counts");
        counts.iter().find(|(counted, _)| counted == name).map_or(0, |(_, count)| *count)
    }

    /// Waits until this many calls were received, and records them.
    pub async fn wait_for_reports(&self, count: i64) {
        let began = Instant::now();
        while self.counted("received").await < count {
            assert!(began.elapsed() < Duration::from_secs(20), "{} received", self.counted("received").await);
            tokio::task::yield_now().await;
        }
        self.herald.api.archive.run_until_idle().await.expect("the database answers");
    }

    /// OneSignal's id of a delivery's message.
    pub async fn message_of(&self, delivery: &str) -> String {
        let trace = self.get(&format!("/v1/deliveries/{delivery}")).await;
        let id = trace["attempts"][0]["provider_message_id"].as_str();
        id.unwrap_or_else(|| panic!("no message: {trace}")).to_owned()
    }
}

/// The id of an event's delivery by this rule.
pub fn delivery_by<'a>(accepted: &'a Value, rule: &str) -> &'a str {
    let deliveries = accepted["deliveries"].as_array().expect("deliveries");
    let delivery =
        deliveries.iter().find(|delivery| delivery["rule"] == rule).expect("a delivery by the rule");
    delivery["id"].as_str().expect("an id")
}

/// The kinds of a delivery's outcomes, in their order.
pub async fn kinds_of(app: &TestApp, delivery: &str) -> Vec<String> {
    let trace = app.get(&format!("/v1/deliveries/{delivery}")).await;
    let outcomes = trace["outcomes"].as_array().expect("outcomes").iter();
    outcomes.map(|outcome| outcome["kind"].as_str().expect("a kind").to_owned()).collect()
}
