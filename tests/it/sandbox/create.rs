//! Create message: checks and their texts, the three kinds of 200, idempotency, the rate limit.

use serde_json::{Value, json};

use super::support::{APP, Served, merged, push, unlimited};
use herald::sandbox::SandboxOptions;
use reqwest::Method;

const DENIED: &str = "Access denied.  Please include an 'Authorization: ...' header with a valid API key (https://documentation.onesignal.com/docs/en/keys-and-ids#api-keys).";
const NOBODY: &str =
    "You must include which players, segments, or tags you wish to send this notification to.";
const NO_ENGLISH: &str = "Message Notifications must have English language content";
const ONE_CHANNEL: &str = "Platforms You may only send to one delivery channel at a time. Make sure you are only including one of push platforms, Email, or SMS.";
const NO_APP: &str = "app_id not found. You may be missing a Content-Type: application/json header.";
const BAD_APP: &str = "Request is malformed: Failed to parse app_id from request";
const KEY_A: &str = "0190a5b0-0000-7000-8000-00000000000a";

fn email(more: Value) -> Value {
    let body = json!({
        "app_id": APP, "target_channel": "email", "include_aliases": {"external_id": ["user-42"]},
        "email_subject": "Hi", "email_body": "<p>Hi</p>",
    });
    merged(body, more)
}

fn sms(more: Value) -> Value {
    merged(push(json!({"target_channel": "sms"})), more)
}

#[tokio::test]
async fn a_call_without_the_apps_own_key_is_denied() {
    let served = Served::start().await;
    let call = |authorization: Option<&'static str>| {
        let request = reqwest::Client::new().post(served.url("/notifications")).json(&push(json!({})));
        match authorization {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    };
    for authorization in
        [None, Some("Key wrong"), Some("Bearer os_v2_app_sandbox"), Some("os_v2_app_sandbox")]
    {
        let answer = served.answer(call(authorization)).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (403, DENIED), "{authorization:?}");
    }
    let stranger = push(json!({"app_id": "5a0d0000-0000-4000-8000-00000000ffff"}));
    let answer = served.send(&stranger).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (403, DENIED));
}

#[tokio::test]
async fn a_body_without_a_readable_app_id_is_refused() {
    let served = Served::start().await;
    assert_eq!(served.send(&push(json!({"app_id": null}))).await.error(), NO_APP);
    assert_eq!(served.send(&push(json!({"app_id": "mine"}))).await.error(), BAD_APP);
    let post = || served.request(Method::POST, "/notifications");
    assert_eq!(
        served.answer(post().body(push(json!({})).to_string())).await.error(),
        NO_APP,
        "no content type"
    );
    let broken = post().header("Content-Type", "application/json").body("{\"app_id\":");
    assert_eq!(served.answer(broken).await.error(), NO_APP);
}

async fn refused(served: &Served, cases: &[(Value, &str)]) {
    for (body, text) in cases {
        let answer = served.send(body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.error().contains(text), "{body}: {}", answer.text);
    }
    assert_eq!(served.sandbox.messages(), []);
}

#[tokio::test]
async fn each_mistake_in_the_targets_has_its_text() {
    let served = Served::start().await;
    let cases = [
        (push(json!({"include_aliases": null})), NOBODY),
        (push(json!({"include_aliases": {}})), NOBODY),
        (push(json!({"include_aliases": {"external_id": []}})), NOBODY),
        (push(json!({"included_segments": ["All"]})), "You may only use one targeting method at a time"),
        (push(json!({"excluded_segments": ["All"]})), "You may only use one targeting method at a time"),
        (push(json!({"include_aliases": {"external_id": "user-42"}})), "include_aliases must be an object"),
        (push(json!({"include_aliases": {"external_id": [42]}})), "include_aliases must be an object"),
        (push(json!({"target_channel": null})), "target_channel is required with include_aliases"),
        (push(json!({"target_channel": "fax"})), "Invalid channel"),
        (
            push(json!({"include_aliases": null, "include_subscription_ids": ["nope"]})),
            "Incorrect subscription_id format in include_subscription_ids (not a valid UUID): nope",
        ),
        (sms(json!({"include_aliases": null, "include_phone_numbers": ["0123"]})), "(not E.164): 0123"),
        (
            email(json!({"include_aliases": null, "email_to": ["nobody"]})),
            "Incorrect email format in email_to",
        ),
        (push(json!({"include_aliases": null, "filters": {}})), NOBODY),
        (push(json!({"include_aliases": null, "filters": ["x"]})), "filters must be a list"),
    ];
    refused(&served, &cases).await;
}

