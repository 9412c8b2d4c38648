//! What recipients see, with the values and files that real systems send.

use serde_json::{Value, json};

use crate::support::app::TestApp;

const EMAIL: &str = "+++\r\nsubject = \"{{ data.shop }}\"\r\n+++\r\n{% capture who %}<b>{{ data.shop | escape }}</b>{% endcapture %}\r\n\
    <p>{{ who | strip }}: {{ data.note | newline_to_br }}</p><a href=\"https://s.example/t?c={{ data.code | url_encode }}\">x</a>\r\n";

/// A shop whose files were written on another system.
async fn shop() -> TestApp {
    let app = TestApp::start().await;
    let schema = r#"{"type": "object", "properties": {"shop": {"type": "string", "pattern": "\\S"}, "note": {"type": "string", "pattern": "\\S"},
        "code": {"type": "string", "pattern": "\\S"}}, "required": ["shop", "note", "code"]}"#;
    app.apply(&[
        ("events/note.left/schema.json", &format!("\u{feff}{schema}")),
        ("events/note.left/samples/one.json", "\u{feff}{\"shop\": \"Shop\", \"note\": \"n\", \"code\": \"c\"}\r\n"),
        ("templates/note-mail/template.toml", "\u{feff}channel = \"email\"\r\n"),
        ("templates/note-mail/email.en.liquid", EMAIL),
        ("templates/note-push/template.toml", "channel = \"push\"\r\n"),
        ("templates/note-push/push.en.liquid", "\u{feff}\n+++ \nheadings = \"A note\"\n+++\t\nFrom {{ data.shop | default: 'us' }}:\r\n{{ data.note }}"),
        ("rules/note-mail.toml", "event = \"note.left\"\r\ntemplate = \"note-mail\"\r\n"),
        ("rules/note-push.toml", "event = \"note.left\"\ntemplate = \"note-push\"\n"),
        ("rules/note-push.toml~", "event = "),
        ("templates/note-push/Thumbs.db", "\u{1}"),
    ])
    .await;
    app
}

fn note(id: &str, note: &str) -> Value {
    json!({"id": id, "type": "note.left", "recipient": {"external_id": "u"},
        "data": {"shop": "Tom & Jerry's", "note": note, "code": "A B&C/1"}})
}

async fn rendered(app: &TestApp, channel: &str) -> Value {
    app.run_until_idle().await;
    let messages = app.messages().await;
    let message = messages.iter().rev().find(|message| message["channel"] == channel).expect("it was sent");
    message["recipients"][0]["rendered"].clone()
}

#[tokio::test]
async fn a_reader_reads_what_was_meant_whatever_wrote_the_files_and_the_values() {
    let app = shop().await;
    app.accept(&note("n-1", "Ring twice\nthen wait")).await;
    let email = rendered(&app, "email").await;
    assert_eq!(email["email_subject"], "Tom & Jerry's");
    let body = "\n<p><b>Tom &amp; Jerry&#39;s</b>: Ring twice<br />\nthen wait</p><a href=\"https://s.example/t?c=A+B%26C%2F1\">x</a>";
    assert_eq!(email["email_body"], body);
    let push = rendered(&app, "push").await;
    assert_eq!(
        (&push["headings"], &push["contents"]),
        (&json!("A note"), &json!("From Tom & Jerry's:\nRing twice\nthen wait"))
    );
}

#[tokio::test]
async fn a_value_that_nobody_would_see_and_a_push_that_no_phone_takes_are_held() {
    let app = shop().await;
    for (id, text, wanted) in [
        ("n-1", "\u{200b}\u{1}\u{3164}".to_owned(), "missing_value"),
        ("n-2", "long ".repeat(1_000), "too_large"),
    ] {
        let accepted = app.accept(&note(id, &text)).await;
        let delivery = app.delivery(&accepted, "note-push").await;
        assert_eq!(
            (&delivery["state"], &delivery["decisions"][0]["code"]),
            (&json!("held"), &json!(wanted)),
            "{delivery:#}"
        );
    }
}

#[tokio::test]
async fn one_mailbox_gets_one_email_however_its_address_is_written() {
    let app = shop().await;
    let mut event = note("n-1", "x");
    let event_object = event.as_object_mut().expect("an object");
    event_object.remove("recipient");
    let addresses =
        ["Ann@Example.com", "ann@example.com", "ann@EXAMPLE.com"].map(|email| json!({"email": email}));
    event_object.insert("recipients".to_owned(), json!(addresses));
    app.accept(&event).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    let emails: Vec<&Value> = messages.iter().filter(|message| message["channel"] == "email").collect();
    let reached: Vec<&Value> =
        emails.iter().flat_map(|message| message["recipients"].as_array().expect("a list")).collect();
    assert_eq!(reached.len(), 1, "{emails:#?}");
}
