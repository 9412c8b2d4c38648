//! Templates, segments, custom events, exports and outcomes.

use std::io::Read as _;

use serde_json::{Value, json};

use super::{Caller, Check, check};
use herald::sandbox::{SandboxApp, SandboxPlan};

const EVENTS: &str = "POST /apps/{app}/custom_events";
const OTHER_APP: uuid::Uuid = uuid::Uuid::from_u128(0x5a0d_0000_0000_4000_8000_0000_0000_0002);

pub fn checks() -> Vec<Check> {
    let mut all = templates();
    all.extend(segments());
    all.extend(events());
    all.extend(exports());
    all.extend(histories());
    all
}

fn templates() -> Vec<Check> {
    vec![
        check("POST /templates", "made, read, changed and deleted", async |caller: Caller| {
            let body = json!({"app_id": caller.app, "name": "contract suite", "contents": {"en": "Hello"}});
            let id = caller.done("/templates", body).await["id"].as_str().unwrap().to_owned();
            let path = format!("/templates/{id}?app_id={{app}}");
            assert_eq!(caller.get(&path).await.json()["content"]["contents"]["en"], "Hello");
            assert_eq!(caller.patch(&path, json!({"name": "renamed"})).await.json()["name"], "renamed");
            assert_eq!(caller.delete(&path).await.json()["success"], true);
            assert_eq!(caller.get(&path).await.status, 404);
        })
        .harmless(),
        check("GET /templates", "a wrong channel: 400", async |caller: Caller| {
            assert_eq!(caller.get("/templates?app_id={app}&channel=pigeon").await.error(), "Invalid channel");
        })
        .harmless(),
        check(
            "POST /templates/{id}/copy_to_app",
            "the Organization key copies, the app's does not",
            async |caller: Caller| {
                let body = json!({"app_id": caller.app, "name": "t", "contents": {"en": "Hello"}});
                let id = caller.done("/templates", body).await["id"].as_str().unwrap().to_owned();
                let path = format!("/templates/{id}/copy_to_app?app_id={{app}}");
                let body = json!({"target_app_id": OTHER_APP});
                assert_eq!(caller.post(&path, body.clone()).await.status, 403);
                let key = Some("Key os_v2_org_sandbox");
                let copied = caller.call_as(key, reqwest::Method::POST, &path, Some(body)).await;
                assert_eq!((copied.status.as_u16(), copied.json()), (200, json!({"success": true})));
            },
        )
        .on(|options| {
            let name = "another app".to_owned();
            options.apps.push(SandboxApp { id: OTHER_APP, key: "another key".to_owned(), name });
        }),
    ]
}

fn segments() -> Vec<Check> {
    let create = "POST /apps/{app}/segments";
    let filters = || json!([{"field": "tag", "key": "plan", "relation": "=", "value": "gold"}]);
    vec![
        check(create, "201; the same name again: 409", async move |caller: Caller| {
            let body = json!({"name": "Gold", "filters": filters()});
            let made = caller.post("/apps/{app}/segments", body.clone()).await;
            assert_eq!(made.status, 201, "{}", made.text);
            assert_eq!(caller.post("/apps/{app}/segments", body).await.status, 409);
        }),
        check(create, "not on the free plan: 403", async move |caller: Caller| {
            let body = json!({"name": "Gold", "filters": filters()});
            let answer = caller.post("/apps/{app}/segments", body).await;
            assert_eq!(
                (answer.status.as_u16(), answer.error().as_str()),
                (403, "This API is not available for applications on your plan.")
            );
        })
        .on(|options| options.plan = SandboxPlan::FREE),
        check(create, "above the plan's number: 422", async move |caller: Caller| {
            caller.done("/apps/{app}/segments", json!({"name": "One", "filters": filters()})).await;
            let answer =
                caller.post("/apps/{app}/segments", json!({"name": "Two", "filters": filters()})).await;
            assert_eq!(answer.status, 422);
        })
        .on(|options| options.plan.segments = Some(1)),
        check("GET /apps/{app}/segments", "lists them", async move |caller: Caller| {
            caller.done("/apps/{app}/segments", json!({"name": "Gold", "filters": filters()})).await;
            assert_eq!(caller.get("/apps/{app}/segments").await.json()["segments"][0]["name"], "Gold");
        }),
        check("DELETE /apps/{app}/segments/{id}", "once 200, then 404", async move |caller: Caller| {
            let made =
                caller.done("/apps/{app}/segments", json!({"name": "Gold", "filters": filters()})).await;
            let path = format!("/apps/{{app}}/segments/{}", made["id"].as_str().unwrap());
            assert_eq!(caller.delete(&path).await.status, 200);
            let gone = caller.delete(&path).await;
            assert_eq!((gone.status.as_u16(), gone.error().as_str()), (404, "segment not found"));
        }),
    ]
}

