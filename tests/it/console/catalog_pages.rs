//! Templates, rules and event types, edited by people.

use super::*;

const PUSH: &str = "/templates/order-shipped-push";

/// The editor's form with another text.
fn copy<'a>(revision: &'a str, text: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("revision", revision),
        ("default_locale", "en"),
        ("mode", "provider"),
        ("copy.en.headings", "Your order is on its way"),
        ("copy.en.contents", text),
    ]
}

#[tokio::test]
async fn a_template_goes_from_a_draft_over_its_checks_to_live_and_back() {
    let app = TestApp::start().await;
    let publisher = Visitor::with_role(&app, Role::Publisher).await;
    assert_eq!(
        publisher
            .post(&format!("{PUSH}/draft"), &copy("0", "Hello {{ data.name | default: \"you\" }}"))
            .await
            .status,
        303
    );
    let page = publisher.get(&format!("{PUSH}/publish")).await.text;
    assert!(page.contains("Publish version 2") && page.contains("Changes"), "{page}");
    let seen = publisher.post(&format!("{PUSH}/publish"), &[("revision", "1"), ("note", "shorter")]).await;
    assert_eq!(seen.status, 303, "{}", seen.text);
    app.accept(&order_shipped("order-1", "user-42")).await;
    app.run_until_idle().await;
    let said =
        app.messages().await.iter().map(|m| m["recipients"][0]["rendered"].to_string()).collect::<String>();
    assert!(said.contains("Hello Anna"), "{said}");
    let history = publisher.get(&format!("{PUSH}/history")).await.text;
    assert!(
        history.contains("shorter")
            && history.contains("publisher@shop.example")
            && history.contains("Roll back to v1")
    );
    assert_eq!(publisher.post(&format!("{PUSH}/rollback"), &[("version", "1")]).await.status, 303);
    assert!(publisher.get(&format!("{PUSH}/history")).await.text.contains("restores v1"));
}

#[tokio::test]
async fn the_preview_shows_devices_problems_with_their_places_and_the_event_s_values() {
    let app = TestApp::start().await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    let seen = viewer.post(&format!("{PUSH}/preview"), &copy("0", "Hi {{ data.carier }}")).await;
    assert_eq!(seen.status, 200);
    assert!(seen.text.contains("carier") && seen.text.contains("1:"), "{}", seen.text);
    let seen = viewer.post(&format!("{PUSH}/preview"), &copy("0", "Hi {{ data.carrier }}")).await;
    assert!(seen.text.contains("Hi DHL") && seen.text.contains("data.order_id"), "{}", seen.text);
    let mut own = copy("0", "Hi {{ data.carrier }}");
    own.extend([("sample", "own"), ("own", "{\"carrier\": \"<b>\"}")]);
    let seen = viewer.post(&format!("{PUSH}/preview"), &own).await;
    assert!(seen.text.contains("Hi &lt;b&gt;"), "{}", seen.text);
}

#[tokio::test]
async fn of_two_who_edit_at_once_nobody_loses_a_word() {
    let app = TestApp::start().await;
    let (mia, tom) =
        (Visitor::with_role(&app, Role::Editor).await, Visitor::with_role(&app, Role::Publisher).await);
    assert_eq!(mia.post(&format!("{PUSH}/draft"), &copy("0", "Mia's words")).await.status, 303);
    let merge = tom.post(&format!("{PUSH}/draft"), &copy("0", "Tom's words")).await;
    assert_eq!(merge.status, 409);
    assert!(
        merge.text.contains("Mia's words")
            && merge.text.contains("Tom's words")
            && merge.text.contains("Nothing is lost"),
        "{}",
        merge.text
    );
    assert!(merge.text.contains("name=\"revision\" value=\"1\""));
    assert_eq!(tom.post(&format!("{PUSH}/draft"), &copy("1", "Both words")).await.status, 303);
    assert!(mia.get(PUSH).await.text.contains("Both words"));
}

#[tokio::test]
async fn copy_with_errors_is_saved_but_not_published() {
    let app = TestApp::start().await;
    let publisher = Visitor::with_role(&app, Role::Publisher).await;
    assert_eq!(
        publisher.post(&format!("{PUSH}/draft"), &copy("0", "Hi {{ data.nothing }}")).await.status,
        303
    );
    assert!(
        publisher
            .get(&format!("{PUSH}/publish"))
            .await
            .text
            .contains("has to be fixed before it can be published")
            || publisher
                .get(&format!("{PUSH}/publish"))
                .await
                .text
                .contains("to be fixed before it can be published")
    );
    assert_eq!(publisher.post(&format!("{PUSH}/publish"), &[("revision", "1")]).await.status, 422);
    assert_eq!(
        app.sql::<i64>("SELECT count(*) FROM template_versions").await,
        app.sql::<i64>("SELECT count(*) FROM templates WHERE live_version IS NOT NULL").await
    );
}

