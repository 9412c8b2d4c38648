//! Replays: planned first, with a reason, and recorded.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, Wanted, payment_failed};

/// Deliveries that OneSignal rejected, and that it would accept now.
async fn rejected(count: usize) -> (TestApp, Vec<String>) {
    let settings = vec![("HERALD_DELIVERY__MAX_TARGETS", "1".to_owned())];
    let app = TestApp::start_with(Wanted { settings, ..Wanted::default() }).await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 400, "probability": 1.0}))
        .await;
    let mut ids = Vec::new();
    for n in 0..count {
        let accepted = app.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
        app.run_until_idle().await;
        ids.push(accepted["deliveries"][0]["id"].as_str().expect("an id").to_owned());
    }
    app.clear_faults().await;
    (app, ids)
}

async fn replay(app: &TestApp, id: &str, body: Value) -> (u16, Value) {
    app.call(Method::POST, &format!("/v1/deliveries/{id}/replay"), Some(&app.key), Some(&body)).await
}

async fn replays(app: &TestApp, query: &str, body: Value) -> (u16, Value) {
    app.call(Method::POST, &format!("/v1/replays{query}"), Some(&app.key), Some(&body)).await
}

async fn state(app: &TestApp, id: &str) -> Value {
    app.get(&format!("/v1/deliveries/{id}")).await["state"].clone()
}

#[tokio::test]
async fn a_plan_says_how_many_why_and_what_they_will_say_and_changes_nothing() {
    let (app, _) = rejected(3).await;
    let (status, plan) = replays(&app, "?dry_run=true", json!({"reason": "repaired"})).await;
    assert_eq!((status, &plan["count"], &plan["second_copies"]), (200, &json!(3), &json!(0)), "{plan}");
    assert_eq!(plan["groups"][0]["state"], "rejected");
    assert_eq!(
        plan["versions"],
        json!([{"template": "payment-failed-sms", "version": 1, "count": 3}]),
        "{plan}"
    );
    assert_eq!((&plan["id"], plan["deliveries"].as_array().unwrap().len()), (&Value::Null, 3));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries").await, 3);
}

#[tokio::test]
async fn a_replay_is_a_new_delivery_that_names_the_old_one_and_both_tell_who_and_why() {
    let (app, ids) = rejected(1).await;
    let (status, made) = replay(&app, &ids[0], json!({"reason": "the sender was wrong"})).await;
    assert_eq!((status, &made["count"]), (202, &json!(1)), "{made}");
    let new = made["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    app.run_until_idle().await;
    assert_eq!((state(&app, &ids[0]).await, state(&app, &new).await), (json!("rejected"), json!("accepted")));
    let (old, new) = (
        app.get(&format!("/v1/deliveries/{}", ids[0])).await,
        app.get(&format!("/v1/deliveries/{new}")).await,
    );
    for (delivery, words) in [(&old, "replayed as dlv_"), (&new, "a replay of dlv_")] {
        let decisions = delivery["decisions"].as_array().unwrap();
        let replayed = decisions.iter().find(|d| d["code"] == "replayed").expect("a decision");
        let detail = replayed["detail"].as_str().unwrap();
        assert!(detail.contains(words) && detail.contains("the sender was wrong") && detail.contains("shop"));
    }
    assert_eq!(new["replay_of"], ids[0].as_str());
    let event = app.get(&format!("/v1/events/{}", old["event"].as_str().unwrap())).await;
    assert_eq!(event["deliveries"].as_array().unwrap().len(), 2, "{event}");
    let listed = app.get("/v1/replays").await;
    assert_eq!(
        (&listed["data"][0]["id"], &listed["data"][0]["reason"]),
        (&made["id"], &json!("the sender was wrong"))
    );
}

#[tokio::test]
async fn what_was_made_again_is_not_made_again_again_unless_somebody_says_so() {
    let (app, ids) = rejected(1).await;
    assert_eq!(replay(&app, &ids[0], json!({"reason": "one"})).await.0, 202);
    let (status, problem) = replay(&app, &ids[0], json!({"reason": "two"})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("not_replayable")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("may_duplicate"));
    let (_, plan) = replays(&app, "", json!({"reason": "all"})).await;
    assert_eq!(
        (&plan["count"], &plan["left_out"][0]["code"]),
        (&json!(0), &json!("replayed_already")),
        "{plan}"
    );
    assert_eq!(replay(&app, &ids[0], json!({"reason": "three", "may_duplicate": true})).await.0, 202);
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 2);
}

