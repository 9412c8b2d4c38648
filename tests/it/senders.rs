//! Other systems as they are: their ways of signing, bodies that are no good JSON, and calls that can't be verified.

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use herald::domain::clock::Clock;
use reqwest::Method;
use ring::hmac;
use serde_json::{Value, json};

use crate::support::app::TestApp;

/// Sixteen characters at least.
const SECRET: &str = "whsec_of the sender itself";

/// Applies a source `sender` that is signed like this, and gives it the sender's secret.
async fn sender(app: &TestApp, webhook: &Value, mapping: Value) {
    let settings = json!({"webhook": webhook, "mapping": [mapping]});
    let (status, version, _) =
        app.call_seen((Method::GET, "/v1/sources/sender"), &app.key, None, &json!({})).await;
    let seen = Some(version.as_str()).filter(|_| status == 200);
    let (status, _, answer) =
        app.call_seen((Method::PUT, "/v1/sources/sender"), &app.key, seen, &settings).await;
    assert_eq!(status, 200, "{answer}");
}

async fn give_secret(app: &TestApp, secret: &str) -> (u16, Value) {
    let wish = json!({ "secret": secret });
    let (status, made) =
        app.call(Method::POST, "/v1/sources/sender/secrets", Some(&app.key), Some(&wish)).await;
    (status, made)
}