fn events() -> Vec<Check> {
    vec![
        check(EVENTS, "202 with the failed ones only", async |caller: Caller| {
            let body = json!({"events": [
                {"name": "bought", "external_id": "u1", "properties": {"sku": "9"}},
                {"name": "lost", "idempotency_key": "k2"},
            ]});
            let answer = caller.post("/apps/{app}/custom_events", body).await;
            assert_eq!(answer.status, 202);
            let errors = answer.json()["errors"].clone();
            assert_eq!((errors.as_array().unwrap().len(), &errors[0]["event_id"]), (1, &json!("k2")));
        }),
        check(
            EVENTS,
            "a repeated key within four hours is dropped, the future becomes now",
            async |caller: Caller| {
                let event = json!({"name": "bought", "external_id": "u1", "idempotency_key": "k1", "timestamp": "2099-01-01T00:00:00Z"});
                for _ in 0..2 {
                    caller.done("/apps/{app}/custom_events", json!({"events": [event]})).await;
                }
                let taken = caller.get("/_sandbox/custom-events").await.json()["data"].clone();
                assert_eq!(taken.as_array().unwrap().len(), 1);
                assert!(taken[0]["timestamp"].as_str().unwrap() < "2099");
            },
        ),
        check(EVENTS, "nonsense: 400 {}; a wrong key: 401 and silence", async |caller: Caller| {
            let answer = caller.post("/apps/{app}/custom_events", json!({"event": []})).await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (400, "{}"));
            let body = Some(json!({"events": []}));
            let denied = caller
                .call_as(Some("Key wrong"), reqwest::Method::POST, "/apps/{app}/custom_events", body)
                .await;
            assert_eq!((denied.status.as_u16(), denied.text.as_str()), (401, ""));
        }),
    ]
}

/// The file's lines, once it is there.
async fn lines(url: &str) -> Vec<String> {
    let bytes = reqwest::get(url).await.unwrap().bytes().await.unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_ref()).read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

async fn send(caller: &Caller) -> String {
    caller.done("/_sandbox/users", json!({"external_id": "u1"})).await;
    let body = json!({
        "app_id": caller.app, "target_channel": "push", "include_aliases": {"external_id": ["u1"]},
        "contents": {"en": "Hello"},
    });
    caller.done("/notifications", body).await["id"].as_str().unwrap().to_owned()
}

fn exports() -> Vec<Check> {
    vec![
        check(
            "POST /notifications/{id}/export_events",
            "404 until ready, one at a time, then gzipped CSV for three days",
            async |caller: Caller| {
                let id = send(&caller).await;
                caller.done(&format!("/_sandbox/messages/{id}/recipients/u1/click"), Value::Null).await;
                let path = format!("/notifications/{id}/export_events?app_id={{app}}");
                let url = caller.done(&path, json!({})).await["csv_file_url"].as_str().unwrap().to_owned();
                assert_eq!(reqwest::get(&url).await.unwrap().status(), 404);
                assert_eq!(caller.post(&path, json!({})).await.status, 400, "one at a time");
                caller.done("/_sandbox/clock", json!({"advance": "1s"})).await;
                let lines = lines(&url).await;
                assert!(
                    lines[0]
                        .starts_with("external_user_id,subscription_id,device_type,sent,delivered,clicked")
                );
                assert!(lines[1].starts_with("u1,") && lines.len() == 2, "{lines:?}");
                caller.done("/_sandbox/clock", json!({"advance": "3d"})).await;
                assert_eq!(reqwest::get(&url).await.unwrap().status(), 404);
            },
        ),
        check("POST /players/csv_export", "a row for each subscription", async |caller: Caller| {
            let person =
                json!({"external_id": "u1", "subscriptions": [{"type": "Email", "token": "a@b.example"}]});
            caller.done("/_sandbox/users", person).await;
            let url = caller.done("/players/csv_export?app_id={app}", json!({})).await["csv_file_url"]
                .as_str()
                .unwrap()
                .to_owned();
            caller.done("/_sandbox/clock", json!({"advance": "1s"})).await;
            let lines = lines(&url).await;
            assert!(lines.len() == 2 && lines[1].contains("a@b.example"), "{lines:?}");
        }),
    ]
}

fn histories() -> Vec<Check> {
    vec![
        check("POST /notifications/{id}/history", "not on the free plan: 403", async |caller: Caller| {
            let id = send(&caller).await;
            let body = json!({"app_id": caller.app, "events": "clicked"});
            assert_eq!(caller.post(&format!("/notifications/{id}/history"), body).await.status, 403);
        })
        .on(|options| options.plan = SandboxPlan::FREE),
        check(
            "POST /notifications/{id}/history",
            "sent from 1,000 recipients on, clicked always",
            async |caller: Caller| {
                let id = send(&caller).await;
                let body = json!({"app_id": caller.app, "events": "sent"});
                assert_eq!(
                    caller.post(&format!("/notifications/{id}/history"), body.clone()).await.status,
                    400
                );
                let clicked = json!({"app_id": caller.app, "events": "clicked"});
                assert_eq!(
                    caller.done(&format!("/notifications/{id}/history"), clicked).await["success"],
                    true
                );
            },
        ),
        check(
            "GET /apps/{app}/outcomes",
            "counts clicks; a name without .sum or .count: 400",
            async |caller: Caller| {
                let id = send(&caller).await;
                caller.done(&format!("/_sandbox/messages/{id}/recipients/u1/click"), Value::Null).await;
                let answer = caller.get("/apps/{app}/outcomes?outcome_names=os__click.count").await;
                assert_eq!(
                    answer.json()["outcomes"],
                    json!([{"id": "os__click", "value": 1, "aggregation": "count"}])
                );
                assert_eq!(caller.get("/apps/{app}/outcomes?outcome_names=os__click").await.status, 400);
                let viewed = caller
                    .get(&format!("/notifications/{id}?app_id={{app}}&outcome_names=os__click.count"))
                    .await;
                assert_eq!(
                    (&viewed.json()["converted"], &viewed.json()["outcomes"][0]["value"]),
                    (&json!(1), &json!(1))
                );
            },
        ),
    ]
}
