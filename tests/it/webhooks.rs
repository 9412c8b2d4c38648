//! Webhooks in: signatures, mappings, bodies that are kept, and what a repaired mapping makes of them.

use std::fmt::Write;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use herald::domain::clock::Clock;
use reqwest::{Method, StatusCode};
use ring::hmac;
use serde_json::{Value, json};

use crate::support::app::TestApp;

const SHOP: &str = r#"
[webhook]
auth = "standard_webhooks"

[[mapping]]
when = "body.topic == 'orders/fulfilled'"
type = "order.shipped"
recipient = {external_id = "body.customer.id"}
data = {order_id = "string(body.number)", carrier = "body.shipping.company", eta = "body.shipping.eta"}
time = "body.at"
locale = "body.customer.?language.orValue(null)"
"#;

fn fulfilled(number: u64) -> Value {
    json!({"topic": "orders/fulfilled", "number": number, "at": "2026-11-24T09:59:00Z",
        "customer": {"id": 42, "language": "de"}, "shipping": {"company": "DHL", "eta": "2026-11-25"}})
}

async fn apply(app: &TestApp, file: &str) {
    let files = json!({"files": {"sources/webshop.toml": file}});
    let (status, answer) = app.call(Method::POST, "/v1/catalog/apply", Some(&app.key), Some(&files)).await;
    assert_eq!(status, 200, "{answer}");
}

async fn secret(app: &TestApp, wish: Value) -> (String, String) {
    let path = "/v1/sources/webshop/secrets";
    let (status, made) = app.call(Method::POST, path, Some(&app.key), Some(&wish)).await;
    assert_eq!(status, 201, "{made}");
    // Herald shows the secrets that it makes; who gives one has it.
    let text = if made["secret"].is_null() { &wish["secret"] } else { &made["secret"] };
    (plain(&made["id"]), plain(text))
}

fn plain(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// A shop with a secret; returns the secret.
async fn shop(app: &TestApp) -> String {
    apply(app, SHOP).await;
    secret(app, json!({})).await.1
}

/// What a sender by Standard Webhooks puts into its headers.
fn sign(secret: &str, id: &str, seconds: i64, body: &str) -> String {
    let key = BASE64_STANDARD.decode(secret.trim_start_matches("whsec_")).expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag))
}

