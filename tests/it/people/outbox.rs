//! The outbox under faults: nothing is lost, the last write wins, and no refusal holds back a person's other changes.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{calls, with_strict_onesignal};
use crate::support::app::TestApp;

async fn patch_tags(app: &TestApp, id: &str, tags: Value) {
    let path = format!("/v1/users/external_id/{id}");
    let (status, body) = app.call(Method::PATCH, &path, Some(&app.key), Some(&json!({ "tags": tags }))).await;
    assert_eq!(status, 202, "{body}");
}

async fn known(app: &TestApp, id: &str) {
    app.put_user(&format!("external_id/{id}"), &json!({"tags": {"n": "0"}})).await;
    app.run_for(8).await;
}

async fn tags(app: &TestApp, id: &str) -> Value {
    app.onesignal_user("external_id", id).await["properties"]["tags"].clone()
}

#[tokio::test]
async fn many_changes_of_one_person_are_one_call_a_second_and_the_last_one_wins() {
    let app = with_strict_onesignal().await;
    known(&app, "ann").await;
    let before = calls(&app, "users.update").await;
    for n in 1..=20 {
        patch_tags(&app, "ann", json!({"n": n, (format!("t{n}")): "x"})).await;
    }
    app.run_until_idle().await;
    assert_eq!(calls(&app, "users.update").await, before + 1);
    patch_tags(&app, "ann", json!({"n": 21})).await;
    app.run_until_idle().await;
    assert_eq!(calls(&app, "users.update").await, before + 1, "the second is not over");
    app.run_for(2).await;
    assert_eq!(calls(&app, "users.update").await, before + 2);
    assert_eq!(tags(&app, "ann").await["n"], "21");
}

#[tokio::test]
async fn an_outage_loses_nothing_and_ends_by_itself() {
    let app = with_strict_onesignal().await;
    known(&app, "ann").await;
    app.fault(json!({"endpoint": "users", "kind": "status", "status": 503, "probability": 1.0})).await;
    patch_tags(&app, "ann", json!({"n": 1})).await;
    app.run_for(3).await;
    let shown = app.get("/v1/users/external_id/ann").await;
    assert_eq!(shown["apps"][0]["state"], "retrying", "{shown}");
    assert_eq!(shown["apps"][0]["last_answer"]["code"], "ambiguous");
    app.clear_faults().await;
    app.run_for(20).await;
    assert_eq!(tags(&app, "ann").await["n"], "1");
    assert_eq!(app.get("/v1/users/external_id/ann").await["apps"][0]["state"], "in_sync");
}

#[tokio::test]
async fn a_write_whose_reply_was_lost_is_not_mistaken_for_unchanged() {
    let app = with_strict_onesignal().await;
    known(&app, "ann").await;
    app.fault(json!({"endpoint": "users", "kind": "reset_after", "probability": 1.0})).await;
    patch_tags(&app, "ann", json!({"n": "lost"})).await;
    app.run_until_idle().await;
    app.clear_faults().await;
    assert_eq!(tags(&app, "ann").await["n"], "lost", "OneSignal has it, but Herald does not know");
    // Back to the value that OneSignal confirmed before: it must be written nevertheless.
    patch_tags(&app, "ann", json!({"n": "0"})).await;
    app.run_for(10).await;
    assert_eq!(tags(&app, "ann").await["n"], "0");
}

