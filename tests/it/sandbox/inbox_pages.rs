//! The inbox's search, the page of one message, and the page of faults.

use serde_json::{Value, json};

use super::support::{APP, Served, merged, push};

async fn page(served: &Served, path: &str) -> String {
    let answer = served.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.text
}

async fn form(served: &Served, path: &str, fields: &[(&str, &str)]) -> super::support::Answer {
    let body = serde_urlencoded::to_string(fields).unwrap();
    let call = served.request(reqwest::Method::POST, path);
    served.answer(call.header("Content-Type", "application/x-www-form-urlencoded").body(body)).await
}

#[tokio::test]
async fn a_search_finds_by_words_people_template_channel_and_state() {
    let served = Served::start().await;
    let template = served
        .template(json!({"name": "order-shipped", "contents": {"en": "Hi {{ message.custom_data.name }}"}}))
        .await;
    served.accept(&push(json!({"contents": {"en": "A parcel for you"}}))).await;
    let to_anna = json!({"external_id": ["anna"]});
    served
        .accept(&push(json!({"contents": null, "template_id": template, "include_aliases": to_anna})))
        .await;
    for (query, parcel, blank) in [
        ("", true, true),
        ("parcel", true, false),
        ("to:ANNA", false, true),
        ("template:shipped", false, true),
        ("is:blank", false, true),
        ("channel:push+after:5m", true, true),
        ("channel:email", false, false),
        ("parcel+to:anna", false, false),
    ] {
        let shown = page(&served, &format!("/?q={query}")).await;
        let found = (shown.contains("A parcel for you"), shown.contains("Empty values in this message"));
        assert_eq!(found, (parcel, blank), "{query}");
    }
    assert!(page(&served, "/?q=channel:pigeon").await.contains("channel: must be push, email or sms"));
}

#[tokio::test]
async fn a_message_is_shown_on_devices_with_its_request_and_a_curl_line() {
    let served = Served::start().await;
    let hostile = "<script>alert(1)</script>";
    let id = served.accept(&push(json!({"contents": {"en": hostile}, "headings": {"en": "Bob's"}}))).await;
    let shown = page(&served, &format!("/inbox/{id}")).await;
    for part in ["iPhone", "Android", "curl http://", "&lt;script&gt;", r"Bob'\''s"] {
        assert!(shown.contains(part), "{part}");
    }
    assert!(!shown.contains(hostile));
    for unknown in ["/inbox/0190a5b0-0000-4000-8000-00000000000a", "/inbox/nothing"] {
        let answer = served.get(unknown).await;
        assert!(answer.status == 404 && answer.text.contains("Message not found"), "{unknown}");
    }
    for odd in [format!("/inbox/{id}?to=x"), format!("/inbox/{id}?to=99"), "/?before=x".to_owned()] {
        page(&served, &odd).await;
    }
}

#[tokio::test]
async fn a_mail_lies_in_a_frame_without_rights_beside_its_text_and_source() {
    let served = Served::start().await;
    let body = json!({
        "target_channel": "email", "contents": null, "email_subject": "Hello",
        "email_body": "<h1>Shipped</h1><script>alert(1)</script>",
    });
    let id = served.accept(&push(body)).await;
    let shown = page(&served, &format!("/inbox/{id}")).await;
    assert!(
        shown.contains("<iframe sandbox=\"\"") && shown.contains("Plain text") && shown.contains("Source")
    );
    assert!(!shown.contains("<script>alert"));
}

#[tokio::test]
async fn what_a_recipient_does_is_played_by_buttons() {
    let served = Served::start().await;
    let id = served.accept(&push(json!({}))).await;
    assert_eq!(form(&served, &format!("/inbox/{id}/0/click"), &[]).await.status, 200, "back on the page");
    assert_eq!(form(&served, &format!("/inbox/{id}/0/bounce"), &[]).await.status, 400, "no push bounces");
    let view = served.get(&format!("/notifications/{id}?app_id={APP}")).await.json();
    assert_eq!(view["converted"], 1);
    form(&served, &format!("/inbox/{id}/0/unsubscribe"), &[]).await;
    let answer = served.send(&push(json!({}))).await.json();
    assert_eq!(answer["id"], "", "{answer}");
}

#[tokio::test]
async fn faults_are_set_and_cleared_on_their_page() {
    let served = Served::start().await;
    assert!(page(&served, "/faults").await.contains("No active faults"));
    let wrong = form(&served, "/faults", &[("kind", "status"), ("endpoint", "all")]).await;
    assert!(wrong.status == 422 && wrong.text.contains("requires `status`"), "{}", wrong.text);
    let fields =
        [("kind", "status"), ("endpoint", "notifications"), ("status", "503"), ("times", "1"), ("seed", "")];
    assert_eq!(form(&served, "/faults", &fields).await.status, 200);
    assert_eq!(served.send(&push(json!({}))).await.status, 503);
    assert!(page(&served, "/faults").await.contains("triggered 1/1"));
    form(&served, "/faults/clear", &[]).await;
    assert_eq!(served.get("/_sandbox/faults").await.json()["data"], json!([]));
}

#[tokio::test]
async fn new_kinds_of_faults_answer_as_they_say() {
    let served = Served::start().await;
    for (kind, endpoint, text) in
        [("key_revoked", "all", "Access denied."), ("app_disabled", "notifications", "disabled")]
    {
        let fault = merged(json!({"kind": kind, "times": 1}), json!({"endpoint": endpoint}));
        served.post("/_sandbox/faults", &fault).await;
        let answer = served.send(&push(json!({}))).await;
        assert_eq!(answer.status, 403);
        assert!(answer.error().contains(text), "{}", answer.text);
    }
    served.post("/_sandbox/faults", &json!({"kind": "reply_lost", "times": 1})).await;
    let call = served.request(reqwest::Method::POST, "/notifications").json(&push(json!({})));
    let lost = call.timeout(std::time::Duration::from_millis(300)).send().await;
    assert!(lost.unwrap_err().is_timeout());
    assert_eq!(served.sandbox.messages().len(), 1, "accepted all the same");
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let served = Served::start().await;
    for path in ["/_sandbox/reset", "/faults", "/_sandbox/faults"] {
        let call = served.request(reqwest::Method::POST, path).header("Sec-Fetch-Site", "cross-site");
        let answer = served.answer(call.json(&Value::Null)).await;
        assert_eq!(answer.status, 403, "{path}");
    }
}
