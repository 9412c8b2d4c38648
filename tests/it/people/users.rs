//! The users API: what is accepted, what is refused, and what is shown.

use herald::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use super::{ann, with_strict_onesignal};
use crate::support::app::TestApp;

#[tokio::test]
async fn a_new_person_is_one_call_and_onesignal_has_all_of_it() {
    let app = with_strict_onesignal().await;
    app.declare_labels(&["crm_id"]).await;
    let accepted = app.put_user("external_id/ann", &ann()).await;
    assert_eq!(accepted["new"], true, "{accepted}");
    assert!(accepted["id"].as_str().unwrap().starts_with("usr_"));
    let pending = app.get("/v1/users/external_id/ann").await;
    assert_eq!(pending["apps"][0]["state"], "pending", "{pending}");
    assert_eq!(pending["apps"][0]["pending"]["tag/orders"], "3");
    app.run_for(8).await;
    let there = app.onesignal_user("crm_id", "77").await;
    assert_eq!(there["identity"]["external_id"], "ann", "{there}");
    assert_eq!(there["properties"]["tags"], json!({"orders": "3", "plan": "gold"}));
    assert_eq!(there["properties"]["timezone_id"], "Europe/Berlin");
    assert_eq!(there["subscriptions"][0]["token"], "ann@shop.example");
    assert_eq!(app.stats().await["calls"]["users.create"]["201"], 1);
    let shown = app.get("/v1/users/crm_id/77").await;
    assert_eq!(
        (&shown["apps"][0]["state"], &shown["language"]),
        (&json!("in_sync"), &json!("de")),
        "{shown}"
    );
    assert_eq!(shown["apps"][0]["last_answer"]["code"], "done");
    let dump = app.dump().await;
    assert!(!dump.contains("gold"), "a value that OneSignal has is not stored");
    assert!(!dump.contains("ann@shop.example"), "nor is an address");
}

#[tokio::test]
async fn repeating_a_write_makes_no_call_and_a_change_sends_only_what_changed() {
    let app = with_strict_onesignal().await;
    app.declare_labels(&["crm_id"]).await;
    app.put_user("external_id/ann", &ann()).await;
    app.run_for(8).await;
    let before = app.stats().await["calls"].clone();
    app.put_user("external_id/ann", &ann()).await;
    app.run_for(3).await;
    assert_eq!(app.stats().await["calls"], before, "nothing changed");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM user_writes").await, 0);
    let (status, _) = patch(&app, "external_id/ann", &json!({"tags": {"plan": "silver", "orders": 3}})).await;
    assert_eq!(status, 202);
    app.run_for(3).await;
    let there = app.onesignal_user("external_id", "ann").await;
    assert_eq!(there["properties"]["tags"], json!({"orders": "3", "plan": "silver"}));
    assert_eq!(app.stats().await["calls"]["users.update"]["202"], 1);
}

#[tokio::test]
async fn put_replaces_the_tags_that_were_written_and_patch_adds_to_them() {
    let app = with_strict_onesignal().await;
    app.put_user("external_id/ann", &json!({"tags": {"plan": "gold", "city": "Bonn"}})).await;
    app.run_for(8).await;
    patch(&app, "external_id/ann", &json!({"tags": {"vip": true}})).await;
    app.run_for(3).await;
    let tags = async || app.onesignal_user("external_id", "ann").await["properties"]["tags"].clone();
    assert_eq!(tags().await, json!({"plan": "gold", "city": "Bonn", "vip": "true"}));
    app.put_user("external_id/ann", &json!({"tags": {"plan": "gold"}})).await;
    app.run_for(3).await;
    assert_eq!(tags().await, json!({"plan": "gold"}));
    app.put_user("external_id/ann", &json!({"language": "en"})).await;
    app.run_for(3).await;
    assert_eq!(tags().await, json!({"plan": "gold"}), "tags that are not mentioned are left alone");
    patch(&app, "external_id/ann", &json!({"tags": {"plan": null}})).await;
    app.run_for(3).await;
    assert_eq!(tags().await, json!({}));
}

#[tokio::test]
async fn properties_of_a_user_whom_onesignal_does_not_know_are_refused_with_a_remedy() {
    let app = with_strict_onesignal().await;
    let (status, _) = patch(&app, "external_id/nobody", &json!({"tags": {"plan": "gold"}})).await;
    assert_eq!(status, 202);
    app.run_for(3).await;
    let shown = app.get("/v1/users/external_id/nobody").await;
    let refused = &shown["apps"][0]["refused"][0];
    assert_eq!((&refused["part"], &refused["code"]), (&json!("tag/plan"), &json!("unknown_user")), "{shown}");
    assert!(refused["remedy"].as_str().unwrap().contains("PUT"));
    app.put_user("external_id/nobody", &json!({"tags": {"plan": "gold"}})).await;
    app.run_for(8).await;
    let shown = app.get("/v1/users/external_id/nobody").await;
    assert_eq!(
        (&shown["apps"][0]["state"], &shown["apps"][0]["refused"]),
        (&json!("in_sync"), &json!([])),
        "{shown}"
    );
}

