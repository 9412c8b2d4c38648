//! Events as clients write them: media types, CloudEvents of the libraries, labels, locales, repeats, and lists where an
//! object belongs.

use herald::access::Scope;
use herald::api::openapi_document;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped};

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");

async fn post(app: &TestApp, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> (u16, Value) {
    let answer = app.post_raw("/v1/events", headers, body).await;
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

fn cloudevent(id: &str, changes: &Value) -> Value {
    let mut event = json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "order.shipped",
        "recipient": "user-42", "data": order_shipped(id, "u")["data"]});
    for (name, value) in changes.as_object().into_iter().flatten() {
        event[name] = value.clone();
    }
    event
}

#[tokio::test]
async fn json_is_taken_by_every_name_that_clients_give_it() {
    let app = TestApp::start().await;
    for (place, kind) in [
        "application/json; charset=\"utf-8\"",
        "application/json;charset=utf8;profile=x",
        "application/vnd.shop+json",
        "text/json",
    ]
    .into_iter()
    .enumerate()
    {
        let event = format!("\u{feff}{}", order_shipped(&format!("o-{place}"), "u"));
        let (status, answer) = post(&app, &[("content-type", kind)], event).await;
        assert_eq!(status, 202, "{kind}: {answer}");
    }
    let (status, problem) =
        post(&app, &[("content-type", "application/json")], cloudevent("1", &json!({})).to_string()).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("/specversion")));
    assert!(
        problem["errors"][0]["hint"].as_str().unwrap().contains("application/cloudevents+json"),
        "{problem}"
    );
}

#[tokio::test]
async fn cloudevents_are_taken_as_the_libraries_and_brokers_send_them() {
    let app = TestApp::start().await;
    let attributes =
        [("ce-specversion", "1.0"), ("ce-id", "b-1"), ("ce-source", "/shop"), ("ce-type", "order.shipped")];
    let data = order_shipped("b-1", "u")["data"].to_string();
    // Without a content type, as the libraries for Python send it.
    let binary = [&attributes[..], &[("ce-recipient", "user-42")]].concat();
    assert_eq!(post(&app, &binary, data.clone().into_bytes()).await.0, 202);
    // With copies of the attributes in headers.
    let copied = [&attributes[..], &[STRUCTURED]].concat();
    assert_eq!(post(&app, &copied, cloudevent("s-1", &json!({})).to_string()).await.0, 202);
    for (place, changes) in [
        json!({"object": "a", "resource": "b", "sourceip": "c", "subjectid": "d", "scale": 1, "local": true}),
        json!({"sequence": "abc", "sequencetype": "Custom"}),
        json!({"data_base64": null, "datacontenttype": null, "time": null}),
        json!({"recipient": 42}),
    ]
    .into_iter()
    .enumerate()
    {
        let (status, answer) =
            post(&app, &[STRUCTURED], cloudevent(&place.to_string(), &changes).to_string()).await;
        assert_eq!(status, 202, "{changes}: {answer}");
    }
    let schema = json!({"schema": {"type": "object"}});
    let path = "/v1/event-types/Microsoft.Storage.BlobCreated-v2";
    let (status, _, answer) = app.call_seen((Method::PUT, path), &app.key, None, &schema).await;
    assert_eq!(status, 200, "{answer}");
    let typed = cloudevent("t-1", &json!({"type": "Microsoft.Storage.BlobCreated-v2"}));
    assert_eq!(post(&app, &[STRUCTURED], typed.to_string()).await.0, 202);
}

#[tokio::test]
async fn an_error_uses_the_terms_of_the_sender() {
    let app = TestApp::start().await;
    let headers =
        [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "order.shipped")];
    let (_, missing) = post(&app, &headers, order_shipped("1", "u")["data"].to_string()).await;
    assert_eq!(missing["errors"][0]["pointer"], "ce-recipient");
    assert_eq!(missing["errors"][0]["hint"], "send the recipient's ID as a string in `ce-recipient`");
    for (kind, hint) in
        [("com.github.pull_request.opened", None), ("order.shiped", Some("did you mean `order.shipped`?"))]
    {
        let (_, problem) =
            post(&app, &[STRUCTURED], cloudevent("1", &json!({"type": kind})).to_string()).await;
        assert_eq!(problem["errors"][0]["hint"].as_str(), hint, "{kind}");
    }
}

