//! Users, aliases, tags and subscriptions.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Caller, Check, check};
use herald::sandbox::SandboxPlan;

const CREATE: &str = "POST /apps/{app}/users";
const USER: &str = "/apps/{app}/users/by/external_id";

async fn make(caller: &Caller, id: &str) -> Value {
    caller.done("/apps/{app}/users", json!({"identity": {"external_id": id}})).await
}

fn email(token: &str) -> Value {
    json!({"subscription": {"type": "Email", "token": token}})
}

pub fn checks() -> Vec<Check> {
    let mut all = people();
    all.extend(changes());
    all.extend(aliases());
    all.extend(tags());
    all.extend(subscriptions());
    all.extend(moves());
    all
}

fn people() -> Vec<Check> {
    vec![
        check(CREATE, "new 201, known 202", async |caller: Caller| {
            let body = json!({"identity": {"external_id": "u1"}, "properties": {"language": "de"}});
            let first = caller.post("/apps/{app}/users", body.clone()).await;
            assert_eq!(first.status, 201, "{}", first.text);
            let again = caller.post("/apps/{app}/users", body).await;
            assert_eq!(again.status, 202);
            assert_eq!(again.json()["identity"], first.json()["identity"]);
        }),
        check(CREATE, "without a key 401 auth-1", async |caller: Caller| {
            let answer = caller.call_as(None, Method::POST, "/apps/{app}/users", Some(json!({}))).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.json()["errors"][0]["code"]),
                (401, &json!("auth-1"))
            );
        })
        .harmless(),
        check(
            CREATE,
            "neither identity nor subscription, or a broken address: 400",
            async |caller: Caller| {
                let broken = json!({"subscriptions": [{"type": "Email", "token": "a b@c"}]});
                for body in [json!({"identity": {}}), json!({"properties": {}}), broken] {
                    assert_eq!(caller.post("/apps/{app}/users", body.clone()).await.status, 400, "{body}");
                }
            },
        ),
        check(CREATE, "aliases of two users: 409 conflicting", async |caller: Caller| {
            for (external, crm) in [("u1", "1"), ("u2", "2")] {
                caller
                    .done("/apps/{app}/users", json!({"identity": {"external_id": external, "crm": crm}}))
                    .await;
            }
            let body = json!({"identity": {"external_id": "u1", "crm": "2"}});
            let answer = caller.post("/apps/{app}/users", body).await;
            assert_eq!(answer.status, 409);
            assert!(answer.json()["errors"][0]["meta"]["conflicting_aliases"].is_object(), "{}", answer.text);
        }),
        check(CREATE, "ids that are given to nobody: 400", async |caller: Caller| {
            for id in ["null", "undefined", "0", "-1", "all", "NA"] {
                let body = json!({"identity": {"external_id": id}});
                assert_eq!(caller.post("/apps/{app}/users", body).await.status, 400, "{id}");
            }
        }),
    ]
}

fn changes() -> Vec<Check> {
    vec![
        check("GET /apps/{app}/users/by/{label}/{id}", "unknown: 404", async |caller: Caller| {
            assert_eq!(caller.get(&format!("{USER}/herald-contract-nobody")).await.status, 404);
        })
        .harmless(),
        check(
            "PATCH /apps/{app}/users/by/{label}/{id}",
            "202 with what was asked for",
            async |caller: Caller| {
                make(&caller, "u1").await;
                let answer = caller
                    .patch(&format!("{USER}/u1"), json!({"properties": {"tags": {"plan": "gold"}}}))
                    .await;
                assert_eq!(
                    (answer.status.as_u16(), answer.json()),
                    (202, json!({"properties": {"tags": {"plan": "gold"}}}))
                );
                let user = caller.get(&format!("{USER}/u1")).await.json();
                assert_eq!(user["properties"]["tags"], json!({"plan": "gold"}));
            },
        ),
        check(
            "PATCH /apps/{app}/users/by/{label}/{id}",
            "more than 100 properties: 400",
            async |caller: Caller| {
                make(&caller, "u1").await;
                let tags: Value =
                    (0..101).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
                let answer = caller.patch(&format!("{USER}/u1"), json!({"properties": {"tags": tags}})).await;
                assert_eq!(answer.status, 400);
            },
        ),
        check("PATCH /apps/{app}/users/by/{label}/{id}", "twice in a second: 429", async |caller: Caller| {
            make(&caller, "u1").await;
            let body = json!({"properties": {"language": "de"}});
            let answers = [
                caller.patch(&format!("{USER}/u1"), body.clone()).await,
                caller.patch(&format!("{USER}/u1"), body).await,
            ];
            let last = answers.last().unwrap();
            assert_eq!(
                (last.status.as_u16(), &last.json()["errors"][0]["code"]),
                (429, &json!("Rate Limit Exceeded"))
            );
        })
        .on(|options| options.calls_per_user_per_second = 1),
        check("DELETE /apps/{app}/users/by/{label}/{id}", "202, then nobody", async |caller: Caller| {
            make(&caller, "u1").await;
            assert_eq!(caller.delete(&format!("{USER}/u1")).await.status, 202);
            assert_eq!(caller.get(&format!("{USER}/u1")).await.status, 404);
        }),
    ]
}

