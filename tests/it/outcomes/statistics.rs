//! Statistics: funnels with their coverage, the comparison of versions, and counts that are what the rows say.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{delivery_by, report};
use crate::scheduled_at_provider as scheduled;
use crate::support::app::{TestApp, order_shipped};
use crate::support::processes::run;

/// Orders of these people, sent.
async fn sent(app: &TestApp, people: &[&str]) -> Vec<Value> {
    let mut accepted = Vec::new();
    for user in people {
        accepted.push(app.accept(&order_shipped(&format!("o-{user}"), user)).await);
    }
    app.run_until_idle().await;
    accepted
}

#[tokio::test]
async fn a_funnel_has_counts_rates_and_coverage_and_what_was_not_measured_is_not_zero() {
    let app = TestApp::start().await;
    let accepted = sent(&app, &["ann", "ben", "cleo", "dora"]).await;
    let stats = app.get("/v1/stats?by=rule").await;
    let [email, push] = stats["data"].as_array().expect("groups").as_slice() else { panic!("{stats}") };
    for funnel in [email, push] {
        assert_eq!((&funnel["accepted"], &funnel["coverage"]), (&json!(4), &json!(0.0)));
        for kind in ["sent", "delivered", "clicked", "failed"] {
            assert_eq!(funnel[kind], Value::Null, "{kind} is not measured: {funnel}");
        }
    }
    let mut reports = Vec::new();
    for (n, (event, user)) in accepted.iter().zip(["ann", "ben", "cleo"]).enumerate() {
        let message = app.message_of(delivery_by(event, "order-shipped-push")).await;
        reports.push(report(&format!("s-{n}"), "push.sent", &message, user));
        let what = if user == "cleo" { "push.failed" } else { "push.received" };
        reports.push(report(&format!("r-{n}"), what, &message, user));
    }
    let message = app.message_of(delivery_by(&accepted[0], "order-shipped-push")).await;
    let mut click = report("c", "push.clicked", &message, "ann");
    click["ts"] = json!(1_795_514_400 + 60);
    reports.push(click);
    app.record(&reports).await;
    let stats = app.get("/v1/stats?by=version&template=order-shipped-push").await;
    let funnel = &stats["data"][0];
    assert_eq!(funnel["group"], json!({"template": "order-shipped-push", "version": 1}));
    assert_eq!(
        (&funnel["accepted"], &funnel["reported"], &funnel["coverage"]),
        (&json!(4), &json!(3), &json!(0.75))
    );
    assert_eq!((&funnel["delivered"]["people"], &funnel["delivered"]["of"]), (&json!(2), &json!(3)));
    assert_eq!(funnel["clicked"]["rate"], json!(1.0 / 3.0));
    assert_eq!((&funnel["failed"]["people"], &funnel["opened"]), (&json!(1), &Value::Null));
    assert_eq!((&funnel["still_counting"], &stats["reports"]["joined"]), (&json!(true), &json!(7)));
    for by in ["template", "event_type", "channel", "locale", "day"] {
        let stats = app.get(&format!("/v1/stats?by={by}&channel=push")).await;
        assert_eq!(stats["data"][0]["clicked"]["people"], 1, "{by}: {stats}");
        assert!(stats["data"][0]["group"][by].is_string(), "{by}: {stats}");
    }
    assert_eq!(app.get("/v1/stats?since=2026-11-25&until=2026-11-30").await["data"], json!([]));
    let (status, problem) = app.call(Method::GET, "/v1/stats?by=colour", Some(&app.key), None).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("by")), "{problem}");
}

#[tokio::test]
async fn outcomes_that_come_after_three_days_are_shown_but_change_no_figure() {
    let app = TestApp::start().await;
    let accepted = sent(&app, &["ann"]).await;
    let delivery = delivery_by(&accepted[0], "order-shipped-push");
    let message = app.message_of(delivery).await;
    app.record(&[report("e-1", "push.sent", &message, "ann")]).await;
    app.advance(Duration::from_hours(73)).await;
    let before = app.get("/v1/stats?by=version").await["data"].clone();
    let mut late = report("e-2", "push.clicked", &message, "ann");
    late["ts"] = json!(1_795_514_400 + 73 * 3_600);
    app.record(&[late]).await;
    assert_eq!(super::kinds_of(&app, delivery).await, ["sent", "clicked"]);
    assert_eq!(app.get("/v1/stats?by=version").await["data"], before);
}

