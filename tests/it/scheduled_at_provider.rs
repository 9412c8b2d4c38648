//! Messages that OneSignal schedules are submitted at once, and recalled when they are cancelled.

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta};
use herald::domain::clock::{Clock, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, Wanted, order_shipped};
use crate::support::processes::{KEY, PATIENCE, Processes, tick};

const RULE: &str = "order-shipped-push";

fn rule() -> Value {
    json!({"event": "order.shipped", "template": RULE, "deliver": "timezone", "time_of_day": "9:00AM"})
}

/// A service whose clock shows what the sandbox's shows, with a rule that leaves the time to OneSignal.
pub async fn start() -> TestApp {
    let app = TestApp::start().await;
    app.put_rule(RULE, &rule()).await;
    in_step(&app).await;
    app
}

async fn in_step(app: &TestApp) {
    let there = app.sandbox_call(Method::GET, "/_sandbox/clock", None).await;
    let there: Timestamp = there["now"].as_str().expect("a time").parse().expect("a time");
    if let Ok(ahead) = (there - app.clock.now()).to_std() {
        app.advance(ahead).await;
    } else {
        let behind = (app.clock.now() - there).to_std().expect("behind");
        advance_sandbox(app, behind).await;
    }
}

async fn advance_sandbox(app: &TestApp, by: Duration) {
    let body = json!({"advance": format!("{}s", by.as_secs() + 1)});
    app.sandbox_call(Method::POST, "/_sandbox/clock", Some(body)).await;
}

pub async fn advance(app: &TestApp, by: Duration) {
    advance_sandbox(app, by).await;
    app.advance(by).await;
}

fn at(app: &TestApp, ahead: TimeDelta) -> String {
    (app.clock.now() + ahead).to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub fn later(app: &TestApp, id: &str, ahead: TimeDelta) -> Value {
    let mut event = order_shipped(id, "u");
    event["send_after"] = json!(at(app, ahead));
    event
}

async fn message(app: &TestApp) -> Value {
    let messages: Vec<Value> =
        app.messages().await.into_iter().filter(|m| !m["request"]["send_after"].is_null()).collect();
    let [message] = messages.as_slice() else { panic!("not one message for later: {messages:?}") };
    message.clone()
}

pub fn cancel_path(accepted: &Value) -> String {
    format!("/v1/events/{}/cancel", accepted["id"].as_str().expect("an id"))
}

/// The state, and the code of the decision that matters most. Those of one millisecond come in no order.
async fn story(app: &TestApp, accepted: &Value) -> (String, String) {
    let delivery = app.delivery(accepted, RULE).await;
    let decisions = delivery["decisions"].as_array().expect("decisions");
    let codes: Vec<&str> = decisions.iter().filter_map(|d| d["code"].as_str()).collect();
    let weighty = ["too_late", "cancelled", "recalling"].into_iter().find(|code| codes.contains(code));
    let code = weighty.or(codes.last().copied()).unwrap_or("-");
    (delivery["state"].as_str().expect("a state").to_owned(), code.to_owned())
}

fn is(state: &str, code: &str) -> (String, String) {
    (state.to_owned(), code.to_owned())
}

#[tokio::test]
async fn it_goes_at_once_with_its_time_and_an_offset() {
    let app = start().await;
    let event = later(&app, "o-1", TimeDelta::days(2));
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    assert_eq!(story(&app, &accepted).await, is("accepted", "-"));
    let request = &message(&app).await["request"];
    let sent: chrono::DateTime<chrono::FixedOffset> =
        request["send_after"].as_str().unwrap().parse().expect("a time with an offset");
    let wanted: Timestamp = event["send_after"].as_str().unwrap().parse().unwrap();
    assert_eq!(sent.to_utc(), wanted);
    assert_eq!(
        (&request["delayed_option"], &request["throttle_rate_per_minute"]),
        (&json!("timezone"), &json!(0))
    );
    assert_eq!(app.delivery(&accepted, RULE).await["send_after"], event["send_after"]);
}

#[tokio::test]
async fn what_is_due_now_names_no_time() {
    let app = start().await;
    app.accept(&order_shipped("o-1", "u")).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    assert!(messages.iter().all(|m| m["request"]["send_after"].is_null()), "{messages:?}");
}

#[tokio::test]
async fn beyond_thirty_days_herald_keeps_it_until_it_is_thirty_days_off() {
    let app = start().await;
    let mut event = later(&app, "o-1", TimeDelta::days(40));
    event["expires_at"] = json!(at(&app, TimeDelta::days(60)));
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "scheduled");
    advance(&app, Duration::from_hours(9 * 24)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "scheduled");
    advance(&app, Duration::from_hours(25)).await;
    app.run_until_idle().await;
    assert_eq!(story(&app, &accepted).await.0, "accepted");
    assert_eq!(message(&app).await["canceled"], false);
}

