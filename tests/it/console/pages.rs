//! What pages show, and what they do.

use serde_json::json;

use super::*;

/// What would be run if it were taken for a part of the page.
const ATTACK: &str = "<script>alert('herald')</script>\"'><img src=x onerror=alert(1)>";

#[tokio::test]
async fn what_events_and_people_say_is_shown_as_text_everywhere() {
    let app = TestApp::start().await;
    let mut event = order_shipped("evil-1", ATTACK);
    event["data"]["name"] = json!(ATTACK);
    event["data"]["order_id"] = json!(ATTACK);
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    let visitor = Visitor::with_role(&app, Role::Admin).await;
    let delivery = accepted["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let event_id = accepted["id"].as_str().unwrap().to_owned();
    let person: String = url::form_urlencoded::byte_serialize(ATTACK.as_bytes()).collect();
    let person = person.replace('+', "%20");
    for path in [
        "/".to_owned(),
        format!("/?q={person}"),
        format!("/events/{event_id}"),
        format!("/deliveries/{delivery}"),
        format!("/recipients/external_id/{person}"),
        format!("/templates/{person}"),
        format!("/palette?q={person}"),
    ] {
        let seen = visitor.get(&path).await;
        assert!(!seen.text.contains("<script>alert") && !seen.text.contains("<img src=x"), "{path}");
    }
    assert!(visitor.get(&format!("/events/{event_id}")).await.text.contains("&lt;script&gt;"));
}

#[tokio::test]
async fn live_shows_events_with_their_outcomes_and_finds_them_by_id_key_person_and_state() {
    let app = TestApp::start().await;
    let accepted = app.accept(&order_shipped("order-1", "user-42")).await;
    app.run_until_idle().await;
    let visitor = Visitor::with_role(&app, Role::Viewer).await;
    let page = visitor.get("/").await.text;
    assert!(
        page.contains("order-1") && page.contains("user-42") && page.contains("● </span>accepted")
            || page.contains("accepted")
    );
    let id = accepted["id"].as_str().unwrap();
    assert_eq!(visitor.get(&format!("/?q={id}")).await.location, Some(format!("/events/{id}")));
    assert_eq!(visitor.get("/?q=order-1").await.location, Some(format!("/events/{id}")));
    assert!(visitor.get("/?q=to:user-42+state:accepted").await.text.contains("order-1"));
    assert!(visitor.get("/?q=to:nobody").await.text.contains("No matching events"));
    assert!(visitor.get("/?q=state:lost").await.text.contains("unknown state"));
}

#[tokio::test]
async fn a_held_delivery_says_why_and_is_released_with_the_value_that_was_missing() {
    let app = TestApp::start().await;
    let mut event = order_shipped("order-2", "user-7");
    event["data"].as_object_mut().unwrap().remove("carrier");
    let (status, _) = app.post(&event).await;
    // The schema asks for it, so it is refused on arrival; what is optional and unguarded is held.
    assert_eq!(status, 422);
    app.execute("UPDATE event_types SET schema = '{\"type\": \"object\"}' WHERE name = 'order.shipped'")
        .await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    let delivery = accepted["deliveries"][0]["id"].as_str().unwrap();
    let operator = Visitor::with_role(&app, Role::Operator).await;
    let page = operator.get(&format!("/deliveries/{delivery}")).await.text;
    assert!(page.contains("carrier") && page.contains("held"), "{page}");
    let issues = operator.get("/issues").await.text;
    assert!(issues.contains("missing") || issues.contains("carrier"), "{issues}");
    let path = format!("/deliveries/{delivery}/release");
    assert_eq!(operator.post(&path, &[("values", "[1]")]).await.status, 422);
    assert_eq!(operator.post(&path, &[("values", "{}")]).await.status, 422);
    assert_eq!(operator.post(&path, &[("values", "{\"carrier\": \"UPS\"}")]).await.status, 303);
    app.run_until_idle().await;
    assert!(operator.get(&format!("/deliveries/{delivery}")).await.text.contains("accepted"));
    assert_eq!(operator.post(&path, &[]).await.status, 409);
}

#[tokio::test]
async fn a_replay_shows_its_plan_first_wants_a_reason_and_a_form_sent_twice_makes_nothing_twice() {
    let app = TestApp::start().await;
    let accepted = app.accept(&order_shipped("order-1", "user-42")).await;
    app.run_until_idle().await;
    let delivery = accepted["deliveries"][0]["id"].as_str().unwrap();
    let operator = Visitor::with_role(&app, Role::Operator).await;
    let plan = operator.get(&format!("/issues/replay?delivery={delivery}")).await.text;
    assert!(plan.contains("0 deliveries") && plan.contains("the first box below"), "{plan}");
    let plan = operator.get(&format!("/issues/replay?delivery={delivery}&may_duplicate=yes")).await.text;
    assert!(plan.contains("1 recipient may get a duplicate"), "{plan}");
    let form = |reason: &'static str| {
        [("delivery", delivery), ("may_duplicate", "yes"), ("reason", reason), ("request_key", "k1")]
    };
    assert_eq!(operator.post("/issues/replay", &form("")).await.status, 422);
    for _ in 0..2 {
        assert_eq!(operator.post("/issues/replay", &form("the customer asked")).await.status, 303);
    }
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE replay_of IS NOT NULL").await, 1);
    assert_eq!(operator.get("/issues/replay").await.status, 422);
}

