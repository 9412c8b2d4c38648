//! Posting events: what is accepted, what is rejected, and with which message.

use futures_util::StreamExt;
use futures_util::future::join_all;
use herald::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, Wanted, order_shipped, payment_failed};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn an_event_is_taken_with_what_was_planned() {
    let app = TestApp::start().await;
    let accepted = app.accept(&order_shipped("o-1", "user-42")).await;
    assert_eq!(accepted["duplicate"], false);
    let rules: Vec<&str> =
        accepted["deliveries"].as_array().unwrap().iter().map(|d| d["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["order-shipped-email", "order-shipped-push"]);
    assert_eq!(accepted["trace_url"], format!("/v1/events/{}", accepted["id"].as_str().unwrap()));
    let event = app.get(accepted["trace_url"].as_str().unwrap()).await;
    assert_eq!((&event["key"], &event["data"]["carrier"]), (&json!("o-1"), &json!("DHL")));
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_has_no_effect() {
    let app = TestApp::start().await;
    let first = app.accept(&order_shipped("o-1", "user-42")).await;
    app.run_until_idle().await;
    let mut reordered = order_shipped("o-1", "user-42");
    let data = reordered.as_object_mut().unwrap().remove("data").unwrap();
    reordered["data"] = data;
    let again = app.accept(&reordered).await;
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));
    assert!(again["deliveries"].as_array().unwrap().iter().all(|d| d["state"] == "accepted"), "{again}");
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 2);
}

#[tokio::test]
async fn the_same_id_with_other_content_is_a_conflict() {
    let app = TestApp::start().await;
    let first = app.accept(&order_shipped("o-1", "user-42")).await;
    let (status, problem) = app.post(&order_shipped("o-1", "user-43")).await;
    assert_eq!((status, &problem["code"]), (409, &json!("different_content")));
    assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(first["id"].as_str().unwrap()));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM events").await, 1);
}

#[tokio::test]
async fn one_key_posted_a_hundred_times_at_once_is_one_event() {
    let app = TestApp::start().await;
    let event = payment_failed("p-1", "user-42");
    let answers = join_all((0..100).map(|_| app.accept(&event))).await;
    assert!(answers.iter().all(|answer| answer["id"] == answers[0]["id"]));
    assert_eq!(answers.iter().filter(|answer| answer["duplicate"] == false).count(), 1);
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1);
}

#[tokio::test]
async fn two_replicas_give_every_key_one_event_and_one_effect() {
    let one = TestApp::start().await;
    let two = TestApp::start_with(Wanted {
        database: Some(one.database.clone()),
        sandbox_url: Some(one.sandbox_url.clone()),
        seed: 9,
        ..Wanted::default()
    })
    .await;
    // 1,000 keys posted 100 times each with `FULL=1`.
    let (keys, posts_each) = if std::env::var_os("FULL").is_some() { (1_000, 100) } else { (100, 20) };
    let posts = (0..keys * posts_each).map(|n| {
        let key = n % keys;
        let event = payment_failed(&format!("p-{key}"), "user-42");
        let app = if n / keys % 2 == 0 { &one } else { &two };
        async move { (key, app.accept(&event).await["id"].clone()) }
    });
    let mut posts = futures_util::stream::iter(posts).buffer_unordered(128);
    let mut ids = std::collections::HashMap::new();
    while let Some((key, id)) = posts.next().await {
        assert_eq!(
            *ids.entry(key).or_insert_with(|| id.clone()),
            id,
            "every poster of a key gets the same id"
        );
    }
    one.run_until_idle().await;
    two.run_until_idle().await;
    let recipients: usize =
        one.messages().await.iter().map(|m| m["recipients"].as_array().unwrap().len()).sum();
    assert_eq!(recipients, keys);
}

