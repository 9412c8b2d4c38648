//! Keys and roles that reach further than they promise.

use std::collections::BTreeSet;
use std::time::Duration;

use herald::access::{KeyRequest, NarrowUse, Role, Scope, Use};
use herald::domain::app::{App, AppId};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::logs::captured;
use crate::console::visitor::Visitor;
use crate::support::app::{TestApp, Wanted, order_shipped};

const LIVE_APP: &str = "5a0d0000-0000-4000-8000-000000000002";
/// Nothing of the attacker's ever listens here.
const ELSEWHERE: &str = "http://127.0.0.1:9";

/// An installation that also reaches real people: its second app is live, and played by the sandbox all the same.
async fn mixed() -> TestApp {
    let app = TestApp::start().await;
    add_live_app(&app).await;
    app
}

async fn add_live_app(app: &TestApp) {
    let live = App {
        id: AppId(LIVE_APP.parse().expect("an id")),
        name: "live".to_owned(),
        base_url: app.sandbox_url.parse().expect("a URL"),
        api_key: "os_v2_app_LIVECANARY".into(),
        is_sandbox: false,
        is_default: false,
        calls_per_second: 150,
        subscriptions: None,
        paused: None,
        alias_labels: None,
    };
    let now = app.herald.api.clock.now();
    assert!(app.herald.store.put_app(&live, 0, now).await.expect("entered"));
}

async fn put_app(app: &TestApp, key: &str, id: &str, body: Value) -> (u16, Value) {
    let path = format!("/v1/apps/{id}");
    let (found, seen, _) = app.call_seen((Method::GET, &path), &app.key, None, &Value::Null).await;
    let seen = (found == 200).then_some(seen.as_str());
    let (status, _, answer) = app.call_seen((Method::PUT, &path), key, seen, &body).await;
    (status, answer)
}

fn pointers(problem: &Value) -> BTreeSet<&str> {
    let errors = problem["errors"].as_array().into_iter().flatten();
    errors.filter_map(|error| error["pointer"].as_str()).collect()
}

/// One call for each use of the API, on things that live traffic made.
fn calls(event: &str, delivery: &str) -> Vec<(Use, Method, String, Option<Value>)> {
    let template = "/v1/templates/order-shipped-push";
    let test_send = json!({"version": "live", "recipient": {"external_id": "tester"}});
    let rule = json!({"event": "order.shipped", "template": "order-shipped-push"});
    let why = json!({"reason": "why"});
    vec![
        (Use::PostEvent, Method::POST, "/v1/events".into(), Some(order_shipped("t-1", "u"))),
        (Use::ReadEvents, Method::GET, format!("/v1/events/{event}"), None),
        (Use::InferSchemas, Method::POST, "/v1/event-types/order.shipped/infer".into(), Some(json!({}))),
        (Use::ReadDeliveries, Method::GET, format!("/v1/deliveries/{delivery}"), None),
        (Use::ReadOverviews, Method::GET, "/v1/issues".into(), None),
        (Use::ReadOverviews, Method::GET, "/v1/replays".into(), None),
        (Use::ReleaseDelivery, Method::POST, format!("/v1/deliveries/{delivery}/release"), Some(json!({}))),
        (Use::ReplayDelivery, Method::POST, format!("/v1/deliveries/{delivery}/replay"), Some(why.clone())),
        (Use::RepairStats, Method::POST, "/v1/stats/check".into(), None),
        (Use::ReadOverviews, Method::GET, "/v1/stats".into(), None),
        (Use::ReadOverviews, Method::GET, "/v1/outcomes".into(), None),
        (Use::ReplayMany, Method::POST, "/v1/replays".into(), Some(why.clone())),
        (Use::ReadApps, Method::GET, "/v1/apps".into(), None),
        (Use::ChangeApp, Method::PUT, format!("/v1/apps/{LIVE_APP}"), Some(json!({"name": "mine"}))),
        (Use::ChangeGate, Method::PUT, "/v1/gates/app/live".into(), Some(why)),
        (Use::ReadCatalog, Method::GET, "/v1/catalog".into(), None),
        (Use::PlanCatalog, Method::POST, "/v1/catalog/plan".into(), Some(json!({"files": {}}))),
        (Use::ApplyCatalog, Method::POST, "/v1/catalog/apply".into(), Some(json!({"files": {}}))),
        (Use::ChangeCatalog, Method::PUT, "/v1/rules/mine".into(), Some(rule)),
        (Use::TestSend, Method::POST, format!("{template}/test-send"), Some(test_send)),
        (
            Use::ManageTestRecipients,
            Method::POST,
            "/v1/test-recipients".into(),
            Some(json!({"recipient": {"external_id": "attacker"}})),
        ),
        (Use::CancelWaiting, Method::POST, "/v1/cancellations".into(), Some(json!({"key": "order:1"}))),
        (Use::CancelDelivery, Method::POST, format!("/v1/deliveries/{delivery}/cancel"), None),
        (Use::ManageKeys, Method::GET, "/v1/keys".into(), None),
        (Use::ReadSources, Method::GET, "/v1/sources".into(), None),
        (Use::ChangeSource, Method::PUT, "/v1/sources/shop".into(), Some(json!({}))),
        (Use::ReadSources, Method::GET, "/v1/connectors".into(), None),
        (Use::ChangeSource, Method::PUT, "/v1/connectors/crm".into(), Some(json!({}))),
        (Use::ChangeSource, Method::POST, "/v1/connectors/crm/start".into(), None),
        (
            Use::RevokeSecret,
            Method::DELETE,
            "/v1/sources/shop/secrets/whs_00000000000000000000000000".into(),
            None,
        ),
        (Use::ReadBodies, Method::GET, "/v1/sources/shop/bodies".into(), None),
        (Use::EditDraft, Method::DELETE, format!("{template}/draft"), None),
        (Use::Publish, Method::POST, format!("{template}/rollback"), Some(json!({"version": 1}))),
        (Use::ReadUsers, Method::GET, "/v1/users/external_id/ann".to_owned(), None),
        (Use::ChangeUsers, Method::PUT, "/v1/users/external_id/ann".to_owned(), Some(json!({}))),
        (Use::ExportUsers, Method::GET, "/v1/users/external_id/ann/export".to_owned(), None),
        (Use::EraseUsers, Method::DELETE, "/v1/users/external_id/ann".to_owned(), None),
    ]
}