#[tokio::test]
async fn a_repeat_that_means_the_same_is_a_repeat_and_another_says_what_differs() {
    let app = TestApp::start().await;
    let mut first = order_shipped("o-1", "user-42");
    first["time"] = json!("2026-11-24T09:00:00+00:00");
    first["data"]["total"] = json!(10.0);
    first["locale"] = json!("pt_BR");
    first["sequence"] = json!(7);
    let taken = app.accept(&first).await;
    let mut again = order_shipped("o-1", "user-42");
    again["time"] = json!("2026-11-24T10:00:00+01:00");
    again["data"]["total"] = json!(10);
    again["locale"] = json!("pt-BR");
    again["recipients"] = json!([again["recipient"]]);
    again["recipient"] = Value::Null;
    again["collapse_key"] = Value::Null;
    again["sequence"] = json!(7.0);
    let repeated = app.accept(&again).await;
    assert_eq!((&repeated["id"], &repeated["duplicate"]), (&taken["id"], &json!(true)));

    let mut other = first.clone();
    other["data"]["total"] = json!(11);
    other["data"]["carrier"] = json!("UPS");
    other["recipient"] = json!({"external_id": "user-43"});
    let (status, problem) = app.post(&other).await;
    assert_eq!(status, 409);
    let pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/id", "/recipients", "/data/carrier", "/data/total"]);
    let mut later = first.clone();
    later["time"] = json!("2026-11-24T09:00:01Z");
    let (_, problem) = app.post(&later).await;
    assert!(problem["detail"].as_str().unwrap().ends_with("with a different `/time`"), "{problem}");
    assert!(problem["errors"][0]["hint"].as_str().unwrap().contains("the current time"), "{problem}");
}

#[tokio::test]
async fn a_label_that_the_app_does_not_know_is_refused_with_what_was_meant() {
    let app = TestApp::start().await;
    let by = |id: &str, label: &str, person: &str| {
        let mut event = order_shipped(id, "u");
        event["recipient"] = json!({ label: person });
        event
    };
    for (label, hint) in [
        ("externalId", "write it as `external_id`"),
        ("ExternalIds", "write it as `external_id`"),
        ("Email", "write it as `email`"),
        ("phone_number", "write it as `phone`"),
        ("crm_id", "--alias-label crm_id"),
    ] {
        let (status, problem) = app.post(&by("o-1", label, "77")).await;
        assert_eq!((status, &problem["errors"][0]["code"]), (422, &json!("unknown_label")), "{label}");
        assert!(problem["errors"][0]["hint"].as_str().unwrap().contains(hint), "{label}: {problem}");
        let listed = json!({"recipient": {label: "77"}});
        let (status, problem) =
            app.call(Method::POST, "/v1/test-recipients", Some(&app.key), Some(&listed)).await;
        assert_eq!((status, &problem["errors"][0]["code"]), (422, &json!("unknown_label")), "{label}");
    }
    let name = app.get("/v1/apps").await[0]["name"].as_str().unwrap().to_owned();
    let file = format!("apps/{name}.toml");
    let files = json!({"files": {file.as_str(): "alias_labels = [\"crm_id\"]\n", "apps/elsewhere.toml": "alias_labels = []\n"}});
    let writer = app.key_with(vec![Scope::CatalogRead, Scope::CatalogWrite]).await;
    assert_eq!(app.call(Method::POST, "/v1/catalog/apply", Some(&writer), Some(&files)).await.0, 403);
    let (status, applied) = app.call(Method::POST, "/v1/catalog/apply", Some(&app.key), Some(&files)).await;
    assert_eq!((status, &applied["changes"][0]["kind"]), (200, &json!("app")), "{applied}");
    let pulled = app.get("/v1/catalog").await;
    assert_eq!(pulled["files"][&file], "alias_labels = [\"crm_id\"]\n", "{pulled}");
    assert_eq!(app.post(&by("o-1", "crm_id", "77")).await.0, 202);
    assert_eq!(app.post(&by("o-2", "CRM-ID", "77")).await.1["errors"][0]["hint"], "write it as `crm_id`");
    let apps = app.get("/v1/apps").await;
    assert_eq!(apps[0]["alias_labels"], json!(["crm_id"]));
    app.execute("UPDATE apps SET alias_labels = NULL").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    assert_eq!(
        app.post(&by("o-3", "externalId", "77")).await.0,
        202,
        "an app of before this breaks no sender"
    );
}

/// A value for the places of a path.
fn filled(path: &str) -> String {
    let mut filled = String::new();
    for (place, part) in path.split(['{', '}']).enumerate() {
        filled.push_str(match (place % 2, part) {
            (0, text) => text,
            (_, "scope") => "app",
            (_, "name") => "order.shipped",
            (_, "key") => "order-shipped-push",
            (_, _) => "11111111-2222-4333-8444-555555555555",
        });
    }
    filled
}

#[tokio::test]
async fn a_list_is_taken_nowhere_where_the_description_wants_an_object() {
    let app = TestApp::start().await;
    let document = serde_json::to_value(openapi_document()).unwrap();
    let before = app.sql::<i64>("SELECT count(*) FROM audit_log").await;
    let mut checked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let is_hook = path.starts_with("/v1/hooks/");
            if schema.is_null() || schema["type"] == "array" || is_hook {
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            for list in [json!([]), json!(["why"]), json!([["order.*"], "de"]), json!([{"external_id": "u"}])]
            {
                let (status, _, answer) =
                    app.call_seen((method.clone(), &filled(path)), &app.key, Some("1"), &list).await;
                assert!((400..500).contains(&status), "{method} {path} {list}: {status} {answer}");
            }
            checked += 1;
        }
    }
    assert!(checked > 25, "{checked}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM audit_log").await, before);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM apps WHERE paused_at IS NOT NULL").await, 0);
}
