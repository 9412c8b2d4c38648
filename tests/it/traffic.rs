//! The traffic check: copy is rendered for real events before it goes live.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped};

const PUSH: &str = "/v1/templates/order-shipped-push";

/// Three events with a name, one with a blank one and one without.
async fn with_traffic() -> TestApp {
    let app = TestApp::start().await;
    for n in 0..5 {
        let mut event = order_shipped(&format!("o-{n}"), "u");
        match n {
            3 => event["data"]["name"] = json!("  "),
            4 => drop(event["data"].as_object_mut().expect("it is there").remove("name")),
            _ => {}
        }
        app.accept(&event).await;
    }
    app
}

fn copy(greeting: &str) -> Value {
    json!({"contents": {"en": {
        "headings": "Your order is on its way",
        "url": "https://shop.example/orders/{{ data.order_id }}",
        "contents": format!("{greeting}, {{{{ data.carrier }}}} brings order {{{{ data.order_id }}}}.")}}})
}

/// A template of its own for the type, whose schema promises more than its events contain.
async fn promised(app: &TestApp) {
    let mut form = app.get("/v1/event-types/order.shipped").await;
    for name in ["name", "version", "used_by"] {
        form.as_object_mut().expect("it is there").remove(name);
    }
    form["schema"]["properties"]["name"] = json!({"type": "string", "pattern": "\\S"});
    form["schema"]["required"].as_array_mut().expect("it is there").push(json!("name"));
    form["samples"] = json!({});
    let path = (Method::PUT, "/v1/event-types/order.shipped");
    let (status, _, body) = app.call_seen(path, &app.key, Some("1"), &form).await;
    assert_eq!(status, 200, "{body}");
}

async fn draft(app: &TestApp, content: &Value) -> String {
    let path = format!("{PUSH}/draft");
    let (status, revision, body) = app.call_seen((Method::PUT, &path), &app.key, None, content).await;
    assert_eq!(status, 200, "{body}");
    revision
}

async fn publish(app: &TestApp, revision: &str, request: &Value) -> (u16, Value) {
    let path = format!("{PUSH}/publish");
    let answer = app.call_seen((Method::POST, &path), &app.key, Some(revision), request).await;
    (answer.0, answer.2)
}

#[tokio::test]
async fn copy_that_past_events_would_leave_with_a_hole_is_not_published_unawares() {
    let app = with_traffic().await;
    promised(&app).await;
    let revision = draft(&app, &copy("Hi {{ data.name }}")).await;
    let (status, problem) = publish(&app, &revision, &json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("would_hold")), "{problem}");
    let traffic = &problem["traffic"];
    assert_eq!(
        (
            &traffic["based_on"],
            &traffic["checked"],
            &traffic["would_be_held"],
            &traffic["newly_held"],
            &traffic["differs"]
        ),
        (&json!("events"), &json!(5), &json!(2), &json!(2), &json!(3)),
        "{traffic:#}"
    );
    assert_eq!(traffic["missing"], json!({"data.name": 2}));
    assert!(problem["detail"].as_str().unwrap().contains("data.name"), "{problem}");
    assert_eq!(traffic["held_events"].as_array().unwrap().len(), 2);
    assert!(traffic["held_events"][0]["event"].as_str().unwrap().starts_with("evt_"));
    assert_eq!(app.get(PUSH).await["live_version"], 1);
    let fields = &traffic["differences"][0]["fields"]["contents"];
    assert!(
        fields["now"].as_str().unwrap().contains("Hi Anna, DHL brings order 1001 on November 26"),
        "{fields}"
    );
    assert_eq!(fields["then"], "Hi Anna, DHL brings order 1001.");
    let (status, live) = publish(&app, &revision, &json!({"accept_held": true})).await;
    assert_eq!((status, &live["version"]), (200, &json!(2)), "{live}");
}

#[tokio::test]
async fn what_is_the_same_and_what_differs_is_counted() {
    let app = with_traffic().await;
    let check = |request: Value| {
        let app = &app;
        async move { app.call(Method::POST, &format!("{PUSH}/check"), Some(&app.key), Some(&request)).await.1 }
    };
    let live = check(json!({"version": "live"})).await;
    assert_eq!((&live["traffic"]["same"], &live["traffic"]["checked"]), (&json!(5), &json!(5)), "{live:#}");
    let fewer = check(json!({"version": "live", "events": 2})).await;
    assert_eq!(fewer["traffic"]["checked"], 2);
    let mut content = app.get(&format!("{PUSH}/versions/1")).await["content"].clone();
    let text = content["contents"]["en"]["contents"].as_str().unwrap().replace("there", "friend");
    content["contents"]["en"]["contents"] = json!(text);
    let other = check(json!({"content": content})).await;
    assert_eq!(
        (&other["traffic"]["same"], &other["traffic"]["differs"]),
        (&json!(3), &json!(2)),
        "{other:#}"
    );
    let none = check(json!({"version": "live", "events": 0})).await;
    assert_eq!((&none["traffic"]["based_on"], &none["ok"]), (&json!("samples"), &json!(true)), "{none:#}");
}

