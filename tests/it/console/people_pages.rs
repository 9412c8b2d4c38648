//! People: who they are, whatever they are called, and why they got something or nothing.

use herald::domain::event::{Recipient, RecipientLabel};

use super::*;

#[tokio::test]
async fn a_person_is_found_by_id_and_by_address_and_asked_for_where_several_have_the_id() {
    let app = TestApp::start().await;
    app.accept(&order_shipped("order-1", "user-42")).await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    let found = async |q: &str| viewer.get(&format!("/recipients?q={q}")).await;
    assert_eq!(found("user-42").await.location.as_deref(), Some("/recipients/external_id/user-42"));
    assert_eq!(
        found("anna%40shop.example").await.location.as_deref(),
        Some("/recipients/email/anna@shop.example")
    );
    assert_eq!(
        found("%2B4915112345678").await.location.as_deref(),
        Some("/recipients/phone/%2B4915112345678")
    );
    assert_eq!(found("crm_id%3D7").await.location.as_deref(), Some("/recipients/crm_id/7"));
    app.declare_labels(&["crm_id"]).await;
    let mut other = order_shipped("order-2", "user-42");
    other["recipient"] = serde_json::json!({"crm_id": "user-42"});
    app.accept(&other).await;
    let choice = found("user-42").await.text;
    assert!(choice.contains("2 recipients have the ID "), "{choice}");
    assert!(
        choice.contains("/recipients/crm_id/user-42") && choice.contains("/recipients/external_id/user-42")
    );
}

#[tokio::test]
async fn a_person_s_history_is_shown_under_all_of_their_aliases() {
    let app = TestApp::start().await;
    app.execute(
        "WITH u AS (INSERT INTO users (id, created_at, updated_at) VALUES (gen_random_uuid(), now(), now()) RETURNING id)
         INSERT INTO user_aliases (label, alias, user_id)
         SELECT label, alias, u.id FROM u, (VALUES ('external_id', 'user-42'), ('crm_id', '7')) AS n (label, alias)",
    )
    .await;
    app.accept(&order_shipped("by-external-id", "user-42")).await;
    app.declare_labels(&["crm_id"]).await;
    let mut other = order_shipped("by-alias", "");
    other["recipient"] = serde_json::json!({"crm_id": "7"});
    app.accept(&other).await;
    app.run_until_idle().await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    for page in ["/recipients/external_id/user-42", "/recipients/crm_id/7"] {
        let page = viewer.get(page).await.text;
        assert_eq!(page.matches("href=\"/deliveries/dlv_").count(), 4, "{page}");
        assert!(page.contains("Also known as"), "{page}");
    }
}

#[tokio::test]
async fn an_event_that_led_to_nothing_is_in_its_person_s_story_with_the_reason() {
    let app = TestApp::start().await;
    app.put_rule("order-shipped-push", &serde_json::json!({"event": "order.shipped", "template": "order-shipped-push", "when": "data.carrier == \"UPS\""})).await;
    app.put_rule("order-shipped-email", &serde_json::json!({"event": "order.shipped", "template": "order-shipped-email", "when": "data.carrier == \"UPS\""})).await;
    app.accept(&order_shipped("order-1", "anna")).await;
    let mut to_two = order_shipped("order-2", "anna");
    to_two["recipients"] = serde_json::json!([{"external_id": "anna"}, {"external_id": "ben"}]);
    to_two.as_object_mut().unwrap().remove("recipient");
    app.accept(&to_two).await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    let story = viewer.get("/recipients/external_id/anna").await.text;
    assert!(
        story.contains("order-1") && story.contains("not sent") && story.contains("order-shipped-push:"),
        "{story}"
    );
    // The same id under another label is someone else.
    assert!(!viewer.get("/recipients/crm_id/anna").await.text.contains("order-1"));
    assert!(viewer.get("/?q=to:anna").await.text.contains("order-1"));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM events WHERE unanswered_for = 'anna'").await, 1);
}

#[tokio::test]
async fn a_story_goes_on_behind_its_first_page_and_shows_nothing_twice() {
    let app = TestApp::start().await;
    for n in 0..30 {
        app.accept(&order_shipped(&format!("order-{n}"), "user-42")).await;
    }
    let person = Recipient { label: RecipientLabel::ExternalId, id: "user-42".to_owned() };
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    let mut address = Some(format!("/recipients/external_id/{}", person.id));
    let mut seen = std::collections::BTreeSet::new();
    let mut pages = 0;
    while let Some(page) = address.take() {
        let text = viewer.get(&page).await.text;
        let ids: Vec<&str> =
            text.split("href=\"/deliveries/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(ids.iter().all(|id| seen.insert((*id).to_owned())), "shown twice");
        address = text
            .split("rel=\"next\" href=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .map(str::to_owned);
        pages += 1;
    }
    assert_eq!((seen.len(), pages), (60, 2));
}

#[tokio::test]
async fn an_import_is_shown_with_what_it_would_write_and_started_by_an_operator() {
    let app = TestApp::start().await;
    let request = serde_json::json!({
        "name": "crm.csv",
        "settings": {"columns": {"Plan": "tag:plan"}, "max_rejected_percent": 50},
    });
    let (_, created) =
        app.call(reqwest::Method::POST, "/v1/users/imports", Some(&app.key), Some(&request)).await;
    let id = created["id"].as_str().expect("an id");
    let url = format!("{}/v1/users/imports/{id}/content?last=true", app.url);
    let file = "external_id,Plan\nann,gold\nnull,gold\n";
    let sent =
        reqwest::Client::new().put(url).bearer_auth(&app.key).header("content-type", "text/csv").body(file);
    assert_eq!(sent.send().await.expect("an answer").status(), 202);
    app.run_until_idle().await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    assert!(viewer.get("/imports").await.text.contains("crm.csv"));
    assert_eq!(viewer.get(&format!("/imports/{id}")).await.status, 403, "its rows are personal data");
    let operator = Visitor::with_role(&app, Role::Operator).await;
    let page = operator.get(&format!("/imports/{id}")).await.text;
    assert!(
        page.contains("Write 1 user")
            && page.contains("POST apps/")
            && page.contains("OneSignal would match"),
        "{page}"
    );
    operator.post(&format!("/imports/{id}/start"), &[]).await;
    app.run_for(8).await;
    let page = operator.get(&format!("/imports/{id}")).await.text;
    assert!(page.contains("done") && page.contains("1 of 1"), "{page}");
    let person = operator.get("/recipients/external_id/ann").await.text;
    assert!(
        person.contains("At OneSignal") && person.contains("tag plan") && person.contains("in sync"),
        "{person}"
    );
}