/// What no route of its own needs: rights within other uses, pages alone, and what is open on loopback.
const WITHOUT_A_CALL: [Use; 5] =
    [Use::LiftApproval, Use::UnmaskValues, Use::ReadMetrics, Use::ManageTeam, Use::BeLoggedIn];

/// Holds each row of a table against what the API does.
async fn hold_against(app: &TestApp, key: &str, code: &str, table: fn(Use) -> NarrowUse) {
    let accepted = app.accept(&order_shipped("o-1", "user-42")).await;
    app.run_until_idle().await;
    let event = accepted["id"].as_str().expect("an id");
    let delivery = accepted["deliveries"][0]["id"].as_str().expect("an id");
    let mut seen: Vec<Use> = WITHOUT_A_CALL.to_vec();
    for (what, method, path, body) in calls(event, delivery) {
        seen.push(what);
        let (status, answer) = app.call(method.clone(), &path, Some(key), body.as_ref()).await;
        let refused = (status, answer["code"].as_str().unwrap_or_default()) == (403, code);
        match table(what) {
            NarrowUse::Allowed => assert!(!refused && status != 401, "{what:?} {path}: {answer}"),
            NarrowUse::Refused => assert!(refused, "{what:?} {method} {path}: {status} {answer}"),
            // A key's own cancellation keys are its own: there is nothing under this one.
            NarrowUse::OwnEvents if what == Use::CancelWaiting => {
                assert_eq!(answer["cancelled"], 0, "{answer}");
            }
            NarrowUse::OwnEvents => assert_eq!(status, 404, "{what:?} {path}: {answer}"),
        }
    }
    let missing: Vec<Use> = Use::ALL.into_iter().filter(|what| !seen.contains(what)).collect();
    assert!(missing.is_empty(), "no call for {missing:?}");
}

#[tokio::test]
async fn a_test_key_may_do_what_its_table_says_where_there_is_a_live_app() {
    let app = mixed().await;
    let key = app.test_key().await;
    hold_against(&app, &key, "test_key", Use::by_test_key).await;
    for list in ["/v1/events", "/v1/deliveries", "/v1/deliveries?state=accepted"] {
        let (status, page) = app.call(Method::GET, list, Some(&key), None).await;
        let data = page["data"].as_array().expect("a page");
        let tests = data.iter().all(|row| row["test"] == true || row["template"] != Value::Null);
        assert!(status == 200 && tests && !page.to_string().contains("user-42"), "{list}: {page}");
    }
}