#[tokio::test]
async fn what_is_not_json_or_can_t_be_kept_is_refused_with_400() {
    let app = TestApp::start().await;
    let deep = format!(r#"{{"id":"x","type":"a","data":{}{}}}"#, "[".repeat(40), "]".repeat(40));
    for (body, words) in [
        ("", "empty"),
        ("{", "ends too early"),
        ("[]", "JSON object"),
        (r#"{"id":"x","id":"y"}"#, "duplicate key `id`"),
        (r#"{"id":"x","type":"a","data":{"n":99999999999999999999}}"#, "beyond 64 bits"),
        (r#"{"id":"x\u0000"}"#, "NUL"),
        (deep.as_str(), "deeper than 32"),
        (r#"{"id":"x","tpye":"order.shipped"}"#, "`tpye`"),
        (r#"{"type":"order.shipped"}"#, "requires an id"),
    ] {
        let answer = app.post_raw("/v1/events", &[JSON], body.to_owned()).await;
        assert_eq!(answer.status(), 400, "{body}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(words), "{body}: {problem}");
    }
    let answer = app.post_raw("/v1/events", &[JSON], b"{\"id\":\"\xff\"}".to_vec()).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM event_keys").await, 0);
}

#[tokio::test]
async fn an_unknown_field_names_the_nearest_known_one() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "user-42");
    event["recipent"] = event["recipient"].take();
    let (status, problem) = app.post(&event).await;
    assert_eq!((status, &problem["code"]), (400, &json!("unknown_field")));
    assert_eq!(problem["errors"][0]["hint"], "did you mean `recipient`?");
}

#[tokio::test]
async fn a_header_can_name_the_event() {
    let app = TestApp::start().await;
    let mut event = order_shipped("", "user-42");
    event.as_object_mut().unwrap().remove("id");
    let headers = [JSON, ("idempotency-key", "from-the-header")];
    let answer = app.post_raw("/v1/events", &headers, event.to_string()).await;
    assert_eq!(answer.status(), 202);
    let again = app.accept(&order_shipped("from-the-header", "user-42")).await;
    assert_eq!(again["duplicate"], true);
}

#[tokio::test]
async fn wrong_types_encodings_sizes_and_methods_are_distinguished() {
    let app = TestApp::start().await;
    let event = order_shipped("o-1", "user-42").to_string();
    let plain = app.post_raw("/v1/events", &[("content-type", "text/plain")], event.clone()).await;
    assert_eq!(plain.status(), 415);
    let zipped = app.post_raw("/v1/events", &[JSON, ("content-encoding", "gzip")], event.clone()).await;
    assert_eq!(zipped.status(), 415);
    let large = format!(r#"{{"id":"x","type":"order.shipped","data":{{"note":"{}"}}}}"#, "x".repeat(300_000));
    assert_eq!(app.post_raw("/v1/events", &[JSON], large).await.status(), 413);
    let (status, problem) = app.call(Method::PUT, "/v1/events", Some(&app.key), None).await;
    assert_eq!((status, &problem["code"]), (405, &json!("method_not_allowed")));
    let (status, problem) = app.call(Method::GET, "/v1/nothing", Some(&app.key), None).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn without_a_key_or_its_scope_nothing_is_shown() {
    let app = TestApp::start().await;
    let event = order_shipped("o-1", "user-42");
    let wrong = "hk_live_00000000000000000000000000000000";
    for key in [None, Some("nonsense"), Some(wrong)] {
        let (status, problem) = app.call(Method::POST, "/v1/events", key, Some(&event)).await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")));
    }
    let reader = app.key_with(vec![Scope::EventsRead]).await;
    let (status, problem) = app.call(Method::POST, "/v1/events", Some(&reader), Some(&event)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("missing_scope")));
    assert!(problem["detail"].as_str().unwrap().contains("events:write"));
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_seconds_everywhere() {
    let app = TestApp::start().await;
    let key = app.key_with(vec![Scope::EventsWrite]).await;
    let event = order_shipped("o-1", "user-42");
    assert_eq!(app.call(Method::POST, "/v1/events", Some(&key), Some(&event)).await.0, 202);
    app.execute("UPDATE api_keys SET revoked_at = created_at WHERE scopes = '{events:write}'").await;
    app.advance(std::time::Duration::from_secs(3)).await;
    assert_eq!(app.call(Method::POST, "/v1/events", Some(&key), Some(&event)).await.0, 401);
}

#[tokio::test]
async fn a_key_posts_only_the_types_that_it_and_its_source_may() {
    let app = TestApp::start().await;
    app.execute("UPDATE sources SET allowed_types = '{payment.*}'").await;
    app.advance(std::time::Duration::from_secs(3)).await;
    assert_eq!(app.post(&payment_failed("p-1", "user-42")).await.0, 202);
    let (status, problem) = app.post(&order_shipped("o-1", "user-42")).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (403, &json!("/type")));
}

#[tokio::test]
async fn every_field_that_is_wrong_is_named_with_its_place() {
    let app = TestApp::start().await;
    let event = json!({
        "id": "o-1", "type": "order.shipped", "recipient": {"external_id": "null"},
        "data": [], "time": "yesterday", "locale": "Deutsch!", "sequence": "1", "expires_at": 7,
    });
    let (status, problem) = app.post(&event).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_fields")));
    let pointers: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    for pointer in ["/recipient/external_id", "/data", "/time", "/locale", "/sequence", "/expires_at"] {
        assert!(pointers.contains(&pointer), "{pointer} is not among {pointers:?}");
    }
}

#[tokio::test]
async fn a_recipient_is_one_label_with_one_id() {
    let app = TestApp::start().await;
    for recipient in [
        json!({"external_id": "a", "crm_id": "b"}),
        json!({"email": "a@b.example", "phone": "+4915112345678"}),
        json!({}),
        json!("user-42"),
        json!({"email": 7}),
    ] {
        let mut event = order_shipped("o-1", "x");
        event["recipient"] = recipient.clone();
        let (status, problem) = app.post(&event).await;
        assert_eq!((status, &problem["errors"][0]["code"]), (422, &json!("bad_recipient")), "{recipient}");
    }
    let mut nobody = order_shipped("o-1", "x");
    nobody.as_object_mut().unwrap().remove("recipient");
    assert_eq!(app.post(&nobody).await.0, 422);
}

#[tokio::test]
async fn an_unknown_type_names_the_nearest_known_one() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "user-42");
    event["type"] = json!("order.shiped");
    let (status, problem) = app.post(&event).await;
    assert_eq!((status, &problem["code"]), (422, &json!("unknown_event_type")));
    assert_eq!(problem["errors"][0]["hint"], "did you mean `order.shipped`?");
}

#[tokio::test]
async fn data_that_does_not_fit_gets_a_pointer_and_a_hint_for_each_error_and_never_the_value() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "user-42");
    event["data"] = json!({"order_id": 7, "carier": "DHL", "eta": "tomorrow-secret"});
    let (status, problem) = app.post(&event).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_data")));
    let errors = problem["errors"].as_array().unwrap();
    let at = |pointer: &str| {
        errors.iter().find(|e| e["pointer"] == pointer).unwrap_or_else(|| panic!("{problem}"))
    };
    assert_eq!(at("/data/carrier")["hint"], "if `carier` is meant, rename it to `carrier`");
    assert_eq!(at("/data/eta")["hint"], "write it as 2026-11-25");
    assert_eq!(at("/data/order_id")["hint"], "send a value of type string");
    assert!(!problem.to_string().contains("tomorrow-secret"));
}

#[tokio::test]
async fn an_event_whose_time_is_over_is_refused() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "user-42");
    event["expires_at"] = json!("2026-11-24T09:59:59Z");
    assert_eq!(app.post(&event).await.1["code"], "expired");
}