#[tokio::test]
async fn it_is_taken_back_by_event_by_delivery_by_key_and_by_rule() {
    for how in ["event", "delivery", "key", "rule"] {
        let app = start().await;
        app.put_rule("stop", &json!({"event": "payment.failed", "cancel": "'order:1001'"})).await;
        let mut event = later(&app, "o-1", TimeDelta::days(2));
        event["cancellation_key"] = json!("order:1001");
        event["expires_at"] = json!(at(&app, TimeDelta::days(5)));
        let accepted = app.accept(&event).await;
        app.run_until_idle().await;
        let push = app.delivery(&accepted, RULE).await["id"].as_str().unwrap().to_owned();
        match how {
            "event" => {
                let would = app.act(&format!("{}?dry_run=true", cancel_path(&accepted))).await;
                assert_eq!((&would["recalling"], &would["cancelled"]), (&json!(1), &json!(1)), "{would}");
                let answer = app.act(&cancel_path(&accepted)).await;
                assert_eq!((&answer["recalling"], &answer["too_late"]), (&json!(1), &json!(0)), "{answer}");
            }
            "delivery" => {
                let answer = app.act(&format!("/v1/deliveries/{push}/cancel")).await;
                assert_eq!(answer["recalling"], 1, "{answer}");
            }
            "key" => {
                let body = json!({"key": "order:1001"});
                let answer = app.call(Method::POST, "/v1/cancellations", Some(&app.key), Some(&body)).await.1;
                assert_eq!(answer["recalling"], 1, "{answer}");
            }
            _ => {
                let stopped = app.accept(&crate::support::app::payment_failed("p-1", "v")).await;
                let decisions = stopped["decisions"].as_array().unwrap();
                assert!(decisions.iter().any(|d| d["code"] == "cancelled_others"), "{stopped}");
            }
        }
        assert_eq!(story(&app, &accepted).await, is("accepted", "recalling"), "{how}");
        app.run_until_idle().await;
        assert_eq!(story(&app, &accepted).await, is("cancelled", "cancelled"), "{how}");
        assert_eq!(message(&app).await["canceled"], true, "{how}");
        assert_eq!(
            app.sql::<i64>("SELECT count(*) FROM scheduled_messages WHERE wanted_at IS NOT NULL").await,
            0
        );
        let again = app.act(&cancel_path(&accepted)).await;
        assert_eq!((&again["recalling"], &again["too_late"]), (&json!(0), &json!(0)), "{again}");
    }
}

#[tokio::test]
async fn what_onesignal_has_sent_stays_accepted_and_says_that_it_was_too_late() {
    let app = start().await;
    let accepted = app.accept(&later(&app, "o-1", TimeDelta::hours(2))).await;
    app.run_until_idle().await;
    advance_sandbox(&app, Duration::from_hours(3)).await;
    assert_eq!(app.act(&cancel_path(&accepted)).await["recalling"], 1, "nobody here knows yet");
    app.run_until_idle().await;
    assert_eq!(story(&app, &accepted).await, is("accepted", "too_late"));
    assert_eq!(message(&app).await["canceled"], false);
}