#[tokio::test]
async fn a_replay_that_failed_can_be_made_again() {
    let (app, ids) = rejected(1).await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 400, "probability": 1.0}))
        .await;
    assert_eq!(replay(&app, &ids[0], json!({"reason": "too early"})).await.0, 202);
    app.run_until_idle().await;
    app.clear_faults().await;
    let (status, made) = replay(&app, &ids[0], json!({"reason": "now"})).await;
    assert_eq!(status, 202, "{made}");
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1);
}

#[tokio::test]
async fn who_asks_twice_with_the_same_key_gets_one_replay() {
    let (app, ids) = rejected(2).await;
    let body = json!({"reason": "repaired"}).to_string();
    let headers = [("content-type", "application/json"), ("idempotency-key", "k-1")];
    let one: Value = app.post_raw("/v1/replays", &headers, body.clone()).await.json().await.unwrap();
    let two: Value = app.post_raw("/v1/replays", &headers, body).await.json().await.unwrap();
    assert_eq!((&one["id"], &one["count"]), (&two["id"], &json!(2)));
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), ids.len());
}

#[tokio::test]
async fn two_people_who_replay_the_same_at_once_make_it_once() {
    let (app, _) = rejected(4).await;
    let one = replays(&app, "", json!({"reason": "one"}));
    let two = replays(&app, "", json!({"reason": "two"}));
    let ((_, one), (_, two)) = tokio::join!(one, two);
    assert_eq!(one["count"].as_i64().unwrap() + two["count"].as_i64().unwrap(), 4, "{one} {two}");
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 4);
}

#[tokio::test]
async fn what_reached_somebody_is_made_again_only_for_who_says_so_and_is_counted() {
    let app = TestApp::start().await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    app.run_until_idle().await;
    let id = accepted["deliveries"][0]["id"].as_str().unwrap();
    let (status, problem) = replay(&app, id, json!({"reason": "she asked"})).await;
    assert_eq!(status, 409, "{problem}");
    let body = json!({"filter": {"deliveries": [id]}, "reason": "she asked", "may_duplicate": true});
    let (_, plan) = replays(&app, "?dry_run=true", body.clone()).await;
    assert_eq!((&plan["count"], &plan["second_copies"]), (&json!(1), &json!(1)), "{plan}");
    assert_eq!(replays(&app, "", body).await.0, 202);
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 2);
}

#[tokio::test]
async fn what_is_over_stays_over_unless_somebody_says_otherwise() {
    let (app, ids) = rejected(1).await;
    app.advance(Duration::from_hours(25)).await;
    let (status, problem) = replay(&app, &ids[0], json!({"reason": "late"})).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("even_if_expired"), "{problem}");
    let (status, made) = replay(&app, &ids[0], json!({"reason": "late", "even_if_expired": true})).await;
    assert_eq!(status, 202, "{made}");
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1);
}

