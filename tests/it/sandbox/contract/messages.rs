//! Create, cancel, view and list message.

use serde_json::{Value, json};

use super::{Caller, Check, check};
use herald::sandbox::FrequencyCap;

const CREATE: &str = "POST /notifications";
const VIEW: &str = "GET /notifications/{id}";

fn to(caller: &Caller, ids: &[&str]) -> Value {
    json!({
        "app_id": caller.app, "target_channel": "push", "include_aliases": {"external_id": ids},
        "contents": {"en": "Hello"},
    })
}

/// Makes people known, subscribed on every channel.
async fn know(caller: &Caller, ids: &[&str]) {
    let people: Vec<Value> = ids.iter().map(|id| json!({"external_id": id})).collect();
    caller.done("/_sandbox/users", json!(people)).await;
}

async fn advance(caller: &Caller, step: &str) {
    caller.done("/_sandbox/clock", json!({"advance": step})).await;
}

async fn view(caller: &Caller, id: &Value) -> Value {
    let path = format!("/notifications/{}?app_id={{app}}", id.as_str().unwrap());
    let answer = caller.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

pub fn checks() -> Vec<Check> {
    let mut all = targets();
    all.extend(audiences());
    all.extend(time());
    all.extend(views());
    all.extend(limits());
    all
}

fn targets() -> Vec<Check> {
    vec![
        check(CREATE, "without a key 403 with two spaces", async |caller: Caller| {
            let answer = caller.call_as(None, reqwest::Method::POST, "/notifications", Some(json!({}))).await;
            assert_eq!(answer.status, 403);
            assert!(answer.error().starts_with("Access denied.  Please include"), "{}", answer.text);
        })
        .harmless(),
        check(CREATE, "nobody known: 200 with an empty id", async |caller: Caller| {
            let answer = caller.post("/notifications", to(&caller, &["herald-contract-nobody"])).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.json()["id"], "");
        })
        .harmless(),
        check(CREATE, "no English contents: 400", async |caller: Caller| {
            let mut body = to(&caller, &["herald-contract-nobody"]);
            body["contents"] = json!({"de": "Hallo"});
            let answer = caller.post("/notifications", body).await;
            assert_eq!(
                (answer.status.as_u16(), answer.error().as_str()),
                (400, "Message Notifications must have English language content")
            );
        })
        .harmless(),
        check(CREATE, "unknown ids are dropped without mention", async |caller: Caller| {
            know(&caller, &["u1"]).await;
            let answer = caller.done("/notifications", to(&caller, &["u1", "nobody"])).await;
            assert!(answer["id"] != "" && answer.get("errors").is_none(), "{answer}");
        }),
        check(CREATE, "unsubscribed ids are listed, repeats and all", async |caller: Caller| {
            know(&caller, &["u1"]).await;
            caller.done("/_sandbox/users", json!({"external_id": "off", "subscriptions": []})).await;
            let answer = caller.done("/notifications", to(&caller, &["u1", "off", "off"])).await;
            assert_eq!(answer["errors"], json!({"invalid_aliases": {"external_id": ["off", "off"]}}));
        }),
    ]
}

fn audiences() -> Vec<Check> {
    vec![
        check(CREATE, "a segment reaches whom its filters mean", async |caller: Caller| {
            for (id, plan) in [("u1", "gold"), ("u2", "tin")] {
                caller.done("/_sandbox/users", json!({"external_id": id, "tags": {"plan": plan}})).await;
            }
            let filters = json!([{"field": "tag", "key": "plan", "relation": "=", "value": "gold"}]);
            caller.done("/apps/{app}/segments", json!({"name": "Gold", "filters": filters})).await;
            let body = json!({"app_id": caller.app, "included_segments": ["Gold"], "contents": {"en": "x"}});
            let id = caller.done("/notifications", body).await["id"].clone();
            assert_eq!(view(&caller, &id).await["successful"], 1);
            let body = json!({"app_id": caller.app, "included_segments": ["All"], "excluded_segments": ["Gold"], "contents": {"en": "x"}});
            let id = caller.done("/notifications", body).await["id"].clone();
            assert_eq!(view(&caller, &id).await["successful"], 1);
        }),
        check(CREATE, "a repeated key: the first answer for 30 days", async |caller: Caller| {
            know(&caller, &["u1"]).await;
            let mut body = to(&caller, &["u1"]);
            body["idempotency_key"] = json!("0190a5b0-0000-7000-8000-00000000000a");
            let first = caller.done("/notifications", body.clone()).await;
            advance(&caller, "29d").await;
            let again = caller.post("/notifications", body.clone()).await;
            assert_eq!(
                (again.json(), again.headers["idempotent-replayed"].to_str().unwrap()),
                (first.clone(), "true")
            );
            advance(&caller, "2d").await;
            assert_ne!(caller.done("/notifications", body).await["id"], first["id"]);
        }),
    ]
}