#[tokio::test]
async fn a_source_over_its_rate_learns_how_long_to_wait() {
    let app = TestApp::start().await;
    app.execute("UPDATE sources SET events_per_second = 2").await;
    app.advance(std::time::Duration::from_secs(3)).await;
    for n in 0..2 {
        app.accept(&payment_failed(&format!("p-{n}"), "user-42")).await;
    }
    let answer = app.post_raw("/v1/events", &[JSON], payment_failed("p-2", "user-42").to_string()).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "1");
}

#[tokio::test]
async fn with_the_database_away_the_answer_is_503_and_never_202() {
    let app = TestApp::start().await;
    app.accept(&order_shipped("o-1", "user-42")).await;
    app.execute("ALTER TABLE event_keys RENAME TO event_keys_away").await;
    let (status, _) = app.post(&order_shipped("o-2", "user-42")).await;
    assert_eq!(status, 500, "the database refuses the statement itself");
    app.execute("ALTER TABLE event_keys_away RENAME TO event_keys").await;
    app.herald.store.close().await;
    let answer = app.post_raw("/v1/events", &[JSON], order_shipped("o-3", "user-42").to_string()).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_stores_nothing() {
    let app = TestApp::start().await;
    let event = order_shipped("o-1", "user-42");
    let (status, body) =
        app.call(Method::POST, "/v1/events?dry_run=true", Some(&app.key), Some(&event)).await;
    assert_eq!((status, body["deliveries"].as_array().unwrap().len()), (202, 2));
    assert!(body.get("trace_url").is_none());
    for table in ["events", "event_keys", "deliveries"] {
        let query: &'static str = match table {
            "events" => "SELECT count(*) FROM events",
            "event_keys" => "SELECT count(*) FROM event_keys",
            _ => "SELECT count(*) FROM deliveries",
        };
        assert_eq!(app.sql::<i64>(query).await, 0, "{table}");
    }
}

