//! Cancelling by event, by delivery and by key: pending deliveries end, those that may have been sent stay and are
//! reported.

use std::time::Duration;

use herald::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped, payment_failed};
use crate::support::processes::run;

const RULE: &str = "payment-failed-sms";

fn later(id: &str, user: &str) -> Value {
    let mut event = payment_failed(id, user);
    event["send_after"] = json!("2026-11-24T10:01:00Z");
    event
}

fn path_of(accepted: &Value, what: &str) -> String {
    format!("/v1/events/{}/{what}", accepted["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn an_event_that_waits_is_cancelled_with_all_its_deliveries_and_only_once() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "u");
    event["send_after"] = json!("2026-11-24T10:01:00Z");
    let accepted = app.accept(&event).await;
    let would = app.act(&path_of(&accepted, "cancel?dry_run=true")).await;
    assert_eq!((&would["cancelled"], &would["too_late"]), (&json!(2), &json!(0)), "{would}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM queue").await, 2, "a dry run changes nothing");
    let answer = app.act(&path_of(&accepted, "cancel")).await;
    assert_eq!((&answer["cancelled"], &answer["over"]), (&json!(2), &json!(0)), "{answer}");
    assert_eq!(answer["deliveries"][0]["state"], "cancelled");
    let again = app.act(&path_of(&accepted, "cancel")).await;
    assert_eq!((&again["cancelled"], &again["over"]), (&json!(0), &json!(2)), "{again}");
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
    assert!(app.messages().await.is_empty());
    let trace = app.get(path_of(&accepted, "").trim_end_matches('/')).await;
    let decisions: Vec<&Value> = trace["decisions"].as_array().unwrap().iter().collect();
    assert_eq!(decisions.len(), 2, "{trace}");
    let detail = decisions[0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("cancelled by shop (key_"), "{detail}");
}

#[tokio::test]
async fn accepted_and_in_flight_deliveries_are_reported_as_too_late() {
    let app = TestApp::start().await;
    let sent = app.accept(&payment_failed("p-1", "u")).await;
    let answer = app.act(&path_of(&sent, "cancel")).await;
    assert_eq!((&answer["too_late"], &answer["deliveries"][0]["outcome"]), (&json!(1), &json!("being_sent")));
    app.run_until_idle().await;
    let answer = app.act(&path_of(&sent, "cancel")).await;
    assert_eq!((&answer["too_late"], &answer["deliveries"][0]["outcome"]), (&json!(1), &json!("accepted")));
    assert_eq!(app.delivery(&sent, RULE).await["state"], "accepted");
}

#[tokio::test]
async fn what_may_have_been_sent_is_not_cancelled() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 503, "probability": 1.0}))
        .await;
    let doubtful = app.accept(&payment_failed("p-1", "u")).await;
    app.run_until_idle().await;
    let answer = app.act(&path_of(&doubtful, "cancel")).await;
    assert_eq!(answer["deliveries"][0]["outcome"], "may_have_been_sent", "{answer}");
    app.clear_faults().await;
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&doubtful, RULE).await["state"], "accepted");
}

#[tokio::test]
async fn one_delivery_of_an_event_is_cancelled_and_its_sibling_goes_out() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "u");
    event["send_after"] = json!("2026-11-24T10:01:00Z");
    let accepted = app.accept(&event).await;
    let id = accepted["deliveries"][0]["id"].as_str().unwrap();
    let answer = app.act(&format!("/v1/deliveries/{id}/cancel")).await;
    assert_eq!(answer["cancelled"], 1, "{answer}");
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1);
    let states: Vec<String> =
        app.sql("SELECT array_agg(state::text ORDER BY state::text) FROM deliveries").await;
    assert_eq!(states, ["accepted", "cancelled"]);
}

#[tokio::test]
async fn a_held_delivery_is_cancelled_too() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "u");
    event["send_after"] = json!("2026-11-24T10:01:00Z");
    let accepted = app.accept(&event).await;
    app.execute("UPDATE queue SET state = 'held'").await;
    assert_eq!(app.act(&path_of(&accepted, "cancel")).await["cancelled"], 1);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM queue").await, 0);
}