#[tokio::test]
async fn what_onesignal_does_not_know_stays_accepted_too() {
    let app = start().await;
    let accepted = app.accept(&later(&app, "o-1", TimeDelta::hours(2))).await;
    app.run_until_idle().await;
    app.execute("UPDATE scheduled_messages SET provider_message_id = '00000000-0000-4000-8000-000000000000' WHERE provider_message_id IS NOT NULL").await;
    app.act(&cancel_path(&accepted)).await;
    app.run_until_idle().await;
    assert_eq!(story(&app, &accepted).await, is("accepted", "too_late"));
}

#[tokio::test]
async fn a_lost_reply_to_the_cancellation_is_settled_by_looking() {
    let app = start().await;
    let accepted = app.accept(&later(&app, "o-1", TimeDelta::hours(2))).await;
    app.run_until_idle().await;
    app.fault(json!({"endpoint": "notifications", "kind": "reset_after", "probability": 1.0, "times": 1}))
        .await;
    app.act(&cancel_path(&accepted)).await;
    app.run_until_idle().await;
    assert_eq!(story(&app, &accepted).await, is("accepted", "recalling"), "nobody knows yet");
    advance(&app, Duration::from_secs(10)).await;
    app.run_until_idle().await;
    assert_eq!(story(&app, &accepted).await, is("cancelled", "cancelled"));
    let stats = app.stats().await;
    assert!(stats.to_string().contains("notifications.view"), "it was looked after: {stats}");
}

#[tokio::test]
async fn a_lost_reply_to_one_cancellation_leaves_the_others_of_its_round_alone() {
    let app = start().await;
    let mut all = Vec::new();
    for n in 0..3 {
        all.push(app.accept(&later(&app, &format!("o-{n}"), TimeDelta::hours(2))).await);
    }
    app.run_until_idle().await;
    app.fault(json!({"endpoint": "notifications", "kind": "reset_after", "probability": 1.0, "times": 1}))
        .await;
    for one in &all {
        app.act(&cancel_path(one)).await;
    }
    app.herald.pipeline.recall().await.expect("the database answers");
    let mut stories = Vec::new();
    for one in &all {
        stories.push(story(&app, one).await.0);
    }
    stories.sort();
    assert_eq!(stories, ["accepted", "cancelled", "cancelled"]);
}

#[tokio::test]
async fn a_rate_limit_and_a_refused_key_change_nothing_and_it_is_tried_again() {
    for status in [429, 403, 503] {
        let app = start().await;
        let accepted = app.accept(&later(&app, "o-1", TimeDelta::hours(5))).await;
        app.run_until_idle().await;
        let fault = json!({"endpoint": "notifications", "kind": "status", "status": status, "probability": 1.0, "times": 1});
        app.fault(fault).await;
        app.act(&cancel_path(&accepted)).await;
        app.run_until_idle().await;
        assert_eq!(story(&app, &accepted).await, is("accepted", "recalling"), "{status}");
        for _ in 0..4 {
            advance(&app, Duration::from_mins(5)).await;
            app.run_until_idle().await;
        }
        assert_eq!(story(&app, &accepted).await, is("cancelled", "cancelled"), "{status}");
        assert_eq!(message(&app).await["canceled"], true, "{status}");
    }
}

#[tokio::test]
async fn one_that_is_cancelled_while_its_call_is_under_way_is_taken_back_once_it_has_arrived() {
    let app = start().await;
    let accepted = app.accept(&later(&app, "o-1", TimeDelta::hours(2))).await;
    assert_eq!(story(&app, &accepted).await.0, "sending");
    let answer = app.act(&cancel_path(&accepted)).await;
    assert_eq!(answer["recalling"], 1, "{answer}");
    app.run_until_idle().await;
    assert_eq!(story(&app, &accepted).await, is("cancelled", "cancelled"));
    assert_eq!(message(&app).await["canceled"], true);
}