#[tokio::test]
async fn what_another_replica_has_applied_is_known_at_once() {
    let app = TestApp::start().await;
    app.accept(&order_shipped("o-1", "user-42")).await;
    app.apply(&[("events/parcel.lost/schema.json", r#"{"type": "object"}"#)]).await;
    let accepted =
        app.accept(&json!({"id": "l-1", "type": "parcel.lost", "recipient": {"external_id": "u"}})).await;
    assert_eq!(accepted["decisions"][0]["code"], "no_rule");
}

#[tokio::test]
async fn a_wrong_key_for_repeats_is_refused_and_the_id_in_the_body_comes_first() {
    let app = TestApp::start().await;
    let mut event = order_shipped("", "user-42");
    event.as_object_mut().unwrap().remove("id");
    let long = "x".repeat(256);
    for key in ["with space", long.as_str(), ""] {
        let answer = app.post_raw("/v1/events", &[JSON, ("idempotency-key", key)], event.to_string()).await;
        assert_eq!(answer.status(), 422, "{key}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["errors"][0]["pointer"], "Idempotency-Key");
    }
    event["id"] = json!("in-the-body");
    let headers = [JSON, ("idempotency-key", "in-the-header")];
    assert_eq!(app.post_raw("/v1/events", &headers, event.to_string()).await.status(), 202);
    assert_eq!(app.sql::<String>("SELECT event_key FROM events").await, "in-the-body");
    for id in [json!(7), json!(""), json!("ä"), json!("a b"), json!("x".repeat(256))] {
        event["id"] = id.clone();
        let (status, problem) = app.post(&event).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/id")), "{id}");
    }
}

#[tokio::test]
async fn times_are_read_with_their_offset_and_out_of_range_ones_are_refused() {
    let app = TestApp::start().await;
    for (time, status) in [
        ("2026-11-24T12:00:00+02:00", 202),
        ("2026-11-24T10:00:00.123456789Z", 202),
        ("2026-11-24T10:00:00", 422),
        ("2026-11-24", 422),
        ("0000-01-01T00:00:00Z", 422),
        ("9999-12-31T23:59:59Z", 202),
        ("2026-13-01T00:00:00Z", 422),
    ] {
        let mut event = order_shipped(&format!("at-{time}"), "user-42");
        event["time"] = json!(time);
        let (got, problem) = app.post(&event).await;
        assert_eq!(got, status, "{time}: {problem}");
    }
}

#[tokio::test]
async fn a_dry_run_that_is_none_and_unknown_parameters_are_refused() {
    let app = TestApp::start().await;
    let event = order_shipped("o-1", "user-42");
    for query in ["dry_run=yes", "dryrun=true", "dry_run=true&dry_run=false"] {
        let path = format!("/v1/events?{query}");
        let (status, problem) = app.call(Method::POST, &path, Some(&app.key), Some(&event)).await;
        assert_eq!((status, &problem["code"]), (400, &json!("bad_parameter")), "{query}");
    }
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn a_method_that_is_not_taken_is_told_which_are() {
    let app = TestApp::start().await;
    let (status, _) = app.call(Method::DELETE, "/v1/events", Some(&app.key), None).await;
    assert_eq!(status, 405);
    let answer = app.post_raw("/healthz", &[], "").await;
    assert_eq!(answer.status(), 405);
    assert!(answer.headers()["allow"].to_str().unwrap().contains("GET"), "{:?}", answer.headers());
}

#[tokio::test]
async fn when_too_many_wait_posters_are_sent_away_for_a_while() {
    let few = vec![("HERALD_INGEST__WAITING_REQUESTS", "8".to_owned())];
    let app = TestApp::start_with(Wanted { settings: few, ..Wanted::default() }).await;
    let events: Vec<Value> = (0..200).map(|n| payment_failed(&format!("p-{n}"), "user-42")).collect();
    let answer: Value =
        app.post_raw("/v1/events/batch", &[JSON], json!(events).to_string()).await.json().await.unwrap();
    let results = answer["results"].as_array().unwrap();
    assert!(results.iter().any(|r| r["problem"]["code"] == "unavailable"), "{answer}");
    let accepted = answer["accepted"].as_i64().unwrap();
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM events").await, accepted, "a 503 stores nothing");
    assert!(accepted >= 8);
}

#[tokio::test]
async fn a_dry_run_of_a_repeat_says_that_it_is_one() {
    let app = TestApp::start().await;
    let event = order_shipped("o-1", "user-42");
    let first = app.accept(&event).await;
    let dry = async |event: &Value| {
        app.call(Method::POST, "/v1/events?dry_run=true", Some(&app.key), Some(event)).await
    };
    let (status, body) = dry(&event).await;
    assert_eq!((status, &body["duplicate"], &body["id"]), (202, &json!(true), &first["id"]));
    assert_eq!(dry(&order_shipped("o-1", "user-43")).await.1["code"], "different_content");
}