#[tokio::test]
async fn each_mistake_in_the_text_and_channel_has_its_text() {
    let served = Served::start().await;
    let push_template = served.template(json!({"contents": {"en": "x"}})).await;
    let cases = [
        (push(json!({"contents": null})), NO_ENGLISH),
        (push(json!({"contents": {"de": "Hallo"}})), NO_ENGLISH),
        (sms(json!({"contents": null})), NO_ENGLISH),
        (push(json!({"contents": {"de": "x"}, "template_id": push_template})), NO_ENGLISH),
        (
            push(json!({"headings": {"en": "a", "de": null}})),
            "Notification headings must not be null for any languages.",
        ),
        (push(json!({"email_body": "x"})), ONE_CHANNEL),
        (push(json!({"sms_from": "+123"})), ONE_CHANNEL),
        (email(json!({"headings": {"en": "x"}})), ONE_CHANNEL),
        (email(json!({"contents": {"en": "x"}})), ONE_CHANNEL),
        (sms(json!({"email_subject": "x"})), ONE_CHANNEL),
        (push(json!({"include_aliases": null, "email_to": ["a@b.c"]})), ONE_CHANNEL),
        (sms(json!({"template_id": push_template})), ONE_CHANNEL),
        (email(json!({"email_body": ""})), "'message' Email body can not be blank"),
        (email(json!({"email_subject": null})), "'message' Email subject can not be blank"),
    ];
    refused(&served, &cases).await;
}

#[tokio::test]
async fn each_mistake_in_a_field_has_its_text() {
    let served = Served::start().await;
    let push_template = served.template(json!({"contents": {"en": "x"}})).await;
    let long = "x".repeat(2048);
    let cases = [
        (push(json!({"template_id": "nope"})), "Incorrect template_id format"),
        (push(json!({"idempotency_key": "order-1"})), "idempotency_key must be a valid UUID."),
        (push(json!({"external_id": "user-42"})), "external_id must be a valid UUID."),
        (push(json!({"custom_data": "x", "template_id": push_template})), "custom_data must be an object."),
        (
            push(json!({"custom_data": {"x": long}})),
            "custom_data is too large: 2056 bytes, the limit is 2048 bytes.",
        ),
        (push(json!({"data": {"x": long}})), "data is too large"),
        (
            push(json!({"contents": {"en": "{% for x in y %}{% endfor %}"}})),
            "'for' is not allowed in push contents",
        ),
        (push(json!({"url": "{%- for x in y %}{% endfor %}"})), "'for' is not allowed in push url"),
        (push(json!({"send_after": "tomorrow"})), "send_after must be an ISO 8601"),
        (push(json!({"send_after": "2999-01-01T00:00:00Z"})), "send_after may be 30 days ahead at most."),
        (push(json!({"delayed_option": "soon"})), "delayed_option must be"),
        (sms(json!({"delayed_option": "timezone"})), "delayed_option is not available for SMS."),
        (
            push(json!({"delayed_option": "timezone", "throttle_rate_per_minute": 5})),
            "throttle_rate_per_minute must be 0",
        ),
        (push(json!({"name": "x".repeat(129)})), "name must be a text of at most 128"),
        (push(json!({"collapse_id": "x".repeat(65)})), "collapse_id must be a text of at most 64"),
        (push(json!({"buttons": [1, 2, 3, 4]})), "buttons must be a list of at most 3"),
        (
            email(json!({"email_bcc": ["1", "2", "3", "4", "5", "6"]})),
            "email_bcc must be a list of at most 5",
        ),
        (push(json!({"ttl": -1})), "ttl must be a whole number"),
        (push(json!({"ttl": 2_419_201})), "ttl must be a whole number"),
        (push(json!({"priority": 7})), "priority must be 10 or 5."),
        (push(json!({"ios_badgeType": "Less"})), "ios_badgeType must be one of"),
    ];
    refused(&served, &cases).await;
}

#[tokio::test]
async fn an_unknown_template_is_not_found() {
    let served = Served::start().await;
    let answer = served.send(&push(json!({"template_id": KEY_A, "contents": null}))).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (404, "template not found"));
}

#[tokio::test]
async fn what_the_contract_allows_is_accepted() {
    let served = Served::start().await;
    let id = "0190a5b0-0000-7000-8000-0000000000ff";
    let fits = "x".repeat(2040);
    let template = served.template(json!({"isEmail": true, "email_subject": "s", "email_body": "b"})).await;
    for body in [
        push(json!({"content_available": true, "contents": null})),
        push(
            json!({"data": {"x": fits}, "ttl": 0, "priority": 5, "isIos": true, "enable_frequency_cap": false}),
        ),
        push(json!({"include_aliases": null, "target_channel": null, "include_subscription_ids": [id]})),
        push(
            json!({"include_aliases": null, "target_channel": null, "included_segments": ["All"], "excluded_segments": ["x"]}),
        ),
        push(json!({"include_aliases": {"crm": ["1"], "onesignal_id": [id]}})),
        push(
            json!({"send_after": "2026-11-24T08:00:00+01:00", "delayed_option": "last-active", "throttle_rate_per_minute": 0}),
        ),
        email(json!({"include_aliases": null, "target_channel": null, "email_to": ["a@b.c"]})),
        email(
            json!({"email_body": null, "email_subject": null, "template_id": template, "custom_data": {"x": "y".repeat(9000)}}),
        ),
        sms(
            json!({"include_aliases": null, "target_channel": null, "include_phone_numbers": ["+12025550123"]}),
        ),
    ] {
        served.accept(&body).await;
    }
}