#[tokio::test]
async fn a_process_that_dies_during_a_call_loses_its_claim_and_nothing_else() {
    let app = with_strict_onesignal().await;
    known(&app, "ann").await;
    patch_tags(&app, "ann", json!({"n": "1"})).await;
    // A process claims the row and is gone.
    let app_id = herald::domain::app::AppId("5a0d0000-0000-4000-8000-000000000001".parse().unwrap());
    let now = herald::domain::clock::Clock::now(app.clock.as_ref());
    let until = now + chrono::TimeDelta::seconds(90);
    let claimed = app.herald.store.claim_user_writes(app_id, 10, until, now).await.unwrap();
    assert_eq!(claimed.len(), 1);
    patch_tags(&app, "ann", json!({"n": "0"})).await;
    app.run_for(3).await;
    assert_eq!(calls(&app, "users.update").await, 0, "the claim holds");
    app.advance(Duration::from_secs(90)).await;
    app.run_for(2).await;
    assert_eq!(calls(&app, "users.update").await, 1, "in doubt: written although it was confirmed before");
    assert_eq!(tags(&app, "ann").await["n"], "0");
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_hold_up_a_person() {
    let app = with_strict_onesignal().await;
    known(&app, "ann").await;
    app.execute("UPDATE user_syncs SET next_at = next_at + interval '1 day'").await;
    patch_tags(&app, "ann", json!({"n": "1"})).await;
    app.run_for(12).await;
    assert_eq!(tags(&app, "ann").await["n"], "1");
    patch_tags(&app, "ann", json!({"n": "2"})).await;
    app.execute("UPDATE user_writes SET due_at = due_at + interval '1 day'").await;
    app.run_for(62).await;
    assert_eq!(tags(&app, "ann").await["n"], "2");
}

#[tokio::test]
async fn a_taken_alias_is_refused_and_the_rest_of_the_person_is_written() {
    let app = with_strict_onesignal().await;
    app.declare_labels(&["crm_id"]).await;
    // Someone whom Herald does not know has the alias.
    let other = json!({"external_id": "other", "aliases": {"crm_id": "77"}});
    app.sandbox_call(Method::POST, "/_sandbox/users", Some(other)).await;
    known(&app, "ann").await;
    app.put_user("external_id/ann", &json!({"aliases": {"crm_id": "77"}, "tags": {"plan": "gold"}})).await;
    app.run_for(10).await;
    let shown = app.get("/v1/users/external_id/ann").await;
    let refused = &shown["apps"][0]["refused"];
    assert_eq!(
        (&refused[0]["part"], &refused[0]["code"]),
        (&json!("alias/crm_id"), &json!("alias_conflict")),
        "{shown}"
    );
    assert_eq!(refused.as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(tags(&app, "ann").await, json!({"plan": "gold"}));
}

#[tokio::test]
async fn at_the_tag_limit_the_tags_that_fit_are_written_and_the_others_are_named() {
    let plan = herald::sandbox::SandboxPlan { tags_per_user: Some(10), ..herald::sandbox::SandboxPlan::PAID };
    let options = herald::sandbox::SandboxOptions {
        plan,
        strict_users: true,
        ..herald::sandbox::SandboxOptions::unhurried()
    };
    let wanted = crate::support::app::Wanted { sandbox: Some(options), ..Default::default() };
    let app = TestApp::start_with(wanted).await;
    let eleven: serde_json::Map<String, Value> = (0..11).map(|n| (format!("t{n:02}"), json!("x"))).collect();
    app.put_user("external_id/ann", &json!({ "tags": eleven })).await;
    app.run_for(25).await;
    assert_eq!(tags(&app, "ann").await.as_object().unwrap().len(), 10);
    let shown = app.get("/v1/users/external_id/ann").await;
    let refused = &shown["apps"][0]["refused"];
    assert_eq!(
        (&refused[0]["part"], &refused[0]["code"]),
        (&json!("tag/t10"), &json!("tag_limit")),
        "{shown}"
    );
    patch_tags(&app, "ann", json!({"t00": "y"})).await;
    app.run_for(3).await;
    assert_eq!(tags(&app, "ann").await["t00"], "y", "known tags can still change");
}

#[tokio::test]
async fn a_rate_limit_for_one_person_does_not_slow_down_the_others() {
    let app = with_strict_onesignal().await;
    let people = ["ann", "bob", "cleo"];
    for id in people {
        app.put_user(&format!("external_id/{id}"), &json!({})).await;
    }
    app.run_for(8).await;
    // A device has just written to one of them.
    app.fault(json!({"endpoint": "users", "kind": "status", "status": 429, "retry_after": 1, "times": 1}))
        .await;
    for id in people {
        patch_tags(&app, id, json!({"n": "1"})).await;
    }
    app.run_until_idle().await;
    let mut limited = 0;
    for id in people {
        let answer = app.get(&format!("/v1/users/external_id/{id}")).await["apps"][0]["last_answer"].clone();
        let is_written = tags(&app, id).await["n"] == "1";
        assert_eq!(is_written, answer["code"] == "done", "{id}: {answer}");
        limited += usize::from(answer["code"] == "rate_limited");
    }
    assert_eq!(limited, 1);
    app.run_for(5).await;
    for id in people {
        assert_eq!(tags(&app, id).await["n"], "1", "{id}");
    }
}

#[tokio::test]
async fn a_refused_key_stops_the_calls_and_nothing_is_lost() {
    let app = with_strict_onesignal().await;
    known(&app, "ann").await;
    app.fault(json!({"endpoint": "users", "kind": "status", "status": 401, "probability": 1.0})).await;
    for n in 0..5 {
        app.put_user(&format!("external_id/u{n}"), &json!({})).await;
    }
    patch_tags(&app, "ann", json!({"n": "1"})).await;
    app.run_for(20).await;
    app.clear_faults().await;
    app.run_for(60).await;
    assert_eq!(tags(&app, "ann").await["n"], "1");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM user_writes").await, 0);
}

#[tokio::test]
async fn a_user_who_was_deleted_at_onesignal_is_created_again_by_the_next_put() {
    let app = with_strict_onesignal().await;
    known(&app, "ann").await;
    let path = "/apps/5a0d0000-0000-4000-8000-000000000001/users/by/external_id/ann";
    app.sandbox_call(Method::DELETE, path, None).await;
    app.advance(Duration::from_mins(2)).await;
    app.put_user("external_id/ann", &json!({"tags": {"n": "1"}})).await;
    app.run_for(10).await;
    assert_eq!(tags(&app, "ann").await, json!({"n": "1"}));
}

#[tokio::test]
async fn with_many_writers_lost_replies_and_two_processes_the_last_write_of_each_wins() {
    const USERS: usize = 40;
    const CLIENTS: usize = 3;
    const WRITES: usize = 5;
    let app = with_strict_onesignal().await;
    let other = app.replica().await;
    app.fault(json!({"endpoint": "users", "kind": "reset_after", "probability": 0.15, "seed": 7})).await;
    let writes = (0..CLIENTS).map(async |client| {
        for n in 0..WRITES {
            for user in 0..USERS {
                // The clients meet the users in different orders.
                let user = (user + client * 13) % USERS;
                let path = format!("/v1/users/external_id/u{user}");
                let tags = json!({"tags": {format!("client{client}"): n}, "language": "de"});
                let method = if n == 0 { Method::PUT } else { Method::PATCH };
                let body = if n == 0 { json!({"language": "de"}) } else { tags };
                let (status, answer) = app.call(method, &path, Some(&app.key), Some(&body)).await;
                assert_eq!(status, 202, "{answer}");
            }
        }
    });
    let send = async |app: &TestApp| {
        for _ in 0..40 {
            app.herald.people.run_once().await.expect("the database answers");
            app.clock.advance(Duration::from_millis(500));
        }
    };
    let posted = async { futures_util::future::join_all(writes).await };
    tokio::join!(posted, send(&app), send(&other));
    app.clear_faults().await;
    app.run_for(120).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM user_writes").await, 0);
    let last = (WRITES - 1).to_string();
    for user in 0..USERS {
        let tags = tags(&app, &format!("u{user}")).await;
        for client in 0..CLIENTS {
            assert_eq!(tags[format!("client{client}")], last, "u{user}: {tags}");
        }
    }
}