fn aliases() -> Vec<Check> {
    let patch = "PATCH /apps/{app}/users/by/{label}/{id}/identity";
    vec![
        check(patch, "200 with all aliases", async |caller: Caller| {
            make(&caller, "u1").await;
            let answer =
                caller.patch(&format!("{USER}/u1/identity"), json!({"identity": {"crm": "9"}})).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["identity"]["crm"]), (200, &json!("9")));
            assert_eq!(caller.get("/apps/{app}/users/by/crm/9").await.status, 200);
        }),
        check(patch, "somebody else's: 409 user-2 with meta", async |caller: Caller| {
            for id in ["u1", "u2"] {
                make(&caller, id).await;
            }
            let body = json!({"identity": {"external_id": "u2"}});
            let answer = caller.patch(&format!("{USER}/u1/identity"), body).await;
            let error = answer.json()["errors"][0].clone();
            assert_eq!(
                (answer.status.as_u16(), &error["code"], &error["meta"]),
                (409, &json!("user-2"), &json!({"external_id": "u2"}))
            );
        }),
        check(patch, "a 21st alias: 400", async |caller: Caller| {
            make(&caller, "u1").await;
            let many: serde_json::Map<_, _> = (0..21).map(|n| (format!("label{n}"), json!("x"))).collect();
            assert_eq!(
                caller.patch(&format!("{USER}/u1/identity"), json!({"identity": many})).await.status,
                400
            );
        }),
        check("GET /apps/{app}/users/by/{label}/{id}/identity", "200", async |caller: Caller| {
            make(&caller, "u1").await;
            let answer = caller.get(&format!("{USER}/u1/identity")).await;
            assert_eq!(answer.json()["identity"]["external_id"], "u1");
        }),
        check(
            "DELETE /apps/{app}/users/by/{label}/{id}/identity/{gone}",
            "200 with what is left",
            async |caller: Caller| {
                caller
                    .done("/apps/{app}/users", json!({"identity": {"external_id": "u1", "crm": "9"}}))
                    .await;
                let answer = caller.delete(&format!("{USER}/u1/identity/crm")).await;
                assert!(
                    answer.status == 200 && answer.json()["identity"].get("crm").is_none(),
                    "{}",
                    answer.text
                );
            },
        ),
    ]
}

fn tags() -> Vec<Check> {
    let patch = "PATCH /apps/{app}/users/by/{label}/{id}";
    vec![
        check(
            patch,
            "an empty tag goes away, a number is refused, reserved keys too",
            async |caller: Caller| {
                make(&caller, "u1").await;
                let tag = |tags: Value| json!({"properties": {"tags": tags}});
                let path = format!("{USER}/u1");
                caller.patch(&path, tag(json!({"a": "1", "b": "2"}))).await;
                caller.patch(&path, tag(json!({"a": ""}))).await;
                assert_eq!(caller.patch(&path, tag(json!({"n": 5}))).await.status, 400);
                assert_eq!(caller.patch(&path, tag(json!({"user": "x"}))).await.status, 400);
                assert_eq!(caller.get(&path).await.json()["properties"]["tags"], json!({"b": "2"}));
            },
        ),
        check(patch, "above the plan's tags: 409 and nothing changes", async |caller: Caller| {
            make(&caller, "u1").await;
            let tag = |tags: Value| json!({"properties": {"tags": tags}});
            let path = format!("{USER}/u1");
            caller.patch(&path, tag(json!({"a": "1", "b": "2"}))).await;
            let answer = caller.patch(&path, tag(json!({"a": "9", "c": "3"}))).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.json()["errors"][0]["code"]),
                (409, &json!("entitlements-tag-limit"))
            );
            assert_eq!(caller.patch(&path, tag(json!({"a": "9"}))).await.status, 202, "known ones change");
            assert_eq!(caller.get(&path).await.json()["properties"]["tags"], json!({"a": "9", "b": "2"}));
        })
        .on(|options| options.plan = SandboxPlan::FREE),
    ]
}