#[tokio::test]
async fn a_key_limited_to_sources_may_do_what_its_table_says() {
    let app = TestApp::start().await;
    let limited = KeyRequest {
        allowed_sources: Some(vec!["billing".to_owned()]),
        ..KeyRequest::new("billing", false, Scope::ALL.to_vec())
    };
    let key = app.herald.access.create_key(&limited).await.expect("a key").text;
    let key = key.expose_secret();
    hold_against(&app, key, "limited_key", Use::by_limited_key).await;
    // It sees its own, and no one else's.
    let (status, own) =
        app.call(Method::POST, "/v1/events", Some(key), Some(&order_shipped("own-1", "user-7"))).await;
    assert_eq!(status, 202, "{own}");
    for path in ["/v1/events", "/v1/deliveries"] {
        let (_, page) = app.call(Method::GET, path, Some(key), None).await;
        assert!(page.to_string().contains("user-7") && !page.to_string().contains("user-42"), "{page}");
    }
    let path = format!("/v1/events/{}", own["id"].as_str().expect("an id"));
    assert_eq!(app.call(Method::GET, &path, Some(key), None).await.0, 200);
}

#[tokio::test]
async fn a_test_key_does_everything_where_every_app_is_a_sandbox() {
    let app = TestApp::start().await;
    let key = app.test_key().await;
    let accepted = app.accept(&order_shipped("o-1", "user-42")).await;
    app.run_until_idle().await;
    let delivery = accepted["deliveries"][0]["id"].as_str().expect("an id");
    let path = format!("/v1/deliveries/{delivery}/replay");
    let again = json!({"reason": "why", "may_duplicate": true});
    assert_eq!(app.call(Method::POST, &path, Some(&key), Some(&again)).await.0, 202);
}

#[tokio::test]
async fn a_test_key_can_t_take_a_live_app_over() {
    let app = mixed().await;
    let key = app.test_key().await;
    let takeover = json!({"name": "live", "api_key": "os_v2_app_sandbox_x", "base_url": ELSEWHERE});
    let (status, problem) = put_app(&app, &key, LIVE_APP, takeover).await;
    assert_eq!((status, &problem["code"]), (403, &json!("test_key")));
}

#[tokio::test]
async fn a_live_app_never_becomes_a_sandbox_nor_a_sandbox_live() {
    let app = mixed().await;
    let (status, problem) =
        put_app(&app, &app.key, LIVE_APP, json!({"name": "live", "api_key": "os_v2_app_sandbox_x"})).await;
    assert_eq!((status, pointers(&problem)), (422, BTreeSet::from(["/api_key"])), "{problem}");
    let sandbox = "5a0d0000-0000-4000-8000-000000000001";
    let (status, problem) =
        put_app(&app, &app.key, sandbox, json!({"name": "default", "api_key": "os_v2_app_real"})).await;
    assert_eq!((status, pointers(&problem)), (422, BTreeSet::from(["/api_key"])), "{problem}");
}

#[tokio::test]
async fn a_stored_key_is_never_sent_to_another_address() {
    let settings =
        vec![("HERALD_ONESIGNAL__ALLOWED_BASE_URLS", "https://proxy.example/onesignal".to_owned())];
    let app = TestApp::start_with(Wanted { settings, ..Wanted::default() }).await;
    add_live_app(&app).await;
    let moved = json!({"name": "live", "base_url": "https://proxy.example/onesignal"});
    let (status, problem) = put_app(&app, &app.key, LIVE_APP, moved).await;
    assert_eq!((status, pointers(&problem)), (422, BTreeSet::from(["/base_url"])), "{problem}");
    assert!(problem.to_string().contains("changing the base URL requires"), "{problem}");
    let moved =
        json!({"name": "live", "base_url": "https://proxy.example/onesignal", "api_key": "os_v2_app_new"});
    assert_eq!(put_app(&app, &app.key, LIVE_APP, moved).await.0, 200, "with the key it may");
}