#[tokio::test]
async fn more_targets_than_allowed_are_refused() {
    let served = Served::with(SandboxOptions { targets_per_call: 3, ..unlimited() }).await;
    let to = |ids: &[&str]| push(json!({"include_aliases": {"external_id": ids, "crm": ["9"]}}));
    served.accept(&to(&["1", "2"])).await;
    let answer = served.send(&to(&["1", "2", "3"])).await;
    assert!(answer.error().contains("up to 3 recipients"), "{}", answer.text);
}

#[tokio::test]
async fn an_accepted_message_names_its_id_and_key() {
    let served = Served::start().await;
    let answer = served.send(&push(json!({"idempotency_key": KEY_A}))).await.json();
    assert_eq!(answer["external_id"], KEY_A);
    assert!(answer.get("errors").is_none());
    let without = served.send(&push(json!({}))).await.json();
    assert_eq!(without["external_id"], Value::Null);
    assert_eq!(served.sandbox.messages()[1].id.to_string(), without["id"].as_str().unwrap());
}

#[tokio::test]
async fn unsubscribed_people_are_listed_and_unknown_ones_dropped() {
    let served = Served::with(SandboxOptions { strict_users: true, ..unlimited() }).await;
    let people = json!([
        {"external_id": "on", "subscriptions": [{"type": "iOSPush"}, {"type": "Email", "token": "off@b.c", "enabled": false}]},
        {"external_id": "off", "aliases": {"crm": "7"}, "subscriptions": [{"type": "AndroidPush", "enabled": false}]},
        {"external_id": "none", "subscriptions": []},
    ]);
    assert_eq!(served.post("/_sandbox/users", &people).await.json()["known"], 3);
    let aliases = json!({"external_id": ["on", "off", "none", "stranger"], "crm": ["7"]});
    let answer = served.send(&push(json!({"include_aliases": aliases}))).await.json();
    assert_eq!(answer["errors"], json!({"invalid_aliases": {"external_id": ["off", "none"], "crm": ["7"]}}));
    let recipients = &served.sandbox.messages()[0].recipients;
    assert_eq!(recipients.iter().map(|to| to.id.as_str()).collect::<Vec<_>>(), ["on"]);

    let mail = email(json!({"include_aliases": null, "email_to": ["off@b.c", "new@b.c"]}));
    let answer = served.send(&mail).await.json();
    assert_eq!(answer["errors"], json!({"invalid_email_tokens": ["off@b.c"]}));
    let all_the_same = served.send(&merged(mail, json!({"include_unsubscribed": true}))).await;
    assert_eq!((all_the_same.status.as_u16(), all_the_same.json().get("errors")), (200, None));
}