#[tokio::test]
async fn everything_stops_by_a_switch_with_who_and_why_and_goes_on_by_another() {
    let app = TestApp::start().await;
    let operator = Visitor::with_role(&app, Role::Operator).await;
    assert_eq!(
        operator.post("/issues/switches/close", &[("what", "app all"), ("reason", " ")]).await.status,
        422
    );
    let stop = [("what", "app all"), ("reason", "wrong prices")];
    assert_eq!(operator.post("/issues/switches/close", &stop).await.status, 303);
    assert!(operator.get("/issues").await.text.contains("operator@shop.example: wrong prices"));
    app.accept(&order_shipped("order-1", "user-42")).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 0);
    assert_eq!(
        operator.post("/issues/switches/open", &[("scope", "app"), ("name", "default")]).await.status,
        303
    );
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 2);
    let audit = operator.get("/settings/audit").await.text;
    assert!(audit.contains("wrong prices") && audit.contains("operator@shop.example"), "{audit}");
}

#[tokio::test]
async fn a_new_key_is_shown_once_and_posts_until_it_is_revoked() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    let made = admin.post("/settings/keys", &[("source", "billing"), ("scope", "events:write")]).await;
    let start = made.text.find("hk_live_").expect("a key");
    let key: String =
        made.text[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    assert!(!admin.get("/settings/keys").await.text.contains(&key));
    let post = async || {
        app.call(reqwest::Method::POST, "/v1/events", Some(&key), Some(&order_shipped("b-1", "u"))).await.0
    };
    assert_eq!(post().await, 202);
    let id: String = app.sql("SELECT id::text FROM api_keys ORDER BY created_at DESC, id DESC LIMIT 1").await;
    let id = herald::domain::id::encode("key", id.parse().unwrap());
    assert_eq!(admin.post(&format!("/settings/keys/{id}/revoke"), &[]).await.status, 303);
    assert_eq!(post().await, 401);
}

#[tokio::test]
async fn every_page_is_shown_on_an_empty_installation() {
    let wanted = crate::support::app::Wanted { without_catalog: true, ..Default::default() };
    let app = TestApp::start_with(wanted).await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    for path in [
        "/",
        "/templates",
        "/rules",
        "/rules/new",
        "/event-types",
        "/event-types/new",
        "/recipients",
        "/imports",
        "/connectors",
        "/issues",
        "/health",
        "/outcomes",
        "/settings",
        "/settings/apps",
        "/settings/team",
        "/settings/keys",
        "/settings/audit",
        "/settings/retention",
        "/settings/webhooks",
        "/settings/password",
    ] {
        let seen = admin.get(path).await;
        assert_eq!(seen.status, 200, "{path}");
        assert!(seen.text.contains("<h1>") || seen.text.contains("<h1 "), "{path}");
    }
}

#[tokio::test]
async fn an_event_is_found_by_every_state_that_its_deliveries_can_be_in() {
    let app = TestApp::start().await;
    app.execute(
        "WITH u AS (INSERT INTO users (id, created_at, updated_at) VALUES (gen_random_uuid(), now(), now()) RETURNING id),
         a AS (INSERT INTO user_aliases (label, alias, user_id) SELECT 'external_id', 'out', id FROM u)
         INSERT INTO user_opt_outs (user_id, channel, since) SELECT id, 'email', now() FROM u",
    )
    .await;
    app.accept(&order_shipped("skipped-one", "out")).await;
    app.run_until_idle().await;
    let refused =
        json!({"endpoint": "notifications", "kind": "status", "status": 400, "body": {"errors": ["no"]}});
    app.fault(refused).await;
    app.accept(&order_shipped("rejected-one", "user-2")).await;
    app.run_until_idle().await;
    app.clear_faults().await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 503})).await;
    app.accept(&order_shipped("retrying-one", "user-3")).await;
    app.run_until_idle().await;
    app.clear_faults().await;
    let mut later = order_shipped("scheduled-one", "user-4");
    later["send_after"] = json!("2026-12-24T08:00:00Z");
    app.accept(&later).await;
    let mut cancelled = later.clone();
    cancelled["id"] = json!("cancelled-one");
    let cancelled = app.accept(&cancelled).await;
    let operator = Visitor::with_role(&app, Role::Operator).await;
    for delivery in cancelled["deliveries"].as_array().unwrap() {
        let path = format!("/deliveries/{}/cancel", delivery["id"].as_str().unwrap());
        assert_eq!(operator.post(&path, &[("why", "not needed")]).await.status, 303);
    }
    let keys = ["skipped-one", "rejected-one", "retrying-one", "scheduled-one", "cancelled-one"];
    for (state, found) in [
        ("skipped", "skipped-one"),
        ("rejected", "rejected-one"),
        ("retrying", "retrying-one"),
        ("queued", "scheduled-one"),
        ("cancelled", "cancelled-one"),
        ("accepted", "skipped-one"),
    ] {
        let page = operator.get(&format!("/?q=state:{state}")).await.text;
        for key in keys {
            assert_eq!(page.contains(&format!("<code>{key}</code>")), key == found, "{state}, {key}: {page}");
        }
        let listed = app.get(&format!("/v1/deliveries?state={state}")).await;
        assert!(!listed["data"].as_array().unwrap().is_empty(), "{state}");
    }
}
