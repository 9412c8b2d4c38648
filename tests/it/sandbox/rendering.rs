//! What recipients see.

use serde_json::{Value, json};

use super::support::{Served, push};

async fn send_template(served: &Served, fields: Value, request: Value) {
    let id = served.template(fields).await;
    served.accept(&push(super::support::merged(json!({"template_id": id, "contents": null}), request))).await;
}

#[tokio::test]
async fn custom_data_fills_the_template_for_each_recipient() {
    let served = Served::start().await;
    let body = "{% assign herald = message.custom_data.users[subscription.external_id] | default: message.custom_data.all %}Order {{ herald.o }}";
    let data = json!({"users": {"a": {"o": 1}, "b": {"o": 2}}});
    let to = json!({"include_aliases": {"external_id": ["a", "b"]}, "custom_data": data});
    send_template(&served, json!({"contents": {"en": body}}), to).await;
    let message = &served.sandbox.messages()[0];
    let seen: Vec<_> =
        message.recipients.iter().map(|to| (to.id.as_str(), &to.rendered["contents"])).collect();
    assert_eq!(seen, [("a", &json!("Order 1")), ("b", &json!("Order 2"))]);
    assert!(message.recipients.iter().all(|to| to.blanks.is_empty()), "{:?}", message.recipients);
}

#[tokio::test]
async fn a_missing_value_leaves_a_blank_that_is_listed() {
    let served = Served::start().await;
    let fields =
        json!({"contents": {"en": "Hi {{ message.custom_data.name }}, bye"}, "headings": {"en": "ok"}});
    send_template(&served, fields, json!({"custom_data": {"nam": "Ann"}})).await;
    let seen = served.seen();
    assert_eq!(seen.rendered["contents"], "Hi , bye");
    assert_eq!(seen.blanks, ["message.custom_data.name"]);
}

#[tokio::test]
async fn broken_liquid_is_sent_empty_and_reported() {
    let served = Served::start().await;
    send_template(
        &served,
        json!({"contents": {"en": "Hi {{ message."}, "headings": {"en": "ok"}}),
        json!({}),
    )
    .await;
    let seen = served.seen();
    assert_eq!((&seen.rendered["contents"], &seen.rendered["headings"]), (&json!(""), &json!("ok")));
    assert!(seen.broken[0].starts_with("contents: "), "{:?}", seen.broken);
}

#[tokio::test]
async fn what_the_engine_can_t_run_reads_as_it_reports_it() {
    let served = Served::start().await;
    let person = json!([{"external_id": "u", "tags": {"points": "7"}}]);
    served.post("/_sandbox/users", &person).await;
    let fields = json!({
        "contents": {"en": "{% if user.tags.points > 5 %}many{% endif %}!"},
        "headings": {"en": "{{ user.tags.nick | default: \"{friend}\" }}"},
        "subtitle": {"en": "{{ '1,234' | plus: 1 }}"},
    });
    send_template(&served, fields, json!({"include_aliases": {"external_id": ["u"]}})).await;
    let seen = served.seen();
    assert_eq!(seen.rendered["contents"], "Liquid error: comparison of String with 5 failed!");
    assert_eq!((&seen.rendered["headings"], &seen.rendered["subtitle"]), (&json!(""), &json!("2")));
    assert_eq!(seen.broken.len(), 2, "{:?}", seen.broken);
}

#[tokio::test]
async fn each_person_reads_their_own_language_else_english() {
    let served = Served::start().await;
    let people = json!([{"external_id": "de", "language": "de"}, {"external_id": "fr", "language": "fr"}]);
    served.post("/_sandbox/users", &people).await;
    let request = json!({"include_aliases": {"external_id": ["de", "fr", "x"]}, "contents": {"en": "Hi", "de": "Hallo"}});
    served.accept(&push(request)).await;
    let message = &served.sandbox.messages()[0];
    let seen: Vec<_> =
        message.recipients.iter().map(|to| to.rendered["contents"].as_str().unwrap()).collect();
    assert_eq!(seen, ["Hallo", "Hi", "Hi"]);
}

#[tokio::test]
async fn inline_fields_override_the_templates_and_run_as_liquid_too() {
    let served = Served::start().await;
    let fields = json!({"contents": {"en": "from template"}, "headings": {"en": "{{ template.name }}"}});
    let request = json!({"contents": {"en": "{{ message.custom_data.x }} at {{ app.name }}"}, "custom_data": {"x": "inline"}, "url": "https://x.example/{{ message.custom_data.x }}"});
    send_template(&served, fields, request).await;
    let seen = served.seen();
    assert_eq!(seen.rendered["contents"], "inline at Herald sandbox");
    assert_eq!(seen.rendered["headings"], "a template");
    assert_eq!(seen.rendered["url"], "https://x.example/inline");
}

#[tokio::test]
async fn users_and_their_addresses_are_at_hand() {
    let served = Served::start().await;
    let person = json!({"external_id": "ann", "tags": {"plan": "gold"}, "subscriptions": [{"type": "Email", "token": "ann@b.c"}]});
    served.post("/_sandbox/users", &person).await;
    let body = "{{ user.external_id }} {{ user.tags.plan }} {{ subscription.email }} {{ user.language }} {{ subscription.unsubscribe_token | size }}";
    let fields =
        json!({"isEmail": true, "email_subject": "{{ subscription.external_id }}", "email_body": body});
    let request = json!({"target_channel": "email", "include_aliases": {"external_id": ["ann"]}, "email_preheader": "pre {{ message.id }}"});
    send_template(&served, fields, request).await;
    let seen = served.seen();
    assert_eq!(seen.rendered["email_subject"], "ann");
    assert!(
        seen.rendered["email_body"].as_str().unwrap().starts_with("ann gold ann@b.c en"),
        "{:?}",
        seen.rendered
    );
    let id = served.sandbox.messages()[0].id;
    assert_eq!(seen.rendered["email_preheader"], format!("pre {id}"));
}

#[tokio::test]
async fn custom_data_without_a_template_is_of_no_use_and_noted() {
    let served = Served::start().await;
    let body =
        json!({"contents": {"en": "[{{ message.custom_data.x }}]"}, "custom_data": {"x": 1}, "contnets": 1});
    served.accept(&push(body)).await;
    assert_eq!(served.seen().rendered["contents"], "[]");
    let notes = &served.sandbox.messages()[0].notes;
    assert!(notes.iter().any(|note| note.contains("custom_data without template_id")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("`contnets`")), "{notes:?}");
}

#[tokio::test]
async fn a_time_without_an_offset_is_taken_eleven_hours_west_and_noted() {
    let served = Served::start().await;
    let now = served.get("/_sandbox/clock").await.json()["now"].as_str().unwrap().to_owned();
    let local = chrono::DateTime::parse_from_rfc3339(&now).unwrap().format("%Y-%m-%dT%H:%M:%S").to_string();
    served.accept(&push(json!({"send_after": local}))).await;
    let message = &served.sandbox.messages()[0];
    assert_eq!(
        (message.send_after.unwrap() - message.received_at).num_minutes() / 30,
        21,
        "nearly eleven hours"
    );
    assert!(message.notes[0].contains("UTC-11"), "{:?}", message.notes);
}