#[tokio::test]
async fn a_rule_is_tried_on_past_events_saved_and_holds_from_then_on() {
    let app = TestApp::start().await;
    for n in 0..3 {
        app.accept(&order_shipped(&format!("order-{n}"), "user-42")).await;
    }
    let publisher = Visitor::with_role(&app, Role::Publisher).await;
    let seen = publisher
        .post("/rules/try", &[("event", "order.shipped"), ("when", "data.carrier == \"DHL\"")])
        .await;
    assert!(seen.text.contains("<strong>3</strong> of the last 3"), "{}", seen.text);
    let seen = publisher.post("/rules/try", &[("event", "order.shipped"), ("when", "data.carrier ==")]).await;
    assert!(seen.text.contains("▲"), "{}", seen.text);
    let form = [
        ("revision", "1"),
        ("event", "order.shipped"),
        ("when", "data.carrier == \"UPS\""),
        ("template", "order-shipped-push"),
        ("priority", "urgent"),
        ("enabled", "yes"),
    ];
    let seen = publisher.post("/rules/order-shipped-push", &form).await;
    assert_eq!(seen.status, 303, "{}", seen.text);
    let accepted = app.accept(&order_shipped("order-9", "user-42")).await;
    assert_eq!(accepted["deliveries"].as_array().unwrap().len(), 1, "{accepted}");
    assert_eq!(
        publisher.post("/rules/order-shipped-push", &form).await.status,
        409,
        "it was changed meanwhile"
    );
    let bad = [
        ("revision", "2"),
        ("event", "order.shipped"),
        ("when", "data.nothing == 1"),
        ("template", "order-shipped-push"),
        ("enabled", "yes"),
    ];
    let seen = publisher.post("/rules/order-shipped-push", &bad).await;
    assert!(seen.status == 422 && seen.text.contains("data.nothing"), "{}", seen.text);
}

#[tokio::test]
async fn an_event_type_shows_what_to_post_and_is_changed_with_its_schema() {
    let app = TestApp::start().await;
    let publisher = Visitor::with_role(&app, Role::Publisher).await;
    let page = publisher.get("/event-types/order.shipped").await.text;
    for part in ["/v1/events", "Python", "JavaScript", "curl", "order_id"] {
        assert!(page.contains(part), "{part}");
    }
    let form = [
        ("revision", "0"),
        ("name", "cart.left"),
        ("schema", "{\"type\": \"object\"}"),
        ("samples", "{}"),
        ("time_to_live", "2h"),
    ];
    assert_eq!(publisher.post("/event-types", &form).await.status, 303);
    assert_eq!(app.get("/v1/event-types/cart.left").await["time_to_live"], "2h");
    let form = [("revision", "1"), ("schema", "{"), ("samples", "{}")];
    assert_eq!(publisher.post("/event-types/cart.left", &form).await.status, 422);
    assert_eq!(publisher.post("/event-types/cart.left/delete", &[("revision", "1")]).await.status, 303);
}

#[tokio::test]
async fn a_test_goes_to_people_on_the_list_alone_and_its_story_is_shown() {
    let app = TestApp::start().await;
    let editor = Visitor::with_role(&app, Role::Editor).await;
    assert!(editor.get(&format!("{PUSH}/test")).await.text.contains("No test recipients"));
    assert_eq!(editor.post(&format!("{PUSH}/test"), &[("to", "external_id=user-42")]).await.status, 422);
    app.execute("INSERT INTO test_recipients (label, id, note) VALUES ('external_id', 'user-42', 'Anna')")
        .await;
    editor.post(&format!("{PUSH}/draft"), &copy("0", "A draft for {{ data.carrier }}")).await;
    let sent = editor
        .post(
            &format!("{PUSH}/test"),
            &[("to", "external_id=user-42"), ("sample", "sample:order.shipped:dhl")],
        )
        .await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    app.run_until_idle().await;
    assert_eq!(app.messages().await[0]["recipients"][0]["rendered"]["contents"], "A draft for DHL");
    assert!(editor.get(&sent.location.unwrap()).await.text.contains("accepted"));
}