#[tokio::test]
async fn one_that_is_cancelled_on_its_way_and_comes_back_unsent_does_not_go_out_again() {
    let app = start().await;
    let fault = json!({"endpoint": "notifications", "kind": "status", "status": 429, "probability": 1.0});
    app.fault(fault).await;
    let accepted = app.accept(&later(&app, "o-1", TimeDelta::hours(2))).await;
    app.act(&cancel_path(&accepted)).await;
    app.run_until_idle().await;
    assert_eq!(story(&app, &accepted).await.0, "cancelled");
    app.clear_faults().await;
    advance(&app, Duration::from_hours(3)).await;
    app.run_until_idle().await;
    assert!(app.messages().await.iter().all(|m| m["request"]["send_after"].is_null()));
}

#[tokio::test]
async fn people_of_one_event_share_a_call_that_is_taken_back_when_all_of_them_are_cancelled() {
    let app = start().await;
    let mut event = later(&app, "o-1", TimeDelta::hours(2));
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = json!([{"external_id": "anna"}, {"external_id": "berta"}]);
    let accepted = app.accept(&event).await;
    let other = later(&app, "o-2", TimeDelta::hours(2));
    let other = app.accept(&other).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    let for_later = messages.iter().filter(|m| !m["request"]["send_after"].is_null()).count();
    assert_eq!(for_later, 2, "one call an event");
    let ids: Vec<&str> = accepted["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|d| d["rule"] == RULE)
        .map(|d| d["id"].as_str().unwrap())
        .collect();
    let answer = app.act(&format!("/v1/deliveries/{}/cancel", ids[0])).await;
    assert_eq!(answer["deliveries"][0]["outcome"], "shares_call", "{answer}");
    app.run_until_idle().await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'cancelled'").await, 0);
    let answer = app.act(&format!("/v1/deliveries/{}/cancel", ids[1])).await;
    assert_eq!(answer["deliveries"][0]["outcome"], "recalling", "{answer}");
    app.run_until_idle().await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'cancelled'").await, 2);
    assert_eq!(story(&app, &other).await.0, "accepted");
}

#[tokio::test]
async fn a_wish_that_can_t_be_carried_out_is_given_up_with_a_word() {
    let app = start().await;
    let mut event = later(&app, "o-1", TimeDelta::hours(2));
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = json!([{"external_id": "anna"}, {"external_id": "berta"}]);
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    let of_rule: Vec<&Value> =
        accepted["deliveries"].as_array().unwrap().iter().filter(|d| d["rule"] == RULE).collect();
    let id = of_rule[0]["id"].as_str().unwrap();
    app.act(&format!("/v1/deliveries/{id}/cancel")).await;
    advance(&app, Duration::from_hours(30)).await;
    app.run_until_idle().await;
    let delivery = app.get(&format!("/v1/deliveries/{id}")).await;
    let last = delivery["decisions"].as_array().unwrap().last().unwrap();
    assert_eq!((&delivery["state"], &last["code"]), (&json!("accepted"), &json!("too_late")), "{delivery}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM scheduled_messages").await, 0);
}

#[tokio::test]
async fn two_replicas_take_a_message_back_once() {
    let app = start().await;
    let twin = app.replica().await;
    twin.clock.advance((app.clock.now() - twin.clock.now()).to_std().unwrap_or_default());
    twin.advance(Duration::ZERO).await;
    let mut all = Vec::new();
    for n in 0..10 {
        all.push(app.accept(&later(&app, &format!("o-{n}"), TimeDelta::hours(2))).await);
    }
    app.run_until_idle().await;
    for one in &all {
        app.act(&cancel_path(one)).await;
    }
    let (here, there) = tokio::join!(app.herald.pipeline.recall(), twin.herald.pipeline.recall());
    assert_eq!(here.unwrap() + there.unwrap(), 10);
    for one in &all {
        assert_eq!(story(&app, one).await, is("cancelled", "cancelled"));
    }
}

