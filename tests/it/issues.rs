//! Issues: deliveries that need a person, by reason.

use reqwest::Method;
use serde_json::json;

use crate::support::app::{TestApp, payment_failed};

#[tokio::test]
async fn issues_are_grouped_by_reason_with_a_remedy_and_go_away_once_somebody_has_acted() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/v1/issues").await["groups"], json!([]));
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 400, "probability": 1.0}))
        .await;
    for n in 0..3 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
        app.run_until_idle().await;
    }
    app.clear_faults().await;
    app.apply(&[
        ("events/parcel.lost/event.toml", "description = \"x\""),
        ("events/parcel.lost/schema.json", r#"{"type": "object"}"#),
        ("templates/parcel-lost/template.toml", "channel = \"sms\""),
        ("templates/parcel-lost/sms.en.liquid", "{{ data.customer }}, your parcel is lost"),
        ("rules/parcel-lost.toml", "event = \"parcel.lost\"\ntemplate = \"parcel-lost\""),
    ])
    .await;
    app.accept(&json!({"id": "l-1", "type": "parcel.lost", "recipient": {"external_id": "u"}, "data": {}}))
        .await;
    app.run_until_idle().await;
    let issues = app.get("/v1/issues").await;
    let groups = issues["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{issues}");
    assert_eq!((&groups[0]["state"], &groups[0]["count"]), (&json!("rejected"), &json!(3)));
    assert_eq!((&groups[1]["state"], &groups[1]["code"]), (&json!("held"), &json!("missing_value")));
    assert!(groups.iter().all(|group| !group["remedy"].as_str().unwrap().is_empty()));
    let body = json!({"filter": {"states": ["rejected"]}, "reason": "repaired"});
    let (status, made) = app.call(Method::POST, "/v1/replays", Some(&app.key), Some(&body)).await;
    assert_eq!((status, &made["count"]), (202, &json!(3)), "{made}");
    app.run_until_idle().await;
    let issues = app.get("/v1/issues").await;
    assert_eq!(issues["groups"].as_array().unwrap().len(), 1, "{issues}");
}

#[tokio::test]
async fn a_time_that_can_t_be_read_is_refused() {
    let app = TestApp::start().await;
    let (status, problem) = app.call(Method::GET, "/v1/issues?since=yesterday", Some(&app.key), None).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("since")));
}
