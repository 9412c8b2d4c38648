//! The inbox page and its live stream.

use serde_json::json;

use super::support::{APP, Served, push};

#[tokio::test]
async fn an_empty_inbox_says_how_to_fill_it() {
    let served = Served::start().await;
    let page = served.get("/").await;
    assert!(
        page.text.contains("No messages yet")
            && page.text.contains("os_v2_app_sandbox")
            && page.text.contains(APP)
    );
    let policy = page.headers["Content-Security-Policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    for asset in ["/_sandbox/inbox.js", "/_sandbox/inbox.css"] {
        assert_eq!(served.get(asset).await.status, 200);
    }
}

#[tokio::test]
async fn what_a_message_says_is_shown_as_text_and_its_blanks_as_a_warning() {
    let served = Served::start().await;
    let contents = "<script>alert(1)</script> {{ message.custom_data.gone }}";
    served.accept(&push(json!({"contents": {"en": contents}}))).await;
    let mail = json!({
        "app_id": APP, "target_channel": "email", "include_aliases": {"external_id": ["ann"]},
        "email_subject": "Hello", "email_body": "<p title=\"x\">\"Hi\"</p><script>alert(2)</script>",
    });
    served.accept(&mail).await;
    let page = served.get("/").await.text;
    assert!(!page.contains("<script>alert"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.contains("Empty values in this message") && page.contains("message.custom_data.gone"));
    assert!(page.contains("srcdoc=\"&lt;p title=&quot;x&quot;&gt;") && page.contains("sandbox=\"\""));
}

#[tokio::test]
async fn older_messages_are_a_page_away() {
    let served = Served::start().await;
    for n in 0..60 {
        served.accept(&push(json!({"contents": {"en": format!("text-{n}.")}}))).await;
    }
    let first = served.get("/").await.text;
    assert!(first.contains("text-59.") && first.contains("text-10.") && !first.contains(">text-9.<"));
    assert!(first.contains("/?before=11"));
    assert!(served.get("/?before=11").await.text.contains("text-9."));
}

#[tokio::test]
async fn a_new_message_arrives_live_and_a_reconnect_misses_none() {
    let served = Served::start().await;
    served.accept(&push(json!({"contents": {"en": "early"}}))).await;
    let listen = |after: &'static str| {
        served.request(reqwest::Method::GET, "/_sandbox/events").header("Last-Event-ID", after).send()
    };
    let mut stream = listen("1").await.unwrap();
    served.accept(&push(json!({"contents": {"en": "live"}}))).await;
    let event = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(event.contains("event: message") && event.contains("id: 2") && event.contains("live"), "{event}");

    let mut missed = listen("0").await.unwrap();
    let events = String::from_utf8(missed.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(events.contains("early"), "{events}");
    served.post("/_sandbox/reset", &json!({})).await;
    let event = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(event.contains("event: reset"), "{event}");
    // Open streams do not keep the server from stopping.
    served.stop().await;
}