fn subscriptions() -> Vec<Check> {
    let create = "POST /apps/{app}/users/by/{label}/{id}/subscriptions";
    vec![
        check(create, "a known token moves: 202", async |caller: Caller| {
            for id in ["u1", "u2"] {
                make(&caller, id).await;
            }
            let first = caller.post(&format!("{USER}/u1/subscriptions"), email("a@b.example")).await;
            assert_eq!(first.status, 201, "{}", first.text);
            let moved = caller.post(&format!("{USER}/u2/subscriptions"), email("a@b.example")).await;
            assert_eq!(moved.status, 202, "{}", moved.text);
            assert_eq!(caller.get(&format!("{USER}/u1")).await.json()["subscriptions"], json!([]));
            assert_eq!(
                caller.get(&format!("{USER}/u2")).await.json()["subscriptions"][0]["token"],
                "a@b.example"
            );
        }),
        check(create, "a 21st detaches the oldest", async |caller: Caller| {
            make(&caller, "u1").await;
            for n in 0..21 {
                caller.done(&format!("{USER}/u1/subscriptions"), email(&format!("{n}@b.example"))).await;
            }
            let own = caller.get(&format!("{USER}/u1")).await.json()["subscriptions"].clone();
            assert_eq!((own.as_array().unwrap().len(), &own[0]["token"]), (20, &json!("1@b.example")));
        }),
        check(
            "PATCH /apps/{app}/subscriptions/{id}",
            "switches it off; unknown: 404 subscription-0",
            async |caller: Caller| {
                make(&caller, "u1").await;
                let made = caller.done(&format!("{USER}/u1/subscriptions"), email("a@b.example")).await;
                let id = made["subscription"]["id"].as_str().unwrap();
                let off = json!({"subscription": {"enabled": false}});
                assert_eq!(
                    caller.patch(&format!("/apps/{{app}}/subscriptions/{id}"), off.clone()).await.status,
                    200
                );
                let own = caller.get(&format!("{USER}/u1")).await.json()["subscriptions"][0].clone();
                assert_eq!((&own["enabled"], &own["notification_types"]), (&json!(false), &json!(-31)));
                let unknown =
                    caller.patch("/apps/{app}/subscriptions/0190a5b0-0000-4000-8000-00000000000a", off).await;
                assert_eq!(
                    (unknown.status.as_u16(), &unknown.json()["errors"][0]["code"]),
                    (404, &json!("subscription-0"))
                );
            },
        ),
    ]
}

fn moves() -> Vec<Check> {
    vec![
        check(
            "DELETE /apps/{app}/subscriptions/{id}",
            "202; no UUID: 400 request-1",
            async |caller: Caller| {
                make(&caller, "u1").await;
                let made = caller.done(&format!("{USER}/u1/subscriptions"), email("a@b.example")).await;
                let id = made["subscription"]["id"].as_str().unwrap();
                assert_eq!(caller.delete(&format!("/apps/{{app}}/subscriptions/{id}")).await.status, 202);
                let wrong = caller.delete("/apps/{app}/subscriptions/nothing").await;
                assert_eq!(
                    (wrong.status.as_u16(), &wrong.json()["errors"][0]["code"]),
                    (400, &json!("request-1"))
                );
            },
        ),
        check("PATCH /apps/{app}/subscriptions/{id}/owner", "moves it", async |caller: Caller| {
            for id in ["u1", "u2"] {
                make(&caller, id).await;
            }
            let made = caller.done(&format!("{USER}/u1/subscriptions"), email("a@b.example")).await;
            let id = made["subscription"]["id"].as_str().unwrap();
            let body = json!({"identity": {"external_id": "u2"}});
            let answer = caller.patch(&format!("/apps/{{app}}/subscriptions/{id}/owner"), body).await;
            assert_eq!(answer.json()["identity"]["external_id"], "u2", "{}", answer.text);
            let owner = caller.get(&format!("/apps/{{app}}/subscriptions/{id}/user/identity")).await;
            assert_eq!(owner.json()["identity"]["external_id"], "u2");
        }),
        check(
            "PATCH /apps/{app}/subscriptions_by_token/{type}/{token}",
            "202, and mail no longer reaches them",
            async |caller: Caller| {
                make(&caller, "u1").await;
                caller.done(&format!("{USER}/u1/subscriptions"), email("a@b.example")).await;
                let off = json!({"subscription": {"enabled": false}});
                let answer = caller.patch("/apps/{app}/subscriptions_by_token/Email/a@b.example", off).await;
                assert_eq!(answer.status, 202, "{}", answer.text);
                let mail = json!({
                    "app_id": caller.app, "target_channel": "email", "include_aliases": {"external_id": ["u1"]},
                    "email_subject": "Hi", "email_body": "<p>Hi</p>",
                });
                assert_eq!(caller.done("/notifications", mail).await["id"], "");
            },
        ),
    ]
}
