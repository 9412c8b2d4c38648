//! Rows that become events: as if their source had posted them, and never those of last year.

use serde_json::{Value, json};

use super::{Crm, begin, poll, poll_until_read, save, start, state, with};
use crate::support::app::TestApp;

const ORDERS: &str = "CREATE TABLE orders (
    order_id text PRIMARY KEY, customer_no text, carrier text, eta date, name text, shipped_at timestamptz
 );
 CREATE INDEX ON orders (shipped_at, order_id)";

fn orders() -> Value {
    json!({
        "rows": "events", "interval": "1s",
        "query": {
            "sql": "SELECT order_id, customer_no, carrier, eta::text, name, shipped_at FROM orders",
            "key": "order_id", "watermark": "shipped_at", "start": "beginning",
        },
        "events": {"source": "shop", "type": "order.shipped", "recipient": {"external_id": "customer_no"}},
    })
}

const INSERT: &str = "INSERT INTO orders SELECT 'o' || n, 'c' || n, 'DHL', '2026-11-26', 'Anna', now() - ";

#[tokio::test]
async fn a_row_becomes_an_event_with_its_message_and_a_row_that_is_no_event_is_set_aside() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(ORDERS).await;
    crm.execute(&format!("{INSERT} interval '1 min' FROM generate_series(1, 3) n")).await;
    crm.execute("UPDATE orders SET carrier = NULL WHERE order_id = 'o2'").await;
    begin(&app, "orders", &crm, orders()).await;
    poll(&app).await;
    app.run_until_idle().await;
    let seen = state(&app, "orders").await;
    assert_eq!((&seen["counts"]["accepted"], &seen["waiting_rows"]), (&json!(2), &json!(1)), "{seen}");
    assert_eq!(app.messages().await.len(), 2);
    let aside = app.get("/v1/connectors/orders/set-aside").await;
    assert!(aside["data"][0]["reason"].as_str().unwrap().contains("carrier"), "{aside}");
    // The source's own post of the same order is recognized.
    let post = json!({
        "id": "o1", "type": "order.shipped", "recipient": {"external_id": "c1"},
        "data": {"order_id": "o1", "carrier": "DHL", "eta": "2026-11-26", "name": "Anna"},
    });
    assert_eq!(app.accept(&post).await["duplicate"], true);
}

#[tokio::test]
async fn old_orders_send_no_message_and_reading_again_sends_none_twice() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(ORDERS).await;
    crm.execute(&format!("{INSERT} interval '300 days' FROM generate_series(1, 2000) n")).await;
    crm.execute(&format!("{INSERT} interval '1 min' FROM generate_series(2001, 2002) n")).await;
    begin(&app, "orders", &crm, orders()).await;
    poll(&app).await;
    app.run_until_idle().await;
    let seen = state(&app, "orders").await;
    assert_eq!(
        (&seen["counts"]["too_old"], &seen["counts"]["accepted"]),
        (&json!(2000), &json!(2)),
        "{seen}"
    );
    assert_eq!(app.messages().await.len(), 2);
    app.act("/v1/connectors/orders/start?reread=true").await;
    let seen = poll_until_read(&app, "orders", 4004).await;
    app.run_until_idle().await;
    assert_eq!((&seen["counts"]["repeated"], app.messages().await.len()), (&json!(2), 2), "{seen}");
}

#[tokio::test]
async fn facts_in_columns_reach_onesignal_before_the_first_message() {
    let app = crate::people::with_strict_onesignal().await;
    let mut crm = Crm::with(ORDERS).await;
    let sql = "SELECT order_id, customer_no, carrier, eta::text, name, shipped_at, 'ann@shop.example' AS email FROM orders";
    let definition = with(orders(), "/query/sql", json!(sql));
    let definition = with(definition, "/events/recipient/email", json!("email"));
    save(&app, "orders", &crm, definition).await;
    start(&app, "orders").await;
    crm.execute(&format!("{INSERT} interval '1 min' FROM generate_series(1, 1) n")).await;
    poll(&app).await;
    app.run_for(2).await;
    let there = app.onesignal_user("external_id", "c1").await;
    assert_eq!(there["subscriptions"][0]["token"], "ann@shop.example", "{there}");
    let seen = state(&app, "orders").await;
    assert_eq!(seen["counts"]["accepted"], 1, "{seen}");
}