/// The process dies between OneSignal's answer and writing it down: the next one looks, and the delivery is cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_after_the_cancellation_leaves_it_to_the_next_one() {
    let mut processes = Processes::start(&[]).await;
    let client = reqwest::Client::new();
    let changed = client
        .put(format!("{}/v1/rules/{RULE}", processes.url()))
        .bearer_auth(KEY)
        .header("if-match", "\"1\"")
        .json(&rule())
        .send()
        .await
        .expect("an answer");
    assert!(changed.status().is_success(), "{}", changed.status());
    processes.kill();
    processes.start_again(&[("HERALD_CRASH_POINT", "after_recall")]).await;
    let there = processes.sandbox_json("/_sandbox/clock").await;
    let there: Timestamp = there["now"].as_str().expect("a time").parse().expect("a time");
    let mut event = order_shipped("o-1", "u");
    let send_after = there + TimeDelta::hours(5);
    event["send_after"] = json!(send_after.to_rfc3339_opts(SecondsFormat::Secs, true));
    let accepted = processes.post(&event).await.expect("accepted");
    // The mail keeps its time with Herald; the push is at OneSignal.
    while processes.count("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await == 0 {
        tick().await;
    }
    let cancel = client.post(format!("{}{}", processes.url(), cancel_path(&accepted))).bearer_auth(KEY);
    let answer: Value = cancel.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&answer["recalling"], &answer["cancelled"]), (&json!(1), &json!(1)), "{answer}");
    processes.wait_until_ended().await;
    let cancelled = "SELECT count(*) FROM deliveries WHERE state = 'cancelled'";
    assert_eq!(processes.count(cancelled).await, 1, "the mail alone");
    processes.start_again(&[]).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while processes.count(cancelled).await < 2 {
        assert!(std::time::Instant::now() < deadline, "the push was not settled");
        tick().await;
    }
    let too_late = processes.count("SELECT count(*) FROM decisions WHERE code = 'too_late'").await;
    assert_eq!(too_late, 0, "it came in time");
}

#[tokio::test]
async fn a_message_that_a_person_cancelled_at_onesignal_counts_as_taken_back() {
    let app = start().await;
    let accepted = app.accept(&later(&app, "o-1", TimeDelta::hours(2))).await;
    app.run_until_idle().await;
    let id = message(&app).await["id"].as_str().expect("an id").to_owned();
    let path = format!("/notifications/{id}?app_id=5a0d0000-0000-4000-8000-000000000001");
    app.sandbox_call(Method::DELETE, &path, None).await;
    app.act(&cancel_path(&accepted)).await;
    app.run_until_idle().await;
    assert_eq!(story(&app, &accepted).await, is("cancelled", "cancelled"));
}

#[tokio::test]
async fn a_try_that_the_rate_left_no_call_for_does_not_count() {
    let rate = ("HERALD_ONESIGNAL__CALLS_PER_SECOND", "1".to_owned());
    let app = TestApp::start_with(Wanted { settings: vec![rate], ..Wanted::default() }).await;
    app.put_rule(RULE, &rule()).await;
    in_step(&app).await;
    let mut all = Vec::new();
    for n in 0..3 {
        all.push(app.accept(&later(&app, &format!("o-{n}"), TimeDelta::hours(2))).await);
    }
    for _ in 0..20 {
        app.advance(Duration::from_secs(2)).await;
        app.run_until_idle().await;
    }
    for one in &all {
        app.act(&cancel_path(one)).await;
    }
    let made = app.herald.pipeline.recall().await.expect("the database answers");
    assert_eq!(made, 1, "the rate is one call a second");
    let tries: i64 = app.sql("SELECT sum(tries) FROM scheduled_messages").await;
    assert_eq!(tries, 0, "those that are left were not tried");
}