#[tokio::test]
async fn a_source_cancels_its_own_events_and_an_operator_anybody_s() {
    let app = TestApp::start().await;
    let accepted = app.accept(&later("p-1", "u")).await;
    let cancel = path_of(&accepted, "cancel");
    let stranger = app.key_of("warehouse").await;
    let producer = app.key_with(vec![Scope::EventsWrite]).await;
    let reader = app.key_with(vec![Scope::EventsRead, Scope::DeliveriesRead]).await;
    let delivery = format!("/v1/deliveries/{}/cancel", accepted["deliveries"][0]["id"].as_str().unwrap());
    assert_eq!(app.call(Method::POST, &cancel, Some(&reader), None).await.0, 403);
    assert_eq!(app.call(Method::POST, &delivery, Some(&producer), None).await.0, 403);
    let nobody = "/v1/deliveries/dlv_00000000000000000000000000/cancel";
    assert_eq!(app.call(Method::POST, nobody, Some(&app.key), None).await.0, 404);
    let dry = format!("{cancel}?dry_run=true");
    assert_eq!(
        app.call(Method::POST, &dry, Some(&stranger), None).await.1["cancelled"],
        1,
        "an operator's key"
    );
    app.execute("UPDATE api_keys SET scopes = '{events:write}' WHERE source_id = (SELECT id FROM sources WHERE name = 'warehouse')").await;
    app.advance(Duration::from_secs(10)).await;
    assert_eq!(app.call(Method::POST, &cancel, Some(&stranger), None).await.0, 404, "not its own event");
    assert_eq!(app.call(Method::POST, &cancel, Some(&producer), None).await.1["cancelled"], 1);
}

#[tokio::test]
async fn a_key_is_cancelled_and_deliveries_in_flight_are_reported() {
    let app = TestApp::start().await;
    let mut waits = later("p-1", "u");
    waits["cancellation_key"] = json!("k");
    app.accept(&waits).await;
    let mut goes = payment_failed("p-2", "u2");
    goes["cancellation_key"] = json!("k");
    app.accept(&goes).await;
    let body = json!({"key": "k"});
    let path = "/v1/cancellations?dry_run=true";
    let (_, would) = app.call(Method::POST, path, Some(&app.key), Some(&body)).await;
    assert_eq!((&would["cancelled"], &would["too_late"]), (&json!(1), &json!(1)), "{would}");
    let (_, answer) = app.call(Method::POST, "/v1/cancellations", Some(&app.key), Some(&body)).await;
    assert_eq!((&answer["cancelled"], &answer["too_late"]), (&json!(1), &json!(1)), "{answer}");
    let (_, again) = app.call(Method::POST, "/v1/cancellations", Some(&app.key), Some(&body)).await;
    assert_eq!(again["cancelled"], 0);
}

/// Thirty deliveries fall due while they are cancelled by one replica and frozen by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_transaction_wins_and_nothing_is_both_cancelled_and_sent() {
    let app = TestApp::start().await;
    let twin = app.replica().await;
    let mut accepted = Vec::new();
    for n in 0..30 {
        accepted.push(app.accept(&later(&format!("p-{n}"), &format!("u{n}"))).await);
    }
    app.advance(Duration::from_mins(2)).await;
    twin.advance(Duration::from_mins(2)).await;
    let cancel = async {
        let mut cancelled = 0;
        for one in &accepted {
            cancelled += app.act(&path_of(one, "cancel")).await["cancelled"].as_u64().unwrap();
        }
        cancelled
    };
    let (cancelled, ()) = tokio::join!(cancel, twin.run_until_idle());
    twin.run_until_idle().await;
    app.run_until_idle().await;
    let stored: i64 = app.sql("SELECT count(*) FROM deliveries WHERE state = 'cancelled'").await;
    let sent: i64 = app.sql("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await;
    assert_eq!((stored, stored + sent), (i64::try_from(cancelled).unwrap(), 30));
    let reached: usize = app.messages().await.iter().map(|m| m["recipients"].as_array().unwrap().len()).sum();
    assert_eq!(i64::try_from(reached).unwrap(), sent);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM queue").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_cancel_and_fail_where_it_is_too_late() {
    let app = TestApp::start().await;
    let call = async |arguments: &[&str]| {
        let done = run(arguments, &[("HERALD_URL", &app.url), ("HERALD_KEY", &app.key)]).await;
        (done.status.success(), String::from_utf8(done.stdout).expect("text"))
    };
    let waits = app.accept(&later("p-1", "u")).await;
    let id = waits["id"].as_str().unwrap();
    let (ok, output) = call(&["events", "cancel", id, "--dry-run"]).await;
    assert!(ok && output.starts_with("1 would be cancelled"), "{output}");
    let (ok, output) = call(&["events", "cancel", id]).await;
    assert!(ok && output.starts_with("1 cancelled"), "{output}");
    let first = app.accept(&later("p-2", "u2")).await["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let second =
        app.accept(&payment_failed("p-3", "u3")).await["deliveries"][0]["id"].as_str().unwrap().to_owned();
    app.run_until_idle().await;
    let (ok, output) = call(&["deliveries", "cancel", &first, &second, "--json"]).await;
    let output: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!((ok, &output["cancelled"], &output["too_late"]), (false, &json!(1), &json!(1)), "{output}");
    let (ok, output) = call(&["events", "cancel", "--under", "nothing"]).await;
    assert!(ok && output.starts_with("0 cancelled"), "{output}");
}