#[tokio::test]
async fn sensitive_values_are_masked_in_differences() {
    let app = TestApp::start().await;
    let content =
        json!({"contents": {"en": {"subject": "Code {{ data.code }}", "body": "<p>{{ data.code }}</p>"}}});
    let check = || async {
        let path = "/v1/templates/password-reset-email/check";
        app.call(Method::POST, path, Some(&app.key), Some(&json!({"content": content}))).await.1
    };
    let samples = check().await;
    assert_eq!(samples["traffic"]["based_on"], "samples");
    let event = json!({"id": "c-1", "type": "password.reset", "recipient": {"external_id": "u"}, "data": {"code": "314159"}});
    app.accept(&event).await;
    let events = check().await;
    assert_eq!(events["traffic"]["based_on"], "events", "{events:#}");
    assert!(!events["traffic"]["differences"].as_array().unwrap().is_empty(), "{events:#}");
    let sample = app.get("/v1/event-types/password.reset").await["samples"]["code"]["code"].to_string();
    for text in [samples.to_string(), events.to_string()] {
        assert!(!text.contains("314159") && !text.contains(sample.trim_matches('"')), "{text}");
    }
}

#[tokio::test]
async fn a_test_send_is_no_traffic() {
    let app = TestApp::start().await;
    let listed = json!({"recipient": {"external_id": "tester"}});
    app.call(Method::POST, "/v1/test-recipients", Some(&app.key), Some(&listed)).await;
    let wish = json!({"recipient": {"external_id": "tester"}, "version": "live"});
    assert_eq!(
        app.call(Method::POST, &format!("{PUSH}/test-send"), Some(&app.key), Some(&wish)).await.0,
        202
    );
    let (_, checked) = app
        .call(Method::POST, &format!("{PUSH}/check"), Some(&app.key), Some(&json!({"version": "live"})))
        .await;
    assert_eq!(checked["traffic"]["based_on"], "samples", "{checked:#}");
}

#[tokio::test]
async fn files_are_held_against_the_same_events() {
    let app = with_traffic().await;
    promised(&app).await;
    let files = json!({
        "templates/order-shipped-push/template.toml": "channel = \"push\"",
        "templates/order-shipped-push/push.en.liquid": "Hi {{ data.name }}",
    });
    let (status, plan) =
        app.call(Method::POST, "/v1/catalog/plan", Some(&app.key), Some(&json!({"files": files}))).await;
    assert_eq!(
        (status, &plan["traffic"]["order-shipped-push"]["missing"]),
        (200, &json!({"data.name": 2})),
        "{plan}"
    );
    let (status, problem) =
        app.call(Method::POST, "/v1/catalog/apply", Some(&app.key), Some(&json!({"files": files}))).await;
    assert_eq!((status, &problem["code"]), (409, &json!("would_hold")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("order-shipped-push"), "{problem}");
    let accepted = json!({"files": files, "accept_held": true});
    assert_eq!(app.call(Method::POST, "/v1/catalog/apply", Some(&app.key), Some(&accepted)).await.0, 200);
}

#[tokio::test]
async fn rolling_back_reports_what_would_be_held() {
    let app = with_traffic().await;
    promised(&app).await;
    let revision = draft(&app, &copy("Hi {{ data.name }}")).await;
    publish(&app, &revision, &json!({"accept_held": true})).await;
    let back = |version: i32| {
        let app = &app;
        async move {
            let body = json!({"version": version});
            app.call(Method::POST, &format!("{PUSH}/rollback"), Some(&app.key), Some(&body)).await.1
        }
    };
    assert_eq!(back(1).await["traffic"]["would_be_held"], 0);
    assert_eq!(back(2).await["traffic"]["newly_held"], 2);
}

#[tokio::test]
async fn a_blank_name_is_greeted_by_the_default() {
    let app = with_traffic().await;
    app.run_until_idle().await;
    let messages = app.messages().await.iter().map(ToString::to_string).collect::<String>();
    assert!(messages.contains("Hi there, DHL") && !messages.contains("Hi  "), "{messages}");
}