#[tokio::test]
async fn an_app_s_address_is_one_that_the_settings_allow() {
    let app = mixed().await;
    for url in [
        "http://127.0.0.1:9999/latest/meta-data/iam?x=",
        "http://169.254.169.254/",
        "https://attacker.example",
        "https://api.onesignal.com.attacker.example",
        "https://api.onesignal.com@attacker.example/",
        "https://api.onesignal.com/?x=",
        "https://api.onesignal.com/#x",
        "http://api.onesignal.com",
        "https://user:password@api.onesignal.com",
        "https://api.onesignal.com:444",
        "https://api.onesignal.com/../other",
    ] {
        for (id, key) in
            [(LIVE_APP, "os_v2_app_x"), ("5a0d0000-0000-4000-8000-000000000009", "os_v2_app_sandbox_x")]
        {
            let body = json!({"name": "other", "api_key": key, "base_url": url});
            let (status, problem) = put_app(&app, &app.key, id, body).await;
            assert_eq!(
                (status, pointers(&problem)),
                (422, BTreeSet::from(["/base_url"])),
                "{url}: {problem}"
            );
        }
    }
}

#[tokio::test]
async fn a_test_key_neither_takes_a_live_event_s_id_nor_cancels_or_replaces_it() {
    let app = mixed().await;
    let test_key = app.test_key().await;
    let with_keys = |user: &str, code: &str| {
        let mut event = order_shipped("o-1", user);
        event["cancellation_key"] = json!("order:1");
        event["collapse_key"] = json!("order:1");
        event["ordering_key"] = json!("order:1");
        event["send_after"] = json!("2026-11-24T12:00:00Z");
        event["data"]["order_id"] = json!(code);
        event
    };
    let (status, taken) =
        app.call(Method::POST, "/v1/events", Some(&test_key), Some(&with_keys("user-42", "1"))).await;
    assert_eq!(status, 202, "{taken}");
    let (status, live) = app.post(&with_keys("user-42", "2")).await;
    assert_eq!((status, &live["duplicate"]), (202, &json!(false)), "the id is still free: {live}");
    // A newer test event with the same collapse key leaves the live one alone, and so does a cancellation.
    let mut newer = with_keys("user-42", "3");
    newer["id"] = json!("o-2");
    app.call(Method::POST, "/v1/events", Some(&test_key), Some(&newer)).await;
    let cancelled = json!({"key": "order:1"});
    app.call(Method::POST, "/v1/cancellations", Some(&test_key), Some(&cancelled)).await;
    let path = format!("/v1/events/{}", live["id"].as_str().expect("an id"));
    let story = app.get(&path).await;
    let states: Vec<&str> = story["deliveries"]
        .as_array()
        .expect("deliveries")
        .iter()
        .filter_map(|d| d["state"].as_str())
        .collect();
    assert_eq!(states, ["scheduled", "scheduled"], "{story}");
}

#[tokio::test]
async fn a_source_s_secret_is_made_only_with_the_right_to_post_its_events() {
    let app = TestApp::start().await;
    let key = app.key_with(vec![Scope::SourcesWrite]).await;
    for (method, path, body) in
        [(Method::PUT, "/v1/sources/mine", json!({})), (Method::POST, "/v1/sources/shop/secrets", json!({}))]
    {
        let (status, problem) = app.call(method, path, Some(&key), Some(&body)).await;
        assert_eq!((status, &problem["code"]), (403, &json!("missing_scope")), "{problem}");
    }
}

