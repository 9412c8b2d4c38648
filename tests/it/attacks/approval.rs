//! Copy that no one approved must not reach a recipient, whichever path it takes.

use herald::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped};

const TEMPLATE: &str = "/v1/templates/order-shipped-push";

/// A template whose copy needs approval, a key that writes copy and operates, and a version that no one approved.
async fn app_with_unapproved_version() -> (TestApp, String, i64) {
    let app = TestApp::start().await;
    let (_, seen, _) = app.call_seen((Method::GET, TEMPLATE), &app.key, None, &Value::Null).await;
    let change = json!({"needs_approval": true});
    let (status, _, answer) = app.call_seen((Method::PATCH, TEMPLATE), &app.key, Some(&seen), &change).await;
    assert_eq!(status, 200, "{answer}");
    let key = app
        .key_with(vec![
            Scope::CatalogRead,
            Scope::CatalogWrite,
            Scope::DeliveriesRead,
            Scope::DeliveriesWrite,
            Scope::EventsWrite,
        ])
        .await;
    let tester = json!({"recipient": {"external_id": "tester"}});
    app.call(Method::POST, "/v1/test-recipients", Some(&app.key), Some(&tester)).await;
    let draft =
        json!({"contents": {"en": {"headings": "EVIL COPY", "contents": "EVIL {{ data.order_id }}"}}});
    let path = format!("{TEMPLATE}/draft");
    let (status, _, answer) = app.call_seen((Method::PUT, &path), &key, Some("0"), &draft).await;
    assert!(status == 200 || status == 201, "{answer}");
    let path = format!("{TEMPLATE}/test-send");
    let test = json!({"version": "draft", "recipient": {"external_id": "tester"}});
    let (status, sent) = app.call(Method::POST, &path, Some(&key), Some(&test)).await;
    assert_eq!(status, 202, "{sent}");
    let version = sent["version"].as_i64().expect("a version");
    app.run_until_idle().await;
    (app, key, version)
}

async fn messages_to(app: &TestApp, user: &str) -> Vec<String> {
    let messages = app.messages().await;
    let to = messages.iter().flat_map(|message| message["recipients"].as_array().expect("recipients"));
    to.filter(|recipient| recipient["external_id"] == user).map(Value::to_string).collect()
}

#[tokio::test]
async fn a_replay_does_not_say_what_nobody_approved() {
    let (app, key, version) = app_with_unapproved_version().await;
    let accepted = app.accept(&order_shipped("o-1", "customer")).await;
    app.run_until_idle().await;
    let push = app.delivery(&accepted, "order-shipped-push").await;
    let path = format!("/v1/deliveries/{}/replay", push["id"].as_str().expect("an id"));
    let wish = json!({"reason": "x", "version": version, "may_duplicate": true});
    let (status, problem) = app.call(Method::POST, &path, Some(&key), Some(&wish)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("not_replayable")), "{problem}");
    assert!(problem["detail"].as_str().expect("words").contains("this version is not approved"), "{problem}");
    app.run_until_idle().await;
    assert!(!messages_to(&app, "customer").await.concat().contains("EVIL"));
}

#[tokio::test]
async fn a_release_does_not_say_what_nobody_approved() {
    let (app, key, version) = app_with_unapproved_version().await;
    // Held: what it says needs a value that this event lacks.
    app.execute("UPDATE templates SET live_version = NULL WHERE key = 'order-shipped-push'").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let accepted = app.accept(&order_shipped("o-1", "customer")).await;
    let push = app.delivery(&accepted, "order-shipped-push").await;
    assert_eq!(push["state"], "held", "{push}");
    let path = format!("/v1/deliveries/{}/release", push["id"].as_str().expect("an id"));
    let (status, problem) =
        app.call(Method::POST, &path, Some(&key), Some(&json!({"version": version}))).await;
    assert_eq!((status, &problem["code"]), (409, &json!("needs_approval")), "{problem}");
    app.run_until_idle().await;
    assert!(!messages_to(&app, "customer").await.concat().contains("EVIL"));
}

#[tokio::test]
async fn a_rule_does_not_go_around_approval_by_sending_another_template() {
    let (app, key, _) = app_with_unapproved_version().await;
    let files = json!({"files": {
        "templates/evil/template.toml": "channel = \"push\"\nevent = \"order.shipped\"\n",
        "templates/evil/push.en.liquid": "+++\nheadings = \"EVIL COPY\"\n+++\nEVIL {{ data.order_id }}\n",
        "rules/order-shipped-push.toml": "event = \"order.shipped\"\ntemplate = \"evil\"\n",
    }});
    let apply =
        async |files: &Value| app.call(Method::POST, "/v1/catalog/apply", Some(&key), Some(files)).await;
    let (status, problem) = apply(&files).await;
    assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
    // Nor with a rule beside the one whose copy needs approval.
    let mut beside = files.clone();
    let named = beside["files"].as_object_mut().expect("files");
    let rule = named.remove("rules/order-shipped-push.toml").expect("the rule");
    named.insert("rules/second.toml".to_owned(), rule.clone());
    let (status, problem) = apply(&beside).await;
    assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
    let wide = rule.as_str().expect("text").replace("order.shipped", "order.*");
    beside["files"]["rules/second.toml"] = json!(wide);
    let (status, problem) = apply(&beside).await;
    assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
    app.accept(&order_shipped("o-1", "customer")).await;
    app.run_until_idle().await;
    assert!(!messages_to(&app, "customer").await.concat().contains("EVIL"));
}

#[tokio::test]
async fn files_do_not_bring_unapproved_copy_live() {
    let (app, key, _) = app_with_unapproved_version().await;
    let files = json!({"files": {
        "templates/order-shipped-push/push.en.liquid": "+++\nheadings = \"EVIL\"\n+++\nEVIL {{ data.order_id }}\n",
        "templates/order-shipped-push/template.toml": "channel = \"push\"\nneeds_approval = false\n",
    }});
    let (status, problem) = app.call(Method::POST, "/v1/catalog/apply", Some(&key), Some(&files)).await;
    assert!(status == 422 && problem.to_string().contains("needs_approval"), "{problem}");
}