async fn send(app: &TestApp, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> (u16, Value) {
    let mut request = reqwest::Client::new().post(format!("{}/v1/hooks/sender", app.url)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

fn tag(algorithm: hmac::Algorithm, signed: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(algorithm, SECRET.as_bytes()), signed)
}

fn hex(tag: &hmac::Tag) -> String {
    tag.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Makes an event of `{"user", "order"}`, with the sender's own name of the call as the id.
fn mapping() -> Value {
    json!({"type": "order.shipped", "recipient": {"external_id": "body.user"}, "data": {
        "order_id": "body.order", "carrier": "'DHL'", "eta": "'2026-11-25'"}})
}

fn order(number: u32, more: &str) -> String {
    format!(
        r#"{{"id":"evt_{number}","messageId":"m_{number}","event_id":"Ev{number}","user":"u","order":"{number}"{more}}}"#
    )
}

/// A call of a known sender.
struct Signed {
    scheme: &'static str,
    /// What the sender calls the call.
    id: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// One call of each sender, for the orders 1, 2, 3 …
fn signed_calls(now: &str) -> Vec<Signed> {
    let sha256 = |signed: &str| tag(hmac::HMAC_SHA256, signed.as_bytes());
    let body = |number| order(number, "");
    let (stripe, shopify, segment, slack) = (body(1), body(3), body(4), body(5));
    let github: String = url::form_urlencoded::byte_serialize(body(2).as_bytes()).collect();
    let github = format!("payload={github}");
    let stripe_signature = format!("t={now},v1={}", hex(&sha256(&format!("{now}.{stripe}"))));
    let slack_signature = format!("v0={}", hex(&sha256(&format!("v0:{now}:{slack}"))));
    let sha1 = hex(&tag(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, segment.as_bytes()));
    vec![
        Signed {
            scheme: "stripe",
            id: "evt_1",
            headers: vec![("stripe-signature", stripe_signature)],
            body: stripe,
        },
        Signed {
            scheme: "github",
            id: "d-2",
            headers: vec![
                ("x-hub-signature-256", format!("sha256={}", hex(&sha256(&github)))),
                ("x-github-delivery", "d-2".to_owned()),
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ],
            body: github,
        },
        Signed {
            scheme: "shopify",
            id: "w-3",
            headers: vec![
                ("x-shopify-hmac-sha256", BASE64_STANDARD.encode(sha256(&shopify))),
                ("x-shopify-webhook-id", "w-3".to_owned()),
            ],
            body: shopify,
        },
        Signed { scheme: "segment", id: "m_4", headers: vec![("x-signature", sha1)], body: segment },
        Signed {
            scheme: "slack",
            id: "Ev5",
            headers: vec![
                ("x-slack-signature", slack_signature),
                ("x-slack-request-timestamp", now.to_owned()),
            ],
            body: slack,
        },
    ]
}

#[tokio::test]
async fn each_known_sender_is_connected_by_its_name_and_names_its_own_calls() {
    let app = TestApp::start().await;
    let calls = signed_calls(&app.clock.now().timestamp().to_string());
    for (place, Signed { scheme, id, headers, body }) in calls.into_iter().enumerate() {
        sender(&app, &json!({ "scheme": scheme }), mapping()).await;
        if place == 0 {
            let (status, made) = give_secret(&app, SECRET).await;
            assert_eq!(
                (status, made.get("secret")),
                (201, None),
                "a sender's secret is not given back: {made}"
            );
        }
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (status, answer) = send(&app, &headers, body.clone()).await;
        assert_eq!((status, &answer["state"]), (202, &json!("accepted")), "{scheme}: {answer}");
        let event = app.get(&format!("/v1/events/{}", answer["id"].as_str().unwrap())).await;
        let number = json!((place + 1).to_string());
        assert_eq!((&event["key"], &event["data"]["order_id"]), (&json!(id), &number));
        assert_eq!(send(&app, &headers, format!("{body} ")).await.0, 401, "{scheme}");
    }
}

#[tokio::test]
async fn slack_s_question_is_answered_and_gzip_is_read_within_the_limit() {
    let app = TestApp::start().await;
    sender(&app, &json!({"scheme": "slack"}), mapping()).await;
    give_secret(&app, SECRET).await;
    let now = app.clock.now().timestamp().to_string();
    let question = r#"{"token":"x","challenge":"3eZbrw1a","type":"url_verification"}"#;
    let signature = format!("v0={}", hex(&tag(hmac::HMAC_SHA256, format!("v0:{now}:{question}").as_bytes())));
    let signed = [("x-slack-signature", signature.as_str()), ("x-slack-request-timestamp", &now)];
    assert_eq!(send(&app, &signed, question).await, (200, json!({"challenge": "3eZbrw1a"})));

    sender(&app, &json!({"scheme": "segment"}), mapping()).await;
    let packed = |text: &str| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    };
    // Some sign what they pack, some the package.
    for (number, signs_package) in [(1, false), (2, true)] {
        let text = order(number, "");
        let package = packed(&text);
        let signed = if signs_package { package.as_slice() } else { text.as_bytes() };
        let signature = hex(&tag(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, signed));
        let headers = [("x-signature", signature.as_str()), ("content-encoding", "gzip")];
        let (status, answer) = send(&app, &headers, package).await;
        assert_eq!((status, &answer["state"]), (202, &json!("accepted")), "{answer}");
    }
    let bomb = packed(&" ".repeat(20_000_000));
    let headers = [("x-signature", "00"), ("content-encoding", "gzip")];
    assert_eq!(send(&app, &headers, bomb).await.0, 413);
}

#[tokio::test]
async fn a_body_is_kept_however_bad_its_json_is_and_can_be_read_again() {
    let app = TestApp::start().await;
    let mut by_order = mapping();
    by_order["id"] = json!("'o-' + body.order");
    sender(&app, &json!({"auth": "bearer"}), by_order.clone()).await;
    give_secret(&app, SECRET).await;
    let bearer = format!("Bearer {SECRET}");
    let headers = [("authorization", bearer.as_str())];
    let deep = format!(r#","note":{}1{}"#, "[".repeat(40), "]".repeat(40));
    let deeper = format!(r#","note":{}1{}"#, "[".repeat(500), "]".repeat(500));
    for (number, more) in [
        (1, r#","note":"cut \ud83d""#),
        (2, r#","note":"x\u0000y""#),
        (3, r#","note":1,"note":2"#),
        (4, r#","note":123456789012345678901234567890"#),
        (5, deep.as_str()),
        (6, deeper.as_str()),
        (7, ""),
    ] {
        let body = if number == 7 { format!("\u{feff}{}", order(7, "")) } else { order(number, more) };
        let (status, answer) = send(&app, &headers, body).await;
        assert_eq!((status, &answer["state"]), (202, &json!("accepted")), "{number}: {answer}");
    }
    // Where the mapping reads it, the body waits with its reason.
    let twice = r#"{"user":"u","order":"8","order":"9"}"#;
    for (body, reason) in [
        (twice, "mapping[0].id: `body.order` is a duplicate key in an object"),
        (
            r#"{"user":"u\ud83d","order":"10"}"#,
            "mapping[0].recipient: the text is corrupted: it contains the replacement character U+FFFD",
        ),
        ("<order>11</order>", "the body is not JSON (line 1, column 1)"),
        ("", "the body is empty"),
    ] {
        app.clock.advance(std::time::Duration::from_secs(1));
        let (status, answer) = send(&app, &headers, body).await;
        assert_eq!((status, &answer["state"]), (202, &json!("refused")), "{body}");
        let kept = &app.get("/v1/sources/sender/bodies?state=refused").await["data"][0];
        assert_eq!((&kept["id"], &kept["detail"]), (&answer["body"], &json!(reason)));
    }
    let bodies = app.get("/v1/sources/sender/bodies?state=refused").await["data"].clone();
    assert_eq!((&bodies[1]["body"], &bodies[1]["text"]), (&Value::Null, &json!("<order>11</order>")));
    let replay = format!("/v1/sources/sender/bodies/{}/replay", bodies[3]["id"].as_str().unwrap());
    assert_eq!(app.call(Method::POST, &replay, Some(&app.key), None).await.1["state"], "refused");
    by_order["id"] = json!("'o-repaired'");
    by_order["data"]["order_id"] = json!("'8'");
    sender(&app, &json!({"auth": "bearer"}), by_order).await;
    let (_, made) = app.call(Method::POST, &replay, Some(&app.key), None).await;
    assert_eq!(made["state"], "accepted", "{made}");
}

#[tokio::test]
async fn a_call_that_is_not_taken_is_counted_at_its_source_with_the_reason() {
    let app = TestApp::start().await;
    sender(&app, &json!({"scheme": "stripe"}), mapping()).await;
    let call = async |header: &str| send(&app, &[("stripe-signature", header)], order(1, "")).await;
    let now = app.clock.now().timestamp();
    let unknown = call("t=1,v1=00").await;
    give_secret(&app, SECRET).await;
    for header in [
        format!("t={now},v1=00"),
        format!("t={now},v1=11"),
        format!("t={},v1=00", now - 301),
        "v1=00".to_owned(),
    ] {
        assert_eq!(call(&header).await, unknown, "the caller learns nothing more");
    }
    assert_eq!(send(&app, &[], "{}").await, unknown);
    let source = app.get("/v1/sources/sender").await;
    let mut rejected: Vec<(&str, u64)> = source["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["reason"].as_str().unwrap(), it["calls"].as_u64().unwrap()))
        .collect();
    rejected.sort_unstable();
    let wanted = [
        ("no_secret", 1),
        ("no_signature", 1),
        ("too_old", 1),
        ("unreadable_signature", 1),
        ("wrong_signature", 2),
    ];
    assert_eq!(rejected, wanted);
    let reported = source["rejected"].to_string();
    assert!(reported.contains("more than 300 seconds ago") && !reported.contains(SECRET), "{reported}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM rejected_calls").await, 5);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM webhook_deliveries").await, 0);
}

#[tokio::test]
async fn a_call_over_the_source_s_rate_is_counted_at_the_source_too() {
    let app = TestApp::start().await;
    sender(&app, &json!({"auth": "bearer"}), json!({"type": "order.shipped", "id": "body.id"})).await;
    give_secret(&app, SECRET).await;
    app.execute("UPDATE sources SET events_per_second = 1 WHERE name = 'sender'").await;
    let bearer = format!("Bearer {SECRET}");
    let mut statuses = Vec::new();
    for number in 0..10 {
        statuses.push(send(&app, &[("authorization", bearer.as_str())], order(number, "")).await.0);
    }
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!(statuses[0] == 202 && refused > 0, "{statuses:?}");
    let rejected = app.get("/v1/sources/sender").await["rejected"].clone();
    assert_eq!((&rejected[0]["reason"], &rejected[0]["calls"]), (&json!("rate_limited"), &json!(refused)));
}

#[tokio::test]
async fn a_secret_that_can_never_verify_is_refused_when_it_is_added() {
    let app = TestApp::start().await;
    sender(&app, &json!({"auth": "standard_webhooks"}), mapping()).await;
    for (secret, status) in [
        ("whsec_c2VjcmV0IG9mIHRoZSBzZW5kZXIgaXRzZWxm", 201),
        ("whsec_c2VjcmV0IG9mIHRoZSBzZW5kZXIgaXRzZWw", 201),
        ("a raw secret of the sender", 201),
        ("whsk_c2VjcmV0IG9mIHRoZSBzZW5kZXIgaXRzZWxm", 422),
        ("whsec_this is not base64 at all!", 422),
        ("too short", 422),
    ] {
        let (found, answer) = give_secret(&app, secret).await;
        assert_eq!(found, status, "{secret}: {answer}");
    }
    let bare = json!({"allowed_types": ["order.*"]});
    let (_, version, _) =
        app.call_seen((Method::GET, "/v1/sources/sender"), &app.key, None, &json!({})).await;
    app.call_seen((Method::PUT, "/v1/sources/sender"), &app.key, Some(&version), &bare).await;
    assert_eq!(give_secret(&app, SECRET).await.0, 422, "there is no webhook that it could be for");
}