#[tokio::test]
async fn the_history_holds_the_live_version_against_the_one_before_and_asks_onesignal_for_clicks() {
    let app = TestApp::start().await;
    let publisher = Visitor::with_role(&app, Role::Publisher).await;
    for n in 0..3 {
        app.accept(&order_shipped(&format!("before-{n}"), &format!("user-{n}"))).await;
    }
    app.run_until_idle().await;
    publisher.post(&format!("{PUSH}/draft"), &copy("0", "Hello {{ data.carrier }}")).await;
    publisher.post(&format!("{PUSH}/publish"), &[("revision", "1")]).await;
    let empty = publisher.get(&format!("{PUSH}/history")).await.text;
    assert!(empty.contains("Performance of version 2") && empty.contains("<td>v1</td>"), "{empty}");
    app.accept(&order_shipped("after", "user-9")).await;
    app.run_until_idle().await;
    let message = app
        .messages()
        .await
        .into_iter()
        .find(|message| message["recipients"][0]["rendered"].to_string().contains("Hello DHL"))
        .expect("the message of version 2");
    let path = format!("/_sandbox/messages/{}/recipients/user-9/click", message["id"].as_str().unwrap());
    app.sandbox_call(reqwest::Method::POST, &path, None).await;
    let history = publisher.get(&format!("{PUSH}/history")).await.text;
    assert!(history.contains("<td>v2</td><td class=\"num\">1</td>"), "{history}");
    assert!(history.contains("<td>v1</td><td class=\"num\">3</td>"), "{history}");
    let clicks = publisher.get(&format!("{PUSH}/clicks")).await.text;
    assert!(clicks.contains("v2: <strong>1 of 1 clicked (100.0 %)"), "{clicks}");
    assert!(clicks.contains("v1: <strong>0 of 3 clicked"), "{clicks}");
    let list = publisher.get("/templates").await.text;
    assert!(list.contains("Last sent") && list.contains("<time"), "{list}");
}

#[tokio::test]
async fn a_delivery_s_outcomes_are_what_onesignal_counts_or_why_it_does_not() {
    let app = TestApp::start().await;
    let accepted = app.accept(&order_shipped("order-1", "user-42")).await;
    let delivery = app.delivery(&accepted, "order-shipped-push").await["id"].as_str().unwrap().to_owned();
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    let path = format!("/deliveries/{delivery}/outcomes");
    assert!(viewer.get(&path).await.text.contains("there are no statistics"));
    app.run_until_idle().await;
    let seen = viewer.get(&path).await.text;
    assert!(seen.contains("<dt>Sent</dt><dd>1</dd><dt>Clicked</dt><dd>0</dd>"), "{seen}");
    assert!(viewer.get(&format!("/deliveries/{delivery}")).await.text.contains(&path));
    app.fault(
        serde_json::json!({"endpoint": "notifications", "kind": "status", "status": 429, "probability": 1.0}),
    )
    .await;
    assert!(viewer.get(&path).await.text.contains("Statistics are unavailable"), "{seen}");
    app.clear_faults().await;
    app.sandbox_call(reqwest::Method::POST, "/_sandbox/clock", Some(serde_json::json!({"advance": "31d"})))
        .await;
    let seen = viewer.get(&path).await.text;
    assert!(seen.contains("keeps them for 30 days"), "{seen}");
}

#[tokio::test]
async fn going_on_to_publish_saves_what_is_new_and_leaves_an_approval_of_the_same_words_alone() {
    let app = TestApp::start().await;
    app.execute("UPDATE templates SET needs_approval = true WHERE key = 'order-shipped-push'").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let editor = Visitor::with_role(&app, Role::Editor).await;
    let publisher = Visitor::with_role(&app, Role::Publisher).await;
    let on = |revision: &'static str, text: &'static str| {
        let mut form = copy(revision, text);
        form.push(("then", "publish"));
        form
    };
    let draft = format!("{PUSH}/draft");
    let seen = editor.post(&draft, &on("0", "Hello {{ data.carrier }}")).await;
    assert_eq!(seen.location, Some(format!("{PUSH}/publish")), "{}", seen.text);
    assert_eq!(publisher.post(&format!("{PUSH}/approve"), &[("revision", "1")]).await.status, 303);
    let seen = publisher.post(&draft, &on("1", "Hello {{ data.carrier }}")).await;
    assert_eq!(seen.location, Some(format!("{PUSH}/publish")));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM template_drafts WHERE approved_by IS NOT NULL").await, 1);
    let seen = publisher.post(&draft, &on("1", "Other words")).await;
    assert_eq!(seen.location, Some(format!("{PUSH}/publish")));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM template_drafts WHERE approved_by IS NOT NULL").await, 0);
}