fn time() -> Vec<Check> {
    vec![
        check(CREATE, "goes out at send_after", async |caller: Caller| {
            know(&caller, &["u1"]).await;
            let mut body = to(&caller, &["u1"]);
            body["send_after"] = json!(after(&caller, 2).await);
            let id = caller.done("/notifications", body).await["id"].clone();
            let before = view(&caller, &id).await;
            assert_eq!((&before["remaining"], &before["successful"]), (&json!(1), &json!(0)));
            advance(&caller, "2h 1m").await;
            assert_eq!(view(&caller, &id).await["successful"], 1);
        }),
        check(CREATE, "throttle_rate_per_minute lets so many through", async |caller: Caller| {
            know(&caller, &["u1", "u2", "u3"]).await;
            let mut body = to(&caller, &["u1", "u2", "u3"]);
            body["throttle_rate_per_minute"] = json!(2);
            let id = caller.done("/notifications", body).await["id"].clone();
            assert_eq!(view(&caller, &id).await["successful"], 2);
            advance(&caller, "1m").await;
            assert_eq!(view(&caller, &id).await["successful"], 3);
        }),
        check(CREATE, "delayed_option timezone waits for each one's clock", async |caller: Caller| {
            for (id, zone) in [("u1", "Asia/Tokyo"), ("u2", "America/New_York")] {
                caller.done("/_sandbox/users", json!({"external_id": id, "timezone_id": zone})).await;
            }
            let mut body = to(&caller, &["u1", "u2"]);
            body["delayed_option"] = json!("timezone");
            body["delivery_time_of_day"] = json!("9:00AM");
            let id = caller.done("/notifications", body).await["id"].clone();
            advance(&caller, "1d").await;
            assert_eq!(view(&caller, &id).await["successful"], 2);
        }),
    ]
}

fn views() -> Vec<Check> {
    vec![
        check("DELETE /notifications/{id}", "before its time 200, afterwards 400", async |caller: Caller| {
            know(&caller, &["u1"]).await;
            let mut body = to(&caller, &["u1"]);
            body["send_after"] = json!(after(&caller, 2).await);
            let id = caller.done("/notifications", body).await["id"].as_str().unwrap().to_owned();
            let path = format!("/notifications/{id}?app_id={{app}}");
            assert_eq!(caller.delete(&path).await.json(), json!({"success": true}));
            assert_eq!(caller.delete(&path).await.status, 400);
        }),
        check(VIEW, "unknown: 404", async |caller: Caller| {
            let answer = caller.get("/notifications/0190a5b0-0000-4000-8000-00000000000a?app_id={app}").await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (404, "Notification not found"));
        })
        .harmless(),
        check(VIEW, "gone after 30 days", async |caller: Caller| {
            know(&caller, &["u1"]).await;
            let id =
                caller.done("/notifications", to(&caller, &["u1"])).await["id"].as_str().unwrap().to_owned();
            advance(&caller, "30d").await;
            assert_eq!(caller.get(&format!("/notifications/{id}?app_id={{app}}")).await.status, 404);
        }),
        check("GET /notifications", "limit beyond 50: 400", async |caller: Caller| {
            let answer = caller.get("/notifications?app_id={app}&limit=51").await;
            assert_eq!(
                (answer.status.as_u16(), answer.error().as_str()),
                (400, "Invalid limit, must be within 1 to 50")
            );
        })
        .harmless(),
    ]
}

fn limits() -> Vec<Check> {
    vec![
        check(CREATE, "above the rate 429 with Retry-After", async |caller: Caller| {
            let body = to(&caller, &["nobody"]);
            caller.done("/notifications", body.clone()).await;
            let answer = caller.post("/notifications", body).await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (429, "API rate limit exceeded"));
            assert!(answer.headers.contains_key("retry-after"));
        })
        .on(|options| options.calls_per_second = 1),
        check(VIEW, "more than ten at once: 429", async |caller: Caller| {
            let path = "/notifications/0190a5b0-0000-4000-8000-00000000000a?app_id={app}";
            for _ in 0..10 {
                assert_eq!(caller.get(path).await.status, 404);
            }
            assert_eq!(caller.get(path).await.status, 429);
        })
        .on(|options| options.views_per_second = 1),
        check(
            CREATE,
            "ten messages for each subscription in 15 minutes switch the app off",
            async |caller: Caller| {
                know(&caller, &["u1"]).await;
                let mut later = to(&caller, &["u1"]);
                later["send_after"] = json!(after(&caller, 2).await);
                let waiting = caller.done("/notifications", later).await["id"].clone();
                for _ in 0..20 {
                    caller.done("/notifications", to(&caller, &["u1"])).await;
                }
                assert_eq!(caller.post("/notifications", to(&caller, &["u1"])).await.status, 403);
                caller.done("/_sandbox/apps", json!({"enabled": true})).await;
                assert_eq!(view(&caller, &waiting).await["canceled"], true, "what waited is cancelled");
                caller.done("/notifications", to(&caller, &["u1"])).await;
            },
        )
        .on(|options| options.subscriptions = Some(2)),
        check(CREATE, "enable_frequency_cap spares who had enough", async |caller: Caller| {
            know(&caller, &["u1"]).await;
            let mut body = to(&caller, &["u1"]);
            body["enable_frequency_cap"] = json!(true);
            let first = caller.done("/notifications", body.clone()).await["id"].clone();
            let second = caller.done("/notifications", body.clone()).await["id"].clone();
            assert_eq!(view(&caller, &first).await["successful"], 1);
            assert_eq!(view(&caller, &second).await["successful"], 0);
            advance(&caller, "24h").await;
            let third = caller.done("/notifications", body).await["id"].clone();
            assert_eq!(view(&caller, &third).await["successful"], 1);
        })
        .on(|options| options.frequency_cap = Some(FrequencyCap { messages: 1, hours: 24 })),
    ]
}

/// A time so many hours ahead by the sandbox's clock.
async fn after(caller: &Caller, hours: i64) -> String {
    let now = caller.get("/_sandbox/clock").await.json()["now"].as_str().unwrap().to_owned();
    let now: chrono::DateTime<chrono::Utc> = now.parse().unwrap();
    (now + chrono::TimeDelta::hours(hours)).to_rfc3339()
}