#[tokio::test]
async fn another_version_can_be_said_and_one_that_lacks_values_is_refused() {
    let (app, ids) = rejected(2).await;
    app.apply(&[
        ("templates/payment-failed-sms/template.toml", "channel = \"sms\""),
        ("templates/payment-failed-sms/sms.en.liquid", "Second: {{ data.invoice }} {{ data.amount }}"),
    ])
    .await;
    assert_eq!(replay(&app, &ids[0], json!({"reason": "new words", "version": "live"})).await.0, 202);
    assert_eq!(replay(&app, &ids[1], json!({"reason": "new words", "version": 7})).await.0, 409);
    assert_eq!(replay(&app, &ids[1], json!({"reason": "new words", "version": "newest"})).await.0, 422);
    app.run_until_idle().await;
    let said = app.messages().await[0]["recipients"][0]["rendered"]["contents"].clone();
    assert!(said.as_str().unwrap().starts_with("Second: p-0"), "{said}");
}

#[tokio::test]
async fn a_one_time_code_is_made_again_while_it_is_kept_and_never_as_a_mask() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 400, "probability": 1.0}))
        .await;
    let code = |id: &str| {
        json!({"id": id, "type": "password.reset", "recipient": {"external_id": "u"},
            "data": {"code": "731954", "name": "Anna"}})
    };
    let first = app.accept(&code("r-1")).await["deliveries"][0]["id"].as_str().unwrap().to_owned();
    app.run_until_idle().await;
    app.clear_faults().await;
    assert_eq!(replay(&app, &first, json!({"reason": "again"})).await.0, 202);
    // Its event's values are erased meanwhile; the replay has its own.
    app.execute("DELETE FROM event_secrets").await;
    app.run_until_idle().await;
    let said = app.messages().await[0]["recipients"][0]["rendered"].to_string();
    assert!(said.contains("731954"), "{said}");
    assert!(!app.dump().await.contains("731954"), "nothing of it is readable");
    let again = json!({"reason": "again", "may_duplicate": true, "even_if_expired": true});
    let (status, problem) = replay(&app, &first, again).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("erased"), "{problem}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_where_and_why() {
    let (app, ids) = rejected(1).await;
    for (body, pointer) in [
        (json!({"reason": " "}), "/reason"),
        (json!({"filter": {"states": ["queued"]}, "reason": "x"}), "/filter/states/0"),
        (json!({"filter": {"deliveries": ["x"]}, "reason": "x"}), "/filter/deliveries/0"),
        (json!({"filter": {"rules": "x"}, "reason": "x"}), "/filter/rules"),
        (json!({"reason": "x", "version": 0}), "/version"),
    ] {
        let (status, problem) = replays(&app, "", body).await;
        assert!((400..=422).contains(&status), "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    assert_eq!(replay(&app, "dlv_00000000000000000000000000", json!({"reason": "x"})).await.0, 404);
    let mut later = payment_failed("later", "u");
    later["send_after"] = json!("2026-11-25T08:00:00Z");
    let open = app.accept(&later);
    let open = open.await["deliveries"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(replay(&app, &open, json!({"reason": "x"})).await.0, 409);
    assert_eq!(state(&app, &ids[0]).await, "rejected");
}

#[tokio::test]
async fn the_same_request_twice_at_once_gets_the_same_replay() {
    let (app, _) = rejected(2).await;
    let body = json!({"reason": "repaired"}).to_string();
    let headers = [("content-type", "application/json"), ("idempotency-key", "k-1")];
    let post = || app.post_raw("/v1/replays", &headers, body.clone());
    let answers = futures_util::future::join_all((0..6).map(|_| post())).await;
    let mut ids = std::collections::BTreeSet::new();
    for answer in answers {
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["count"], 2, "{answer}");
        ids.insert(answer["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn what_was_accepted_without_a_decision_is_found_by_its_state() {
    let app = TestApp::start().await;
    app.accept(&payment_failed("p-1", "u")).await;
    app.run_until_idle().await;
    let body = json!({"filter": {"states": ["accepted"], "rule": "payment-failed-sms"}, "may_duplicate": true, "reason": "a test"});
    let (status, plan) = replays(&app, "?dry_run=true", body).await;
    assert_eq!((status, &plan["count"], &plan["is_complete"]), (200, &json!(1), &json!(true)), "{plan}");
}