#[tokio::test]
async fn the_counts_are_what_the_outcomes_say_and_a_wrong_one_is_found_and_corrected() {
    let app = TestApp::start().await;
    let accepted = sent(&app, &["ann", "ben"]).await;
    for (n, event) in accepted.iter().enumerate() {
        let message = app.message_of(delivery_by(event, "order-shipped-email")).await;
        app.record(&[
            report(&format!("s-{n}"), "email.sent", &message, ""),
            report(&format!("o-{n}"), "email.opened", &message, ""),
        ])
        .await;
    }
    assert_eq!(app.get("/v1/stats/check").await["differences"], json!([]));
    app.execute(
        "UPDATE outcome_counts SET opened = opened + 1, accepted = 0 WHERE rule_key = 'order-shipped-email'",
    )
    .await;
    let found = app.get("/v1/stats/check").await;
    let difference = &found["differences"][0];
    assert_eq!(
        (&difference["stored"]["opened"], &difference["counted"]["opened"]),
        (&json!(3), &json!(2)),
        "{found}"
    );
    let command = async |arguments: &[&str]| {
        run(arguments, &[("HERALD_URL", &app.url), ("HERALD_KEY", &app.key)]).await
    };
    let verified = command(&["stats", "verify"]).await;
    assert_eq!(verified.status.code(), Some(2), "{verified:?}");
    assert!(command(&["stats", "verify", "--repair"]).await.status.success());
    assert_eq!(app.get("/v1/stats/check").await["differences"], json!([]));
    let shown = command(&["stats", "show", "--by", "rule"]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("order-shipped-email") && shown.contains("2 (100.0 %)"), "{shown}");
}

#[tokio::test]
async fn two_versions_are_compared_at_a_fixed_size_and_not_before() {
    let app = TestApp::start().await;
    app.execute(
        "INSERT INTO outcome_counts
         SELECT day::date, 'order-shipped-push', version, 'r', 'order.shipped', 'push', 'en', 350, 350, 350, 350, 350, 0, 0,
             CASE version WHEN 1 THEN 20 ELSE 60 END, 0, 0, 0, 0, 0, 0, 350, 350
         FROM generate_series(date '2026-11-10', date '2026-11-14', interval '1 day') AS day, (VALUES (1), (2)) AS v (version)",
    )
    .await;
    let compare = async |people: i64| {
        app.get(&format!("/v1/stats/comparison?template=order-shipped-push&a=1&b=2&people={people}")).await
    };
    let early = compare(2_000).await;
    assert_eq!(early["text"], "too early to tell, 1750 of 2000 people");
    assert_eq!(early["difference"], Value::Null);
    let found = compare(1_000).await;
    assert_eq!(
        (&found["verdict"], &found["kind"], &found["b"]["people"]),
        (&json!("better"), &json!("test"), &json!(1_050))
    );
    app.advance(Duration::from_hours(9 * 24)).await;
    assert_eq!(compare(1_000).await, found, "the same nine days later");
    app.execute("UPDATE outcome_counts SET day = day - 5 WHERE template_version = 1").await;
    assert_eq!(
        compare(1_000).await["text"],
        "version 2 is better than version 1 (before and after, not a test)"
    );
    let (status, _) =
        app.call(Method::GET, "/v1/stats/comparison?template=t&a=1&b=2&people=5", Some(&app.key), None).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_scheduled_message_is_counted_once_it_was_sent_and_not_if_it_was_cancelled() {
    let app = scheduled::start().await;
    let ahead = chrono::TimeDelta::hours(2);
    app.accept(&scheduled::later(&app, "o-1", ahead)).await;
    let cancelled = app.accept(&scheduled::later(&app, "o-2", ahead)).await;
    app.run_until_idle().await;
    app.act(&scheduled::cancel_path(&cancelled)).await;
    app.run_until_idle().await;
    let accepted = async || {
        let stats = app.get("/v1/stats?by=rule&rule=order-shipped-push").await;
        (stats["data"][0]["accepted"].clone(), app.get("/v1/stats/check").await["differences"].clone())
    };
    assert_eq!(accepted().await, (Value::Null, json!([])));
    scheduled::advance(&app, Duration::from_mins(140)).await;
    app.run_until_idle().await;
    assert_eq!(accepted().await, (json!(1), json!([])));
}