async fn send(app: &TestApp, source: &str, headers: &[(&str, &str)], body: &str) -> (StatusCode, Value) {
    let mut request =
        reqwest::Client::new().post(format!("{}/v1/hooks/{source}", app.url)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

async fn deliver(app: &TestApp, secret: &str, id: &str, body: &Value) -> (StatusCode, Value) {
    let (body, seconds) = (body.to_string(), app.clock.now().timestamp());
    let signature = sign(secret, id, seconds, &body);
    let seconds = seconds.to_string();
    let headers = [("webhook-id", id), ("webhook-timestamp", &seconds), ("webhook-signature", &signature)];
    send(app, "webshop", &headers, &body).await
}

#[tokio::test]
async fn a_signed_body_becomes_an_event_like_a_posted_one() {
    let app = TestApp::start().await;
    let secret = shop(&app).await;
    let (status, answer) = deliver(&app, &secret, "msg_1", &fulfilled(1001)).await;
    assert_eq!(
        (status, &answer["state"], &answer["duplicate"]),
        (StatusCode::ACCEPTED, &json!("accepted"), &json!(false))
    );
    let event = app.get(&format!("/v1/events/{}", answer["id"].as_str().unwrap())).await;
    assert_eq!(
        (&event["key"], &event["type"], &event["locale"]),
        (&json!("msg_1"), &json!("order.shipped"), &json!("de"))
    );
    assert_eq!(event["recipients"], json!([{"external_id": "42"}]));
    assert_eq!(event["data"], json!({"order_id": "1001", "carrier": "DHL", "eta": "2026-11-25"}));
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 2);
}

#[tokio::test]
async fn a_replay_within_its_window_is_a_duplicate_and_has_no_effect() {
    let app = TestApp::start().await;
    let secret = shop(&app).await;
    let first = deliver(&app, &secret, "msg_1", &fulfilled(1001)).await.1;
    let (status, again) = deliver(&app, &secret, "msg_1", &fulfilled(1001)).await;
    assert_eq!(
        (status, &again["id"], &again["duplicate"]),
        (StatusCode::ACCEPTED, &first["id"], &json!(true))
    );
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 2);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_signature_the_answer_is_the_same_401() {
    let app = TestApp::start().await;
    let secret = shop(&app).await;
    apply_bare(&app, "unsigned", json!({})).await;
    let body = fulfilled(1001).to_string();
    let now = app.clock.now().timestamp();
    let (good, time) = (sign(&secret, "msg_1", now, &body), now.to_string());
    let (late, early) = ((now - 301).to_string(), (now + 301).to_string());
    let late_signature = sign(&secret, "msg_1", now - 301, &body);
    let early_signature = sign(&secret, "msg_1", now + 301, &body);
    let other = sign("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "msg_1", now, &body);
    let all = |id: &'static str, time: &str, signature: &str| {
        vec![
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", time.to_owned()),
            ("webhook-signature", signature.to_owned()),
        ]
    };
    let mut answers = std::collections::HashSet::new();
    for (source, headers, body) in [
        ("webshop", vec![], body.as_str()),
        ("webshop", all("msg_1", &time, &other), &body),
        ("webshop", all("msg_1", &time, &good), "{}"),
        ("webshop", all("msg_2", &time, &good), &body),
        ("webshop", all("msg_1", &late, &late_signature), &body),
        ("webshop", all("msg_1", &early, &early_signature), &body),
        ("webshop", all("msg_1", &late, &good), &body),
        ("webshop", all("msg_1", "now", &good), &body),
        ("webshop", all("msg_1", &time, good.strip_prefix("v1,").unwrap()), &body),
        ("webshop", vec![("authorization", format!("Bearer {}", app.key))], &body),
        ("unsigned", all("msg_1", &time, &good), &body),
        ("shop", all("msg_1", &time, &good), &body),
        ("nobody", all("msg_1", &time, &good), &body),
    ] {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (status, answer) = send(&app, source, &headers, body).await;
        assert_eq!(status, 401, "{source} {headers:?}");
        answers.insert(answer.to_string());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(
        app.sql::<i64>("SELECT count(*) FROM webhook_deliveries").await,
        0,
        "who is not known fills no table"
    );
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM events").await, 0);
}

async fn apply_bare(app: &TestApp, name: &str, settings: Value) {
    let path = format!("/v1/sources/{name}");
    let (status, version, _) = app.call_seen((Method::GET, &path), &app.key, None, &json!({})).await;
    let seen = Some(version.as_str()).filter(|version| status == 200 && *version != "0");
    let (status, _, answer) = app.call_seen((Method::PUT, &path), &app.key, seen, &settings).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_secret_follows_another_without_a_gap_and_is_never_shown_again() {
    let app = TestApp::start().await;
    apply(&app, SHOP).await;
    let (first_id, first) = secret(&app, json!({})).await;
    let (_, second) = secret(&app, json!({"secret": "whsec_c2VjcmV0IG9mIHRoZSBzZW5kZXIgaXRzZWxm"})).await;
    for (id, secret) in [("msg_1", &first), ("msg_2", &second)] {
        assert_eq!(deliver(&app, secret, id, &fulfilled(1)).await.0, 202);
    }
    let path = format!("/v1/sources/webshop/secrets/{first_id}");
    assert_eq!(app.call(Method::DELETE, &path, Some(&app.key), None).await.0, 204);
    assert_eq!(app.call(Method::DELETE, &path, Some(&app.key), None).await.0, 404);
    assert_eq!(deliver(&app, &first, "msg_3", &fulfilled(1)).await.0, 401);
    assert_eq!(deliver(&app, &second, "msg_4", &fulfilled(1)).await.0, 202);
    let shown = app.get("/v1/sources/webshop").await.to_string();
    let stored = app.dump().await;
    for secret in [&first, &second] {
        assert!(!shown.contains(secret.as_str()) && !stored.contains(&secret[6..]));
    }
    for _ in 0..4 {
        secret(&app, json!({})).await;
    }
    let more = app.call(Method::POST, "/v1/sources/webshop/secrets", Some(&app.key), Some(&json!({}))).await;
    assert_eq!((more.0, &more.1["code"]), (409, &json!("too_many_secrets")));
    let short = json!({"secret": "too short"});
    let short = app.call(Method::POST, "/v1/sources/webshop/secrets", Some(&app.key), Some(&short)).await;
    assert_eq!((short.0, &short.1["errors"][0]["pointer"]), (422, &json!("/secret")));
}

#[tokio::test]
async fn a_body_that_no_mapping_fits_is_kept_and_makes_its_event_once_the_mapping_is_fixed() {
    let app = TestApp::start().await;
    let secret = shop(&app).await;
    let paid =
        json!({"topic": "orders/paid", "number": 7, "customer": {"id": 42, "mail": "anna@example.org"}});
    let (status, answer) = deliver(&app, &secret, "msg_1", &paid).await;
    assert_eq!((status, &answer["state"]), (StatusCode::ACCEPTED, &json!("unmatched")));
    assert!(!app.dump().await.contains("anna@example.org"), "bodies are sealed");
    app.clock.advance(Duration::from_secs(1));
    let mut short = fulfilled(8);
    short["shipping"].as_object_mut().unwrap().remove("eta");
    assert_eq!(deliver(&app, &secret, "msg_2", &short).await.1["state"], "refused");
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(deliver(&app, &secret, "msg_3", &fulfilled(9)).await.1["state"], "accepted");

    let bodies = app.get("/v1/sources/webshop/bodies").await;
    let states: Vec<&str> =
        bodies["data"].as_array().unwrap().iter().map(|b| b["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["accepted", "refused", "unmatched"]);
    assert_eq!(bodies["data"][1]["detail"], "mapping[0].data.eta: the data has no `body.shipping.eta`");
    let kept = &app.get("/v1/sources/webshop/bodies?state=unmatched").await["data"][0];
    assert_eq!(kept["body"], paid);
    assert_eq!(kept["headers"]["webhook-id"], "msg_1");
    assert!(kept["headers"].get("webhook-signature").is_none());

    let replay = format!("/v1/sources/webshop/bodies/{}/replay", kept["id"].as_str().unwrap());
    assert_eq!(app.call(Method::POST, &replay, Some(&app.key), None).await.1["state"], "unmatched");
    let repaired = r#"
        [[mapping]]
        when = "body.topic == 'orders/paid'"
        type = "order.shipped"
        recipient = {external_id = "body.customer.id"}
        data = {order_id = "string(body.number)", carrier = "'DHL'", eta = "'2026-11-25'"}
    "#;
    apply(&app, &format!("{SHOP}{repaired}")).await;
    let (status, made) = app.call(Method::POST, &replay, Some(&app.key), None).await;
    assert_eq!(
        (status, &made["state"], &made["duplicate"]),
        (200, &json!("accepted"), &json!(false)),
        "{made}"
    );
    let again = app.call(Method::POST, &replay, Some(&app.key), None).await.1;
    assert_eq!((&again["id"], &again["duplicate"]), (&made["id"], &json!(true)));
    let event = app.get(&format!("/v1/events/{}", made["id"].as_str().unwrap())).await;
    assert_eq!(event["key"], "msg_1");
    assert_eq!(app.get("/v1/sources/webshop/bodies?state=unmatched").await["data"], json!([]));
}

#[tokio::test]
async fn what_ingest_refuses_is_kept_with_its_reason_and_none_of_its_values() {
    let app = TestApp::start().await;
    let secret = shop(&app).await;
    let mut odd = fulfilled(1);
    odd["shipping"]["eta"] = json!("someday-soon");
    assert_eq!(deliver(&app, &secret, "msg_1", &odd).await.1["state"], "refused");
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(deliver(&app, &secret, "msg_2", &fulfilled(2)).await.1["state"], "accepted");
    assert_eq!(
        deliver(&app, &secret, "msg_2", &fulfilled(3)).await.1["state"],
        "refused",
        "same id, other content"
    );
    let bodies = app.get("/v1/sources/webshop/bodies?state=refused").await;
    let details: Vec<&str> =
        bodies["data"].as_array().unwrap().iter().map(|b| b["detail"].as_str().unwrap()).collect();
    let wanted = [
        "mapping[0]: different_content: /id (different_content), /data/order_id (differs)",
        "mapping[0]: invalid_data: /data/eta (format)",
    ];
    assert_eq!(details, wanted);
    let (status, problem) = send(&app, "webshop", &[], "{").await;
    assert_eq!(status, 401, "{problem}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM events").await, 1);
}

#[tokio::test]
async fn a_source_s_allowed_types_hold_for_its_webhooks() {
    let app = TestApp::start().await;
    apply(&app, &format!("allowed_types = [\"payment.*\"]\n{SHOP}")).await;
    let secret = secret(&app, json!({})).await.1;
    assert_eq!(deliver(&app, &secret, "msg_1", &fulfilled(1)).await.1["state"], "refused");
    let bodies = app.get("/v1/sources/webshop/bodies").await;
    assert_eq!(bodies["data"][0]["detail"], "mapping[0]: type_not_allowed: /type (type_not_allowed)");
}

#[tokio::test]
async fn an_hmac_in_a_header_of_the_sender_s_choice_and_a_bearer_are_known_too() {
    let app = TestApp::start().await;
    let mapping = json!([{"type": "order.shipped", "id": "headers['x-delivery']",
        "recipient": {"external_id": "body.user"}, "data": "body.order"}]);
    let hmac = json!({"auth": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256="});
    apply_bare(&app, "webshop", json!({"webhook": hmac, "mapping": mapping})).await;
    let (_, secret) = secret(&app, json!({"secret": "It's a Secret to Everybody"})).await;
    let body = json!({"user": "user-42", "order": {"order_id": "1", "carrier": "DHL", "eta": "2026-11-25"}})
        .to_string();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    let hex = tag.as_ref().iter().fold("sha256=".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let signed = [("x-hub-signature-256", hex.as_str()), ("x-delivery", "d-1")];
    let (status, answer) = send(&app, "webshop", &signed, &body).await;
    assert_eq!((status, &answer["state"]), (StatusCode::ACCEPTED, &json!("accepted")), "{answer}");
    assert_eq!(send(&app, "webshop", &signed, &format!("{body} ")).await.0, 401);

    apply_bare(&app, "webshop", json!({"webhook": {"auth": "bearer"}, "mapping": mapping})).await;
    let bearer = format!("Bearer {secret}");
    let (status, answer) =
        send(&app, "webshop", &[("authorization", &bearer), ("x-delivery", "d-1")], &body).await;
    assert_eq!((status, &answer["duplicate"]), (StatusCode::ACCEPTED, &json!(true)));
    let kept = app.get("/v1/sources/webshop/bodies").await;
    assert!(!kept.to_string().contains("Everybody"));
    // Without an id there is no event, and duplicates can't be recognized.
    assert_eq!(send(&app, "webshop", &[("authorization", &bearer)], &body).await.1["state"], "refused");
}

#[tokio::test]
async fn a_mapping_can_be_tried_before_anything_is_sent() {
    let app = TestApp::start().await;
    apply(&app, SHOP).await;
    let path = "/v1/sources/webshop/test";
    let test = async |request: Value| app.call(Method::POST, path, Some(&app.key), Some(&request)).await;
    let (status, tried) = test(json!({"body": fulfilled(1), "headers": {"Webhook-Id": "msg_9"}})).await;
    assert_eq!((status, &tried["state"], &tried["mapping"]), (200, &json!("accepted"), &json!(0)));
    assert_eq!((&tried["event"]["id"], &tried["event"]["data"]["order_id"]), (&json!("msg_9"), &json!("1")));
    assert_eq!(test(json!({"body": {"topic": "x"}})).await.1["detail"], "no mapping's `when` matches");
    let tried = test(json!({"body": {"topic": "orders/fulfilled"}})).await.1;
    assert_eq!(tried["detail"], "mapping[0].recipient: the data has no `body.customer`");
    let mut odd = fulfilled(1);
    odd["shipping"]["eta"] = json!("soon");
    let tried = test(json!({"body": odd})).await.1;
    assert_eq!(
        (&tried["state"], &tried["problem"]["errors"][0]["pointer"]),
        (&json!("refused"), &json!("/data/eta"))
    );
    let settings =
        json!({"webhook": {"auth": "bearer"}, "mapping": [{"type": "order.shipped", "id": "bdy.id"}]});
    let (status, problem) = test(json!({"body": {}, "settings": settings})).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/mapping/0/id")));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn files_that_make_no_sense_are_refused_with_every_reason_and_the_same_files_change_nothing() {
    let app = TestApp::start().await;
    let call = async |path: &str, text: &str| {
        let files = json!({"files": {"sources/webshop.toml": text}});
        app.call(Method::POST, path, Some(&app.key), Some(&files)).await
    };
    let wrong =
        SHOP.replace("body.customer.id", "bdy.customer.id").replace("\"order.shipped\"", "\"order.shiped\"");
    let (status, problem) = call("/v1/catalog/apply", &wrong).await;
    assert_eq!(status, 422);
    assert_eq!(problem["problems"][0]["hint"], "did you mean `body`?", "{problem}");
    let unknown = SHOP.replace("\"order.shipped\"", "\"order.shiped\"");
    let (_, problem) = call("/v1/catalog/apply", &unknown).await;
    assert_eq!(problem["problems"][0]["code"], "unknown_event_type");
    let planned = call("/v1/catalog/plan", SHOP).await.1;
    let only = &planned["changes"][0];
    assert_eq!(
        (&only["kind"], &only["name"], &only["change"]),
        (&json!("source"), &json!("webshop"), &json!("new"))
    );
    assert!(planned["changes"].get(1).is_none() && only.get("before").is_none(), "{planned}");
    apply(&app, SHOP).await;
    assert_eq!(call("/v1/catalog/plan", SHOP).await.1["changes"], json!([]));
    let changed = call("/v1/catalog/plan", &SHOP.replace("body.at", "body.sent_at")).await.1;
    assert_eq!(changed["changes"][0]["change"], "changed");
    assert_eq!(app.get("/v1/sources/webshop").await["webhook_path"], "/v1/hooks/webshop");
}

#[tokio::test]
async fn a_test_secret_reaches_sandbox_apps_only_and_a_test_key_can_make_no_other() {
    let app = TestApp::start().await;
    apply(&app, SHOP).await;
    let key = app.test_key().await;
    let (_, made) = app.call(Method::POST, "/v1/sources/webshop/secrets", Some(&key), Some(&json!({}))).await;
    assert_eq!(made["test"], true);
    let answer = deliver(&app, made["secret"].as_str().unwrap(), "msg_1", &fulfilled(1)).await.1;
    assert_eq!(app.get(&format!("/v1/events/{}", answer["id"].as_str().unwrap())).await["test"], true);
}

#[tokio::test]
async fn bodies_with_sensitive_values_are_not_kept_and_others_go_after_a_month() {
    let app = TestApp::start().await;
    let file = r#"
        [webhook]
        auth = "standard_webhooks"
        [[mapping]]
        type = "password.reset"
        recipient = {external_id = "body.user"}
        data = "body.data"
    "#;
    apply(&app, file).await;
    let secret = secret(&app, json!({})).await.1;
    let sample: Value = serde_json::from_str(include_str!(
        "../../src/catalog/sample/events/password.reset/samples/code.json"
    ))
    .unwrap();
    let answer = deliver(&app, &secret, "msg_1", &json!({"user": "user-42", "data": sample})).await.1;
    assert_eq!(answer["state"], "accepted", "{answer}");
    let kept = &app.get("/v1/sources/webshop/bodies").await["data"][0];
    assert_eq!((&kept["state"], &kept["body"]), (&json!("accepted"), &Value::Null));
    let replay = format!("/v1/sources/webshop/bodies/{}/replay", kept["id"].as_str().unwrap());
    assert_eq!(app.call(Method::POST, &replay, Some(&app.key), None).await.0, 409);
    app.advance(Duration::from_hours(31 * 24)).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM webhook_deliveries").await, 0);
}

#[tokio::test]
async fn only_the_last_accepted_bodies_are_kept() {
    let app = TestApp::start().await;
    let secret = shop(&app).await;
    assert_eq!(deliver(&app, &secret, "msg_x", &json!({})).await.1["state"], "unmatched");
    for n in 0..53 {
        assert_eq!(deliver(&app, &secret, &format!("msg_{n}"), &fulfilled(n)).await.0, 202);
        app.clock.advance(Duration::from_millis(2));
    }
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM webhook_deliveries WHERE state = 'accepted'").await, 50);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM webhook_deliveries").await, 51);
    let page = app.get("/v1/sources/webshop/bodies").await;
    let next = format!("/v1/sources/webshop/bodies?cursor={}", page["next_cursor"].as_str().unwrap());
    let next = app.get(&next).await;
    assert_eq!((page["data"].as_array().unwrap().len(), next["data"].as_array().unwrap().len()), (20, 20));
    assert_ne!(page["data"][19]["id"], next["data"][0]["id"]);
}
