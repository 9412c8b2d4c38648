//! Stories of finding out why, and of doing something about it.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_keeps_itself_fresh_and_the_keyboard_alone_finds_why() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Viewer).await;
    app.accept(&order_shipped("order-77", "user-42")).await;
    app.run_until_idle().await;
    browser.says("order-77").await;
    let body = browser.wait("body").await;
    body.send_keys("/").await.unwrap();
    let focused = browser.client.active_element().await.unwrap();
    assert_eq!(focused.attr("id").await.unwrap().as_deref(), Some("find"));
    focused.send_keys("order-77").await.unwrap();
    focused.send_keys(&char::from(Key::Enter).to_string()).await.unwrap();
    browser.says("What happened").await;
    browser.says("user-42").await;
    let body = browser.wait("main").await;
    body.send_keys(&format!("{}k", char::from(Key::Control))).await.unwrap();
    let input = browser.wait("#palette[open] input").await;
    input.send_keys("order-shipped-email").await.unwrap();
    browser.wait("#palette-list a[href='/templates/order-shipped-email']").await;
    for _ in 0..8 {
        input.send_keys(&char::from(Key::Down).to_string()).await.unwrap();
        let chosen = browser.wait("#palette-list [aria-selected=true] a").await;
        if chosen.attr("href").await.unwrap().as_deref() == Some("/templates/order-shipped-email") {
            break;
        }
    }
    input.send_keys(&char::from(Key::Enter).to_string()).await.unwrap();
    browser.says("Order {{ data.order_id }}").await;
}

/// An event whose push is held, because nothing says who carries it.
async fn a_held_delivery(app: &TestApp) {
    app.execute("UPDATE event_types SET schema = '{\"type\": \"object\"}' WHERE name = 'order.shipped'")
        .await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let mut event = order_shipped("order-5", "user-5");
    event["data"].as_object_mut().expect("an object").remove("carrier");
    app.accept(&event).await;
    app.run_until_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_somebody_got_nothing_is_found_and_the_held_delivery_released_with_what_was_missing() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    a_held_delivery(&app).await;
    browser.log_in(&app, Role::Operator).await;
    browser.click(".rail a[href='/recipients']").await;
    browser.write("main [name=q]", "user-5").await;
    browser.press(ENTER).await;
    browser.click("table.rows a.whole").await;
    browser.says("`data.carrier` is missing in the event").await;
    browser.write("form[action$='/release'] [name=values]", "{\"carrier\": \"UPS\"}").await;
    browser.click("form[action$='/release'] button.primary").await;
    browser.says("Released. It is being sent.").await;
    app.run_until_idle().await;
    browser.client.refresh().await.unwrap();
    browser.says("accepted").await;
    let said = app.messages().await.iter().map(ToString::to_string).collect::<String>();
    assert!(said.contains("UPS brings order 1001"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_shows_its_plan_before_it_asks_for_a_reason() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    app.accept(&order_shipped("order-1", "user-42")).await;
    app.run_until_idle().await;
    let before = app.messages().await.len();
    browser.log_in(&app, Role::Operator).await;
    browser.client.goto(&format!("{}/recipients/external_id/user-42", app.url)).await.unwrap();
    browser.click("table.rows a.whole").await;
    browser.click("a[href^='/issues/replay']").await;
    // It reached someone: nothing is sent again unless a person says so.
    browser.says("0 deliveries").await;
    browser.click("[name=may_duplicate]").await;
    browser.click("form[method=get][action='/issues/replay'] button").await;
    browser.says("1 recipient may get a duplicate").await;
    browser.write("[name=reason]", "the customer asked for it").await;
    browser.click("form[method=post][action='/issues/replay'] button.primary").await;
    browser.says("Replay of").await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), before + 1);
}