#[tokio::test]
async fn each_bad_field_is_named_and_nothing_of_the_request_is_stored() {
    let app = TestApp::start().await;
    app.declare_labels(&["crm_id"]).await;
    let bad = json!({
        "aliases": {"crmid": "1", "onesignal_id": "5a0d0000-0000-4000-8000-000000000002", "crm_id": " 1"},
        "subscriptions": [
            {"type": "mail", "token": "x"}, {"type": "email", "token": "ann"}, {"type": "sms", "token": "0151"},
        ],
        "tags": {"user": "x", "list": [1], "when": {"date": "soon"}},
        "language": "German", "time_zone": "Berlin", "country": "Germany", "latitude": 91.0, "longitude": 7.0,
    });
    let (status, problem) = put(&app, "external_id/ann", &bad).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_fields")), "{problem}");
    let pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(
        pointers,
        [
            "/aliases/crm_id",
            "/aliases/crmid",
            "/aliases/onesignal_id",
            "/subscriptions/0/type",
            "/subscriptions/1/token",
            "/subscriptions/2/token",
            "/tags/list",
            "/tags/user",
            "/tags/when",
            "/language",
            "/time_zone",
            "/country",
            "/latitude",
        ]
    );
    assert!(problem["errors"][1]["detail"].as_str().unwrap().contains("did you mean `crm_id`?"), "{problem}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM users").await, 0);
}

#[tokio::test]
async fn an_id_that_can_name_no_one_is_refused_with_the_reason() {
    let app = TestApp::start().await;
    for (name, reason) in [
        ("external_id/null", "OneSignal would match"),
        ("external_id/1.23457E+12", "spreadsheet"),
        ("external_id/%20ann", "surrounding spaces"),
        ("email/ann@shop.example", "subscriptions"),
        ("externalId/ann", "did you mean `external_id`?"),
    ] {
        let (status, problem) = put(&app, name, &json!({})).await;
        let detail = problem["errors"][0]["detail"].as_str().unwrap_or_default();
        assert!(status == 422 && detail.contains(reason), "{name}: {status} {problem}");
    }
}

#[tokio::test]
async fn ids_with_any_character_name_the_same_person_here_and_at_onesignal() {
    let app = with_strict_onesignal().await;
    for (written, id) in
        [("a%2Fb%3Fc%23d%25e", "a/b?c#d%e"), ("Zo%C3%AB%20M", "Zoë M"), ("v1%2E0", "v1.0"), ("a+b", "a+b")]
    {
        app.put_user(&format!("external_id/{written}"), &json!({"tags": {"plan": "x"}})).await;
        app.run_for(8).await;
        patch(&app, &format!("external_id/{written}"), &json!({"tags": {"plan": "y"}})).await;
        app.run_for(3).await;
        let there = app.onesignal_user("external_id", written).await;
        assert_eq!(there["identity"]["external_id"], id, "{there}");
        assert_eq!(there["properties"]["tags"]["plan"], "y", "{id}");
    }
}

#[tokio::test]
async fn an_alias_of_someone_else_is_refused_and_one_s_own_can_change_and_go() {
    let app = with_strict_onesignal().await;
    app.declare_labels(&["crm_id"]).await;
    app.put_user("external_id/ann", &json!({"aliases": {"crm_id": "77"}})).await;
    app.put_user("external_id/bob", &json!({})).await;
    let (status, problem) = put(&app, "external_id/bob", &json!({"aliases": {"crm_id": "77"}})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("alias_taken")), "{problem}");
    app.run_for(8).await;
    patch(&app, "external_id/ann", &json!({"aliases": {"crm_id": "78"}})).await;
    app.run_for(3).await;
    assert_eq!(app.onesignal_user("crm_id", "78").await["identity"]["external_id"], "ann");
    let (status, _) = put(&app, "external_id/bob", &json!({"aliases": {"crm_id": "77"}})).await;
    assert_eq!(status, 202, "the id is free again");
    patch(&app, "external_id/ann", &json!({"aliases": {"crm_id": null}})).await;
    app.run_for(5).await;
    let there = app.onesignal_user("external_id", "ann").await;
    assert_eq!(there["identity"]["crm_id"], Value::Null, "{there}");
    assert_eq!(app.onesignal_user("crm_id", "77").await["identity"]["external_id"], "bob");
}

#[tokio::test]
async fn a_known_person_who_gets_an_external_id_stays_one_user() {
    let app = with_strict_onesignal().await;
    app.declare_labels(&["crm_id"]).await;
    app.put_user("crm_id/77", &json!({"tags": {"plan": "gold"}})).await;
    app.run_for(8).await;
    patch(&app, "crm_id/77", &json!({"aliases": {"external_id": "ann"}})).await;
    app.run_for(3).await;
    let there = app.onesignal_user("external_id", "ann").await;
    assert_eq!(
        (&there["identity"]["crm_id"], &there["properties"]["tags"]["plan"]),
        (&json!("77"), &json!("gold"))
    );
    let all = app.sandbox_call(Method::GET, "/_sandbox/users", None).await;
    assert_eq!(all["data"].as_array().unwrap().len(), 1, "{all}");
}

