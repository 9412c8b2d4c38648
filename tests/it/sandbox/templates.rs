//! The Templates API.

use serde_json::{Value, json};

use super::support::{APP, Served, push};

fn path(id: &str) -> String {
    format!("/templates/{id}?app_id={APP}")
}

#[tokio::test]
async fn a_template_is_shown_with_every_unused_field_null() {
    let served = Served::start().await;
    let id = served.template(json!({"isSMS": true, "contents": {"en": "Hi"}, "url": "ignored"})).await;
    let shown = served.get(&path(&id)).await.json();
    assert_eq!((&shown["id"], &shown["name"]), (&json!(id), &json!("a template")));
    assert_eq!(shown["channel"], "SMS");
    assert_eq!(shown["content"]["contents"], json!({"en": "Hi"}));
    for unused in ["headings", "subtitle", "email_subject", "email_body", "email_bcc"] {
        assert_eq!(shown["content"].get(unused), Some(&Value::Null), "{unused}");
    }
    assert!(shown["content"].get("url").is_none(), "a template can't hold it");
    assert!(shown["created_at"].is_string() && shown["updated_at"].is_string());
}

#[tokio::test]
async fn channels_are_push_email_and_capital_sms() {
    let served = Served::start().await;
    for (fields, channel) in [
        (json!({"contents": {"en": "x"}}), "push"),
        (json!({"isEmail": true, "email_subject": "s", "email_body": "b"}), "email"),
        (json!({"isSMS": true, "contents": {"en": "x"}}), "SMS"),
    ] {
        let id = served.template(fields).await;
        assert_eq!(served.get(&path(&id)).await.json()["channel"], channel);
    }
    let of = async |channel: &str| {
        let answer = served.get(&format!("/templates?app_id={APP}&channel={channel}")).await;
        (answer.status.as_u16(), answer.json()["total_count"].clone())
    };
    assert_eq!(of("sms").await, (200, json!(1)));
    assert_eq!(of("SMS").await.0, 400);
}

#[tokio::test]
async fn mistakes_are_refused() {
    let served = Served::start().await;
    let english = "Message Notifications must have English language content";
    for (fields, text) in [
        (json!({"contents": {"en": "x"}}), "name is required."),
        (json!({"name": "x".repeat(129), "contents": {"en": "x"}}), "name must be a text of 1 to 128"),
        (json!({"name": "t", "contents": {"de": "x"}}), english),
        (json!({"name": "t", "headings": {"en": "x"}}), english),
        (
            json!({"name": "t", "isEmail": true, "email_subject": "s"}),
            "'message' Email body can not be blank",
        ),
        (json!({"name": "t", "isEmail": true, "isSMS": true, "contents": {"en": "x"}}), "one channel"),
        (json!({"name": "t", "contents": {"en": "{% for a in b %}{% endfor %}"}}), "'for' is not allowed"),
    ] {
        let mut body = fields.clone();
        body["app_id"] = json!(APP);
        let answer = served.post("/templates", &body).await;
        assert_eq!(answer.status, 400, "{fields}");
        assert!(answer.error().contains(text), "{fields}: {}", answer.text);
    }
}

#[tokio::test]
async fn an_empty_template_is_refused_in_html() {
    let served = Served::start().await;
    let answer = served.post("/templates", &json!({"app_id": APP, "name": "t"})).await;
    assert_eq!(answer.status, 422);
    assert!(answer.headers["Content-Type"].to_str().unwrap().starts_with("text/html"));
    assert!(answer.text.starts_with("<!DOCTYPE html>"));
}

#[tokio::test]
async fn the_list_pages_newest_first_without_contents() {
    let served = Served::start().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(served.template(json!({"name": format!("t{n}"), "contents": {"en": "x"}})).await);
    }
    let list = served.get(&format!("/templates?app_id={APP}&limit=2&offset=1")).await.json();
    assert_eq!((&list["limit"], &list["offset"], &list["total_count"]), (&json!(2), &json!(1), &json!(3)));
    let listed: Vec<&str> =
        list["templates"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(listed, [ids[1].as_str(), ids[0].as_str()]);
    assert_eq!(list["templates"][0].as_object().unwrap().len(), 4, "id, name and two times");
    assert_eq!(served.get(&format!("/templates?app_id={APP}&limit=0")).await.status, 400);
}

#[tokio::test]
async fn an_update_takes_effect_at_once_and_leaves_sent_messages_as_they_were() {
    let served = Served::start().await;
    let id = served.template(json!({"contents": {"en": "first"}, "headings": {"en": "title"}})).await;
    let body = push(json!({"template_id": id, "contents": null}));
    served.accept(&body).await;
    let change = json!({"contents": {"en": "second"}, "headings": null});
    let updated = served.patch(&path(&id), &change).await.json();
    assert_eq!((&updated["name"], &updated["content"]["headings"]), (&json!("a template"), &Value::Null));
    served.accept(&body).await;
    let texts: Vec<String> = served
        .sandbox
        .messages()
        .iter()
        .map(|message| message.recipients[0].rendered["contents"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(texts, ["first", "second"]);
    assert_eq!(served.patch(&path(&id), &json!({"contents": {"de": "x"}})).await.status, 400);
}

#[tokio::test]
async fn a_deleted_template_is_gone_for_messages_too() {
    let served = Served::start().await;
    let id = served.template(json!({"contents": {"en": "x"}})).await;
    assert_eq!(served.delete(&path(&id)).await.json(), json!({"success": true}));
    for answer in [
        served.get(&path(&id)).await,
        served.delete(&path(&id)).await,
        served.patch(&path(&id), &json!({"name": "n"})).await,
        served.send(&push(json!({"template_id": id, "contents": null}))).await,
    ] {
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (404, "template not found"));
    }
}