#[tokio::test]
async fn a_key_for_some_event_types_gives_nobody_others() {
    let app = TestApp::start().await;
    let narrow = KeyRequest {
        allowed_types: Some(vec!["order.*".to_owned()]),
        ..KeyRequest::new("billing", false, Scope::ALL.to_vec())
    };
    let key = app.herald.access.create_key(&narrow).await.expect("a key").text;
    let key = key.expose_secret();
    let put = async |types: Value| {
        let body = json!({"allowed_types": types});
        app.call(Method::PUT, "/v1/sources/mine", Some(key), Some(&body)).await
    };
    for wide in [Value::Null, json!(["*"]), json!(["order.*", "password.reset"])] {
        let (status, problem) = put(wide).await;
        assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
    }
    assert_eq!(put(json!(["order.shipped"])).await.0, 200);
    let wish = json!({"source": "mine", "allowed_types": ["password.reset"]});
    let (status, problem) = app.call(Method::POST, "/v1/keys", Some(key), Some(&wish)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
    let files = json!({"files": {"sources/mine.toml": "allowed_types = [\"password.*\"]\n"}});
    let (status, problem) = app.call(Method::POST, "/v1/catalog/apply", Some(key), Some(&files)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
}

#[tokio::test]
async fn files_change_sources_only_with_the_right_to_change_sources() {
    let app = TestApp::start().await;
    let key = app.key_with(vec![Scope::CatalogWrite, Scope::CatalogRead]).await;
    let files = json!({"files": {"sources/mine.toml": "default_locale = \"de\"\n"}});
    let (status, problem) = app.call(Method::POST, "/v1/catalog/apply", Some(&key), Some(&files)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
    assert_eq!(app.call(Method::GET, "/v1/sources/mine", Some(&app.key), None).await.0, 404);
}

#[tokio::test]
async fn a_sensitive_mark_is_removed_only_by_who_may_unmask_values() {
    let app = TestApp::start().await;
    let path = "/v1/event-types/password.reset";
    let writer = app.key_with(vec![Scope::CatalogWrite, Scope::CatalogRead]).await;
    let (_, seen, mut form) = app.call_seen((Method::GET, path), &app.key, None, &Value::Null).await;
    for field in ["name", "version", "used_by"] {
        form.as_object_mut().expect("an object").remove(field);
    }
    form["sensitive"] = json!([]);
    let (status, _, problem) = app.call_seen((Method::PUT, path), &writer, Some(&seen), &form).await;
    assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
    assert!(problem.to_string().contains("/code"), "it says which: {problem}");
    // Deleted, the type could be entered again without its marks.
    app.call_seen((Method::DELETE, "/v1/rules/password-reset-email"), &app.key, Some("1"), &Value::Null)
        .await;
    let about = json!({"event": null});
    let template = "/v1/templates/password-reset-email";
    let (_, version, _) = app.call_seen((Method::GET, template), &app.key, None, &Value::Null).await;
    app.call_seen((Method::PATCH, template), &app.key, Some(&version), &about).await;
    let (status, _, problem) =
        app.call_seen((Method::DELETE, path), &writer, Some(&seen), &Value::Null).await;
    assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
    let publisher = Visitor::with_role(&app, Role::Publisher).await;
    let page = publisher.get("/event-types/password.reset").await;
    assert!(page.text.contains("/code"), "the mark is still there");
    let (status, _, answer) = app.call_seen((Method::PUT, path), &app.key, Some(&seen), &form).await;
    assert_eq!(status, 200, "a key with keys:write may: {answer}");
}

#[tokio::test]
async fn what_real_events_say_is_shown_only_to_who_may_read_events() {
    let app = TestApp::start().await;
    app.accept(&order_shipped("o-1", "user-42")).await;
    let reader = app.key_with(vec![Scope::CatalogRead]).await;
    let content = json!({"contents": {"en": {"headings": "x", "contents": "leak: {{ data.name }} {{ data.order_id }}"}}});
    let body = json!({"content": content});
    let path = "/v1/templates/order-shipped-push/check";
    let ask = async |key: &str| app.call(Method::POST, path, Some(key), Some(&body)).await.1;
    let all = ask(&app.key).await;
    assert!(all["traffic"]["differences"].to_string().contains("Anna"), "{all}");
    let less = ask(&reader).await;
    assert_eq!(less["traffic"]["differs"], all["traffic"]["differs"], "how many is no secret");
    assert!(!less.to_string().contains("Anna"), "{less}");
}

#[tokio::test]
async fn a_key_ends_when_it_was_to_end() {
    let app = TestApp::start().await;
    let wish = json!({"source": "shop", "expires_at": "2026-11-24T11:00:00Z"});
    let (status, made) = app.call(Method::POST, "/v1/keys", Some(&app.key), Some(&wish)).await;
    assert_eq!(status, 201, "{made}");
    let key = made["key"].as_str();
    let post =
        async |id: &str| app.call(Method::POST, "/v1/events", key, Some(&order_shipped(id, "u"))).await.0;
    assert_eq!(post("o-1").await, 202);
    app.advance(Duration::from_hours(1)).await;
    assert_eq!(post("o-2").await, 401);
    let past = json!({"source": "shop", "expires_at": "2026-11-24T10:00:00Z"});
    assert_eq!(app.call(Method::POST, "/v1/keys", Some(&app.key), Some(&past)).await.0, 422);
}

#[tokio::test]
async fn a_key_shows_its_source_and_its_last_use_and_what_it_changed() {
    let app = TestApp::start().await;
    let (_, made) = app
        .call(
            Method::POST,
            "/v1/keys",
            Some(&app.key),
            Some(&json!({"source": "billing", "scopes": ["catalog:write"]})),
        )
        .await;
    let rule = json!({"event": "order.shipped", "template": "order-shipped-push", "enabled": false});
    let (status, _) = app.call(Method::PUT, "/v1/rules/second", made["key"].as_str(), Some(&rule)).await;
    assert_eq!(status, 200);
    let change = &app.get("/v1/audit?kind=rule&subject=second").await["data"][0];
    assert_eq!((&change["actor"], &change["key"]), (&json!("billing"), &made["id"]));
    let listed = async || {
        let keys = app.get("/v1/keys").await;
        keys.as_array().expect("keys").iter().find(|key| key["id"] == made["id"]).cloned().expect("the key")
    };
    assert_eq!(listed().await["source"], "billing");
    let noted = async { while listed().await["last_used_at"].is_null() {} };
    tokio::time::timeout(Duration::from_secs(20), noted).await.expect("its use is noted");
}

#[tokio::test]
async fn the_record_of_changes_says_what_an_app_was_before() {
    let app = mixed().await;
    let (status, _) =
        put_app(&app, &app.key, LIVE_APP, json!({"name": "shop", "calls_per_second": 6000})).await;
    assert_eq!(status, 200);
    let change = &app.get("/v1/audit?kind=app").await["data"][0];
    assert_eq!((&change["before"]["name"], &change["after"]["name"]), (&json!("live"), &json!("shop")));
    assert_eq!(change["after"]["key_changed"], json!(false));
    assert!(!change.to_string().contains("LIVECANARY"));
}

#[tokio::test]
async fn a_development_key_does_not_work_beside_a_live_app() {
    let app = mixed().await;
    let settings = vec![("HERALD_DEV_KEY", "hk_live_0123456789abcdef0123456789abcdef".to_owned())];
    let mut loader = herald::config::Loader::default()
        .variable("HERALD_DATABASE_URL", &app.database)
        .variable("HERALD_SECRET_KEY", crate::support::database::SECRET_KEY)
        .variable("HERALD_ALLOW_UNSAFE_POSTGRES", "true")
        .variable("HERALD_ONESIGNAL__APP_ID", "5a0d0000-0000-4000-8000-000000000001")
        .variable("HERALD_ONESIGNAL__API_KEY", "os_v2_app_sandbox")
        .variable("HERALD_ONESIGNAL__BASE_URL", &app.sandbox_url);
    for (name, value) in &settings {
        loader = loader.variable(name, value);
    }
    let settings = loader.load().expect("settings");
    let refused = herald::app::Herald::build(settings, herald::app::Overrides::default()).await;
    let error = refused.err().expect("it does not start").to_string();
    assert!(error.contains("dev_key is set"), "{error}");
}

#[tokio::test]
async fn metrics_behind_a_proxy_need_a_key() {
    let app = TestApp::start().await;
    let ask = async |headers: &[(&str, &str)]| {
        let mut request = reqwest::Client::new().get(format!("{}/metrics", app.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(ask(&[]).await, 200, "on this machine they are open");
    for through_a_proxy in [
        [("x-forwarded-for", "8.8.8.8")],
        [("forwarded", "for=8.8.8.8")],
        [("x-real-ip", "8.8.8.8")],
        [("host", "herald.example.com")],
    ] {
        assert_eq!(ask(&through_a_proxy).await, 401, "{through_a_proxy:?}");
    }
}

#[tokio::test]
async fn refused_calls_are_logged_with_key_and_permission_and_without_the_key_itself() {
    let (log, _guard) = captured();
    let app = TestApp::start().await;
    let reader = app.key_with(vec![Scope::EventsRead]).await;
    let posted = Some(order_shipped("o-1", "u"));
    assert_eq!(app.call(Method::POST, "/v1/events", Some(&reader), posted.as_ref()).await.0, 403);
    assert_eq!(app.call(Method::GET, "/v1/events", Some("hk_live_guessed"), None).await.0, 401);
    let refused = log.wait_for("was denied PostEvent").await;
    assert!(refused.contains("permission=PostEvent") && refused.contains("key key_"), "{refused}");
    let text = log.wait_for("invalid, revoked or expired key").await;
    assert!(!text.contains(&reader) && !text.contains("hk_live_guessed"), "{text}");
}