#[tokio::test]
async fn a_message_that_reaches_nobody_has_an_empty_id_and_is_not_remembered() {
    let served = Served::with(SandboxOptions { strict_users: true, ..unlimited() }).await;
    let body = push(json!({"idempotency_key": KEY_A}));
    let answer = served.send(&body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({"id": "", "errors": ["All included players are not subscribed"]}));
    served.post("/_sandbox/users", &json!({"external_id": "user-42"})).await;
    served.accept(&body).await;
    assert_eq!(served.sandbox.messages().len(), 1);
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_for_thirty_days() {
    let served = Served::start().await;
    let body = push(json!({"idempotency_key": KEY_A}));
    let first = served.send(&body).await;
    assert!(first.headers.get("Idempotent-Replayed").is_none());
    // Spaced otherwise, but the same.
    let again = served.request(Method::POST, "/notifications").header("Content-Type", "application/json");
    let again = served.answer(again.body(serde_json::to_string_pretty(&body).unwrap())).await;
    assert_eq!(again.text, first.text);
    assert_eq!(again.headers["Idempotent-Replayed"], "true");
    assert_eq!(served.stats().await["idempotency_mismatches"], 0);

    served.post("/_sandbox/clock", &json!({"advance": "29d 23h"})).await;
    let other = served.send(&push(json!({"idempotency_key": KEY_A, "contents": {"en": "Other"}}))).await;
    assert_eq!(other.text, first.text, "another body is ignored");
    let stats = served.stats().await;
    assert_eq!((&stats["idempotent_replays"], &stats["idempotency_mismatches"]), (&json!(2), &json!(1)));
    assert_eq!((&stats["messages"], &stats["recipients"]), (&json!(1), &json!(1)));

    served.post("/_sandbox/clock", &json!({"advance": "1h"})).await;
    let fresh = served.send(&body).await;
    assert!(fresh.headers.get("Idempotent-Replayed").is_none());
    assert_ne!(fresh.text, first.text);
}

#[tokio::test]
async fn the_keys_old_name_is_remembered_too() {
    let served = Served::start().await;
    let first = served.send(&push(json!({"external_id": KEY_A}))).await;
    let again = served.send(&push(json!({"external_id": KEY_A}))).await;
    assert_eq!((first.text, again.headers["Idempotent-Replayed"].to_str().unwrap()), (again.text, "true"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn simultaneous_calls_with_one_key_make_one_message() {
    let served = Served::start().await;
    let body = push(json!({"idempotency_key": KEY_A}));
    let answers = futures_util::future::join_all((0..64).map(|_| served.send(&body))).await;
    let replayed = answers.iter().filter(|answer| answer.headers.contains_key("Idempotent-Replayed")).count();
    assert_eq!(replayed, 63);
    assert!(answers.iter().all(|answer| answer.text == answers[0].text));
    assert_eq!(served.sandbox.messages().len(), 1);
}

#[tokio::test]
async fn create_and_cancel_share_one_rate_limit() {
    let served = Served::with(SandboxOptions { calls_per_second: 2, ..SandboxOptions::default() }).await;
    let body = push(json!({}));
    served.accept(&body).await;
    let cancelled = served.delete(&format!("/notifications/{KEY_A}?app_id={APP}")).await;
    assert_eq!(cancelled.status, 404);
    let answer = served.send(&body).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (429, "API rate limit exceeded"));
    assert_eq!(answer.headers["Retry-After"], "1");
    assert_eq!(served.get(&format!("/templates?app_id={APP}")).await.status, 200, "only those two");
}

#[tokio::test]
async fn a_scheduled_message_can_be_cancelled_once_and_a_sent_one_never() {
    let served = Served::start().await;
    let path = |id: &str| format!("/notifications/{id}?app_id={APP}");
    let later = served.get("/_sandbox/clock").await.json()["now"].as_str().unwrap().to_owned();
    let later = chrono::DateTime::parse_from_rfc3339(&later).unwrap() + chrono::TimeDelta::hours(1);
    let waiting = served.accept(&push(json!({"send_after": later.to_rfc3339()}))).await;
    assert_eq!(served.get(&path(&waiting)).await.json()["remaining"], 1);
    assert_eq!(served.delete(&path(&waiting)).await.json(), json!({"success": true}));
    assert_eq!(served.delete(&path(&waiting)).await.status, 400);
    assert_eq!(served.get(&path(&waiting)).await.json()["canceled"], true);

    let sent = served.accept(&push(json!({}))).await;
    assert_eq!(served.delete(&path(&sent)).await.error(), "Notification has already been sent");
    let missing = served.delete(&path(KEY_A)).await;
    assert_eq!((missing.status.as_u16(), missing.error().as_str()), (404, "Notification not found"));
}

#[tokio::test]
async fn messages_can_be_viewed_and_listed_for_thirty_days() {
    let served = Served::start().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(served.accept(&push(json!({"name": format!("n{n}")}))).await);
    }
    let view = served.get(&format!("/notifications/{}?app_id={APP}", ids[0])).await.json();
    assert_eq!(
        (&view["successful"], &view["name"], &view["canceled"]),
        (&json!(1), &json!("n0"), &json!(false))
    );
    let listed = |answer: Value| -> Vec<String> {
        let all = answer["notifications"].as_array().unwrap().clone();
        all.iter().map(|message| message["name"].as_str().unwrap().to_owned()).collect()
    };
    let page = served.get(&format!("/notifications?app_id={APP}&limit=2")).await.json();
    assert_eq!(page["total_count"], 3);
    assert_eq!(listed(page), ["n2", "n1"]);
    let forward = format!("/notifications?app_id={APP}&limit=2&time_offset=");
    let page = served.get(&format!("{forward}2020-01-01T00:00:00Z")).await.json();
    let next = page["next_time_offset"].as_str().unwrap().to_owned();
    assert_eq!(listed(page), ["n0", "n1"]);
    assert_eq!(listed(served.get(&format!("{forward}{next}")).await.json()), ["n2"]);
    let wrong = served.get(&format!("/notifications?app_id={APP}&limit=51")).await;
    assert_eq!(wrong.error(), "Invalid limit, must be within 1 to 50");
    assert_eq!(served.get("/notifications").await.error(), BAD_APP);

    served.post("/_sandbox/clock", &json!({"advance": "30d"})).await;
    assert_eq!(served.get(&format!("/notifications/{}?app_id={APP}", ids[0])).await.status, 404);
}