#[tokio::test]
async fn a_new_person_with_a_taken_alias_is_created_without_it() {
    let app = with_strict_onesignal().await;
    app.declare_labels(&["crm_id"]).await;
    // Two people whom Herald does not know: the External ID is one's, the alias is the other's.
    for other in [json!({"external_id": "ann"}), json!({"external_id": "bob", "aliases": {"crm_id": "77"}})] {
        app.sandbox_call(Method::POST, "/_sandbox/users", Some(other)).await;
    }
    app.put_user("external_id/ann", &json!({"aliases": {"crm_id": "77"}, "tags": {"plan": "gold"}})).await;
    app.run_for(10).await;
    assert_eq!(app.onesignal_user("external_id", "ann").await["properties"]["tags"], json!({"plan": "gold"}));
    let shown = app.get("/v1/users/external_id/ann").await;
    assert_eq!(shown["apps"][0]["refused"][0]["part"], "alias/crm_id", "{shown}");
    assert_eq!(shown["apps"][0]["refused"].as_array().unwrap().len(), 1, "{shown}");
}

#[tokio::test]
async fn nobody_is_created_by_the_id_that_onesignal_assigns() {
    let app = TestApp::start().await;
    let path = "onesignal_id/5a0d0000-0000-4000-8000-000000000002";
    let address = json!({"subscriptions": [{"type": "email", "token": "ann@shop.example"}]});
    for (status, problem) in [put(&app, path, &json!({})).await, patch(&app, path, &address).await] {
        let detail = problem["errors"][0]["detail"].as_str().unwrap_or_default();
        assert!(status == 422 && detail.contains("external_id"), "{problem}");
    }
    assert_eq!(patch(&app, path, &json!({"tags": {"plan": "gold"}})).await.0, 202);
}

#[tokio::test]
async fn an_id_that_no_path_can_express_is_refused() {
    let app = TestApp::start().await;
    let batch = json!([{"user": {"external_id": ".."}}]);
    let (_, answer) = app.call(Method::POST, "/v1/users/batch", Some(&app.key), Some(&batch)).await;
    assert_eq!(answer["rejected"], 1, "{answer}");
    assert!(
        answer["results"][0]["problem"]["errors"][0]["detail"].as_str().unwrap().contains("path"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_batch_takes_the_good_ones_and_names_what_is_wrong_with_the_others() {
    let app = with_strict_onesignal().await;
    let batch = json!([
        {"user": {"external_id": "ann"}, "tags": {"plan": "gold"}},
        {"user": {"external_id": "null"}},
        {"user": {}},
        {"user": {"external_id": "bob"}, "taggs": {}},
        {"user": {"external_id": "ann"}, "tags": {"plan": "silver", "city": "Bonn"}},
    ]);
    let (status, answer) = app.call(Method::POST, "/v1/users/batch", Some(&app.key), Some(&batch)).await;
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (202, &json!(2), &json!(3)), "{answer}");
    assert_eq!(answer["results"][1]["problem"]["errors"][0]["pointer"], "/user");
    assert_eq!(answer["results"][3]["problem"]["code"], "unknown_field");
    assert_eq!(answer["results"][0]["user"]["id"], answer["results"][4]["user"]["id"]);
    app.run_for(8).await;
    let there = app.onesignal_user("external_id", "ann").await;
    assert_eq!(there["properties"]["tags"], json!({"plan": "silver", "city": "Bonn"}), "the last one wins");
    assert_eq!(app.stats().await["calls"]["users.create"]["201"], 1);
}

#[tokio::test]
async fn a_dry_run_stores_nothing_and_keys_need_the_scopes() {
    let app = TestApp::start().await;
    let (status, answer) = put(&app, "external_id/ann?dry_run=true", &json!({})).await;
    assert_eq!((status, &answer["new"]), (200, &json!(true)), "{answer}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM users").await, 0);
    let reader = app.key_with(vec![Scope::UsersRead]).await;
    let writer = app.key_with(vec![Scope::UsersWrite]).await;
    let path = "/v1/users/external_id/ann";
    let body = json!({});
    assert_eq!(app.call(Method::PUT, path, Some(&reader), Some(&body)).await.0, 403);
    assert_eq!(app.call(Method::PUT, path, Some(&writer), Some(&body)).await.0, 202);
    assert_eq!(app.call(Method::GET, path, Some(&writer), None).await.0, 403);
    assert_eq!(app.call(Method::GET, path, Some(&reader), None).await.0, 200);
    assert_eq!(app.call(Method::GET, "/v1/users/external_id/bob", Some(&reader), None).await.0, 404);
}

async fn put(app: &TestApp, path: &str, user: &Value) -> (u16, Value) {
    app.call(Method::PUT, &format!("/v1/users/{path}"), Some(&app.key), Some(user)).await
}

async fn patch(app: &TestApp, path: &str, user: &Value) -> (u16, Value) {
    app.call(Method::PATCH, &format!("/v1/users/{path}"), Some(&app.key), Some(user)).await
}
